//! Events over HTTP: what a customer is told before, at and after a limit, once each however many nodes race, and live.

use crate::support::TestApp;
use futures_util::future::join_all;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use weir::clock::Clock;
use weir::decision::event::{Event, EventType};
use weir::decision::id::{EventId, WorkspaceId};
use weir::flow::lookout::{self, Lookout};
use weir::flow::renew::Turns;
use weir::flow::sweep::Sweeper;

/// How long a frame of a stream may take: two seconds, and time for a busy machine.
const FRAME_WITHIN: Duration = Duration::from_secs(15);

impl TestApp {
    /// A workspace `ws` with a monthly budget of 1,000 tokens, told of at half and at 80 %, soft from 600 on.
    async fn told_of_tokens(&self) {
        self.workspace_on(
            "ws",
            json!({"upgrade_url": "https://x.example/?ws={workspace_id}", "budgets": [
                {"id": "tokens", "unit": "tokens", "period": "month", "soft": 600, "hard": 1000, "alerts": [0.5, 0.8]}]}),
        )
        .await;
        self.follow_all().await;
    }

    /// Each use at a moment of its own, so that what happened is listed in its order.
    async fn use_of(&self, workspace: &str, tokens: i64) {
        self.pass_seconds(1);
        let reservation = self.authorize(workspace).tokens(tokens, 0).reserved().await;
        self.settle(&reservation, tokens, 0).await.expect(200);
    }

    /// What a credential is shown of what happened to a workspace, oldest first.
    async fn events_as(&self, token: &str, workspace: &str) -> Vec<Value> {
        let (mut events, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/workspaces/{workspace}/events?limit=3{cursor}");
            let page = self
                .call_with(token, Method::GET, &path, &[("accept", "application/json")], None)
                .await
                .expect(200);
            events.extend(page["data"].as_array().expect("data").clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        events.reverse();
        events
    }

    async fn events(&self, workspace: &str) -> Vec<Value> {
        self.events_as(&self.token("read", None), workspace).await
    }

    /// Type and level of each.
    async fn levels(&self, workspace: &str) -> Vec<(String, i64)> {
        let events = self.events(workspace).await.into_iter();
        let mut levels: Vec<(String, i64)> = events
            .map(|event| {
                (
                    event["type"].as_str().expect("a type").to_owned(),
                    event["data"]["level"].as_i64().unwrap_or(0),
                )
            })
            .collect();
        levels.sort_by_key(|(_, level)| *level);
        levels
    }

    /// Opens a stream on a node.
    async fn stream(&self, token: &str, workspace: &str, last: Option<&str>) -> Frames {
        let mut request = self
            .client
            .get(format!("{}/v1/workspaces/{workspace}/events", self.url))
            .bearer_auth(token);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Frames {
            response,
            text: String::new(),
        }
    }
}

/// A stream as its reader sees it.
struct Frames {
    response: Response,
    text: String,
}

impl Frames {
    /// The next frame with data: id, type, data. `None`: the stream has ended.
    async fn next(&mut self) -> Option<(Option<String>, String, Value)> {
        loop {
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| frame.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
                let told = field("data: ").map(|data| {
                    let data = serde_json::from_str(&data).expect("JSON");
                    (field("id: "), field("event: ").expect("a type"), data)
                });
                self.text = rest.to_owned();
                if told.is_some() {
                    return told;
                }
            }
            let chunk = tokio::time::timeout(FRAME_WITHIN, self.response.chunk())
                .await
                .expect("a frame in time");
            let chunk = chunk.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next frame of this type.
    async fn next_of(&mut self, kind: &str) -> (Option<String>, Value) {
        loop {
            let (id, found, data) = self.next().await.expect("the stream goes on");
            if found == kind {
                return (id, data);
            }
        }
    }
}

fn named(levels: &[(&str, i64)]) -> Vec<(String, i64)> {
    levels.iter().map(|(kind, level)| ((*kind).to_owned(), *level)).collect()
}

const ALL_FOUR: [(&str, i64); 4] = [
    ("budget.threshold_reached", 500),
    ("budget.soft_limit_reached", 600),
    ("budget.threshold_reached", 800),
    ("budget.exhausted", 1_000),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_level_is_told_once_with_what_a_system_needs_to_act() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    app.use_of("ws", 499).await;
    assert_eq!(app.levels("ws").await, []);
    app.use_of("ws", 1).await;
    let told = app.events("ws").await;
    assert_eq!(told.len(), 1);
    assert!(told[0]["id"].as_str().is_some_and(|id| id.starts_with("evt_")));
    assert_eq!(told[0]["type"], "budget.threshold_reached");
    let data = &told[0]["data"];
    let expected = json!({"workspace_id": "ws", "plan_id": "ws", "plan_version": data["plan_version"], "upgrade_url": "https://x.example/?ws=ws",
        "message": "Workspace ws has used 50 % of its 1,000 tokens for November. Requests still go through. They renew on 1 December.", "budget_id": "tokens",
        "scope": "workspace", "feature": null, "unit": "tokens", "period": {"start": "2025-11-01T00:00:00Z", "end": "2025-12-01T00:00:00Z"},
        "threshold": 0.5, "level": 500, "soft": 600, "hard": 1000, "granted": 0, "spent": 500, "remaining": 500});
    assert_eq!(*data, expected);
    for _ in 0..5 {
        app.use_of("ws", 100).await;
    }
    assert_eq!(app.levels("ws").await, named(&ALL_FOUR));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn levels_that_many_nodes_reach_at_once_are_told_once() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    let plan = json!({"budgets": [{"id": "by_user", "scope": "user", "unit": "requests", "period": "day", "hard": 10, "alerts": [0.5]}]});
    app.workspace_on("users", plan).await;
    app.follow_all().await;
    // Use that nobody authorized: while a sum is newer than a hold, an authorize at the very limit may count a use twice, and deny.
    let used = async |workspace: &str, user: usize, n: usize, tokens: i64| {
        let user = format!("usr_{user}");
        let body = json!({"workspace_id": workspace, "user_id": user, "feature": "chat", "model": "big", "request_id": format!("{workspace}-{n}"), "usage": {"input_tokens": tokens, "output_tokens": 0}});
        app.post("/v1/usage", body).await.expect(200);
    };
    let tokens = (0..100).map(async |n: usize| used("ws", 0, n, 10).await);
    let requests = (0..50).map(async |n: usize| used("users", n % 5, n, 1).await);
    tokio::join!(join_all(tokens), join_all(requests));
    assert_eq!(app.levels("ws").await, named(&ALL_FOUR));
    let of_users = app.events("users").await;
    let pairs: HashSet<(String, String)> = of_users
        .iter()
        .map(|event| (event["data"]["user_id"].to_string(), event["type"].to_string()))
        .collect();
    // Half, and all, of each of five users.
    assert_eq!((of_users.len(), pairs.len()), (10, 10), "{of_users:#?}");
    let ids: HashSet<String> = of_users.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), 10);
}

/// A customer whose requests are refused hears of it, though its use never comes to the very figure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_refuses_is_told_once_and_its_raise_too() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    let mut lookout = Lookout::default();
    app.use_of("ws", 700).await;
    let deny = async |tokens: i64| {
        let denied = app.authorize("ws").tokens(tokens, 0).denied().await;
        assert_eq!(denied["reasons"][0]["code"], "hard_limit_reached", "{denied:#}");
        app.tell_walls().await;
    };
    let walls = async || {
        let told = app.events("ws").await.into_iter();
        told.filter(|event| event["type"] == "budget.exhausted").collect::<Vec<Value>>()
    };
    // One large request says nothing about what others find there.
    deny(400).await;
    assert_eq!(walls().await.len(), 0);
    app.use_of("ws", 260).await;
    deny(50).await;
    deny(60).await;
    let told = walls().await;
    assert_eq!(told.len(), 1, "{told:#?}");
    let data = &told[0]["data"];
    assert_eq!(
        (&data["threshold"], &data["level"], &data["spent"], &data["remaining"]),
        (&json!(1), &json!(1_000), &json!(960), &json!(40))
    );
    let words = "Workspace ws has 40 tokens of its 1,000 tokens left for November, and this request needs 50 tokens. Smaller ones still go through. They renew on 1 December.";
    assert_eq!(data["message"], words);
    let mut raises = async || {
        for _ in 0..6 {
            lookout.look(&app.service).await.expect("looked");
        }
        app.events("ws")
            .await
            .into_iter()
            .filter(|event| event["type"] == "budget.renewed")
            .count()
    };
    assert_eq!(raises().await, 0, "what was left then is left now");
    // Its end is not told again where use does come to it.
    app.use_of("ws", 40).await;
    deny(1).await;
    assert_eq!(walls().await.len(), 1);
    app.post("/v1/admin/workspaces/ws/grants", json!({"unit": "tokens", "amount": 500}))
        .await
        .expect(201);
    assert_eq!(raises().await, 1);
    // The raised limit is another level, on every node that has heard of it.
    app.follow_all().await;
    app.use_of("ws", 470).await;
    deny(50).await;
    assert_eq!(
        walls().await.iter().map(|told| told["data"]["level"].clone()).collect::<Vec<_>>(),
        [1_000, 1_500]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_lowered_below_what_was_used_is_told_when_it_refuses() {
    let app = TestApp::start().await;
    let plan = |hard: i64| json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": hard, "alerts": []}]});
    app.workspace_on("ws", plan(1_000)).await;
    app.follow_all().await;
    app.use_of("ws", 500).await;
    app.workspace_on("ws", plan(400)).await;
    app.follow_all().await;
    app.authorize("ws").tokens(300, 0).denied().await;
    app.tell_walls().await;
    let told = app.events("ws").await;
    let told: Vec<&Value> = told.iter().filter(|event| event["type"] == "budget.exhausted").collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    let data = &told[0]["data"];
    assert_eq!(
        (&data["level"], &data["spent"], &data["remaining"]),
        (&json!(400), &json!(500), &json!(0))
    );
    assert!(
        data["message"]
            .as_str()
            .is_some_and(|text| text.contains("has used its 400 tokens")),
        "{data:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_was_at_its_limit_is_told_to_have_renewed() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    app.workspace_with_tokens("idle", 1_000).await;
    app.follow_all().await;
    app.use_of("ws", 700).await;
    app.use_of("idle", 850).await;
    let mut lookout = Lookout::default();
    lookout.look(&app.service).await.expect("looked");
    assert_eq!(app.events("ws").await.len(), 2, "half and soft");
    app.set_clock("2025-12-01T00:00:05Z");
    app.follow_all().await;
    assert_eq!(lookout.look(&app.service).await.expect("looked"), 1);
    assert_eq!(lookout.look(&app.service).await.expect("looked"), 0);
    let told = app.events("ws").await;
    assert_eq!(told.len(), 3);
    assert_eq!(
        (&told[2]["type"], &told[2]["data"]["reason"]),
        (&json!("budget.renewed"), &json!("period"))
    );
    assert_eq!(told[2]["data"]["period"]["start"], "2025-12-01T00:00:00Z");
    assert_eq!(
        (&told[2]["data"]["spent"], &told[2]["data"]["remaining"]),
        (&json!(0), &json!(1000))
    );
    assert_eq!(app.events("idle").await.len(), 1, "it was at no limit, only at 80 %");
    // Another period tells its levels anew.
    app.use_of("ws", 700).await;
    assert_eq!(app.events("ws").await.len(), 5);
}

/// What raises a limit may be the clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_begins_later_is_told_as_a_raise_and_a_top_up_needs_no_telling() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    let mut lookout = Lookout::default();
    app.use_of("ws", 1_000).await;
    let later = json!({"unit": "tokens", "amount": 500, "effective_at": "2025-11-21T11:00:00Z"});
    app.post("/v1/admin/workspaces/ws/grants", later).await.expect(201);
    app.workspace_with_tokens("ws_top", 1_000).await;
    app.follow_all().await;
    let top_ups = json!({"top_ups": {"tokens": {"below": 50, "amount": 400, "max_per_period": 1}}});
    app.patch("/v1/admin/workspaces/ws_top", top_ups).await.expect(200);
    app.use_of("ws_top", 1_000).await;
    let raises = async |workspace: &str| {
        let told = app.events(workspace).await;
        told.into_iter().filter(|event| event["data"]["reason"] == "raised").count()
    };
    for _ in 0..6 {
        lookout.look(&app.service).await.expect("looked");
    }
    assert_eq!(raises("ws").await, 0, "a grant that has not begun raises nothing");
    // A top-up comes with the use that needs it, so no limit was reached.
    assert_eq!(app.budget("ws_top", "tokens").await["remaining"], 400);
    assert_eq!(app.events("ws_top").await.len(), 0);
    app.set_clock("2025-11-21T11:00:01Z");
    app.follow_all().await;
    for _ in 0..6 {
        lookout.look(&app.service).await.expect("looked");
    }
    assert_eq!(raises("ws").await, 1);
    for _ in 0..6 {
        lookout.look(&app.service).await.expect("looked");
    }
    assert_eq!(raises("ws").await, 1, "once");
}

/// A busy service makes events faster than any number of slices a round deletes them: all that need not be kept goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_goes_on_until_all_that_is_old_has_gone() {
    let app = TestApp::start().await;
    let many: Vec<Event> = (0..5_001)
        .map(|number| {
            let id = EventId::from_uuid(app.clock.uuid());
            Event::new(
                id,
                None,
                EventType::UsageRecorded,
                format!("old {number}"),
                app.clock.now(),
                json!({}),
            )
        })
        .collect();
    app.service.ledger.append_events(many).await.expect("the ledger answers");
    let kept = lookout::prune(&app.service).await.expect("pruned");
    assert_eq!((kept.rows, kept.is_all), (0, true));
    app.pass_seconds(400 * 24 * 3_600);
    let pruned = lookout::prune(&app.service).await.expect("pruned");
    assert_eq!((pruned.rows, pruned.is_all), (5_001, true));
}

/// A change of a plan raises the limits of all who are on it: they are told by turns, each of them once, whatever changes in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_of_many_is_told_by_turns() {
    let app = TestApp::start().await;
    let limited = async |hard: i64| {
        let plan = json!({"name": "many", "pricing": {"model": "flat", "base_usd": "0"},
            "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": hard, "alerts": []}]});
        app.put("/v1/admin/plans/many", plan).await.expect_one_of(&[200, 201]);
        app.follow_all().await;
    };
    limited(1_000).await;
    let workspaces: Vec<String> = (0..7).map(|number| format!("ws_{number}")).collect();
    for workspace in &workspaces {
        app.put(&format!("/v1/admin/workspaces/{workspace}"), json!({"plan_id": "many"}))
            .await
            .expect_one_of(&[200, 201]);
        app.use_of(workspace, 1_000).await;
    }
    let raises = async || {
        let mut each = Vec::new();
        for workspace in &workspaces {
            let told = app.events(workspace).await;
            each.push(told.iter().filter(|event| event["data"]["reason"] == "raised").count());
        }
        each
    };
    let mut turns = Turns::default();
    turns.changed();
    turns.take(&app.service, 9, 2).await.expect("looked");
    assert_eq!(
        (raises().await.iter().sum::<usize>(), turns.is_running()),
        (0, false),
        "nothing was raised"
    );

    // Two were looked at and are no better off when the limit rises; they are told all the same.
    turns.due();
    turns.take(&app.service, 1, 2).await.expect("looked");
    limited(2_000).await;
    turns.changed();
    turns.take(&app.service, 1, 2).await.expect("looked");
    assert_eq!(
        (raises().await.iter().sum::<usize>(), turns.is_running()),
        (2, true),
        "a turn is bounded"
    );
    turns.take(&app.service, 2, 2).await.expect("looked");
    assert_eq!(raises().await.iter().sum::<usize>(), 5);
    assert!(turns.is_running(), "again from the start");
    turns.take(&app.service, 2, 2).await.expect("looked");
    assert_eq!((raises().await, turns.is_running()), (vec![1; 7], false));
    let mut lookout = Lookout::default();
    lookout.look(&app.service).await.expect("looked");
    assert_eq!(raises().await, [1; 7], "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_is_told_and_its_levels_are_told_when_they_are_reached() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    app.use_of("ws", 1_000).await;
    assert_eq!(app.levels("ws").await, named(&ALL_FOUR));
    app.pass_seconds(1);
    app.post("/v1/admin/workspaces/ws/grants", json!({"unit": "tokens", "amount": 1000}))
        .await
        .expect(201);
    app.follow_all().await;
    let told = app.events("ws").await;
    assert_eq!(told.len(), 5, "one for soft and hard together: {told:#?}");
    assert_eq!(
        (&told[4]["type"], &told[4]["data"]["reason"]),
        (&json!("budget.renewed"), &json!("raised"))
    );
    assert_eq!(
        (&told[4]["data"]["granted"], &told[4]["data"]["remaining"]),
        (&json!(1000), &json!(1000))
    );
    // Half of 2,000 was used before it was the half.
    app.use_of("ws", 500).await;
    assert_eq!(app.events("ws").await.len(), 5);
    app.use_of("ws", 500).await;
    let levels: Vec<(String, i64)> = app.levels("ws").await.into_iter().filter(|(_, level)| *level > 1_000).collect();
    let mut expected = named(&[
        ("budget.soft_limit_reached", 1_600),
        ("budget.threshold_reached", 1_600),
        ("budget.exhausted", 2_000),
    ]);
    expected.sort();
    let mut sorted = levels;
    sorted.sort();
    assert_eq!(sorted, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn customers_are_not_told_of_costs_and_nobody_of_shadows() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [
        {"id": "money", "unit": "usd", "period": "month", "hard": "0.000001"},
        {"id": "trial", "unit": "tokens", "period": "month", "hard": 10, "shadow": true},
        {"id": "calls", "unit": "requests", "period": "month", "hard": 1, "alerts": []}]});
    app.workspace_on("ws", plan).await;
    let usage = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "u1", "usage": {"input_tokens": 1000, "output_tokens": 10}});
    app.post("/v1/usage", usage).await.expect(200);
    let all = app.events("ws").await;
    let budgets: HashSet<&str> = all.iter().filter_map(|event| event["data"]["budget_id"].as_str()).collect();
    assert_eq!(budgets, HashSet::from(["money", "calls"]));
    let portal = app.token("portal", Some("ws"));
    let shown = app.events_as(&portal, "ws").await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["data"]["budget_id"], "calls");
    let usage = app.call_as(&portal, Method::GET, "/v1/workspaces/ws/usage", None).await.expect(200);
    assert!(!usage.to_string().contains("usd"), "{usage:#}");
    let day = json!({"date": "2025-11-21", "feature": "chat", "requests": 1, "tokens": 1010, "credits": 0});
    assert_eq!((&usage["plan_id"], &usage["recent"]), (&json!("ws"), &json!([day])));
    let read = app.get("/v1/workspaces/ws/usage").await.expect(200);
    assert!(read["recent"][0]["cost_usd"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_plan_and_a_suspension_are_told_with_it() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    assert_eq!(app.events("ws").await, [] as [Value; 0]);
    app.patch("/v1/admin/workspaces/ws", json!({"plan_id": "unlimited"}))
        .await
        .expect(200);
    app.patch("/v1/admin/workspaces/ws", json!({"seats": 3})).await.expect(200);
    app.pass_seconds(1);
    app.patch("/v1/admin/workspaces/ws", json!({"status": "suspended"}))
        .await
        .expect(200);
    let told = app.events("ws").await;
    let kinds: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["plan.changed", "workspace.suspended"]);
    assert_eq!(
        (&told[0]["data"]["previous_plan_id"], &told[0]["data"]["plan_id"]),
        (&json!("ws"), &json!("unlimited"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_soon_is_told_before_it_does() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    app.post(
        "/v1/admin/workspaces/ws/grants",
        json!({"unit": "tokens", "amount": 300, "key": "k1", "expires_at": "2025-12-20T00:00:00Z"}),
    )
    .await
    .expect(201);
    app.follow_all().await;
    // A quarter of the limit in a third of the month lasts; as much in a day does not.
    app.set_clock("2025-12-11T00:00:00Z");
    app.follow_all().await;
    let mut sweeper = Sweeper::default();
    app.use_of("ws", 200).await;
    sweeper.sweep(&app.service).await.expect("swept");
    assert_eq!(
        weir::flow::foresee::grants(&app.service).await.expect("looked"),
        0,
        "nine days are left"
    );
    assert_eq!(app.events("ws").await, [] as [Value; 0]);
    app.use_of("ws", 280).await;
    sweeper.sweep(&app.service).await.expect("swept");
    sweeper.sweep(&app.service).await.expect("swept");
    let told = app.events("ws").await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["type"], "budget.forecast");
    assert!(
        told[0]["data"]["forecast_exhausted_at"]
            .as_str()
            .is_some_and(|at| at.starts_with("2025-12-2")),
        "{told:#?}"
    );
    for (moment, told_of) in [
        ("2025-12-14T00:00:00Z", 1),
        ("2025-12-15T00:00:00Z", 0),
        ("2025-12-19T12:00:00Z", 1),
    ] {
        app.set_clock(moment);
        assert_eq!(
            weir::flow::foresee::grants(&app.service).await.expect("looked"),
            told_of,
            "{moment}"
        );
    }
    let last = app.events("ws").await.pop().expect("an event");
    assert_eq!(last["type"], "grant.expiring");
    assert_eq!((&last["data"]["key"], &last["data"]["remaining"]), (&json!("k1"), &json!(300)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_use_is_told_only_where_somebody_asks_for_it() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.follow_all().await;
    app.use_of("ws", 1).await;
    let wanted = vec![Some(WorkspaceId::parse("ws").expect("a name"))];
    for node in app.beside.iter().chain([&app]) {
        node.service.telling.want_usage_recorded(wanted.clone().into());
    }
    app.use_of("ws", 2).await;
    let told = app.events("ws").await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["type"], &told[0]["data"]["tokens"]),
        (&json!("usage.recorded"), &json!(2))
    );
    assert!(!told[0].to_string().contains("usd"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_tells_what_any_node_writes_and_goes_on_where_it_was_cut_off() {
    let app = TestApp::start().await;
    app.told_of_tokens().await;
    let token = app.token("portal", Some("ws"));
    let mut stream = app.stream(&token, "ws", None).await;
    let (id, usage) = stream.next_of("usage").await;
    assert_eq!((id, &usage["budgets"][0]["spent"]), (None, &json!(0)));
    app.use_of("ws", 550).await;
    let (first, event) = stream.next_of("budget.threshold_reached").await;
    assert_eq!(event["data"]["level"], 500);
    let (_, usage) = stream.next_of("usage").await;
    assert_eq!(usage["budgets"][0]["spent"], 550);
    drop(stream);
    app.use_of("ws", 300).await;
    // Another node, if there is one, tells the rest.
    let other = app.beside.first().unwrap_or(&app);
    let mut resumed = other.stream(&token, "ws", first.as_deref()).await;
    let mut missed = Vec::new();
    for _ in 0..2 {
        let (_, kind, data) = resumed.next().await.expect("an event");
        missed.push((kind, data["data"]["level"].as_i64().expect("a level")));
    }
    missed.sort_by_key(|(_, level)| *level);
    assert_eq!(missed, named(&ALL_FOUR[1..3]));
    let unknown = other
        .stream(&token, "ws", Some("evt_00000000000000000000000000000000"))
        .await
        .next()
        .await;
    assert_eq!(
        unknown.expect("an event").2["data"]["level"],
        500,
        "of an unknown event everything came after it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_of_whoever_may_see_it_for_as_long_as_that() {
    let app = TestApp::alone().await;
    app.told_of_tokens().await;
    let path = "/v1/workspaces/ws/events";
    app.call_as(&app.token("portal", Some("other")), Method::GET, path, None)
        .await
        .problem(404, "not_found");
    app.call_as(&app.token("authorize", Some("ws")), Method::GET, path, None)
        .await
        .problem(403, "insufficient_scope");
    app.get("/v1/workspaces/never_seen/events").await.problem(404, "not_found");
    app.get("/v1/workspaces/ws/events?limit=3").await.problem(400, "malformed");
    let token = app.token("read", None);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(app.stream(&token, "ws", None).await);
    }
    let refused = app.call_as(&token, Method::GET, path, None).await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(429, "too_many_requests");
    let mut last = streams.pop().expect("a stream");
    last.next_of("usage").await;
    // When its credential ends, it does.
    app.pass_seconds(2 * 3_600);
    while last.next().await.is_some() {}
}
