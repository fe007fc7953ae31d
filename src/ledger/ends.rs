//! Whether ends and entries belong together: each end that should have an entry has the one that it names, and each entry of a reservation
//! has an end. And what has no end yet, but has used something already.

use super::LedgerError;
use crate::counters::SumRow;
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, ReservationId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// A ledger whose ends can be held against its entries.
#[async_trait]
pub trait EndsLedger: Send + Sync {
    /// Compares the next `limit` ends with their entries and, once there are no more, entries with their ends. A page is of one moment.
    async fn ends_page(&self, after: &EndsPlace, limit: usize) -> Result<EndsPage, LedgerError>;

    /// Looks at the next `limit` open checkpoints after that of a reservation, and tells those that were recorded at `from` or later.
    async fn checkpoints_page(&self, from: Timestamp, after: Option<ReservationId>, limit: usize) -> Result<CheckpointsPage, LedgerError>;
}

/// A page of open checkpoints.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CheckpointsPage {
    /// What each would be recorded as.
    pub checkpoints: Vec<(ReservationId, Entry)>,
    /// The sums that they fell into, read after them.
    pub rows: Vec<(WorkspaceId, SumRow)>,
    /// Where the next page goes on; `None`: this was the last one.
    pub last: Option<ReservationId>,
}

/// How far the comparison is. It follows keys of rows as they are written, so that one that cannot be read stops nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndsPlace {
    /// After the end of this reservation; empty: at the beginning.
    Ends { reservation: String },
    /// After this entry, in the order of recording.
    Entries { recorded_at: Timestamp, entry: String },
}

impl EndsPlace {
    pub fn beginning() -> Self {
        Self::Ends {
            reservation: String::new(),
        }
    }
}

/// A page of ends or of entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndsPage {
    /// How many ends were compared; entries are not counted a second time.
    pub ends: u64,
    pub differences: Vec<EndDifference>,
    /// Where the next page goes on; `None`: this was the last one.
    pub next: Option<EndsPlace>,
}

/// An end and an entry that do not belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndDifference {
    pub workspace: WorkspaceId,
    /// The reservation, or what its request id would be for use that was never authorized.
    pub reservation: String,
    pub what: EndFault,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EndFault {
    #[error("it is settled, and has no entry")]
    NoEntry,
    #[error("entry {0}, which its end names, is not there")]
    EntryMissing(EntryId),
    #[error("entry {0}, which its end names, is of another reservation")]
    EntryOfAnother(EntryId),
    #[error("entry {0} is of it, and it has no end")]
    NoEnd(EntryId),
}

/// The next ends after reservation `$1`, each beside the entry that it names; `$2` limit. `$month` joins the months of both, where an entry is
/// looked up in its month.
macro_rules! ends_beside_entries {
    ($month:literal) => {
        concat!(
            "SELECT standing.reservation_id, standing.workspace_id, standing.request_id, standing.\"end\", standing.entry_id, ",
            "entry.workspace_id AS entry_workspace_id, entry.request_id AS entry_request_id, ",
            "entry.reservation_id AS entry_reservation_id, entry.corrects AS entry_corrects ",
            "FROM (SELECT * FROM reservation_end WHERE reservation_id > $1 ORDER BY reservation_id LIMIT $2) AS standing ",
            "LEFT JOIN entry ON entry.entry_id = standing.entry_id ",
            $month,
            "ORDER BY standing.reservation_id",
        )
    };
}

/// The next entries after the place (`$1`, `$2`) in the order of recording, each beside the end of its reservation; `$3` limit.
pub(super) const ENTRIES_BESIDE_ENDS: &str = "SELECT entry.recorded_at, entry.entry_id, entry.workspace_id, entry.reservation_id, \
     standing.workspace_id AS end_workspace_id, standing.\"end\" \
     FROM (SELECT recorded_at, entry_id, workspace_id, reservation_id FROM entry WHERE (recorded_at, entry_id) > ($1, $2) \
     ORDER BY recorded_at, entry_id LIMIT $3) AS entry \
     LEFT JOIN reservation_end AS standing ON standing.reservation_id = entry.reservation_id ORDER BY entry.recorded_at, entry.entry_id";

/// Open checkpoints after that of reservation `$1`; `$2` limit.
pub(super) const CHECKPOINTS: &str =
    "SELECT reservation_id, entry FROM checkpoint WHERE reservation_id > $1 ORDER BY reservation_id LIMIT $2";

pub(super) use ends_beside_entries;
