//! The SQL of grants, in the subset that SQLite and Postgres share.

use super::record::{GrantRecord, Record};
use super::sql::columns;

/// The grants of workspace `$1` that had not ended at `$2`.
pub(super) fn alive() -> String {
    format!(
        "SELECT {} FROM budget_grant WHERE workspace_id = $1 AND ends_at > $2",
        columns::<GrantRecord>()
    )
}

/// The same, of budget `$3` alone.
pub(super) fn alive_of_budget() -> String {
    format!("{} AND budget_id = $3", alive())
}

/// What the grants of workspace `$1` paid that had not ended at `$2`.
pub(super) const PAID: &str = "SELECT paid.grant_id, paid.segment, paid.paid FROM budget_grant AS given JOIN grant_paid AS paid \
     ON paid.grant_id = given.grant_id WHERE given.workspace_id = $1 AND given.ends_at > $2";

/// The same, of budget `$3` alone.
pub(super) const PAID_OF_BUDGET: &str = "SELECT paid.grant_id, paid.segment, paid.paid FROM budget_grant AS given JOIN grant_paid AS paid \
     ON paid.grant_id = given.grant_id WHERE given.workspace_id = $1 AND given.ends_at > $2 AND given.budget_id = $3";

/// Grant `$2` of workspace `$1`.
pub(super) fn grant() -> String {
    format!(
        "SELECT {} FROM budget_grant WHERE workspace_id = $1 AND grant_id = $2",
        columns::<GrantRecord>()
    )
}

/// The one of key `$2`.
pub(super) fn of_key() -> String {
    format!(
        "SELECT {} FROM budget_grant WHERE workspace_id = $1 AND grant_key = $2",
        columns::<GrantRecord>()
    )
}

/// Newest first, before the place (`$2`, `$3`); `$4` limit.
pub(super) fn page() -> String {
    format!(
        "SELECT {} FROM budget_grant WHERE workspace_id = $1 AND (created_at, grant_id) < ($2, $3) \
         ORDER BY created_at DESC, grant_id DESC LIMIT $4",
        columns::<GrantRecord>()
    )
}

pub(super) fn give() -> String {
    let places: Vec<String> = (1..=GrantRecord::COLUMNS.len()).map(|place| format!("${place}")).collect();
    format!(
        "INSERT INTO budget_grant ({}) VALUES ({})",
        columns::<GrantRecord>(),
        places.join(", ")
    )
}

pub(super) const VOID: &str = "UPDATE budget_grant SET voided_at = $2, ends_at = $2 WHERE grant_id = $1 AND ends_at > $2";

/// How many top-ups budget `$2` got from `$3` to before `$4`.
pub(super) const TOP_UPS: &str = "SELECT COUNT(*) FROM budget_grant WHERE workspace_id = $1 AND budget_id = $2 AND source = 'top_up' \
     AND created_at >= $3 AND created_at < $4";

pub(super) const ALIVE_COUNT: &str = "SELECT COUNT(*) FROM budget_grant WHERE workspace_id = $1 AND budget_id = $2 AND ends_at > $3";

/// Takes the workspace's lock, and the next version of its sums.
pub(super) const NEXT_VERSION: &str = "UPDATE workspace SET sum_version = sum_version + 1 WHERE workspace_id = $1 RETURNING sum_version";

pub(super) const VERSION: &str = "SELECT sum_version FROM workspace WHERE workspace_id = $1";

pub(super) const ADD_PAYMENT: &str = "INSERT INTO grant_payment (workspace_id, grant_id, segment, amount, reservation_id, user_id, feature, \
     unit, period_kind, period_start, period_end, occurred_at, recorded_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

pub(super) const ADD_PAID: &str = "INSERT INTO grant_paid (grant_id, segment, workspace_id, paid) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (grant_id, segment) DO UPDATE SET paid = grant_paid.paid + excluded.paid";

/// Adds `$8` to what grants paid of a counter, at version `$9`.
pub(super) const ADD_TO_SUM: &str = "UPDATE counter_sum SET paid = paid + $8, version = $9 WHERE workspace_id = $1 AND user_id = $2 \
     AND feature = $3 AND period_end = $4 AND period_kind = $5 AND period_start = $6 AND unit = $7 RETURNING spent, paid";

pub(super) const WITH_PAYMENTS: &str =
    "SELECT DISTINCT workspace_id FROM grant_paid WHERE workspace_id > $1 ORDER BY workspace_id LIMIT $2";

/// Sums of payments of workspace `$1` that are not what they should be.
pub(super) const DIFFERENCES: &str = "SELECT sums.workspace_id, sums.grant_id, sums.segment, CAST(SUM(sums.paid) AS BIGINT) AS paid, \
     CAST(SUM(sums.payment) AS BIGINT) AS payments FROM (SELECT workspace_id, grant_id, segment, paid, 0 AS payment FROM grant_paid \
     WHERE workspace_id = $1 UNION ALL SELECT workspace_id, grant_id, segment, 0 AS paid, amount AS payment FROM grant_payment \
     WHERE workspace_id = $1) AS sums GROUP BY sums.workspace_id, sums.grant_id, sums.segment HAVING SUM(sums.paid) <> SUM(sums.payment)";

pub(super) const GRANTED: &str = "SELECT granted FROM workspace WHERE workspace_id = $1";

pub(super) const SET_GRANTED: &str = "UPDATE workspace SET granted = $2, version = version + 1 WHERE workspace_id = $1";
