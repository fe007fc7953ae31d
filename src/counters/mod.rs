//! What is spent and held now, for admission. Never the truth: each `spent` here is a copy of a versioned row of the ledger.
//!
//! Every store keeps these promises; `contract.rs` is the suite that says so, run over each of them:
//!
//! 1. [`Counters::hold`] takes the first rung that fits all counters, or nothing: all limits are checked and all amounts held in one atomic
//!    step. The record of the hold is written in the same step.
//! 2. `spent` is only ever *set if newer*, by [`Counters::apply`] and [`Counters::finish`]: doubles, losses and order do not matter.
//! 3. Expiry is a comparison: a hold past its expiry is free even if nothing ran since. A hold that was claimed, or that is charged on
//!    expiry, does not expire by comparison; only the ledger ends it, and [`Counters::due`] names it when it waited too long. Once all that
//!    was claimed is applied, what remains of the hold expires by comparison again. Where somebody wants to hear of an expiry by comparison,
//!    [`Counters::due`] names it, with its end, until an end of it is applied: whoever tells it does so first.
//! 4. A claim ends only when what was applied reaches it. A hold is never freed by a call that does not carry the rows.
//! 5. A counter of which no row was copied yet, held on or not, is zero only if its period began after its group was built and after every
//!    node knew the policy that names it; otherwise the store answers [`HoldOutcome::Unready`], and the group is rebuilt: begin, read the
//!    ledger, finish. So it may with a group that nobody used for [`GROUP_IDLE_SECONDS`] and in which nothing is held; but a workspace's own
//!    group, which knows who holds on its grants, stays as long as anything of the workspace is open.
//! 6. Of two rebuilders of one group one is told to wait, and joins the other one's rebuild if that takes long: then the first finish of
//!    either counts. A finish whose token is no longer the current one changes nothing. A group that is live stays live, and keeps what is
//!    held, while it is rebuilt. One that came back with an old copy of the store is not live, keeps its generation and what is held in it,
//!    and learns from the ledger what became of its reservations; one that is gone begins a new generation, in which holds of earlier ones
//!    count nothing and may not be claimed.
//! 7. Hold is idempotent for the life of its record, and answers with the end for [`TOMBSTONE_SECONDS`] after it.
//! 8. On release and expiry, requests held on minute and hour counters stay held until their period ends: a rate counts attempts. A settle,
//!    be it late, frees them, and so does the expiry of a hold that is charged: they are spent from then on.
//! 9. Counters of a period are dropped [`KEEP_ENDED_SECONDS`] after its end; applying to a dropped one is harmless.
//! 10. The first end of a reservation stays, but for an expired one that is settled late.
//! 11. A call takes its need from the hold of its run's parent in one atomic step, and gives back what it did not use exactly once, when it
//!     ends: [`run`] says how. It lives no longer than its parent by the clock; whichever of them ends first, what each holds is freed once.
//! 12. What grants have left is a *purse*, one for each budget of a workspace, kept in the workspace's own group and, like a row, only ever set
//!     if newer. It raises the limits of every counter that a request names it for, by what is left of it: less what the *other* counters
//!     hold on it, which are those that have held past their limit and what grants paid. So all of them together never hold more than there
//!     is. A purse that is not known, or not as of now, is read from the ledger first, with the group.

use crate::decision::amount::Amounts;
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::finding::Finding;
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::rung::{Rung, Taken};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use run::{ChildOutcome, ChildRequest, Run};
use std::sync::Arc;

#[cfg(test)]
#[path = "../../tests/support/certificates.rs"]
pub(crate) mod certificates;
#[cfg(test)]
mod contract;
pub mod memory;
pub mod redis;
#[cfg(test)]
#[path = "../../tests/support/redis.rs"]
pub(crate) mod redis_server;
pub mod run;

/// How long an ended reservation is remembered, so that a retry learns of its end.
pub const TOMBSTONE_SECONDS: i64 = 24 * 3600;
/// The fingerprint in a record of which the store only learnt that it ended; it matches every request.
pub const FINGERPRINT_UNKNOWN: u128 = 0;
/// How long counters stay after their period's end.
pub const KEEP_ENDED_SECONDS: i64 = 3600;
/// How long a claim may stay open before the ledger is asked what became of it.
pub const CLAIM_OPEN_SECONDS: i64 = 60;
/// How long others wait for a rebuild before one of them joins it; each one that does makes the next wait twice as long, up to a maximum.
pub const REBUILD_JOIN_MILLIS: i64 = 250;
pub const REBUILD_JOIN_MILLIS_MAX: i64 = 1_000;
/// By how much the clocks of two rebuilders may differ. A rebuild that began further in the future is not waited for.
pub const REBUILD_CLOCKS_MILLIS: i64 = 5_000;
/// How long a store keeps a group of counters that nobody uses. An hour at least, so that no minute or hour whose attempts only the store
/// knows can still be running.
pub const GROUP_IDLE_SECONDS: i64 = 3600;
/// The longest that a hold may live, extensions included.
pub const HOLD_SECONDS_MAX: i64 = 7 * 24 * 3600;

/// A request to hold, with everything that the store needs to decide and to remember.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    pub workspace: WorkspaceId,
    pub reservation: ReservationId,
    /// Of the caller's request, so that the same id with another body is found out.
    pub fingerprint: u128,
    /// Each at most once.
    pub counters: Vec<Counter>,
    /// The budgets over them that grants raise: each at most once, and one for a counter at most.
    pub purses: Vec<PurseUse>,
    /// When the last node learnt of the policy and workspace that name these counters.
    pub named_since: Timestamp,
    /// At least one; without counters the first is taken.
    pub rungs: Vec<Rung>,
    pub open_max: u32,
    /// The hold is recorded as used when it runs out, so it waits for the ledger instead of expiring by comparison.
    pub charge_on_expiry: bool,
    /// Somebody wants to hear of it if it runs out by itself.
    pub tell_on_expiry: bool,
    /// What the flow wants back with the record; the store does not read it.
    pub context: Arc<[u8]>,
    pub now: Timestamp,
}

/// The answer to a request to hold.
#[derive(Clone, PartialEq, Debug)]
pub enum HoldOutcome {
    /// Held now. `before` are the balances just before, in the order of the request's counters.
    Held { taken: Taken, before: Vec<Balance> },
    /// Held earlier, by the same request.
    Replayed(Box<Record>),
    /// The id belongs to another request.
    Mismatch,
    /// The reservation has ended.
    Ended(End),
    /// No rung fits; nothing was held.
    Short { balances: Vec<Balance> },
    /// The workspace has `open_max` reservations open; nothing was held.
    TooManyOpen { balances: Vec<Balance> },
    /// These groups of counters must be rebuilt first; nothing was held.
    Unready(Vec<Whose>),
}

/// A reservation as the store remembers it. Of one that was settled or released, perhaps only whose it was and how it ended: then the
/// context is empty and the amounts are zero.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub workspace: WorkspaceId,
    pub reservation: ReservationId,
    /// Of the request that held, or [`FINGERPRINT_UNKNOWN`].
    pub fingerprint: u128,
    pub context: Arc<[u8]>,
    pub taken: Taken,
    /// The balances just before the hold, in the order of its counters.
    pub before: Vec<Balance>,
    pub held_at: Timestamp,
    pub expires_at: Timestamp,
    /// What settles and checkpoints have said that they will record; `None`: nothing, so it may expire by comparison.
    pub claimed: Option<Claim>,
    /// What of the hold has been recorded as spent; of a parent, by all its calls.
    pub used: Amounts,
    pub end: Option<End>,
    /// What it is in a run, if it is of one. Of a parent that has ended, as it was then.
    pub run: Option<Run>,
}

/// What a settle says before it commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// A checkpoint: this much in all.
    UpTo(Amounts),
    /// The final report, whatever it says.
    Final,
}

/// A counter's row in the ledger, as its last commit left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SumRow {
    pub counter: Counter,
    pub spent: i64,
    pub version: i64,
    /// What grants paid of it.
    pub paid: i64,
}

/// What a commit changed, to be copied into the store.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Applied {
    pub rows: Vec<SumRow>,
    pub reservation: Option<(ReservationId, Progress)>,
    pub purses: Vec<Purse>,
}

/// A copy under way of what the ledger recorded lately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copying {
    /// From when on the store may have missed what was recorded; `None`: nothing is live in it yet, or it is the caller's own.
    pub since: Option<Timestamp>,
    /// The processes that keep it, in an order that the store knows.
    pub epochs: Vec<String>,
}

/// How far a reservation has come in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// A checkpoint is recorded: this much of the hold is spent.
    Used(Amounts),
    /// It has ended; what is left of the hold is free. For an id that the store does not know it leaves a tombstone all the same. Of a call
    /// of a run, settled without a word about how much it used, nothing is left for its parent.
    Ended(End),
    /// The same, with what it used in all.
    EndedUsing(End, Amounts),
}

impl Progress {
    /// An end with what is recorded for it, if anything is.
    pub fn ended(end: End, recorded: Option<Amounts>) -> Self {
        match recorded {
            Some(used) => Progress::EndedUsing(end, used),
            None => Progress::Ended(end),
        }
    }
}

/// The answer to a request to extend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extended {
    Until(Timestamp),
    Ended(End),
    Unknown,
}

/// The answer to a begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Read now, then finish with this token. `adopt` are open reservations of the workspace that came back with a copy of the store, such as
    /// a promoted replica: finish takes where the ledger has each of them.
    Started { token: u64, adopt: Vec<ReservationId> },
    /// Another one is rebuilding; try again soon.
    Wait,
}

/// What a rebuild read from the ledger. The rows are read last: a settle in between is then held and spent for a moment, never neither.
#[derive(Clone, Copy, Debug)]
pub struct Rebuilt<'a> {
    /// Of the begin.
    pub token: u64,
    /// Where the ledger has the reservations that were to be adopted; those of which it has nothing stay as they are.
    pub adopted: &'a [(ReservationId, Progress)],
    /// Of the whole group.
    pub rows: &'a [SumRow],
    /// With the workspace's own group: what its grants have left.
    pub purses: &'a [Purse],
}

/// Why a store could not answer. A time-out means unknown, never "did not happen".
#[derive(Debug, thiserror::Error)]
#[error("the counter store could not {act}")]
pub struct CountersError {
    pub act: &'static str,
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// A group of counters that a store knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownGroup {
    pub workspace: WorkspaceId,
    pub whose: Whose,
    pub counters: Vec<Counter>,
}

/// A counter store. All methods are atomic for one workspace.
#[async_trait]
pub trait Counters: Send + Sync {
    /// Holds all or nothing. The questions in their order: is the id known (another body, ended, live), are the counters, are too many open,
    /// which rung fits. See the module's promises 1, 5, 7.
    async fn hold(&self, request: &HoldRequest) -> Result<HoldOutcome, CountersError>;

    /// Takes a call's need from the hold of its run's parent: all of it or nothing. The questions in their order: is the id known, is the
    /// parent, are too many open, has the parent calls left, which rung fits its rest. See the module's promise 11.
    async fn hold_child(&self, request: &ChildRequest) -> Result<ChildOutcome, CountersError>;
    /// Holds for several requests of one workspace, each by itself as [`Counters::hold`] does and in their order, in one round trip where
    /// there is one. Of a request whose groups must be rebuilt first, or ahead of which more has expired than a store ends in one step, those
    /// behind it may have been decided before.
    async fn hold_many(&self, requests: &[HoldRequest]) -> Vec<Result<HoldOutcome, CountersError>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(self.hold(request).await);
        }
        outcomes
    }

    /// The balances of `counters` now, or the groups that must be rebuilt first.
    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError>;

    /// The record of a reservation, live or ended, while it is remembered.
    async fn find(&self, reservation: ReservationId, now: Timestamp) -> Result<Option<Record>, CountersError>;

    /// Claims a live hold for a report that is about to be committed, and returns the record either way, or the groups that must be rebuilt
    /// first. Claims only grow. A hold that has ended, and the parent of a run, are returned as they are, and not claimed.
    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError>;

    /// Copies what a commit changed, and returns the balances of `read` (`None`: no row of it is known here; the caller reads the ledger). A
    /// reservation of another workspace is left alone. What is granted is told where a purse is named; of
    /// one that is not known as of now, only what was paid.
    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError>;

    /// Begins to copy what the ledger recorded lately, in case the copies of some commits were lost.
    async fn begin_copy(&self, _now: Timestamp) -> Result<Copying, CountersError> {
        Ok(Copying::default())
    }

    /// Like [`Counters::apply`], but an error where another process has taken the store's place since the copy began: what it missed is
    /// something else.
    async fn copy(&self, workspace: &WorkspaceId, applied: &Applied, _copying: &Copying, now: Timestamp) -> Result<(), CountersError> {
        self.apply(workspace, applied, &[], &[], now).await.map(drop)
    }

    /// All that was recorded before `until` has been copied since [`Copying::since`]. The store remembers it, and so does every copy of it.
    async fn end_copy(&self, _copying: &Copying, _until: Timestamp, _now: Timestamp) -> Result<(), CountersError> {
        Ok(())
    }

    /// Moves the expiry of a live hold to `until`, never earlier, never beyond [`HOLD_SECONDS_MAX`] after it was taken, and that of a call
    /// never beyond its parent's.
    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError>;

    /// When expiring holds alone leave `room` below `ceiling` on `counter`, `now` if it is there already; `None` if they never do, or if the
    /// counter is not known here. Of a workspace's holds no more than the first [`FREE_AT_HOLDS_MAX`] to expire by themselves are looked at: if
    /// there are more and these are not enough, the expiry of the last of them, before which there will not be room. What the calls of a run
    /// hold is free when its parent expires, since until then it goes back there.
    async fn free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CountersError>;

    /// Starts the rebuild of one group of counters, or joins the one that runs; unless somebody began or joined that less than
    /// [`REBUILD_JOIN_MILLIS`] ago, or longer, up to [`REBUILD_JOIN_MILLIS_MAX`], where some have joined.
    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError>;

    /// Ends a rebuild with what was read after its begin; false: the token is not the current one, and nothing changed.
    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError>;

    /// Forgets all rows and purses that were copied, and says of how many groups: of a ledger that was set back, rows with lower versions are
    /// true from now on. What is held stays, and each group is rebuilt before it is asked again. A store that is derived anew in each process
    /// has nothing that its ledger could not have told it.
    async fn forget_rows(&self, _now: Timestamp) -> Result<u64, CountersError> {
        Ok(0)
    }

    /// Which counters the store knows, for whoever compares them with a ledger that was set back and may know nothing of some. What changes
    /// meanwhile may be named twice or not at all. Of a store that is derived anew in each process there are none that its ledger does not
    /// know.
    fn known(&self) -> BoxStream<'_, Result<KnownGroup, CountersError>> {
        stream::empty().boxed()
    }

    /// At most `limit` reservations that only the ledger can end and that have waited long enough: those whose claim is open and was last
    /// made [`CLAIM_OPEN_SECONDS`] ago, and those without an open claim that are charged and past their expiry. With them those that ended
    /// by themselves and of which somebody wants to hear. They are named again until something changes.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CountersError>;

    /// Looks at the store for whoever wants to know whether it is in good order.
    async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, CountersError>;

    /// Where values of workspaces that are no counters may lie, if that is a place that nodes share; `None`: this process is all there is.
    fn beside(&self) -> Option<redis::Beside> {
        None
    }

    /// How many reservations are open, in all; for gauges, since those that expired and that nobody asked about since are still counted.
    async fn open(&self) -> Result<u64, CountersError>;
}

/// How far a node's clock may be ahead of a shared store's before the store's counts: more than clocks that are kept are apart, and less than
/// anybody waits for a hold to end.
pub const CLOCK_AHEAD_MILLIS_MAX: u64 = 2_000;

/// How many other counters may hold on one purse at once; beyond it nothing more is held on it.
pub const PURSE_HOLDERS_MAX: usize = 200;

/// How many holds are looked at to tell when a budget frees up. Who is refused may ask again at once, so this is not to be dear.
pub const FREE_AT_HOLDS_MAX: usize = 240;
