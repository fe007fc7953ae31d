//! The ledger's SQL that SQLite and Postgres share, in one place and in their common subset: `$1`, `ON CONFLICT`, `RETURNING`, row values,
//! 64-bit integers. What only one of them can say, or says faster, stands in that store's own `sql.rs`.

use super::record::{EntryRecord, Record};
use crate::ledger::EntryQuery;

/// How a reservation stands, with its open checkpoint beside it. `$more` are columns that one store has besides.
macro_rules! standing {
    ($more:literal) => {
        concat!(
            "SELECT standing.reservation_id, standing.workspace_id, standing.request_id, standing.revision, standing.\"end\", ",
            "standing.entry_id, standing.fingerprint, ",
            $more,
            "checkpoint.entry AS checkpoint, checkpoint.expires_at AS checkpoint_expires_at "
        )
    };
}

/// Of the reservations of `$condition`.
macro_rules! standings_where {
    ($more:literal, $condition:literal) => {
        concat!(
            standing!($more),
            "FROM reservation_end AS standing LEFT JOIN checkpoint ON checkpoint.reservation_id = standing.reservation_id ",
            "WHERE standing.reservation_id ",
            $condition,
        )
    };
}

/// Of the checkpoints that are due: `$1` now, `$2` limit.
macro_rules! checkpoints_due {
    ($more:literal) => {
        concat!(
            standing!($more),
            "FROM checkpoint JOIN reservation_end AS standing ON standing.reservation_id = checkpoint.reservation_id ",
            "WHERE checkpoint.expires_at <= $1 ORDER BY checkpoint.expires_at, checkpoint.reservation_id LIMIT $2",
        )
    };
}

macro_rules! sum_key {
    () => {
        "counter.workspace_id, counter.user_id, counter.feature, counter.unit, counter.period_kind, counter.period_start, \
         counter.period_end"
    };
}

/// What `counter` adds up of one table, in its own unit.
macro_rules! sum_of {
    ($table:literal, $user:literal) => {
        concat!(
            "(SELECT CAST(SUM(CASE counter.unit WHEN 'tokens' THEN counted_tokens WHEN 'usd' THEN counted_usd ",
            "WHEN 'requests' THEN counted_requests ELSE counted_credits END) AS BIGINT) FROM ",
            $table,
            " AS part WHERE part.workspace_id = counter.workspace_id AND ",
            $user,
            " AND counter.feature IN ('*', part.feature) ",
            "AND part.occurred_at >= counter.period_start AND part.occurred_at < counter.period_end)",
        )
    };
}

/// The definition of a counter's spent: the sum of `counted` over the entries and open checkpoints of its dimensions and period. A user's
/// counter has an expression of its own, so that it is summed up by the index on users.
macro_rules! spent {
    () => {
        concat!(
            "COALESCE(CASE counter.user_id WHEN '*' THEN ",
            sum_of!("entry", "true"),
            " ELSE ",
            sum_of!("entry", "part.user_id = counter.user_id"),
            " END, 0) + COALESCE(",
            sum_of!("checkpoint", "counter.user_id IN ('*', part.user_id)"),
            ", 0)",
        )
    };
}

// Reading.

/// Entries of a list, newest first. `$1` workspace, `$2` from, (`$3`, `$4`) before this place in the list, `$5` limit, then user, feature and
/// model, as far as the query names them: conditions that are always there would keep Postgres from its indexes.
pub(super) fn entries(query: &EntryQuery) -> String {
    let filters = [
        ("user_id", query.user.is_some()),
        ("feature", query.feature.is_some()),
        ("model", query.model.is_some()),
    ];
    let named = filters.iter().filter(|(_, is_named)| *is_named).zip(6..);
    let conditions: String = named.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    format!(
        "SELECT {} FROM entry WHERE workspace_id = $1 AND occurred_at >= $2 AND (occurred_at, entry_id) < ($3, $4) {conditions}\
         ORDER BY occurred_at DESC, entry_id DESC LIMIT $5",
        columns::<EntryRecord>(),
    )
}

/// Dimensions of what was recorded after the place (`$1`, `$2`), in the order of recording; `$3` limit.
pub(super) const RECORDED: &str = "SELECT recorded_at, entry_id, workspace_id, user_id, feature, occurred_at AS at FROM entry \
     WHERE (recorded_at, entry_id) > ($1, $2) ORDER BY recorded_at, entry_id LIMIT $3";

/// `$1` workspace, `$2` user column, `$3` now.
pub(super) const SUMS: &str = concat!(
    "SELECT ",
    sum_key!(),
    ", spent, version, paid FROM counter_sum AS counter WHERE workspace_id = $1 AND user_id = $2 AND period_end > $3",
);

/// The next sums after the place (`$1` to `$7`) in the order of their key, each beside what its entries add up to; `$8` limit.
pub(super) const SUMS_BESIDE_ENTRIES: &str = concat!(
    "SELECT ",
    sum_key!(),
    ", spent, version, paid, ",
    spent!(),
    " AS entries, ",
    "COALESCE((SELECT CAST(SUM(amount) AS BIGINT) FROM grant_payment AS part WHERE part.workspace_id = counter.workspace_id ",
    "AND part.user_id = counter.user_id AND part.feature = counter.feature AND part.period_end = counter.period_end ",
    "AND part.period_kind = counter.period_kind AND part.period_start = counter.period_start AND part.unit = counter.unit), 0) ",
    "AS payments FROM (SELECT * FROM counter_sum ",
    "WHERE (workspace_id, user_id, feature, period_end, period_kind, period_start, unit) > ($1, $2, $3, $4, $5, $6, $7) ",
    "ORDER BY workspace_id, user_id, feature, period_end, period_kind, period_start, unit LIMIT $8) AS counter ",
    "ORDER BY workspace_id, user_id, feature, period_end, period_kind, period_start, unit",
);

macro_rules! workspace {
    () => {
        "SELECT workspace_id, plan_id, seats, status, calendar, stripe_customer_id, revenue_usd, overrides, granted, top_ups, tags, version, \
         created_at, updated_at, suspended_by"
    };
}

pub(super) const WORKSPACE: &str = concat!(workspace!(), " FROM workspace WHERE workspace_id = $1");

/// Those that were described after change `$1`, in the order of their changes; `$2` limit.
pub(super) const WORKSPACES_CHANGED: &str = concat!(
    workspace!(),
    ", change_number FROM workspace WHERE change_number > 0 AND change_number > $1 ORDER BY change_number LIMIT $2"
);

pub(super) const WORKSPACE_CHANGE: &str = "SELECT last FROM change_number WHERE what = 'workspace'";

pub(super) const WORKSPACE_ON_PLAN: &str = "SELECT workspace_id FROM workspace WHERE plan_id = $1 ORDER BY workspace_id LIMIT 1";

pub(super) const POLICY_VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM policy_version";

/// Policy version `$1`, with the hash of the files that were applied last by then.
pub(super) const POLICY_HEAD: &str = "SELECT changed_at, (SELECT files_hash FROM policy_version WHERE files_hash IS NOT NULL \
     AND version <= $1 ORDER BY version DESC LIMIT 1) FROM policy_version WHERE version = $1";

/// The newest row of each object by then. History is kept, so it reads the same however often policy changes meanwhile.
pub(super) const POLICY_OBJECTS: &str = "SELECT kind, id, version, body FROM policy_object AS object WHERE version = \
     (SELECT MAX(version) FROM policy_object AS newest WHERE newest.kind = object.kind AND newest.id = object.id \
     AND newest.policy_version <= $1) ORDER BY kind, id";

// Writing one thing.

pub(super) const CREATE_WORKSPACE: &str = "INSERT INTO workspace (workspace_id, plan_id, seats, status, calendar, stripe_customer_id, \
     revenue_usd, overrides, granted, top_ups, tags, version, created_at, updated_at, suspended_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
     ON CONFLICT (workspace_id) DO NOTHING";

/// `$16` is the version that is replaced.
pub(super) const REPLACE_WORKSPACE: &str = "UPDATE workspace SET plan_id = $2, seats = $3, status = $4, calendar = $5, \
     stripe_customer_id = $6, revenue_usd = $7, overrides = $8, granted = $9, top_ups = $10, tags = $11, version = $12, \
     created_at = $13, updated_at = $14, suspended_by = $15 WHERE workspace_id = $1 AND version = $16";

/// Takes the number of a change. Whoever comes next waits for this one's commit, so numbers are seen in their order.
pub(super) const NEXT_WORKSPACE_CHANGE: &str = "UPDATE change_number SET last = last + 1 WHERE what = 'workspace' RETURNING last";

/// Gives change `$2` to a workspace.
pub(super) const NUMBER_WORKSPACE: &str = "UPDATE workspace SET change_number = $2 WHERE workspace_id = $1";

pub(super) const ADD_POLICY_VERSION: &str =
    "INSERT INTO policy_version (version, changed_at, actor, reason, files_hash) VALUES ($1, $2, $3, $4, $5)";

pub(super) const LAST_RECORDED: &str = "SELECT MAX(recorded_at) FROM entry";

/// Not older than `$2`.
pub(super) const ANSWER: &str =
    "SELECT fingerprint, status, content_type, body, answered_at FROM answer WHERE answer_key = $1 AND answered_at > $2";

/// Replaces only an answer that is too old to be told again.
pub(super) const KEEP_ANSWER: &str = "INSERT INTO answer (answer_key, fingerprint, status, content_type, body, answered_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (answer_key) DO UPDATE SET fingerprint = excluded.fingerprint, \
     status = excluded.status, content_type = excluded.content_type, body = excluded.body, answered_at = excluded.answered_at \
     WHERE answer.answered_at <= $7";

/// A few of the oldest with each new one: more than one comes, so they never pile up.
pub(super) const FORGET_ANSWERS: &str = "DELETE FROM answer WHERE answer_key IN (SELECT answer_key FROM answer \
     WHERE answered_at <= $1 ORDER BY answered_at LIMIT 4)";

/// Never earlier, so that neither doubles nor the order of two extensions matter.
pub(super) const EXTEND_CHECKPOINT: &str = "UPDATE checkpoint SET expires_at = $2 WHERE reservation_id = $1 AND expires_at < $2";

/// In quotes, as `end` is a word of SQL.
pub(super) fn columns<R: Record>() -> String {
    format!("\"{}\"", R::COLUMNS.join("\", \""))
}

pub(super) use {checkpoints_due, spent, standing, standings_where, sum_key, sum_of, workspace};
