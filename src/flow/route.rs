//! Route: what the routing rules make of a request. Reads the counters only where a rule asks for them.

use super::authorize::{Request, named_since};
use super::{FlowError, Service, rebuild};
use crate::decision::ask::{AUTO, Ask};
use crate::decision::counter::Balance;
use crate::decision::estimate::OUTPUT_TOKENS_UNKNOWN;
use crate::decision::id::{ModelId, Tier};
use crate::decision::ladder;
use crate::decision::limits::{Limited, Limits};
use crate::decision::plan::Plan;
use crate::decision::route::{BudgetFacts, RouteFacts};
use crate::decision::time::Timestamp;
use crate::decision::verdict::RouteNote;
use crate::decision::workspace::Workspace;
use crate::policy::Policy;
use std::sync::Arc;

/// Where a request is routed: the policy, and the workspace on its plan.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) policy: &'a Policy,
    pub(super) plan: &'a Plan,
    pub(super) workspace: &'a Workspace,
    /// Nobody has seen the workspace before, so nothing of it is spent or held.
    pub(super) is_new: bool,
}

/// What the routing rules make of the request: its model, and its mode where a rule says so.
pub(super) async fn route(
    service: &Service,
    request: &Request,
    place: Place<'_>,
    limits: &Limits,
    now: Timestamp,
) -> Result<(Arc<Ask>, ModelId, RouteNote), FlowError> {
    let (ask, policy, plan, workspace) = (&request.ask, place.policy, place.plan, place.workspace);
    let asked = Some(&request.ask.model).filter(|model| model.as_str() != AUTO);
    if asked.is_some() && !policy.routing.concerns_named() {
        return Ok((ask.clone(), ask.model.clone(), RouteNote::default()));
    }
    let balances = if !policy.routing.needs_budgets(asked) {
        Vec::new()
    } else if place.is_new {
        vec![Balance::default(); limits.counters.len()]
    } else {
        balances(service, ask, policy, workspace, (limits, plan)).await?
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
    let seats = workspace.seats.now();
    let facts = RouteFacts {
        ask,
        attributes: &request.attributes,
        seats,
        plan: &plan.id,
        budgets: &budgets,
        now,
    };
    let routed = policy.routing.route(&facts, asked);
    if !routed.failed.is_empty() {
        metrics::counter!("weir_routing_rule_failed_total").increment(routed.failed.len() as u64);
    }
    let ask = match routed.mode {
        Some(mode) if mode != ask.mode => Arc::new(Ask { mode, ..Ask::clone(ask) }),
        _ => ask.clone(),
    };
    let of_tier = |tier: &Tier| {
        let output = ask.max_output_tokens.unwrap_or(OUTPUT_TOKENS_UNKNOWN);
        ladder::cheapest_of_tier(&ask, tier.as_str(), plan, &policy.catalogue, output, now)
    };
    let chosen = routed
        .model
        .or_else(|| routed.tier.as_ref().and_then(of_tier))
        .unwrap_or_else(|| request.ask.model.clone());
    let changed = chosen != request.ask.model || ask.mode != request.ask.mode;
    let note = RouteNote {
        routed: routed.rule.filter(|_| changed).map(|rule| rule.to_string()),
        shadows: routed.shadow_hits.iter().map(ToString::to_string).collect(),
    };
    Ok((ask, chosen, note))
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
