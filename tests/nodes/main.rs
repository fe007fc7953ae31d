//! The production profile: several nodes over one Redis and one PostgreSQL, and what each answers when a store is away. Without the servers
//! these are skipped, and say so.

#[path = "../support/mod.rs"]
mod support;

mod away;
mod copies;
mod periods;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};
use support::TestApp;
use support::stores;
use weir::clock::{Clock, SystemClock};
use weir::counters::{Applied, SumRow};
use weir::decision::id::WorkspaceId;
use weir::flow;
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
