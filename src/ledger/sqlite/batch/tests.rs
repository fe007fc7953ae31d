//! What posts of one batch are to each other, which the order of racing callers does not decide here.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::standing::End;
use crate::ledger::contract::book::{Draft, checkpoint, month, settle, workspace};

/// A batch in a workspace that exists, whose only counter has no row yet and would say 1,000.
fn batch() -> Batch {
    let mut batch = Batch::default();
    batch.know_workspace(workspace("ws_a"), 7);
    let counter = month(Unit::Tokens);
    batch.know_unborn(
        workspace("ws_a"),
        SumRow {
            counter,
            spent: 1_000,
            version: 0,
            paid: 0,
        },
    );
    batch
}

/// Spent and version of the rows that a post is answered with.
fn done(batch: &mut Batch, draft: Draft) -> Vec<(i64, i64)> {
    match batch.post(&draft.post()).expect("no sum is too large") {
        Posted::Done { rows, .. } => rows.iter().map(|row| (row.spent, row.version)).collect(),
        Posted::Stands(standing) => panic!("refused: {standing:?}"),
    }
}

#[test]
fn a_row_born_in_mid_batch_has_what_came_before_it_and_moves_with_what_comes_after() {
    let mut batch = batch();
    assert_eq!(done(&mut batch, settle("a").tokens(1)), [], "nobody has named it yet");
    assert_eq!(done(&mut batch, settle("b").tokens(20).naming([month(Unit::Tokens)])), [(1_021, 8)]);
    assert_eq!(done(&mut batch, settle("c").tokens(300)), [(1_321, 9)]);
    let (born, moved) = batch.sums();
    assert_eq!(
        born.iter().map(|row| (row.spent, row.version)).collect::<Vec<_>>(),
        [(1_321, 9)],
        "it is written once, as it is last"
    );
    assert!(moved.is_empty());
    assert_eq!(batch.sum_versions().iter().map(|row| row.sum_version).collect::<Vec<_>>(), [9]);
}

#[test]
fn a_row_that_nobody_names_stays_unwritten_and_raises_no_version() {
    let mut batch = batch();
    done(&mut batch, settle("a"));
    let (born, moved) = batch.sums();
    assert!(born.is_empty() && moved.is_empty() && batch.sum_versions().is_empty());
}

#[test]
fn the_second_post_of_a_reservation_sees_the_first_one_of_its_batch() {
    let mut batch = batch();
    assert_eq!(
        done(&mut batch, checkpoint("r").tokens(40).naming([month(Unit::Tokens)])),
        [(1_040, 8)]
    );
    assert!(matches!(batch.post(&settle("r").post()), Ok(Posted::Stands(standing)) if standing.revision == 1));
    assert_eq!(done(&mut batch, settle("r").tokens(50).on(1)), [(1_050, 9)]);
    let (new, changed) = batch.standings();
    assert_eq!(
        new.iter().map(|row| (row.revision, row.end.as_deref())).collect::<Vec<_>>(),
        [(2, Some(End::Settled.as_str()))]
    );
    assert!(
        changed.is_empty(),
        "what the ledger had no row for is inserted, however often it changed"
    );
    assert!(batch.checkpoints().1.is_empty());
}

#[test]
fn a_post_whose_sums_would_overflow_changes_nothing() {
    let mut batch = batch();
    let two = settle("r").tokens(i64::MAX - 1_000).naming([month(Unit::Tokens)]);
    let two = two.clone().with_correction(two.tokens(1));
    assert!(batch.post(&two.post()).is_err());
    assert!(batch.entries().is_empty() && batch.standings().0.is_empty() && batch.sums().0.is_empty());
    assert_eq!(done(&mut batch, settle("r").tokens(1).naming([month(Unit::Tokens)])), [(1_001, 8)]);
}
