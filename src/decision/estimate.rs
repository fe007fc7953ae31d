//! How long an answer will be, learned from the answers so far: a quantile sketch of bounded size with a known relative error.
//!
//! Without an estimate a request that names no length would hold everything that is left.

use serde::{Deserialize, Serialize};

/// Neighbouring buckets differ by this factor, so a quantile is at most about five per cent off.
const GROWTH: f64 = 1.1;
/// Covers lengths up to 1.1^160, over four million tokens.
const BUCKETS: usize = 160;
/// Beyond this many samples all counts are halved, so that the sketch follows what changes.
const SAMPLES_MAX: u32 = 2_000;
/// Fewer samples than this say nothing yet.
pub const SAMPLES_MIN: u32 = 20;
/// Which share of answers shall be no longer than the estimate.
pub const QUANTILE_PERCENT: u32 = 95;
/// The estimate before anything is learned.
pub const OUTPUT_TOKENS_UNKNOWN: i64 = 1_024;

/// Counts of answer lengths by logarithmic bucket.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sketch {
    /// Grows to the longest bucket seen.
    counts: Vec<u16>,
    samples: u32,
}

impl Sketch {
    pub fn learn(&mut self, output_tokens: i64) {
        let bucket = bucket(output_tokens);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.samples += 1;
        if self.samples >= SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
            self.samples = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// The length that [`QUANTILE_PERCENT`] of the answers do not pass; `None` before [`SAMPLES_MIN`] samples.
    pub fn estimate(&self) -> Option<i64> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let wanted = (self.samples * QUANTILE_PERCENT).div_ceil(100);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += u32::from(*count);
            seen >= wanted
        });
        place.map(upper_edge)
    }
}

/// Bucket n holds lengths up to `upper_edge(n)`.
fn bucket(tokens: i64) -> usize {
    if tokens <= 1 {
        return 0;
    }
    let place = (tokens as f64).ln() / GROWTH.ln();
    (place.ceil() as usize).min(BUCKETS - 1)
}

fn upper_edge(bucket: usize) -> i64 {
    GROWTH.powi(i32::try_from(bucket).unwrap_or(i32::MAX)).ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_before_enough_was_seen() {
        let mut sketch = Sketch::default();
        (1..SAMPLES_MIN).for_each(|_| sketch.learn(100));
        assert_eq!(sketch.estimate(), None);
        sketch.learn(100);
        assert!(sketch.estimate().is_some());
    }

    proptest::proptest! {
        #[test]
        fn an_estimate_is_near_the_quantile(mut lengths in proptest::collection::vec(1i64..100_000, 20..1_000)) {
            let mut sketch = Sketch::default();
            lengths.iter().for_each(|length| sketch.learn(*length));
            lengths.sort_unstable();
            let exact = lengths[(lengths.len() * 95).div_ceil(100) - 1] as f64;
            let estimate = sketch.estimate().expect("enough samples") as f64;
            proptest::prop_assert!(estimate >= exact * 0.999 && estimate <= exact * 1.101 + 1.0, "{estimate} for {exact}");
        }

        #[test]
        fn a_sketch_stays_small(lengths in proptest::collection::vec(0i64..i64::MAX, 0..5_000)) {
            let mut sketch = Sketch::default();
            lengths.iter().for_each(|length| sketch.learn(*length));
            proptest::prop_assert!(sketch.counts.len() <= BUCKETS && sketch.samples <= SAMPLES_MAX);
        }
    }

    #[test]
    fn it_follows_what_changes() {
        let mut sketch = Sketch::default();
        (0..10_000).for_each(|_| sketch.learn(100));
        (0..10_000).for_each(|_| sketch.learn(10_000));
        assert!(sketch.estimate().expect("samples") >= 10_000);
    }
}
