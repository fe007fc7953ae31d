//! Reconciles by itself, on one node of all.

use crate::flow::reconcile::{self, EVERY_SECONDS, LEAD};
use crate::flow::{FlowError, Service};
use crate::ledger::Lead;
use std::sync::Arc;
use std::time::Duration;

/// Runs for as long as the process does. The first round comes soon after the start: what a node left behind that went away is found then.
pub(super) async fn run(service: Arc<Service>) {
    let (mut lead, mut number) = (None, 0);
    let mut pause = Duration::from_secs(60);
    loop {
        tokio::time::sleep(pause).await;
        pause = Duration::from_secs(EVERY_SECONDS);
        if let Err(error) = round(&service, &mut lead, &mut number).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what a billing provider has is compared in the next round");
        }
    }
}

async fn round(service: &Service, lead: &mut Option<Box<dyn Lead>>, number: &mut u32) -> Result<(), FlowError> {
    let is_held = match lead {
        Some(lead) => lead.is_held().await,
        None => false,
    };
    if !is_held {
        *lead = service.ledger.try_lead(LEAD).await?;
    }
    if lead.is_some() && !service.policy.load().billing.meters.is_empty() {
        let report = reconcile::round(service, *number).await?;
        *number = number.wrapping_add(1);
        tracing::debug!(
            lines = report.lines.len(),
            unexplained = report.unexplained,
            "billing was reconciled"
        );
    }
    Ok(())
}
