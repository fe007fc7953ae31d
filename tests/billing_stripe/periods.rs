//! The periods in which Stripe invoices begin at the second of a subscription's anchor: around their ends nothing is told that comes onto no
//! invoice, and each use comes onto that of its own period as long as that one takes it.

use crate::billed::{Billed, WEBHOOK_SECRET};
use crate::stripe::FakeStripe;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use weir::decision::time::Timestamp;

const BEGIN: &str = "2025-11-21T10:00:00Z";
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

fn unix(text: &str) -> i64 {
    Timestamp::parse(text).expect(text).micros() / 1_000_000
}

/// A service that hears what Stripe tells, with one workspace and its customer.
async fn heard(moment: &str) -> Billed {
    let billed = Billed::start(moment).await;
    let hook = format!("{}/webhooks/stripe", billed.app().url);
    billed.fake.hook(&hook, WEBHOOK_SECRET);
    billed.fake.book().add_customer("cus_one");
    billed.workspace("ws_one", Some("cus_one")).await;
    billed
}

/// One whose customer's periods end at 14:37:05 today.
async fn subscribed() -> (Billed, String) {
    let billed = heard(BEGIN).await;
    let id = billed.fake.book().subscribe("cus_one", "price_month", unix("2025-10-21T14:37:05Z"));
    billed.fake.tell_subscription(&id, "updated").await;
    (billed, id)
}

fn until(billed: &Billed, moment: &str) {
    let now = billed.now().micros() / 1_000_000;
    billed.app().pass_seconds(unix(moment) - now);
}

/// Tokens of one use, of which 7 are the answer's, at a moment that is past.
async fn used(billed: &mut Billed, tokens: i64, moment: &str) {
    let ago = billed.now().micros() / 1_000_000 - unix(moment);
    billed.record("cus_one", &[("ws_one", "summary", tokens - 7, ago)]).await;
}

fn invoiced(fake: &FakeStripe, moment: &str) -> i64 {
    fake.book().invoiced("cus_one", "tokens", unix(moment))
}

/// All of what was used is on some invoice, and reconcile finds nothing amiss.
async fn adds_up(billed: &Billed) {
    billed.until_told().await;
    {
        let book = billed.fake.book();
        assert!(book.never_invoiced().is_empty(), "{:#?}", book.never_invoiced());
        assert_eq!(book.totals(), billed.counted.values());
    }
    billed.app().pass_seconds(HOUR + MINUTE);
    let from = billed.now().plus_seconds(-20 * 86_400).to_string();
    let report = billed.reconcile(json!({"from": from})).await;
    assert_eq!(report["unexplained"], 0, "{report:#}");
    let verified = billed.app().service.ledger.verify_batches(None, 1_000).await.expect("verified");
    assert_eq!(verified.differences, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_around_the_end_of_a_period_comes_onto_the_invoice_of_its_own() {
    let (mut billed, _) = subscribed().await;
    until(&billed, "2025-11-21T14:38:00Z");
    // Of one hour, on both sides of the end; Stripe has not told of the renewal yet.
    used(&mut billed, 100, "2025-11-21T14:37:04Z").await;
    used(&mut billed, 1_000, "2025-11-21T14:37:05Z").await;
    billed.round().await;
    until(&billed, "2025-11-21T14:40:00Z");
    used(&mut billed, 10_000, "2025-11-21T14:36:00Z").await;
    used(&mut billed, 100_000, "2025-11-21T14:39:00Z").await;
    adds_up(&billed).await;
    assert_eq!(invoiced(&billed.fake, "2025-11-21T14:37:04Z"), 10_100);
    assert_eq!(invoiced(&billed.fake, "2025-11-21T14:37:05Z"), 101_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_that_comes_after_its_period_was_finalized_is_told_as_of_now() {
    let (mut billed, id) = subscribed().await;
    // The workspace's calendar says that the period goes on for a month.
    until(&billed, "2025-11-21T15:50:00Z");
    used(&mut billed, 100, "2025-11-21T13:00:00Z").await;
    billed.fake.tell_subscription(&id, "updated").await;
    used(&mut billed, 1_000, "2025-11-21T14:37:00Z").await;
    adds_up(&billed).await;
    assert_eq!(invoiced(&billed.fake, "2025-11-21T13:00:00Z"), 0);
    assert_eq!(invoiced(&billed.fake, "2025-11-21T15:50:00Z"), 1_100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_was_down_over_the_end_of_a_period_tells_as_of_now() {
    let (mut billed, _) = subscribed().await;
    until(&billed, "2025-11-21T14:20:00Z");
    used(&mut billed, 100, "2025-11-21T14:10:00Z").await;
    billed.fake.set_down(true);
    billed.round().await;
    until(&billed, "2025-11-21T15:01:30Z");
    billed.round().await;
    until(&billed, "2025-11-21T15:38:00Z");
    billed.round().await;
    billed.restart().await;
    billed.fake.set_down(false);
    adds_up(&billed).await;
    assert_eq!(invoiced(&billed.fake, "2025-11-21T15:40:00Z"), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_plan_ends_the_period_at_once() {
    let (mut billed, id) = subscribed().await;
    until(&billed, "2025-11-21T12:00:30Z");
    used(&mut billed, 100, "2025-11-21T12:00:10Z").await;
    billed.round().await;
    until(&billed, "2025-11-21T12:00:33Z");
    let now = unix("2025-11-21T12:00:33Z");
    billed.fake.book().subscription(&id).reset(now, "price_other");
    billed.fake.tell_subscription(&id, "updated").await;
    until(&billed, "2025-11-21T12:10:00Z");
    used(&mut billed, 1_000, "2025-11-21T11:30:00Z").await;
    used(&mut billed, 10_000, "2025-11-21T12:05:00Z").await;
    // Of the period before the last, which was cut short as well as this one.
    used(&mut billed, 100_000, "2025-10-21T14:00:00Z").await;
    adds_up(&billed).await;
    assert_eq!(invoiced(&billed.fake, "2025-11-21T12:00:32Z"), 0);
    assert_eq!(invoiced(&billed.fake, "2025-11-21T12:00:33Z"), 111_100);
    // The period that began with it ends at its second.
    until(&billed, "2025-12-21T13:00:00Z");
    used(&mut billed, 20, "2025-12-21T12:00:32Z").await;
    used(&mut billed, 30, "2025-12-21T12:00:33Z").await;
    billed.until_told().await;
    assert!(billed.fake.book().never_invoiced().is_empty());
    assert_eq!(invoiced(&billed.fake, "2025-12-21T12:00:33Z"), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cancelled_subscription_left_goes_to_the_next_one() {
    let (mut billed, id) = subscribed().await;
    let seconds = |moment: &str| unix(moment);
    until(&billed, "2025-11-21T11:00:07Z");
    billed.fake.book().subscription(&id).cancel(seconds("2025-11-21T11:00:07Z"));
    billed.fake.tell_subscription(&id, "deleted").await;
    billed.workspace("ws_one", Some("cus_one")).await;
    // While the last invoice takes it, it is told as of its own time.
    until(&billed, "2025-11-21T11:20:00Z");
    used(&mut billed, 100, "2025-11-21T10:59:00Z").await;
    billed.until_told().await;
    assert_eq!(invoiced(&billed.fake, "2025-11-21T10:59:00Z"), 100);
    until(&billed, "2025-11-21T11:40:02Z");
    let next = billed
        .fake
        .book()
        .subscribe("cus_one", "price_month", seconds("2025-11-21T11:40:02Z"));
    billed.fake.tell_subscription(&next, "created").await;
    until(&billed, "2025-11-21T12:10:00Z");
    used(&mut billed, 1_000, "2025-11-21T10:30:00Z").await;
    // In between there was none.
    used(&mut billed, 10_000, "2025-11-21T11:30:00Z").await;
    adds_up(&billed).await;
    assert_eq!(invoiced(&billed.fake, "2025-11-21T11:40:02Z"), 11_000);
}

/// Anchors at any second, use of any age, an unreachable Stripe, and subscriptions that are renewed, changed and replaced, of some of which
/// Weir hears late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_into_a_finalized_period_whatever_becomes_of_subscriptions() {
    const CUSTOMERS: usize = 6;
    let mut billed = heard(BEGIN).await;
    let mut rng = StdRng::seed_from_u64(20_251_121);
    let begin = unix(BEGIN);
    let mut current: BTreeMap<usize, String> = BTreeMap::new();
    for number in 0..CUSTOMERS {
        let customer = format!("cus_{number}");
        billed.fake.book().add_customer(&customer);
        billed.workspace(&format!("ws_{number}"), Some(&customer)).await;
        // A month before some second of the next twelve hours.
        let started_at = begin - 31 * 24 * HOUR + rng.random_range(0..12 * HOUR);
        let id = billed.fake.book().subscribe(&customer, "price_month", started_at);
        billed.fake.tell_subscription(&id, "updated").await;
        current.insert(number, id);
    }
    for step in 0..60 {
        let mut uses = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            uses.push((
                rng.random_range(0..CUSTOMERS),
                rng.random_range(8..900),
                rng.random_range(0..8 * HOUR),
            ));
        }
        for (number, tokens, ago) in uses {
            let (workspace, customer) = (format!("ws_{number}"), format!("cus_{number}"));
            billed.record(&customer, &[(&workspace, "summary", tokens, ago)]).await;
        }
        billed.fake.set_down(rng.random_range(0..4) == 0);
        billed
            .app()
            .pass_seconds(rng.random_range(5..25) * MINUTE + rng.random_range(0..60));
        let (number, now) = (rng.random_range(0..CUSTOMERS), billed.now().micros() / 1_000_000);
        let id = current[&number].clone();
        match step % 10 {
            3 => {
                billed.fake.book().subscription(&id).reset(now, "price_other");
                billed.fake.tell_subscription(&id, "updated").await;
            }
            6 => {
                let customer = format!("cus_{number}");
                let next = billed.fake.book().subscribe(&customer, "price_month", now);
                billed.fake.tell_subscription(&next, "created").await;
                billed.fake.book().subscription(&id).cancel(now);
                billed.fake.tell_subscription(&id, "deleted").await;
                current.insert(number, next);
            }
            _ if rng.random_range(0..3) == 0 => billed.fake.tell_subscription(&id, "updated").await,
            _ => {}
        }
        billed.round().await;
    }
    billed.fake.set_down(false);
    adds_up(&billed).await;
}
