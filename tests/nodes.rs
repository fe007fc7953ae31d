//! The production profile: several nodes over one Redis and one PostgreSQL, and what each answers when a store is away. Without the servers
//! these are skipped, and say so.

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::blind::Blind;
use support::stores::{self, Stores};
use support::{TestApp, postgres, redis};
use tokio::io::AsyncWriteExt;
use weir::clock::{Clock, SystemClock};
use weir::counters::{Applied, CLAIM_OPEN_SECONDS, Claim, Counters, SumRow};
use weir::decision::id::{ReservationId, WorkspaceId};
use weir::flow;
use weir::flow::sweep::Sweeper;
use weir::flow::verify::{Difference, verify};

/// Three nodes, or none where there are no servers.
async fn three() -> Option<Vec<TestApp>> {
    if !stores::can_be_production() {
        return None;
    }
    Some(TestApp::nodes(3).await)
}

/// A workspace with one hard monthly budget of tokens, which every node knows.
async fn workspace(nodes: &[TestApp], name: &str, hard: i64) {
    nodes[0].workspace_with_tokens(name, hard).await;
    join_all(nodes.iter().map(TestApp::follow)).await;
}

/// Everything that is derived is what the entries say, in both stores.
async fn books_agree(node: &TestApp) {
    let service = &node.service;
    let found = verify(&*service.ledger, Some(&*service.counters), &*service.clock, |_| {})
        .await
        .expect("verified");
    assert_eq!(found.differences, Vec::new());
}

fn id(answer: &Value) -> &str {
    answer["reservation_id"].as_str().expect("a reservation")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_requests_through_three_nodes_take_exactly_a_hundred() {
    let Some(nodes) = three().await else { return };
    for round in 0..5 {
        let name = format!("race-{round}");
        workspace(&nodes, &name, 100).await;
        let one = |number: usize| nodes[number % 3].authorize(&name).id(&format!("r{number}")).tokens(1, 0).send();
        let answers = join_all((0..1_000).map(one)).await;
        let allowed = answers.iter().filter(|answer| answer.json()["decision"] == "allow").count();
        assert_eq!(allowed, 100, "round {round}");
        for node in &nodes {
            assert_eq!(node.held(&name, "tokens").await, 100);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_id_through_three_nodes_is_one_hold_with_one_answer() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 1_000).await;
    let one = |number: usize| nodes[number % 3].authorize("ws").id("same").tokens(10, 20).allowed();
    let answers = join_all((0..50).map(one)).await;
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    assert_eq!(nodes[1].held("ws", "tokens").await, 30);
    nodes[2]
        .authorize("ws")
        .id("same")
        .tokens(11, 20)
        .send()
        .await
        .problem(422, "idempotency_mismatch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settle_release_and_expiry_on_different_nodes_have_one_end() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 1_000_000).await;
    let mut settled = 0;
    for ten in 0..20 {
        let race = async |number: usize| {
            let reservation = nodes[0]
                .authorize("ws")
                .id(&format!("{ten}-{number}"))
                .tokens(5, 5)
                .reserved()
                .await;
            let (settle, release) = tokio::join!(nodes[1].settle(&reservation, 5, 4), nodes[2].release(&reservation));
            let (settle, release) = (settle.status.as_u16(), release.status.as_u16());
            assert!(matches!((settle, release), (200, 409) | (409, 200)), "{settle} {release}");
            settle == 200
        };
        settled += join_all((0..50).map(race)).await.into_iter().filter(|settled| *settled).count() as i64;
    }
    assert_eq!(nodes[0].spent("ws", "tokens").await, 9 * settled);
    assert_eq!(nodes[0].held("ws", "tokens").await, 0);
    books_agree(&nodes[0]).await;
}

#[tokio::test]
async fn what_one_node_changes_the_others_follow_and_no_counter_moves() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 100).await;
    let reservation = nodes[1].authorize("ws").tokens(40, 20).reserved().await;
    nodes[1].settle(&reservation, 40, 20).await.expect(200);
    nodes[2].authorize("ws").tokens(50, 0).denied().await;
    // Node 0 raises the plan, then suspends the workspace; node 2 has it in its memory.
    let plan = json!({"name": "ws", "pricing": {"model": "flat", "base_usd": "0"},
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 500}]});
    nodes[0].put("/v1/admin/plans/ws", plan).await.expect(200);
    assert!(flow::policy::follow(&nodes[2].service).await.expect("followed"));
    let raised = nodes[2].authorize("ws").tokens(50, 0).allowed().await;
    assert_eq!(
        (&raised["budgets"][0]["hard"], &raised["budgets"][0]["spent"]),
        (&json!(500), &json!(60))
    );
    nodes[0]
        .put("/v1/admin/workspaces/ws", json!({"plan_id": "ws", "status": "suspended"}))
        .await
        .expect(200);
    assert_eq!(flow::workspace::follow(&nodes[2].service).await.expect("followed"), 1);
    assert_eq!(nodes[2].authorize("ws").denied().await["code"], "workspace_suspended");
    assert_eq!(nodes[1].spent("ws", "tokens").await, 60);
    books_agree(&nodes[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_the_background_follows_within_two_seconds() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 100).await;
    weir::app::background(&nodes[1].service, Duration::from_secs(1));
    nodes[1].authorize("ws").tokens(1, 0).send().await;
    nodes[0]
        .put("/v1/admin/workspaces/ws", json!({"plan_id": "ws", "status": "suspended"}))
        .await
        .expect(200);
    let suspended = async {
        while nodes[1].authorize("ws").tokens(1, 0).send().await.json()["code"] != "workspace_suspended" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), suspended)
        .await
        .expect("within two seconds");
}

/// How soon other nodes go by a policy that one has published.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(2);

/// Publishes plans on one node, and tells how long the quickest of them took to reach another one: a machine that is busy for a moment is not
/// what is measured.
async fn quickest(by: &TestApp, on: &TestApp, limits: [i64; 3]) -> Duration {
    let mut quickest = Duration::MAX;
    for hard in limits {
        let plan = json!({"name": "ws", "pricing": {"model": "flat", "base_usd": "0"},
            "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": hard}]});
        by.put("/v1/admin/plans/ws", plan).await.expect(200);
        let published = Instant::now();
        while on.budget("ws", "tokens").await["hard"] != hard {
            assert!(published.elapsed() < 10 * FOLLOWED_WITHIN, "{hard} is never followed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        quickest = quickest.min(published.elapsed());
    }
    quickest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_followed_within_two_seconds_by_word_of_it_and_by_the_poll_alone() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 100).await;
    // One looks by itself once an hour, so all that it follows it was told of.
    weir::app::background(&nodes[1].service, Duration::from_secs(3_600));
    weir::app::background(&nodes[2].service, Duration::from_secs(1));
    let told = quickest(&nodes[0], &nodes[1], [200, 300, 400]).await;
    assert!(told < FOLLOWED_WITHIN, "{told:?}");

    // What the mute node says goes to a function of the same name that tells nobody.
    let mut owner = PgConnection::connect(nodes[0].database()).await.expect("the database");
    let deaf = "CREATE FUNCTION pg_notify(TEXT, TEXT) RETURNS VOID LANGUAGE sql AS 'SELECT'";
    sqlx::raw_sql(deaf).execute(&mut owner).await.expect("a function");
    let mute = nodes[0].beside_through(format!("{},pg_catalog", nodes[0].database())).await;
    let looked = quickest(&mute, &nodes[2], [500, 600, 700]).await;
    assert!(looked < FOLLOWED_WITHIN, "{looked:?}");
    assert_eq!(nodes[1].budget("ws", "tokens").await["hard"], 400, "nobody was told");
    let told = quickest(&nodes[0], &nodes[1], [800, 900, 1_000]).await;
    assert!(told < FOLLOWED_WITHIN, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_one_node_drains_is_avoided_by_the_others_within_two_seconds() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 100_000).await;
    weir::app::background(&nodes[1].service, Duration::from_secs(1));
    assert_eq!(nodes[1].authorize("ws").model("big").allowed().await["provider"], "acme");
    for (state, provider) in [("drained", "zenith"), ("auto", "acme")] {
        nodes[0].put("/v1/admin/providers/acme", json!({"state": state})).await.expect(200);
        let followed = async {
            while nodes[1].authorize("ws").model("big").send().await.json()["provider"] != provider {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), followed)
            .await
            .expect("within two seconds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_counters_are_read_again_and_what_was_used_stays_used() {
    let Some(mut nodes) = three().await else { return };
    workspace(&nodes, "ws", 1_000).await;
    let settled = nodes[0].authorize("ws").tokens(100, 100).reserved().await;
    nodes[0].settle(&settled, 100, 100).await.expect(200);
    let lost = nodes[1].authorize("ws").tokens(100, 100).reserved().await;
    let node = nodes.remove(0).lose_counters().await;
    let one = |number: usize| nodes[number % 2].authorize("ws").id(&format!("after-{number}")).tokens(1, 0).send();
    let answers = join_all((0..1_000).map(one)).await;
    let allowed = answers.iter().filter(|answer| answer.json()["decision"] == "allow").count();
    assert_eq!(allowed, 800, "what was spent is known again; the hold died with its store");
    // What the lost hold was for happened all the same.
    let body = json!({"usage": {"input_tokens": 100, "output_tokens": 50}, "workspace_id": "ws", "feature": "chat", "model": "big"});
    let late = node.post(&format!("/v1/reservations/{lost}/settle"), body).await.expect(200);
    assert_eq!((&late["late"], &late["entry"]["counted"]["tokens"]), (&json!(true), &json!(150)));
    assert_eq!(node.spent("ws", "tokens").await, 350);
    node.authorize("ws").tokens(1, 0).denied().await;
    books_agree(&node).await;
}

#[tokio::test]
async fn verify_names_a_counter_that_is_not_what_the_ledger_says() {
    let Some(nodes) = three().await else { return };
    let node = &nodes[0];
    node.workspace_with_tokens("ws", 1_000).await;
    let reservation = node.authorize("ws").tokens(100, 100).reserved().await;
    node.settle(&reservation, 100, 100).await.expect(200);
    books_agree(node).await;
    let workspace = WorkspaceId::parse("ws").expect("a name");
    let page = node.service.ledger.verify_page(None, 100).await.expect("a page");
    let (_, row) = page.rows.iter().find(|(_, row)| row.spent == 200).expect("its row");
    let tampered = Applied {
        rows: vec![SumRow {
            spent: 7,
            version: row.version + 1_000,
            ..row.clone()
        }],
        reservation: None,
        purses: Vec::new(),
    };
    node.service
        .counters
        .apply(&workspace, &tampered, &[], &[], node.service.clock.now())
        .await
        .expect("applied");
    let service = &node.service;
    let found = verify(&*service.ledger, Some(&*service.counters), &*service.clock, |_| {})
        .await
        .expect("verified");
    let [Difference::Counter(difference)] = found.differences.as_slice() else {
        panic!("{:?}", found.differences);
    };
    assert_eq!((difference.ledger, difference.store), (200, 7));
}

#[tokio::test]
async fn readiness_tells_how_far_a_nodes_clock_is_from_those_of_its_stores() {
    let Some(nodes) = three().await else { return };
    let node = &nodes[0];
    for (seconds, status) in [(0, "ok"), (1, "ok"), (10, "apart"), (-10, "apart")] {
        node.clock.set(SystemClock.now().plus_seconds(seconds));
        let ready = node.get("/readyz").await.expect(200);
        let clock = &ready["clock"];
        assert_eq!(
            (&clock["status"], &clock["ahead_max_ms"]),
            (&json!(status), &json!(2_000)),
            "{ready}"
        );
        for store in ["counters_ahead_ms", "ledger_ahead_ms"] {
            let apart = clock[store].as_i64().expect("it is known") - seconds * 1_000;
            // The clock of the test stands still while the stores are asked.
            assert!((-900..=1).contains(&apart), "{store}: {clock}");
        }
    }
}

/// A node whose every copy into the counters of these is lost: another set of counters gets it.
async fn deaf(nodes: &[TestApp]) -> TestApp {
    let elsewhere = TestApp::nodes(1).await.remove(0);
    crippled(nodes, elsewhere.service.counters.clone()).await
}

/// A node whom the counters of these do not tell which holds there are.
async fn blind(nodes: &[TestApp]) -> TestApp {
    crippled(nodes, Arc::new(Blind(nodes[0].service.counters.clone()))).await
}

async fn crippled(nodes: &[TestApp], counters: Arc<dyn Counters>) -> TestApp {
    let service = Arc::new(flow::Service::new(
        counters,
        nodes[0].service.ledger.clone(),
        weir::policy::Holder::new(weir::policy::Policy::clone(&nodes[0].service.policy.load())),
        nodes[0].service.clock.clone(),
        flow::Options::default(),
    ));
    TestApp::serve_on(service, &nodes[0]).await
}

/// Spent and held of the tokens of `ws`, as the second node sees them.
async fn tokens(nodes: &[TestApp]) -> (i64, i64) {
    (nodes[1].spent("ws", "tokens").await, nodes[1].held("ws", "tokens").await)
}

#[tokio::test]
async fn the_sweep_copies_what_never_reached_the_counters() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 1_000).await;
    nodes[0].authorize("ws").tokens(1, 0).reserved().await;
    let described = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "direct", "usage": {"input_tokens": 30, "output_tokens": 12}});
    deaf(&nodes).await.post("/v1/usage", described).await.expect(200);
    assert_eq!(nodes[1].spent("ws", "tokens").await, 0, "the copy is lost");
    let (mut leader, mut other) = (Sweeper::default(), Sweeper::default());
    assert!(leader.sweep(&nodes[1].service).await.expect("swept") > 0);
    assert_eq!(other.sweep(&nodes[2].service).await.expect("swept"), 0, "one node sweeps");
    assert_eq!(nodes[2].spent("ws", "tokens").await, 42);
    books_agree(&nodes[2]).await;
}

/// A hold of 200 tokens, of which a stream has reported 42 to a node whose copies are lost.
async fn stream(nodes: &[TestApp]) -> String {
    workspace(nodes, "ws", 1_000).await;
    let held = nodes[0].authorize("ws").tokens(100, 100).reserved().await;
    let report = json!({"final": false, "workspace_id": "ws", "feature": "chat", "model": "big", "usage": {"input_tokens": 30, "output_tokens": 12}});
    let path = format!("/v1/reservations/{held}/settle");
    deaf(nodes).await.post(&path, report).await.expect(200);
    assert_eq!(tokens(nodes).await, (0, 200), "the copy is lost");
    held
}

#[tokio::test]
async fn the_sweep_tells_counters_how_far_streams_had_come() {
    let Some(nodes) = three().await else { return };
    let held = stream(&nodes).await;
    nodes[0].pass_seconds(60);
    assert!(Sweeper::default().sweep(&nodes[1].service).await.expect("swept") > 0);
    assert_eq!(tokens(&nodes).await, (42, 158));
    books_agree(&nodes[2]).await;
    nodes[2].settle(&held, 50, 50).await.expect(200);
    assert_eq!(tokens(&nodes).await, (100, 0));
    books_agree(&nodes[2]).await;
}

#[tokio::test]
async fn a_stream_whose_last_copy_was_lost_runs_on() {
    let Some(nodes) = three().await else { return };
    let held = stream(&nodes).await;
    let service = &nodes[0].service;
    let id = ReservationId::parse(&held).expect("an id");
    let standing = service.ledger.standing(id).await.expect("the ledger answers");
    let checkpoint = standing.and_then(|standing| standing.checkpoint).expect("a checkpoint");
    // The claim came to the counters before the commit, and the copy after it did not.
    let claim = Claim::UpTo(checkpoint.entry.counted);
    let claimed = service.counters.claim(id, claim, service.clock.now()).await;
    assert!(claimed.expect("the counters answer").expect("ready").is_some());
    nodes[0].pass_seconds(CLAIM_OPEN_SECONDS + 1);
    nodes[0].expire_due().await;
    let path = format!("/v1/reservations/{held}");
    assert_eq!(nodes[0].get(&path).await.expect(200)["state"], "held", "nobody has ended it");
    assert_eq!(tokens(&nodes).await, (42, 158));
    let settled = nodes[2].settle(&held, 50, 50).await.expect(200);
    assert_eq!(settled["late"], false);
    assert_eq!(tokens(&nodes).await, (100, 0));
    books_agree(&nodes[2]).await;
}

/// Spent and held of the tokens of `ws` after a hold of 600, of which a commit used 500 and its copy was lost, and what then came.
async fn after_a_lost_copy(nodes: &[TestApp], then: impl AsyncFnOnce(&str, Value)) -> (i64, i64) {
    workspace(nodes, "ws", 1_000).await;
    let held = nodes[0].authorize("ws").id("lost").tokens(500, 100).reserved().await;
    let report = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "usage": {"input_tokens": 400, "output_tokens": 100}});
    then(&held, report).await;
    let after = tokens(nodes).await;
    nodes[0].authorize("ws").tokens(501, 0).denied().await;
    nodes[0].authorize("ws").tokens(500, 0).allowed().await;
    books_agree(&nodes[2]).await;
    after
}

#[tokio::test]
async fn a_hold_that_a_repeated_settle_does_not_see_is_not_freed_without_what_was_spent() {
    let Some(nodes) = three().await else { return };
    let after = after_a_lost_copy(&nodes, async |held, report| {
        let path = format!("/v1/reservations/{held}/settle");
        deaf(&nodes).await.post(&path, report.clone()).await.expect(200);
        assert_eq!(tokens(&nodes).await, (0, 600), "the copy is lost");
        let again = blind(&nodes).await.post(&path, report).await.expect(200);
        assert_eq!(again["replayed"], true);
    });
    assert_eq!(after.await, (500, 0));
}

#[tokio::test]
async fn nor_by_usage_that_is_reported_again() {
    let Some(nodes) = three().await else { return };
    let after = after_a_lost_copy(&nodes, async |_, mut report| {
        report["request_id"] = json!("lost");
        deaf(&nodes).await.post("/v1/usage", report.clone()).await.expect(200);
        assert_eq!(tokens(&nodes).await, (0, 600), "the copy is lost");
        let again = blind(&nodes).await.post("/v1/usage", report).await.expect(200);
        assert_eq!(again["status"], "duplicate");
    });
    assert_eq!(after.await, (500, 0));
}

#[tokio::test]
async fn nor_by_a_repeated_release_of_a_stream() {
    let Some(nodes) = three().await else { return };
    let after = after_a_lost_copy(&nodes, async |held, mut report| {
        let deaf = deaf(&nodes).await;
        report["final"] = json!(false);
        deaf.post(&format!("/v1/reservations/{held}/settle"), report).await.expect(200);
        deaf.release(held).await.expect(200);
        assert_eq!(tokens(&nodes).await, (0, 600), "both copies are lost");
        nodes[1].release(held).await.expect(200);
    });
    assert_eq!(after.await, (500, 0));
}

#[tokio::test]
async fn nor_by_its_expiry_that_somebody_hears_of() {
    let Some(nodes) = three().await else { return };
    let listener = json!({"url": "https://example.com/hook", "workspace_id": "ws", "events": ["reservation.expired"]});
    nodes[0].post("/v1/admin/webhook-endpoints", listener).await.expect(201);
    join_all(nodes.iter().map(TestApp::follow)).await;
    let after = after_a_lost_copy(&nodes, async |held, report| {
        let path = format!("/v1/reservations/{held}/settle");
        deaf(&nodes).await.post(&path, report).await.expect(200);
        assert_eq!(tokens(&nodes).await, (0, 600), "the copy is lost");
        nodes[0].pass_seconds(3_600);
        nodes[0].expire_due().await;
    });
    assert_eq!(after.await, (500, 0));
}

#[tokio::test]
async fn the_sweep_tells_counters_of_grants_that_came_and_went_unheard() {
    let Some(nodes) = three().await else { return };
    workspace(&nodes, "ws", 1_000).await;
    let path = "/v1/admin/workspaces/ws/grants";
    let give = |amount: i64| json!({"budget_id": "tokens", "amount": amount, "expires_at": "2030-01-01T00:00:00Z"});
    let first = nodes[0].post(path, give(100)).await.expect(201);
    join_all(nodes.iter().map(TestApp::follow)).await;
    let granted = async || nodes[1].budget("ws", "tokens").await["granted"].as_i64();
    assert_eq!(granted().await, Some(100));
    let deaf = deaf(&nodes).await;
    deaf.post(path, give(50)).await.expect(201);
    assert_eq!(granted().await, Some(100), "the counters have not heard of it");
    let mut leader = Sweeper::default();
    leader.sweep(&nodes[1].service).await.expect("swept");
    assert_eq!(granted().await, Some(150));
    let first = format!("{path}/{}", first["grant_id"].as_str().expect("an id"));
    let voided = deaf.call(reqwest::Method::DELETE, &first, None).await;
    assert_eq!(voided.status.as_u16(), 204);
    assert_eq!(granted().await, Some(150), "the counters have not heard of it");
    nodes[0].pass_seconds(30);
    leader.sweep(&nodes[1].service).await.expect("swept");
    assert_eq!(granted().await, Some(50));
    nodes[2].authorize("ws").tokens(1_051, 0).denied().await;
    nodes[2].authorize("ws").tokens(1_050, 0).allowed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_plans_say_what_happens_and_nothing_is_lost() {
    if !stores::can_be_production() {
        return;
    }
    let mut server = redis::Server::start();
    let stores = Stores::empty_production_on(server.url()).await;
    let node = TestApp::on(stores).await;
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    node.workspace_on("strict", json!({"budgets": budgets})).await;
    node.workspace_on("lenient", json!({"budgets": budgets, "on_store_unavailable": "allow"}))
        .await;
    let held = node.authorize("strict").tokens(10, 10).reserved().await;
    let lenient = node.authorize("lenient").tokens(10, 10).reserved().await;
    server.kill();
    let refused = node.authorize("strict").send_once().await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "store_unavailable");
    let degraded = node.authorize("lenient").id("away").tokens(10, 10).allowed().await;
    assert_eq!((&degraded["degraded"], &degraded["budgets"]), (&json!(true), &json!([])));
    let call = |workspace: &str, parent: &str| node.authorize(workspace).tokens(1, 0).with("parent_reservation_id", parent);
    call("strict", &held).send_once().await.problem(503, "store_unavailable");
    let of_run = call("lenient", &lenient).allowed().await;
    assert_eq!((&of_run["degraded"], &of_run["held"]["tokens"]), (&json!(true), &json!(1)));
    assert_eq!(node.get_once("/readyz").await.json()["counters"], "unavailable");
    let fields = |workspace: &str| json!({"usage": {"input_tokens": 10, "output_tokens": 5}, "workspace_id": workspace, "feature": "chat", "model": "big"});
    let settle = async |reservation: &str, workspace: &str| {
        let path = format!("/v1/reservations/{reservation}/settle");
        node.post(&path, fields(workspace)).await.expect(200)
    };
    settle(id(&degraded), "lenient").await;
    settle(&held, "strict").await;
    server.run();
    assert_eq!(node.spent("strict", "tokens").await, 15);
    assert_eq!(node.spent("lenient", "tokens").await, 15);
    let again = settle(&held, "strict").await;
    assert_eq!(again["replayed"], true);
    assert_eq!(node.get_once("/readyz").await.status.as_u16(), 200);
    books_agree(&node).await;
}

/// How often the store was asked to look through holds: nothing else reads several records at once.
fn looks_through_holds(server: &redis::Server) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
    line.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_of_refused_requests_seldom_asks_when_it_frees_up() {
    if !stores::can_be_production() {
        return;
    }
    let server = redis::Server::start();
    let node = TestApp::on(Stores::empty_production_on(server.url()).await).await;
    node.workspace_with_tokens("ws", 1_000).await;
    join_all((0..100).map(|_| node.authorize("ws").tokens(10, 0).allowed())).await;
    let refused = async |tokens: i64| {
        let answer = node.authorize("ws").tokens(tokens, 0).denied().await;
        let reason = &answer["reasons"][0];
        assert_eq!(
            (&reason["blocked_by"], &reason["retry_after_seconds"]),
            (&json!("held"), &json!(600))
        );
    };
    join_all((0..50).map(|_| refused(10))).await;
    for _ in 0..50 {
        refused(10).await;
    }
    assert_eq!(looks_through_holds(&server), 1, "all of them together");
    refused(160).await;
    assert_eq!(looks_through_holds(&server), 2, "for more it looks again, at one page");
    for tokens in 11..60 {
        refused(tokens).await;
    }
    assert_eq!(looks_through_holds(&server), 2, "nothing else lies between");
    node.clock.advance_micros(100_000);
    refused(10).await;
    assert_eq!(looks_through_holds(&server), 3, "what it was told is forgotten after a moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_authorize_goes_on_and_settle_asks_to_be_sent_again() {
    if !stores::can_be_production() {
        return;
    }
    let server = postgres::Postgres::start().expect("a PostgreSQL");
    let node = TestApp::on(Stores::empty_production_in(&server).await).await;
    node.workspace_with_tokens("ws", 1_000).await;
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    node.workspace_on("lenient", json!({"budgets": budgets, "on_store_unavailable": "allow"}))
        .await;
    node.authorize("lenient").tokens(10, 10).reserved().await;
    let held = node.authorize("ws").tokens(10, 10).reserved().await;
    server.stop_immediately();
    let more = node.authorize("ws").tokens(10, 10).reserved().await;
    let path = format!("/v1/reservations/{held}/settle");
    let refused = node
        .post_once(&path, json!({"usage": {"input_tokens": 10, "output_tokens": 5}}))
        .await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503, "store_unavailable");
    let release = node.post_once(&format!("/v1/reservations/{more}/release"), json!({})).await;
    release.problem(503, "store_unavailable");
    assert_eq!(node.get_once("/readyz").await.json()["ledger"], "unavailable");
    // Lost counters cannot be rebuilt now: plans say what happens then, as when the counters are away.
    node.service.counters.forget_rows(node.clock.now()).await.expect("forgotten");
    let strict = node.authorize("ws").tokens(10, 10).send_once().await;
    strict.problem(503, "store_unavailable");
    let lenient = node.authorize("lenient").tokens(10, 10).send().await.expect(200);
    assert_eq!(
        (&lenient["decision"], &lenient["degraded"]),
        (&json!("allow"), &json!(true)),
        "{lenient}"
    );
    server.start_again();
    // A rebuild that came to nothing is waited for, by a clock that stands still here.
    node.pass_seconds(1);
    let settled = node.settle(&held, 10, 5).await.expect(200);
    assert_eq!(settled["late"], false, "the claim kept the hold");
    node.release(&more).await.expect(200);
    assert_eq!((node.spent("ws", "tokens").await, node.held("ws", "tokens").await), (15, 0));
    assert_eq!(node.ledger("ws").await.len(), 1);
    books_agree(&node).await;
}

/// Waits until it is true, for as long as nobody should have to.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_true().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a request over a connection of its own.
async fn send_raw(node: &TestApp, path: &str, body: &Value) -> tokio::net::TcpStream {
    let address = node.url.strip_prefix("http://").expect("an address");
    let mut connection = tokio::net::TcpStream::connect(address).await.expect("the service listens");
    let (body, token) = (body.to_string(), node.token("admin", None));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.expect("it is sent");
    connection
}

/// Nothing runs beside requests here and the clock stands still, so nobody else can bring to its end what the caller left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_has_begun_who_hangs_up_comes_to_its_end() {
    let Some(nodes) = three().await else { return };
    let node = &nodes[0];
    let mut keeper = PgConnection::connect(node.database()).await.expect("the database");
    let mut watcher = PgConnection::connect(node.database()).await.expect("the database");
    let usage = json!({"input_tokens": 30, "output_tokens": 12});
    for (name, act, body, left) in [
        ("settled", "settle", json!({"usage": usage}), (42, 0)),
        ("released", "release", json!({}), (0, 0)),
        ("reported", "settle", json!({"usage": usage, "final": false}), (42, 158)),
    ] {
        workspace(&nodes, name, 1_000).await;
        let held = node.authorize(name).tokens(100, 100).reserved().await;
        let lock = format!("BEGIN; SELECT FROM workspace WHERE workspace_id = '{name}' FOR UPDATE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut keeper).await.expect("locked");
        let connection = send_raw(node, &format!("/v1/reservations/{held}/{act}"), &body).await;
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'weir' \
                     AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'workspace'::regclass))";
        until("the ledger keeps it waiting", async || {
            let waits = sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut watcher);
            waits.await.expect("the database")
        })
        .await;
        // As a process that is ended: the connection is reset, and the server has time to see it.
        connection.set_zero_linger().expect("a socket");
        drop(connection);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let id = ReservationId::parse(&held).expect("an id");
        let standing = async || node.service.ledger.standing(id).await.expect("the ledger answers");
        assert!(standing().await.is_none(), "{name}: it waits until the caller is gone");
        sqlx::raw_sql("ROLLBACK").execute(&mut keeper).await.expect("unlocked");

        until(&format!("{name} is in the ledger"), async || standing().await.is_some()).await;
        let counted = async || (nodes[1].spent(name, "tokens").await, nodes[1].held(name, "tokens").await);
        until(&format!("{name} is in the counters"), async || counted().await == left).await;
        let standing = standing().await.expect("it stands");
        assert_eq!(
            (standing.entry.is_some(), standing.end.is_some()),
            match name {
                "settled" => (true, true),
                "released" => (false, true),
                _ => (false, false),
            }
        );
        books_agree(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_redis_loads_its_data_plans_say_what_happens_and_who_waited_is_answered() {
    if !stores::can_be_production() {
        return;
    }
    let mut server = redis::Server::start();
    let node = TestApp::on(Stores::empty_production_on(server.url()).await).await;
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    node.workspace_on("strict", json!({"budgets": budgets})).await;
    node.workspace_on("lenient", json!({"budgets": budgets, "on_store_unavailable": "allow"}))
        .await;
    let settled = node.authorize("strict").tokens(100, 0).reserved().await;
    node.settle(&settled, 100, 0).await.expect(200);
    node.authorize("strict").tokens(20, 0).reserved().await;
    node.authorize("lenient").tokens(20, 0).reserved().await;
    server.run_loading();
    let (refused, degraded, ready) = tokio::join!(
        node.authorize("strict").send_once(),
        node.authorize("lenient").tokens(10, 10).allowed(),
        node.get_once("/readyz")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "store_unavailable");
    assert_eq!(degraded["degraded"], true);
    assert_eq!(ready.json()["counters"], "unavailable");
    // Who asks while it loads is answered when it has loaded, if that is soon enough.
    let (refused, waited) = (server.refused_while_loading(), async {
        let refused = server.refused_while_loading();
        until("somebody waits", async || server.refused_while_loading() > refused + 3).await;
        server.load_the_rest();
    });
    assert!(refused > 0, "it was Redis that refused");
    let (answer, ()) = tokio::join!(node.authorize("strict").tokens(1, 0).send_once(), waited);
    let answer = answer.expect(200);
    assert_eq!(
        (&answer["decision"], &answer["degraded"]),
        (&json!("allow"), &json!(false)),
        "{answer}"
    );
    // What it had came back, of another process: it was read from the ledger again, and what is held is held.
    assert_eq!(
        (node.spent("strict", "tokens").await, node.held("strict", "tokens").await),
        (100, 21)
    );
    assert_eq!(node.get_once("/readyz").await.status.as_u16(), 200);
    books_agree(&node).await;
}
