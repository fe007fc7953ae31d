//! Checkpoints: spent while they are open, replaced and never added to, due when their hold runs out.

use super::book::{Book, But, at, checkpoint, end, month, period, reservation, settle, spent_of};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::standing::End;

pub(in crate::ledger) async fn an_open_checkpoint_is_spent(book: Book) {
    let rows = book.done(checkpoint("r").tokens(40).naming([month(Unit::Tokens)])).await;
    assert_eq!(spent_of(&rows, &month(Unit::Tokens)), Some(40));
    assert_eq!(book.entries("ws_a").await, [], "it is no entry yet");
    let standing = book.standing("r").await.expect("it was posted");
    assert_eq!((standing.end, standing.entry), (None, None));
    assert_eq!(
        standing.checkpoint.map(|open| (open.entry.counted.tokens, open.expires_at)),
        Some((40, at(2_100)))
    );
    book.balances().await;
}

pub(in crate::ledger) async fn a_checkpoint_replaces_the_one_before(book: Book) {
    let month = month(Unit::Tokens);
    book.done(checkpoint("r").tokens(40).naming([month.clone()])).await;
    for (revision, tokens) in [(1, 70), (2, 70), (3, 10)] {
        let rows = book.done(checkpoint("r").tokens(tokens).on(revision)).await;
        assert_eq!(spent_of(&rows, &month), Some(tokens));
    }
    book.balances().await;
}

pub(in crate::ledger) async fn the_final_entry_takes_the_place_of_the_checkpoint(book: Book) {
    let named = [month(Unit::Tokens), month(Unit::Requests), month(Unit::Tokens).of_user("usr_1")];
    book.done(checkpoint("r").tokens(40).naming(named.clone())).await;
    book.done(settle("r").tokens(90).on(1)).await;
    for (counter, expected) in named.iter().zip([90, 1, 90]) {
        assert_eq!(book.spent(counter).await, expected, "{counter:?}");
    }
    assert_eq!(book.standing("r").await.and_then(|standing| standing.checkpoint), None);
    book.balances().await;
}

pub(in crate::ledger) async fn a_checkpoint_of_another_time_user_and_feature_leaves_no_trace(book: Book) {
    let all = [
        month(Unit::Tokens),
        month(Unit::Tokens).within(period(0, 1_000)),
        month(Unit::Tokens).of_user("usr_1"),
        month(Unit::Tokens).of_user("usr_2").within(period(0, 1_000)),
        month(Unit::Tokens).of_feature("chat"),
        month(Unit::Tokens).of_feature("search").within(period(0, 1_000)),
    ];
    book.done(checkpoint("r").tokens(40).naming(all.clone())).await;
    let rows = book
        .done(checkpoint("r").tokens(7).at(500).user("usr_2").feature("search").on(1))
        .await;
    for (counter, expected) in all.iter().zip([0, 7, 0, 7, 0, 7]) {
        assert_eq!(spent_of(&rows, counter), Some(expected), "{counter:?}");
    }
    book.balances().await;
    book.done(settle("r").tokens(3).on(2)).await;
    for (counter, expected) in all.iter().zip([3, 0, 3, 0, 3, 0]) {
        assert_eq!(book.spent(counter).await, expected, "{counter:?}");
    }
    book.balances().await;
}

pub(in crate::ledger) async fn a_checkpoint_that_is_taken_away_is_given_back(book: Book) {
    book.done(checkpoint("r").tokens(40).naming([month(Unit::Tokens)])).await;
    let rows = book.done(end("r", End::Released).on(1)).await;
    assert_eq!(spent_of(&rows, &month(Unit::Tokens)), Some(0));
    book.balances().await;
}

pub(in crate::ledger) async fn a_row_born_beside_an_open_checkpoint_counts_it(book: Book) {
    let user = month(Unit::Tokens).of_user("usr_1");
    book.done(settle("a").tokens(1)).await;
    book.done(checkpoint("r").tokens(40)).await;
    let rows = book.done(settle("b").tokens(300).naming([month(Unit::Tokens), user.clone()])).await;
    assert_eq!(
        (spent_of(&rows, &month(Unit::Tokens)), spent_of(&rows, &user)),
        (Some(341), Some(341))
    );
    let own = month(Unit::Requests);
    let rows = book.done(checkpoint("r").tokens(50).on(1).naming([own.clone()])).await;
    assert_eq!((spent_of(&rows, &month(Unit::Tokens)), spent_of(&rows, &own)), (Some(351), Some(3)));
    book.balances().await;
}

pub(in crate::ledger) async fn a_checkpoint_that_becomes_the_entry_moves_nothing_and_names_its_rows(book: Book) {
    let before = book.done(checkpoint("r").tokens(40).naming([month(Unit::Tokens)])).await;
    let after = book.done(settle("r").tokens(40).ending(End::Expired).on(1)).await;
    assert_eq!(after, before, "the store that lost the checkpoint's rows learns them from the end");
    assert_eq!(book.entries("ws_a").await.len(), 1);
    book.balances().await;
}

pub(in crate::ledger) async fn checkpoints_are_due_from_their_expiry_on_oldest_first(book: Book) {
    for (request, expires_at) in [("late", 300), ("early", 100), ("between", 200), ("settled", 50)] {
        book.done(checkpoint(request).expiring(expires_at)).await;
    }
    book.done(settle("settled").on(1)).await;
    let due = |second, limit| {
        let ledger = book.ledger();
        async move {
            let due = ledger.checkpoints_due(at(second), limit).await.expect("the ledger answers");
            due.iter().map(|(_, standing)| standing.request_id.to_string()).collect::<Vec<_>>()
        }
    };
    for (second, limit, expected) in [
        (99, 10, vec![]),
        (100, 10, vec!["early"]),
        (200, 10, vec!["early", "between"]),
        (1_000, 10, vec!["early", "between", "late"]),
        (1_000, 2, vec!["early", "between"]),
    ] {
        assert_eq!(due(second, limit).await, expected, "at {second}, at most {limit}");
    }
    let (id, standing) = book
        .ledger()
        .checkpoints_due(at(100), 1)
        .await
        .expect("the ledger answers")
        .remove(0);
    assert_eq!(id, reservation("ws_a", "early"));
    assert_eq!(Some(standing), book.standing("early").await);
}

pub(in crate::ledger) async fn an_extended_checkpoint_is_due_later_and_never_earlier(book: Book) {
    book.done(checkpoint("r").tokens(5).counted(Amounts::ZERO).expiring(100)).await;
    let id = reservation("ws_a", "r");
    for (until, expected) in [(200, 200), (150, 200), (200, 200), (300, 300)] {
        book.ledger().extend_checkpoint(id, at(until)).await.expect("the ledger answers");
        let standing = book.standing("r").await.expect("it was posted");
        assert_eq!(standing.checkpoint.map(|open| open.expires_at), Some(at(expected)), "until {until}");
        assert_eq!(standing.revision, 1, "an extension decides nothing");
    }
    book.done(settle("r").on(1)).await;
    for without_checkpoint in [id, reservation("ws_a", "unheard_of")] {
        book.ledger()
            .extend_checkpoint(without_checkpoint, at(400))
            .await
            .expect("the ledger answers");
    }
    assert_eq!(book.standing("r").await.and_then(|standing| standing.checkpoint), None);
}

pub(in crate::ledger) async fn open_checkpoints_are_told_in_pages_with_the_sums_that_they_fell_into(book: Book) {
    let (tokens, user) = (month(Unit::Tokens), month(Unit::Tokens).of_user("usr_1"));
    for (request, recorded) in [("a", 100), ("b", 200), ("c", 200), ("ended", 200), ("d", 300)] {
        let draft = checkpoint(request).tokens(40).recorded(recorded);
        book.done(draft.naming([tokens.clone(), user.clone()])).await;
    }
    book.done(settle("ended").tokens(90).on(1)).await;
    for (from, limit, expected, pages) in [
        (0, 10, vec!["a", "b", "c", "d"], 1),
        (200, 2, vec!["b", "c", "d"], 3),
        (301, 10, vec![], 1),
    ] {
        let (mut seen, mut after, mut read) = (Vec::new(), None, 0);
        loop {
            let page = book
                .ledger()
                .checkpoints_page(at(from), after, limit)
                .await
                .expect("the ledger answers");
            read += 1;
            let sums: Vec<i64> = page.rows.iter().map(|(_, row)| row.spent).collect();
            let whole = if page.checkpoints.is_empty() {
                vec![]
            } else {
                vec![250; sums.len()]
            };
            assert_eq!(sums, whole, "each sum is as it is now");
            assert!(page.checkpoints.is_empty() || page.rows.iter().any(|(_, row)| row.counter == user));
            seen.extend(page.checkpoints.into_iter().map(|(id, entry)| (id, entry.counted.tokens)));
            match page.last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        let mut expected: Vec<_> = expected.into_iter().map(|request| (reservation("ws_a", request), 40)).collect();
        expected.sort_by_key(|(id, _)| id.to_string());
        assert_eq!((seen, read), (expected, pages), "since {from}, {limit} a page");
    }
}
