//! Grants: who is asked to pay for a use, what is left, and what an operator gives and voids.
//!
//! Giving is one write: the grant, its record, and that all nodes name the purse of its budget from now on. The counters are told after it,
//! at once by this node; after a crash in between they are told by whoever next asks the ledger, or by the next grant.

use super::audit::{self, AuditQuery, By, Subject};
use super::{FlowError, Service, renew, workspace};
use crate::counters::Applied;
use crate::decision::amount::Unit;
use crate::decision::grant::{Charge, GRANTS_MAX, Grant, Purse, TopUp};
use crate::decision::id::{BudgetId, GrantId, WorkspaceId};
use crate::decision::limits::{Limited, Limits};
use crate::decision::period::Period;
use crate::decision::plan::{Budget, Plan};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
pub use crate::ledger::EarlierKey;
use crate::ledger::{Given, Pots, grant_document};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What these changes are called where they are on record.
const GIVE: &str = "grant.give";
const VOID: &str = "grant.void";

/// The budgets that a use falls under and that grants may pay for, by their limits at the moment of the use.
pub(super) fn charges(service: &Service, plan: &Plan, workspace: &Workspace, limits: &Limits, now: Timestamp) -> Vec<Charge> {
    if workspace.granted.is_empty() && workspace.top_ups.is_empty() {
        return Vec::new();
    }
    let charge = |limited: &Limited| {
        let budget = &plan.budgets[limited.budget];
        let is_of_unit = |top_up: &&TopUp| top_up.unit.is_none_or(|unit| unit == budget.unit);
        let top_up = workspace.top_ups.get(&budget.id).filter(is_of_unit);
        Some(Charge {
            budget: budget.id.clone(),
            counter: limits.counters[limited.counter].clone(),
            hard: limited.hard?,
            period: workspace.calendar.period(budget.period, now),
            top_up: top_up.map(|top_up| (*top_up, GrantId::from_uuid(service.clock.uuid()))),
        })
    };
    let granted = limits.budgets.iter().filter(|limited| limited.has_grants);
    granted.filter_map(charge).collect()
}

/// What the grants of each budget of a workspace have left, as the ledger has it now.
pub(super) async fn purses(service: &Service, id: &WorkspaceId) -> Result<Vec<Purse>, FlowError> {
    let Some(workspace) = workspace::find(service, id).await? else {
        return Ok(Vec::new());
    };
    if workspace.granted.is_empty() && workspace.top_ups.is_empty() {
        return Ok(Vec::new());
    }
    let now = service.clock.now();
    let pots = service.ledger.pots(id, now).await?;
    Ok(purses_of(service, &workspace, &pots, now))
}

fn purses_of(service: &Service, workspace: &Workspace, pots: &Pots, now: Timestamp) -> Vec<Purse> {
    let policy = service.policy.load();
    let budgets = policy.plan(workspace.plan_id.as_ref()).map(|plan| plan.budgets.as_slice());
    let granted = budgets
        .unwrap_or_default()
        .iter()
        .filter(|budget| workspace.may_be_granted(&budget.id));
    let purse = |budget: &Budget| pots.purse(&budget.id, budget.unit, now, workspace.calendar.period(budget.period, now));
    granted.map(purse).collect()
}

/// The workspaces of which a grant was given or voided at `from` or later, by the record of it; `limit` records at a time.
pub(super) async fn changed_since(service: &Service, from: Timestamp, limit: usize) -> Result<BTreeSet<WorkspaceId>, FlowError> {
    let mut changed = BTreeSet::new();
    for action in [GIVE, VOID] {
        let mut query = AuditQuery {
            action: Some(action.to_owned()),
            from: Some(from),
            limit,
            ..AuditQuery::default()
        };
        loop {
            let page = audit::list(service, &query).await?;
            query.after = page.last().filter(|_| page.len() == limit).map(|last| (last.changed_at, last.id));
            changed.extend(page.into_iter().filter_map(|record| record.subject.workspace));
            if query.after.is_none() {
                break;
            }
        }
    }
    Ok(changed)
}

/// Copies into the counters what is left.
async fn tell(service: &Service, id: &WorkspaceId) -> Result<(), FlowError> {
    let applied = Applied {
        purses: purses(service, id).await?,
        ..Applied::default()
    };
    // Whoever reads a purse that is too old is told less than there is, until the ledger is asked again.
    if let Err(error) = service.counters.apply(id, &applied, &[], &[], service.clock.now()).await {
        tracing::warn!(workspace = %id, error = &error as &dyn std::error::Error, "the counters do not know of a grant yet");
    }
    Ok(())
}

/// Which budget a grant is for: the one that is named, else the plan's only featureless workspace budget of the unit.
pub fn budget_for<'a>(plan: &'a Plan, id: Option<&BudgetId>, unit: Option<Unit>) -> Result<&'a Budget, FlowError> {
    let refuse = |pointer: &str, detail: String| FlowError::Unacceptable {
        pointer: pointer.to_owned(),
        detail,
    };
    let budget = match id {
        Some(id) => {
            let found = plan.budgets.iter().find(|budget| budget.id == *id);
            found.ok_or_else(|| refuse("/budget_id", format!("plan {} has no budget {id}", plan.id)))?
        }
        None => {
            let fits = |budget: &&Budget| {
                budget.feature.is_none()
                    && budget.scope == crate::decision::plan::Scope::Workspace
                    && !budget.shadow
                    && budget.hard.is_some()
                    && unit.is_none_or(|unit| unit == budget.unit)
            };
            let mut fitting = plan.budgets.iter().filter(fits);
            let of = unit.map_or_else(String::new, |unit| format!(" of {}", unit.as_str()));
            let found = fitting.next().ok_or_else(|| {
                let detail = format!(
                    "plan {} has no workspace budget{of} with a limit and without a feature; name budget_id",
                    plan.id
                );
                refuse("/budget_id", detail)
            })?;
            if let Some(other) = fitting.next() {
                let detail = format!(
                    "plan {} has several such budgets{of}: {} and {}; name budget_id",
                    plan.id, found.id, other.id
                );
                return Err(refuse("/budget_id", detail));
            }
            found
        }
    };
    if unit.is_some_and(|unit| unit != budget.unit) {
        return Err(refuse("/unit", format!("budget {} counts {}", budget.id, budget.unit.as_str())));
    }
    if budget.hard.is_none() {
        return Err(refuse(
            "/budget_id",
            format!("budget {} has no limit that a grant could raise", budget.id),
        ));
    }
    let counts_alike = |other: &&Budget| {
        other.id != budget.id
            && (other.scope, &other.feature, other.unit, other.period) == (budget.scope, &budget.feature, budget.unit, budget.period)
    };
    let first = plan.budgets.iter().filter(|budget| !budget.shadow && budget.hard.is_some());
    if let Some(other) = first.take_while(|other| other.id != budget.id).find(counts_alike) {
        let detail = format!(
            "budget {} counts the same as {}, which comes first in the plan; grant that one",
            budget.id, other.id
        );
        return Err(refuse("/budget_id", detail));
    }
    Ok(budget)
}

/// A grant as it stands.
#[derive(Clone, Debug)]
pub struct Standing {
    pub grant: Grant,
    pub left: i64,
    /// When it changes by itself; `None`: never.
    pub changes_at: Option<Timestamp>,
}

/// Gives a grant. The same key with the same content is the grant that was given first; false: it is that one. Beside it stands the key under
/// which it may have been given not long ago, if there is one.
pub async fn give(
    service: &Service,
    by: &By,
    id: &WorkspaceId,
    (grant, earlier): (Grant, Option<EarlierKey>),
) -> Result<(Standing, bool), FlowError> {
    workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let wanted = grant.clone();
    let subject = Subject::of(id, "grant", grant.id.to_string());
    let after = Some(grant_document(&grant));
    let audited = audit::record(&*service.clock, by, GIVE, subject, None, after);
    let (grant, is_new) = match service.ledger.give(id, grant, earlier, audited).await? {
        Given::New(grant) => (grant, true),
        Given::Known(known) if is_alike(&known, &wanted) => (known, false),
        Given::Known(known) => return Err(FlowError::GrantConflict(known.id)),
        Given::TooMany => {
            return Err(FlowError::Unacceptable {
                pointer: "/budget_id".to_owned(),
                detail: format!(
                    "budget {} has {GRANTS_MAX} grants that have not ended, as many as it may",
                    wanted.budget
                ),
            });
        }
    };
    // Given again, because whoever gave it first may have died before the counters heard of it.
    workspace::refresh(service, id).await?;
    tell(service, id).await?;
    renew::raised(service, id).await;
    Ok((stand(service, id, vec![grant]).await?.remove(0), is_new))
}

/// Whether a grant is what was asked for again, under this key or an earlier one. One whose begin was left open began when it was given.
fn is_alike(known: &Grant, wanted: &Grant) -> bool {
    let began = if wanted.effective_at == wanted.created_at {
        known.created_at
    } else {
        wanted.effective_at
    };
    let anchored = |grant: &Grant| {
        grant
            .recurrence
            .map(|recurrence| (recurrence.interval, recurrence.anchor == grant.effective_at, recurrence.anchor))
    };
    let same_recurrence = match (anchored(known), anchored(wanted)) {
        (Some((interval, true, _)), Some((other, true, _))) => interval == other,
        (one, other) => one == other,
    };
    same_recurrence
        && Grant {
            id: known.id,
            key: known.key.clone(),
            recurrence: known.recurrence,
            effective_at: began,
            created_at: known.created_at,
            voided_at: known.voided_at,
            ..wanted.clone()
        } == *known
}

/// Ends a grant. What it paid stays paid, and what was authorized while it lived is still paid by it.
pub async fn void(service: &Service, by: &By, id: &WorkspaceId, grant: GrantId) -> Result<Grant, FlowError> {
    let now = service.clock.now();
    let known = service.ledger.grant(id, grant).await?.ok_or(FlowError::NotFound)?;
    let (before, after) = (
        grant_document(&known),
        grant_document(&Grant {
            voided_at: Some(now),
            ..known
        }),
    );
    let subject = Subject::of(id, "grant", grant.to_string());
    let audited = audit::record(&*service.clock, by, VOID, subject, Some(before), Some(after));
    let voided = service.ledger.void(id, grant, now, audited).await?;
    let voided = voided.ok_or(FlowError::NotFound)?;
    tell(service, id).await?;
    Ok(voided)
}

/// One grant of a workspace, as it stands.
pub async fn find(service: &Service, id: &WorkspaceId, grant: GrantId) -> Result<Standing, FlowError> {
    let grant = service.ledger.grant(id, grant).await?.ok_or(FlowError::NotFound)?;
    stand(service, id, vec![grant]).await?.pop().ok_or(FlowError::NotFound)
}

/// A page of the grants of a workspace, newest first.
pub async fn list(
    service: &Service,
    id: &WorkspaceId,
    after: Option<(Timestamp, GrantId)>,
    limit: usize,
) -> Result<Vec<Standing>, FlowError> {
    workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let grants = service.ledger.grants(id, after, limit).await?;
    stand(service, id, grants).await
}

/// What a grant has left now.
pub(super) async fn left(service: &Service, id: &WorkspaceId, grant: &Grant) -> Result<i64, FlowError> {
    Ok(stand(service, id, vec![grant.clone()])
        .await?
        .pop()
        .map_or(0, |standing| standing.left))
}

/// How grants stand now.
async fn stand(service: &Service, id: &WorkspaceId, grants: Vec<Grant>) -> Result<Vec<Standing>, FlowError> {
    if grants.is_empty() {
        return Ok(Vec::new());
    }
    let now = service.clock.now();
    let workspace = workspace::find(service, id).await?.ok_or(FlowError::NotFound)?;
    let plan: Option<Arc<Plan>> = service.policy.load().plan(workspace.plan_id.as_ref()).cloned();
    let pots = service.ledger.pots(id, now).await?;
    let period = |grant: &Grant| {
        let budgets = plan.as_ref().map(|plan| plan.budgets.as_slice()).unwrap_or_default();
        let budget = budgets.iter().find(|budget| budget.id == grant.budget);
        budget.map_or(Period::LIFETIME, |budget| workspace.calendar.period(budget.period, now))
    };
    let standing = |grant: Grant| {
        let period = period(&grant);
        let pot = pots.by_budget.get(&grant.budget);
        let left = pot.map_or(0, |pot| pot.left_of(&grant, now, period));
        let changes_at = (now < grant.ends_at()).then(|| grant.changes_after(now, period));
        Standing {
            changes_at: changes_at.filter(|at| *at != Timestamp::MAX),
            left,
            grant,
        }
    };
    Ok(grants.into_iter().map(standing).collect())
}
