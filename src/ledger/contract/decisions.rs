//! The decision log: what is logged is found by its id and by its reservation, and pruned by age and number, the oldest first.

use super::book::{Book, at, reservation, workspace};
use crate::decision::id::DecisionId;
use crate::ledger::{LoggedDecision, Pruning};

/// An allow of this number, made at this second.
fn allow(number: u128, second: i64) -> LoggedDecision {
    LoggedDecision {
        decision: DecisionId::from_uuid(uuid::Uuid::from_u128(number)),
        reservation: Some(reservation("ws_a", &format!("r{number}"))),
        workspace: workspace("ws_a"),
        decided_at: at(second),
        is_denial: false,
        facts: vec![0, 255, number as u8],
    }
}

fn deny(number: u128, second: i64) -> LoggedDecision {
    LoggedDecision {
        reservation: None,
        is_denial: true,
        ..allow(number, second)
    }
}

async fn log(book: &Book, rows: &[LoggedDecision]) {
    book.ledger().log_decisions(rows.to_vec()).await.expect("the ledger answers");
}

async fn find(book: &Book, row: &LoggedDecision) -> Option<LoggedDecision> {
    book.ledger().decision(row.decision).await.expect("the ledger answers")
}

async fn prune(book: &Book, is_denial: bool, before: i64, rows_max: usize, limit: usize) -> usize {
    let pruning = Pruning {
        is_denial,
        before: at(before),
        rows_max,
        limit,
    };
    book.ledger().prune_decisions(pruning).await.expect("the ledger answers")
}

/// The numbers that are still there of these.
async fn left(book: &Book, rows: &[LoggedDecision]) -> Vec<u8> {
    let mut left = Vec::new();
    for row in rows {
        if find(book, row).await.is_some() {
            left.push(row.facts[2]);
        }
    }
    left
}

pub(in crate::ledger) async fn a_logged_decision_is_found_as_it_was_written(mut book: Book) {
    let rows = [allow(1, 10), deny(2, 11)];
    assert_eq!(find(&book, &rows[0]).await, None);
    log(&book, &[]).await;
    log(&book, &rows).await;
    book.reopen().await;
    for row in &rows {
        assert_eq!(find(&book, row).await.as_ref(), Some(row));
    }
    let of = |request: &str| reservation("ws_a", request);
    let ledger = book.ledger();
    assert_eq!(
        ledger.decision_of(of("r1")).await.expect("the ledger answers").as_ref(),
        Some(&rows[0])
    );
    assert_eq!(
        ledger.decision_of(of("r2")).await.expect("the ledger answers"),
        None,
        "a denial has no reservation"
    );
}

pub(in crate::ledger) async fn a_decision_that_is_logged_twice_stays_as_it_was(book: Book) {
    let first = allow(1, 10);
    log(&book, std::slice::from_ref(&first)).await;
    let again = LoggedDecision {
        facts: vec![7],
        ..first.clone()
    };
    log(&book, &[again, allow(2, 12)]).await;
    assert_eq!(find(&book, &first).await, Some(first));
    assert!(find(&book, &allow(2, 12)).await.is_some(), "its neighbours are written");
}

pub(in crate::ledger) async fn many_decisions_are_logged_at_once(book: Book) {
    let rows: Vec<LoggedDecision> = (0..1_500).map(|n| if n % 3 == 0 { deny(n, 10) } else { allow(n, 10) }).collect();
    log(&book, &rows).await;
    for place in [0, 1, 1_499] {
        assert_eq!(find(&book, &rows[place]).await.as_ref(), Some(&rows[place]));
    }
}

pub(in crate::ledger) async fn decisions_are_pruned_by_age_in_slices(book: Book) {
    let rows: Vec<LoggedDecision> = (1..=6).map(|n| deny(n, 100 + n as i64)).collect();
    log(&book, &rows).await;
    log(&book, &[allow(9, 50)]).await;
    assert_eq!(prune(&book, true, 105, 100, 3).await, 3, "the oldest of those before");
    assert_eq!(left(&book, &rows).await, [4, 5, 6]);
    assert_eq!(prune(&book, true, 105, 100, 3).await, 1, "at that moment is not before it");
    assert_eq!(left(&book, &rows).await, [5, 6]);
    assert_eq!(prune(&book, true, 105, 100, 3).await, 0);
    assert!(find(&book, &allow(9, 50)).await.is_some(), "allows have an age of their own");
}

pub(in crate::ledger) async fn decisions_are_pruned_to_the_newest_of_their_kind(book: Book) {
    let rows: Vec<LoggedDecision> = (1..=6).map(|n| allow(n, 100 + n as i64)).collect();
    log(&book, &rows).await;
    log(&book, &[deny(9, 50)]).await;
    assert_eq!(prune(&book, false, 0, 6, 100).await, 0, "six are not too much");
    assert_eq!(prune(&book, false, 0, 2, 3).await, 3);
    assert_eq!(prune(&book, false, 0, 2, 3).await, 1);
    assert_eq!(left(&book, &rows).await, [5, 6]);
    assert!(find(&book, &deny(9, 50)).await.is_some(), "denials are counted by themselves");
}
