//! Foresee: budgets that run out before their period ends at the pace of it so far, and grants that end soon with something left. Both are told
//! by one node, by the clock; once each, and a crash leaves them to the next round.

use super::{FlowError, Service, grant, renew, workspace};
use crate::counters::SumRow;
use crate::decision::counter::{Balance, Whose};
use crate::decision::event::{Audience, Event, EventType, ForecastData, GrantData, KEPT_SECONDS};
use crate::decision::grant::{Grant, Purse};
use crate::decision::id::{EventId, GrantId, WorkspaceId};
use crate::decision::level::{self, Told};
use crate::decision::limits::BudgetView;
use crate::decision::period::PeriodKind;
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::decision::{forecast, notice};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// How long before its end a grant is told of, longest first.
pub const LEADS_DAYS: [i64; 2] = [7, 1];
/// How many grants are looked at in one step.
const PAGE_GRANTS: usize = 200;
/// A pace of less than this part of the period, or of the limit, is not told of: it says too little.
const PARTS_MIN: i128 = 10;
/// What is remembered as told; beyond it, the ledger says once more that it was.
const TOLD_MAX: usize = 200_000;

/// What this node has told, or found that there is nothing to tell of.
#[derive(Default)]
pub struct Foreseen(Mutex<HashSet<String>>);

impl Foreseen {
    fn is_told(&self, once: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(once)
    }

    fn note(&self, once: String) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(once);
    }
}

/// Tells which of these sums of a workspace, as they are now, will not last for their period.
pub(super) async fn budgets(service: &Service, id: &WorkspaceId, rows: &[SumRow], purses: &[Purse]) -> Result<(), FlowError> {
    let Some(workspace) = workspace::find(service, id).await? else {
        return Ok(());
    };
    let policy = service.policy.load();
    let Some(plan) = policy.plan(workspace.plan_id.as_ref()) else {
        return Ok(());
    };
    let mut events = Vec::new();
    for row in rows {
        events.extend(budgets_over(service, plan, &workspace, row, purses));
    }
    let words: Vec<String> = events.iter().map(|event| memory(id, &event.once)).collect();
    if !events.is_empty() {
        service.ledger.append_events(events).await?;
    }
    words.into_iter().for_each(|words| service.foreseen.note(words));
    Ok(())
}

fn memory(workspace: &WorkspaceId, once: &str) -> String {
    format!("{workspace} {once}")
}

fn budgets_over(service: &Service, plan: &Plan, workspace: &Workspace, row: &SumRow, purses: &[Purse]) -> Vec<Event> {
    let now = service.clock.now();
    let user = match &row.counter.whose {
        Whose::User(user) => user.as_ref(),
        Whose::Workspace => None,
    };
    let policy = service.policy.load();
    let voice = policy.voice(None, Some(plan));
    let has_pace = !matches!(row.counter.kind, PeriodKind::Minute | PeriodKind::Hour | PeriodKind::Lifetime);
    let of_row = plan
        .budgets
        .iter()
        .filter(|budget| has_pace && !budget.shadow && budget.hard.is_some() && budget.unit == row.counter.unit);
    let told = of_row.filter_map(|budget| {
        let once = level::once("forecast", budget, &row.counter);
        let (limits, limited) = renew::limits_of(plan, workspace, &budget.id, user, now)?;
        if limits.counters[limited.counter] != row.counter || service.foreseen.is_told(&memory(&workspace.id, &once)) {
            return None;
        }
        let left = purses.iter().find(|purse| purse.budget == budget.id).map_or(0, |purse| purse.left);
        let balance = Balance {
            spent: row.spent,
            held: 0,
            granted: row.paid.saturating_add(left),
        };
        let limited = limited.raised(balance);
        let view = BudgetView::new(&limited, budget, &row.counter, balance);
        let at = forecast::exhausted_at(&view, workspace.created_at, now)?;
        let line = limited.hard_line()?;
        if at <= now || !says_something(&view, line, workspace.created_at, now) {
            return None;
        }
        let told = Told {
            workspace: &workspace.id,
            plan,
            budget,
            limited: &limited,
            counter: &row.counter,
            spent: row.spent,
        };
        let data = ForecastData {
            budget: told.data(notice::forecast(voice, &workspace.id, budget, &row.counter, line, at)),
            forecast_exhausted_at: at,
        };
        let id = EventId::from_uuid(service.clock.uuid());
        let data = serde_json::to_value(data).unwrap_or_default();
        Some(Event {
            audience: Audience::of_unit(budget.unit),
            kept_until: row.counter.period.end.plus_seconds(KEPT_SECONDS),
            ..Event::new(id, Some(workspace.id.clone()), EventType::BudgetForecast, once, now, data)
        })
    });
    told.collect()
}

/// Whether enough of the period has passed and enough is used that the pace means something.
fn says_something(view: &BudgetView, line: i64, since: Timestamp, now: Timestamp) -> bool {
    let start = view.period.start.max(since);
    let length = i128::from(view.period.end.micros()) - i128::from(view.period.start.micros());
    let elapsed = i128::from(now.micros()) - i128::from(start.micros());
    elapsed * PARTS_MIN >= length && i128::from(view.balance.spent) * PARTS_MIN >= i128::from(line)
}

/// Tells which grants end soon with something left, and says of how many.
pub async fn grants(service: &Service) -> Result<usize, FlowError> {
    let (now, mut after, mut told) = (service.clock.now(), None, 0);
    let until = now.plus_seconds(LEADS_DAYS[0] * 24 * 3600);
    loop {
        let page = service.ledger.grants_expiring(now, until, after, PAGE_GRANTS).await?;
        let is_last = page.len() < PAGE_GRANTS;
        after = page.last().map(|(_, id, at)| (*at, *id));
        for (workspace, id, expires_at) in page {
            // Of several lead times that have begun the shortest one counts: one event says all.
            let begun = LEADS_DAYS.iter().filter(|days| expires_at <= now.plus_seconds(**days * 24 * 3600));
            let Some(days) = begun.min() else { continue };
            let once = format!("grant {id} {days}");
            if !service.foreseen.is_told(&memory(&workspace, &once))
                && let Some(is_new) = ends_soon(service, &workspace, id, once.clone()).await?
            {
                told += usize::from(is_new);
                service.foreseen.note(memory(&workspace, &once));
            }
        }
        if is_last {
            return Ok(told);
        }
    }
}

/// Tells of one grant, if something is left of it. False: it was told, or nothing will be left. `None`: it may have to be told later, since it
/// begins only then, or comes again.
async fn ends_soon(service: &Service, id: &WorkspaceId, grant: GrantId, once: String) -> Result<Option<bool>, FlowError> {
    let now = service.clock.now();
    let Some(given) = service.ledger.grant(id, grant).await? else {
        return Ok(Some(false));
    };
    let left = grant::left(service, id, &given).await?;
    let Some(expires_at) = given.expires_at.filter(|_| left > 0 && given.effective_at <= now) else {
        let may_come = given.effective_at > now || given.recurrence.is_some();
        return Ok((!may_come).then_some(false));
    };
    let data = serde_json::to_value(data(service, id, given.clone(), left, expires_at).await?).unwrap_or_default();
    let event = Event {
        audience: Audience::of_unit(given.unit),
        ..Event::new(
            EventId::from_uuid(service.clock.uuid()),
            Some(id.clone()),
            EventType::GrantExpiring,
            once,
            now,
            data,
        )
    };
    Ok(Some(!service.ledger.append_events(vec![event]).await?.is_empty()))
}

async fn data(service: &Service, id: &WorkspaceId, grant: Grant, left: i64, expires_at: Timestamp) -> Result<GrantData, FlowError> {
    let workspace = workspace::find(service, id).await?;
    let policy = service.policy.load();
    let plan = workspace.as_ref().and_then(|workspace| policy.plan(workspace.plan_id.as_ref()));
    let voice = policy.voice(None, plan.map(|plan| &**plan));
    let message = notice::grant_expiring(voice, id, &grant, left, expires_at);
    Ok(GrantData {
        bought: level::bought(id, None, plan.map(|plan| &**plan), message),
        grant_id: grant.id,
        key: grant.key,
        budget_id: grant.budget,
        unit: grant.unit,
        amount: level::amount(grant.unit, grant.amount),
        remaining: level::amount(grant.unit, left),
        expires_at,
    })
}
