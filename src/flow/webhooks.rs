//! Webhook endpoints as operators set them: made with a secret that is shown once, changed, rotated, deleted, and tried out.
//!
//! A change is one write, with its record in the audit log. A crash after it costs the caller the answer: who lost a secret rotates it.
//! What is delivered is made by `webhooks/`; here only a test is sent, by whatever the composition root has put in ([`Messenger`]).

use super::audit::{self, Audited, By, Subject};
use super::{DECIDE_AGAIN_MAX, FlowError, Service};
use crate::clock::secret_bytes;
use crate::decision::address::Range;
use crate::decision::event::{Event, EventType};
use crate::decision::id::{DeliveryId, EventId, WebhookEndpointId, WorkspaceId};
use crate::decision::notice;
use crate::decision::time::Timestamp;
use crate::decision::webhook::filter::Filter;
use crate::decision::webhook::retry::{Attempt, Disable};
use crate::decision::webhook::seal::{SealKey, Sealed};
use crate::decision::webhook::sign::Secret;
use crate::decision::webhook::{Delivery, ENDPOINTS_MAX, Endpoint, Outgoing, REPLACED_MAX, State, url};
pub use crate::ledger::webhooks::{DeliveryQuery, EndpointQuery, PAGE_WEBHOOKS_MAX, Whose};
use crate::ledger::webhooks::{Put, Subscribers};
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Semaphore;

mod again;
mod trial;

pub use again::{REPLAY_SECONDS_MAX, redeliver, replay};

/// How many tests a node sends at once.
const TESTS_AT_ONCE_MAX: usize = 16;

/// What can make one try. The only way from here to the outside.
#[async_trait]
pub trait Messenger: Send + Sync {
    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Attempt;
}

/// A service's messenger, and room for those who try endpoints out.
pub struct Messages {
    messenger: Option<Box<dyn Messenger>>,
    tests: Semaphore,
    trials: trial::Trials,
}

impl Messages {
    pub fn through(messenger: Option<Box<dyn Messenger>>) -> Self {
        Self {
            messenger,
            tests: Semaphore::new(TESTS_AT_ONCE_MAX),
            trials: trial::Trials::default(),
        }
    }
}

/// An endpoint as its caller describes it.
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    pub workspace: Option<WorkspaceId>,
    pub url: String,
    pub events: Vec<Filter>,
    pub description: Option<String>,
    pub enabled: bool,
}

/// Takes over for which workspaces each use is to be told, and each expiry.
pub async fn follow(service: &Service) -> Result<(), FlowError> {
    let Subscribers { usage, expired } = service.ledger.event_subscribers().await?;
    service.telling.want_usage_recorded(usage.into());
    service.telling.want_expired(expired.into());
    Ok(())
}

/// Makes an endpoint, and a secret that is not to be had again. What an operator has opened of a network of his own is not for those who are
/// bound to a workspace: they would be shown what answers there.
pub async fn create(
    service: &Service,
    described: Described,
    bound: Option<&WorkspaceId>,
    by: &By,
) -> Result<(Endpoint, String), FlowError> {
    check_url(service, &described.url, bound)?;
    let id = WebhookEndpointId::from_uuid(service.clock.uuid());
    let (shown, secret) = new_secret(service, id)?;
    let endpoint = Endpoint {
        id,
        workspace: described.workspace,
        url: described.url,
        events: described.events,
        description: described.description,
        enabled: described.enabled,
        disabled: None,
        secret,
        replaced: Vec::new(),
        created_by: by.actor.clone(),
        created_at: service.clock.now(),
        reaches_opened: bound.is_none(),
        version: 1,
    };
    let audited = record(service, by, "create", None, Some(&endpoint));
    match service.ledger.put_webhook_endpoint(&endpoint, 0, ENDPOINTS_MAX, audited).await? {
        Put::Done => {
            // What does not work here the background does within two seconds.
            follow(service).await.ok();
            Ok((endpoint, shown))
        }
        Put::TooMany => Err(FlowError::Unacceptable {
            pointer: "/workspace_id".to_owned(),
            detail: format!("has {ENDPOINTS_MAX} endpoints, which is as many as there may be; delete one first"),
        }),
        // Ids are made of chance.
        Put::Raced => Err(raced(id)),
    }
}

/// The endpoint, if whoever is bound to a workspace may see it.
pub async fn read(service: &Service, id: WebhookEndpointId, bound: Option<&WorkspaceId>) -> Result<Endpoint, FlowError> {
    let found = service.ledger.webhook_endpoint(id).await?;
    let visible = found.filter(|endpoint| bound.is_none() || endpoint.workspace.as_ref() == bound);
    visible.ok_or(FlowError::NotFound)
}

/// Endpoints, newest first.
pub async fn list(service: &Service, query: &EndpointQuery) -> Result<Vec<Endpoint>, FlowError> {
    Ok(service.ledger.webhook_endpoints(query).await?)
}

/// Changes what its caller describes. `described` is made of the endpoint as it is; what it belongs to stays.
pub async fn change(
    service: &Service,
    id: WebhookEndpointId,
    bound: Option<&WorkspaceId>,
    by: &By,
    described: impl Fn(&Endpoint) -> Result<Described, FlowError>,
) -> Result<Endpoint, FlowError> {
    replace(service, id, bound, by, "patch", |stored, _| {
        let described = described(stored)?;
        if described.workspace != stored.workspace {
            return Err(FlowError::Unacceptable {
                pointer: "/workspace_id".to_owned(),
                detail: "cannot be changed; make another endpoint".to_owned(),
            });
        }
        let is_moved = described.url != stored.url;
        if is_moved {
            check_url(service, &described.url, bound)?;
        }
        Ok(Endpoint {
            reaches_opened: if is_moved { bound.is_none() } else { stored.reaches_opened },
            url: described.url,
            events: described.events,
            description: described.description,
            enabled: described.enabled,
            disabled: stored.disabled.clone().filter(|_| !described.enabled),
            version: stored.version + 1,
            ..stored.clone()
        })
    })
    .await
}

/// Gives an endpoint another secret. The one that it has now signs too for `overlap_seconds` more, as long as not too many do.
pub async fn rotate(
    service: &Service,
    id: WebhookEndpointId,
    bound: Option<&WorkspaceId>,
    overlap_seconds: i64,
    by: &By,
) -> Result<(Endpoint, String), FlowError> {
    let (shown, sealed) = new_secret(service, id)?;
    let rotated = replace(service, id, bound, by, "rotate", |stored, now| {
        let rotated = stored.rotated(sealed.clone(), now, now.plus_seconds(overlap_seconds));
        rotated.map_err(|ends| FlowError::Unacceptable {
            pointer: "/overlap_seconds".to_owned(),
            detail: format!(
                "{REPLACED_MAX} replaced secrets sign beside the present one, which is as many as there may be; rotate after {ends}, when the \
                 first of them ends, or with 0"
            ),
        })
    });
    Ok((rotated.await?, shown))
}

/// Deletes an endpoint. What waits for it ends.
pub async fn delete(service: &Service, id: WebhookEndpointId, bound: Option<&WorkspaceId>, by: &By) -> Result<(), FlowError> {
    for _ in 0..DECIDE_AGAIN_MAX {
        let stored = read(service, id, bound).await?;
        let audited = record(service, by, "delete", Some(&stored), None);
        let now = service.clock.now();
        if service.ledger.delete_webhook_endpoint(id, stored.version, now, audited).await? {
            follow(service).await.ok();
            return Ok(());
        }
    }
    Err(raced(id))
}

/// Sends a test now, whether or not the endpoint is enabled, and says what came back. It is in the log of deliveries like any other, is not
/// tried again by itself, and says nothing about whether the endpoint fails.
pub async fn test(service: &Service, id: WebhookEndpointId, bound: Option<&WorkspaceId>) -> Result<Delivery, FlowError> {
    let endpoint = read(service, id, bound).await?;
    let secrets = endpoint
        .secrets(key(service)?, service.clock.now())
        .ok_or_else(|| FlowError::Unacceptable {
            pointer: String::new(),
            detail: "The endpoint's secret cannot be opened with the WEIR_SECRET_KEY of this service; rotate it.".to_owned(),
        })?;
    let trials = &service.messages.trials;
    trials.count(id, service.clock.now()).map_err(FlowError::TooFast)?;
    // Nobody closes it.
    let _place = service.messages.tests.acquire().await;
    let (event, now) = (EventId::from_uuid(service.clock.uuid()), service.clock.now());
    let data = json!({
        "workspace_id": endpoint.workspace,
        "endpoint_id": endpoint.id,
        "message": "A test: the endpoint is reached, and what it is sent can be verified.",
    });
    let told = Event::new(event, endpoint.workspace.clone(), EventType::WebhookTest, String::new(), now, data);
    let body = json!(told.body()).to_string();
    let outgoing = Outgoing::new(&endpoint, event, &body, &secrets, now);
    let mut attempt = match &service.messages.messenger {
        Some(messenger) => messenger.send(&outgoing, now).await,
        None => return Err(FlowError::NotFound),
    };
    attempt.at = service.clock.now();
    let delivery = Delivery {
        id: DeliveryId::of(id, event, now),
        endpoint: id,
        workspace: endpoint.workspace,
        event,
        kind: EventType::WebhookTest.as_str().to_owned(),
        body,
        state: if attempt.is_success() { State::Delivered } else { State::Failed },
        reason: None,
        created_at: now,
        due_at: attempt.at,
        tries: 1,
        last: Some(attempt),
    };
    service.ledger.log_delivery(delivery.clone()).await?;
    Ok(delivery)
}

/// Deliveries, newest first.
pub async fn deliveries(service: &Service, query: &DeliveryQuery) -> Result<Vec<Delivery>, FlowError> {
    Ok(service.ledger.deliveries(query).await?)
}

/// A delivery with its tries, oldest first and numbered, if whoever is bound to a workspace may see it.
pub async fn delivery(
    service: &Service,
    id: DeliveryId,
    bound: Option<&WorkspaceId>,
) -> Result<(Delivery, Vec<(u32, Attempt)>), FlowError> {
    let found = service.ledger.delivery(id).await?;
    let visible = found.filter(|delivery| bound.is_none() || delivery.workspace.as_ref() == bound);
    let delivery = visible.ok_or(FlowError::NotFound)?;
    Ok((delivery, service.ledger.delivery_attempts(id).await?))
}

/// What people are told when an endpoint is disabled: in the words of its workspace's plan, or in the policy's where there is none. What cannot be
/// looked up keeps nobody from being told.
pub async fn disabled_message(service: &Service, endpoint: &Endpoint, why: Disable) -> String {
    let workspace = match &endpoint.workspace {
        Some(id) => super::workspace::find(service, id).await.unwrap_or_default(),
        None => None,
    };
    let policy = service.policy.load();
    let plan = workspace.and_then(|workspace| policy.plan(workspace.plan_id.as_ref()));
    let voice = policy.voice(None, plan.map(|plan| &**plan));
    notice::endpoint_disabled(voice, &endpoint.host(), why)
}

/// Changes an endpoint that is there.
async fn replace(
    service: &Service,
    id: WebhookEndpointId,
    bound: Option<&WorkspaceId>,
    by: &By,
    verb: &str,
    change: impl Fn(&Endpoint, Timestamp) -> Result<Endpoint, FlowError>,
) -> Result<Endpoint, FlowError> {
    for _ in 0..DECIDE_AGAIN_MAX {
        let stored = read(service, id, bound).await?;
        let next = change(&stored, service.clock.now())?;
        let audited = record(service, by, verb, Some(&stored), Some(&next));
        let put = service.ledger.put_webhook_endpoint(&next, stored.version, ENDPOINTS_MAX, audited);
        if put.await? == Put::Done {
            follow(service).await.ok();
            return Ok(next);
        }
    }
    Err(raced(id))
}

fn check_url(service: &Service, text: &str, bound: Option<&WorkspaceId>) -> Result<(), FlowError> {
    let opened: &[Range] = match bound {
        Some(_) => &[],
        None => &service.options.webhooks.allowed,
    };
    let checked = url::parse_endpoint(text, opened);
    checked.map(drop).map_err(|why| FlowError::Unacceptable {
        pointer: "/url".to_owned(),
        detail: why,
    })
}

fn key(service: &Service) -> Result<&SealKey, FlowError> {
    service.options.webhooks.seal.as_deref().ok_or_else(|| FlowError::Unacceptable {
        pointer: String::new(),
        detail: "This service has no secret to seal those of endpoints with; set WEIR_SECRET_KEY (32 bytes or more) and start it again."
            .to_owned(),
    })
}

/// A secret as it is shown, and as it is kept.
fn new_secret(service: &Service, of: WebhookEndpointId) -> Result<(String, Sealed), FlowError> {
    let key = key(service)?;
    let secret = Secret::new(secret_bytes()?);
    Ok((secret.shown(), key.seal(of, &secret, secret_bytes()?)))
}

fn record(service: &Service, by: &By, verb: &str, before: Option<&Endpoint>, after: Option<&Endpoint>) -> Audited {
    let of = before.or(after);
    let id = of.map(|endpoint| endpoint.id.to_string()).unwrap_or_default();
    let subject = match of.and_then(|endpoint| endpoint.workspace.as_ref()) {
        Some(workspace) => Subject::of(workspace, "webhook_endpoint", id),
        None => Subject::shared("webhook_endpoint", id),
    };
    let action = format!("webhook_endpoint.{verb}");
    audit::record(
        &*service.clock,
        by,
        action,
        subject,
        before.map(Endpoint::document),
        after.map(Endpoint::document),
    )
}

fn raced(id: WebhookEndpointId) -> FlowError {
    FlowError::Raced {
        what: format!("webhook endpoint {id}"),
    }
}
