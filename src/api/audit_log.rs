//! `GET /v1/admin/audit-log`: who changed what, why, and from what to what, newest first.
//!
//! Only for credentials that see all workspaces: the log names operators and their reasons, and tells of plans, models and keys, none of
//! which a credential of one workspace may reach.

use super::call::{Answer, Call, ok};
use super::page;
use crate::decision::id::{AuditId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::audit::{AuditQuery, Audited};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditLogQuery {
    /// The `sub` of the credential that changed it; `files` for policy files.
    actor: Option<String>,
    /// `plan.put`, `plan.delete`, `workspace.patch`, `entry.correct`, …
    action: Option<String>,
    /// `plan`, `model`, `routing`, `settings`, `workspace`, `entry`, `provider`, …
    subject_kind: Option<String>,
    subject_id: Option<String>,
    /// Only what belongs to this workspace.
    #[param(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// Inclusive.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Exclusive.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditOut<'a> {
    #[schema(value_type = String, example = "aud_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    audit_id: AuditId,
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
    /// The credential's `sub`; `files` where policy files were applied.
    #[schema(example = "usr_admin")]
    actor: &'a str,
    #[schema(example = "plan.put")]
    action: &'a str,
    #[schema(example = "plan")]
    subject_kind: &'a str,
    #[schema(example = "pro")]
    subject_id: &'a str,
    /// Null: it belongs to all workspaces.
    workspace_id: Option<&'a str>,
    /// Null: it was not there.
    #[schema(value_type = Option<Object>)]
    before: Option<&'a Value>,
    /// Null: it is gone.
    #[schema(value_type = Option<Object>)]
    after: Option<&'a Value>,
    /// As `X-Weir-Reason` or the body gave it; null: nobody gave one.
    #[schema(example = "ticket 4711: raise until Friday")]
    reason: Option<&'a str>,
    /// The request that asked for it.
    request_id: Option<&'a str>,
}

/// A page of the audit log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage<'a> {
    data: Vec<AuditOut<'a>>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Who changed what, newest first.
#[utoipa::path(get, path = "/v1/admin/audit-log", tag = "admin", params(AuditLogQuery), responses((status = 200, body = AuditPage)))]
pub async fn audit_log(call: Call) -> Answer {
    let query: AuditLogQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let wanted = AuditQuery {
        actor: query.actor,
        action: query.action,
        subject_kind: query.subject_kind,
        subject_id: query.subject_id,
        workspace: query.workspace_id,
        from: query.from,
        to: query.to,
        after: page::place(query.cursor.as_deref(), read_place)?,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut records = flow::audit::list(&call.service, &wanted).await?;
    let next_cursor = page::cut(&mut records, limit, |last| format!("{}|{}", last.changed_at.micros(), last.id));
    ok(&AuditPage {
        data: records.iter().map(out).collect(),
        next_cursor,
    })
}

fn read_place(text: &str) -> Option<(Timestamp, AuditId)> {
    let (micros, id) = text.split_once('|')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), AuditId::parse(id).ok()?))
}

fn out(record: &Audited) -> AuditOut<'_> {
    AuditOut {
        audit_id: record.id,
        changed_at: record.changed_at,
        actor: &record.by.actor,
        action: &record.action,
        subject_kind: &record.subject.kind,
        subject_id: &record.subject.id,
        workspace_id: record.subject.workspace.as_ref().map(WorkspaceId::as_str),
        before: record.before.as_ref(),
        after: record.after.as_ref(),
        reason: Some(record.by.reason.as_str()).filter(|reason| !reason.is_empty()),
        request_id: record.by.request_id.as_deref(),
    }
}
