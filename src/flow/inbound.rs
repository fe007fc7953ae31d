//! Inbound: what Stripe tells. Whoever calls has checked that it is Stripe.
//!
//! An event is decided on what is known of its customer, and written with all that follows from it in one transaction, which checks that
//! nothing of that has changed since: two nodes that get the same event at once write it once. A crash before the commit leaves nothing, and
//! Stripe sends the event again; one after it leaves a handled event, and other nodes follow the workspace as they follow any change.
//!
//! A report of refused usage comes without its data, which is not asked for here: Stripe waits for an answer, and the report is kept with its
//! event, so rounds ask for it ([`super::reports`]).
//!
//! An answer that is no error ends it for Stripe. So whatever cannot become better by being sent again (a stale event, a customer that no
//! workspace has, a kind that means nothing here) is recorded, counted and, where an operator should look, told in the log. A workspace that
//! is given the customer later becomes what that bought; once a price has a plan, Stripe's button "resend" makes good what had no effect.

use super::audit::{self, By, Subject};
use super::workspace::told_of;
use super::{DECIDE_AGAIN_MAX, FlowError, Service};
use crate::decision::billing::{Terms, delivery, of_identifier};
use crate::decision::id::{PlanId, WorkspaceId};
use crate::decision::inbound::{self, About, Event, MeterError, Outcome, Progress, Report, Revenue, Subscription};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::billing::{BatchChange, Changed};
use crate::ledger::inbound::{Heard, Receipt, Received};
use serde_json::{Value, json};

/// How long an event is kept: Stripe sends one again for three days, and somebody who looks at what it told may press "resend" later.
const KEEP_SECONDS: i64 = 30 * 86_400;
/// How many events are deleted in one step, and how many steps one round makes.
const PRUNE_ROWS: usize = 1_000;
const PRUNE_SLICES_MAX: usize = 50;

/// Deletes events that cannot come again, in slices that hold no lock for long.
pub async fn prune(service: &Service) -> Result<usize, FlowError> {
    let before = service.clock.now().plus_seconds(-KEEP_SECONDS);
    let mut deleted = 0;
    for _ in 0..PRUNE_SLICES_MAX {
        let slice = service.ledger.prune_inbound(before, PRUNE_ROWS).await?;
        deleted += slice;
        if slice < PRUNE_ROWS {
            break;
        }
    }
    metrics::counter!("weir_inbound_events_pruned_total").increment(deleted as u64);
    Ok(deleted)
}

/// A workspace as the audit log shows it.
pub type Document<'a> = &'a dyn Fn(&Workspace) -> Value;

/// Handles an event once. Returns what became of it, be it earlier.
pub async fn receive(service: &Service, body: &Value, request_id: Option<String>, document: Document<'_>) -> Result<Outcome, FlowError> {
    let event = inbound::read(body).map_err(|unreadable| FlowError::Malformed {
        detail: format!(
            "an event of this kind must have {}, which {}",
            unreadable.pointer, unreadable.detail
        ),
        pointer: unreadable.pointer,
    })?;
    let by = By {
        actor: format!("stripe:{}", event.id),
        reason: event.kind.clone(),
        request_id,
    };
    for _ in 0..DECIDE_AGAIN_MAX {
        let received = decide(service, &event, &by, document).await?;
        let changed: Vec<WorkspaceId> = received.workspaces.iter().map(|(workspace, ..)| workspace.id.clone()).collect();
        let outcome = received.event.outcome;
        match service.ledger.receive(received).await? {
            Receipt::Known(outcome) => {
                // Whoever handled it may have died before the batches heard of it.
                reject(service, &event, &by).await?;
                return Ok(told(outcome, "known"));
            }
            Receipt::Done => {
                reject(service, &event, &by).await?;
                for id in &changed {
                    super::workspace::refresh(service, id).await?;
                    super::renew::raised(service, id).await;
                }
                tell(&event, outcome);
                return Ok(told(outcome, outcome.as_str()));
            }
            // Somebody was faster, or the plan has gone.
            Receipt::Raced => super::policy::follow(service).await.map(drop)?,
        }
    }
    Err(FlowError::Raced {
        what: format!("what event {} is about", event.id),
    })
}

fn told(outcome: Outcome, word: &'static str) -> Outcome {
    metrics::counter!("weir_stripe_events_total", "outcome" => word).increment(1);
    outcome
}

/// What a report that came whole names is rejected at once; the rounds do the rest, and all of it where its data is to be had first.
async fn reject(service: &Service, event: &Event, by: &By) -> Result<(), FlowError> {
    match &event.about {
        About::MeterErrors(Report {
            findings: Some(findings), ..
        }) => reject_batches(service, &event.id, &findings.errors, by).await,
        _ => Ok(()),
    }
}

/// Rejects the batches that a report of refused usage names: what the provider took and could not bill. They can be sent again. A batch that
/// was rejected already, or was sent again since under another identifier, stays as it is.
pub(super) async fn reject_batches(service: &Service, event: &str, errors: &[MeterError], by: &By) -> Result<(), FlowError> {
    let terms = service.billing.desk().map_or(Terms::NONE, |desk| desk.terms());
    for error in errors {
        let named = error.identifier.as_deref().and_then(of_identifier);
        let Some((batch, generation)) = named else { continue };
        let Some(known) = service.ledger.batch(batch).await? else {
            tracing::warn!(
                event,
                identifier = error.identifier,
                "Stripe reports usage of a batch that is not known here"
            );
            continue;
        };
        let reason = format!("{}: {}", error.code, error.message);
        let subject = Subject::of(&known.workspace, "batch", batch.to_string());
        let (was, is) = (
            json!({"state": known.delivery.state}),
            json!({"state": "rejected", "reason": reason}),
        );
        let change = BatchChange {
            batch,
            generation: Some(generation),
            event: delivery::Event::Reported { reason },
            terms,
            now: service.clock.now(),
            audited: Some(audit::record(
                &*service.clock,
                by,
                "billing.batch.report",
                subject,
                Some(was),
                Some(is),
            )),
        };
        match service.ledger.change_batch(change).await? {
            Changed::Done(_) => metrics::counter!("weir_billing_reported_total").increment(1),
            Changed::Refused(batch, why) => tracing::debug!(event, batch = %batch.id, %why, "a report of refused usage changes nothing"),
            Changed::Gone => {}
        }
    }
    Ok(())
}

/// What an operator should look at.
fn tell(event: &Event, outcome: Outcome) {
    let (id, kind) = (event.id.as_str(), event.kind.as_str());
    match (outcome, &event.about) {
        (Outcome::Unmatched, About::Subscription(Subscription { customer, .. }) | About::Revenue { customer, .. }) => {
            tracing::warn!(
                event = id,
                kind,
                customer,
                "no workspace has this stripe_customer_id: set it, then let Stripe send the event again"
            );
        }
        (Outcome::Unmapped, About::Subscription(subscription)) => {
            let prices: Vec<&str> = subscription.items.iter().map(|item| item.price.as_str()).collect();
            tracing::warn!(
                event = id,
                kind,
                ?prices,
                "no price of this subscription is in plans_by_price of billing.yaml: add it, then let Stripe send the event again"
            );
        }
        (_, About::MeterErrors(Report { meter, findings })) => {
            let (code, message) = match findings.as_ref().and_then(|findings| findings.errors.first()) {
                Some(MeterError { code, message, .. }) => (code.as_str(), message.as_str()),
                None => ("", "its data is asked for"),
            };
            let count = findings.as_ref().map(|findings| findings.error_count);
            tracing::warn!(
                event = id,
                ?meter,
                code,
                message,
                count,
                "Stripe could not count usage that it had taken"
            );
        }
        _ => {}
    }
}

/// What follows from an event by what is known now.
async fn decide(service: &Service, event: &Event, by: &By, document: Document<'_>) -> Result<Received, FlowError> {
    let mut received = Received {
        event: Heard {
            id: event.id.clone(),
            kind: event.kind.clone(),
            created_at: event.created,
            received_at: service.clock.now(),
            customer: None,
            outcome: Outcome::Ignored,
        },
        revision: 0,
        subscription: None,
        workspaces: Vec::new(),
        revenue: Vec::new(),
        revenue_of: None,
        meter_errors: Vec::new(),
        report: None,
    };
    match &event.about {
        About::Nothing => {}
        About::MeterErrors(report) => {
            received.event.outcome = Outcome::Applied;
            received.meter_errors = report.findings.as_ref().map(|findings| findings.errors.clone()).unwrap_or_default();
            received.report = Some(Progress::heard(event, report, service.clock.now()));
        }
        About::Revenue { customer, parts } => revenue(service, customer, parts, &mut received).await?,
        About::Subscription(subscription) => {
            let heard = service.ledger.heard(&event.id).await?;
            let had_no_effect = heard.is_some_and(|heard| heard.outcome.may_come_again());
            subscribed(service, (subscription, had_no_effect), &mut received, by, document).await?;
        }
    }
    Ok(received)
}

/// What was paid is kept whoever has the customer by now; of several workspaces of one customer it is the oldest one's.
async fn revenue(service: &Service, customer: &str, parts: &[Revenue], received: &mut Received) -> Result<(), FlowError> {
    let workspaces = service.ledger.workspaces_of_customer(customer).await?;
    received.revision = service.ledger.subscriptions(customer).await?.0;
    received.event.customer = Some(customer.to_owned());
    received.event.outcome = if workspaces.is_empty() {
        Outcome::Unmatched
    } else {
        Outcome::Applied
    };
    received.revenue_of = workspaces.into_iter().next().map(|workspace| workspace.id);
    received.revenue = parts.to_vec();
    Ok(())
}

/// Makes a workspace what its customer bought before it was known whose that is: a checkout tells Stripe first. An event that comes in the very
/// same moment may find no workspace yet, and waits for being sent again.
pub(super) async fn take_over(service: &Service, customer: &str, workspace: &mut Workspace, now: Timestamp) -> Result<(), FlowError> {
    let (_, mut bought) = service.ledger.subscriptions(customer).await?;
    let policy = service.policy.load();
    let plans = &policy.billing.plans_by_price;
    bought
        .iter_mut()
        .for_each(|one| one.remember(plans, None, |plan| policy.plans.contains_key(plan)));
    inbound::apply(&[], &bought, plans, workspace, now);
    Ok(())
}

/// What a subscription makes of each workspace of its customer. One that was told before without effect is written already; no workspace has
/// become anything by it, so to them it is new.
async fn subscribed(
    service: &Service,
    (told, had_no_effect): (&Subscription, bool),
    received: &mut Received,
    by: &By,
    document: Document<'_>,
) -> Result<(), FlowError> {
    let (revision, before) = service.ledger.subscriptions(&told.customer).await?;
    received.revision = revision;
    received.event.customer = Some(told.customer.clone());
    if before.iter().any(|known| known.id == told.id && told.is_older_than(known)) {
        received.event.outcome = Outcome::Stale;
        return Ok(());
    }
    let policy = service.policy.load();
    let plans = &policy.billing.plans_by_price;
    let is_there = |plan: &PlanId| policy.plans.contains_key(plan);
    let mut told = told.clone();
    told.remember(plans, before.iter().find(|known| known.id == told.id), is_there);
    received.subscription = Some(told.clone());
    let mut after: Vec<Subscription> = before.iter().filter(|known| known.id != told.id).cloned().collect();
    after.iter_mut().for_each(|other| other.remember(plans, None, is_there));
    after.push(told.clone());
    let workspaces = service.ledger.workspaces_of_customer(&told.customer).await?;
    received.event.outcome = match (workspaces.is_empty(), told.plan(plans)) {
        (true, _) => Outcome::Unmatched,
        (false, None) => Outcome::Unmapped,
        (false, Some(_)) => Outcome::Unchanged,
    };
    let now = service.clock.now();
    let was = if had_no_effect { &[] } else { before.as_slice() };
    for workspace in workspaces {
        let mut next = workspace.clone();
        inbound::apply(was, &after, plans, &mut next, now);
        if next == workspace {
            continue;
        }
        let version = workspace.version;
        next.version = version + 1;
        next.updated_at = now;
        let subject = Subject::of(&next.id, "workspace", next.id.as_str());
        let (was, is) = (Some(document(&workspace)), Some(document(&next)));
        let audited = audit::record(&*service.clock, by, "workspace.subscription", subject, was, is);
        let events = told_of(service, Some(&workspace), &next);
        received.workspaces.push((next, version, audited, events));
        received.event.outcome = Outcome::Applied;
    }
    Ok(())
}
