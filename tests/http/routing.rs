//! Routing over HTTP: rules and what they may do, second tries on a better model, the classifier and a language model as advisers, and
//! providers that fail.

use crate::support::TestApp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir::decision::classifier::features::Features;
use weir::decision::classifier::train::{Row, train};
use weir::decision::id::ModelId;
use weir::flow::expected::Expected;
use weir::flow::policy::By;
use weir::flow::{self, Options};
use weir::policy::compile::classifier_document;
use weir::policy::object::{ObjectId, classifier_body};
use weir::router::RouterSettings;

/// Puts these rules in force; `auto` is `mid` where none matches.
async fn rules(app: &TestApp, rules: Value) {
    app.put("/v1/admin/routing", json!({"rules": rules, "default_model": "mid"}))
        .await
        .expect_one_of(&[200, 201]);
}

async fn settle(app: &TestApp, reservation: &str, report: Value) -> Value {
    let mut body = json!({"usage": {"input_tokens": 100, "output_tokens": 50}});
    for (name, value) in report.as_object().expect("a report") {
        body[name] = value.clone();
    }
    app.post(&format!("/v1/reservations/{reservation}/settle"), body).await.expect(200)
}

fn codes(reasons: &Value) -> Vec<&str> {
    let codes = reasons
        .as_array()
        .expect("reasons")
        .iter()
        .map(|reason| reason["code"].as_str().expect("a code"));
    codes.collect()
}

#[tokio::test]
async fn rules_know_the_workspaces_tags_and_may_slow_a_request_down() {
    let app = TestApp::start().await;
    let slow = json!({"name": "trials-wait", "when": "workspace.tags.segment == 'trial'", "throttle_ms": 750});
    let shadow = json!({"name": "would-slow", "when": "workspace.seats > 1", "throttle_ms": 5, "shadow": true});
    rules(&app, json!([shadow, slow])).await;
    for (workspace, body) in [
        ("ws_trial", json!({"tags": {"segment": "trial"}, "seats": 3})),
        ("ws_paying", json!({"tags": {"segment": "paying"}})),
    ] {
        let path = format!("/v1/admin/workspaces/{workspace}");
        let made = app.put(&path, body.clone()).await.expect(201);
        assert_eq!(made["tags"], body["tags"]);
    }
    let answer = app.authorize("ws_trial").model("auto").id("one").allowed().await;
    assert_eq!(
        (&answer["model"], &answer["delay_ms"], &answer["actions"]),
        (&json!("mid"), &json!(750), &json!(["throttle", "route"]))
    );
    assert_eq!(
        (codes(&answer["reasons"]), codes(&answer["shadow_reasons"])),
        (vec!["routed"], vec!["routed"])
    );
    let again = app.authorize("ws_trial").model("auto").id("one").allowed().await;
    assert_eq!(again, answer, "told again, it is the same");
    let answer = app.authorize("ws_paying").model("auto").allowed().await;
    assert_eq!((&answer["delay_ms"], &answer["shadow_reasons"]), (&json!(0), &json!([])));
    app.patch("/v1/admin/workspaces/ws_paying", json!({"tags": {"segment": "trial"}}))
        .await
        .expect(200);
    assert_eq!(app.authorize("ws_paying").model("auto").allowed().await["delay_ms"], 750);
    let many: serde_json::Map<String, Value> = (0..17).map(|n| (format!("t{n}"), json!("x"))).collect();
    app.patch("/v1/admin/workspaces/ws_paying", json!({"tags": many}))
        .await
        .problem(422, "unacceptable");
    let both = json!([{"name": "r", "when": "true", "tier": "fast", "throttle_ms": 1}]);
    app.put("/v1/admin/routing", json!({"rules": both}))
        .await
        .problem(422, "unacceptable");
}

#[tokio::test]
async fn what_can_wait_is_deferred_and_nothing_else_is() {
    let app = TestApp::start().await;
    rules(
        &app,
        json!([{"name": "wait", "when": "request.feature == 'report'", "mode": "batch", "override": true}]),
    )
    .await;
    let asking = || app.authorize("ws").feature("report").tokens(1_000, 0);
    for (fields, mode, usd) in [
        (json!({}), "interactive", "0.010000000"),
        (json!({"max_delay_seconds": 3_600}), "interactive", "0.010000000"),
        (json!({"allow_batch": true}), "batch", "0.005000000"),
        (json!({"mode": "interactive", "max_delay_seconds": 86_400}), "batch", "0.005000000"),
    ] {
        let mut asking = asking();
        for (name, value) in fields.as_object().expect("fields") {
            asking = asking.with(name, value.clone());
        }
        let answer = asking.allowed().await;
        assert_eq!((&answer["mode"], &answer["held"]["usd"]), (&json!(mode), &json!(usd)), "{fields}");
        assert_eq!(
            answer["actions"],
            if mode == "batch" { json!(["defer", "route"]) } else { json!([]) },
            "{fields}"
        );
    }
    // Who leaves the model to the rules has not said by it that he can wait.
    assert_eq!(asking().model("auto").allowed().await["mode"], "interactive");
    let waiting = || asking().model("auto").with("allow_batch", true);
    let answer = waiting().allowed().await;
    assert_eq!(
        (&answer["mode"], &answer["model"]),
        (&json!("interactive"), &json!("mid")),
        "which has none"
    );
    app.put(
        "/v1/admin/routing",
        json!({"rules": [{"name": "wait", "when": "true", "mode": "batch"}], "default_model": "big"}),
    )
    .await
    .expect_one_of(&[200, 201]);
    let answer = waiting().allowed().await;
    assert_eq!((&answer["mode"], &answer["model"]), (&json!("batch"), &json!("big")));
    assert_eq!(asking().model("auto").allowed().await["mode"], "interactive");
    rules(&app, json!([])).await;
    // Without a rule a day's patience alone makes a batch of it, where the model has a price for that, and where no mode is named.
    let patient = |model: &str| app.authorize("ws").model(model).tokens(1_000, 0).with("max_delay_seconds", 86_400);
    assert_eq!(patient("big").allowed().await["mode"], "batch");
    assert_eq!(patient("small").allowed().await["mode"], "interactive");
    assert_eq!(patient("big").with("mode", "interactive").allowed().await["mode"], "interactive");
    let held = patient("big").with("hold_seconds", 60).allowed().await;
    assert_eq!(held["held"]["usd"], "0.005000000", "half the price");
    let at_once = json!([{"name": "at-once", "when": "request.feature == 'chat'", "mode": "interactive", "override": true}]);
    rules(&app, at_once).await;
    assert_eq!(
        patient("big").feature("chat").allowed().await["mode"],
        "interactive",
        "a rule knows better"
    );
    rules(&app, json!([])).await;
    patient("big")
        .with("max_delay_seconds", 604_801)
        .send()
        .await
        .problem(422, "unacceptable");
    patient("big").with("max_delay_seconds", "1").send().await.problem(400, "malformed");
}

/// Waiting for a day saves nothing where there is no price for batches.
#[tokio::test]
async fn a_rule_makes_no_batch_on_a_model_without_a_price_for_it() {
    let app = TestApp::start().await;
    rules(&app, json!([{"name": "later", "when": "true", "mode": "batch", "override": true}])).await;
    let asking = |model: &str| app.authorize("ws").model(model).with("allow_batch", true);
    let deferred = asking("big").allowed().await;
    assert_eq!(
        (&deferred["mode"], &deferred["actions"]),
        (&json!("batch"), &json!(["defer", "route"]))
    );
    let at_once = asking("mid").allowed().await;
    assert_eq!(
        (&at_once["mode"], &at_once["actions"]),
        (&json!("interactive"), &json!([])),
        "{at_once:#}"
    );
    assert_eq!(at_once["expires_at"], app.authorize("ws").allowed().await["expires_at"]);
    // Nor where a fallback without one serves in the end.
    for _ in 0..5 {
        let reservation = app.authorize("ws").model("big").reserved().await;
        settle(&app, &reservation, json!({"outcome": "error"})).await;
    }
    exchange(&app).await;
    let instead = asking("big").allowed().await;
    assert_eq!(
        (&instead["model"], &instead["mode"], codes(&instead["reasons"])),
        (&json!("other"), &json!("interactive"), vec!["provider_unhealthy"])
    );
    let waits = app
        .authorize("ws")
        .model("big")
        .without("mode")
        .with("max_delay_seconds", 86_400)
        .allowed()
        .await;
    assert_eq!((&waits["model"], &waits["mode"]), (&json!("other"), &json!("interactive")));
}

#[tokio::test]
async fn a_soft_limit_defers_what_can_wait() {
    let app = TestApp::start().await;
    let budget = json!({"id": "usd", "unit": "usd", "period": "month", "soft": "0.000001", "hard": "0.02", "at_soft": ["defer"]});
    app.workspace_on("ws", json!({"budgets": [budget]})).await;
    let asking = || app.authorize("ws").tokens(500, 0).with("mode", "interactive");
    assert_eq!(asking().allowed().await["mode"], "interactive", "under its soft limit");
    let answer = asking().with("max_delay_seconds", 90_000).allowed().await;
    assert_eq!((&answer["mode"], &answer["actions"]), (&json!("batch"), &json!(["defer"])));
    assert_eq!(
        asking().allowed().await["mode"],
        "interactive",
        "what cannot wait goes on under hard"
    );
}

/// A rule that tries `small` first and offers `big` for answers below 0.7.
async fn cascade(app: &TestApp) {
    let escalation = json!({"model": "big", "min_quality_score": 0.7});
    rules(
        app,
        json!([{"name": "cheap-first", "when": "request.feature == 'chat'", "model": "small", "escalation": escalation}]),
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_good_enough_is_tried_again_once() {
    let app = TestApp::start().await;
    cascade(&app).await;
    let first = app.authorize("ws").model("auto").id("first").allowed().await;
    assert_eq!(
        (&first["model"], &first["escalation"]),
        (&json!("small"), &json!({"model": "big", "min_quality_score": 0.7}))
    );
    assert_eq!(app.authorize("ws").model("auto").id("first").allowed().await, first);
    let from = first["reservation_id"].as_str().expect("an id").to_owned();
    let again = |id: &str| app.authorize("ws").model("auto").id(id).with("escalate_from", from.as_str());
    again("second").send().await.problem(409, "escalation_not_due");
    settle(&app, &from, json!({"quality_score": 0.4})).await;
    // Somebody else's is as unknown as none.
    app.authorize("ws_other")
        .with("escalate_from", from.as_str())
        .send()
        .await
        .problem(404, "reservation_unknown");
    let none = "rsv_00000000000080008000000000000000";
    app.authorize("ws")
        .with("escalate_from", none)
        .send()
        .await
        .expect_one_of(&[400, 404]);
    let tried = again("second").with("dry_run_is_in_the_query", true).send().await;
    tried.problem(400, "malformed");
    let dry = app.post("/v1/authorize?dry_run=true", json!(again("dry").body)).await.expect(200);
    assert_eq!((&dry["model"], &dry["reservation_id"]), (&json!("big"), &Value::Null));
    let second = again("second").allowed().await;
    assert_eq!(
        (&second["model"], &second["actions"], codes(&second["reasons"])),
        (&json!("big"), &json!(["route"]), vec!["escalated"])
    );
    assert_eq!(second.get("escalation"), None);
    assert_eq!(again("second").allowed().await, second, "the same request again is the same answer");
    again("third").send().await.problem(409, "already_escalated");
    again("second")
        .with("max_output_tokens", 1)
        .send()
        .await
        .problem(422, "idempotency_mismatch");
    app.authorize("ws")
        .model("auto")
        .id("second")
        .send()
        .await
        .problem(422, "idempotency_mismatch");
    let to = second["reservation_id"].as_str().expect("an id");
    settle(&app, to, json!({"quality_score": 0.9})).await;
    again("second").send().await.problem(409, "already_settled");
    let linked = app.get(&format!("/v1/reservations/{from}")).await.expect(200);
    assert_eq!(linked["escalated_to"], to);
    let linked = app.get(&format!("/v1/reservations/{to}")).await.expect(200);
    assert_eq!(linked["escalated_from"], from);
    app.log_decisions().await;
    let explained = app.get(&format!("/v1/reservations/{to}/explain")).await.expect(200);
    assert!(explained.to_string().contains("was not good enough"), "{explained}");
    let now = app.service.clock.now();
    let bands = app
        .service
        .ledger
        .escalations(now.plus_seconds(-60), now.plus_seconds(60))
        .await
        .expect("bands");
    assert_eq!(bands.len(), 1);
    assert_eq!(
        (bands[0].tenth, bands[0].answers, bands[0].escalated, bands[0].judged),
        (Some(4), 1, 1, 1)
    );
    // The second try costs what `big` costs: 100 in and 50 out.
    assert_eq!(
        (bands[0].cost.to_string(), bands[0].escalated_cost.to_string()),
        ("0.000250000".to_owned(), "0.002500000".to_owned())
    );
}

/// A provider that refuses, a caller that gives up: nothing was tried, so it may be tried again under any id.
#[tokio::test]
async fn a_second_try_that_came_to_nothing_may_be_made_again() {
    let app = TestApp::start().await;
    cascade(&app).await;
    let from = app.authorize("ws").model("auto").reserved().await;
    settle(&app, &from, json!({"quality_score": 0.1})).await;
    let again = |id: &str| app.authorize("ws").model("auto").id(id).with("escalate_from", from.as_str());
    let released = again("released").reserved().await;
    app.release(&released).await.expect(200);
    let dry = app.post("/v1/authorize?dry_run=true", json!(again("dry").body)).await.expect(200);
    assert_eq!(dry["model"], "big");
    let expired = again("expired").reserved().await;
    app.pass_seconds(601);
    app.expire_due().await;
    assert_ne!(app.get(&format!("/v1/reservations/{expired}")).await.expect(200)["state"], "held");
    again("released").send().await.problem(409, "reservation_released");
    // An id that was used for something else takes nothing from whoever may ask again.
    app.authorize("ws").id("other").reserved().await;
    again("other").send().await.problem(422, "idempotency_mismatch");
    let last = again("last").reserved().await;
    settle(&app, &last, json!({})).await;
    again("more").send().await.problem(409, "already_escalated");
    again("released").send().await.expect_one_of(&[409]);
    again("still").send().await.problem(409, "already_escalated");
}

/// The better model fails, or nothing is left that would pay for it: what answered badly the first time is no way out.
#[tokio::test]
async fn a_second_try_never_goes_to_the_model_of_the_first() {
    let app = TestApp::start().await;
    cascade(&app).await;
    let budget = json!({"id": "tokens", "unit": "tokens", "period": "month", "soft": 1, "hard": 100_000, "at_soft": ["downgrade"]});
    app.workspace_on("ws", json!({"budgets": [budget]})).await;
    let first = async || {
        let from = app.authorize("ws").model("auto").reserved().await;
        settle(&app, &from, json!({"quality_score": 0.1})).await;
        from
    };
    let second = async |from: String| {
        let answer = app.authorize("ws").model("auto").with("escalate_from", from).allowed().await;
        answer["model"].as_str().expect("a model").to_owned()
    };
    let begun = first().await;
    let downgraded = app.authorize("ws").model("big").allowed().await;
    assert_eq!(
        downgraded["model"], "mid",
        "past its soft limit the workspace is downgraded: {downgraded:#}"
    );
    assert_eq!(second(begun).await, "mid");
    let from = first().await;
    for _ in 0..6 {
        let reservation = app.authorize("ws_other").model("mid").reserved().await;
        settle(&app, &reservation, json!({"outcome": "error", "model": "mid"})).await;
    }
    exchange(&app).await;
    assert_eq!(app.authorize("ws").model("big").allowed().await["model"], "small", "mid fails");
    assert_ne!(second(from).await, "small");
}

#[tokio::test]
async fn good_answers_failures_and_denied_second_tries_take_nothing() {
    let app = TestApp::start().await;
    cascade(&app).await;
    app.workspace_with_tokens("ws", 10_000).await;
    let first = async |report: Value| {
        let reservation = app.authorize("ws").model("auto").reserved().await;
        settle(&app, &reservation, report).await;
        reservation
    };
    for report in [
        json!({"quality_score": 0.7}),
        json!({}),
        json!({"quality_score": 0.1, "outcome": "error"}),
    ] {
        let from = first(report.clone()).await;
        let refused = app.authorize("ws").with("escalate_from", from).send().await;
        refused.problem(409, "escalation_not_due");
    }
    let from = first(json!({"quality_score": 0})).await;
    // One that no budget pays for gives the offer back: with less it may be taken under another id.
    let again = |tokens: i64| app.authorize("ws").tokens(tokens, 0).with("escalate_from", from.as_str());
    again(100_000).denied().await;
    assert_eq!(again(100).allowed().await["model"], "big");
    again(100).send().await.problem(409, "already_escalated");
    // Without the rule nothing is offered.
    let named = app.authorize("ws").model("small").reserved().await;
    settle(&app, &named, json!({"quality_score": 0})).await;
    app.authorize("ws")
        .with("escalate_from", named)
        .send()
        .await
        .problem(409, "escalation_not_due");
}

/// What nodes do once a second; twice, so that all have heard of all.
pub async fn exchange(app: &TestApp) {
    for _ in 0..2 {
        for node in app.beside.iter().chain(Some(app)) {
            flow::exchange::exchange(&node.service).await.expect("nodes hear of each other");
        }
    }
}

async fn health(app: &TestApp, provider: &str) -> Value {
    app.get(&format!("/v1/admin/providers/{provider}")).await.expect(200)["health"].clone()
}

/// Asks for `big` and settles; the model that served. While `big` fails, only that does.
async fn one(app: &TestApp, fails: bool) -> String {
    let answer = app.authorize("ws").feature("other").allowed().await;
    let outcome = if fails && answer["model"] == "big" { "error" } else { "success" };
    let reservation = answer["reservation_id"].as_str().expect("an id");
    settle(app, reservation, json!({"outcome": outcome, "latency_ms": 300})).await;
    answer["model"].as_str().expect("a model").to_owned()
}

#[tokio::test]
async fn a_provider_that_fails_is_left_within_five_seconds_and_regained_by_probes() {
    let app = TestApp::start().await;
    for _ in 0..20 {
        for _ in 0..5 {
            assert_eq!(one(&app, false).await, "big");
        }
        app.pass_seconds(1);
        exchange(&app).await;
    }
    let mut left_after = None;
    for second in 0..5 {
        for _ in 0..5 {
            let model = one(&app, true).await;
            if model == "other" && left_after.is_none() {
                left_after = Some(second);
            }
        }
        if left_after.is_some() {
            break;
        }
        app.pass_seconds(1);
        exchange(&app).await;
    }
    assert!(left_after.is_some_and(|second| second < 5), "{left_after:?}");
    exchange(&app).await;
    let answer = app.authorize("ws").id("moved").allowed().await;
    assert_eq!(
        (&answer["model"], &answer["provider"], &answer["requested_model"]),
        (&json!("other"), &json!("zenith"), &json!("big"))
    );
    assert_eq!(
        (&answer["actions"], codes(&answer["reasons"])),
        (&json!(["route"]), vec!["provider_unhealthy"])
    );
    let shown = health(&app, "acme").await;
    assert_eq!(
        (&shown["state"], &shown["models"][0]["model"], &shown["models"][0]["why"]),
        (&json!("open"), &json!("big"), &json!("errors"))
    );
    assert_eq!(health(&app, "zenith").await["state"], "closed");
    // Another model of the same provider is not known to fail, and what has no fallback goes on.
    assert_eq!(app.authorize("ws").model("mid").allowed().await["model"], "mid");
    app.pass_seconds(10);
    assert_eq!(health(&app, "acme").await["state"], "half_open");
    let mut probes = 0;
    for second in 0..5 {
        for _ in 0..8 {
            probes += usize::from(one(&app, false).await == "big" && second == 0);
        }
        app.pass_seconds(1);
        exchange(&app).await;
    }
    assert!((1..=6).contains(&probes), "{probes} of 8 were probes; two a second and node may be");
    assert_eq!(health(&app, "acme").await["state"], "closed");
    assert_eq!(one(&app, false).await, "big");
    // What was answered while it was left is told again as it was.
    assert_eq!(app.authorize("ws").id("moved").allowed().await, answer);
}

#[tokio::test]
async fn where_every_fallback_fails_too_the_asked_model_goes_on() {
    let app = TestApp::start().await;
    for model in ["big", "other"] {
        for _ in 0..5 {
            let reservation = app.authorize("ws").model(model).allowed().await["reservation_id"]
                .as_str()
                .expect("an id")
                .to_owned();
            // What ran is what counts.
            settle(
                &app,
                &reservation,
                json!({"model": model, "outcome": "error", "latency_ms": 31_000}),
            )
            .await;
        }
    }
    exchange(&app).await;
    let shown = health(&app, "zenith").await;
    assert_eq!(
        (&shown["state"], &shown["models"][0]["timeouts"]),
        (&json!("open"), &json!(0)),
        "it is counted anew since it opened"
    );
    let answer = app.authorize("ws").allowed().await;
    assert_eq!((&answer["model"], &answer["actions"]), (&json!("big"), &json!([])));
    // An operator may have none of this.
    app.put("/v1/admin/routing", json!({"rules": [], "health": {"enabled": false}}))
        .await
        .expect(200);
    exchange(&app).await;
    assert_eq!(app.authorize("ws").allowed().await["model"], "big");
    app.put("/v1/admin/routing", json!({"rules": [], "health": {"open_second": 1}}))
        .await
        .problem(400, "malformed");
}

#[tokio::test]
async fn a_failing_model_is_no_downgrade() {
    let app = TestApp::start().await;
    let budget = json!({"id": "tokens", "unit": "tokens", "period": "month", "soft": 1, "hard": 100_000, "at_soft": ["downgrade"]});
    app.workspace_on("ws_soft", json!({"budgets": [budget]})).await;
    app.authorize("ws_soft").allowed().await;
    assert_eq!(app.authorize("ws_soft").allowed().await["model"], "mid");
    for _ in 0..5 {
        let reservation = app.authorize("ws").model("mid").reserved().await;
        settle(&app, &reservation, json!({"model": "mid", "outcome": "error"})).await;
    }
    exchange(&app).await;
    let answer = app.authorize("ws_soft").id("avoids").allowed().await;
    assert_eq!((&answer["model"], &answer["actions"]), (&json!("small"), &json!(["downgrade"])));
    assert_eq!(app.authorize("ws_soft").id("avoids").allowed().await, answer);
    let reservation = answer["reservation_id"].as_str().expect("an id");
    let explained = app.get(&format!("/v1/reservations/{reservation}/explain")).await.expect(200);
    let skipped = explained["skipped"].as_array().expect("rungs that are not there");
    assert!(
        skipped
            .iter()
            .any(|rung| rung["model"] == "mid" && rung.to_string().contains("provider_unhealthy")),
        "{explained:#}"
    );
    let settled = settle(&app, answer["reservation_id"].as_str().expect("an id"), json!({})).await;
    assert_eq!(settled["entry"]["model"], "small");
}

#[tokio::test]
async fn rules_may_ask_the_classifier_and_match_nothing_without_one() {
    let app = TestApp::start().await;
    let easy = json!({"name": "easy", "when": "has(request.weak_suffices) && request.weak_suffices > 0.6", "model": "small"});
    let hard = json!({"name": "hard", "when": "request.complexity > 0.6", "model": "big"});
    rules(&app, json!([easy, hard])).await;
    let ask = async |text: &str| {
        let asking = app.authorize("ws").model("auto").without("input_tokens").with("input", text);
        asking.allowed().await["model"].as_str().expect("a model").to_owned()
    };
    let (sum, proof) = ("What is 17 plus 25?", "Prove that the polynomial is irreducible, step by step.");
    assert_eq!((ask(sum).await, ask(proof).await), ("mid".to_owned(), "mid".to_owned()));
    let row = |n: usize| {
        let text = if n.is_multiple_of(2) {
            format!("What is {n} plus {}?", 3 * n)
        } else {
            format!("Prove that polynomial number {n} is irreducible, step by step.")
        };
        Row::new(&Features::new(Some(&text), []), n.is_multiple_of(2))
    };
    let rows: Vec<Row> = (0..200).map(row).collect();
    let body = classifier_body(&classifier_document(&train(&rows, 1), 1));
    let by = By {
        actor: "tests".to_owned(),
        reason: "trained".to_owned(),
        request_id: None,
    };
    let change = (ObjectId::classifier(), Some(body.clone()));
    flow::policy::change(&app.service, change, &by, &Expected::default())
        .await
        .expect("it is put in force");
    app.follow_all().await;
    assert_eq!((ask(sum).await, ask(proof).await), ("small".to_owned(), "big".to_owned()));
    let messages = app
        .authorize("ws")
        .model("auto")
        .without("input_tokens")
        .with("input", json!([{"role": "user", "content": proof}]));
    assert_eq!(messages.allowed().await["model"], "big");
    // Without a text there is nothing to judge.
    assert_eq!(app.authorize("ws").model("auto").allowed().await["model"], "mid");
    let log = app.get("/v1/admin/audit-log?limit=500").await.expect(200);
    assert!(
        log["data"]
            .as_array()
            .expect("records")
            .iter()
            .any(|record| record["action"] == "classifier.put")
    );
    let mut bad = body;
    bad["weights"] = json!("AAAA");
    let refused = flow::policy::change(&app.service, (ObjectId::classifier(), Some(bad)), &by, &Expected::default()).await;
    assert!(refused.is_err());
}

/// A chat endpoint that says what it is told to, after a while; counts how often it was asked.
async fn endpoint(content: &'static str, delay: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (url, asked) = (
        format!("http://{}/v1", listener.local_addr().expect("an address")),
        Arc::new(AtomicUsize::new(0)),
    );
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut buffer = [0; 4_096];
                let whole = |request: &[u8]| {
                    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
                    let (head, body) = text.split_once("\r\n\r\n")?;
                    let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.trim().parse().ok()?;
                    (body.len() >= length).then_some(())
                };
                while whole(&request).is_none() {
                    match stream.read(&mut buffer).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                        _ => return,
                    }
                }
                let text = String::from_utf8_lossy(&request);
                assert!(
                    text.starts_with("POST /v1/chat/completions ") && text.contains("Bearer a-key") || text.contains("bearer a-key"),
                    "{text}"
                );
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(delay).await;
                let answer = json!({"choices": [{"message": {"role": "assistant", "content": content}}],
                    "usage": {"prompt_tokens": 90, "completion_tokens": 2, "total_tokens": 92}});
                let body = answer.to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    (url, asked)
}

fn asking(url: String, timeout: Duration) -> Options {
    Options {
        router: Some(RouterSettings {
            url,
            model: ModelId::parse("small").expect("a name"),
            api_key: Some(weir::config::Secret::new("a-key".to_owned())),
            timeout,
        }),
        ..Options::default()
    }
}

#[tokio::test]
async fn a_language_model_is_asked_where_a_rule_wants_to_know_and_its_cost_is_recorded() {
    let (url, asked) = endpoint("Frontier.", Duration::ZERO).await;
    let app = TestApp::start_with(asking(url, Duration::from_secs(5))).await;
    let rule = json!({"name": "ask", "when": "request.feature == 'chat' && request.llm_tier == 'frontier'", "tier": "frontier"});
    rules(&app, json!([rule])).await;
    let text = "How do I plan a wedding for two hundred guests?";
    let ask = |workspace: &str, text: &str| app.authorize(workspace).model("auto").without("input_tokens").with("input", text);
    let answer = ask("ws", text).allowed().await;
    assert_eq!((&answer["tier"], &answer["actions"]), (&json!("frontier"), &json!(["route"])));
    for _ in 0..6 {
        ask("ws", text).allowed().await;
    }
    let nodes = app.beside.len() + 1;
    assert!(asked.load(Ordering::SeqCst) <= nodes, "each node keeps what it was told");
    let before = asked.load(Ordering::SeqCst);
    ask("ws_other", text).allowed().await;
    assert_eq!(
        asked.load(Ordering::SeqCst),
        before + 1,
        "no workspace is told what another one asked"
    );
    assert_eq!(
        app.authorize("ws").model("auto").allowed().await["model"],
        "mid",
        "without a text nobody is asked"
    );
    for node in app.beside.iter().chain(Some(&app)) {
        flow::llm::record_spent(&node.service).await.expect("it is recorded");
    }
    let entries = app.ledger("ws").await;
    assert_eq!(entries.len(), before, "{entries:?}");
    let entry = &entries[0];
    assert_eq!(
        (&entry["feature"], &entry["model"], &entry["input_tokens"]),
        (&json!("weir_router"), &json!("small"), &json!(90))
    );
    assert_eq!(entry["cost_usd"], "0.000096000");
    assert!(!serde_json::to_string(&entries).expect("JSON").contains("wedding"));
}

/// Its cost could not be told, and would look like none.
#[tokio::test]
async fn a_language_model_without_a_price_is_not_asked() {
    let (url, asked) = endpoint("frontier", Duration::ZERO).await;
    let mut options = asking(url, Duration::from_secs(5));
    if let Some(router) = &mut options.router {
        router.model = ModelId::parse("nobody-knows-it").expect("a name");
    }
    let app = TestApp::start_with(options).await;
    rules(
        &app,
        json!([{"name": "ask", "when": "request.llm_tier == 'frontier'", "tier": "frontier"}]),
    )
    .await;
    let ask = app.authorize("ws").model("auto").without("input_tokens").with("input", "one");
    assert_eq!(ask.allowed().await["model"], "mid");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// One budget of time is enough for all requests of a batch.
#[tokio::test]
async fn a_language_model_is_asked_for_a_whole_batch_at_once() {
    const DELAY: Duration = Duration::from_millis(400);
    let (url, asked) = endpoint("frontier", DELAY).await;
    let app = TestApp::alone_with(asking(url, Duration::from_secs(20))).await;
    rules(
        &app,
        json!([{"name": "ask", "when": "request.llm_tier == 'frontier'", "tier": "frontier"}]),
    )
    .await;
    let ask = |n: usize| {
        app.authorize("ws")
            .model("auto")
            .without("input_tokens")
            .with("input", format!("text {n}"))
    };
    let requests: Vec<Value> = (0..40).map(|n| json!(ask(n).body)).collect();
    let begun = std::time::Instant::now();
    let answer = app.post("/v1/authorize/batch", json!({"requests": requests})).await.expect(200);
    assert!(answer.to_string().contains("frontier"), "{answer}");
    assert_eq!(asked.load(Ordering::SeqCst), 40);
    assert!(begun.elapsed() < DELAY * 20, "not one after the other");
}

#[tokio::test]
async fn a_language_model_is_not_paid_for_requests_that_are_denied_anyway() {
    let (url, asked) = endpoint("frontier", Duration::ZERO).await;
    let app = TestApp::start_with(asking(url, Duration::from_secs(5))).await;
    rules(
        &app,
        json!([{"name": "ask", "when": "request.llm_tier == 'frontier'", "tier": "frontier"}]),
    )
    .await;
    app.workspace_with_tokens("ws", 1_000).await;
    let ask = |text: &str| app.authorize("ws").model("auto").without("input_tokens").with("input", text);
    ask("one").allowed().await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let reservation = app.authorize("ws").reserved().await;
    settle(&app, &reservation, json!({"usage": {"input_tokens": 1_000, "output_tokens": 0}})).await;
    for text in ["two", "three", "four"] {
        ask(text).denied().await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "nothing is left, so nobody is asked");
}

#[tokio::test]
async fn a_language_model_that_is_late_is_not_waited_for_and_left_alone_after_a_while() {
    let (url, asked) = endpoint("frontier", Duration::from_millis(400)).await;
    let app = TestApp::alone_with(asking(url, Duration::from_millis(40))).await;
    rules(
        &app,
        json!([{"name": "ask", "when": "request.llm_tier == 'frontier'", "tier": "frontier"}]),
    )
    .await;
    let ask = async |text: String| {
        let asking = app.authorize("ws").model("auto").without("input_tokens").with("input", text);
        asking.allowed().await["model"].as_str().expect("a model").to_owned()
    };
    for n in 0..8 {
        assert_eq!(ask(format!("text {n}")).await, "mid", "as if the rule did not match");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5, "after five failures it rests");
    app.pass_seconds(10);
    assert_eq!(ask("another".to_owned()).await, "mid");
    assert_eq!(asked.load(Ordering::SeqCst), 6);
    // What came too late is known for the next time, and its cost too.
    for _ in 0..100 {
        if app.service.llm.next_spent().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.pass_seconds(10);
    assert_eq!(ask("text 0".to_owned()).await, "big");
}

/// Requests of two kinds whose outcome is known, one of which has a word that must be seen nowhere.
fn labelled() -> String {
    let line = |n: usize| match n % 2 {
        0 => json!({"prompt": format!("What is {n} plus {n}, zanzibar?"), "weak_correct": true}),
        _ => {
            json!({"prompt": format!("Prove that polynomial {n} is irreducible."), "weak_correct": n % 11 == 1, "attributes": {"kind": "proof"}})
        }
    };
    (0..200).map(|n| line(n).to_string() + "\n").collect()
}

#[test]
fn the_command_line_trains_and_judges_and_shows_nothing_of_what_was_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), told)
    };
    std::fs::write(path("rows.jsonl"), labelled()).expect("a file");
    let (good, told) = run(&["router", "train", &path("rows.jsonl"), "--out", &path("classifier.json")]);
    assert!(good && told.contains("predicted  observed") && !told.contains("zanzibar"), "{told}");
    let written = std::fs::read_to_string(path("classifier.json")).expect("it is written");
    assert!(!written.contains("zanzibar") && written.len() < 16_384, "{} bytes", written.len());
    let (good, told) = run(&["router", "evaluate", &path("rows.jsonl"), "--cost-ratio", "20"]);
    assert!(good && told.contains("classifier  length  random"), "{told}");
    std::fs::write(path("bad.jsonl"), "{\"prompt\": \"zanzibar\"}\n").expect("a file");
    let (good, told) = run(&["router", "train", &path("bad.jsonl")]);
    assert!(!good && told.contains("bad.jsonl:1") && !told.contains("zanzibar"), "{told}");
    std::fs::write(path("few.jsonl"), "{\"prompt\": \"a\", \"weak_correct\": true}\n").expect("a file");
    let (good, told) = run(&["router", "train", &path("few.jsonl")]);
    assert!(!good && told.contains("at least 20 of each kind"), "{told}");
}
