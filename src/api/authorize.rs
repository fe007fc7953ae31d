//! `POST /v1/authorize`: before each LLM call.

use super::ask::{AuthorizeRequest, request};
use super::call::{Answer, Call, answer};
use super::explain::ExplainOut;
use super::json::OpenObject;
use super::problem::Problem;
use super::wire::{AmountsOut, BudgetOut, EntryOut, ReasonOut, budgets, reasons};
use crate::decision::amount::{Ratio, Unit};
use crate::decision::id::{CacheEntryId, DecisionId, ModelId, RequestId, ReservationId};
use crate::decision::limits::BudgetView;
use crate::decision::price::Mode;
use crate::decision::refusal::{BlockedBy, Code};
use crate::decision::time::Timestamp;
use crate::decision::verdict::{self, Action};
use crate::flow;
use crate::flow::authorize::{Decision, Permit, Verdict};
use crate::flow::cache::{Given, HitKind, Status};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    /// Settled with a lower `quality_score`, the request may be tried again on this model: authorize it with `escalate_from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    escalation: Option<EscalationOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<CacheOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Box<ExplainOut<'a>>>,
}

/// What may follow an answer that is not good enough.
#[derive(Debug, Serialize, ToSchema)]
pub struct EscalationOut<'a> {
    /// The model of the second try.
    #[schema(example = "claude-opus-4-5")]
    model: &'a str,
    /// A settle with a lower `quality_score` permits it.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.7)]
    min_quality_score: Ratio,
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

/// The answer to a request whose answer was there already. Nothing is held; there is nothing to settle.
#[derive(Debug, Serialize, ToSchema)]
pub struct CachedAnswer<'a> {
    #[schema(example = "cached")]
    decision: &'static str,
    #[schema(value_type = String)]
    decision_id: DecisionId,
    request_id: &'a str,
    /// Always null.
    #[schema(value_type = Option<String>)]
    reservation_id: Option<ReservationId>,
    /// The model that made the answer.
    #[schema(example = "claude-haiku-4-5")]
    model: &'a str,
    requested_model: &'a str,
    cache: HitOut,
    /// What is in the ledger: no cost, what was avoided, and what counts by the feature's `bill`.
    entry: EntryOut<'a>,
    budgets: Vec<BudgetOut<'a>>,
    plan_id: Option<&'a str>,
    plan_version: Option<u32>,
}

/// A kept answer that is given again.
#[derive(Debug, Serialize, ToSchema)]
pub struct HitOut {
    #[schema(example = "hit")]
    status: &'static str,
    kind: HitKind,
    /// Of the prompts' vectors; 1 for an exact hit.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.951)]
    similarity: Ratio,
    #[schema(value_type = String, example = "cch_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    cache_entry_id: CacheEntryId,
    /// How long ago it was kept.
    #[schema(example = 31)]
    age_seconds: i64,
    /// As the settle brought it.
    #[schema(value_type = Object)]
    response: Value,
}

/// What became of the look into the cache, where the decision is none of it.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct CacheOut {
    /// miss; off: the plan keeps no answers for such a request; error: the cache could not be asked.
    #[schema(example = "miss")]
    status: &'static str,
    /// Of a miss: nobody else is about to bring this very answer. Who does not lead may wait, and ask again, for as long as a call takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<bool>,
}

impl From<Status> for CacheOut {
    fn from(status: Status) -> Self {
        let (status, leader) = match status {
            Status::Off => ("off", None),
            Status::Error => ("error", None),
            Status::Miss { leads } => ("miss", Some(leads)),
        };
        Self { status, leader }
    }
}

/// What is told of the cache to a request that asked it; one that was decided before it was asked found it off.
pub(super) fn cache_out(asked: bool, decision: &Decision) -> Option<CacheOut> {
    asked.then(|| decision.cache.unwrap_or(Status::Off).into())
}

/// May this workspace spend, on which model, how much?
#[utoipa::path(post, path = "/v1/authorize", tag = "hot path", params(AuthorizeQuery), request_body = AuthorizeRequest,
    responses((status = 200, description = "Allowed, denied, or answered from the cache: `decision` tells.", body = AllowAnswer)))]
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
    let cache = cache_out(caches, &decision);
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
    Cached(CachedAnswer<'a>),
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
        Verdict::Cached(given) => {
            let mut response = HttpResponse::build(StatusCode::OK);
            rate_limit(&mut response, &given.budgets, false, now);
            if decision.replayed {
                response.insert_header(("Idempotency-Replayed", "true"));
            }
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
        Verdict::Denied(_) | Verdict::Cached(_) => None,
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
        Verdict::Cached(given) => DecisionOut::Cached(cached(decision.decision, given, request_id, requested)),
    }
}

fn cached<'a>(decision_id: DecisionId, given: &'a Given, request_id: &'a RequestId, requested: &'a ModelId) -> CachedAnswer<'a> {
    CachedAnswer {
        decision: "cached",
        decision_id,
        request_id: request_id.as_str(),
        reservation_id: None,
        model: given.entry.model.as_str(),
        requested_model: requested.as_str(),
        cache: HitOut {
            status: "hit",
            kind: given.kind,
            similarity: given.similarity,
            cache_entry_id: given.cache_entry,
            age_seconds: given.age_seconds,
            // It was an object when it was kept.
            response: serde_json::from_str(&given.response).unwrap_or_default(),
        },
        entry: (&given.entry).into(),
        budgets: budgets(&given.budgets),
        plan_id: given.plan.as_ref().map(|plan| plan.id.as_str()),
        plan_version: given.plan.as_ref().map(|plan| plan.version),
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
        escalation: permit.escalation.as_ref().map(|escalation| EscalationOut {
            model: escalation.model.as_str(),
            min_quality_score: escalation.min_quality_score,
        }),
        cache,
        explain,
    }
}

/// What most RateLimit header fields fit into.
const RATE_LIMIT_BYTES_USUALLY_MAX: usize = 96;

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
    let mut policy = String::with_capacity(RATE_LIMIT_BYTES_USUALLY_MAX);
    let mut rest = String::with_capacity(RATE_LIMIT_BYTES_USUALLY_MAX);
    // Writing into a String cannot fail.
    let _ = write!(policy, "\"{}\";q={quota}", view.id);
    let _ = write!(rest, "\"{}\";r={left}", view.id);
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
