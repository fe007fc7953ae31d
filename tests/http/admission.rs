//! Admission over HTTP: what is allowed, what is denied, why, and that nothing is held by accident.

use crate::support;
use crate::support::TestApp;
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::HashMap;

fn budget<'a>(answer: &'a Value, id: &str) -> &'a Value {
    answer["budgets"]
        .as_array()
        .expect("budgets")
        .iter()
        .find(|budget| budget["budget_id"] == id)
        .unwrap_or_else(|| panic!("{id} in {answer:#}"))
}

fn codes(answer: &Value) -> Vec<&str> {
    answer["reasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .map(|reason| reason["code"].as_str().expect("a code"))
        .collect()
}

#[tokio::test]
async fn a_plain_request_is_allowed_and_held() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let answer = app.authorize("ws").tokens(100, 50).user("u").id("r-1").allowed().await;
    assert_eq!(answer["held"], json!({"tokens": 150, "usd": "0.002500000", "requests": 1}));
    assert_eq!(
        (&answer["model"], &answer["requested_model"], &answer["tier"], &answer["provider"]),
        (&json!("big"), &json!("big"), &json!("frontier"), &json!("acme"))
    );
    assert_eq!(
        (&answer["actions"], &answer["reasons"], &answer["degraded"]),
        (&json!([]), &json!([]), &json!(false))
    );
    assert_eq!(answer["request_id"], "r-1");
    assert_eq!(answer["expires_at"], "2025-11-21T10:10:00Z");
    assert_eq!((&answer["plan_id"], &answer["plan_version"]), (&json!("ws"), &json!(1)));
    assert!(
        answer["price_version"].as_str().expect("a version").starts_with("2024-01-01."),
        "{answer}"
    );
    let tokens = budget(&answer, "tokens");
    assert_eq!(
        tokens,
        &json!({"budget_id": "tokens", "scope": "workspace", "feature": null, "unit": "tokens",
            "period": {"start": "2025-11-01T00:00:00Z", "end": "2025-12-01T00:00:00Z"}, "soft": null, "hard": 1000, "granted": 0,
            "spent": 0, "held": 150, "remaining": 850, "overage_remaining": null, "state": "ok", "shadow": false})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_parallel_requests_never_pass_a_limit_of_a_hundred() {
    let app = TestApp::start().await;
    for round in 0..50 {
        let workspace = format!("race-{round}");
        app.workspace_with_tokens(&workspace, 100).await;
        let answers = join_all((0..1_000).map(|_| app.authorize(&workspace).tokens(1, 0).send())).await;
        let allowed = answers.iter().filter(|answer| answer.json()["decision"] == "allow").count();
        assert_eq!(allowed, 100, "round {round}");
        assert_eq!(app.held(&workspace, "tokens").await, 100);
    }
}

#[tokio::test]
async fn of_four_budgets_one_short_denies_and_the_others_do_not_move() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 10000},
        {"id": "money", "unit": "usd", "period": "month", "hard": "0.001"},
        {"id": "calls", "unit": "requests", "period": "day", "hard": 10},
        {"id": "chatting", "feature": "chat", "unit": "tokens", "period": "week", "hard": 10000}]});
    app.workspace_on("ws", plan).await;
    app.authorize("ws").tokens(10, 10).allowed().await;
    let answer = app.authorize("ws").tokens(50, 10).denied().await;
    assert_eq!(answer["code"], "hard_limit_reached");
    assert_eq!((&answer["model"], answer.get("reservation_id")), (&Value::Null, None));
    let reason = &answer["reasons"][0];
    assert_eq!((&reason["budget_id"], &reason["blocked_by"]), (&json!("money"), &json!("held")));
    // The hold of the first request ends in ten minutes, and then it fits.
    assert_eq!(reason["retry_after_seconds"], 600);
    assert_eq!(answer["reasons"].as_array().expect("reasons").len(), 1);
    for (id, held) in [
        ("tokens", json!(20)),
        ("money", json!("0.000400000")),
        ("calls", json!(1)),
        ("chatting", json!(20)),
    ] {
        assert_eq!(app.budget("ws", id).await["held"], held, "{id}");
    }
}

#[tokio::test]
async fn a_denial_names_spend_when_spend_blocks_and_when_the_period_ends() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let reservation = app.authorize("ws").tokens(60, 40).reserved().await;
    app.settle(&reservation, 60, 40).await.expect(200);
    let answer = app.authorize("ws").tokens(1, 0).denied().await;
    let reason = &answer["reasons"][0];
    assert_eq!(
        (&reason["code"], &reason["blocked_by"]),
        (&json!("hard_limit_reached"), &json!("spent"))
    );
    assert_eq!(reason["retry_after_seconds"], 9 * 86_400 + 14 * 3_600);
    assert_eq!(
        reason["message"],
        "Workspace ws has used its 100 tokens for November. They renew on 1 December."
    );
    assert_eq!(budget(&answer, "tokens")["state"], "exhausted");
}

#[tokio::test]
async fn what_can_never_fit_says_so() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let answer = app.authorize("ws").tokens(100, 1).denied().await;
    assert_eq!(answer["code"], "never_fits");
    assert_eq!(
        (&answer["reasons"][0]["blocked_by"], &answer["reasons"][0]["retry_after_seconds"]),
        (&json!("policy"), &Value::Null)
    );
    app.authorize("ws").tokens(0, 0).allowed().await;
    app.authorize("ws").tokens(100, 0).allowed().await;
    app.authorize("ws").tokens(0, 0).allowed().await;
}

#[tokio::test]
async fn all_short_budgets_are_listed_in_plan_order() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "b", "unit": "tokens", "period": "month", "hard": 10},
        {"id": "fine", "unit": "tokens", "period": "day", "hard": 1000},
        {"id": "a", "unit": "requests", "period": "minute", "hard": 1}]});
    app.workspace_on("ws", plan).await;
    app.authorize("ws").tokens(5, 0).allowed().await;
    let answer = app.authorize("ws").tokens(6, 0).denied().await;
    let listed: Vec<_> = answer["reasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .map(|r| (r["budget_id"].clone(), r["blocked_by"].clone()))
        .collect();
    assert_eq!(listed, vec![(json!("b"), json!("held")), (json!("a"), json!("rate"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_request_fifty_times_at_once_holds_once_and_answers_alike() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let answers = join_all((0..50).map(|_| app.authorize("ws").id("same").send())).await;
    let bodies: Vec<Value> = answers.iter().map(|answer| answer.json()).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    assert_eq!(bodies[0]["decision"], "allow");
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.header("idempotency-replayed") == Some("true"))
            .count(),
        49
    );
    assert_eq!(app.held("ws", "tokens").await, 150);
    app.pass_seconds(60);
    assert_eq!(
        app.authorize("ws").id("same").allowed().await,
        bodies[0],
        "a minute later still the first answer"
    );
}

#[tokio::test]
async fn an_id_belongs_to_one_body_and_one_end() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").id("one").reserved().await;
    app.authorize("ws")
        .id("one")
        .tokens(101, 50)
        .send()
        .await
        .problem(422, "idempotency_mismatch");
    app.settle(&reservation, 100, 10).await.expect(200);
    app.authorize("ws").id("one").send().await.problem(409, "already_settled");
    let reservation = app.authorize("ws").id("two").reserved().await;
    app.release(&reservation).await.expect(200);
    app.authorize("ws").id("two").send().await.problem(409, "reservation_released");
    app.authorize("ws").id("three").allowed().await;
    app.pass_seconds(601);
    app.authorize("ws").id("three").send().await.problem(409, "reservation_expired");
    app.pass_seconds(24 * 3_600);
    app.authorize("ws").id("three").allowed().await;
}

#[tokio::test]
async fn what_was_allowed_is_told_again_whatever_changed_since() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let first = app.authorize("ws").id("one").allowed().await;
    let settled = app.authorize("ws").id("two").reserved().await;
    app.settle(&settled, 1, 1).await.expect(200);
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    let plan = |member: &str, value: Value| {
        let mut plan = json!({"name": "ws", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": budgets});
        plan[member] = value;
        plan
    };
    let suspended = json!({"status": "suspended"});
    for (path, change) in [
        ("/v1/admin/plans/ws", plan("allowed_models", json!(["small"]))),
        ("/v1/admin/plans/ws", plan("features", json!({"chat": {"enabled": false}}))),
        ("/v1/admin/plans/ws", plan("budgets", json!([]))),
        ("/v1/admin/plans/ws", plan("require_user", json!(true))),
        ("/v1/admin/workspaces/ws", suspended),
    ] {
        app.put(path, change.clone()).await.expect(200);
        let again = app.authorize("ws").id("one").send().await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{change}: {}", again.text);
        assert_eq!(again.json(), first);
        app.authorize("ws")
            .id("one")
            .tokens(7, 7)
            .send()
            .await
            .problem(422, "idempotency_mismatch");
        app.authorize("ws").id("two").send().await.problem(409, "already_settled");
        assert_ne!(app.authorize("ws").id("three").send().await.json()["decision"], "allow", "{change}");
    }
}

#[tokio::test]
async fn bodies_are_told_apart_by_all_that_they_say_and_not_by_its_order() {
    let app = TestApp::start().await;
    let image = |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    for (n, first, same, other) in [
        (
            1,
            json!({"cache": {"prompt": "p", "params": {"temperature": 0, "stop": {"a": 1, "b": 2}}}}),
            json!({"cache": {"params": {"stop": {"b": 2, "a": 1}, "temperature": 0}, "prompt": "p"}}),
            json!({"cache": {"prompt": "p", "params": {"temperature": 1, "stop": {"a": 1, "b": 2}}}}),
        ),
        (
            2,
            json!({"attributes": {"a": 1, "b": "x"}}),
            json!({"attributes": {"b": "x", "a": 1}}),
            json!({"attributes": {"a": 1, "b": "y"}}),
        ),
        (
            3,
            json!({"input": [{"role": "user", "content": "hello"}]}),
            json!({"input": [{"content": "hello", "role": "user"}]}),
            json!({"input": [{"role": "system", "content": "hello"}]}),
        ),
        (
            4,
            json!({"input": image("https://a")}),
            json!({"input": image("https://a")}),
            json!({"input": image("https://b")}),
        ),
        (
            5,
            json!({"tags": {"a": "b"}}),
            json!({"tags": {"a": "b"}}),
            json!({"attributes": {"a": "b"}}),
        ),
    ] {
        let send = async |members: &Value| {
            let mut asking = app.authorize("ws").id(&format!("body-{n}"));
            for (name, value) in members.as_object().expect("an object") {
                asking = asking.with(name, value.clone());
            }
            if members.get("input").is_some() {
                asking = asking.without("input_tokens");
            }
            asking.send().await
        };
        send(&first).await.expect(200);
        assert_eq!(send(&same).await.header("idempotency-replayed"), Some("true"), "{same}");
        send(&other).await.problem(422, "idempotency_mismatch");
    }
    let long = app
        .authorize("ws")
        .with("cache", json!({"prompt": "p", "embedding": vec![0.5; 4_097]}));
    long.send().await.problem(422, "unacceptable");
}

#[tokio::test]
async fn a_denial_is_not_remembered() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 150).await;
    let first = app.authorize("ws").reserved().await;
    app.authorize("ws").id("again").denied().await;
    app.release(&first).await.expect(200);
    app.authorize("ws").id("again").allowed().await;
}

#[tokio::test]
async fn questions_are_asked_in_their_order() {
    let app = TestApp::start().await;
    let plan = json!({"allowed_models": ["tier:fast", "mid", "fut*"], "unknown_features": "deny", "budgets": [],
        "features": {"chat": {}, "gone": {"enabled": false}}});
    app.workspace_on("ws", plan).await;
    let code = async |asking: support::Asking<'_>| asking.denied().await["code"].as_str().expect("a code").to_owned();
    assert_eq!(code(app.authorize("ws").feature("gone").model("big")).await, "feature_disabled");
    assert_eq!(
        code(app.authorize("ws").feature("never_heard_of").model("big")).await,
        "feature_disabled"
    );
    assert_eq!(code(app.authorize("ws").model("big")).await, "model_not_allowed");
    assert_eq!(code(app.authorize("ws").model("future")).await, "model_unpriced");
    assert_eq!(code(app.authorize("ws").model("mid").tokens(200_001, 1)).await, "context_too_long");
    assert_eq!(code(app.authorize("ws").model("mid")).await, "no_budget");
    app.call(
        reqwest::Method::PATCH,
        "/v1/admin/workspaces/ws",
        Some(json!({"status": "suspended"})),
    )
    .await
    .expect(200);
    assert_eq!(code(app.authorize("ws").feature("gone").model("big")).await, "workspace_suspended");
    app.call(
        reqwest::Method::PATCH,
        "/v1/admin/workspaces/ws",
        Some(json!({"status": "active", "plan_id": "empty"})),
    )
    .await
    .expect(200);
    assert_eq!(code(app.authorize("ws")).await, "no_budget");
    app.call(
        reqwest::Method::PATCH,
        "/v1/admin/workspaces/ws",
        Some(json!({"plan_id": "unlimited"})),
    )
    .await
    .expect(200);
    let answer = app.authorize("ws").allowed().await;
    assert_eq!(answer["budgets"], json!([]));
    assert_eq!(code(app.authorize("ws").model("no-such-model")).await, "model_unpriced");
}

#[tokio::test]
async fn models_are_found_by_alias_prefix_and_date() {
    let app = TestApp::start().await;
    for name in ["big", "big-latest", "acme/big", "big-20250929", "gateway/acme/big-2025-09-29"] {
        let answer = app.authorize("found").model(name).allowed().await;
        assert_eq!((&answer["model"], &answer["requested_model"]), (&json!("big"), &json!(name)));
    }
}

#[tokio::test]
async fn past_soft_the_downgrade_serves_and_warns() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "soft": 100, "hard": 1000,
        "at_soft": ["warn", "downgrade"], "downgrade_to": "fast"}], "features": {"legal": {"never_downgrade": true}}});
    app.workspace_on("ws", plan).await;
    let plain = app.authorize("ws").tokens(60, 60).allowed().await;
    assert_eq!(
        (&plain["model"], &plain["actions"]),
        (&json!("big"), &json!([])),
        "soft is judged before the request"
    );
    let answer = app.authorize("ws").tokens(60, 60).allowed().await;
    assert_eq!(
        (&answer["model"], &answer["requested_model"], &answer["tier"]),
        (&json!("small"), &json!("big"), &json!("fast"))
    );
    assert_eq!(answer["actions"], json!(["warn", "downgrade"]));
    assert_eq!(codes(&answer), vec!["soft_limit_reached"]);
    assert_eq!(answer["held"], json!({"tokens": 120, "usd": "0.000240000", "requests": 1}));
    let legal = app.authorize("ws").feature("legal").tokens(60, 60).allowed().await;
    assert_eq!(
        (&legal["model"], &legal["actions"]),
        (&json!("big"), &json!(["warn"])),
        "a soft limit alone never denies"
    );
}

#[tokio::test]
async fn a_downgrade_that_is_not_cheaper_is_skipped() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "soft": 0, "hard": 1000000,
        "at_soft": ["downgrade"], "downgrade_to": "frontier"}]});
    app.workspace_on("ws", plan).await;
    let answer = app.authorize("ws").model("small").allowed().await;
    assert_eq!((&answer["model"], &answer["actions"]), (&json!("small"), &json!([])));
}

#[tokio::test]
async fn a_cheaper_model_is_taken_where_only_it_fits_the_money() {
    let app = TestApp::start().await;
    let plan =
        json!({"budgets": [{"id": "money", "unit": "usd", "period": "month", "soft": "0.5", "hard": "1", "at_soft": ["downgrade"]}]});
    app.workspace_on("ws", plan).await;
    // 100,000 in and 1,000 out cost 1.03 on big and 0.315 on mid.
    let answer = app.authorize("ws").tokens(100_000, 1_000).allowed().await;
    assert_eq!((&answer["model"], &answer["actions"]), (&json!("mid"), &json!(["downgrade"])));
    assert_eq!(codes(&answer), vec!["hard_limit_reached"]);
    assert_eq!(answer["held"]["usd"], "0.315000000");
}

#[tokio::test]
async fn a_capped_answer_takes_what_is_left_and_no_less_than_the_least() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let first = app.authorize("ws").tokens(200, 0).reserved().await;
    app.settle(&first, 200, 0).await.expect(200);
    let answer = app
        .authorize("ws")
        .tokens(100, 1_024)
        .with("min_output_tokens", 256)
        .allowed()
        .await;
    assert_eq!((&answer["max_output_tokens"], &answer["actions"]), (&json!(700), &json!(["cap"])));
    assert_eq!(budget(&answer, "tokens")["remaining"], 0);
    assert_eq!(answer["held"]["usd"], "0.022000000");
    app.authorize("ws").tokens(100, 1_024).with("min_output_tokens", 256).denied().await;
}

#[tokio::test]
async fn throttling_is_told_and_the_longest_delay_wins() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "a", "unit": "tokens", "period": "month", "soft": 0, "hard": 100000, "at_soft": ["throttle"], "throttle_ms": 250},
        {"id": "b", "unit": "tokens", "period": "day", "soft": 0, "hard": 100000, "at_soft": ["throttle", "warn"], "throttle_ms": 1000}]});
    app.workspace_on("ws", plan).await;
    let answer = app.authorize("ws").allowed().await;
    assert_eq!(
        (&answer["actions"], &answer["delay_ms"]),
        (&json!(["warn", "throttle"]), &json!(1_000))
    );
}

#[tokio::test]
async fn deferring_needs_a_caller_who_can_wait() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [{"id": "money", "unit": "usd", "period": "month", "soft": "0", "hard": "100", "at_soft": ["defer"]}]});
    app.workspace_on("ws", plan).await;
    let now = app.authorize("ws").allowed().await;
    assert_eq!((&now["mode"], &now["actions"]), (&json!("interactive"), &json!([])));
    let later = app.authorize("ws").with("allow_batch", true).allowed().await;
    assert_eq!((&later["mode"], &later["actions"]), (&json!("batch"), &json!(["defer"])));
    assert_eq!(later["held"]["usd"], "0.001250000", "half price");
    assert_eq!(later["expires_at"], "2025-11-22T11:00:00Z", "a batch's hold lives 25 hours");
}

#[tokio::test]
async fn overage_is_billed_up_to_its_own_limit() {
    let app = TestApp::start().await;
    let plan =
        json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 100, "at_hard": "overage", "overage_hard": 200}]});
    app.workspace_on("ws", plan).await;
    assert_eq!(app.authorize("ws").tokens(100, 0).allowed().await["actions"], json!([]));
    let over = app.authorize("ws").tokens(60, 0).allowed().await;
    assert_eq!(over["actions"], json!(["overage"]));
    assert_eq!(
        (&budget(&over, "tokens")["remaining"], &budget(&over, "tokens")["overage_remaining"]),
        (&json!(0), &json!(40))
    );
    app.authorize("ws").tokens(41, 0).denied().await;
}

#[tokio::test]
async fn a_full_feature_or_user_leaves_the_others_alone() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "all", "unit": "tokens", "period": "month", "hard": 10000},
        {"id": "each", "scope": "user", "unit": "tokens", "period": "month", "hard": 300},
        {"id": "summaries", "feature": "summary", "unit": "tokens", "period": "month", "hard": 150}]});
    app.workspace_on("ws", plan).await;
    app.authorize("ws").feature("summary").user("anna").allowed().await;
    let full = app.authorize("ws").feature("summary").user("bert").denied().await;
    assert_eq!(full["reasons"][0]["budget_id"], "summaries");
    app.authorize("ws").user("anna").allowed().await;
    let full = app.authorize("ws").user("anna").denied().await;
    assert_eq!(full["reasons"][0]["budget_id"], "each");
    app.authorize("ws").user("bert").allowed().await;
    // Requests without a user count as one shared user.
    app.authorize("ws").tokens(300, 0).allowed().await;
    app.authorize("ws").tokens(1, 0).denied().await;
}

#[tokio::test]
async fn shadow_budgets_count_and_never_deny() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "trial", "unit": "tokens", "period": "day", "hard": 100, "shadow": true},
        {"id": "real", "unit": "tokens", "period": "month", "hard": 10000}]});
    app.workspace_on("ws", plan).await;
    let answer = app.authorize("ws").allowed().await;
    assert_eq!(answer["reasons"], json!([]));
    assert_eq!(
        (&answer["shadow_reasons"][0]["code"], &answer["shadow_reasons"][0]["budget_id"]),
        (&json!("hard_limit_reached"), &json!("trial"))
    );
    let listed: Vec<_> = answer["budgets"]
        .as_array()
        .expect("budgets")
        .iter()
        .map(|budget| budget["budget_id"].clone())
        .collect();
    assert_eq!(listed, vec![json!("real"), json!("trial")], "shadow budgets come last");
    assert_eq!(budget(&answer, "trial")["held"], 150);
    app.workspace_on(
        "only-shadow",
        json!({"budgets": [{"id": "trial", "unit": "tokens", "period": "day", "hard": 100, "shadow": true}]}),
    )
    .await;
    assert_eq!(app.authorize("only-shadow").denied().await["code"], "no_budget");
}

#[tokio::test]
async fn open_reservations_are_bounded() {
    let app = TestApp::start().await;
    let plan = json!({"max_open_reservations": 2, "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 100000}]});
    app.workspace_on("ws", plan).await;
    let first = app.authorize("ws").reserved().await;
    app.authorize("ws").allowed().await;
    assert_eq!(app.authorize("ws").denied().await["code"], "too_many_open_reservations");
    app.settle(&first, 1, 1).await.expect(200);
    app.authorize("ws").allowed().await;
}

#[tokio::test]
async fn seats_multiply_and_overrides_replace_for_a_time() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "soft": 50, "hard": 100, "per_seat": true}]});
    app.workspace_on("ws", plan).await;
    let patch = async |body: Value| {
        app.call(reqwest::Method::PATCH, "/v1/admin/workspaces/ws", Some(body))
            .await
            .expect(200)
    };
    patch(json!({"seats": 3})).await;
    assert_eq!(app.budget("ws", "tokens").await["hard"], 300);
    patch(json!({"seats": 1})).await;
    assert_eq!(
        app.budget("ws", "tokens").await["hard"],
        300,
        "fewer seats wait for the next period"
    );
    patch(json!({"overrides": {"tokens": {"hard": 5000, "expires_at": "2025-11-21T11:00:00Z"}}})).await;
    assert_eq!(app.budget("ws", "tokens").await["hard"], 5_000);
    app.pass_seconds(3_600);
    assert_eq!(app.budget("ws", "tokens").await["hard"], 300, "an override ends by itself");
    app.set_clock("2025-12-01T00:00:00Z");
    assert_eq!(app.budget("ws", "tokens").await["hard"], 100);
}

#[tokio::test]
async fn routing_rules_choose_for_auto() {
    let app = TestApp::start().await;
    let auto = || app.authorize("ws").model("auto");
    for (asking, model) in [
        (auto().with("attributes", json!({"complexity": 0.9})), "big"),
        (auto().tokens(999, 10), "small"),
        (auto().tokens(5_000, 10).with("attributes", json!({"complexity": 0.1})), "mid"),
    ] {
        let answer = asking.allowed().await;
        assert_eq!(
            (&answer["model"], &answer["requested_model"], &answer["actions"]),
            (&json!(model), &json!("auto"), &json!(["route"]))
        );
    }
    let shadowed = auto().tokens(5_000, 10).feature("report").with("allow_batch", true);
    let shadowed = shadowed.allowed().await;
    assert_eq!(
        (&shadowed["mode"], &shadowed["shadow_reasons"][0]["code"]),
        (&json!("interactive"), &json!("routed"))
    );
    let named = app.authorize("ws").tokens(10, 10).allowed().await;
    assert_eq!(
        (&named["model"], &named["actions"]),
        (&json!("big"), &json!([])),
        "a named model is not routed"
    );
}

#[tokio::test]
async fn an_excluded_provider_gives_way_to_a_fallback() {
    let app = TestApp::start().await;
    let answer = app.authorize("ws").with("exclude_providers", json!(["acme"])).allowed().await;
    assert_eq!((&answer["model"], &answer["provider"]), (&json!("other"), &json!("zenith")));
    let none = app
        .authorize("ws")
        .with("exclude_providers", json!(["acme", "zenith"]))
        .denied()
        .await;
    assert_eq!(none["code"], "model_not_allowed");
}

#[tokio::test]
async fn a_dry_run_explains_and_holds_nothing() {
    let app = TestApp::start().await;
    let plan =
        json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "soft": 100, "hard": 1000, "at_soft": ["downgrade"]}]});
    app.workspace_on("ws", plan).await;
    let body = |id: &str| app.authorize("ws").id(id).body.clone().into();
    let answer = app.post("/v1/authorize?dry_run=true", body("dry")).await.expect(200);
    assert_eq!((&answer["decision"], &answer["reservation_id"]), (&json!("allow"), &Value::Null));
    let rungs = answer["explain"]["rungs"].as_array().expect("rungs");
    assert!(
        rungs.len() >= 3 && rungs[0]["taken"] == true && rungs[0]["fits"] == true,
        "{answer:#}"
    );
    let ceiling = &rungs[0]["ceilings"][0];
    assert_eq!((&ceiling["open_below"], &ceiling["ceiling"]), (&json!(100), &json!(1000)));
    assert_eq!(app.held("ws", "tokens").await, 0);
    app.authorize("ws").id("dry").allowed().await;
}

#[tokio::test]
async fn denials_can_be_told_by_status_too() {
    let app = TestApp::start().await;
    let plan = json!({"allowed_models": ["big"], "budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}, {"id": "rate", "unit": "requests", "period": "minute", "hard": 1}]});
    app.workspace_on("ws", plan).await;
    let ask = |asking: support::Asking<'_>| asking.body.clone().into();
    let mapped = async |body: Value| app.post("/v1/authorize?http_status=map", body).await;
    assert_eq!(
        mapped(ask(app.authorize("ws").tokens(2_000, 0))).await.expect(402)["code"],
        "never_fits"
    );
    assert_eq!(
        mapped(ask(app.authorize("ws").model("mid"))).await.expect(403)["code"],
        "model_not_allowed"
    );
    assert_eq!(mapped(ask(app.authorize("ws").tokens(0, 0))).await.expect(200)["decision"], "allow");
    let rate = mapped(ask(app.authorize("ws").tokens(0, 0))).await;
    assert_eq!(rate.header("retry-after"), Some("60"));
    assert_eq!(rate.expect(429)["reasons"][0]["blocked_by"], "rate");
    app.authorize("ws").tokens(2_000, 0).denied().await;
}

#[tokio::test]
async fn header_fields_tell_the_tightest_budget() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}, {"id": "money", "unit": "usd", "period": "day", "hard": "0.0100001"}]});
    app.workspace_on("ws", plan).await;
    let answer = app.authorize("ws").tokens(100, 50).send().await;
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"money\";q=10000;w=86400;qu=\"micro-usd\"")
    );
    assert_eq!(answer.header("ratelimit"), Some("\"money\";r=7500;t=50400"));
    app.workspace_on("free", json!({"unlimited": true, "budgets": []})).await;
    assert_eq!(app.authorize("free").send().await.header("ratelimit"), None);
}

#[tokio::test]
async fn an_input_is_counted_here() {
    let app = TestApp::start().await;
    let text = app
        .authorize("ws")
        .without("input_tokens")
        .with("input", "hello world")
        .allowed()
        .await;
    assert_eq!((&text["input_tokens"], &text["input_tokens_estimated"]), (&json!(2), &json!(true)));
    let messages =
        json!([{"role": "user", "content": "hello world"}, {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}]);
    let counted = app.authorize("ws").without("input_tokens").with("input", messages).allowed().await;
    assert!((5..=20).contains(&counted["input_tokens"].as_i64().expect("a number")), "{counted}");
    app.authorize("ws").with("input", "both").send().await.problem(400, "malformed");
    app.authorize("ws").without("input_tokens").send().await.problem(400, "malformed");
}

#[tokio::test]
async fn a_length_that_nobody_named_is_learned() {
    // Each node learns from what it settles itself.
    let app = TestApp::alone().await;
    let first = app.authorize("ws").without("max_output_tokens").allowed().await;
    assert_eq!(first["max_output_tokens"], 1_024, "before anything is known");
    for _ in 0..30 {
        let reservation = app.authorize("ws").tokens(10, 200).reserved().await;
        app.settle(&reservation, 10, 200).await.expect(200);
    }
    let learned = app.authorize("ws").without("max_output_tokens").allowed().await["max_output_tokens"]
        .as_i64()
        .expect("a number");
    assert!((200..=222).contains(&learned), "{learned}");
    let clamped = app.authorize("ws").tokens(10, 50_000).allowed().await;
    assert_eq!(clamped["max_output_tokens"], 8_192, "never more than the model can");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn first_requests_of_an_unknown_workspace_race_for_one_birth() {
    let app = TestApp::start().await;
    app.get("/v1/workspaces/newborn/usage").await.problem(404, "not_found");
    let answers = join_all((0..200).map(|_| app.authorize("newborn").tokens(1_000, 0).send())).await;
    assert!(answers.iter().all(|answer| answer.json()["decision"] == "allow"));
    assert_eq!(app.held("newborn", "monthly_tokens").await, 200_000);
}

/// What one request of [`crossing_sets_of_budgets_never_hold_in_part`] asks for, and whether it is released at once.
struct Crossing {
    feature: &'static str,
    user: &'static str,
    tokens: i64,
    released: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_sets_of_budgets_never_hold_in_part() {
    const FEATURES: [&str; 4] = ["a", "b", "c", "d"];
    const USERS: [&str; 3] = ["x", "y", "z"];
    let app = TestApp::start().await;
    // Each request needs a budget of its feature, one of its user and one that all share; any of them may be the short one.
    let mut budgets: Vec<Value> = FEATURES
        .iter()
        .map(|f| json!({"id": f, "feature": f, "unit": "tokens", "period": "month", "hard": 1500}))
        .collect();
    budgets.push(json!({"id": "each", "scope": "user", "unit": "tokens", "period": "month", "hard": 1900}));
    budgets.push(json!({"id": "all", "unit": "requests", "period": "month", "hard": 1000000}));
    app.workspace_on("ws", json!({"max_open_reservations": 100000, "budgets": budgets}))
        .await;
    let mut chance = SmallRng::seed_from_u64(7);
    let mut held = HashMap::<&str, i64>::new();
    let mut denied_by = HashMap::<String, usize>::new();
    for _ in 0..50 {
        let crossings: Vec<Crossing> = (0..200)
            // The first of each are asked for most, so that each kind of budget is sometimes the short one.
            .map(|_| Crossing {
                feature: FEATURES[chance.random_range(0..4).min(chance.random_range(0..4))],
                user: USERS[chance.random_range(0..3).min(chance.random_range(0..3))],
                tokens: chance.random_range(1..4),
                released: chance.random_range(0..4) == 0,
            })
            .collect();
        let one = async |crossing: &Crossing| {
            let asking = app.authorize("ws").feature(crossing.feature).user(crossing.user);
            let answer = asking.tokens(crossing.tokens, 0).send().await.expect(200);
            if crossing.released && answer["decision"] == "allow" {
                app.release(answer["reservation_id"].as_str().expect("an id")).await.expect(200);
            }
            answer
        };
        for (crossing, answer) in crossings.iter().zip(join_all(crossings.iter().map(one)).await) {
            if answer["decision"] == "deny" {
                for reason in answer["reasons"].as_array().expect("reasons") {
                    *denied_by
                        .entry(reason["budget_id"].as_str().expect("an id").to_owned())
                        .or_default() += 1;
                }
            } else if !crossing.released {
                *held.entry(crossing.feature).or_default() += crossing.tokens;
                *held.entry(crossing.user).or_default() += crossing.tokens;
                *held.entry("all").or_default() += 1;
            }
        }
    }
    for id in FEATURES.into_iter().chain(["all"]) {
        assert_eq!(app.held("ws", id).await, held[id], "{id}");
    }
    for user in USERS {
        let usage = app.get(&format!("/v1/workspaces/ws/usage?user_id={user}")).await.expect(200);
        assert_eq!(budget(&usage, "each")["held"], held[user], "{user}");
    }
    assert!(
        FEATURES.iter().all(|id| held[id] <= 1_500) && USERS.iter().all(|id| held[id] <= 1_900),
        "{held:?}"
    );
    assert!(
        denied_by["each"] > 100 && denied_by["a"] > 100,
        "both kinds must have been short: {denied_by:?}"
    );
}
