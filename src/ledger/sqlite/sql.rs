//! Statements that only SQLite is asked. They have a row of parameters per row, so that any number of posts costs the same few turns.
//!
//! Their parameters are `?`, since SQLite looks a parameter with a name up among all others, and they say `OR FAIL`, since the writer rolls
//! the whole batch back itself and SQLite need not prepare to undo a single statement.

use crate::ledger::events::events_waiting;
use crate::ledger::record::{DecisionRecord, EntryRecord, Record, StandingRecord, SumRecord, SumVersionRecord, UnbornRecord, UseRecord};
use crate::ledger::sql::{checkpoints_due, columns, spent, standing, standings_where, sum_key, sum_of};

/// The writer is the only one who takes events.
pub(super) const TAKE_EVENTS: &str = events_waiting!("AND type <> 'usage.recorded' ", "");
pub(super) const TAKE_EVENTS_OF_USE: &str = events_waiting!("AND type = 'usage.recorded' ", "");

// A batch: what it needs to know.

pub(super) const CHECKPOINTS_DUE: &str = checkpoints_due!("");

pub(super) fn standings(reservations: usize) -> String {
    format!("{}{}", standings_where!("", "IN "), parameters(reservations))
}

pub(super) fn entries(ids: usize) -> String {
    format!(
        "SELECT {} FROM entry WHERE entry_id IN {}",
        columns::<EntryRecord>(),
        parameters(ids)
    )
}

pub(super) fn corrections(entries: usize) -> String {
    format!(
        "SELECT {} FROM entry WHERE corrects IN {}",
        columns::<EntryRecord>(),
        parameters(entries)
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
        ", counter.spent, counter.version, counter.paid FROM item CROSS JOIN counter_sum AS counter WHERE counter.workspace_id = item.workspace_id ",
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
        " AS spent, 0 AS version, 0 AS paid FROM item AS counter"
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

/// One that is there stays as it is.
pub(super) fn log_decisions(rows: usize) -> String {
    format!(
        "INSERT INTO {} ({}) VALUES {} ON CONFLICT (decision_id) DO NOTHING",
        DecisionRecord::TABLE,
        columns::<DecisionRecord>(),
        values::<DecisionRecord>(rows)
    )
}

/// A statement over rows of parameters that it calls `item`.
fn with_items<R: Record>(rows: usize, statement: &str) -> String {
    format!("WITH item ({}) AS (VALUES {}) {statement}", columns::<R>(), values::<R>(rows))
}

fn values<R: Record>(rows: usize) -> String {
    let row = parameters(R::COLUMNS.len());
    vec![row.as_str(); rows].join(", ")
}

fn parameters(count: usize) -> String {
    format!("({})", vec!["?"; count].join(", "))
}
