//! Stripe and CloudEvents as providers, over real HTTP: what each thing that can go wrong is taken for.

use crate::stripe::faults::Fault;
use crate::stripe::{FakeStripe, KEY};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir::billing::cloudevents::CloudEvents;
use weir::billing::stripe::{Stripe, StripeSettings};
use weir::billing::{Answer, Credit, CreditAnswer, Fetched, Outgoing, Provider, SummaryQuery, Untold};
use weir::clock::{Clock, MovableClock};
use weir::config::Secret;
use weir::decision::billing::credit::CreditDelivery;
use weir::decision::grant::Purchase;
use weir::decision::id::{GrantId, MeterId, WorkspaceId};
use weir::decision::period::Period;
use weir::decision::time::Timestamp;

const BEGIN: &str = "2025-11-21T10:00:00Z";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a moment")
}

fn batch(identifier: &str, value: i64) -> Outgoing {
    Outgoing {
        identifier: identifier.to_owned(),
        workspace: WorkspaceId::parse("ws_1").expect("a name"),
        customer: Some("cus_1".to_owned()),
        meter: MeterId::parse("tokens").expect("a name"),
        event_name: "tokens".to_owned(),
        value,
        at: at("2025-11-21T09:30:30Z"),
        window: Period {
            start: at("2025-11-21T09:00:00Z"),
            end: at("2025-11-21T10:00:00Z"),
        },
        members: 3,
    }
}

struct World {
    fake: FakeStripe,
    clock: Arc<MovableClock>,
    stripe: Stripe,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(MovableClock::at(at(BEGIN)));
        let fake = FakeStripe::start(clock.clone());
        fake.book().add_customer("cus_1");
        fake.book().add_meter("tokens");
        let settings = StripeSettings {
            timeout: Duration::from_millis(1_500),
            ..StripeSettings::new(Secret::new(KEY.to_owned()), &fake.url)
        };
        let stripe = Stripe::new(&settings, clock.clone()).expect("a client");
        Self { fake, clock, stripe }
    }

    async fn summary(&self, customer: &str, event_name: &str) -> Result<Option<i64>, Untold> {
        let query = SummaryQuery {
            workspace: WorkspaceId::parse("ws_1").expect("a name"),
            customer: Some(customer.to_owned()),
            event_name: event_name.to_owned(),
            from: at("2025-11-21T09:00:00Z"),
            to: at("2025-11-21T11:00:00Z"),
        };
        self.stripe.summary(&query).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_went_wrong_the_same_identifier_again_counts_once() {
    let world = World::new();
    assert_eq!(world.stripe.send(&batch("plain", 1)).await, Answer::Acknowledged);
    assert_eq!(world.stripe.send(&batch("plain", 1)).await, Answer::Duplicate);
    world.fake.plan().hang = Duration::from_secs(3);
    for fault in Fault::ALL {
        let identifier = format!("{fault:?}");
        world.fake.next(&[fault]);
        let first = world.stripe.send(&batch(&identifier, 1)).await;
        let as_expected = match fault {
            Fault::RateLimited => matches!(first, Answer::RetryAfter { is_away: false, .. }),
            Fault::SaysDuplicate => first == Answer::Duplicate,
            Fault::Slow => first == Answer::Acknowledged,
            Fault::Fails | Fault::FailsAfter | Fault::Drops | Fault::DropsBefore | Fault::Hangs => matches!(first, Answer::Unknown { .. }),
        };
        assert!(as_expected, "{fault:?}: {first:?}");
        let second = world.stripe.send(&batch(&identifier, 1)).await;
        let was_taken = !matches!(fault, Fault::RateLimited | Fault::Fails | Fault::DropsBefore);
        let expected = if was_taken { Answer::Duplicate } else { Answer::Acknowledged };
        assert_eq!(second, expected, "{fault:?}");
    }
    assert_eq!(world.fake.book().total("cus_1", "tokens"), 1 + Fault::ALL.len() as i64);
    assert_eq!(world.summary("cus_1", "tokens").await, Ok(Some(1 + Fault::ALL.len() as i64)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stripe_refuses_is_rejected_in_its_own_words_and_without_the_key() {
    let world = World::new();
    let refused = async |outgoing: Outgoing| match world.stripe.send(&outgoing).await {
        Answer::Rejected { reason } => reason,
        other => panic!("{other:?}"),
    };
    let old = Outgoing {
        at: at("2025-10-01T00:00:00Z"),
        ..batch("old", 1)
    };
    assert!(refused(old).await.starts_with("400 timestamp_too_far_in_past: "));
    let waiting = async |outgoing: Outgoing| match world.stripe.send(&outgoing).await {
        Answer::NoMeter { reason } => reason,
        other => panic!("{other:?}"),
    };
    let nameless = Outgoing {
        event_name: "nothing".to_owned(),
        ..batch("nameless", 1)
    };
    assert!(waiting(nameless).await.contains("no active meter of the event name nothing"));
    world.fake.book().add_meter("counts");
    world.fake.book().meters.last_mut().expect("a meter").formula = "count".to_owned();
    world.clock.advance_seconds(16);
    let counting = Outgoing {
        event_name: "counts".to_owned(),
        ..batch("counting", 1)
    };
    assert!(waiting(counting).await.contains("no meter that sums"));
    world.fake.book().add_meter("hourly");
    world.fake.book().meters.last_mut().expect("a meter").time_window = Some("hour");
    world.clock.advance_seconds(16);
    let hourly = Outgoing {
        event_name: "hourly".to_owned(),
        ..batch("hourly", 1)
    };
    assert!(
        waiting(hourly).await.contains("no meter that sums"),
        "its events replace each other"
    );
    assert_eq!(
        world
            .stripe
            .check(&["tokens".to_owned(), "counts".to_owned(), "x".to_owned()])
            .await
            .expect("an answer")
            .len(),
        2
    );

    let wrong = StripeSettings::new(Secret::new("sk_test_planted_wrong".to_owned()), &world.fake.url);
    let wrong = Stripe::new(&wrong, world.clock.clone()).expect("a client");
    let Answer::RetryAfter { is_away: true, reason, .. } = wrong.send(&batch("keyless", 1)).await else {
        panic!("a wrong key is no fault of the batch");
    };
    assert!(reason.contains("Invalid API Key") && !reason.contains("planted"), "{reason}");
    assert!(matches!(wrong.check(&[]).await, Err(Untold::NoAnswer(_))));

    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let away = StripeSettings::new(Secret::new(KEY.to_owned()), &format!("http://{nobody}"));
    let away = Stripe::new(&away, world.clock.clone()).expect("a client");
    assert!(matches!(
        away.send(&batch("away", 1)).await,
        Answer::RetryAfter { is_away: true, .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_can_be_taken_back() {
    let world = World::new();
    assert_eq!(world.stripe.send(&batch("one", 9)).await, Answer::Acknowledged);
    assert_eq!(world.stripe.send(&batch("two", -2)).await, Answer::Acknowledged);
    assert_eq!(world.stripe.send(&batch("two", -2)).await, Answer::Duplicate);
    assert_eq!(world.summary("cus_1", "tokens").await, Ok(Some(7)));
    assert_eq!(world.summary("cus_9", "tokens").await, Err(Untold::CustomerUnknown));
    assert_eq!(world.summary("cus_1", "nothing").await, Err(Untold::MeterUnknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credit_is_given_once_whatever_goes_wrong_and_voided() {
    let world = World::new();
    let now = world.clock.now();
    let credit = Credit {
        grant: GrantId::from_uuid(uuid::Uuid::from_u128(1)),
        workspace: WorkspaceId::parse("ws").expect("a name"),
        paid: Purchase {
            amount: 2_500,
            currency: "eur".to_owned(),
        },
        effective_at: at("2025-11-20T00:00:00Z"),
        expires_at: Some(at("2026-11-20T00:00:00Z")),
        created_at: now,
        delivery: CreditDelivery {
            customer: Some("cus_1".to_owned()),
            ..CreditDelivery::new(now)
        },
    };
    assert_eq!(world.stripe.find_credit(&credit).await, CreditAnswer::Gone);
    // What it answers itself it would answer again under that key; what it does not, may still be running.
    for (fault, expected) in [
        (Fault::DropsBefore, Some(false)),
        (Fault::Fails, Some(true)),
        (Fault::RateLimited, None),
        (Fault::FailsAfter, Some(true)),
    ] {
        world.fake.next(&[fault]);
        let answer = world.stripe.give_credit(&credit).await;
        let is_answered = match answer {
            CreditAnswer::Unsure { is_answered, .. } => Some(is_answered),
            CreditAnswer::NotNow { is_away: false, .. } => None,
            other => panic!("{fault:?}: {other:?}"),
        };
        assert_eq!(is_answered, expected, "{fault:?}");
    }
    let CreditAnswer::Given(id) = world.stripe.give_credit(&credit).await else {
        panic!("it is there");
    };
    assert_eq!(world.stripe.find_credit(&credit).await, CreditAnswer::Given(id.clone()));
    {
        let book = world.fake.book();
        assert_eq!(book.grants.len(), 1);
        let shown = book.grant(&id).expect("it is there");
        assert_eq!(shown["amount"]["monetary"], json!({"currency": "eur", "value": 2_500}));
        assert_eq!((&shown["category"], &shown["customer"]), (&json!("paid"), &json!("cus_1")));
        assert_eq!(shown["applicability_config"]["scope"]["price_type"], "metered");
        assert_eq!(book.grants[0].expires_at, Some(at("2026-11-20T00:00:00Z").micros() / 1_000_000));
    }
    // Another request under a key that was used, of one that Stripe has no longer: it is asked anew.
    world.fake.book().grants.clear();
    let other = Credit {
        paid: Purchase {
            amount: 2_600,
            ..credit.paid.clone()
        },
        ..credit.clone()
    };
    let answer = world.stripe.give_credit(&other).await;
    assert!(matches!(answer, CreditAnswer::Unsure { is_answered: true, .. }), "{answer:?}");
    let mut anew = other.clone();
    anew.delivery.key_number = 2;
    let CreditAnswer::Given(id) = world.stripe.give_credit(&anew).await else {
        panic!("it is given");
    };
    assert_eq!(world.stripe.void_credit(&id).await, CreditAnswer::Gone);
    assert_eq!(world.stripe.void_credit(&id).await, CreditAnswer::Gone);
    assert!(world.fake.book().grants[0].voided_at.is_some());
    // What something was used of cannot be voided: the rest expires.
    anew.grant = GrantId::from_uuid(uuid::Uuid::from_u128(2));
    let CreditAnswer::Given(used) = world.stripe.give_credit(&anew).await else {
        panic!("it is given");
    };
    world.fake.book().grants[1].is_used = true;
    assert_eq!(world.stripe.void_credit(&used).await, CreditAnswer::Gone);
    let ended = world.fake.book().grants[1].clone();
    assert_eq!((ended.voided_at, ended.expires_at), (None, Some(now.micros() / 1_000_000)));
    let mut unknown = credit;
    unknown.grant = GrantId::from_uuid(uuid::Uuid::from_u128(3));
    unknown.delivery.customer = Some("cus_9".to_owned());
    assert!(matches!(world.stripe.give_credit(&unknown).await, CreditAnswer::Refused(_)));
}

type Taken = Arc<Mutex<Vec<(String, Value)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_sent_one_cloudevent_for_each_batch() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/events", listener.local_addr().expect("an address"));
    let taken: Taken = Arc::default();
    let data = Data::from(taken.clone());
    let collect = async |taken: Data<Mutex<Vec<(String, Value)>>>, request: HttpRequest, body: Bytes| {
        let kind = request
            .headers()
            .get("content-type")
            .expect("a type")
            .to_str()
            .expect("text")
            .to_owned();
        let event: Value = serde_json::from_slice(&body).expect("JSON");
        match event["id"].as_str().expect("an id") {
            "busy" => HttpResponse::TooManyRequests().insert_header(("retry-after", "7")).finish(),
            "there" => HttpResponse::Conflict().finish(),
            "bad" => HttpResponse::UnprocessableEntity().body("no such\nmeter"),
            _ => {
                taken.lock().expect("no panic").push((kind, event));
                HttpResponse::NoContent().finish()
            }
        }
    };
    let app = move || App::new().app_data(data.clone()).default_service(web::to(collect));
    let server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .listen(listener)
        .expect("it listens")
        .run();
    let server = tokio::spawn(server);

    let collector = CloudEvents::new(&url, None).expect("a client");
    assert_eq!(collector.send(&batch("bat_1", 25)).await, Answer::Acknowledged);
    assert_eq!(collector.send(&batch("there", 25)).await, Answer::Duplicate);
    assert!(matches!(
        collector.send(&batch("busy", 1)).await,
        Answer::RetryAfter {
            seconds: Some(7),
            is_away: false,
            ..
        }
    ));
    assert_eq!(
        collector.send(&batch("bad", 1)).await,
        Answer::Rejected {
            reason: "422 no such meter".to_owned()
        }
    );
    let (kind, event) = taken.lock().expect("no panic")[0].clone();
    assert_eq!(kind, "application/cloudevents+json; charset=utf-8");
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "id": "bat_1", "source": "weir", "type": "tokens", "subject": "cus_1", "time": "2025-11-21T09:30:30Z",
            "datacontenttype": "application/json",
            "data": {"value": 25, "workspace_id": "ws_1", "meter": "tokens", "customer": "cus_1",
                     "from": "2025-11-21T09:00:00Z", "to": "2025-11-21T10:00:00Z", "entries": 3},
        })
    );
    let query = SummaryQuery {
        workspace: WorkspaceId::parse("ws_1").expect("a name"),
        customer: None,
        event_name: "tokens".to_owned(),
        from: at(BEGIN),
        to: at(BEGIN),
    };
    assert_eq!(collector.summary(&query).await, Ok(None));
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_had_whole_or_it_is_said_whether_to_ask_again() {
    let world = World::new();
    let form = "event_name=tokens&identifier=lost&payload[stripe_customer_id]=cus_9&payload[value]=3";
    let form = crate::stripe::form::Form::parse(form).expect("a form");
    let now = world.clock.now().micros() / 1_000_000;
    world.fake.book().meter_event(now, &form).expect("it is taken");
    let pushed = world.fake.book().report(now).remove(0);
    let id = pushed["id"].as_str().expect("an id");
    let meter = pushed["related_object"]["id"].as_str().expect("an id");
    assert_eq!(world.stripe.event_name(meter).await, Ok(Some("tokens".to_owned())));
    assert_eq!(world.stripe.event_name("mtr_none").await, Ok(None));
    let Fetched::Found(event) = world.stripe.event(id).await else {
        panic!("it is there");
    };
    assert_eq!(event["data"]["reason"]["error_count"], 1);
    // Of another account, or never an id of Stripe's.
    for id in [
        "evt_none",
        "",
        "x/../../../../v1/billing/meters",
        "evt?x",
        "evt\n",
        &"e".repeat(300),
    ] {
        assert!(matches!(world.stripe.event(id).await, Fetched::Missing(_)), "{id}");
    }
    world.fake.plan().hang = Duration::from_secs(3);
    for fault in [Fault::RateLimited, Fault::Fails, Fault::Drops, Fault::DropsBefore, Fault::Hangs] {
        world.fake.plan().queue_events(&[fault]);
        let answer = world.stripe.event(id).await;
        assert!(matches!(answer, Fetched::NotNow { .. }), "{fault:?}: {answer:?}");
    }
    let wrong = StripeSettings::new(Secret::new("sk_test_planted_wrong".to_owned()), &world.fake.url);
    let wrong = Stripe::new(&wrong, world.clock.clone()).expect("a client");
    let Fetched::NotNow { seconds: Some(60), reason } = wrong.event(id).await else {
        panic!("somebody mends the key");
    };
    assert!(!reason.contains("planted"), "{reason}");
}
