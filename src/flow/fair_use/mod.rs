//! Fair use on a node: what was used is gathered and added up beside the ledger ([`gather`]), one node compares it with what is usual
//! ([`evaluate`]), calls that come too fast are noticed where they come in ([`loops`]), and every node follows what rules do about it.
//!
//! A crash loses what a node gathered since its last flush, some seconds of a measure; actions are in the ledger, so they survive and end by
//! the clock. Whatever fails here, requests are decided as if there were no rules: fair use never denies because it could not be asked.

use super::audit::{self, Audited, By, Subject};
use super::authorize::{Decision, Request};
use super::{FlowError, Service, workspace};
use crate::decision::anomaly::{Action, AnomalyData};
use crate::decision::ask::Ask;
use crate::decision::id::{EventId, FairUseId, WorkspaceId};
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
pub use crate::ledger::fair_use::ActionQuery;
use arc_swap::ArcSwap;
use foldhash::HashMap;
use gather::Gathered;
pub(super) use loops::FastCalls;
use loops::Loops;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

pub mod evaluate;
pub mod gather;
mod loops;

/// How often what was gathered is written, and looked at by the node that leads.
pub const EVERY_SECONDS: u64 = 10;
/// The most actions that a node follows; beyond it the oldest are not kept to.
const ACTIONS_MAX: usize = 10_000;
/// How many actions without a rule one round ends.
const ENDS_MAX: usize = 200;
/// The most loops that wait to be written.
const WAITING_MAX: usize = 1_000;

type Active = HashMap<WorkspaceId, Vec<Arc<Action>>>;

/// What a node knows of fair use.
#[derive(Default)]
pub struct FairUse {
    /// By workspace; mostly empty.
    active: ArcSwap<Active>,
    gathered: Gathered,
    loops: Loops,
    /// Begun on this node, and not written yet.
    begun: Mutex<Vec<Arc<Action>>>,
    wake: Notify,
}

impl FairUse {
    /// The actions that are about this request, by rules that its plan still has: none goes on without its rule. Costs one look at an empty map
    /// where there are none.
    pub(super) fn applying(&self, plan: &Plan, ask: &Ask, now: Timestamp) -> Vec<Arc<Action>> {
        let active = self.active.load();
        if active.is_empty() {
            return Vec::new();
        }
        let of_workspace = active.get(&ask.workspace).into_iter().flatten();
        of_workspace
            .filter(|action| action.applies(ask, now) && action.has_rule_in(plan))
            .cloned()
            .collect()
    }

    /// A request came in: where its user calls a feature too often, an action begins at once on this node.
    pub(super) fn called(&self, plan: &Plan, ask: &Ask, now: Timestamp, uuid: impl Fn() -> uuid::Uuid) {
        for rule in &plan.fair_use {
            if let Some(found) = self.loops.count(plan, rule, ask, now)
                && !self.knows(&found, now)
            {
                let action = Action {
                    id: FairUseId::from_uuid(uuid()),
                    ..found
                };
                self.begin_here(Arc::new(action));
            }
        }
    }

    /// A request that was counted at `at` was told its answer again: it is no further call.
    fn uncall(&self, plan: &Plan, ask: &Ask, at: Timestamp) {
        for rule in &plan.fair_use {
            self.loops.uncount(rule, ask, at);
        }
    }

    /// Whether an action of this rule on the same subject has not come to its end.
    fn knows(&self, other: &Action, now: Timestamp) -> bool {
        let active = self.active.load();
        let known = active.get(&other.workspace).into_iter().flatten();
        known.filter(|action| now < action.ends_at).any(|action| is_same(action, other))
    }

    fn begin_here(&self, action: Arc<Action>) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.len() >= WAITING_MAX || begun.iter().any(|known| is_same(known, &action)) {
            return;
        }
        begun.push(action.clone());
        self.active.rcu(|active| {
            let mut active = Active::clone(active);
            active.entry(action.workspace.clone()).or_default().push(action.clone());
            active
        });
        drop(begun);
        self.wake.notify_one();
    }

    /// What the other nodes should know of calls that come fast here.
    pub(super) fn told(&self, now: Timestamp) -> Vec<FastCalls> {
        self.loops.told(now)
    }

    pub(super) fn hear(&self, told: Vec<Vec<FastCalls>>) {
        self.loops.hear(told);
    }

    /// Something was used.
    pub(super) fn used(&self, plan: Option<&Plan>, entry: &crate::decision::entry::Entry, now: Timestamp) {
        if let Some(plan) = plan.filter(|plan| !plan.fair_use.is_empty()) {
            self.gathered.add(plan, entry, now);
        }
    }

    /// Takes what is in force, and keeps what this node has begun and not written yet.
    fn keep(&self, actions: Vec<Action>) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let mut active = Active::default();
        for action in actions.into_iter().map(Arc::new).chain(begun.iter().cloned()) {
            active.entry(action.workspace.clone()).or_default().push(action);
        }
        self.active.store(Arc::new(active));
    }
}

fn is_same(one: &Action, other: &Action) -> bool {
    (&one.rule, &one.whose, &one.feature, &one.workspace) == (&other.rule, &other.whose, &other.feature, &other.workspace)
}

/// What came of a request that was counted at `at`. One that is told its first answer again, or that it has ended, comes from a caller who did
/// not hear it the first time, and not from one who goes round in circles.
pub(super) async fn decided(service: &Service, request: &Request, decided: &Result<Decision, FlowError>, at: Timestamp) {
    let is_told_again = match decided {
        Ok(decision) => decision.replayed,
        Err(error) => matches!(error, FlowError::ReservationEnded(..)),
    };
    if !is_told_again || request.dry_run {
        return;
    }
    let policy = service.policy.load();
    // Known by now; where it is not, one call too many is counted.
    let Ok(Some(workspace)) = workspace::find(service, &request.ask.workspace).await else {
        return;
    };
    if let Some(plan) = policy.plan(workspace.plan_id.as_ref()) {
        service.fair_use.uncall(plan, &request.ask, at);
    }
}

/// Ends the actions of rules that their workspace's plan has no more: because the policy changed, or the workspace is on another plan. Nodes keep
/// to no such action anyway; here it ends for the record. Returns how many.
async fn end_without_rule(service: &Service) -> Result<usize, FlowError> {
    let (policy, now) = (service.policy.load(), service.clock.now());
    let active = service.fair_use.active.load_full();
    let mut ended = 0;
    for action in active.values().flatten().filter(|action| action.is_active(now)) {
        if ended >= ENDS_MAX {
            break;
        }
        let Some(workspace) = workspace::find(service, &action.workspace).await? else {
            continue;
        };
        let plan = policy.plan(workspace.plan_id.as_ref());
        if plan.is_some_and(|plan| action.has_rule_in(plan)) {
            continue;
        }
        let by = By {
            actor: format!("fair_use:{}", action.rule),
            reason: "The plan of the workspace has no such rule any more.".to_owned(),
            request_id: None,
        };
        match end(service, action.id, &by).await {
            // It began on this node, and is not written yet.
            Ok(()) | Err(FlowError::NotFound) => ended += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

/// Takes over what other nodes have begun and ended.
pub async fn follow(service: &Service) -> Result<(), FlowError> {
    // Where no plan has rules nobody begins anything.
    let none = service.fair_use.active.load().is_empty() && service.policy.load().plans.values().all(|plan| plan.fair_use.is_empty());
    if none {
        return Ok(());
    }
    let query = ActionQuery {
        active_at: Some(service.clock.now()),
        limit: ACTIONS_MAX,
        ..ActionQuery::default()
    };
    let actions = service.ledger.actions(&query).await?;
    metrics::gauge!("weir_fair_use_actions").set(actions.len() as f64);
    service.fair_use.keep(actions);
    Ok(())
}

/// Waits until a loop was noticed on this node.
pub async fn noticed(service: &Service) {
    service.fair_use.wake.notified().await;
}

/// Writes the loops that this node noticed. What cannot be written stays in force here until its end, and is tried again.
pub async fn write_noticed(service: &Service) -> Result<usize, FlowError> {
    let waiting: Vec<Arc<Action>> = service.fair_use.begun.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut written, is_any) = (0, !waiting.is_empty());
    for action in waiting {
        let is_over = !action.is_active(service.clock.now());
        written += usize::from(!is_over && begin(service, &action).await?);
        let mut begun = service.fair_use.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|known| known.id != action.id);
    }
    // Also what was not new: somebody else began it, or an administrator ended one that is still remembered.
    if is_any {
        follow(service).await?;
    }
    Ok(written)
}

/// Begins an action for all nodes; false: there is one already.
async fn begin(service: &Service, action: &Action) -> Result<bool, FlowError> {
    let policy = service.policy.load();
    let plan = policy.plans.get(&action.plan).map(|plan| &**plan);
    let voice = policy.voice(None, plan);
    let now = service.clock.now();
    let event = action.event(EventId::from_uuid(service.clock.uuid()), plan, voice, now);
    let by = By {
        actor: format!("fair_use:{}", action.rule),
        reason: action.message(crate::decision::message::Voice::english()),
        request_id: None,
    };
    let after = serde_json::to_value(AnomalyData::new(action, plan, voice)).ok();
    let record = record(service, &by, "fair_use.begin", action, None, after);
    let is_new = service.ledger.begin_action(action, record, event).await?;
    if is_new {
        metrics::counter!("weir_fair_use_begun_total", "action" => action.act.as_str()).increment(1);
        tracing::info!(workspace = %action.workspace, rule = action.rule, act = action.act.as_str(), until = %action.ends_at, shadow = action.shadow,
            "a rule of fair use acts");
    }
    Ok(is_new)
}

fn record(
    service: &Service,
    by: &By,
    action: &str,
    about: &Action,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Audited {
    let subject = Subject::of(&about.workspace, "fair_use", about.id.to_string());
    audit::record(&*service.clock, by, action, subject, before, after)
}

/// Actions, newest first, each as it is shown.
pub async fn list(service: &Service, query: &ActionQuery) -> Result<Vec<(Action, AnomalyData)>, FlowError> {
    let actions = service.ledger.actions(query).await?;
    Ok(actions.into_iter().map(|action| shown(service, action)).collect())
}

fn shown(service: &Service, action: Action) -> (Action, AnomalyData) {
    let policy = service.policy.load();
    let plan = policy.plans.get(&action.plan).map(|plan| &**plan);
    let data = AnomalyData::new(&action, plan, policy.voice(None, plan));
    (action, data)
}

/// Ends an action before its time, on this node at once and on the others within their poll. Its rule stays quiet about the same subject
/// until the action would have ended. One that has ended is left as it is.
pub async fn end(service: &Service, id: FairUseId, by: &By) -> Result<(), FlowError> {
    let action = service.ledger.action(id).await?.ok_or(FlowError::NotFound)?;
    let now = service.clock.now();
    let ended = Action {
        ended_at: Some(now),
        ..action.clone()
    };
    let told = |action: Action| serde_json::to_value(shown(service, action).1).ok();
    let record = record(service, by, "fair_use.end", &action, told(action.clone()), told(ended));
    service.ledger.end_action(id, now, record).await?;
    follow(service).await
}
