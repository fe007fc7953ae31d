//! Workspaces and providers as lists of rows.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::Connection;
use super::fault::Fault;
use crate::decision::provider::ProviderSetting;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::PAGE_ENTRIES_MAX;
use crate::ledger::directory::{self, WorkspaceQuery};
use crate::ledger::provider;
use crate::ledger::record::{ProviderRow, WorkspaceRecord};
use sqlx::AssertSqlSafe;

pub(super) async fn workspaces(connection: &mut Connection, query: &WorkspaceQuery) -> Result<Vec<Workspace>, Fault> {
    // No id sorts below the empty text: this is the place just before everything at `to`.
    let to = (query.to.unwrap_or(Timestamp::MAX).micros(), String::new());
    let after = query.after.as_ref().map(|(at, id)| (at.micros(), id.to_string()));
    let (before, before_id) = after.map_or_else(|| to.clone(), |after| after.min(to.clone()));
    let limit = i64::try_from(query.limit.min(PAGE_ENTRIES_MAX + 1)).unwrap_or(i64::MAX);
    let mut bound = sqlx::query_as::<_, WorkspaceRecord>(AssertSqlSafe(directory::workspaces(query)))
        .bind(query.from.unwrap_or(Timestamp::MIN).micros())
        .bind(before)
        .bind(before_id)
        .bind(limit);
    for (_, value) in query.filters() {
        bound = bound.bind(value);
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Workspace::try_from(row)?)).collect()
}

pub(super) async fn providers(connection: &mut Connection) -> Result<Vec<ProviderSetting>, Fault> {
    let rows = sqlx::query_as::<_, ProviderRow>(provider::PROVIDERS).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(ProviderSetting::try_from(row)?)).collect()
}

/// Inside of a transaction.
pub(super) async fn put_provider(connection: &mut Connection, setting: &ProviderSetting) -> Result<(), Fault> {
    let row = ProviderRow::from(setting);
    let statement = sqlx::query(provider::PUT_PROVIDER)
        .bind(row.provider)
        .bind(row.state)
        .bind(row.changed_at);
    statement.execute(connection).await?;
    Ok(())
}
