//! Workspaces as a list.

use super::LedgerError;
use super::record::{Record, WorkspaceRecord};
use crate::decision::id::{PlanId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::workspace::{Status, Workspace};
use async_trait::async_trait;

/// Which workspaces to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceQuery {
    /// Chosen by name: workspaces on the default plan have chosen none.
    pub plan: Option<PlanId>,
    pub status: Option<Status>,
    /// Created at or after.
    pub from: Option<Timestamp>,
    /// Created before.
    pub to: Option<Timestamp>,
    /// After this one, in the order of the list.
    pub after: Option<(Timestamp, WorkspaceId)>,
    pub limit: usize,
}

impl WorkspaceQuery {
    /// Columns that must have a value, in the order in which their values are bound, from `$5` on.
    pub(super) fn filters(&self) -> Vec<(&'static str, &str)> {
        let status = self.status.map(|status| match status {
            Status::Active => "active",
            Status::Suspended => "suspended",
        });
        let filters = [("plan_id", self.plan.as_ref().map(PlanId::as_str)), ("status", status)];
        let named = filters.into_iter().filter_map(|(column, value)| Some((column, value?)));
        named.collect()
    }
}

/// The part of a ledger that lists workspaces.
#[async_trait]
pub trait DirectoryLedger: Send + Sync {
    async fn workspaces(&self, query: &WorkspaceQuery) -> Result<Vec<Workspace>, LedgerError>;
}

/// Newest first: `$1` from, (`$2`, `$3`) before this place in the list, `$4` limit, then the filters.
pub(super) fn workspaces(query: &WorkspaceQuery) -> String {
    let filters = query.filters();
    let named = filters.iter().zip(5..);
    let conditions: String = named.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    format!(
        "SELECT {} FROM workspace WHERE created_at >= $1 AND (created_at, workspace_id) < ($2, $3) {conditions}\
         ORDER BY created_at DESC, workspace_id DESC LIMIT $4",
        WorkspaceRecord::COLUMNS.join(", "),
    )
}
