//! Reservations that expire by themselves are told where an endpoint wants to hear of it: once each, by whichever node, and nowhere else.

use crate::support::TestApp;
use crate::support::stores::is_production;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

/// How long what is held here is held, unless it says otherwise.
const HOLD_SECONDS: i64 = 600;

impl TestApp {
    /// An endpoint that wants this event, known to all nodes.
    async fn listener(&self, workspace: Option<&str>, event: &str) -> Value {
        let body = json!({"url": "https://example.com/hook", "workspace_id": workspace, "events": [event]});
        let endpoint = self.post("/v1/admin/webhook-endpoints", body).await.expect(201);
        self.follow_all().await;
        endpoint
    }

    /// What the backgrounds of all nodes would do by now, at once.
    async fn expire_everywhere(&self) {
        join_all(self.beside.iter().chain([self]).map(|node| node.expire_due())).await;
    }

    /// What was told of reservations of a workspace that expired, oldest first.
    async fn expired(&self, workspace: &str) -> Vec<Value> {
        let path = format!("/v1/workspaces/{workspace}/events?limit=500");
        let headers = [("accept", "application/json")];
        let page = self.call_with(&self.token("read", None), Method::GET, &path, &headers, None).await;
        let mut events = page.expect(200)["data"].as_array().expect("data").clone();
        events.retain(|event| event["type"] == "reservation.expired");
        events.reverse();
        events
    }

    async fn expired_ids(&self, workspace: &str) -> Vec<String> {
        let events = self.expired(workspace).await;
        let id = |event: &Value| event["data"]["reservation_id"].as_str().expect("an id").to_owned();
        let mut ids: Vec<String> = events.iter().map(id).collect();
        ids.sort();
        ids
    }
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hold_that_runs_out_is_told_once_whoever_looks_and_a_late_settle_stays_late() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.workspace_with_tokens("other", 1_000).await;
    app.listener(Some("ws"), "reservation.expired").await;
    let reservation = app.authorize("ws").tokens(100, 0).id("r-1").user("ann").reserved().await;
    app.authorize("other").tokens(100, 0).reserved().await;
    app.pass_seconds(HOLD_SECONDS - 1);
    app.expire_everywhere().await;
    assert_eq!(app.expired("ws").await, [] as [Value; 0]);
    app.pass_seconds(4);
    app.expire_everywhere().await;
    app.expire_everywhere().await;
    let told = app.expired("ws").await;
    assert_eq!(told.len(), 1, "{told:?}");
    let data = &told[0]["data"];
    assert_eq!(data["reservation_id"], json!(reservation));
    assert_eq!(
        (&data["request_id"], &data["user_id"], &data["charged"], &data["tokens"]),
        (&json!("r-1"), &json!("ann"), &json!(false), &json!(0))
    );
    assert!(data["model"].is_string() && data["feature"].is_string() && data["message"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(told[0]["timestamp"], "2025-11-21T10:10:00Z", "when its time was over");
    assert_eq!(app.expired("other").await, [] as [Value; 0], "nobody asked for it");
    assert_eq!((app.held("ws", "tokens").await, app.ledger("ws").await.len()), (0, 0));
    let settled = app.settle(&reservation, 40, 0).await.expect(200);
    assert_eq!(settled["late"], true);
    app.pass_seconds(60);
    app.expire_everywhere().await;
    assert_eq!((app.expired("ws").await.len(), app.spent("ws", "tokens").await), (1, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_ended_or_was_extended_or_nobody_asked_about_is_not_told() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let before = app.authorize("ws").tokens(10, 0).reserved().await;
    let endpoint = app.listener(None, "*").await;
    let (settled, released) = (
        app.authorize("ws").tokens(10, 0).reserved().await,
        app.authorize("ws").tokens(10, 0).reserved().await,
    );
    let extended = app.authorize("ws").tokens(10, 0).reserved().await;
    let released_late = app.authorize("ws").tokens(10, 0).reserved().await;
    app.settle(&settled, 5, 0).await.expect(200);
    app.release(&released).await.expect(200);
    app.pass_seconds(100);
    let extend = json!({"hold_seconds": 1_000});
    app.post(&format!("/v1/reservations/{extended}/extend"), extend).await.expect(200);
    app.pass_seconds(HOLD_SECONDS - 100);
    app.release(&released_late).await.expect(200);
    app.expire_everywhere().await;
    assert_eq!(
        app.expired_ids("ws").await,
        [] as [String; 0],
        "{before} was held when nobody listened"
    );
    app.pass_seconds(499);
    app.expire_everywhere().await;
    assert_eq!(app.expired_ids("ws").await, [] as [String; 0]);
    app.pass_seconds(1);
    app.expire_everywhere().await;
    assert_eq!(app.expired_ids("ws").await, sorted(&[&extended]));
    let path = format!("/v1/admin/webhook-endpoints/{}", endpoint["endpoint_id"].as_str().expect("an id"));
    app.call(Method::PATCH, &path, Some(json!({"events": ["budget.*"]})))
        .await
        .expect(200);
    app.follow_all().await;
    app.authorize("ws").tokens(10, 0).reserved().await;
    app.pass_seconds(HOLD_SECONDS);
    app.expire_everywhere().await;
    assert_eq!(app.expired_ids("ws").await.len(), 1, "nobody listens any more");
}

/// Redis keeps what is held, this process does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_ran_out_while_nobody_looked_is_told_after_a_restart_where_holds_outlive_it() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.listener(Some("ws"), "reservation.*").await;
    let first = app.authorize("ws").tokens(10, 0).reserved().await;
    let second = app.authorize("ws").tokens(10, 0).reserved().await;
    app.pass_seconds(HOLD_SECONDS);
    let app = app.restart().await;
    app.expire_everywhere().await;
    let expected = if is_production() { sorted(&[&first, &second]) } else { Vec::new() };
    assert_eq!(app.expired_ids("ws").await, expected);
    let app = app.restart().await;
    // Ids of a node that is new begin anew.
    let third = app.authorize("ws").tokens(10, 0).id("third").reserved().await;
    app.pass_seconds(HOLD_SECONDS);
    app.expire_everywhere().await;
    let expected = if is_production() {
        sorted(&[&first, &second, &third])
    } else {
        sorted(&[&third])
    };
    assert_eq!(app.expired_ids("ws").await, expected, "a node that starts knows who listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_streams_and_charged_holds_are_told_once_each_with_what_they_used() {
    let app = TestApp::start().await;
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    app.workspace_on("free", json!({"budgets": budgets})).await;
    app.workspace_on("paid", json!({"budgets": budgets, "on_expiry": "charge"})).await;
    app.follow_all().await;
    app.listener(None, "reservation.expired").await;
    for (workspace, call_is_charged) in [("free", false), ("paid", true)] {
        let parent = app.authorize(workspace).tokens(300, 0).with("max_calls", 3).reserved().await;
        let call = app
            .authorize(workspace)
            .tokens(50, 0)
            .with("parent_reservation_id", parent.as_str());
        let call = call.reserved().await;
        let stream = app.authorize(workspace).tokens(100, 50).reserved().await;
        let checkpoint = json!({"usage": {"input_tokens": 100, "output_tokens": 7}, "final": false});
        app.post(&format!("/v1/reservations/{stream}/settle"), checkpoint).await.expect(200);
        app.pass_seconds(HOLD_SECONDS + 1);
        app.expire_everywhere().await;
        app.expire_everywhere().await;
        let events = app.expired(workspace).await;
        let mut told: Vec<(String, bool, i64)> = events
            .iter()
            .map(|event| {
                let data = &event["data"];
                let id = data["reservation_id"].as_str().expect("an id").to_owned();
                (id, data["charged"] == true, data["tokens"].as_i64().expect("tokens"))
            })
            .collect();
        let call_tokens = if call_is_charged { 50 } else { 0 };
        let mut expected = [(parent, false, 0), (call, call_is_charged, call_tokens), (stream, true, 107)];
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "{workspace}");
    }
}
