//! The upkeep of the queue: how it stands, what waited too long, what is old. The same for both stores, written once and compiled into each
//! (`#[path]`).

use super::Connection;
use super::fault::Fault;
use super::webhook_sql::{NEVER, count, lock_queue};
use crate::decision::id::DeliveryId;
use crate::decision::time::Timestamp;
use crate::decision::webhook::TOO_OLD;
use crate::ledger::webhooks::{DEPTH_MAX, QueueState};

const DEPTH: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM webhook_delivery WHERE state = 'pending' LIMIT $1) AS pending";

const DUE_SINCE: &str = "SELECT MIN(next_due_at) FROM webhook_queue WHERE next_due_at <= $1";

/// Older than `$1`, which id `$2` is too; `$3` limit.
const PRUNE_TRIES: &str = "DELETE FROM webhook_attempt WHERE delivery_id IN (SELECT delivery_id FROM webhook_delivery \
     WHERE delivery_id < $2 AND state <> 'pending' AND due_at < $1 ORDER BY delivery_id LIMIT $3)";

/// The same, but for what has tries: they come first.
const PRUNE: &str = "DELETE FROM webhook_delivery WHERE delivery_id IN (SELECT delivery_id FROM webhook_delivery \
     WHERE delivery_id < $2 AND state <> 'pending' AND due_at < $1 ORDER BY delivery_id LIMIT $3) \
     AND NOT EXISTS (SELECT 1 FROM webhook_attempt WHERE webhook_attempt.delivery_id = webhook_delivery.delivery_id)";

const PRUNE_ENDPOINTS: &str = "DELETE FROM webhook_endpoint WHERE deleted_at < $1 \
     AND NOT EXISTS (SELECT 1 FROM webhook_delivery WHERE webhook_delivery.endpoint_id = webhook_endpoint.endpoint_id)";

const PRUNE_QUEUES: &str = "DELETE FROM webhook_queue WHERE next_due_at = $1 \
     AND NOT EXISTS (SELECT 1 FROM webhook_endpoint WHERE webhook_endpoint.endpoint_id = webhook_queue.endpoint_id)";

/// Endpoints of which something has been due since before `$1`; `$2` limit. In the order in which their rows are locked.
const TOO_OLD_OF: &str = "SELECT endpoint_id FROM webhook_queue WHERE EXISTS (SELECT 1 FROM webhook_delivery \
     WHERE webhook_delivery.endpoint_id = webhook_queue.endpoint_id AND state = 'pending' AND due_at < $1) ORDER BY endpoint_id LIMIT $2";

/// Of endpoint `$1` what has been due since before `$2`, oldest first, for the reason `$3`; `$4` limit. What is being tried is due later.
const GIVE_UP: &str = "UPDATE webhook_delivery SET state = 'cancelled', reason = $3, claim = NULL WHERE delivery_id IN \
     (SELECT delivery_id FROM webhook_delivery WHERE endpoint_id = $1 AND state = 'pending' AND due_at < $2 ORDER BY due_at LIMIT $4)";

pub(super) async fn state(connection: &mut Connection, now: Timestamp) -> Result<QueueState, Fault> {
    let pending: i64 = sqlx::query_scalar(DEPTH).bind(count(DEPTH_MAX)).fetch_one(&mut *connection).await?;
    let due_since = sqlx::query_scalar::<_, Option<i64>>(DUE_SINCE).bind(now.micros());
    Ok(QueueState {
        pending: usize::try_from(pending).unwrap_or(0),
        due_since: due_since.fetch_one(connection).await?.map(Timestamp::from_micros),
    })
}

pub(super) async fn prune(connection: &mut Connection, before: Timestamp, limit: usize) -> Result<usize, Fault> {
    let mut deleted = 0;
    for text in [PRUNE_TRIES, PRUNE] {
        let statement = sqlx::query(text)
            .bind(before.micros())
            .bind(DeliveryId::first_at(before).to_string());
        deleted = statement.bind(count(limit)).execute(&mut *connection).await?.rows_affected();
    }
    sqlx::query(PRUNE_ENDPOINTS).bind(before.micros()).execute(&mut *connection).await?;
    sqlx::query(PRUNE_QUEUES).bind(NEVER).execute(connection).await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

/// Behind the lock of each endpoint's row. That a row's next moment may now come too early costs whoever claims one look.
pub(super) async fn give_up(connection: &mut Connection, before: Timestamp, limit: usize) -> Result<usize, Fault> {
    let waiting = sqlx::query_scalar(TOO_OLD_OF).bind(before.micros()).bind(count(limit));
    let endpoints: Vec<String> = waiting.fetch_all(&mut *connection).await?;
    let mut given_up = 0;
    for endpoint in endpoints {
        if given_up >= limit {
            break;
        }
        lock_queue(connection, &endpoint).await?;
        let statement = sqlx::query(GIVE_UP).bind(&endpoint).bind(before.micros()).bind(TOO_OLD);
        let written = statement.bind(count(limit - given_up)).execute(&mut *connection).await?;
        given_up += usize::try_from(written.rows_affected()).unwrap_or(limit);
    }
    Ok(given_up)
}
