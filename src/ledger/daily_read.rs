//! What was used by day and feature, as rows.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::Connection;
use super::fault::Fault;
use crate::decision::id::WorkspaceId;
use crate::decision::money::Usd;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::daily::{self, Daily, DailyRow};
use crate::ledger::record;
use sqlx::AssertSqlSafe;

pub(super) async fn daily(connection: &mut Connection, workspace: &WorkspaceId, periods: &[Period]) -> Result<Vec<Daily>, Fault> {
    if periods.is_empty() {
        return Ok(Vec::new());
    }
    let mut bound = sqlx::query_as::<_, DailyRow>(AssertSqlSafe(daily::daily(periods.len()))).bind(workspace.as_str());
    for period in periods {
        bound = bound.bind(period.start.micros()).bind(period.end.micros());
    }
    let rows = bound.fetch_all(connection).await?;
    let read = |row: DailyRow| {
        Ok(Daily {
            period: Period {
                start: Timestamp::from_micros(row.starts),
                end: Timestamp::from_micros(row.ends),
            },
            feature: record::feature(&row.feature)?,
            tokens: row.tokens,
            requests: row.requests,
            credits: row.credits,
            cost: Usd::from_nanos(row.cost),
        })
    };
    rows.into_iter().map(read).collect()
}
