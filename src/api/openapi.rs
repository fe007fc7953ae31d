//! The OpenAPI document, made from the code. A test holds the committed copy to it.

use std::sync::OnceLock;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(title = "Weir", description = "Quota and billing metering for AI products: asked before each LLM call, told after it. \
        Errors are `application/problem+json` (RFC 9457) with a stable `code`."),
    servers((url = "http://127.0.0.1:8080")),
    security(("bearer" = [])),
    modifiers(&Bearer),
    paths(
        super::authorize::authorize, super::reservations::settle, super::reservations::release, super::reservations::extend,
        super::reservations::get, super::usage::usage, super::events::events, super::workspaces::usage, super::ledger::ledger,
        super::policies::list_plans, super::policies::get_plan, super::policies::put_plan, super::policies::delete_plan,
        super::policies::list_models, super::policies::get_model, super::policies::put_model, super::policies::get_routing,
        super::policies::put_routing, super::workspaces::get, super::workspaces::put, super::workspaces::patch,
        super::operations::healthz, super::operations::readyz, super::operations::metrics, super::operations::openapi,
    ),
    components(schemas(super::authorize::DenyAnswer, super::reservations::CheckpointAnswer, super::usage::UsageBatchAnswer, super::problem::ProblemBody)),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The document as it is served and committed.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| document().to_pretty_json().map(|text| text + "\n").unwrap_or_default())
}
