//! Copies into the counters that were lost: the sweep makes them again, and whoever ends a hold meanwhile brings what was spent.

use super::{books_agree, three, workspace};
use crate::support::TestApp;
use crate::support::blind::Blind;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use weir::counters::{CLAIM_OPEN_SECONDS, Claim, Counters};
use weir::decision::id::ReservationId;
use weir::flow;
use weir::flow::sweep::Sweeper;

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
async fn usage_that_is_reported_again_frees_no_unseen_hold_without_what_was_spent() {
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
async fn a_repeated_release_frees_no_stream_without_what_it_spent() {
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
async fn an_expiry_that_somebody_hears_of_frees_no_hold_without_what_was_spent() {
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
