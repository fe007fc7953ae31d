//! Adjustments of what the provider was told, inside of a transaction: an adjusting batch is made, and put back where it was in vain.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Whoever writes here has the row of the workspace and meter.

use super::Connection;
use super::batching::{carried, carried_of, fix};
use super::describe::Description;
use super::fault::Fault;
use super::sending::{about, deliver, lock, refresh};
use crate::decision::billing::delivery::{Delivery, Event};
use crate::decision::billing::{Batch, Terms, adjust, batch_id};
use crate::decision::id::BatchId;
use crate::decision::time::Timestamp;
use crate::ledger::billing::{Adjusting, BEFORE_SECONDS};
use crate::ledger::billing_sql as sql;
use crate::ledger::record::BatchRow;
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

/// How many batches are looked at for one from which something may be taken back.
const ORIGINALS_MAX: i64 = 50;
/// Nothing is taken back as of a time before, which the provider may not take when it is told.
const OLDEST_SECONDS: i64 = BEFORE_SECONDS - 86_400;

#[async_trait]
impl Description<bool> for Adjusting {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        let (debt, now) = (&self.debt, self.now);
        lock(connection, &debt.workspace, &debt.meter).await?;
        let (periods, customer) = about(connection, &debt.workspace).await?;
        // Read again under the lock: it may have been set off meanwhile.
        let owed = carried_of(connection, debt).await?.owed();
        if owed == 0 {
            return Ok((false, false));
        }
        let rows: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::originals()))
            .bind(debt.workspace.as_str())
            .bind(debt.meter.as_str())
            .bind(&debt.event_name)
            .bind(debt.unit.as_str())
            .bind(debt.factor.numerator())
            .bind(debt.factor.denominator())
            .bind(periods.at(now).start.max(now.plus_seconds(-OLDEST_SECONDS)).micros())
            .bind(ORIGINALS_MAX)
            .bind(customer)
            .bind(owed)
            .fetch_all(&mut *connection)
            .await?;
        let originals = rows.into_iter().map(Batch::try_from).collect::<Result<Vec<_>, _>>()?;
        let Some(original) = originals.iter().find(|original| adjust::can_give(original, &periods, now)) else {
            return Ok((false, false));
        };
        let value = adjust::value(owed, original);
        let sealed = Delivery::open().step(Event::Sealed { is_zero: false }, &Terms::NONE, now, 0);
        put(connection, original, value, sealed.unwrap_or_else(|_| Delivery::open()), now).await?;
        Ok((true, true))
    }
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
