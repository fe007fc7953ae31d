//! One thing at a time that goes wrong between Weir and Stripe.

use crate::billed::{Billed, named};
use crate::stripe::faults::Fault;
use serde_json::{Value, json};
use weir::decision::event::{Audience, EventType};
use weir::ledger::events::EventQuery;

const BEGIN: &str = "2025-11-21T10:00:00Z";
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

async fn with_customers(names: &[&str]) -> Billed {
    let billed = Billed::start(BEGIN).await;
    for name in names {
        let customer = format!("cus_{name}");
        billed.fake.book().add_customer(&customer);
        billed.workspace(&format!("ws_{name}"), Some(&customer)).await;
    }
    billed
}

fn tokens(billed: &Billed, name: &str) -> i64 {
    billed.fake.book().total(&format!("cus_{name}"), "tokens")
}

fn outcomes(report: &Value) -> Vec<(String, String)> {
    let repairs = report["repairs"].as_array().expect("repairs").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut outcomes: Vec<_> = repairs
        .map(|repair| (text(&repair["workspace_id"]), text(&repair["outcome"])))
        .collect();
    outcomes.sort();
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_thirty_hours_nothing_is_sent_by_guess() {
    let mut billed = with_customers(&["a", "b", "later"]).await;
    // Of no other meter than that of tokens: fractions of a cent are carried.
    billed.record("cus_a", &[("ws_a", "summary", 93, HOUR)]).await;
    billed.record("cus_b", &[("ws_b", "summary", 193, HOUR)]).await;
    billed.app().pass_seconds(10 * 60);
    billed.round().await;
    // One is taken and one is not, and no answer comes of either; then everything is away.
    billed.fake.next(&[Fault::Drops, Fault::DropsBefore]);
    billed.app().pass_seconds(61);
    billed.round().await;
    assert_eq!(billed.fake.book().events.len(), 1);
    let is_a = billed.fake.book().events[0].customer == "cus_a";
    let (taken, lost) = if is_a { ("a", "b") } else { ("b", "a") };
    billed.fake.set_down(true);
    for hour in 0..30 {
        billed.app().pass_seconds(HOUR);
        billed.round().await;
        if hour == 28 {
            billed.record("cus_later", &[("ws_later", "summary", 293, HOUR)]).await;
        }
    }
    billed.fake.set_down(false);
    let unknown = billed.batches("unknown").await;
    assert_eq!(unknown.len(), 2, "{unknown:#?}");
    for _ in 0..5 {
        billed.app().pass_seconds(HOUR);
        billed.round().await;
    }
    // What was first tried two hours before the end goes on by itself; of the others nothing was sent.
    assert_eq!(
        (tokens(&billed, taken), tokens(&billed, lost), tokens(&billed, "later")),
        (if is_a { 100 } else { 200 }, 0, 300)
    );
    let early = billed.app().get("/v1/admin/billing/batches?state=unknown").await.expect(200);
    assert!(
        early["data"][0]["reason_detail"]
            .as_str()
            .expect("words")
            .contains("too late to send it again")
    );
    let refused = billed
        .app()
        .post(
            &format!(
                "/v1/admin/billing/batches/{}/resend",
                unknown[0]["batch_id"].as_str().expect("an id")
            ),
            json!({}),
        )
        .await;
    assert_eq!(refused.status, 409);

    let report = billed.reconcile(json!({})).await;
    let mut expected = [(taken, "acknowledged"), (lost, "sent_again")].map(|(name, outcome)| (format!("ws_{name}"), outcome.to_owned()));
    expected.sort();
    assert_eq!(outcomes(&report), expected, "{report:#}");
    billed.until_told().await;
    assert_eq!(billed.fake.book().totals(), billed.counted.values());
    let again = billed.reconcile(json!({})).await;
    assert_eq!((&again["unexplained"], &again["repairs"]), (&json!(0), &json!([])), "{again:#}");
    let records = billed.app().get("/v1/admin/audit-log?limit=20").await.expect(200);
    let mended = records["data"]
        .as_array()
        .expect("data")
        .iter()
        .filter(|record| record["action"] == "billing.batch.reconcile")
        .count();
    assert_eq!(mended, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_batch_stays_unknown_where_the_sum_has_two_readings() {
    let mut billed = with_customers(&["one"]).await;
    billed.workspace("ws_twin", Some("cus_one")).await;
    // Two workspaces of one customer, used in the same second, worth the same.
    billed
        .record("cus_one", &[("ws_one", "summary", 93, HOUR), ("ws_twin", "summary", 93, HOUR)])
        .await;
    billed.app().pass_seconds(10 * 60);
    billed.round().await;
    billed.fake.next(&[Fault::Drops, Fault::DropsBefore]);
    billed.app().pass_seconds(61);
    billed.round().await;
    billed.fake.set_down(true);
    for _ in 0..30 {
        billed.app().pass_seconds(HOUR);
        billed.round().await;
    }
    billed.fake.set_down(false);
    billed.app().pass_seconds(2 * HOUR);
    // One of the two is there, and the sum does not say which one.
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 100);
    let report = billed.reconcile(json!({})).await;
    let left = [("ws_one", "left"), ("ws_twin", "left")].map(|(workspace, outcome)| (workspace.to_owned(), outcome.to_owned()));
    assert_eq!(outcomes(&report), left, "{report:#}");
    assert!(
        named(&report).contains(&"cus_one tokens unknown 100".to_owned()),
        "{:?}",
        named(&report)
    );
    assert_eq!(report["unexplained"], 0, "what it is has a name");
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 100, "nothing is sent by guess");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_that_waits_too_long_has_a_name_and_late_use_goes_into_the_open_period() {
    let mut billed = with_customers(&["old", "late", "older"]).await;
    // Stripe is away for 36 days, and two days before it is back use is recorded that is up to 34 days old.
    billed.fake.set_down(true);
    billed.record("cus_old", &[("ws_old", "summary", 93, HOUR)]).await;
    billed.app().pass_seconds(61);
    billed.round().await;
    billed.app().pass_seconds(34 * DAY);
    billed.record("cus_late", &[("ws_late", "summary", 193, 30 * DAY)]).await;
    billed.record("cus_older", &[("ws_older", "summary", 293, 34 * DAY)]).await;
    billed.app().pass_seconds(61);
    billed.round().await;
    billed.app().pass_seconds(2 * DAY);
    billed.fake.set_down(false);
    billed.until_told().await;
    assert_eq!(
        (tokens(&billed, "old"), tokens(&billed, "late"), tokens(&billed, "older")),
        (0, 200, 300)
    );
    let now = billed.now().micros() / 1_000_000;
    let told = billed
        .fake
        .book()
        .events
        .iter()
        .find(|event| event.event_name == "tokens")
        .map(|event| event.timestamp);
    assert!(
        told.is_some_and(|told| now - told < HOUR),
        "late use is told as of now: October was invoiced"
    );
    let from = billed.now().plus_seconds(-40 * DAY).to_string();
    billed.app().pass_seconds(HOUR + 60);
    let report = billed.reconcile(json!({"from": from})).await;
    assert_eq!(report["unexplained"], 0, "{report:#}");
    assert!(
        named(&report).contains(&"cus_old tokens too_old 100".to_owned()),
        "{:?}",
        named(&report)
    );
    assert!(billed.batches("unbillable").await.iter().all(|batch| batch["reason"] == "too_old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_of_a_sealed_hour_goes_into_the_next_batch_at_its_own_time() {
    let mut billed = with_customers(&["one"]).await;
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    assert_eq!(tokens(&billed, "one"), 100);
    let ago = 2 * HOUR;
    billed.record("cus_one", &[("ws_one", "summary", 43, ago)]).await;
    let used_at = billed.now().plus_seconds(-ago).micros() / 1_000_000;
    billed.until_told().await;
    let book = billed.fake.book();
    assert_eq!(book.total("cus_one", "tokens"), 150);
    assert!(book.events.iter().any(|event| event.value == 50 && event.timestamp == used_at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_that_is_not_made_yet_holds_up_its_own_batches_only() {
    let names = ["one", "two", "three", "four", "five", "six"];
    let mut billed = with_customers(&names).await;
    let tokens_meter = billed.fake.book().meters.iter().position(|meter| meter.event_name == "tokens");
    let meter = billed.fake.book().meters.remove(tokens_meter.expect("a meter"));
    for name in names {
        billed
            .record(&format!("cus_{name}"), &[(&format!("ws_{name}"), "chat", 100, 7_200)])
            .await;
    }
    for _ in 0..10 {
        billed.app().pass_seconds(61);
        billed.round().await;
    }
    // More of them than silences that would close the gate, and the others went by.
    let waiting = billed.batches("sealed").await;
    let reasons: Vec<&Value> = waiting.iter().map(|batch| &batch["reason"]).collect();
    assert_eq!(reasons, [&json!("no_meter"); 6], "{waiting:#?}");
    assert!(waiting.iter().all(|batch| {
        batch["reason_detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("event name tokens"))
    }));
    assert_eq!(billed.fake.book().total("cus_six", "calls"), 1);
    billed.fake.book().meters.push(meter);
    billed.until_told().await;
    assert_eq!(names.map(|name| tokens(&billed, name)), [107; 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_add_up_is_told_and_counted() {
    let mut billed = with_customers(&["one", "two"]).await;
    // Metrics are gathered from the first question for them on.
    billed.app().get("/metrics").await;
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.record("cus_two", &[("ws_two", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    billed.fake.book().summary_lag_seconds = 600;
    let fresh = billed.reconcile(json!({})).await;
    assert_eq!(fresh["unexplained"], 0, "{fresh:#}");
    assert!(
        named(&fresh).contains(&"cus_one tokens settling -100".to_owned()),
        "{:?}",
        named(&fresh)
    );
    // Somebody at Stripe cancels one, and sends something else of the other.
    {
        let mut book = billed.fake.book();
        let event = book
            .events
            .iter_mut()
            .find(|event| event.customer == "cus_one" && event.event_name == "tokens");
        event.expect("it is there").is_cancelled = true;
        let event = book
            .events
            .iter_mut()
            .find(|event| event.customer == "cus_two" && event.event_name == "tokens");
        event.expect("it is there").value += 11;
    }
    billed.app().pass_seconds(HOUR + 60);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(report["unexplained"], 2, "{report:#}");
    let mut found = named(&report);
    found.sort();
    assert_eq!(found, ["cus_one tokens unexplained -100", "cus_two tokens unexplained 11"]);
    let query = EventQuery {
        audience: Some(Audience::Operator),
        kinds: vec![EventType::BillingDifferenceFound],
        limit: 10,
        ..EventQuery::default()
    };
    billed.reconcile(json!({})).await;
    let events = billed.app().service.ledger.events(&query).await.expect("events");
    assert_eq!(events.len(), 2, "each is told once, and to operators: {events:?}");
    let one = billed.reconcile(json!({"workspace_id": "ws_two", "meter": "tokens"})).await;
    assert_eq!(
        (one["lines"].as_array().map(Vec::len), &one["unexplained"]),
        (Some(1), &json!(1)),
        "{one:#}"
    );
    let metrics = billed.app().get("/metrics").await;
    assert!(metrics.text.contains("weir_billing_unexplained "), "it is a metric");
    // After some days nobody has mended it: the round of each hour sees it no more, that of each day does.
    billed.app().pass_seconds(5 * 24 * HOUR);
    for (number, unexplained) in [(23, 0), (24, 2)] {
        let report = weir::flow::reconcile::round(&billed.app().service, number).await.expect("a report");
        assert_eq!(report.unexplained, unexplained, "round {number}");
    }

    billed
        .app()
        .post("/v1/admin/billing/reconcile", json!({"workspace_id": "ws_none"}))
        .await
        .problem(404, "not_found");
    let backwards = json!({"from": "2025-11-21T10:00:00Z", "to": "2025-11-20T10:00:00Z"});
    assert_eq!(billed.app().post("/v1/admin/billing/reconcile", backwards).await.status, 422);
    let too_long = json!({"from": "2025-01-01T00:00:00Z"});
    assert_eq!(billed.app().post("/v1/admin/billing/reconcile", too_long).await.status, 422);
    assert_eq!(
        billed.app().post("/v1/admin/billing/reconcile", json!({"since": 1})).await.status,
        400
    );
}
