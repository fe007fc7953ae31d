//! What reconcile tells: for each customer and meter the ledger's total, that of batches, and the provider's, side by side; each difference
//! by its name; and what was mended.

use super::credit::CreditState;
use super::delivery::ReasonCode;
use super::exact::Exact;
use super::reconcile::Code;
use crate::decision::id::{BatchId, GrantId, MeterId, WorkspaceId};
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
    /// Which two totals it is between.
    pub between: Between,
    /// Why they differ.
    pub code: Code,
    /// In the meter's unit, as the provider is told it. A decimal string.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "7")]
    pub value: Exact,
    /// How many batches it is about.
    #[schema(minimum = 0)]
    pub batches: i64,
    /// Some of them.
    #[schema(value_type = Vec<String>, max_items = 20)]
    pub batch_ids: Vec<BatchId>,
    /// The same for people.
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
    /// Whose use it is; where several have the same customer, all of them.
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
    /// Empty: all totals agree.
    pub differences: Vec<Named>,
    /// Whether every difference has a name.
    pub is_explained: bool,
}

impl Line {
    /// Whether somebody has to act: a difference has no name, or a name that nothing mends by itself: what was acknowledged and bills
    /// nobody, because the provider does not know the customer, and what is billed twice.
    pub fn needs_an_eye(&self) -> bool {
        self.differences.iter().any(Named::needs_an_eye)
    }
}

impl Named {
    pub fn needs_an_eye(&self) -> bool {
        let is_such = matches!(self.code, Code::Unexplained | Code::CustomerUnknown | Code::SentAgain);
        is_such && self.value != Exact::ZERO
    }
}

/// What became of a batch whose fate was unknown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = BillingRepair)]
pub struct Repair {
    /// Which batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    /// What it is worth.
    pub value: i64,
    /// What was found out about it.
    pub outcome: Outcome,
    /// The same for people.
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

/// The most credits that a report names.
pub const CREDITS_MAX: usize = 200;

/// A grant that was paid for and is not a credit at the provider, or was not until this was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = BillingCredit)]
pub struct CreditLine {
    /// Which grant.
    #[schema(value_type = String)]
    pub grant_id: GrantId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    /// Null: no try was made yet.
    pub customer: Option<String>,
    /// What was paid, in the smallest unit of the currency.
    pub amount: i64,
    /// Its code of ISO 4217 in lower case.
    #[schema(min_length = 3, max_length = 3, example = "usd")]
    pub currency: String,
    /// Where it is.
    pub state: CreditState,
    /// Why; null where nothing needs to be said.
    pub reason: Option<ReasonCode>,
    /// The same for people.
    pub detail: String,
    /// What was found out about it; null: nobody had to look.
    pub outcome: Option<Outcome>,
}

/// The most carried values that a report names.
pub const CARRIED_MAX: usize = 200;

/// What a workspace carries of a meter and no later use is sure to take up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = BillingCarried)]
pub struct CarriedLine {
    /// Whose it is.
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    /// Null: the workspace has none at the provider.
    pub customer: Option<String>,
    /// Which meter.
    #[schema(value_type = String)]
    pub meter_id: MeterId,
    /// What the provider calls it.
    pub event_name: String,
    /// What is carried, in the meter's unit, as the provider is told it; negative: it is owed back. A decimal string.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "-30")]
    pub value: Exact,
    /// Since when something is owed back. Null: nothing is.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub owed_since: Option<Timestamp>,
    /// What becomes of it.
    pub code: CarriedCode,
    /// The same for people.
    pub detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BillingCarriedCode)]
pub enum CarriedCode {
    /// A correction owes it back, and there was no use since to set it off against.
    OwedBack,
    /// The meter was defined anew, in another unit, at another scale or by another name: nothing is set off against it any more.
    LeftOver,
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
    /// Exclusive.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Customers and meters.
    pub lines: Vec<Line>,
    /// What was of unknown fate, and what became of it.
    pub repairs: Vec<Repair>,
    /// Paid grants that are not credits at the provider, oldest first. Empty where a meter is named.
    #[schema(max_items = 200)]
    pub credits: Vec<CreditLine>,
    /// What is carried and no later use is sure to take up, as of now: first what is owed back, the oldest first.
    #[schema(max_items = 200)]
    pub carried: Vec<CarriedLine>,
    /// How many lines have a difference without a name.
    #[schema(minimum = 0, maximum = 4294967295u32)]
    pub unexplained: usize,
}

fn as_text<S: Serializer>(value: &Exact, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}
