//! Webhooks: endpoints put at their version, events handed on once, and a queue whose claims are fair, of one node, and run out.

use super::book::{Book, at, audited, workspace};
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::{DeliveryId, EventId, WebhookEndpointId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::filter::Filter;
use crate::decision::webhook::retry::{Attempt, Disable, FAILING_SECONDS_MAX, Next, SOON_MILLIS_MAX};
use crate::decision::webhook::seal::{SealKey, Sealed};
use crate::decision::webhook::sign::{SECRET_BYTES, Secret};
use crate::decision::webhook::{Delivery, Endpoint, Replaced, State, TOO_OLD};
use crate::ledger::audit::AuditQuery;
use crate::ledger::events::EventQuery;
use crate::ledger::webhooks::{
    ATTEMPTS_KEPT_MAX, Claimed, Claiming, DeliveryQuery, Disabling, EndpointQuery, Finished, How, Noted, Put, Relayed, Replay, Whose, Work,
};
use serde_json::json;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use uuid::Uuid;

/// How many endpoints a workspace may have here.
const MAX: usize = 3;

fn endpoint_id(number: u128) -> WebhookEndpointId {
    WebhookEndpointId::from_uuid(Uuid::from_u128(number))
}

fn sealed(byte: u8) -> Sealed {
    SealKey::new(&[1; 32]).seal(endpoint_id(1), &Secret::new([byte; SECRET_BYTES]), [byte; 12])
}

fn signing_until(byte: u8, second: i64) -> Replaced {
    Replaced {
        secret: sealed(byte),
        until: at(second),
    }
}

/// An endpoint of `ws_a` that is told of everything.
fn endpoint(number: u128) -> Endpoint {
    Endpoint {
        id: endpoint_id(number),
        workspace: Some(workspace("ws_a")),
        url: "https://example.com/hook?a=1".to_owned(),
        events: vec![Filter::kept("*".to_owned())],
        description: None,
        enabled: true,
        disabled: None,
        secret: sealed(7),
        replaced: Vec::new(),
        created_by: "usr_1".to_owned(),
        created_at: at(10),
        reaches_opened: true,
        version: 1,
    }
}

fn wanting(events: &[&str]) -> Vec<Filter> {
    events.iter().map(|event| Filter::kept((*event).to_owned())).collect()
}

async fn put(book: &Book, endpoint: &Endpoint) -> Put {
    let audited = audited("webhook_endpoint.put", &endpoint.id.to_string());
    let put = book
        .ledger()
        .put_webhook_endpoint(endpoint, endpoint.version - 1, MAX, audited)
        .await;
    put.expect("the ledger answers")
}

fn event_id(number: u128) -> EventId {
    EventId::from_uuid(Uuid::from_u128(number))
}

/// Something that happened in `ws_a` at that second.
fn event(number: u128, second: i64) -> Event {
    let data = json!({"message": "a'b\"\u{e4}", "n": number as u64});
    Event::new(
        event_id(number),
        Some(workspace("ws_a")),
        EventType::BudgetExhausted,
        format!("event {number}"),
        at(second),
        data,
    )
}

async fn happen(book: &Book, events: impl IntoIterator<Item = Event>) {
    let events: Vec<Event> = events.into_iter().collect();
    let count = events.len();
    let new = book.ledger().append_events(events).await.expect("the ledger answers");
    assert_eq!(new.len(), count);
}

async fn relay(book: &Book, second: i64) -> Relayed {
    let relayed = book.ledger().relay_events(100, at(second), at(second)).await;
    relayed.expect("the ledger answers")
}

fn claiming(second: i64, proven: bool, per_endpoint: usize, claim: &str) -> Claiming {
    Claiming {
        now: at(second),
        until: at(second + 60),
        proven,
        per_endpoint,
        endpoints: 100,
        claim: claim.to_owned(),
    }
}

/// Claims of endpoints whose last try did not succeed, one each unless told otherwise.
async fn claim(book: &Book, second: i64, per_endpoint: usize, claim: &str) -> Vec<Claimed> {
    let claimed = book.ledger().claim_deliveries(claiming(second, false, per_endpoint, claim)).await;
    claimed.expect("the ledger answers")
}

fn attempt(status: u16, second: i64) -> Attempt {
    Attempt {
        at: at(second),
        duration_ms: 12,
        status: Some(status),
        retry_after_seconds: None,
        answer: "thanks".to_owned(),
        error: (status != 200).then(|| format!("it answered {status}")),
    }
}

fn tried(claimed: &Claimed, status: u16, second: i64, next: Next) -> Finished {
    Finished {
        delivery: claimed.delivery,
        endpoint: claimed.endpoint_id,
        claim: claimed.claim.clone(),
        how: How::Tried {
            attempt: attempt(status, second),
            next,
        },
        disabling: None,
    }
}

async fn finish(book: &Book, finished: Vec<Finished>) -> Vec<Noted> {
    book.ledger().finish_deliveries(finished).await.expect("the ledger answers")
}

async fn deliveries(book: &Book, query: DeliveryQuery) -> Vec<Delivery> {
    let limit = if query.limit == 0 { 100 } else { query.limit };
    let list = book.ledger().deliveries(&DeliveryQuery { limit, ..query }).await;
    list.expect("the ledger answers")
}

async fn work(book: &Book, second: i64) -> Work {
    book.ledger().webhook_work(at(second)).await.expect("the ledger answers")
}

/// The endpoints and events of all deliveries, sorted.
async fn told(book: &Book) -> Vec<(WebhookEndpointId, EventId)> {
    let all = deliveries(book, DeliveryQuery::default()).await;
    let mut told: Vec<_> = all.iter().map(|delivery| (delivery.endpoint, delivery.event)).collect();
    told.sort_unstable();
    told
}

pub(in crate::ledger) async fn an_endpoint_comes_back_as_it_was_put(mut book: Book) {
    let whole = Endpoint {
        events: wanting(&["budget.*", "usage.recorded"]),
        description: Some("a'b\"\u{e4}".to_owned()),
        replaced: vec![signing_until(8, 99), signing_until(9, 40), signing_until(10, 70)],
        ..endpoint(1)
    };
    let shared = Endpoint {
        workspace: None,
        reaches_opened: false,
        enabled: false,
        disabled: Some(("gone".to_owned(), at(40))),
        ..endpoint(2)
    };
    assert_eq!((put(&book, &whole).await, put(&book, &shared).await), (Put::Done, Put::Done));
    book.reopen().await;
    let read = |number| {
        let ledger = book.ledger();
        async move { ledger.webhook_endpoint(endpoint_id(number)).await.expect("the ledger answers") }
    };
    assert_eq!(read(1).await, Some(whole.clone()));
    assert_eq!(read(2).await, Some(shared.clone()));
    assert_eq!(read(3).await, None);
    let list = |whose: Whose, after: Option<u128>| {
        let (ledger, after) = (book.ledger(), after.map(endpoint_id));
        let query = EndpointQuery { whose, after, limit: 10 };
        async move { ledger.webhook_endpoints(&query).await.expect("the ledger answers") }
    };
    assert_eq!(list(Whose::Anybody, None).await, [shared.clone(), whole.clone()]);
    assert_eq!(list(Whose::Anybody, Some(2)).await, std::slice::from_ref(&whole));
    assert_eq!(list(Whose::Workspace(workspace("ws_a")), None).await, [whole]);
    assert_eq!(list(Whose::Workspace(workspace("ws_b")), None).await, []);
    let subscribers = async || book.ledger().event_subscribers().await.expect("the ledger answers");
    let who = subscribers().await;
    assert_eq!((who.usage, who.expired), (vec![Some(workspace("ws_a"))], vec![]));
    let next = Endpoint {
        events: wanting(&["res*"]),
        enabled: true,
        disabled: None,
        reaches_opened: true,
        replaced: vec![signing_until(11, 50), signing_until(12, 45)],
        version: 2,
        ..shared
    };
    assert_eq!(put(&book, &next).await, Put::Done);
    assert_eq!(read(2).await, Some(next));
    let who = subscribers().await;
    assert_eq!((who.usage, who.expired), (vec![Some(workspace("ws_a"))], vec![None]));
}

pub(in crate::ledger) async fn an_endpoint_is_put_at_its_version_or_not_at_all(book: Book) {
    assert_eq!(put(&book, &endpoint(1)).await, Put::Done);
    let next = Endpoint {
        url: "https://example.com/other".to_owned(),
        version: 2,
        ..endpoint(1)
    };
    assert_eq!(
        put(
            &book,
            &Endpoint {
                version: 3,
                ..next.clone()
            }
        )
        .await,
        Put::Raced
    );
    assert_eq!((put(&book, &next).await, put(&book, &next).await), (Put::Done, Put::Raced));
    let delete = |version| {
        let ledger = book.ledger();
        let audited = audited("webhook_endpoint.delete", "1");
        async move { ledger.delete_webhook_endpoint(endpoint_id(1), version, at(50), audited).await }
    };
    assert!(!delete(1).await.expect("the ledger answers"));
    assert!(delete(2).await.expect("the ledger answers"));
    assert!(!delete(3).await.expect("the ledger answers"), "it is gone");
    assert_eq!(
        put(&book, &Endpoint { version: 4, ..next }).await,
        Put::Raced,
        "what is gone is not put back"
    );
    let query = AuditQuery {
        limit: 50,
        ..AuditQuery::default()
    };
    let records = book.ledger().audit_log(&query).await.expect("the ledger answers");
    assert_eq!(records.len(), 3, "what was refused left none");
}

pub(in crate::ledger) async fn of_racing_endpoints_no_more_are_made_than_there_may_be(book: Book) {
    let mut racing = JoinSet::new();
    for number in 1..=8 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let audited = audited("webhook_endpoint.create", "x");
            ledger.put_webhook_endpoint(&endpoint(number), 0, MAX, audited).await
        });
    }
    let puts: Vec<Put> = racing
        .join_all()
        .await
        .into_iter()
        .map(|put| put.expect("the ledger answers"))
        .collect();
    assert_eq!(puts.iter().filter(|put| **put == Put::Done).count(), MAX, "{puts:?}");
    assert!(puts.iter().all(|put| *put != Put::Raced));
    let elsewhere = Endpoint {
        workspace: None,
        ..endpoint(9)
    };
    assert_eq!(put(&book, &elsewhere).await, Put::Done, "each workspace is counted by itself");
}

pub(in crate::ledger) async fn an_event_is_handed_on_once_to_all_who_want_it(book: Book) {
    let endpoints = [
        endpoint(1),
        Endpoint {
            events: wanting(&["budget.*"]),
            ..endpoint(2)
        },
        Endpoint {
            events: wanting(&["plan.changed", "usage.recorded"]),
            ..endpoint(3)
        },
        Endpoint {
            workspace: Some(workspace("ws_b")),
            ..endpoint(4)
        },
        Endpoint {
            workspace: None,
            ..endpoint(5)
        },
        Endpoint {
            workspace: None,
            enabled: false,
            ..endpoint(6)
        },
    ];
    for endpoint in &endpoints {
        assert_eq!(put(&book, endpoint).await, Put::Done);
    }
    assert_eq!(work(&book, 100).await, Work::default());
    let of_none = Event {
        workspace: None,
        ..event(4, 100)
    };
    let for_operators = Event {
        audience: Audience::Operator,
        ..event(2, 100)
    };
    let usage = Event {
        kind: EventType::UsageRecorded,
        ..event(3, 100)
    };
    happen(&book, [event(1, 100), for_operators, usage, of_none]).await;
    assert!(work(&book, 100).await.events);
    let relayed = relay(&book, 101).await;
    let expected = [(1, 1), (2, 1), (3, 3), (5, 1), (5, 2), (5, 4)];
    assert_eq!(
        told(&book).await,
        expected.map(|(endpoint, event)| (endpoint_id(endpoint), event_id(event)))
    );
    assert_eq!(
        relayed,
        Relayed {
            events: 4,
            deliveries: expected.len()
        }
    );
    assert_eq!(relay(&book, 102).await, Relayed::default(), "once");
    let one = deliveries(
        &book,
        DeliveryQuery {
            endpoint: Some(endpoint_id(1)),
            ..DeliveryQuery::default()
        },
    )
    .await
    .remove(0);
    let body = r#"{"type":"budget.exhausted","timestamp":"1970-01-01T00:01:40Z","data":{"message":"a'b\"ä","n":1}}"#;
    assert_eq!((one.body.as_str(), one.state, one.tries), (body, State::Pending, 0));
    assert_eq!(
        (one.created_at, one.due_at, one.workspace),
        (at(101), at(101), Some(workspace("ws_a")))
    );
}

pub(in crate::ledger) async fn events_of_each_use_are_handed_on_after_all_others(book: Book) {
    put(&book, &endpoint(1)).await;
    let all = Endpoint {
        events: wanting(&["usage.recorded", "budget.*"]),
        version: 2,
        ..endpoint(1)
    };
    put(&book, &all).await;
    let usage = |number: u128| Event {
        kind: EventType::UsageRecorded,
        ..event(number, 100)
    };
    happen(&book, (1..=20).map(usage)).await;
    // What comes last is handed on first, and the flood follows in its order.
    happen(&book, [event(98, 200), event(99, 201)]).await;
    let page = async |limit| {
        book.ledger()
            .relay_events(limit, at(300), at(300))
            .await
            .expect("the ledger answers")
    };
    let events = async || told(&book).await.iter().map(|(_, event)| *event).collect::<Vec<_>>();
    assert_eq!(page(1).await, Relayed { events: 1, deliveries: 1 });
    assert_eq!(events().await, [event_id(98)]);
    assert_eq!(page(3).await, Relayed { events: 3, deliveries: 3 });
    assert_eq!(events().await, [1, 2, 98, 99].map(event_id));
    happen(&book, [event(97, 400)]).await;
    assert_eq!(page(2).await.events, 2);
    assert_eq!(events().await, [1, 2, 3, 97, 98, 99].map(event_id));
    assert_eq!((page(100).await.events, page(100).await.events), (17, 0));
    assert_eq!(told(&book).await.len(), 23);
}

pub(in crate::ledger) async fn of_racing_nodes_each_event_is_handed_on_and_claimed_by_one(book: Book) {
    const EVENTS: u128 = 60;
    for number in 1..=3 {
        put(&book, &endpoint(number)).await;
    }
    happen(&book, (1..=EVENTS).map(|number| event(number, 100))).await;
    let mut racing = JoinSet::new();
    for node in 0..4 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let mut claimed = Vec::new();
            for turn in 0..40 {
                ledger.relay_events(7, at(100), at(100)).await.expect("the ledger answers");
                let claiming = claiming(100, false, 200, &format!("node {node} turn {turn}"));
                let more = ledger.claim_deliveries(claiming).await.expect("the ledger answers");
                claimed.extend(more.iter().map(|one| one.delivery));
            }
            claimed
        });
    }
    let claimed: Vec<DeliveryId> = racing.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<DeliveryId> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (3 * EVENTS as usize, 3 * EVENTS as usize));
}

pub(in crate::ledger) async fn a_claim_runs_out_and_is_noted_by_who_holds_it(book: Book) {
    put(&book, &endpoint(1)).await;
    happen(&book, [event(1, 100)]).await;
    assert!(claim(&book, 100, 1, "early").await.is_empty(), "not handed on yet");
    relay(&book, 100).await;
    assert!(work(&book, 100).await.unproven && !work(&book, 99).await.unproven);
    let first = claim(&book, 100, 1, "first").await;
    assert_eq!((first.len(), first[0].event, first[0].tries), (1, event_id(1), 0));
    assert_eq!(first[0].endpoint, Some(endpoint(1)));
    assert!(claim(&book, 159, 1, "too soon").await.is_empty());
    // The node died; another one makes the try again, and the first comes back.
    let second = claim(&book, 160, 1, "second").await;
    assert_eq!(
        (second.len(), second[0].event),
        (1, event_id(1)),
        "the same event under the same id"
    );
    assert_eq!(second[0].body, first[0].body);
    let late = tried(&first[0], 500, 161, Next::Failed);
    let good = tried(&second[0], 200, 162, Next::Delivered);
    assert_eq!(finish(&book, vec![late, good.clone()]).await, [Noted::Lost, Noted::Done]);
    assert_eq!(finish(&book, vec![good]).await, [Noted::Lost], "once");
    let delivered = deliveries(&book, DeliveryQuery::default()).await.remove(0);
    assert_eq!((delivered.state, delivered.tries), (State::Delivered, 1));
    assert_eq!(delivered.last, Some(attempt(200, 162)));
    assert!(claim(&book, 9_999, 1, "over").await.is_empty());
    let state = book.ledger().queue_state(at(9_999)).await.expect("the ledger answers");
    assert_eq!((state.pending, state.due_since), (0, None));
}

pub(in crate::ledger) async fn one_endpoint_has_few_tries_at_once_and_keeps_nobody_waiting(book: Book) {
    for number in 1..=2 {
        put(&book, &endpoint(number)).await;
    }
    let only = Endpoint {
        events: wanting(&["plan.changed"]),
        ..endpoint(2)
    };
    put(&book, &Endpoint { version: 2, ..only }).await;
    // A thousand wait for one endpoint, and then one for another.
    happen(&book, (1..=40).map(|number| event(number, 100))).await;
    let later = Event {
        kind: EventType::PlanChanged,
        ..event(99, 105)
    };
    relay(&book, 100).await;
    happen(&book, [later]).await;
    relay(&book, 105).await;
    let of = |claimed: &[Claimed], number| claimed.iter().filter(|one| one.endpoint_id == endpoint_id(number)).count();
    let first = claim(&book, 105, 2, "first").await;
    assert_eq!((of(&first, 1), of(&first, 2)), (2, 1), "some of each");
    assert!(claim(&book, 106, 2, "second").await.is_empty(), "as many run as may");
    assert!(!work(&book, 106).await.unproven, "and nobody looks in vain");
    // One ends, and makes room for one; the endpoint has proven itself.
    assert_eq!(
        finish(&book, vec![tried(&first[0], 200, 107, Next::Delivered)]).await,
        [Noted::Done]
    );
    let endpoint_of_first = first[0].endpoint_id;
    assert!(claim(&book, 107, 2, "others").await.is_empty());
    if endpoint_of_first == endpoint_id(1) {
        assert!(work(&book, 107).await.proven);
        let third = book.ledger().claim_deliveries(claiming(107, true, 4, "third")).await;
        assert_eq!(
            of(&third.expect("the ledger answers"), 1),
            3,
            "one runs still, so three more make four"
        );
    }
    // What runs out makes room too.
    let lost = claim(&book, 165, 2, "lost").await;
    let lost_proven = book.ledger().claim_deliveries(claiming(167, true, 2, "lost too")).await;
    let again = of(&lost, 1) + of(&lost_proven.expect("the ledger answers"), 1);
    assert!(again >= 1, "{again}");
}

pub(in crate::ledger) async fn what_there_is_for_each_use_is_delivered_after_all_else(book: Book) {
    let both = Endpoint {
        events: wanting(&["usage.recorded", "budget.*"]),
        ..endpoint(1)
    };
    put(&book, &both).await;
    let usage = |number: u128| Event {
        kind: EventType::UsageRecorded,
        ..event(number, 100)
    };
    happen(&book, (1..=9).map(usage)).await;
    relay(&book, 100).await;
    for number in [98, 99] {
        happen(&book, [event(number, 200)]).await;
        relay(&book, 102 + number as i64).await;
    }
    let events = |claimed: Vec<Claimed>| {
        let mut events: Vec<EventId> = claimed.iter().map(|one| one.event).collect();
        events.sort_unstable();
        events
    };
    assert_eq!(events(claim(&book, 201, 1, "a").await), [event_id(98)]);
    assert_eq!(
        events(claim(&book, 201, 4, "b").await),
        [],
        "nobody looks again before something ends or comes"
    );
    happen(&book, [event(97, 202)]).await;
    relay(&book, 202).await;
    // One runs, so three more make four: what is left of the others, and then a use.
    let three = events(claim(&book, 202, 4, "c").await);
    assert_eq!(
        (three.len(), three[0] < event_id(10), &three[1..]),
        (3, true, &[97, 99].map(event_id)[..])
    );
    // Whoever does not want uses any more is still told of those that wait for it.
    let less = Endpoint {
        events: wanting(&["budget.*"]),
        version: 2,
        ..both
    };
    put(&book, &less).await;
    let two = events(claim(&book, 300, 2, "d").await);
    assert!(two.len() == 2 && two.iter().all(|one| *one < event_id(10)), "{two:?}");
}

pub(in crate::ledger) async fn a_success_that_took_long_proves_nothing(book: Book) {
    put(&book, &endpoint(1)).await;
    happen(&book, (1..=9).map(|number| event(number, 100))).await;
    relay(&book, 100).await;
    let within = |claimed: &Claimed, second: i64, duration_ms: i64| {
        let mut finished = tried(claimed, 200, second, Next::Delivered);
        if let How::Tried { attempt, .. } = &mut finished.how {
            attempt.duration_ms = duration_ms;
        }
        finished
    };
    let takes = async |second: i64, proven: bool, of: &str| {
        let claimed = book.ledger().claim_deliveries(claiming(second, proven, 4, of)).await;
        claimed.expect("the ledger answers")
    };
    let first = claim(&book, 100, 1, "a").await;
    assert_eq!(
        finish(&book, vec![within(&first[0], 103, SOON_MILLIS_MAX + 1)]).await,
        [Noted::Done]
    );
    assert_eq!(
        work(&book, 103).await,
        Work {
            events: false,
            proven: false,
            unproven: true
        }
    );
    assert!(takes(103, true, "b").await.is_empty());
    let second = claim(&book, 103, 1, "c").await;
    assert_eq!(
        (second.len(), second[0].failing_since),
        (1, None),
        "one at a time, and it does not fail"
    );
    finish(&book, vec![within(&second[0], 105, SOON_MILLIS_MAX)]).await;
    let four = takes(105, true, "d").await;
    assert_eq!(four.len(), 4);
    // Slow again it has one at a time again.
    finish(&book, four.iter().map(|one| within(one, 109, SOON_MILLIS_MAX + 1)).collect()).await;
    assert!(takes(109, true, "e").await.is_empty());
    assert_eq!(claim(&book, 109, 1, "f").await.len(), 1);
}

pub(in crate::ledger) async fn what_was_due_for_too_long_is_given_up(book: Book) {
    for number in 1..=2 {
        put(&book, &endpoint(number)).await;
    }
    happen(&book, [event(1, 100), event(2, 100), event(3, 100)]).await;
    relay(&book, 100).await;
    let running = claim(&book, 100, 1, "runs").await;
    assert_eq!(running.len(), 2);
    happen(&book, [event(4, 500)]).await;
    relay(&book, 500).await;
    let give_up = async |second, limit| {
        let given_up = book.ledger().give_up_deliveries(at(second), limit).await;
        given_up.expect("the ledger answers")
    };
    assert_eq!(give_up(100, 9).await, 0, "what is due since then is not older");
    // Of each endpoint two waited, and one is on its way until 160.
    assert_eq!((give_up(160, 3).await, give_up(160, 3).await, give_up(160, 3).await), (3, 1, 0));
    let cancelled = DeliveryQuery {
        state: Some(State::Cancelled),
        ..DeliveryQuery::default()
    };
    let given_up = deliveries(&book, cancelled.clone()).await;
    assert_eq!(given_up.len(), 4);
    assert!(
        given_up
            .iter()
            .all(|one| one.reason.as_deref() == Some(TOO_OLD) && one.event != event_id(4))
    );
    assert_eq!(
        finish(&book, vec![tried(&running[0], 200, 150, Next::Delivered)]).await,
        [Noted::Done]
    );
    // Whoever held the other one is gone, and nobody comes back for it.
    assert_eq!(give_up(161, 9).await, 1);
    assert_eq!(
        finish(&book, vec![tried(&running[1], 200, 170, Next::Delivered)]).await,
        [Noted::Lost]
    );
    let left = DeliveryQuery {
        state: Some(State::Pending),
        ..DeliveryQuery::default()
    };
    assert!(deliveries(&book, left).await.iter().all(|one| one.event == event_id(4)));
    let mut claimed = claim(&book, 500, 4, "later").await;
    claimed.extend(
        book.ledger()
            .claim_deliveries(claiming(500, true, 4, "later"))
            .await
            .expect("the ledger answers"),
    );
    assert_eq!(claimed.len(), 2, "what is not too old is tried");
    // Put on its way again it waits anew.
    let again = deliveries(&book, cancelled).await[0].id;
    let audited = audited("webhook_delivery.redeliver", "x");
    assert!(book.ledger().redeliver(again, at(600), audited).await.expect("the ledger answers"));
    assert_eq!(
        (give_up(560, 9).await, give_up(601, 9).await),
        (0, 3),
        "with it those whose claims ran out"
    );
}

pub(in crate::ledger) async fn a_try_that_fails_is_due_again_at_its_time(book: Book) {
    put(&book, &endpoint(1)).await;
    happen(&book, [event(1, 100), event(2, 100)]).await;
    relay(&book, 100).await;
    let claimed = claim(&book, 100, 2, "a").await;
    let (again, failed) = (Next::Again(at(400)), Next::Failed);
    let both = vec![tried(&claimed[0], 500, 101, again), tried(&claimed[1], 404, 101, failed)];
    assert_eq!(finish(&book, both).await, [Noted::Done, Noted::Done]);
    assert!(claim(&book, 399, 2, "b").await.is_empty());
    let due = claim(&book, 400, 2, "c").await;
    assert_eq!((due.len(), due[0].delivery, due[0].tries), (1, claimed[0].delivery, 1));
    assert_eq!(due[0].failing_since, Some(at(101)));
    finish(&book, vec![tried(&due[0], 200, 401, Next::Delivered)]).await;
    happen(&book, [event(3, 500)]).await;
    relay(&book, 500).await;
    let proven = book
        .ledger()
        .claim_deliveries(claiming(500, true, 4, "d"))
        .await
        .expect("the ledger answers");
    assert_eq!((proven.len(), proven[0].failing_since), (1, None), "a success ends the failing");
}

/// What is written if the endpoint ends.
fn disabling(why: Disable, second: i64) -> Disabling {
    let event = Event {
        kind: EventType::WebhookEndpointDisabled,
        ..event(900, second)
    };
    Disabling {
        why,
        event,
        audited: audited("webhook_endpoint.disable", "1"),
    }
}

pub(in crate::ledger) async fn an_endpoint_that_only_fails_ends_with_an_event(book: Book) {
    put(&book, &endpoint(1)).await;
    put(&book, &endpoint(2)).await;
    happen(&book, [event(1, 100), event(2, 100), event(3, 100)]).await;
    relay(&book, 100).await;
    let mine = |claimed: Vec<Claimed>| {
        claimed
            .into_iter()
            .filter(|one| one.endpoint_id == endpoint_id(1))
            .collect::<Vec<_>>()
    };
    let claimed = mine(claim(&book, 100, 2, "a").await);
    finish(&book, vec![tried(&claimed[0], 500, 100, Next::Again(at(200)))]).await;
    // Somebody claimed when it failed for long; in between a try succeeded.
    let end = 100 + FAILING_SECONDS_MAX;
    let ending = |claimed: &Claimed, status, why| Finished {
        disabling: Some(disabling(why, end)),
        ..tried(claimed, status, end, Next::Again(at(end + 500)))
    };
    finish(&book, vec![tried(&claimed[1], 200, 101, Next::Delivered)]).await;
    let again = mine(claim(&book, end, 2, "b").await);
    let proven = mine(
        book.ledger()
            .claim_deliveries(claiming(end, true, 2, "b2"))
            .await
            .expect("the ledger answers"),
    );
    let due: Vec<Claimed> = again.into_iter().chain(proven).collect();
    assert_eq!(due.len(), 2);
    assert_eq!(
        finish(&book, vec![ending(&due[0], 500, Disable::OnlyFailures)]).await,
        [Noted::Done]
    );
    let enabled = book.ledger().webhook_endpoint(endpoint_id(1)).await.expect("the ledger answers");
    assert!(enabled.is_some_and(|endpoint| endpoint.enabled), "it has not only failed");
    // 410 ends it, with what waits and what runs.
    let gone = Finished {
        disabling: Some(disabling(Disable::Gone, end)),
        ..tried(&due[1], 410, end, Next::Again(at(end + 500)))
    };
    assert_eq!(finish(&book, vec![gone]).await, [Noted::Disabled]);
    let ended = book
        .ledger()
        .webhook_endpoint(endpoint_id(1))
        .await
        .expect("the ledger answers")
        .expect("it is there");
    assert_eq!(
        (ended.enabled, ended.disabled, ended.version),
        (false, Some(("gone".to_owned(), at(end))), 2)
    );
    let pending = DeliveryQuery {
        endpoint: Some(endpoint_id(1)),
        state: Some(State::Pending),
        ..DeliveryQuery::default()
    };
    assert_eq!(deliveries(&book, pending).await, []);
    let query = EventQuery {
        kinds: vec![EventType::WebhookEndpointDisabled],
        limit: 10,
        ..EventQuery::default()
    };
    let told = book.ledger().events(&query).await.expect("the ledger answers");
    assert_eq!(told.len(), 1);
    relay(&book, end).await;
    let other = DeliveryQuery {
        event: Some(event_id(900)),
        ..DeliveryQuery::default()
    };
    let other = deliveries(&book, other).await;
    assert_eq!(
        (other.len(), other[0].endpoint),
        (1, endpoint_id(2)),
        "the workspace's other endpoint is told"
    );
}

pub(in crate::ledger) async fn what_is_disabled_or_deleted_has_nothing_pending(book: Book) {
    for number in 1..=2 {
        put(&book, &endpoint(number)).await;
    }
    happen(&book, [event(1, 100), event(2, 100)]).await;
    relay(&book, 100).await;
    let running = claim(&book, 100, 1, "a").await;
    assert_eq!(running.len(), 2);
    let disabled = Endpoint {
        enabled: false,
        version: 2,
        ..endpoint(1)
    };
    assert_eq!(put(&book, &disabled).await, Put::Done);
    let ledger = book.ledger();
    let deleted = ledger.delete_webhook_endpoint(endpoint_id(2), 1, at(110), audited("webhook_endpoint.delete", "2"));
    assert!(deleted.await.expect("the ledger answers"));
    let failed = running.iter().map(|one| tried(one, 500, 111, Next::Again(at(300)))).collect();
    assert_eq!(finish(&book, failed).await, [Noted::Done, Noted::Done]);
    let all = deliveries(&book, DeliveryQuery::default()).await;
    assert!(
        all.iter().all(|one| one.state == State::Cancelled && one.reason.is_some()),
        "{all:?}"
    );
    let enabled = Endpoint { version: 3, ..endpoint(1) };
    assert_eq!(put(&book, &enabled).await, Put::Done);
    assert!(claim(&book, 9_999, 9, "b").await.is_empty(), "what ended stays ended");
}

pub(in crate::ledger) async fn events_are_replayed_and_delivered_again_under_their_ids(book: Book) {
    put(&book, &endpoint(1)).await;
    happen(&book, [event(1, 100), event(2, 200), event(3, 300)]).await;
    relay(&book, 300).await;
    let claimed = claim(&book, 300, 3, "a").await;
    finish(&book, claimed.iter().map(|one| tried(one, 200, 301, Next::Delivered)).collect()).await;
    let before = deliveries(&book, DeliveryQuery::default()).await;
    let delivery = before[0].id;
    let again = |id| {
        let ledger = book.ledger();
        async move { ledger.redeliver(id, at(400), audited("webhook_delivery.redeliver", "x")).await }
    };
    assert!(again(delivery).await.expect("the ledger answers"));
    let nothing = DeliveryId::of(endpoint_id(9), event_id(9), at(1));
    assert!(!again(nothing).await.expect("the ledger answers"));
    let replay = |endpoint: Endpoint, from, to, after, limit| {
        let ledger = book.ledger();
        let replay = Replay {
            endpoint,
            from: at(from),
            to: at(to),
            after,
            limit,
            now: at(500),
            audited: None,
        };
        async move { ledger.replay_events(replay).await.expect("the ledger answers") }
    };
    let page = replay(endpoint(1), 100, 300, None, 1).await;
    assert_eq!((page.deliveries, page.last), (1, Some((at(100), event_id(1)))));
    let page = replay(endpoint(1), 100, 300, page.last, 9).await;
    assert_eq!((page.deliveries, page.last), (1, None));
    // An endpoint that was made later gets what it was never told.
    put(&book, &endpoint(2)).await;
    assert_eq!(replay(endpoint(2), 0, 1_000, None, 9).await.deliveries, 3);
    let others = Endpoint {
        workspace: Some(workspace("ws_b")),
        ..endpoint(3)
    };
    put(&book, &others).await;
    assert_eq!(replay(others, 0, 1_000, None, 9).await.deliveries, 0);
    let first = book
        .ledger()
        .claim_deliveries(claiming(500, true, 9, "b"))
        .await
        .expect("the ledger answers");
    let events: BTreeSet<EventId> = first.iter().map(|one| one.event).collect();
    assert_eq!(events, BTreeSet::from([event_id(1), event_id(2), before[0].event]));
    for one in &first {
        let known = before
            .iter()
            .find(|known| known.event == one.event)
            .expect("it was delivered before");
        assert_eq!((one.delivery, &one.body, one.tries), (known.id, &known.body, 0));
    }
    assert_eq!(claim(&book, 500, 9, "c").await.len(), 3);
    assert_eq!(told(&book).await.len(), 6, "an event is once in each endpoint's queue");
}

pub(in crate::ledger) async fn each_try_of_a_delivery_is_kept_and_forgotten_with_it(book: Book) {
    put(&book, &endpoint(1)).await;
    happen(&book, [event(1, 100), event(2, 100)]).await;
    relay(&book, 100).await;
    let claimed = claim(&book, 100, 2, "a").await;
    let (one, other) = (claimed[0].delivery, claimed[1].delivery);
    let attempts = |id| {
        let ledger = book.ledger();
        async move { ledger.delivery_attempts(id).await.expect("the ledger answers") }
    };
    assert_eq!(attempts(one).await, []);
    let again = |claimed: &Claimed, second: i64| tried(claimed, 500, second, Next::Again(at(second)));
    finish(&book, vec![again(&claimed[0], 101), tried(&claimed[1], 200, 101, Next::Delivered)]).await;
    assert_eq!(attempts(one).await, [(1, attempt(500, 101))]);
    assert_eq!(attempts(other).await, [(1, attempt(200, 101))]);
    let next = book.ledger().claim_deliveries(claiming(102, true, 1, "b")).await;
    let next = next.expect("the ledger answers");
    let late = Finished {
        claim: "a".to_owned(),
        ..again(&next[0], 103)
    };
    assert_eq!(
        finish(&book, vec![late]).await,
        [Noted::Lost],
        "a try that was given up leaves nothing"
    );
    finish(&book, vec![tried(&next[0], 200, 104, Next::Delivered)]).await;
    let both = [(1, attempt(500, 101)), (2, attempt(200, 104))];
    assert_eq!(attempts(one).await, both);
    // On its way again its tries are counted anew, and numbered on.
    let redelivered = book
        .ledger()
        .redeliver(one, at(105), audited("webhook_delivery.redeliver", "x"))
        .await;
    assert!(redelivered.expect("the ledger answers"));
    assert_eq!(attempts(one).await, both);
    let last = ATTEMPTS_KEPT_MAX as i64 + 10;
    for second in 106..106 + last - 2 {
        let claiming = claiming(second, second == 106, 1, "c");
        let claimed = book.ledger().claim_deliveries(claiming).await.expect("the ledger answers");
        finish(&book, vec![again(&claimed[0], second)]).await;
    }
    let kept = attempts(one).await;
    let numbers: Vec<i64> = kept.iter().map(|(number, _)| i64::from(*number)).collect();
    assert_eq!(numbers, (11..=last).collect::<Vec<_>>());
    assert_eq!(kept.last().map(|(_, attempt)| attempt.at), Some(at(106 + last - 3)));
    assert_eq!(attempts(other).await.len(), 1);
    let long_after = book.ledger().prune_deliveries(at(10_000), 100).await;
    assert_eq!(long_after.expect("the ledger answers"), 1, "the other one is still on its way");
    assert_eq!((attempts(other).await.len(), attempts(one).await.len()), (0, ATTEMPTS_KEPT_MAX));
    let claimed = claim(&book, 10_000, 1, "d").await;
    finish(&book, vec![tried(&claimed[0], 500, 10_000, Next::Failed)]).await;
    let pruned = book.ledger().prune_deliveries(at(10_001), 100).await.expect("the ledger answers");
    assert_eq!((pruned, attempts(one).await.len()), (1, 0));
}

pub(in crate::ledger) async fn deliveries_are_listed_filtered_and_forgotten(book: Book) {
    put(&book, &endpoint(1)).await;
    let shared = Endpoint {
        workspace: None,
        ..endpoint(2)
    };
    put(&book, &shared).await;
    for number in 1..=3 {
        happen(&book, [event(number, 100 * number as i64)]).await;
        relay(&book, 100 * number as i64).await;
    }
    let query = DeliveryQuery::default;
    let all = deliveries(&book, query()).await;
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted_by(|a, b| a.id > b.id), "newest first");
    let page = DeliveryQuery { limit: 2, ..query() };
    assert_eq!(deliveries(&book, page.clone()).await, all[..2]);
    let next = DeliveryQuery {
        after: Some(all[1].id),
        ..page
    };
    assert_eq!(deliveries(&book, next).await, all[2..4]);
    for (query, count) in [
        (
            DeliveryQuery {
                whose: Whose::Workspace(workspace("ws_a")),
                ..query()
            },
            3,
        ),
        (
            DeliveryQuery {
                event: Some(event_id(2)),
                ..query()
            },
            2,
        ),
        (
            DeliveryQuery {
                endpoint: Some(endpoint_id(2)),
                state: Some(State::Pending),
                ..query()
            },
            3,
        ),
        (
            DeliveryQuery {
                state: Some(State::Failed),
                ..query()
            },
            0,
        ),
    ] {
        assert_eq!(deliveries(&book, query.clone()).await.len(), count, "{query:?}");
    }
    let logged = Delivery {
        id: DeliveryId::of(endpoint_id(1), event_id(77), at(250)),
        event: event_id(77),
        state: State::Failed,
        last: Some(attempt(500, 250)),
        due_at: at(250),
        tries: 1,
        ..all[0].clone()
    };
    book.ledger().log_delivery(logged.clone()).await.expect("the ledger answers");
    assert_eq!(
        book.ledger().delivery(logged.id).await.expect("the ledger answers"),
        Some(logged.clone())
    );
    let claimed = claim(&book, 300, 9, "a").await;
    let done = claimed.iter().map(|one| tried(one, 200, 300, Next::Delivered)).collect();
    finish(&book, done).await;
    let prune = |before: Timestamp, limit| {
        let ledger = book.ledger();
        async move { ledger.prune_deliveries(before, limit).await.expect("the ledger answers") }
    };
    assert_eq!(prune(at(260), 9).await, 1, "by when it ended");
    assert_eq!(prune(at(1_000), 4).await, 4);
    assert_eq!(prune(at(1_000), 4).await, 2);
    assert_eq!(deliveries(&book, query()).await, []);
}
