//! A small model of how difficult requests are: how likely it is that a weak model's answer suffices. Hashed features, logistic regression;
//! trained by `weir router train` on requests whose outcome is known, kept as a part of the policy, and asked where a routing rule wants to
//! know. What it has seen of a text leaves nothing behind but a number.

pub mod curve;
pub mod features;
pub mod train;

use features::{BUCKETS, FIGURES, Features};

/// A trained model.
#[derive(Clone, PartialEq, Debug)]
pub struct Classifier {
    /// One for each bucket.
    pub weights: Vec<f32>,
    pub figures: [Figure; FIGURES],
    pub bias: f32,
    /// How a raw score becomes a probability that is as often right as it says: `1 / (1 + e^-(slope · score + offset))`.
    pub slope: f32,
    pub offset: f32,
}

/// How one figure of a text counts.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Figure {
    /// Over the requests that it was trained on.
    pub mean: f32,
    pub deviation: f32,
    pub weight: f32,
}

/// Figures that are further off than so many deviations are as far off as can be.
const FIGURE_MAX: f32 = 4.0;

impl Figure {
    fn of(&self, value: f32) -> f32 {
        match self.deviation > 0.0 {
            true => ((value - self.mean) / self.deviation).clamp(-FIGURE_MAX, FIGURE_MAX),
            false => 0.0,
        }
    }
}

impl Classifier {
    /// Of nothing that was trained: every score is 0.
    fn blank() -> Self {
        Self {
            weights: vec![0.0; BUCKETS],
            figures: [Figure::default(); FIGURES],
            bias: 0.0,
            slope: 1.0,
            offset: 0.0,
        }
    }

    /// The raw score.
    fn score(&self, features: &Features) -> f32 {
        let buckets: f32 = self.weights.iter().zip(&features.buckets).map(|(weight, x)| weight * x).sum();
        self.bias + buckets + self.of_figures(features.figures.as_ref())
    }

    fn of_figures(&self, values: Option<&[f32; FIGURES]>) -> f32 {
        let Some(values) = values else { return 0.0 };
        self.figures
            .iter()
            .zip(values)
            .map(|(figure, x)| figure.weight * figure.of(*x))
            .sum()
    }

    /// How likely it is that the weak model suffices, from 0 to 1.
    pub fn weak_suffices(&self, features: &Features) -> f64 {
        let probability = sigmoid(self.slope * self.score(features) + self.offset);
        f64::from(if probability.is_finite() { probability } else { 0.5 })
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests;
