//! `/v1/admin/providers`: where new requests may go. A drained provider is avoided as if every caller had excluded it.

use super::call::{Answer, Call, answer, ok};
use super::problem::Problem;
use super::reservations::durably;
use crate::decision::id::Provider;
use crate::decision::provider::ProviderState;
use crate::decision::time::Timestamp;
use crate::flow;
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
