//! `/v1/reservations/{id}`: settle, release, extend, look at.

use super::call::{Answer, Call, ok};
use super::problem::Problem;
use super::report::SettleRequest;
use super::wire::{AmountsOut, BeyondHold, BudgetOut, EntryOut, budgets};
use crate::decision::amount::Count;
use crate::decision::ask::HOLD_SECONDS_MAX;
use crate::decision::id::{CacheEntryId, ReservationId};
use crate::decision::run::Account;
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::find::Reservation;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A recorded use.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettleAnswer<'a> {
    entry: Option<EntryOut<'a>>,
    /// The same report was recorded before; `entry` is what it became.
    replayed: bool,
    /// The hold had ended before the report came.
    late: bool,
    beyond_hold: BeyondHold,
    budgets: Vec<BudgetOut<'a>>,
    /// Whether the answer that came with it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_store: Option<CacheStored>,
}

/// What became of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheStored {
    /// False: its request had not asked the cache or found it off, another family's model answered, it is too large, or the cache is away.
    stored: bool,
    #[schema(value_type = Option<String>, example = "cch_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    cache_entry_id: Option<CacheEntryId>,
}

/// A recorded checkpoint of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckpointAnswer<'a> {
    entry: Option<EntryOut<'a>>,
    checkpoint: PoolsOut,
    /// A hard limit is passed: end the stream.
    stop: bool,
    budgets: Vec<BudgetOut<'a>>,
}

/// Usage so far in exclusive pools.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolsOut {
    input_tokens: i64,
    cache_read_tokens: i64,
    cache_write_tokens: i64,
    cache_write_1h_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
}

/// Records what a reservation really used. Answered only after it is durable.
#[utoipa::path(post, path = "/v1/reservations/{id}/settle", tag = "hot path", params(("id" = String, Path)), request_body = SettleRequest,
    responses((status = 200, body = SettleAnswer)))]
pub async fn settle(call: Call) -> Answer {
    let id = call.path_reservation()?;
    let body: SettleRequest = call.json()?;
    if let (Some(named), Some(bound)) = (&body.workspace_id, &call.identity.workspace)
        && named != bound
    {
        return Err(Problem::not_found());
    }
    let (report, described) = (body.report()?, body.described());
    let bound = call.identity.workspace.clone();
    let service = call.service.clone();
    if body.is_final == Some(false) {
        let checked = durably(async move { flow::settle::checkpoint(&service, id, &report, &described, bound.as_ref()).await }).await?;
        let pools = &checked.pools;
        let checkpoint = PoolsOut {
            input_tokens: pools.input_tokens,
            cache_read_tokens: pools.cache_read_tokens,
            cache_write_tokens: pools.cache_write_tokens,
            cache_write_1h_tokens: pools.cache_write_1h_tokens,
            output_tokens: pools.output_tokens,
            reasoning_tokens: pools.reasoning_tokens,
        };
        return ok(&CheckpointAnswer {
            entry: None,
            checkpoint,
            stop: checked.stop,
            budgets: budgets(&checked.budgets),
        });
    }
    let settled = durably(async move { flow::settle::settle(&service, id, &report, &described, bound.as_ref()).await }).await?;
    ok(&SettleAnswer {
        entry: Some((&settled.entry).into()),
        replayed: settled.replayed,
        late: settled.late,
        beyond_hold: settled.beyond_hold.into(),
        budgets: budgets(&settled.budgets),
        cache_store: settled.kept.map(|kept| CacheStored {
            stored: kept.cache_entry.is_some(),
            cache_entry_id: kept.cache_entry,
        }),
    })
}

/// Runs a mutation to its end even if the caller hangs up meanwhile.
pub(super) async fn durably<T: Send + 'static>(
    work: impl Future<Output = Result<T, flow::FlowError>> + Send + 'static,
) -> Result<T, Problem> {
    // Kilobytes, which the runtime would copy a dozen times.
    match tokio::spawn(Box::pin(work)).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "a mutation did not come to its end");
            Err(Problem::internal())
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReleaseAnswer<'a> {
    #[schema(value_type = String)]
    reservation_id: ReservationId,
    #[schema(example = "released")]
    state: &'static str,
    /// What its checkpoints had reported.
    entry: Option<EntryOut<'a>>,
}

/// The request did not happen: frees the hold.
#[utoipa::path(post, path = "/v1/reservations/{id}/release", tag = "hot path", params(("id" = String, Path)),
    responses((status = 200, body = ReleaseAnswer)))]
pub async fn release(call: Call) -> Answer {
    let id = call.path_reservation()?;
    call.no_body_or_empty_object()?;
    let (service, bound) = (call.service.clone(), call.identity.workspace.clone());
    let released = durably(async move { flow::release::release(&service, id, bound.as_ref()).await }).await?;
    ok(&ReleaseAnswer {
        reservation_id: id,
        state: "released",
        entry: released.entry.as_ref().map(EntryOut::from),
    })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// How long from now.
    #[schema(value_type = i64, minimum = 1, maximum = 604800, example = 600)]
    hold_seconds: Count,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ExtendAnswer {
    #[schema(value_type = String)]
    reservation_id: ReservationId,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Lets a hold live longer: now + n seconds, never earlier, at most 7 days in all.
#[utoipa::path(post, path = "/v1/reservations/{id}/extend", tag = "hot path", params(("id" = String, Path)), request_body = ExtendRequest,
    responses((status = 200, body = ExtendAnswer)))]
pub async fn extend(call: Call) -> Answer {
    let id = call.path_reservation()?;
    let body: ExtendRequest = call.json()?;
    let seconds = body.hold_seconds.get();
    if !(1..=HOLD_SECONDS_MAX).contains(&seconds) {
        return Err(Problem::unacceptable(
            "/hold_seconds",
            format!("must be from 1 to {HOLD_SECONDS_MAX}"),
        ));
    }
    let expires_at = flow::extend::extend(&call.service, id, seconds, call.identity.workspace.as_ref()).await?;
    ok(&ExtendAnswer {
        reservation_id: id,
        expires_at,
    })
}

/// How a reservation stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReservationOut<'a> {
    #[schema(value_type = String)]
    reservation_id: ReservationId,
    /// held, settled, released or expired.
    state: &'static str,
    workspace_id: &'a str,
    request_id: &'a str,
    user_id: Option<&'a str>,
    feature: Option<&'a str>,
    model: Option<&'a str>,
    held: Option<AmountsOut>,
    used: AmountsOut,
    #[schema(value_type = Option<String>, format = DateTime)]
    authorized_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    entry: Option<EntryOut<'a>>,
    /// Of the parent of a run: how the run stands, or stood when its parent ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunOut>,
    /// Of a call of a run: its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    parent_reservation_id: Option<ReservationId>,
    /// Of a second try on a better model: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    escalated_from: Option<ReservationId>,
    /// Of one whose answer was not good enough: its second try.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    escalated_to: Option<ReservationId>,
}

/// How a run stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunOut {
    /// How many calls it admits in all; null: as many as its hold pays for.
    #[schema(example = 20)]
    max_calls: Option<i64>,
    /// How many it has admitted.
    #[schema(example = 3)]
    calls: i64,
    /// How many of these are neither settled nor released nor expired.
    #[schema(example = 1)]
    live_calls: i64,
    /// What its live calls hold.
    lent: AmountsOut,
    /// What its calls have used. A parent's own `used` is the same.
    used: AmountsOut,
    /// What its next call may take.
    left: AmountsOut,
}

impl From<&Account> for RunOut {
    fn from(account: &Account) -> Self {
        Self {
            max_calls: account.calls_max,
            calls: account.calls,
            live_calls: account.live_calls,
            lent: account.lent.into(),
            used: account.used.into(),
            left: account.left().into(),
        }
    }
}

impl<'a> From<&'a Reservation> for ReservationOut<'a> {
    fn from(found: &'a Reservation) -> Self {
        Self {
            reservation_id: found.id,
            state: found.end.map_or("held", |end| end.as_str()),
            workspace_id: found.workspace.as_str(),
            request_id: found.request_id.as_str(),
            user_id: found.user.as_ref().map(|user| user.as_str()),
            feature: found.feature.as_ref().map(|feature| feature.as_str()),
            model: found.model.as_ref().map(|model| model.as_str()),
            held: found.held.map(AmountsOut::from),
            used: found.used.into(),
            authorized_at: found.authorized_at,
            expires_at: found.expires_at,
            entry: found.entry.as_ref().map(EntryOut::from),
            run: found.run.as_ref().map(RunOut::from),
            parent_reservation_id: found.parent,
            escalated_from: found.escalated.0,
            escalated_to: found.escalated.1,
        }
    }
}

/// How a reservation stands.
#[utoipa::path(get, path = "/v1/reservations/{id}", tag = "hot path", params(("id" = String, Path)),
    responses((status = 200, body = ReservationOut)))]
pub async fn get(call: Call) -> Answer {
    let id = call.path_reservation()?;
    let found = flow::find::find(&call.service, id, call.identity.workspace.as_ref()).await?;
    ok(&ReservationOut::from(&found))
}
