//! Webhooks: endpoints that are told of events, and the deliveries that tell them. The format is that of Standard Webhooks.

use super::event::EventType;
use super::id::{DeliveryId, EventId, WebhookEndpointId, WorkspaceId};
use super::time::Timestamp;
use filter::Filter;
use retry::{Attempt, Disable};
use seal::{SealKey, Sealed};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sign::Secret;

pub mod filter;
pub mod retry;
pub mod seal;
pub mod sign;
pub mod url;

/// The most endpoints of a workspace, and of those that are told of all workspaces.
pub const ENDPOINTS_MAX: usize = 32;
pub const DESCRIPTION_CHARS_MAX: usize = 256;
/// The longest time for which a replaced secret goes on to sign.
pub const OVERLAP_SECONDS_MAX: i64 = 30 * 24 * 3_600;
/// How many replaced secrets go on to sign at once.
pub const REPLACED_MAX: usize = 4;
/// Why a delivery was cancelled that had been due for too long.
pub const TOO_OLD: &str = "too_old";

/// Where a customer's system, or an operator's, is told of events.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    pub id: WebhookEndpointId,
    /// Whose events it is told; `None`: those of all workspaces, and of none.
    pub workspace: Option<WorkspaceId>,
    pub url: String,
    pub events: Vec<Filter>,
    /// For people.
    pub description: Option<String>,
    pub enabled: bool,
    /// Why and when it was disabled, unless somebody asked for it.
    pub disabled: Option<(String, Timestamp)>,
    pub secret: Sealed,
    /// Newest first. Those whose time is over go with the next rotation.
    pub replaced: Vec<Replaced>,
    pub created_by: String,
    pub created_at: Timestamp,
    /// Who gave it its URL was not bound to a workspace, so it may lead to what an operator has opened of a network of his own.
    pub reaches_opened: bool,
    /// Rises with each change.
    pub version: u32,
}

/// A secret that was replaced, and signs beside the new one for a while.
#[derive(Clone, PartialEq, Debug)]
pub struct Replaced {
    pub secret: Sealed,
    /// Exclusive.
    pub until: Timestamp,
}

impl Replaced {
    fn signs(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

impl Endpoint {
    /// With another secret from `now` on; the one that it has now signs too until `until`, and those before it as long as they were given. `Err`:
    /// as many as may sign already do, and the first of them ends then.
    pub fn rotated(&self, secret: Sealed, now: Timestamp, until: Timestamp) -> Result<Self, Timestamp> {
        let last = Replaced {
            secret: self.secret.clone(),
            until,
        };
        let all = std::iter::once(&last).chain(&self.replaced);
        let replaced: Vec<Replaced> = all.filter(|replaced| replaced.signs(now)).cloned().collect();
        if replaced.len() > REPLACED_MAX {
            let ends = self.replaced.iter().filter(|replaced| replaced.signs(now));
            return Err(ends.map(|replaced| replaced.until).min().unwrap_or(now));
        }
        Ok(Self {
            secret,
            replaced,
            version: self.version + 1,
            ..self.clone()
        })
    }

    /// When the last of the secrets that were replaced ends; `None`: only the present one signs.
    pub fn replaced_until(&self, now: Timestamp) -> Option<Timestamp> {
        let signing = self.replaced.iter().filter(|replaced| replaced.signs(now));
        signing.map(|replaced| replaced.until).max()
    }

    /// What its callers are shown, and the audit log: no secret, sealed or not.
    pub fn document(&self) -> Value {
        json!({
            "endpoint_id": self.id,
            "workspace_id": self.workspace,
            "url": self.url,
            "events": self.events.iter().map(Filter::as_str).collect::<Vec<_>>(),
            "description": self.description,
            "enabled": self.enabled,
            "disabled_reason": self.disabled.as_ref().map(|(reason, _)| reason),
            "replaced_secret_expires_at": self.replaced.iter().map(|replaced| replaced.until).max(),
        })
    }

    /// The host of its URL, which says enough of it to people who may not see the rest.
    pub fn host(&self) -> String {
        url::host_of(&self.url)
    }

    /// Whether it names the event that there is for each use.
    pub fn wants_usage(&self) -> bool {
        filter::passes(&self.events, EventType::UsageRecorded)
    }

    /// Whether it is told of reservations that expire, which have to be watched for it.
    pub fn wants_expired(&self) -> bool {
        filter::passes(&self.events, EventType::ReservationExpired)
    }

    /// What a try at `now` is signed with, newest first; `None`: a secret cannot be opened with this key.
    pub fn secrets(&self, key: &SealKey, now: Timestamp) -> Option<Vec<Secret>> {
        let replaced = self.replaced.iter().filter(|replaced| replaced.signs(now));
        let sealed = std::iter::once(&self.secret).chain(replaced.map(|replaced| &replaced.secret));
        sealed.map(|sealed| key.open(self.id, sealed)).collect()
    }
}

/// How a delivery stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A try is due, or runs.
    Pending,
    Delivered,
    /// No try is left.
    Failed,
    /// It is not tried any more, for a reason that is given.
    Cancelled,
}

impl State {
    pub const ALL: [State; 4] = [State::Pending, State::Delivered, State::Failed, State::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Delivered => "delivered",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An event on its way to an endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    pub id: DeliveryId,
    pub endpoint: WebhookEndpointId,
    /// The endpoint's.
    pub workspace: Option<WorkspaceId>,
    /// On every try, and on every replay, the same.
    pub event: EventId,
    pub kind: String,
    /// As it is sent.
    pub body: String,
    pub state: State,
    /// Of what was cancelled.
    pub reason: Option<String>,
    pub created_at: Timestamp,
    /// Of the next try.
    pub due_at: Timestamp,
    /// Since it was last put on its way.
    pub tries: u32,
    pub last: Option<Attempt>,
}

/// A request as it leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    pub url: String,
    pub id: String,
    pub unix_seconds: i64,
    pub signatures: String,
    pub body: String,
    /// Whether what an operator has opened may be dialled for it.
    pub reaches_opened: bool,
}

impl Outgoing {
    /// A try at `now`.
    pub fn new(endpoint: &Endpoint, event: EventId, body: &str, secrets: &[Secret], now: Timestamp) -> Self {
        let (id, unix_seconds) = (event.to_string(), now.micros().div_euclid(1_000_000));
        Self {
            url: endpoint.url.clone(),
            reaches_opened: endpoint.reaches_opened,
            signatures: sign::signatures(secrets, &id, unix_seconds, body),
            id,
            unix_seconds,
            body: body.to_owned(),
        }
    }
}

/// What is told when an endpoint is disabled, with its sentence for people. Of its URL only the host: others are told, and the rest may be secret.
pub fn disabled_data(endpoint: &Endpoint, why: Disable, at: Timestamp, message: &str) -> Value {
    json!({
        "workspace_id": endpoint.workspace,
        "endpoint_id": endpoint.id,
        "host": endpoint.host(),
        "reason": why.as_str(),
        "disabled_at": at,
        "message": message,
    })
}
