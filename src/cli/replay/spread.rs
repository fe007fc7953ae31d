//! Who made a traced request: workspaces, users, features and models by a seeded heavy-tailed law, because traces do not tell.
//!
//! Zipf's law with exponent 1 puts about half of all requests of 50 workspaces on the first five, which is how usage of AI products is
//! skewed; the same seed gives the same spread.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Features of an AI product, most used first.
pub const FEATURES: [&str; 6] = ["chat", "document_summarization", "search", "faq", "legal_review", "nightly_report"];
/// Models that callers ask for, most used first; a tenth leaves the choice to the routing rules.
pub const MODELS: [&str; 5] = ["claude-sonnet-4-5", "gpt-4o", "gpt-4o-mini", "gemini-2.5-pro", "auto"];
/// Plans for workspaces, the heaviest user first.
pub const PLANS: [&str; 5] = ["enterprise", "business", "pro", "starter", "free"];
const USERS_PER_WORKSPACE: usize = 20;

/// Who asks, for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drawn {
    pub workspace: usize,
    pub user: usize,
    pub feature: &'static str,
    pub model: &'static str,
}

/// Draws requesters.
pub struct Spread {
    rng: StdRng,
    workspaces: Zipf,
    users: Zipf,
    features: Zipf,
    models: Zipf,
}

impl Spread {
    pub fn new(seed: u64, workspaces: usize) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            workspaces: Zipf::new(workspaces),
            users: Zipf::new(USERS_PER_WORKSPACE),
            features: Zipf::new(FEATURES.len()),
            models: Zipf::new(MODELS.len()),
        }
    }

    pub fn draw(&mut self) -> Drawn {
        let rng = &mut self.rng;
        Drawn {
            workspace: self.workspaces.draw(rng),
            user: self.users.draw(rng),
            feature: FEATURES[self.features.draw(rng)],
            model: MODELS[self.models.draw(rng)],
        }
    }
}

/// Place n is drawn in proportion to 1 / (n + 1).
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(places: usize) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=places.max(1)).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self {
            cumulated: cumulated.collect(),
        }
    }

    fn draw(&self, rng: &mut StdRng) -> usize {
        let total = self.cumulated[self.cumulated.len() - 1];
        let point = rng.random::<f64>() * total;
        self.cumulated.partition_point(|edge| *edge <= point).min(self.cumulated.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_the_first_are_drawn_most() {
        let draw = |seed| {
            let mut spread = Spread::new(seed, 50);
            (0..10_000).map(|_| spread.draw()).collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        let of_first_five = drawn.iter().filter(|drawn| drawn.workspace < 5).count();
        assert!((4_500..5_700).contains(&of_first_five), "{of_first_five} of 10,000");
    }
}
