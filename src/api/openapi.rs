//! The OpenAPI document, made from the code. A test holds the committed copy to it.

use super::auth::Scope;
use super::problem::{CONTENT_TYPE, codes_as_markdown};
use super::routes::routes;
use actix_web::http::Method;
use std::sync::OnceLock;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
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
        (name = "admin", description = "What an operator sets: plans, models, routing, workspaces, credentials."),
        (name = "operations", description = "Health, metrics and this document; open to everybody."),
    ),
    modifiers(&Credentials, &Problems),
    paths(
        super::authorize::authorize, super::reservations::settle, super::reservations::release, super::reservations::extend,
        super::reservations::get, super::usage::usage, super::events::events, super::workspaces::usage, super::ledger::ledger,
        super::policies::list_plans, super::policies::get_plan, super::policies::put_plan, super::policies::delete_plan,
        super::policies::list_models, super::policies::get_model, super::policies::put_model, super::policies::get_routing,
        super::policies::put_routing, super::workspaces::get, super::workspaces::put, super::workspaces::patch,
        super::api_keys::create, super::api_keys::list, super::api_keys::get, super::api_keys::delete, super::api_keys::rotate,
        super::portal_tokens::create,
        super::operations::healthz, super::operations::readyz, super::operations::metrics, super::operations::openapi,
    ),
    components(schemas(super::authorize::DenyAnswer, super::reservations::CheckpointAnswer, super::usage::UsageBatchAnswer, super::problem::ProblemBody)),
)]
struct Document;

/// What a credential is, and for each operation which scopes will do: from the route table, which decides.
struct Credentials;

const JWT: &str = "A JSON Web Token, signed with HS256, RS256, ES256, ES384 or EdDSA, with `iss`, `aud`, `exp` and `sub`, the scopes as words in \
    `scope`, and `workspace_id` where it is bound to one workspace. `weir token` prints one.";
const API_KEY: &str = "A key of `POST /v1/admin/api-keys` (`weir_sk_…`), or for a customer's own usage a token of `POST \
    /v1/admin/portal-tokens` (`weir_pt_…`). Sent like a JSON Web Token: `Authorization: Bearer …`.";

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, format, about) in [("jwt", Some("JWT"), JWT), ("api_key", None, API_KEY)] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.bearer_format = format.map(str::to_owned);
            scheme.description = Some(about.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        for route in routes() {
            let Some(operation) = document
                .paths
                .paths
                .get_mut(route.path)
                .and_then(|item| operation_of(item, &route.method))
            else {
                continue;
            };
            let one = |scheme: &str, scope: Scope| SecurityRequirement::new(scheme, [scope.as_str()]);
            let scopes: Vec<Scope> = route.access.scopes().iter().collect();
            let any = scopes.iter().flat_map(|scope| [one("jwt", *scope), one("api_key", *scope)]);
            operation.security = Some(match scopes.is_empty() {
                true => Vec::new(),
                false => any.collect(),
            });
            if !scopes.is_empty() {
                let about = operation.description.get_or_insert_default();
                let bound = if route.access.takes_bound() {
                    ""
                } else {
                    ", of a credential that is bound to no workspace"
                };
                let words: Vec<String> = scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
                about.push_str(&format!("\n\nScope: {}{bound}.", words.join(" or ")));
            }
        }
    }
}

fn operation_of<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match method.as_str() {
        "GET" => item.get.as_mut(),
        "PUT" => item.put.as_mut(),
        "POST" => item.post.as_mut(),
        "DELETE" => item.delete.as_mut(),
        "PATCH" => item.patch.as_mut(),
        _ => None,
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
