//! Reports of usage that the provider took and could not count: their data is asked for, what they name is rejected, and what they do not
//! name is looked for, each in rounds beside those that send.
//!
//! A report is kept when it is heard, in the transaction that says so; what is done about it can be done again. A crash after the data was
//! had and before it was written asks once more; one after a batch was rejected finds it rejected; one before operators were told of what
//! was found beyond the samples leaves that to the batches and the log of changes, which name it.

use super::audit::By;
use super::reconcile::{self, Wanted};
use super::{FlowError, Service};
use crate::decision::billing::delivery::ReasonCode;
use crate::decision::billing::exact::Exact;
use crate::decision::billing::reconcile::{Code, MINUTE_SECONDS, Uncounted};
use crate::decision::billing::report::{Between, Line, NAMED_MAX, Named};
use crate::decision::billing::{Batch, of_identifier};
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::EventId;
use crate::decision::inbound::{self, About, Checked, Fetched, MeterError, Progress, ReportState};
use crate::ledger::inbound::ReportMove;
use serde_json::json;
use std::collections::BTreeMap;

/// How many reports one round looks at.
const REPORTS: usize = 10;

/// What one node of all does each second; how many reports came a step further.
pub async fn round(service: &Service) -> Result<usize, FlowError> {
    let mut moved = 0;
    for report in service.ledger.reports_due(service.clock.now(), REPORTS).await? {
        let from = (report.state, report.tries);
        let (to, errors) = match report.state {
            ReportState::Fetch => fetch(service, report).await,
            ReportState::Check => {
                // What cannot be checked keeps no other report waiting, and is given up in the end.
                let checked = match check(service, report.clone()).await {
                    Ok(checked) => checked,
                    Err(error) => {
                        let again = Checked::Again {
                            at: None,
                            reason: error.to_string(),
                        };
                        report.checked(again, service.clock.now(), chance(service))
                    }
                };
                (checked, Vec::new())
            }
            ReportState::Done | ReportState::GivenUp => continue,
        };
        told(&to);
        let now = service.clock.now();
        let step = ReportMove { from, to, errors, now };
        moved += usize::from(service.ledger.move_report(step).await?);
    }
    let counts = service.ledger.report_counts().await?;
    metrics::gauge!("weir_billing_reports", "state" => "waiting").set(counts.waiting as f64);
    metrics::gauge!("weir_billing_reports", "state" => "given_up").set(counts.given_up as f64);
    Ok(moved)
}

fn chance(service: &Service) -> u32 {
    let mut chance = [0u8; 4];
    service.clock.fill(&mut chance);
    u32::from_be_bytes(chance)
}

/// Asks for a report's data.
async fn fetch(service: &Service, report: Progress) -> (Progress, Vec<MeterError>) {
    let fetched = match service.billing.desk() {
        Some(desk) => desk.event(&report.event).await,
        None => Fetched::Missing("there is no billing provider".to_owned()),
    };
    let now = service.clock.now();
    let (is_missing, seconds, reason) = match fetched {
        Fetched::Found(body) => match inbound::read(&body).map(|event| event.about) {
            Ok(About::MeterErrors(inbound::Report {
                meter,
                findings: Some(findings),
            })) => return (report.found(meter.as_ref(), &findings, now), findings.errors),
            _ => (true, None, "it has no data that is a report".to_owned()),
        },
        Fetched::Missing(reason) => (true, None, reason),
        Fetched::NotNow { seconds, reason } => (false, seconds, reason),
    };
    (report.not_found(is_missing, seconds, reason, now, chance(service)), Vec::new())
}

/// Rejects what a report names, and looks for the rest.
async fn check(service: &Service, report: Progress) -> Result<Progress, FlowError> {
    let by = By {
        actor: format!("stripe:{}", report.event),
        reason: report.kind.clone(),
        request_id: None,
    };
    let errors = service.ledger.reported_by(&report.event).await?;
    super::inbound::reject_batches(service, &report.event, &errors, &by).await?;
    tell(service, &report, "samples", &named(service, &errors).await?).await?;
    let found = match service.billing.desk().filter(|_| report.names_not_all(&errors)) {
        Some(desk) => desk.uncounted(report.meter.as_deref(), report.told(), &by).await?,
        None => Uncounted::default(),
    };
    metrics::counter!("weir_billing_reported_total").increment(found.rejected.len() as u64);
    tell(service, &report, &format!("found {}", report.tries), &found.rejected).await?;
    let checked = match found.wait {
        Some((at, reason)) => Checked::Again { at, reason },
        None => Checked::Done,
    };
    let next = report.checked(checked, service.clock.now(), chance(service));
    if next.next_try_at.is_none() {
        name(service, &found.unclear).await?;
    }
    Ok(next)
}

/// The batches that a report names, as far as it had them rejected.
async fn named(service: &Service, errors: &[MeterError]) -> Result<Vec<Batch>, FlowError> {
    let mut named = BTreeMap::new();
    for (id, generation) in errors.iter().filter_map(|error| of_identifier(error.identifier.as_deref()?)) {
        let batch = service.ledger.batch(id).await?.filter(|batch| {
            let reason = batch.delivery.reason.as_ref();
            batch.delivery.generation == generation && reason.is_some_and(|reason| reason.code == ReasonCode::Reported)
        });
        named.extend(batch.map(|batch| (id, batch)));
    }
    Ok(named.into_values().collect())
}

/// Tells operators, by customer and event name, once of each report and step.
async fn tell(service: &Service, report: &Progress, step: &str, batches: &[Batch]) -> Result<(), FlowError> {
    let mut lines: BTreeMap<(Option<&str>, &str), Vec<&Batch>> = BTreeMap::new();
    for batch in batches {
        let account = (batch.delivery.customer.as_deref(), batch.event_name.as_str());
        lines.entry(account).or_default().push(batch);
    }
    let mut events = Vec::with_capacity(lines.len());
    for ((customer, event_name), batches) in lines {
        let line = line(customer, event_name, &batches);
        let detail = &line.differences[0].detail;
        tracing::warn!(
            event = report.event,
            customer,
            event_name,
            value = line.batches,
            batches = batches.len(),
            detail,
            "Stripe took usage and did not count it: mend what is wrong, then send its batches again"
        );
        let once = format!("billing_report {} {step} {} {event_name}", report.event, customer.unwrap_or("none"));
        let (id, now) = (EventId::from_uuid(service.clock.uuid()), service.clock.now());
        let event = Event::new(id, None, EventType::BillingDifferenceFound, once, now, json!(line));
        events.push(Event {
            audience: Audience::Operator,
            ..event
        });
    }
    if !events.is_empty() {
        service.ledger.append_events(events).await?;
    }
    Ok(())
}

/// These batches as reconcile shows them.
fn line(customer: Option<&str>, event_name: &str, batches: &[&Batch]) -> Line {
    let sum = |of: fn(&Batch) -> Exact| batches.iter().fold(Exact::ZERO, |sum, batch| sum.plus(of(batch)));
    let ledger = sum(|batch| Exact::of(batch.factor, batch.counted));
    let mut line = Line {
        customer: customer.map(str::to_owned),
        event_name: event_name.to_owned(),
        meters: batches.iter().map(|batch| batch.meter.clone()).collect(),
        workspaces: batches.iter().map(|batch| batch.workspace.clone()).collect(),
        ledger,
        batches: batches.iter().fold(0i64, |sum, batch| sum.saturating_add(batch.value())),
        acknowledged: 0,
        told: 0,
        provider: None,
        differences: Vec::new(),
        is_explained: true,
    };
    line.meters.sort();
    line.meters.dedup();
    line.workspaces.sort();
    line.workspaces.dedup();
    let reason = batches.first().and_then(|batch| batch.delivery.reason.as_ref());
    line.differences.push(Named {
        between: Between::LedgerAndBatches,
        code: Code::Rejected,
        value: ledger,
        batches: i64::try_from(batches.len()).unwrap_or(i64::MAX),
        batch_ids: batches.iter().take(NAMED_MAX).map(|batch| batch.id).collect(),
        detail: reason.map_or_else(String::new, |reason| reason.detail.clone()),
    });
    line
}

/// What the provider's sums do not say of each batch, they say of all: reconcile names it.
async fn name(service: &Service, unclear: &[Batch]) -> Result<(), FlowError> {
    let told = || unclear.iter().filter_map(|batch| batch.delivery.told_at);
    let (Some(first), Some(last)) = (told().min(), told().max()) else {
        return Ok(());
    };
    let wanted = Wanted {
        from: Some(first),
        to: Some(last.plus_seconds(MINUTE_SECONDS)),
        ..Wanted::default()
    };
    let report = reconcile::reconcile(service, wanted, &reconcile::by_itself()).await?;
    let (batches, unexplained) = (unclear.len(), report.unexplained);
    tracing::warn!(
        batches,
        unexplained,
        "Stripe reported usage that it could not count, and its sums do not say which"
    );
    Ok(())
}

fn told(report: &Progress) {
    let (event, tries, reason) = (&report.event, report.tries, report.reason.as_deref());
    match report.state {
        ReportState::GivenUp => tracing::error!(
            event,
            tries,
            reason,
            "a report of usage that Stripe could not count was given up: see it there, and let Stripe send it again"
        ),
        ReportState::Fetch | ReportState::Check if reason.is_some() => {
            tracing::info!(event, tries, reason, "a report of usage that Stripe could not count waits");
        }
        _ => {}
    }
}
