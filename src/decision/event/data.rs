//! What events say, by type: what a customer's system needs to act on without asking back.

use super::Bought;
use crate::decision::amount::{Ratio, Unit};
use crate::decision::id::{BudgetId, EntryId, Feature, GrantId, ModelId, PlanId, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::plan::Scope;
use crate::decision::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A period as it is told; `end` is absent where it never ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = EventPeriod)]
pub struct Span {
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub end: Option<Timestamp>,
}

/// `budget.threshold_reached`, `budget.soft_limit_reached`, `budget.exhausted`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct BudgetData {
    #[serde(flatten)]
    pub bought: Bought,
    #[schema(value_type = String)]
    pub budget_id: BudgetId,
    pub scope: Scope,
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    pub unit: Unit,
    pub period: Span,
    /// The share of `hard` and `granted` that was reached; absent for the soft limit.
    #[schema(value_type = Option<f64>)]
    pub threshold: Option<Ratio>,
    /// The amount that was reached.
    #[schema(value_type = Object)]
    pub level: Value,
    #[schema(value_type = Object)]
    pub soft: Value,
    #[schema(value_type = Object)]
    pub hard: Value,
    #[schema(value_type = Object)]
    pub granted: Value,
    #[schema(value_type = Object)]
    pub spent: Value,
    /// Of `hard` and `granted`; absent where there is no hard limit.
    #[schema(value_type = Object)]
    pub remaining: Value,
}

/// Why a budget is below its limit again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RenewalReason {
    /// A new period began.
    Period,
    /// The limit is higher: a grant, seats, an override or another plan.
    Raised,
}

/// `budget.renewed`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct RenewedData {
    #[serde(flatten)]
    pub budget: BudgetData,
    pub reason: RenewalReason,
}

/// `budget.forecast`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct ForecastData {
    #[serde(flatten)]
    pub budget: BudgetData,
    #[schema(value_type = String, format = DateTime)]
    pub forecast_exhausted_at: Timestamp,
}

/// `grant.expiring`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct GrantData {
    #[serde(flatten)]
    pub bought: Bought,
    #[schema(value_type = String)]
    pub grant_id: GrantId,
    pub key: Option<String>,
    #[schema(value_type = String)]
    pub budget_id: BudgetId,
    pub unit: Unit,
    #[schema(value_type = Object)]
    pub amount: Value,
    /// What will be lost if it is not used until then.
    #[schema(value_type = Object)]
    pub remaining: Value,
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// `reservation.expired`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct ReservationData {
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    #[schema(value_type = String)]
    pub reservation_id: ReservationId,
    #[schema(value_type = String)]
    pub request_id: RequestId,
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelId>,
    /// Whether something was recorded for it: the plan charges holds that nobody settled, or a stream had told how far it came.
    pub charged: bool,
    pub tokens: i64,
    pub message: String,
}

/// `plan.changed`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct PlanData {
    #[serde(flatten)]
    pub bought: Bought,
    #[schema(value_type = Option<String>)]
    pub previous_plan_id: Option<PlanId>,
}

/// `workspace.suspended`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct SuspendedData {
    #[serde(flatten)]
    pub bought: Bought,
}

/// `usage.recorded`: an entry without what it cost.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct UsageData {
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    #[schema(value_type = String)]
    pub entry_id: EntryId,
    #[schema(value_type = String)]
    pub request_id: RequestId,
    #[schema(value_type = Option<String>)]
    pub reservation_id: Option<ReservationId>,
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    #[schema(value_type = String)]
    pub feature: Feature,
    #[schema(value_type = String)]
    pub model: ModelId,
    pub requests: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub tokens: i64,
    pub credits: i64,
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Timestamp,
}
