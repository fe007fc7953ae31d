//! Grants that were paid for, over HTTP: what may be said of the payment, who may say it, and what is seen of it where the billing provider
//! keeps no credits. How one becomes a credit stands with the tests of billing to Stripe.

use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use weir::app;
use weir::billing::Provider;
use weir::billing::cloudevents::CloudEvents;
use weir::billing::none::NoProvider;
use weir::flow::billing::round_of_credits;

const GRANTS: &str = "/v1/admin/workspaces/ws/grants";

fn paid(amount: i64, currency: &str) -> Value {
    json!({"amount": 500, "paid": {"amount": amount, "currency": currency}})
}

fn employ(app: &TestApp, provider: &Arc<dyn Provider>) {
    for node in app.beside.iter().chain(Some(app)) {
        app::billing::employ(&node.service, provider.clone());
    }
}

#[tokio::test]
async fn what_was_paid_is_checked_and_only_seen_by_operators() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    for (body, status, pointer) in [
        (paid(0, "usd"), 422, "/paid/amount"),
        (paid(-1, "usd"), 422, "/paid/amount"),
        (paid(1_000_000_000_000, "usd"), 422, "/paid/amount"),
        (paid(5, "USD"), 422, "/paid/currency"),
        (paid(5, "dollars"), 422, "/paid/currency"),
        (
            json!({"amount": 5, "paid": {"amount": "5.00", "currency": "usd"}}),
            400,
            "/paid/amount",
        ),
        (json!({"amount": 5, "paid": {"amount": 5}}), 400, "/paid/currency"),
        (
            json!({"amount": 5, "paid": {"amount": 5, "currency": "usd", "tax": 1}}),
            400,
            "/paid/tax",
        ),
        (
            json!({"amount": 5, "recurrence": "month", "paid": {"amount": 5, "currency": "usd"}}),
            422,
            "/paid",
        ),
        (
            json!({"amount": 5, "rollover_max": 5, "paid": {"amount": 5, "currency": "usd"}}),
            422,
            "/paid",
        ),
    ] {
        let reply = app.post(GRANTS, body.clone()).await;
        let code = if status == 400 { "malformed" } else { "unacceptable" };
        let problem = reply.problem(status, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body} {problem}");
    }
    let bound = app.token("admin", Some("ws"));
    let refused = app.call_as(&bound, Method::POST, GRANTS, Some(paid(5, "usd"))).await;
    refused.problem(403, "insufficient_scope");

    let mut body = paid(2_500, "eur");
    body["key"] = json!("invoice-1");
    let first = app.post(GRANTS, body.clone()).await.expect(201);
    assert_eq!(first["paid"], json!({"amount": 2_500, "currency": "eur"}), "{first:#}");
    let again = app.post(GRANTS, body.clone()).await.expect(200);
    assert_eq!(again["grant_id"], first["grant_id"]);
    // Whoever may not have a provider told of one may not have it told of its end either; one that nobody paid for is theirs to end.
    let of_first = format!("{GRANTS}/{}", first["grant_id"].as_str().expect("an id"));
    let refused = app.call_as(&bound, Method::POST, &format!("{of_first}/resend"), None).await;
    refused.problem(403, "insufficient_scope");
    let refused = app.call_as(&bound, Method::DELETE, &of_first, None).await;
    refused.problem(403, "insufficient_scope");
    let unpaid = app.post(GRANTS, json!({"unit": "tokens", "amount": 5})).await.expect(201);
    let of_unpaid = format!("{GRANTS}/{}", unpaid["grant_id"].as_str().expect("an id"));
    assert_eq!(app.call_as(&bound, Method::DELETE, &of_unpaid, None).await.status.as_u16(), 204);
    body["paid"]["amount"] = json!(2_501);
    app.post(GRANTS, body).await.problem(409, "grant_conflict");
    let usage = app.get("/v1/workspaces/ws/usage").await.expect(200);
    let shown = &usage["grants"][0];
    assert_eq!(shown["grant_id"], first["grant_id"]);
    assert!(shown.get("paid").is_none() && shown.get("billing").is_none(), "{shown:#}");
    let records = app.get("/v1/admin/audit-log?limit=50").await.expect(200);
    let record = records["data"]
        .as_array()
        .expect("data")
        .iter()
        .find(|record| record["action"] == "grant.give" && !record["after"]["paid"].is_null());
    assert_eq!(record.expect("it is on record")["after"]["paid"], first["paid"]);
}

#[tokio::test]
async fn a_provider_that_keeps_no_credits_is_told_of_none_and_that_is_seen() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.patch("/v1/admin/workspaces/ws", json!({"stripe_customer_id": "cus_1"}))
        .await
        .expect(200);
    // Nobody listens there: whoever called it would be heard of.
    let elsewhere = CloudEvents::new("http://127.0.0.1:9/", None).expect("a client");
    let providers: [Arc<dyn Provider>; 2] = [Arc::new(NoProvider), Arc::new(elsewhere)];
    for provider in providers {
        employ(&app, &provider);
        let grant = app.post(GRANTS, paid(2_500, "usd")).await.expect(201);
        let id = grant["grant_id"].as_str().expect("an id");
        for _ in 0..3 {
            app.pass_seconds(61);
            round_of_credits(&app.service).await.expect("a round");
        }
        let billing = async || {
            let page = app.get(GRANTS).await.expect(200);
            let found = page["data"]
                .as_array()
                .expect("data")
                .iter()
                .find(|found| found["grant_id"] == id)
                .cloned();
            found.expect("the grant")["billing"].clone()
        };
        let waiting = billing().await;
        assert_eq!(
            (&waiting["state"], &waiting["reason"], &waiting["tries"], &waiting["next_try_at"]),
            (&json!("pending"), &json!("no_credits_kept"), &json!(0), &Value::Null),
            "{waiting:#}"
        );
        assert!(
            waiting["reason_detail"].as_str().expect("words").contains(provider.name()),
            "{waiting:#}"
        );
        let again = app.post(&format!("{GRANTS}/{id}/resend"), json!({})).await.expect(200);
        assert_eq!(again["billing"]["reason"], "no_credits_kept");
        let report = app.post("/v1/admin/billing/reconcile", json!({})).await.expect(200);
        let named = report["credits"]
            .as_array()
            .expect("credits")
            .iter()
            .find(|line| line["grant_id"] == id);
        assert_eq!(named.expect("it is named")["state"], "pending");
        assert_eq!(app.call(Method::DELETE, &format!("{GRANTS}/{id}"), None).await.status.as_u16(), 204);
        let void = billing().await;
        assert_eq!((&void["state"], &void["reason"]), (&json!("voided"), &Value::Null), "{void:#}");
    }
}
