//! Loads what a batch of writes needs, and writes what the batch changed: a dozen statements at most, whatever the number of posts.
//!
//! Runs inside the writer's `BEGIN IMMEDIATE`, so what was loaded cannot change before it is written.

use super::batch::{Batch, Write};
use super::fault::Fault;
use super::statement::{fetch_each, padded, write_each};
use super::{many, read, sql};
use crate::decision::id::WorkspaceId;
use crate::decision::workspace::Workspace;
use crate::ledger::record::{
    self, CheckpointRecord, EntryRecord, IdRecord, Record, StandingRecord, SumRecord, SumVersionRecord, UnbornRecord, WorkspaceRecord,
};
use crate::ledger::sql as shared;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteArguments;
use std::collections::BTreeSet;

/// Everything that the ledger holds of these writes.
pub(super) async fn load(connection: &mut SqliteConnection, writes: &[Write<'_>]) -> Result<Batch, Fault> {
    let mut batch = Batch::default();
    let reservations: Vec<_> = writes.iter().filter_map(Write::reservation).collect();
    for (reservation, standing) in read::standings(connection, &reservations).await? {
        batch.know_standing(reservation, standing);
    }
    let workspaces: BTreeSet<_> = writes.iter().map(Write::workspace).collect();
    let workspaces = workspaces.into_iter().map(IdRecord::of);
    for row in fetch_each::<_, SumVersionRecord>(connection, sql::sum_versions, padded(workspaces)).await? {
        batch.know_workspace(record::workspace_id(&row.workspace_id)?, row.sum_version);
    }
    for row in many::sums_at(connection, batch.uses(writes)).await? {
        let (workspace, row) = row.read()?;
        batch.know_sum(workspace, row);
    }
    let unborn = batch.unborn(writes).into_iter();
    let unborn = unborn.map(|(workspace, counter)| UnbornRecord::new(workspace, counter)).collect();
    for row in fetch_each::<_, SumRecord>(connection, sql::sums_unborn, unborn).await? {
        let (workspace, row) = row.read()?;
        batch.know_unborn(workspace, row);
    }
    Ok(batch)
}

/// Writes what a batch changed.
pub(super) async fn store(connection: &mut SqliteConnection, batch: &Batch) -> Result<(), Fault> {
    for (workspace, now) in batch.created() {
        create_workspace(connection, &Workspace::unknown(workspace.clone(), *now)).await?;
    }
    let entries = batch.entries().iter().map(EntryRecord::from).collect();
    write_each(connection, sql::insert::<EntryRecord>, entries).await?;

    let (new, changed) = batch.standings();
    write_each(connection, sql::insert::<StandingRecord>, new).await?;
    write_each(connection, sql::update_standings, changed).await?;

    let (replaced, open) = batch.checkpoints();
    write_each(connection, sql::delete_checkpoints, replaced).await?;
    write_each(connection, sql::insert::<CheckpointRecord>, open).await?;

    let (born, moved) = batch.sums();
    write_each(connection, sql::insert::<SumRecord>, born).await?;
    write_each(connection, sql::update_sums, moved).await?;
    write_each(connection, sql::update_sum_versions, batch.sum_versions()).await
}

/// False: the workspace is there already.
pub(super) async fn create_workspace(connection: &mut SqliteConnection, workspace: &Workspace) -> Result<bool, Fault> {
    let created = sqlx::query_with(shared::CREATE_WORKSPACE, columns_of(workspace)?)
        .execute(connection)
        .await?;
    Ok(created.rows_affected() == 1)
}

/// False: the workspace is not at `expected_version`.
pub(super) async fn replace_workspace(
    connection: &mut SqliteConnection,
    workspace: &Workspace,
    expected_version: u32,
) -> Result<bool, Fault> {
    let statement = sqlx::query_with(shared::REPLACE_WORKSPACE, columns_of(workspace)?).bind(i64::from(expected_version));
    Ok(statement.execute(connection).await?.rows_affected() == 1)
}

/// Gives the next number of a change to a workspace that was described.
pub(super) async fn number_workspace(connection: &mut SqliteConnection, workspace: &WorkspaceId) -> Result<(), Fault> {
    let number: i64 = sqlx::query_scalar(shared::NEXT_WORKSPACE_CHANGE)
        .fetch_one(&mut *connection)
        .await?;
    let statement = sqlx::query(shared::NUMBER_WORKSPACE).bind(workspace.as_str()).bind(number);
    statement.execute(connection).await?;
    Ok(())
}

fn columns_of(workspace: &Workspace) -> Result<SqliteArguments, Fault> {
    let mut arguments = SqliteArguments::default();
    WorkspaceRecord::from(workspace).bind(&mut arguments).map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}
