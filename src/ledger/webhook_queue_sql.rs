//! The queue of deliveries: handed on, claimed, finished, put on its way again; each inside of one transaction. The same for both stores,
//! written once and compiled into each (`#[path]`). Its upkeep is beside it, in `webhook_upkeep_sql.rs`.
//!
//! Whatever changes an endpoint's pending deliveries first has the lock of its row in `webhook_queue`, and only in later statements looks
//! at them: a statement sees what was committed before it began. Rows of several endpoints are locked in the order of their ids.

use super::fault::Fault;
use super::webhook_sql::{NEVER, cancel, count, enabled, endpoint, lock_queue};
use super::{Connection, audited, eventing, webhooks as own};
use crate::decision::event::{Audience, Event};
use crate::decision::id::{DeliveryId, EventId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::filter::passes;
use crate::decision::webhook::retry::{self, Attempt, Disable, Next};
use crate::decision::webhook::{Delivery, Endpoint, State};
use crate::ledger::events::EventQuery;
use crate::ledger::record::{
    ClaimedRow, DeliveryRecord, QueueRow, json, read_delivery_id, read_endpoint_id, read_event_id, workspace_column,
};
use crate::ledger::webhooks::{ATTEMPTS_KEPT_MAX, Claimed, Claiming, Disabling, Finished, How, Noted, Relayed, Replay, Replayed, Work};
use std::collections::BTreeMap;

/// Something of endpoint `$1` is due at `$2`. Always writes, and so takes the row's lock.
const DUE_AT: &str =
    "UPDATE webhook_queue SET next_due_at = CASE WHEN next_due_at < $2 THEN next_due_at ELSE $2 END WHERE endpoint_id = $1";

const ENQUEUE: &str = "INSERT INTO webhook_delivery (delivery_id, endpoint_id, workspace_id, event_id, event_type, body, state, created_at, due_at) \
     VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8) ON CONFLICT (endpoint_id, event_id) DO NOTHING";

/// Of endpoint `$1` what is due at `$2` and which it says, oldest first, as claim `$3` until `$4`; `$5` is how many may run at once.
macro_rules! claim {
    ($which:literal) => {
        concat!(
            "UPDATE webhook_delivery SET claim = $3, due_at = $4 WHERE delivery_id IN (SELECT delivery_id FROM webhook_delivery \
             WHERE endpoint_id = $1 AND state = 'pending' AND due_at <= $2 ",
            $which,
            "ORDER BY due_at, delivery_id LIMIT (SELECT CASE WHEN COUNT(*) < $5 THEN $5 - COUNT(*) ELSE 0 END FROM webhook_delivery \
             WHERE endpoint_id = $1 AND state = 'pending' AND claim IS NOT NULL AND due_at > $2)) \
             RETURNING delivery_id, event_id, body, tries"
        )
    };
}

const CLAIM: &str = claim!("");

/// But for what there is for each use.
const CLAIM_FIRST: &str = claim!("AND event_type <> 'usage.recorded' ");

/// What of endpoint `$1` is due after `$2`: what is due before and was not claimed waits for a try to end.
const NEXT_AFTER_CLAIM: &str = "UPDATE webhook_queue SET next_due_at = COALESCE((SELECT MIN(due_at) FROM webhook_delivery \
     WHERE endpoint_id = $1 AND state = 'pending' AND due_at > $2), $3) WHERE endpoint_id = $1";

const NEXT: &str = "UPDATE webhook_queue SET next_due_at = COALESCE((SELECT MIN(due_at) FROM webhook_delivery \
     WHERE endpoint_id = $1 AND state = 'pending'), $2), is_proven = $3, failing_since = $4 WHERE endpoint_id = $1";

const IS_PROVEN: &str = "SELECT is_proven FROM webhook_queue WHERE endpoint_id = $1";

/// Delivery `$1` of claim `$2`.
const FINISH: &str = "UPDATE webhook_delivery SET state = $3, due_at = $4, claim = NULL, tries = tries + 1, last_at = $5, last_status = $6, \
     last_duration_ms = $7, last_answer = $8, last_error = $9 WHERE delivery_id = $1 AND claim = $2";

/// Keeps the try that delivery `$1` of claim `$2` had before, if it had one.
const KEEP_TRY: &str = "INSERT INTO webhook_attempt (delivery_id, number, at, status, duration_ms, answer, error) SELECT delivery_id, \
     (SELECT COALESCE(MAX(number), 0) + 1 FROM webhook_attempt WHERE delivery_id = $1), last_at, last_status, \
     COALESCE(last_duration_ms, 0), COALESCE(last_answer, ''), last_error FROM webhook_delivery \
     WHERE delivery_id = $1 AND claim = $2 AND last_at IS NOT NULL";

/// Of delivery `$1`; so many are kept: `$2`.
const FORGET_TRIES: &str = "DELETE FROM webhook_attempt WHERE delivery_id = $1 \
     AND number <= (SELECT MAX(number) FROM webhook_attempt WHERE delivery_id = $1) - $2";

const FINISH_CANCELLED: &str =
    "UPDATE webhook_delivery SET state = 'cancelled', reason = $3, claim = NULL WHERE delivery_id = $1 AND claim = $2";

const DISABLE: &str = "UPDATE webhook_endpoint SET enabled = 0, disabled_reason = $2, disabled_at = $3, version = version + 1 \
     WHERE endpoint_id = $1 AND enabled = 1 AND deleted_at IS NULL";

/// On its way again, from its first try on.
const AGAIN: &str =
    "UPDATE webhook_delivery SET state = 'pending', reason = NULL, due_at = $2, claim = NULL, tries = 0 WHERE delivery_id = $1";

const DELIVERY_OF: &str = "SELECT delivery_id FROM webhook_delivery WHERE endpoint_id = $1 AND event_id = $2";

const WORK: &str = "SELECT CAST(EXISTS (SELECT 1 FROM event WHERE relayed_at IS NULL) AS INTEGER) AS events, \
     CAST(EXISTS (SELECT 1 FROM webhook_queue WHERE is_proven = 1 AND next_due_at <= $1) AS INTEGER) AS proven, \
     CAST(EXISTS (SELECT 1 FROM webhook_queue WHERE is_proven = 0 AND next_due_at <= $1) AS INTEGER) AS unproven";

pub(super) async fn work(connection: &mut Connection, now: Timestamp) -> Result<Work, Fault> {
    let (events, proven, unproven): (i32, i32, i32) = sqlx::query_as(WORK).bind(now.micros()).fetch_one(connection).await?;
    Ok(Work {
        events: events != 0,
        proven: proven != 0,
        unproven: unproven != 0,
    })
}

pub(super) async fn relay(connection: &mut Connection, limit: usize, now: Timestamp, due_at: Timestamp) -> Result<Relayed, Fault> {
    let events = eventing::take(connection, limit).await?;
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let shared = if events.is_empty() {
        Vec::new()
    } else {
        enabled(connection, "").await?
    };
    let mut of_workspace: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
    for event in &events {
        let workspace = workspace_column(event.workspace.as_ref());
        if !workspace.is_empty() && !of_workspace.contains_key(workspace) {
            of_workspace.insert(workspace, enabled(connection, workspace).await?);
        }
    }
    let mut by_endpoint: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
    for event in &events {
        let own = of_workspace.get(workspace_column(event.workspace.as_ref())).into_iter().flatten();
        for endpoint in own.chain(&shared).filter(|endpoint| wants(endpoint, event)) {
            let deliveries = by_endpoint.entry(endpoint.id.to_string()).or_default();
            deliveries.push(delivery_of(endpoint, event, now, due_at));
        }
    }
    let mut deliveries = 0;
    for (endpoint, of_endpoint) in by_endpoint {
        due(connection, &endpoint, due_at).await?;
        for delivery in of_endpoint {
            deliveries += enqueue(connection, &delivery).await?;
        }
    }
    eventing::relayed(connection, &ids, now).await?;
    Ok(Relayed {
        events: events.len(),
        deliveries,
    })
}

/// Something of this endpoint is due. Takes the lock of its row.
async fn due(connection: &mut Connection, endpoint: &str, at: Timestamp) -> Result<(), Fault> {
    sqlx::query(DUE_AT).bind(endpoint).bind(at.micros()).execute(connection).await?;
    Ok(())
}

/// Puts a delivery into the queue, and says how many: a replay that was faster has put it there already.
async fn enqueue(connection: &mut Connection, delivery: &Delivery) -> Result<usize, Fault> {
    let row = DeliveryRecord::from(delivery);
    let statement = sqlx::query(ENQUEUE)
        .bind(row.delivery_id)
        .bind(row.endpoint_id)
        .bind(row.workspace_id)
        .bind(row.event_id)
        .bind(row.event_type)
        .bind(row.body)
        .bind(row.created_at)
        .bind(row.due_at);
    Ok(usize::from(statement.execute(connection).await?.rows_affected() == 1))
}

/// Whether an endpoint is told of an event. What only operators may know goes to endpoints that belong to no workspace.
fn wants(endpoint: &Endpoint, event: &Event) -> bool {
    let may_know = endpoint.workspace.is_none() || event.audience == Audience::Customer;
    may_know && passes(&endpoint.events, event.kind)
}

fn delivery_of(endpoint: &Endpoint, event: &Event, now: Timestamp, due_at: Timestamp) -> Delivery {
    Delivery {
        id: DeliveryId::of(endpoint.id, event.id, now),
        endpoint: endpoint.id,
        workspace: endpoint.workspace.clone(),
        event: event.id,
        kind: event.kind.as_str().to_owned(),
        body: json(&event.body()),
        state: State::Pending,
        reason: None,
        created_at: now,
        due_at,
        tries: 0,
        last: None,
    }
}

pub(super) async fn claim(connection: &mut Connection, claiming: &Claiming) -> Result<Vec<Claimed>, Fault> {
    let queues: Vec<QueueRow> = sqlx::query_as(own::TAKE_QUEUES)
        .bind(claiming.now.micros())
        .bind(i64::from(claiming.proven))
        .bind(count(claiming.endpoints))
        .fetch_all(&mut *connection)
        .await?;
    let mut claimed = Vec::new();
    for queue in queues {
        let endpoint_id = read_endpoint_id(&queue.endpoint_id)?;
        let endpoint = endpoint(connection, endpoint_id).await?;
        // Where uses are told of there may be more than it ever takes, and a limit that was reached does not wait behind them.
        let texts: &[&str] = match endpoint.as_ref().is_some_and(Endpoint::wants_usage) {
            true => &[CLAIM_FIRST, CLAIM],
            false => &[CLAIM],
        };
        let mut rows: Vec<ClaimedRow> = Vec::new();
        for text in texts {
            let due = sqlx::query_as::<_, ClaimedRow>(*text)
                .bind(&queue.endpoint_id)
                .bind(claiming.now.micros())
                .bind(&claiming.claim)
                .bind(claiming.until.micros())
                .bind(count(claiming.per_endpoint));
            rows.extend(due.fetch_all(&mut *connection).await?);
            if rows.len() >= claiming.per_endpoint {
                break;
            }
        }
        let next = sqlx::query(NEXT_AFTER_CLAIM).bind(&queue.endpoint_id).bind(claiming.now.micros());
        next.bind(NEVER).execute(&mut *connection).await?;
        for row in rows {
            claimed.push(Claimed {
                delivery: read_delivery_id(&row.delivery_id)?,
                event: read_event_id(&row.event_id)?,
                body: row.body,
                tries: u32::try_from(row.tries).unwrap_or(u32::MAX),
                claim: claiming.claim.clone(),
                endpoint: endpoint.clone(),
                endpoint_id,
                failing_since: queue.failing_since.map(Timestamp::from_micros),
            });
        }
    }
    Ok(claimed)
}

pub(super) async fn finish(connection: &mut Connection, finished: &[Finished]) -> Result<Vec<Noted>, Fault> {
    let mut order: Vec<usize> = (0..finished.len()).collect();
    order.sort_by_key(|place| finished[*place].endpoint);
    let mut noted = vec![Noted::Lost; finished.len()];
    for place in order {
        noted[place] = finish_one(connection, &finished[place]).await?;
    }
    Ok(noted)
}

async fn finish_one(connection: &mut Connection, finished: &Finished) -> Result<Noted, Fault> {
    let endpoint = finished.endpoint.to_string();
    let failing_since = lock_queue(connection, &endpoint).await?;
    let (is_held, failing_since, tried) = match &finished.how {
        How::Tried { attempt, next } => {
            let is_held = note_try(connection, finished, attempt, *next).await?;
            let failing_since = (!attempt.is_success()).then(|| failing_since.unwrap_or(attempt.at.micros()));
            (is_held, failing_since, Some(attempt))
        }
        How::Cancelled(reason) => {
            let statement = sqlx::query(FINISH_CANCELLED)
                .bind(finished.delivery.to_string())
                .bind(&finished.claim);
            let written = statement.bind(*reason).execute(&mut *connection).await?;
            (written.rows_affected() == 1, failing_since, None)
        }
    };
    if !is_held {
        return Ok(Noted::Lost);
    }
    let is_disabled = match (&finished.disabling, &finished.how) {
        (Some(disabling), How::Tried { attempt, .. }) => {
            let since = Timestamp::from_micros(failing_since.unwrap_or(attempt.at.micros()));
            retry::disables(attempt, since) == Some(disabling.why) && disable(connection, &endpoint, attempt.at, disabling).await?
        }
        _ => false,
    };
    // What failed on an endpoint that is not tried any more ends now, and not when it would be due.
    if tried.is_some_and(|attempt| !attempt.is_success()) && !is_enabled(connection, finished).await? {
        cancel(connection, &endpoint, "endpoint_disabled").await?;
    }
    let is_proven = match tried {
        Some(attempt) => i64::from(attempt.is_proof()),
        None => {
            let before = sqlx::query_scalar(IS_PROVEN).bind(&endpoint);
            before.fetch_optional(&mut *connection).await?.unwrap_or(0)
        }
    };
    let next = sqlx::query(NEXT).bind(&endpoint).bind(NEVER).bind(is_proven).bind(failing_since);
    next.execute(connection).await?;
    Ok(if is_disabled { Noted::Disabled } else { Noted::Done })
}

async fn is_enabled(connection: &mut Connection, finished: &Finished) -> Result<bool, Fault> {
    let found = endpoint(connection, finished.endpoint).await?;
    Ok(found.is_some_and(|endpoint| endpoint.enabled))
}

/// False: the claim is not held any more.
async fn note_try(connection: &mut Connection, finished: &Finished, attempt: &Attempt, next: Next) -> Result<bool, Fault> {
    let (state, due_at) = match next {
        Next::Delivered => (State::Delivered, attempt.at),
        Next::Again(at) => (State::Pending, at),
        Next::Failed => (State::Failed, attempt.at),
    };
    let id = finished.delivery.to_string();
    let kept = sqlx::query(KEEP_TRY).bind(&id).bind(&finished.claim);
    if kept.execute(&mut *connection).await?.rows_affected() == 1 {
        // The last one is the delivery's own.
        let forgotten = sqlx::query(FORGET_TRIES).bind(&id).bind(count(ATTEMPTS_KEPT_MAX - 1));
        forgotten.execute(&mut *connection).await?;
    }
    let statement = sqlx::query(FINISH)
        .bind(id)
        .bind(&finished.claim)
        .bind(state.as_str())
        .bind(due_at.micros())
        .bind(attempt.at.micros())
        .bind(attempt.status.map(i64::from))
        .bind(attempt.duration_ms)
        .bind(&attempt.answer)
        .bind(&attempt.error);
    Ok(statement.execute(connection).await?.rows_affected() == 1)
}

/// Ends an endpoint, tells of it, and cancels what it has left. False: somebody else did.
async fn disable(connection: &mut Connection, endpoint: &str, at: Timestamp, disabling: &Disabling) -> Result<bool, Fault> {
    let statement = sqlx::query(DISABLE).bind(endpoint).bind(disabling.why.as_str()).bind(at.micros());
    if statement.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let reason = match disabling.why {
        Disable::Gone => "endpoint_gone",
        Disable::OnlyFailures => "endpoint_disabled",
    };
    cancel(connection, endpoint, reason).await?;
    eventing::add(connection, std::slice::from_ref(&disabling.event)).await?;
    audited::write(connection, std::slice::from_ref(&disabling.audited)).await?;
    Ok(true)
}

/// False: it is not there, or its endpoint is not enabled.
pub(super) async fn redeliver(connection: &mut Connection, delivery: &Delivery, now: Timestamp) -> Result<bool, Fault> {
    let id = delivery.endpoint.to_string();
    lock_queue(connection, &id).await?;
    if !endpoint(connection, delivery.endpoint)
        .await?
        .is_some_and(|endpoint| endpoint.enabled)
    {
        return Ok(false);
    }
    again(connection, &id, &delivery.id.to_string(), now).await
}

async fn again(connection: &mut Connection, endpoint: &str, delivery: &str, now: Timestamp) -> Result<bool, Fault> {
    let statement = sqlx::query(AGAIN).bind(delivery).bind(now.micros());
    if statement.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(false);
    }
    due(connection, endpoint, now).await?;
    Ok(true)
}

pub(super) async fn replay(connection: &mut Connection, replay: &Replay) -> Result<Replayed, Fault> {
    let (endpoint, id) = (&replay.endpoint, replay.endpoint.id.to_string());
    let query = EventQuery {
        workspace: endpoint.workspace.clone(),
        from: Some(replay.from),
        to: Some(replay.to),
        after: replay.after,
        is_oldest_first: true,
        limit: replay.limit,
        ..EventQuery::default()
    };
    lock_queue(connection, &id).await?;
    let events = eventing::list(connection, &query).await?;
    let mut deliveries = 0;
    for event in events.iter().filter(|event| wants(endpoint, event)) {
        let known: Option<String> = sqlx::query_scalar(DELIVERY_OF)
            .bind(&id)
            .bind(event.id.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        match known {
            Some(delivery) => drop(again(connection, &id, &delivery, replay.now).await?),
            None => {
                due(connection, &id, replay.now).await?;
                enqueue(connection, &delivery_of(endpoint, event, replay.now, replay.now)).await?;
            }
        }
        deliveries += 1;
    }
    let is_last = events.len() < replay.limit;
    let last = events.last().filter(|_| !is_last).map(|event| (event.recorded_at, event.id));
    Ok(Replayed { deliveries, last })
}
