//! Authorize: ask the questions, compile the ladder, let the store take the first rung that fits. One step of the store, no ledger.
//!
//! A crash before the hold costs nothing. A crash after it leaves a hold that expires by itself; the caller, who got no answer, asks again
//! with the same id and gets the same reservation.

use super::prepare::{Compiled, Prepared, Ready, prepare};
use super::providers::Drained;
use super::rebuild::{self, Patience};
use super::replay::replay;
use super::{FlowError, Service, cache, cascade, dry_run, fair_use, freeing, run, wall};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::ask::Ask;
use crate::decision::cascade::Escalation;
use crate::decision::counter::Balance;
use crate::decision::explain::Explanation;
use crate::decision::facts::Outcome;
use crate::decision::id::{DecisionId, ReservationId};
use crate::decision::ladder::{Ladder, Offer};
use crate::decision::message::Voice;
use crate::decision::plan::{OnStoreUnavailable, Plan};
use crate::decision::refusal::BlockedBy;
use crate::decision::rung::Taken;
use crate::decision::time::Timestamp;
use crate::decision::verdict::{self, Allowed, Denied, RouteNote};
use serde_json::{Map, Value};
use std::sync::Arc;

pub use super::since::{POLICY_REACHES_ALL_SECONDS, named_since};

/// A request to authorize, as it came in.
pub struct Request {
    pub ask: Arc<Ask>,
    /// For routing rules; flat scalars.
    pub attributes: Map<String, Value>,
    /// Tells requests under one id apart.
    pub fingerprint: u128,
    /// The caller named it, so it may come again.
    pub is_named: bool,
    /// A call of the run that this reservation is the parent of.
    pub parent: Option<ReservationId>,
    /// Opens a run of at most so many calls.
    pub max_calls: Option<i64>,
    /// Holds nothing, and explains.
    pub dry_run: bool,
    /// What rules may judge it by, where one does; kept nowhere.
    pub text: Option<Arc<str>>,
    /// Rules may make a batch of it.
    pub may_defer: bool,
    /// It can wait for a batch and names no mode: it is one, where the model has a price for that.
    pub defers: bool,
    pub max_delay_seconds: Option<i64>,
    /// The second try of this reservation, whose answer was not good enough.
    pub escalate_from: Option<ReservationId>,
    /// The languages in which its caller would read sentences, as in `Accept-Language`.
    pub accept_language: Option<Arc<str>>,
    /// Where an answer may be there already.
    pub cache: Option<Box<cache::Asked>>,
}

impl Request {
    /// The request as if its caller had excluded the providers that are drained.
    pub(super) fn avoiding(self, drained: &Drained) -> Self {
        Self {
            ask: drained.avoid(self.ask),
            ..self
        }
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Decision {
    pub decision: DecisionId,
    pub verdict: Verdict,
    /// The same request was answered before; this is that answer.
    pub replayed: bool,
    /// Only of a dry run.
    pub explain: Option<Box<Explanation>>,
    /// What became of the look into the cache, where the decision is none of it and the cache was asked.
    pub cache: Option<cache::Status>,
}

impl Decision {
    /// The same, having asked the cache in vain. What is told again tells what it told first.
    pub(super) fn after(mut self, status: Option<cache::Status>) -> Self {
        self.cache = self.cache.or(status);
        self
    }
}

#[derive(Clone, Debug)]
pub enum Verdict {
    Allowed(Box<Permit>),
    Denied(Box<Denied>),
    /// The answer was there already; nothing is held.
    Cached(Box<cache::Given>),
}

/// An allowed request with all that its answer tells.
#[derive(Clone, Debug)]
pub struct Permit {
    pub reservation: Option<ReservationId>,
    pub expires_at: Timestamp,
    /// Decided without the counters, because the plan says so when they are away.
    pub degraded: bool,
    pub offer: Offer,
    pub input_tokens_estimated: bool,
    pub allowed: Allowed,
    pub plan: Arc<Plan>,
    /// What may follow an answer that is not good enough.
    pub escalation: Option<Escalation>,
}

/// Decides a request. Denials are answers, not errors.
///
/// What few requests do is boxed, here and below: a future has room for all that it may do, and each request moves it about.
pub async fn authorize(service: &Service, request: Request) -> Result<Decision, FlowError> {
    let request = request.avoiding(&service.drained);
    let called_at = service.clock.now();
    let decided = decide(service, &request).await;
    fair_use::decided(service, &request, &decided, called_at).await;
    cascade::give_back(service, &request, &decided).await;
    cache::told(service, &request, decided).await
}

async fn decide(service: &Service, request: &Request) -> Result<Decision, FlowError> {
    let mut ready = match prepare(service, request, true).await? {
        Prepared::Ready(ready) => ready,
        Prepared::OfRun(course, parent) => return Box::pin(run::authorize(*course, parent)).await,
        Prepared::Decided(decision) => return Ok(*decision),
    };
    if request.dry_run {
        return Box::pin(dry_run::dry_run(service, &ready)).await;
    }
    if request.cache.is_some()
        && let Some(given) = Box::pin(cache::instead(service, request, &mut ready)).await?
    {
        return Ok(given);
    }
    let outcome = hold(service, request, &ready).await;
    conclude(service, &ready, outcome).await
}

pub(super) fn denial(decision: DecisionId, denied: Denied) -> Decision {
    Decision {
        decision,
        verdict: Verdict::Denied(Box::new(denied)),
        replayed: false,
        explain: None,
        cache: None,
    }
}

/// What is asked of the store.
pub(super) fn wanted(service: &Service, request: &Request, ready: &Ready) -> HoldRequest {
    let Compiled {
        reservation,
        context,
        ladder,
        ..
    } = &ready.compiled;
    HoldRequest {
        workspace: request.ask.workspace.clone(),
        reservation: *reservation,
        fingerprint: request.fingerprint,
        counters: ladder.limits.counters.clone(),
        purses: ladder.limits.purses(&ladder.plan),
        named_since: ready.named_since(),
        rungs: ladder.rungs.clone(),
        open_max: ladder.plan.max_open_reservations,
        charge_on_expiry: context.charge_on_expiry,
        tell_on_expiry: service.telling.wants_expired(&request.ask.workspace),
        context: context.encode(),
        now: ready.now,
    }
}

async fn hold(service: &Service, request: &Request, ready: &Ready) -> Result<HoldOutcome, FlowError> {
    let (workspace, wanted) = (&request.ask.workspace, wanted(service, request, ready));
    let mut patience = Patience::default();
    loop {
        match service.counters.hold(&wanted).await? {
            HoldOutcome::Unready(groups) => {
                let is_ready = Box::pin(rebuild::rebuild(service, workspace, &groups, &ready.counters())).await?;
                patience.spend(workspace, is_ready).await?;
            }
            outcome => return Ok(outcome),
        }
    }
}

/// The decision that follows from what the store answered.
pub(super) async fn conclude(service: &Service, ready: &Ready, outcome: Result<HoldOutcome, FlowError>) -> Result<Decision, FlowError> {
    let decided = decided(service, ready, outcome).await;
    if ready.cache.is_some() {
        cache::unless_held(service, &ready.compiled.context, ready.now, decided.as_ref()).await;
    }
    Ok(decided?.after(ready.cache))
}

async fn decided(service: &Service, ready: &Ready, outcome: Result<HoldOutcome, FlowError>) -> Result<Decision, FlowError> {
    match outcome {
        Ok(outcome) => answer(service, ready, outcome).await,
        // Lost counters that no ledger is there to rebuild are away, too.
        Err(error) if error.leaves_counters_unknown() && ready.compiled.ladder.plan.on_store_unavailable == OnStoreUnavailable::Allow => {
            Ok(degraded(service, ready.voice(), &ready.compiled, &error))
        }
        Err(error) => Err(error),
    }
}

async fn answer(service: &Service, ready: &Ready, outcome: HoldOutcome) -> Result<Decision, FlowError> {
    let Compiled {
        reservation,
        context,
        ladder,
        note,
    } = &ready.compiled;
    match outcome {
        HoldOutcome::Held { taken, before } => {
            let permit = permit(ready.voice(), &context.ask, ladder, Some(*reservation), taken, &before, note);
            if context.logged {
                let facts = context.facts(before, Outcome::Held(taken));
                service.decisions.allow(context.decision, *reservation, facts);
            }
            Ok(Decision {
                decision: context.decision,
                verdict: Verdict::Allowed(Box::new(permit)),
                replayed: false,
                explain: None,
                cache: None,
            })
        }
        HoldOutcome::Replayed(record) => Box::pin(replay(service, *reservation, &record, ready.accepted())).await,
        HoldOutcome::Mismatch => Err(FlowError::IdempotencyMismatch),
        HoldOutcome::Ended(end) => Err(FlowError::ReservationEnded(*reservation, end)),
        HoldOutcome::Short { balances } => {
            let denied = Box::pin(deny(service, ready, &balances)).await?;
            wall::note(service, ready, &balances);
            let facts = context.facts(balances, Outcome::Short);
            service.decisions.deny(context.decision, facts);
            Ok(denial(context.decision, denied))
        }
        HoldOutcome::TooManyOpen { balances } => {
            let denied = verdict::too_many_open(ready.voice(), &context.ask, ladder, &balances);
            let facts = context.facts(balances, Outcome::TooManyOpen);
            service.decisions.deny(context.decision, facts);
            Ok(denial(context.decision, denied))
        }
        HoldOutcome::Unready(_) => Err(FlowError::RebuildTimeout(context.ask.workspace.clone())),
    }
}

pub(super) fn permit(
    voice: Voice<'_>,
    ask: &Ask,
    ladder: &Ladder,
    reservation: Option<ReservationId>,
    taken: Taken,
    before: &[Balance],
    note: &RouteNote,
) -> Permit {
    Permit {
        reservation,
        expires_at: ladder.rungs[taken.rung].expires_at,
        degraded: false,
        offer: ladder.offers[taken.rung].clone(),
        input_tokens_estimated: ask.input_tokens_estimated,
        allowed: verdict::allowed(voice, ask, ladder, taken, before, note),
        plan: ladder.plan.clone(),
        escalation: escalation(note, &ladder.offers[taken.rung]),
    }
}

fn escalation(note: &RouteNote, offer: &Offer) -> Option<Escalation> {
    note.detour.as_ref()?.escalation_after(&offer.model.id).cloned()
}

pub(super) async fn deny(service: &Service, ready: &Ready, balances: &[Balance]) -> Result<Denied, FlowError> {
    let (ask, ladder, now) = (&ready.compiled.context.ask, &ready.compiled.ladder, ready.now);
    let shortages = verdict::shortages(ladder, balances);
    let mut free_at = Vec::with_capacity(shortages.len());
    for short in &shortages {
        let place = ladder.limits.budgets[short.limited].counter;
        let counter = &ladder.limits.counters[place];
        free_at.push(match short.by {
            BlockedBy::Held => freeing::free_at(service, &ask.workspace, counter, (short, balances[place]), now).await?,
            _ => None,
        });
    }
    Ok(verdict::denied(ready.voice(), ask, ladder, balances, &shortages, &free_at, now))
}

/// The plan allows requests while the counters are away. What rules do to them needs no counters, so it is done and told; of budgets nothing is
/// known.
pub(super) fn degraded(service: &Service, voice: Voice<'_>, compiled: &Compiled, error: &FlowError) -> Decision {
    let (ladder, context) = (&compiled.ladder, &compiled.context);
    let workspace = &context.ask.workspace;
    tracing::warn!(%workspace, error = error as &dyn std::error::Error, "allowed without counters, as the plan says");
    metrics::counter!("weir_authorize_degraded_total").increment(1);
    let rung = &ladder.rungs[0];
    let taken = Taken {
        rung: 0,
        output: rung.output,
        amounts: rung.needs,
    };
    let nothing_known = vec![Balance::default(); ladder.limits.counters.len()];
    let allowed = Allowed {
        budgets: Vec::new(),
        ..verdict::allowed(voice, &context.ask, ladder, taken, &nothing_known, &compiled.note)
    };
    let permit = Permit {
        reservation: Some(compiled.reservation),
        expires_at: rung.expires_at,
        degraded: true,
        offer: ladder.offers[0].clone(),
        input_tokens_estimated: context.ask.input_tokens_estimated,
        allowed,
        plan: ladder.plan.clone(),
        escalation: escalation(&compiled.note, &ladder.offers[0]),
    };
    if context.logged {
        let facts = context.facts(Vec::new(), Outcome::Degraded);
        service.decisions.allow(context.decision, compiled.reservation, facts);
    }
    Decision {
        decision: context.decision,
        verdict: Verdict::Allowed(Box::new(permit)),
        replayed: false,
        explain: None,
        cache: None,
    }
}
