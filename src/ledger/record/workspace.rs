//! `workspace` and `policy_object`: what is described, and not counted.

use super::{Unreadable, json, narrow, parse, parse_some, read_json, read_word, word};
use crate::decision::id::{PlanId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::decision::workspace::{Status, Suspender, Workspace};
use crate::ledger::PolicyObject;

record! {
    /// A row of `workspace`, without the version of its sums.
    struct WorkspaceRecord of "workspace" {
        workspace_id: String,
        plan_id: Option<String>,
        seats: String,
        status: String,
        calendar: String,
        stripe_customer_id: Option<String>,
        revenue_usd: Option<i64>,
        overrides: String,
        granted: String,
        top_ups: String,
        tags: String,
        version: i64,
        created_at: i64,
        updated_at: i64,
        suspended_by: Option<String>,
    }
}

/// A workspace with the number of its last change.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ChangedWorkspaceRow {
    #[sqlx(flatten)]
    pub(in crate::ledger) workspace: WorkspaceRecord,
    pub(in crate::ledger) change_number: i64,
}

record! {
    /// A workspace and the version of its newest sum.
    struct SumVersionRecord of "workspace" {
        workspace_id: String,
        sum_version: i64,
    }
}

impl From<&Workspace> for WorkspaceRecord {
    fn from(workspace: &Workspace) -> Self {
        Self {
            workspace_id: workspace.id.to_string(),
            plan_id: workspace.plan_id.as_ref().map(PlanId::to_string),
            seats: json(&workspace.seats),
            status: word(&workspace.status),
            calendar: json(&workspace.calendar),
            stripe_customer_id: workspace.stripe_customer_id.clone(),
            revenue_usd: workspace.revenue_usd.map(Usd::nanos),
            overrides: json(&workspace.overrides),
            granted: json(&workspace.granted),
            top_ups: json(&workspace.top_ups),
            tags: json(&workspace.tags),
            version: i64::from(workspace.version),
            created_at: workspace.created_at.micros(),
            updated_at: workspace.updated_at.micros(),
            suspended_by: workspace.suspended_by.as_ref().map(word),
        }
    }
}

impl TryFrom<WorkspaceRecord> for Workspace {
    type Error = Unreadable;

    fn try_from(row: WorkspaceRecord) -> Result<Self, Unreadable> {
        let status = read_word("status", &row.status)?;
        // Nodes of an earlier version write none, or leave one where they let a workspace go on: what they suspend is an operator's.
        let suspended_by = match (status, row.suspended_by.as_deref()) {
            (Status::Active, _) => None,
            (Status::Suspended, None) => Some(Suspender::Operator),
            (Status::Suspended, Some(by)) => Some(read_word("suspended_by", by)?),
        };
        Ok(Self {
            id: parse("workspace_id", &row.workspace_id, WorkspaceId::parse)?,
            plan_id: parse_some("plan_id", row.plan_id.as_deref(), PlanId::parse)?,
            seats: read_json("seats", &row.seats)?,
            status,
            suspended_by,
            calendar: read_json("calendar", &row.calendar)?,
            stripe_customer_id: row.stripe_customer_id,
            revenue_usd: row.revenue_usd.map(Usd::from_nanos),
            overrides: read_json("overrides", &row.overrides)?,
            granted: read_json("granted", &row.granted)?,
            top_ups: read_json("top_ups", &row.top_ups)?,
            tags: read_json("tags", &row.tags)?,
            version: narrow("version", row.version)?,
            created_at: Timestamp::from_micros(row.created_at),
            updated_at: Timestamp::from_micros(row.updated_at),
        })
    }
}

impl SumVersionRecord {
    pub(in crate::ledger) fn new(workspace: &WorkspaceId, sum_version: i64) -> Self {
        Self {
            workspace_id: workspace.to_string(),
            sum_version,
        }
    }
}

record! {
    /// An object of one policy version, as it is written.
    struct PolicyObjectRecord of "policy_object" {
        kind: String,
        id: String,
        version: i64,
        policy_version: i64,
        body: Option<String>,
    }
}

/// A row of `policy_object`, the newest of its kind and id.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct PolicyObjectRow {
    kind: String,
    id: String,
    version: i64,
    body: Option<String>,
}

impl TryFrom<PolicyObjectRow> for PolicyObject {
    type Error = Unreadable;

    fn try_from(row: PolicyObjectRow) -> Result<Self, Unreadable> {
        Ok(Self {
            version: narrow("version", row.version)?,
            body: row.body.as_deref().map(|body| read_json("body", body)).transpose()?,
            kind: row.kind,
            id: row.id,
        })
    }
}
