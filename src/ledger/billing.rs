//! The part of a ledger that makes batches of what was recorded, and remembers what became of them at the provider. A method is one whole
//! transaction. The promises, which `contract/billing.rs` checks on each store:
//!
//! 1. An entry is in at most one batch of a meter, whoever collects, and however often. Nothing is added to the transaction that records it.
//! 2. What is collected is looked for in the order of recording, and looked for again later ([`PASS_LAG_SECONDS`]): a commit that comes late
//!    is found. A collector goes on where the last one stopped, page by page.
//! 3. The value of a batch is fixed when it is sealed, with what its workspace and meter carry, in one transaction; from then on it is to
//!    be sent. A meter that is defined anew (another event name, unit or factor) begins with nothing: what is carried is of the old one.
//! 4. Of one workspace and meter one batch is under way at a time, and one node has it; of one customer and event name those of one claim. Its answer counts under its own claim only, but for
//!    the knowledge that the provider has it.
//! 5. How a batch stands changes by [`Delivery::step`] alone.

#[cfg(doc)]
use crate::decision::billing::delivery::Delivery;

use super::LedgerError;
use super::audit::Audited;
use crate::decision::amount::Unit;
use crate::decision::billing::delivery::{Answer, Event, Impossible};
use crate::decision::billing::exact::Exact;
use crate::decision::billing::{Batch, State, Terms};
use crate::decision::id::{BatchId, EntryId, MeterId, WorkspaceId};
use crate::decision::meter::{Factor, Meter};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// How long after its recording an entry is looked at by each pass. The first is for nearly all; the later ones find what was committed
/// late: by a store that was slow, by a node whose clock is behind.
pub const PASS_LAG_SECONDS: [i64; 3] = [5, 600, 86_400];

/// How far before a meter came its first pass begins: no billing period is longer, so nothing earlier belongs to the period in which it came.
pub const BEFORE_SECONDS: i64 = 35 * 86_400;

/// How often a page is read again because somebody else collected in between.
pub(super) const COLLECT_AGAIN_MAX: usize = 64;

/// Where to collect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where this pass stopped, and it will go on after what is collected now.
    Pass(usize),
    /// After this entry; at first where the first pass stopped. No pass is moved: what is this new may still get a neighbour.
    Ahead(Option<(Timestamp, EntryId)>),
}

/// A page of entries of which one meter's are to be collected.
#[derive(Clone, Debug)]
pub struct Collecting {
    pub meter: Meter,
    /// When the meter came, if it is not known yet; then it is what it says here. Otherwise it is what was noted.
    pub since: Timestamp,
    pub place: Place,
    /// Only what was recorded until then.
    pub until: Timestamp,
    pub limit: usize,
    pub window_seconds: i64,
    pub seal_after_seconds: i64,
    pub now: Timestamp,
}

/// What became of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collected {
    /// How many entries became members.
    pub members: usize,
    /// Where the next page begins; `None`: this was the last one for now.
    pub next: Option<(Timestamp, EntryId)>,
}

/// Open batches to be sealed.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// Those that were to be sealed by then.
    pub due: Timestamp,
    pub accepts_negative: bool,
    pub limit: usize,
    pub now: Timestamp,
    /// Who wants it, where somebody does.
    pub audited: Option<Audited>,
}

/// What one workspace is owed back of a meter, by one definition of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Debt {
    pub workspace: WorkspaceId,
    pub meter: MeterId,
    pub event_name: String,
    pub unit: Unit,
    pub factor: Factor,
    pub since: Timestamp,
}

/// Debts since `until` at the latest for which there may be a batch to take something back from, in the order in which they came.
#[derive(Clone, Debug)]
pub struct DebtQuery {
    pub until: Timestamp,
    pub after: Option<Debt>,
    pub limit: usize,
}

/// What is owed back and is to be taken back from what the provider was told.
#[derive(Clone, Debug)]
pub struct Adjusting {
    pub debt: Debt,
    pub now: Timestamp,
}

/// Batches to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Claiming {
    pub terms: Terms,
    pub late_after_seconds: i64,
    pub lease_seconds: i64,
    pub limit: usize,
    pub now: Timestamp,
}

/// A batch that this caller has until its lease ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub batch: Batch,
    pub lease: i64,
}

/// What a claim found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    pub claims: Vec<Claim>,
    /// Batches that are not to be sent after all: they are unbillable, or unknown by now.
    pub set_aside: Vec<Batch>,
}

/// An answer of the provider.
#[derive(Clone, Debug)]
pub struct Answered {
    pub batch: BatchId,
    pub generation: i64,
    pub lease: i64,
    pub answer: Answer,
    pub terms: Terms,
    pub now: Timestamp,
    pub chance: u32,
}

/// Something that happens to one batch, but for what senders do.
#[derive(Clone, Debug)]
pub struct BatchChange {
    pub batch: BatchId,
    /// Only if it is still of this generation; `None`: whichever it is.
    pub generation: Option<i64>,
    pub event: Event,
    pub terms: Terms,
    pub now: Timestamp,
    /// Who did it, where somebody did.
    pub audited: Option<Audited>,
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    Done(Box<Batch>),
    /// Nothing was written.
    Refused(Box<Batch>, Impossible),
    /// There is no such batch, or it is of another generation by now.
    Gone,
}

/// Which batches to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct BatchQuery {
    pub workspace: Option<WorkspaceId>,
    pub meter: Option<MeterId>,
    /// `None`: all but open ones.
    pub state: Option<State>,
    /// After this batch, in the order of the list.
    pub after: Option<(Timestamp, BatchId)>,
    pub limit: usize,
}

/// How many batches are in one state, and since when the oldest of them is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateCount {
    pub state: State,
    pub batches: i64,
    /// When the oldest was opened.
    pub oldest: Timestamp,
}

/// What a workspace carries of a meter and no later use is sure to take up: it is owed back, or left of a definition that the meter has no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    pub workspace: WorkspaceId,
    pub customer: Option<String>,
    pub meter: MeterId,
    pub event_name: String,
    pub carry: Exact,
    /// How many whole ones would have to be given back so that nothing is owed.
    pub owed: i64,
    pub owed_since: Option<Timestamp>,
    /// Whether the meter is still defined as it was then, so that its next use is set off against it.
    pub is_in_force: bool,
}

/// Whose.
#[derive(Clone, Debug, Default)]
pub struct CarriedQuery {
    pub workspace: Option<WorkspaceId>,
    pub meter: Option<MeterId>,
    pub limit: usize,
}

/// What the ledger itself says of a meter in one workspace, whatever batches say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metered {
    pub workspace: WorkspaceId,
    /// What its entries counted.
    pub counted: i64,
    /// The part of that which is in no batch yet.
    pub uncollected: i64,
}

/// Which entries a meter is to be summed up over.
#[derive(Clone, Debug)]
pub struct MeteredQuery {
    pub meter: Meter,
    pub workspace: Option<WorkspaceId>,
    /// As of their use.
    pub from: Timestamp,
    pub to: Timestamp,
}

/// A batch, or what a workspace and meter carry, that is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchDifference {
    pub workspace: WorkspaceId,
    pub meter: MeterId,
    pub what: BatchFault,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchFault {
    #[error("batch {batch} says that {row} members count {counted}, its members are {members} and count {members_counted}")]
    Members {
        batch: BatchId,
        row: i64,
        counted: i64,
        members: i64,
        members_counted: i64,
    },
    #[error("the members of batch {batch} say that they count {members}, their entries say {entries}")]
    Entries { batch: BatchId, members: i64, entries: i64 },
    #[error("batch {batch} is worth {value} and carries {carry}, what it counts comes to {expected}")]
    Value {
        batch: BatchId,
        value: i64,
        carry: Exact,
        expected: Exact,
    },
    #[error("of {event_name} it carries {row}, its last batch says {last}")]
    Carry { event_name: String, row: Exact, last: Exact },
}

/// A page of batches that were added up again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BatchesVerified {
    pub batches: u64,
    pub differences: Vec<BatchDifference>,
    /// Where the next page goes on; `None`: this was the last one.
    pub next: Option<(WorkspaceId, MeterId)>,
}

/// A ledger that makes batches.
#[async_trait]
pub trait BillingLedger: Send + Sync {
    /// Notes what all meters are from `since` on: those of the policy that came then. What is recorded is counted by what the meter was at
    /// that time, whenever it is collected; one that is not among them ends. A later policy that was noted already is not undone.
    async fn begin_meters(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError>;

    /// Meters that ended at or after `since` and did not come back, as they were last.
    async fn meters_ended(&self, since: Timestamp) -> Result<Vec<Meter>, LedgerError>;

    /// When a meter last came, changed or ended; `None`: nothing was ever noted.
    async fn meters_changed_at(&self) -> Result<Option<Timestamp>, LedgerError>;

    /// Makes members of the entries of a page that the meter counts and that are in no batch of it.
    async fn collect(&self, collecting: Collecting) -> Result<Collected, LedgerError>;

    /// Seals a page of open batches, and tells how many; fewer than the limit: that was all.
    async fn seal(&self, sealing: Sealing) -> Result<usize, LedgerError>;

    async fn debts(&self, query: &DebtQuery) -> Result<Vec<Debt>, LedgerError>;

    /// Makes an adjusting batch for a debt, if it is still there and there is a batch to take it back from; whether there was.
    async fn adjust(&self, adjusting: Adjusting) -> Result<bool, LedgerError>;

    /// Takes batches that are due, one of each workspace and meter, so that nobody else sends them. What a sender left behind that did not
    /// come back is due again.
    async fn claim(&self, claiming: Claiming) -> Result<Claims, LedgerError>;

    /// Writes what the provider answered. `None`: the claim had ended, and the answer is of no more use.
    async fn answered(&self, answered: Answered) -> Result<Option<Batch>, LedgerError>;

    /// Has something happen to a batch.
    async fn change_batch(&self, change: BatchChange) -> Result<Changed, LedgerError>;

    /// Has batches that waited for a customer go on where there is one by now, at most `limit`, and tells how many.
    async fn resume_batches(&self, terms: Terms, limit: usize, now: Timestamp) -> Result<usize, LedgerError>;

    async fn batches(&self, query: &BatchQuery) -> Result<Vec<Batch>, LedgerError>;

    async fn batch(&self, id: BatchId) -> Result<Option<Batch>, LedgerError>;

    /// How many batches are in each state but acknowledged.
    async fn batch_states(&self) -> Result<Vec<StateCount>, LedgerError>;

    /// What is carried and no later use is sure to take up: first what is owed back, what is owed longest first of all.
    async fn carried(&self, query: &CarriedQuery) -> Result<Vec<Carried>, LedgerError>;

    /// How many workspaces and meters are owed something back.
    async fn owed(&self) -> Result<i64, LedgerError>;

    /// What the entries of a meter add up to, by workspace.
    async fn metered(&self, query: &MeteredQuery) -> Result<Vec<Metered>, LedgerError>;

    /// Adds up the batches of the next `limit` workspaces and meters again, and names each difference.
    async fn verify_batches(&self, after: Option<(WorkspaceId, MeterId)>, limit: usize) -> Result<BatchesVerified, LedgerError>;
}
