//! The route table on one screen: method, path, who may call, how long a body may be, and the handler. There is no other way in.

use super::auth::{Access, Scope, Verifier};
use super::call::{Answer, Call};
use super::idempotency::{self, Running};
use super::problem::Problem;
use super::{
    api_keys, audit_log, authorize, batch, billing, cache, corrections, economics, events, explain, fair_use, grant_billing, grants,
    invoices, json, ledger, operations, policies, portal_tokens, providers, reconcile, reservations, stream, stripe, usage,
    webhook_deliveries, webhook_endpoints, workspace_list, workspace_usage, workspaces,
};
use crate::flow::Service;
use actix_web::http::Method;
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, guard};
use std::pin::Pin;
use std::rc::Rc;

pub(super) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answer>>>;

/// One route.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    body: Body,
    handler: Handler,
}

impl Route {
    /// Whether repeated requests with the same `Idempotency-Key` get the first answer.
    pub fn creates(&self) -> bool {
        self.body.creates
    }
}

/// What a route takes.
#[derive(Clone, Copy)]
struct Body {
    bytes_max: usize,
    /// Repeated requests with the same `Idempotency-Key` get the first answer.
    creates: bool,
}

const SMALL: Body = Body {
    bytes_max: json::BODY_BYTES_MAX,
    creates: false,
};
const LARGE: Body = Body {
    bytes_max: json::LARGE_BODY_BYTES_MAX,
    creates: false,
};
const EVENT: Body = Body {
    bytes_max: json::EVENT_BYTES_MAX,
    creates: false,
};
const CREATES_ONE: Body = Body {
    bytes_max: json::BODY_BYTES_MAX,
    creates: true,
};
const CREATES: Body = Body {
    bytes_max: json::LARGE_BODY_BYTES_MAX,
    creates: true,
};

macro_rules! routes {
    ($($method:ident $path:literal, $access:expr, $body:expr, $handler:path;)*) => {
        vec![$(Route {
            method: Method::$method,
            path: $path,
            access: $access,
            body: $body,
            handler: |call| Box::pin($handler(call)),
        },)*]
    };
}

/// All routes.
pub fn routes() -> Vec<Route> {
    let authorizing = Access::scope(Scope::Authorize);
    let reading = Access::scope(Scope::Read);
    let unbound = Access::scope(Scope::Admin).unbound();
    routes! {
        POST "/v1/authorize", authorizing, LARGE, authorize::authorize;
        POST "/v1/authorize/batch", authorizing, LARGE, batch::batch;
        POST "/v1/reservations/{id}/settle", authorizing, SMALL, reservations::settle;
        POST "/v1/reservations/{id}/release", authorizing, SMALL, reservations::release;
        POST "/v1/reservations/{id}/extend", authorizing, SMALL, reservations::extend;
        GET "/v1/reservations/{id}", authorizing.or(Scope::Read), SMALL, reservations::get;
        GET "/v1/reservations/{id}/explain", authorizing.or(Scope::Read), SMALL, explain::reservation;
        GET "/v1/decisions/{id}/explain", authorizing.or(Scope::Read), SMALL, explain::decision;
        DELETE "/v1/cache", authorizing, SMALL, cache::purge;
        POST "/v1/cache/feedback", authorizing, SMALL, cache::feedback;
        POST "/v1/usage", Access::scope(Scope::UsageWrite), CREATES, usage::usage;
        POST "/v1/events", Access::scope(Scope::UsageWrite), CREATES, events::events;
        GET "/v1/workspaces/{id}/usage", reading.or(Scope::Portal), SMALL, workspace_usage::usage;
        GET "/v1/workspaces/{id}/events", stream::access(), SMALL, stream::events;
        GET "/v1/workspaces/{id}/ledger", reading, SMALL, ledger::ledger;
        GET "/v1/workspaces/{id}/invoice-preview", reading, SMALL, invoices::preview;
        GET "/v1/reports/unit-economics", reading, SMALL, economics::unit_economics;
        GET "/v1/admin/plans", unbound, SMALL, policies::list_plans;
        GET "/v1/admin/plans/{id}", unbound, SMALL, policies::get_plan;
        PUT "/v1/admin/plans/{id}", unbound, SMALL, policies::put_plan;
        DELETE "/v1/admin/plans/{id}", unbound, SMALL, policies::delete_plan;
        GET "/v1/admin/models", unbound, SMALL, policies::list_models;
        GET "/v1/admin/models/{id}", unbound, SMALL, policies::get_model;
        PUT "/v1/admin/models/{id}", unbound, SMALL, policies::put_model;
        GET "/v1/admin/routing", unbound, SMALL, policies::get_routing;
        PUT "/v1/admin/routing", unbound, SMALL, policies::put_routing;
        GET "/v1/admin/messages", unbound, SMALL, policies::get_messages;
        PUT "/v1/admin/messages", unbound, SMALL, policies::put_messages;
        GET "/v1/admin/billing", unbound, SMALL, policies::get_billing;
        PUT "/v1/admin/billing", unbound, SMALL, policies::put_billing;
        GET "/v1/admin/providers", unbound, SMALL, providers::list;
        GET "/v1/admin/providers/{id}", unbound, SMALL, providers::get;
        PUT "/v1/admin/providers/{id}", unbound, SMALL, providers::put;
        GET "/v1/admin/fair-use/actions", unbound, SMALL, fair_use::list;
        DELETE "/v1/admin/fair-use/actions/{id}", unbound, SMALL, fair_use::end;
        POST "/v1/admin/ledger/corrections", unbound, CREATES_ONE, corrections::correct;
        POST "/v1/admin/ledger/reprice", unbound, SMALL, corrections::reprice;
        GET "/v1/admin/billing/batches", unbound, SMALL, billing::list;
        GET "/v1/admin/billing/batches/{id}", unbound, SMALL, billing::get;
        POST "/v1/admin/billing/batches/{id}/resend", unbound, SMALL, billing::resend;
        POST "/v1/admin/billing/flush", unbound, SMALL, billing::flush;
        POST "/v1/admin/billing/reconcile", unbound, SMALL, reconcile::reconcile;
        GET "/v1/admin/audit-log", unbound, SMALL, audit_log::audit_log;
        GET "/v1/admin/workspaces", Access::scope(Scope::Admin), SMALL, workspace_list::list;
        GET "/v1/admin/workspaces/{id}", Access::scope(Scope::Admin), SMALL, workspaces::get;
        PUT "/v1/admin/workspaces/{id}", Access::scope(Scope::Admin), SMALL, workspaces::put;
        PATCH "/v1/admin/workspaces/{id}", Access::scope(Scope::Admin), SMALL, workspaces::patch;
        POST "/v1/admin/api-keys", unbound, CREATES_ONE, api_keys::create;
        GET "/v1/admin/api-keys", unbound, SMALL, api_keys::list;
        GET "/v1/admin/api-keys/{id}", unbound, SMALL, api_keys::get;
        DELETE "/v1/admin/api-keys/{id}", unbound, SMALL, api_keys::delete;
        POST "/v1/admin/api-keys/{id}/rotate", unbound, CREATES_ONE, api_keys::rotate;
        POST "/v1/admin/portal-tokens", Access::scope(Scope::Admin), SMALL, portal_tokens::create;
        POST "/v1/admin/webhook-endpoints", Access::scope(Scope::Admin), CREATES_ONE, webhook_endpoints::create;
        GET "/v1/admin/webhook-endpoints", Access::scope(Scope::Admin), SMALL, webhook_endpoints::list;
        GET "/v1/admin/webhook-endpoints/{id}", Access::scope(Scope::Admin), SMALL, webhook_endpoints::get;
        PATCH "/v1/admin/webhook-endpoints/{id}", Access::scope(Scope::Admin), SMALL, webhook_endpoints::patch;
        DELETE "/v1/admin/webhook-endpoints/{id}", Access::scope(Scope::Admin), SMALL, webhook_endpoints::delete;
        POST "/v1/admin/webhook-endpoints/{id}/rotate", Access::scope(Scope::Admin), CREATES_ONE, webhook_endpoints::rotate;
        POST "/v1/admin/webhook-endpoints/{id}/test", Access::scope(Scope::Admin), CREATES_ONE, webhook_endpoints::test;
        POST "/v1/admin/webhook-endpoints/{id}/replay", Access::scope(Scope::Admin), CREATES_ONE, webhook_endpoints::replay;
        GET "/v1/admin/webhook-deliveries", Access::scope(Scope::Admin), SMALL, webhook_deliveries::list;
        GET "/v1/admin/webhook-deliveries/{id}", Access::scope(Scope::Admin), SMALL, webhook_deliveries::get;
        POST "/v1/admin/webhook-deliveries/{id}/redeliver", Access::scope(Scope::Admin), CREATES_ONE, webhook_deliveries::redeliver;
        GET "/v1/admin/workspaces/{id}/grants", Access::scope(Scope::Admin), SMALL, grants::list;
        POST "/v1/admin/workspaces/{id}/grants", Access::scope(Scope::Admin), CREATES_ONE, grants::give;
        POST "/v1/admin/workspaces/{id}/grants/{grant}/resend", unbound, SMALL, grant_billing::resend;
        DELETE "/v1/admin/workspaces/{id}/grants/{grant}", Access::scope(Scope::Admin), SMALL, grants::void;
        POST "/webhooks/stripe", Access::open(), EVENT, stripe::receive;
        GET "/healthz", Access::open(), SMALL, operations::healthz;
        GET "/readyz", Access::open(), SMALL, operations::readyz;
        GET "/metrics", Access::open(), SMALL, operations::metrics;
        GET "/openapi.json", Access::open(), SMALL, operations::openapi;
        GET "/docs", Access::open(), SMALL, operations::docs_without_slash;
        GET "/docs/{page:.*}", Access::open(), SMALL, operations::docs;
        GET "/", Access::open(), SMALL, operations::root;
    }
}

/// Mounts the routes. A path that exists answers other methods with 405 and what it allows; anything else is 404, the same as unknown.
pub fn configure(config: &mut ServiceConfig) {
    // In the order of the table, because the router tries them in this order: what is called most stands first there.
    let mut by_path: Vec<(&'static str, Vec<Route>)> = Vec::new();
    for route in routes() {
        match by_path.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(route),
            None => by_path.push((route.path, vec![route])),
        }
    }
    for (path, routes) in by_path {
        let mut allow: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        let allow = allow.join(", ");
        let mut resource = web::resource(path);
        for route in routes {
            let method = route.method.clone();
            let route = Rc::new(route);
            // What can be got can be asked for its head (RFC 9110, 9.3.2); the server leaves the body out.
            let asked =
                guard::fn_guard(move |of| of.head().method == method || (method == Method::GET && of.head().method == Method::HEAD));
            resource = resource.route(web::route().guard(asked).to(move |request: HttpRequest, payload: Payload| {
                let route = route.clone();
                async move {
                    dispatch(&route, &request, payload)
                        .await
                        .unwrap_or_else(|problem| problem.response(&request))
                }
            }));
        }
        config.service(resource.default_service(web::to(move |request: HttpRequest| {
            let problem = Problem::method_not_allowed(&allow);
            async move { problem.response(&request) }
        })));
    }
}

/// Who calls, may they, what do they send: the same for every route, in this order, before any handler runs.
async fn dispatch(route: &Route, request: &HttpRequest, payload: Payload) -> Answer {
    let service = part::<Service>(request)?;
    let identity = part::<Verifier>(request)?.admit(service, request.headers(), route.access).await?;
    let body = json::read_payload(request, payload, route.body.bytes_max).await?;
    let call = Call {
        service: service.clone(),
        identity,
        request: request.clone(),
        body,
    };
    let Some(key) = call.idempotency_key()?.filter(|_| route.body.creates) else {
        return (route.handler)(call).await;
    };
    // As it was sent: of one route with many ids, each is a path of its own.
    let path = request.path();
    idempotency::once(call, path, &key, part::<Running>(request)?, route.handler).await
}

/// A part of the service that the composition root has put beside the routes.
pub(super) fn part<T: 'static>(request: &HttpRequest) -> Result<&Data<T>, Problem> {
    request.app_data::<Data<T>>().ok_or_else(Problem::internal)
}
