//! Health, readiness, metrics and the API's own document: open to everybody, and without anything of a customer's.

use super::call::{Answer, Call, answer, ok};
use super::problem::Problem;
use crate::flow;
use crate::telemetry;
use actix_web::HttpResponse;
use serde::Serialize;
use std::sync::{Arc, LazyLock};
use utoipa::ToSchema;
use utoipa_swagger_ui::Config;

#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()), responses((status = 200, body = Health)))]
pub async fn healthz(_call: Call) -> Answer {
    ok(&Health { status: "ok" })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// ok or unavailable.
    status: &'static str,
    counters: &'static str,
    ledger: &'static str,
    policy_version: i64,
    /// Those that expired are counted until somebody asks about their workspace.
    open_reservations: Option<u64>,
    clock: ClockReading,
}

/// This node's clock beside those of its stores. It does not decide readiness: with another clock a node still answers, and were it the
/// server's that is wrong, no node would be left.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClockReading {
    /// ok, or apart: more than `ahead_max_ms` from a store's, ahead or behind.
    #[schema(example = "ok")]
    status: &'static str,
    /// By how many milliseconds this node's clock is ahead of the counter store's, below zero behind; null: there is no other clock, or it
    /// does not answer. Of several servers the one that is furthest away.
    counters_ahead_ms: Option<i64>,
    /// The same of the ledger's.
    ledger_ahead_ms: Option<i64>,
    /// A node that is further ahead of the counter store is answered by that one's clock.
    #[schema(example = 2000)]
    ahead_max_ms: u64,
}

/// The stores answer.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()), responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub async fn readyz(call: Call) -> Answer {
    let health = flow::read::health(&call.service).await;
    let clocks = flow::read::clocks(&call.service, &health).await;
    let word = |fine: bool| if fine { "ok" } else { "unavailable" };
    let ready = health.ledger && health.open_reservations.is_some();
    let body = Readiness {
        status: word(ready),
        counters: word(health.open_reservations.is_some()),
        ledger: word(health.ledger),
        policy_version: call.service.policy.load().version,
        open_reservations: health.open_reservations,
        clock: ClockReading {
            status: if clocks.are_near() { "ok" } else { "apart" },
            counters_ahead_ms: clocks.counters,
            ledger_ahead_ms: clocks.ledger,
            ahead_max_ms: flow::read::CLOCK_AHEAD_MILLIS_MAX,
        },
    };
    let response = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    Ok(answer(response, &body))
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(call: Call) -> Answer {
    if let Some(open) = flow::read::health(&call.service).await.open_reservations {
        metrics::gauge!("weir_reservations_open").set(open as f64);
    }
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(telemetry::render()))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", security(()), responses((status = 200, body = Object)))]
pub async fn openapi(_call: Call) -> Answer {
    Ok(HttpResponse::Ok().content_type("application/json").body(super::openapi::text()))
}

/// Swagger UI, from inside the program.
pub async fn docs(call: Call) -> Answer {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/openapi.json")));
    let page = utoipa_swagger_ui::serve(&call.path("page"), CONFIG.clone()).map_err(|error| {
        tracing::error!(%error, "a page of the documentation could not be made");
        Problem::internal()
    })?;
    let file = page.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().content_type(file.content_type).body(file.bytes.into_owned()))
}

/// `/docs` without its slash, under which the pages' own links would not work.
pub async fn docs_without_slash(_call: Call) -> Answer {
    Ok(HttpResponse::MovedPermanently().insert_header(("Location", "/docs/")).finish())
}

/// There is no dashboard in this version; the API's pages are the place to begin.
pub async fn root(_call: Call) -> Answer {
    Ok(HttpResponse::SeeOther().insert_header(("Location", "/docs/")).finish())
}
