//! What an operator writes: plans, models and routing rules as they stand in `policies/*.yaml` and in the admin API's JSON.
//!
//! Reading checks the shape and each value by itself; what must fit together is checked by `compile`. What is written has every field,
//! defaults filled in, so that a document that was read back says everything. Unknown fields are refused everywhere: a misspelt limit
//! must never mean "no limit".

mod billing;
mod classifier;
mod factor;
mod fair_use;
mod messages;
mod model;
mod plan;
mod pricing;
mod routing;
mod scalar;
mod shape;

pub use billing::{BillingDocument, MeterDocument, MeterFilterDocument};
pub use classifier::{CalibrationDocument, ClassifierDocument, FigureDocument, TrainedDocument};
pub use factor::Factor;
pub use fair_use::{FairUseAct, FairUseDocument, Measure};
pub use messages::{LocaleDocument, MessagesDocument, NumbersDocument};
pub use model::{CreditsDocument, ModelDocument, OffPeakDocument, PriceDocument, SourceDocument, StepDocument, Steps, WindowDocument};
pub use plan::{BudgetDocument, CacheDocument, FeatureDocument, PlanDocument, SoftAction};
pub use plan::{CACHE_ENTRIES_MAX, CACHE_TTL_SECONDS_MAX, HOLD_SECONDS_MAX, OPEN_RESERVATIONS_MAX, THROTTLE_MS_MAX};
pub use pricing::{OverageDocument, PricingDocument, SeatTiersDocument, TierDocument, UsagePriceDocument};
pub use routing::{EscalationDocument, HealthDocument, RoutingDocument, RuleDocument};
pub use scalar::{Bill, Dollars, EffectiveFrom, Fraction, Limit, Whole};
pub use shape::{NAME_PATTERN, USD_PATTERN};

use crate::decision::id::PlanId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shape::Name;

/// `models.yaml`: which models exist and what they cost.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `models` and `default_price`")]
pub struct ModelsFile {
    pub models: Vec<ModelDocument>,
    /// The price of models that the list does not know; null: they are refused, or recorded unpriced.
    #[serde(default)]
    pub default_price: Option<PriceDocument>,
}

/// `plans.yaml`: what workspaces can buy.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `plans` and `default_plan`")]
pub struct PlansFile {
    /// The plan of workspaces that have none; null: they are refused.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    pub default_plan: Option<PlanId>,
    pub plans: Vec<PlanDocument>,
}

/// All that the files say, or that the ledger holds. The number beside a document is its version.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Documents {
    pub models: Vec<(u32, ModelDocument)>,
    pub default_price: Option<PriceDocument>,
    pub plans: Vec<(u32, PlanDocument)>,
    pub default_plan: Option<PlanId>,
    pub routing: RoutingDocument,
    pub classifier: Option<ClassifierDocument>,
    /// `None`: what Weir brings along.
    pub messages: Option<MessagesDocument>,
    /// `None`: nothing was said about billing, which is no meter and no price.
    pub billing: Option<BillingDocument>,
}

#[cfg(test)]
mod tests;
