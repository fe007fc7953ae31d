//! The OpenAPI document, made from the code. A test holds the committed copy to it.

use super::by::Reasons;
use super::precondition::Preconditions;
use super::problem::{CONTENT_TYPE, codes_as_markdown};
use std::sync::OnceLock;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(title = "Weir", description = "Quota and billing metering for AI products: asked before each LLM call, told after it. \
        Errors are `application/problem+json` (RFC 9457) with a stable `code`."),
    servers((url = "/", description = "The service that shows this page")),
    tags(
        (name = "hot path", description = "Before and after each LLM call."),
        (name = "reading", description = "What was used, and what is left."),
        (name = "admin", description = "What an operator sets: plans, models, routing, workspaces, providers, corrections; and the log of who set what."),
        (name = "operations", description = "Health, metrics and this document; open to everybody."),
    ),
    security(("bearer" = [])),
    modifiers(&Bearer, &Problems, &Reasons, &Preconditions),
    paths(
        super::authorize::authorize, super::reservations::settle, super::reservations::release, super::reservations::extend,
        super::reservations::get, super::usage::usage, super::events::events, super::workspaces::usage, super::ledger::ledger,
        super::policies::list_plans, super::policies::get_plan, super::policies::put_plan, super::policies::delete_plan,
        super::policies::list_models, super::policies::get_model, super::policies::put_model, super::policies::get_routing,
        super::policies::put_routing, super::workspaces::get, super::workspaces::put, super::workspaces::patch,
        super::grants::give, super::grants::list, super::grants::void,
        super::workspace_list::list, super::providers::list, super::providers::get, super::providers::put, super::corrections::correct,
        super::corrections::reprice, super::audit_log::audit_log,
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

/// Every operation may be refused, and all refusals have one shape: said once for all of them.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let about = document.info.description.get_or_insert_default();
        about.push_str(" All codes stand with the schema `ProblemBody`.\n\n");
        about.push_str("A credential: `weir token --scope authorize,read` prints one; paste it under *Authorize*.");
        let components = document.components.get_or_insert_default();
        if let Some(RefOr::T(Schema::Object(body))) = components.schemas.get_mut("ProblemBody") {
            body.description = Some(format!("A problem document (RFC 9457).\n\n{}", codes_as_markdown()));
        }
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemBody"))).build();
        let problem = ResponseBuilder::new()
            .description("A refusal: `code` says which, `errors` where.")
            .content(CONTENT_TYPE, content)
            .build();
        for path in document.paths.paths.values_mut() {
            let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
            for operation in operations.into_iter().flatten() {
                operation.responses.responses.insert("default".to_owned(), problem.clone().into());
            }
        }
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
