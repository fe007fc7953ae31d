//! What reconcile tells: for each customer and meter the ledger's total, that of batches, and the provider's, side by side; each difference
//! by its name; and what was mended.

use super::exact::Exact;
use super::reconcile::Code;
use crate::decision::id::{BatchId, MeterId, WorkspaceId};
use crate::decision::time::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// The most batches that a difference names.
pub const NAMED_MAX: usize = 20;

/// Between which two totals a difference is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BillingDifferenceBetween)]
pub enum Between {
    /// `ledger` less `acknowledged`.
    LedgerAndBatches,
    /// `provider` less `told`.
    BatchesAndProvider,
}

/// A part of a difference, and its name.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[schema(as = BillingDifference)]
pub struct Named {
    pub between: Between,
    pub code: Code,
    /// In the meter's unit, as the provider is told it. A decimal string.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "7")]
    pub value: Exact,
    /// How many batches it is about.
    #[schema(minimum = 0)]
    pub batches: i64,
    /// Some of them.
    #[schema(value_type = Vec<String>)]
    pub batch_ids: Vec<BatchId>,
    pub detail: String,
}

/// One customer and meter. `ledger` and `acknowledged` are of use in the stretch, `told` and `provider` of what the provider was told as of a
/// time in the stretch; late use is told as of a later time.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[schema(as = BillingLine)]
pub struct Line {
    /// Null: the workspace has none at the provider.
    pub customer: Option<String>,
    /// What the provider calls the meter.
    pub event_name: String,
    /// Meters of the policy by that name, now and before.
    #[schema(value_type = Vec<String>)]
    pub meters: Vec<MeterId>,
    #[schema(value_type = Vec<String>)]
    pub workspaces: Vec<WorkspaceId>,
    /// What was recorded, exactly. A decimal string.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "4908")]
    pub ledger: Exact,
    /// What batches are worth, whatever became of them.
    pub batches: i64,
    /// What batches are worth that the provider acknowledged.
    pub acknowledged: i64,
    /// The same by the time that the provider was told.
    pub told: i64,
    /// What the provider has summed up. Null: it was not asked, or did not say.
    pub provider: Option<i64>,
    pub differences: Vec<Named>,
    /// Whether every difference has a name.
    pub is_explained: bool,
}

/// What became of a batch whose fate was unknown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = BillingRepair)]
pub struct Repair {
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    pub value: i64,
    pub outcome: Outcome,
    pub detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BillingRepairOutcome)]
pub enum Outcome {
    /// The provider has it.
    Acknowledged,
    /// The provider does not have it, and it is sent once more.
    SentAgain,
    /// It stays unknown: the provider's sum does not say, or it is too early.
    Left,
}

/// All of it.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[schema(as = BillingReport)]
pub struct Report {
    /// As `WEIR_BILLING_PROVIDER` has it.
    pub provider: &'static str,
    /// Widened to whole windows and minutes.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    pub lines: Vec<Line>,
    pub repairs: Vec<Repair>,
    /// How many lines have a difference without a name.
    #[schema(minimum = 0)]
    pub unexplained: usize,
}

fn as_text<S: Serializer>(value: &Exact, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}
