//! What a look at the server finds: what it is, whether it keeps what it says, and what its clock says.

use super::Connection;
use super::fault::Fault;
use crate::decision::finding::Finding;
use crate::decision::time::Timestamp;

/// How far the clocks of node and server may be apart before somebody should know.
const CLOCKS_APART_MILLIS_MAX: i64 = 500;
/// From this release on a server knows what the schema is made of: generated columns, and plans that a function asks to be generic.
const RELEASE_MIN: i32 = 12;
/// The oldest release that the suites run against.
const RELEASE_TESTED: i32 = 15;

pub(super) async fn inspect(connection: &mut Connection, place: &str, now: Timestamp) -> Result<Vec<Finding>, Fault> {
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut *connection).await?;
    let schema: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await?;
    let found = Finding::fine("ledger", format!("{place}, version {version}, schema {schema}"));
    let number: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::INT")
        .fetch_one(&mut *connection)
        .await?;
    Ok(vec![
        found,
        // Since version 10 the last four digits are the minor release.
        release(number / 10_000),
        writable(connection).await?,
        durability(connection).await?,
        standbys(connection).await?,
        Finding::clock("ledger clock", now, clock(connection).await?, CLOCKS_APART_MILLIS_MAX),
    ])
}

fn release(found: i32) -> Finding {
    match found {
        found if found < RELEASE_MIN => Finding::failed(
            "release",
            format!("PostgreSQL {found} does not know what the schema is made of; {RELEASE_MIN} or later is needed"),
        ),
        found if found < RELEASE_TESTED => Finding::warning(
            "release",
            format!("Weir is tested with PostgreSQL {RELEASE_TESTED} and later, not with {found}: upgrade it"),
        ),
        found => Finding::fine("release", format!("PostgreSQL {found}")),
    }
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

async fn standbys(connection: &mut Connection) -> Result<Finding, Fault> {
    // A backup that is being taken and a subscriber to some tables are nobody who could take over.
    let followers = "SELECT COUNT(*) FROM pg_stat_replication AS follower WHERE follower.state IS DISTINCT FROM 'backup'
        AND NOT EXISTS (SELECT FROM pg_replication_slots AS slot WHERE slot.active_pid = follower.pid AND slot.slot_type = 'logical')";
    let followers: i64 = sqlx::query_scalar(followers).fetch_one(&mut *connection).await?;
    let settings = "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')";
    let (names, commit): (String, String) = sqlx::query_as(settings).fetch_one(connection).await?;
    Ok(waited_for(followers, names.trim(), &commit))
}

/// What a failover would lose, by how many servers follow, for which of them commits wait, and whether ours do.
fn waited_for(followers: i64, names: &str, commit: &str) -> Finding {
    match (followers, names, commit) {
        (0, "", _) => Finding::fine(
            "standbys",
            "none follows: what a broken disk loses is what its last backup does not have",
        ),
        (_, "", _) => Finding::warning(
            "standbys",
            format!(
                "{followers} connected and no commit waits for any: a failover may lose commits that were answered 200; name the standbys in \
                 synchronous_standby_names"
            ),
        ),
        (_, names, "local") => Finding::warning(
            "standbys",
            format!(
                "synchronous_commit is local, so no commit waits for {names}: a failover may lose commits that were answered 200; set it on"
            ),
        ),
        (0, names, _) => Finding::warning(
            "standbys",
            format!("none is connected, and each commit waits for {names}: settlements are refused until one is back"),
        ),
        (_, names, _) => Finding::fine("standbys", format!("{followers} connected; each commit waits for {names}")),
    }
}

/// What the server's clock says.
pub(super) async fn clock(connection: &mut Connection) -> Result<Timestamp, Fault> {
    let micros: i64 = sqlx::query_scalar("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT")
        .fetch_one(connection)
        .await?;
    Ok(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::finding::Gravity;

    #[test]
    fn a_release_that_is_too_old_is_refused_and_one_that_nobody_tested_is_named() {
        for (release, gravity) in [
            (9, Gravity::Failed),
            (11, Gravity::Failed),
            (12, Gravity::Warning),
            (14, Gravity::Warning),
            (15, Gravity::Fine),
            (18, Gravity::Fine),
        ] {
            let found = super::release(release);
            assert_eq!(found.gravity, gravity, "{found:?}");
            assert!(found.detail.contains(&release.to_string()), "{found:?}");
        }
    }

    #[test]
    fn what_a_failover_may_lose_is_said() {
        for (followers, names, commit, gravity, says) in [
            (0, "", "on", Gravity::Fine, "backup"),
            (1, "", "on", Gravity::Warning, "may lose commits that were answered 200"),
            (1, "standby", "local", Gravity::Warning, "may lose commits that were answered 200"),
            (0, "standby", "on", Gravity::Warning, "refused until one is back"),
            (2, "ANY 1 (a, b)", "on", Gravity::Fine, "waits for ANY 1 (a, b)"),
            // Weir sets it on for what it answers for.
            (1, "standby", "off", Gravity::Fine, "waits for standby"),
        ] {
            let found = waited_for(followers, names, commit);
            assert_eq!(found.gravity, gravity, "{found:?}");
            assert!(found.detail.contains(says), "{found:?}");
        }
    }
}
