//! The audit log as rows: written inside of the transaction that makes the change, read newest first.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::fault::Fault;
use super::{Connection, many};
use crate::decision::time::Timestamp;
use crate::ledger::PAGE_ENTRIES_MAX;
use crate::ledger::audit::{self, AuditQuery, Audited};
use crate::ledger::record::AuditRecord;
use sqlx::AssertSqlSafe;

/// Writes the records of what this transaction changes.
pub(super) async fn write(connection: &mut Connection, changes: &[Audited]) -> Result<(), Fault> {
    many::insert(connection, changes.iter().map(AuditRecord::from).collect()).await
}

pub(super) async fn list(connection: &mut Connection, query: &AuditQuery) -> Result<Vec<Audited>, Fault> {
    // No id sorts below the empty text: this is the place just before everything at `to`.
    let to = (query.to.unwrap_or(Timestamp::MAX).micros(), String::new());
    let after = query.after.map(|(at, id)| (at.micros(), id.to_string()));
    let (before, before_id) = after.map_or_else(|| to.clone(), |after| after.min(to.clone()));
    let limit = i64::try_from(query.limit.min(PAGE_ENTRIES_MAX + 1)).unwrap_or(i64::MAX);
    let mut bound = sqlx::query_as::<_, AuditRecord>(AssertSqlSafe(audit::list(query)))
        .bind(query.from.unwrap_or(Timestamp::MIN).micros())
        .bind(before)
        .bind(before_id)
        .bind(limit);
    for (_, value) in query.filters() {
        bound = bound.bind(value);
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Audited::try_from(row)?)).collect()
}
