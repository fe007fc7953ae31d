//! `/v1/admin/webhook-endpoints`: where customers' systems, and operators, are told of events. A secret is in one answer and nowhere else;
//! whoever loses it rotates it.
//!
//! A credential that is bound to a workspace has that workspace's endpoints, and no others are there for it.

use super::by::is_invisible;
use super::call::{Answer, Call, answer, ok};
use super::idempotency::KeptAs;
use super::json;
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use super::webhook_deliveries::DeliveryOut;
use super::workspaces::{merge, merged};
use crate::decision::id::{WebhookEndpointId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::value;
use crate::decision::webhook::filter::{FILTERS_MAX, Filter};
use crate::decision::webhook::{DESCRIPTION_CHARS_MAX, Endpoint, OVERLAP_SECONDS_MAX};
use crate::flow;
use crate::flow::webhooks::{Described, EndpointQuery, REPLAY_SECONDS_MAX, Whose};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How long a replaced secret goes on to sign unless the caller says otherwise.
const OVERLAP_SECONDS_DEFAULT: i64 = 24 * 3_600;

/// An endpoint to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpointBody {
    /// `https`, without user, password or fragment, of a host that is publicly reachable. Whatever address it leads to is checked again on
    /// each try. `http`, and private addresses, only where the operator has allowed them.
    #[schema(min_length = 1, max_length = 2048, example = "https://example.com/hooks/weir")]
    url: String,
    /// Whose events it is told; null: those of all workspaces, with what only operators are told. A bound credential may leave it out.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "ws_456")]
    workspace_id: Option<WorkspaceId>,
    /// Which events it is told: names, beginnings such as `budget.*`, or `*` for all. `usage.recorded`, which there is for each use, has to
    /// be named.
    #[serde(default = "all_events", deserialize_with = "filters", serialize_with = "words")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 32, example = json!(["budget.*", "plan.changed"]))]
    events: Vec<Filter>,
    /// For people.
    #[serde(default, deserialize_with = "description")]
    #[schema(max_length = 256, example = "billing service")]
    description: Option<String>,
    /// What is not enabled is told nothing, and what waited for it ends.
    #[serde(default = "enabled")]
    #[schema(default = true)]
    enabled: bool,
}

fn all_events() -> Vec<Filter> {
    vec![Filter::kept("*".to_owned())]
}

fn enabled() -> bool {
    true
}

fn words<S: serde::Serializer>(filters: &[Filter], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(filters.iter().map(Filter::as_str))
}

fn filters<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Filter>, D::Error> {
    let words = Vec::<String>::deserialize(from)?;
    if words.is_empty() || words.len() > FILTERS_MAX {
        return Err(value::unacceptable(format_args!("name 1 to {FILTERS_MAX} events")));
    }
    let mut filters: Vec<Filter> = Vec::with_capacity(words.len());
    for word in &words {
        let filter = Filter::parse(word).map_err(value::unacceptable)?;
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    Ok(filters)
}

fn description<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let is_good = |text: &String| text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.chars().any(is_invisible);
    match text {
        Some(text) if !is_good(&text) => Err(value::unacceptable(format_args!(
            "a description has at most {DESCRIPTION_CHARS_MAX} printable characters"
        ))),
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateWebhookBody {
    /// How long the secret that is replaced goes on to sign beside the new one.
    #[serde(default = "overlap_default", deserialize_with = "overlap")]
    #[schema(minimum = 0, maximum = 2592000, default = 86400, example = 3600)]
    overlap_seconds: i64,
}

fn overlap_default() -> i64 {
    OVERLAP_SECONDS_DEFAULT
}

fn overlap<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    value::integer(from, "overlap_seconds", 0, OVERLAP_SECONDS_MAX)
}

/// Which events to send again, by when they were recorded; at most 31 days.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    /// Inclusive.
    #[schema(value_type = String, format = DateTime, example = "2025-11-20T00:00:00Z")]
    from: Timestamp,
    /// Exclusive.
    #[schema(value_type = String, format = DateTime, example = "2025-11-21T00:00:00Z")]
    to: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayAnswer {
    /// How many deliveries are on their way, under the ids that their events always had.
    deliveries: usize,
}

/// An endpoint as its operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookEndpointOut<'a> {
    #[schema(value_type = String)]
    endpoint_id: WebhookEndpointId,
    /// Whose events it is told; null: those of all workspaces, with what only operators are told.
    #[schema(value_type = Option<String>)]
    workspace_id: Option<&'a WorkspaceId>,
    /// Where it is.
    #[schema(max_length = 2048, example = "https://example.com/hooks/weir")]
    url: &'a str,
    /// Which events it is told.
    #[schema(example = json!(["budget.*", "plan.changed"]))]
    events: Vec<&'a str>,
    /// For people.
    description: Option<&'a str>,
    /// False: it is told nothing.
    enabled: bool,
    /// Why it was disabled without anybody asking for it: `gone` (it answered 410) or `only_failures` (for five days); null: it was not.
    #[schema(example = "only_failures")]
    disabled_reason: Option<&'a str>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// The `sub` of the credential that made it.
    created_by: &'a str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Until when a secret that was replaced signs too; null: there is none. Of several, when the last of them ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    replaced_secret_expires_at: Option<Timestamp>,
    /// What signs, by Standard Webhooks. Shown once: in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_…")]
    secret: Option<&'a str>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookEndpointPage<'a> {
    data: Vec<WebhookEndpointOut<'a>>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WebhookEndpointsQuery {
    /// Only endpoints of this workspace.
    #[param(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<WebhookEndpointId>,
}

fn out<'a>(endpoint: &'a Endpoint, secret: Option<&'a str>, now: Timestamp) -> WebhookEndpointOut<'a> {
    WebhookEndpointOut {
        endpoint_id: endpoint.id,
        workspace_id: endpoint.workspace.as_ref(),
        url: &endpoint.url,
        events: endpoint.events.iter().map(Filter::as_str).collect(),
        description: endpoint.description.as_deref(),
        enabled: endpoint.enabled,
        disabled_reason: endpoint.disabled.as_ref().map(|(reason, _)| reason.as_str()),
        disabled_at: endpoint.disabled.as_ref().map(|(_, at)| *at),
        created_by: &endpoint.created_by,
        created_at: endpoint.created_at,
        replaced_secret_expires_at: endpoint.replaced_until(now),
        secret,
    }
}

/// The answer with a new secret. What is kept for repeated requests has none.
fn told_once(call: &Call, endpoint: &Endpoint, secret: &str, status: StatusCode) -> Answer {
    let now = call.service.clock.now();
    let kept = serde_json::to_string(&out(endpoint, None, now)).map_err(|error| Problem::internal().because(error))?;
    let mut response = HttpResponse::build(status);
    response.insert_header(("Cache-Control", "no-store"));
    let mut response = answer(response, &out(endpoint, Some(secret), now));
    response.extensions_mut().insert(KeptAs(kept));
    Ok(response)
}

fn path_endpoint(call: &Call) -> Result<WebhookEndpointId, Problem> {
    WebhookEndpointId::parse(&call.path("id")).map_err(|_| Problem::not_found())
}

/// Whose endpoints a query names, as far as the credential sees them.
pub(super) fn whose(call: &Call, named: Option<WorkspaceId>) -> Result<Whose, Problem> {
    match (named, &call.identity.workspace) {
        (Some(named), _) => call.may_see(&named).map(|()| Whose::Workspace(named)),
        (None, Some(bound)) => Ok(Whose::Workspace(bound.clone())),
        (None, None) => Ok(Whose::Anybody),
    }
}

/// Makes an endpoint. Its secret is in this answer and nowhere else: repeated with the same `Idempotency-Key` the answer comes without it.
#[utoipa::path(post, path = "/v1/admin/webhook-endpoints", tag = "admin", request_body = WebhookEndpointBody,
    responses((status = 201, body = WebhookEndpointOut)))]
pub async fn create(call: Call) -> Answer {
    let body: WebhookEndpointBody = call.json()?;
    if let Some(named) = &body.workspace_id {
        call.may_see(named)?;
    }
    let described = Described {
        workspace: body.workspace_id.clone().or_else(|| call.identity.workspace.clone()),
        ..described(body)
    };
    let (by, service, bound) = (call.by()?, call.service.clone(), call.identity.workspace.clone());
    let made = durably(async move { flow::webhooks::create(&service, described, bound.as_ref(), &by).await });
    let (endpoint, secret) = made.await?;
    told_once(&call, &endpoint, &secret, StatusCode::CREATED)
}

/// Endpoints, newest first.
#[utoipa::path(get, path = "/v1/admin/webhook-endpoints", tag = "admin", params(WebhookEndpointsQuery),
    responses((status = 200, body = WebhookEndpointPage)))]
pub async fn list(call: Call) -> Answer {
    let query: WebhookEndpointsQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let wanted = EndpointQuery {
        whose: whose(&call, query.workspace_id)?,
        after: query.cursor,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut endpoints = flow::webhooks::list(&call.service, &wanted).await?;
    let more = endpoints.len() > limit;
    endpoints.truncate(limit);
    let now = call.service.clock.now();
    ok(&WebhookEndpointPage {
        data: endpoints.iter().map(|endpoint| out(endpoint, None, now)).collect(),
        next_cursor: endpoints.last().filter(|_| more).map(|endpoint| endpoint.id.to_string()),
    })
}

/// An endpoint, without its secret.
#[utoipa::path(get, path = "/v1/admin/webhook-endpoints/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = WebhookEndpointOut)))]
pub async fn get(call: Call) -> Answer {
    let bound = call.identity.workspace.as_ref();
    let endpoint = flow::webhooks::read(&call.service, path_endpoint(&call)?, bound).await?;
    ok(&out(&endpoint, None, call.service.clock.now()))
}

/// Changes some members, by JSON Merge Patch (RFC 7396). Whose events it is told stays. One that was disabled begins anew when it is enabled;
/// replay what it missed.
#[utoipa::path(patch, path = "/v1/admin/webhook-endpoints/{id}", tag = "admin", params(("id" = String, Path)),
    request_body(content = WebhookEndpointBody, content_type = "application/merge-patch+json"),
    responses((status = 200, body = WebhookEndpointOut)))]
pub async fn patch(call: Call) -> Answer {
    let id = path_endpoint(&call)?;
    let given: json::OpenObject = call.json()?;
    let by = call.by()?;
    let (service, bound) = (call.service.clone(), call.identity.workspace.clone());
    let patched = durably(async move {
        let described = |stored: &Endpoint| {
            let mut document = document(stored);
            merge(&mut document, &given);
            merged(document).map(described)
        };
        flow::webhooks::change(&service, id, bound.as_ref(), &by, described).await
    });
    ok(&out(&patched.await?, None, call.service.clock.now()))
}

/// The members that a caller describes.
fn document(endpoint: &Endpoint) -> serde_json::Value {
    serde_json::json!(WebhookEndpointBody {
        url: endpoint.url.clone(),
        workspace_id: endpoint.workspace.clone(),
        events: endpoint.events.clone(),
        description: endpoint.description.clone(),
        enabled: endpoint.enabled,
    })
}

fn described(body: WebhookEndpointBody) -> Described {
    Described {
        workspace: body.workspace_id,
        url: body.url,
        events: body.events,
        description: body.description,
        enabled: body.enabled,
    }
}

/// Deletes an endpoint. What waits for it ends.
#[utoipa::path(delete, path = "/v1/admin/webhook-endpoints/{id}", tag = "admin", params(("id" = String, Path)), responses((status = 204)))]
pub async fn delete(call: Call) -> Answer {
    let (id, by, service) = (path_endpoint(&call)?, call.by()?, call.service.clone());
    let bound = call.identity.workspace.clone();
    durably(async move { flow::webhooks::delete(&service, id, bound.as_ref(), &by).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives an endpoint a new secret. The one before signs too for `overlap_seconds` more: all signatures are sent, so receivers may change over
/// whenever they like in between. Up to four replaced secrets sign at once; one more is refused with 422, which says when the first ends.
#[utoipa::path(post, path = "/v1/admin/webhook-endpoints/{id}/rotate", tag = "admin", params(("id" = String, Path)),
    request_body = RotateWebhookBody, responses((status = 200, body = WebhookEndpointOut)))]
pub async fn rotate(call: Call) -> Answer {
    let id = path_endpoint(&call)?;
    let overlap_seconds = match call.body.is_empty() {
        true => OVERLAP_SECONDS_DEFAULT,
        false => call.json::<RotateWebhookBody>()?.overlap_seconds,
    };
    let (by, service, bound) = (call.by()?, call.service.clone(), call.identity.workspace.clone());
    let rotated = durably(async move { flow::webhooks::rotate(&service, id, bound.as_ref(), overlap_seconds, &by).await });
    let (endpoint, secret) = rotated.await?;
    told_once(&call, &endpoint, &secret, StatusCode::OK)
}

/// Sends the event `webhook.test` now, and answers with what came back. Works on an endpoint that is not enabled too. A node sends an endpoint
/// six tests a minute; one more is refused with 429, and `Retry-After` says when to go on.
#[utoipa::path(post, path = "/v1/admin/webhook-endpoints/{id}/test", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryOut)))]
pub async fn test(call: Call) -> Answer {
    let id = path_endpoint(&call)?;
    call.no_body_or_empty_object()?;
    let (service, bound) = (call.service.clone(), call.identity.workspace.clone());
    let delivery = durably(async move { flow::webhooks::test(&service, id, bound.as_ref()).await }).await?;
    ok(&DeliveryOut::from(&delivery))
}

/// Sends what was recorded in a stretch of time again, or for the first time, as far as the endpoint wants it: the same events under the
/// same ids.
#[utoipa::path(post, path = "/v1/admin/webhook-endpoints/{id}/replay", tag = "admin", params(("id" = String, Path)),
    request_body = ReplayBody, responses((status = 200, body = ReplayAnswer)))]
pub async fn replay(call: Call) -> Answer {
    let id = path_endpoint(&call)?;
    let bound = call.identity.workspace.clone();
    // What is not there is told before what is wrong with the body.
    flow::webhooks::read(&call.service, id, bound.as_ref()).await?;
    let body: ReplayBody = call.json()?;
    if body.to <= body.from {
        return Err(Problem::unacceptable("/to", "must be later than from"));
    }
    if body.from.seconds_until(body.to) > REPLAY_SECONDS_MAX {
        let days = REPLAY_SECONDS_MAX / 86_400;
        return Err(Problem::unacceptable("/to", format!("must be at most {days} days after from")));
    }
    let (by, service) = (call.by()?, call.service.clone());
    let replayed = durably(async move { flow::webhooks::replay(&service, id, bound.as_ref(), (body.from, body.to), &by).await });
    ok(&ReplayAnswer {
        deliveries: replayed.await?,
    })
}
