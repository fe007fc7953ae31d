//! Settle, release, extend, expire and direct usage over HTTP: what was used is recorded once, and the books agree.

use crate::support;
use crate::support::TestApp;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weir::clock::Clock;
use weir::counters::Claim;
use weir::decision::amount::Amounts;
use weir::decision::id::ReservationId;

fn usage(input: i64, output: i64) -> Value {
    json!({"input_tokens": input, "output_tokens": output})
}

fn path(reservation: &str, verb: &str) -> String {
    format!("/v1/reservations/{reservation}/{verb}")
}

/// Every budget over all use is what the ledger sums up to.
async fn books_agree(app: &TestApp, workspace: &str, budget: &str) {
    let entries = app.ledger(workspace).await;
    let sum: i64 = entries
        .iter()
        .map(|entry| entry["counted"]["tokens"].as_i64().expect("a number"))
        .sum();
    assert_eq!(app.spent(workspace, budget).await, sum);
    let wrong = app.service.ledger.verify().await.expect("the ledger can be verified");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn a_settle_records_what_was_used_and_frees_the_rest() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let held = app
        .authorize("ws")
        .user("u")
        .with("tags", json!({"team": "search"}))
        .id("r")
        .allowed()
        .await;
    let reservation = held["reservation_id"].as_str().expect("an id");
    let body =
        json!({"usage": usage(100, 20), "latency_ms": 1842, "provider_request_id": "p-1", "quality_score": 0.93, "outcome": "success"});
    let settled = app.post(&path(reservation, "settle"), body).await.expect(200);
    assert_eq!((&settled["replayed"], &settled["late"]), (&json!(false), &json!(false)));
    assert_eq!(settled["beyond_hold"], json!({"tokens": 0, "usd": "0.000000000"}));
    let entry = &settled["entry"];
    let expected = json!({"kind": "usage", "request_id": "r", "reservation_id": reservation, "workspace_id": "ws", "user_id": "u", "feature": "chat",
        "model": "big", "requested_model": "big", "tier": "frontier", "provider": "acme", "mode": "interactive", "requests": 1, "input_tokens": 100,
        "cache_read_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, "output_tokens": 20, "reasoning_tokens": 0,
        "cache_hit": false, "latency_ms": 1842, "outcome": "success", "priced": true, "late": false, "cost_usd": "0.001600000",
        "list_cost_usd": "0.001600000", "counted": {"tokens": 120, "usd": "0.001600000", "requests": 1}, "price_version": held["price_version"],
        "plan_id": "ws", "plan_version": 1, "tags": {"team": "search"}, "provider_request_id": "p-1", "quality_score": 0.93,
        "occurred_at": "2025-11-21T10:00:00Z"});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&entry[name], value, "{name}");
    }
    assert_eq!(
        (&settled["budgets"][0]["spent"], &settled["budgets"][0]["held"]),
        (&json!(120), &json!(0))
    );
    assert_eq!(app.ledger("ws").await, vec![entry.clone()]);
    books_agree(&app, "ws", "tokens").await;
}

#[tokio::test]
async fn the_same_settle_is_answered_alike_at_any_time_and_another_is_a_conflict() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").reserved().await;
    let first = app.settle(&reservation, 100, 20).await.expect(200);
    for seconds in [0, 3_600, 30 * 3_600, 10 * 24 * 3_600] {
        app.pass_seconds(seconds);
        let again = app.settle(&reservation, 100, 20).await.expect(200);
        assert_eq!((&again["replayed"], &again["entry"]), (&json!(true), &first["entry"]));
        app.settle(&reservation, 100, 21).await.problem(409, "settle_conflict");
    }
    // The same numbers in a provider's own words are the same report.
    let raw = json!({"usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}});
    assert_eq!(app.post(&path(&reservation, "settle"), raw).await.expect(200)["replayed"], true);
    assert_eq!(app.ledger("ws").await.len(), 1);
    let app = app.restart().await;
    assert_eq!(
        app.settle(&reservation, 100, 20).await.expect(200)["entry"],
        first["entry"],
        "also after a restart"
    );
    app.settle(&reservation, 1, 1).await.problem(409, "settle_conflict");
}

#[tokio::test]
async fn usage_beyond_the_hold_is_recorded_and_named_and_the_next_is_denied() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 200).await;
    let reservation = app.authorize("ws").tokens(100, 50).reserved().await;
    let settled = app.settle(&reservation, 100, 140).await.expect(200);
    assert_eq!(settled["beyond_hold"], json!({"tokens": 90, "usd": "0.002700000"}));
    assert_eq!(app.spent("ws", "tokens").await, 240);
    app.authorize("ws").tokens(1, 0).denied().await;
}

#[tokio::test]
async fn after_expiry_usage_is_recorded_once_and_late_in_the_period_of_its_authorize() {
    let app = TestApp::start_at("2025-11-30T23:59:00Z").await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").reserved().await;
    app.pass_seconds(601);
    let settled = app.settle(&reservation, 100, 20).await.expect(200);
    assert_eq!(
        (&settled["late"], &settled["entry"]["late"], &settled["entry"]["occurred_at"]),
        (&json!(true), &json!(true), &json!("2025-11-30T23:59:00Z"))
    );
    assert_eq!(app.settle(&reservation, 100, 20).await.expect(200)["replayed"], true);
    assert_eq!(app.ledger("ws").await.len(), 1);
    let december = app.budget("ws", "tokens").await;
    assert_eq!(
        (&december["spent"], &december["held"]),
        (&json!(0), &json!(0)),
        "December has nothing of it"
    );
    app.set_clock("2025-11-30T23:59:59Z");
    assert_eq!(app.spent("ws", "tokens").await, 120);
}

#[tokio::test]
async fn an_expired_hold_is_free_by_comparison() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 150).await;
    let reservation = app.authorize("ws").with("hold_seconds", 30).reserved().await;
    app.authorize("ws").denied().await;
    app.pass_seconds(30);
    assert_eq!(app.held("ws", "tokens").await, 0);
    assert_eq!(
        app.get(&format!("/v1/reservations/{reservation}")).await.expect(200)["state"],
        "expired"
    );
    app.authorize("ws").allowed().await;
}

#[tokio::test]
async fn release_frees_and_is_final() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 150).await;
    let reservation = app.authorize("ws").reserved().await;
    for _ in 0..2 {
        assert_eq!(app.release(&reservation).await.expect(200)["state"], "released");
    }
    assert_eq!(app.held("ws", "tokens").await, 0);
    app.settle(&reservation, 1, 1).await.problem(409, "reservation_released");
    assert_eq!(app.spent("ws", "tokens").await, 0);
    let settled = app.authorize("ws").reserved().await;
    app.settle(&settled, 10, 1).await.expect(200);
    app.release(&settled).await.problem(409, "already_settled");
    app.call(Method::POST, &path(&settled, "extend"), Some(json!({"hold_seconds": 60})))
        .await
        .problem(409, "already_settled");
    let expired = app.authorize("ws").with("hold_seconds", 1).tokens(1, 1).reserved().await;
    app.pass_seconds(5);
    app.release(&expired).await.expect(200);
    let app = app.restart().await;
    app.release(&reservation).await.expect(200);
    app.settle(&reservation, 1, 1).await.problem(409, "reservation_released");
}

#[tokio::test]
async fn extending_moves_the_expiry_later_and_never_earlier_nor_beyond_a_week() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").reserved().await;
    let extend = async |seconds: i64| app.post(&path(&reservation, "extend"), json!({"hold_seconds": seconds})).await;
    assert_eq!(extend(60).await.expect(200)["expires_at"], "2025-11-21T10:10:00Z");
    assert_eq!(extend(3_600).await.expect(200)["expires_at"], "2025-11-21T11:00:00Z");
    app.pass_seconds(3_000);
    assert_eq!(extend(604_800).await.expect(200)["expires_at"], "2025-11-28T10:00:00Z");
    extend(0).await.problem(422, "unacceptable");
    extend(604_801).await.problem(422, "unacceptable");
    app.set_clock("2025-11-28T10:00:00Z");
    extend(60).await.problem(409, "reservation_expired");
}

/// One reservation that settle, release and expiry want at the same time; true: settle got it.
async fn race(app: &TestApp, round: usize) -> bool {
    let reservation = app.authorize("ws").with("hold_seconds", 5).reserved().await;
    let expiry = async {
        // The clock is everybody's: holds of other rounds run out too, wherever they are.
        if round.is_multiple_of(3) {
            app.pass_seconds(5);
            app.expire_due().await;
        }
    };
    let (settled, released, ()) = tokio::join!(app.settle(&reservation, 10, 1), app.release(&reservation), expiry);
    match (settled.status.as_u16(), released.status.as_u16()) {
        (200, 409) => {
            released.problem(409, "already_settled");
            true
        }
        (409, 200) => {
            settled.problem(409, "reservation_released");
            false
        }
        both => panic!("round {round}: {both:?}: {} {}", settled.text, released.text),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settle_release_and_expiry_race_to_one_end() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"max_open_reservations": 100000, "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 100000000}]}),
    )
    .await;
    let mut settled = 0;
    // A hundred at once, because they share commits then.
    for hundred in 0..100 {
        let rounds = (0..100).map(|round| race(&app, hundred * 100 + round));
        settled += join_all(rounds).await.into_iter().filter(|settled| *settled).count();
    }
    assert!((1..10_000).contains(&settled), "one of them always won: {settled}");
    assert_eq!(app.spent("ws", "tokens").await, settled as i64 * 11);
    assert_eq!(app.held("ws", "tokens").await, 0);
    books_agree(&app, "ws", "tokens").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_settles_at_once_record_once() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").reserved().await;
    let answers = join_all((0..50).map(|_| app.settle(&reservation, 100, 20))).await;
    let answers: Vec<Value> = answers.into_iter().map(|answer| answer.expect(200)).collect();
    assert_eq!(answers.iter().filter(|answer| answer["replayed"] == false).count(), 1);
    assert!(answers.iter().all(|answer| answer["entry"] == answers[0]["entry"]));
    assert_eq!(app.ledger("ws").await.len(), 1);
}

#[tokio::test]
async fn checkpoints_in_any_order_are_one_total() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").tokens(100, 200).reserved().await;
    let check = async |output: i64| {
        app.post(&path(&reservation, "settle"), json!({"usage": usage(100, output), "final": false}))
            .await
            .expect(200)
    };
    for (output, total, spent, held) in [(10, 10, 110, 190), (60, 60, 160, 140), (60, 60, 160, 140), (30, 60, 160, 140)] {
        let answer = check(output).await;
        assert_eq!(
            (&answer["entry"], &answer["checkpoint"]["output_tokens"], &answer["stop"]),
            (&Value::Null, &json!(total), &json!(false))
        );
        let budget = app.budget("ws", "tokens").await;
        assert_eq!((&budget["spent"], &budget["held"]), (&json!(spent), &json!(held)), "after {output}");
    }
    let settled = app.settle(&reservation, 100, 90).await.expect(200);
    assert_eq!(settled["entry"]["counted"]["tokens"], 190);
    assert_eq!(app.ledger("ws").await.len(), 1);
    books_agree(&app, "ws", "tokens").await;
    app.post(&path(&reservation, "settle"), json!({"usage": usage(100, 95), "final": false}))
        .await
        .problem(409, "already_settled");
}

#[tokio::test]
async fn the_final_report_of_a_stream_counts_as_it_says() {
    let app = TestApp::start().await;
    for (id, last) in [("moved", 90), ("fewer", 5)] {
        app.workspace_with_tokens(id, 1_000).await;
        let reservation = app.authorize(id).tokens(100, 200).reserved().await;
        let settle = async |usage: Value, is_final: bool| {
            let body = json!({"usage": usage, "final": is_final});
            app.post(&path(&reservation, "settle"), body).await.expect(200)
        };
        settle(usage(100, 40), false).await;
        // Forty of the input turn out to have been read from the cache: per pool the maximum counts, so they stand twice for now.
        let cached = |output: i64| json!({"input_tokens": 60, "cache_read_tokens": 40, "output_tokens": output});
        settle(cached(40), false).await;
        assert_eq!(app.spent(id, "tokens").await, 180, "{id}");
        let settled = settle(cached(last), true).await;
        assert_eq!(settled["entry"]["counted"]["tokens"], 100 + last, "{id}");
        assert_eq!(
            (app.spent(id, "tokens").await, app.held(id, "tokens").await),
            (100 + last, 0),
            "{id}"
        );
        books_agree(&app, id, "tokens").await;
    }
}

#[tokio::test]
async fn a_stream_that_passes_a_hard_limit_is_told_to_stop() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 200).await;
    let reservation = app.authorize("ws").tokens(100, 50).reserved().await;
    let check = async |output: i64| {
        app.post(&path(&reservation, "settle"), json!({"usage": usage(100, output), "final": false}))
            .await
            .expect(200)["stop"]
            .clone()
    };
    assert_eq!(check(50).await, false);
    assert_eq!(check(101).await, true);
}

#[tokio::test]
async fn what_a_vanished_stream_reported_stays_spent_and_a_late_settle_corrects_it() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").tokens(100, 200).reserved().await;
    app.post(&path(&reservation, "settle"), json!({"usage": usage(100, 40), "final": false}))
        .await
        .expect(200);
    app.pass_seconds(601);
    assert_eq!((app.spent("ws", "tokens").await, app.held("ws", "tokens").await), (140, 0));
    app.expire_due().await;
    let entries = app.ledger("ws").await;
    assert_eq!(
        (entries.len(), &entries[0]["outcome"], &entries[0]["counted"]["tokens"]),
        (1, &json!("abandoned"), &json!(140))
    );
    let settled = app.settle(&reservation, 100, 70).await.expect(200);
    assert_eq!(
        (&settled["entry"]["kind"], &settled["entry"]["corrects"], &settled["late"]),
        (&json!("correction"), &entries[0]["entry_id"], &json!(true))
    );
    assert_eq!(settled["entry"]["counted"]["tokens"], 30);
    assert_eq!(app.settle(&reservation, 100, 70).await.expect(200)["entry"], settled["entry"]);
    assert_eq!(app.spent("ws", "tokens").await, 170);
    books_agree(&app, "ws", "tokens").await;
}

#[tokio::test]
async fn a_checkpoint_survives_a_restart() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").tokens(100, 200).reserved().await;
    app.post(&path(&reservation, "settle"), json!({"usage": usage(100, 40), "final": false}))
        .await
        .expect(200);
    let app = app.restart().await;
    assert_eq!(app.spent("ws", "monthly_tokens").await, 140);
    app.pass_seconds(601);
    app.expire_due().await;
    assert_eq!(app.ledger("ws").await[0]["outcome"], "abandoned");
    assert_eq!(app.spent("ws", "monthly_tokens").await, 140);
}

#[tokio::test]
async fn releasing_after_a_checkpoint_keeps_what_was_reported() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").tokens(100, 200).reserved().await;
    app.post(&path(&reservation, "settle"), json!({"usage": usage(100, 40), "final": false}))
        .await
        .expect(200);
    let released = app.release(&reservation).await.expect(200);
    assert_eq!(
        (&released["entry"]["counted"]["tokens"], &released["entry"]["outcome"]),
        (&json!(140), &json!("cancelled"))
    );
    let budget = app.budget("ws", "monthly_tokens").await;
    assert_eq!((&budget["spent"], &budget["held"]), (&json!(140), &json!(0)));
    app.settle(&reservation, 100, 70).await.problem(409, "reservation_released");
}

#[tokio::test]
async fn a_plan_may_charge_what_nobody_settled() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"on_expiry": "charge", "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]}),
    )
    .await;
    let reservation = app.authorize("ws").tokens(100, 50).reserved().await;
    app.pass_seconds(601);
    assert_eq!(app.held("ws", "tokens").await, 150, "it stays held until the ledger has it");
    app.expire_due().await;
    assert_eq!((app.spent("ws", "tokens").await, app.held("ws", "tokens").await), (150, 0));
    assert_eq!(app.ledger("ws").await[0]["outcome"], "abandoned");
    app.settle(&reservation, 100, 10).await.expect(200);
    assert_eq!(app.spent("ws", "tokens").await, 110);
    books_agree(&app, "ws", "tokens").await;
}

/// A settle said that it was about to record and was never heard of again: the node died. Nobody gets that for nothing.
#[tokio::test]
async fn a_plan_charges_also_what_somebody_began_to_settle() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"on_expiry": "charge", "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]}),
    )
    .await;
    for (begun, claim) in [
        ("settle", Claim::Final),
        (
            "checkpoint",
            Claim::UpTo(Amounts {
                tokens: 30,
                ..Amounts::ZERO
            }),
        ),
    ] {
        let before = app.spent("ws", "tokens").await;
        let reservation = app.authorize("ws").tokens(100, 50).reserved().await;
        let id = ReservationId::parse(&reservation).expect("an id");
        let claimed = app.service.counters.claim(id, claim, app.clock.now()).await;
        assert!(claimed.is_ok_and(|claimed| claimed.is_ok_and(|record| record.is_some())), "{begun}");
        app.pass_seconds(601);
        app.expire_due().await;
        assert_eq!(
            (app.spent("ws", "tokens").await, app.held("ws", "tokens").await),
            (before + 150, 0),
            "{begun}"
        );
        app.settle(&reservation, 100, 10).await.expect(200);
        assert_eq!(
            app.spent("ws", "tokens").await,
            before + 110,
            "a {begun} that comes late records the difference"
        );
    }
    books_agree(&app, "ws", "tokens").await;
}

/// More than one round asks for.
#[tokio::test]
async fn whatever_is_due_is_ended_at_once() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"on_expiry": "charge", "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1_000_000}]}),
    )
    .await;
    for _ in 0..620 {
        app.authorize("ws").tokens(10, 5).reserved().await;
    }
    app.pass_seconds(601);
    let ended = weir::flow::expire::expire_due(&app.service).await;
    assert!(ended.as_ref().is_ok_and(|ended| *ended >= 620), "{ended:?}");
    assert_eq!((app.spent("ws", "tokens").await, app.held("ws", "tokens").await), (620 * 15, 0));
    let wrong = app.service.ledger.verify().await.expect("the ledger can be verified");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn requests_of_a_rate_stay_counted_after_release() {
    let app = TestApp::start().await;
    let plan = json!({"budgets": [{"id": "rate", "unit": "requests", "period": "minute", "hard": 2}, {"id": "daily", "unit": "requests", "period": "day", "hard": 100}]});
    app.workspace_on("ws", plan).await;
    for _ in 0..2 {
        let reservation = app.authorize("ws").reserved().await;
        app.release(&reservation).await.expect(200);
    }
    let denied = app.authorize("ws").denied().await;
    assert_eq!(
        (&denied["reasons"][0]["blocked_by"], &denied["reasons"][0]["retry_after_seconds"]),
        (&json!("rate"), &json!(60))
    );
    assert_eq!(app.held("ws", "daily").await, 0);
    app.pass_seconds(60);
    app.authorize("ws").allowed().await;
}

#[tokio::test]
async fn a_lost_reservation_settles_when_it_is_described_again() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").reserved().await;
    let app = app.lose_counters().await;
    let gone = app.release(&reservation).await.problem(404, "reservation_unknown");
    assert!(
        !gone["detail"].as_str().expect("a detail").contains("resend"),
        "a release takes no body: {gone}"
    );
    let unknown = app.settle(&reservation, 100, 20).await.problem(404, "reservation_unknown");
    assert!(unknown["detail"].as_str().expect("a detail").contains("workspace_id"), "{unknown}");
    let body =
        |workspace: &str| json!({"usage": usage(100, 20), "workspace_id": workspace, "feature": "chat", "model": "big", "user_id": "u"});
    app.post(&path(&reservation, "settle"), body("another"))
        .await
        .problem(404, "reservation_unknown");
    for moment in ["1970-01-01T00:00:00Z", "2025-10-17T09:59:59Z", "2025-11-21T10:05:01Z"] {
        let mut body = body("ws");
        body["occurred_at"] = json!(moment);
        // Before the first price of a model its use would have no cost at all.
        app.post(&path(&reservation, "settle"), body).await.problem(422, "unacceptable");
    }
    let settled = app.post(&path(&reservation, "settle"), body("ws")).await.expect(200);
    assert_eq!(
        (&settled["late"], &settled["entry"]["counted"]["tokens"]),
        (&json!(true), &json!(120))
    );
    assert_eq!(
        app.post(&path(&reservation, "settle"), body("ws")).await.expect(200)["replayed"],
        true
    );
    assert_eq!(app.spent("ws", "monthly_tokens").await, 120);
}

#[tokio::test]
async fn a_settle_that_names_another_workspace_is_of_no_reservation() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").reserved().await;
    let named = |workspace: &str| json!({"usage": usage(100, 20), "workspace_id": workspace, "feature": "chat", "model": "big"});
    for _ in 0..2 {
        app.post(&path(&reservation, "settle"), named("another"))
            .await
            .problem(404, "reservation_unknown");
        app.post(&path(&reservation, "settle"), named("ws")).await.expect(200);
    }
    assert_eq!(app.ledger("ws").await.len(), 1);
    let app = app.restart().await;
    app.post(&path(&reservation, "settle"), named("another"))
        .await
        .problem(404, "reservation_unknown");
}

#[tokio::test]
async fn the_model_that_ran_decides_the_price_and_the_authorize_its_version() {
    let app = TestApp::start_at("2025-12-31T23:59:59Z").await;
    let reservation = app.authorize("ws").reserved().await;
    app.pass_seconds(2);
    // big costs less from 1 January on, but this was authorized before.
    let settled = app.settle(&reservation, 1_000, 1_000).await.expect(200);
    assert_eq!(settled["entry"]["cost_usd"], "0.040000000");
    let reservation = app.authorize("ws").reserved().await;
    let settled = app
        .post(
            &path(&reservation, "settle"),
            json!({"usage": usage(1_000, 1_000), "model": "acme/mid-20250101"}),
        )
        .await
        .expect(200);
    let entry = &settled["entry"];
    assert_eq!(
        (
            &entry["model"],
            &entry["requested_model"],
            &entry["cost_usd"],
            &entry["list_cost_usd"]
        ),
        (&json!("mid"), &json!("big"), &json!("0.018000000"), &json!("0.032000000"))
    );
}

#[tokio::test]
async fn a_price_changed_in_between_does_not_reprice_what_was_authorized() {
    let app = TestApp::start().await;
    let held = app.authorize("ws").model("small").allowed().await;
    let mut small = app.get("/v1/admin/models/small").await.expect(200);
    small["prices"] = json!([{"effective_from": "2024-01-01", "input": "100", "output": "300"}]);
    app.put("/v1/admin/models/small", small).await.expect(200);
    let settled = app
        .settle(held["reservation_id"].as_str().expect("an id"), 100_000, 0)
        .await
        .expect(200);
    assert_eq!(
        (&settled["entry"]["cost_usd"], &settled["entry"]["price_version"]),
        (&json!("0.100000000"), &held["price_version"])
    );
    let after = app.authorize("ws").model("small").allowed().await;
    assert_ne!(after["price_version"], held["price_version"]);
    assert_eq!(after["held"]["usd"], "0.025000000");
}

#[tokio::test]
async fn an_unpriced_model_is_recorded_as_unpriced_and_counts_what_was_held() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "money", "unit": "usd", "period": "month", "hard": "10"}]}),
    )
    .await;
    let reservation = app.authorize("ws").reserved().await;
    let settled = app
        .post(
            &path(&reservation, "settle"),
            json!({"usage": usage(100, 20), "model": "who-knows"}),
        )
        .await
        .expect(200);
    let entry = &settled["entry"];
    assert_eq!(
        (&entry["model"], &entry["cost_usd"], &entry["priced"], &entry["price_version"]),
        (&json!("who-knows"), &Value::Null, &json!(false), &Value::Null)
    );
    assert_eq!(entry["counted"]["usd"], "0.002500000");
    assert_eq!(app.budget("ws", "money").await["spent"], "0.002500000");
}

#[tokio::test]
async fn a_failed_request_without_tokens_counts_no_request() {
    let app = TestApp::start().await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "calls", "unit": "requests", "period": "month", "hard": 10}]}),
    )
    .await;
    for (outcome, output, counted) in [("error", 0, 0), ("cancelled", 0, 0), ("error", 5, 1), ("success", 0, 1)] {
        let reservation = app.authorize("ws").reserved().await;
        let settled = app
            .post(
                &path(&reservation, "settle"),
                json!({"usage": usage(0, output), "outcome": outcome}),
            )
            .await
            .expect(200);
        assert_eq!(settled["entry"]["counted"]["requests"], counted, "{outcome} {output}");
    }
    assert_eq!(app.spent("ws", "calls").await, 2);
}

#[tokio::test]
async fn direct_usage_is_recorded_once() {
    let app = TestApp::start().await;
    let one = |id: &str, output: i64| json!({"workspace_id": "ws", "feature": "report", "model": "big", "request_id": id, "usage": usage(100, output)});
    let first = app.post("/v1/usage", one("a", 20)).await.expect(200);
    assert_eq!(
        (
            &first["status"],
            &first["entry"]["counted"]["tokens"],
            &first["entry"]["reservation_id"]
        ),
        (&json!("recorded"), &json!(120), &Value::Null)
    );
    assert_eq!(first["budgets"][0]["spent"], 120);
    let again = app.post("/v1/usage", one("a", 20)).await.expect(200);
    assert_eq!((&again["status"], &again["entry"]), (&json!("duplicate"), &first["entry"]));
    app.post("/v1/usage", one("a", 21)).await.problem(409, "usage_conflict");
    app.authorize("ws").id("a").send().await.problem(409, "already_settled");
    books_agree(&app, "ws", "monthly_tokens").await;
}

#[tokio::test]
async fn a_request_id_is_one_over_authorize_and_usage() {
    let app = TestApp::start().await;
    let one = |id: &str| json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": id, "usage": usage(100, 20)});
    let held = app.authorize("ws").id("x").reserved().await;
    app.post("/v1/usage", one("x")).await.problem(409, "request_id_held");
    let settled = app.settle(&held, 100, 20).await.expect(200);
    let duplicate = app.post("/v1/usage", one("x")).await.expect(200);
    assert_eq!(
        (&duplicate["status"], &duplicate["entry"]),
        (&json!("duplicate"), &settled["entry"])
    );
    for (id, expire) in [("released", false), ("expired", true)] {
        let reservation = app.authorize("ws").id(id).reserved().await;
        if expire {
            app.pass_seconds(601);
        } else {
            app.release(&reservation).await.expect(200);
        }
        let linked = app.post("/v1/usage", one(id)).await.expect(200);
        assert_eq!(
            (&linked["status"], &linked["entry"]["late"], &linked["entry"]["reservation_id"]),
            (&json!("recorded"), &json!(true), &json!(reservation)),
            "{id}"
        );
        assert_eq!(app.post("/v1/usage", one(id)).await.expect(200)["status"], "duplicate");
    }
}

#[tokio::test]
async fn a_batch_keeps_its_good_entries_and_repeating_it_adds_nothing() {
    let app = TestApp::start().await;
    let entry = |n: usize| {
        let input = if n == 250 { json!("many") } else { json!(10) };
        json!({"workspace_id": "ws", "feature": "f", "model": "big", "request_id": format!("b-{n}"), "usage": {"input_tokens": input, "output_tokens": 1}})
    };
    let batch = json!({"entries": (0..500).map(entry).collect::<Vec<_>>()});
    let first = app.post("/v1/usage", batch.clone()).await.expect(200);
    let results = first["results"].as_array().expect("results");
    assert_eq!(results.iter().filter(|result| result["status"] == "recorded").count(), 499);
    assert_eq!(
        (&results[250]["status"], &results[250]["error"]["status"]),
        (&json!("error"), &json!(422))
    );
    assert_eq!(results[499]["entry"]["request_id"], "b-499");
    let again = app.post("/v1/usage", batch).await.expect(200);
    assert_eq!(
        again["results"]
            .as_array()
            .expect("results")
            .iter()
            .filter(|result| result["status"] == "duplicate")
            .count(),
        499
    );
    assert_eq!(app.spent("ws", "monthly_tokens").await, 499 * 11);
    app.post("/v1/usage", json!({"entries": []})).await.problem(422, "unacceptable");
    app.post("/v1/usage", json!({"entries": (0..1_001).map(entry).collect::<Vec<_>>()}))
        .await
        .problem(422, "unacceptable");
}

#[tokio::test]
async fn usage_has_a_window_of_time_and_is_priced_at_its_time() {
    let app = TestApp::start_at("2026-01-05T00:00:00Z").await;
    let at = |id: &str, moment: &str| json!({"workspace_id": "ws", "feature": "f", "model": "big", "request_id": id, "usage": usage(1_000_000, 0), "occurred_at": moment});
    app.post("/v1/usage", at("old", "2025-11-30T23:59:59Z"))
        .await
        .problem(422, "unacceptable");
    app.post("/v1/usage", at("ahead", "2026-01-05T00:05:01Z"))
        .await
        .problem(422, "unacceptable");
    let before = app.post("/v1/usage", at("before", "2025-12-31T23:59:59Z")).await.expect(200);
    let after = app.post("/v1/usage", at("after", "2026-01-01T00:00:00Z")).await.expect(200);
    assert_eq!(
        (&before["entry"]["cost_usd"], &after["entry"]["cost_usd"]),
        (&json!("10.000000000"), &json!("8.000000000"))
    );
    assert_eq!(app.spent("ws", "monthly_tokens").await, 1_000_000, "December's use is December's");
}

#[tokio::test]
async fn suspended_and_planless_workspaces_are_recorded_all_the_same() {
    let app = TestApp::start().await;
    app.put("/v1/admin/workspaces/ws", json!({"status": "suspended"})).await.expect(201);
    let body = json!({"workspace_id": "ws", "feature": "f", "model": "big", "request_id": "s", "usage": usage(1, 1)});
    assert_eq!(app.post("/v1/usage", body).await.expect(200)["status"], "recorded");
}

#[tokio::test]
async fn cloud_events_are_usage_in_three_modes() {
    let app = TestApp::start().await;
    let data = json!({"feature": "f", "model": "big", "usage": usage(10, 1)});
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/job", "type": "usage", "subject": "ws", "time": "2025-11-21T09:00:00Z", "data": data});
    let send = async |content_type: &str, body: Value, headers: &[(&str, &str)]| {
        let mut request = app
            .client
            .post(format!("{}/v1/events", app.url))
            .bearer_auth(app.token("usage:write", None));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        support::Reply::read(
            request
                .header("content-type", content_type)
                .body(body.to_string())
                .send()
                .await
                .expect("an answer"),
        )
        .await
    };
    let structured = send("application/cloudevents+json", event("1"), &[]).await.expect(200);
    assert_eq!(
        (&structured["status"], &structured["entry"]["occurred_at"]),
        (&json!("recorded"), &json!("2025-11-21T09:00:00Z"))
    );
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/job"),
        ("ce-type", "usage"),
        ("ce-subject", "ws"),
    ];
    let binary = send("application/json", data.clone(), &headers).await.expect(200);
    assert_eq!(
        (&binary["status"], &binary["entry"]),
        (&json!("duplicate"), &structured["entry"]),
        "the same source and id"
    );
    let batch = send(
        "application/cloudevents-batch+json",
        json!([event("1"), event("2"), {"specversion": "1.0"}]),
        &[],
    )
    .await
    .expect(200);
    let mixed = send("application/cloudevents-batch+json", json!([5, event("1"), null, []]), &[])
        .await
        .expect(200);
    assert_eq!(
        (&mixed["results"][0]["error"]["status"], &mixed["results"][1]["status"]),
        (&json!(400), &json!("duplicate"))
    );
    let statuses: Vec<_> = batch["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["status"].as_str().expect("a status"))
        .collect();
    assert_eq!(statuses, vec!["duplicate", "recorded", "error"]);
    send(
        "application/cloudevents+json",
        json!({"specversion": "0.3", "id": "1", "source": "s", "type": "t", "data": {}}),
        &[],
    )
    .await
    .problem(422, "unacceptable");
    send("text/plain", json!({}), &[]).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn the_ledger_pages_filters_and_exports() {
    let app = TestApp::start().await;
    for n in 0..25 {
        let body = json!({"workspace_id": "ws", "feature": if n % 2 == 0 { "even" } else { "odd" }, "model": "big", "user_id": format!("u{}", n % 3),
            "request_id": format!("r{n}"), "usage": usage(n, 1), "occurred_at": format!("2025-11-21T09:{n:02}:00Z"), "tags": {"k": "=1+1"}});
        app.post("/v1/usage", body).await.expect(200);
    }
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = app.get(&format!("/v1/workspaces/ws/ledger?limit=7{next}")).await.expect(200);
        seen.extend(
            page["data"]
                .as_array()
                .expect("data")
                .iter()
                .map(|entry| entry["input_tokens"].as_i64().expect("a number")),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<i64>>());
    let count = async |query: &str| {
        app.get(&format!("/v1/workspaces/ws/ledger?{query}")).await.expect(200)["data"]
            .as_array()
            .expect("data")
            .len()
    };
    assert_eq!(count("feature=even").await, 13);
    assert_eq!(count("user_id=u1&feature=odd").await, 4);
    assert_eq!(
        count("from=2025-11-21T09:05:00Z&to=2025-11-21T09:10:00Z").await,
        5,
        "from inclusive, to exclusive"
    );
    app.get("/v1/workspaces/ws/ledger?limit=501").await.problem(422, "unacceptable");
    app.get("/v1/workspaces/ws/ledger?cursor=nonsense")
        .await
        .problem(422, "unacceptable");
    app.get("/v1/workspaces/ws/ledger?colour=red").await.problem(400, "malformed");
    app.get("/v1/workspaces/ws/ledger?limit=many").await.problem(400, "malformed");
    let when = app
        .get("/v1/workspaces/ws/ledger?from=yesterday")
        .await
        .problem(422, "unacceptable");
    assert!(!when["detail"].as_str().expect("a detail").contains("deserialize"), "{when}");
    let request = app
        .client
        .get(format!("{}/v1/workspaces/ws/ledger?limit=2", app.url))
        .bearer_auth(app.token("read", None))
        .header("accept", "text/csv");
    let csv = support::Reply::read(request.send().await.expect("an answer")).await;
    let lines: Vec<&str> = csv.text.lines().collect();
    assert!(
        lines[0].starts_with("entry_id,kind,corrects,request_id,reservation_id,workspace_id"),
        "{}",
        lines[0]
    );
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn an_idempotency_key_tells_the_first_answer_again() {
    let app = TestApp::start().await;
    let body = |output: i64| json!({"workspace_id": "ws", "feature": "f", "model": "big", "request_id": "k-1", "usage": usage(1, output)});
    let send = async |key: &str, body: Value| {
        let request = app
            .client
            .post(format!("{}/v1/usage", app.url))
            .bearer_auth(app.token("usage:write", None));
        support::Reply::read(request.header("idempotency-key", key).json(&body).send().await.expect("an answer")).await
    };
    let first = send("key", body(1)).await;
    let again = send("key", body(1)).await;
    assert_eq!(
        (first.text.as_str(), again.header("idempotency-replayed")),
        (again.text.as_str(), Some("true"))
    );
    assert_eq!(again.json()["status"], "recorded", "the first answer, not a duplicate's");
    send("key", body(2)).await.problem(422, "idempotency_mismatch");
    assert_eq!(send("another", body(1)).await.expect(200)["status"], "duplicate");
    send("with space", body(1)).await.problem(422, "unacceptable");
}

#[tokio::test]
async fn an_idempotency_key_outlives_a_restart_for_a_day() {
    let app = TestApp::start().await;
    let body = |id: &str| json!({"workspace_id": "ws", "feature": "f", "model": "big", "request_id": id, "usage": usage(1, 1)});
    let send = async |app: &TestApp, path: &str, body: Value| {
        let request = app
            .client
            .post(format!("{}{path}", app.url))
            .bearer_auth(app.token("usage:write", None));
        support::Reply::read(request.header("idempotency-key", "k").json(&body).send().await.expect("an answer")).await
    };
    let batch = json!({"entries": [body("1"), {"nonsense": true}, body("2")]});
    let first = send(&app, "/v1/usage", batch.clone()).await;
    let app = app.restart().await;
    let again = send(&app, "/v1/usage", batch.clone()).await;
    assert_eq!(
        (first.status, first.text.as_str(), first.header("content-type")),
        (again.status, again.text.as_str(), again.header("content-type"))
    );
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (None, Some("true"))
    );
    send(&app, "/v1/usage", body("3")).await.problem(422, "idempotency_mismatch");
    assert_eq!(app.ledger("ws").await.len(), 2, "what was refused is not recorded");
    app.pass_seconds(24 * 3_600);
    let next_day = send(&app, "/v1/usage", batch).await;
    assert_eq!(next_day.header("idempotency-replayed"), None);
    assert_eq!(
        next_day.expect(200)["results"][0]["status"],
        "duplicate",
        "the request ids are known for ever"
    );
}

#[tokio::test]
async fn a_key_belongs_to_a_workspace_and_an_event_to_its_attributes() {
    let app = TestApp::start().await;
    let body = json!({"feature": "f", "model": "big", "request_id": "r", "usage": usage(1, 1)});
    for workspace in ["one", "two"] {
        let request = app
            .client
            .post(format!("{}/v1/usage", app.url))
            .bearer_auth(app.token("usage:write", Some(workspace)))
            .header("idempotency-key", "k");
        let answer = support::Reply::read(request.json(&body).send().await.expect("an answer")).await;
        assert_eq!(answer.header("idempotency-replayed"), None, "{workspace}");
        let answer = answer.expect(200);
        assert_eq!(
            (&answer["status"], &answer["entry"]["workspace_id"]),
            (&json!("recorded"), &json!(workspace))
        );
    }
    let data = json!({"feature": "f", "model": "big", "usage": usage(1, 1)});
    let event = async |id: &str| {
        let mut request = app
            .client
            .post(format!("{}/v1/events", app.url))
            .bearer_auth(app.token("usage:write", None))
            .header("idempotency-key", "k");
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", id),
            ("source", "s"),
            ("type", "t"),
            ("subject", "one"),
        ] {
            request = request.header(format!("ce-{name}"), value);
        }
        support::Reply::read(request.json(&data).send().await.expect("an answer")).await
    };
    event("1").await.expect(200);
    assert_eq!(event("1").await.header("idempotency-replayed"), Some("true"));
    event("2").await.problem(422, "idempotency_mismatch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hung_up_may_use_its_key_again() {
    let app = TestApp::start().await;
    let entry =
        |n: usize| json!({"workspace_id": "ws", "feature": "f", "model": "big", "request_id": format!("h-{n}"), "usage": usage(1, 1)});
    let batch = json!({"entries": (0..1_000).map(entry).collect::<Vec<_>>()});
    let token = app.token("usage:write", None);
    let send = || {
        let request = app.client.post(format!("{}/v1/usage", app.url)).bearer_auth(&token);
        request.header("idempotency-key", "k").json(&batch).send()
    };
    // Long enough to have begun, and too short for a thousand entries.
    let hung_up = tokio::time::timeout(std::time::Duration::from_millis(30), send()).await;
    let mut answer = support::Reply::read(send().await.expect("an answer")).await;
    for _ in 0..400 {
        if answer.status != 409 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        answer = support::Reply::read(send().await.expect("an answer")).await;
    }
    assert_eq!(answer.status, 200, "hung up: {}: {}", hung_up.is_err(), answer.text);
    assert_eq!(app.spent("ws", "monthly_tokens").await, 2_000);
}

#[tokio::test]
async fn the_header_and_the_request_id_of_an_authorize_must_agree() {
    let app = TestApp::start().await;
    let body = Value::Object(app.authorize("ws").id("one").body);
    let send = async |key: &str, body: &Value| {
        let request = app
            .client
            .post(format!("{}/v1/authorize", app.url))
            .bearer_auth(app.token("authorize", None));
        support::Reply::read(request.header("idempotency-key", key).json(body).send().await.expect("an answer")).await
    };
    send("two", &body).await.problem(422, "unacceptable");
    let first = send("one", &body).await.expect(200);
    let mut without = body.clone();
    without.as_object_mut().expect("an object").remove("request_id");
    let named = send("three", &without).await.expect(200);
    assert_eq!((&first["request_id"], &named["request_id"]), (&json!("one"), &json!("three")));
}
