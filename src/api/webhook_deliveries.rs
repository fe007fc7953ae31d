//! `/v1/admin/webhook-deliveries`: what was told to endpoints, how often it was tried, and what came back.

use super::call::{Answer, Call, answer, ok};
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use super::webhook_endpoints::whose;
use crate::decision::id::{DeliveryId, EventId, WebhookEndpointId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::retry::Attempt;
use crate::decision::webhook::{Delivery, State};
use crate::flow;
use crate::flow::webhooks::DeliveryQuery;
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An event on its way to an endpoint. Kept for 30 days.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryOut<'a> {
    #[schema(value_type = String)]
    delivery_id: DeliveryId,
    #[schema(value_type = String)]
    endpoint_id: WebhookEndpointId,
    /// The endpoint's; null: it is told of all.
    #[schema(value_type = Option<String>)]
    workspace_id: Option<&'a WorkspaceId>,
    #[schema(value_type = String)]
    event_id: EventId,
    /// The event's.
    #[schema(example = "budget.exhausted")]
    #[serde(rename = "type")]
    kind: &'a str,
    #[schema(value_type = DeliveryStatus)]
    status: State,
    /// Of what was cancelled: `endpoint_disabled`, `endpoint_deleted`, `endpoint_gone`, `too_old`.
    reason: Option<&'a str>,
    /// How often it was tried since it was last put on its way.
    tries: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// While it is pending: when it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_try_at: Option<Timestamp>,
    /// Null: there was none yet.
    last_try: Option<TryOut<'a>>,
}

/// What a try came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct TryOut<'a> {
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How long it took until the answer, or until there was none.
    duration_ms: i64,
    /// The status of the answer; null: there was none.
    #[schema(example = 200)]
    response_status: Option<u16>,
    /// The first 1,024 characters of the answer.
    response_body: &'a str,
    /// Why it did not succeed; null: it did.
    error: Option<&'a str>,
}

/// A delivery with what each of its tries came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryWithTriesOut<'a> {
    #[serde(flatten)]
    delivery: DeliveryOut<'a>,
    /// Every try, also from before it was last put on its way, oldest first; the last 100 if there were more.
    attempts: Vec<NumberedTryOut<'a>>,
}

/// What one of several tries came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumberedTryOut<'a> {
    /// From 1.
    number: u32,
    #[serde(flatten)]
    tried: TryOut<'a>,
}

/// `pending`: a try is due or runs. `failed`: no try is left. `cancelled`: it is not tried any more, for `reason`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "names the states in the API's document")]
pub enum DeliveryStatus {
    Pending,
    Delivered,
    Failed,
    Cancelled,
}

impl<'a> From<&'a Delivery> for DeliveryOut<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            delivery_id: delivery.id,
            endpoint_id: delivery.endpoint,
            workspace_id: delivery.workspace.as_ref(),
            event_id: delivery.event,
            kind: &delivery.kind,
            status: delivery.state,
            reason: delivery.reason.as_deref(),
            tries: delivery.tries,
            created_at: delivery.created_at,
            next_try_at: (delivery.state == State::Pending).then_some(delivery.due_at),
            last_try: delivery.last.as_ref().map(TryOut::from),
        }
    }
}

impl<'a> From<&'a Attempt> for TryOut<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            response_status: attempt.status,
            response_body: &attempt.answer,
            error: attempt.error.as_deref(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryPage<'a> {
    data: Vec<DeliveryOut<'a>>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// Only what went to this endpoint.
    #[param(value_type = Option<String>)]
    endpoint_id: Option<WebhookEndpointId>,
    /// Only what told of this event.
    #[param(value_type = Option<String>)]
    event_id: Option<EventId>,
    #[param(value_type = Option<DeliveryStatus>, inline)]
    status: Option<State>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<DeliveryId>,
}

/// Deliveries, newest first.
#[utoipa::path(get, path = "/v1/admin/webhook-deliveries", tag = "admin", params(DeliveriesQuery),
    responses((status = 200, body = DeliveryPage)))]
pub async fn list(call: Call) -> Answer {
    let query: DeliveriesQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let wanted = DeliveryQuery {
        whose: whose(&call, None)?,
        endpoint: query.endpoint_id,
        event: query.event_id,
        state: query.status,
        after: query.cursor,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut deliveries = flow::webhooks::deliveries(&call.service, &wanted).await?;
    let more = deliveries.len() > limit;
    deliveries.truncate(limit);
    ok(&DeliveryPage {
        data: deliveries.iter().map(DeliveryOut::from).collect(),
        next_cursor: deliveries.last().filter(|_| more).map(|delivery| delivery.id.to_string()),
    })
}

/// A delivery, with the status, duration and beginning of the answer of each of its tries.
#[utoipa::path(get, path = "/v1/admin/webhook-deliveries/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryWithTriesOut)))]
pub async fn get(call: Call) -> Answer {
    let id = DeliveryId::parse(&call.path("id")).map_err(|_| Problem::not_found())?;
    let (delivery, attempts) = flow::webhooks::delivery(&call.service, id, call.identity.workspace.as_ref()).await?;
    let attempts = attempts.iter().map(|(number, attempt)| NumberedTryOut {
        number: *number,
        tried: TryOut::from(attempt),
    });
    ok(&DeliveryWithTriesOut {
        delivery: DeliveryOut::from(&delivery),
        attempts: attempts.collect(),
    })
}

/// Sends a delivery again, be it that it arrived, from its first try on and under the same event id. Its endpoint must be enabled.
#[utoipa::path(post, path = "/v1/admin/webhook-deliveries/{id}/redeliver", tag = "admin", params(("id" = String, Path)),
    responses((status = 202, body = DeliveryOut)))]
pub async fn redeliver(call: Call) -> Answer {
    let id = DeliveryId::parse(&call.path("id")).map_err(|_| Problem::not_found())?;
    call.no_body_or_empty_object()?;
    let (by, service, bound) = (call.by()?, call.service.clone(), call.identity.workspace.clone());
    let delivery = durably(async move { flow::webhooks::redeliver(&service, id, bound.as_ref(), &by).await }).await?;
    Ok(answer(HttpResponse::Accepted(), &DeliveryOut::from(&delivery)))
}
