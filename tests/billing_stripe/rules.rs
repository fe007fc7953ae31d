//! The fake Stripe obeys what Stripe documents, and Stripe's own client agrees.

use crate::stripe::faults::Fault;
use crate::stripe::{FakeStripe, KEY, webhooks};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use weir::clock::{Clock, MovableClock, SystemClock};
use weir::decision::time::Timestamp;

const SECRET: &str = "whsec_of_the_fake";

struct World {
    fake: FakeStripe,
    clock: Arc<MovableClock>,
    client: Client,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse("2025-11-21T10:00:00Z").expect("a moment")));
        let fake = FakeStripe::start(clock.clone());
        fake.book().add_customer("cus_1");
        fake.book().add_meter("tokens");
        let client = Client::builder().no_proxy().timeout(Duration::from_millis(900));
        Self {
            fake,
            clock,
            client: client.build().expect("a client"),
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().micros() / 1_000_000
    }

    async fn try_event(&self, identifier: &str, value: &str, at: i64, key: Option<&str>) -> reqwest::Result<Response> {
        let timestamp = at.to_string();
        let fields = [
            ("event_name", "tokens"),
            ("identifier", identifier),
            ("timestamp", &timestamp),
            ("payload[stripe_customer_id]", "cus_1"),
            ("payload[value]", value),
        ];
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self
            .client
            .post(format!("{}/v1/billing/meter_events", self.fake.url))
            .bearer_auth(KEY);
        request = request
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        request.send().await
    }

    async fn event(&self, identifier: &str, value: &str, at: i64, key: Option<&str>) -> (u16, Value) {
        let response = self.try_event(identifier, value, at, key).await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.fake.url)).bearer_auth(KEY);
        let request = request.header("Stripe-Version", "2025-10-29.clover");
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    fn total(&self) -> i64 {
        self.fake.book().total("cus_1", "tokens")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_are_taken_from_35_days_ago_to_5_minutes_ahead() {
    let world = World::new();
    let rows = [
        (0, 200),
        (300, 200),
        (301, 400),
        (-2_937_600, 200),
        (-3_024_000, 200),
        (-3_024_001, 400),
        (-3_110_400, 400),
    ];
    for (offset, status) in rows {
        let (answered, body) = world.event(&format!("at{offset}"), "1", world.now() + offset, None).await;
        assert_eq!(answered, status, "{offset}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_is_unique_for_a_day_and_then_counts_again() {
    let world = World::new();
    assert_eq!(world.event("one", "5", world.now(), None).await.0, 200);
    world.clock.advance_seconds(86_399);
    let (status, body) = world.event("one", "5", world.now(), None).await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_request_error")));
    assert_eq!(body["error"]["message"], "An event already exists with identifier one.");
    world.clock.advance_seconds(1);
    // This is what a blind resend costs.
    assert_eq!(world.event("one", "5", world.now(), None).await.0, 200);
    assert_eq!(world.total(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_replays_what_was_answered_even_a_fault() {
    let world = World::new();
    world.fake.next(&[Fault::FailsAfter]);
    let now = world.now();
    assert_eq!(world.event("one", "5", now, Some("key")).await.0, 500);
    let again = world.try_event("one", "5", now, Some("key")).await.expect("an answer");
    assert_eq!(
        (again.status().as_u16(), again.headers()["idempotent-replayed"].to_str().ok()),
        (500, Some("true"))
    );
    let (status, body) = world.event("one", "6", now, Some("key")).await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("idempotency_error")));
    // Only another key tells what became of it.
    assert!(
        world.event("one", "5", now, Some("other")).await.1["error"]["message"]
            .as_str()
            .expect("words")
            .contains("already exists")
    );
    assert_eq!(world.total(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_come_as_planned_and_say_nothing_of_what_happened() {
    let world = World::new();
    let now = world.now();
    world.fake.plan().hang = Duration::from_secs(2);
    world.fake.next(&[
        Fault::Drops,
        Fault::DropsBefore,
        Fault::Hangs,
        Fault::RateLimited,
        Fault::Fails,
        Fault::SaysDuplicate,
    ]);
    let whole = async |identifier: &str| match world.try_event(identifier, "1", now, None).await {
        Ok(response) => response.text().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole("drops").await && !whole("before").await && !whole("hangs").await);
    assert_eq!(world.event("limited", "1", now, None).await.0, 429);
    assert_eq!(world.event("fails", "1", now, None).await.0, 500);
    assert_eq!(world.event("says", "1", now, None).await.0, 400);
    let book = world.fake.book();
    let taken: Vec<&str> = book.events.iter().map(|event| event.identifier.as_str()).collect();
    assert_eq!(taken, ["drops", "hangs", "says"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_calls_about_one_customer_and_meter_do_not_run_at_once() {
    let world = World::new();
    world.fake.plan().slow = Duration::from_millis(300);
    world.fake.next(&[Fault::Slow]);
    let now = world.now();
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.event("second", "1", now, None).await
    };
    let (first, (status, body)) = tokio::join!(world.event("first", "1", now, None), second);
    assert_eq!((first.0, status, &body["error"]["code"]), (200, 429, &json!("lock_timeout")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_unknown_customers_are_taken_and_reported_later() {
    let world = World::new();
    let now = world.now();
    let unknown = world
        .client
        .post(format!("{}/v1/billing/meter_events", world.fake.url))
        .bearer_auth(KEY);
    let unknown = unknown.header("Content-Type", "application/x-www-form-urlencoded");
    let unknown = unknown.body("event_name=tokens&identifier=lost&payload[stripe_customer_id]=cus_9&payload[value]=3");
    assert_eq!(unknown.send().await.expect("an answer").status(), 200);
    assert_eq!(world.event("kept", "4", now, None).await.0, 200);
    let reports = world.fake.book().report(now);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["type"], "v1.billing.meter.error_report_triggered");
    assert_eq!(reports[0].get("data"), None, "it is told of without its data");
    let id = reports[0]["id"].as_str().expect("an id");
    let path = format!("/v2/core/events/{id}");
    let unversioned = world.client.get(format!("{}{path}", world.fake.url)).bearer_auth(KEY).send().await;
    assert_eq!(unversioned.expect("an answer").status(), 400);
    let (status, report) = world.get(&path).await;
    assert_eq!((status, &report["id"]), (200, &reports[0]["id"]));
    let kinds = &report["data"]["reason"]["error_types"][0];
    assert_eq!(
        (&kinds["code"], &kinds["sample_errors"][0]["request"]["identifier"]),
        (&json!("meter_event_customer_not_found"), &json!("lost"))
    );
    assert!(world.fake.book().report(now).is_empty(), "it is told once");
    assert_eq!((world.total(), world.fake.book().total("cus_9", "tokens")), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn summaries_lag_and_a_day_later_nothing_can_be_cancelled() {
    let world = World::new();
    world.fake.book().summary_lag_seconds = 30;
    let (now, meter) = (world.now(), world.fake.book().meters[0].id.clone());
    assert_eq!(world.event("one", "5", now, None).await.0, 200);
    let asked = format!(
        "/v1/billing/meters/{meter}/event_summaries?customer=cus_1&start_time={now}&end_time={}",
        now + 3_600
    );
    assert_eq!(world.get(&asked).await.1["data"], json!([]));
    world.clock.advance_seconds(30);
    assert_eq!(world.get(&asked).await.1["data"][0]["aggregated_value"], 5);
    world.clock.advance_seconds(86_400);
    let cancel = crate::stripe::form::Form::parse("type=cancel&event_name=tokens&cancel[identifier]=one").expect("a form");
    let refused = world.fake.book().adjustment(world.now(), &cancel);
    assert!(refused.expect_err("too late").message.contains("24 hours"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripes_own_client_agrees() {
    // No store is under it: once is enough.
    if crate::support::stores::is_production() {
        return;
    }
    let fake = FakeStripe::start(Arc::new(SystemClock));
    fake.book().add_customer("cus_1");
    fake.book().add_meter("tokens");
    fake.book().add_meter("requests");
    let now = SystemClock.now().micros() / 1_000_000;
    for number in 0..7 {
        let text = format!("event_name=tokens&identifier=ghost-{number}&payload[stripe_customer_id]=cus_9&payload[value]=3");
        let form = crate::stripe::form::Form::parse(&text).expect("a form");
        fake.book().meter_event(now, &form).expect("it is taken");
    }
    let body = fake.book().report(now)[0].to_string();
    let signature = webhooks::signature(SECRET, &body, now);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stripe_client");
    let ran = tokio::process::Command::new(script)
        .args([&fake.url, KEY, &body, &signature, SECRET])
        .output()
        .await;
    let ran = ran.expect("the script runs");
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.code() == Some(75) && std::env::var_os("WEIR_TEST_NO_SKIPS").is_none() {
        eprintln!("skipped: Stripe's client cannot be installed here: {said}");
        return;
    }
    assert!(ran.status.success(), "{said}");
    assert_eq!(fake.book().total("cus_1", "tokens"), 40);
}

/// `cargo test --test billing_stripe serve_the_fake -- --ignored --nocapture`: a fake for hands and other programs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it serves until it is ended"]
async fn serve_the_fake() {
    let fake = FakeStripe::start(Arc::new(SystemClock));
    fake.book().add_customer("cus_1");
    fake.book().add_meter("tokens");
    println!("WEIR_STRIPE_API_BASE={} WEIR_STRIPE_SECRET_KEY={KEY}", fake.url);
    std::future::pending::<()>().await;
}
