//! Lookups by many keys, as PostgreSQL takes them: arrays. And writes of many rows, a parameter for each column.

use super::fault::Fault;
use super::{Connection, sql};
use crate::decision::id::{EntryId, ReservationId};
use crate::ledger::ends::ends_beside_entries;
use crate::ledger::record::{EntryRecord, Record, StandingRow, SumRecord, UseRecord};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;
use std::collections::BTreeSet;

pub(super) use super::sql::CHECKPOINTS_DUE;

/// Rows of one statement: far below the 65,535 parameters that PostgreSQL takes.
const INSERT_ROWS_MAX: usize = 500;
/// Rows that another node has are left to it.
pub(super) const SKIP_LOCKED: &str = " FOR UPDATE SKIP LOCKED";

pub(super) const ENDS_BESIDE_ENTRIES: &str = ends_beside_entries!("AND entry.occurred_at = standing.entry_occurred_at ");

pub(super) async fn standings(connection: &mut Connection, reservations: &[ReservationId]) -> Result<Vec<StandingRow>, Fault> {
    let ids: Vec<String> = reservations.iter().map(ReservationId::to_string).collect();
    Ok(sqlx::query_as(sql::STANDINGS).bind(ids).fetch_all(connection).await?)
}

/// The entries that these standings name.
pub(super) async fn entries_of(connection: &mut Connection, standings: &[StandingRow]) -> Result<Vec<EntryRecord>, Fault> {
    let named = standings
        .iter()
        .filter_map(|standing| standing.entry_id().cloned().zip(standing.entry_occurred_at()));
    let (ids, moments): (Vec<String>, Vec<i64>) = named.unzip();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = sqlx::query_as(AssertSqlSafe(sql::entries())).bind(ids).bind(moments);
    Ok(statement.fetch_all(connection).await?)
}

/// The corrections of these entries, in no order.
pub(super) async fn corrections_of(connection: &mut Connection, entries: &[EntryId]) -> Result<Vec<EntryRecord>, Fault> {
    let ids: Vec<String> = entries.iter().map(EntryId::to_string).collect();
    let statement = sqlx::query_as(AssertSqlSafe(sql::corrections())).bind(ids);
    Ok(statement.fetch_all(connection).await?)
}

/// The sums that these uses fall into, each once.
pub(super) async fn sums_at(connection: &mut Connection, uses: BTreeSet<UseRecord>) -> Result<Vec<SumRecord>, Fault> {
    let (mut workspaces, mut users, mut features, mut moments) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for used in uses {
        workspaces.push(used.workspace_id);
        users.push(used.user_id);
        features.push(used.feature);
        moments.push(used.at);
    }
    let statement = sqlx::query_as(sql::SUMS_AT)
        .bind(workspaces)
        .bind(users)
        .bind(features)
        .bind(moments);
    Ok(statement.fetch_all(connection).await?)
}

/// Inserts all of these rows, in as few turns as there can be.
pub(super) async fn insert<R: Record + Send>(connection: &mut Connection, rows: Vec<R>) -> Result<(), Fault> {
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let mut arguments = PgArguments::default();
        let mut count = 0;
        for row in rows.by_ref().take(INSERT_ROWS_MAX) {
            row.bind_postgres(&mut arguments).map_err(sqlx::Error::Encode)?;
            count += 1;
        }
        // Its text depends on how many rows there are, so it is not worth keeping.
        let statement = sqlx::query_with(AssertSqlSafe(sql::insert::<R>(count)), arguments).persistent(false);
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}
