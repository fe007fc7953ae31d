//! Everything at once, by the test's clock and on whichever profile: what was recorded is what batches say and what Stripe has, to the
//! token, and every exception has a name.

use crate::billed::{Billed, named};
use crate::stripe::faults::{Fault, Plan};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const SEED: u64 = 20_251_121;
const CUSTOMERS: usize = 20;
const CHUNKS: usize = 10;
const CHUNK_ENTRIES: usize = 200;
const CHUNK_CORRECTIONS: usize = 10;
/// Of 10,000 calls.
const RATES: [(Fault, u32); 8] = [
    (Fault::RateLimited, 500),
    (Fault::Fails, 300),
    (Fault::FailsAfter, 300),
    (Fault::Drops, 400),
    (Fault::DropsBefore, 300),
    (Fault::Hangs, 60),
    (Fault::SaysDuplicate, 300),
    (Fault::Slow, 300),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_is_what_stripe_has_whatever_fails() {
    let mut billed = Billed::start("2025-11-21T10:00:00Z").await;
    let mut rng = StdRng::seed_from_u64(SEED);
    let names: Vec<(String, String)> = (0..CUSTOMERS)
        .map(|number| (format!("ws_{number}"), format!("cus_{number}")))
        .collect();
    for (workspace, customer) in &names {
        billed.fake.book().add_customer(customer);
        billed.workspace(workspace, Some(customer)).await;
    }
    billed.workspace("ws_ghost", Some("cus_ghost")).await;
    billed.workspace("ws_nobody", None).await;
    billed
        .fake
        .set_plan(Plan::seeded(SEED, &RATES).waiting(Duration::from_millis(1_500), Duration::from_millis(5)));

    let mut requests: Vec<(usize, String)> = Vec::new();
    for chunk in 0..CHUNKS {
        let mut by_customer: BTreeMap<usize, Vec<(&str, &str, i64, i64)>> = BTreeMap::new();
        for _ in 0..CHUNK_ENTRIES {
            let number = rng.random_range(0..CUSTOMERS);
            let feature = if rng.random_bool(0.5) { "chat" } else { "summary" };
            let used = (
                names[number].0.as_str(),
                feature,
                rng.random_range(1..2_000),
                rng.random_range(0..5 * 3_600),
            );
            by_customer.entry(number).or_default().push(used);
        }
        for (number, uses) in by_customer {
            let before = billed.next;
            billed.record(&names[number].1, &uses).await;
            requests.extend((before + 1..=billed.next).map(|next| (number, format!("use-{next}"))));
        }
        // Some turn out to be less, or more.
        for _ in 0..CHUNK_CORRECTIONS {
            let (number, request) = requests.swap_remove(rng.random_range(0..requests.len()));
            let (workspace, customer) = &names[number];
            billed.correct(workspace, customer, &request, rng.random_range(0..1_000)).await;
        }
        billed.app().pass_seconds(600);
        billed.cut_round(Duration::from_millis(rng.random_range(5..150))).await;
        billed.app().pass_seconds(125);
        billed.round().await;
        if chunk == CHUNKS / 2 {
            billed.restart().await;
        }
    }
    // In the end all that some are worth is taken back, and nothing comes later to set it off against.
    for (number, request) in requests.split_off(requests.len() - 3 * CHUNK_CORRECTIONS) {
        let (workspace, customer) = &names[number];
        billed.correct(workspace, customer, &request, 0).await;
    }
    let expected = billed.counted.values();
    billed.record("cus_ghost", &[("ws_ghost", "chat", 40, 60)]).await;
    billed.record("ws_nobody", &[("ws_nobody", "chat", 50, 60)]).await;
    billed.app().pass_seconds(3_700);
    billed.until_settled().await;

    assert_eq!(billed.fake.book().totals(), expected, "told: {:?}", billed.fake.told());
    let told = billed.fake.told();
    for fault in Fault::ALL {
        assert!(
            told.contains_key(&format!("{fault:?}")) || fault == Fault::Hangs,
            "{fault:?} never happened: {told:?}"
        );
    }
    let adjustments = billed.batches("acknowledged").await;
    assert!(
        adjustments.iter().any(|batch| !batch["adjusts"].is_null()),
        "something was taken back"
    );
    let verified = billed.app().service.ledger.verify_batches(None, 1_000).await.expect("verified");
    assert_eq!(verified.differences, [], "of {} batches", verified.batches);

    // An hour later the provider's sums are as good as its answers.
    billed.fake.set_plan(Plan::none());
    billed.app().pass_seconds(3_600);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(report["unexplained"], 0, "{report:#}");
    let found = named(&report);
    let ghost = |name: &str| {
        found
            .iter()
            .any(|found| found.starts_with(&format!("cus_ghost {name} customer_unknown -")))
    };
    assert!(ghost("tokens") && ghost("calls"), "{found:?}");
    assert!(found.contains(&"ws_nobody tokens unbillable 57".to_owned()), "{found:?}");
    assert!(
        found
            .iter()
            .all(|found| found.starts_with("cus_ghost") || found.starts_with("ws_nobody")),
        "{found:?}"
    );
    for line in report["lines"].as_array().expect("lines") {
        let customer = line["customer"].as_str().unwrap_or_default();
        if let Some(value) = expected.get(&(customer.to_owned(), line["event_name"].as_str().expect("a name").to_owned())) {
            let sides = (&line["acknowledged"], &line["told"], &line["provider"]);
            assert_eq!(sides, (&json!(value), &json!(value), &json!(value)), "{line:#}");
        }
    }
}
