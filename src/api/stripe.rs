//! `/webhooks/stripe`: what Stripe tells. Open to whoever signs with our secret, and to nobody else.

use super::call::{Answer, Call, ok};
use super::problem::{Problem, ProblemBody, ProblemCode};
use super::stripe_signature;
use super::workspaces;
use crate::flow;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The header with time and signatures.
const SIGNATURE_HEADER: &str = "stripe-signature";

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventReceived {
    /// Always true.
    received: bool,
    /// `applied`, of a report: kept; `unchanged`: it said what was known; `stale`: a newer one was there before; `unmatched`: no workspace has its customer;
    /// `unmapped`: no price of it stands for a plan; `ignored`: it means nothing here. Of one that comes again: what became of it first.
    #[schema(example = "applied")]
    outcome: &'static str,
}

/// Takes an event of Stripe's, signed with `WEIR_STRIPE_WEBHOOK_SECRET`. Subscriptions set plan, seats, billing anchor and status of the
/// workspace with their customer, paid invoices and credit notes are kept as revenue, reports of refused usage reject what they name: one that comes
/// without its data, as Stripe sends them, is kept, and its data asked for in the background. Each event is handled once.
#[utoipa::path(post, path = "/webhooks/stripe", tag = "operations", request_body(content = Value, description = "An event, as Stripe signed it."),
    params(("Stripe-Signature" = String, Header, description = "`t=SECONDS,v1=SIGNATURE`; several `v1` may be there, one must fit.")),
    responses((status = 200, body = EventReceived),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "Not signed by our secret, or not an event."),
        (status = 503, body = ProblemBody, content_type = "application/problem+json",
            description = "`WEIR_STRIPE_WEBHOOK_SECRET` is not set, so no event is taken; or a store is away. Stripe sends it again.")))]
pub async fn receive(call: Call) -> Answer {
    let Some(secrets) = call.service.options.stripe_webhook_secrets.clone() else {
        let detail = "Stripe's events are not taken: set WEIR_STRIPE_WEBHOOK_SECRET to the signing secret of this endpoint.";
        return Err(Problem::not_configured(detail));
    };
    let mut headers = call.request.headers().get_all(SIGNATURE_HEADER);
    // Of two headers one could be meant for somebody else.
    let header = match (headers.next(), headers.next()) {
        (Some(header), None) => header.to_str().ok(),
        _ => None,
    };
    let now = call.service.clock.now().micros().div_euclid(1_000_000);
    if let Err(refused) = stripe_signature::check(header, &call.body, &secrets, now) {
        metrics::counter!("weir_stripe_events_total", "outcome" => "refused").increment(1);
        return Err(Problem::of(ProblemCode::SignatureInvalid, format!("{}.", refused.why())));
    }
    // Not as our own bodies are: Stripe may come to say more than we know.
    let body: Value = serde_json::from_slice(&call.body).map_err(|why| Problem::malformed("", why.to_string()))?;
    let request_id = call.by()?.request_id;
    let document = |workspace: &_| workspaces::document(&call, workspace);
    let outcome = flow::inbound::receive(&call.service, &body, request_id, &document).await?;
    ok(&EventReceived {
        received: true,
        outcome: outcome.as_str(),
    })
}
