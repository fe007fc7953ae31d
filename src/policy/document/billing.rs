//! `billing.yaml` as it is written: what a provider is told of use, and which plan its prices stand for.

use super::factor::{Factor, factor_of_one};
use super::shape::Name;
use crate::decision::amount::Unit;
use crate::decision::id::{Feature, MeterId, ModelId, PlanId, PriceId, Tier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `billing.yaml`: meters, and the plans that a provider's prices stand for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `meters` and `plans_by_price`")]
pub struct BillingDocument {
    #[serde(default)]
    pub meters: Vec<MeterDocument>,
    /// Which plan a workspace gets whose subscription has this price.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Name>")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub plans_by_price: BTreeMap<PriceId, PlanId>,
}

/// A figure that the provider is told of each workspace: `counted × markup × scale` of its entries, whole; the fraction is carried.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a meter as a mapping")]
pub struct MeterDocument {
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub id: MeterId,
    /// What the provider calls it.
    pub event_name: String,
    pub unit: Unit,
    /// Only entries that are all of this; absent: all.
    #[serde(default, rename = "where")]
    pub only: MeterFilterDocument,
    /// How many parts a unit has for the provider: 100 for usd in cents, "0.001" for tokens in thousands.
    #[serde(default = "factor_of_one")]
    #[schema(value_type = Object)]
    pub scale: Factor,
    /// What is told for each that was counted.
    #[serde(default = "factor_of_one")]
    #[schema(value_type = Object)]
    pub markup: Factor,
}

/// Which entries a meter counts.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `feature`, `model` and `tier`")]
pub struct MeterFilterDocument {
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelId>,
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    #[schema(value_type = Option<String>)]
    pub tier: Option<Tier>,
}
