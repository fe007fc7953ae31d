//! The reads of reconcile. Written once and compiled into each store (`#[path]`), like `read.rs`.

use super::Connection;
use super::fault::Fault;
use crate::decision::billing::Batch;
use crate::decision::meter::{Factor, Meter};
use crate::decision::time::Timestamp;
use crate::ledger::record::{self, BatchRow};
use crate::ledger::told::{self, Forgotten, MemberSum, Stretch, ToldAccount, WindowSum};
use sqlx::AssertSqlSafe;

/// Every workspace, as the statements have it.
fn whose(stretch: &Stretch) -> String {
    stretch.workspace.as_ref().map_or_else(String::new, ToString::to_string)
}

pub(super) async fn accounts(
    connection: &mut Connection,
    stretch: &Stretch,
    after: Option<&ToldAccount>,
    limit: usize,
) -> Result<Vec<ToldAccount>, Fault> {
    let (customer, event_name) = after.map_or(("", ""), |after| (&after.customer, &after.event_name));
    let rows: Vec<(String, String)> = sqlx::query_as(told::ACCOUNTS)
        .bind(customer)
        .bind(event_name)
        .bind(stretch.from.micros())
        .bind(stretch.to.micros())
        .bind(whose(stretch))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    let account = |(customer, event_name)| ToldAccount { customer, event_name };
    Ok(rows.into_iter().map(account).collect())
}

pub(super) async fn batches(
    connection: &mut Connection,
    account: &ToldAccount,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Batch>, Fault> {
    of_account(connection, told::batches(), account, from, to).await
}

pub(super) async fn elsewhere(
    connection: &mut Connection,
    account: &ToldAccount,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Batch>, Fault> {
    of_account(connection, told::elsewhere(), account, from, to).await
}

/// How long one call may take, and how long a batch without an answer is tried again: no provider recognises it for longer.
const CALL_SECONDS_MAX: i64 = 120;
const AGAIN_SECONDS_MAX: i64 = 86_400;

pub(super) async fn told_while(connection: &mut Connection, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, Fault> {
    let rows: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(told::told_while()))
        .bind(from.plus_seconds(-CALL_SECONDS_MAX).micros())
        .bind(to.micros())
        .bind(to.plus_seconds(AGAIN_SECONDS_MAX).micros())
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|row| Ok(Batch::try_from(row)?)).collect()
}

async fn of_account(
    connection: &mut Connection,
    text: String,
    account: &ToldAccount,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Batch>, Fault> {
    let rows: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(text))
        .bind(account.customer.clone())
        .bind(account.event_name.clone())
        .bind(from.micros())
        .bind(to.micros())
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|row| Ok(Batch::try_from(row)?)).collect()
}

type SumRow = (String, String, String, String, Option<String>, i64, i64, i64, i64, i64);

pub(super) async fn window_sums(connection: &mut Connection, stretch: &Stretch) -> Result<Vec<WindowSum>, Fault> {
    let rows: Vec<SumRow> = sqlx::query_as(told::WINDOW_SUMS)
        .bind(stretch.from.micros())
        .bind(stretch.to.micros())
        .bind(whose(stretch))
        .fetch_all(connection)
        .await?;
    let read = |(workspace, meter, event_name, state, reason, numerator, denominator, batches, counted, value): SumRow| {
        Ok(WindowSum {
            workspace: record::workspace_id(&workspace)?,
            meter: record::meter_id(&meter)?,
            event_name,
            state: record::batch_state(&state)?,
            reason: reason.as_deref().map(record::reason_code).transpose()?,
            factor: Factor::of(numerator, denominator).ok_or_else(|| record::no_factor(denominator))?,
            batches,
            counted,
            value,
        })
    };
    rows.into_iter().map(read).collect()
}

pub(super) async fn member_sums(connection: &mut Connection, stretch: &Stretch) -> Result<Vec<MemberSum>, Fault> {
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(told::MEMBER_SUMS)
        .bind(stretch.from.micros())
        .bind(stretch.to.micros())
        .bind(whose(stretch))
        .fetch_all(connection)
        .await?;
    let read = |(workspace, meter, event_name, counted): (String, String, String, i64)| {
        Ok(MemberSum {
            workspace: record::workspace_id(&workspace)?,
            meter: record::meter_id(&meter)?,
            event_name,
            counted,
        })
    };
    rows.into_iter().map(read).collect()
}

pub(super) async fn forgotten(connection: &mut Connection, meter: &Meter, stretch: &Stretch) -> Result<Vec<Forgotten>, Fault> {
    let bound = sqlx::query_as::<_, (String, i64, i64)>(AssertSqlSafe(told::forgotten(meter)))
        .bind(meter.id.to_string())
        .bind(stretch.from.micros())
        .bind(stretch.to.micros())
        .bind(whose(stretch));
    let read = |(workspace, entries, counted): (String, i64, i64)| {
        Ok(Forgotten {
            workspace: record::workspace_id(&workspace)?,
            entries,
            counted,
        })
    };
    bound.fetch_all(connection).await?.into_iter().map(read).collect()
}
