//! Routing rules as they are written.

use super::shape::Name;
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
}

/// If `when` is true of a request, then exactly one of `model`, `tier` and `mode` is chosen for it.
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
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Also for requests that name a model.
    #[serde(default, rename = "override")]
    pub overrides_named: bool,
    /// Only says what it would have done.
    #[serde(default)]
    pub shadow: bool,
}
