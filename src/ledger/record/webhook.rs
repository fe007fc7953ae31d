//! `webhook_endpoint` and `webhook_delivery`: whom to tell, and what is on its way.

use super::{Unreadable, narrow, parse, parse_some, unreadable, workspace_column};
use crate::decision::id::{DeliveryId, EventId, WebhookEndpointId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::filter::Filter;
use crate::decision::webhook::retry::Attempt;
use crate::decision::webhook::seal::Sealed;
use crate::decision::webhook::{Delivery, Endpoint, Replaced, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

record! {
    /// A row of `webhook_endpoint`, but for its deletion.
    struct EndpointRecord of "webhook_endpoint" {
        endpoint_id: String,
        workspace_id: String,
        url: String,
        events: String,
        wants_usage: i64,
        description: Option<String>,
        enabled: i64,
        disabled_reason: Option<String>,
        disabled_at: Option<i64>,
        secret: Vec<u8>,
        replaced_secret: Option<Vec<u8>>,
        replaced_until: Option<i64>,
        created_by: String,
        created_at: i64,
        version: i64,
        wants_expired: i64,
        reaches_opened: i64,
        older_secrets: String,
    }
}

impl From<&Endpoint> for EndpointRecord {
    fn from(endpoint: &Endpoint) -> Self {
        let events: Vec<&str> = endpoint.events.iter().map(Filter::as_str).collect();
        Self {
            endpoint_id: endpoint.id.to_string(),
            workspace_id: workspace_column(endpoint.workspace.as_ref()).to_owned(),
            url: endpoint.url.clone(),
            events: events.join(" "),
            wants_usage: endpoint.wants_usage().into(),
            description: endpoint.description.clone(),
            enabled: endpoint.enabled.into(),
            disabled_reason: endpoint.disabled.as_ref().map(|(reason, _)| reason.clone()),
            disabled_at: endpoint.disabled.as_ref().map(|(_, at)| at.micros()),
            secret: endpoint.secret.as_bytes().to_vec(),
            replaced_secret: endpoint.replaced.first().map(|replaced| replaced.secret.as_bytes().to_vec()),
            replaced_until: endpoint.replaced.first().map(|replaced| replaced.until.micros()),
            created_by: endpoint.created_by.clone(),
            created_at: endpoint.created_at.micros(),
            version: endpoint.version.into(),
            wants_expired: endpoint.wants_expired().into(),
            reaches_opened: endpoint.reaches_opened.into(),
            older_secrets: older_column(endpoint.replaced.get(1..).unwrap_or_default()),
        }
    }
}

impl TryFrom<EndpointRecord> for Endpoint {
    type Error = Unreadable;

    fn try_from(row: EndpointRecord) -> Result<Self, Unreadable> {
        let disabled_at = row.disabled_at.map(Timestamp::from_micros);
        let newest = row.replaced_secret.map(|secret| sealed("replaced_secret", secret)).transpose()?;
        let newest = newest.zip(row.replaced_until).map(|(secret, until)| Replaced {
            secret,
            until: Timestamp::from_micros(until),
        });
        let older = read_older(&row.older_secrets)?;
        Ok(Self {
            id: parse("endpoint_id", &row.endpoint_id, WebhookEndpointId::parse)?,
            workspace: some_workspace(&row.workspace_id)?,
            events: row.events.split(' ').map(|filter| Filter::kept(filter.to_owned())).collect(),
            enabled: row.enabled != 0,
            disabled: row.disabled_reason.zip(disabled_at),
            secret: sealed("secret", row.secret)?,
            replaced: newest.into_iter().chain(older).collect(),
            created_at: Timestamp::from_micros(row.created_at),
            reaches_opened: row.reaches_opened != 0,
            version: narrow("version", row.version)?,
            url: row.url,
            description: row.description,
            created_by: row.created_by,
        })
    }
}

record! {
    /// A row of `webhook_delivery`, but for its claim.
    struct DeliveryRecord of "webhook_delivery" {
        delivery_id: String,
        endpoint_id: String,
        workspace_id: String,
        event_id: String,
        event_type: String,
        body: String,
        state: String,
        reason: Option<String>,
        created_at: i64,
        due_at: i64,
        tries: i64,
        last_at: Option<i64>,
        last_status: Option<i64>,
        last_duration_ms: Option<i64>,
        last_answer: Option<String>,
        last_error: Option<String>,
    }
}

impl From<&Delivery> for DeliveryRecord {
    fn from(delivery: &Delivery) -> Self {
        let last = delivery.last.as_ref();
        Self {
            delivery_id: delivery.id.to_string(),
            endpoint_id: delivery.endpoint.to_string(),
            workspace_id: workspace_column(delivery.workspace.as_ref()).to_owned(),
            event_id: delivery.event.to_string(),
            event_type: delivery.kind.clone(),
            body: delivery.body.clone(),
            state: delivery.state.as_str().to_owned(),
            reason: delivery.reason.clone(),
            created_at: delivery.created_at.micros(),
            due_at: delivery.due_at.micros(),
            tries: delivery.tries.into(),
            last_at: last.map(|last| last.at.micros()),
            last_status: last.and_then(|last| last.status).map(i64::from),
            last_duration_ms: last.map(|last| last.duration_ms),
            last_answer: last.map(|last| last.answer.clone()),
            last_error: last.and_then(|last| last.error.clone()),
        }
    }
}

impl TryFrom<DeliveryRecord> for Delivery {
    type Error = Unreadable;

    fn try_from(row: DeliveryRecord) -> Result<Self, Unreadable> {
        let status = read_status("last_status", row.last_status)?;
        let last = row.last_at.map(|at| Attempt {
            at: Timestamp::from_micros(at),
            duration_ms: row.last_duration_ms.unwrap_or(0),
            status,
            retry_after_seconds: None,
            answer: row.last_answer.unwrap_or_default(),
            error: row.last_error,
        });
        Ok(Self {
            id: parse("delivery_id", &row.delivery_id, DeliveryId::parse)?,
            endpoint: parse("endpoint_id", &row.endpoint_id, WebhookEndpointId::parse)?,
            workspace: some_workspace(&row.workspace_id)?,
            event: parse("event_id", &row.event_id, EventId::parse)?,
            state: State::parse(&row.state).ok_or_else(|| unreadable("state", &row.state, "is no state of a delivery"))?,
            created_at: Timestamp::from_micros(row.created_at),
            due_at: Timestamp::from_micros(row.due_at),
            tries: narrow("tries", row.tries)?,
            kind: row.event_type,
            body: row.body,
            reason: row.reason,
            last,
        })
    }
}

/// A try of a delivery.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct AttemptRow {
    number: i64,
    at: i64,
    status: Option<i64>,
    duration_ms: i64,
    answer: String,
    error: Option<String>,
}

impl AttemptRow {
    pub(in crate::ledger) fn read(self) -> Result<(u32, Attempt), Unreadable> {
        let attempt = Attempt {
            at: Timestamp::from_micros(self.at),
            duration_ms: self.duration_ms,
            status: read_status("status", self.status)?,
            retry_after_seconds: None,
            answer: self.answer,
            error: self.error,
        };
        Ok((narrow("number", self.number)?, attempt))
    }
}

fn read_status(column: &'static str, status: Option<i64>) -> Result<Option<u16>, Unreadable> {
    let narrowed = status.map(|status| u16::try_from(status).map_err(|error| unreadable(column, status, error)));
    narrowed.transpose()
}

/// A delivery as it is claimed.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ClaimedRow {
    pub(in crate::ledger) delivery_id: String,
    pub(in crate::ledger) event_id: String,
    pub(in crate::ledger) body: String,
    pub(in crate::ledger) tries: i64,
}

/// The row of an endpoint that has something due.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct QueueRow {
    pub(in crate::ledger) endpoint_id: String,
    pub(in crate::ledger) failing_since: Option<i64>,
}

pub(in crate::ledger) fn read_delivery_id(text: &str) -> Result<DeliveryId, Unreadable> {
    parse("delivery_id", text, DeliveryId::parse)
}

pub(in crate::ledger) fn read_endpoint_id(text: &str) -> Result<WebhookEndpointId, Unreadable> {
    parse("endpoint_id", text, WebhookEndpointId::parse)
}

pub(in crate::ledger) fn read_event_id(text: &str) -> Result<EventId, Unreadable> {
    parse("event_id", text, EventId::parse)
}

/// The workspace of a column that is empty where there is none.
pub(in crate::ledger) fn some_workspace(column: &str) -> Result<Option<WorkspaceId>, Unreadable> {
    parse_some("workspace_id", Some(column).filter(|text| !text.is_empty()), WorkspaceId::parse)
}

/// Each as its end, a colon and the sealed secret, between spaces.
fn older_column(older: &[Replaced]) -> String {
    let each = older
        .iter()
        .map(|replaced| format!("{}:{}", replaced.until.micros(), STANDARD.encode(replaced.secret.as_bytes())));
    each.collect::<Vec<_>>().join(" ")
}

fn read_older(column: &str) -> Result<Vec<Replaced>, Unreadable> {
    const COLUMN: &str = "older_secrets";
    let each = column.split(' ').filter(|each| !each.is_empty());
    let read = each.map(|each| {
        let parts = each.split_once(':').and_then(|(until, secret)| {
            let secret = STANDARD.decode(secret).ok()?;
            Some((until.parse().ok()?, secret))
        });
        let (until, secret) =
            parts.ok_or_else(|| unreadable(COLUMN, format!("{} characters", each.len()), "is no end and sealed secret"))?;
        Ok(Replaced {
            secret: sealed(COLUMN, secret)?,
            until: Timestamp::from_micros(until),
        })
    });
    read.collect()
}

fn sealed(column: &'static str, bytes: Vec<u8>) -> Result<Sealed, Unreadable> {
    let length = bytes.len();
    Sealed::from_bytes(bytes).ok_or_else(|| unreadable(column, format!("{length} bytes"), "is no sealed secret"))
}
