//! What was delivered, or was not, once more: one delivery, or what happened in a stretch of time. The events keep their ids, so whoever has
//! them already knows them again. A crash in the middle of a replay leaves the rest undone; the same call again does all of it.

use super::super::audit::{self, By, Subject};
use super::super::{FlowError, Service};
use super::{read, record};
use crate::decision::id::{DeliveryId, WebhookEndpointId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::Delivery;
use crate::ledger::webhooks::Replay;
use serde_json::json;

/// The longest stretch that one call replays.
pub const REPLAY_SECONDS_MAX: i64 = 31 * 24 * 3_600;
/// How many events are looked at in one transaction.
const PAGE_EVENTS: usize = 200;

/// Puts a delivery on its way again, from its first try on.
pub async fn redeliver(service: &Service, id: DeliveryId, bound: Option<&WorkspaceId>, by: &By) -> Result<Delivery, FlowError> {
    let found = service.ledger.delivery(id).await?;
    let visible = found.filter(|delivery| bound.is_none() || delivery.workspace.as_ref() == bound);
    let delivery = visible.ok_or(FlowError::NotFound)?;
    let subject = match &delivery.workspace {
        Some(workspace) => Subject::of(workspace, "webhook_delivery", id.to_string()),
        None => Subject::shared("webhook_delivery", id.to_string()),
    };
    let after = json!({"delivery_id": id, "endpoint_id": delivery.endpoint, "event_id": delivery.event});
    let audited = audit::record(&*service.clock, by, "webhook_delivery.redeliver", subject, None, Some(after));
    if !service.ledger.redeliver(id, service.clock.now(), audited).await? {
        return Err(not_enabled());
    }
    service.ledger.delivery(id).await?.ok_or(FlowError::NotFound)
}

/// Puts what happened from `from` until before `to` on its way to an endpoint, as far as it wants it. Returns how many deliveries that makes.
pub async fn replay(
    service: &Service,
    id: WebhookEndpointId,
    bound: Option<&WorkspaceId>,
    (from, to): (Timestamp, Timestamp),
    by: &By,
) -> Result<usize, FlowError> {
    let endpoint = read(service, id, bound).await?;
    if !endpoint.enabled {
        return Err(not_enabled());
    }
    let mut audited = record(service, by, "replay", Some(&endpoint), Some(&endpoint));
    audited.before = None;
    audited.after = Some(json!({"endpoint_id": id, "from": from, "to": to}));
    let (mut audited, mut after, mut deliveries) = (Some(audited), None, 0);
    loop {
        let page = Replay {
            endpoint: endpoint.clone(),
            from,
            to,
            after,
            limit: PAGE_EVENTS,
            now: service.clock.now(),
            audited: audited.take(),
        };
        let replayed = service.ledger.replay_events(page).await?;
        deliveries += replayed.deliveries;
        match replayed.last {
            Some(last) => after = Some(last),
            None => return Ok(deliveries),
        }
    }
}

fn not_enabled() -> FlowError {
    FlowError::Unacceptable {
        pointer: String::new(),
        detail: "The endpoint is not enabled; enable it first.".to_owned(),
    }
}
