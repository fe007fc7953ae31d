//! Grants over HTTP: extra allowance with one balance, whoever draws on it, and books that say what was paid.

use crate::support;
use crate::support::TestApp;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const GRANTS: &str = "/v1/admin/workspaces/ws/grants";

impl TestApp {
    /// Gives a grant to `ws`.
    async fn give(&self, body: Value) -> Value {
        let grant = self.post(GRANTS, body).await.expect(201);
        self.everybody_follows().await;
        grant
    }

    /// What other nodes do within two seconds.
    async fn everybody_follows(&self) {
        self.follow().await;
        for node in &self.beside {
            node.follow().await;
        }
    }

    async fn grants(&self) -> Vec<Value> {
        let usage = self.get("/v1/workspaces/ws/usage").await.expect(200);
        usage["grants"].as_array().expect("grants").clone()
    }

    /// Balance and state of a grant.
    async fn standing(&self, grant: &Value) -> (i64, String) {
        let grants = self.grants().await;
        let found = grants
            .iter()
            .find(|found| found["grant_id"] == grant["grant_id"])
            .expect("the grant");
        (
            found["balance"].as_i64().expect("an integer"),
            found["state"].as_str().expect("a state").to_owned(),
        )
    }

    async fn void(&self, grant: &Value) -> support::Reply {
        let path = format!("{GRANTS}/{}", grant["grant_id"].as_str().expect("an id"));
        let reply = self.call(Method::DELETE, &path, None).await;
        self.everybody_follows().await;
        reply
    }

    /// How much `ws` may still use of its tokens, by asking for it token by token; all of it is settled.
    async fn use_tokens(&self, tokens: i64) -> String {
        let reservation = self.authorize("ws").tokens(tokens, 0).reserved().await;
        self.settle(&reservation, tokens, 0).await.expect(200);
        reservation
    }

    /// Granted, spent, held and remaining of the budget `tokens`.
    async fn tokens_of(&self, user: Option<&str>) -> [i64; 4] {
        let path = match user {
            Some(user) => format!("/v1/workspaces/ws/usage?user_id={user}"),
            None => "/v1/workspaces/ws/usage".to_owned(),
        };
        let usage = self.get(&path).await.expect(200);
        let budget = usage["budgets"]
            .as_array()
            .expect("budgets")
            .iter()
            .find(|budget| budget["budget_id"] == "tokens")
            .cloned();
        let budget = budget.expect("tokens");
        ["granted", "spent", "held", "remaining"].map(|name| budget[name].as_i64().expect(name))
    }

    async fn verified(&self) {
        let (ledger, clock) = (&self.service.ledger, &*self.service.clock);
        let found = weir::flow::verify::verify(&**ledger, Some(&*self.service.counters), clock, |_| {}).await;
        let found = found.expect("it is verified");
        assert!(found.differences.is_empty(), "{:?}", found.differences);
    }
}

fn granted(answer: &Value) -> &Value {
    &answer["budgets"][0]["granted"]
}

#[tokio::test]
async fn a_grant_raises_the_limit_at_once_and_is_used_after_the_plans_allowance() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    assert_eq!(app.authorize("ws").tokens(101, 0).denied().await["code"], "never_fits");
    let grant = app.give(json!({"amount": 50})).await;
    for (name, value) in [
        ("budget_id", json!("tokens")),
        ("unit", json!("tokens")),
        ("amount", json!(50)),
        ("balance", json!(50)),
        ("state", json!("active")),
        ("priority", json!(100)),
        ("source", json!("manual")),
        ("effective_at", json!("2025-11-21T10:00:00Z")),
        ("expires_at", Value::Null),
        ("recurrence", Value::Null),
        ("changes_at", Value::Null),
    ] {
        assert_eq!(grant[name], value, "{name}");
    }
    assert_eq!(app.authorize("ws").tokens(151, 0).denied().await["code"], "never_fits");
    app.use_tokens(90).await;
    assert_eq!(
        (app.standing(&grant).await, app.tokens_of(None).await),
        ((50, "active".to_owned()), [50, 90, 0, 60])
    );
    app.use_tokens(30).await;
    assert_eq!(
        (app.standing(&grant).await, app.tokens_of(None).await),
        ((30, "active".to_owned()), [50, 120, 0, 30])
    );
    let answer = app.authorize("ws").tokens(30, 0).allowed().await;
    assert_eq!((granted(&answer), &answer["budgets"][0]["remaining"]), (&json!(50), &json!(0)));
    let denied = app.authorize("ws").tokens(1, 0).denied().await;
    assert_eq!(
        (&denied["code"], &denied["reasons"][0]["blocked_by"]),
        (&json!("hard_limit_reached"), &json!("held"))
    );
    app.settle(answer["reservation_id"].as_str().expect("an id"), 30, 0)
        .await
        .expect(200);
    assert_eq!(app.standing(&grant).await, (0, "exhausted".to_owned()));
    assert_eq!(app.authorize("ws").tokens(1, 0).denied().await["reasons"][0]["blocked_by"], "spent");
    app.verified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_race_takes_exactly_limit_and_grant() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    app.give(json!({"amount": 30})).await;
    app.give(json!({"amount": 7})).await;
    let answers = join_all((0..500).map(|_| app.authorize("ws").tokens(1, 0).send())).await;
    let answers: Vec<Value> = answers.into_iter().map(|answer| answer.json()).collect();
    let allowed: Vec<&Value> = answers.iter().filter(|answer| answer["decision"] == "allow").collect();
    assert_eq!(allowed.len(), 137);
    let settles = allowed
        .iter()
        .map(|answer| app.settle(answer["reservation_id"].as_str().expect("an id"), 1, 0));
    for settled in join_all(settles).await {
        settled.expect(200);
    }
    assert_eq!(app.tokens_of(None).await, [37, 137, 0, 0]);
    app.verified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_share_one_balance_under_race() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [{"id": "tokens", "scope": "user", "unit": "tokens", "period": "month", "hard": 10}]});
    app.workspace_on("ws", plan).await;
    app.post(GRANTS, json!({"amount": 5})).await.problem(422, "unacceptable");
    app.give(json!({"budget_id": "tokens", "amount": 25})).await;
    let asked = (0..200).map(|number| app.authorize("ws").tokens(1, 0).user(["ann", "ben"][number % 2]).send());
    let answers: Vec<Value> = join_all(asked).await.into_iter().map(|answer| answer.json()).collect();
    let allowed: Vec<&Value> = answers.iter().filter(|answer| answer["decision"] == "allow").collect();
    assert_eq!(allowed.len(), 10 + 10 + 25);
    app.authorize("ws").tokens(1, 0).user("cid").allowed().await;
    for settled in join_all(
        allowed
            .iter()
            .map(|answer| app.settle(answer["reservation_id"].as_str().expect("an id"), 1, 0)),
    )
    .await
    {
        settled.expect(200);
    }
    let (ann, ben) = (app.tokens_of(Some("ann")).await, app.tokens_of(Some("ben")).await);
    assert_eq!(
        (ann[1] + ben[1], ann[0] + ben[0], ann[3], ben[3]),
        (45, 25, 0, 0),
        "{ann:?} {ben:?}"
    );
    app.verified().await;
}

#[tokio::test]
async fn a_month_that_ends_with_a_hold_open_leaves_what_it_holds_to_it() {
    let app = TestApp::start_at("2025-11-30T23:59:00Z").await;
    app.workspace_with_tokens("ws", 100).await;
    let grant = app.give(json!({"amount": 50})).await;
    let open = app.authorize("ws").tokens(130, 0).reserved().await;
    app.pass_seconds(120);
    assert_eq!(app.tokens_of(None).await, [20, 0, 0, 120], "thirty are held by November");
    assert_eq!(app.authorize("ws").tokens(121, 0).denied().await["budgets"][0]["granted"], 20);
    app.settle(&open, 130, 0).await.expect(200);
    assert_eq!(app.standing(&grant).await.0, 20);
    assert_eq!(app.tokens_of(None).await, [20, 0, 0, 120]);
    app.use_tokens(120).await;
    assert_eq!(app.standing(&grant).await, (0, "exhausted".to_owned()));
    app.verified().await;
}

#[tokio::test]
async fn an_expiry_is_exclusive_and_what_was_paid_stays_paid() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let body = json!({"amount": 50, "effective_at": "2025-11-21T10:01:00Z", "expires_at": "2025-11-21T10:02:00Z"});
    let grant = app.give(body).await;
    assert_eq!(
        (&grant["state"], &grant["balance"], &grant["changes_at"]),
        (&json!("pending"), &json!(0), &json!("2025-11-21T10:01:00Z"))
    );
    app.pass_seconds(59);
    app.authorize("ws").tokens(101, 0).denied().await;
    app.pass_seconds(1);
    app.use_tokens(110).await;
    let held = app.authorize("ws").tokens(15, 0).reserved().await;
    app.pass_seconds(59);
    assert_eq!(app.tokens_of(None).await, [50, 110, 15, 25]);
    app.pass_seconds(1);
    assert_eq!(app.standing(&grant).await, (0, "expired".to_owned()));
    assert_eq!(app.tokens_of(None).await, [10, 110, 15, 0]);
    app.authorize("ws").tokens(1, 0).denied().await;
    app.settle(&held, 15, 0).await.expect(200);
    assert_eq!(
        app.tokens_of(None).await,
        [25, 125, 0, 0],
        "it was authorized while the grant lived"
    );
    app.verified().await;
}

#[tokio::test]
async fn a_void_takes_the_rest_and_leaves_what_is_held() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let grant = app.give(json!({"amount": 50, "key": "k"})).await;
    let held = app.authorize("ws").tokens(120, 0).reserved().await;
    app.pass_seconds(1);
    for _again in 0..2 {
        assert_eq!(app.void(&grant).await.status, 204);
    }
    app.authorize("ws").tokens(1, 0).denied().await;
    app.settle(&held, 120, 0).await.expect(200);
    assert_eq!(app.tokens_of(None).await, [20, 120, 0, 0]);
    assert_eq!(app.standing(&grant).await, (0, "voided".to_owned()));
    let unknown = "/v1/admin/workspaces/ws/grants/grt_00000000000000000000000000000001";
    app.call(Method::DELETE, unknown, None).await.problem(404, "not_found");
    app.verified().await;
}

#[tokio::test]
async fn a_recurring_grant_is_whole_again_at_each_recurrence() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let grant = app.give(json!({"amount": 10, "recurrence": "day"})).await;
    assert_eq!(grant["recurrence"], json!({"interval": "day", "anchor": "2025-11-21T10:00:00Z"}));
    assert_eq!(grant["changes_at"], "2025-11-22T10:00:00Z");
    app.use_tokens(104).await;
    assert_eq!(app.tokens_of(None).await, [10, 104, 0, 6]);
    app.pass_seconds(86_400);
    assert_eq!(
        app.tokens_of(None).await,
        [14, 104, 0, 10],
        "what was paid raised the month's limit"
    );
    app.use_tokens(10).await;
    assert_eq!((app.standing(&grant).await.0, app.tokens_of(None).await), (0, [14, 114, 0, 0]));
    app.pass_seconds(86_400);
    assert_eq!(app.standing(&grant).await, (10, "active".to_owned()));
    app.verified().await;
}

#[tokio::test]
async fn what_rolls_over_is_bounded() {
    let app = TestApp::start_at("2025-11-30T23:00:00Z").await;
    app.workspace_with_tokens("ws", 100).await;
    let most = app.give(json!({"amount": 60, "priority": 1, "rollover_max": 30})).await;
    let least = app
        .give(json!({"amount": 60, "priority": 2, "rollover_min": 20, "rollover_max": 25}))
        .await;
    app.use_tokens(100 + 60 + 55).await;
    assert_eq!((app.standing(&most).await.0, app.standing(&least).await.0), (0, 5));
    app.pass_seconds(3_600);
    assert_eq!((app.standing(&most).await.0, app.standing(&least).await.0), (0, 20));
    assert_eq!(app.tokens_of(None).await, [20, 0, 0, 120]);
    app.use_tokens(120).await;
    app.verified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_uses_top_up_exactly_as_often_as_they_may() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let top_ups = json!({"top_ups": {"tokens": {"below": 50, "amount": 40, "max_per_period": 2}}});
    let patched = app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(top_ups)).await.expect(200);
    assert_eq!(patched["top_ups"]["tokens"]["priority"], 100);
    app.everybody_follows().await;
    let asked = join_all((0..300).map(|_| async {
        let answer = app.authorize("ws").tokens(1, 0).send().await.json();
        match answer["reservation_id"].as_str() {
            Some(id) => app.settle(id, 1, 0).await.expect(200),
            None => Value::Null,
        }
    }));
    asked.await;
    let mut used = app.tokens_of(None).await[1];
    // Some were refused before a settle had topped up; what is left can be used, and no more.
    while app.authorize("ws").tokens(1, 0).send().await.json()["decision"] == "allow" {
        used += 1;
    }
    assert_eq!(used, 180);
    let grants = app.grants().await;
    assert_eq!(grants.iter().filter(|grant| grant["source"] == "top_up").count(), 2, "{grants:?}");
    app.verified().await;
}

#[tokio::test]
async fn grants_follow_a_change_of_plan() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let grant = app.give(json!({"amount": 50})).await;
    app.use_tokens(120).await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.everybody_follows().await;
    assert_eq!(app.tokens_of(None).await, [50, 120, 0, 930]);
    app.use_tokens(200).await;
    assert_eq!(app.standing(&grant).await.0, 30, "the plan's allowance is used first again");
    app.workspace_with_tokens("ws", 300).await;
    app.everybody_follows().await;
    assert_eq!(app.tokens_of(None).await, [50, 320, 0, 30]);
    app.verified().await;
}

#[tokio::test]
async fn counters_that_are_lost_are_what_the_ledger_says() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let grant = app.give(json!({"amount": 50})).await;
    app.use_tokens(120).await;
    let before = app.tokens_of(None).await;
    let app = app.lose_counters().await;
    assert_eq!(app.tokens_of(None).await, before);
    let reservation = app.authorize("ws").tokens(30, 0).id("after").reserved().await;
    app.settle(&reservation, 30, 0).await.expect(200);
    app.authorize("ws").tokens(1, 0).id("none-left").denied().await;
    assert_eq!(app.standing(&grant).await.0, 0);
    app.verified().await;
}

#[tokio::test]
async fn use_that_was_not_authorized_is_paid_too() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let grant = app.give(json!({"amount": 50})).await;
    let usage = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "u", "usage": {"input_tokens": 130, "output_tokens": 0}});
    let recorded = app.post("/v1/usage", usage).await.expect(200);
    assert_eq!((granted(&recorded), &recorded["budgets"][0]["remaining"]), (&json!(50), &json!(20)));
    assert_eq!(app.standing(&grant).await.0, 20);
    let stream = app.authorize("ws").tokens(20, 0).reserved().await;
    let report = json!({"usage": {"input_tokens": 15, "output_tokens": 0}, "final": false});
    let checked = app.post(&format!("/v1/reservations/{stream}/settle"), report).await.expect(200);
    assert_eq!((&checked["stop"], app.standing(&grant).await.0), (&json!(false), 5));
    app.verified().await;
}

#[tokio::test]
async fn money_is_granted_in_decimals() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "money", "unit": "usd", "period": "month", "hard": "0.001"}]}),
    )
    .await;
    app.post(GRANTS, json!({"amount": 5})).await.problem(400, "malformed");
    app.post(GRANTS, json!({"amount": "0"})).await.problem(422, "unacceptable");
    // What no amount in usd may be has a code of its own, wherever it stands.
    for amount in ["4000000.000000001", "4000001", "99999999999999999999"] {
        app.post(GRANTS, json!({"amount": amount})).await.problem(422, "amount_too_large");
        for member in ["overrides", "top_ups"] {
            let inner = match member {
                "overrides" => json!({"hard": amount}),
                _ => json!({"below": "0.0001", "amount": amount}),
            };
            let refused = app.patch("/v1/admin/workspaces/ws", json!({member: {"money": inner}})).await;
            refused.problem(422, "amount_too_large");
        }
    }
    for amount in ["-1", "1.0000000001", "1e3", "99999999999999999999.0000000001"] {
        app.post(GRANTS, json!({"amount": amount})).await.problem(422, "unacceptable");
    }
    let grant = app.give(json!({"unit": "usd", "amount": "0.25"})).await;
    assert_eq!(
        (&grant["amount"], &grant["balance"]),
        (&json!("0.250000000"), &json!("0.250000000"))
    );
    let answer = app.authorize("ws").tokens(100, 50).allowed().await;
    assert_eq!(granted(&answer), "0.250000000");
}

#[tokio::test]
async fn a_key_names_one_grant() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    let first = app.give(json!({"key": "k", "amount": 50, "recurrence": "month"})).await;
    app.pass_seconds(5);
    let again = app
        .post(GRANTS, json!({"key": "k", "amount": 50, "recurrence": "month"}))
        .await
        .expect(200);
    assert_eq!(again, first);
    app.post(GRANTS, json!({"key": "k", "amount": 51}))
        .await
        .problem(409, "grant_conflict");
    assert_eq!(app.grants().await.len(), 1);
    app.get(&format!("{GRANTS}?limit=1")).await.expect(200)["data"]
        .as_array()
        .expect("a page");
}

#[tokio::test]
async fn what_cannot_be_granted_says_why() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "a", "unit": "tokens", "period": "month", "hard": 10},
        {"id": "b", "unit": "tokens", "period": "day", "hard": 10},
        {"id": "twin", "unit": "tokens", "period": "day", "hard": 20},
        {"id": "metered", "unit": "credits", "period": "month"}]});
    app.workspace_on("ws", plan).await;
    for (body, status, pointer) in [
        (json!({"amount": 5}), 422, "/budget_id"),
        (json!({"amount": 5, "unit": "usd"}), 422, "/budget_id"),
        (json!({"amount": 5, "budget_id": "none"}), 422, "/budget_id"),
        (json!({"amount": 5, "budget_id": "metered"}), 422, "/budget_id"),
        (json!({"amount": 5, "budget_id": "twin"}), 422, "/budget_id"),
        (json!({"amount": 5, "budget_id": "a", "unit": "usd"}), 422, "/unit"),
        (json!({"amount": 0, "budget_id": "a"}), 422, "/amount"),
        (json!({"amount": -1, "budget_id": "a"}), 422, "/amount"),
        (json!({"amount": "5", "budget_id": "a"}), 400, "/amount"),
        (json!({"budget_id": "a"}), 400, "/amount"),
        (json!({"amount": 5, "budget_id": "a", "priority": 256}), 422, "/priority"),
        (
            json!({"amount": 5, "budget_id": "a", "expires_at": "2025-11-21T10:00:00Z"}),
            422,
            "/expires_at",
        ),
        (
            json!({"amount": 5, "budget_id": "a", "recurrence": "fortnight"}),
            422,
            "/recurrence",
        ),
        (json!({"amount": 5, "budget_id": "a", "recurrence": 7}), 400, "/recurrence"),
        (
            json!({"amount": 5, "budget_id": "a", "rollover_min": 3, "rollover_max": 2}),
            422,
            "/rollover_min",
        ),
        (json!({"amount": 5, "budget_id": "a", "balance": 2}), 400, "/balance"),
    ] {
        let reply = app.post(GRANTS, body.clone()).await;
        let code = if status == 400 { "malformed" } else { "unacceptable" };
        let problem = reply.problem(status, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body} {problem}");
    }
    app.post("/v1/admin/workspaces/nobody/grants", json!({"amount": 5}))
        .await
        .problem(404, "not_found");
    let top_up = |body: Value| app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(json!({"top_ups": body})));
    top_up(json!({"none": {"below": 1, "amount": 1}}))
        .await
        .problem(422, "unacceptable");
    top_up(json!({"a": {"below": 1}})).await.problem(400, "malformed");
    top_up(json!({"a": {"below": 1, "amount": 0}})).await.problem(422, "unacceptable");
}
