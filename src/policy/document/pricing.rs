//! What a plan costs, as it is written: the contract's parts, and beyond them tiers, packages, included amounts, least and most spend.

use super::scalar::{Dollars, Limit, Whole, whole};
use super::shape::Name;
use crate::decision::amount::{LIMIT_COUNT_MAX, Unit};
use crate::decision::id::{BudgetId, Feature, OutcomeName};
use crate::decision::pricing::{Interval, PricingModel};
use crate::decision::rating::Mode;
use crate::decision::workspace::SEATS_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What the customer pays.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a price as a mapping")]
pub struct PricingDocument {
    /// Which part leads; every part may be there in every kind.
    pub model: PricingModel,
    /// Per interval.
    #[serde(default)]
    #[schema(value_type = String, example = "50.00")]
    pub base_usd: Dollars,
    /// Per seat and interval.
    #[serde(default)]
    #[schema(value_type = String, example = "20.00")]
    pub seat_usd: Dollars,
    #[serde(default)]
    pub interval: Interval,
    #[serde(default)]
    pub overage: Option<OverageDocument>,
    /// Per billable outcome that a settle reports.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Dollars>")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub outcomes: BTreeMap<OutcomeName, Dollars>,
    /// In the place of `seat_usd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat_tiers: Option<SeatTiersDocument>,
    /// How many seats cost nothing.
    #[serde(default = "whole::<0, SEATS_MAX, 0>", skip_serializing_if = "is_nothing")]
    #[schema(value_type = u32, maximum = 1_000_000)]
    pub included_seats: Whole<0, SEATS_MAX>,
    /// Prices of what is used in a period, besides what passes a limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<UsagePriceDocument>,
    /// Pays what was used in a period before anything of it is charged; what is left ends with the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "10.00")]
    pub credit_usd: Option<Dollars>,
    /// The least that a period comes to, base and seats included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "100.00")]
    pub minimum_usd: Option<Dollars>,
    /// The most that a period comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1000.00")]
    pub maximum_usd: Option<Dollars>,
}

/// A price of what is used in a period. Exactly one of `budget_id` and `unit` says what is counted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a price of use as a mapping")]
pub struct UsagePriceDocument {
    /// What invoices call it.
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub id: BudgetId,
    /// Counts as this workspace budget does, over the whole invoice period; what its grants pay is not charged.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub budget_id: Option<BudgetId>,
    /// What is counted.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// Only the use of this feature; absent: all.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    /// How tiers are applied.
    #[serde(default)]
    pub mode: Mode,
    /// How many a tier's `unit_usd` is for. In usd a quoted decimal.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub per: Option<Limit>,
    /// By rising `up_to`, the last without. A package's price is the `flat_usd` of its only tier.
    pub tiers: Vec<TierDocument>,
    /// How many are in a package; only for packages.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub package_size: Option<Limit>,
    /// What of it costs nothing.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub included: Option<Limit>,
    /// `included` is for each seat.
    #[serde(default)]
    pub included_per_seat: bool,
    /// The least that this use comes to in a period.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "5.00")]
    pub minimum_usd: Option<Dollars>,
    /// The most that this use comes to in a period.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "500.00")]
    pub maximum_usd: Option<Dollars>,
}

/// One tier of a price: a price for entering it, one for each unit, or both.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a tier as a mapping")]
pub struct TierDocument {
    /// The last unit of this tier; absent: there is no last one.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub up_to: Option<Limit>,
    /// For entering the tier; of packages for each.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "10.00")]
    pub flat_usd: Option<Dollars>,
    /// For each `per` units in it.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "0.50")]
    pub unit_usd: Option<Dollars>,
}

/// Seats by tiers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "tiers of seats as a mapping")]
pub struct SeatTiersDocument {
    /// How tiers are applied.
    #[serde(default)]
    pub mode: Mode,
    /// By rising `up_to`, the last without.
    pub tiers: Vec<TierDocument>,
    /// How many seats are in a package; only for packages.
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    pub package_size: Option<Whole<1, LIMIT_COUNT_MAX>>,
}

/// Plans without these parts are written as they always were, so that an upgrade changes no hash and no version.
fn is_nothing(seats: &Whole<0, SEATS_MAX>) -> bool {
    seats.get() == 0
}

/// What is billed of the use that passes a budget's hard limit and its grants, pro rata.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an overage price as a mapping")]
pub struct OverageDocument {
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub budget_id: BudgetId,
    /// In the unit of the budget.
    #[schema(value_type = Object)]
    pub per: Limit,
    #[schema(value_type = String, example = "4.00")]
    pub usd: Dollars,
}
