//! Routing rules as they are written.

use super::plan::THROTTLE_MS_MAX;
use super::scalar::{Whole, whole};
use super::shape::{Name, Share};
use crate::decision::amount::Ratio;
use crate::decision::id::{ModelId, Tier};
use crate::decision::price::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `routing.yaml`: which model serves a request that asks for `auto`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `rules` and `default_model`")]
pub struct RoutingDocument {
    /// The first that matches decides.
    #[serde(default)]
    pub rules: Vec<RuleDocument>,
    /// What serves `auto` when no rule matches; absent: such requests are refused.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub default_model: Option<ModelId>,
    /// When a failing provider is left for the fallbacks of its models, and when it is tried again; absent: the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthDocument>,
}

/// When a model that fails is left, and when it is tried again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "the rules of health as a mapping")]
pub struct HealthDocument {
    /// False: no model is ever left by itself; providers can still be drained.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Outcomes of so many seconds are looked at together.
    #[serde(default = "whole::<5, 300, 30>")]
    #[schema(value_type = i64, minimum = 5, maximum = 300)]
    pub window_seconds: Whole<5, 300>,
    /// Fewer outcomes say nothing.
    #[serde(default = "whole::<1, 10_000, 5>")]
    #[schema(value_type = i64, minimum = 1, maximum = 10000)]
    pub min_requests: Whole<1, 10_000>,
    /// The share of errors from which on a model is left.
    #[serde(default = "half")]
    #[schemars(with = "Share")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub error_share: Ratio,
    /// The share of time-outs among all from which on a model is left: they cost their callers more than other errors do.
    #[serde(default = "quarter")]
    #[schemars(with = "Share")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub timeout_share: Ratio,
    /// An error that took so long is counted as a time-out.
    #[serde(default = "whole::<100, 3_600_000, 30_000>")]
    #[schema(value_type = i64, minimum = 100, maximum = 3600000)]
    pub timeout_ms: Whole<100, 3_600_000>,
    /// An answer is slow that takes so many times as long as is usual for its length.
    #[serde(default = "whole::<2, 1_000, 5>")]
    #[schema(value_type = i64, minimum = 2, maximum = 1000)]
    pub slow_factor: Whole<2, 1_000>,
    /// The share of slow answers from which on a model is left.
    #[serde(default = "most")]
    #[schemars(with = "Share")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub slow_share: Ratio,
    /// How long nothing is sent there; doubled, four times at most, when it fails again soon.
    #[serde(default = "whole::<1, 3_600, 10>")]
    #[schema(value_type = i64, minimum = 1, maximum = 3600)]
    pub open_seconds: Whole<1, 3_600>,
    /// How many requests a second each node then sends there, to see whether it works again.
    #[serde(default = "whole::<1, 1_000, 2>")]
    #[schema(value_type = i64, minimum = 1, maximum = 1000)]
    pub probes_per_second: Whole<1, 1_000>,
    /// How many good ones bring it back.
    #[serde(default = "whole::<1, 1_000, 3>")]
    #[schema(value_type = i64, minimum = 1, maximum = 1000)]
    pub close_after: Whole<1, 1_000>,
}

fn yes() -> bool {
    true
}

fn quarter() -> Ratio {
    Ratio::from_ten_thousandths(2_500).unwrap_or_default()
}

fn half() -> Ratio {
    Ratio::from_ten_thousandths(5_000).unwrap_or_default()
}

fn most() -> Ratio {
    Ratio::from_ten_thousandths(8_000).unwrap_or_default()
}

/// What may be tried after an answer that was not good enough.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an escalation as a mapping")]
pub struct EscalationDocument {
    /// The model of the second try.
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub model: ModelId,
    /// A settle with a lower `quality_score` permits it.
    #[schemars(with = "Share")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub min_quality_score: Ratio,
}

/// If `when` is true of a request, then exactly one of `model`, `tier`, `mode` and `throttle_ms` is chosen for it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a routing rule as a mapping")]
pub struct RuleDocument {
    /// Shown to callers whose request it routed.
    pub name: String,
    /// CEL over request, workspace, plan, budgets and now; at most 1 KiB.
    pub when: String,
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelId>,
    /// The cheapest allowed model of this tier for the request.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub tier: Option<Tier>,
    /// `batch` only makes a batch of what can wait: `allow_batch`, or `auto` without a mode.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The caller shall wait so long before the call; Weir itself never sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 600000)]
    pub throttle_ms: Option<Whole<0, THROTTLE_MS_MAX>>,
    /// What callers may ask for with `escalate_from`, if the answer was not good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<EscalationDocument>,
    /// Also for requests that name a model.
    #[serde(default, rename = "override")]
    pub overrides_named: bool,
    /// Only says what it would have done.
    #[serde(default)]
    pub shadow: bool,
}
