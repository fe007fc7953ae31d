//! Gives a service its billing desk, and runs it: one node of all collects, seals and sends.

use crate::billing::Provider;
use crate::billing::desk::{Desk, Rules};
use crate::billing::reconcile::Reconciler;
use crate::decision::billing::Terms;
use crate::decision::billing::reconcile::Uncounted;
use crate::decision::billing::report::Report;
use crate::decision::inbound::Fetched;
use crate::decision::meter::Meter;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::flow::billing::{self as flow_billing, Done};
use crate::flow::reports as flow_reports;
use crate::flow::{FlowError, Service};
use crate::ledger::audit::{Audited, By};
use crate::ledger::told::Scope;
use crate::ledger::{Lead, LedgerError};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// How often the leading node collects, seals and sends.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// The name under which nodes agree on who does it.
const LEAD: &str = "billing";

/// A desk as flows know it.
struct AtDesk {
    desk: Desk,
    window_seconds: i64,
}

#[async_trait]
impl flow_billing::Desk for AtDesk {
    fn provider(&self) -> &'static str {
        self.desk.provider().name()
    }

    fn terms(&self) -> Terms {
        self.desk.terms()
    }

    fn keeps_credits(&self) -> bool {
        self.desk.provider().keeps_credits()
    }

    async fn begin(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError> {
        self.desk.begin(meters, since).await
    }

    async fn begun_at(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.desk.begun_at().await
    }

    async fn round(&self, meters: &[Meter], since: Timestamp) -> Result<Done, LedgerError> {
        Ok(told(self.desk.round(meters, since).await?))
    }

    async fn round_of_credits(&self) -> Result<Done, LedgerError> {
        Ok(told(self.desk.round_of_credits().await?))
    }

    async fn flush(&self, meters: &[Meter], since: Timestamp, audited: Audited) -> Result<Done, LedgerError> {
        Ok(told(self.desk.flush(meters, since, audited).await?))
    }

    async fn reconcile(&self, meters: &[Meter], scope: Scope) -> Result<Report, LedgerError> {
        self.reconciler(meters).reconcile(&scope).await
    }

    async fn event(&self, id: &str) -> Fetched {
        self.desk.provider().event(id).await
    }

    async fn uncounted(&self, meter: Option<&str>, told: Period, by: &By) -> Result<Uncounted, LedgerError> {
        self.reconciler(&[]).uncounted(meter, told, by).await
    }

    async fn measure(&self) -> Result<(), LedgerError> {
        self.desk.measure().await
    }

    async fn close(&self) {
        self.desk.close().await;
    }
}

impl AtDesk {
    fn reconciler(&self, meters: &[Meter]) -> Reconciler {
        Reconciler {
            ledger: self.desk.ledger().clone(),
            provider: self.desk.provider().clone(),
            clock: self.desk.clock().clone(),
            meters: meters.to_vec(),
            window_seconds: self.window_seconds,
        }
    }
}

const fn told(done: crate::billing::desk::Done) -> Done {
    Done {
        collected: done.collected,
        sealed: done.sealed,
        acknowledged: done.acknowledged,
    }
}

/// Gives a service a desk that tells this provider.
pub fn employ(service: &Service, provider: Arc<dyn Provider>) {
    let options = service.options.billing;
    let rules = Rules {
        window_seconds: options.window_seconds,
        seal_after_seconds: options.seal_after_seconds,
        late_after_seconds: options.late_after_seconds,
    };
    let desk = Desk::new(service.ledger.clone(), provider, service.clock.clone(), rules);
    service.billing.employ(Arc::new(AtDesk {
        desk,
        window_seconds: options.window_seconds,
    }));
}

/// Runs rounds for as long as the process does, whenever this node leads.
pub(super) async fn run(service: Arc<Service>) {
    let mut lead = None;
    let mut credits = tokio::spawn(std::future::ready(()));
    let mut reports = tokio::spawn(std::future::ready(()));
    loop {
        tokio::time::sleep(ROUND_EVERY).await;
        if let Err(error) = round(&service, &mut lead).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what is to be billed waits for the next round");
        }
        // Of those that are lent to a round nobody else takes one, so it may outlast the lead.
        if lead.is_some() && credits.is_finished() {
            credits = tokio::spawn(round_of_credits(service.clone()));
        }
        if lead.is_some() && reports.is_finished() {
            reports = tokio::spawn(round_of_reports(service.clone()));
        }
    }
}

async fn round_of_credits(service: Arc<Service>) {
    if let Err(error) = flow_billing::round_of_credits(&service).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "what was paid for waits for the next round");
    }
}

async fn round_of_reports(service: Arc<Service>) {
    if let Err(error) = flow_reports::round(&service).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "what a billing provider reported waits for the next round");
    }
}

async fn round(service: &Service, lead: &mut Option<Box<dyn Lead>>) -> Result<(), FlowError> {
    let is_held = match lead {
        Some(lead) => lead.is_held().await,
        None => false,
    };
    if !is_held {
        *lead = service.ledger.try_lead(LEAD).await?;
    }
    if lead.is_some() {
        let done = flow_billing::round(service).await?;
        if done != Done::default() {
            let Done {
                collected,
                sealed,
                acknowledged,
            } = done;
            tracing::debug!(collected, sealed, acknowledged, "a round of billing");
        }
    }
    Ok(())
}
