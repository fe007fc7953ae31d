//! Credits of paid grants, over a connection.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Whoever changes a credit takes its row first; who voids a grant has
//! the workspace's row by then, and nobody takes that after a credit's.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, audited, many};
use crate::decision::billing::credit::{Credit, CreditAnswer, CreditDelivery, CreditEvent, CreditState};
use crate::decision::grant::Grant;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::credits::{self as sql, CreditAnswered, CreditChange, CreditChanged, CreditClaiming, CreditClaims, LostCredits};
use crate::ledger::record::{self, CreditRow};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

/// Notes that a grant which was paid for is to be given to the provider.
pub(super) async fn begin(connection: &mut Connection, workspace: &WorkspaceId, grant: &Grant) -> Result<(), Fault> {
    if grant.paid.is_none() {
        return Ok(());
    }
    let delivery = CreditDelivery::new(grant.created_at);
    let statement = sqlx::query(sql::BEGIN)
        .bind(grant.id.to_string())
        .bind(workspace.as_str())
        .bind(grant.created_at.micros())
        .bind(delivery.state.as_str())
        .bind(delivery.key_number)
        .bind(delivery.next_try_at.map(Timestamp::micros));
    statement.execute(connection).await?;
    Ok(())
}

/// Notes that a grant was voided, if it has a credit.
pub(super) async fn void(connection: &mut Connection, grant: GrantId, now: Timestamp) -> Result<(), Fault> {
    let Some(credit) = locked(connection, grant).await? else {
        return Ok(());
    };
    if let Ok(next) = credit.delivery.step(CreditEvent::Voided, now, 0) {
        deliver(connection, grant, &next).await?;
    }
    Ok(())
}

async fn credit(connection: &mut Connection, grant: GrantId) -> Result<Option<Credit>, Fault> {
    let row: Option<CreditRow> = sqlx::query_as(AssertSqlSafe(sql::credit()))
        .bind(grant.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(CreditRow::read).transpose()?)
}

/// Takes the lock of a credit, then reads it.
async fn locked(connection: &mut Connection, grant: GrantId) -> Result<Option<Credit>, Fault> {
    sqlx::query(sql::LOCK).bind(grant.to_string()).execute(&mut *connection).await?;
    credit(connection, grant).await
}

/// Writes how a credit stands.
async fn deliver(connection: &mut Connection, grant: GrantId, delivery: &CreditDelivery) -> Result<(), Fault> {
    let micros = |at: Option<Timestamp>| at.map(Timestamp::micros);
    let reason = delivery.reason.as_ref();
    let statement = sqlx::query(sql::DELIVER)
        .bind(grant.to_string())
        .bind(delivery.state.as_str())
        .bind(i64::from(delivery.is_void))
        .bind(&delivery.customer)
        .bind(&delivery.provider_id)
        .bind(delivery.key_number)
        .bind(delivery.claims)
        .bind(delivery.tries)
        .bind(micros(delivery.unsure_since))
        .bind(micros(delivery.next_try_at))
        .bind(reason.map(|reason| record::reason_word(reason.code)))
        .bind(reason.map(|reason| &reason.detail))
        .bind(micros(delivery.acknowledged_at));
    statement.execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Description<CreditClaims> for CreditClaiming {
    async fn write(&self, connection: &mut Connection) -> Result<(CreditClaims, bool), Fault> {
        let due: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql::due(many::SKIP_LOCKED)))
            .bind(self.now.micros())
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        let mut claims = CreditClaims::default();
        for grant in due {
            let Some(mut credit) = credit(connection, record::grant_id(&grant)?).await? else {
                continue;
            };
            let customer: Option<Option<String>> = sqlx::query_scalar(sql::CUSTOMER)
                .bind(credit.workspace.as_str())
                .fetch_optional(&mut *connection)
                .await?;
            // What a sender left behind that did not come back.
            if let Ok(next) = credit.delivery.step(CreditEvent::SenderLost, self.now, 0) {
                credit.delivery = next;
            }
            let until = self.now.plus_seconds(self.lease_seconds);
            let event = credit.when_due(customer.flatten().as_deref(), until, self.now);
            if let Ok(next) = credit.delivery.step(event, self.now, 0) {
                credit.delivery = next;
            }
            deliver(connection, credit.grant, &credit.delivery).await?;
            match credit.delivery.state {
                CreditState::Sending => claims.claims.push(credit),
                _ => claims.set_aside.push(credit),
            }
        }
        Ok((claims, true))
    }
}

#[async_trait]
impl Description<Option<Credit>> for CreditAnswered {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<Credit>, bool), Fault> {
        let Some(mut credit) = locked(connection, self.grant).await? else {
            return Ok((None, false));
        };
        let is_known = matches!(self.answer, CreditAnswer::Given(_));
        if credit.delivery.claims != self.claim && !is_known {
            return Ok((None, false));
        }
        let event = CreditEvent::Answered(self.answer.clone());
        let Ok(next) = credit.delivery.step(event, self.now, self.chance) else {
            return Ok((None, false));
        };
        deliver(connection, credit.grant, &next).await?;
        credit.delivery = next;
        Ok((Some(credit), true))
    }
}

#[async_trait]
impl Description<CreditChanged> for CreditChange {
    async fn write(&self, connection: &mut Connection) -> Result<(CreditChanged, bool), Fault> {
        let Some(mut credit) = locked(connection, self.grant).await? else {
            return Ok((CreditChanged::Gone, false));
        };
        match credit.delivery.step(self.event.clone(), self.now, 0) {
            Err(why) => Ok((CreditChanged::Refused(Box::new(credit), why), false)),
            Ok(next) => {
                deliver(connection, credit.grant, &next).await?;
                audited::write(connection, self.audited.as_slice()).await?;
                credit.delivery = next;
                Ok((CreditChanged::Done(Box::new(credit)), true))
            }
        }
    }
}

/// Credits that wait for a customer.
pub(super) struct ResumingCredits {
    pub(super) limit: usize,
    pub(super) now: Timestamp,
}

#[async_trait]
impl Description<usize> for ResumingCredits {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let waiting: Vec<String> = sqlx::query_scalar(sql::RESUMABLE)
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        // In one order, so that two who resume do not stand crosswise.
        let mut grants = waiting.iter().map(|grant| record::grant_id(grant)).collect::<Result<Vec<_>, _>>()?;
        grants.sort_unstable();
        let mut resumed = 0;
        for grant in grants {
            let Some(credit) = locked(connection, grant).await? else { continue };
            if let Ok(next) = credit.delivery.step(CreditEvent::Resumed, self.now, 0) {
                deliver(connection, grant, &next).await?;
                resumed += 1;
            }
        }
        Ok((resumed, true))
    }
}

pub(super) async fn of_workspace(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Credit>, Fault> {
    let rows: Vec<CreditRow> = sqlx::query_as(AssertSqlSafe(sql::of_workspace()))
        .bind(workspace.as_str())
        .bind(from.micros())
        .bind(to.micros())
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(CreditRow::read).collect::<Result<_, _>>()?)
}

pub(super) async fn open(connection: &mut Connection, workspace: Option<&WorkspaceId>, limit: usize) -> Result<Vec<Credit>, Fault> {
    let rows: Vec<CreditRow> = sqlx::query_as(AssertSqlSafe(sql::open()))
        .bind(workspace.map_or("", WorkspaceId::as_str))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(CreditRow::read).collect::<Result<_, _>>()?)
}

pub(super) async fn lost(connection: &mut Connection, query: &LostCredits) -> Result<Vec<Credit>, Fault> {
    let (created_at, grant) = query
        .after
        .map_or((i64::MIN, String::new()), |(at, grant)| (at.micros(), grant.to_string()));
    let rows: Vec<CreditRow> = sqlx::query_as(AssertSqlSafe(sql::lost()))
        .bind(query.workspace.as_ref().map_or("", WorkspaceId::as_str))
        .bind(created_at)
        .bind(grant)
        .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(CreditRow::read).collect::<Result<_, _>>()?)
}

pub(super) async fn states(connection: &mut Connection) -> Result<Vec<(CreditState, i64)>, Fault> {
    let rows: Vec<(String, i64)> = sqlx::query_as(sql::STATES).fetch_all(connection).await?;
    let count = |(state, credits): (String, i64)| Ok((record::credit_state(&state)?, credits));
    rows.into_iter().map(count).collect()
}
