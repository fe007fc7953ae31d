//! Route: what the routing rules make of a request. Reads the counters, judges the text and asks a language model only where a rule wants
//! to know. Without an answer in time a rule that needs it does not match.

use super::authorize::{Request, named_since};
use super::cascade::Escalated;
use super::{FlowError, Service, llm, rebuild};
use crate::decision::ask::{AUTO, Ask};
use crate::decision::catalogue::Model;
use crate::decision::classifier::features::{Attribute, Features};
use crate::decision::counter::Balance;
use crate::decision::detour::{self, Detour};
use crate::decision::estimate::OUTPUT_TOKENS_UNKNOWN;
use crate::decision::id::{ModelId, Tier};
use crate::decision::ladder;
use crate::decision::limits::{Limited, Limits};
use crate::decision::plan::Plan;
use crate::decision::price::{Mode, Price};
use crate::decision::route::{BudgetFacts, LlmTier, RouteFacts, Routed};
use crate::decision::time::Timestamp;
use crate::decision::verdict::RouteNote;
use crate::decision::workspace::Workspace;
use crate::policy::Policy;
use serde_json::Value;
use std::sync::Arc;

/// Where a request is routed: the policy, and the workspace on its plan.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) policy: &'a Policy,
    pub(super) plan: &'a Plan,
    pub(super) workspace: &'a Workspace,
    /// Nobody has seen the workspace before, so nothing of it is spent or held.
    pub(super) is_new: bool,
    /// Fair use lets nothing through, so nothing is paid for finding a way.
    pub(super) is_paused: bool,
}

/// The request as it goes on, the model that shall serve it, and what is told of it.
pub(super) struct Way {
    pub(super) ask: Arc<Ask>,
    pub(super) chosen: ModelId,
    pub(super) note: RouteNote,
    /// The model fails, or did, and this request finds out.
    pub(super) is_probe: bool,
    /// A rule says that it shall not wait for a batch.
    pub(super) is_at_once: bool,
}

/// What the routing rules make of the request: its model, and its mode where a rule says so.
pub(super) async fn route(
    service: &Service,
    request: &Request,
    place: Place<'_>,
    limits: &Limits,
    now: Timestamp,
) -> Result<Way, FlowError> {
    let (ask, policy) = (&request.ask, place.policy);
    let asked = Some(&request.ask.model).filter(|model| model.as_str() != AUTO);
    if asked.is_some() && !policy.routing.concerns_named() {
        return Ok(Way {
            ask: ask.clone(),
            chosen: ask.model.clone(),
            note: RouteNote::default(),
            is_probe: false,
            is_at_once: false,
        });
    }
    let routed = rules(service, request, place, limits, now).await?;
    if !routed.failed.is_empty() {
        metrics::counter!("weir_routing_rule_failed_total").increment(routed.failed.len() as u64);
    }
    Ok(went(service, request, place, routed, now))
}

/// A second try goes to the model that was offered for it; no rule is asked again.
pub(super) fn escalated(request: &Request, escalated: &Escalated) -> Way {
    let detour = Detour {
        escalated_from: Some(escalated.from),
        ..Detour::default()
    };
    let note = RouteNote {
        detour: detour.some(),
        ..RouteNote::default()
    };
    Way {
        ask: request.ask.clone(),
        chosen: escalated.escalation.model.clone(),
        note,
        is_probe: false,
        is_at_once: false,
    }
}

/// What the rules say.
async fn rules(service: &Service, request: &Request, place: Place<'_>, limits: &Limits, now: Timestamp) -> Result<Routed, FlowError> {
    let (ask, policy, plan, workspace) = (&request.ask, place.policy, place.plan, place.workspace);
    let asked = Some(&ask.model).filter(|model| model.as_str() != AUTO);
    let balances = if !policy.routing.needs_budgets(asked) {
        Vec::new()
    } else if place.is_new {
        vec![Balance::default(); limits.counters.len()]
    } else {
        Box::pin(balances(service, ask, policy, workspace, (limits, plan))).await?
    };
    let budgets: Vec<BudgetFacts<'_>> = if balances.is_empty() {
        Vec::new()
    } else {
        let facts = |limited: &Limited| {
            let budget = &plan.budgets[limited.budget];
            let raised = limited.raised(balances[limited.counter]);
            let (soft, hard) = (raised.soft_line(), raised.hard_line());
            BudgetFacts {
                id: &budget.id,
                unit: budget.unit,
                balance: balances[limited.counter],
                soft,
                hard,
            }
        };
        limits.budgets.iter().map(facts).collect()
    };
    let difficulty = policy.routing.reads_difficulty(asked);
    let can_ask = service.llm.is_there() && !place.is_paused && request.text.is_some() && !request.dry_run;
    let facts = RouteFacts {
        ask,
        attributes: &request.attributes,
        seats: workspace.seats.now(),
        tags: &workspace.tags,
        plan: &plan.id,
        may_defer: request.may_defer,
        max_delay_seconds: request.max_delay_seconds,
        weak_suffices: difficulty.then(|| weak_suffices(request, policy)).flatten(),
        llm: if can_ask { LlmTier::NotAsked } else { LlmTier::Unknown },
        budgets: &budgets,
        now,
    };
    let routed = policy.routing.route(&facts, asked);
    if !routed.asks_llm {
        return Ok(routed);
    }
    if !Box::pin(can_pay(service, request, place, limits, &balances)).await? {
        return Ok(routed);
    }
    let told = Box::pin(llm::tier(service, request, &policy.catalogue, now)).await;
    let llm = told.as_deref().map_or(LlmTier::Unknown, LlmTier::Told);
    Ok(policy.routing.route(&RouteFacts { llm, ..facts }, asked))
}

/// Whether every enforced budget has something left: what is denied anyway is not worth a call that costs. The counters that are away do not
/// say so.
async fn can_pay(service: &Service, request: &Request, place: Place<'_>, limits: &Limits, known: &[Balance]) -> Result<bool, FlowError> {
    if place.is_new || limits.counters.is_empty() {
        return Ok(true);
    }
    let asked = match known.is_empty() {
        true => balances(service, &request.ask, place.policy, place.workspace, (limits, place.plan)).await?,
        false => Vec::new(),
    };
    let balances = if known.is_empty() { &asked } else { known };
    if balances.is_empty() {
        return Ok(false);
    }
    let has_room = |limited: &Limited| {
        let (budget, balance) = (&place.plan.budgets[limited.budget], balances[limited.counter]);
        let line = limited.raised(balance).overage_line(budget).filter(|_| !budget.shadow);
        line.is_none_or(|line| balance.spent.saturating_add(balance.held) < line)
    };
    Ok(limits.budgets.iter().all(has_room))
}

/// How likely it is that the weak model suffices; `None`: there is no classifier, or nothing to judge by.
fn weak_suffices(request: &Request, policy: &Policy) -> Option<f64> {
    let classifier = policy.classifier.as_ref()?;
    let attributes = request
        .attributes
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), attribute(value)?)));
    let text = request.text.as_deref();
    if text.is_none() && request.attributes.is_empty() {
        return None;
    }
    Some(classifier.weak_suffices(&Features::new(text, attributes)))
}

/// A flat attribute as a classifier takes it.
pub fn attribute(value: &Value) -> Option<Attribute<'_>> {
    match value {
        Value::Number(number) => number.as_f64().map(Attribute::Number),
        Value::String(text) => Some(Attribute::Text(text)),
        Value::Bool(truth) => Some(Attribute::Truth(*truth)),
        _ => None,
    }
}

/// The way that follows from what the rules say.
fn went(service: &Service, request: &Request, place: Place<'_>, routed: Routed, now: Timestamp) -> Way {
    let ask = routed
        .mode
        .map_or_else(|| request.ask.clone(), |mode| detour::in_mode(&request.ask, mode));
    let (chosen, is_probe) = routed
        .model
        .map(|model| (model, false))
        .or_else(|| of_tier(service, place, &ask, routed.tier.as_ref()?, (now, !request.dry_run)))
        .unwrap_or_else(|| (request.ask.model.clone(), false));
    let detour = Detour {
        delay_ms: routed.delay_ms,
        deferred: ask.mode == Mode::Batch && request.ask.mode != Mode::Batch,
        escalation: routed.escalation,
        ..Detour::default()
    };
    let changed = chosen != request.ask.model || ask.mode != request.ask.mode || detour.delay_ms > 0;
    let note = RouteNote {
        routed: routed.rule.filter(|_| changed).map(|rule| rule.to_string()),
        shadows: routed.shadow_hits.iter().map(ToString::to_string).collect(),
        detour: detour.some(),
    };
    Way {
        ask,
        chosen,
        note,
        is_probe,
        is_at_once: routed.mode == Some(Mode::Interactive),
    }
}

/// The mode, once it is known which model serves: what a rule or the caller's patience made a batch is one only where that has a price, since
/// elsewhere it would wait for nothing.
pub(super) fn in_final_mode(
    request: &Request,
    (ask, is_at_once): (Arc<Ask>, bool),
    price: &Price,
    (note, chose_model): (&mut RouteNote, bool),
) -> Arc<Ask> {
    let by_rule = ask.mode == Mode::Batch && request.ask.mode != Mode::Batch;
    if request.defers && !is_at_once && price.has_batch() {
        return detour::in_mode(&ask, Mode::Batch);
    }
    if !by_rule || price.has_batch() {
        return ask;
    }
    if let Some(detour) = &mut note.detour {
        detour.deferred = false;
    }
    note.detour = note.detour.take().and_then(|detour| detour.some());
    let delays = note.detour.as_ref().is_some_and(|detour| detour.delay_ms > 0);
    note.routed = note.routed.take().filter(|_| chose_model || delays);
    detour::in_mode(&ask, request.ask.mode)
}

/// The cheapest model of a tier that is well, and whether it is only probed: one that would be cheapest, and may work again, gets a few requests.
fn of_tier(service: &Service, place: Place<'_>, ask: &Ask, tier: &Tier, (now, may_probe): (Timestamp, bool)) -> Option<(ModelId, bool)> {
    let (plan, catalogue, health) = (place.plan, &place.policy.catalogue, &service.health);
    let output = ask.max_output_tokens.unwrap_or(OUTPUT_TOKENS_UNKNOWN);
    let cheapest = |good: &dyn Fn(&Model) -> bool| ladder::cheapest_of_tier(ask, tier.as_str(), plan, catalogue, (output, now), good);
    let well = || cheapest(&|model| !health.is_bad(model));
    let best = cheapest(&|model| !health.is_bad(model) || health.is_probed(model, now));
    let probed = best.as_ref().and_then(|best| catalogue.find(best.as_str()));
    let chosen = match probed.filter(|model| health.is_probed(model, now)) {
        None => best,
        Some(model) if may_probe && health.probes(model, place.policy, now) => return Some((model.id.clone(), true)),
        Some(_) => well(),
    };
    // Where none is well, the tier goes on with what it has.
    chosen.or_else(|| cheapest(&|_| true)).map(|model| (model, false))
}

async fn balances(
    service: &Service,
    ask: &Ask,
    policy: &Policy,
    workspace: &Workspace,
    (limits, plan): (&Limits, &Plan),
) -> Result<Vec<Balance>, FlowError> {
    match rebuild::balances(
        service,
        &ask.workspace,
        (&limits.counters, &limits.purses(plan)),
        &limits.counters,
        named_since(policy, workspace),
    )
    .await
    {
        // Rules that ask for budgets do not match while the counters are away; the hold itself decides what then happens.
        Err(FlowError::Counters(_)) => Ok(Vec::new()),
        balances => balances,
    }
}
