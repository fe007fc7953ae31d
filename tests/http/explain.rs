//! Explanations over HTTP: of dry runs, of denials and allows from the decision log, of reservations, and who may read them.

use crate::support;
use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};
use weir::decision::id::ReservationId;
use weir::flow::decided;

/// A plan that downgrades at its soft limit, and a workspace on it.
async fn app_with_downgrade() -> TestApp {
    let app = TestApp::start().await;
    let plan =
        json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "soft": 300, "hard": 1000, "at_soft": ["downgrade"]}]});
    app.workspace_on("ws", plan).await;
    app
}

fn id_of<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}"))
}

async fn explained(app: &TestApp, decision: &Value) -> Value {
    app.log_decisions().await;
    app.get(&format!("/v1/decisions/{}/explain", id_of(decision, "decision_id")))
        .await
        .expect(200)
}

fn answers(explained: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a word").to_owned();
    let questions = explained["questions"].as_array().expect("questions").iter();
    questions
        .map(|question| (text(&question["question"]), text(&question["answer"])))
        .collect()
}

#[tokio::test]
async fn a_denial_is_explained_by_the_balances_that_decided_it() {
    let app = app_with_downgrade().await;
    let held = app.authorize("ws").tokens(250, 50).reserved().await;
    app.settle(&held, 200, 50).await.expect(200);
    app.authorize("ws").tokens(700, 50).allowed().await;
    let denied = app.authorize("ws").tokens(100, 50).denied().await;
    // What happens afterwards changes nothing of it.
    app.pass_seconds(700);
    app.put(
        "/v1/admin/plans/ws",
        json!({"name": "other", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": []}),
    )
    .await
    .expect(200);
    let told = explained(&app, &denied).await;
    assert_eq!((&told["decision"], &told["code"]), (&json!("deny"), &json!("hard_limit_reached")));
    assert_eq!(told["decision_id"], denied["decision_id"]);
    assert_eq!(told["reservation_id"], Value::Null);
    let ceiling = &told["rungs"][0]["ceilings"][0];
    assert_eq!(
        (&ceiling["spent"], &ceiling["held"], &ceiling["need"]),
        (&json!(250), &json!(750), &json!(150))
    );
    assert_eq!(
        (&ceiling["room"], &ceiling["fits"], &ceiling["granted"]),
        (&json!(0), &json!(false), &json!(0))
    );
    assert_eq!(ceiling["because"], "soft_limit_reached");
    let last = &told["rungs"].as_array().expect("rungs").last().expect("a rung")["ceilings"][0];
    assert_eq!(
        last["because"], "held",
        "nothing spent stands in the way of the asked model under hard"
    );
    assert!(
        told["rungs"]
            .as_array()
            .expect("rungs")
            .iter()
            .all(|rung| rung["taken"] == false && rung["holds"].is_null())
    );
    assert_eq!(told["budgets"][0]["spent"], 250);
    assert_eq!(told["reasons"][0]["message"], denied["reasons"][0]["message"]);
    assert_eq!(
        answers(&told).last(),
        Some(&("hard_limit_reached".to_owned(), "refused".to_owned()))
    );
    assert_eq!(told["plan_version"], 1, "the plan as it was");
    assert!(told["policy_version"].as_i64().is_some_and(|version| version > 0) && told["workspace_version"].is_i64());
}

#[tokio::test]
async fn an_allow_is_explained_while_it_is_held_and_after_its_end() {
    let app = app_with_downgrade().await;
    app.authorize("ws").tokens(250, 50).allowed().await;
    let answer = app.authorize("ws").tokens(100, 50).allowed().await;
    assert_eq!(answer["model"], "mid");
    let reservation = id_of(&answer, "reservation_id").to_owned();
    let path = format!("/v1/reservations/{reservation}/explain");
    let held = app.get(&path).await.expect(200);
    assert_eq!(explained(&app, &answer).await, held, "by either id, from the hold or from the log");
    assert_eq!((&held["decision"], &held["code"]), (&json!("allow"), &Value::Null));
    assert_eq!(
        (&held["reservation_id"], &held["price_version"]),
        (&answer["reservation_id"], &answer["price_version"])
    );
    let steps: Vec<&str> = held["rungs"]
        .as_array()
        .expect("rungs")
        .iter()
        .map(|rung| id_of(rung, "step"))
        .collect();
    assert_eq!(steps, ["asked", "downgrade", "downgrade", "asked_past_soft"]);
    assert_eq!(
        (&held["rungs"][1]["taken"], &held["rungs"][1]["holds"]["tokens"]),
        (&json!(true), &json!(150))
    );
    assert_eq!(held["rungs"][0]["ceilings"][0]["because"], "soft_limit_reached");
    app.settle(&reservation, 100, 20).await.expect(200);
    app.log_decisions().await;
    assert_eq!(app.get(&path).await.expect(200), held, "settled: from the log");
    let released = app.authorize("ws").reserved().await;
    let path = format!("/v1/reservations/{released}/explain");
    let before = app.get(&path).await.expect(200);
    app.release(&released).await.expect(200);
    app.log_decisions().await;
    assert_eq!(app.get(&path).await.expect(200), before, "released: from the log");
    let app = app.lose_counters().await;
    assert_eq!(app.get(&path).await.expect(200), before, "and the log outlives the counters");
}

#[tokio::test]
async fn a_refusal_before_the_counters_names_its_question() {
    let app = TestApp::start().await;
    app.workspace_on(
        "strict",
        json!({"allowed_models": ["big"], "unknown_features": "deny", "features": {"chat": {}}, "budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]}),
    )
    .await;
    for (asking, code, place) in [
        (app.authorize("strict").feature("other"), "feature_disabled", 2),
        (app.authorize("strict").model("mid"), "model_not_allowed", 3),
        (app.authorize("strict").tokens(300_000, 1), "context_too_long", 5),
    ] {
        let denied = asking.denied().await;
        assert_eq!(denied["code"], code);
        let told = explained(&app, &denied).await;
        let answers = answers(&told);
        assert_eq!(answers[place], (code.to_owned(), "refused".to_owned()));
        assert!(answers[..place].iter().all(|(_, answer)| answer == "passed"), "{answers:?}");
        assert!(answers[place + 1..].iter().all(|(_, answer)| answer == "not_asked"), "{answers:?}");
        assert_eq!(told["questions"][place]["detail"], denied["reasons"][0]["message"]);
        assert_eq!(told["rungs"], json!([]));
    }
    app.call(Method::PATCH, "/v1/admin/workspaces/strict", Some(json!({"status": "suspended"})))
        .await
        .expect(200);
    let told = explained(&app, &app.authorize("strict").denied().await).await;
    assert_eq!(
        (&told["code"], &told["plan_id"], &told["plan_version"]),
        (&json!("workspace_suspended"), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn routing_and_estimates_are_told() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000_000).await;
    let asking = app.authorize("ws").model("auto").feature("report").with("allow_batch", true);
    let asking = asking.without("max_output_tokens");
    let answer = asking.allowed().await;
    let told = explained(&app, &answer).await;
    assert_eq!(
        told["routing"],
        json!({"requested_model": "auto", "model": "small", "rule": "short-ones", "shadow_rules": ["would-batch"]})
    );
    assert_eq!(
        told["estimates"],
        json!({"input_tokens": 100, "input_tokens_estimated": false, "max_output_tokens": 1024, "max_output_tokens_estimated": true, "requests": 1})
    );
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let body: Value = app.authorize("nobody").id("dry").body.clone().into();
    let answer = app.post("/v1/authorize?dry_run=true", body.clone()).await;
    assert!(answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some());
    let answer = answer.expect(200);
    assert_eq!((&answer["decision"], &answer["reservation_id"]), (&json!("allow"), &Value::Null));
    assert_eq!(answer["budgets"][0]["held"], 150, "as if it were held");
    assert_eq!(answer["explain"]["budgets"][0]["held"], 0, "just before");
    assert_eq!(answer["explain"]["rungs"][0]["taken"], true);
    app.log_decisions().await;
    app.get("/v1/workspaces/nobody/usage").await.problem(404, "not_found");
    app.get(&format!("/v1/decisions/{}/explain", id_of(&answer, "decision_id")))
        .await
        .problem(404, "not_found");
    // The same request for good is a first one.
    let allowed = app.post("/v1/authorize", body).await;
    assert!(allowed.header("idempotency-replayed").is_none());
    let allowed = allowed.expect(200);
    assert_eq!(allowed["decision"], "allow");
    assert!(allowed.get("explain").is_none(), "only dry runs explain at once");
    // Denials of every kind explain too.
    app.workspace_on(
        "poor",
        json!({"allowed_models": ["big"], "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 10}]}),
    )
    .await;
    let dry = async |asking: support::Asking<'_>| {
        let body: Value = asking.body.clone().into();
        app.post("/v1/authorize?dry_run=true", body).await.expect(200)
    };
    let never = dry(app.authorize("poor")).await;
    assert_eq!(
        (&never["code"], &never["explain"]["code"]),
        (&json!("never_fits"), &json!("never_fits"))
    );
    let refused = dry(app.authorize("poor").model("mid")).await;
    assert_eq!(
        (&refused["code"], &refused["explain"]["code"]),
        (&json!("model_not_allowed"), &json!("model_not_allowed"))
    );
    assert_eq!(app.held("poor", "tokens").await, 0);
}

#[tokio::test]
async fn an_explanation_is_its_workspaces_own() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 200).await;
    let allowed = app.authorize("ws").allowed().await;
    let denied = app.authorize("ws").denied().await;
    app.log_decisions().await;
    let reservation = id_of(&allowed, "reservation_id").to_owned();
    let unknown = ReservationId::derive(
        &weir::decision::id::WorkspaceId::parse("ws").expect("a name"),
        &weir::decision::id::RequestId::parse("never").expect("an id"),
    );
    let paths = [
        format!("/v1/decisions/{}/explain", id_of(&allowed, "decision_id")),
        format!("/v1/decisions/{}/explain", id_of(&denied, "decision_id")),
        format!("/v1/reservations/{reservation}/explain"),
    ];
    for (scopes, workspace, status) in [
        ("read", None, 200),
        ("authorize", Some("ws"), 200),
        ("read", Some("ws"), 200),
        ("read", Some("foreign"), 404),
        ("authorize", Some("foreign"), 404),
        ("admin", Some("foreign"), 404),
        ("portal", Some("ws"), 403),
        ("usage:write", None, 403),
    ] {
        let token = app.token(scopes, workspace);
        for path in &paths {
            let reply = app.call_as(&token, Method::GET, path, None).await;
            assert_eq!(reply.status.as_u16(), status, "{scopes} {workspace:?} {path}: {}", reply.text);
        }
    }
    // What is another's and what never was look alike.
    let token = app.token("read", Some("foreign"));
    let body = async |path: String| {
        let mut problem = app.call_as(&token, Method::GET, &path, None).await.problem(404, "not_found");
        problem["instance"] = Value::Null;
        problem
    };
    assert_eq!(
        body(paths[2].clone()).await,
        body(format!("/v1/reservations/{unknown}/explain")).await
    );
    let never = "dec_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f";
    assert_eq!(body(paths[0].clone()).await, body(format!("/v1/decisions/{never}/explain")).await);
    for path in ["/v1/decisions/nonsense/explain", "/v1/reservations/nonsense/explain"] {
        app.get(path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn beyond_so_many_allows_a_second_the_end_of_a_hold_is_logged() {
    let app = TestApp::alone().await;
    app.workspace_with_tokens("ws", 1_000_000).await;
    let mut last = Value::Null;
    for _ in 0..=decided::ALLOWS_PER_SECOND_MAX {
        last = app.authorize("ws").tokens(1, 1).allowed().await;
    }
    app.log_decisions().await;
    let decision = format!("/v1/decisions/{}/explain", id_of(&last, "decision_id"));
    let reservation = id_of(&last, "reservation_id").to_owned();
    app.get(&decision).await.problem(404, "not_found");
    let held = app.get(&format!("/v1/reservations/{reservation}/explain")).await.expect(200);
    // A denial is logged whatever else goes on.
    let denied = app.authorize("ws").tokens(2_000_000, 1).denied().await;
    assert_eq!(explained(&app, &denied).await["code"], "context_too_long");
    app.settle(&reservation, 1, 1).await.expect(200);
    app.log_decisions().await;
    assert_eq!(app.get(&decision).await.expect(200), held);
    app.pass_seconds(1);
    let next = app.authorize("ws").tokens(1, 1).allowed().await;
    assert_eq!(
        explained(&app, &next).await["decision"],
        "allow",
        "another second, another allowance"
    );
}

#[tokio::test]
async fn allows_are_kept_for_a_week_and_denials_for_ninety_days() {
    let app = TestApp::alone().await;
    app.workspace_with_tokens("ws", 200).await;
    let allowed = app.authorize("ws").allowed().await;
    let denied = app.authorize("ws").denied().await;
    app.release(id_of(&allowed, "reservation_id")).await.expect(200);
    app.log_decisions().await;
    let there = async |answer: &Value| {
        let path = format!("/v1/decisions/{}/explain", id_of(answer, "decision_id"));
        decided::prune(&app.service).await.expect("it is pruned");
        app.get(&path).await.status.as_u16() == 200
    };
    app.pass_seconds(decided::ALLOWS_KEPT_SECONDS);
    assert!(there(&allowed).await && there(&denied).await);
    app.pass_seconds(1);
    assert!(!there(&allowed).await && there(&denied).await);
    app.pass_seconds(decided::DENIALS_KEPT_SECONDS - decided::ALLOWS_KEPT_SECONDS - 1);
    assert!(there(&denied).await);
    app.pass_seconds(1);
    assert!(!there(&denied).await);
}

#[tokio::test]
async fn of_a_flood_the_newest_denials_are_kept() {
    let app = TestApp::alone().await;
    app.workspace_with_tokens("ws", 10).await;
    let first = app.authorize("ws").denied().await;
    // As many as wait at most, put in without being written meanwhile.
    let denied = app.authorize("ws").denied().await;
    app.log_decisions().await;
    let row = app
        .service
        .ledger
        .decision(weir::decision::id::DecisionId::parse(id_of(&denied, "decision_id")).expect("an id"))
        .await
        .expect("the ledger answers")
        .expect("it was logged");
    let facts = decided::decode(&row.facts).expect("facts");
    let id = |n: usize| weir::decision::id::DecisionId::from_uuid(uuid::Uuid::from_u128(n as u128 + 1));
    for n in 0..decided::WAITING_MAX + 2 {
        app.service.decisions.deny(id(n), facts.clone());
    }
    app.service
        .decisions
        .allow(id(decided::WAITING_MAX + 5), ReservationId::from_bytes([7; 16]), facts.clone());
    app.log_decisions().await;
    let there = async |n: usize| app.service.ledger.decision(id(n)).await.expect("the ledger answers").is_some();
    assert!(!there(0).await && !there(1).await, "the oldest gave way");
    assert!(there(2).await && there(decided::WAITING_MAX + 1).await);
    assert!(!there(decided::WAITING_MAX + 5).await, "an allow does not push out denials");
    assert_eq!(explained(&app, &first).await["decision"], "deny", "what was written stays");
}
