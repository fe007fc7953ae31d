//! The catalogue: which models exist, what they can, what they cost and since when. Knows nothing of plans.

use super::amount::{Amounts, COUNT_MAX, Ratio};
use super::id::{ModelId, Provider, Tier};
use super::price::{CostTooLarge, Mode, Price};
use super::time::Timestamp;
use super::usage::Pools;
use std::collections::HashMap;
use std::sync::Arc;

/// Credits are priced per thousand tokens.
const TOKENS_PER_CREDIT_RATE: i128 = 1_000;

/// A priced model.
#[derive(Clone, PartialEq, Debug)]
pub struct Model {
    pub id: ModelId,
    pub provider: Provider,
    pub tier: Tier,
    pub family: String,
    pub aliases: Vec<ModelId>,
    pub max_input_tokens: i64,
    pub max_output_tokens: i64,
    /// What may serve in its stead when a budget says `downgrade`, best first.
    pub downgrades: Vec<ModelId>,
    /// What may serve in its stead when its provider is excluded, best first.
    pub fallbacks: Vec<ModelId>,
    /// How many tokens this model makes of the same text, in ten-thousandths of a common measure.
    pub token_factor: i64,
    /// By rising `effective_from`.
    pub prices: Vec<Arc<Price>>,
    pub credits: Option<CreditRates>,
}

/// Credits per 1,000 tokens in ten-thousandths, for budgets of unit `credits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct CreditRates {
    pub input: i64,
    pub output: i64,
}

impl CreditRates {
    /// The credits of an entry, rounded up once.
    pub fn of(&self, pools: &Pools) -> i64 {
        let (sum, _, denominator) = self.line(pools);
        i64::try_from((sum + denominator - 1).div_euclid(denominator)).unwrap_or(i64::MAX)
    }

    /// The credits of `pools` and `n` output tokens more as `(base + per_output × n) / denominator`, to be rounded up.
    pub fn line(&self, pools: &Pools) -> (i128, i128, i128) {
        let input = i128::from(pools.total()) - i128::from(pools.output_side());
        let base = input * i128::from(self.input) + i128::from(pools.output_side()) * i128::from(self.output);
        (
            base,
            i128::from(self.output),
            TOKENS_PER_CREDIT_RATE * i128::from(Ratio::DENOMINATOR),
        )
    }
}

impl Model {
    /// A model that the catalogue does not list, served at the default price: nothing is known of it but its name.
    pub fn unlisted(id: ModelId) -> Self {
        Self {
            id,
            provider: Provider::unknown(),
            tier: Tier::unknown(),
            family: String::new(),
            aliases: Vec::new(),
            max_input_tokens: COUNT_MAX,
            max_output_tokens: COUNT_MAX,
            downgrades: Vec::new(),
            fallbacks: Vec::new(),
            token_factor: Ratio::DENOMINATOR,
            prices: Vec::new(),
            credits: None,
        }
    }

    /// The price in force at `at`; `None` before the first one.
    pub fn price_at(&self, at: Timestamp) -> Option<&Arc<Price>> {
        self.prices
            .iter()
            .rev()
            .find(|price| price.effective_from <= at)
            .map(|price| price.at(at))
    }

    /// What `pools` count for in each unit on this model.
    pub fn amounts(&self, price: &Price, pools: &Pools, mode: Mode, requests: i64) -> Result<Amounts, CostTooLarge> {
        Ok(Amounts {
            tokens: pools.total(),
            usd: price.cost(pools, mode, requests)?.nanos(),
            requests,
            credits: self.credits.map_or(0, |credits| credits.of(pools)),
        })
    }

    /// How many tokens this model makes of a text that is `tokens` long for `asked`; rounded up, so that a hold is never short by it.
    pub fn tokens_of(&self, tokens: i64, asked: &Model) -> i64 {
        if self.token_factor == asked.token_factor {
            return tokens;
        }
        let scaled = i128::from(tokens) * i128::from(self.token_factor);
        let by = i128::from(asked.token_factor.max(1));
        i64::try_from((scaled + by - 1).div_euclid(by)).unwrap_or(i64::MAX)
    }
}

/// All models, and the names under which they are known.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    models: Vec<Arc<Model>>,
    by_name: HashMap<ModelId, Arc<Model>>,
    /// For models that the catalogue does not know; without it they are refused, or recorded unpriced.
    pub default_price: Option<Arc<Price>>,
}

impl Catalogue {
    /// Ids win over aliases; the first model that claims an alias has it. The policy check refuses doubles beforehand.
    pub fn new(models: Vec<Arc<Model>>, default_price: Option<Arc<Price>>) -> Self {
        let mut by_name: HashMap<ModelId, Arc<Model>> = models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        for model in &models {
            for alias in &model.aliases {
                by_name.entry(alias.clone()).or_insert_with(|| model.clone());
            }
        }
        Self {
            models,
            by_name,
            default_price,
        }
    }

    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// The model of that very id.
    pub fn get(&self, id: &str) -> Option<&Arc<Model>> {
        self.by_name.get(id).filter(|model| model.id.as_str() == id)
    }

    /// The model that `name` means: by id or alias, then without provider prefixes, then without a trailing date.
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        let mut rest = name;
        loop {
            if let Some(model) = self.by_name.get(rest).or_else(|| self.by_name.get(without_date(rest)?)) {
                return Some(model);
            }
            rest = rest.split_once('/')?.1;
        }
    }
}

/// `claude-sonnet-4-5-20250929`, `gpt-4o-2024-08-06` or `claude-sonnet-4-5@20250929` without its date.
fn without_date(name: &str) -> Option<&str> {
    let is_date = |text: &str| {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        let dashes = text.len() - digits.len();
        let shaped = dashes == 0 || (dashes == 2 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-');
        digits.len() == 8 && shaped && digits.iter().all(u8::is_ascii_digit) && digits.starts_with(b"20")
    };
    [9, 11].into_iter().find_map(|length| {
        let cut = name.len().checked_sub(length).filter(|cut| *cut > 0)?;
        let (head, tail) = (name.get(..cut)?, name.get(cut..)?);
        let date = tail.strip_prefix('-').or_else(|| tail.strip_prefix('@'))?;
        is_date(date).then_some(head)
    })
}

#[cfg(test)]
mod tests {
    use super::without_date;

    #[test]
    fn a_trailing_date_is_taken_off_and_nothing_else() {
        for (name, expected) in [
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-sonnet-4-5@20250929", Some("claude-sonnet-4-5")),
            ("gpt-4o", None),
            ("gpt-4-0613", None),
            ("-20250929", None),
            ("model-12345678", None),
            ("m-2024-0-806", None),
            ("ä-20250929", Some("ä")),
        ] {
            assert_eq!(without_date(name), expected, "{name}");
        }
    }
}
