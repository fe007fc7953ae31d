//! `/v1/admin/providers`: where new requests may go, and how well who answers them does. A drained provider is avoided as if every caller
//! had excluded it; one that fails is left by itself.

use super::call::{Answer, Call, answer, ok};
use super::problem::Problem;
use super::reservations::durably;
use crate::decision::amount::Ratio;
use crate::decision::id::Provider;
use crate::decision::provider::ProviderState;
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::health::{BreakerState, Counts, OpenedBy, Standing};
use crate::flow::providers::Shown;
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an operator sets of a provider.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"state": "auto"}))]
pub struct ProviderBody {
    state: ProviderState,
}

/// A provider as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderOut<'a> {
    #[schema(example = "anthropic")]
    provider: &'a str,
    state: ProviderState,
    /// How many models of the catalogue it serves.
    models: usize,
    /// Null: nobody ever set it.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Timestamp>,
    /// How well its models answer.
    health: HealthOut<'a>,
}

/// How well a provider answers, by what settles reported lately to all nodes.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthOut<'a> {
    /// `open`: nothing that is known of it works, and the fallbacks of its models serve. `half_open`: a few requests find out whether it works
    /// again.
    state: BreakerState,
    /// Requests in the window that the routing rules name.
    #[schema(minimum = 0, maximum = 1000000000, example = 120)]
    requests: i64,
    /// The share of errors among them.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.025)]
    error_rate: Ratio,
    /// Since when it is in this state; null: since before anything is known of it.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Each model of which anything was heard lately.
    models: Vec<ModelHealthOut<'a>>,
}

/// How well one model answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelHealthOut<'a> {
    /// The model's id.
    #[schema(example = "claude-sonnet-4-5")]
    model: &'a str,
    state: BreakerState,
    /// Of one that is not closed: why it opened.
    why: Option<OpenedBy>,
    /// Requests in the window that the routing rules name, since it is in this state.
    #[schema(minimum = 0, maximum = 1000000000, example = 120)]
    requests: i64,
    /// The share of errors among them.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 0.025)]
    error_rate: Ratio,
    /// Errors that took as long as a time-out.
    #[schema(minimum = 0, maximum = 1000000000, example = 0)]
    timeouts: i64,
    /// Answers that took much longer than is usual.
    #[schema(minimum = 0, maximum = 1000000000, example = 0)]
    slow: i64,
    /// What an answer without tokens usually takes; null: too few were reported.
    #[schema(minimum = 0, maximum = 68719476736i64, example = 640)]
    baseline_ms: Option<i64>,
    /// Since when it is in this state; null: since before anything is known of it.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

impl<'a> HealthOut<'a> {
    fn new(standings: &'a [Standing]) -> Self {
        let mut sum = Counts::default();
        standings.iter().for_each(|standing| sum.add(&standing.counts));
        // As good as the best of what has been heard of.
        let heard = || {
            standings
                .iter()
                .filter(|standing| standing.since.is_some() || standing.counts.requests() > 0)
        };
        let has = |state: BreakerState| heard().any(|standing| standing.state == state);
        let state = match (has(BreakerState::Closed), has(BreakerState::HalfOpen), has(BreakerState::Open)) {
            (true, ..) | (false, false, false) => BreakerState::Closed,
            (false, true, _) => BreakerState::HalfOpen,
            (false, false, true) => BreakerState::Open,
        };
        Self {
            state,
            requests: sum.requests(),
            error_rate: sum.error_rate(),
            since: heard()
                .filter(|standing| standing.state == state)
                .filter_map(|standing| standing.since)
                .max(),
            models: standings.iter().map(ModelHealthOut::from).collect(),
        }
    }
}

impl<'a> From<&'a Standing> for ModelHealthOut<'a> {
    fn from(standing: &'a Standing) -> Self {
        Self {
            model: standing.model.as_str(),
            state: standing.state,
            why: Some(standing.why).filter(|_| standing.state != BreakerState::Closed),
            requests: standing.counts.requests(),
            error_rate: standing.counts.error_rate(),
            timeouts: standing.counts.timeouts,
            slow: standing.counts.slow,
            baseline_ms: standing.baseline_ms,
            since: standing.since,
        }
    }
}

/// All providers, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderList<'a> {
    data: Vec<ProviderOut<'a>>,
    /// Always null: the list is whole.
    next_cursor: Option<String>,
}

fn out(shown: &Shown) -> ProviderOut<'_> {
    ProviderOut {
        provider: shown.setting.provider.as_str(),
        state: shown.setting.state,
        models: shown.models,
        changed_at: shown.is_set.then_some(shown.setting.changed_at),
        health: HealthOut::new(&shown.health),
    }
}

/// All providers that serve a model, or that somebody set.
#[utoipa::path(get, path = "/v1/admin/providers", tag = "admin", responses((status = 200, body = ProviderList)))]
pub async fn list(call: Call) -> Answer {
    let providers = flow::providers::list(&call.service).await?;
    ok(&ProviderList {
        data: providers.iter().map(out).collect(),
        next_cursor: None,
    })
}

/// Whether new requests may go to a provider.
#[utoipa::path(get, path = "/v1/admin/providers/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = ProviderOut)))]
pub async fn get(call: Call) -> Answer {
    let provider = Provider::parse(&call.path("id")).map_err(|_| Problem::not_found())?;
    let shown = flow::providers::find(&call.service, &provider)
        .await?
        .ok_or_else(Problem::not_found)?;
    ok(&out(&shown))
}

/// Drains a provider, or opens it again. Every node keeps to it within two seconds; what is held there may still be settled.
#[utoipa::path(put, path = "/v1/admin/providers/{id}", tag = "admin", params(("id" = String, Path)), request_body = ProviderBody,
    responses((status = 200, body = ProviderOut), (status = 201, description = "No model names it, and nobody had set it.", body = ProviderOut)))]
pub async fn put(call: Call) -> Answer {
    let provider = Provider::parse(&call.path("id")).map_err(|why| Problem::unacceptable("", format!("the provider's name {why}")))?;
    let body: ProviderBody = call.json()?;
    let (service, by) = (call.service.clone(), call.by()?);
    let set = async move { flow::providers::put(&service, &provider, body.state, &by).await };
    let (shown, was_known) = durably(set).await?;
    let response = match was_known {
        true => HttpResponse::Ok(),
        false => HttpResponse::Created(),
    };
    Ok(answer(response, &out(&shown)))
}
