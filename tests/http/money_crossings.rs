//! Money where several parts meet: runs in batches, explanations of calls, reported uses of calls, dollars to the last decimal.

use crate::support::TestApp;
use serde_json::{Value, json};

const GRANTS: &str = "/v1/admin/workspaces/ws/grants";

fn body(id: &str, tokens: i64) -> Value {
    json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": id, "input_tokens": tokens, "max_output_tokens": 0})
}

async fn batch(app: &TestApp, requests: Vec<Value>) -> Vec<Value> {
    let answer = app
        .post_once("/v1/authorize/batch", json!({"requests": requests}))
        .await
        .expect(200);
    answer["results"].as_array().expect("results").clone()
}

async fn verified(app: &TestApp) {
    let (ledger, clock) = (&app.service.ledger, &*app.service.clock);
    let found = weir::flow::verify::verify(&**ledger, Some(&*app.service.counters), clock, |_| {}).await;
    assert_eq!(found.expect("it is verified").differences, []);
}

async fn standing(app: &TestApp) -> [i64; 4] {
    let budget = app.budget("ws", "tokens").await;
    ["spent", "held", "granted", "remaining"].map(|name| budget[name].as_i64().expect(name))
}

#[tokio::test]
async fn a_batch_holds_once_for_one_id_and_takes_a_grant_once() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    app.post(GRANTS, json!({"amount": 50})).await.expect(201);
    app.follow_all().await;
    let requests = vec![body("a", 90), body("a", 90), body("a", 91), body("b", 60), body("c", 1)];
    let results = batch(&app, requests.clone()).await;
    let statuses: Vec<&Value> = results.iter().map(|result| &result["status"]).collect();
    assert_eq!(
        statuses,
        [&json!(200), &json!(200), &json!(422), &json!(200), &json!(200)],
        "{results:?}"
    );
    assert_eq!(results[0]["decision"]["reservation_id"], results[1]["decision"]["reservation_id"]);
    assert_eq!(results[4]["decision"]["decision"], "deny");
    assert_eq!(standing(&app).await, [0, 150, 50, 0]);
    let parent = results[0]["decision"]["reservation_id"].as_str().expect("an id").to_owned();
    let call = |id: &str, tokens: i64| {
        let mut call = body(id, tokens);
        call["parent_reservation_id"] = json!(parent);
        call
    };
    let results = batch(&app, vec![call("d", 50), call("e", 41), call("d", 50), call("f", 40), body("g", 1)]).await;
    let decisions: Vec<&Value> = results.iter().map(|result| &result["decision"]["decision"]).collect();
    assert_eq!(
        decisions,
        [&json!("allow"), &json!("deny"), &json!("allow"), &json!("allow"), &json!("deny")],
        "{results:?}"
    );
    assert_eq!(standing(&app).await, [0, 150, 50, 0]);
    let denied = results[1]["decision"]["decision_id"].as_str().expect("an id");
    app.log_decisions().await;
    let explained = app.get(&format!("/v1/decisions/{denied}/explain")).await.expect(200);
    assert_eq!(explained["code"], "parent_exhausted", "{explained}");
    for (place, tokens) in [(0, 50), (3, 40)] {
        let id = results[place]["decision"]["reservation_id"].as_str().expect("an id");
        app.get(&format!("/v1/reservations/{id}/explain")).await.expect(200);
        app.settle(id, tokens, 0).await.expect(200);
    }
    assert_eq!(standing(&app).await, [90, 60, 50, 0]);
    verified(&app).await;
}

#[tokio::test]
async fn a_dry_run_of_a_call_takes_nothing_and_makes_no_workspace() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let parent = app.authorize("ws").tokens(90, 0).reserved().await;
    let mut call = body("x", 80);
    call["parent_reservation_id"] = json!(parent);
    for _ in 0..2 {
        let told = app.post("/v1/authorize?dry_run=true", call.clone()).await.expect(200);
        assert_eq!(
            (&told["decision"], &told["reservation_id"]),
            (&json!("allow"), &Value::Null),
            "{told}"
        );
    }
    call["input_tokens"] = json!(91);
    let told = app.post("/v1/authorize?dry_run=true", call.clone()).await.expect(200);
    assert_eq!(told["code"], "parent_exhausted");
    call["workspace_id"] = json!("nobody");
    let reply = app.post("/v1/authorize?dry_run=true", call).await;
    assert!([200, 404].contains(&reply.status.as_u16()), "{}", reply.status);
    app.get("/v1/workspaces/nobody/usage").await.problem(404, "not_found");
    assert_eq!(standing(&app).await, [0, 90, 0, 10]);
}

#[tokio::test]
async fn usage_that_is_reported_for_an_expired_call_takes_from_its_run_what_it_was() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let parent = app.authorize("ws").tokens(600, 0).with("hold_seconds", 3_600).reserved().await;
    let call = app
        .authorize("ws")
        .tokens(250, 0)
        .id("late")
        .with("parent_reservation_id", parent.as_str());
    call.with("hold_seconds", 60).reserved().await;
    app.pass_seconds(61);
    let usage = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "late", "usage": {"input_tokens": 100, "output_tokens": 0}});
    let recorded = app.post("/v1/usage", usage).await.expect(200);
    assert_eq!(recorded["entry"]["late"], true);
    assert_eq!(standing(&app).await, [100, 500, 0, 400]);
    app.release(&parent).await.expect(200);
    assert_eq!(standing(&app).await, [100, 0, 0, 900]);
    verified(&app).await;
}

#[tokio::test]
async fn a_grant_of_one_nano_dollar_is_one_nano_dollar() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "usd", "unit": "usd", "period": "minute", "hard": "0"}]}),
    )
    .await;
    let first = app.authorize("ws").tokens(1, 0).denied().await;
    let need = app.post("/v1/authorize?dry_run=true", body("dry", 1)).await.expect(200);
    let need = need["explain"]["rungs"][0]["needs"]["usd"]
        .as_str()
        .unwrap_or_else(|| panic!("{need}"))
        .to_owned();
    assert_eq!(first["code"], "never_fits");
    let nanos: i64 = need.replace('.', "").parse().expect("digits");
    let dollars = |nanos: i64| format!("0.{nanos:09}");
    app.post(GRANTS, json!({"budget_id": "usd", "amount": dollars(nanos - 1)}))
        .await
        .expect(201);
    app.follow_all().await;
    app.authorize("ws").tokens(1, 0).denied().await;
    app.post(GRANTS, json!({"budget_id": "usd", "amount": "0.0000000001"}))
        .await
        .expect_one_of(&[400, 422]);
    app.post(GRANTS, json!({"budget_id": "usd", "amount": "0.000000001"}))
        .await
        .expect(201);
    let held = app.authorize("ws").tokens(1, 0).reserved().await;
    app.pass_seconds(120);
    // The minute is over, and what it holds on the balance is not there for the next one.
    app.authorize("ws").tokens(1, 0).denied().await;
    app.settle(&held, 1, 0).await.expect(200);
    app.authorize("ws").tokens(1, 0).denied().await;
    verified(&app).await;
}

#[tokio::test]
async fn a_correction_of_what_a_grant_paid_gives_nothing_back_and_the_next_use_pays_the_rest() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    app.post(GRANTS, json!({"amount": 50})).await.expect(201);
    app.follow_all().await;
    let first = app.authorize("ws").tokens(120, 0).reserved().await;
    let settled = app.settle(&first, 120, 0).await.expect(200);
    let entry = settled["entry"]["entry_id"].as_str().expect("an id");
    for (tokens, spent, remaining) in [(90, 90, 60), (145, 145, 5)] {
        let body = json!({"entry_id": entry, "counted": {"tokens": tokens}, "reason": "counted wrong"});
        app.post("/v1/admin/ledger/corrections", body).await.expect(201);
        assert_eq!(standing(&app).await, [spent, 0, 50, remaining]);
        verified(&app).await;
    }
    let last = app.authorize("ws").tokens(5, 0).reserved().await;
    app.authorize("ws").tokens(1, 0).denied().await;
    app.settle(&last, 5, 0).await.expect(200);
    assert_eq!(standing(&app).await, [150, 0, 50, 0]);
    verified(&app).await;
}
