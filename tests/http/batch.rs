//! Batch authorize over HTTP: each request by itself, in order, one bad one harms no other.

use crate::support;
use crate::support::{Asking, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

fn body(asking: Asking<'_>) -> Value {
    Value::Object(asking.body)
}

async fn batch(app: &TestApp, requests: Vec<Value>) -> Vec<Value> {
    let answer = app.post("/v1/authorize/batch", json!({"requests": requests})).await.expect(200);
    answer["results"].as_array().expect("results").clone()
}

/// The decision's word, or the problem's code, of each.
fn words(results: &[Value]) -> Vec<String> {
    let word = |result: &Value| {
        let (decision, error) = (&result["decision"]["decision"], &result["error"]["code"]);
        assert_eq!(decision.is_null(), result["status"] != 200, "{result}");
        decision
            .as_str()
            .or(error.as_str())
            .unwrap_or_else(|| panic!("neither in {result}"))
            .to_owned()
    };
    results.iter().map(word).collect()
}

#[tokio::test]
async fn the_first_of_a_batch_get_what_is_left() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 450).await;
    // Cold counters, then warm ones: the same order.
    for (left, expected) in [(3, ["allow", "allow", "allow", "deny", "deny"]), (0, ["deny"; 5])] {
        let results = batch(&app, (0..5).map(|_| body(app.authorize("ws"))).collect()).await;
        assert_eq!(words(&results), expected, "{left} are left");
    }
    assert_eq!(app.held("ws", "tokens").await, 450);
}

#[tokio::test]
async fn each_request_is_answered_as_it_would_be_alone() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.workspace_with_tokens("other", 100).await;
    let held = app.authorize("ws").id("held").allowed().await;
    let released = app.authorize("ws").id("released").reserved().await;
    app.release(&released).await.expect(200);
    let requests = vec![
        body(app.authorize("ws").id("new")),
        body(app.authorize("other").id("never")),
        body(app.authorize("ws").id("held")),
        body(app.authorize("ws").id("held").tokens(7, 7)),
        body(app.authorize("ws").id("released")),
        body(app.authorize("ws").without("feature")),
        body(app.authorize("ws").with("input_tokens", -1)),
        json!("no object"),
        body(app.authorize("ws").with("surprise", 1)),
        body(
            app.authorize("ws")
                .with("parent_reservation_id", json!(null))
                .model("nothing-of-the-kind"),
        ),
        body(app.authorize("fresh").id("first")),
        body(app.authorize("ws").id("last").with("cache", json!({"prompt": "hello"}))),
    ];
    let results = batch(&app, requests).await;
    assert_eq!(
        words(&results),
        [
            "allow",
            "deny",
            "allow",
            "idempotency_mismatch",
            "reservation_released",
            "malformed",
            "unacceptable",
            "malformed",
            "malformed",
            "deny",
            "allow",
            "allow"
        ]
    );
    let statuses: Vec<i64> = results.iter().map(|result| result["status"].as_i64().expect("a status")).collect();
    assert_eq!(statuses, [200, 200, 200, 422, 409, 400, 422, 400, 400, 200, 200, 200]);
    assert_eq!(results[2]["decision"], held, "told again");
    assert_eq!(results[1]["decision"]["code"], "never_fits");
    assert_eq!(results[9]["decision"]["code"], "model_unpriced");
    assert_eq!(results[5]["error"]["errors"][0]["pointer"], "/feature");
    assert_eq!(results[11]["decision"]["cache"], json!({"status": "off"}));
    // One by one they are told alike.
    let again = app.authorize("ws").id("new").allowed().await;
    assert_eq!(again, results[0]["decision"]);
    let settled = app
        .settle(results[0]["decision"]["reservation_id"].as_str().expect("an id"), 100, 50)
        .await;
    settled.expect(200);
}

#[tokio::test]
async fn one_request_id_twice_in_a_batch_is_one_reservation() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    for id in ["cold", "warm"] {
        let results = batch(
            &app,
            vec![
                body(app.authorize("ws").id(id)),
                body(app.authorize("ws").id(id)),
                body(app.authorize("ws").id(id).tokens(1, 1)),
            ],
        )
        .await;
        assert_eq!(words(&results), ["allow", "allow", "idempotency_mismatch"]);
        assert_eq!(results[0], results[1]);
    }
    assert_eq!(app.held("ws", "tokens").await, 300);
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused_whole() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100_000).await;
    let post = async |body: Value| app.post("/v1/authorize/batch", body).await;
    post(json!({"requests": []})).await.problem(422, "unacceptable");
    let many: Vec<Value> = (0..101).map(|_| body(app.authorize("ws"))).collect();
    post(json!({"requests": many})).await.problem(422, "unacceptable");
    for wrong in [json!({}), json!([]), json!({"requests": {}}), json!({"requests": [], "more": 1})] {
        post(wrong).await.problem(400, "malformed");
    }
    let full: Vec<Value> = (0..100).map(|_| body(app.authorize("ws"))).collect();
    let results = batch(&app, full).await;
    assert_eq!(words(&results), vec!["allow"; 100]);
    let long = json!({"requests": [body(app.authorize("ws").with("input", "x".repeat(9 << 20)).without("input_tokens"))]});
    post(long).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn a_bound_credential_sees_its_own_workspace_in_a_batch() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.workspace_with_tokens("foreign", 1_000).await;
    let requests = json!({"requests": [
        body(app.authorize("ws").without("workspace_id")), body(app.authorize("foreign")), body(app.authorize("unheard-of")), body(app.authorize("ws"))]});
    let as_scope = async |scope: &str, workspace| {
        let token = app.token(scope, workspace);
        app.call_as(&token, Method::POST, "/v1/authorize/batch", Some(requests.clone()))
            .await
    };
    let answer = as_scope("authorize", Some("ws")).await.expect(200);
    let results = answer["results"].as_array().expect("results");
    assert_eq!(words(results), ["allow", "not_found", "not_found", "allow"]);
    let told = |place: usize| {
        let mut error = results[place]["error"].clone();
        error["instance"] = Value::Null;
        error
    };
    assert_eq!(told(1), told(2), "another's and unknown look alike");
    as_scope("read", Some("ws")).await.problem(403, "insufficient_scope");
    assert_eq!(app.held("foreign", "tokens").await, 0);
}

#[tokio::test]
async fn an_idempotency_key_names_the_requests_that_name_none() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let requests = json!({"requests": [body(app.authorize("ws").without("request_id")), body(app.authorize("ws").id("own"))]});
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = app.client.post(format!("{}/v1/authorize/batch", app.url));
        let request = request
            .bearer_auth(app.token("authorize", None))
            .header("Idempotency-Key", "key")
            .json(&requests);
        answers.push(support::Reply::read(request.send().await.expect("an answer")).await.expect(200));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0]["results"][0]["decision"]["request_id"], "key/0");
    assert_eq!(answers[0]["results"][1]["decision"]["request_id"], "own");
    assert_eq!(app.held("ws", "tokens").await, 300, "held once");
}

#[tokio::test]
async fn racing_batches_over_several_workspaces_pass_no_limit() {
    let app = TestApp::start().await;
    let names = ["ws-a", "ws-b", "ws-c"];
    for name in names {
        app.workspace_with_tokens(name, 1_500).await;
    }
    let rounds = (0..6).map(|_| async {
        // Each workspace four times in turn, a user's group among them.
        let requests: Vec<Value> = (0..12)
            .map(|n| body(app.authorize(names[n % 3]).user(&format!("u{}", n % 2))))
            .collect();
        words(&batch(&app, requests).await)
    });
    let all: Vec<Vec<String>> = futures_util::future::join_all(rounds).await;
    let allowed = all.iter().flatten().filter(|word| *word == "allow").count();
    assert_eq!(allowed, 30, "ten fit into each of three");
    for name in names {
        assert_eq!(app.held(name, "tokens").await, 1_500);
    }
}
