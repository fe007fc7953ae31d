//! Grants that were paid for become credit grants at Stripe: each once, whatever goes wrong in between, and void when they are voided. And
//! what Stripe reports of usage that it could not count comes back to its batch.

use crate::billed::{Billed, WEBHOOK_SECRET};
use crate::stripe::faults::Fault;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const BEGIN: &str = "2025-11-21T10:00:00Z";
const HOUR: i64 = 3_600;

fn grants_of(name: &str) -> String {
    format!("/v1/admin/workspaces/ws_{name}/grants")
}

impl Billed {
    async fn with_buyers(names: &[&str]) -> Self {
        let billed = Self::start(BEGIN).await;
        for name in names {
            billed.fake.book().add_customer(&format!("cus_{name}"));
            billed.buyer(name, Some(&format!("cus_{name}"))).await;
        }
        billed
    }

    async fn buyer(&self, name: &str, customer: Option<&str>) {
        let body = json!({"plan_id": "open", "stripe_customer_id": customer});
        let path = format!("/v1/admin/workspaces/ws_{name}");
        self.app().put(&path, body).await.expect_one_of(&[200, 201]);
    }

    /// Sells a grant, and returns its id.
    async fn sell(&self, name: &str, cents: i64) -> String {
        let body = json!({"amount": 1000, "paid": {"amount": cents, "currency": "usd"}, "expires_at": "2026-11-21T10:00:00Z"});
        let grant = self.app().post(&grants_of(name), body).await.expect(201);
        grant["grant_id"].as_str().expect("an id").to_owned()
    }

    async fn void_grant(&self, name: &str, grant: &str) {
        let path = format!("{}/{grant}", grants_of(name));
        assert_eq!(self.app().call(Method::DELETE, &path, None).await.status.as_u16(), 204);
    }

    /// What the admin API says of the credit of a grant.
    async fn credit(&self, name: &str, grant: &str) -> Value {
        let page = self.app().get(&grants_of(name)).await.expect(200);
        let found = page["data"]
            .as_array()
            .expect("data")
            .iter()
            .find(|found| found["grant_id"] == grant);
        found.expect("the grant")["billing"].clone()
    }

    async fn state(&self, name: &str, grant: &str) -> String {
        self.credit(name, grant).await["state"].as_str().expect("a state").to_owned()
    }

    /// Rounds as time passes, until no credit has a next try.
    async fn until_credited(&self) {
        for _ in 0..100 {
            self.round().await;
            let open = self.app().service.ledger.open_credits(None, 500).await.expect("credits");
            if open.iter().all(|credit| credit.delivery.next_try_at.is_none()) {
                return;
            }
            self.app().pass_seconds(61);
        }
        panic!("credits still wait: {:#?}", self.app().service.ledger.open_credits(None, 500).await);
    }

    /// How many credit grants the fake has of each grant that are not void, with what they are worth.
    fn credited(&self) -> BTreeMap<String, (usize, i64)> {
        let mut credited = BTreeMap::new();
        for grant in self.fake.book().grants.iter().filter(|grant| grant.voided_at.is_none()) {
            let (count, cents) = credited.entry(grant.metadata["weir_grant_id"].clone()).or_insert((0, 0));
            *count += 1;
            *cents += grant.cents;
        }
        credited
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_paid_grant_is_one_credit_whatever_goes_wrong() {
    let mut billed = Billed::with_buyers(&["a", "b", "c"]).await;
    let mut sold = BTreeMap::new();
    for number in 0..15 {
        let name = ["a", "b", "c"][number % 3];
        let cents = 100 + number as i64;
        sold.insert(billed.sell(name, cents).await, (name, cents));
    }
    let given = billed.app().post(&grants_of("a"), json!({"amount": 5})).await.expect(201);
    assert!(given.get("billing").is_none() && given.get("paid").is_none(), "{given:#}");
    billed.fake.next(&[
        Fault::RateLimited,
        Fault::Fails,
        Fault::FailsAfter,
        Fault::Drops,
        Fault::DropsBefore,
        Fault::Hangs,
        Fault::FailsAfter,
        Fault::Slow,
    ]);
    // The sender is gone in the middle of it, more than once, and takes its process with it.
    billed.cut_round(Duration::from_millis(15)).await;
    billed.restart().await;
    billed.app().pass_seconds(61);
    billed.cut_round(Duration::from_millis(40)).await;
    billed
        .fake
        .next(&[Fault::Drops, Fault::Drops, Fault::RateLimited, Fault::DropsBefore]);
    billed.restart().await;
    billed.until_credited().await;
    let expected: BTreeMap<String, (usize, i64)> = sold.iter().map(|(id, (_, cents))| (id.clone(), (1, *cents))).collect();
    assert_eq!(billed.credited(), expected, "{:?}", billed.fake.told());
    for (id, (name, _)) in &sold {
        let credit = billed.credit(name, id).await;
        assert_eq!(credit["state"], "acknowledged", "{credit:#}");
        let book = billed.fake.book();
        let there = book.grants.iter().find(|grant| credit["provider_id"] == grant.id.as_str());
        let there = there.expect("what Stripe calls it");
        assert_eq!(
            (&there.metadata["weir_grant_id"], there.customer.as_str()),
            (id, format!("cus_{name}").as_str())
        );
    }
    let report = billed.reconcile(json!({})).await;
    assert_eq!(report["credits"], json!([]), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_thirty_hours_a_credit_is_looked_for_and_not_given_twice() {
    let billed = Billed::with_buyers(&["a", "b"]).await;
    let (taken, lost) = (billed.sell("a", 100).await, billed.sell("b", 200).await);
    billed.fake.next(&[Fault::Drops, Fault::DropsBefore]);
    billed.round().await;
    for (name, id) in [("a", &taken), ("b", &lost)] {
        let credit = billed.credit(name, id).await;
        assert_eq!(
            (&credit["state"], &credit["reason"]),
            (&json!("unknown"), &json!("unanswered")),
            "{credit:#}"
        );
        assert!(!credit["unsure_since"].is_null());
    }
    assert_eq!(billed.fake.book().grants.len(), 1);
    let report = billed.reconcile(json!({"workspace_id": "ws_a"})).await;
    assert_eq!(report["credits"][0]["state"], "unknown", "{report:#}");
    billed.fake.set_down(true);
    for _ in 0..30 {
        billed.app().pass_seconds(HOUR);
        billed.round().await;
    }
    billed.fake.set_down(false);
    for _ in 0..5 {
        billed.app().pass_seconds(HOUR);
        billed.round().await;
    }
    let expected = [(taken.clone(), (1, 100)), (lost, (1, 200))];
    assert_eq!(billed.credited(), expected.into_iter().collect());
    assert_eq!(billed.state("a", &taken).await, "acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voided_grant_is_voided_at_the_provider_once_or_never_given() {
    let billed = Billed::with_buyers(&["a"]).await;
    billed.app().get("/metrics").await;
    let never = billed.sell("a", 100).await;
    billed.void_grant("a", &never).await;
    let there = billed.sell("a", 200).await;
    let silenced = billed.sell("a", 300).await;
    let lost = billed.sell("a", 400).await;
    // Two are given; of these one, and of the third, no answer comes.
    billed.fake.next(&[Fault::Slow, Fault::Drops, Fault::DropsBefore]);
    billed.round().await;
    assert_eq!(billed.fake.book().grants.len(), 2);
    assert_eq!(billed.state("a", &never).await, "voided");
    for grant in [&there, &silenced, &lost] {
        billed.void_grant("a", grant).await;
        assert_eq!(billed.state("a", grant).await, "voiding");
    }
    // The void meets the same.
    billed.fake.next(&[Fault::Drops, Fault::RateLimited, Fault::FailsAfter]);
    billed.app().pass_seconds(61);
    billed.cut_round(Duration::from_millis(10)).await;
    billed.app().pass_seconds(61);
    billed.until_credited().await;
    for grant in [&never, &there, &silenced, &lost] {
        assert_eq!(billed.state("a", grant).await, "voided");
    }
    assert_eq!((billed.credited(), billed.fake.book().grants.len()), (BTreeMap::new(), 2));
    assert!(!billed.fake.told().contains_key("404 resource_missing"), "{:?}", billed.fake.told());
    let path = format!("{}/{there}/resend", grants_of("a"));
    billed.app().post(&path, json!({})).await.problem(409, "credit_conflict");
}

/// A gauge is of the whole process, so other tests of this program set it too: it is measured again until it shows what is here.
async fn shows_the_credit_that_waits(billed: &Billed) {
    let mut metrics = String::new();
    for _ in 0..200 {
        billed.app().pass_seconds(61);
        billed.round().await;
        metrics = billed.app().get("/metrics").await.text;
        if metrics.contains("weir_billing_credits{state=\"unbillable\"} 1") {
            return;
        }
    }
    panic!("the gauge never shows it: {metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_given_is_seen_and_goes_again() {
    let billed = Billed::with_buyers(&[]).await;
    billed.app().get("/metrics").await;
    billed.buyer("a", None).await;
    let waiting = billed.sell("a", 100).await;
    billed.round().await;
    let credit = billed.credit("a", &waiting).await;
    assert_eq!(
        (&credit["state"], &credit["reason"]),
        (&json!("unbillable"), &json!("no_customer")),
        "{credit:#}"
    );
    billed.app().pass_seconds(61);
    billed.round().await;
    shows_the_credit_that_waits(&billed).await;
    let report = billed.reconcile(json!({})).await;
    let line = &report["credits"][0];
    assert_eq!(
        (&line["grant_id"], &line["amount"], &line["state"]),
        (&json!(waiting), &json!(100), &json!("unbillable"))
    );
    assert_eq!(
        billed.reconcile(json!({"meter": "tokens"})).await["credits"],
        json!([]),
        "of no meter"
    );
    // A customer that Stripe does not know.
    billed.buyer("a", Some("cus_a")).await;
    billed.app().pass_seconds(61);
    billed.round().await;
    let credit = billed.credit("a", &waiting).await;
    assert_eq!(
        (&credit["state"], &credit["reason"]),
        (&json!("rejected"), &json!("refused")),
        "{credit:#}"
    );
    assert!(
        credit["reason_detail"].as_str().expect("words").contains("No such customer"),
        "{credit:#}"
    );
    billed.app().pass_seconds(HOUR);
    billed.round().await;
    assert_eq!(billed.state("a", &waiting).await, "rejected", "nobody tries what was refused");
    billed.fake.book().add_customer("cus_a");
    let path = format!("{}/{waiting}/resend", grants_of("a"));
    let again = billed.app().post(&path, json!({})).await.expect(200);
    assert_eq!(
        (&again["billing"]["state"], &again["paid"]),
        (&json!("pending"), &json!({"amount": 100, "currency": "usd"}))
    );
    billed.round().await;
    assert_eq!(billed.state("a", &waiting).await, "acknowledged");
    assert_eq!(billed.credited(), [(waiting.clone(), (1, 100))].into_iter().collect());
    billed.app().post(&path, json!({})).await.problem(409, "credit_conflict");
    let records = billed.app().get("/v1/admin/audit-log?limit=20").await.expect(200);
    let resent = records["data"].as_array().expect("data").iter();
    assert_eq!(resent.filter(|record| record["action"] == "billing.credit.resend").count(), 1);
    // One that was not paid for has nothing to send.
    let given = billed.app().post(&grants_of("a"), json!({"amount": 5})).await.expect(201);
    let path = format!("{}/{}/resend", grants_of("a"), given["grant_id"].as_str().expect("an id"));
    billed.app().post(&path, json!({})).await.problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_end_and_reconcile_finds_out_what_became_of_the_last() {
    let billed = Billed::with_buyers(&["a"]).await;
    // More than a report names wait before it, for a customer.
    billed.buyer("nobody", None).await;
    for _ in 0..weir::decision::billing::report::CREDITS_MAX {
        billed.sell("nobody", 100).await;
    }
    billed.app().pass_seconds(1);
    let grant = billed.sell("a", 100).await;
    // Stripe answers each give with an error of its own, and the last one did happen.
    let tries = weir::decision::billing::delivery::TRIES_MAX as usize;
    let mut faults = vec![Fault::Fails; tries - 1];
    faults.push(Fault::FailsAfter);
    billed.fake.next(&faults);
    for _ in 0..tries + 5 {
        billed.app().pass_seconds(HOUR / 2);
        billed.round().await;
    }
    let credit = billed.credit("a", &grant).await;
    assert_eq!(
        (&credit["state"], &credit["reason"]),
        (&json!("unknown"), &json!("tries_exhausted")),
        "{credit:#}"
    );
    assert!(credit["next_try_at"].is_null());
    let report = billed.reconcile(json!({})).await;
    let named = report["credits"].as_array().expect("credits");
    assert_eq!(named.len(), weir::decision::billing::report::CREDITS_MAX);
    let last = named.last().expect("the newest is named last");
    assert_eq!(
        (&last["grant_id"], &last["outcome"], &last["state"]),
        (&json!(grant), &json!("acknowledged"), &json!("acknowledged"))
    );
    assert_eq!(billed.state("a", &grant).await, "acknowledged");
    assert_eq!((billed.credited().len(), billed.fake.book().grants.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_that_stripe_took_and_could_not_count_is_rejected_and_goes_again() {
    let mut billed = Billed::start(BEGIN).await;
    let hook = format!("{}/webhooks/stripe", billed.app().url);
    billed.fake.hook(&hook, WEBHOOK_SECRET);
    // Nobody has told Stripe of this customer: it takes the event, and finds out later.
    billed.workspace("ws_one", Some("cus_one")).await;
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 0);
    assert!(billed.batches("rejected").await.is_empty());
    let reported = billed.fake.push_reports().await;
    assert!(
        !reported.is_empty() && reported.iter().all(|report| report.get("data").is_none()),
        "{reported:?}"
    );
    assert!(billed.batches("rejected").await.is_empty(), "its data is not there yet");
    for _ in 0..2 {
        billed.round().await;
    }
    let rejected = billed.batches("rejected").await;
    assert_eq!(rejected.len(), reported.len(), "{rejected:#?}");
    for batch in &rejected {
        assert_eq!(batch["reason"], "reported", "{batch:#}");
        assert!(
            batch["reason_detail"].as_str().expect("words").contains("Customer not found"),
            "{batch:#}"
        );
    }
    assert!(billed.fake.push_reports().await.is_empty());
    billed.fake.book().add_customer("cus_one");
    for batch in &rejected {
        let path = format!("/v1/admin/billing/batches/{}/resend", batch["batch_id"].as_str().expect("an id"));
        billed.app().post(&path, json!({})).await.expect(200);
    }
    billed.until_told().await;
    assert_eq!(billed.fake.book().totals(), billed.counted.values());
    // Told once more, what was reported is not rejected again.
    let forged = json!({"id": "evt_forged", "type": "v1.billing.meter.error_report_triggered"});
    billed.fake.hook(&hook, "whsec_somebody_elses");
    assert_eq!(billed.fake.tell(&forged).await, 400, "who does not sign is not heard");
    assert!(billed.batches("rejected").await.is_empty());
}
