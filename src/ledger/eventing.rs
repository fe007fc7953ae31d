//! Events as rows: written inside of the transaction of what happened, read in the order of whoever asks.
//!
//! Written once and compiled into each store (`#[path]`), like `audited.rs`.

use super::fault::Fault;
use super::{Connection, sql as own};
use crate::decision::event::Event;
use crate::decision::id::{EventId, GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::PAGE_ENTRIES_MAX;
use crate::ledger::events::{self as sql, EventQuery};
use crate::ledger::record::{self, EventRecord, workspace_column};
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;

/// Writes what happened, and returns those that had not happened before. By workspace and in their order, so that two writers who tell of
/// the same workspaces do not cross.
pub(super) async fn add(connection: &mut Connection, events: &[Event]) -> Result<Vec<EventId>, Fault> {
    let mut by_workspace: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        let of = by_workspace.entry(workspace_column(event.workspace.as_ref())).or_default();
        of.push(event);
    }
    let mut new = Vec::new();
    for (workspace, events) in by_workspace {
        let mut number = last_number(connection, workspace, events.len()).await? - count(events.len());
        for event in events {
            number += 1;
            let row = EventRecord::new(event, number.max(0));
            let statement = sqlx::query(sql::ADD_EVENT)
                .bind(row.event_id)
                .bind(row.workspace_id)
                .bind(row.number)
                .bind(row.r#type)
                .bind(row.audience)
                .bind(row.once)
                .bind(row.occurred_at)
                .bind(row.recorded_at)
                .bind(row.body)
                .bind(row.renews_at)
                .bind(row.kept_until)
                .bind(row.relayed_at);
            if statement.execute(&mut *connection).await?.rows_affected() == 1 {
                new.push(event.id);
            }
        }
    }
    Ok(new)
}

/// The last of as many numbers as there are events. What is of no workspace, or of one that is not there, has none.
async fn last_number(connection: &mut Connection, workspace: &str, events: usize) -> Result<i64, Fault> {
    let statement = sqlx::query_scalar::<_, i64>(sql::TAKE_NUMBERS).bind(workspace).bind(count(events));
    Ok(statement.fetch_optional(connection).await?.unwrap_or(0))
}

/// What has happened to a workspace of all that begins like this, be it a whole word or some.
pub(super) async fn happened(connection: &mut Connection, workspace: &WorkspaceId, begins: &str) -> Result<Vec<String>, Fault> {
    // Words end at a space, and nothing in them sorts below it.
    let end = format!("{}!", begins.trim_end_matches(' '));
    let statement = sqlx::query_scalar(sql::HAPPENED).bind(workspace.as_str()).bind(begins).bind(end);
    Ok(statement.fetch_all(connection).await?)
}

/// Those that wait, for whoever hands them on in this transaction: a racing taker is given others, or waits. Those that there are for each use
/// come after all others, which are few: whoever is told of a limit does not wait for a flood to pass.
#[allow(dead_code, reason = "whoever hands events on does it inside of the transaction that takes them")]
pub(super) async fn take(connection: &mut Connection, limit: usize) -> Result<Vec<Event>, Fault> {
    let mut taken = Vec::new();
    for text in [own::TAKE_EVENTS, own::TAKE_EVENTS_OF_USE] {
        let rows = sqlx::query_as::<_, EventRecord>(text).bind(count(limit - taken.len()));
        taken.extend(read(rows.fetch_all(&mut *connection).await?)?);
        if taken.len() >= limit {
            break;
        }
    }
    Ok(taken)
}

pub(super) async fn waiting(connection: &mut Connection, limit: usize) -> Result<Vec<Event>, Fault> {
    let rows = sqlx::query_as::<_, EventRecord>(sql::events_waiting!("", ""))
        .bind(count(limit))
        .fetch_all(connection);
    read(rows.await?)
}

/// Inside of a transaction.
pub(super) async fn relayed(connection: &mut Connection, events: &[EventId], at: Timestamp) -> Result<(), Fault> {
    for event in events {
        let statement = sqlx::query(sql::RELAYED).bind(event.to_string()).bind(at.micros());
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn list(connection: &mut Connection, query: &EventQuery) -> Result<Vec<Event>, Fault> {
    // No id sorts below the empty text, and none above `f`: all begin with `evt_`.
    let edge = match query.is_oldest_first {
        true => (i64::MIN, String::new()),
        false => (i64::MAX, "f".to_owned()),
    };
    let (at, id) = query.after.map_or(edge, |(at, id)| (at.micros(), id.to_string()));
    let mut bound = sqlx::query_as::<_, EventRecord>(AssertSqlSafe(sql::list(query)))
        .bind(at)
        .bind(id)
        .bind(query.from.unwrap_or(Timestamp::MIN).micros())
        .bind(query.to.unwrap_or(Timestamp::MAX).micros())
        .bind(count(query.limit.min(PAGE_ENTRIES_MAX + 1)));
    if let Some(workspace) = &query.workspace {
        bound = bound.bind(workspace.as_str());
    }
    if let Some(audience) = query.audience {
        bound = bound.bind(audience.as_str());
    }
    read(bound.fetch_all(connection).await?)
}

pub(super) async fn after(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    number: i64,
    limit: usize,
) -> Result<Vec<(i64, Event)>, Fault> {
    let rows = sqlx::query_as::<_, EventRecord>(sql::EVENTS_AFTER)
        .bind(workspace.as_str())
        .bind(number)
        .bind(count(limit));
    rows.fetch_all(connection).await?.into_iter().map(|row| Ok(row.read()?)).collect()
}

pub(super) async fn number(connection: &mut Connection, workspace: &WorkspaceId, event: EventId) -> Result<Option<i64>, Fault> {
    let statement = sqlx::query_scalar(sql::EVENT_NUMBER)
        .bind(workspace.as_str())
        .bind(event.to_string());
    Ok(statement.fetch_optional(connection).await?)
}

pub(super) async fn newest(connection: &mut Connection, workspaces: &[WorkspaceId]) -> Result<Vec<(WorkspaceId, i64)>, Fault> {
    let mut newest = Vec::with_capacity(workspaces.len());
    for workspace in workspaces {
        let statement = sqlx::query_scalar(sql::NEWEST_EVENT).bind(workspace.as_str());
        if let Some(number) = statement.fetch_optional(&mut *connection).await? {
            newest.push((workspace.clone(), number));
        }
    }
    Ok(newest)
}

pub(super) async fn renewals_due(connection: &mut Connection, now: Timestamp, limit: usize) -> Result<Vec<Event>, Fault> {
    let rows = sqlx::query_as::<_, EventRecord>(sql::RENEWALS_DUE)
        .bind(now.micros())
        .bind(count(limit));
    read(rows.fetch_all(connection).await?)
}

pub(super) async fn crossings_open(
    connection: &mut Connection,
    workspace: Option<&WorkspaceId>,
    now: Timestamp,
    after: Option<EventId>,
    limit: usize,
) -> Result<Vec<Event>, Fault> {
    let text = if workspace.is_some() {
        sql::CROSSINGS_OPEN_OF
    } else {
        sql::CROSSINGS_OPEN
    };
    let mut bound = sqlx::query_as::<_, EventRecord>(text)
        .bind(now.micros())
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(count(limit));
    if let Some(workspace) = workspace {
        bound = bound.bind(workspace.as_str());
    }
    read(bound.fetch_all(connection).await?)
}

/// Inside of a transaction.
pub(super) async fn renew(connection: &mut Connection, events: &[Event], ended: &[EventId]) -> Result<Vec<EventId>, Fault> {
    let new = add(connection, events).await?;
    for event in ended {
        sqlx::query(sql::RENEWED).bind(event.to_string()).execute(&mut *connection).await?;
    }
    Ok(new)
}

pub(super) async fn grants_expiring(
    connection: &mut Connection,
    now: Timestamp,
    until: Timestamp,
    after: Option<(Timestamp, GrantId)>,
    limit: usize,
) -> Result<Vec<(WorkspaceId, GrantId, Timestamp)>, Fault> {
    let (at, id) = after.map_or((i64::MIN, String::new()), |(at, id)| (at.micros(), id.to_string()));
    let rows = sqlx::query_as::<_, (String, String, i64)>(sql::GRANTS_EXPIRING)
        .bind(now.micros())
        .bind(until.micros())
        .bind(at)
        .bind(id)
        .bind(count(limit));
    let rows = rows.fetch_all(connection).await?;
    let read = |(workspace, grant, at): (String, String, i64)| {
        Ok((
            record::workspace_id(&workspace)?,
            record::grant_id(&grant)?,
            Timestamp::from_micros(at),
        ))
    };
    rows.into_iter().map(read).collect()
}

/// Inside of a transaction.
pub(super) async fn prune(connection: &mut Connection, now: Timestamp, before: Timestamp, limit: usize) -> Result<usize, Fault> {
    let statement = sqlx::query(sql::PRUNE_EVENTS)
        .bind(now.micros())
        .bind(before.micros())
        .bind(count(limit));
    let deleted = statement.execute(connection).await?.rows_affected();
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

fn read(rows: Vec<EventRecord>) -> Result<Vec<Event>, Fault> {
    rows.into_iter().map(|row| Ok(row.read()?.1)).collect()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
