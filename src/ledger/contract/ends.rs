//! Ends and entries belong together, and where they do not it is said.

use super::book::{Book, checkpoint, end, reservation, settle, workspace};
use crate::decision::id::EntryId;
use crate::decision::standing::End;
use crate::ledger::ends::{EndDifference, EndFault, EndsPlace};

/// All ends and entries that do not belong together, in pages so small that each case has several; and how many ends there are.
async fn differences(book: &Book) -> (u64, Vec<EndDifference>) {
    let (mut ends, mut differences, mut next) = (0, Vec::new(), Some(EndsPlace::beginning()));
    while let Some(place) = next {
        let page = book.ledger().ends_page(&place, 2).await.expect("the ledger answers");
        ends += page.ends;
        differences.extend(page.differences);
        next = page.next;
    }
    (ends, differences)
}

/// Five reservations that ended in every way, and one that is open.
pub(in crate::ledger) async fn fill(book: &Book) {
    book.done(settle("settled")).await;
    book.done(settle("other").of("ws_b")).await;
    book.done(checkpoint("reported")).await;
    book.done(settle("reported").on(1)).await;
    book.done(end("released", End::Released)).await;
    book.done(end("expired", End::Expired)).await;
    book.done(settle("expired").on(1)).await;
    book.done(checkpoint("open")).await;
}

pub(in crate::ledger) async fn each_end_has_its_entry_whatever_way_it_came_to_be(book: Book) {
    assert_eq!(differences(&book).await, (0, Vec::new()));
    fill(&book).await;
    assert_eq!(differences(&book).await, (6, Vec::new()));
}

/// Spoils four of them, by statements that only somebody with the database's password can send, and expects each to be named. `month` sets
/// what else a store keeps of where an entry is.
pub(in crate::ledger) async fn spoil(book: &Book, month: &str) -> (Vec<String>, Vec<EndDifference>) {
    let mut entries = book.entries("ws_a").await;
    entries.extend(book.entries("ws_b").await);
    let entry_of = |request: &str| {
        let entry = entries.iter().find(|entry| entry.request_id.as_str() == request);
        entry.expect(request).entry_id
    };
    let nobodys = EntryId::from_uuid(uuid::Uuid::from_u128(u128::from(u64::MAX)));
    let statements = vec![
        "UPDATE reservation_end SET entry_id = NULL WHERE request_id = 'settled'".to_owned(),
        format!("UPDATE reservation_end SET entry_id = '{nobodys}' WHERE request_id = 'reported'"),
        format!(
            "UPDATE reservation_end SET entry_id = '{}'{month} WHERE request_id = 'released'",
            entry_of("expired")
        ),
        "DELETE FROM reservation_end WHERE request_id = 'other'".to_owned(),
    ];
    let difference = |workspace_id: &str, request: &str, what| EndDifference {
        workspace: workspace(workspace_id),
        reservation: reservation(workspace_id, request).to_string(),
        what,
    };
    let mut expected = vec![
        difference("ws_a", "settled", EndFault::NoEntry),
        difference("ws_a", "reported", EndFault::EntryMissing(nobodys)),
        difference("ws_a", "released", EndFault::EntryOfAnother(entry_of("expired"))),
        difference("ws_b", "other", EndFault::NoEnd(entry_of("other"))),
    ];
    expected.sort_by(|a, b| a.reservation.cmp(&b.reservation));
    (statements, expected)
}

/// What is found, in the order of reservations.
pub(in crate::ledger) async fn found(book: &Book) -> Vec<EndDifference> {
    let (_, mut found) = differences(book).await;
    found.sort_by(|a, b| a.reservation.cmp(&b.reservation));
    found
}
