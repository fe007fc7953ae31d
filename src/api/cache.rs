//! `/v1/cache`: what a product says of answers that are kept for it. That they are kept and given again is a matter of authorize and settle.

use super::call::{Answer, Call, ok};
use super::problem::Problem;
use super::reservations::durably;
use crate::decision::id::{CacheEntryId, Feature, WorkspaceId};
use crate::flow;
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which answers are to go.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PurgeQuery {
    /// Whose. A credential that is bound to a workspace may leave it out.
    #[param(value_type = String, required = true, example = "ws_456", max_length = 128)]
    workspace_id: Option<WorkspaceId>,
    /// Absent: those of all features.
    #[param(value_type = Option<String>, example = "faq", max_length = 128)]
    feature: Option<Feature>,
}

/// Forgets the kept answers of a workspace, or of one feature of it, on all nodes. Answers of requests that are under way may be kept after it.
#[utoipa::path(delete, path = "/v1/cache", tag = "hot path", params(PurgeQuery), responses((status = 204)))]
pub async fn purge(call: Call) -> Answer {
    let query: PurgeQuery = call.query()?;
    if query.workspace_id.is_none() && call.identity.workspace.is_none() {
        return Err(Problem::malformed(
            "",
            "the query string: workspace_id is required: the credential is not bound to a workspace",
        ));
    }
    let workspace = call.workspace(query.workspace_id)?;
    let (service, by) = (call.service.clone(), call.by()?);
    durably(async move { flow::cache::purge(&service, &workspace, query.feature.as_ref(), &by).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Whether an answer that was given from the cache was right.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedbackRequest {
    #[schema(value_type = String, example = "cch_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    cache_entry_id: CacheEntryId,
    #[schema(example = false)]
    correct: bool,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackAnswer {
    #[schema(value_type = String, example = "cch_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    cache_entry_id: CacheEntryId,
    /// It was there until now, and is not given again.
    evicted: bool,
}

/// Tells whether an answer that was given from the cache was right. One that was not is not given again, by any node.
#[utoipa::path(post, path = "/v1/cache/feedback", tag = "hot path", request_body = FeedbackRequest,
    responses((status = 200, body = FeedbackAnswer)))]
pub async fn feedback(call: Call) -> Answer {
    let FeedbackRequest { cache_entry_id, correct } = call.json()?;
    let (service, bound) = (call.service.clone(), call.identity.workspace.clone());
    let evicted = durably(async move { flow::cache::feedback(&service, cache_entry_id, correct, bound.as_ref()).await }).await?;
    ok(&FeedbackAnswer { cache_entry_id, evicted })
}
