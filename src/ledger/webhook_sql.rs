//! Statements about endpoints and the log of deliveries, the same for both stores. Written once and compiled into each (`#[path]`).

use super::fault::Fault;
use super::{Connection, many, webhooks as own};
use crate::decision::id::{DeliveryId, WebhookEndpointId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::retry::Attempt;
use crate::decision::webhook::{Delivery, Endpoint};
use crate::ledger::record::{AttemptRow, DeliveryRecord, EndpointRecord, some_workspace, workspace_column};
use crate::ledger::sql::columns;
use crate::ledger::webhooks::{DeliveryQuery, EndpointQuery, PAGE_WEBHOOKS_MAX, Put, Subscribers, Whose};
use sqlx::AssertSqlSafe;

/// Nothing of an endpoint can be claimed before this moment: there is nothing.
pub(super) const NEVER: i64 = i64::MAX;

const COUNT_ENDPOINTS: &str = "SELECT COUNT(*) FROM webhook_endpoint WHERE workspace_id = $1 AND deleted_at IS NULL";

/// The number is `$15`, the version that is replaced `$19`.
const REPLACE_ENDPOINT: &str = "UPDATE webhook_endpoint SET workspace_id = $2, url = $3, events = $4, wants_usage = $5, description = $6, \
     enabled = $7, disabled_reason = $8, disabled_at = $9, secret = $10, replaced_secret = $11, replaced_until = $12, created_by = $13, \
     created_at = $14, version = $15, wants_expired = $16, reaches_opened = $17, older_secrets = $18 \
     WHERE endpoint_id = $1 AND version = $19 AND deleted_at IS NULL";

const DELETE_ENDPOINT: &str = "UPDATE webhook_endpoint SET deleted_at = $3, enabled = 0, version = version + 1 \
     WHERE endpoint_id = $1 AND version = $2 AND deleted_at IS NULL";

const CREATE_QUEUE: &str = "INSERT INTO webhook_queue (endpoint_id, next_due_at) VALUES ($1, $2)";

/// An endpoint that is enabled again begins anew.
const FORGET_FAILURES: &str = "UPDATE webhook_queue SET failing_since = NULL WHERE endpoint_id = $1";

const USAGE_SUBSCRIBERS: &str =
    "SELECT DISTINCT workspace_id FROM webhook_endpoint WHERE wants_usage = 1 AND enabled = 1 AND deleted_at IS NULL";

const EXPIRED_SUBSCRIBERS: &str =
    "SELECT DISTINCT workspace_id FROM webhook_endpoint WHERE wants_expired = 1 AND enabled = 1 AND deleted_at IS NULL";

/// What is pending and not being tried ends, for the reason `$2`.
const CANCEL: &str = "UPDATE webhook_delivery SET state = 'cancelled', reason = $2, claim = NULL \
     WHERE endpoint_id = $1 AND state = 'pending' AND claim IS NULL";

/// The tries before the last one, and that one.
const ATTEMPTS: &str = "SELECT number, at, status, duration_ms, answer, error FROM webhook_attempt WHERE delivery_id = $1 UNION ALL \
     SELECT (SELECT COALESCE(MAX(number), 0) + 1 FROM webhook_attempt WHERE delivery_id = $1), last_at, last_status, \
     COALESCE(last_duration_ms, 0), COALESCE(last_answer, ''), last_error FROM webhook_delivery \
     WHERE delivery_id = $1 AND last_at IS NOT NULL ORDER BY 1";

/// Sorts after every id.
const AFTER_ALL: &str = "~";

pub(super) async fn endpoint(connection: &mut Connection, id: WebhookEndpointId) -> Result<Option<Endpoint>, Fault> {
    let text = format!(
        "SELECT {} FROM webhook_endpoint WHERE endpoint_id = $1 AND deleted_at IS NULL",
        columns::<EndpointRecord>()
    );
    let row: Option<EndpointRecord> = sqlx::query_as(AssertSqlSafe(text))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(Endpoint::try_from).transpose()?)
}

/// Those that are told of events of `workspace`, which is empty for none.
pub(super) async fn enabled(connection: &mut Connection, workspace: &str) -> Result<Vec<Endpoint>, Fault> {
    let text = format!(
        "SELECT {} FROM webhook_endpoint WHERE workspace_id = $1 AND enabled = 1 AND deleted_at IS NULL ORDER BY endpoint_id",
        columns::<EndpointRecord>()
    );
    let rows: Vec<EndpointRecord> = sqlx::query_as(AssertSqlSafe(text)).bind(workspace).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Endpoint::try_from(row)?)).collect()
}

pub(super) async fn endpoints(connection: &mut Connection, query: &EndpointQuery) -> Result<Vec<Endpoint>, Fault> {
    let workspace = whose(&query.whose);
    let text = format!(
        "SELECT {} FROM webhook_endpoint WHERE deleted_at IS NULL AND endpoint_id < $1 AND (CAST($2 AS TEXT) IS NULL OR workspace_id = $2) \
         ORDER BY endpoint_id DESC LIMIT $3",
        columns::<EndpointRecord>()
    );
    let rows: Vec<EndpointRecord> = sqlx::query_as(AssertSqlSafe(text))
        .bind(query.after.map_or_else(|| AFTER_ALL.to_owned(), |id| id.to_string()))
        .bind(workspace)
        .bind(count(query.limit.min(PAGE_WEBHOOKS_MAX + 1)))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|row| Ok(Endpoint::try_from(row)?)).collect()
}

pub(super) async fn subscribers(connection: &mut Connection) -> Result<Subscribers, Fault> {
    let read = |rows: Vec<String>| rows.iter().map(|row| Ok(some_workspace(row)?)).collect::<Result<Vec<_>, Fault>>();
    let usage = sqlx::query_scalar(USAGE_SUBSCRIBERS).fetch_all(&mut *connection).await?;
    let expired = sqlx::query_scalar(EXPIRED_SUBSCRIBERS).fetch_all(connection).await?;
    Ok(Subscribers {
        usage: read(usage)?,
        expired: read(expired)?,
    })
}

/// Inside of a transaction. Whatever is not [`Put::Done`] has written nothing that may stay.
pub(super) async fn put(
    connection: &mut Connection,
    endpoint: &Endpoint,
    expected_version: u32,
    endpoints_max: usize,
) -> Result<Put, Fault> {
    let id = endpoint.id.to_string();
    if expected_version == 0 {
        // Of racing creations in one workspace the later one counts what the earlier one made.
        sqlx::query(own::LOCK_ENDPOINTS).execute(&mut *connection).await?;
        let count_of = sqlx::query_scalar(COUNT_ENDPOINTS).bind(workspace_column(endpoint.workspace.as_ref()));
        let there: i64 = count_of.fetch_one(&mut *connection).await?;
        if there >= count(endpoints_max) {
            return Ok(Put::TooMany);
        }
        many::insert(connection, vec![EndpointRecord::from(endpoint)]).await?;
        let queue = sqlx::query(CREATE_QUEUE).bind(id).bind(NEVER);
        queue.execute(connection).await?;
        return Ok(Put::Done);
    }
    lock_queue(connection, &id).await?;
    let row = EndpointRecord::from(endpoint);
    let statement = sqlx::query(REPLACE_ENDPOINT)
        .bind(row.endpoint_id)
        .bind(row.workspace_id)
        .bind(row.url)
        .bind(row.events)
        .bind(row.wants_usage)
        .bind(row.description)
        .bind(row.enabled)
        .bind(row.disabled_reason)
        .bind(row.disabled_at)
        .bind(row.secret)
        .bind(row.replaced_secret)
        .bind(row.replaced_until)
        .bind(row.created_by)
        .bind(row.created_at)
        .bind(row.version)
        .bind(row.wants_expired)
        .bind(row.reaches_opened)
        .bind(row.older_secrets)
        .bind(i64::from(expected_version));
    if statement.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(Put::Raced);
    }
    match endpoint.enabled {
        true => sqlx::query(FORGET_FAILURES).bind(id).execute(connection).await.map(drop)?,
        false => cancel(connection, &id, "endpoint_disabled").await?,
    }
    Ok(Put::Done)
}

/// Inside of a transaction.
pub(super) async fn delete(
    connection: &mut Connection,
    id: WebhookEndpointId,
    expected_version: u32,
    now: Timestamp,
) -> Result<bool, Fault> {
    let text = id.to_string();
    lock_queue(connection, &text).await?;
    let statement = sqlx::query(DELETE_ENDPOINT).bind(&text).bind(i64::from(expected_version));
    if statement.bind(now.micros()).execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(false);
    }
    cancel(connection, &text, "endpoint_deleted").await?;
    Ok(true)
}

/// Takes the lock of an endpoint's row of the queue, and tells since when it fails.
pub(super) async fn lock_queue(connection: &mut Connection, endpoint: &str) -> Result<Option<i64>, Fault> {
    let statement = sqlx::query_scalar::<_, Option<i64>>(own::LOCK_QUEUE).bind(endpoint);
    Ok(statement.fetch_optional(connection).await?.flatten())
}

/// Behind the lock of the endpoint's row.
pub(super) async fn cancel(connection: &mut Connection, endpoint: &str, reason: &str) -> Result<(), Fault> {
    sqlx::query(CANCEL).bind(endpoint).bind(reason).execute(connection).await?;
    Ok(())
}

pub(super) async fn deliveries(connection: &mut Connection, query: &DeliveryQuery) -> Result<Vec<Delivery>, Fault> {
    // Filters that are not named are not in the text, so that each has its index.
    let filters = [
        ("workspace_id", whose(&query.whose).map(str::to_owned)),
        ("endpoint_id", query.endpoint.map(|id| id.to_string())),
        ("event_id", query.event.map(|id| id.to_string())),
        ("state", query.state.map(|state| state.as_str().to_owned())),
    ];
    let named: Vec<(&str, String)> = filters.into_iter().filter_map(|(column, value)| Some((column, value?))).collect();
    let places = named.iter().zip(3..);
    let conditions: String = places.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    let text = format!(
        "SELECT {} FROM webhook_delivery WHERE delivery_id < $1 {conditions}ORDER BY delivery_id DESC LIMIT $2",
        columns::<DeliveryRecord>()
    );
    let mut bound = sqlx::query_as::<_, DeliveryRecord>(AssertSqlSafe(text))
        .bind(query.after.map_or_else(|| AFTER_ALL.to_owned(), |id| id.to_string()))
        .bind(count(query.limit.min(PAGE_WEBHOOKS_MAX + 1)));
    for (_, value) in named {
        bound = bound.bind(value);
    }
    let rows = bound.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Delivery::try_from(row)?)).collect()
}

pub(super) async fn delivery(connection: &mut Connection, id: DeliveryId) -> Result<Option<Delivery>, Fault> {
    let text = format!(
        "SELECT {} FROM webhook_delivery WHERE delivery_id = $1",
        columns::<DeliveryRecord>()
    );
    let row: Option<DeliveryRecord> = sqlx::query_as(AssertSqlSafe(text))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.map(Delivery::try_from).transpose()?)
}

pub(super) async fn attempts(connection: &mut Connection, id: DeliveryId) -> Result<Vec<(u32, Attempt)>, Fault> {
    let rows: Vec<AttemptRow> = sqlx::query_as(ATTEMPTS).bind(id.to_string()).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(row.read()?)).collect()
}

/// Inside of a transaction.
pub(super) async fn add(connection: &mut Connection, deliveries: &[Delivery]) -> Result<(), Fault> {
    many::insert(connection, deliveries.iter().map(DeliveryRecord::from).collect()).await
}

fn whose(whose: &Whose) -> Option<&str> {
    match whose {
        Whose::Anybody => None,
        Whose::Workspace(workspace) => Some(workspace.as_str()),
    }
}

pub(super) fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
