//! The OpenAPI document, made from the code. A test holds the committed copy to it.
//!
//! Shapes come from the types, plans and models from the schemas of the policy files, meaning and bounds of a field from its word
//! ([`words`]), and what all operations have in common is said once ([`finish`]).

mod bodies;
mod credentials;
mod finish;
mod shapes;
mod words;

use super::by::Reasons;
use super::precondition::Preconditions;
use credentials::Credentials;
use std::sync::OnceLock;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "Weir", description = "Quota and billing metering for AI products: asked before each LLM call, told after it. \
        Errors are `application/problem+json` (RFC 9457) with a stable `code`; all codes stand with the schema `ProblemBody`.\n\n\
        A credential: `weir token --scope authorize,read` prints one; paste it under *Authorize*."),
    servers((url = "/", description = "The service that shows this page")),
    tags(
        (name = "hot path", description = "Before and after each LLM call."),
        (name = "reading", description = "What was used, and what is left."),
        (name = "admin", description = "What an operator sets: plans, models, routing, workspaces, providers, corrections, credentials; and the log of who set what."),
        (name = "operations", description = "Health, metrics and this document; open to everybody."),
    ),
    modifiers(&Credentials, &Reasons, &Preconditions),
    paths(
        super::authorize::authorize, super::batch::batch, super::explain::decision, super::explain::reservation, super::reservations::settle, super::reservations::release, super::reservations::extend,
        super::reservations::get, super::cache::purge, super::cache::feedback, super::usage::usage, super::events::events, super::workspace_usage::usage, super::stream::events, super::ledger::ledger, super::economics::unit_economics,
        super::policies::list_plans, super::policies::get_plan, super::policies::put_plan, super::policies::delete_plan,
        super::policies::list_models, super::policies::get_model, super::policies::put_model, super::policies::get_routing,
        super::policies::put_routing, super::policies::get_billing, super::policies::put_billing, super::policies::get_messages, super::policies::put_messages, super::workspaces::get, super::workspaces::put, super::workspaces::patch,
        super::fair_use::list, super::fair_use::end,
        super::grants::give, super::grants::list, super::grants::void, super::grant_billing::resend,
        super::workspace_list::list, super::providers::list, super::providers::get, super::providers::put, super::corrections::correct,
        super::corrections::reprice, super::audit_log::audit_log,
        super::api_keys::create, super::api_keys::list, super::api_keys::get, super::api_keys::delete, super::api_keys::rotate,
        super::portal_tokens::create, super::invoices::preview, super::stripe::receive,
        super::billing::list, super::billing::get, super::billing::resend, super::billing::flush, super::reconcile::reconcile,
        super::webhook_endpoints::create, super::webhook_endpoints::list, super::webhook_endpoints::get, super::webhook_endpoints::patch,
        super::webhook_endpoints::delete, super::webhook_endpoints::rotate, super::webhook_endpoints::test, super::webhook_endpoints::replay,
        super::webhook_deliveries::list, super::webhook_deliveries::get, super::webhook_deliveries::redeliver,
        super::operations::healthz, super::operations::readyz, super::operations::metrics, super::operations::openapi,
    ),
    components(schemas(super::authorize::DenyAnswer, super::authorize::CachedAnswer, super::reservations::CheckpointAnswer, super::usage::UsageBatchAnswer, super::problem::ProblemBody,
        super::authorize::HttpStatus, super::workspaces::OverrideBody, super::top_ups::TopUpBody, crate::decision::usage::UsageFormat)),
)]
struct Document;

/// The document as it is served and committed.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
        finish::finish(&mut document);
        serde_json::to_string_pretty(&document).map(|text| text + "\n").unwrap_or_default()
    })
}
