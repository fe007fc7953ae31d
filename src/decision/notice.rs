//! The sentences of events: what happened, what still works, when it ends and what to do.

use super::amount::Ratio;
use super::counter::{Counter, Whose};
use super::grant::Grant;
use super::id::{PlanId, WorkspaceId};
use super::level::{Level, LevelName};
use super::message::{amount, for_period, renews, utc};
use super::plan::{AtHard, Budget};
use super::time::Timestamp;

/// A level of a budget was reached.
pub fn reached(workspace: &WorkspaceId, budget: &Budget, counter: &Counter, level: Level, hard: Option<i64>) -> String {
    let who = who(workspace, counter);
    let (period, renews) = (for_period(counter), renews(counter));
    let of = amount(budget.unit, hard.unwrap_or(level.at));
    match level.name {
        LevelName::Share(share) => format!("{who} has used {} of its {of}{period}.{renews}", percent(share)),
        LevelName::Soft => {
            let at = amount(budget.unit, level.at);
            format!(
                "{who} has used {at}{period}, the soft limit of budget {}. Requests go on up to {of}.{renews}",
                budget.id
            )
        }
        LevelName::Hard => {
            let then = match budget.at_hard {
                AtHard::Deny => "Further requests are denied.",
                AtHard::Overage => "Further requests are billed as overage.",
            };
            format!("{who} has used its {of}{period}. {then}{renews}")
        }
    }
}

/// A budget is below its limit again.
pub fn renewed(workspace: &WorkspaceId, budget: &Budget, counter: &Counter, left: Option<i64>) -> String {
    let who = who(workspace, counter);
    match left {
        Some(left) => format!(
            "{who} has {} left{} of budget {}.",
            amount(budget.unit, left),
            for_period(counter),
            budget.id
        ),
        None => format!("Budget {} of {who} has begun anew{}.", budget.id, for_period(counter)),
    }
}

/// At this pace it runs out.
pub fn forecast(workspace: &WorkspaceId, budget: &Budget, counter: &Counter, hard: i64, at: Timestamp) -> String {
    format!(
        "At this pace {} will have used its {}{} on {}.{}",
        who(workspace, counter),
        amount(budget.unit, hard),
        for_period(counter),
        utc(at).date(),
        renews(counter)
    )
}

pub fn grant_expiring(workspace: &WorkspaceId, grant: &Grant, left: i64, at: Timestamp) -> String {
    format!(
        "Workspace {workspace} has {} left of a grant for budget {}, which ends on {}.",
        amount(grant.unit, left),
        grant.budget,
        utc(at).date()
    )
}

pub fn plan_changed(workspace: &WorkspaceId, from: Option<&PlanId>, to: Option<&PlanId>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("Workspace {workspace} is on plan {to} now; it was on {from}. What was used counts on."),
        (None, Some(to)) => format!("Workspace {workspace} is on plan {to} now. What was used counts on."),
        (_, None) => format!("Workspace {workspace} is on no plan any more."),
    }
}

pub fn suspended(workspace: &WorkspaceId) -> String {
    format!("Workspace {workspace} is suspended: no request is allowed. What is still running can be settled.")
}

pub fn expired(charged: bool) -> String {
    match charged {
        true => "A reservation ran out before it was settled, and what it had told or held was recorded.".to_owned(),
        false => "A reservation ran out before it was settled. What it held is free again; it can still be settled late.".to_owned(),
    }
}

fn who(workspace: &WorkspaceId, counter: &Counter) -> String {
    let feature = counter
        .feature
        .as_ref()
        .map(|feature| format!(" for {feature}"))
        .unwrap_or_default();
    match &counter.whose {
        Whose::Workspace => format!("Workspace {workspace}{feature}"),
        Whose::User(Some(user)) => format!("User {user} of workspace {workspace}{feature}"),
        Whose::User(None) => format!("The unnamed user of workspace {workspace}{feature}"),
    }
}

fn percent(share: Ratio) -> String {
    let parts = share.ten_thousandths();
    match (parts / 100, parts % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, rest) => format!("{whole}.{} %", format!("{rest:02}").trim_end_matches('0')),
    }
}
