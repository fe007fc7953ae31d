//! Invoice preview: what a workspace's period comes to by its plan's price, as far as it is known now. Reads only.
//!
//! What readings of the contract were chosen, for whoever reads an invoice:
//! - *The period* is the workspace's billing period, which is the calendar month in its zone where no other anchor day was set.
//! - *The plan* prices the whole period, and nothing is pro rata: of a period that runs the plan that the workspace is on, of an ended one
//!   the plan under which it was used last, as it was then; what is reported late changes the use and not the plan. Which versions its use
//!   was recorded under is told beside it.
//! - *Seats* are the most that there were in the period.
//! - *Use* is what ledger entries that occurred in the period count, corrections among them; what still runs is not in it.
//! - *Overage* is by the budget's own period: each that ends in the invoice's period is on it, the running one too if it will end there. So a
//!   week is on one invoice, a year on that of its last month, and a lifetime on none. Limits are those at the end of the budget's
//!   period: seats and overrides of then. What running grants have left is taken off, since the next use is paid by them.

use super::{FlowError, Service, policy, workspace};
use crate::decision::id::{OutcomeName, PlanId, WorkspaceId};
use crate::decision::limits::hard_of;
use crate::decision::period::{Period, PeriodKind};
use crate::decision::plan::{Budget, Plan, Scope};
use crate::decision::pricing::{Pricing, UsagePrice};
use crate::decision::rating::{Beyond, Counted, Figures, Invoice, OutcomeCount, invoice};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
pub use crate::ledger::invoices::GrantPaid;
use crate::ledger::invoices::{PASSED_MAX, PassedQuery, Used};
use crate::policy::Policy;
use crate::policy::object::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which period to preview.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Current,
    Previous,
    /// The one that this moment lies in.
    At(Timestamp),
}

/// What a period comes to so far.
#[derive(Debug)]
pub struct Preview {
    pub workspace: WorkspaceId,
    pub period: Period,
    pub as_of: Timestamp,
    /// `None`: the workspace is on no plan.
    pub plan: Option<Arc<Plan>>,
    /// The plan versions that the period's use was recorded under, each with its number of entries.
    pub versions: Vec<(PlanId, u32, i64)>,
    pub seats: i64,
    pub invoice: Invoice,
    pub grants: Vec<GrantPaid>,
}

/// The preview of one period.
pub async fn preview(service: &Service, id: &WorkspaceId, which: Which) -> Result<Preview, FlowError> {
    let workspace = workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let now = service.clock.now();
    let period = period(&workspace, which, now)?;
    let used = service.ledger.used(id, period).await?;
    let grants = service.ledger.paid_by_grants(id, period).await?;
    let plan = plan(service, &workspace, &used, period, now).await?;
    let seats = workspace.seats.within(period);
    let invoice = match plan.as_ref().and_then(|plan| Some((plan, plan.pricing.as_ref()?))) {
        Some((plan, pricing)) => {
            let figures = Figures {
                seats,
                usage: pricing.usage.iter().map(|price| counted(price, &used, &grants)).collect(),
                overage: overage(service, &workspace, plan, pricing, period, now).await?,
                outcomes: outcomes(&used),
            };
            invoice(pricing, &figures).map_err(|_| FlowError::InvoiceTooLarge)?
        }
        None => invoice(&Pricing::default(), &Figures::default()).map_err(|_| FlowError::InvoiceTooLarge)?,
    };
    Ok(Preview {
        workspace: id.clone(),
        period,
        as_of: now,
        plan,
        versions: versions(&used),
        seats,
        invoice,
        grants,
    })
}

fn period(workspace: &Workspace, which: Which, now: Timestamp) -> Result<Period, FlowError> {
    let current = workspace.calendar.period(PeriodKind::Billing, now);
    match which {
        Which::Current => Ok(current),
        Which::Previous => Ok(workspace.calendar.period(PeriodKind::Billing, current.start.plus_micros(-1))),
        Which::At(at) if at >= current.end => Err(FlowError::Unacceptable {
            pointer: String::new(),
            detail: format!("at must not be later than the running period, which ends at {}", current.end),
        }),
        Which::At(at) => Ok(workspace.calendar.period(PeriodKind::Billing, at)),
    }
}

/// The plan that prices `period`.
async fn plan(
    service: &Service,
    workspace: &Workspace,
    used: &[Used],
    period: Period,
    now: Timestamp,
) -> Result<Option<Arc<Plan>>, FlowError> {
    let policy = service.policy.load();
    let of_now = policy.plan(workspace.plan_id.as_ref()).cloned();
    if period.end > now {
        return Ok(of_now);
    }
    // What was reported after the end bears the plan of then.
    let last = used.iter().filter(|used| used.plan.is_some()).max_by_key(|used| used.last_at);
    let Some((id, version)) = last.and_then(|used| used.plan.as_ref()) else {
        return Ok(of_now);
    };
    let as_it_was = |policy: &Policy| policy.plans.get(id).filter(|plan| plan.version == *version).cloned();
    if let Some(plan) = as_it_was(&policy) {
        return Ok(Some(plan));
    }
    for changed in service.ledger.policy_versions_of(Kind::Plan.as_str(), id.as_str()).await? {
        if let Some(plan) = as_it_was(&*policy::at(service, changed).await?) {
            return Ok(Some(plan));
        }
    }
    Ok(policy.plans.get(id).cloned().or(of_now))
}

fn versions(used: &[Used]) -> Vec<(PlanId, u32, i64)> {
    let mut versions: BTreeMap<(&str, u32), (&PlanId, i64)> = BTreeMap::new();
    for used in used {
        if let Some((plan, version)) = &used.plan {
            versions.entry((plan.as_str(), *version)).or_insert((plan, 0)).1 += used.entries;
        }
    }
    let versions = versions.into_iter();
    versions
        .map(|((_, version), (plan, entries))| (plan.clone(), version, entries))
        .collect()
}

/// What was counted of what `price` is for. What leaves 64 bits stays at their edge, and is refused when it is priced.
fn counted(price: &UsagePrice, used: &[Used], grants: &[GrantPaid]) -> Counted {
    let counts = |used: &&Used| price.feature.as_ref().is_none_or(|feature| *feature == used.feature);
    let spent = used.iter().filter(counts).map(|used| used.counted.of(price.unit));
    let is_of_budget = |grant: &&GrantPaid| price.budget.as_ref() == Some(&grant.budget) && grant.unit == price.unit;
    let granted = grants.iter().filter(is_of_budget).map(|grant| grant.paid);
    Counted {
        spent: spent.fold(0, i64::saturating_add),
        granted: granted.fold(0, i64::saturating_add),
    }
}

/// How often each outcome was reported. Names that no plan could have are in no ledger that we wrote.
fn outcomes(used: &[Used]) -> Vec<OutcomeCount> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for used in used {
        for (name, each) in &used.outcomes {
            let count = counts.entry(name).or_insert(0);
            *count = count.saturating_add(each.saturating_mul(used.entries));
        }
    }
    let counts = counts.into_iter();
    counts
        .filter_map(|(name, count)| {
            let name = OutcomeName::parse(name).ok()?;
            Some(OutcomeCount { name, count })
        })
        .collect()
}

/// By how much the budget of the plan's overage was passed, period by period.
async fn overage(
    service: &Service,
    workspace: &Workspace,
    plan: &Plan,
    pricing: &Pricing,
    period: Period,
    now: Timestamp,
) -> Result<Vec<Beyond>, FlowError> {
    let named = pricing.overage.as_ref().map(|overage| &overage.budget_id);
    let Some(budget) = plan.budgets.iter().find(|budget| Some(&budget.id) == named) else {
        return Ok(Vec::new());
    };
    let query = PassedQuery {
        workspace: workspace.id.clone(),
        by_user: budget.scope == Scope::User,
        feature: budget.feature.clone(),
        unit: budget.unit,
        kind: budget.period,
        after: period.start,
        until: period.end,
        above: least_hard(budget, workspace),
    };
    let passed = service.ledger.passed(&query).await?;
    if passed.len() > PASSED_MAX {
        return Err(FlowError::InvoiceTooLarge);
    }
    let mut beyond: BTreeMap<Period, i64> = BTreeMap::new();
    for sum in passed {
        let at = now.min(sum.period.end.plus_micros(-1));
        let Some(hard) = hard_of(plan, budget, workspace, at) else {
            continue;
        };
        let over = sum.spent.saturating_sub(hard).saturating_sub(sum.paid).max(0);
        let all = beyond.entry(sum.period).or_insert(0);
        *all = all.saturating_add(over);
    }
    let running = workspace.calendar.period(budget.period, now);
    if let Some(all) = beyond
        .get_mut(&running)
        .filter(|all| **all > 0 && workspace.may_be_granted(&budget.id))
    {
        let pots = service.ledger.pots(&workspace.id, now).await?;
        let left = pots.purse(&budget.id, budget.unit, now, running).left;
        *all = all.saturating_sub(left).max(0);
    }
    let beyond = beyond.into_iter().filter(|(_, amount)| *amount > 0);
    Ok(beyond.map(|(period, amount)| Beyond { period, amount }).collect())
}

/// No limit of this budget is below it, whatever seats and overrides there were: what a store need not look at.
fn least_hard(budget: &Budget, workspace: &Workspace) -> i64 {
    let overridden = workspace.overrides.get(&budget.id).and_then(|change| change.hard);
    let own = budget.hard.unwrap_or(0);
    overridden.map_or(own, |hard| hard.min(own))
}
