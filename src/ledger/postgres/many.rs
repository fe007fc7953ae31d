//! Lookups by many keys, as PostgreSQL takes them: arrays.

use super::fault::Fault;
use super::{Connection, sql};
use crate::decision::id::ReservationId;
use crate::ledger::ends::ends_beside_entries;
use crate::ledger::record::{EntryRecord, StandingRow, SumRecord, UseRecord};
use sqlx::AssertSqlSafe;
use std::collections::BTreeSet;

pub(super) use super::sql::CHECKPOINTS_DUE;

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
