//! Runs over HTTP: many calls draw from one reservation, and together they never pass what it holds.

use crate::support::{Asking, Reply, TestApp};
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

fn path(reservation: &str, verb: &str) -> String {
    format!("/v1/reservations/{reservation}/{verb}")
}

/// A call of a run.
fn call<'a>(app: &'a TestApp, workspace: &str, parent: &str, tokens: i64) -> Asking<'a> {
    app.authorize(workspace).tokens(tokens, 0).with("parent_reservation_id", parent)
}

/// A workspace of 1,000 tokens a month, and a run that holds 600 of them for an hour.
async fn run_of(app: &TestApp, workspace: &str) -> String {
    app.workspace_with_tokens(workspace, 1_000).await;
    open(app, workspace).reserved().await
}

fn open<'a>(app: &'a TestApp, workspace: &str) -> Asking<'a> {
    app.authorize(workspace).tokens(600, 0).with("hold_seconds", 3_600)
}

/// How a run stands: used, lent and left, and calls so far.
async fn standing(app: &TestApp, parent: &str) -> [i64; 4] {
    let found = app.get(&format!("/v1/reservations/{parent}")).await.expect(200);
    let tokens = |part: &str| found["run"][part]["tokens"].as_i64().unwrap_or_else(|| panic!("{part} in {found}"));
    [
        tokens("used"),
        tokens("lent"),
        tokens("left"),
        found["run"]["calls"].as_i64().expect("calls"),
    ]
}

async fn spent_and_held(app: &TestApp, workspace: &str) -> (i64, i64) {
    (app.spent(workspace, "tokens").await, app.held(workspace, "tokens").await)
}

/// The ledger agrees with itself and with the counters, and nothing is held any more.
async fn books_agree(app: &TestApp, workspace: &str) {
    let entries = app.ledger(workspace).await;
    let sum: i64 = entries
        .iter()
        .map(|entry| entry["counted"]["tokens"].as_i64().expect("a number"))
        .sum();
    assert_eq!(spent_and_held(app, workspace).await, (sum, 0));
    let wrong = app.service.ledger.verify().await.expect("the ledger can be verified");
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn is_allowed(answer: &Reply) -> bool {
    answer.json()["decision"] == "allow"
}

#[tokio::test]
async fn calls_draw_from_their_run_and_no_budget_is_asked_again() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    app.authorize("ws").tokens(400, 0).allowed().await;
    app.authorize("ws").tokens(1, 0).denied().await;
    app.pass_seconds(60);
    let answer = call(&app, "ws", &parent, 250).id("c-1").allowed().await;
    assert_eq!((&answer["held"]["tokens"], &answer["budgets"]), (&json!(250), &json!([])));
    assert_eq!(
        (&answer["model"], &answer["actions"], &answer["reasons"]),
        (&json!("big"), &json!([]), &json!([]))
    );
    assert_eq!(answer["expires_at"], "2025-11-21T10:11:00Z");
    assert_eq!(app.held("ws", "tokens").await, 1_000, "the run holds what its calls hold");
    let again = call(&app, "ws", &parent, 250).id("c-1").send().await;
    assert_eq!((again.header("idempotency-replayed"), again.json()), (Some("true"), answer.clone()));
    call(&app, "ws", &parent, 251)
        .id("c-1")
        .send()
        .await
        .problem(422, "idempotency_mismatch");
    app.authorize("ws")
        .tokens(250, 0)
        .id("c-1")
        .send()
        .await
        .problem(422, "idempotency_mismatch");

    let reservation = answer["reservation_id"].as_str().expect("an id");
    let settled = app.settle(reservation, 100, 20).await.expect(200);
    assert_eq!(
        (&settled["late"], &settled["entry"]["counted"]["tokens"]),
        (&json!(false), &json!(120))
    );
    assert_eq!(settled["budgets"][0]["spent"], 120);
    assert_eq!(standing(&app, &parent).await, [120, 0, 480, 1]);
    assert_eq!(spent_and_held(&app, "ws").await, (120, 880));
    let other = call(&app, "ws", &parent, 480).reserved().await;
    let found = app.get(&format!("/v1/reservations/{other}")).await.expect(200);
    assert_eq!((&found["parent_reservation_id"], found.get("run")), (&json!(parent), None));

    app.release(&parent).await.expect(200);
    assert_eq!(spent_and_held(&app, "ws").await, (120, 880), "what a live call holds stays");
    app.release(&other).await.expect(200);
    assert_eq!(spent_and_held(&app, "ws").await, (120, 400));
    assert_eq!(app.ledger("ws").await.len(), 1, "a run has no entry of its own");
}

#[tokio::test]
async fn a_run_that_has_not_enough_left_says_what_is_in_the_way() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    let live = call(&app, "ws", &parent, 500).reserved().await;
    for (tokens, blocked_by, retry) in [(601, "policy", Value::Null), (101, "held", json!(1)), (600, "held", json!(1))] {
        let answer = call(&app, "ws", &parent, tokens).denied().await;
        let reason = &answer["reasons"][0];
        assert_eq!(
            (&answer["code"], &reason["code"]),
            (&json!("parent_exhausted"), &json!("parent_exhausted"))
        );
        assert_eq!(
            (&reason["blocked_by"], &reason["retry_after_seconds"]),
            (&json!(blocked_by), &retry),
            "{tokens}"
        );
        assert_eq!((&reason["budget_id"], &answer["budgets"]), (&Value::Null, &json!([])));
    }
    app.settle(&live, 500, 0).await.expect(200);
    let answer = call(&app, "ws", &parent, 101).denied().await;
    let reason = &answer["reasons"][0];
    assert_eq!(
        (&reason["blocked_by"], &reason["retry_after_seconds"]),
        (&json!("spent"), &Value::Null)
    );
    assert_eq!(
        reason["message"],
        format!(
            "The run of {parent} has 100 tokens left of its 600 tokens, and this call needs 101 tokens. Settle or release its calls, or open another run."
        )
    );
    let body = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "mapped", "input_tokens": 101,
        "max_output_tokens": 0, "parent_reservation_id": parent});
    let mapped = app.post("/v1/authorize?http_status=map", body).await.expect(402);
    assert_eq!(mapped["code"], "parent_exhausted");
    let capped = call(&app, "ws", &parent, 40)
        .with("max_output_tokens", 500)
        .with("min_output_tokens", 10);
    let capped = capped.allowed().await;
    assert_eq!((&capped["max_output_tokens"], &capped["actions"]), (&json!(60), &json!(["cap"])));
    assert_eq!(standing(&app, &parent).await, [500, 100, 0, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_racing_calls_never_pass_what_their_run_holds() {
    let app = TestApp::start().await;
    for round in 0..10 {
        let workspace = format!("race-{round}");
        let parent = run_of(&app, &workspace).await;
        let answers = join_all((0..50).map(|_| call(&app, &workspace, &parent, 35).send())).await;
        assert_eq!(answers.iter().filter(|answer| is_allowed(answer)).count(), 17, "17 × 35 is 595");
        assert_eq!(standing(&app, &parent).await, [0, 595, 5, 17]);
        assert_eq!(spent_and_held(&app, &workspace).await, (0, 600));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_admits_no_more_calls_than_it_was_opened_for() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let parent = open(&app, "ws").with("max_calls", 7).reserved().await;
    let answers = join_all((0..50).map(|_| call(&app, "ws", &parent, 1).send())).await;
    let allowed: Vec<&Reply> = answers.iter().filter(|answer| is_allowed(answer)).collect();
    assert_eq!(allowed.len(), 7);
    for answer in allowed {
        let reservation = answer.json()["reservation_id"].as_str().expect("an id").to_owned();
        app.release(&reservation).await.expect(200);
    }
    let answer = call(&app, "ws", &parent, 1).denied().await;
    let reason = &answer["reasons"][0];
    assert_eq!(
        (&answer["code"], &reason["blocked_by"]),
        (&json!("parent_exhausted"), &json!("policy"))
    );
    assert_eq!(reason["retry_after_seconds"], Value::Null);
    let found = app.get(&format!("/v1/reservations/{parent}")).await.expect(200);
    let run = &found["run"];
    assert_eq!(
        (&run["max_calls"], &run["calls"], &run["live_calls"]),
        (&json!(7), &json!(7), &json!(0))
    );
    app.settle(&parent, 1, 0).await.problem(409, "reservation_is_parent");
    for (calls, status) in [(json!(0), 422), (json!(1_000_001), 422), (json!("7"), 400)] {
        let reply = app.authorize("ws").with("max_calls", calls).send().await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    }
    let both = call(&app, "ws", &parent, 1).with("max_calls", 2).send().await;
    assert_eq!(both.problem(422, "unacceptable")["errors"][0]["pointer"], "/max_calls");
}

#[tokio::test]
async fn a_parent_must_be_live_of_the_same_workspace_and_a_run() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    app.workspace_with_tokens("other", 1_000).await;
    let foreign = call(&app, "other", &parent, 1).send().await.problem(404, "reservation_unknown");
    let never = "rsv_00000000000080008000000000000000";
    let unknown = call(&app, "ws", never, 1).send().await.problem(404, "reservation_unknown");
    assert_eq!(
        foreign["errors"][0]["detail"].as_str().map(|detail| detail.replace(&parent, never)),
        unknown["errors"][0]["detail"].as_str().map(str::to_owned),
        "one body for both"
    );
    assert_eq!(unknown["errors"][0]["pointer"], "/parent_reservation_id");
    let malformed = call(&app, "ws", "not an id", 1).send().await;
    assert_eq!(malformed.status.as_u16(), 422, "{}", malformed.text);

    let child = call(&app, "ws", &parent, 10).reserved().await;
    call(&app, "ws", &child, 1).send().await.problem(422, "unacceptable");
    let streaming = app.authorize("ws").tokens(100, 0).reserved().await;
    let body = json!({"final": false, "usage": {"input_tokens": 10, "output_tokens": 0}});
    app.post(&path(&streaming, "settle"), body).await.expect(200);
    call(&app, "ws", &streaming, 1).send().await.problem(422, "unacceptable");
    app.settle(&streaming, 10, 0).await.expect(200);
    call(&app, "ws", &streaming, 1).send().await.problem(409, "already_settled");

    let report = json!({"final": false, "usage": {"input_tokens": 1, "output_tokens": 0}});
    app.post(&path(&parent, "settle"), report)
        .await
        .problem(409, "reservation_is_parent");
    app.settle(&parent, 1, 0).await.problem(409, "reservation_is_parent");
    app.release(&parent).await.expect(200);
    app.release(&parent).await.expect(200);
    call(&app, "ws", &parent, 1).send().await.problem(409, "reservation_released");
    app.settle(&child, 10, 0).await.expect(200);
    let expired = app.authorize("ws").tokens(10, 0).with("hold_seconds", 10).reserved().await;
    call(&app, "ws", &expired, 1).id("c").allowed().await;
    app.pass_seconds(10);
    call(&app, "ws", &expired, 1).send().await.problem(409, "reservation_expired");
    call(&app, "ws", &expired, 1)
        .id("c")
        .send()
        .await
        .problem(409, "reservation_expired");
    app.settle(&expired, 1, 0).await.problem(409, "reservation_is_parent");
    books_agree(&app, "ws").await;
}

#[tokio::test]
async fn the_questions_before_the_budgets_are_asked_for_each_call() {
    let app = TestApp::start().await;
    let plan = json!({"allowed_models": ["big"], "features": {"beta": {"enabled": false}}, "max_open_reservations": 3,
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]});
    app.workspace_on("ws", plan).await;
    let parent = open(&app, "ws").reserved().await;
    let code = async |asking: Asking<'_>| asking.denied().await["code"].as_str().map(str::to_owned);
    let next = || call(&app, "ws", &parent, 1);
    assert_eq!(code(next().feature("beta")).await.as_deref(), Some("feature_disabled"));
    assert_eq!(code(next().model("small")).await.as_deref(), Some("model_not_allowed"));
    next().allowed().await;
    next().allowed().await;
    assert_eq!(
        code(call(&app, "ws", &parent, 10_000)).await.as_deref(),
        Some("too_many_open_reservations")
    );
    app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(json!({"status": "suspended"})))
        .await
        .expect(200);
    assert_eq!(code(next()).await.as_deref(), Some("workspace_suspended"));
    assert_eq!(standing(&app, &parent).await[3], 2);
}

#[tokio::test]
async fn a_dry_run_tells_what_a_call_would_get_and_takes_nothing() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    let ask = |tokens: i64| {
        json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "dry", "input_tokens": tokens,
        "max_output_tokens": 0, "parent_reservation_id": parent})
    };
    for (tokens, decision) in [(600, "allow"), (601, "deny")] {
        let answer = app.post("/v1/authorize?dry_run=true", ask(tokens)).await.expect(200);
        assert_eq!(answer["decision"], decision);
        assert_eq!(answer["explain"]["rungs"][0]["fits"], decision == "allow");
    }
    let found = app.get(&format!("/v1/reservations/{parent}")).await.expect(200);
    assert_eq!(found.get("run"), None, "nobody drew from it");
}

#[tokio::test]
async fn a_call_lives_no_longer_than_its_run() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    let answer = call(&app, "ws", &parent, 100).with("hold_seconds", 7_200).allowed().await;
    assert_eq!(answer["expires_at"], "2025-11-21T11:00:00Z");
    let child = answer["reservation_id"].as_str().expect("an id");
    let extend = async |id: &str, seconds: i64| app.post(&path(id, "extend"), json!({"hold_seconds": seconds})).await;
    assert_eq!(extend(child, 9_000).await.expect(200)["expires_at"], "2025-11-21T11:00:00Z");
    assert_eq!(extend(&parent, 5_400).await.expect(200)["expires_at"], "2025-11-21T11:30:00Z");
    assert_eq!(extend(child, 4_000).await.expect(200)["expires_at"], "2025-11-21T11:06:40Z");
    app.pass_seconds(4_000);
    assert_eq!(standing(&app, &parent).await, [0, 0, 600, 1], "what expired went back to the run");
    app.pass_seconds(1_400);
    assert_eq!(spent_and_held(&app, "ws").await, (0, 0));
    let late = app.settle(child, 90, 0).await.expect(200);
    assert_eq!((&late["late"], &late["entry"]["late"]), (&json!(true), &json!(true)));
    assert_eq!(app.settle(child, 90, 0).await.expect(200)["replayed"], true);
    books_agree(&app, "ws").await;
}

#[tokio::test]
async fn what_a_call_used_beyond_its_hold_its_run_has_less() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    let child = call(&app, "ws", &parent, 100).reserved().await;
    let settled = app.settle(&child, 250, 0).await.expect(200);
    assert_eq!(settled["beyond_hold"]["tokens"], 150);
    assert_eq!(standing(&app, &parent).await, [250, 0, 350, 1]);
    assert_eq!(spent_and_held(&app, "ws").await, (250, 350), "together what the run took");
    let stream = call(&app, "ws", &parent, 100).reserved().await;
    let report = |tokens: i64| json!({"final": false, "usage": {"input_tokens": tokens, "output_tokens": 0}});
    for tokens in [40, 120, 40] {
        app.post(&path(&stream, "settle"), report(tokens)).await.expect(200);
    }
    assert_eq!(standing(&app, &parent).await, [370, 0, 230, 2]);
    app.pass_seconds(3_600);
    app.expire_due().await;
    assert_eq!(spent_and_held(&app, "ws").await, (370, 0));
    books_agree(&app, "ws").await;
}

#[tokio::test]
async fn a_plan_that_charges_on_expiry_charges_calls_and_never_their_run() {
    let app = TestApp::start().await;
    let plan = json!({"on_expiry": "charge", "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]});
    app.workspace_on("ws", plan).await;
    let named = open(&app, "ws").reserved().await;
    app.authorize("ws")
        .tokens(100, 0)
        .with("max_calls", 3)
        .with("hold_seconds", 3_600)
        .reserved()
        .await;
    let settled = call(&app, "ws", &named, 200).reserved().await;
    app.settle(&settled, 150, 0).await.expect(200);
    call(&app, "ws", &named, 50).reserved().await;
    app.pass_seconds(3_600);
    app.expire_due().await;
    let mut charged: Vec<i64> = app
        .ledger("ws")
        .await
        .iter()
        .map(|entry| entry["counted"]["tokens"].as_i64().expect("a number"))
        .collect();
    charged.sort_unstable();
    assert_eq!(charged, [50, 150]);
    books_agree(&app, "ws").await;
}

#[tokio::test]
async fn a_call_counts_in_the_period_of_its_run() {
    let app = TestApp::start_at("2025-11-30T23:30:00Z").await;
    let plan = json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 600},
        {"id": "searching", "feature": "search", "unit": "tokens", "period": "month", "hard": 100}]});
    app.workspace_on("ws", plan).await;
    let parent = open(&app, "ws").reserved().await;
    app.pass_seconds(2_400);
    let child = call(&app, "ws", &parent, 200).feature("search").user("u").reserved().await;
    let settled = app.settle(&child, 150, 0).await.expect(200);
    assert_eq!(settled["entry"]["occurred_at"], "2025-11-30T23:30:00Z");
    assert_eq!(
        (app.spent("ws", "tokens").await, app.spent("ws", "searching").await),
        (0, 0),
        "December has nothing of it"
    );
    app.release(&parent).await.expect(200);
    app.set_clock("2025-11-30T23:59:59Z");
    assert_eq!(spent_and_held(&app, "ws").await, (150, 0));
    let searching = app.budget("ws", "searching").await;
    assert_eq!(
        (&searching["spent"], &searching["state"]),
        (&json!(150), &json!("exhausted")),
        "the sub-quota of the call's feature was not asked, and counts it"
    );
    app.authorize("ws").tokens(1, 0).feature("search").denied().await;
    books_agree(&app, "ws").await;
}

#[tokio::test]
async fn a_run_that_died_with_the_counters_is_unknown_and_its_calls_settle_late() {
    let app = TestApp::start().await;
    let parent = run_of(&app, "ws").await;
    let child = call(&app, "ws", &parent, 100).reserved().await;
    let app = app.lose_counters().await;
    call(&app, "ws", &parent, 100).send().await.problem(404, "reservation_unknown");
    let body = json!({"usage": {"input_tokens": 80, "output_tokens": 0}, "workspace_id": "ws", "feature": "chat", "model": "big"});
    let settled = app.post(&path(&child, "settle"), body).await.expect(200);
    assert_eq!(settled["late"], true);
    books_agree(&app, "ws").await;
}

/// One round of everything at once: calls that are settled, released, left to expire and counted twice, while their run is released or
/// expires. Never is more spent and held than the run took.
async fn race(app: &TestApp, round: u64) {
    let workspace = format!("everything-{round}");
    let parent = run_of(app, &workspace).await;
    let mut rng = SmallRng::seed_from_u64(round);
    let plans: Vec<(u64, i64, i64)> = (0..12)
        .map(|_| (rng.random_range(0..5), rng.random_range(1..90), rng.random_range(0..90)))
        .collect();
    let calls = plans.iter().map(|(what, tokens, used)| {
        let (workspace, parent) = (&workspace, &parent);
        async move {
            let answer = call(app, workspace, parent, *tokens).with("hold_seconds", 600).send().await;
            if answer.status.as_u16() != 200 || !is_allowed(&answer) {
                return;
            }
            let id = answer.json()["reservation_id"].as_str().expect("an id").to_owned();
            let used = (*used).min(*tokens);
            match what {
                0 => drop(app.settle(&id, used, 0).await.expect_one_of(&[200])),
                1 => drop(app.release(&id).await.expect_one_of(&[200])),
                2 => {
                    // Both are told what became of it, and one of them ended it.
                    let (settled, released) = tokio::join!(app.settle(&id, used, 0), app.release(&id));
                    assert!(settled.status.as_u16() == 200 || released.status.as_u16() == 200);
                }
                3 => {
                    let report = json!({"final": false, "usage": {"input_tokens": used, "output_tokens": 0}});
                    app.post(&path(&id, "settle"), report).await.expect_one_of(&[200]);
                }
                _ => {}
            }
        }
    });
    let end = async {
        if round.is_multiple_of(3) {
            app.release(&parent).await.expect(200);
        }
    };
    tokio::join!(join_all(calls), end);
    let (spent, held) = spent_and_held(app, &workspace).await;
    assert!(spent + held <= 600, "round {round}: {spent} and {held}");
    app.pass_seconds(3_600);
    app.expire_due().await;
    books_agree(app, &workspace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_races_in_a_run_nothing_is_passed_leaked_or_counted_twice() {
    let app = TestApp::start().await;
    for round in 0..20 {
        race(&app, round).await;
    }
}
