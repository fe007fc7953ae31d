//! Rules of fair use as they are written.

use super::scalar::{Limit, Whole, whole};
use crate::decision::plan::Scope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest that a rule acts: a day.
pub const FOR_SECONDS_MAX: i64 = 86_400;
/// How many times what is usual a rule may name.
pub const RATIO_MAX: i64 = 1_000;
/// The most calls, and the longest window, of a loop.
pub const LOOP_CALLS_MAX: i64 = 100_000;
pub const LOOP_SECONDS_MAX: i64 = 3_600;

/// What is too much, and what then happens for a while. Either `over_minutes` and `min_amount`, perhaps with `ratio`, or `calls` and `seconds`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a rule of fair use as a mapping")]
pub struct FairUseDocument {
    /// Shown to callers on whom it acts.
    pub name: String,
    /// What is added up.
    #[serde(default)]
    pub measure: Measure,
    /// Whose use: of the whole workspace, or of each user by themselves.
    #[serde(default)]
    pub scope: Scope,
    /// How many minutes the window has.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 240)]
    pub over_minutes: Option<Whole<1, { crate::decision::anomaly::OVER_MINUTES_MAX }>>,
    /// How many times what is usual for such a window at this hour of the week; absent: `min_amount` alone decides.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 2, maximum = 1000)]
    pub ratio: Option<Whole<2, RATIO_MAX>>,
    /// Less than this is never too much; in the unit of `measure`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub min_amount: Option<Limit>,
    /// So many calls of one user for one feature within `seconds` are a loop.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 2, maximum = 100_000)]
    pub calls: Option<Whole<2, LOOP_CALLS_MAX>>,
    /// Within how many seconds so many calls are a loop.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3_600)]
    pub seconds: Option<Whole<1, LOOP_SECONDS_MAX>>,
    /// What it does: `event` only tells.
    #[serde(default)]
    pub act: FairUseAct,
    /// For how many seconds it acts.
    #[serde(default = "whole::<1, FOR_SECONDS_MAX, 900>")]
    #[schema(value_type = u32, minimum = 1, maximum = 86_400)]
    pub for_seconds: Whole<1, FOR_SECONDS_MAX>,
    /// The delay that callers are asked to keep, where it throttles.
    #[serde(default = "whole::<0, { super::plan::THROTTLE_MS_MAX }, 1_000>")]
    #[schema(value_type = u32, maximum = 600_000)]
    pub throttle_ms: Whole<0, { super::plan::THROTTLE_MS_MAX }>,
    /// A tier or a model, where it downgrades; absent: the model's own `downgrades`, in order.
    #[serde(default)]
    pub downgrade_to: Option<String>,
    /// Only says what it would have done.
    #[serde(default)]
    pub shadow: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    #[default]
    Tokens,
    Requests,
    Usd,
}

/// What a rule does beside telling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FairUseAct {
    #[default]
    Event,
    Throttle,
    Downgrade,
    Pause,
}
