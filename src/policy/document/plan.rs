//! A plan as it is written. Only ids, units and periods are required; everything else has the default that is documented beside it.

use super::fair_use::FairUseDocument;
use super::pricing::PricingDocument;
use super::scalar::{Bill, Limit, Whole, whole};
use super::shape::{Name, Share, limits_by_unit};
use crate::decision::amount::{Ratio, Unit};
use crate::decision::id::{BudgetId, Feature, PlanId};
use crate::decision::period::PeriodKind;
use crate::decision::plan::{AtHard, OnExpiry, OnStoreUnavailable, Scope, UnknownFeatures};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A longer delay would outlive the hold that it delays.
pub const THROTTLE_MS_MAX: i64 = 600_000;
/// The longest life of a cached answer: a year.
pub const CACHE_TTL_SECONDS_MAX: i64 = 366 * 86_400;
/// The most cached answers of one workspace and feature.
pub const CACHE_ENTRIES_MAX: i64 = 1_000_000;
/// The most reservations that one workspace may have open.
pub const OPEN_RESERVATIONS_MAX: i64 = 1_000_000;
/// The longest hold, as for any request.
pub const HOLD_SECONDS_MAX: i64 = 604_800;

/// What a workspace can buy: its price, its budgets and its rules for features.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a plan as a mapping")]
pub struct PlanDocument {
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub id: PlanId,
    /// For people; the id, where it is absent.
    #[serde(default)]
    pub name: Option<String>,
    /// What the customer pays; absent where it is agreed elsewhere.
    #[serde(default)]
    pub pricing: Option<PricingDocument>,
    /// What part of the price shall be left when the models are paid.
    #[serde(default)]
    #[schemars(with = "Option<Share>")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1)]
    pub target_gross_margin: Option<Ratio>,
    /// Where a denied customer can buy more; `{workspace_id}` is filled in.
    #[serde(default)]
    pub upgrade_url: Option<String>,
    /// In which language of `messages.yaml` its workspaces are told things, unless a caller accepts another; absent: the default one.
    #[serde(default)]
    pub locale: Option<String>,
    /// Globs over model ids, or `tier:NAME`.
    #[serde(default = "all_models")]
    pub allowed_models: Vec<String>,
    /// Requests are allowed even where no budget applies.
    #[serde(default)]
    pub unlimited: bool,
    /// What becomes of requests for features that `features` does not name.
    #[serde(default)]
    pub unknown_features: UnknownFeatures,
    /// Requests without `user_id` are refused.
    #[serde(default)]
    pub require_user: bool,
    /// Their order is the order in which answers name them.
    #[serde(default)]
    pub budgets: Vec<BudgetDocument>,
    /// What is too much even within the budgets, and what then happens for a while. No rule moves a limit.
    #[serde(default)]
    pub fair_use: Vec<FairUseDocument>,
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, FeatureDocument>")]
    #[schema(value_type = BTreeMap<String, FeatureDocument>)]
    pub features: BTreeMap<Feature, FeatureDocument>,
    #[serde(default = "whole::<1, OPEN_RESERVATIONS_MAX, 1_000>")]
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub max_open_reservations: Whole<1, OPEN_RESERVATIONS_MAX>,
    #[serde(default = "whole::<1, HOLD_SECONDS_MAX, 1>")]
    #[schema(value_type = u32, minimum = 1, maximum = 604_800)]
    pub min_hold_seconds: Whole<1, HOLD_SECONDS_MAX>,
    /// What becomes of a hold that nobody settled.
    #[serde(default)]
    pub on_expiry: OnExpiry,
    /// What is answered while the counters cannot be reached.
    #[serde(default)]
    pub on_store_unavailable: OnStoreUnavailable,
}

/// A ceiling on a counter.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[schemars(transform = limits_by_unit)]
#[serde(deny_unknown_fields, expecting = "a budget as a mapping")]
pub struct BudgetDocument {
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub id: BudgetId,
    /// Whether all of a workspace share it, or each user has one.
    #[serde(default)]
    pub scope: Scope,
    /// Only requests of this feature count; absent: all.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    pub unit: Unit,
    pub period: PeriodKind,
    /// From here on `at_soft` acts.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub soft: Option<Limit>,
    /// Nothing passes this; absent: metered only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub hard: Option<Limit>,
    /// The limits are for each seat.
    #[serde(default)]
    pub per_seat: bool,
    #[serde(default = "warn")]
    pub at_soft: Vec<SoftAction>,
    /// A tier or a model; absent: the model's own `downgrades`, in order.
    #[serde(default)]
    pub downgrade_to: Option<String>,
    #[serde(default = "whole::<0, THROTTLE_MS_MAX, 1_000>")]
    #[schema(value_type = u32, maximum = 600_000)]
    pub throttle_ms: Whole<0, THROTTLE_MS_MAX>,
    #[serde(default)]
    pub at_hard: AtHard,
    /// How far overage may go; absent: as far as it is used.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub overage_hard: Option<Limit>,
    /// Shares of hard and grants at which an event is sent.
    #[serde(default = "eighty_and_hundred_percent")]
    #[schemars(with = "Vec<Share>")]
    #[schema(value_type = Vec<f64>, max_items = 10)]
    pub alerts: Vec<Ratio>,
    /// Counts and reports, never denies.
    #[serde(default)]
    pub shadow: bool,
}

/// What a budget does from its soft limit on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SoftAction {
    Warn,
    Downgrade,
    Throttle,
    Defer,
}

/// What a plan says of one feature.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "the rules of a feature as a mapping")]
pub struct FeatureDocument {
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its requests keep their model even past a soft limit.
    #[serde(default)]
    pub never_downgrade: bool,
    /// Absent: answers are never cached.
    #[serde(default)]
    pub cache: Option<CacheDocument>,
}

/// How answers of a feature may be kept and given again, always within one workspace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "cache rules as a mapping")]
pub struct CacheDocument {
    /// Equal prompts.
    #[serde(default = "yes")]
    pub exact: bool,
    /// Similar prompts.
    #[serde(default)]
    pub semantic: bool,
    /// The least similarity of a semantic hit.
    #[serde(default = "threshold")]
    #[schemars(with = "Share")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub threshold: Ratio,
    #[serde(default = "whole::<1, CACHE_TTL_SECONDS_MAX, 86_400>")]
    #[schema(value_type = u32, minimum = 1)]
    pub ttl_seconds: Whole<1, CACHE_TTL_SECONDS_MAX>,
    #[serde(default = "whole::<1, CACHE_ENTRIES_MAX, 10_000>")]
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
    pub max_entries: Whole<1, CACHE_ENTRIES_MAX>,
    /// Whether all of a workspace share answers, or each user has their own.
    #[serde(default)]
    pub scope: Scope,
    /// What a hit counts for: free, full or a share of the avoided use.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub bill: Bill,
}

fn yes() -> bool {
    true
}

fn all_models() -> Vec<String> {
    vec!["*".to_owned()]
}

fn warn() -> Vec<SoftAction> {
    vec![SoftAction::Warn]
}

fn eighty_and_hundred_percent() -> Vec<Ratio> {
    [8_000, 10_000].into_iter().filter_map(Ratio::from_ten_thousandths).collect()
}

fn threshold() -> Ratio {
    const { Ratio::from_ten_thousandths(9_300).expect("less than one") }
}
