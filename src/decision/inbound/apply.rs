//! What a customer's subscriptions make of its workspace: plan, seats, billing anchor, status.
//!
//! A customer may have several, one that ends beside one that begins: the one that counts is the one begun last of those that live and
//! stand for a plan. Stripe is who says what was bought, so a plan that an operator set by hand is replaced by the next event. An active
//! workspace is suspended where the subscription that counts begins to owe, so what an operator lets go on meanwhile goes on; and what a
//! subscription suspended goes on once none owes any more. What an operator suspended is his to lift, whatever is paid.

use super::Subscription;
use crate::decision::id::{PlanId, PriceId};
use crate::decision::period::{AnchorDay, Setting};
use crate::decision::time::Timestamp;
use crate::decision::workspace::{SEATS_MAX, Status, Suspender, Workspace};
use std::collections::BTreeMap;

/// The subscription that counts.
pub fn effective<'a>(subscriptions: &'a [Subscription], plans: &BTreeMap<PriceId, PlanId>) -> Option<&'a Subscription> {
    let live = subscriptions.iter().filter(|one| one.is_live() && one.plan(plans).is_some());
    live.max_by_key(|one| (one.started_at, &one.id))
}

/// Makes `workspace` what its customer's subscriptions say now that they were `before` and are `after`. What takes effect with the next period
/// does so as of `now`. When the last one that counted is over, the workspace falls back to the default plan with one seat, unless an operator
/// has moved it elsewhere; a suspension for a debt ends with it, since there is nothing left to owe for. A live one that owes and stands for no
/// plan any more suspends nothing, and lifts nothing.
pub fn apply(
    before: &[Subscription],
    after: &[Subscription],
    plans: &BTreeMap<PriceId, PlanId>,
    workspace: &mut Workspace,
    now: Timestamp,
) {
    let (was, is) = (effective(before, plans), effective(after, plans));
    match (
        is.and_then(|one| Some((one, one.plan(plans)?))),
        was.and_then(|one| one.plan_given(plans)),
    ) {
        (Some((one, (plan, quantity))), _) => {
            workspace.plan_id = Some(plan.clone());
            // What is metered has no quantity, and a quantity of none is still a workspace.
            if let Some(seats) = quantity {
                workspace.seats.change(seats.clamp(1, SEATS_MAX), now);
            }
            anchor(one, workspace, now);
        }
        (None, Some(plan)) if workspace.plan_id.as_ref() == Some(plan) => {
            workspace.plan_id = None;
            workspace.seats.change(1, now);
        }
        (None, _) => {}
    }
    let suspends = |one: Option<&Subscription>| one.is_some_and(Subscription::suspends);
    let owes = match is {
        Some(counts) => counts.suspends(),
        None => after.iter().any(|one| one.is_live() && one.suspends()),
    };
    match (workspace.status, workspace.suspended_by) {
        (Status::Active, _) if suspends(is) && !suspends(was) => workspace.suspend(Suspender::Subscription),
        (Status::Suspended, Some(Suspender::Subscription)) if !owes => workspace.resume(),
        _ => {}
    }
}

/// The day on which the subscription's periods begin, as the workspace's calendar sees it.
fn anchor(subscription: &Subscription, workspace: &mut Workspace, now: Timestamp) {
    let setting = workspace.calendar.setting();
    let of_day = subscription.anchor_day.and_then(|day| AnchorDay::new(day).ok());
    let of_moment = || subscription.anchor_at.map(|at| AnchorDay::of(at, &setting.timezone));
    let Some(day) = of_day.or_else(of_moment).filter(|day| *day != setting.billing_anchor_day) else {
        return;
    };
    let setting = Setting {
        billing_anchor_day: day,
        ..setting.clone()
    };
    workspace.calendar.change(setting, now);
}
