//! Events: each happens once, waits until it is handed on, and is seen in one order by those who follow its workspace.

use super::book::{Book, at, settle, workspace};
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::EventId;
use crate::decision::time::Timestamp;
use crate::ledger::events::EventQuery;
use serde_json::json;
use tokio::task::JoinSet;

fn id(number: u128) -> EventId {
    EventId::from_uuid(uuid::Uuid::from_u128(number))
}

/// An event of `ws_a` that happened at this second.
fn event(number: u128, once: &str, second: i64) -> Event {
    let data = json!({"message": "90 % of 5,000 tokens are used", "spent": number as u64});
    Event::new(
        id(number),
        Some(workspace("ws_a")),
        EventType::BudgetThresholdReached,
        once.to_owned(),
        at(second),
        data,
    )
}

async fn append(book: &Book, events: &[Event]) -> Vec<EventId> {
    book.ledger().append_events(events.to_vec()).await.expect("the ledger answers")
}

async fn list(book: &Book, query: EventQuery) -> Vec<Event> {
    let query = EventQuery {
        limit: if query.limit == 0 { 100 } else { query.limit },
        ..query
    };
    book.ledger().events(&query).await.expect("the ledger answers")
}

async fn waiting(book: &Book) -> Vec<EventId> {
    let events = book.ledger().events_waiting(100).await.expect("the ledger answers");
    events.into_iter().map(|event| event.id).collect()
}

pub(in crate::ledger) async fn an_event_comes_back_as_it_was_written(mut book: Book) {
    let of_a_workspace = Event {
        audience: Audience::Operator,
        renews_at: Some(at(2_000)),
        kept_until: Timestamp::MAX,
        ..event(1, "level monthly tokens * 1000 0.8 80", 10)
    };
    let of_none = Event {
        workspace: None,
        kind: EventType::WebhookEndpointDisabled,
        ..event(2, "disabled", 11)
    };
    append(&book, &[of_a_workspace.clone(), of_none.clone()]).await;
    book.reopen().await;
    assert_eq!(list(&book, EventQuery::default()).await, [of_none, of_a_workspace]);
}

pub(in crate::ledger) async fn an_event_happens_once(mut book: Book) {
    book.done(settle("r1")).await;
    let first = event(1, "level a", 10);
    assert_eq!(
        append(&book, &[first.clone(), event(2, "level a", 10)]).await,
        [id(1)],
        "in one write"
    );
    assert_eq!(
        append(&book, &[event(3, "level a", 20), event(4, "level b", 20)]).await,
        [id(4)],
        "and in others"
    );
    let of_another = Event {
        workspace: Some(workspace("ws_b")),
        ..event(5, "level a", 30)
    };
    assert_eq!(append(&book, std::slice::from_ref(&of_another)).await, [id(5)]);
    book.reopen().await;
    assert_eq!(append(&book, &[event(6, "level a", 40)]).await, [], "after a restart too");
    let told = EventQuery {
        workspace: Some(workspace("ws_a")),
        ..EventQuery::default()
    };
    assert_eq!(list(&book, told).await, [event(4, "level b", 20), first]);
}

pub(in crate::ledger) async fn of_racing_writers_of_one_event_one_has_written_it(book: Book) {
    book.done(settle("r1")).await;
    let mut writers = JoinSet::new();
    for writer in 0..20_u128 {
        let ledger = book.ledger();
        writers.spawn(async move {
            // Each tells the same of two workspaces, half of them the other way round.
            let mut events = vec![event(writer * 2 + 1, "level a", 10), event(writer * 2 + 2, "level b", 10)];
            events[0].workspace = Some(workspace("ws_b"));
            if writer % 2 == 0 {
                events.reverse();
            }
            ledger.append_events(events).await.expect("the ledger answers").len()
        });
    }
    let new: usize = writers.join_all().await.into_iter().sum();
    assert_eq!(new, 2);
    assert_eq!(list(&book, EventQuery::default()).await.len(), 2);
}

pub(in crate::ledger) async fn events_wait_until_they_are_handed_on(book: Book) {
    append(&book, &[event(1, "a", 30), event(2, "b", 10), event(3, "c", 20)]).await;
    assert_eq!(waiting(&book).await, [id(2), id(3), id(1)]);
    let ledger = book.ledger();
    ledger.events_relayed(&[id(3), id(2)], at(40)).await.expect("the ledger answers");
    ledger.events_relayed(&[id(3)], at(50)).await.expect("told again");
    // One whose commit came late is older than what was handed on.
    append(&book, &[event(4, "d", 5)]).await;
    assert_eq!(waiting(&book).await, [id(4), id(1)]);
}

pub(in crate::ledger) async fn the_events_of_a_workspace_are_numbered_as_they_are_seen(book: Book) {
    book.done(settle("r1")).await;
    append(&book, &[event(9, "a", 30), event(8, "b", 10)]).await;
    append(&book, &[event(7, "b", 20), event(6, "c", 5)]).await;
    let ledger = book.ledger();
    let seen = ledger.events_after(&workspace("ws_a"), 0, 10).await.expect("the ledger answers");
    let ids: Vec<EventId> = seen.iter().map(|(_, event)| event.id).collect();
    assert_eq!(ids, [id(9), id(8), id(6)], "in the order in which they were written");
    let (middle, _) = seen[1];
    assert_eq!(
        ledger.event_number(&workspace("ws_a"), id(8)).await.expect("the ledger answers"),
        Some(middle)
    );
    assert_eq!(
        ledger.event_number(&workspace("ws_b"), id(8)).await.expect("the ledger answers"),
        None
    );
    let after = ledger
        .events_after(&workspace("ws_a"), middle, 10)
        .await
        .expect("the ledger answers");
    assert_eq!(after, seen[2..]);
    let newest = ledger.newest_events(&[workspace("ws_a"), workspace("ws_none")]).await;
    assert_eq!(newest.expect("the ledger answers"), [(workspace("ws_a"), seen[2].0)]);
}

pub(in crate::ledger) async fn events_are_listed_both_ways_in_pages_and_filtered(book: Book) {
    let mut events: Vec<Event> = (1..=5).map(|n| event(n, &format!("e{n}"), 10 * n as i64)).collect();
    events[1].kind = EventType::PlanChanged;
    events[2].audience = Audience::Operator;
    events[3].workspace = Some(workspace("ws_b"));
    append(&book, &events).await;
    let of = |events: Vec<Event>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
    for is_oldest_first in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = list(
                &book,
                EventQuery {
                    after,
                    is_oldest_first,
                    limit: 2,
                    ..EventQuery::default()
                },
            )
            .await;
            let Some(last) = page.last() else { break };
            after = Some((last.recorded_at, last.id));
            seen.extend(of(page));
        }
        let mut expected: Vec<EventId> = (1..=5).map(id).collect();
        if !is_oldest_first {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let in_time = EventQuery {
        from: Some(at(20)),
        to: Some(at(40)),
        ..EventQuery::default()
    };
    assert_eq!(of(list(&book, in_time).await), [id(3), id(2)]);
    let of_customers = EventQuery {
        workspace: Some(workspace("ws_a")),
        audience: Some(Audience::Customer),
        kinds: vec![EventType::BudgetThresholdReached, EventType::BudgetExhausted],
        ..EventQuery::default()
    };
    assert_eq!(of(list(&book, of_customers).await), [id(5), id(1)]);
}

pub(in crate::ledger) async fn a_budget_at_its_limit_is_due_until_its_end_is_told(book: Book) {
    let at_limit = |number, once: &str, end| Event {
        renews_at: Some(at(end)),
        ..event(number, once, 10)
    };
    append(
        &book,
        &[at_limit(1, "level a", 100), at_limit(2, "level b", 200), event(3, "level c", 10)],
    )
    .await;
    let ledger = book.ledger();
    let due = |now| {
        let ledger = ledger.clone();
        async move {
            ledger
                .renewals_due(at(now), 10)
                .await
                .expect("the ledger answers")
                .into_iter()
                .map(|event| event.id)
                .collect::<Vec<_>>()
        }
    };
    let open = |of, now| {
        let ledger = ledger.clone();
        async move {
            let of = Some(workspace(of));
            let open = ledger
                .crossings_open(of.as_ref(), at(now), None, 10)
                .await
                .expect("the ledger answers");
            open.into_iter().map(|event| event.id).collect::<Vec<_>>()
        }
    };
    assert_eq!((due(99).await, open("ws_a", 99).await), (vec![], vec![id(1), id(2)]));
    assert_eq!((due(100).await, open("ws_a", 100).await), (vec![id(1)], vec![id(2)]));
    assert_eq!(open("ws_b", 99).await, []);
    assert_eq!(
        ledger
            .crossings_open(None, at(99), Some(id(1)), 10)
            .await
            .expect("the ledger answers")
            .len(),
        1
    );
    let told = Event {
        kind: EventType::BudgetRenewed,
        ..event(4, "renewed a", 110)
    };
    assert_eq!(
        ledger
            .renew_budgets(vec![told.clone()], vec![id(1)])
            .await
            .expect("the ledger answers"),
        [id(4)]
    );
    assert_eq!(ledger.renew_budgets(vec![told], vec![id(1)]).await.expect("told again"), []);
    assert_eq!(due(1_000).await, [id(2)]);
}

pub(in crate::ledger) async fn events_are_pruned_when_they_are_not_needed(book: Book) {
    let kept = |number, until| Event {
        kept_until: at(until),
        ..event(number, &format!("e{number}"), 10)
    };
    append(&book, &[kept(1, 100), kept(2, 100), kept(3, 200), kept(4, 100)]).await;
    let ledger = book.ledger();
    ledger
        .events_relayed(&[id(1), id(2), id(3)], at(20))
        .await
        .expect("the ledger answers");
    let prune = |now, before, limit| {
        let ledger = ledger.clone();
        async move { ledger.prune_events(at(now), at(before), limit).await.expect("the ledger answers") }
    };
    assert_eq!(prune(99, 0, 10).await, 0, "all are kept still");
    assert_eq!(
        (prune(100, 0, 1).await, prune(100, 0, 10).await),
        (1, 1),
        "in slices, and not what waits"
    );
    assert_eq!(prune(100, 11, 10).await, 1, "but what waited in vain");
    assert_eq!(list(&book, EventQuery::default()).await, [kept(3, 200)]);
}
