//! Grants over a connection: what is read, given, voided and verified.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Whoever writes here holds the workspace's lock by then: on SQLite
//! there is one writer, on Postgres the workspace's row is taken first.

use super::Connection;
use super::audited;
use super::crediting;
use super::describe::Description;
use super::fault::Fault;
use crate::decision::grant::{GRANTS_MAX, Grant, Paid, Pot};
use crate::decision::id::{BudgetId, GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::Audited;
use crate::ledger::record::{self, GrantRecord, PaidDifferenceRow, PaidRow};
use crate::ledger::{EarlierKey, Given, GrantDifference, Pots, grant_sql as sql, sql as shared};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use std::collections::HashMap;

/// How many workspaces are verified in one step.
const VERIFY_WORKSPACES: i64 = 500;

/// What all grants of a workspace have left that had not ended at `at`. The version is read first: a purse may say more than its version
/// promises, never less.
pub(super) async fn pots(connection: &mut Connection, workspace: &WorkspaceId, at: Timestamp) -> Result<Pots, Fault> {
    let version: Option<i64> = sqlx::query_scalar(sql::VERSION)
        .bind(workspace.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    // What was paid is read before the grants: one that comes in between has then paid nothing, not too little.
    let paid: Vec<PaidRow> = sqlx::query_as(sql::PAID)
        .bind(workspace.as_str())
        .bind(at.micros())
        .fetch_all(&mut *connection)
        .await?;
    let given: Vec<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::alive()))
        .bind(workspace.as_str())
        .bind(at.micros())
        .fetch_all(connection)
        .await?;
    let paid = by_grant(&paid)?;
    let mut grants: HashMap<BudgetId, Vec<Grant>> = HashMap::new();
    for row in given {
        let grant = row.read()?;
        grants.entry(grant.budget.clone()).or_default().push(grant);
    }
    let pot = |(budget, grants): (BudgetId, Vec<Grant>)| {
        let own = grants
            .iter()
            .filter_map(|grant| Some((grant.id, paid.get(&grant.id)?.clone())))
            .collect();
        (budget, Pot::new(grants, own))
    };
    Ok(Pots {
        version: version.unwrap_or(0),
        by_budget: grants.into_iter().map(pot).collect(),
    })
}

fn by_grant(rows: &[PaidRow]) -> Result<HashMap<GrantId, Paid>, Fault> {
    let mut paid: HashMap<GrantId, Paid> = HashMap::new();
    for row in rows {
        let (grant, segment, amount) = row.read()?;
        paid.entry(grant).or_default().insert(segment, amount);
    }
    Ok(paid)
}

/// The grants of one budget that had not ended at `at`.
pub(super) async fn pot(connection: &mut Connection, workspace: &WorkspaceId, budget: &BudgetId, at: Timestamp) -> Result<Pot, Fault> {
    let given: Vec<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::alive_of_budget()))
        .bind(workspace.as_str())
        .bind(at.micros())
        .bind(budget.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let paid: Vec<PaidRow> = sqlx::query_as(sql::PAID_OF_BUDGET)
        .bind(workspace.as_str())
        .bind(at.micros())
        .bind(budget.as_str())
        .fetch_all(connection)
        .await?;
    let grants = given.into_iter().map(GrantRecord::read).collect::<Result<_, _>>()?;
    Ok(Pot::new(grants, by_grant(&paid)?))
}

pub(super) async fn page(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    after: Option<(Timestamp, GrantId)>,
    limit: usize,
) -> Result<Vec<Grant>, Fault> {
    let (at, id) = after.map_or((i64::MAX, String::new()), |(at, id)| (at.micros(), id.to_string()));
    let rows: Vec<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::page()))
        .bind(workspace.as_str())
        .bind(at)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(GrantRecord::read).collect::<Result<_, _>>()?)
}

/// A grant that is to be given, and its record.
pub(super) struct Giving {
    pub(super) workspace: WorkspaceId,
    pub(super) grant: Grant,
    pub(super) earlier: Option<EarlierKey>,
    pub(super) audited: Audited,
}

#[async_trait]
impl Description<Given> for Giving {
    async fn write(&self, connection: &mut Connection) -> Result<(Given, bool), Fault> {
        let (workspace, grant) = (&self.workspace, &self.grant);
        next_version(connection, workspace).await?;
        let key = grant.key.iter().map(|key| (key, Timestamp::MIN));
        let earlier = self.earlier.iter().map(|earlier| (&earlier.key, earlier.since));
        for (key, since) in key.chain(earlier) {
            let known: Option<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::of_key()))
                .bind(workspace.as_str())
                .bind(key)
                .fetch_optional(&mut *connection)
                .await?;
            let known = known.map(GrantRecord::read).transpose()?;
            if let Some(known) = known.filter(|known| known.created_at > since) {
                return Ok((Given::Known(known), false));
            }
        }
        let alive: i64 = sqlx::query_scalar(sql::ALIVE_COUNT)
            .bind(workspace.as_str())
            .bind(grant.budget.as_str())
            .bind(grant.created_at.micros())
            .fetch_one(&mut *connection)
            .await?;
        if usize::try_from(alive).unwrap_or(usize::MAX) >= GRANTS_MAX {
            return Ok((Given::TooMany, false));
        }
        add(connection, workspace, grant).await?;
        crediting::begin(connection, workspace, grant).await?;
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        name_purse(connection, workspace, &grant.budget).await?;
        Ok((Given::New(grant.clone()), true))
    }
}

/// Has all nodes name the purse of a budget from now on. The number of the change is taken last: its lock is shared by all workspaces.
async fn name_purse(connection: &mut Connection, workspace: &WorkspaceId, budget: &BudgetId) -> Result<(), Fault> {
    let granted: String = sqlx::query_scalar(sql::GRANTED)
        .bind(workspace.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let mut granted = record::granted(&granted)?;
    if !granted.insert(budget.clone()) {
        return Ok(());
    }
    sqlx::query(sql::SET_GRANTED)
        .bind(workspace.as_str())
        .bind(record::json(&granted))
        .execute(&mut *connection)
        .await?;
    let number: i64 = sqlx::query_scalar(shared::NEXT_WORKSPACE_CHANGE)
        .fetch_one(&mut *connection)
        .await?;
    let numbered = sqlx::query(shared::NUMBER_WORKSPACE).bind(workspace.as_str()).bind(number);
    numbered.execute(connection).await?;
    Ok(())
}

pub(super) async fn add(connection: &mut Connection, workspace: &WorkspaceId, grant: &Grant) -> Result<(), Fault> {
    let row = GrantRecord::new(workspace, grant);
    let statement = sqlx::query(AssertSqlSafe(sql::give()))
        .bind(row.grant_id)
        .bind(row.workspace_id)
        .bind(row.grant_key)
        .bind(row.budget_id)
        .bind(row.unit)
        .bind(row.amount)
        .bind(row.priority)
        .bind(row.effective_at)
        .bind(row.expires_at)
        .bind(row.recurrence)
        .bind(row.rollover_min)
        .bind(row.rollover_max)
        .bind(row.source)
        .bind(row.created_at)
        .bind(row.voided_at)
        .bind(row.ends_at)
        .bind(row.paid_amount)
        .bind(row.paid_currency);
    statement.execute(connection).await?;
    Ok(())
}

/// One grant of a workspace.
pub(super) async fn grant(connection: &mut Connection, workspace: &WorkspaceId, grant: GrantId) -> Result<Option<Grant>, Fault> {
    let known: Option<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::grant()))
        .bind(workspace.as_str())
        .bind(grant.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(known.map(GrantRecord::read).transpose()?)
}

/// A grant that is to end, and its record.
pub(super) struct Voiding {
    pub(super) workspace: WorkspaceId,
    pub(super) grant: GrantId,
    pub(super) now: Timestamp,
    pub(super) audited: Audited,
}

#[async_trait]
impl Description<Option<Grant>> for Voiding {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<Grant>, bool), Fault> {
        next_version(connection, &self.workspace).await?;
        let Some(known) = grant(connection, &self.workspace, self.grant).await? else {
            return Ok((None, false));
        };
        if known.ends_at() <= self.now {
            return Ok((Some(known), false));
        }
        sqlx::query(sql::VOID)
            .bind(self.grant.to_string())
            .bind(self.now.micros())
            .execute(&mut *connection)
            .await?;
        crediting::void(connection, self.grant, self.now).await?;
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        let voided = Grant {
            voided_at: Some(self.now),
            ..known
        };
        Ok((Some(voided), true))
    }
}

pub(super) async fn next_version(connection: &mut Connection, workspace: &WorkspaceId) -> Result<i64, Fault> {
    let version: Option<i64> = sqlx::query_scalar(sql::NEXT_VERSION)
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(version.unwrap_or(0))
}

/// Every sum of payments that differs, and every grant that paid more than it had.
pub(super) async fn verified(connection: &mut Connection) -> Result<Vec<GrantDifference>, Fault> {
    let (mut differences, mut after) = (Vec::new(), String::new());
    loop {
        let workspaces: Vec<String> = sqlx::query_scalar(sql::WITH_PAYMENTS)
            .bind(&after)
            .bind(VERIFY_WORKSPACES)
            .fetch_all(&mut *connection)
            .await?;
        let Some(last) = workspaces.last().cloned() else {
            return Ok(differences);
        };
        after = last;
        for workspace in workspaces {
            let rows: Vec<PaidDifferenceRow> = sqlx::query_as(sql::DIFFERENCES)
                .bind(&workspace)
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let (workspace, grant, segment, paid, payments) = row.read()?;
                differences.push(GrantDifference {
                    workspace,
                    grant,
                    segment,
                    paid,
                    payments,
                });
            }
            let workspace = record::workspace_id(&workspace)?;
            let pots = pots(connection, &workspace, Timestamp::MIN).await?;
            let over = pots.by_budget.values().flat_map(Pot::overdrawn);
            differences.extend(over.map(|(grant, segment)| GrantDifference {
                workspace: workspace.clone(),
                grant: grant.id,
                segment,
                paid: pots.by_budget[&grant.budget].paid(grant.id, segment),
                payments: pots.by_budget[&grant.budget].paid(grant.id, segment),
            }));
        }
    }
}
