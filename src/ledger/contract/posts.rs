//! Posts: what is written, once, by whom, and what refuses.

use super::book::{Book, But, at, checkpoint, end, month, reservation, settle, spent_of, workspace, written};
use crate::decision::amount::{Amounts, Ratio, Unit};
use crate::decision::entry::{Entry, Kind, Outcome};
use crate::decision::id::{PlanId, Provider, Tier};
use crate::decision::money::Usd;
use crate::decision::price::Mode;
use crate::decision::standing::End;
use crate::decision::usage::Pools;
use crate::decision::workspace::Workspace;
use crate::ledger::{LedgerError, Posted};
use std::time::Duration;

pub(in crate::ledger) async fn a_post_is_how_the_reservation_stands(book: Book) {
    let settled = settle("r").fingerprint(u128::MAX - 7);
    let entry = settled.entry.clone();
    book.done(settled).await;
    let standing = book.standing("r").await.expect("it was posted");
    assert_eq!(standing.workspace, workspace("ws_a"));
    assert_eq!(standing.request_id.as_str(), "r");
    assert_eq!((standing.revision, standing.end), (1, Some(End::Settled)));
    assert_eq!(standing.entry, Some(entry));
    assert_eq!((standing.fingerprint, standing.checkpoint), (Some(u128::MAX - 7), None));
}

pub(in crate::ledger) async fn an_entry_comes_back_as_it_was_written(book: Book) {
    let odd = "it's \"odd\", \\ 100 % \u{1F980} \n ende";
    let full = Entry {
        tier: Some(Tier::parse("frontier").expect("a tier")),
        provider: Some(Provider::parse("anthropic").expect("a provider")),
        mode: Mode::Batch,
        requests: 7,
        pools: Pools {
            input_tokens: 1,
            cache_read_tokens: 2,
            cache_write_tokens: 3,
            cache_write_1h_tokens: 4,
            output_tokens: 5,
            reasoning_tokens: 6,
            audio_input_tokens: 7,
            audio_output_tokens: 8,
            image_input_tokens: 9,
        },
        cache_hit: true,
        latency_ms: Some(1_842),
        outcome: Outcome::Cancelled,
        priced: false,
        late: true,
        cost_usd: Some(Usd::from_nanos(6_456_001)),
        list_cost_usd: Some(Usd::from_nanos(-1)),
        counted: Amounts {
            tokens: 36,
            usd: 6_456_001,
            requests: 7,
            credits: -2,
        },
        price_version: Some("2025-10-15.9f2c01ab".into()),
        plan_id: Some(PlanId::parse("pro").expect("a plan")),
        plan_version: Some(u32::MAX),
        occurred_at: at(1_500).plus_micros(1),
        recorded_at: at(1_501).plus_micros(-1),
        tags: serde_json::from_value(serde_json::json!({"team": odd, "": ""})).expect("tags"),
        provider_request_id: Some(odd.to_owned()),
        quality_score: Ratio::from_ten_thousandths(9_301),
        other_cost_usd: Some(Usd::from_nanos(10_000_000)),
        billable_outcomes: serde_json::from_value(serde_json::json!({"contract_drafted": 2})).expect("outcomes"),
        ..settle("full").entry
    };
    let corrected = full.entry_id;
    for (request, entry) in [
        ("full", full.clone()),
        ("bare", settle("bare").entry),
        (
            "hit",
            Entry {
                kind: Kind::CacheHit,
                ..settle("hit").entry
            },
        ),
        (
            "fix",
            Entry {
                kind: Kind::Correction,
                corrects: Some(corrected),
                ..settle("fix").entry
            },
        ),
        (
            "nobody",
            Entry {
                user_id: None,
                reservation_id: None,
                ..settle("nobody").entry
            },
        ),
    ] {
        let mut post = settle(request).post();
        post.entries = vec![entry.clone()];
        book.ledger().post(post).await.expect("the ledger answers");
        let listed = book.entries("ws_a").await;
        assert_eq!(
            listed.iter().find(|listed| listed.entry_id == entry.entry_id),
            Some(&entry),
            "{request}, listed"
        );
        assert_eq!(
            book.standing(request).await.and_then(|standing| standing.entry),
            Some(entry),
            "{request}"
        );
    }
    let mut streamed = checkpoint("streamed").post();
    let so_far = streamed.checkpoint.as_mut().expect("a checkpoint");
    so_far.entry = Entry {
        request_id: so_far.entry.request_id.clone(),
        reservation_id: so_far.entry.reservation_id,
        ..full
    };
    let written = streamed.checkpoint.clone();
    book.ledger().post(streamed).await.expect("the ledger answers");
    assert_eq!(book.standing("streamed").await.and_then(|standing| standing.checkpoint), written);
}

pub(in crate::ledger) async fn nothing_is_known_of_an_id_before_its_first_post(book: Book) {
    assert_eq!(book.standing("r").await, None);
    assert_eq!(book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers"), None);
    assert_eq!(book.entries("ws_a").await, []);
}

pub(in crate::ledger) async fn the_same_post_twice_is_written_once(book: Book) {
    let settled = settle("r").naming([month(Unit::Tokens)]);
    book.done(settled.clone()).await;
    let stands = book.refused(settled.clone()).await;
    assert_eq!(stands.entry, Some(settled.entry));
    assert_eq!(Some(stands), book.standing("r").await);
    assert_eq!(book.entries("ws_a").await.len(), 1);
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 100);
}

pub(in crate::ledger) async fn a_post_decided_on_an_old_revision_writes_nothing(book: Book) {
    book.done(checkpoint("r").tokens(10)).await;
    book.done(checkpoint("r").tokens(20).on(1).naming([month(Unit::Tokens)])).await;
    for old in [0, 1] {
        assert_eq!(book.refused(settle("r").tokens(30).on(old)).await.revision, 2);
    }
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 20);
    book.done(settle("r").tokens(30).on(2)).await;
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 30);
    book.balances().await;
}

pub(in crate::ledger) async fn a_post_decided_on_a_revision_that_never_was_writes_nothing(book: Book) {
    let stands = book.refused(settle("r").on(3)).await;
    assert_eq!((stands.revision, stands.end, stands.entry), (0, None, None));
    assert_eq!(book.standing("r").await, None);
    assert_eq!(book.entries("ws_a").await, []);
}

pub(in crate::ledger) async fn fifty_racing_settles_have_one_winner(book: Book) {
    let answers = book
        .race((0..50).map(|tokens| settle("r").tokens(tokens).naming([month(Unit::Tokens)])))
        .await;
    assert_eq!(written(&answers), 1);
    let recorded = book
        .standing("r")
        .await
        .and_then(|standing| standing.entry)
        .expect("one was recorded");
    for answer in answers {
        if let Posted::Stands(stands) = answer {
            assert_eq!(stands.entry.as_ref(), Some(&recorded));
        }
    }
    assert_eq!(book.entries("ws_a").await, std::slice::from_ref(&recorded));
    assert_eq!(book.spent(&month(Unit::Tokens)).await, recorded.counted.tokens);
}

pub(in crate::ledger) async fn of_racing_settle_release_and_expiry_one_wins(book: Book) {
    for round in 0..20 {
        let request = format!("r{round}");
        let racing = [settle(&request), end(&request, End::Released), end(&request, End::Expired)];
        assert_eq!(written(&book.race(racing).await), 1, "{request}");
        let standing = book.standing(&request).await.expect("one was written");
        assert_eq!(standing.entry.is_some(), standing.end == Some(End::Settled), "{standing:?}");
    }
    book.balances().await;
}

pub(in crate::ledger) async fn an_end_is_not_taken_back_by_a_post_that_leaves_it_open(book: Book) {
    book.done(end("r", End::Released)).await;
    book.done(checkpoint("r").on(1)).await;
    assert_eq!(book.standing("r").await.and_then(|standing| standing.end), Some(End::Released));
}

pub(in crate::ledger) async fn an_expired_reservation_is_settled_late_once(book: Book) {
    let month = month(Unit::Tokens);
    let abandoned = settle("r").tokens(60).ending(End::Expired).naming([month.clone()]);
    let first = abandoned.entry.clone();
    book.done(abandoned).await;
    let correction = settle("r").tokens(40).correcting(&first).on(1).fingerprint(9);
    let difference = correction.entry.clone();
    book.done(correction.clone()).await;
    let standing = book.standing("r").await.expect("it was posted");
    assert_eq!((standing.end, standing.fingerprint), (Some(End::Settled), Some(9)));
    assert_eq!(standing.entry, Some(difference), "the last write's entry answers the same report");
    assert_eq!(book.refused(correction).await, standing);
    assert_eq!(book.spent(&month).await, 100);
    assert_eq!(book.entries("ws_a").await.len(), 2);
    book.balances().await;
}

pub(in crate::ledger) async fn a_post_without_entries_keeps_the_entry_that_is_known(book: Book) {
    let settled = settle("r").ending(End::Expired);
    let entry = settled.entry.clone();
    book.done(settled).await;
    book.done(end("r", End::Released).on(1)).await;
    assert_eq!(book.standing("r").await.and_then(|standing| standing.entry), Some(entry));
}

pub(in crate::ledger) async fn a_post_may_record_a_use_and_its_correction(book: Book) {
    let month = month(Unit::Tokens);
    let settled = settle("r").tokens(100).naming([month.clone()]);
    let first = settled.entry.clone();
    let both = settled.with_correction(settle("r").tokens(-30).correcting(&first));
    assert_eq!(spent_of(&book.done(both).await, &month), Some(70));
    assert_eq!(book.standing("r").await.and_then(|standing| standing.entry), Some(first));
    assert_eq!(book.entries("ws_a").await.len(), 2);
    book.balances().await;
}

pub(in crate::ledger) async fn a_request_id_is_of_one_workspace(book: Book) {
    book.done(settle("r")).await;
    book.done(settle("r").of("ws_b")).await;
    assert_eq!(book.refused(settle("r")).await.workspace, workspace("ws_a"));
}

pub(in crate::ledger) async fn a_refused_post_leaves_its_neighbours_alone(book: Book) {
    book.done(settle("taken").tokens(1)).await;
    let month = month(Unit::Tokens);
    let racing = (0..100).map(|n| match n % 2 {
        0 => settle("taken").tokens(1_000),
        _ => settle(&format!("r{n}")).tokens(10).naming([month.clone()]),
    });
    assert_eq!(written(&book.race(racing).await), 50);
    assert_eq!(book.spent(&month).await, 501);
    book.balances().await;
}

pub(in crate::ledger) async fn a_post_that_cannot_be_written_leaves_its_neighbours_alone(book: Book) {
    let month = month(Unit::Tokens);
    let first = settle("first").tokens(1).naming([month.clone()]);
    let doubled = first.entry.entry_id;
    book.done(first).await;
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..40 {
        let mut post = settle(&format!("r{n}")).tokens(10).post();
        if n % 4 == 0 {
            post.entries[0].entry_id = doubled;
        }
        let ledger = book.ledger();
        racing.spawn(async move { (n % 4 == 0, ledger.post(post).await) });
    }
    for (is_doubled, answer) in racing.join_all().await {
        match answer {
            Ok(Posted::Done { .. }) => assert!(!is_doubled, "an entry id is given once"),
            Err(LedgerError::Unavailable { .. }) => assert!(is_doubled, "a neighbour's fault is not this post's"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(book.standing("r0").await, None, "nothing is left of what could not be written");
    assert_eq!(book.spent(&month).await, 301);
    book.balances().await;
}

pub(in crate::ledger) async fn a_sum_that_would_leave_64_bits_is_refused_alone(book: Book) {
    let month = month(Unit::Tokens);
    book.done(settle("large").tokens(i64::MAX - 5).naming([month.clone()])).await;
    let answer = book.ledger().post(settle("too_much").tokens(6).post()).await;
    assert!(matches!(answer, Err(LedgerError::Unavailable { .. })), "{answer:?}");
    assert_eq!(book.standing("too_much").await, None);
    book.done(settle("fits").tokens(5)).await;
    assert_eq!(book.spent(&month).await, i64::MAX);
    book.balances().await;
}

pub(in crate::ledger) async fn the_post_of_a_caller_who_went_away_is_written(book: Book) {
    let ledger = book.ledger();
    let post = ledger.post(settle("r").naming([month(Unit::Tokens)]).post());
    // Long enough to hand the post over, too short for any commit.
    let gave_up = tokio::time::timeout(Duration::ZERO, post).await.is_err();
    for _ in 0..1_000 {
        if book.standing("r").await.is_some() {
            break;
        }
        book.ledger().ping().await.expect("the ledger answers");
    }
    assert!(gave_up, "the caller was to go away before the answer");
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 100);
    book.balances().await;
}

pub(in crate::ledger) async fn the_first_post_creates_the_workspace(book: Book) {
    book.done(settle("r")).await;
    let created = book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers");
    assert_eq!(created, Some(Workspace::unknown(workspace("ws_a"), at(super::book::NOON))));
}

pub(in crate::ledger) async fn a_refused_post_creates_nothing(book: Book) {
    book.refused(settle("r").on(1).naming([month(Unit::Tokens).of_user("usr_1")])).await;
    assert_eq!(book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers"), None);
    assert_eq!(
        book.ledger().standing(reservation("ws_a", "r")).await.expect("the ledger answers"),
        None
    );
}

pub(in crate::ledger) async fn everything_is_there_after_a_restart(mut book: Book) {
    let month = month(Unit::Tokens);
    book.done(settle("settled").naming([month.clone()])).await;
    book.done(checkpoint("open").tokens(7)).await;
    book.done(end("released", End::Released)).await;
    let requests = ["settled", "open", "released"];
    let mut before = Vec::new();
    for request in requests {
        before.push(book.standing(request).await);
    }
    let row = book.row(&month).await;
    let entries = book.entries("ws_a").await;

    book.reopen().await;
    for (request, before) in requests.into_iter().zip(before) {
        assert_eq!(book.standing(request).await, before, "{request}");
    }
    assert_eq!(book.row(&month).await, row);
    assert_eq!(book.entries("ws_a").await, entries);
    let moved = book.done(settle("later")).await;
    assert_eq!(spent_of(&moved, &month), Some(207));
    assert!(moved[0].version > row.expect("a row").version, "versions go on rising");
    book.balances().await;
}
