//! Everything that is read. A function is one statement, or several over what never changes, so that each answer is of one moment.

use super::fault::Fault;
use super::statement::fetch_each;
use crate::counters::SumRow;
use crate::decision::counter::Whose;
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, ReservationId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::record::{
    self, AnswerRow, DifferenceRow, EntryRecord, IdRecord, PolicyObjectRow, StandingRow, SumRecord, WorkspaceRecord, hex,
};
use crate::ledger::{EntryQuery, KeptAnswer, PAGE_ENTRIES_MAX, PolicyObject, PolicyState, SumDifference, sql};
use sqlx::SqliteConnection;
use std::collections::HashMap;

pub(super) async fn standing(connection: &mut SqliteConnection, reservation: ReservationId) -> Result<Option<Standing>, Fault> {
    let statement = sqlx::query_as(sql::STANDING).bind(reservation.to_string());
    let row = statement.fetch_all(&mut *connection).await?;
    let only = with_entries(connection, row).await?.pop();
    Ok(only.map(|(_, standing)| standing))
}

/// The standings of these reservations, of those that the ledger knows.
pub(super) async fn standings(
    connection: &mut SqliteConnection,
    reservations: Vec<IdRecord>,
) -> Result<Vec<(ReservationId, Standing)>, Fault> {
    let rows = fetch_each(connection, sql::standings, reservations).await?;
    with_entries(connection, rows).await
}

pub(super) async fn checkpoints_due(
    connection: &mut SqliteConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(ReservationId, Standing)>, Fault> {
    let statement = sqlx::query_as(sql::CHECKPOINTS_DUE).bind(now.micros()).bind(count(limit));
    let rows = statement.fetch_all(&mut *connection).await?;
    with_entries(connection, rows).await
}

/// Puts the entries beside the rows that name them. A second statement may do so: an entry that is named is there and never changes.
async fn with_entries(connection: &mut SqliteConnection, rows: Vec<StandingRow>) -> Result<Vec<(ReservationId, Standing)>, Fault> {
    let named = rows.iter().filter_map(StandingRow::entry_id).map(IdRecord::of).collect();
    let mut entries = HashMap::new();
    for entry in fetch_each::<_, EntryRecord>(connection, sql::entries, named).await? {
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
    connection: &mut SqliteConnection,
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

pub(super) async fn entries(connection: &mut SqliteConnection, query: &EntryQuery) -> Result<Vec<Entry>, Fault> {
    let from = query.from.unwrap_or(Timestamp::MIN);
    // No id sorts below the empty text: this is the place just before everything at `to`.
    let to = (query.to.unwrap_or(Timestamp::MAX).micros(), String::new());
    let after = query
        .after
        .map(|(at, entry): (Timestamp, EntryId)| (at.micros(), entry.to_string()));
    let (before, before_id) = after.map_or_else(|| to.clone(), |after| after.min(to.clone()));
    let statement = if query.user.is_some() {
        &sql::ENTRIES_OF_USER
    } else {
        &sql::ENTRIES
    };
    let bound = sqlx::query_as::<_, EntryRecord>(statement.as_str())
        .bind(query.workspace.as_str())
        .bind(from.micros())
        .bind(before)
        .bind(before_id)
        .bind(query.feature.as_ref().map(|feature| feature.as_str()))
        .bind(query.model.as_ref().map(|model| model.as_str()))
        .bind(count(query.limit.min(PAGE_ENTRIES_MAX + 1)));
    let rows = match &query.user {
        Some(user) => bound.bind(user.as_str()).fetch_all(connection).await?,
        None => bound.fetch_all(connection).await?,
    };
    rows.into_iter().map(|row| Ok(Entry::try_from(row)?)).collect()
}

pub(super) async fn workspace(connection: &mut SqliteConnection, id: &WorkspaceId) -> Result<Option<Workspace>, Fault> {
    let statement = sqlx::query_as::<_, WorkspaceRecord>(sql::WORKSPACE).bind(id.as_str());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(Workspace::try_from).transpose()?)
}

pub(super) async fn workspace_on_plan(connection: &mut SqliteConnection, plan: &str) -> Result<Option<WorkspaceId>, Fault> {
    let statement = sqlx::query_scalar::<_, String>(sql::WORKSPACE_ON_PLAN).bind(plan);
    let id = statement.fetch_optional(connection).await?;
    Ok(id.map(|id| record::workspace_id(&id)).transpose()?)
}

pub(super) async fn policy_version(connection: &mut SqliteConnection) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(sql::POLICY_VERSION).fetch_one(connection).await?)
}

pub(super) async fn policy(connection: &mut SqliteConnection) -> Result<PolicyState, Fault> {
    let version = policy_version(connection).await?;
    Ok(policy_at(connection, version).await?.unwrap_or_default())
}

pub(super) async fn policy_at(connection: &mut SqliteConnection, version: i64) -> Result<Option<PolicyState>, Fault> {
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

pub(super) async fn answer(connection: &mut SqliteConnection, key: u128, since: Timestamp) -> Result<Option<KeptAnswer>, Fault> {
    let statement = sqlx::query_as::<_, AnswerRow>(sql::ANSWER).bind(hex(key)).bind(since.micros());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(KeptAnswer::try_from).transpose()?)
}

/// The sums that are not what their entries and checkpoints add up to, in one statement and so of one moment.
pub(super) async fn differences(connection: &mut SqliteConnection) -> Result<Vec<SumDifference>, Fault> {
    let rows = sqlx::query_as::<_, DifferenceRow>(sql::DIFFERENCES).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(row.read()?)).collect()
}

pub(super) async fn ping(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::query("SELECT 1").fetch_one(connection).await?;
    Ok(())
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
