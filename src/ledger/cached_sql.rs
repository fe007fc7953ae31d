//! The statements about kept answers, the same for both stores. Written once and compiled into each (`#[path]`), which brings its own
//! `Connection` and `Fault`.

use super::Connection;
use super::fault::Fault;
use crate::decision::id::{CacheEntryId, Feature, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::ledger::cached::{CacheChange, CachePruning, CacheUse, CachedAnswer, CachedRow, ChangePlace, Going};
use crate::ledger::record::{parse, workspace_id};

const CACHED: &str = "SELECT cache_entry_id, workspace_id, feature, partition_key, vector, signature, answer, stored_at, expires_at, gone_at, \
     change_number FROM cache_entry WHERE cache_entry_id = $1 AND gone_at IS NULL";

const CACHED_OF: &str = "SELECT workspace_id FROM cache_entry WHERE cache_entry_id = $1";

/// Behind the place (`$1`, `$2`), without answers; `$3` limit. `$4` is nothing, in the type of an answer.
const CHANGED: &str = "SELECT cache_entry_id, workspace_id, feature, partition_key, vector, signature, $4 AS answer, stored_at, expires_at, \
     gone_at, change_number FROM cache_entry WHERE (change_number, cache_entry_id) > ($1, $2) ORDER BY change_number, cache_entry_id LIMIT $3";

/// Takes the number of a change. Whoever comes next waits for this one's commit, so numbers are seen in their order.
const NEXT_CHANGE: &str = "UPDATE change_number SET last = last + 1 WHERE what = 'cache' RETURNING last";

const PUT: &str = "INSERT INTO cache_entry (cache_entry_id, workspace_id, feature, partition_key, vector, signature, answer, stored_at, \
     expires_at, change_number) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (cache_entry_id) DO NOTHING";

/// `$1` now, `$2` the number of the change, `$3` nothing, then which ones.
macro_rules! going {
    ($condition:literal) => {
        concat!(
            "UPDATE cache_entry SET gone_at = $1, change_number = $2, vector = $3, signature = $3, answer = $3 WHERE gone_at IS NULL AND ",
            $condition
        )
    };
}

const GO: &str = going!("cache_entry_id = $4");
const GO_OF_WORKSPACE: &str = going!("workspace_id = $4");
const GO_OF_FEATURE: &str = going!("workspace_id = $4 AND feature = $5");

/// Expired by `$1`, or gone before `$2`, or stored at or before `$3`; `$4` limit.
const PRUNE: &str = "DELETE FROM cache_entry WHERE cache_entry_id IN (SELECT cache_entry_id FROM cache_entry \
     WHERE expires_at <= $1 OR gone_at < $2 OR stored_at <= $3 LIMIT $4)";

/// When the newest row that is too much was stored; `$1` how many are not. Ids begin with the time at which they were made.
const TOO_MANY: &str = "SELECT stored_at FROM cache_entry ORDER BY cache_entry_id DESC LIMIT 1 OFFSET $1";

/// From `$1` on and before `$2`.
macro_rules! used {
    ($whose:literal) => {
        concat!(
            "SELECT feature, CAST(SUM(CASE WHEN kind = 'usage' THEN requests ELSE 0 END) AS BIGINT) AS requests, \
             CAST(SUM(CASE WHEN kind = 'cache_hit' THEN 1 ELSE 0 END) AS BIGINT) AS hits, CAST(COALESCE(SUM(cost_usd), 0) AS BIGINT) AS cost, \
             CAST(COALESCE(SUM(CASE WHEN kind = 'cache_hit' THEN list_cost_usd ELSE 0 END), 0) AS BIGINT) AS avoided \
             FROM entry WHERE occurred_at >= $1 AND occurred_at < $2 AND ",
            $whose,
            " GROUP BY feature ORDER BY hits DESC, feature"
        )
    };
}

const USED: &str = used!("$3 = ''");
/// The workspace stands alone, so that its entries are found by the index.
const USED_BY: &str = used!("workspace_id = $3");

/// Nothing, where bytes are wanted.
const NOTHING: &[u8] = &[];

pub(in crate::ledger) async fn cached(connection: &mut Connection, id: CacheEntryId) -> Result<Option<CachedAnswer>, Fault> {
    let statement = sqlx::query_as::<_, CachedRow>(CACHED).bind(id.to_string());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(CachedAnswer::try_from).transpose()?)
}

pub(in crate::ledger) async fn cache_use(
    connection: &mut Connection,
    workspace: Option<&WorkspaceId>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<CacheUse>, Fault> {
    let statement = sqlx::query_as::<_, (String, i64, i64, i64, i64)>(if workspace.is_some() { USED_BY } else { USED })
        .bind(from.micros())
        .bind(to.micros())
        .bind(workspace.map_or("", |workspace| workspace.as_str()).to_owned());
    let rows = statement.fetch_all(connection).await?;
    let read = |(feature, requests, hits, cost, avoided): (String, i64, i64, i64, i64)| {
        Ok(CacheUse {
            feature: parse("feature", &feature, Feature::parse)?,
            requests,
            hits,
            cost: Usd::from_nanos(cost),
            avoided: Usd::from_nanos(avoided),
        })
    };
    rows.into_iter().map(read).collect()
}

pub(in crate::ledger) async fn cached_of(connection: &mut Connection, id: CacheEntryId) -> Result<Option<WorkspaceId>, Fault> {
    let workspace: Option<String> = sqlx::query_scalar(CACHED_OF)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(workspace.map(|workspace| workspace_id(&workspace)).transpose()?)
}

pub(in crate::ledger) async fn cached_changed(
    connection: &mut Connection,
    (number, id): ChangePlace,
    limit: usize,
) -> Result<Vec<(ChangePlace, CacheChange)>, Fault> {
    let statement = sqlx::query_as::<_, CachedRow>(CHANGED)
        .bind(number)
        .bind(id.map(|id| id.to_string()).unwrap_or_default())
        .bind(count(limit))
        .bind(NOTHING);
    let rows = statement.fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| Ok((row.place()?, CacheChange::try_from(row)?)))
        .collect()
}

/// Inside of a transaction.
pub(in crate::ledger) async fn put_cached(connection: &mut Connection, answer: &CachedAnswer) -> Result<(), Fault> {
    let number = next_change(connection).await?;
    let statement = sqlx::query(PUT)
        .bind(answer.id.to_string())
        .bind(answer.workspace.as_str())
        .bind(answer.feature.as_str())
        .bind(&answer.partition.as_bytes()[..])
        .bind(&answer.vector)
        .bind(&answer.signature)
        .bind(&answer.answer)
        .bind(answer.stored_at.micros())
        .bind(answer.expires_at.micros())
        .bind(number);
    statement.execute(connection).await?;
    Ok(())
}

/// Inside of a transaction.
pub(in crate::ledger) async fn drop_cached(connection: &mut Connection, going: &Going, now: Timestamp) -> Result<u64, Fault> {
    let number = next_change(connection).await?;
    let mut gone = 0;
    match going {
        Going::These(ids) => {
            for id in ids {
                let statement = sqlx::query(GO).bind(now.micros()).bind(number).bind(NOTHING).bind(id.to_string());
                gone += statement.execute(&mut *connection).await?.rows_affected();
            }
        }
        Going::Of(workspace, None) => {
            let statement = sqlx::query(GO_OF_WORKSPACE).bind(now.micros()).bind(number).bind(NOTHING);
            gone = statement.bind(workspace.as_str()).execute(connection).await?.rows_affected();
        }
        Going::Of(workspace, Some(feature)) => {
            let statement = sqlx::query(GO_OF_FEATURE).bind(now.micros()).bind(number).bind(NOTHING);
            let statement = statement.bind(workspace.as_str()).bind(feature.as_str());
            gone = statement.execute(connection).await?.rows_affected();
        }
    }
    Ok(gone)
}

/// Inside of a transaction.
pub(in crate::ledger) async fn prune_cached(connection: &mut Connection, pruning: &CachePruning) -> Result<usize, Fault> {
    let too_many: Option<i64> = sqlx::query_scalar(TOO_MANY)
        .bind(count(pruning.rows_max))
        .fetch_optional(&mut *connection)
        .await?;
    let statement = sqlx::query(PRUNE)
        .bind(pruning.now.micros())
        .bind(pruning.gone_before.micros())
        .bind(too_many.unwrap_or(i64::MIN))
        .bind(count(pruning.limit));
    let deleted = statement.execute(connection).await?.rows_affected();
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

async fn next_change(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(NEXT_CHANGE).fetch_one(connection).await?)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
