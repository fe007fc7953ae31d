//! The decision log's part of a ledger: what was decided and by which facts. Neither the truth of anything nor append-only: rows are pruned,
//! and whoever writes them does not wait. The facts are bytes that the flow encodes and reads.

use super::LedgerError;
use super::record::{Unreadable, read_decision_id, read_reservation, workspace_id};
use crate::decision::id::{DecisionId, ReservationId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// A decision as it is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedDecision {
    pub decision: DecisionId,
    /// Of an allow.
    pub reservation: Option<ReservationId>,
    pub workspace: WorkspaceId,
    pub decided_at: Timestamp,
    pub is_denial: bool,
    pub facts: Vec<u8>,
}

/// What is too old or too much.
#[derive(Clone, Copy, Debug)]
pub struct Pruning {
    /// Of denials, or of allows.
    pub is_denial: bool,
    /// Those before this moment go,
    pub before: Timestamp,
    /// and of the others all but the newest so many.
    pub rows_max: usize,
    /// At most so many in one call.
    pub limit: usize,
}

/// A ledger that keeps decisions.
#[async_trait]
pub trait DecisionLedger: Send + Sync {
    /// Writes these. One that is there already stays as it is.
    async fn log_decisions(&self, rows: Vec<LoggedDecision>) -> Result<(), LedgerError>;

    /// A decision by its id; `None`: it was not logged, or not kept.
    async fn decision(&self, id: DecisionId) -> Result<Option<LoggedDecision>, LedgerError>;

    /// The newest decision that allowed a reservation.
    async fn decision_of(&self, reservation: ReservationId) -> Result<Option<LoggedDecision>, LedgerError>;

    /// Deletes the oldest of what is too old or too much, and says how many; fewer than the limit: that was all.
    async fn prune_decisions(&self, pruning: Pruning) -> Result<usize, LedgerError>;
}

pub(super) const DECISION: &str = "SELECT decision_id, reservation_id, workspace_id, decided_at, verdict, facts FROM decision \
     WHERE decision_id = $1";

pub(super) const DECISION_OF: &str = "SELECT decision_id, reservation_id, workspace_id, decided_at, verdict, facts FROM decision \
     WHERE reservation_id = $1 ORDER BY decided_at DESC LIMIT 1";

/// The moment of the newest row of `$1` that is too much; `$2` how many are not.
pub(super) const DECISIONS_TOO_MANY: &str = "SELECT decided_at FROM decision WHERE verdict = $1 ORDER BY decided_at DESC LIMIT 1 OFFSET $2";

/// Of verdict `$1` those before `$2`, at most `$3`, oldest first.
pub(super) const PRUNE_DECISIONS: &str = "DELETE FROM decision WHERE decision_id IN (SELECT decision_id FROM decision \
     WHERE verdict = $1 AND decided_at < $2 ORDER BY decided_at LIMIT $3)";

impl Pruning {
    /// The moment before which all goes, given that of the newest row that is too much.
    pub(super) fn until(&self, too_many: Option<i64>) -> i64 {
        let after_too_many = too_many.map_or(i64::MIN, |at| at.saturating_add(1));
        self.before.micros().max(after_too_many)
    }
}

/// The word of a verdict, as its column has it.
pub(super) const fn verdict(is_denial: bool) -> &'static str {
    if is_denial { "deny" } else { "allow" }
}

/// A row of `decision`.
#[derive(sqlx::FromRow)]
pub(super) struct DecisionRow {
    decision_id: String,
    reservation_id: Option<String>,
    workspace_id: String,
    decided_at: i64,
    verdict: String,
    facts: Vec<u8>,
}

impl TryFrom<DecisionRow> for LoggedDecision {
    type Error = Unreadable;

    fn try_from(row: DecisionRow) -> Result<Self, Unreadable> {
        Ok(Self {
            decision: read_decision_id(&row.decision_id)?,
            reservation: row.reservation_id.as_deref().map(read_reservation).transpose()?,
            workspace: workspace_id(&row.workspace_id)?,
            decided_at: Timestamp::from_micros(row.decided_at),
            is_denial: row.verdict == verdict(true),
            facts: row.facts,
        })
    }
}

/// How many rows may stay, and the fewest that are deleted, as SQL takes them.
pub(super) fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
