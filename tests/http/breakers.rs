//! Breakers over HTTP: how a model that failed is regained however requests come to it, and for whom it fails.

use super::routing::exchange;
use crate::support::TestApp;
use serde_json::{Value, json};

async fn app(rules: Value) -> TestApp {
    let app = TestApp::start().await;
    app.put("/v1/admin/routing", json!({"rules": rules, "default_model": "mid"}))
        .await
        .expect_one_of(&[200, 201]);
    app
}

/// One request of this workspace: the model that served, and how that went.
async fn one(app: &TestApp, workspace: &str, asked: &str, failing: &str) -> String {
    let allowed = app.authorize(workspace).model(asked).tokens(100, 50).allowed().await;
    let (model, id) = (
        allowed["model"].as_str().expect("a model"),
        allowed["reservation_id"].as_str().expect("an id"),
    );
    let outcome = if model == failing { "error" } else { "success" };
    let report = json!({"usage": {"input_tokens": 100, "output_tokens": 50}, "outcome": outcome, "latency_ms": 300});
    app.post(&format!("/v1/reservations/{id}/settle"), report).await.expect(200);
    model.to_owned()
}

/// The model that serves while all is well, and the one that does while it fails.
async fn leave(app: &TestApp, asked: &str) -> (String, String) {
    let first = one(app, "ws", asked, "").await;
    for _ in 0..5 {
        one(app, "ws", asked, &first).await;
    }
    exchange(app).await;
    let second = one(app, "ws", asked, &first).await;
    assert_ne!(first, second, "five failures");
    (first, second)
}

#[tokio::test]
async fn a_model_that_is_only_reached_as_the_cheapest_of_its_tier_is_regained() {
    let app = app(json!([{"name": "cheap", "when": "true", "tier": "frontier"}])).await;
    let (first, second) = leave(&app, "auto").await;
    app.pass_seconds(11);
    let three = async || {
        let served = [
            one(&app, "ws", "auto", "").await,
            one(&app, "ws", "auto", "").await,
            one(&app, "ws", "auto", "").await,
        ];
        assert!(served.iter().all(|model| *model == first || *model == second), "{served:?}");
        exchange(&app).await;
        served.iter().filter(|model| **model == first).count()
    };
    let probes = three().await;
    assert!(
        if app.beside.is_empty() { probes == 2 } else { probes >= 2 },
        "two a second and node, not {probes}"
    );
    app.pass_seconds(1);
    three().await;
    for _ in 0..5 {
        app.pass_seconds(1);
        assert_eq!(three().await, 3, "three good ones close it");
    }
}

#[tokio::test]
async fn an_operator_who_says_auto_closes_the_breakers() {
    let app = app(json!([{"name": "cheap", "when": "true", "tier": "frontier"}])).await;
    let (first, _) = leave(&app, "auto").await;
    let provider = app
        .service
        .policy
        .load()
        .catalogue
        .find(&first)
        .expect("listed")
        .provider
        .to_string();
    let path = format!("/v1/admin/providers/{provider}");
    let state = |shown: &Value| {
        let models = shown["health"]["models"].as_array().cloned().expect("models");
        models
            .iter()
            .find(|model| model["model"] == json!(first))
            .map(|model| model["state"].clone())
    };
    assert_eq!(state(&app.get(&path).await.expect(200)), Some(json!("open")));
    let shown = app.put(&path, json!({"state": "auto"})).await.expect_one_of(&[200, 201]);
    exchange(&app).await;
    assert_eq!(state(&shown), Some(json!("closed")), "{shown:#}");
    assert_eq!(one(&app, "ws", "auto", "").await, first);
}

#[tokio::test]
async fn a_downgrade_that_failed_is_offered_again() {
    let app = app(json!([])).await;
    let budget = json!({"id": "tokens", "unit": "tokens", "period": "month", "soft": 1, "hard": 100_000, "at_soft": ["downgrade"]});
    app.workspace_on("ws_soft", json!({"budgets": [budget]})).await;
    app.authorize("ws_soft").allowed().await;
    let downgraded = async || app.authorize("ws_soft").allowed().await["model"].clone();
    assert_eq!(downgraded().await, "mid");
    for _ in 0..5 {
        one(&app, "ws", "mid", "mid").await;
    }
    exchange(&app).await;
    assert_eq!(downgraded().await, "small", "mid fails");
    app.pass_seconds(11);
    let served = [downgraded().await, downgraded().await, downgraded().await];
    if app.beside.is_empty() {
        assert_eq!(served, ["mid", "mid", "small"], "two a second find out");
    } else {
        assert!(
            served.iter().filter(|model| *model == "mid").count() >= 2,
            "two a second and node: {served:?}"
        );
    }
}

#[tokio::test]
async fn whose_prompts_no_provider_takes_moves_nobody_else() {
    let app = app(json!([])).await;
    for _ in 0..3 {
        assert_eq!(one(&app, "ws_good", "big", "").await, "big");
    }
    exchange(&app).await;
    for _ in 0..20 {
        one(&app, "ws_bad", "big", "big").await;
    }
    exchange(&app).await;
    assert_eq!(one(&app, "ws_good", "big", "").await, "big");
}

/// A call is charged to the time of its run, which began before the breaker opened; the call itself did not.
#[tokio::test]
async fn calls_of_a_run_that_began_before_close_a_breaker_too() {
    let app = app(json!([])).await;
    let run = app
        .authorize("ws_run")
        .tokens(5_000, 0)
        .with("hold_seconds", 3_600)
        .with("max_calls", 100)
        .allowed()
        .await;
    let run = run["reservation_id"].as_str().expect("an id").to_owned();
    app.pass_seconds(1);
    for _ in 0..5 {
        one(&app, "ws", "big", "big").await;
    }
    exchange(&app).await;
    let path = "/v1/admin/providers/acme";
    assert_eq!(app.get(path).await.expect(200)["health"]["state"], "open");
    app.pass_seconds(11);
    let mut served = Vec::new();
    for _ in 0..6 {
        for _ in 0..2 {
            let call = app.authorize("ws_run").tokens(10, 5).with("parent_reservation_id", run.as_str());
            let allowed = call.allowed().await;
            served.push(allowed["model"].clone());
            let id = allowed["reservation_id"].as_str().expect("an id");
            let report = json!({"usage": {"input_tokens": 10, "output_tokens": 5}, "latency_ms": 300});
            app.post(&format!("/v1/reservations/{id}/settle"), report).await.expect(200);
        }
        app.pass_seconds(1);
        exchange(&app).await;
    }
    assert_eq!(app.get(path).await.expect(200)["health"]["state"], "closed", "{served:?}");
}

/// The fallback of the better model is the one whose answer was not good enough.
#[tokio::test]
async fn a_second_try_never_goes_back_to_the_model_of_the_first() {
    let escalation = json!({"model": "big", "min_quality_score": 0.7});
    let app = app(json!([{"name": "first", "when": "request.feature == 'try'", "model": "other", "escalation": escalation}])).await;
    let first = app.authorize("ws").feature("try").model("auto").allowed().await;
    assert_eq!(first["model"], "other");
    let from = first["reservation_id"].as_str().expect("an id").to_owned();
    let report = json!({"usage": {"input_tokens": 100, "output_tokens": 50}, "quality_score": 0.4});
    app.post(&format!("/v1/reservations/{from}/settle"), report).await.expect(200);
    for _ in 0..5 {
        one(&app, "ws", "big", "big").await;
    }
    exchange(&app).await;
    assert_eq!(app.authorize("ws").allowed().await["model"], "other", "big fails");
    let again = app.authorize("ws").feature("try").model("auto").with("escalate_from", from);
    assert_eq!(again.allowed().await["model"], "big");
}
