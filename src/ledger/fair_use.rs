//! Fair use in a ledger: what was used lately and what is usual, and the actions of rules, which all nodes follow.
//!
//! Usage here is a measure beside the entries, added up by nodes every few seconds; nothing is billed or limited by it. Of each rule and
//! whom it is about there is one action at a time: a second one is not begun while the first has not come to its end, whoever tries.

use super::LedgerError;
use super::audit::Audited;
use crate::decision::amount::Amounts;
use crate::decision::anomaly::Action;
use crate::decision::counter::Whose;
use crate::decision::event::Event;
use crate::decision::id::{FairUseId, PlanId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// Minutes, for windows.
pub const MINUTE: i64 = 60;
/// Hours, for what is usual.
pub const HOUR: i64 = 3_600;

/// What somebody used within one minute or hour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Used {
    pub workspace: WorkspaceId,
    pub whose: Whose,
    /// [`MINUTE`] or [`HOUR`].
    pub width_seconds: i64,
    pub starts_at: Timestamp,
    pub plan: PlanId,
    pub amounts: Amounts,
}

/// Which actions to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct ActionQuery {
    pub workspace: Option<WorkspaceId>,
    /// Only those whose time is not over at this moment, be they ended or not.
    pub active_at: Option<Timestamp>,
    /// After this action, in the order of the list.
    pub after: Option<(Timestamp, FairUseId)>,
    pub limit: usize,
}

/// The part of a ledger that fair use needs.
#[async_trait]
pub trait FairUseLedger: Send + Sync {
    /// Adds to what is known to be used.
    async fn add_usage(&self, used: Vec<Used>) -> Result<(), LedgerError>;

    /// Who used at least one of `least` in the minutes from `from` on, those together; of users or of workspaces. At most `limit`, by name,
    /// of those who come after `after`.
    async fn usage_since(
        &self,
        of_users: bool,
        from: Timestamp,
        least: Amounts,
        after: Option<&(WorkspaceId, Whose)>,
        limit: usize,
    ) -> Result<Vec<Used>, LedgerError>;

    /// What one subject used by minute or by hour from `from` on, in order of time.
    async fn usage_of(&self, workspace: &WorkspaceId, whose: &Whose, width_seconds: i64, from: Timestamp)
    -> Result<Vec<Used>, LedgerError>;

    /// What workspaces, or users, of a plan used in one hour; at most `limit` of them.
    async fn usage_of_plan(&self, plan: &PlanId, of_users: bool, hour: Timestamp, limit: usize) -> Result<Vec<Amounts>, LedgerError>;

    /// Deletes at most `limit` minutes before the one moment and hours before the other, and actions that ended before the latter.
    async fn prune_usage(&self, minutes_before: Timestamp, hours_before: Timestamp, limit: usize) -> Result<usize, LedgerError>;

    /// Begins an action, with its record and its event; false: one of its rule on the same subject has not come to its end, and nothing was
    /// written.
    async fn begin_action(&self, action: &Action, audited: Audited, event: Event) -> Result<bool, LedgerError>;

    /// Ends an action before its time; false: it has ended, or never was.
    async fn end_action(&self, id: FairUseId, now: Timestamp, audited: Audited) -> Result<bool, LedgerError>;

    async fn action(&self, id: FairUseId) -> Result<Option<Action>, LedgerError>;

    async fn actions(&self, query: &ActionQuery) -> Result<Vec<Action>, LedgerError>;

    /// When the last action of a rule on this subject ends or ended by itself; `None`: there was none lately.
    async fn last_end(&self, action: &Action) -> Result<Option<Timestamp>, LedgerError>;
}

// Text of statements.

macro_rules! used {
    () => {
        "SELECT workspace_id, user_id, width_seconds, starts_at, plan_id, tokens, usd, requests FROM fair_use_usage "
    };
}

pub(super) const ADD_USAGE: &str = " ON CONFLICT (workspace_id, user_id, width_seconds, starts_at) DO UPDATE SET \
     plan_id = excluded.plan_id, tokens = fair_use_usage.tokens + excluded.tokens, usd = fair_use_usage.usd + excluded.usd, \
     requests = fair_use_usage.requests + excluded.requests";

/// `$1` from, `$2` whether of users, `$3` to `$5` the least of each unit, `$6` and `$7` after which workspace and user column, `$8` limit.
pub(super) const USAGE_SINCE: &str = "SELECT workspace_id, user_id, CAST(60 AS BIGINT) AS width_seconds, MIN(starts_at) AS starts_at, \
     MAX(plan_id) AS plan_id, CAST(SUM(tokens) AS BIGINT) AS tokens, CAST(SUM(usd) AS BIGINT) AS usd, \
     CAST(SUM(requests) AS BIGINT) AS requests FROM fair_use_usage WHERE width_seconds = 60 AND starts_at >= $1 \
     AND (user_id <> '*') = ($2 <> 0) AND (workspace_id, user_id) > ($6, $7) GROUP BY workspace_id, user_id \
     HAVING SUM(tokens) >= $3 OR SUM(usd) >= $4 OR SUM(requests) >= $5 ORDER BY workspace_id, user_id LIMIT $8";

/// `$1` workspace, `$2` user column, `$3` width, `$4` from.
pub(super) const USAGE_OF: &str = concat!(
    used!(),
    "WHERE workspace_id = $1 AND user_id = $2 AND width_seconds = $3 AND starts_at >= $4 ORDER BY starts_at"
);

/// `$1` plan, `$2` whether of users, `$3` the hour, `$4` limit.
pub(super) const USAGE_OF_PLAN: &str = concat!(
    used!(),
    "WHERE width_seconds = 3600 AND starts_at = $3 AND plan_id = $1 AND (user_id <> '*') = ($2 <> 0) LIMIT $4"
);

/// `$1` width, `$2` before, `$3` limit.
pub(super) const PRUNE_USAGE: &str = "DELETE FROM fair_use_usage WHERE (workspace_id, user_id, width_seconds, starts_at) IN \
     (SELECT workspace_id, user_id, width_seconds, starts_at FROM fair_use_usage WHERE width_seconds = $1 AND starts_at < $2 \
     ORDER BY starts_at LIMIT $3)";

pub(super) const PRUNE_ACTIONS: &str = "DELETE FROM fair_use_action WHERE action_id IN \
     (SELECT action_id FROM fair_use_action WHERE ends_at < $1 ORDER BY ends_at LIMIT $2)";

/// In the place of one that has come to its end.
pub(super) const BEGIN_ACTION: &str = "INSERT INTO fair_use_action (workspace_id, user_id, feature, rule, action_id, started_at, ends_at, \
     ended_at, body) VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, $8) ON CONFLICT (workspace_id, user_id, feature, rule) DO UPDATE SET \
     action_id = excluded.action_id, started_at = excluded.started_at, ends_at = excluded.ends_at, ended_at = NULL, body = excluded.body \
     WHERE fair_use_action.ends_at <= excluded.started_at";

/// `$1` id, `$2` now.
pub(super) const END_ACTION: &str = "UPDATE fair_use_action SET ended_at = $2 WHERE action_id = $1 AND ended_at IS NULL AND ends_at > $2";

macro_rules! action {
    () => {
        "SELECT ended_at, body FROM fair_use_action "
    };
}

pub(super) const ACTION: &str = concat!(action!(), "WHERE action_id = $1");

pub(super) const LAST_END: &str =
    "SELECT ends_at FROM fair_use_action WHERE workspace_id = $1 AND user_id = $2 AND feature = $3 AND rule = $4";

/// (`$1`, `$2`) before this place in the list, `$3` limit, then the moment and the workspace as far as they are named.
pub(super) fn list(query: &ActionQuery) -> String {
    let (active, workspace) = match (&query.active_at, &query.workspace) {
        (Some(_), Some(_)) => ("AND ends_at > $4 ", "AND workspace_id = $5 "),
        (Some(_), None) => ("AND ends_at > $4 ", ""),
        (None, Some(_)) => ("", "AND workspace_id = $4 "),
        (None, None) => ("", ""),
    };
    format!(
        "{}WHERE (started_at, action_id) < ($1, $2) {active}{workspace}ORDER BY started_at DESC, action_id DESC LIMIT $3",
        action!(),
    )
}
