//! Everything that is read. A function is one statement, or several over what never changes, so that each answer is of one moment.
//!
//! Written once and compiled into each store (`#[path]`), which brings its own `Connection`, `Fault`, and `many`: lookups by many keys, which
//! engines take in different shapes.

use super::fault::Fault;
use super::{Connection, many};
use crate::counters::SumRow;
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, ReservationId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::record::EntryRecord;
use crate::ledger::record::{
    self, AnswerRow, ChangedWorkspaceRow, DifferenceRow, PolicyObjectRow, RecordedRow, StandingRow, SumPlace, SumRecord, UseRecord,
    WorkspaceRecord, hex,
};
use crate::ledger::{EntryQuery, KeptAnswer, PAGE_ENTRIES_MAX, PolicyObject, PolicyState, Recorded, SumDifference, Verified, sql};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeSet, HashMap};

/// The standings of these reservations, of those that the ledger knows.
pub(super) async fn standings(
    connection: &mut Connection,
    reservations: &[ReservationId],
) -> Result<Vec<(ReservationId, Standing)>, Fault> {
    let rows = many::standings(connection, reservations).await?;
    with_entries(connection, rows).await
}

pub(super) async fn checkpoints_due(
    connection: &mut Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(ReservationId, Standing)>, Fault> {
    let statement = sqlx::query_as(many::CHECKPOINTS_DUE).bind(now.micros()).bind(count(limit));
    let rows = statement.fetch_all(&mut *connection).await?;
    with_entries(connection, rows).await
}

/// Puts the entries beside the rows that name them. A second statement may do so: an entry that is named is there and never changes.
async fn with_entries(connection: &mut Connection, rows: Vec<StandingRow>) -> Result<Vec<(ReservationId, Standing)>, Fault> {
    let mut entries = HashMap::new();
    for entry in many::entries_of(connection, &rows).await? {
        let entry = Entry::try_from(entry)?;
        entries.insert(entry.entry_id.to_string(), entry);
    }
    let standing = |row: StandingRow| {
        let entry = row.entry_id().and_then(|id| entries.remove(id));
        Ok(row.read(entry)?)
    };
    rows.into_iter().map(standing).collect()
}

/// The rows of one group whose period has not ended at `now`, in the order of their counters.
pub(super) async fn sums(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    whose: &Whose,
    now: Timestamp,
) -> Result<Vec<SumRow>, Fault> {
    let statement = sqlx::query_as::<_, SumRecord>(sql::SUMS);
    let bound = statement.bind(workspace.as_str()).bind(whose.column()).bind(now.micros());
    let rows = bound.fetch_all(connection).await?;
    let mut sums: Vec<SumRow> = rows.into_iter().map(|row| Ok(row.read()?.1)).collect::<Result<_, Fault>>()?;
    sums.sort_by(|a, b| a.counter.cmp(&b.counter));
    Ok(sums)
}

pub(super) async fn entries(connection: &mut Connection, query: &EntryQuery) -> Result<Vec<Entry>, Fault> {
    let from = query.from.unwrap_or(Timestamp::MIN);
    // No id sorts below the empty text: this is the place just before everything at `to`.
    let to = (query.to.unwrap_or(Timestamp::MAX).micros(), String::new());
    let after = query
        .after
        .map(|(at, entry): (Timestamp, EntryId)| (at.micros(), entry.to_string()));
    let (before, before_id) = after.map_or_else(|| to.clone(), |after| after.min(to.clone()));
    let mut bound = sqlx::query_as::<_, EntryRecord>(AssertSqlSafe(sql::entries(query)))
        .bind(query.workspace.as_str())
        .bind(from.micros())
        .bind(before)
        .bind(before_id)
        .bind(count(query.limit.min(PAGE_ENTRIES_MAX + 1)));
    // In the order in which the statement names them.
    let user = query.user.as_ref().map(|user| user.as_str());
    let feature = query.feature.as_ref().map(|feature| feature.as_str());
    let model = query.model.as_ref().map(|model| model.as_str());
    for filter in [user, feature, model].into_iter().flatten() {
        bound = bound.bind(filter);
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Entry::try_from(row)?)).collect()
}

/// The next uses in the order of recording, and the sums that they fall into, as these are now.
pub(super) async fn recorded(connection: &mut Connection, after: (Timestamp, Option<EntryId>), limit: usize) -> Result<Recorded, Fault> {
    // No id sorts below the empty text: without one it is the place just before that moment.
    let after_id = after.1.map(|id| id.to_string()).unwrap_or_default();
    let statement = sqlx::query_as::<_, RecordedRow>(sql::RECORDED);
    let bound = statement.bind(after.0.micros()).bind(after_id).bind(count(limit));
    let found = bound.fetch_all(&mut *connection).await?;
    let last = match found.last().filter(|_| found.len() == limit) {
        Some(last) => Some((Timestamp::from_micros(last.recorded_at), record::entry_id(&last.entry_id)?)),
        None => None,
    };
    let uses: BTreeSet<UseRecord> = found.into_iter().map(|row| row.used).collect();
    let rows = many::sums_at(connection, uses).await?;
    let rows = rows.into_iter().map(|row| Ok(row.read()?)).collect::<Result<_, Fault>>()?;
    Ok(Recorded { rows, last })
}

pub(super) async fn last_recorded(connection: &mut Connection) -> Result<Option<Timestamp>, Fault> {
    let last: Option<i64> = sqlx::query_scalar(sql::LAST_RECORDED).fetch_one(connection).await?;
    Ok(last.map(Timestamp::from_micros))
}

pub(super) async fn workspace(connection: &mut Connection, id: &WorkspaceId) -> Result<Option<Workspace>, Fault> {
    let statement = sqlx::query_as::<_, WorkspaceRecord>(sql::WORKSPACE).bind(id.as_str());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(Workspace::try_from).transpose()?)
}

pub(super) async fn workspace_on_plan(connection: &mut Connection, plan: &str) -> Result<Option<WorkspaceId>, Fault> {
    let statement = sqlx::query_scalar::<_, String>(sql::WORKSPACE_ON_PLAN).bind(plan);
    let id = statement.fetch_optional(connection).await?;
    Ok(id.map(|id| record::workspace_id(&id)).transpose()?)
}

pub(super) async fn workspaces_changed(connection: &mut Connection, after: i64, limit: usize) -> Result<Vec<(i64, Workspace)>, Fault> {
    let statement = sqlx::query_as::<_, ChangedWorkspaceRow>(sql::WORKSPACES_CHANGED);
    let rows = statement.bind(after).bind(count(limit)).fetch_all(connection).await?;
    let read = |row: ChangedWorkspaceRow| Ok((row.change_number, Workspace::try_from(row.workspace)?));
    rows.into_iter().map(read).collect()
}

pub(super) async fn workspace_change(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(sql::WORKSPACE_CHANGE).fetch_one(connection).await?)
}

pub(super) async fn policy_version(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(sql::POLICY_VERSION).fetch_one(connection).await?)
}

pub(super) async fn policy(connection: &mut Connection) -> Result<PolicyState, Fault> {
    let version = policy_version(connection).await?;
    Ok(policy_at(connection, version).await?.unwrap_or_default())
}

pub(super) async fn policy_at(connection: &mut Connection, version: i64) -> Result<Option<PolicyState>, Fault> {
    let head = sqlx::query_as::<_, (i64, Option<String>)>(sql::POLICY_HEAD).bind(version);
    let Some((changed_at, files_hash)) = head.fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let objects = sqlx::query_as::<_, PolicyObjectRow>(sql::POLICY_OBJECTS).bind(version);
    let objects = objects.fetch_all(connection).await?;
    Ok(Some(PolicyState {
        version,
        changed_at: Some(Timestamp::from_micros(changed_at)),
        files_hash,
        objects: objects.into_iter().map(PolicyObject::try_from).collect::<Result<_, _>>()?,
    }))
}

/// The answer under a key that was given after `since`.
pub(super) async fn answer(connection: &mut Connection, key: u128, since: Timestamp) -> Result<Option<KeptAnswer>, Fault> {
    let statement = sqlx::query_as::<_, AnswerRow>(sql::ANSWER).bind(hex(key)).bind(since.micros());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(KeptAnswer::try_from).transpose()?)
}

/// The sums of one page that are not what their entries and checkpoints add up to, in one statement and so of one moment.
pub(super) async fn verified(connection: &mut Connection, after: Option<&(WorkspaceId, Counter)>, limit: usize) -> Result<Verified, Fault> {
    let place = after.map_or_else(SumPlace::before_all, |(workspace, counter)| SumPlace::of(workspace, counter));
    let statement = sqlx::query_as::<_, DifferenceRow>(sql::SUMS_BESIDE_ENTRIES)
        .bind(place.workspace_id)
        .bind(place.user_id)
        .bind(place.feature)
        .bind(place.period_end)
        .bind(place.period_kind)
        .bind(place.period_start)
        .bind(place.unit)
        .bind(count(limit));
    let rows = statement.fetch_all(connection).await?;
    let is_full = rows.len() == limit;
    let mut page = Verified::default();
    for row in rows {
        let (workspace, row, entries, payments) = row.read()?;
        if row.spent != entries {
            page.differences.push(SumDifference {
                workspace: workspace.clone(),
                counter: row.counter.clone(),
                row: row.spent,
                entries,
            });
        }
        if row.paid != payments {
            page.paid_differences.push(SumDifference {
                workspace: workspace.clone(),
                counter: row.counter.clone(),
                row: row.paid,
                entries: payments,
            });
        }
        page.rows.push((workspace, row));
    }
    page.last = page
        .rows
        .last()
        .filter(|_| is_full)
        .map(|(workspace, row)| (workspace.clone(), row.counter.clone()));
    Ok(page)
}

pub(super) async fn ping(connection: &mut Connection) -> Result<(), Fault> {
    sqlx::query("SELECT 1").fetch_one(connection).await?;
    Ok(())
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
