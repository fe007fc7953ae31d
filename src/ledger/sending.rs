//! Which batch is sent by whom, and what became of it, inside of a transaction.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Whoever writes here takes the row of the workspace and meter first,
//! then the batch.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, adjusting, audited, inbound_rows, many};
use crate::decision::billing::delivery::{Answer, Delivery, Event, Impossible};
use crate::decision::billing::periods::Periods;
use crate::decision::billing::{Batch, adjust};
use crate::decision::billing::{State, Terms};
use crate::decision::id::{BatchId, MeterId, WorkspaceId};
use crate::decision::period::Calendar;
use crate::decision::time::Timestamp;
use crate::ledger::billing::{Answered, BatchChange, Changed, Claim, Claiming, Claims};
use crate::ledger::billing_sql as sql;
use crate::ledger::record::{self, BatchRow};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

/// How many batches of one workspace and meter are set aside in one claim, before another one gets its turn.
const SET_ASIDE_MAX: usize = 100;
/// How soon it is looked again whether nobody else tells a customer any more.
const BUSY_SECONDS: i64 = 2;

pub(super) async fn batch(connection: &mut Connection, id: BatchId) -> Result<Option<Batch>, Fault> {
    let row: Option<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::batch()))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(Batch::try_from).transpose()?)
}

/// Writes how a batch stands.
pub(super) async fn deliver(connection: &mut Connection, id: BatchId, delivery: &Delivery) -> Result<(), Fault> {
    let micros = |at: Option<Timestamp>| at.map(Timestamp::micros);
    let reason = delivery.reason.as_ref();
    sqlx::query(sql::DELIVER)
        .bind(id.to_string())
        .bind(delivery.state.as_str())
        .bind(delivery.generation)
        .bind(&delivery.customer)
        .bind(micros(delivery.told_at))
        .bind(delivery.tries)
        .bind(micros(delivery.claimed_at))
        .bind(micros(delivery.unsure_since))
        .bind(micros(delivery.next_try_at))
        .bind(reason.map(|reason| record::reason_word(reason.code)))
        .bind(reason.map(|reason| &reason.detail))
        .bind(micros(delivery.acknowledged_at))
        .execute(connection)
        .await?;
    Ok(())
}

/// Works out when something of a workspace and meter is due next.
pub(super) async fn refresh(connection: &mut Connection, workspace: &WorkspaceId, meter: &MeterId) -> Result<(), Fault> {
    let statement = sqlx::query(sql::REFRESH_DUE).bind(workspace.as_str()).bind(meter.as_str());
    statement.execute(connection).await?;
    Ok(())
}

/// Takes the lock of a workspace and meter, and tells its lease.
pub(super) async fn lock(connection: &mut Connection, workspace: &WorkspaceId, meter: &MeterId) -> Result<i64, Fault> {
    let statement = sqlx::query_scalar(sql::LOCK_ACCOUNT).bind(workspace.as_str()).bind(meter.as_str());
    Ok(statement.fetch_one(connection).await?)
}

/// Takes the lock of a batch's workspace and meter, then reads the batch; `None`: there is none of that id.
async fn locked(connection: &mut Connection, id: BatchId) -> Result<Option<(i64, Batch)>, Fault> {
    let Some(found) = batch(connection, id).await? else {
        return Ok(None);
    };
    let lease = lock(connection, &found.workspace, &found.meter).await?;
    // Read again, in a statement of its own: it may have changed while the lock was waited for.
    Ok(batch(connection, id).await?.map(|batch| (lease, batch)))
}

#[async_trait]
impl Description<Claims> for Claiming {
    async fn write(&self, connection: &mut Connection) -> Result<(Claims, bool), Fault> {
        let accounts: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql::accounts_due(many::SKIP_LOCKED)))
            .bind(self.now.micros())
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        if !accounts.is_empty() {
            sqlx::query(sql::CLAIM_TURN).execute(&mut *connection).await?;
        }
        let mut claims = Claims::default();
        for (workspace, meter) in accounts {
            let (workspace, meter) = (record::workspace_id(&workspace)?, record::meter_id(&meter)?);
            claim_one(connection, self, &workspace, &meter, &mut claims).await?;
        }
        Ok((claims, true))
    }
}

async fn claim_one(
    connection: &mut Connection,
    claiming: &Claiming,
    workspace: &WorkspaceId,
    meter: &MeterId,
    claims: &mut Claims,
) -> Result<(), Fault> {
    take_over(connection, claiming, workspace, meter).await?;
    let (periods, customer) = about(connection, workspace).await?;
    let (mut claimed, mut is_busy) = (None, false);
    for _ in 0..SET_ASIDE_MAX {
        let row: Option<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::due()))
            .bind(workspace.as_str())
            .bind(meter.as_str())
            .bind(claiming.now.micros())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else { break };
        let mut batch = Batch::try_from(row)?;
        let (terms, late, now) = (&claiming.terms, claiming.late_after_seconds, claiming.now);
        let adjusted = match batch.adjusts {
            Some(original) => self::batch(connection, original).await?,
            None => None,
        };
        let event = match batch.adjusts {
            Some(_) => adjust::when_due(&batch, adjusted.as_ref(), customer.as_deref(), terms, &periods, late, now),
            None => batch.when_due(terms, &periods, customer.as_deref(), late, now),
        };
        let customer = match &event {
            Event::Claimed { customer, .. } => customer.as_deref(),
            _ => None,
        };
        is_busy = is_being_told(connection, customer, &batch.event_name, claiming.now, claims).await?;
        if is_busy {
            break;
        }
        let Ok(next) = batch.delivery.step(event, &claiming.terms, claiming.now, 0) else {
            break;
        };
        deliver(connection, batch.id, &next).await?;
        batch.delivery = next;
        if batch.delivery.state == State::Sending {
            claimed = Some(batch);
            break;
        }
        adjusting::put_back(connection, &mut batch, terms, now).await?;
        claims.set_aside.push(batch);
    }
    let until = match claimed {
        Some(_) => claiming.now.plus_seconds(claiming.lease_seconds).micros(),
        None => 0,
    };
    let lease: i64 = sqlx::query_scalar(sql::TAKE_LEASE)
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .bind(until)
        .fetch_one(&mut *connection)
        .await?;
    claims.claims.extend(claimed.map(|batch| Claim { batch, lease }));
    refresh(connection, workspace, meter).await?;
    if is_busy {
        // So that those behind it get their turn.
        let statement = sqlx::query(sql::PUT_OFF).bind(workspace.as_str()).bind(meter.as_str());
        let at = claiming.now.plus_seconds(BUSY_SECONDS);
        statement.bind(at.micros()).execute(connection).await?;
    }
    Ok(())
}

/// Whether somebody else tells a customer of the same event name: of another workspace, by another claim. What is claimed together is told one
/// after the other.
async fn is_being_told(
    connection: &mut Connection,
    customer: Option<&str>,
    event_name: &str,
    now: Timestamp,
    claims: &Claims,
) -> Result<bool, Fault> {
    let Some(customer) = customer else { return Ok(false) };
    let told: Vec<String> = sqlx::query_scalar(sql::BEING_TOLD)
        .bind(customer)
        .bind(event_name)
        .bind(now.micros())
        .fetch_all(connection)
        .await?;
    let is_ours = |id: &String| claims.claims.iter().any(|claim| claim.batch.id.to_string() == *id);
    Ok(!told.iter().all(is_ours))
}

/// What a sender left behind that did not come back.
async fn take_over(connection: &mut Connection, claiming: &Claiming, workspace: &WorkspaceId, meter: &MeterId) -> Result<(), Fault> {
    let left: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::under_way()))
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in left {
        let batch = Batch::try_from(row)?;
        if let Ok(next) = batch.delivery.step(Event::SenderLost, &claiming.terms, claiming.now, 0) {
            deliver(connection, batch.id, &next).await?;
        }
    }
    Ok(())
}

/// The periods of a workspace's invoices, and its customer at the provider.
pub(super) async fn about(connection: &mut Connection, workspace: &WorkspaceId) -> Result<(Periods, Option<String>), Fault> {
    let row: Option<(String, Option<String>)> = sqlx::query_as(sql::CALENDAR_AND_CUSTOMER)
        .bind(workspace.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    match row {
        Some((calendar, customer)) => Ok((
            periods(connection, record::calendar(&calendar)?, customer.as_deref()).await?,
            customer,
        )),
        None => Ok((Periods::default(), None)),
    }
}

/// The periods of the invoices of whoever has this calendar and this customer.
pub(super) async fn periods(connection: &mut Connection, calendar: Calendar, customer: Option<&str>) -> Result<Periods, Fault> {
    let subscriptions = match customer {
        Some(customer) => inbound_rows::subscriptions(connection, customer).await?.1,
        None => Vec::new(),
    };
    Ok(Periods::new(calendar, subscriptions))
}

#[async_trait]
impl Description<Option<Batch>> for Answered {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<Batch>, bool), Fault> {
        let Some((lease, mut batch)) = locked(connection, self.batch).await? else {
            return Ok((None, false));
        };
        let is_known = matches!(self.answer, Answer::Acknowledged | Answer::Duplicate);
        if batch.delivery.generation != self.generation || (lease != self.lease && !is_known) {
            return Ok((None, false));
        }
        if lease == self.lease {
            let statement = sqlx::query(sql::END_LEASE)
                .bind(batch.workspace.as_str())
                .bind(batch.meter.as_str());
            statement.bind(lease).execute(&mut *connection).await?;
        }
        let stepped = batch
            .delivery
            .step(Event::Answered(self.answer.clone()), &self.terms, self.now, self.chance);
        if let Ok(next) = &stepped {
            deliver(connection, batch.id, next).await?;
        }
        refresh(connection, &batch.workspace, &batch.meter).await?;
        let Ok(next) = stepped else { return Ok((None, true)) };
        batch.delivery = next;
        adjusting::put_back(connection, &mut batch, &self.terms, self.now).await?;
        Ok((Some(batch), true))
    }
}

#[async_trait]
impl Description<Changed> for BatchChange {
    async fn write(&self, connection: &mut Connection) -> Result<(Changed, bool), Fault> {
        let Some((_, mut batch)) = locked(connection, self.batch).await? else {
            return Ok((Changed::Gone, false));
        };
        if self.generation.is_some_and(|generation| generation != batch.delivery.generation) {
            return Ok((Changed::Gone, false));
        }
        if matches!(self.event, Event::Resend { .. }) && is_apart(connection, &batch, self.now).await? {
            return Ok((Changed::Refused(Box::new(batch), Impossible::Adjusted), false));
        }
        match batch.delivery.step(self.event.clone(), &self.terms, self.now, 0) {
            Err(why) => Ok((Changed::Refused(Box::new(batch), why), false)),
            Ok(next) => {
                deliver(connection, batch.id, &next).await?;
                refresh(connection, &batch.workspace, &batch.meter).await?;
                audited::write(connection, self.audited.as_slice()).await?;
                batch.delivery = next;
                Ok((Changed::Done(Box::new(batch)), true))
            }
        }
    }
}

/// Whether a batch may not be sent again because something of it was taken back, or by it, in a period that is over.
async fn is_apart(connection: &mut Connection, batch: &Batch, now: Timestamp) -> Result<bool, Fault> {
    let may_be_there = matches!(batch.delivery.state, State::Unknown | State::Acknowledged);
    let adjusting = match batch.adjusts {
        Some(_) if may_be_there => Some(batch.clone()),
        Some(_) => None,
        None => {
            let row: Option<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::adjusting()))
                .bind(batch.id.to_string())
                .fetch_optional(&mut *connection)
                .await?;
            row.map(Batch::try_from).transpose()?
        }
    };
    let Some(adjusting) = adjusting else { return Ok(false) };
    let (periods, _) = about(connection, &batch.workspace).await?;
    Ok(adjust::is_over(&adjusting, &periods, now))
}

/// Batches that wait for a customer.
pub(super) struct Resuming {
    pub(super) terms: Terms,
    pub(super) limit: usize,
    pub(super) now: Timestamp,
}

#[async_trait]
impl Description<usize> for Resuming {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let ids: Vec<String> = sqlx::query_scalar(sql::RESUMABLE)
            .bind(i64::from(!self.terms.needs_customer))
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        let mut waiting = Vec::with_capacity(ids.len());
        for id in ids {
            waiting.extend(batch(connection, record::batch_id(&id)?).await?);
        }
        // In one order, so that two who resume do not stand crosswise.
        waiting.sort_by(|a, b| (&a.workspace, &a.meter, a.id).cmp(&(&b.workspace, &b.meter, b.id)));
        let mut resumed = 0;
        for found in waiting {
            let Some((_, batch)) = locked(connection, found.id).await? else {
                continue;
            };
            if let Ok(next) = batch.delivery.step(Event::Resumed, &self.terms, self.now, 0) {
                deliver(connection, batch.id, &next).await?;
                refresh(connection, &batch.workspace, &batch.meter).await?;
                resumed += 1;
            }
        }
        Ok((resumed, true))
    }
}
