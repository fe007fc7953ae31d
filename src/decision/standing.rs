//! How a reservation stands in the ledger, and what may follow: one end each, decided by the ledger.

use super::entry::{Checkpoint, Entry};
use super::id::{RequestId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// How a reservation ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Settled,
    Released,
    Expired,
}

impl End {
    pub const fn as_str(self) -> &'static str {
        match self {
            End::Settled => "settled",
            End::Released => "released",
            End::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<End> {
        [End::Settled, End::Released, End::Expired]
            .into_iter()
            .find(|end| end.as_str() == text)
    }
}

/// What the ledger knows of one reservation or request id.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    pub workspace: WorkspaceId,
    pub request_id: RequestId,
    /// Rises with each write; a write names the revision that it was decided on, and is refused if it is not the current one.
    pub revision: i64,
    pub end: Option<End>,
    /// The entry that the last write recorded, if any: the one to answer the same report with.
    pub entry: Option<Entry>,
    /// Of the report that was recorded, so that the same one again is answered alike.
    pub fingerprint: Option<u128>,
    pub checkpoint: Option<Checkpoint>,
}
