//! Gives a service its billing desk, and runs it: one node of all collects, seals and sends.

use crate::billing::Provider;
use crate::billing::desk::{Desk, Rules};
use crate::decision::billing::Terms;
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::flow::billing::{self as flow_billing, Done};
use crate::flow::{FlowError, Service};
use crate::ledger::audit::Audited;
use crate::ledger::{Lead, LedgerError};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// How often the leading node collects, seals and sends.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// The name under which nodes agree on who does it.
const LEAD: &str = "billing";

/// A desk as flows know it.
struct AtDesk(Desk);

#[async_trait]
impl flow_billing::Desk for AtDesk {
    fn provider(&self) -> &'static str {
        self.0.provider().name()
    }

    fn terms(&self) -> Terms {
        self.0.terms()
    }

    async fn begin(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError> {
        self.0.begin(meters, since).await
    }

    async fn round(&self, meters: &[Meter], since: Timestamp) -> Result<Done, LedgerError> {
        Ok(told(self.0.round(meters, since).await?))
    }

    async fn flush(&self, meters: &[Meter], since: Timestamp, audited: Audited) -> Result<Done, LedgerError> {
        Ok(told(self.0.flush(meters, since, audited).await?))
    }

    async fn measure(&self) -> Result<(), LedgerError> {
        self.0.measure().await
    }

    async fn close(&self) {
        self.0.close().await;
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
    service.billing.employ(Arc::new(AtDesk(desk)));
}

/// Runs rounds for as long as the process does, whenever this node leads.
pub(super) async fn run(service: Arc<Service>) {
    let mut lead = None;
    loop {
        tokio::time::sleep(ROUND_EVERY).await;
        if let Err(error) = round(&service, &mut lead).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what is to be billed waits for the next round");
        }
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
