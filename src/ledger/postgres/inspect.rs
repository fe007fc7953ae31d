//! What a look at the server finds: what it is, whether it keeps what it says, and what its clock says.

use super::Connection;
use super::fault::Fault;
use crate::decision::finding::Finding;
use crate::decision::time::Timestamp;

/// How far the clocks of node and server may be apart before somebody should know.
const CLOCKS_APART_MILLIS_MAX: i64 = 500;

pub(super) async fn inspect(connection: &mut Connection, place: &str, now: Timestamp) -> Result<Vec<Finding>, Fault> {
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut *connection).await?;
    let schema: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await?;
    let found = Finding::fine("ledger", format!("{place}, version {version}, schema {schema}"));
    Ok(vec![
        found,
        writable(connection).await?,
        durability(connection).await?,
        Finding::clock("ledger clock", now, clock(connection).await?, CLOCKS_APART_MILLIS_MAX),
    ])
}

async fn writable(connection: &mut Connection) -> Result<Finding, Fault> {
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await?;
    Ok(match standby {
        false => Finding::fine("primary", "the server takes writes"),
        true => Finding::failed("primary", "the server is a standby: point WEIR_DATABASE_URL at the primary"),
    })
}

async fn durability(connection: &mut Connection) -> Result<Finding, Fault> {
    let settings = "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let (fsync, pages, commit): (String, String, String) = sqlx::query_as(settings).fetch_one(connection).await?;
    Ok(match (fsync.as_str(), pages.as_str(), commit.as_str()) {
        ("off", ..) => Finding::failed(
            "durability",
            "fsync is off: a crash of the server's machine loses the ledger; set fsync = on",
        ),
        (_, "off", _) => Finding::warning("durability", "full_page_writes is off: a torn page cannot be repaired; set it on"),
        (_, _, "off") => Finding::warning("durability", "synchronous_commit is off; Weir sets it on for what it answers for"),
        _ => Finding::fine("durability", format!("fsync on, full_page_writes on, synchronous_commit {commit}")),
    })
}

/// What the server's clock says.
pub(super) async fn clock(connection: &mut Connection) -> Result<Timestamp, Fault> {
    let micros: i64 = sqlx::query_scalar("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT")
        .fetch_one(connection)
        .await?;
    Ok(Timestamp::from_micros(micros))
}
