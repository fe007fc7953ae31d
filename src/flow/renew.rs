//! Renew: budgets that were at their soft or hard limit and are not any more are told of it: because a new period began, or because the limit
//! was raised. By membership: an event of a budget at its limit is due until its end was told, so none is passed over and none told twice.
//!
//! A crash leaves them due. After a raise they are told by the node that raised, beside the raise and not in its transaction. What a crash in
//! between leaves untold the leader finds within half a minute or so, as it does what the clock raised: a grant that begins later, or comes
//! again. It looks at all budgets at their limit for that, some in each of its rounds ([`Turns`]).

use super::{FlowError, Service, rebuild, workspace};
use crate::decision::counter::Counter;
use crate::decision::event::{Event, EventType, RenewalReason, RenewedData};
use crate::decision::id::{BudgetId, EventId, Feature, UserId, WorkspaceId};
use crate::decision::level::{self, Told};
use crate::decision::limits::{Limited, Limits};
use crate::decision::notice;
use crate::decision::plan::{Budget, Plan};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// How many are told in one step.
pub const PAGE_EVENTS: usize = 200;
/// How many steps one round makes at most.
const PAGES_MAX: usize = 50;

/// Tells of the periods that have ended, and says of how many budgets at their limit.
pub async fn renew_due(service: &Service) -> Result<usize, FlowError> {
    let mut ended = 0;
    for _ in 0..PAGES_MAX {
        let due = service.ledger.renewals_due(service.clock.now(), PAGE_EVENTS).await?;
        let is_last = due.len() < PAGE_EVENTS;
        ended += due.len();
        end(service, due, RenewalReason::Period).await?;
        if is_last {
            break;
        }
    }
    Ok(ended)
}

/// Tells which budgets of a workspace are below their limit again since something was raised. What raised it is done by now, so a failure is
/// no failure of it.
pub async fn raised(service: &Service, id: &WorkspaceId) {
    let told = async {
        let open = service
            .ledger
            .crossings_open(Some(id), service.clock.now(), None, PAGE_EVENTS)
            .await?;
        end(service, open, RenewalReason::Raised).await
    };
    if let Err(error) = told.await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(workspace = %id, error, "that limits were raised is told in half a minute");
    }
}

/// The same of all workspaces, whose plans may have changed: looked at by turns, of which each is bounded, so that a change of very many limits
/// keeps nothing waiting that the clock tells.
#[derive(Default)]
pub struct Turns {
    is_running: bool,
    /// Begins again when it is through: since something changed, what it had passed by then is to be looked at anew.
    is_again: bool,
    /// Where the next turn goes on.
    after: Option<EventId>,
}

impl Turns {
    /// Something changed, so all are to be looked at from now on.
    pub fn changed(&mut self) {
        self.is_again |= self.is_running;
        self.is_running = true;
    }

    /// It is time to look, unless that is being done.
    pub fn due(&mut self) {
        self.is_running = true;
    }

    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Looks at most at `pages` pages of `page` budgets at their limit. What fails is looked at again by the next round.
    pub async fn take(&mut self, service: &Service, pages: usize, page: usize) -> Result<(), FlowError> {
        for _ in 0..pages {
            if !self.is_running {
                break;
            }
            let now = service.clock.now();
            let open = service.ledger.crossings_open(None, now, self.after, page).await?;
            let is_last = open.len() < page;
            self.after = open.last().map(|crossing| crossing.id).filter(|_| !is_last);
            let told = end(service, open, RenewalReason::Raised).await;
            // One that cannot be told, for whatever reason, keeps none of the others waiting.
            self.is_again |= told.is_err();
            if is_last {
                self.is_running = std::mem::take(&mut self.is_again);
            }
            told?;
        }
        Ok(())
    }
}

/// What is known of a budget now.
struct Now {
    plan: Arc<Plan>,
    limited: Limited,
    counter: Counter,
    spent: i64,
}

impl Now {
    fn budget(&self) -> &Budget {
        &self.plan.budgets[self.limited.budget]
    }

    /// Whether use is below the line that was reached, by more than it was when that was told: a limit may refuse what it has too little for.
    fn is_below(&self, crossing: &Event) -> bool {
        let amount = |name: &str| crossing.data.get(name).and_then(level::amount_of);
        let at = amount("level").unwrap_or(0);
        let hard = amount("hard").unwrap_or(i64::MAX).saturating_add(amount("granted").unwrap_or(0));
        let line = match crossing.kind {
            EventType::BudgetSoftLimitReached => self.limited.soft_line(),
            _ if at > hard => self.limited.overage_line(self.budget()),
            _ => self.limited.hard_line(),
        };
        let left_then = amount("spent").map_or(0, |spent| at.saturating_sub(spent).max(0));
        line.is_none_or(|line| line.saturating_sub(self.spent) > left_then)
    }
}

/// Tells how these ended, if they have.
async fn end(service: &Service, crossings: Vec<Event>, reason: RenewalReason) -> Result<(), FlowError> {
    let (mut told, mut ended): (HashMap<String, Event>, Vec<EventId>) = (HashMap::new(), Vec::new());
    for crossing in &crossings {
        let Some(workspace) = &crossing.workspace else { continue };
        let now = match now(service, workspace, crossing).await? {
            Some(now) => now,
            // The budget is gone, and nobody waits for it.
            None if reason == RenewalReason::Period => {
                ended.push(crossing.id);
                continue;
            }
            None => continue,
        };
        let once = match reason {
            RenewalReason::Period => level::once("renewed", now.budget(), &now.counter),
            RenewalReason::Raised if now.is_below(crossing) => format!("raised {}", crossing.id),
            RenewalReason::Raised => continue,
        };
        ended.push(crossing.id);
        // Of a budget that was at both limits one event is enough.
        let of = format!("{workspace} {}", level::once("renewed", now.budget(), &now.counter));
        told.entry(of).or_insert_with(|| event(service, workspace, &now, once, reason));
    }
    if ended.is_empty() {
        return Ok(());
    }
    let mut told: Vec<Event> = told.into_values().collect();
    told.sort_by_key(|event| event.id);
    service.ledger.renew_budgets(told, ended).await?;
    Ok(())
}

fn event(service: &Service, workspace: &WorkspaceId, now: &Now, once: String, reason: RenewalReason) -> Event {
    let budget = now.budget();
    let told = Told {
        workspace,
        plan: &now.plan,
        budget,
        limited: &now.limited,
        counter: &now.counter,
        spent: now.spent,
    };
    let left = now.limited.hard_line().map(|line| line.saturating_sub(now.spent).max(0));
    let policy = service.policy.load();
    let voice = policy.voice(None, Some(&now.plan));
    let data = RenewedData {
        budget: told.data(notice::renewed(voice, workspace, budget, &now.counter, left)),
        reason,
    };
    let id = EventId::from_uuid(service.clock.uuid());
    let data = serde_json::to_value(data).unwrap_or_default();
    Event {
        audience: crate::decision::event::Audience::of_unit(budget.unit),
        ..Event::new(
            id,
            Some(workspace.clone()),
            EventType::BudgetRenewed,
            once,
            service.clock.now(),
            data,
        )
    }
}

/// How the budget that an event is about stands; `None`: there is none of that name any more that limits anything.
async fn now(service: &Service, id: &WorkspaceId, event: &Event) -> Result<Option<Now>, FlowError> {
    let word = |name: &str| event.data.get(name).and_then(Value::as_str);
    let Some(budget) = word("budget_id").and_then(|text| BudgetId::parse(text).ok()) else {
        return Ok(None);
    };
    let user = word("user_id").and_then(|text| UserId::parse(text).ok());
    let Some(workspace) = workspace::find(service, id).await? else {
        return Ok(None);
    };
    let policy = service.policy.load();
    let at = service.clock.now();
    let Some((plan, limits, limited)) = policy.plan(workspace.plan_id.as_ref()).and_then(|plan| {
        let (limits, limited) = limits_of(plan, &workspace, &budget, user.as_ref(), at)?;
        Some((plan.clone(), limits, limited))
    }) else {
        return Ok(None);
    };
    let counter = limits.counters[limited.counter].clone();
    let since = super::authorize::named_since(&policy, &workspace);
    let purses = limits.purses(&plan);
    let balances = rebuild::balances(service, id, (&limits.counters, &purses), &limits.counters, since).await?;
    let balance = balances[limited.counter];
    Ok(Some(Now {
        plan,
        limited: limited.raised(balance),
        counter,
        spent: balance.spent,
    }))
}

/// The limits of one budget of a plan, that of `user` where it counts by user, and of those beside it.
pub(super) fn limits_of(
    plan: &Plan,
    workspace: &Workspace,
    budget: &BudgetId,
    user: Option<&UserId>,
    at: Timestamp,
) -> Option<(Limits, Limited)> {
    let place = plan.budgets.iter().position(|other| other.id == *budget && !other.shadow)?;
    // A budget of no feature counts every feature, be it one that nobody has.
    let feature = plan.budgets[place].feature.clone().or_else(|| Feature::parse("any").ok())?;
    let limits = Limits::of_request(plan, workspace, &feature, user, at);
    let limited = *limits.budgets.iter().find(|limited| limited.budget == place)?;
    Some((limits, limited))
}
