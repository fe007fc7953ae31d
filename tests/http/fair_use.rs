//! Fair use over HTTP: use unlike what is usual is acted on for a while, is named in answers, told once, on record, and ended by hand.

#[path = "fair_use/scale.rs"]
mod scale;
#[path = "fair_use/traces.rs"]
mod traces;

use crate::support;
use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use weir::clock::Clock;
use weir::decision::amount::Amounts;
use weir::decision::counter::Whose;
use weir::decision::event::EventType;
use weir::decision::id::{PlanId, UserId, WorkspaceId};
use weir::decision::time::Timestamp;
use weir::flow::fair_use::evaluate::Evaluator;
use weir::flow::fair_use::{follow, gather, write_noticed};
use weir::ledger::events::EventQuery;
use weir::ledger::fair_use::{HOUR, MINUTE, Used};

/// All nodes of a test.
fn nodes(app: &TestApp) -> impl Iterator<Item = &TestApp> {
    app.beside.iter().chain(Some(app))
}

/// What the background does within some seconds, on every node; one of them leads.
async fn watch(app: &TestApp) -> usize {
    for node in nodes(app) {
        write_noticed(&node.service).await.expect("loops are written");
        gather::flush(&node.service).await.expect("usage is written");
    }
    let begun = Evaluator::default().round(&app.service).await.expect("a round");
    for node in nodes(app) {
        follow(&node.service).await.expect("actions are followed");
    }
    begun
}

/// So many tokens an hour of `whose` for four weeks.
async fn usual(app: &TestApp, workspace: &str, whose: Whose, tokens: i64) {
    let now = app.clock.now();
    let hour = now.micros() / (HOUR * 1_000_000);
    let used = |hour: i64| Used {
        workspace: WorkspaceId::parse(workspace).expect("a name"),
        whose: whose.clone(),
        width_seconds: HOUR,
        starts_at: Timestamp::from_micros(hour * HOUR * 1_000_000),
        plan: PlanId::parse("fair").expect("a name"),
        amounts: Amounts { tokens, ..Amounts::ZERO },
    };
    let rows = (hour - 4 * 168 - 2..hour).map(used).collect();
    app.service.ledger.add_usage(rows).await.expect("usage is written");
}

async fn plan(app: &TestApp, rules: Value, more: Value) {
    let mut plan = json!({"name": "fair", "pricing": {"model": "flat", "base_usd": "0"}, "fair_use": rules,
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 10_000_000}]});
    plan.as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    app.put("/v1/admin/plans/fair", plan).await.expect_one_of(&[200, 201]);
}

async fn join(app: &TestApp, workspace: &str) {
    app.put(&format!("/v1/admin/workspaces/{workspace}"), json!({"plan_id": "fair"}))
        .await
        .expect_one_of(&[200, 201]);
}

/// A request under an id that no start of a service gives again.
fn ask<'a>(app: &'a TestApp, workspace: &str) -> support::Asking<'a> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    app.authorize(workspace)
        .id(&format!("ask-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

async fn spend(app: &TestApp, workspace: &str, user: &str, tokens: i64) {
    let reservation = ask(app, workspace).user(user).tokens(tokens, 0).reserved().await;
    app.settle(&reservation, tokens, 0).await.expect(200);
}

async fn actions(app: &TestApp, workspace: &str) -> Vec<Value> {
    let list = app
        .get(&format!("/v1/admin/fair-use/actions?workspace_id={workspace}"))
        .await
        .expect(200);
    list["data"].as_array().expect("a list").clone()
}

async fn told(app: &TestApp) -> Vec<Value> {
    let query = EventQuery {
        kinds: vec![EventType::UsageAnomalyDetected],
        limit: 100,
        ..EventQuery::default()
    };
    let events = app.service.ledger.events(&query).await.expect("events");
    events.into_iter().map(|event| event.data).collect()
}

fn rule(act: Value) -> Value {
    let mut rule = json!({"name": "burst", "over_minutes": 15, "ratio": 10, "min_amount": 1_000, "for_seconds": 600});
    rule.as_object_mut()
        .expect("an object")
        .extend(act.as_object().expect("an object").clone());
    json!([rule])
}

#[tokio::test]
async fn nobody_is_overlooked_among_many_who_use_more() {
    let app = TestApp::start().await;
    let users = |least: i64| json!([{"name": "many", "scope": "user", "over_minutes": 15, "min_amount": least, "for_seconds": 600, "act": "event"}]);
    plan(&app, users(1_000_000), json!({})).await;
    join(&app, "crowd").await;
    let strict = json!({"name": "strict", "pricing": {"model": "flat", "base_usd": "0"}, "fair_use": users(1_000),
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 10_000_000}]});
    app.put("/v1/admin/plans/strict", strict).await.expect_one_of(&[200, 201]);
    app.put("/v1/admin/workspaces/small", json!({"plan_id": "strict"}))
        .await
        .expect_one_of(&[200, 201]);
    app.follow_all().await;
    let used = |workspace: &str, plan: &str, user: String, tokens: i64| Used {
        workspace: WorkspaceId::parse(workspace).expect("a name"),
        whose: Whose::User(UserId::parse(&user).ok()),
        width_seconds: MINUTE,
        starts_at: Timestamp::from_micros(app.clock.now().micros() / 60_000_000 * 60_000_000),
        plan: PlanId::parse(plan).expect("a name"),
        amounts: Amounts { tokens, ..Amounts::ZERO },
    };
    let crowd = (0..6_000).map(|number| used("crowd", "fair", format!("u{number}"), 5_000));
    for rows in crowd.collect::<Vec<_>>().chunks(1_000) {
        app.service.ledger.add_usage(rows.to_vec()).await.expect("usage is written");
    }
    let small = vec![used("small", "strict", "ann".to_owned(), 1_000)];
    app.service.ledger.add_usage(small).await.expect("usage is written");
    let mut evaluator = Evaluator::default();
    let mut begun = Vec::new();
    for _ in 0..4 {
        begun.push(evaluator.round(&app.service).await.expect("a round"));
    }
    assert_eq!(begun, [0, 1, 0, 0], "the second round goes on where the first one stopped");
    assert_eq!(actions(&app, "small").await[0]["user_id"], "ann");
}

#[tokio::test]
async fn ten_times_what_is_usual_is_throttled_for_a_while_and_told_once() {
    let app = TestApp::start().await;
    plan(&app, rule(json!({"act": "throttle", "throttle_ms": 2_500})), json!({})).await;
    join(&app, "ws").await;
    // A quarter of an hour is 2,000 tokens usually.
    usual(&app, "ws", Whose::Workspace, 8_000).await;
    spend(&app, "ws", "u", 19_999).await;
    assert_eq!(watch(&app).await, 0, "not quite ten times");
    let plain = app.authorize("ws").allowed().await;
    assert_eq!((&plain["actions"], &plain["delay_ms"]), (&json!([]), &json!(0)));
    spend(&app, "ws", "u", 100).await;
    assert_eq!(watch(&app).await, 1);
    assert_eq!(watch(&app).await, 0, "once for one episode");

    let answer = app.authorize("ws").id("again").allowed().await;
    assert_eq!((&answer["actions"], &answer["delay_ms"]), (&json!(["throttle"]), &json!(2_500)));
    let reason = &answer["reasons"][0];
    assert_eq!(reason["code"], "fair_use_throttle");
    let message = "Workspace ws used 20,099 tokens in 15 minutes, where 2,000 tokens are usual (burst). \
        Requests still go through, each with a delay, until 21 November at 10:10 UTC. No limit has changed.";
    assert_eq!(reason["message"], message);
    assert_eq!(
        (&answer["budgets"][0]["hard"], &answer["model"]),
        (&json!(10_000_000), &json!("big"))
    );
    // Told again, and explained, as it was.
    let again = app.authorize("ws").id("again").allowed().await;
    assert_eq!(again, answer);
    app.log_decisions().await;
    let explained = app
        .get(&format!("/v1/decisions/{}/explain", answer["decision_id"].as_str().expect("an id")))
        .await
        .expect(200);
    assert_eq!(explained["reasons"][0]["code"], "fair_use_throttle");
    let body = Value::Object(app.authorize("ws").body);
    let german = app
        .send(Method::POST, "/v1/authorize", &[("Accept-Language", "de")], body)
        .await
        .expect(200);
    assert!(
        german["reasons"][0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("üblich sind 2.000 Tokens")),
        "{german}"
    );

    let known = actions(&app, "ws").await;
    assert_eq!(known.len(), 1);
    for (field, value) in [
        ("rule", json!("burst")),
        ("scope", json!("workspace")),
        ("unit", json!("tokens")),
        ("observed", json!(20_099)),
        ("typical", json!(2_000)),
        ("window_seconds", json!(900)),
        ("action", json!("throttle")),
        ("until", json!("2025-11-21T10:10:00Z")),
        ("ended_at", Value::Null),
        ("message", json!(message)),
    ] {
        assert_eq!(known[0][field], value, "{field}");
    }
    assert_eq!(told(&app).await, known, "the event says the same");
    let log = app.get("/v1/admin/audit-log?actor=fair_use:burst").await.expect(200);
    assert_eq!(log["data"].as_array().map(Vec::len), Some(1), "{log}");
    assert_eq!(log["data"][0]["action"], "fair_use.begin");

    // It survives a restart, and ends by the clock; the burst that led to it is not held against them again.
    let app = app.restart().await;
    assert_eq!(ask(&app, "ws").allowed().await["delay_ms"], 2_500);
    app.pass_seconds(600);
    assert_eq!(ask(&app, "ws").allowed().await["delay_ms"], 0);
    assert_eq!(watch(&app).await, 0);
    assert_eq!(told(&app).await.len(), 1);
    spend(&app, "ws", "u", 30_000).await;
    assert_eq!(watch(&app).await, 1, "another episode");
    assert_eq!(told(&app).await.len(), 2);
}

#[tokio::test]
async fn a_pause_denies_until_its_end_or_an_administrators() {
    let app = TestApp::start().await;
    plan(
        &app,
        rule(json!({"act": "pause"})),
        json!({"upgrade_url": "https://up.example/?ws={workspace_id}"}),
    )
    .await;
    join(&app, "ws").await;
    usual(&app, "ws", Whose::Workspace, 400).await;
    let held = app.authorize("ws").tokens(100, 50).reserved().await;
    let known = app.authorize("ws").id("known").allowed().await;
    spend(&app, "ws", "u", 5_000).await;
    assert_eq!(watch(&app).await, 1);
    app.pass_seconds(60);
    let answer = app.authorize("ws").denied().await;
    assert_eq!(answer["code"], "fair_use_pause");
    let reason = &answer["reasons"][0];
    assert_eq!(
        (&reason["blocked_by"], &reason["retry_after_seconds"]),
        (&json!("rate"), &json!(540))
    );
    assert_eq!(reason["upgrade_url"], "https://up.example/?ws=ws");
    assert!(
        reason["message"]
            .as_str()
            .is_some_and(|text| text.contains("paused until 21 November at 10:10 UTC")),
        "{reason}"
    );
    let body = Value::Object(app.authorize("ws").body);
    let mapped = app.post("/v1/authorize?http_status=map", body.clone()).await;
    assert_eq!(
        (mapped.status.as_u16(), mapped.header("retry-after")),
        (429, Some("540")),
        "{}",
        mapped.text
    );
    let dry = app.post("/v1/authorize?dry_run=true", body).await.expect(200);
    let questions = dry["explain"]["questions"].as_array().expect("questions").clone();
    let refused: Vec<&Value> = questions.iter().filter(|question| question["answer"] == "refused").collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["question"], "fair_use_pause");
    // What runs is settled, and what was allowed is told again; another workspace goes on.
    app.settle(&held, 100, 50).await.expect(200);
    assert_eq!(
        app.authorize("ws").id("known").allowed().await["reservation_id"],
        known["reservation_id"]
    );
    join(&app, "other").await;
    app.authorize("other").allowed().await;

    let id = actions(&app, "ws").await[0]["fair_use_id"].as_str().expect("an id").to_owned();
    for unknown in ["fua_00000000000000000000000000000000", "nothing"] {
        let path = format!("/v1/admin/fair-use/actions/{unknown}");
        app.call(Method::DELETE, &path, None).await.problem(404, "not_found");
    }
    for _ in 0..2 {
        let reply = app.call(Method::DELETE, &format!("/v1/admin/fair-use/actions/{id}"), None).await;
        assert_eq!(reply.status.as_u16(), 204, "{}", reply.text);
    }
    app.authorize("ws").allowed().await;
    assert_eq!(actions(&app, "ws").await[0]["ended_at"], "2025-11-21T10:01:00Z");
    spend(&app, "ws", "u", 50_000).await;
    assert_eq!(watch(&app).await, 0, "whoever ended it is not overruled at once");
    let log = app.get("/v1/admin/audit-log?action=fair_use.end").await.expect(200);
    assert_eq!(log["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&log["data"][0]["actor"], &log["data"][0]["workspace_id"]),
        (&json!("tests"), &json!("ws"))
    );
    app.pass_seconds(540);
    spend(&app, "ws", "u", 50_000).await;
    assert_eq!(watch(&app).await, 1);
    app.authorize("ws").denied().await;
}

#[tokio::test]
async fn a_downgrade_answers_with_a_cheaper_model_where_there_is_one() {
    let app = TestApp::start().await;
    let rules = rule(json!({"act": "downgrade", "downgrade_to": "fast"}));
    plan(&app, rules, json!({"features": {"legal": {"never_downgrade": true}}})).await;
    join(&app, "ws").await;
    spend(&app, "ws", "u", 20_000).await;
    assert_eq!(watch(&app).await, 1);
    let answer = app.authorize("ws").allowed().await;
    assert_eq!((&answer["model"], &answer["requested_model"]), (&json!("small"), &json!("big")));
    assert_eq!(answer["actions"], json!(["downgrade"]));
    assert_eq!(answer["reasons"][0]["code"], "fair_use_downgrade");
    assert_eq!(answer["reasons"].as_array().map(Vec::len), Some(1), "{answer}");
    let reservation = answer["reservation_id"].as_str().expect("a reservation");
    let explained = app.get(&format!("/v1/reservations/{reservation}/explain")).await.expect(200);
    let steps: Vec<&Value> = explained["rungs"]
        .as_array()
        .expect("rungs")
        .iter()
        .map(|rung| &rung["step"])
        .collect();
    assert_eq!(steps, ["downgrade", "asked"]);
    assert_eq!(app.settle(reservation, 100, 50).await.expect(200)["entry"]["model"], "small");
    for (asking, model) in [
        (app.authorize("ws").feature("legal"), "big"),
        // Nothing of the tier is cheaper than the cheapest.
        (app.authorize("ws").model("small"), "small"),
    ] {
        let answer = asking.allowed().await;
        assert_eq!((&answer["model"], &answer["actions"]), (&json!(model), &json!([])), "{answer}");
        assert_eq!(answer["reasons"], json!([]));
    }
}

#[tokio::test]
async fn a_loop_of_one_user_and_feature_is_paused_at_once_and_on_all_nodes() {
    let app = TestApp::start().await;
    let rules = json!([{"name": "loop", "calls": 20, "seconds": 10, "act": "pause", "for_seconds": 120}]);
    plan(&app, rules, json!({})).await;
    join(&app, "ws").await;
    let nodes_count = nodes(&app).count();
    let mut denied = None;
    for n in 1..=20 * nodes_count + nodes_count {
        let answer = app.authorize("ws").user("u").send().await.expect(200);
        if answer["decision"] == "deny" {
            denied = Some((n, answer));
            break;
        }
    }
    let (calls, answer) = denied.expect("a loop is noticed");
    assert!(calls >= 20, "{calls}");
    assert_eq!(answer["code"], "fair_use_pause");
    let message = answer["reasons"][0]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("User u of workspace ws for chat made 20 calls within 10 seconds (loop)."),
        "{message}"
    );
    watch(&app).await;
    for _ in 0..nodes_count {
        app.authorize("ws").user("u").denied().await;
        app.authorize("ws").user("v").allowed().await;
        app.authorize("ws").user("u").feature("search").allowed().await;
        app.authorize("ws").without("user_id").allowed().await;
    }
    watch(&app).await;
    assert_eq!(told(&app).await.len(), 1, "once, however often it is called");
    // Whoever ends it is not overruled by the loop that goes on.
    let id = actions(&app, "ws").await[0]["fair_use_id"].as_str().expect("an id").to_owned();
    let ended = app.call(Method::DELETE, &format!("/v1/admin/fair-use/actions/{id}"), None).await;
    assert_eq!(ended.status.as_u16(), 204);
    for _ in 0..30 {
        app.authorize("ws").user("u").allowed().await;
    }
    app.pass_seconds(121);
    app.authorize("ws").user("u").allowed().await;
    watch(&app).await;
    assert_eq!(told(&app).await.len(), 1, "slow calls are no loop");
}

/// A pause is its rule's: where the plan has the rule no more, or the workspace is on a plan without it, it is over.
#[tokio::test]
async fn an_action_ends_with_its_rule() {
    let app = TestApp::start().await;
    plan(&app, rule(json!({"act": "pause"})), json!({})).await;
    let plain = json!({"name": "plain", "pricing": {"model": "flat", "base_usd": "0"},
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 10_000_000}]});
    app.put("/v1/admin/plans/plain", plain).await.expect_one_of(&[200, 201]);
    for workspace in ["stays", "moves"] {
        join(&app, workspace).await;
        spend(&app, workspace, "u", 20_000).await;
    }
    assert_eq!(watch(&app).await, 2);
    ask(&app, "stays").denied().await;
    ask(&app, "moves").denied().await;
    app.put("/v1/admin/workspaces/moves", json!({"plan_id": "plain"})).await.expect(200);
    app.follow_all().await;
    ask(&app, "moves").allowed().await;
    ask(&app, "stays").denied().await;
    watch(&app).await;
    assert_eq!(actions(&app, "moves").await[0]["ended_at"], "2025-11-21T10:00:00Z");
    assert_eq!(actions(&app, "stays").await[0]["ended_at"], Value::Null);

    let renamed = json!([{"name": "other", "over_minutes": 15, "min_amount": 9_000_000, "for_seconds": 600, "act": "pause"}]);
    plan(&app, renamed, json!({})).await;
    app.follow_all().await;
    // Before anybody has ended it for the record.
    ask(&app, "stays").allowed().await;
    watch(&app).await;
    assert_eq!(actions(&app, "stays").await[0]["ended_at"], "2025-11-21T10:00:00Z");
    let log = app.get("/v1/admin/audit-log?action=fair_use.end").await.expect(200);
    let actors: Vec<&Value> = log["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|record| &record["actor"])
        .collect();
    assert_eq!(actors, ["fair_use:burst", "fair_use:burst"], "each once");
    // The rule comes back: what led to the action that is over is not held against anybody twice.
    plan(&app, rule(json!({"act": "pause"})), json!({})).await;
    app.follow_all().await;
    ask(&app, "stays").allowed().await;
    assert_eq!(watch(&app).await, 0);
}

/// Who did not hear an answer asks again under the same id, and who asks for many at once does not go round in circles.
#[tokio::test]
async fn requests_told_again_and_those_of_one_batch_are_no_loop() {
    let app = TestApp::start().await;
    let rules = json!([{"name": "loop", "calls": 5, "seconds": 60, "act": "pause", "for_seconds": 120}]);
    plan(&app, rules, json!({})).await;
    join(&app, "ws").await;
    let nodes_count = nodes(&app).count();
    for _ in 0..20 * nodes_count {
        app.authorize("ws").user("again").id("same").allowed().await;
    }
    let ended = app.authorize("ws").user("ended").id("ended").reserved().await;
    app.settle(&ended, 10, 10).await.expect(200);
    for _ in 0..20 * nodes_count {
        app.authorize("ws")
            .user("ended")
            .id("ended")
            .send()
            .await
            .problem(409, "already_settled");
    }
    let batch = |user: &str| {
        let requests: Vec<Value> = (0..50)
            .map(|_| Value::Object(ask(&app, "ws").user(user).tokens(1, 1).body))
            .collect();
        json!({"requests": requests})
    };
    let allowed = async |user: &str| {
        let answer = app.post("/v1/authorize/batch", batch(user)).await.expect(200);
        let decisions = answer["results"].as_array().expect("results");
        assert_eq!(decisions.len(), 50, "{answer}");
        decisions.iter().filter(|one| one["decision"]["decision"] == "allow").count()
    };
    assert_eq!(allowed("batch").await, 50);
    watch(&app).await;
    assert_eq!(told(&app).await, [] as [Value; 0]);
    for user in ["again", "ended", "batch"] {
        ask(&app, "ws").user(user).allowed().await;
    }
    // Batch after batch is a loop all the same.
    for _ in 0..5 * nodes_count {
        allowed("batch").await;
    }
    assert_eq!(allowed("batch").await, 0);
    ask(&app, "ws").user("again").allowed().await;
}

/// Calls that are spread over nodes are one loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_noticed_however_its_calls_are_spread_over_nodes() {
    if !crate::support::stores::can_be_production() {
        return;
    }
    let nodes = TestApp::nodes(3).await;
    let rules = json!([{"name": "loop", "calls": 60, "seconds": 10, "act": "pause", "for_seconds": 120}]);
    plan(&nodes[0], rules, json!({})).await;
    join(&nodes[0], "ws").await;
    for node in &nodes {
        node.follow_all().await;
    }
    let mut calls = 0;
    let denied = loop {
        for node in &nodes {
            weir::flow::exchange::exchange(&node.service).await.expect("the ledger answers");
        }
        // A second of each node, 9 calls in all.
        let mut denied = None;
        for node in nodes.iter().cycle().take(9) {
            calls += 1;
            let answer = node
                .authorize("ws")
                .user("u")
                .id(&format!("call-{calls}"))
                .send_once()
                .await
                .expect(200);
            denied = denied.or((answer["decision"] == "deny").then_some(answer));
        }
        if let Some(answer) = denied {
            break answer;
        }
        assert!(calls < 120, "nobody notices");
        nodes[0].pass_seconds(1);
    };
    assert_eq!(denied["code"], "fair_use_pause");
    // What others counted since they told is missing, no more.
    assert!((60..=81).contains(&calls), "{calls}");
    nodes[0].authorize("ws").user("v").allowed().await;
}

#[tokio::test]
async fn users_are_measured_by_themselves_and_newcomers_by_their_cohort() {
    let app = TestApp::start().await;
    let rules = json!([
        {"name": "user_burst", "scope": "user", "over_minutes": 60, "ratio": 5, "min_amount": 500, "act": "event"},
        {"name": "velocity", "over_minutes": 5, "min_amount": 60_000, "act": "event"},
        {"name": "newcomer", "over_minutes": 60, "ratio": 4, "min_amount": 1_000, "act": "throttle"},
    ]);
    plan(&app, rules, json!({})).await;
    for workspace in ["ws", "new"] {
        join(&app, workspace).await;
    }
    app.set_clock("2025-11-21T10:59:00Z");
    let user = |name: &str| Whose::User(Some(UserId::parse(name).expect("a name")));
    usual(&app, "ws", user("calm"), 100).await;
    usual(&app, "ws", user("busy"), 5_000).await;
    usual(&app, "ws", Whose::Workspace, 6_000).await;
    spend(&app, "ws", "calm", 3_000).await;
    spend(&app, "ws", "busy", 4_000).await;
    // Of a newcomer nothing is known: four times the least amount is what it may use.
    spend(&app, "new", "u", 2_400).await;
    assert_eq!(watch(&app).await, 1);
    let known = actions(&app, "ws").await;
    let of: Vec<(&Value, &Value, &Value)> = known
        .iter()
        .map(|action| (&action["rule"], &action["user_id"], &action["typical"]))
        .collect();
    assert_eq!(of, [(&json!("user_burst"), &json!("calm"), &json!(100))]);
    let answer = app.authorize("ws").user("calm").allowed().await;
    assert_eq!(
        (&answer["actions"], &answer["reasons"]),
        (&json!([]), &json!([])),
        "an event changes no answer"
    );
    // Five others of the plan used 500 an hour a week ago; so the newcomer's 2,410 are more than four times what is usual.
    for n in 0..5 {
        usual(&app, &format!("other{n}"), Whose::Workspace, 500).await;
    }
    spend(&app, "new", "v", 10).await;
    assert_eq!(watch(&app).await, 1);
    let known = actions(&app, "new").await;
    assert_eq!(
        (&known[0]["rule"], &known[0]["action"]),
        (&json!("newcomer"), &json!("throttle")),
        "{known:?}"
    );
    spend(&app, "ws", "busy", 56_000).await;
    watch(&app).await;
    let rules: Vec<Value> = actions(&app, "ws").await.iter().map(|action| action["rule"].clone()).collect();
    assert!(rules.contains(&json!("velocity")), "{rules:?}");
}

#[tokio::test]
async fn a_shadow_rule_only_says_what_it_would_have_done() {
    let app = TestApp::start().await;
    let mut rules = rule(json!({"act": "pause", "shadow": true}));
    rules[0]["measure"] = json!("usd");
    rules[0]["min_amount"] = json!("0.10");
    plan(&app, rules, json!({})).await;
    join(&app, "ws").await;
    spend(&app, "ws", "u", 100_000).await;
    assert_eq!(watch(&app).await, 1);
    let answer = app.authorize("ws").allowed().await;
    assert_eq!((&answer["actions"], &answer["reasons"]), (&json!([]), &json!([])));
    assert_eq!(answer["shadow_reasons"][0]["code"], "fair_use_pause");
    assert_eq!(actions(&app, "ws").await[0]["observed"], "1.000000000");
    let query = EventQuery {
        limit: 10,
        audience: Some(weir::decision::event::Audience::Customer),
        kinds: vec![EventType::UsageAnomalyDetected],
        ..EventQuery::default()
    };
    assert!(
        app.service.ledger.events(&query).await.expect("events").is_empty(),
        "customers are not told what is tried out"
    );
}

#[tokio::test]
async fn of_several_nodes_one_begins_an_action() {
    let app = TestApp::start().await;
    plan(&app, rule(json!({"act": "throttle"})), json!({})).await;
    join(&app, "ws").await;
    for _ in 0..6 {
        spend(&app, "ws", "u", 4_000).await;
    }
    for node in nodes(&app) {
        gather::flush(&node.service).await.expect("usage is written");
    }
    // They race for the lead; that two leaders begin it once is the ledger's promise.
    let mut evaluators: Vec<Evaluator> = (0..3).map(|_| Evaluator::default()).collect();
    let rounds = evaluators.iter_mut().map(|evaluator| evaluator.round(&app.service));
    let begun: Vec<usize> = futures_util::future::try_join_all(rounds).await.expect("rounds");
    assert_eq!(begun.iter().sum::<usize>(), 1, "{begun:?}");
    assert_eq!(told(&app).await.len(), 1);
    assert_eq!(actions(&app, "ws").await[0]["observed"], 24_000, "what all nodes saw");
}
