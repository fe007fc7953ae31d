//! `POST /v1/admin/portal-tokens`: a short-lived credential that a product hands to its customer's browser. It opens the usage of one
//! workspace and nothing else, without costs. It is kept nowhere, so it cannot be revoked by itself: it ends soon.

use super::api_keys::seal;
use super::call::{Answer, Call, answer};
use super::problem::Problem;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use crate::decision::value;
use crate::flow;
use actix_web::HttpResponse;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

const TTL_SECONDS_DEFAULT: i64 = 3_600;
const TTL_SECONDS_MAX: i64 = 24 * 3_600;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortalTokenBody {
    /// The workspace whose usage it shows. A credential that is bound to a workspace may leave it out.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "ws_456")]
    workspace_id: Option<WorkspaceId>,
    /// How long it opens the portal.
    #[serde(default = "ttl_default", deserialize_with = "ttl")]
    #[schema(minimum = 1, maximum = 86400, default = 3600, example = 900)]
    ttl_seconds: i64,
}

fn ttl_default() -> i64 {
    TTL_SECONDS_DEFAULT
}

fn ttl<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    value::integer(from, "ttl_seconds", 1, TTL_SECONDS_MAX)
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PortalTokenAnswer<'a> {
    /// To be sent as `Authorization: Bearer …`.
    #[schema(example = "weir_pt_…")]
    token: &'a str,
    #[schema(value_type = String)]
    workspace_id: &'a WorkspaceId,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A credential that shows a customer its own usage, and no cost.
#[utoipa::path(post, path = "/v1/admin/portal-tokens", tag = "admin", request_body(content = PortalTokenBody, example = json!({"workspace_id": "ws_456", "ttl_seconds": 900})),
    responses((status = 201, body = PortalTokenAnswer)))]
pub async fn create(call: Call) -> Answer {
    let body: PortalTokenBody = call.json()?;
    let workspace = call.workspace(body.workspace_id)?;
    flow::workspace::find(&call.service, &workspace)
        .await?
        .ok_or_else(Problem::not_found)?;
    let now = call.service.clock.now();
    // A token's times are whole seconds.
    let issued_at = Timestamp::from_micros(now.micros().div_euclid(1_000_000) * 1_000_000);
    let ttl_seconds = u32::try_from(body.ttl_seconds).map_err(|error| Problem::internal().because(error))?;
    let token = seal(&call)?.portal_token(&workspace, issued_at, ttl_seconds);
    let mut response = HttpResponse::Created();
    response.insert_header(("Cache-Control", "no-store"));
    let answered = PortalTokenAnswer {
        token: &token,
        workspace_id: &workspace,
        expires_at: issued_at.plus_seconds(body.ttl_seconds),
    };
    Ok(answer(response, &answered))
}
