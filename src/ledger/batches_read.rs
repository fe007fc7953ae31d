//! Reads of batches: lists, sums, and what they add up to once more.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`.

use super::Connection;
use super::fault::Fault;
use crate::decision::billing::exact::Exact;
use crate::decision::billing::{Batch, Sealed};
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::meter::Factor;
use crate::decision::time::Timestamp;
use crate::ledger::PAGE_ENTRIES_MAX;
use crate::ledger::billing::{
    BEFORE_SECONDS, BatchDifference, BatchFault, BatchQuery, BatchesVerified, Carried, CarriedQuery, Debt, DebtQuery, Metered,
    MeteredQuery, StateCount,
};
use crate::ledger::billing_sql as sql;
use crate::ledger::record::{self, BatchRow};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap};

type Account = (WorkspaceId, MeterId);

/// Event name, unit, factor: what decides what a carried part is a part of.
type Definition = (String, String, i64, i64);

pub(super) async fn list(connection: &mut Connection, query: &BatchQuery) -> Result<Vec<Batch>, Fault> {
    let after = query.after.as_ref();
    // No id sorts above this one.
    let (at, id) = after.map_or((i64::MAX, "~".to_owned()), |(at, id)| (at.micros(), id.to_string()));
    let mut bound = sqlx::query_as::<_, BatchRow>(AssertSqlSafe(sql::list(query)))
        .bind(at)
        .bind(id)
        .bind(i64::try_from(query.limit.min(PAGE_ENTRIES_MAX + 1)).unwrap_or(i64::MAX));
    for named in [
        query.workspace.as_ref().map(WorkspaceId::as_str),
        query.meter.as_ref().map(MeterId::as_str),
    ] {
        bound = match named {
            Some(value) => bound.bind(value.to_owned()),
            None => bound,
        };
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Batch::try_from(row)?)).collect()
}

pub(super) async fn states(connection: &mut Connection) -> Result<Vec<StateCount>, Fault> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql::STATES).fetch_all(connection).await?;
    let count = |(state, batches, oldest): (String, i64, i64)| {
        Ok(StateCount {
            state: record::batch_state(&state)?,
            batches,
            oldest: Timestamp::from_micros(oldest),
        })
    };
    rows.into_iter().map(count).collect()
}

/// The next workspaces and meters, and where the page after them begins.
async fn accounts(
    connection: &mut Connection,
    after: Option<&(WorkspaceId, MeterId)>,
    limit: usize,
) -> Result<(Vec<Account>, Option<Account>), Fault> {
    let (after_workspace, after_meter) = after.map_or(("", ""), |(workspace, meter)| (workspace.as_str(), meter.as_str()));
    let rows: Vec<(String, String)> = sqlx::query_as(sql::ACCOUNTS)
        .bind(after_workspace)
        .bind(after_meter)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    let is_full = rows.len() >= limit;
    let read = |(workspace, meter): (String, String)| Ok((record::workspace_id(&workspace)?, record::meter_id(&meter)?));
    let accounts = rows.into_iter().map(read).collect::<Result<Vec<Account>, Fault>>()?;
    let last = accounts.last().cloned();
    Ok((accounts, last.filter(|_| is_full)))
}

type CarriedRow = (String, String, String, String, i64, Option<i64>, Option<String>, i64);

pub(super) async fn carried(connection: &mut Connection, query: &CarriedQuery) -> Result<Vec<Carried>, Fault> {
    let rows: Vec<CarriedRow> = sqlx::query_as(sql::CARRIED_ON)
        .bind(query.workspace.as_ref().map_or("", WorkspaceId::as_str))
        .bind(query.meter.as_ref().map_or("", MeterId::as_str))
        .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    let read = |(workspace, meter, event_name, carry, owed, owed_since, customer, is_in_force): CarriedRow| {
        Ok(Carried {
            workspace: record::workspace_id(&workspace)?,
            customer,
            meter: record::meter_id(&meter)?,
            event_name,
            carry: record::exact("carry", &carry)?,
            owed,
            owed_since: owed_since.filter(|_| owed > 0).map(Timestamp::from_micros),
            is_in_force: is_in_force != 0,
        })
    };
    rows.into_iter().map(read).collect()
}

type DebtRow = (String, String, String, String, i64, i64, i64);

pub(super) async fn debts(connection: &mut Connection, query: &DebtQuery) -> Result<Vec<Debt>, Fault> {
    let after = query.after.as_ref();
    let text = |text: fn(&Debt) -> &str| after.map_or("", text);
    // Nothing is told of a time before.
    let told_after = query.until.plus_seconds(-BEFORE_SECONDS);
    let rows: Vec<DebtRow> = sqlx::query_as(AssertSqlSafe(sql::debts()))
        .bind(query.until.micros())
        .bind(after.map_or(i64::MIN, |debt| debt.since.micros()))
        .bind(text(|debt| debt.workspace.as_str()))
        .bind(text(|debt| debt.meter.as_str()))
        .bind(text(|debt| &debt.event_name))
        .bind(text(|debt| debt.unit.as_str()))
        .bind(after.map_or(0, |debt| debt.factor.numerator()))
        .bind(after.map_or(0, |debt| debt.factor.denominator()))
        .bind(told_after.micros())
        .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    let read = |(workspace, meter, event_name, unit, numerator, denominator, since): DebtRow| {
        Ok(Debt {
            workspace: record::workspace_id(&workspace)?,
            meter: record::meter_id(&meter)?,
            event_name,
            unit: record::unit(&unit)?,
            factor: Factor::of(numerator, denominator).ok_or_else(|| record::no_factor(denominator))?,
            since: Timestamp::from_micros(since),
        })
    };
    rows.into_iter().map(read).collect()
}

pub(super) async fn owed(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(sql::OWED).fetch_one(connection).await?)
}

pub(super) async fn metered(connection: &mut Connection, query: &MeteredQuery) -> Result<Vec<Metered>, Fault> {
    let bound = sqlx::query_as::<_, (String, i64, i64)>(AssertSqlSafe(sql::metered(query)))
        .bind(query.meter.id.as_str())
        .bind(query.from.micros())
        .bind(query.to.micros())
        .bind(query.workspace.as_ref().map_or("", WorkspaceId::as_str));
    let read = |(workspace, counted, uncollected): (String, i64, i64)| {
        Ok(Metered {
            workspace: record::workspace_id(&workspace)?,
            counted,
            uncollected,
        })
    };
    bound.fetch_all(connection).await?.into_iter().map(read).collect()
}

/// Adds up the batches of a page of workspaces and meters again.
pub(super) async fn verified(
    connection: &mut Connection,
    after: Option<&(WorkspaceId, MeterId)>,
    limit: usize,
) -> Result<BatchesVerified, Fault> {
    let (accounts, next) = accounts(connection, after, limit).await?;
    let mut verified = BatchesVerified {
        next,
        ..BatchesVerified::default()
    };
    for (workspace, meter) in accounts {
        let (batches, faults) = faults(connection, &workspace, &meter).await?;
        verified.batches += batches;
        verified.differences.extend(faults.into_iter().map(|what| BatchDifference {
            workspace: workspace.clone(),
            meter: meter.clone(),
            what,
        }));
    }
    Ok(verified)
}

async fn faults(connection: &mut Connection, workspace: &WorkspaceId, meter: &MeterId) -> Result<(u64, Vec<BatchFault>), Fault> {
    let members: Vec<(i64, i64, i64, i64)> = sqlx::query_as(sql::MEMBERS)
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let members: HashMap<i64, (i64, i64, i64)> = members
        .into_iter()
        .map(|(batch, count, counted, entries)| (batch, (count, counted, entries)))
        .collect();
    let rows: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::of_account()))
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let (mut found, batches) = (Vec::new(), rows.len() as u64);
    // Each definition has a chain of its own.
    let mut carries: BTreeMap<Definition, Exact> = BTreeMap::new();
    for row in rows {
        let number = row.batch_number;
        let batch = Batch::try_from(row)?;
        // What is open may have grown between the two statements.
        if let Some(sealed) = &batch.sealed {
            found.extend(own_faults(&batch, members.get(&number).copied().unwrap_or_default()));
            let definition = (
                batch.event_name.clone(),
                batch.unit.as_str().to_owned(),
                batch.factor.numerator(),
                batch.factor.denominator(),
            );
            let carried = carries.insert(definition, sealed.carry).unwrap_or(Exact::ZERO);
            found.extend(value_fault(&batch, sealed, carried));
        }
    }
    let rows: Vec<(String, String, i64, i64, String)> = sqlx::query_as(sql::CARRIES)
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .fetch_all(connection)
        .await?;
    for (event_name, unit, numerator, denominator, carry) in rows {
        let row = record::exact("carry", &carry)?;
        let last = carries
            .remove(&(event_name.clone(), unit, numerator, denominator))
            .unwrap_or(Exact::ZERO);
        if row != last {
            found.push(BatchFault::Carry { event_name, row, last });
        }
    }
    // What has no row carries nothing.
    for ((event_name, ..), last) in carries.into_iter().filter(|(_, last)| *last != Exact::ZERO) {
        let row = Exact::ZERO;
        found.push(BatchFault::Carry { event_name, row, last });
    }
    Ok((batches, found))
}

fn own_faults(batch: &Batch, (members, members_counted, entries): (i64, i64, i64)) -> Vec<BatchFault> {
    let mut found = Vec::new();
    if (batch.members, batch.counted) != (members, members_counted) {
        found.push(BatchFault::Members {
            batch: batch.id,
            row: batch.members,
            counted: batch.counted,
            members,
            members_counted,
        });
    }
    if members_counted != entries {
        found.push(BatchFault::Entries {
            batch: batch.id,
            members: members_counted,
            entries,
        });
    }
    found
}

fn value_fault(batch: &Batch, sealed: &Sealed, carried: Exact) -> Option<BatchFault> {
    let expected = Exact::of(batch.factor, batch.counted).plus(carried);
    (expected.minus(sealed.value) != sealed.carry).then_some(BatchFault::Value {
        batch: batch.id,
        value: sealed.value,
        carry: sealed.carry,
        expected,
    })
}
