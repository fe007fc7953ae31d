//! Sums: which rows a post moves, which are born, and what their versions say.

use super::book::{Book, But, at, month, period, settle, spent_of, workspace};
use crate::counters::SumRow;
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::UserId;
use crate::decision::period::{Period, PeriodKind};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use std::collections::BTreeMap;
use tokio::task::JoinSet;

pub(in crate::ledger) async fn a_named_row_is_born_with_all_that_was_there_and_its_own_part(book: Book) {
    for (request, tokens) in [("a", 1), ("b", 20), ("c", 300)] {
        assert_eq!(book.done(settle(request).tokens(tokens)).await, [], "nobody has named a row yet");
    }
    let rows = book.done(settle("d").tokens(4_000).naming([month(Unit::Tokens)])).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(spent_of(&rows, &month(Unit::Tokens)), Some(4_321));
    book.balances().await;
}

pub(in crate::ledger) async fn a_row_is_born_once_among_racing_posts(book: Book) {
    for n in 0..10 {
        book.done(settle(&format!("before{n}")).tokens(1)).await;
    }
    let named = [month(Unit::Tokens), month(Unit::Tokens).of_user("usr_1"), month(Unit::Requests)];
    let racing = (0..60).map(|n| settle(&format!("r{n}")).tokens(100).naming(named.clone()));
    book.race(racing).await;
    for (counter, expected) in named.iter().zip([6_010, 6_010, 70]) {
        assert_eq!(book.spent(counter).await, expected, "{counter:?}");
    }
    book.balances().await;
}

pub(in crate::ledger) async fn a_row_is_born_once_among_racing_readers_and_posts(book: Book) {
    let mut racing = JoinSet::new();
    for n in 0..40 {
        let ledger = book.ledger();
        racing.spawn(async move {
            if n % 2 == 0 {
                ledger
                    .post(settle(&format!("r{n}")).tokens(100).post())
                    .await
                    .expect("the ledger answers");
            } else {
                let named = [month(Unit::Tokens)];
                ledger
                    .rows(&workspace("ws_a"), &Whose::Workspace, &named, at(0))
                    .await
                    .expect("the ledger answers");
            }
        });
    }
    racing.join_all().await;
    assert_eq!(book.rows("ws_a", &Whose::Workspace).await.len(), 1);
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 2_000);
    book.balances().await;
}

pub(in crate::ledger) async fn a_row_that_no_post_names_moves_all_the_same(book: Book) {
    book.done(settle("a").naming([month(Unit::Tokens)])).await;
    let rows = book.done(settle("b")).await;
    assert_eq!(
        spent_of(&rows, &month(Unit::Tokens)),
        Some(200),
        "the rows decide, not what the caller knows of"
    );
}

pub(in crate::ledger) async fn a_row_that_is_named_without_use_is_born_empty(book: Book) {
    let named = [
        month(Unit::Credits),
        month(Unit::Tokens).of_feature("search"),
        month(Unit::Tokens).within(period(3_000, 4_000)),
    ];
    let rows = book.done(settle("a").naming(named.clone())).await;
    for counter in &named {
        assert_eq!(spent_of(&rows, counter), Some(0), "{counter:?}");
        assert_eq!(book.spent(counter).await, 0, "{counter:?}");
    }
}

pub(in crate::ledger) async fn a_refused_post_gives_birth_to_no_row(book: Book) {
    book.done(settle("a")).await;
    book.refused(settle("a").naming([month(Unit::Tokens)])).await;
    assert_eq!(book.rows("ws_a", &Whose::Workspace).await, []);
    let racing = (0..10).map(|n| {
        if n == 5 {
            settle("b")
        } else {
            settle("a").naming([month(Unit::Tokens)])
        }
    });
    book.race(racing).await;
    assert_eq!(book.rows("ws_a", &Whose::Workspace).await, []);
}

pub(in crate::ledger) async fn a_users_row_counts_that_user_alone(book: Book) {
    let (one, two) = (month(Unit::Tokens).of_user("usr_1"), month(Unit::Tokens).of_user("usr_2"));
    book.done(settle("a").tokens(1).user("usr_1").naming([one.clone(), month(Unit::Tokens)]))
        .await;
    book.done(settle("b").tokens(20).user("usr_2").naming([two.clone()])).await;
    book.done(settle("c").tokens(300).user("usr_1")).await;
    assert_eq!((book.spent(&one).await, book.spent(&two).await), (301, 20));
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 321);
    book.balances().await;
}

pub(in crate::ledger) async fn requests_without_a_user_count_as_one_shared_user(book: Book) {
    let shared = month(Unit::Tokens).of_user("");
    book.done(settle("a").tokens(1).user("")).await;
    book.done(settle("b").tokens(20).user("usr_1")).await;
    let rows = book.done(settle("c").tokens(300).user("").naming([shared.clone()])).await;
    assert_eq!(spent_of(&rows, &shared), Some(301));
    assert_eq!(shared.whose, Whose::User(None));
    book.balances().await;
}

pub(in crate::ledger) async fn a_features_row_counts_that_feature_alone(book: Book) {
    let chat = month(Unit::Tokens).of_feature("chat");
    let both = month(Unit::Tokens).of_feature("chat").of_user("usr_1");
    book.done(settle("a").tokens(1).naming([chat.clone(), both.clone()])).await;
    book.done(settle("b").tokens(20).feature("search")).await;
    book.done(settle("c").tokens(300).user("usr_2")).await;
    book.done(settle("d").tokens(4_000)).await;
    assert_eq!((book.spent(&chat).await, book.spent(&both).await), (4_301, 4_001));
    book.balances().await;
}

pub(in crate::ledger) async fn units_are_counted_apart(book: Book) {
    let counted = |tokens, usd, requests, credits| Amounts {
        tokens,
        usd,
        requests,
        credits,
    };
    book.done(settle("a").counted(counted(1, 2, 3, 4)).naming(Unit::ALL.map(month)))
        .await;
    book.done(settle("b").counted(counted(10, 20, 30, 40))).await;
    for (unit, expected) in Unit::ALL.into_iter().zip([11, 22, 33, 44]) {
        assert_eq!(book.spent(&month(unit)).await, expected, "{unit:?}");
    }
    book.balances().await;
}

pub(in crate::ledger) async fn a_period_has_its_start_and_not_its_end(book: Book) {
    let second = |n: i64| month(Unit::Tokens).within(period(1_000 + n, 1_001 + n));
    let neighbours = [second(0), second(1), second(2)];
    book.done(settle("a").at(1_001).naming(neighbours.clone())).await;
    let mut last = settle("b").tokens(7);
    last.entry.occurred_at = at(1_002).plus_micros(-1);
    book.done(last).await;
    for (counter, expected) in neighbours.iter().zip([0, 107, 0]) {
        assert_eq!(book.spent(counter).await, expected, "{counter:?}");
    }
    book.balances().await;
}

pub(in crate::ledger) async fn a_lifetime_counts_everything(book: Book) {
    let ever = Counter {
        kind: PeriodKind::Lifetime,
        period: Period {
            start: Timestamp::MIN,
            end: Timestamp::MAX,
        },
        ..month(Unit::Tokens)
    };
    book.done(settle("a").at(-1_000_000_000)).await;
    book.done(settle("b").at(0).naming([ever.clone()])).await;
    book.done(settle("c").at(4_000_000_000)).await;
    assert_eq!(book.spent(&ever).await, 300);
    book.balances().await;
}

pub(in crate::ledger) async fn periods_of_equal_bounds_and_other_kinds_are_other_rows(book: Book) {
    let billing = Counter {
        kind: PeriodKind::Billing,
        ..month(Unit::Tokens)
    };
    book.done(settle("a").naming([month(Unit::Tokens)])).await;
    book.done(settle("b").naming([billing.clone()])).await;
    assert_eq!((book.spent(&month(Unit::Tokens)).await, book.spent(&billing).await), (200, 200));
    assert_eq!(book.rows("ws_a", &Whose::Workspace).await.len(), 2);
}

pub(in crate::ledger) async fn a_use_of_long_ago_moves_the_rows_of_its_own_time(book: Book) {
    let before = month(Unit::Tokens).within(period(0, 1_000));
    book.done(settle("a").tokens(1).naming([month(Unit::Tokens), before.clone()])).await;
    let rows = book.done(settle("b").tokens(20).at(500)).await;
    assert_eq!(rows.iter().map(|row| &row.counter).collect::<Vec<_>>(), [&before]);
    assert_eq!((book.spent(&before).await, book.spent(&month(Unit::Tokens)).await), (20, 1));
}

pub(in crate::ledger) async fn a_correction_lowers_a_sum(book: Book) {
    let named = [month(Unit::Tokens), month(Unit::Tokens).of_user("usr_1").of_feature("chat")];
    let settled = settle("a").naming(named.clone());
    let entry = settled.entry.clone();
    book.done(settled).await;
    book.done(settle("a").tokens(-150).correcting(&entry).on(1)).await;
    for counter in &named {
        assert_eq!(book.spent(counter).await, -50, "{counter:?}");
    }
    book.balances().await;
}

pub(in crate::ledger) async fn a_post_moves_no_row_of_another_workspace(book: Book) {
    book.done(settle("a").naming([month(Unit::Tokens)])).await;
    let before = book.rows("ws_a", &Whose::Workspace).await;
    book.done(settle("a").of("ws_b").naming([month(Unit::Tokens)])).await;
    assert_eq!(book.rows("ws_a", &Whose::Workspace).await, before);
    assert_eq!(book.rows("ws_b", &Whose::Workspace).await.len(), 1);
}

pub(in crate::ledger) async fn versions_rise_with_each_post_that_moves_a_row(book: Book) {
    let (chat, search) = (month(Unit::Tokens).of_feature("chat"), month(Unit::Tokens).of_feature("search"));
    let version = |rows: &[SumRow]| {
        let first = rows.first().expect("a row").version;
        assert!(
            rows.iter().all(|row| row.version == first),
            "rows of one post bear one version: {rows:?}"
        );
        first
    };
    let born = version(&book.done(settle("a").naming([month(Unit::Tokens), chat.clone()])).await);
    let of_search = book.done(settle("b").feature("search").naming([search.clone()])).await;
    let moved = version(&of_search);
    assert!(moved > born);
    assert_eq!(
        book.row(&chat).await.map(|row| row.version),
        Some(born),
        "what did not move keeps its version"
    );
    assert_eq!(book.row(&search).await.map(|row| row.version), Some(moved));

    let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
    for answer in book.race((0..30).map(|n| settle(&format!("r{n}")))).await {
        let crate::ledger::Posted::Done { rows, .. } = answer else {
            panic!("{answer:?}")
        };
        let spent = spent_of(&rows, &month(Unit::Tokens)).expect("it fell into this row");
        let other = *sums.entry(version(&rows)).or_insert(spent);
        assert_eq!(other, spent, "one version is one sum, whoever learns of it");
    }
    assert!(sums.keys().all(|version| *version > moved));
    let rising: Vec<i64> = sums.values().copied().collect();
    assert!(rising.is_sorted(), "later versions hold what earlier ones did: {sums:?}");
    let row = book.row(&month(Unit::Tokens)).await.expect("a row");
    assert_eq!(Some((&row.version, &row.spent)), sums.last_key_value());
}

pub(in crate::ledger) async fn the_answer_has_every_row_that_the_post_fell_into_or_named(book: Book) {
    let known = [
        month(Unit::Tokens),
        month(Unit::Usd),
        month(Unit::Tokens).of_user("usr_1"),
        month(Unit::Tokens).of_feature("chat"),
    ];
    let elsewhere = month(Unit::Tokens).of_feature("search");
    book.done(settle("a").naming(known.clone()).naming([elsewhere.clone()])).await;
    let rows = book.done(settle("b")).await;
    for counter in &known {
        assert_eq!(spent_of(&rows, counter), Some(book.spent(counter).await), "{counter:?}");
    }
    assert_eq!(spent_of(&rows, &elsewhere), None, "it did not fall into this one");
    let rows = book.done(settle("c").naming([elsewhere.clone()])).await;
    assert_eq!(spent_of(&rows, &elsewhere), Some(0), "but it named it");
}

pub(in crate::ledger) async fn a_reader_gives_birth_to_what_it_names_and_sees_the_rest_of_the_group(book: Book) {
    let user = UserId::parse("usr_1").expect("a user");
    let group = Whose::User(Some(user));
    let (tokens, requests) = (month(Unit::Tokens).of_user("usr_1"), month(Unit::Requests).of_user("usr_1"));
    book.done(settle("a").naming([tokens.clone(), month(Unit::Tokens)])).await;
    let named = [requests.clone(), month(Unit::Usd)];
    let read = || async {
        book.ledger()
            .rows(&workspace("ws_a"), &group, &named, at(0))
            .await
            .expect("the ledger answers")
    };
    let rows = read().await;
    let mut seen: Vec<(&Counter, i64)> = rows.iter().map(|row| (&row.counter, row.spent)).collect();
    seen.sort();
    assert_eq!(seen, [(&tokens, 100), (&requests, 1)], "its own group, and nothing of others");
    assert_eq!(read().await, rows, "read again, nothing changes");
    assert_eq!(
        book.row(&month(Unit::Usd)).await,
        None,
        "a counter of another group is not this reader's to begin"
    );
    book.balances().await;
}

pub(in crate::ledger) async fn a_reader_creates_the_workspace(book: Book) {
    let read = || async {
        let rows = book.ledger().rows(&workspace("ws_a"), &Whose::User(None), &[], at(7)).await;
        assert_eq!(rows.expect("the ledger answers"), []);
        book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers")
    };
    let created = read().await;
    assert_eq!(created, Some(Workspace::unknown(workspace("ws_a"), at(7))));
    assert_eq!(read().await, created);
}

pub(in crate::ledger) async fn rows_of_ended_periods_are_not_read(book: Book) {
    let (now, next) = (month(Unit::Tokens), month(Unit::Tokens).within(period(2_000, 3_000)));
    book.done(settle("a").naming([now.clone(), next.clone()])).await;
    for (second, expected) in [(1_999, vec![&now, &next]), (2_000, vec![&next]), (3_000, vec![])] {
        let named = [now.clone(), next.clone()];
        let rows = book.ledger().rows(&workspace("ws_a"), &Whose::Workspace, &named, at(second)).await;
        let mut rows = rows.expect("the ledger answers");
        rows.sort_by(|a, b| a.counter.cmp(&b.counter));
        assert_eq!(rows.iter().map(|row| &row.counter).collect::<Vec<_>>(), expected, "second {second}");
    }
}
