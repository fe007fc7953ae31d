//! Fair use as rows: usage added up, actions begun and ended inside of the transaction that records them.
//!
//! Written once and compiled into each store (`#[path]`), like `audited.rs`.

use super::Connection;
use super::fault::Fault;
use crate::decision::amount::Amounts;
use crate::decision::anomaly::Action;
use crate::decision::counter::Whose;
use crate::decision::id::{FairUseId, PlanId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::fair_use::{self as sql, ActionQuery, HOUR, MINUTE, Used};
use crate::ledger::record::{ActionRow, UsedRow, action_feature};
use sqlx::{AssertSqlSafe, QueryBuilder};

/// Rows of one statement: eight parameters each.
const ROWS_OF_ONE: usize = 500;

type Database = <Connection as sqlx::Connection>::Database;

/// In the order of their keys, so that nodes which add at the same time do not cross.
pub(super) async fn add(connection: &mut Connection, used: &[Used]) -> Result<(), Fault> {
    let mut rows: Vec<UsedRow> = used.iter().map(UsedRow::from).collect();
    rows.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
    for rows in rows.chunks(ROWS_OF_ONE) {
        let mut statement = QueryBuilder::<Database>::new(
            "INSERT INTO fair_use_usage (workspace_id, user_id, width_seconds, starts_at, plan_id, tokens, usd, requests) ",
        );
        statement.push_values(rows, |mut row, used| {
            row.push_bind(&used.workspace_id)
                .push_bind(&used.user_id)
                .push_bind(used.width_seconds)
                .push_bind(used.starts_at)
                .push_bind(&used.plan_id)
                .push_bind(used.tokens)
                .push_bind(used.usd)
                .push_bind(used.requests);
        });
        statement.push(sql::ADD_USAGE);
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

fn read(rows: Vec<UsedRow>) -> Result<Vec<Used>, Fault> {
    rows.into_iter().map(|row| Ok(Used::try_from(row)?)).collect()
}

pub(super) async fn since(
    connection: &mut Connection,
    of_users: bool,
    from: Timestamp,
    least: Amounts,
    after: Option<&(WorkspaceId, Whose)>,
    limit: usize,
) -> Result<Vec<Used>, Fault> {
    let (workspace, user) = after.map_or(("", ""), |(workspace, whose)| (workspace.as_str(), whose.column()));
    let rows = sqlx::query_as::<_, UsedRow>(sql::USAGE_SINCE)
        .bind(from.micros())
        .bind(i64::from(of_users))
        .bind(least.tokens)
        .bind(least.usd)
        .bind(least.requests)
        .bind(workspace)
        .bind(user)
        .bind(count(limit));
    read(rows.fetch_all(connection).await?)
}

pub(super) async fn of(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    whose: &Whose,
    width_seconds: i64,
    from: Timestamp,
) -> Result<Vec<Used>, Fault> {
    let rows = sqlx::query_as::<_, UsedRow>(sql::USAGE_OF)
        .bind(workspace.as_str())
        .bind(whose.column())
        .bind(width_seconds)
        .bind(from.micros());
    read(rows.fetch_all(connection).await?)
}

pub(super) async fn of_plan(
    connection: &mut Connection,
    plan: &PlanId,
    of_users: bool,
    hour: Timestamp,
    limit: usize,
) -> Result<Vec<Amounts>, Fault> {
    let rows = sqlx::query_as::<_, UsedRow>(sql::USAGE_OF_PLAN)
        .bind(plan.as_str())
        .bind(i64::from(of_users))
        .bind(hour.micros())
        .bind(count(limit));
    let used = read(rows.fetch_all(connection).await?)?;
    Ok(used.into_iter().map(|used| used.amounts).collect())
}

pub(super) async fn prune(
    connection: &mut Connection,
    minutes_before: Timestamp,
    hours_before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let mut deleted = 0;
    for (width, before) in [(MINUTE, minutes_before), (HOUR, hours_before)] {
        let statement = sqlx::query(sql::PRUNE_USAGE).bind(width).bind(before.micros()).bind(count(limit));
        deleted += statement.execute(&mut *connection).await?.rows_affected();
    }
    let statement = sqlx::query(sql::PRUNE_ACTIONS).bind(hours_before.micros()).bind(count(limit));
    deleted += statement.execute(&mut *connection).await?.rows_affected();
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

/// Whether it was begun.
pub(super) async fn begin(connection: &mut Connection, action: &Action) -> Result<bool, Fault> {
    let body = serde_json::to_string(action).unwrap_or_default();
    let statement = sqlx::query(sql::BEGIN_ACTION)
        .bind(action.workspace.as_str())
        .bind(action.whose.column())
        .bind(action_feature(action))
        .bind(&action.rule)
        .bind(action.id.to_string())
        .bind(action.started_at.micros())
        .bind(action.ends_at.micros())
        .bind(body);
    Ok(statement.execute(connection).await?.rows_affected() == 1)
}

/// Whether it was ended.
pub(super) async fn end(connection: &mut Connection, id: FairUseId, now: Timestamp) -> Result<bool, Fault> {
    let statement = sqlx::query(sql::END_ACTION).bind(id.to_string()).bind(now.micros());
    Ok(statement.execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn action(connection: &mut Connection, id: FairUseId) -> Result<Option<Action>, Fault> {
    let row = sqlx::query_as::<_, ActionRow>(sql::ACTION).bind(id.to_string());
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(Action::try_from).transpose()?)
}

pub(super) async fn last_end(connection: &mut Connection, action: &Action) -> Result<Option<Timestamp>, Fault> {
    let ends_at = sqlx::query_scalar::<_, i64>(sql::LAST_END)
        .bind(action.workspace.as_str())
        .bind(action.whose.column())
        .bind(action_feature(action))
        .bind(&action.rule);
    Ok(ends_at.fetch_optional(connection).await?.map(Timestamp::from_micros))
}

pub(super) async fn list(connection: &mut Connection, query: &ActionQuery) -> Result<Vec<Action>, Fault> {
    let (before, before_id) = match &query.after {
        Some((at, id)) => (at.micros(), id.to_string()),
        None => (Timestamp::MAX.micros(), String::new()),
    };
    let mut bound = sqlx::query_as::<_, ActionRow>(AssertSqlSafe(sql::list(query)))
        .bind(before)
        .bind(before_id)
        .bind(count(query.limit));
    if let Some(now) = query.active_at {
        bound = bound.bind(now.micros());
    }
    if let Some(workspace) = &query.workspace {
        bound = bound.bind(workspace.as_str().to_owned());
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Action::try_from(row)?)).collect()
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
