//! Entries by id, their corrections and what has no price, as rows.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::fault::Fault;
use super::{Connection, many};
use crate::decision::entry::Entry;
use crate::decision::id::EntryId;
use crate::decision::time::Timestamp;
use crate::ledger::PAGE_ENTRIES_MAX;
use crate::ledger::correction::{self, UnpricedQuery};
use crate::ledger::record::EntryRecord;
use sqlx::AssertSqlSafe;

pub(super) async fn entry(connection: &mut Connection, id: EntryId) -> Result<Option<Entry>, Fault> {
    let statement = sqlx::query_as::<_, EntryRecord>(AssertSqlSafe(correction::entry())).bind(id.to_string());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(Entry::try_from).transpose()?)
}

pub(super) async fn corrections(connection: &mut Connection, entries: &[EntryId]) -> Result<Vec<Entry>, Fault> {
    let rows = many::corrections_of(connection, entries).await?;
    let mut found: Vec<Entry> = rows
        .into_iter()
        .map(|row| Ok(Entry::try_from(row)?))
        .collect::<Result<_, Fault>>()?;
    found.sort_by_key(|entry| (entry.recorded_at, entry.entry_id));
    Ok(found)
}

pub(super) async fn unpriced(connection: &mut Connection, query: &UnpricedQuery) -> Result<Vec<Entry>, Fault> {
    // No id sorts below the empty text.
    let after = query
        .after
        .map_or((i64::MIN, String::new()), |(at, id)| (at.micros(), id.to_string()));
    let limit = i64::try_from(query.limit.min(PAGE_ENTRIES_MAX)).unwrap_or(i64::MAX);
    let mut bound = sqlx::query_as::<_, EntryRecord>(AssertSqlSafe(correction::unpriced(query)))
        .bind(query.from.unwrap_or(Timestamp::MIN).micros())
        .bind(query.to.unwrap_or(Timestamp::MAX).micros())
        .bind(after.0)
        .bind(after.1)
        .bind(limit);
    for (_, value) in query.filters() {
        bound = bound.bind(value);
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Entry::try_from(row)?)).collect()
}

pub(super) async fn policy_versions_of(connection: &mut Connection, kind: &str, id: &str) -> Result<Vec<i64>, Fault> {
    let statement = sqlx::query_scalar(correction::POLICY_VERSIONS_OF).bind(kind).bind(id);
    Ok(statement.fetch_all(connection).await?)
}
