//! What a look at the file finds.

use super::Connection;
use super::fault::Fault;
use crate::decision::finding::Finding;
use std::path::Path;

pub(super) async fn inspect(connection: &mut Connection, file: &Path) -> Result<Vec<Finding>, Fault> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *connection).await?;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await?;
    let page_bytes: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut *connection).await?;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    let schema: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await?;
    let mebibytes = pages.saturating_mul(page_bytes) / (1 << 20);
    let place = format!("SQLite {version}, {} of {mebibytes} MiB, schema {schema}", file.display());
    let durable = match journal.as_str() {
        "wal" => Finding::fine(
            "durability",
            "each commit is on the disk before it is answered (WAL, synchronous=FULL)",
        ),
        other => Finding::warning("durability", format!("the journal mode is {other}; Weir opens its file with wal")),
    };
    Ok(vec![Finding::fine("ledger", place), durable])
}
