//! What is owed back and met no later use: taken back from what Stripe was told, whatever goes wrong on the way, or still owed.

use crate::billed::{Billed, named};
use crate::stripe::faults::Fault;
use reqwest::Method;
use serde_json::{Value, json};

const BEGIN: &str = "2025-11-21T10:00:00Z";
const HOUR: i64 = 3_600;

/// A customer whose use of 100 tokens Stripe was told of, and which turned out to be so many.
async fn corrected(moment: &str, tokens: i64) -> Billed {
    let mut billed = Billed::start(moment).await;
    billed.fake.book().add_customer("cus_a");
    billed.workspace("ws_a", Some("cus_a")).await;
    billed.app().pass_seconds(2 * HOUR);
    billed.record("cus_a", &[("ws_a", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    assert_eq!(tokens_of(&billed), 100);
    billed.correct("ws_a", "cus_a", "use-1", tokens).await;
    billed.until_told().await;
    assert_eq!(tokens_of(&billed), 100, "it waits for use that it can be set off against");
    billed
}

fn tokens_of(billed: &Billed) -> i64 {
    billed.fake.book().total("cus_a", "tokens")
}

async fn adjusting(billed: &Billed) -> Vec<Value> {
    let page = billed
        .app()
        .get("/v1/admin/billing/batches?meter=tokens&limit=500")
        .await
        .expect(200);
    let batches = page["data"].as_array().expect("data").iter();
    batches.filter(|batch| !batch["adjusts"].is_null()).cloned().collect()
}

/// All sides agree on this many tokens, and nothing is owed.
async fn agrees(billed: &Billed, tokens: i64) {
    assert_eq!(tokens_of(billed), tokens);
    billed.app().pass_seconds(HOUR + 60);
    let report = billed.reconcile(json!({})).await;
    assert_eq!((&report["unexplained"], named(&report)), (&json!(0), vec![]), "{report:#}");
    assert_eq!(report["carried"], json!([]), "{report:#}");
    let lines = report["lines"].as_array().expect("lines");
    let line = lines.iter().find(|line| line["event_name"] == "tokens").expect("a line");
    let sides = (&line["ledger"], &line["acknowledged"], &line["told"], &line["provider"]);
    let whole = json!(tokens);
    assert_eq!(sides, (&json!(tokens.to_string()), &whole, &whole, &whole), "{line:#}");
    verifies(billed).await;
}

async fn verifies(billed: &Billed) {
    let verified = billed.app().service.ledger.verify_batches(None, 100).await.expect("verified");
    assert_eq!(verified.differences, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_is_taken_back_from_what_was_told() {
    for tokens in [70, 0] {
        let billed = corrected(BEGIN, tokens).await;
        assert!(adjusting(&billed).await.is_empty());
        billed.app().pass_seconds(2 * HOUR);
        billed.until_told().await;
        let made = adjusting(&billed).await;
        assert_eq!(made.len(), 1, "{made:#?}");
        let adjusted = &made[0];
        assert_eq!(
            (&adjusted["value"], &adjusted["members"], &adjusted["state"]),
            (&json!(tokens - 100), &json!(0), &json!("acknowledged")),
        );
        let events: Vec<i64> = {
            let book = billed.fake.book();
            let of_tokens = book.events.iter().filter(|event| event.event_name == "tokens");
            of_tokens.map(|event| event.value).collect()
        };
        assert_eq!(events, [100, tokens - 100]);
        agrees(&billed, tokens).await;
        // Once the period is over neither side of it is sent again: the other would be alone in it.
        billed.app().pass_seconds(20 * 24 * HOUR);
        for id in [&adjusted["batch_id"], &adjusted["adjusts"]] {
            let path = format!("/v1/admin/billing/batches/{}/resend", id.as_str().expect("an id"));
            let why = [("x-weir-reason", "ticket 8")];
            let reply = billed.app().send(Method::POST, &path, &why, json!({"force": true})).await;
            reply.problem(409, "batch_conflict");
        }
        assert_eq!(tokens_of(&billed), tokens);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_on_the_way_it_is_taken_back_once() {
    use Fault::{Drops, DropsBefore, Fails, FailsAfter, RateLimited, Slow};
    let faults = [
        [Drops, Slow],
        [DropsBefore, Drops],
        [Fails, RateLimited],
        [FailsAfter, DropsBefore],
        [RateLimited, FailsAfter],
    ];
    for fault in faults {
        let mut billed = corrected(BEGIN, 70).await;
        billed.app().pass_seconds(2 * HOUR);
        billed.fake.next(&fault);
        billed.app().pass_seconds(61);
        // One makes it, and the next one sends it.
        billed.round().await;
        billed.round().await;
        // Meanwhile it is on its way, and nothing of it is a difference without a name.
        let report = billed.reconcile(json!({})).await;
        assert_eq!(report["unexplained"], 0, "{fault:?}: {report:#}");
        let met = billed.fake.told();
        assert!(fault.iter().any(|fault| met.contains_key(&format!("{fault:?}"))), "{met:?}");
        billed.restart().await;
        billed.until_told().await;
        agrees(&billed, 70).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_use_is_set_off_and_nothing_is_taken_back() {
    let mut billed = corrected(BEGIN, 70).await;
    billed.record("cus_a", &[("ws_a", "summary", 43, 60)]).await;
    billed.until_told().await;
    billed.app().pass_seconds(2 * HOUR);
    billed.until_told().await;
    assert!(adjusting(&billed).await.is_empty());
    agrees(&billed, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_its_period_it_is_taken_back_days_later_and_not_afterwards() {
    // The first period ends before the debt is two hours old.
    for (begin, days, tokens) in [("2025-11-30T19:30:00Z", 0, 100), ("2025-11-03T10:00:00Z", 20, 70)] {
        let mut billed = Billed::start(begin).await;
        billed.fake.book().add_customer("cus_a");
        billed.workspace("ws_a", Some("cus_a")).await;
        billed.app().pass_seconds(2 * HOUR);
        billed.record("cus_a", &[("ws_a", "summary", 93, HOUR)]).await;
        billed.until_told().await;
        billed.app().pass_seconds(days * 24 * HOUR);
        billed.correct("ws_a", "cus_a", "use-1", 70).await;
        for _ in 0..6 {
            billed.app().pass_seconds(HOUR);
            billed.round().await;
        }
        assert_eq!(tokens_of(&billed), tokens, "{begin}");
        let report = billed.reconcile(json!({})).await;
        let owed = if tokens == 100 { json!("owed_back") } else { Value::Null };
        assert_eq!(report["carried"][0]["code"], owed, "{report:#}");
        billed.record("cus_a", &[("ws_a", "summary", 43, 60)]).await;
        billed.until_told().await;
        assert_eq!(tokens_of(&billed), 120);
        verifies(&billed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_back_from_another_customer() {
    let mut billed = corrected(BEGIN, 70).await;
    billed.fake.book().add_customer("cus_b");
    let path = "/v1/admin/workspaces/ws_a";
    let mut workspace = billed.app().get(path).await.expect(200);
    workspace = json!({"plan_id": workspace["plan_id"], "stripe_customer_id": "cus_b"});
    billed.app().put(path, workspace).await.expect_one_of(&[200, 201]);
    billed.app().pass_seconds(3 * HOUR);
    billed.until_told().await;
    assert_eq!((tokens_of(&billed), adjusting(&billed).await.len()), (100, 0));
    billed.record("cus_b", &[("ws_a", "summary", 43, 60)]).await;
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_b", "tokens"), 20, "it is set off instead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_taken_back_is_owed_again() {
    for may_be_taken in [false, true] {
        // The period ends while Stripe is away.
        let mut billed = corrected("2025-11-30T06:00:00Z", 70).await;
        billed.app().pass_seconds(2 * HOUR);
        if may_be_taken {
            billed.fake.next(&[Fault::DropsBefore]);
            billed.round().await;
            billed.round().await;
        }
        billed.fake.set_down(true);
        for _ in 0..30 {
            billed.app().pass_seconds(HOUR);
            billed.round().await;
        }
        billed.fake.set_down(false);
        if may_be_taken {
            assert_eq!(adjusting(&billed).await[0]["state"], "unknown");
            // Stripe's sum says that nothing was taken back, and of a period that is over nothing is.
            let report = billed.reconcile(json!({})).await;
            assert_eq!(report["repairs"][0]["outcome"], "sent_again", "{report:#}");
        }
        billed.until_told().await;
        let made = adjusting(&billed).await;
        let values: Vec<(i64, &str, &str)> = made
            .iter()
            .map(|batch| {
                let text = |field: &str| batch[field].as_str().expect("text");
                (batch["value"].as_i64().expect("a value"), text("state"), text("reason"))
            })
            .collect();
        let done = ("acknowledged", "nothing_to_tell");
        assert_eq!(values, [(30, done.0, done.1), (-30, done.0, done.1)], "{made:#?}");
        assert_eq!(tokens_of(&billed), 100);
        verifies(&billed).await;
        let report = billed.reconcile(json!({})).await;
        assert_eq!(report["carried"][0]["value"], "-30", "{report:#}");
        billed.record("cus_a", &[("ws_a", "summary", 43, 60)]).await;
        billed.until_told().await;
        agrees(&billed, 120).await;
    }
}
