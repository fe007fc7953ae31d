//! What a use costs. One function prices the estimate and the settlement, and rounds once.
//!
//! Rates are whole nano-dollars per million tokens and discounts are ten-thousandths, so the sum of `tokens × rate` is an exact integer
//! until [`half_even`] makes it nano-dollars.

use super::amount::Ratio;
use super::money::{Usd, half_even};
use super::off_peak::OffPeak;
use super::time::Timestamp;
use super::usage::{Named, Pools};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a rate may be at most, in USD per million tokens: with 2^36 tokens in each pool the sum stays far inside 128 bits.
pub const RATE_USD_MAX: i64 = 1_000_000;
/// The most long-context steps that a price may have.
pub const STEPS_MAX: usize = 8;

const TOKENS_PER_RATE: i128 = 1_000_000;

/// How a request is served: at once, or in the provider's batch at its discount.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Interactive,
    Batch,
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Interactive => "interactive",
            Mode::Batch => "batch",
        }
    }
}

/// Nano-dollars per million tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Rate(i64);

impl Rate {
    pub const fn from_nanos(nanos: i64) -> Self {
        Rate(nanos)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }
}

/// The rates of one step, every fallback already taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    pub input: Rate,
    pub output: Rate,
    pub cache_read: Rate,
    pub cache_write: Rate,
    pub cache_write_1h: Rate,
    pub audio_input: Option<Rate>,
    pub audio_output: Option<Rate>,
    pub image_input: Option<Rate>,
}

/// One price of a model, in force from a moment until the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Price {
    pub effective_from: Timestamp,
    pub rates: Rates,
    /// Long-context steps by rising threshold; the highest that the input exceeds holds for the whole request.
    pub above: Vec<(i64, Rates)>,
    pub request: Usd,
    pub batch_discount: Ratio,
    /// What holds instead at some hours.
    pub off_peak: Option<OffPeak>,
    /// `<effective_from>.<8 hex of its content>`, stamped on each entry.
    pub version: Arc<str>,
}

/// A cost beyond what one entry may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CostTooLarge;

/// `base + per_output × n` over a denominator: what a request costs, as a line in its output length. Exact until it is rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CostLine {
    pub base: i128,
    pub per_output: i128,
}

/// The denominator of [`CostLine`].
pub const COST_DENOMINATOR: i128 = TOKENS_PER_RATE * Ratio::DENOMINATOR as i128;

impl Price {
    /// The price that holds at a moment while this one is in force.
    pub fn at(self: &Arc<Self>, at: Timestamp) -> &Arc<Self> {
        match &self.off_peak {
            Some(off_peak) if off_peak.holds_at(at) => &off_peak.price,
            _ => self,
        }
    }

    /// This price, or that of its off-peak hours, if it is of this version.
    pub fn of_version(self: &Arc<Self>, version: &str) -> Option<&Arc<Self>> {
        let off_peak = self.off_peak.as_ref().map(|off_peak| &off_peak.price);
        [Some(self), off_peak]
            .into_iter()
            .flatten()
            .find(|price| &*price.version == version)
    }

    /// Which of the pools that providers name apart have a rate of their own here.
    pub fn named(&self) -> Named {
        Named {
            audio_input: self.rates.audio_input.is_some(),
            audio_output: self.rates.audio_output.is_some(),
            image_input: self.rates.image_input.is_some(),
        }
    }

    pub fn has_batch(&self) -> bool {
        self.batch_discount > Ratio::ZERO
    }

    /// The cost of `pools`, which are the totals of `requests` requests.
    pub fn cost(&self, pools: &Pools, mode: Mode, requests: i64) -> Result<Usd, CostTooLarge> {
        let line = self.cost_line(pools, mode, requests);
        round_cost(line.base)
    }

    /// The cost of `pools` and of `n` output tokens more, as a line in `n`.
    pub fn cost_line(&self, pools: &Pools, mode: Mode, requests: i64) -> CostLine {
        let rates = self.rates_for(pools, requests);
        let plain = |rate: Rate| i128::from(rate.0);
        let part = |tokens: i64, rate: Rate| i128::from(tokens) * plain(rate);
        let tokens = part(pools.input_tokens, rates.input)
            + part(pools.cache_read_tokens, rates.cache_read)
            + part(pools.cache_write_tokens, rates.cache_write)
            + part(pools.cache_write_1h_tokens, rates.cache_write_1h)
            + part(pools.output_tokens, rates.output)
            + part(pools.audio_input_tokens, rates.audio_input.unwrap_or(rates.input))
            + part(pools.audio_output_tokens, rates.audio_output.unwrap_or(rates.output))
            + part(pools.image_input_tokens, rates.image_input.unwrap_or(rates.input));
        let share = match mode {
            Mode::Interactive => i128::from(Ratio::DENOMINATOR),
            Mode::Batch => i128::from(Ratio::DENOMINATOR - self.batch_discount.ten_thousandths()),
        };
        let fee = i128::from(self.request.nanos()) * i128::from(requests) * COST_DENOMINATOR;
        CostLine {
            base: tokens * share + fee,
            per_output: plain(rates.output) * share,
        }
    }

    /// The step for the whole request. Totals of several requests are judged by their average, as each of them was billed alone.
    fn rates_for(&self, pools: &Pools, requests: i64) -> &Rates {
        let input = i128::from(pools.input_tokens)
            + i128::from(pools.cache_read_tokens)
            + i128::from(pools.cache_write_tokens)
            + i128::from(pools.cache_write_1h_tokens)
            + i128::from(pools.audio_input_tokens)
            + i128::from(pools.image_input_tokens);
        let exceeded = |threshold: i64| input > i128::from(threshold) * i128::from(requests.max(1));
        self.above
            .iter()
            .rev()
            .find(|(threshold, _)| exceeded(*threshold))
            .map_or(&self.rates, |(_, rates)| rates)
    }
}

/// Rounds a cost over [`COST_DENOMINATOR`] to nano-dollars, and refuses what no single entry may cost.
pub fn round_cost(numerator: i128) -> Result<Usd, CostTooLarge> {
    let nanos = half_even(numerator, COST_DENOMINATOR);
    match i64::try_from(nanos) {
        Ok(nanos) if nanos <= Usd::ENTRY_MAX.nanos() => Ok(Usd::from_nanos(nanos)),
        _ => Err(CostTooLarge),
    }
}
