//! The policy's past, and who is on which plan: what the life cycle of policies asks of a ledger.

use super::{LedgerError, PolicyChange};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// Which versions to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Only those that changed this object: its kind and id.
    pub object: Option<(String, String)>,
    /// Only those before this version.
    pub before: Option<i64>,
    pub limit: usize,
}

/// A version of the policy: who made it, why, and what of it was new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyVersion {
    pub version: i64,
    pub changed_at: Timestamp,
    pub actor: String,
    pub reason: String,
    /// Of the files that were applied, where files were.
    pub files_hash: Option<String>,
    pub objects: Vec<ChangedObject>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedObject {
    pub kind: String,
    pub id: String,
    /// The object's own version from then on.
    pub version: u32,
    pub is_deleted: bool,
}

/// What a ledger tells of policies that were.
#[async_trait]
pub trait PolicyHistory: Send + Sync {
    /// The versions that the query asks for, newest first.
    async fn policy_history(&self, query: &HistoryQuery) -> Result<Vec<PolicyVersion>, LedgerError>;

    /// How many workspaces are on each plan that any is on; `None`: have chosen none.
    async fn workspaces_by_plan(&self) -> Result<Vec<(Option<String>, u64)>, LedgerError>;
}

impl PolicyChange {
    /// The plans that it takes away. A ledger refuses them while a workspace is on one, as it refuses a change that was decided on an old
    /// version; and a workspace is not put on a plan that is gone.
    pub(super) fn plans_gone(&self) -> impl Iterator<Item = &str> {
        let gone = |(kind, _, body): &&(String, String, Option<serde_json::Value>)| kind == "plan" && body.is_none();
        self.objects.iter().filter(gone).map(|(_, id, _)| id.as_str())
    }
}
