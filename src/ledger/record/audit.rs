//! `audit_log`: who changed what.

use super::{Unreadable, parse, parse_some, read_json};
use crate::decision::id::{AuditId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::{Audited, By, Subject};
use serde_json::Value;

record! {
    /// The record of one change.
    struct AuditRecord of "audit_log" {
        audit_id: String,
        changed_at: i64,
        actor: String,
        action: String,
        subject_kind: String,
        subject_id: String,
        workspace_id: Option<String>,
        before: Option<String>,
        after: Option<String>,
        reason: String,
        request_id: Option<String>,
    }
}

impl From<&Audited> for AuditRecord {
    fn from(audited: &Audited) -> Self {
        Self {
            audit_id: audited.id.to_string(),
            changed_at: audited.changed_at.micros(),
            actor: audited.by.actor.clone(),
            action: audited.action.clone(),
            subject_kind: audited.subject.kind.clone(),
            subject_id: audited.subject.id.clone(),
            workspace_id: audited.subject.workspace.as_ref().map(WorkspaceId::to_string),
            before: audited.before.as_ref().map(Value::to_string),
            after: audited.after.as_ref().map(Value::to_string),
            reason: audited.by.reason.clone(),
            request_id: audited.by.request_id.clone(),
        }
    }
}

impl TryFrom<AuditRecord> for Audited {
    type Error = Unreadable;

    fn try_from(row: AuditRecord) -> Result<Self, Unreadable> {
        let document = |column, text: Option<String>| text.map(|text| read_json(column, &text)).transpose();
        Ok(Self {
            id: parse("audit_id", &row.audit_id, AuditId::parse)?,
            changed_at: Timestamp::from_micros(row.changed_at),
            by: By {
                actor: row.actor,
                reason: row.reason,
                request_id: row.request_id,
            },
            action: row.action,
            subject: Subject {
                kind: row.subject_kind,
                id: row.subject_id,
                workspace: parse_some("workspace_id", row.workspace_id.as_deref(), WorkspaceId::parse)?,
            },
            before: document("before", row.before)?,
            after: document("after", row.after)?,
        })
    }
}
