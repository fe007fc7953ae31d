//! Expire: what only the ledger can end. Most holds expire by comparison and never come here; these do: claims that stayed open, holds
//! that the plan charges, and streams that left a checkpoint. Of those that expire by comparison only the ones come that somebody wants to
//! hear of (`untold.rs`). Each step can be repeated; a crash leaves it for the next round.

use super::context::Context;
use super::known::without_hold;
use super::rebuild::{self, Committed};
use super::{FlowError, Service, run, tell, workspace};
use crate::counters::{Claim, Progress, Record};
use crate::decision::amount::Amounts;
use crate::decision::entry::{Entry, Outcome};
use crate::decision::event::{Event, EventType, ReservationData};
use crate::decision::id::{EventId, RequestId, ReservationId, WorkspaceId};
use crate::decision::notice;
use crate::decision::settlement::{self, Report};
use crate::decision::standing::{End, Standing};
use crate::decision::usage::{Pools, Usage};
use crate::ledger::{LedgerError, Post, Posted, Tells};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

mod untold;

/// How many are asked for at a time, and how many of them are resolved at once: the ledger records together what comes together.
const ROUND_MAX: usize = 500;
const AT_ONCE: usize = 64;
/// How often it is asked again at once, while something was resolved.
const ROUNDS_MAX: usize = 64;

/// Resolves what is due, and says how many there were.
pub async fn expire_due(service: &Service) -> Result<usize, FlowError> {
    let mut resolved = 0;
    for _ in 0..ROUNDS_MAX {
        let more = round(service).await?;
        resolved += more;
        if more == 0 {
            break;
        }
    }
    Ok(resolved)
}

async fn round(service: &Service) -> Result<usize, FlowError> {
    let now = service.clock.now();
    let due = service.counters.due(now, ROUND_MAX).await?;
    let streams = service.ledger.checkpoints_due(now, ROUND_MAX).await?;
    let waited = due.iter().map(|record| record.expires_at.seconds_until(now)).max().unwrap_or(0);
    metrics::gauge!("weir_expire_oldest_due_seconds").set(waited.max(0) as f64);
    let (over, due): (Vec<Record>, Vec<Record>) = due.into_iter().partition(|record| record.end.is_some());
    let holds = due.into_iter().map(async |record| {
        let id = record.reservation;
        told(id, expire_hold(service, record).await)
    });
    let streams = streams
        .into_iter()
        .map(async |(id, standing)| told(id, expire_stream(service, id, standing).await));
    let holds = in_turn(holds).await?;
    let streams = in_turn(streams).await?;
    // After the streams, so that one of them is told with what it used.
    Ok(holds + streams + untold::tell(service, over).await?)
}

/// Resolves these, some at once, and counts them.
async fn in_turn(resolving: impl Iterator<Item = impl Future<Output = Result<usize, FlowError>>>) -> Result<usize, FlowError> {
    let resolving = stream::iter(resolving).buffer_unordered(AT_ONCE);
    resolving.try_fold(0, async |sum, one| Ok(sum + one)).await
}

/// Counts one that was resolved. One that cannot be must not keep the others waiting; a store that is away fails them all.
fn told(id: ReservationId, result: Result<(), FlowError>) -> Result<usize, FlowError> {
    match result {
        Ok(()) => Ok(1),
        Err(error @ (FlowError::Counters(_) | FlowError::Ledger(LedgerError::Unavailable { .. } | LedgerError::Busy))) => Err(error),
        Err(error) => {
            tracing::error!(reservation = %id, error = &error as &dyn std::error::Error, "a reservation cannot be ended; it is tried again");
            metrics::counter!("weir_expire_failed_total").increment(1);
            Ok(0)
        }
    }
}

/// A claim that stayed open, or a hold that is charged. The row that says `expired` is the fence: a commit still on its way finds it and
/// records late.
async fn expire_hold(service: &Service, record: Record) -> Result<(), FlowError> {
    let id = record.reservation;
    let context = Context::decode(&record.context, id)?;
    let standing = service.ledger.standing(id).await?;
    if let Some(end) = standing.as_ref().and_then(|standing| standing.end) {
        let committed = rebuild::committed(service, &record.workspace, &context.limits.counters).await?;
        let recorded = standing.as_ref().and_then(|standing| standing.entry.as_ref());
        return apply(service, id, &record.workspace, run::ended(end, recorded), committed).await;
    }
    let reported = standing
        .as_ref()
        .and_then(|standing| standing.checkpoint.as_ref())
        .map(|checkpoint| checkpoint.entry.clone());
    if let Some(entry) = &reported
        && is_recorded(&record, entry.counted)
        && !run::is_parent(&record, &context)
        && record.expires_at > service.clock.now()
    {
        // Only the copy was lost: nothing is on its way that an end would have to stop, and the stream runs on.
        let committed = rebuild::committed(service, &record.workspace, &context.limits.counters).await?;
        return apply(service, id, &record.workspace, Progress::Used(entry.counted), committed).await;
    }
    let entry = match reported {
        Some(entry) => Some(entry),
        // A settle that was on its way is lost, or comes again: then it records the difference.
        None if context.charge_on_expiry && !run::is_parent(&record, &context) => Some(charge(service, &record, &context).await?),
        None => None,
    };
    let entry = entry.map(|entry| Entry {
        recorded_at: service.clock.now(),
        ..entry
    });
    let post = Post {
        workspace: record.workspace.clone(),
        reservation: id,
        request_id: context.ask.request_id.clone(),
        revision: standing.as_ref().map_or(0, |standing| standing.revision),
        end: Some(End::Expired),
        fingerprint: None,
        checkpoint: None,
        entries: entry.into_iter().collect(),
        counters: context.limits.counters.clone(),
        charges: Vec::new(),
        tells: Tells::default(),
        now: service.clock.now(),
    };
    end_with(service, post).await
}

/// Whether the ledger has all that a checkpoint claimed.
fn is_recorded(record: &Record, counted: Amounts) -> bool {
    matches!(record.claimed, Some(Claim::UpTo(claimed)) if claimed.beyond(counted) == Amounts::ZERO)
}

/// The entry for a hold that nobody settled and that the plan charges: all of it.
async fn charge(service: &Service, record: &Record, context: &Context) -> Result<Entry, FlowError> {
    let policy = service.policy_of(context).await?;
    let ladder = context.ladder(&policy)?;
    let taken = record.taken;
    let subject = context.subject(record.reservation, &ladder, taken.rung, taken.amounts, false);
    let pools = Pools {
        input_tokens: ladder.offers[taken.rung].input_tokens,
        output_tokens: taken.output,
        ..Pools::default()
    };
    let report = Report {
        model: None,
        usage: Usage::from(pools),
        mode: None,
        requests: None,
        outcome: Outcome::Abandoned,
        latency_ms: None,
        provider_request_id: None,
        quality_score: None,
        other_cost_usd: None,
        billable_outcomes: BTreeMap::new(),
    };
    settlement::entry(&subject, &report, None, &policy.catalogue, service.entry_id(), service.clock.now())
        .map_err(|_| FlowError::AmountTooLarge)
}

/// A stream whose last checkpoint is past its hold: it becomes the entry, unless the hold was extended.
async fn expire_stream(service: &Service, id: ReservationId, standing: Standing) -> Result<(), FlowError> {
    let now = service.clock.now();
    let Some(checkpoint) = standing.checkpoint else { return Ok(()) };
    if let Some(record) = service.counters.find(id, now).await?
        && record.end.is_none()
        && record.expires_at > now
    {
        return Ok(service.ledger.extend_checkpoint(id, record.expires_at).await?);
    }
    let entry = Entry {
        recorded_at: now,
        ..checkpoint.entry
    };
    let counters = counters(service, &entry).await?;
    let request_id: RequestId = standing.request_id;
    let post = Post {
        workspace: standing.workspace,
        reservation: id,
        request_id,
        revision: standing.revision,
        end: Some(End::Expired),
        fingerprint: None,
        checkpoint: None,
        entries: vec![entry],
        counters,
        charges: Vec::new(),
        tells: Tells::default(),
        now,
    };
    end_with(service, post).await
}

async fn counters(service: &Service, entry: &Entry) -> Result<Vec<crate::decision::counter::Counter>, FlowError> {
    let subject = crate::decision::settlement::Subject {
        workspace: entry.workspace_id.clone(),
        user: entry.user_id.clone(),
        feature: entry.feature.clone(),
        request_id: entry.request_id.clone(),
        reservation: entry.reservation_id,
        requested_model: entry.requested_model.clone(),
        model: entry.model.clone(),
        mode: entry.mode,
        requests: entry.requests,
        held: crate::decision::amount::Amounts::ZERO,
        occurred_at: entry.occurred_at,
        plan: None,
        tags: BTreeMap::new(),
        late: false,
    };
    Ok(without_hold(service, subject).await?.limits.counters.clone())
}

/// Writes the end, or follows the one that somebody else wrote in between.
async fn end_with(service: &Service, mut post: Post) -> Result<(), FlowError> {
    let entry = post.entries.first();
    let data = ReservationData {
        workspace_id: post.workspace.clone(),
        reservation_id: post.reservation,
        request_id: post.request_id.clone(),
        user_id: entry.and_then(|entry| entry.user_id.clone()),
        feature: entry.map(|entry| entry.feature.clone()),
        model: entry.map(|entry| entry.model.clone()),
        charged: entry.is_some(),
        tokens: entry.map_or(0, |entry| entry.counted.tokens),
        message: String::new(),
    };
    post.tells.events.push(expired_event(service, data).await?);
    let (id, workspace, counters) = (post.reservation, post.workspace.clone(), post.counters.clone());
    let expired = run::ended(End::Expired, post.entries.first());
    match tell::post(service, post).await? {
        Posted::Done { rows, purses } => {
            metrics::counter!("weir_reservations_expired_total").increment(1);
            apply(service, id, &workspace, expired, Committed { rows, purses }).await
        }
        Posted::Stands(standing) => match standing.end {
            Some(end) => {
                let committed = rebuild::committed(service, &workspace, &counters).await?;
                apply(service, id, &workspace, run::ended(end, standing.entry.as_ref()), committed).await
            }
            // A checkpoint came in between: the next round looks again.
            None => Ok(()),
        },
    }
}

/// What is told, once for each reservation, with a message in the words of the workspace's plan.
async fn expired_event(service: &Service, mut data: ReservationData) -> Result<Event, FlowError> {
    let policy = service.policy.load();
    let workspace = workspace::find(service, &data.workspace_id).await?;
    let plan = workspace.and_then(|workspace| policy.plan(workspace.plan_id.as_ref()).cloned());
    data.message = notice::expired(policy.voice(None, plan.as_deref()), data.charged);
    let (id, once) = (EventId::from_uuid(service.clock.uuid()), format!("expired {}", data.reservation_id));
    let (workspace, now) = (data.workspace_id.clone(), service.clock.now());
    let data = serde_json::to_value(data).unwrap_or_default();
    Ok(Event::new(id, Some(workspace), EventType::ReservationExpired, once, now, data))
}

async fn apply(
    service: &Service,
    id: ReservationId,
    workspace: &WorkspaceId,
    end: Progress,
    committed: Committed,
) -> Result<(), FlowError> {
    let applied = committed.applied(id, end);
    service.counters.apply(workspace, &applied, &[], &[], service.clock.now()).await?;
    Ok(())
}
