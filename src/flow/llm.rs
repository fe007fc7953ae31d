//! A language model as router: asked for a tier where a rule wants to know, never waited for longer than its budget. What it costs is
//! recorded as usage of the workspace whose request it judged, under a feature of its own, in the background: a crash loses what was asked
//! in the last quarter of a second. A call that comes too late for its decision is recorded all the same.

use super::authorize::Request;
use super::record::{Use, record};
use super::{FlowError, Service};
use crate::decision::catalogue::Catalogue;
use crate::decision::entry::Outcome;
use crate::decision::id::{Feature, RequestId};
use crate::decision::settlement::Report;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::router::Spent;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The feature under which the router's own calls are recorded.
pub const FEATURE: &str = "weir_router";
/// How often what was spent is recorded.
pub const RECORD_EVERY: Duration = Duration::from_millis(250);

/// The tier that the language model chooses; `None`: it did not say, or not in time.
pub(super) async fn tier(service: &Service, request: &Request, catalogue: &Catalogue, now: Timestamp) -> Option<String> {
    let tiers: BTreeSet<&str> = catalogue.models().iter().map(|model| model.tier.as_str()).collect();
    let tiers: Vec<String> = tiers.into_iter().map(str::to_owned).collect();
    if !is_priced(service, catalogue, now) {
        metrics::counter!("weir_router_asked_total", "outcome" => "unpriced").increment(1);
        return None;
    }
    let text = request.text.as_deref()?;
    let id = || service.clock.uuid().simple().to_string();
    service.llm.tier(&request.ask.workspace, text, tiers, id, now).await
}

/// Whether it is known what the language model costs; where it is not, its calls would look free, so it is not asked.
pub fn is_priced(service: &Service, catalogue: &Catalogue, now: Timestamp) -> bool {
    service.llm.model().is_some_and(|model| match catalogue.find(model.as_str()) {
        Some(known) => known.price_at(now).is_some(),
        None => catalogue.default_price.is_some(),
    })
}

/// Records what was spent since, and returns how many calls that were. What the ledger cannot take now is tried again.
pub async fn record_spent(service: &Service) -> Result<usize, FlowError> {
    let mut recorded = 0;
    while let Some(spent) = service.llm.next_spent() {
        match record(service, &usage(&spent)?).await {
            Ok(_) => recorded += 1,
            Err(error @ FlowError::Ledger(LedgerError::Unavailable { .. } | LedgerError::Busy)) => {
                service.llm.keep_spent(spent);
                return Err(error);
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "a call of the router is not recorded"),
        }
    }
    Ok(recorded)
}

fn usage(spent: &Spent) -> Result<Use, FlowError> {
    let named = |why: String| FlowError::Unacceptable {
        pointer: String::new(),
        detail: why,
    };
    Ok(Use {
        workspace: spent.workspace.clone(),
        user: None,
        feature: Feature::parse(FEATURE).map_err(named)?,
        model: spent.model.clone(),
        request_id: RequestId::parse(&format!("{FEATURE}:{}", spent.id)).map_err(named)?,
        occurred_at: Some(spent.at),
        tags: BTreeMap::new(),
        report: Report {
            model: None,
            usage: spent.usage,
            mode: None,
            // No customer asked for it.
            requests: Some(0),
            outcome: Outcome::Success,
            latency_ms: Some(spent.latency_ms),
            provider_request_id: None,
            quality_score: None,
            other_cost_usd: None,
            billable_outcomes: BTreeMap::new(),
        },
    })
}
