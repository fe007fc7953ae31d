//! The ledger's SQL, in one place, in the subset that SQLite and Postgres share: `$1`, `ON CONFLICT`, row values, 64-bit integers.
//!
//! Statements of a batch have a row of parameters per row, so that any number of posts costs the same few turns. Only they know which
//! engine they are for: their parameters are `?`, since SQLite looks a parameter with a name up among all others, and they say `OR FAIL`,
//! since the writer rolls the whole batch back itself and SQLite need not prepare to undo a single statement.

use super::record::{EntryRecord, Record, StandingRecord, SumRecord, SumVersionRecord, UnbornRecord, UseRecord};
use std::sync::LazyLock;

macro_rules! standing {
    () => {
        "SELECT standing.reservation_id, standing.workspace_id, standing.request_id, standing.revision, standing.\"end\", \
         standing.entry_id, standing.fingerprint, checkpoint.entry AS checkpoint, checkpoint.expires_at AS checkpoint_expires_at "
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

pub(super) const STANDING: &str = concat!(
    standing!(),
    "FROM reservation_end AS standing LEFT JOIN checkpoint ON checkpoint.reservation_id = standing.reservation_id ",
    "WHERE standing.reservation_id = $1",
);

/// `$1` now, `$2` limit.
pub(super) const CHECKPOINTS_DUE: &str = concat!(
    standing!(),
    "FROM checkpoint JOIN reservation_end AS standing ON standing.reservation_id = checkpoint.reservation_id ",
    "WHERE checkpoint.expires_at <= $1 ORDER BY checkpoint.expires_at, checkpoint.reservation_id LIMIT $2",
);

/// `$1` workspace, `$2` from, (`$3`, `$4`) before this place in the list, `$5` feature, `$6` model, `$7` limit.
pub(super) static ENTRIES: LazyLock<String> = LazyLock::new(|| entries_where(""));

/// `$8` is the user, in a statement of its own so that the index on users is taken.
pub(super) static ENTRIES_OF_USER: LazyLock<String> = LazyLock::new(|| entries_where("AND user_id = $8"));

fn entries_where(more: &str) -> String {
    format!(
        "SELECT {} FROM entry WHERE workspace_id = $1 AND occurred_at >= $2 AND (occurred_at, entry_id) < ($3, $4) \
         AND ($5 IS NULL OR feature = $5) AND ($6 IS NULL OR model = $6) {more} ORDER BY occurred_at DESC, entry_id DESC LIMIT $7",
        columns::<EntryRecord>(),
    )
}

/// `$1` workspace, `$2` user column, `$3` now.
pub(super) const SUMS: &str = concat!(
    "SELECT ",
    sum_key!(),
    ", spent, version FROM counter_sum AS counter WHERE workspace_id = $1 AND user_id = $2 AND period_end > $3",
);

pub(super) const DIFFERENCES: &str = concat!(
    "SELECT * FROM (SELECT ",
    sum_key!(),
    ", spent, version, ",
    spent!(),
    " AS entries FROM counter_sum AS counter) AS recomputed WHERE spent <> entries ",
    "ORDER BY workspace_id, user_id, feature, period_end, period_kind, period_start, unit",
);

pub(super) const WORKSPACE: &str = "SELECT workspace_id, plan_id, seats, status, calendar, stripe_customer_id, revenue_usd, overrides, \
     version, created_at, updated_at FROM workspace WHERE workspace_id = $1";

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
     revenue_usd, overrides, version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (workspace_id) DO NOTHING";

/// `$12` is the version that is replaced.
pub(super) const REPLACE_WORKSPACE: &str = "UPDATE workspace SET plan_id = $2, seats = $3, status = $4, calendar = $5, \
     stripe_customer_id = $6, revenue_usd = $7, overrides = $8, version = $9, created_at = $10, updated_at = $11 \
     WHERE workspace_id = $1 AND version = $12";

pub(super) const ADD_POLICY_VERSION: &str =
    "INSERT INTO policy_version (version, changed_at, actor, reason, files_hash) VALUES ($1, $2, $3, $4, $5)";

pub(super) const ADD_POLICY_OBJECT: &str = "INSERT INTO policy_object (kind, id, version, policy_version, body) VALUES ($1, $2, \
     1 + COALESCE((SELECT MAX(version) FROM policy_object WHERE kind = $1 AND id = $2), 0), $3, $4)";

/// Never earlier, so that neither doubles nor the order of two extensions matter.
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

pub(super) const EXTEND_CHECKPOINT: &str = "UPDATE checkpoint SET expires_at = $2 WHERE reservation_id = $1 AND expires_at < $2";

// A batch: what it needs to know.

pub(super) fn standings(reservations: usize) -> String {
    let many = STANDING.strip_suffix("= $1").expect("the statement ends with its only condition");
    format!("{many} IN {}", parameters(reservations))
}

pub(super) fn entries(ids: usize) -> String {
    format!(
        "SELECT {} FROM entry WHERE entry_id IN {}",
        columns::<EntryRecord>(),
        parameters(ids)
    )
}

pub(super) fn sum_versions(workspaces: usize) -> String {
    format!(
        "SELECT workspace_id, sum_version FROM workspace WHERE workspace_id IN {}",
        parameters(workspaces)
    )
}

/// The rows that uses of these dimensions at these moments fall into.
pub(super) fn sums_at(uses: usize) -> String {
    const FOUND: &str = concat!(
        "SELECT DISTINCT ",
        sum_key!(),
        ", counter.spent, counter.version FROM item CROSS JOIN counter_sum AS counter WHERE counter.workspace_id = item.workspace_id ",
        "AND counter.user_id IN ('*', item.user_id) AND counter.feature IN ('*', item.feature) ",
        "AND counter.period_start <= item.at AND counter.period_end > item.at",
    );
    with_items::<UseRecord>(uses, FOUND)
}

/// What rows that are missing would say.
pub(super) fn sums_unborn(rows: usize) -> String {
    const SUMMED: &str = concat!(
        "SELECT ",
        sum_key!(),
        ", ",
        spent!(),
        " AS spent, 0 AS version FROM item AS counter"
    );
    with_items::<UnbornRecord>(rows, SUMMED)
}

// A batch: what it writes.

pub(super) fn insert<R: Record>(rows: usize) -> String {
    format!("INSERT OR FAIL INTO {} ({}) VALUES {}", R::TABLE, columns::<R>(), values::<R>(rows))
}

pub(super) fn update_standings(rows: usize) -> String {
    const UPDATE: &str = "UPDATE OR FAIL reservation_end SET revision = item.revision, \"end\" = item.\"end\", entry_id = item.entry_id, \
         fingerprint = item.fingerprint FROM item WHERE reservation_end.reservation_id = item.reservation_id";
    with_items::<StandingRecord>(rows, UPDATE)
}

pub(super) fn update_sums(rows: usize) -> String {
    const UPDATE: &str = "UPDATE OR FAIL counter_sum AS counter SET spent = item.spent, version = item.version FROM item \
         WHERE counter.workspace_id = item.workspace_id AND counter.user_id = item.user_id AND counter.feature = item.feature \
         AND counter.period_end = item.period_end AND counter.period_kind = item.period_kind \
         AND counter.period_start = item.period_start AND counter.unit = item.unit";
    with_items::<SumRecord>(rows, UPDATE)
}

pub(super) fn update_sum_versions(rows: usize) -> String {
    const UPDATE: &str = "UPDATE OR FAIL workspace SET sum_version = item.sum_version FROM item \
         WHERE workspace.workspace_id = item.workspace_id";
    with_items::<SumVersionRecord>(rows, UPDATE)
}

pub(super) fn delete_checkpoints(reservations: usize) -> String {
    format!("DELETE FROM checkpoint WHERE reservation_id IN {}", parameters(reservations))
}

/// A statement over rows of parameters that it calls `item`.
fn with_items<R: Record>(rows: usize, statement: &str) -> String {
    format!("WITH item ({}) AS (VALUES {}) {statement}", columns::<R>(), values::<R>(rows))
}

/// In quotes, as `end` is a word of SQL.
fn columns<R: Record>() -> String {
    format!("\"{}\"", R::COLUMNS.join("\", \""))
}

fn values<R: Record>(rows: usize) -> String {
    let row = parameters(R::COLUMNS.len());
    vec![row.as_str(); rows].join(", ")
}

fn parameters(count: usize) -> String {
    format!("({})", vec!["?"; count].join(", "))
}
