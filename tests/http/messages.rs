//! What callers and their customers read: in their language, in a plan's own words, and everywhere the same.

use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};

async fn denied(app: &TestApp, workspace: &str, languages: Option<&str>) -> String {
    let body = Value::Object(app.authorize(workspace).tokens(1, 0).body);
    let headers: Vec<(&str, &str)> = languages.iter().map(|languages| ("Accept-Language", *languages)).collect();
    let answer = app.send(Method::POST, "/v1/authorize", &headers, body).await.expect(200);
    assert_eq!(answer["decision"], "deny", "{answer:#}");
    answer["reasons"][0]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn a_caller_is_answered_in_the_language_that_it_accepts() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 5_000_000).await;
    let reservation = app.authorize("ws").tokens(100_000, 50).reserved().await;
    app.settle(&reservation, 4_999_999, 1).await.expect(200);
    let english = "Workspace ws has used its 5,000,000 tokens for November. They renew on 1 December.";
    let german = "Workspace ws hat 5.000.000 Tokens für November verbraucht. Sie erneuern sich am 1. Dezember.";
    for (languages, expected) in [
        (None, english),
        (Some("de"), german),
        (Some("de-CH, en;q=0.5"), german),
        (Some("fr, *;q=0.5"), english),
        (Some("en-GB, de;q=0.9"), english),
        (Some("\u{e9}"), english),
    ] {
        assert_eq!(denied(&app, "ws", languages).await, expected, "{languages:?}");
    }
    // The plan may name a language, and words of its own; what the caller accepts comes first.
    let plan = json!({"name": "ws", "locale": "de", "pricing": {"model": "flat", "base_usd": "0"},
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 5_000_000}]});
    app.put("/v1/admin/plans/ws", plan).await.expect(200);
    assert_eq!(denied(&app, "ws", None).await, german);
    assert_eq!(denied(&app, "ws", Some("en")).await, english);
    let own = json!({"locales": [{"id": "de", "plans": {"ws": {"limit_spent": "Alles weg: {limit}. {renews}"}}}]});
    app.put("/v1/admin/messages", own).await.expect(201);
    assert_eq!(
        denied(&app, "ws", None).await,
        "Alles weg: 5.000.000 Tokens. Sie erneuern sich am 1. Dezember."
    );
    assert_eq!(denied(&app, "ws", Some("en")).await, english);
}

#[tokio::test]
async fn messages_are_a_policy_object_like_any_other() {
    let app = TestApp::start().await;
    app.get("/v1/admin/messages").await.problem(404, "not_found");
    for (body, status) in [
        (json!({"locales": [{"id": "en", "texts": {"limit_spent": "{limt} gone"}}]}), 422),
        (json!({"locales": [{"id": "fr"}]}), 422),
        (json!({"locale": []}), 400),
        (json!({"locales": [{"id": "en", "plans": {"no_such": {}}}]}), 422),
    ] {
        let reply = app.put("/v1/admin/messages", body.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
    }
    let texts = json!({"locales": [{"id": "en", "texts": {"workspace_suspended": "Closed: {workspace}."}}]});
    app.put("/v1/admin/messages", texts).await.expect(201);
    app.workspace_with_tokens("ws", 10).await;
    app.patch("/v1/admin/workspaces/ws", json!({"status": "suspended"}))
        .await
        .expect(200);
    assert_eq!(denied(&app, "ws", None).await, "Closed: ws.");
    let log = app.get("/v1/admin/audit-log?action=messages.put").await.expect(200);
    let subjects: Vec<&str> = log["data"]
        .as_array()
        .expect("records")
        .iter()
        .filter_map(|record| record["subject_id"].as_str())
        .collect();
    assert_eq!(subjects, ["messages"]);
}
