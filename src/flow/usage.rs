//! Usage: the budgets of a workspace as they stand, when they run out at this pace, and what was used lately. Reads only.

use super::rebuild;
use super::{FlowError, Service, workspace};
use crate::decision::forecast;
use crate::decision::id::{UserId, WorkspaceId};
use crate::decision::limits::{BudgetView, Limits};
use crate::decision::message;
use crate::decision::period::{Period, PeriodKind};
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
pub use crate::ledger::daily::Daily;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many days are told of, today among them.
pub const RECENT_DAYS: usize = 30;
/// How long what was used on days before yesterday is remembered: they change only by what is recorded late.
const REMEMBERED_SECONDS: i64 = 60;
/// Of how many workspaces it is remembered; beyond it, they are added up again.
const REMEMBERED_MAX: usize = 1_000;

/// A budget and the moment at which it will be used up, if it goes on like this.
#[derive(Clone, Debug)]
pub struct Forecast {
    pub budget: BudgetView,
    pub exhausted_at: Option<Timestamp>,
}

/// All budgets of a workspace; those of one user beside them where a user is named.
pub async fn usage(service: &Service, id: &WorkspaceId, user: Option<&UserId>) -> Result<Vec<Forecast>, FlowError> {
    let workspace = workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let policy = service.policy.load();
    let Some(plan) = policy.plan(workspace.plan_id.as_ref()) else {
        return Ok(Vec::new());
    };
    let now = service.clock.now();
    let limits = Limits::of_workspace(plan, &workspace, user, now);
    let since = super::authorize::named_since(&policy, &workspace);
    let balances = rebuild::balances(service, id, (&limits.counters, &limits.purses(plan)), &limits.counters, since).await?;
    let views = limits.budgets.iter().map(|limited| {
        let counter = &limits.counters[limited.counter];
        let budget = BudgetView::new(limited, &plan.budgets[limited.budget], counter, balances[limited.counter]);
        let exhausted_at = forecast::exhausted_at(&budget, workspace.created_at, now);
        Forecast { budget, exhausted_at }
    });
    Ok(views.collect())
}

/// What a workspace is on, and where it gets more.
pub struct Bought {
    pub plan: Option<Arc<Plan>>,
    pub upgrade_url: Option<String>,
}

pub async fn bought(service: &Service, id: &WorkspaceId) -> Result<Bought, FlowError> {
    let workspace = workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let plan = service.policy.load().plan(workspace.plan_id.as_ref()).cloned();
    let link = plan.as_ref().and_then(|plan| plan.upgrade_url.as_deref());
    Ok(Bought {
        upgrade_url: link.map(|link| message::upgrade_url(link, id)),
        plan,
    })
}

/// What was used on one day of the workspace's zone, of one feature.
#[derive(Clone, Debug)]
pub struct DayUse {
    /// The local date.
    pub date: String,
    pub used: Daily,
}

/// What this node has added up of earlier days.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<WorkspaceId, Earlier>>);

#[derive(Clone)]
struct Earlier {
    /// The last of those days, which the next day changes, and the zone another one.
    until: Period,
    added_up_at: Timestamp,
    used: Arc<Vec<Daily>>,
}

/// What a workspace used lately, newest day first.
pub async fn recent(service: &Service, id: &WorkspaceId) -> Result<Vec<DayUse>, FlowError> {
    let workspace = workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let now = service.clock.now();
    let days = days(&workspace, now);
    let (recent, before) = days.split_at(2);
    let mut used = earlier(service, id, before, now).await?.to_vec();
    used.extend(service.ledger.daily(id, recent).await?);
    let day = |used: Daily| DayUse {
        date: workspace.calendar.setting().timezone.date(used.period.start),
        used,
    };
    let mut recent: Vec<DayUse> = used.into_iter().map(day).collect();
    recent.sort_by(|a, b| (b.used.period.start, &a.used.feature).cmp(&(a.used.period.start, &b.used.feature)));
    Ok(recent)
}

/// The last days, newest first.
fn days(workspace: &Workspace, now: Timestamp) -> Vec<Period> {
    let mut days = vec![workspace.calendar.period(PeriodKind::Day, now)];
    while days.len() < RECENT_DAYS {
        let before = days[days.len() - 1].start.plus_micros(-1);
        days.push(workspace.calendar.period(PeriodKind::Day, before));
    }
    days
}

async fn earlier(service: &Service, id: &WorkspaceId, days: &[Period], now: Timestamp) -> Result<Arc<Vec<Daily>>, FlowError> {
    let remembered = || service.remembered.0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = remembered().get(id).cloned();
    let is_fresh = |known: &Earlier| known.until == days[0] && now < known.added_up_at.plus_seconds(REMEMBERED_SECONDS);
    if let Some(known) = known.filter(is_fresh) {
        return Ok(known.used);
    }
    let used = Arc::new(service.ledger.daily(id, days).await?);
    let mut remembered = remembered();
    if remembered.len() >= REMEMBERED_MAX {
        remembered.clear();
    }
    let now = Earlier {
        until: days[0],
        added_up_at: now,
        used: used.clone(),
    };
    remembered.insert(id.clone(), now);
    Ok(used)
}
