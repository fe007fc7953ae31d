//! Batches that somebody has changed: each difference is named.

use super::{execute, plain, stranger};
use crate::ledger::billing::BillingLedger;
use crate::ledger::contract::billing::sealed_twice;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_are_not_what_their_members_say_are_named() {
    for (tampering, expected) in [
        ("UPDATE billing_batch SET value = value + 1 WHERE sequence = 1", "is worth"),
        ("UPDATE billing_batch SET carry = '0.5' WHERE seal_number = 1", "is worth"),
        ("UPDATE billing_carry SET carry = '7'", "it carries 7, its last batch says 0"),
        (
            "UPDATE billing_carry SET event_name = 'other', carry = '7'",
            "of other it carries 7, its last batch says 0",
        ),
        (
            "UPDATE billing_batch SET counted = 99 WHERE seal_number = 1",
            "its members are 1 and count 100",
        ),
        ("UPDATE billing_member SET counted = 99", "their entries say 100"),
        ("DELETE FROM billing_member", "its members are 0 and count 0"),
    ] {
        let (book, ledger, folder) = plain().await;
        sealed_twice(&book).await;
        let verify = || async { ledger.verify_batches(None, 100).await.expect("the ledger answers") };
        assert_eq!((verify().await.batches, verify().await.differences), (2, vec![]));
        execute(&mut stranger(&folder).await, tampering).await.expect("the tampering");
        let differences: Vec<String> = verify()
            .await
            .differences
            .iter()
            .map(|difference| difference.what.to_string())
            .collect();
        assert!(
            differences.iter().any(|what| what.contains(expected)),
            "{tampering}: {differences:?}"
        );
    }
}
