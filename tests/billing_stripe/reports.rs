//! Usage that Stripe took and did not count: its reports, what they do not name, and what an operator knows better.

use crate::billed::{Billed, WEBHOOK_SECRET, named};
use crate::stripe::faults::Fault;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use weir::decision::event::{Audience, Event, EventType};
use weir::ledger::events::EventQuery;
use weir::ledger::inbound::ReportCounts;

const BEGIN: &str = "2025-11-21T10:00:00Z";
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// Workspaces of a customer that nobody has told Stripe of.
const GHOSTS: usize = 12;

async fn start() -> Billed {
    let billed = Billed::start(BEGIN).await;
    billed.fake.hook(&format!("{}/webhooks/stripe", billed.app().url), WEBHOOK_SECRET);
    billed
}

/// Twelve events of an unknown customer, and one of a known one, all acknowledged.
async fn ghosts() -> Billed {
    let mut billed = start().await;
    billed.fake.book().add_customer("cus_good");
    billed.workspace("ws_good", Some("cus_good")).await;
    billed.record("cus_good", &[("ws_good", "summary", 93, HOUR)]).await;
    for number in 0..GHOSTS {
        let name = format!("ws_ghost_{number}");
        billed.workspace(&name, Some("cus_ghost")).await;
        billed.record("cus_ghost", &[(&name, "summary", 93 + number as i64, HOUR)]).await;
    }
    billed.until_told().await;
    assert_eq!(billed.batches("rejected").await.len(), 0);
    billed
}

/// Those of tokens in a state, as workspace and reason.
async fn tokens(billed: &Billed, state: &str) -> Vec<(String, Value)> {
    let batches = billed.batches(state).await.into_iter();
    let of_tokens = batches.filter(|batch| batch["meter"] == "tokens");
    of_tokens
        .map(|batch| (batch["workspace_id"].as_str().expect("a name").to_owned(), batch["reason"].clone()))
        .collect()
}

async fn reports(billed: &Billed) -> ReportCounts {
    billed.app().service.ledger.report_counts().await.expect("counts")
}

async fn told(billed: &Billed) -> Vec<Event> {
    let query = EventQuery {
        audience: Some(Audience::Operator),
        kinds: vec![EventType::BillingDifferenceFound],
        limit: 100,
        ..EventQuery::default()
    };
    billed.app().service.ledger.events(&query).await.expect("events")
}

async fn resend(billed: &Billed, batch: &Value, body: Value) -> crate::support::Reply {
    let path = format!("/v1/admin/billing/batches/{}/resend", batch["batch_id"].as_str().expect("an id"));
    let reason = [("x-weir-reason", "Stripe's support: it was never counted")];
    billed.app().send(Method::POST, &path, &reason, body).await
}

/// They are told again once Stripe knows the customer.
async fn go_again(billed: &Billed) {
    billed.fake.book().add_customer("cus_ghost");
    for batch in billed.batches("rejected").await {
        let again = resend(billed, &batch, json!({})).await.expect(200);
        assert!(again["identifier"].as_str().expect("text").ends_with("-2"), "{again:#}");
    }
    billed.until_told().await;
    // Cents are whole in each workspace, and the customer has twelve.
    let all = billed.counted.values().into_iter();
    let of_tokens: BTreeMap<(String, String), i64> = all.filter(|((_, name), _)| name == "tokens").collect();
    assert_eq!(billed.fake.book().totals(), of_tokens);
    billed.app().pass_seconds(HOUR + 60);
    let report = billed.reconcile(json!({})).await;
    assert_eq!((named(&report), &report["unexplained"]), (Vec::new(), &json!(0)), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_events_of_an_unknown_customer_are_rejected_by_five_samples() {
    let billed = ghosts().await;
    let pushed = billed.fake.push_reports().await;
    assert!(pushed.iter().all(|report| report.get("data").is_none()), "{pushed:#?}");
    assert_eq!(tokens(&billed, "rejected").await, [], "nobody knows yet what it says");
    for _ in 0..2 {
        billed.round().await;
    }
    let rejected = tokens(&billed, "rejected").await;
    assert_eq!(rejected.len(), GHOSTS, "{rejected:?}");
    assert!(
        rejected
            .iter()
            .all(|(workspace, reason)| workspace.starts_with("ws_ghost") && reason == "reported")
    );
    let details = billed.batches("rejected").await;
    let is_named = |batch: &&Value| {
        batch["reason_detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("Customer not found"))
    };
    let of_tokens = || details.iter().filter(|batch| batch["meter"] == "tokens");
    assert_eq!((of_tokens().filter(is_named).count(), of_tokens().count()), (5, GHOSTS));
    let events = told(&billed).await;
    let of_customer: Vec<&Value> = events.iter().map(|event| &event.data["customer"]).collect();
    assert!(
        !of_customer.is_empty() && of_customer.iter().all(|customer| **customer == "cus_ghost"),
        "{events:?}"
    );
    // The same notice again is the same report, and changes nothing.
    let asked = billed.fake.events_asked();
    for report in &pushed {
        assert_eq!(billed.fake.tell(report).await, 200);
    }
    // Stripe's sums are looked at again when they have all of that hour: the customer that it knows is billed.
    billed.app().pass_seconds(HOUR + 60);
    for _ in 0..3 {
        billed.round().await;
        billed.app().pass_seconds(900);
    }
    assert_eq!(billed.fake.events_asked(), asked, "it is had once");
    assert_eq!(
        (tokens(&billed, "rejected").await.len(), told(&billed).await.len()),
        (GHOSTS, events.len())
    );
    assert_eq!(reports(&billed).await, ReportCounts::default());
    assert_eq!(billed.fake.book().total("cus_good", "tokens"), 100);
    let log = billed
        .app()
        .get("/v1/admin/audit-log?action=billing.batch.report&limit=500")
        .await
        .expect(200);
    let log = log["data"].as_array().expect("data");
    assert_eq!(log.len(), GHOSTS, "each is rejected once");
    assert_eq!(log[0]["actor"], format!("stripe:{}", pushed[0]["id"].as_str().expect("an id")));
    go_again(&billed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_cannot_be_had_is_asked_for_again() {
    let billed = ghosts().await;
    billed.fake.plan().queue_events(&[
        Fault::RateLimited,
        Fault::Fails,
        Fault::DropsBefore,
        Fault::Drops,
        Fault::RateLimited,
        Fault::Fails,
    ]);
    let pushed = billed.fake.push_reports().await;
    billed.round().await;
    assert_eq!(tokens(&billed, "rejected").await, []);
    assert_eq!(reports(&billed).await.waiting, i64::try_from(pushed.len()).expect("few"));
    // Ended and begun anew, as after a crash: what was heard is kept.
    let mut billed = billed;
    billed.restart().await;
    for _ in 0..6 {
        billed.app().pass_seconds(61);
        billed.round().await;
    }
    assert_eq!(tokens(&billed, "rejected").await.len(), GHOSTS);
    // Asked for no more often than it went wrong and, by two nodes at once, was had.
    let asked = billed.fake.events_asked();
    assert!(asked >= 6 + pushed.len() as u64, "{asked}");
    go_again(&billed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_nobody_could_have_for_three_days_is_named_and_begins_anew() {
    let billed = ghosts().await;
    billed.app().get("/metrics").await;
    let pushed = billed.fake.push_reports().await;
    billed.fake.set_down(true);
    for _ in 0..300 {
        billed.app().pass_seconds(950);
        weir::flow::reports::round(&billed.app().service).await.expect("a round");
    }
    let all = i64::try_from(pushed.len()).expect("few");
    assert_eq!(reports(&billed).await, ReportCounts { waiting: 0, given_up: all });
    let metrics = billed.app().get("/metrics").await;
    assert!(metrics.text.contains("weir_billing_reports{state=\"given_up\"}"), "it is a metric");
    billed.fake.set_down(false);
    // Somebody presses the button at Stripe.
    for report in &pushed {
        assert_eq!(billed.fake.tell(report).await, 200);
    }
    for _ in 0..2 {
        billed.round().await;
    }
    assert_eq!(tokens(&billed, "rejected").await.len(), GHOSTS);
    go_again(&billed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_comes_whole_is_not_asked_for() {
    let billed = ghosts().await;
    billed.fake.book().pushes_whole = true;
    billed.fake.set_down(true);
    let pushed = billed.fake.push_reports().await;
    assert!(pushed.iter().all(|report| report["data"].is_object()));
    assert_eq!(tokens(&billed, "rejected").await.len(), 5, "what it names is rejected at once");
    billed.fake.set_down(false);
    for _ in 0..2 {
        billed.round().await;
    }
    assert_eq!(tokens(&billed, "rejected").await.len(), GHOSTS);
    assert_eq!(billed.fake.events_asked(), 0);
    go_again(&billed).await;
}

/// Three workspaces of a known customer, used in the same minute; Stripe does not count those whose values these are, and names none.
async fn unnamed(values: [i64; 3], lost: &[i64]) -> Billed {
    let mut billed = start().await;
    billed.fake.book().add_customer("cus_one");
    for (name, value) in ["ws_x", "ws_y", "ws_z"].into_iter().zip(values) {
        billed.workspace(name, Some("cus_one")).await;
        billed.record("cus_one", &[(name, "summary", value - 7, HOUR)]).await;
    }
    billed.until_told().await;
    {
        let mut book = billed.fake.book();
        book.samples_max = 0;
        let mut lost = lost.to_vec();
        for event in book.events.iter_mut().filter(|event| event.event_name == "tokens") {
            if let Some(place) = lost.iter().position(|value| *value == event.value) {
                lost.remove(place);
                event.fault = Some("meter_event_invalid_value");
            }
        }
    }
    billed.fake.push_reports().await;
    for _ in 0..3 {
        billed.round().await;
    }
    assert_eq!(tokens(&billed, "rejected").await, [], "its sums need not have all of it yet");
    assert_eq!(reports(&billed).await.waiting, 1);
    billed.app().pass_seconds(HOUR + 60);
    for _ in 0..2 {
        billed.round().await;
    }
    assert_eq!(reports(&billed).await, ReportCounts::default());
    billed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_sample_names_is_found_by_the_sum_where_it_has_one_reading() {
    let billed = unnamed([100, 230, 470], &[100, 470]).await;
    let mut rejected = tokens(&billed, "rejected").await;
    rejected.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = ["ws_x", "ws_z"].map(|name| (name.to_owned(), json!("reported")));
    assert_eq!(rejected, expected);
    assert_eq!(told(&billed).await.len(), 1);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(report["unexplained"], 0, "{report:#}");
    for batch in billed.batches("rejected").await {
        resend(&billed, &batch, json!({})).await.expect(200);
    }
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_sample_names_is_left_and_named_where_the_sum_has_two_readings() {
    let billed = unnamed([100, 100, 470], &[100]).await;
    assert_eq!(tokens(&billed, "rejected").await, []);
    let events = told(&billed).await;
    let [event] = &events[..] else { panic!("one: {events:?}") };
    assert_eq!(event.data["differences"][0]["code"], "unexplained", "{event:?}");
    assert_eq!(event.data["differences"][0]["value"], "-100");
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 570, "nothing is sent by guess");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_told_once_more_by_whoever_knows_that_it_never_counted() {
    let mut billed = start().await;
    billed.fake.book().add_customer("cus_one");
    billed.workspace("ws_one", Some("cus_one")).await;
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    // Stripe took it, does not count it, and says nothing.
    let lose = |fault| {
        let mut book = billed.fake.book();
        let event = book.events.iter_mut().find(|event| event.event_name == "tokens");
        event.expect("it was told").fault = fault;
    };
    lose(Some("nobody_knows"));
    billed.app().pass_seconds(HOUR + 60);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(named(&report), ["cus_one tokens unexplained -100"]);
    let batches = billed.batches("acknowledged").await;
    let batch = batches
        .iter()
        .find(|batch| batch["meter"] == "tokens")
        .expect("it is there")
        .clone();
    for body in [json!({}), json!({"force": false})] {
        resend(&billed, &batch, body).await.problem(409, "batch_conflict");
    }
    let again = resend(&billed, &batch, json!({"force": true})).await.expect(200);
    assert_eq!(
        (again["state"].as_str(), again["identifier"].as_str()),
        (
            Some("sealed"),
            Some(format!("{}-2", batch["batch_id"].as_str().expect("an id")).as_str())
        )
    );
    billed.until_told().await;
    let values: Vec<i64> = billed
        .fake
        .book()
        .events
        .iter()
        .filter(|event| event.event_name == "tokens")
        .map(|event| event.value)
        .collect();
    assert_eq!((values, billed.fake.book().total("cus_one", "tokens")), (vec![100, 100], 100));
    let log = billed
        .app()
        .get("/v1/admin/audit-log?action=billing.batch.resend")
        .await
        .expect(200);
    let [record] = &log["data"].as_array().expect("data")[..] else {
        panic!("one: {log:#}")
    };
    assert_eq!(
        (&record["reason"], &record["before"]["state"], &record["after"]["force"]),
        (
            &json!("Stripe's support: it was never counted"),
            &json!("acknowledged"),
            &json!(true)
        )
    );
    billed.app().pass_seconds(HOUR + 60);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(
        (named(&report), &report["unexplained"]),
        (Vec::new(), &json!(0)),
        "one of the two counts"
    );
    let before = told(&billed).await.len();
    // It counts after all.
    lose(None);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(
        (named(&report), &report["unexplained"]),
        (vec!["cus_one tokens sent_again 100".to_owned()], &json!(0))
    );
    assert_eq!(report["lines"][0]["differences"].as_array().map(Vec::len), Some(1), "{report:#}");
    assert_eq!(told(&billed).await.len(), before + 1, "somebody has to cancel one of them");
    let verified = billed.app().service.ledger.verify_batches(None, 100).await.expect("verified");
    assert_eq!(verified.differences, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_at_a_customer_that_stripe_does_not_know_is_told() {
    let mut billed = start().await;
    billed.app().get("/metrics").await;
    billed.workspace("ws_one", Some("cus_one")).await;
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    for _ in 0..2 {
        let report = billed.reconcile(json!({})).await;
        assert_eq!(
            (named(&report), &report["unexplained"]),
            (vec!["cus_one tokens customer_unknown -100".to_owned()], &json!(0))
        );
    }
    let events = told(&billed).await;
    let [event] = &events[..] else { panic!("one: {events:?}") };
    assert_eq!((&event.data["customer"], &event.data["told"]), (&json!("cus_one"), &json!(100)));
    let metrics = billed.app().get("/metrics").await;
    assert!(metrics.text.contains("weir_billing_customer_unknown "), "it is a metric");
    // More of it is the same matter.
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    billed.reconcile(json!({})).await;
    assert_eq!(told(&billed).await.len(), 1);
    // Whoever has no such use is not told of.
    billed.app().pass_seconds(40 * DAY);
    let report = billed.reconcile(json!({})).await;
    assert_eq!(named(&report), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_and_not_counted_is_taken_back_again() {
    let mut billed = start().await;
    billed.fake.book().add_customer("cus_one");
    billed.workspace("ws_one", Some("cus_one")).await;
    billed.app().pass_seconds(2 * HOUR);
    billed.record("cus_one", &[("ws_one", "summary", 93, HOUR)]).await;
    billed.until_told().await;
    billed.correct("ws_one", "cus_one", "use-1", 70).await;
    billed.until_told().await;
    billed.app().pass_seconds(2 * HOUR);
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 70);
    // It was taken and is not counted, and no sample names it: Stripe's sum has one reading.
    {
        let mut book = billed.fake.book();
        book.samples_max = 0;
        let event = book.events.iter_mut().find(|event| event.value == -30);
        event.expect("it was told").fault = Some("meter_event_invalid_value");
    }
    billed.app().pass_seconds(HOUR + 60);
    billed.fake.push_reports().await;
    for _ in 0..3 {
        billed.round().await;
    }
    let rejected = billed.batches("rejected").await;
    let [batch] = &rejected[..] else { panic!("one: {rejected:#?}") };
    assert_eq!((&batch["value"], &batch["reason"]), (&json!(-30), &json!("reported")));
    let report = billed.reconcile(json!({})).await;
    assert_eq!(named(&report), ["cus_one tokens rejected -30"]);
    resend(&billed, batch, json!({})).await.expect(200);
    billed.until_told().await;
    assert_eq!(billed.fake.book().total("cus_one", "tokens"), 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_service_asks_for_a_report_by_itself() {
    let billed = ghosts().await;
    billed.fake.push_reports().await;
    weir::app::background(&billed.app().service, Duration::from_secs(1));
    // By the machine's clock: rounds begin each second.
    for _ in 0..300 {
        if tokens(&billed, "rejected").await.len() == GHOSTS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", reports(&billed).await);
}
