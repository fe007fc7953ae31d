//! An end or an entry that somebody tampered with is named.

use super::*;
use crate::ledger::contract::ends::{fill, found, spoil};

#[tokio::test]
async fn each_end_that_was_tampered_with_is_named() {
    let (book, _, url) = plain(server!()).await;
    fill(&book).await;
    let (statements, expected) = spoil(&book, ", entry_occurred_at = 1500000000").await;
    let mut stranger = stranger(&url).await;
    for statement in statements {
        execute(&mut stranger, &statement).await.expect("tampered");
    }
    assert_eq!(found(&book).await, expected);
}
