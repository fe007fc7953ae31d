//! `fair_use_usage` and `fair_use_action`.

use super::{Unreadable, parse, read_json};
use crate::decision::amount::Amounts;
use crate::decision::anomaly::Action;
use crate::decision::counter::Whose;
use crate::decision::id::{PlanId, UserId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::fair_use::Used;

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct UsedRow {
    pub(in crate::ledger) workspace_id: String,
    pub(in crate::ledger) user_id: String,
    pub(in crate::ledger) width_seconds: i64,
    pub(in crate::ledger) starts_at: i64,
    pub(in crate::ledger) plan_id: String,
    pub(in crate::ledger) tokens: i64,
    pub(in crate::ledger) usd: i64,
    pub(in crate::ledger) requests: i64,
}

impl UsedRow {
    pub(in crate::ledger) fn key(&self) -> (&str, &str, i64, i64) {
        (&self.workspace_id, &self.user_id, self.width_seconds, self.starts_at)
    }
}

impl From<&Used> for UsedRow {
    fn from(used: &Used) -> Self {
        Self {
            workspace_id: used.workspace.to_string(),
            user_id: used.whose.column().to_owned(),
            width_seconds: used.width_seconds,
            starts_at: used.starts_at.micros(),
            plan_id: used.plan.to_string(),
            tokens: used.amounts.tokens,
            usd: used.amounts.usd,
            requests: used.amounts.requests,
        }
    }
}

impl TryFrom<UsedRow> for Used {
    type Error = Unreadable;

    fn try_from(row: UsedRow) -> Result<Self, Unreadable> {
        Ok(Self {
            workspace: parse("workspace_id", &row.workspace_id, WorkspaceId::parse)?,
            whose: match row.user_id.as_str() {
                "*" => Whose::Workspace,
                "" => Whose::User(None),
                user => Whose::User(Some(parse("user_id", user, UserId::parse)?)),
            },
            width_seconds: row.width_seconds,
            starts_at: Timestamp::from_micros(row.starts_at),
            plan: parse("plan_id", &row.plan_id, PlanId::parse)?,
            amounts: Amounts {
                tokens: row.tokens,
                usd: row.usd,
                requests: row.requests,
                credits: 0,
            },
        })
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ActionRow {
    ended_at: Option<i64>,
    body: String,
}

impl TryFrom<ActionRow> for Action {
    type Error = Unreadable;

    fn try_from(row: ActionRow) -> Result<Self, Unreadable> {
        let action: Action = read_json("body", &row.body)?;
        Ok(Action {
            ended_at: row.ended_at.map(Timestamp::from_micros),
            ..action
        })
    }
}

/// `*` is every feature, which is no name that a caller may choose.
pub(in crate::ledger) fn action_feature(action: &Action) -> String {
    action.feature.as_ref().map_or("*", |feature| feature.as_str()).to_owned()
}
