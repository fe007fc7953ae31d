//! `POST /v1/authorize`: before each LLM call.

use super::ask::{AuthorizeRequest, request};
use super::call::{Answer, Call, answer};
use super::explain::ExplainOut;
use super::json::OpenObject;
use super::problem::Problem;
use super::wire::{AmountsOut, BudgetOut, ReasonOut, budgets, reasons};
use crate::decision::amount::Unit;
use crate::decision::id::{DecisionId, ModelId, RequestId, ReservationId};
use crate::decision::limits::BudgetView;
use crate::decision::price::Mode;
use crate::decision::refusal::{BlockedBy, Code};
use crate::decision::time::Timestamp;
use crate::decision::verdict::{self, Action};
use crate::flow;
use crate::flow::authorize::{Decision, Permit, Verdict};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use utoipa::ToSchema;

/// Bodies without `input` have nothing to say that needs more.
const BODY_BYTES_MAX: usize = 1 << 20;
/// `?dry_run=true` holds nothing; `?http_status=map` tells denials by status too.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuthorizeQuery {
    /// Hold nothing, and explain.
    #[serde(default)]
    dry_run: bool,
    /// `map`: tell a denial by its status as well.
    http_status: Option<HttpStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpStatus {
    Map,
}

/// The answer to an allowed request.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllowAnswer<'a> {
    #[schema(example = "allow")]
    decision: &'static str,
    #[schema(value_type = String)]
    decision_id: DecisionId,
    request_id: &'a str,
    /// Null on a dry run: nothing is held.
    #[schema(value_type = Option<String>)]
    reservation_id: Option<ReservationId>,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// Decided without the counters, because they are away and the plan allows it.
    degraded: bool,
    #[schema(example = "claude-haiku-4-5")]
    model: &'a str,
    requested_model: &'a str,
    tier: &'a str,
    provider: &'a str,
    input_tokens: i64,
    input_tokens_estimated: bool,
    max_output_tokens: i64,
    mode: Mode,
    /// How long the caller should wait before the call: Weir itself never sleeps.
    delay_ms: u32,
    actions: &'a [Action],
    reasons: Vec<ReasonOut<'a>>,
    /// What this reservation holds.
    held: AmountsOut,
    budgets: Vec<BudgetOut<'a>>,
    shadow_reasons: Vec<ReasonOut<'a>>,
    plan_id: &'a str,
    plan_version: u32,
    price_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<CacheOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Box<ExplainOut<'a>>>,
}

/// The answer to a denied request. Nothing is held anywhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct DenyAnswer<'a> {
    #[schema(example = "deny")]
    decision: &'static str,
    #[schema(value_type = String)]
    decision_id: DecisionId,
    request_id: &'a str,
    #[schema(value_type = Option<String>)]
    model: Option<&'a str>,
    requested_model: &'a str,
    code: Code,
    reasons: Vec<ReasonOut<'a>>,
    budgets: Vec<BudgetOut<'a>>,
    shadow_reasons: Vec<ReasonOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<CacheOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Box<ExplainOut<'a>>>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct CacheOut {
    /// hit, miss, off or error.
    status: &'static str,
}

impl CacheOut {
    /// The cache of answers is not built yet: every feature's cache is off, and says so.
    pub(super) const OFF: CacheOut = CacheOut { status: "off" };
}

/// May this workspace spend, on which model, how much?
#[utoipa::path(post, path = "/v1/authorize", tag = "hot path", params(AuthorizeQuery), request_body = AuthorizeRequest,
    responses((status = 200, description = "Allowed or denied: `decision` tells.", body = AllowAnswer)))]
pub async fn authorize(call: Call) -> Answer {
    let query: AuthorizeQuery = call.query()?;
    if call.body.len() > BODY_BYTES_MAX && !call.json::<OpenObject>()?.contains_key("input") {
        return Err(Problem::too_large(BODY_BYTES_MAX));
    }
    let body: AuthorizeRequest = call.json()?;
    let caches = body.cache.is_some();
    let request = request(&call, body, |named| call.request_key(named), query.dry_run).await?;
    let ask_id = request.ask.request_id.clone();
    let requested = request.ask.model.clone();
    let decision = flow::authorize::authorize(&call.service, request).await?;
    let cache = caches.then_some(CacheOut::OFF);
    Ok(render(
        &decision,
        &ask_id,
        &requested,
        cache,
        query.http_status,
        call.service.clock.now(),
    ))
}

/// What is answered, be it to one request or to one of many.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "it lives until it is written")]
pub enum DecisionOut<'a> {
    Allow(AllowAnswer<'a>),
    Deny(DenyAnswer<'a>),
}

fn render(
    decision: &Decision,
    request_id: &RequestId,
    requested: &ModelId,
    cache: Option<CacheOut>,
    map: Option<HttpStatus>,
    now: Timestamp,
) -> HttpResponse {
    let body = decision_out(decision, request_id, requested, cache);
    match &decision.verdict {
        Verdict::Allowed(permit) => {
            let mut response = HttpResponse::build(StatusCode::OK);
            rate_limit(&mut response, &permit.allowed.budgets, permit.degraded, now);
            if decision.replayed {
                response.insert_header(("Idempotency-Replayed", "true"));
            }
            answer(response, &body)
        }
        Verdict::Denied(denied) => {
            let retry = denied
                .reasons
                .iter()
                .filter_map(|reason| reason.block.as_ref()?.retry_after_seconds)
                .max();
            let rate = denied
                .reasons
                .first()
                .and_then(|reason| reason.block.as_ref())
                .is_some_and(|block| block.by == BlockedBy::Rate);
            let status = if map == Some(HttpStatus::Map) {
                super::failure::status_of_denial(denied.code, rate)
            } else {
                StatusCode::OK
            };
            let mut response = HttpResponse::build(status);
            if let (StatusCode::TOO_MANY_REQUESTS, Some(seconds)) = (status, retry) {
                response.insert_header(("Retry-After", seconds.to_string()));
            }
            rate_limit(&mut response, &denied.budgets, false, now);
            answer(response, &body)
        }
    }
}

pub(super) fn decision_out<'a>(
    decision: &'a Decision,
    request_id: &'a RequestId,
    requested: &'a ModelId,
    cache: Option<CacheOut>,
) -> DecisionOut<'a> {
    let reservation = match &decision.verdict {
        Verdict::Allowed(permit) => permit.reservation,
        Verdict::Denied(_) => None,
    };
    let explanation = decision.explain.as_ref();
    let explain = explanation.map(|explanation| Box::new(ExplainOut::new(decision.decision, reservation, explanation)));
    match &decision.verdict {
        Verdict::Allowed(permit) => DecisionOut::Allow(allow(decision.decision, permit, request_id, requested, cache, explain)),
        Verdict::Denied(denied) => DecisionOut::Deny(DenyAnswer {
            decision: "deny",
            decision_id: decision.decision,
            request_id: request_id.as_str(),
            model: None,
            requested_model: requested.as_str(),
            code: denied.code,
            reasons: reasons(&denied.reasons),
            budgets: budgets(&denied.budgets),
            shadow_reasons: reasons(&denied.shadow_reasons),
            cache,
            explain,
        }),
    }
}

fn allow<'a>(
    decision_id: DecisionId,
    permit: &'a Permit,
    request_id: &'a RequestId,
    requested: &'a ModelId,
    cache: Option<CacheOut>,
    explain: Option<Box<ExplainOut<'a>>>,
) -> AllowAnswer<'a> {
    let (offer, allowed) = (&permit.offer, &permit.allowed);
    AllowAnswer {
        decision: "allow",
        decision_id,
        request_id: request_id.as_str(),
        reservation_id: permit.reservation,
        expires_at: permit.expires_at,
        degraded: permit.degraded,
        model: offer.model.id.as_str(),
        requested_model: requested.as_str(),
        tier: offer.model.tier.as_str(),
        provider: offer.model.provider.as_str(),
        input_tokens: offer.input_tokens,
        input_tokens_estimated: permit.input_tokens_estimated,
        max_output_tokens: allowed.taken.output,
        mode: offer.mode,
        delay_ms: allowed.delay_ms,
        actions: &allowed.actions,
        reasons: reasons(&allowed.reasons),
        held: allowed.taken.amounts.into(),
        budgets: budgets(&allowed.budgets),
        shadow_reasons: reasons(&allowed.shadow_reasons),
        plan_id: permit.plan.id.as_str(),
        plan_version: permit.plan.version,
        price_version: &offer.price.version,
        cache,
        explain,
    }
}

/// The RateLimit header fields for the tightest enforced budget; none when degraded or unlimited.
fn rate_limit(response: &mut HttpResponseBuilder, budgets: &[BudgetView], degraded: bool, now: Timestamp) {
    let Some(view) = verdict::tightest(budgets).filter(|_| !degraded) else {
        return;
    };
    let (unit, scale) = match view.unit {
        Unit::Usd => ("micro-usd", 1_000),
        unit => (unit.as_str(), 1),
    };
    let (quota, left) = (verdict::line(view) / scale, view.remaining.unwrap_or(0) / scale);
    let mut policy = format!("\"{}\";q={quota}", view.id);
    let mut rest = format!("\"{}\";r={left}", view.id);
    // Writing into a String cannot fail.
    if let Some(seconds) = view.period.seconds() {
        let _ = write!(policy, ";w={seconds}");
        let _ = write!(rest, ";t={}", now.seconds_until(view.period.end));
    }
    let _ = write!(policy, ";qu=\"{unit}\"");
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", rest)] {
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
            response.insert_header((HeaderName::from_static(name), value));
        }
    }
}
