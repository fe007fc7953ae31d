//! Periods, plans and money over HTTP: what is charged to which period, and that a change never moves a counter.

use crate::support;
use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_use_belongs_to_the_period_of_its_authorize() {
    let app = TestApp::start_at("2025-11-30T23:59:59.9Z").await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").reserved().await;
    app.set_clock("2025-12-01T00:00:02Z");
    assert_eq!(app.held("ws", "tokens").await, 0, "December holds nothing of it");
    let settled = app.settle(&reservation, 100, 20).await.expect(200);
    assert_eq!(settled["late"], false);
    assert_eq!(settled["budgets"][0]["period"]["start"], "2025-11-01T00:00:00Z");
    assert_eq!(app.spent("ws", "tokens").await, 0);
    app.set_clock("2025-11-30T23:59:59.95Z");
    assert_eq!(app.spent("ws", "tokens").await, 120);
}

#[tokio::test]
async fn counters_roll_over_by_the_clock_and_their_sums_are_exact() {
    let app = TestApp::start_at("2025-11-21T10:00:00Z").await;
    let plan = json!({"budgets": [
        {"id": "rate", "unit": "tokens", "period": "minute", "hard": 300}, {"id": "hourly", "unit": "tokens", "period": "hour", "hard": 100000},
        {"id": "ever", "unit": "tokens", "period": "lifetime", "hard": 100000}]});
    app.workspace_on("ws", plan).await;
    let mut total = 0;
    for minute in 0..130 {
        for _ in 0..2 {
            let reservation = app.authorize("ws").tokens(100, 50).reserved().await;
            app.settle(&reservation, 100, minute % 40).await.expect(200);
            total += 100 + minute % 40;
        }
        app.authorize("ws").tokens(200, 101).denied().await;
        app.pass_seconds(60);
    }
    assert_eq!(app.spent("ws", "ever").await, total);
    assert_eq!(app.spent("ws", "rate").await, 0, "a fresh minute");
    let hour: i64 = (120..130).map(|minute| 2 * (100 + minute % 40)).sum();
    assert_eq!(app.spent("ws", "hourly").await, hour);
    assert_eq!(app.budget("ws", "ever").await["period"], json!({"start": null, "end": null}));
    assert!(app.service.ledger.verify().await.expect("verified").is_empty());
}

#[tokio::test]
async fn billing_months_begin_on_their_anchor_in_their_zone() {
    let app = TestApp::start_at("2026-01-31T12:00:00Z").await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "billing", "hard": 1000}]}),
    )
    .await;
    let body = json!({"plan_id": "ws", "billing_anchor_day": 31, "timezone": "America/New_York"});
    app.put("/v1/admin/workspaces/other", body).await.expect(201);
    let period = async |moment: &str| {
        app.set_clock(moment);
        let budget = app.budget("other", "tokens").await;
        (
            budget["period"]["start"].as_str().expect("a start").to_owned(),
            budget["period"]["end"].as_str().expect("an end").to_owned(),
        )
    };
    for (moment, start, end) in [
        ("2026-01-31T05:00:00Z", "2026-01-31T05:00:00Z", "2026-02-28T05:00:00Z"),
        ("2026-02-28T04:59:59Z", "2026-01-31T05:00:00Z", "2026-02-28T05:00:00Z"),
        ("2026-02-28T05:00:00Z", "2026-02-28T05:00:00Z", "2026-03-31T04:00:00Z"),
        ("2028-02-29T12:00:00Z", "2028-02-29T05:00:00Z", "2028-03-31T04:00:00Z"),
    ] {
        assert_eq!(period(moment).await, (start.to_owned(), end.to_owned()), "{moment}");
    }
}

#[tokio::test]
async fn a_change_of_zone_waits_for_the_next_period() {
    let app = TestApp::start_at("2025-11-21T10:00:00Z").await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "daily", "unit": "tokens", "period": "day", "hard": 1000}]}),
    )
    .await;
    app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(json!({"timezone": "Asia/Tokyo"})))
        .await
        .expect(200);
    assert_eq!(
        app.budget("ws", "daily").await["period"],
        json!({"start": "2025-11-21T00:00:00Z", "end": "2025-11-22T00:00:00Z"})
    );
    app.set_clock("2025-11-22T00:00:00Z");
    assert_eq!(
        app.budget("ws", "daily").await["period"],
        json!({"start": "2025-11-22T00:00:00Z", "end": "2025-11-22T15:00:00Z"})
    );
}

#[tokio::test]
async fn a_changed_plan_moves_no_counter() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 200).await;
    let reservation = app.authorize("ws").reserved().await;
    app.settle(&reservation, 100, 20).await.expect(200);
    let running = app.authorize("ws").tokens(50, 10).reserved().await;
    let plan = |budgets: Value| json!({"name": "ws", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": budgets});
    let put = async |budgets: Value| app.put("/v1/admin/plans/ws", plan(budgets)).await.expect(200);

    put(json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 5000}])).await;
    let raised = app.budget("ws", "tokens").await;
    assert_eq!(
        (&raised["hard"], &raised["spent"], &raised["held"]),
        (&json!(5_000), &json!(120), &json!(60))
    );
    app.authorize("ws").tokens(1_000, 0).allowed().await;

    put(json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 100}])).await;
    app.authorize("ws").tokens(1, 0).denied().await;
    assert_eq!(app.spent("ws", "tokens").await, 120, "lowering forgives and takes nothing");
    app.settle(&running, 50, 10).await.expect(200);
    assert_eq!(app.spent("ws", "tokens").await, 180, "a running hold is honoured");

    // A new and a renamed budget start with what their period already used.
    put(json!([{"id": "renamed", "unit": "tokens", "period": "month", "hard": 5000}, {"id": "calls", "unit": "requests", "period": "day", "hard": 100},
        {"id": "chatting", "feature": "chat", "unit": "usd", "period": "year", "hard": "10"}]))
    .await;
    assert_eq!((app.spent("ws", "renamed").await, app.spent("ws", "calls").await), (180, 2));
    assert_eq!(app.budget("ws", "chatting").await["spent"], "0.002400000");

    app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(json!({"plan_id": "open"})))
        .await
        .expect(200);
    assert_eq!(app.spent("ws", "monthly_tokens").await, 180, "another plan carries usage over");
    assert!(app.service.ledger.verify().await.expect("verified").is_empty());
}

#[tokio::test]
async fn a_plan_in_use_cannot_be_deleted() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 200).await;
    app.call(Method::DELETE, "/v1/admin/plans/ws", None)
        .await
        .problem(409, "plan_in_use");
    app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(json!({"plan_id": "open"})))
        .await
        .expect(200);
    assert_eq!(app.call(Method::DELETE, "/v1/admin/plans/ws", None).await.status, 204);
    app.get("/v1/admin/plans/ws").await.problem(404, "not_found");
    app.call(Method::DELETE, "/v1/admin/plans/ws", None).await.problem(404, "not_found");
}

#[tokio::test]
async fn thirds_of_a_nano_dollar_sum_up_exactly() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"max_open_reservations": 100000, "budgets": [{"id": "money", "unit": "usd", "period": "month", "hard": "100"}]}),
    )
    .await;
    // 0.333333 nano-dollars a token: 7 tokens are 2.333331, which is 2 for each entry, rounded once.
    for batch in 0..10 {
        let entry = |n: usize| json!({"workspace_id": "ws", "feature": "f", "model": "thirds", "request_id": format!("{batch}-{n}"), "usage": {"input_tokens": 7, "output_tokens": 0}});
        app.post("/v1/usage", json!({"entries": (0..1_000).map(entry).collect::<Vec<_>>()}))
            .await
            .expect(200);
    }
    assert_eq!(app.budget("ws", "money").await["spent"], "0.000020000");
    let sum: i64 = app
        .ledger("ws")
        .await
        .iter()
        .map(|entry| i64::from(entry["cost_usd"] == "0.000000002"))
        .sum();
    assert_eq!(sum, 10_000);
}

#[tokio::test]
async fn etags_tell_lost_races() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 200).await;
    let read = app.get("/v1/admin/workspaces/ws").await;
    let tag = read.header("etag").expect("an etag").to_owned();
    let patch = async |tag: &str| {
        let request = app
            .client
            .patch(format!("{}/v1/admin/workspaces/ws", app.url))
            .bearer_auth(app.token("admin", None));
        support::Reply::read(
            request
                .header("if-match", tag)
                .json(&json!({"seats": 2}))
                .send()
                .await
                .expect("an answer"),
        )
        .await
    };
    patch(&tag).await.expect(200);
    patch(&tag).await.problem(412, "precondition_failed");
    assert_eq!(app.get("/v1/admin/workspaces/ws").await.expect(200)["seats"], 2);
}
