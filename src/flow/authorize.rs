//! Authorize: ask the questions, compile the ladder, let the store take the first rung that fits. One step of the store, no ledger.
//!
//! A crash before the hold costs nothing. A crash after it leaves a hold that expires by itself; the caller, who got no answer, asks again
//! with the same id and gets the same reservation.

use super::context::Context;
use super::rebuild::{self, Patience};
use super::{FlowError, Service, workspace};
use crate::counters::{FINGERPRINT_UNKNOWN, HoldOutcome, HoldRequest, Record};
use crate::decision::ask::Ask;
use crate::decision::counter::{Balance, Counter};
use crate::decision::id::{DecisionId, ReservationId};
use crate::decision::ladder::{Ladder, NoLadder, Offer};
use crate::decision::limits::Limits;
use crate::decision::plan::{OnExpiry, OnStoreUnavailable, Plan};
use crate::decision::questions;
use crate::decision::refusal::{BlockedBy, Refusal};
use crate::decision::rung::{Rung, Taken, first_fit, fit};
use crate::decision::time::Timestamp;
use crate::decision::verdict::{self, Allowed, Denied, RouteNote};
use crate::decision::workspace::Workspace;
use crate::policy::Policy;
use serde_json::{Map, Value};
use std::sync::Arc;

/// How long after a change of policy the last node has learnt of it.
pub const POLICY_REACHES_ALL_SECONDS: i64 = 2;

/// When the last node learnt which counters the workspace's plan names.
pub fn named_since(policy: &Policy, workspace: &Workspace) -> Timestamp {
    policy
        .changed_at
        .unwrap_or(Timestamp::MIN)
        .max(workspace.updated_at)
        .plus_seconds(POLICY_REACHES_ALL_SECONDS)
}

/// A request to authorize, as it came in.
pub struct Request {
    pub ask: Arc<Ask>,
    /// For routing rules; flat scalars.
    pub attributes: Map<String, Value>,
    /// Tells requests under one id apart.
    pub fingerprint: u128,
    /// Holds nothing, and explains.
    pub dry_run: bool,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Decision {
    pub decision: DecisionId,
    pub verdict: Verdict,
    /// The same request was answered before; this is that answer.
    pub replayed: bool,
    /// Only of a dry run.
    pub explain: Option<Explanation>,
}

#[derive(Clone, Debug)]
pub enum Verdict {
    Allowed(Box<Permit>),
    Denied(Box<Denied>),
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
}

/// Each rung of a ladder, and why it was taken or not.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub rungs: Vec<ExplainedRung>,
    pub plan_version: u32,
    pub policy_version: i64,
}

#[derive(Clone, Debug)]
pub struct ExplainedRung {
    pub offer: Offer,
    pub rung: Rung,
    pub counters: Vec<Counter>,
    pub fits: bool,
    pub taken: bool,
}

/// Decides a request. Denials are answers, not errors.
pub async fn authorize(service: &Service, request: Request) -> Result<Decision, FlowError> {
    let now = service.clock.now();
    let policy = service.policy.load();
    let request = Request {
        ask: service.drained.avoid(request.ask),
        ..request
    };
    let ask = &request.ask;
    let workspace = workspace::find_or_create(service, &ask.workspace).await?;
    let decision = DecisionId::from_uuid(service.clock.uuid());
    let deny = |denied: Denied| Decision {
        decision,
        verdict: Verdict::Denied(Box::new(denied)),
        replayed: false,
        explain: None,
    };

    let plan = match questions::plan_of(&workspace, policy.default_plan.as_ref(), |id| policy.plans.get(id)) {
        Ok(plan) => plan,
        Err(refusal) => {
            let before = told_before(service, &request).await?;
            return Ok(before.unwrap_or_else(|| deny(verdict::refused(ask, &refusal, None))));
        }
    };
    if plan.require_user && ask.user.is_none() {
        let before = told_before(service, &request).await?;
        return before.ok_or_else(|| FlowError::UserRequired(plan.id.to_string()));
    }
    let compiled = match compile(service, &request, &policy, plan, &workspace, decision, now).await? {
        Ok(compiled) => compiled,
        Err(refusal) => {
            let before = told_before(service, &request).await?;
            return Ok(before.unwrap_or_else(|| deny(verdict::refused(ask, &refusal, plan.upgrade_url.as_deref()))));
        }
    };
    let named = Named {
        policy: &policy,
        workspace: &workspace,
    };
    if request.dry_run {
        return dry_run(service, ask, &compiled, &named, now).await;
    }
    match hold(service, &request, &compiled, &named, now).await {
        Ok(outcome) => answer(service, ask, &compiled, outcome, now).await,
        Err(FlowError::Counters(error)) if plan.on_store_unavailable == OnStoreUnavailable::Allow => {
            tracing::warn!(workspace = %ask.workspace, error = &error as &dyn std::error::Error, "allowed without counters, as the plan says");
            metrics::counter!("weir_authorize_degraded_total").increment(1);
            Ok(degraded(ask, &compiled))
        }
        Err(error) => Err(error),
    }
}

/// A ladder and what its hold will remember.
struct Compiled {
    reservation: ReservationId,
    context: Context,
    ladder: Ladder,
    note: RouteNote,
}

/// The policy and workspace that name the counters of a request.
struct Named<'a> {
    policy: &'a Policy,
    workspace: &'a Workspace,
}

impl Named<'_> {
    fn since(&self) -> Timestamp {
        named_since(self.policy, self.workspace)
    }

    /// All counters that a rebuild of this request's groups should know: those of the request, and the rest of the plan beside them.
    fn counters(&self, ask: &Ask, compiled: &Compiled, now: Timestamp) -> Vec<Counter> {
        let mut counters = compiled.ladder.limits.counters.clone();
        let all = Limits::of_workspace(&compiled.ladder.plan, self.workspace, ask.user.as_ref(), now);
        counters.extend(
            all.counters
                .into_iter()
                .filter(|counter| !compiled.ladder.limits.counters.contains(counter)),
        );
        counters
    }
}

async fn compile(
    service: &Service,
    request: &Request,
    policy: &Policy,
    plan: &Arc<Plan>,
    workspace: &Workspace,
    decision: DecisionId,
    now: Timestamp,
) -> Result<Result<Compiled, Refusal>, FlowError> {
    let ask = &request.ask;
    if let Err(refusal) = questions::feature_allowed(ask, plan) {
        return Ok(Err(refusal));
    }
    let limits = Arc::new(Limits::of_request(plan, workspace, &ask.feature, ask.user.as_ref(), now));
    let (ask, chosen, note) = super::route::route(service, request, policy, plan, workspace, &limits, now).await?;
    let asked = match questions::model_for(&ask, &chosen, plan, &policy.catalogue, now) {
        Ok(asked) => asked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = questions::budgets_exist(&ask, plan, &limits) {
        return Ok(Err(refusal));
    }
    let expected_output = match ask.max_output_tokens {
        Some(_) => 0,
        None => service
            .estimator
            .expect(&ask.workspace, &ask.feature, &asked.0.id)
            .saturating_mul(ask.requests),
    };
    let built = Ladder::build(&ask, asked, plan.clone(), &policy.catalogue, limits, expected_output, now);
    let ladder = match built {
        Ok(ladder) => ladder,
        Err(NoLadder::Refused(refusal)) => return Ok(Err(refusal)),
        Err(NoLadder::TooLarge) => return Err(FlowError::AmountTooLarge),
    };
    let context = Context {
        decision,
        authorized_at: now,
        policy_version: policy.version,
        plan: plan.id.clone(),
        chosen,
        routed: note.routed.clone(),
        shadow_routes: note.shadows.clone(),
        limits: ladder.limits.clone(),
        expected_output,
        charge_on_expiry: plan.on_expiry == OnExpiry::Charge,
        ask,
    };
    Ok(Ok(Compiled {
        reservation: ReservationId::derive(&context.ask.workspace, &context.ask.request_id),
        context,
        ladder,
        note,
    }))
}

async fn hold(
    service: &Service,
    request: &Request,
    compiled: &Compiled,
    named: &Named<'_>,
    now: Timestamp,
) -> Result<HoldOutcome, FlowError> {
    let ask = &request.ask;
    let wanted = HoldRequest {
        workspace: ask.workspace.clone(),
        reservation: compiled.reservation,
        fingerprint: request.fingerprint,
        counters: compiled.ladder.limits.counters.clone(),
        purses: compiled.ladder.limits.purses(&compiled.ladder.plan),
        named_since: named.since(),
        rungs: compiled.ladder.rungs.clone(),
        open_max: compiled.ladder.plan.max_open_reservations,
        charge_on_expiry: compiled.context.charge_on_expiry,
        context: compiled.context.encode(),
        now,
    };
    let mut patience = Patience::default();
    loop {
        match service.counters.hold(&wanted).await? {
            HoldOutcome::Unready(groups) => {
                rebuild::rebuild(service, &ask.workspace, &groups, &named.counters(ask, compiled, now)).await?;
            }
            outcome => return Ok(outcome),
        }
        patience.spend(&ask.workspace)?;
    }
}

async fn answer(service: &Service, ask: &Ask, compiled: &Compiled, outcome: HoldOutcome, now: Timestamp) -> Result<Decision, FlowError> {
    let (reservation, decision) = (compiled.reservation, compiled.context.decision);
    let denied = |denied| Decision {
        decision,
        verdict: Verdict::Denied(Box::new(denied)),
        replayed: false,
        explain: None,
    };
    match outcome {
        HoldOutcome::Held { taken, before } => {
            let permit = permit(
                &compiled.context.ask,
                &compiled.ladder,
                Some(reservation),
                taken,
                &before,
                &compiled.note,
            );
            Ok(Decision {
                decision,
                verdict: Verdict::Allowed(Box::new(permit)),
                replayed: false,
                explain: None,
            })
        }
        HoldOutcome::Replayed(record) => replay(service, reservation, &record).await,
        HoldOutcome::Mismatch => Err(FlowError::IdempotencyMismatch),
        HoldOutcome::Ended(end) => Err(FlowError::ReservationEnded(reservation, end)),
        HoldOutcome::Short { balances } => Ok(denied(
            deny(service, &compiled.context.ask, &compiled.ladder, &balances, now).await?,
        )),
        HoldOutcome::TooManyOpen { balances } => Ok(denied(verdict::too_many_open(&compiled.context.ask, &compiled.ladder, &balances))),
        HoldOutcome::Unready(_) => Err(FlowError::RebuildTimeout(ask.workspace.clone())),
    }
}

/// What a request that would be refused by now was allowed before: whatever has changed since, its hold is told again, and its end.
async fn told_before(service: &Service, request: &Request) -> Result<Option<Decision>, FlowError> {
    if request.dry_run {
        return Ok(None);
    }
    let id = ReservationId::derive(&request.ask.workspace, &request.ask.request_id);
    // Without the counters nothing is known of a hold, and a refusal needs none.
    match service.counters.find(id, service.clock.now()).await.unwrap_or_default() {
        None => Ok(None),
        Some(record) if ![request.fingerprint, FINGERPRINT_UNKNOWN].contains(&record.fingerprint) => Err(FlowError::IdempotencyMismatch),
        Some(Record { end: Some(end), .. }) => Err(FlowError::ReservationEnded(id, end)),
        Some(record) => replay(service, id, &record).await.map(Some),
    }
}

/// The first answer again, computed from what the hold remembers.
async fn replay(service: &Service, reservation: ReservationId, record: &Record) -> Result<Decision, FlowError> {
    let context = Context::decode(&record.context, reservation)?;
    let policy = service.policy_of(&context).await?;
    let ladder = context.ladder(&policy)?;
    let note = RouteNote {
        routed: context.routed.clone(),
        shadows: context.shadow_routes.clone(),
    };
    let permit = permit(&context.ask, &ladder, Some(reservation), record.taken, &record.before, &note);
    Ok(Decision {
        decision: context.decision,
        verdict: Verdict::Allowed(Box::new(permit)),
        replayed: true,
        explain: None,
    })
}

fn permit(ask: &Ask, ladder: &Ladder, reservation: Option<ReservationId>, taken: Taken, before: &[Balance], note: &RouteNote) -> Permit {
    Permit {
        reservation,
        expires_at: ladder.rungs[taken.rung].expires_at,
        degraded: false,
        offer: ladder.offers[taken.rung].clone(),
        input_tokens_estimated: ask.input_tokens_estimated,
        allowed: verdict::allowed(ask, ladder, taken, before, note),
        plan: ladder.plan.clone(),
    }
}

async fn deny(service: &Service, ask: &Ask, ladder: &Ladder, balances: &[Balance], now: Timestamp) -> Result<Denied, FlowError> {
    let shortages = verdict::shortages(ladder, balances);
    let mut free_at = Vec::with_capacity(shortages.len());
    for short in &shortages {
        let counter = &ladder.limits.counters[ladder.limits.budgets[short.limited].counter];
        free_at.push(match short.by {
            BlockedBy::Held => {
                service
                    .counters
                    .free_at(&ask.workspace, counter, short.ceiling, short.need, now)
                    .await?
            }
            _ => None,
        });
    }
    Ok(verdict::denied(ask, ladder, balances, &shortages, &free_at, now))
}

fn degraded(ask: &Ask, compiled: &Compiled) -> Decision {
    let ladder = &compiled.ladder;
    let rung = &ladder.rungs[0];
    let taken = Taken {
        rung: 0,
        output: rung.output,
        amounts: rung.needs,
    };
    let allowed = Allowed {
        taken,
        actions: Vec::new(),
        reasons: Vec::new(),
        shadow_reasons: Vec::new(),
        budgets: Vec::new(),
        delay_ms: 0,
    };
    let permit = Permit {
        reservation: Some(compiled.reservation),
        expires_at: rung.expires_at,
        degraded: true,
        offer: ladder.offers[0].clone(),
        input_tokens_estimated: ask.input_tokens_estimated,
        allowed,
        plan: ladder.plan.clone(),
    };
    Decision {
        decision: compiled.context.decision,
        verdict: Verdict::Allowed(Box::new(permit)),
        replayed: false,
        explain: None,
    }
}

async fn dry_run(service: &Service, ask: &Ask, compiled: &Compiled, named: &Named<'_>, now: Timestamp) -> Result<Decision, FlowError> {
    let ladder = &compiled.ladder;
    let all = named.counters(ask, compiled, now);
    let asked = (&*ladder.limits.counters, &*ladder.limits.purses(&ladder.plan));
    let balances = rebuild::balances(service, &ask.workspace, asked, &all, named.since()).await?;
    let units = ladder.limits.units();
    let taken = first_fit(&ladder.rungs, &units, &balances);
    let verdict = match taken {
        Some(taken) => Verdict::Allowed(Box::new(permit(
            &compiled.context.ask,
            ladder,
            None,
            taken,
            &balances,
            &compiled.note,
        ))),
        None => Verdict::Denied(Box::new(deny(service, &compiled.context.ask, ladder, &balances, now).await?)),
    };
    let explained = |(place, (offer, rung)): (usize, (&Offer, &Rung))| ExplainedRung {
        offer: offer.clone(),
        rung: rung.clone(),
        counters: ladder.limits.counters.clone(),
        fits: fit(rung, &units, &balances).is_some(),
        taken: taken.is_some_and(|taken| taken.rung == place),
    };
    let rungs = ladder.offers.iter().zip(&ladder.rungs).enumerate().map(explained).collect();
    let explain = Explanation {
        rungs,
        plan_version: ladder.plan.version,
        policy_version: compiled.context.policy_version,
    };
    Ok(Decision {
        decision: compiled.context.decision,
        verdict,
        replayed: false,
        explain: Some(explain),
    })
}
