//! Fair use on a node: what was used is gathered and added up beside the ledger ([`gather`]), one node compares it with what is usual
//! ([`evaluate`]), calls that come too fast are noticed where they come in ([`loops`]), and every node follows what rules do about it.
//!
//! A crash loses what a node gathered since its last flush, some seconds of a measure; actions are in the ledger, so they survive and end by
//! the clock. Whatever fails here, requests are decided as if there were no rules: fair use never denies because it could not be asked.

use super::audit::{self, Audited, By, Subject};
use super::{FlowError, Service};
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
    /// The actions that are about this request. Costs one look at an empty map where there are none.
    pub(super) fn applying(&self, ask: &Ask, now: Timestamp) -> Vec<Arc<Action>> {
        let active = self.active.load();
        if active.is_empty() {
            return Vec::new();
        }
        let of_workspace = active.get(&ask.workspace).into_iter().flatten();
        of_workspace.filter(|action| action.applies(ask, now)).cloned().collect()
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
