//! Reconcile: the ledger, its batches and the provider's sums, side by side; by itself each hour, and whenever somebody asks.
//!
//! The desk that asks the provider is the composition root's ([`super::billing::Desk`]); what is mended is written in the log of changes as
//! the act of whoever asked. A crash costs one round.

use super::{FlowError, Service};
use crate::decision::billing::reconcile::Code;
use crate::decision::billing::report::{Line, Named, Outcome, Report};
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::{EventId, MeterId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::By;
pub use crate::ledger::told::Scope;
use serde_json::json;

/// How often it runs by itself.
pub const EVERY_SECONDS: u64 = 3_600;
/// The name under which nodes agree on who does it.
pub const LEAD: &str = "reconcile";
/// How far back it looks where nobody says: what is late, and what a weekend left behind.
const BACK_SECONDS: i64 = 3 * 86_400;
/// In which of the rounds by itself it looks as far back as use may be told late, and how far that is.
pub const FAR_EVERY_ROUNDS: u32 = 24;
const FAR_SECONDS: i64 = 36 * 86_400;
/// The longest stretch: providers are told of nothing older than 35 days, and late use is told after that.
const STRETCH_SECONDS_MAX: i64 = 70 * 86_400;

/// What to reconcile; whatever is not said is all of it.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub workspace: Option<WorkspaceId>,
    pub meter: Option<MeterId>,
}

/// Compares, mends, and tells of what has no explanation.
pub async fn reconcile(service: &Service, wanted: Wanted, by: &By) -> Result<Report, FlowError> {
    let desk = service.billing.desk().ok_or(FlowError::NotFound)?;
    if let Some(workspace) = &wanted.workspace
        && service.ledger.workspace(workspace).await?.is_none()
    {
        return Err(FlowError::NotFound);
    }
    let whole = wanted.workspace.is_none() && wanted.meter.is_none() && wanted.from.is_none() && wanted.to.is_none();
    let scope = scope(wanted, service.clock.now(), by)?;
    super::billing::begin(service).await?;
    let meters = service.policy.load().billing.meters.clone();
    let report = desk.reconcile(&meters, scope).await?;
    tell(&report, whole);
    let found: Vec<Event> = report
        .lines
        .iter()
        .filter(|line| line.needs_an_eye())
        .map(|line| event(service, line))
        .collect();
    if !found.is_empty() {
        service.ledger.append_events(found).await?;
    }
    Ok(report)
}

/// A round by itself. Each day one of them looks at all that may still be told, so that a difference which nobody mended does not go from sight
/// with its third day.
pub async fn round(service: &Service, number: u32) -> Result<Report, FlowError> {
    if !number.is_multiple_of(FAR_EVERY_ROUNDS) {
        return reconcile(service, Wanted::default(), &by_itself()).await;
    }
    let wanted = Wanted {
        from: Some(service.clock.now().plus_seconds(-FAR_SECONDS)),
        ..Wanted::default()
    };
    let report = reconcile(service, wanted, &by_itself()).await?;
    metrics::gauge!("weir_billing_unexplained_far").set(report.unexplained as f64);
    Ok(report)
}

/// Told once a month for each customer, or workspace without one, event name and difference, however often it is found.
fn event(service: &Service, line: &Line) -> Event {
    let told = line.differences.iter().filter(|named| named.needs_an_eye());
    let word = |named: &Named| match named.code {
        // It grows each hour, and is one matter.
        Code::CustomerUnknown => named.code.as_str().to_owned(),
        _ => named.value.to_string(),
    };
    let values: Vec<String> = told.map(word).collect();
    let who = match &line.customer {
        Some(customer) => customer.clone(),
        None => format!("of {}", line.workspaces.first().map_or("nobody", |workspace| workspace.as_str())),
    };
    let month = service.clock.now().to_jiff().strftime("%Y-%m").to_string();
    let once = format!("billing_difference {month} {who} {} {}", line.event_name, values.join("_"));
    let id = EventId::from_uuid(service.clock.uuid());
    let event = Event::new(id, None, EventType::BillingDifferenceFound, once, service.clock.now(), json!(line));
    Event {
        audience: Audience::Operator,
        ..event
    }
}

/// As it runs by itself.
pub fn by_itself() -> By {
    By {
        actor: "weir".to_owned(),
        reason: "hourly reconcile".to_owned(),
        request_id: None,
    }
}

/// What is left open is three days, of all workspaces and meters.
pub fn scope(wanted: Wanted, now: Timestamp, by: &By) -> Result<Scope, FlowError> {
    let refuse = |pointer: &str, detail: String| FlowError::Unacceptable {
        pointer: pointer.to_owned(),
        detail,
    };
    let to = wanted.to.unwrap_or(now).min(now);
    let from = wanted.from.unwrap_or(to.plus_seconds(-BACK_SECONDS));
    if from >= to {
        return Err(refuse("/from", "it must be before `to` and before now".to_owned()));
    }
    if from.seconds_until(to) > STRETCH_SECONDS_MAX {
        return Err(refuse(
            "/from",
            format!("at most {} days are reconciled at once", STRETCH_SECONDS_MAX / 86_400),
        ));
    }
    Ok(Scope {
        from,
        to,
        workspace: wanted.workspace,
        meter: wanted.meter,
        by: by.clone(),
    })
}

fn tell(report: &Report, is_whole: bool) {
    if is_whole {
        metrics::gauge!("weir_billing_unexplained").set(report.unexplained as f64);
        for (name, code) in [
            ("weir_billing_customer_unknown", Code::CustomerUnknown),
            ("weir_billing_sent_again", Code::SentAgain),
        ] {
            let has = |line: &&Line| line.differences.iter().any(|named| named.code == code && named.needs_an_eye());
            metrics::gauge!(name).set(report.lines.iter().filter(has).count() as f64);
        }
    }
    let count = |outcome| report.repairs.iter().filter(|repair| repair.outcome == outcome).count();
    let (acknowledged, sent_again, left) = (count(Outcome::Acknowledged), count(Outcome::SentAgain), count(Outcome::Left));
    metrics::counter!("weir_billing_reconciled_total", "outcome" => "acknowledged").increment(acknowledged as u64);
    metrics::counter!("weir_billing_reconciled_total", "outcome" => "sent_again").increment(sent_again as u64);
    for line in report.lines.iter().filter(|line| line.needs_an_eye()) {
        let (customer, event_name) = (line.customer.as_deref().unwrap_or("none"), &line.event_name);
        let differences: Vec<String> = line
            .differences
            .iter()
            .map(|named| format!("{} {}: {}", named.code.as_str(), named.value, named.detail))
            .collect();
        tracing::warn!(
            customer,
            event_name,
            ledger = %line.ledger,
            told = line.told,
            provider = ?line.provider,
            differences = differences.join("; "),
            "billing does not add up; see POST /v1/admin/billing/reconcile"
        );
    }
    if left > 0 {
        tracing::warn!(left, "batches of unknown fate stay so; see POST /v1/admin/billing/reconcile");
    }
}
