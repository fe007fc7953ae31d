//! The audit log: who changed what, why, at whose request, and from what to what. One record for each thing that changed.
//!
//! A method of the ledger that changes what is described takes its [`Audited`] and writes it in the same transaction: there is no change
//! without its record, and no record of what did not happen. Records are append-only; the database itself refuses to change them.
//! `before` and `after` are documents as the API shows them. What is secret there (a key, a token, a signing secret) never gets in.

use super::LedgerError;
use super::record::AuditRecord;
use super::sql::columns;
use crate::decision::id::{AuditId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use serde_json::Value;

/// Who changes something, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct By {
    /// The credential's `sub`; `files` where policy files were applied.
    pub actor: String,
    /// Empty: nobody gave one.
    pub reason: String,
    /// The request that asked for it; `None`: it came on another way than the API.
    pub request_id: Option<String>,
}

/// The record of one change.
#[derive(Clone, PartialEq, Debug)]
pub struct Audited {
    pub id: AuditId,
    pub changed_at: Timestamp,
    pub by: By,
    /// What was done, as `kind.verb`: `plan.put`, `workspace.patch`.
    pub action: String,
    pub subject: Subject,
    /// `None`: it was not there before.
    pub before: Option<Value>,
    /// `None`: it is gone.
    pub after: Option<Value>,
}

/// What a change was made to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// `plan`, `model`, `routing`, `settings`, `workspace`, …
    pub kind: String,
    pub id: String,
    /// Whose it is; `None`: it belongs to all workspaces.
    pub workspace: Option<WorkspaceId>,
}

impl Subject {
    /// Something that belongs to all workspaces.
    pub fn shared(kind: &str, id: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            id: id.into(),
            workspace: None,
        }
    }

    /// Something of one workspace.
    pub fn of(workspace: &WorkspaceId, kind: &str, id: impl Into<String>) -> Self {
        Self {
            workspace: Some(workspace.clone()),
            ..Self::shared(kind, id)
        }
    }
}

/// Which records to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub subject_kind: Option<String>,
    pub subject_id: Option<String>,
    pub workspace: Option<WorkspaceId>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// After this record, in the order of the list.
    pub after: Option<(Timestamp, AuditId)>,
    pub limit: usize,
}

impl AuditQuery {
    /// Columns that must have a value, in the order in which their values are bound, from `$5` on.
    pub(super) fn filters(&self) -> Vec<(&'static str, &str)> {
        let filters = [
            ("actor", self.actor.as_deref()),
            ("action", self.action.as_deref()),
            ("subject_kind", self.subject_kind.as_deref()),
            ("subject_id", self.subject_id.as_deref()),
            ("workspace_id", self.workspace.as_ref().map(WorkspaceId::as_str)),
        ];
        let named = filters.into_iter().filter_map(|(column, value)| Some((column, value?)));
        named.collect()
    }
}

/// The part of a ledger that tells who changed what.
#[async_trait]
pub trait AuditLedger: Send + Sync {
    async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<Audited>, LedgerError>;
}

/// Records newest first: `$1` from, (`$2`, `$3`) before this place in the list, `$4` limit, then the filters.
pub(super) fn list(query: &AuditQuery) -> String {
    let filters = query.filters();
    let named = filters.iter().zip(5..);
    let conditions: String = named.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    format!(
        "SELECT {} FROM audit_log WHERE changed_at >= $1 AND (changed_at, audit_id) < ($2, $3) {conditions}\
         ORDER BY changed_at DESC, audit_id DESC LIMIT $4",
        columns::<AuditRecord>(),
    )
}
