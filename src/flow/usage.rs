//! Usage: the budgets of a workspace as they stand, and when they run out at this pace. Reads only.

use super::rebuild;
use super::{FlowError, Service, workspace};
use crate::decision::forecast;
use crate::decision::id::{UserId, WorkspaceId};
use crate::decision::limits::{BudgetView, Limits};
use crate::decision::time::Timestamp;

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
