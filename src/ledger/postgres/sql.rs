//! Statements that only PostgreSQL is asked: it takes any number of rows as arrays.

use crate::ledger::events::events_waiting;
use crate::ledger::record::{EntryRecord, Record};
use crate::ledger::sql::{checkpoints_due, columns, standing, standings_where, sum_key};

/// What another taker has in its hands is left to it.
pub(super) const TAKE_EVENTS: &str = events_waiting!("AND type <> 'usage.recorded' ", " FOR UPDATE SKIP LOCKED");
pub(super) const TAKE_EVENTS_OF_USE: &str = events_waiting!("AND type = 'usage.recorded' ", " FOR UPDATE SKIP LOCKED");

pub(super) const CHECKPOINTS_DUE: &str = checkpoints_due!("standing.entry_occurred_at, ");

/// `$1` reservations.
pub(super) const STANDINGS: &str = standings_where!("standing.entry_occurred_at, ", "= ANY ($1)");

/// `$1` entry ids, `$2` when each of them occurred, which says in which month it is.
pub(super) fn entries() -> String {
    format!(
        "SELECT {} FROM unnest($1, $2) AS item (id, at) JOIN entry ON entry.entry_id = item.id AND entry.occurred_at = item.at",
        columns::<EntryRecord>()
    )
}

/// The corrections of `$1` entries, by the order of bytes that their index has.
pub(super) fn corrections() -> String {
    format!(
        "SELECT {} FROM entry WHERE corrects COLLATE \"C\" = ANY ($1)",
        columns::<EntryRecord>()
    )
}

/// The rows that uses fall into: `$1` workspaces, `$2` users, `$3` features, `$4` moments. Users and features are looked up in pairs, one by
/// one, as in `post_batch`.
pub(super) const SUMS_AT: &str = concat!(
    "SELECT DISTINCT ",
    sum_key!(),
    ", counter.spent, counter.version, counter.paid FROM unnest($1, $2, $3, $4) AS item (workspace_id, user_id, feature, at) ",
    "CROSS JOIN LATERAL (VALUES ('*', '*'), ('*', item.feature), (item.user_id, '*'), (item.user_id, item.feature)) ",
    "AS pair (user_id, feature) CROSS JOIN LATERAL (SELECT * FROM counter_sum AS sum WHERE sum.workspace_id = item.workspace_id ",
    "AND sum.user_id = pair.user_id AND sum.feature = pair.feature AND sum.period_start <= item.at AND sum.period_end > item.at OFFSET 0) ",
    "AS counter"
);

/// Workspaces that came into being by use, in one order so that creators of the same ones do not cross: the columns as arrays.
pub(super) const CREATE_WORKSPACES: &str = "INSERT INTO workspace (workspace_id, seats, status, calendar, overrides, version, created_at, \
     updated_at) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS new (id, seats, status, calendar, overrides, version, created, \
     updated) ORDER BY id ON CONFLICT (workspace_id) DO NOTHING";

/// Many rows at once, each with a parameter for each of its columns.
pub(super) fn insert<R: Record>(rows: usize) -> String {
    let width = R::COLUMNS.len();
    let values = (0..rows).map(|row| {
        let places = (1..=width).map(|column| format!("${}", row * width + column));
        format!("({})", places.collect::<Vec<_>>().join(", "))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    format!("INSERT INTO {} ({}) VALUES {values}", R::TABLE, columns::<R>())
}

/// The one call that writes posts; see the migration.
pub(super) const POST_BATCH: &str = "SELECT answer, posts, workspace_id, user_id, feature, unit, period_kind, period_start, period_end, spent, \
     version, paid FROM post_batch_watched($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::JSON[], $12, $13::JSON[], $14, $15, $16, $17, $18, $19, $20, \
     $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)";

/// Tells other nodes that something was described; `$1` channel.
pub(super) const TELL: &str = "SELECT pg_notify($1, '')";

/// Keeps workspaces from being numbered, and so from being put on a plan, until the transaction ends.
pub(super) const LOCK_WORKSPACE_CHANGES: &str = "SELECT last FROM change_number WHERE what = 'workspace' FOR UPDATE";

/// A version of the policy, if `$6` is the one before it, however many nodes try.
pub(super) const ADD_NEXT_POLICY_VERSION: &str = "INSERT INTO policy_version (version, changed_at, actor, reason, files_hash) \
     SELECT $1, $2, $3, $4, $5 WHERE $6 = (SELECT COALESCE(MAX(version), 0) FROM policy_version) ON CONFLICT (version) DO NOTHING";

/// Channels and advisory locks are of a whole database, in which there may be several schemas with a ledger each.
pub(super) const SCHEMA: &str = "SELECT current_schema()::TEXT";

/// Takes the lead of `$1` for as long as the connection lives; false: somebody has it.
pub(super) const TRY_LEAD: &str = "SELECT pg_try_advisory_lock(hashtext('weir leads ' || current_schema()), hashtext($1))";

/// Makes the partitions of the months around now: two back, for use that is reported late, and three ahead. The names of months that
/// could not be made are the answer.
pub(super) const MAKE_MONTHS: &str = "SELECT made.name FROM (SELECT 'entry_' || to_char(month, 'YYYY_MM') AS name, \
     make_entry_month('entry_' || to_char(month, 'YYYY_MM'), CAST(EXTRACT(EPOCH FROM month) AS BIGINT) * 1000000, \
     CAST(EXTRACT(EPOCH FROM month + INTERVAL '1 month') AS BIGINT) * 1000000) AS is_made \
     FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC') - INTERVAL '2 months', \
     date_trunc('month', now() AT TIME ZONE 'UTC') + INTERVAL '3 months', INTERVAL '1 month') AS month) AS made WHERE NOT made.is_made";

/// Keeps what a billing provider tells in one order until the transaction ends: it is rare, and what is decided on stays as it was.
pub(super) const LOCK_INBOUND: &str = "SELECT pg_advisory_xact_lock(hashtext('weir inbound ' || current_schema()), 0)";
