//! Prepare: what of an authorize needs no counters. Asks the questions before them and compiles the ladder; a request that is refused here
//! is denied without touching the store, unless its hold is there from before.

use super::authorize::{Decision, Request, denial, named_since};
use super::context::{Context, RunNote};
use super::replay::told_before;
use super::run::{self, Opened};
use super::{FlowError, Service, cache, cascade, health, route, workspace};
use crate::decision::anomaly::{self, Action};
use crate::decision::ask::Ask;
use crate::decision::counter::Counter;
use crate::decision::facts::{Facts, Outcome};
use crate::decision::id::{DecisionId, ModelId, ReservationId};
use crate::decision::ladder::{Ladder, NoLadder, Terms};
use crate::decision::limits::Limits;
use crate::decision::message::{Messages, Voice};
use crate::decision::plan::{OnExpiry, Plan};
use crate::decision::questions;
use crate::decision::refusal::Refusal;
use crate::decision::time::Timestamp;
use crate::decision::verdict::{self, RouteNote};
use crate::decision::workspace::Workspace;
use crate::policy::Policy;
use std::sync::Arc;

/// How far a request comes without asking the counters.
pub(super) enum Prepared<'a> {
    Ready(Box<Ready>),
    /// A call of a run, whose further way depends on its parent.
    OfRun(Box<Course<'a>>, ReservationId),
    /// Refused, or told again.
    Decided(Box<Decision>),
}

impl Prepared<'_> {
    fn decided(decision: Decision) -> Self {
        Self::Decided(Box::new(decision))
    }
}

/// A request that has passed every question before the counters.
pub(super) struct Ready {
    policy: Arc<Policy>,
    accept_language: Option<Arc<str>>,
    workspace: Arc<Workspace>,
    /// Nobody has seen the workspace before, and a dry run does not create it.
    pub(super) is_new: bool,
    pub(super) compiled: Compiled,
    pub(super) now: Timestamp,
    /// What became of the look into the cache.
    pub(super) cache: Option<cache::Status>,
}

/// A ladder and what its hold will remember.
pub(super) struct Compiled {
    pub(super) reservation: ReservationId,
    pub(super) context: Context,
    pub(super) ladder: Ladder,
    pub(super) note: RouteNote,
}

impl Compiled {
    /// What the questions have told by now.
    pub(super) fn seen<'a>(&'a self, policy: &'a Arc<Policy>, now: Timestamp) -> cache::Seen<'a> {
        cache::Seen {
            policy,
            plan: &self.ladder.plan,
            limits: &self.context.limits,
            ask: &self.context.ask,
            chosen: &self.context.chosen,
            note: &self.note,
            workspace_version: self.context.workspace_version,
            decision: self.context.decision,
            now,
        }
    }
}

impl Ready {
    /// The languages that its caller reads.
    pub(super) fn accepted(&self) -> Option<&str> {
        self.accept_language.as_deref()
    }

    pub(super) fn messages(&self) -> &Arc<Messages> {
        &self.policy.messages
    }

    /// In whose words its answer speaks.
    pub(super) fn voice(&self) -> Voice<'_> {
        self.policy.voice(self.accepted(), Some(&self.compiled.ladder.plan))
    }

    pub(super) fn seen(&self) -> cache::Seen<'_> {
        self.compiled.seen(&self.policy, self.now)
    }

    pub(super) fn named_since(&self) -> Timestamp {
        named_since(&self.policy, &self.workspace)
    }

    /// All counters that a rebuild of this request's groups should know: those of the request, and the rest of the plan beside them.
    pub(super) fn counters(&self) -> Vec<Counter> {
        let limits = &self.compiled.ladder.limits;
        let user = self.compiled.context.ask.user.as_ref();
        let all = Limits::of_workspace(&self.compiled.ladder.plan, &self.workspace, user, self.now);
        let others = all.counters.into_iter().filter(|counter| !limits.counters.contains(counter));
        limits.counters.iter().cloned().chain(others).collect()
    }
}

/// A request on its way through the questions, with what is known of it so far.
pub(super) struct Course<'a> {
    pub(super) service: &'a Service,
    pub(super) request: &'a Request,
    pub(super) policy: Arc<Policy>,
    workspace: Arc<Workspace>,
    is_new: bool,
    pub(super) decision: DecisionId,
    pub(super) now: Timestamp,
    plan: Option<Arc<Plan>>,
    limits: Option<Arc<Limits>>,
    routed: Option<(Arc<Ask>, ModelId, RouteNote)>,
    /// Of a second try.
    escalated: Option<cascade::Escalated>,
    fair_use: Vec<Arc<Action>>,
    /// What became of the look into the cache, where a call of a run is.
    pub(super) cache: Option<cache::Status>,
}

/// Asks the questions before the counters, and compiles the ladder. `is_call`: it counts as a call where rules watch how fast those come.
pub(super) async fn prepare<'a>(service: &'a Service, request: &'a Request, is_call: bool) -> Result<Prepared<'a>, FlowError> {
    let (now, policy) = (service.clock.now(), service.policy.load());
    let (workspace, is_new) = workspace_of(service, request, now).await?;
    let escalated = match request.escalate_from {
        Some(first) => Some(Box::pin(cascade::take(service, request, first)).await?),
        None => None,
    };
    let course = Course {
        service,
        request,
        policy,
        workspace,
        is_new,
        decision: DecisionId::from_uuid(service.clock.uuid()),
        now,
        plan: None,
        limits: None,
        routed: None,
        escalated,
        fair_use: Vec::new(),
        cache: None,
    };
    course.run(is_call && !request.dry_run).await
}

/// The workspace, which comes into being by being asked for, but not by a dry run.
async fn workspace_of(service: &Service, request: &Request, now: Timestamp) -> Result<(Arc<Workspace>, bool), FlowError> {
    let id = &request.ask.workspace;
    if !request.dry_run {
        return Ok((workspace::find_or_create(service, id).await?, false));
    }
    Ok(match workspace::find(service, id).await? {
        Some(known) => (known, false),
        None => (Arc::new(Workspace::unknown(id.clone(), now)), true),
    })
}

impl<'a> Course<'a> {
    async fn run(mut self, is_call: bool) -> Result<Prepared<'a>, FlowError> {
        let policy = self.policy.clone();
        let plan = match questions::plan_of(&self.workspace, policy.default_plan.as_ref(), |id| policy.plans.get(id)) {
            Ok(plan) => plan,
            Err(refusal) => return Box::pin(self.refused(refusal)).await.map(Prepared::decided),
        };
        self.plan = Some(plan.clone());
        if plan.require_user && self.request.ask.user.is_none() {
            let before = Box::pin(told_before(self.service, self.request)).await?;
            return before
                .map(|before| Prepared::Decided(Box::new(before)))
                .ok_or_else(|| FlowError::UserRequired(plan.id.to_string()));
        }
        let (fair_use, ask) = (&self.service.fair_use, &self.request.ask);
        if is_call && !plan.fair_use.is_empty() {
            fair_use.called(plan, ask, self.now, || self.service.clock.uuid());
        }
        self.fair_use = fair_use.applying(plan, ask, self.now);
        if let Some(parent) = self.request.parent {
            return Ok(Prepared::OfRun(Box::new(self), parent));
        }
        match self.compile(plan, None).await? {
            Ok(compiled) => Ok(Prepared::Ready(Box::new(Ready {
                policy: self.policy,
                accept_language: self.request.accept_language.clone(),
                workspace: self.workspace,
                is_new: self.is_new,
                compiled,
                now: self.now,
                cache: None,
            }))),
            Err(refusal) => match Box::pin(self.answered(&refusal)).await? {
                Some(given) => Ok(Prepared::decided(given)),
                None => Box::pin(self.refused(refusal)).await.map(Prepared::decided),
            },
        }
    }

    /// The same for a call of a run: it counts where its parent holds, and has no limits but the parent's rest; without its parent, where
    /// it would by itself.
    pub(super) async fn compile_call(&mut self, parent: Option<&Opened>) -> Result<Result<Compiled, Refusal>, FlowError> {
        match self.plan.clone() {
            Some(plan) => self.compile(&plan, parent).await,
            None => Ok(Err(Refusal::NoPlan(self.workspace.id.clone()))),
        }
    }

    /// The policy by which it is decided.
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }

    /// The plan, once it is known.
    pub(super) fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// The questions before the counters, and the ladder.
    async fn compile(&mut self, plan: &Arc<Plan>, parent: Option<&Opened>) -> Result<Result<Compiled, Refusal>, FlowError> {
        let (service, ask, now) = (self.service, &self.request.ask, self.now);
        let counted_at = parent.map_or(now, |parent| parent.context.authorized_at);
        if let Err(refusal) = questions::feature_allowed(ask, plan) {
            return Ok(Err(refusal));
        }
        let limits = Arc::new(Limits::of_request(
            plan,
            &self.workspace,
            &ask.feature,
            ask.user.as_ref(),
            counted_at,
        ));
        self.limits = Some(limits.clone());
        let place = route::Place {
            policy: &self.policy,
            plan,
            workspace: &self.workspace,
            is_new: self.is_new,
            is_paused: anomaly::pause(&self.fair_use).is_some(),
        };
        let route::Way {
            mut ask,
            mut chosen,
            mut note,
            is_probe,
            is_at_once,
        } = match &self.escalated {
            Some(escalated) => route::escalated(self.request, escalated),
            None => route::route(service, self.request, place, &limits, now).await?,
        };
        let mut asked = match questions::model_for(&ask, &chosen, plan, &self.policy.catalogue, counted_at) {
            Ok(asked) => asked,
            Err(refusal) => {
                self.routed = Some((ask, chosen, note));
                return Ok(Err(refusal));
            }
        };
        if let Err(refusal) = questions::budgets_exist(&ask, plan, &limits) {
            self.routed = Some((ask, chosen, note));
            return Ok(Err(refusal));
        }
        if let Some(action) = anomaly::pause(&self.fair_use) {
            let paused = Refusal::FairUse(Box::new(Action::clone(action)));
            self.routed = Some((ask, chosen, note));
            return Ok(Err(paused));
        }
        let chose_model = chosen != self.request.ask.model;
        let at = health::At {
            ask: &ask,
            chosen: &chosen,
            plan,
            policy: &self.policy,
            priced_at: counted_at,
            now,
            may_probe: !self.request.dry_run,
            is_probe,
            but: self.escalated.as_ref().map(|escalated| &escalated.failed),
        };
        if let Some(instead) = health::around(service, &at, &asked) {
            note.detour.get_or_insert_default().unhealthy = Some(asked.0.id.clone());
            (chosen, asked) = (instead.0.id.clone(), instead);
        }
        ask = route::in_final_mode(self.request, (ask, is_at_once), &asked.1, (&mut note, chose_model));
        let expected_output = match ask.max_output_tokens {
            Some(_) => 0,
            None => service
                .estimator
                .expect(&ask.workspace, &ask.feature, &asked.0.id)
                .saturating_mul(ask.requests),
        };
        let note_of_run = run::note(self.request, parent, now);
        let asked_limits = if parent.is_some() { Arc::default() } else { limits.clone() };
        let catalogue = &self.policy.catalogue;
        let terms = Terms {
            expected_output,
            fair_use: &self.fair_use,
            now: counted_at,
        };
        let built = Ladder::under(&ask, asked, plan.clone(), catalogue, asked_limits, terms);
        let ladder = match built {
            Ok(ladder) => {
                let mut avoided = health::avoided(service, &ladder, &self.policy, (now, !self.request.dry_run));
                let failed = self.escalated.as_ref().map(|escalated| &escalated.failed);
                avoided.extend(
                    failed
                        .filter(|failed| ladder.downgrades_to(failed) && !avoided.contains(failed))
                        .cloned(),
                );
                let ladder = run::ladder(ladder.without(&avoided), note_of_run.as_ref(), counted_at);
                if !avoided.is_empty() {
                    note.detour.get_or_insert_default().avoided = avoided;
                }
                ladder
            }
            Err(NoLadder::Refused(refusal)) => return Ok(Err(refusal)),
            Err(NoLadder::TooLarge) => return Err(FlowError::AmountTooLarge),
        };
        let context = Context {
            decision: self.decision,
            authorized_at: counted_at,
            policy_version: self.policy.version,
            plan: plan.id.clone(),
            chosen,
            routed: note.routed.clone(),
            shadow_routes: note.shadows.clone(),
            limits: parent.map_or(limits.clone(), |parent| run::limits(parent, &limits)),
            expected_output,
            charge_on_expiry: plan.on_expiry == OnExpiry::Charge && !matches!(note_of_run, Some(RunNote::Opens { .. })),
            workspace_version: self.workspace.version,
            logged: !self.request.dry_run && service.decisions.takes_allow(now),
            ask,
            run: note_of_run,
            detour: note.detour.clone(),
            fair_use: self.fair_use.clone(),
            cache: None,
        };
        Ok(Ok(Compiled {
            reservation: ReservationId::derive(&context.ask.workspace, &context.ask.request_id),
            context,
            ladder,
            note,
        }))
    }

    /// The answer that is there already, where the question that was answered with no comes after the cache is asked.
    async fn answered(&self, refusal: &Refusal) -> Result<Option<Decision>, FlowError> {
        let comes_after = matches!(
            refusal,
            Refusal::ModelUnpriced { .. } | Refusal::ContextTooLong { .. } | Refusal::NoBudget { .. }
        );
        let (Some((ask, chosen, note)), Some(plan), Some(limits)) = (&self.routed, &self.plan, &self.limits) else {
            return Ok(None);
        };
        if !comes_after || self.request.cache.is_none() {
            return Ok(None);
        }
        let seen = cache::Seen {
            policy: &self.policy,
            plan,
            limits,
            ask,
            chosen,
            note,
            workspace_version: self.workspace.version,
            decision: self.decision,
            now: self.now,
        };
        match Box::pin(cache::look(self.service, self.request, seen)).await? {
            cache::Looked::Hit(given) => Ok(Some(*given)),
            cache::Looked::Not(_, ticket) => {
                cache::give_up(self.service, &ask.workspace, ticket.as_deref(), self.now).await;
                Ok(None)
            }
        }
    }

    /// The denial for a question that was answered with no, unless the request was allowed before.
    pub(super) async fn refused(self, refusal: Refusal) -> Result<Decision, FlowError> {
        if let Some(before) = told_before(self.service, self.request).await? {
            return Ok(before);
        }
        let upgrade_url = self.plan.as_ref().and_then(|plan| plan.upgrade_url.as_deref());
        let voice = self.policy.voice(self.request.accept_language.as_deref(), self.plan.as_deref());
        let mut told = denial(
            self.decision,
            verdict::refused(voice, &self.request.ask, &refusal, upgrade_url, self.now),
        );
        let (service, request, decision) = (self.service, self.request, self.decision);
        let facts = self.facts(refusal);
        match request.dry_run {
            true => {
                let accepted = request.accept_language.as_deref();
                told.explain = Some(Box::new(super::explain::explain(service, facts, accepted).await?));
            }
            false => service.decisions.deny(decision, facts),
        }
        Ok(told)
    }

    fn facts(self, refusal: Refusal) -> Facts {
        let (ask, chosen, note) = match self.routed {
            Some((ask, chosen, note)) => (ask, Some(chosen), note),
            None => (self.request.ask.clone(), None, RouteNote::default()),
        };
        Facts {
            ask,
            decided_at: self.now,
            policy_version: self.policy.version,
            workspace_version: self.workspace.version,
            plan: self.plan.map(|plan| plan.id.clone()),
            chosen,
            routed: note.routed,
            shadow_routes: note.shadows,
            limits: self.limits.unwrap_or_default(),
            expected_output: 0,
            before: Vec::new(),
            run: None,
            outcome: Outcome::Refused(refusal),
            detour: note.detour,
            fair_use: self.fair_use,
        }
    }
}
