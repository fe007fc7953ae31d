//! What invoices are made of, over a connection.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::Connection;
use super::fault::Fault;
use crate::decision::id::WorkspaceId;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::invoices::{self, GrantPaid, PASSED_MAX, Passed, PassedQuery, Used};
use crate::ledger::record::{CountedRow, GrantPaidRow};

pub(super) async fn used(connection: &mut Connection, workspace: &WorkspaceId, period: Period) -> Result<Vec<Used>, Fault> {
    let statement = sqlx::query_as::<_, CountedRow>(invoices::USED).bind(workspace.as_str());
    let statement = statement.bind(period.start.micros()).bind(period.end.micros());
    let rows = statement.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(row.read()?)).collect()
}

pub(super) async fn passed(connection: &mut Connection, query: &PassedQuery) -> Result<Vec<Passed>, Fault> {
    let feature = query.feature.as_ref().map_or("*", |feature| feature.as_str());
    let statement = sqlx::query_as::<_, (i64, i64, i64, i64)>(invoices::PASSED)
        .bind(query.workspace.as_str())
        .bind(i64::from(query.by_user))
        .bind(feature)
        .bind(query.unit.as_str())
        .bind(query.kind.as_str())
        .bind(query.after.micros())
        .bind(query.until.micros())
        .bind(query.above)
        .bind(i64::try_from(PASSED_MAX + 1).unwrap_or(i64::MAX));
    let rows = statement.fetch_all(connection).await?;
    let passed = |(start, end, spent, paid)| Passed {
        period: Period {
            start: Timestamp::from_micros(start),
            end: Timestamp::from_micros(end),
        },
        spent,
        paid,
    };
    Ok(rows.into_iter().map(passed).collect())
}

pub(super) async fn paid_by_grants(connection: &mut Connection, workspace: &WorkspaceId, period: Period) -> Result<Vec<GrantPaid>, Fault> {
    let statement = sqlx::query_as::<_, GrantPaidRow>(invoices::PAID_BY_GRANTS).bind(workspace.as_str());
    let statement = statement.bind(period.start.micros()).bind(period.end.micros());
    let rows = statement.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(row.read()?)).collect()
}
