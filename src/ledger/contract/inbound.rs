//! What a billing provider told: once, whole, and decided on what is there.

use super::book::{Book, at, audited, settle, workspace};
use crate::decision::event::Event;
use crate::decision::id::PlanId;
use crate::decision::inbound::{Cycle, Every, Interval, Item, MeterError, Outcome, Progress, ReportState, Revenue, Subscription, Told};
use crate::decision::period::Period;
use crate::decision::workspace::Workspace;
use crate::ledger::audit::AuditQuery;
use crate::ledger::inbound::{Heard, Receipt, Received, ReportMove, ReportedError};
use tokio::task::JoinSet;

fn subscription(status: &str) -> Subscription {
    Subscription {
        id: "sub_'1".to_owned(),
        customer: "cus_1".to_owned(),
        status: status.to_owned(),
        items: vec![Item {
            price: "price_\"1".to_owned(),
            quantity: Some(5),
            plan: None,
        }],
        anchor_day: Some(31),
        anchor_at: Some(at(7)),
        cycle: Cycle {
            every: Every {
                interval: Interval::Year,
                count: 2,
            },
            told: vec![Told {
                period: Period { start: at(5), end: at(6) },
                is_cut: true,
            }],
            ended_at: Some(at(6)),
        },
        started_at: at(1),
        told_at: at(2),
        rank: 1,
    }
}

/// An event of this id that says this of the subscription, decided on this revision.
fn told(event: &str, revision: i64, status: &str) -> Received {
    Received {
        event: Heard {
            id: event.to_owned(),
            kind: "customer.subscription.updated".to_owned(),
            created_at: at(2),
            received_at: at(3),
            customer: Some("cus_1".to_owned()),
            outcome: Outcome::Applied,
        },
        revision,
        subscription: Some(subscription(status)),
        workspaces: Vec::new(),
        revenue: Vec::new(),
        revenue_of: None,
        meter_errors: Vec::new(),
        report: None,
    }
}

/// `ws_a` with the customer, as it becomes.
async fn customer(book: &Book) -> Workspace {
    book.done(settle("r")).await;
    let mut workspace = stored(book).await;
    workspace.stripe_customer_id = Some("cus_1".to_owned());
    workspace.version += 1;
    let put = book.ledger().put_workspace(&workspace, 1, audited("workspace.put", "ws_a")).await;
    assert!(put.expect("the ledger answers"));
    workspace
}

async fn stored(book: &Book) -> Workspace {
    let found = book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers");
    found.expect("it is there")
}

/// The workspace with so many seats, and who changed it.
fn with_seats(workspace: &Workspace, seats: i64) -> (Workspace, u32, crate::ledger::audit::Audited, Vec<Event>) {
    let mut next = workspace.clone();
    next.seats.change(seats, at(5));
    next.version += 1;
    (next, workspace.version, audited("workspace.subscription", "ws_a"), Vec::new())
}

async fn receive(book: &Book, received: Received) -> Receipt {
    book.ledger().receive(received).await.expect("the ledger answers")
}

async fn known(book: &Book) -> (i64, Vec<Subscription>) {
    book.ledger().subscriptions("cus_1").await.expect("the ledger answers")
}

async fn changes(book: &Book) -> usize {
    let query = AuditQuery {
        action: Some("workspace.subscription".to_owned()),
        limit: 500,
        ..AuditQuery::default()
    };
    book.ledger().audit_log(&query).await.expect("the ledger answers").len()
}

pub(in crate::ledger) async fn an_event_is_handled_once_with_all_that_follows(mut book: Book) {
    let workspace = customer(&book).await;
    let event = || Received {
        workspaces: vec![with_seats(&workspace, 5)],
        ..told("evt_1", 0, "active")
    };
    assert_eq!(receive(&book, event()).await, Receipt::Done);
    assert_eq!(receive(&book, event()).await, Receipt::Known(Outcome::Applied));
    book.reopen().await;
    assert_eq!(known(&book).await, (1, vec![subscription("active")]));
    assert_eq!((stored(&book).await.seats.now(), changes(&book).await), (5, 1));
    let heard = book.ledger().heard("evt_1").await.expect("the ledger answers");
    assert_eq!(heard, Some(event().event));
    assert_eq!(book.ledger().heard("evt_2").await.expect("the ledger answers"), None);
    assert_eq!(receive(&book, told("evt_2", 1, "unpaid")).await, Receipt::Done);
    assert_eq!(known(&book).await, (2, vec![subscription("unpaid")]));
    assert_eq!(
        receive(&book, event()).await,
        Receipt::Known(Outcome::Applied),
        "after a later one as well"
    );
}

pub(in crate::ledger) async fn an_event_without_effect_is_taken_when_it_comes_again(book: Book) {
    let without = Received {
        event: Heard {
            outcome: Outcome::Unmatched,
            ..told("evt_1", 0, "active").event
        },
        ..told("evt_1", 0, "active")
    };
    assert_eq!(receive(&book, without).await, Receipt::Done);
    let workspace = customer(&book).await;
    let again = || Received {
        workspaces: vec![with_seats(&workspace, 5)],
        ..told("evt_1", 1, "active")
    };
    assert_eq!(receive(&book, again()).await, Receipt::Done);
    assert_eq!(receive(&book, again()).await, Receipt::Known(Outcome::Applied));
    assert_eq!(stored(&book).await.seats.now(), 5);
}

pub(in crate::ledger) async fn what_changed_since_an_event_was_decided_takes_all_of_it_back(book: Book) {
    let workspace = customer(&book).await;
    assert_eq!(receive(&book, told("evt_1", 0, "active")).await, Receipt::Done);
    let old = Received {
        workspaces: vec![with_seats(&workspace, 9)],
        ..told("evt_2", 0, "unpaid")
    };
    assert_eq!(receive(&book, old.clone()).await, Receipt::Raced, "the subscription has changed");
    let (mut next, _, record, _) = with_seats(&workspace, 9);
    next.version += 1;
    let overtaken = Received {
        revision: 1,
        workspaces: vec![(next.clone(), workspace.version + 1, record.clone(), Vec::new())],
        ..old.clone()
    };
    assert_eq!(
        receive(&book, overtaken).await,
        Receipt::Raced,
        "the workspace is at another version"
    );
    assert_eq!(known(&book).await, (1, vec![subscription("active")]));
    assert_eq!((stored(&book).await, changes(&book).await), (workspace, 0));
    assert_eq!(book.ledger().heard("evt_2").await.expect("the ledger answers"), None);
    assert_eq!(receive(&book, Received { revision: 1, ..old }).await, Receipt::Done);
}

pub(in crate::ledger) async fn of_racing_receivers_of_an_event_one_handles_it(book: Book) {
    let workspace = customer(&book).await;
    let mut racing = JoinSet::new();
    for number in 0..20 {
        let ledger = book.ledger();
        // Two events about one customer, each received by ten.
        let received = Received {
            workspaces: vec![with_seats(&workspace, 5)],
            ..told(&format!("evt_{}", number % 2), 0, "active")
        };
        racing.spawn(async move { ledger.receive(received).await.expect("the ledger answers") });
    }
    let receipts = racing.join_all().await;
    let done = receipts.iter().filter(|receipt| **receipt == Receipt::Done).count();
    assert_eq!(done, 1, "{receipts:?}");
    assert_eq!((known(&book).await.0, changes(&book).await), (1, 1));
    assert_eq!(stored(&book).await.version, workspace.version + 1);
}

fn part(source: &str, amount: i64, from: i64) -> Revenue {
    Revenue {
        source: source.to_owned(),
        document: "in_1".to_owned(),
        amount,
        currency: "usd".to_owned(),
        period: Period {
            start: at(from),
            end: at(from + 10),
        },
        paid_at: at(50),
    }
}

fn paid(event: &str, of: Option<&str>, revenue: Vec<Revenue>) -> Received {
    Received {
        subscription: None,
        revenue,
        revenue_of: of.map(workspace),
        ..told(event, 0, "")
    }
}

pub(in crate::ledger) async fn what_was_paid_is_kept_once_and_read_by_period(book: Book) {
    customer(&book).await;
    let parts = vec![part("in_1/a", 500, 10), part("in_1/b", -20, 30)];
    assert_eq!(receive(&book, paid("evt_1", Some("ws_a"), parts.clone())).await, Receipt::Done);
    // The same invoice by another event, with a part more.
    let again = [parts.clone(), vec![part("in_1/c", 7, 20)]].concat();
    assert_eq!(receive(&book, paid("evt_2", Some("ws_a"), again)).await, Receipt::Done);
    // Before there was a workspace with the customer.
    assert_eq!(
        receive(&book, paid("evt_3", None, vec![part("in_2/a", 3, 15)])).await,
        Receipt::Done
    );
    assert_eq!(
        receive(&book, paid("evt_4", Some("ws_b"), vec![part("in_3/a", 9, 15)])).await,
        Receipt::Done
    );
    let read = async |of: &str, customer, from, to| -> Vec<i64> {
        let found = book.ledger().revenue(&workspace(of), customer, at(from), at(to)).await;
        found.expect("the ledger answers").iter().map(|part| part.amount).collect()
    };
    assert_eq!(read("ws_a", None, 0, 100).await, [500, 7, -20]);
    assert_eq!(read("ws_a", Some("cus_1"), 0, 100).await, [500, 3, 7, -20]);
    assert_eq!(read("ws_a", Some("cus_2"), 11, 30).await, [7]);
    assert_eq!(read("ws_b", None, 0, 100).await, [9]);
    // A second workspace of the customer has no part in it, and keeps none when the event comes again.
    let mut second = Workspace::unknown(workspace("ws_c"), stored(&book).await.created_at.plus_seconds(1));
    second.stripe_customer_id = Some("cus_1".to_owned());
    let put = book.ledger().put_workspace(&second, 0, audited("workspace.put", "ws_c")).await;
    assert!(put.expect("the ledger answers"));
    assert_eq!(read("ws_c", Some("cus_1"), 0, 100).await, [0; 0]);
    assert_eq!(read("ws_a", Some("cus_1"), 0, 100).await, [500, 3, 7, -20]);
    let resent = paid("evt_5", Some("ws_c"), vec![part("in_2/a", 3, 15), part("in_1/a", 500, 10)]);
    assert_eq!(receive(&book, resent).await, Receipt::Done);
    assert_eq!(
        read("ws_c", Some("cus_1"), 0, 100).await,
        [3],
        "it was nobody's, and is whose it is told to be"
    );
    assert_eq!(read("ws_a", Some("cus_1"), 0, 100).await, [500, 7, -20]);
    let all = book.ledger().revenue(&workspace("ws_a"), None, at(0), at(15)).await;
    assert_eq!(all.expect("the ledger answers"), [parts[0].clone()]);
}

pub(in crate::ledger) async fn reports_of_refused_usage_are_kept_in_their_order(book: Book) {
    let error = |identifier: Option<&str>| MeterError {
        meter: Some("mtr_1".to_owned()),
        identifier: identifier.map(str::to_owned),
        code: "code".to_owned(),
        message: "a'b".to_owned(),
    };
    let reported = |event: &str, second: i64, errors: Vec<MeterError>| {
        let mut received = told(event, 0, "");
        received.subscription = None;
        received.event.customer = None;
        received.event.received_at = at(second);
        received.meter_errors = errors;
        received
    };
    assert_eq!(receive(&book, reported("evt_2", 9, vec![error(None)])).await, Receipt::Done);
    assert_eq!(
        receive(&book, reported("evt_1", 5, vec![error(Some("bat_1")), error(Some("bat_2"))])).await,
        Receipt::Done
    );
    let read = async |from, limit| book.ledger().meter_errors(at(from), limit).await.expect("the ledger answers");
    let row = |event: &str, second, identifier| ReportedError {
        event: event.to_owned(),
        reported_at: at(second),
        error: error(identifier),
    };
    let all = [
        row("evt_1", 5, Some("bat_1")),
        row("evt_1", 5, Some("bat_2")),
        row("evt_2", 9, None),
    ];
    assert_eq!(read(0, 10).await, all);
    assert_eq!(read(0, 2).await, all[..2]);
    assert_eq!(read(6, 10).await, all[2..]);
}

pub(in crate::ledger) async fn workspaces_are_found_by_their_customer(book: Book) {
    let found = async |customer: &str| -> Vec<String> {
        let found = book.ledger().workspaces_of_customer(customer).await.expect("the ledger answers");
        found.iter().map(|workspace| workspace.id.to_string()).collect()
    };
    assert_eq!(found("cus_1").await, Vec::<String>::new());
    for (id, customer, second) in [("ws_c", "cus_1", 3), ("ws_b", "cus_1", 2), ("ws_a", "cus_2", 1)] {
        let mut described = Workspace::unknown(workspace(id), at(second));
        described.stripe_customer_id = Some(customer.to_owned());
        described.plan_id = Some(PlanId::parse("pro").expect("a plan"));
        let put = book.ledger().put_workspace(&described, 0, audited("workspace.put", id)).await;
        assert!(put.expect("the ledger answers"));
    }
    assert_eq!(found("cus_1").await, ["ws_b", "ws_c"]);
    assert_eq!(found("cus_2").await, ["ws_a"]);
}

pub(in crate::ledger) async fn an_event_is_kept_for_as_long_as_it_may_come_again(book: Book) {
    customer(&book).await;
    for (event, received_at) in [("evt_old", 3), ("evt_older", 2), ("evt_new", 10)] {
        let mut told = told(event, known(&book).await.0, "active");
        told.event.received_at = at(received_at);
        assert_eq!(receive(&book, told).await, Receipt::Done);
    }
    let prune = async |limit| book.ledger().prune_inbound(at(10), limit).await.expect("the ledger answers");
    assert_eq!(prune(1).await, 1, "the oldest first");
    assert_eq!(book.ledger().heard("evt_older").await.expect("the ledger answers"), None);
    assert!(book.ledger().heard("evt_old").await.expect("the ledger answers").is_some());
    assert_eq!((prune(10).await, prune(10).await), (1, 0));
    assert!(book.ledger().heard("evt_new").await.expect("the ledger answers").is_some());
    assert_eq!(known(&book).await.1.len(), 1, "what it told of stays");
}

fn reported(event: &str, second: i64) -> Received {
    let progress = Progress {
        event: event.to_owned(),
        kind: "v1.billing.meter.error_report_triggered".to_owned(),
        meter: Some("mtr_1".to_owned()),
        received_at: at(second),
        state: ReportState::Fetch,
        tries: 0,
        next_try_at: Some(at(second)),
        validated: None,
        error_count: None,
        reason: None,
    };
    let mut received = told(event, 0, "");
    received.subscription = None;
    received.event.customer = None;
    received.event.received_at = at(second);
    received.report = Some(progress);
    received
}

pub(in crate::ledger) async fn a_report_is_worked_on_once_until_it_is_done_or_given_up(mut book: Book) {
    let error = MeterError {
        meter: Some("mtr_1".to_owned()),
        identifier: Some("bat_1".to_owned()),
        code: "code".to_owned(),
        message: "a'b".to_owned(),
    };
    for (event, second) in [("evt_2", 7), ("evt_1", 5), ("evt_3", 9)] {
        assert_eq!(receive(&book, reported(event, second)).await, Receipt::Done);
        let again = receive(&book, reported(event, second + 1)).await;
        assert_eq!(again, Receipt::Known(Outcome::Applied), "and it goes on as it is");
    }
    book.reopen().await;
    let due = async |second, limit| book.ledger().reports_due(at(second), limit).await.expect("the ledger answers");
    let counts = async || {
        let counts = book.ledger().report_counts().await.expect("the ledger answers");
        (counts.waiting, counts.given_up)
    };
    let first = reported("evt_1", 5).report.expect("a report");
    assert_eq!(due(8, 1).await.first(), Some(&first), "what waits longest comes first");
    assert_eq!(due(8, 1).await.len(), 1);
    assert_eq!((due(8, 9).await.len(), due(4, 9).await.len(), counts().await), (2, 0, (3, 0)));
    let step = async |from: &Progress, to: &Progress, errors: &[MeterError]| {
        let moved = ReportMove {
            from: (from.state, from.tries),
            to: to.clone(),
            errors: errors.to_vec(),
            now: at(20),
        };
        book.ledger().move_report(moved).await.expect("the ledger answers")
    };
    let found = Progress {
        state: ReportState::Check,
        next_try_at: Some(at(30)),
        validated: Some(Period { start: at(1), end: at(2) }),
        error_count: Some(12),
        ..first.clone()
    };
    assert!(step(&first, &found, std::slice::from_ref(&error)).await);
    let other = MeterError {
        code: "other".to_owned(),
        ..error.clone()
    };
    assert!(!step(&first, &found, &[other]).await, "another node was faster");
    let said = book.ledger().reported_by("evt_1").await.expect("the ledger answers");
    assert_eq!(said, [error]);
    assert_eq!(due(30, 9).await.last(), Some(&found));
    let ended = |state, from: &Progress| Progress {
        state,
        tries: from.tries + 1,
        next_try_at: None,
        reason: Some("it's away".to_owned()),
        ..from.clone()
    };
    assert!(step(&found, &ended(ReportState::GivenUp, &found), &[]).await);
    let second = reported("evt_2", 7).report.expect("a report");
    assert!(step(&second, &ended(ReportState::Done, &second), &[]).await);
    assert_eq!((counts().await, due(99, 9).await.len()), ((1, 1), 1));
    // Stripe sends all of them again: what was given up begins anew where it was, what is done is done.
    for event in ["evt_1", "evt_2", "evt_3"] {
        assert_eq!(receive(&book, reported(event, 40)).await, Receipt::Known(Outcome::Applied));
    }
    let anew = Progress {
        received_at: at(40),
        next_try_at: Some(at(40)),
        ..found
    };
    let third = reported("evt_3", 9).report.expect("a report");
    assert_eq!((due(99, 9).await, counts().await), (vec![third, anew.clone()], (2, 0)));
    // With its event, and not before it is done, it is forgotten.
    book.ledger().prune_inbound(at(100), 10).await.expect("the ledger answers");
    assert_eq!(counts().await, (2, 0));
    assert_eq!(receive(&book, reported("evt_2", 120)).await, Receipt::Done);
    assert_eq!(counts().await, (3, 0));
}
