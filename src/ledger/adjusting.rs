//! Adjustments of what the provider was told, inside of a transaction: an adjusting batch is made, and put back where it was in vain.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Whoever writes here has the row of the workspace and meter.

use super::Connection;
use super::batching::{carried, fix};
use super::describe::Description;
use super::fault::Fault;
use super::sending::{about, deliver, lock, refresh};
use crate::decision::billing::delivery::{Delivery, Event};
use crate::decision::billing::{Batch, Terms, adjust, batch_id};
use crate::decision::id::BatchId;
use crate::decision::time::Timestamp;
use crate::ledger::billing::Adjusting;
use crate::ledger::billing_sql as sql;
use crate::ledger::record::{self, BatchRow};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

/// How many of the largest batches are looked at for one from which something may be taken back.
const ORIGINALS_MAX: i64 = 50;

type Debt = (String, String, String, String, i64, i64);

#[async_trait]
impl Description<usize> for Adjusting {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let Some((from, to)) = adjust::owed_between(&self.terms, self.now) else {
            return Ok((0, false));
        };
        let mut debts: Vec<Debt> = sqlx::query_as(sql::DEBTS)
            .bind(from.micros())
            .bind(to.micros())
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        // In one order, so that two who adjust do not stand crosswise.
        debts.sort();
        let mut made = 0;
        for debt in debts {
            made += usize::from(take_back(connection, self, &debt, from).await?);
        }
        Ok((made, made > 0))
    }
}

/// Makes an adjusting batch for a debt, if there is a batch to take it back from.
async fn take_back(connection: &mut Connection, adjusting: &Adjusting, debt: &Debt, since: Timestamp) -> Result<bool, Fault> {
    let (workspace, meter) = (record::workspace_id(&debt.0)?, record::meter_id(&debt.1)?);
    lock(connection, &workspace, &meter).await?;
    let (periods, _) = about(connection, &workspace).await?;
    let rows: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::originals()))
        .bind(&debt.0)
        .bind(&debt.1)
        .bind(&debt.2)
        .bind(&debt.3)
        .bind(debt.4)
        .bind(debt.5)
        .bind(ORIGINALS_MAX)
        .bind(since.micros())
        .fetch_all(&mut *connection)
        .await?;
    for row in rows {
        let original = Batch::try_from(row)?;
        if !adjust::can_give(&original, &adjusting.terms, &periods, adjusting.now) {
            continue;
        }
        // Read again under the lock: what is owed may have been set off meanwhile.
        let value = adjust::value(carried(connection, &original).await?.owed(), &original);
        if value < 0 {
            let sealed = Delivery::open().step(Event::Sealed { is_zero: false }, &adjusting.terms, adjusting.now, 0);
            put(
                connection,
                &original,
                value,
                sealed.unwrap_or_else(|_| Delivery::open()),
                adjusting.now,
            )
            .await?;
        }
        return Ok(value < 0);
    }
    Ok(false)
}

/// A batch without members that is worth `value`, and adjusts another one.
async fn put(connection: &mut Connection, adjusted: &Batch, value: i64, delivery: Delivery, now: Timestamp) -> Result<(), Fault> {
    let (workspace, meter, window) = (&adjusted.workspace, &adjusted.meter, adjusted.window);
    let told_at = adjusted.delivery.told_at.unwrap_or(adjusted.last_used_at);
    let sequence: i64 = sqlx::query_scalar(sql::NEXT_SEQUENCE)
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .bind(window.start.micros())
        .bind(window.end.micros())
        .fetch_one(&mut *connection)
        .await?;
    let id: BatchId = batch_id(workspace, meter, window, sequence);
    sqlx::query(sql::OPEN_ADJUSTING)
        .bind(id.to_string())
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .bind(window.start.micros())
        .bind(window.end.micros())
        .bind(sequence)
        .bind(&adjusted.event_name)
        .bind(adjusted.unit.as_str())
        .bind(adjusted.factor.numerator())
        .bind(adjusted.factor.denominator())
        .bind(told_at.micros())
        .bind(now.micros())
        .bind(adjusted.id.to_string())
        .execute(&mut *connection)
        .await?;
    let carry = carried(connection, adjusted).await?.minus(value);
    fix(connection, id, adjusted, value, carry, now).await?;
    deliver(connection, id, &delivery).await?;
    refresh(connection, workspace, meter).await
}

/// Has what was surely not taken back be owed again, if that is how the batch stands by now.
pub(super) async fn put_back(connection: &mut Connection, adjusting: &mut Batch, terms: &Terms, now: Timestamp) -> Result<(), Fault> {
    if !adjust::is_vain(adjusting) {
        return Ok(());
    }
    let Ok(ended) = adjusting.delivery.step(Event::Vain, terms, now, 0) else {
        return Ok(());
    };
    deliver(connection, adjusting.id, &ended).await?;
    adjusting.delivery = ended.clone();
    put(connection, adjusting, -adjusting.value(), ended, now).await
}
