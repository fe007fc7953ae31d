//! Authorize: ask the questions, compile the ladder, let the store take the first rung that fits. One step of the store, no ledger.
//!
//! A crash before the hold costs nothing. A crash after it leaves a hold that expires by itself; the caller, who got no answer, asks again
//! with the same id and gets the same reservation.

use super::context::{Context, RunNote};
use super::rebuild::{self, Patience};
use super::replay::{replay, told_before};
use super::run::{self, Opened};
use super::{FlowError, Service, workspace};
use crate::counters::{CountersError, HoldOutcome, HoldRequest};
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

pub use super::since::{POLICY_REACHES_ALL_SECONDS, named_since};

/// A request to authorize, as it came in.
pub struct Request {
    pub ask: Arc<Ask>,
    /// For routing rules; flat scalars.
    pub attributes: Map<String, Value>,
    /// Tells requests under one id apart.
    pub fingerprint: u128,
    /// A call of the run that this reservation is the parent of.
    pub parent: Option<ReservationId>,
    /// Opens a run of at most so many calls.
    pub max_calls: Option<i64>,
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
    let asked = Asked {
        policy: &policy,
        plan,
        workspace: &workspace,
        decision,
        now,
    };
    if let Some(parent) = request.parent {
        return run::authorize(service, &request, parent, &asked).await;
    }
    let compiled = match compile(service, &request, &asked, None).await? {
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
        Err(FlowError::Counters(error)) if plan.on_store_unavailable == OnStoreUnavailable::Allow => Ok(degraded(ask, &compiled, &error)),
        Err(error) => Err(error),
    }
}

/// What is known of a request once it is known whose it is.
pub(super) struct Asked<'a> {
    pub(super) policy: &'a Policy,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) workspace: &'a Workspace,
    pub(super) decision: DecisionId,
    pub(super) now: Timestamp,
}

/// A ladder and what its hold will remember.
pub(super) struct Compiled {
    pub(super) reservation: ReservationId,
    pub(super) context: Context,
    pub(super) ladder: Ladder,
    pub(super) note: RouteNote,
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

/// The questions before the budgets, and the ladder. A call of a run counts where its parent holds, and has no limits but the parent's rest.
pub(super) async fn compile(
    service: &Service,
    request: &Request,
    asked: &Asked<'_>,
    parent: Option<&Opened>,
) -> Result<Result<Compiled, Refusal>, FlowError> {
    let &Asked {
        policy,
        plan,
        workspace,
        decision,
        now,
    } = asked;
    let ask = &request.ask;
    let counted_at = parent.map_or(now, |parent| parent.context.authorized_at);
    if let Err(refusal) = questions::feature_allowed(ask, plan) {
        return Ok(Err(refusal));
    }
    let limits = Arc::new(Limits::of_request(plan, workspace, &ask.feature, ask.user.as_ref(), counted_at));
    let (ask, chosen, note) = super::route::route(service, request, policy, plan, workspace, &limits, now).await?;
    let asked = match questions::model_for(&ask, &chosen, plan, &policy.catalogue, counted_at) {
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
    let note_of_run = run::note(request, parent, now);
    let asked_limits = if parent.is_some() { Arc::default() } else { limits.clone() };
    let built = Ladder::build(
        &ask,
        asked,
        plan.clone(),
        &policy.catalogue,
        asked_limits,
        expected_output,
        counted_at,
    );
    let ladder = match built {
        Ok(ladder) => run::ladder(ladder, note_of_run.as_ref(), counted_at),
        Err(NoLadder::Refused(refusal)) => return Ok(Err(refusal)),
        Err(NoLadder::TooLarge) => return Err(FlowError::AmountTooLarge),
    };
    let context = Context {
        decision,
        authorized_at: counted_at,
        policy_version: policy.version,
        plan: plan.id.clone(),
        chosen,
        routed: note.routed.clone(),
        shadow_routes: note.shadows.clone(),
        limits: parent.map_or(limits.clone(), |parent| run::limits(parent, &limits)),
        expected_output,
        charge_on_expiry: plan.on_expiry == OnExpiry::Charge && !matches!(note_of_run, Some(RunNote::Opens { .. })),
        ask,
        run: note_of_run,
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

pub(super) fn permit(
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

/// The plan allows requests while the counters are away.
pub(super) fn degraded(ask: &Ask, compiled: &Compiled, error: &CountersError) -> Decision {
    tracing::warn!(workspace = %ask.workspace, error = error as &dyn std::error::Error, "allowed without counters, as the plan says");
    metrics::counter!("weir_authorize_degraded_total").increment(1);
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
