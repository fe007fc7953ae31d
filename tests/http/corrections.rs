//! Corrections over HTTP: entries of signed differences at the original's time, at the price that the use was recorded with; and prices
//! that come to be known after the use.

use crate::support::{Reply, TestApp};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

const CORRECTIONS: &str = "/v1/admin/ledger/corrections";

/// A settled use of `big`: 100 tokens in, 50 out, 0.0025 USD.
async fn used(app: &TestApp, workspace: &str) -> Value {
    let id = app.authorize(workspace).user("usr_1").reserved().await;
    app.settle(&id, 100, 50).await.expect(200)["entry"].clone()
}

async fn correct(app: &TestApp, entry: &Value, target: Value) -> Reply {
    let mut body = json!({"entry_id": entry["entry_id"], "reason": "ticket 7"});
    body.as_object_mut()
        .expect("an object")
        .extend(target.as_object().expect("an object").clone());
    app.post(CORRECTIONS, body).await
}

fn tokens(input: i64, output: i64) -> Value {
    json!({"usage": {"input_tokens": input, "output_tokens": output}})
}

/// No sum differs from its entries.
async fn balanced(app: &TestApp) {
    assert_eq!(app.service.ledger.verify().await.expect("the ledger answers"), []);
}

async fn workspace(app: &TestApp, name: &str) {
    let budgets = json!([
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 100_000},
        {"id": "usd", "unit": "usd", "period": "month", "hard": "10"},
        {"id": "requests", "unit": "requests", "period": "lifetime", "hard": 1_000},
        {"id": "mine", "scope": "user", "unit": "tokens", "period": "day", "hard": 50_000},
    ]);
    app.workspace_on(name, json!({"budgets": budgets})).await;
}

#[tokio::test]
async fn a_correction_is_an_entry_of_signed_differences_at_the_originals_time() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    assert_eq!(
        (app.spent("ws", "tokens").await, app.budget("ws", "usd").await["spent"].clone()),
        (150, json!("0.002500000"))
    );
    app.pass_seconds(3_600);
    let answer = correct(&app, &original, tokens(40, 60)).await.expect(201);
    let entry = &answer["entry"];
    assert_eq!(answer["replayed"], false);
    assert_eq!((&entry["kind"], &entry["corrects"]), (&json!("correction"), &original["entry_id"]));
    assert_eq!((&entry["input_tokens"], &entry["output_tokens"]), (&json!(-60), &json!(10)));
    // 40 × 10 + 60 × 30 = 2,200 millionths, 300 less than before.
    assert_eq!(entry["cost_usd"], "-0.000300000");
    assert_eq!(entry["list_cost_usd"], "-0.000300000");
    assert_eq!(entry["counted"], json!({"tokens": -50, "usd": "-0.000300000", "requests": 0}));
    assert_eq!(entry["requests"], 0);
    assert_eq!(entry["recorded_at"], "2025-11-21T11:00:00Z");
    for same in [
        "occurred_at",
        "workspace_id",
        "user_id",
        "feature",
        "model",
        "request_id",
        "reservation_id",
        "price_version",
        "plan_id",
        "plan_version",
        "late",
    ] {
        assert_eq!(entry[same], original[same], "{same}");
    }
    assert_eq!(app.spent("ws", "tokens").await, 100, "counters follow");
    let usage = app.get("/v1/workspaces/ws/usage?user_id=usr_1").await.expect(200);
    let mine = usage["budgets"]
        .as_array()
        .and_then(|budgets| budgets.iter().find(|budget| budget["budget_id"] == "mine"));
    assert_eq!(
        mine.map(|budget| budget["spent"].clone()),
        Some(json!(100)),
        "also those of the user"
    );
    assert_eq!(app.budget("ws", "usd").await["spent"], "0.002200000");
    let listed = app.ledger("ws").await;
    assert!(
        listed.len() == 2 && listed.contains(entry) && listed.contains(&original),
        "the original is as it was: {listed:#?}"
    );
    balanced(&app).await;

    // Totals are of the use, corrections included: the next one starts from what it says by now.
    let back = correct(&app, &original, tokens(100, 50)).await.expect(201);
    assert_eq!(
        (&back["entry"]["input_tokens"], &back["entry"]["counted"]["tokens"]),
        (&json!(60), &json!(50))
    );
    assert_eq!(app.spent("ws", "tokens").await, 150);
    // And nothing at all.
    let gone = correct(&app, &original, tokens(0, 0)).await.expect(201);
    assert_eq!(
        gone["entry"]["counted"],
        json!({"tokens": -150, "usd": "-0.002500000", "requests": 0})
    );
    assert_eq!(app.budget("ws", "usd").await["spent"], "0.000000000");
    balanced(&app).await;
    let app = app.lose_counters().await;
    assert_eq!(app.spent("ws", "tokens").await, 0, "also when the counters are built anew");
}

#[tokio::test]
async fn what_counts_is_corrected_without_what_was_used() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    let forgiven = correct(&app, &original, json!({"counted": {"tokens": 0, "requests": 0}}))
        .await
        .expect(201);
    let entry = &forgiven["entry"];
    assert_eq!(
        entry["counted"],
        json!({"tokens": -150, "usd": "0.000000000", "requests": -1}),
        "what is not named stays"
    );
    assert_eq!(
        (&entry["input_tokens"], &entry["cost_usd"]),
        (&json!(0), &json!("0.000000000")),
        "it was used, and cost what it cost"
    );
    assert_eq!((app.spent("ws", "tokens").await, app.spent("ws", "requests").await), (0, 0));
    assert_eq!(app.budget("ws", "usd").await["spent"], "0.002500000");
    let dearer = correct(&app, &original, json!({"counted": {"usd": "1.5"}})).await.expect(201);
    assert_eq!(
        dearer["entry"]["counted"],
        json!({"tokens": 0, "usd": "1.497500000", "requests": 0})
    );
    balanced(&app).await;
}

#[tokio::test]
async fn the_same_correction_twice_is_made_once() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    correct(&app, &original, tokens(100, 50)).await.problem(422, "unacceptable");
    let first = correct(&app, &original, tokens(10, 5)).await.expect(201);
    let again = correct(&app, &original, tokens(10, 5)).await.expect(200);
    assert_eq!((&again["entry"], &again["replayed"]), (&first["entry"], &json!(true)));
    assert_eq!(app.ledger("ws").await.len(), 2);
    let body = json!({"entry_id": original["entry_id"], "usage": {"input_tokens": 1, "output_tokens": 1}, "reason": "r"});
    let key = [("idempotency-key", "once")];
    let keyed = app.send(Method::POST, CORRECTIONS, &key, body.clone()).await.expect(201);
    let repeated = app.send(Method::POST, CORRECTIONS, &key, body).await;
    assert_eq!(repeated.header("idempotency-replayed"), Some("true"));
    assert_eq!(repeated.expect(201), keyed);
    assert_eq!(app.spent("ws", "tokens").await, 2);
}

#[tokio::test]
async fn corrections_that_race_leave_what_one_of_them_says() {
    let app = Arc::new(TestApp::start().await);
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    let mut racing = JoinSet::new();
    for n in 1..=8 {
        let (app, original) = (app.clone(), original.clone());
        racing.spawn(async move { correct(&app, &original, tokens(1_000 * n, 0)).await.expect(201)["entry"].clone() });
    }
    let made = racing.join_all().await;
    let sum: i64 = made.iter().map(|entry| entry["counted"]["tokens"].as_i64().expect("tokens")).sum();
    let spent = app.spent("ws", "tokens").await;
    assert_eq!(150 + sum, spent);
    assert!(
        spent % 1_000 == 0 && (1_000..=8_000).contains(&spent),
        "one of the totals, and no mixture of them: {spent}"
    );
    balanced(&app).await;
}

#[tokio::test]
async fn history_is_not_priced_anew() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    // The price of then is gone from the catalogue, and so is the model in the end.
    let mut big = app.get("/v1/admin/models/big").await.expect(200);
    big["prices"] = json!([{"effective_from": "2024-01-01", "input": "1000", "output": "3000"}]);
    app.put("/v1/admin/models/big", big).await.expect(200);
    let entry = correct(&app, &original, tokens(200, 50)).await.expect(201)["entry"].clone();
    assert_eq!(
        (&entry["cost_usd"], &entry["price_version"]),
        (&json!("0.001000000"), &original["price_version"])
    );
    balanced(&app).await;
}

#[tokio::test]
async fn corrections_are_refused_that_cannot_be_meant() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    let correction = correct(&app, &original, tokens(1, 1)).await.expect(201)["entry"].clone();
    let problem = correct(&app, &correction, tokens(2, 2)).await.problem(422, "unacceptable");
    assert!(
        problem["errors"][0]["detail"]
            .as_str()
            .is_some_and(|text| text.contains(original["entry_id"].as_str().expect("an id"))),
        "{problem}"
    );
    for unknown in [
        "ent_00000000000000000000000000000000",
        "ent_x",
        "rsv_00000000000000000000000000000000",
        "",
    ] {
        correct(&app, &json!({"entry_id": unknown}), tokens(1, 1))
            .await
            .problem(404, "not_found");
    }
    let id = original["entry_id"].clone();
    for (body, status, pointer) in [
        (json!({"entry_id": id, "reason": "r"}), 400, "/usage"),
        (
            json!({"entry_id": id, "reason": "r", "usage": {"input_tokens": 1}, "counted": {"tokens": 1}}),
            400,
            "/counted",
        ),
        (json!({"entry_id": id, "usage": {"input_tokens": 1}}), 400, "/reason"),
        (json!({"entry_id": id, "usage": {"input_tokens": 1}, "reason": " "}), 422, "/reason"),
        (
            json!({"entry_id": id, "usage": {"input_tokens": 1}, "reason": "a\nb"}),
            422,
            "/reason",
        ),
        (
            json!({"entry_id": id, "usage": {"input_tokens": 1}, "reason": "x".repeat(501)}),
            422,
            "/reason",
        ),
        (json!({"entry_id": id, "usage": {}, "reason": "r"}), 422, "/usage"),
        (json!({"entry_id": id, "counted": {}, "reason": "r"}), 422, "/counted"),
        (
            json!({"entry_id": id, "counted": {"tokens": -1}, "reason": "r"}),
            422,
            "/counted/tokens",
        ),
        (
            json!({"entry_id": id, "counted": {"tokens": 1.5}, "reason": "r"}),
            400,
            "/counted/tokens",
        ),
        (
            json!({"entry_id": id, "counted": {"usd": "-1"}, "reason": "r"}),
            422,
            "/counted/usd",
        ),
        (
            json!({"entry_id": id, "counted": {"usd": "1000001"}, "reason": "r"}),
            422,
            "/counted/usd",
        ),
        (
            json!({"entry_id": id, "counted": {"words": 1}, "reason": "r"}),
            400,
            "/counted/words",
        ),
        (json!({"usage": {"input_tokens": 1}, "reason": "r"}), 400, "/entry_id"),
    ] {
        let answer = app.post(CORRECTIONS, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    app.post(CORRECTIONS, json!({"entry_id": id, "counted": {"usd": "1000001"}, "reason": "r"}))
        .await
        .problem(422, "amount_too_large");
    let huge = correct(&app, &original, tokens(68_719_476_736, 68_719_476_736)).await;
    huge.problem(422, "amount_too_large");
    for (scope, workspace) in [("usage:write authorize read", None), ("admin", Some("ws"))] {
        let token = app.token(scope, workspace);
        let body = json!({"entry_id": id, "usage": {"input_tokens": 1}, "reason": "r"});
        app.call_as(&token, Method::POST, CORRECTIONS, Some(body))
            .await
            .problem(403, "insufficient_scope");
    }
    assert_eq!(app.ledger("ws").await.len(), 2, "none of these wrote anything");
    balanced(&app).await;
}

#[tokio::test]
async fn a_correction_is_audited_with_its_actor_and_reason() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let original = used(&app, "ws").await;
    let made = correct(&app, &original, tokens(1, 1)).await.expect(201)["entry"].clone();
    let told = app.get("/v1/admin/audit-log?action=entry.correct").await.expect(200);
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1), "{told:#}");
    let told = &told["data"][0];
    assert_eq!((&told["actor"], &told["reason"]), (&json!("tests"), &json!("ticket 7")));
    assert_eq!(
        (&told["subject_kind"], &told["subject_id"], &told["workspace_id"]),
        (&json!("entry"), &original["entry_id"], &json!("ws"))
    );
    assert_eq!(
        (&told["before"]["input_tokens"], &told["after"]["input_tokens"]),
        (&json!(100), &json!(1))
    );
    assert_eq!(
        (&told["before"]["cost_usd"], &told["after"]["counted"]["tokens"]),
        (&json!("0.002500000"), &json!(2))
    );
    assert_eq!(told["after"]["correction"], made["entry_id"]);
}

#[tokio::test]
async fn a_replayed_settle_still_tells_its_first_entry() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let id = app.authorize("ws").reserved().await;
    let first = app.settle(&id, 100, 50).await.expect(200)["entry"].clone();
    correct(&app, &first, tokens(1, 1)).await.expect(201);
    let again = app.settle(&id, 100, 50).await.expect(200);
    assert_eq!((&again["replayed"], &again["entry"]), (&json!(true), &first));
    assert_eq!(app.spent("ws", "tokens").await, 2);
}

// Prices that come later.

async fn unpriced(app: &TestApp, request: &str, model: &str) -> Value {
    let body = json!({"workspace_id": "ws", "feature": "chat", "model": model, "request_id": request,
        "usage": {"input_tokens": 1_000, "output_tokens": 100}});
    let entry = app.post("/v1/usage", body).await.expect(200)["entry"].clone();
    assert_eq!((&entry["priced"], &entry["cost_usd"]), (&json!(false), &Value::Null));
    entry
}

fn brand_new(from: &str) -> Value {
    json!({"provider": "acme", "tier": "fast", "max_input_tokens": 10_000, "max_output_tokens": 10_000, "aliases": ["new-alias"],
        "prices": [{"effective_from": from, "input": "2", "output": "10"}]})
}

#[tokio::test]
async fn what_had_no_price_is_given_the_one_that_was_in_force_then() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let first = unpriced(&app, "a", "brand-new").await;
    let second = unpriced(&app, "b", "acme/new-alias").await;
    unpriced(&app, "c", "never-heard-of").await;
    let reprice = async |body: Value| app.post("/v1/admin/ledger/reprice", body).await.expect(200);
    let nothing = reprice(json!({})).await;
    assert_eq!(
        nothing,
        json!({"repriced": 0, "unpriced": 3, "cost_usd": "0.000000000", "next_cursor": null})
    );
    // In force only from tomorrow on: still no price for today's use.
    app.put("/v1/admin/models/brand-new", brand_new("2025-11-22")).await.expect(201);
    assert_eq!(reprice(json!({})).await["repriced"], 0);
    app.put("/v1/admin/models/brand-new", brand_new("2025-01-01")).await.expect(200);
    app.pass_seconds(60);
    let other_month = reprice(json!({"from": "2025-12-01T00:00:00Z"})).await;
    assert_eq!((&other_month["repriced"], &other_month["unpriced"]), (&json!(0), &json!(0)));
    assert_eq!(reprice(json!({"workspace_id": "nobody"})).await["repriced"], 0);
    let one =
        reprice(json!({"model": "brand-new", "workspace_id": "ws", "from": "2025-11-21T10:00:00Z", "to": "2025-11-21T10:00:01Z"})).await;
    // 1,000 × 2 + 100 × 10 = 3,000 millionths.
    assert_eq!(
        one,
        json!({"repriced": 1, "unpriced": 0, "cost_usd": "0.003000000", "next_cursor": null})
    );
    assert_eq!(
        reprice(json!({})).await,
        json!({"repriced": 1, "unpriced": 1, "cost_usd": "0.003000000", "next_cursor": null})
    );
    assert_eq!(reprice(json!({})).await["repriced"], 0, "once only");
    assert_eq!(app.budget("ws", "usd").await["spent"], "0.006000000", "counters follow");
    assert_eq!(app.spent("ws", "tokens").await, 3_300, "tokens were counted already");
    let listed = app.ledger("ws").await;
    let corrections: Vec<&Value> = listed.iter().filter(|entry| entry["kind"] == "correction").collect();
    assert_eq!(corrections.len(), 2);
    for correction in corrections {
        let of = if correction["corrects"] == first["entry_id"] {
            &first
        } else {
            &second
        };
        assert_eq!(
            (&correction["corrects"], &correction["occurred_at"]),
            (&of["entry_id"], &of["occurred_at"])
        );
        assert_eq!(
            (&correction["priced"], &correction["provider"], &correction["tier"]),
            (&json!(true), &json!("acme"), &json!("fast"))
        );
        assert_eq!(correction["counted"], json!({"tokens": 0, "usd": "0.003000000", "requests": 0}));
        assert!(
            correction["price_version"]
                .as_str()
                .is_some_and(|version| version.starts_with("2025-01-01.")),
            "{correction}"
        );
    }
    balanced(&app).await;
    let told = app.get("/v1/admin/audit-log?action=entry.reprice").await.expect(200);
    assert_eq!(told["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_was_corrected_before_it_had_a_price_is_priced_as_corrected() {
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let entry = unpriced(&app, "a", "brand-new").await;
    let corrected = correct(&app, &entry, tokens(500, 100)).await.expect(201)["entry"].clone();
    assert_eq!((&corrected["cost_usd"], &corrected["priced"]), (&Value::Null, &json!(false)));
    assert_eq!(app.spent("ws", "tokens").await, 600);
    app.put("/v1/admin/models/brand-new", brand_new("2025-01-01")).await.expect(201);
    let answer = app.post("/v1/admin/ledger/reprice", json!({})).await.expect(200);
    assert_eq!((&answer["repriced"], &answer["cost_usd"]), (&json!(1), &json!("0.002000000")));
    // And from then on it has that price.
    let later = correct(&app, &entry, tokens(0, 100)).await.expect(201)["entry"].clone();
    assert_eq!(later["cost_usd"], "-0.001000000");
    assert_eq!(app.budget("ws", "usd").await["spent"], "0.001000000");
    balanced(&app).await;
}

#[tokio::test]
async fn many_uses_are_repriced_page_by_page() {
    const USES: usize = 450;
    let app = TestApp::start().await;
    workspace(&app, "ws").await;
    let uses: Vec<Value> = (0..USES)
        .map(|n| {
            json!({"workspace_id": "ws", "feature": "chat", "model": if n % 3 == 0 { "unknown" } else { "brand-new" },
                "request_id": format!("r{n}"), "usage": {"input_tokens": 100, "output_tokens": 0}})
        })
        .collect();
    app.post("/v1/usage", json!({"entries": uses})).await.expect(200);
    app.put("/v1/admin/models/brand-new", brand_new("2025-01-01")).await.expect(201);
    let answer = app.post("/v1/admin/ledger/reprice", json!({})).await.expect(200);
    // 300 uses of 100 tokens at 2 USD per million.
    assert_eq!(
        answer,
        json!({"repriced": 300, "unpriced": 150, "cost_usd": "0.060000000", "next_cursor": null})
    );
    assert_eq!(app.budget("ws", "usd").await["spent"], "0.060000000");
    balanced(&app).await;
}
