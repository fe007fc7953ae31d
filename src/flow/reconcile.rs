//! Reconcile: the ledger, its batches and the provider's sums, side by side; by itself each hour, and whenever somebody asks.
//!
//! The desk that asks the provider is the composition root's ([`super::billing::Desk`]); what is mended is written in the log of changes as
//! the act of whoever asked. A crash costs one round.

use super::{FlowError, Service};
use crate::decision::billing::report::{Outcome, Report};
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::By;
pub use crate::ledger::told::Scope;

/// How often it runs by itself.
pub const EVERY_SECONDS: u64 = 3_600;
/// The name under which nodes agree on who does it.
pub const LEAD: &str = "reconcile";
/// How far back it looks where nobody says: what is late, and what a weekend left behind.
const BACK_SECONDS: i64 = 3 * 86_400;
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
    let meters = service.policy.load().billing.meters.clone();
    let report = desk.reconcile(&meters, scope).await?;
    tell(&report, whole);
    Ok(report)
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
    }
    let count = |outcome| report.repairs.iter().filter(|repair| repair.outcome == outcome).count();
    let (acknowledged, sent_again, left) = (count(Outcome::Acknowledged), count(Outcome::SentAgain), count(Outcome::Left));
    metrics::counter!("weir_billing_reconciled_total", "outcome" => "acknowledged").increment(acknowledged as u64);
    metrics::counter!("weir_billing_reconciled_total", "outcome" => "sent_again").increment(sent_again as u64);
    for line in report.lines.iter().filter(|line| !line.is_explained) {
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
