//! Levels of budgets: told in the transaction that reaches them, by the sums that it leaves, once each whoever races.

use super::book::{Book, NOON, audited, checkpoint, month, settle, workspace};
use crate::decision::amount::Unit;
use crate::decision::event::{Event, EventType};
use crate::decision::grant::{Grant, PRIORITY_DEFAULT, Source};
use crate::decision::id::{BudgetId, EventId, GrantId};
use crate::decision::level::{self, Watch};
use crate::ledger::events::EventQuery;
use crate::ledger::{Given, Tells};
use serde_json::json;
use tokio::task::JoinSet;

/// A watch over this month's tokens: half, 80 %, and all of 1,000, and a soft limit of 600. `known` is what its writer believes to be spent.
fn watch(seed: u128, known: Option<i64>) -> Watch {
    let watch = level::tests::watch(Some(600), Some(1_000), &[50, 80]);
    Watch {
        counter: month(Unit::Tokens),
        floor: 500,
        known,
        seed: uuid::Uuid::from_u128(seed << 32),
        ..watch
    }
}

fn telling(watch: Watch) -> Tells {
    Tells {
        events: Vec::new(),
        watches: vec![watch],
    }
}

/// What was told of the levels, oldest first: type, level, spent.
async fn told(book: &Book) -> Vec<(EventType, i64, i64)> {
    let query = EventQuery {
        is_oldest_first: true,
        limit: 100,
        ..EventQuery::default()
    };
    let events = book.ledger().events(&query).await.expect("the ledger answers");
    let number = |event: &Event, name: &str| event.data[name].as_i64().expect("a number");
    let mut told: Vec<_> = events
        .iter()
        .map(|event| (event.kind, number(event, "level"), number(event, "spent")))
        .collect();
    told.sort_by_key(|(_, level, _)| *level);
    told
}

use EventType::{BudgetExhausted, BudgetSoftLimitReached, BudgetThresholdReached};

pub(in crate::ledger) async fn a_level_is_told_by_the_post_that_reaches_it(mut book: Book) {
    let draft = |request: &str, tokens, seed| {
        let draft = settle(request).tokens(tokens).naming([month(Unit::Tokens)]);
        draft.telling(telling(watch(seed, None)))
    };
    book.done(draft("r1", 499, 1)).await;
    assert_eq!(told(&book).await, []);
    book.done(draft("r2", 1, 2)).await;
    assert_eq!(told(&book).await, [(BudgetThresholdReached, 500, 500)]);
    book.done(draft("r3", 450, 3)).await;
    let until_there = [
        (BudgetThresholdReached, 500, 500),
        (BudgetSoftLimitReached, 600, 950),
        (BudgetThresholdReached, 800, 950),
    ];
    assert_eq!(told(&book).await, until_there);
    book.reopen().await;
    book.done(draft("r4", 100, 4)).await;
    book.done(draft("r5", 100, 5)).await;
    assert_eq!(
        told(&book).await.split_last(),
        Some((&(BudgetExhausted, 1_000, 1_050), &until_there[..]))
    );
}

pub(in crate::ledger) async fn a_level_that_nobody_foresaw_is_told_all_the_same(book: Book) {
    // Another node, which watches nothing, has used what this one believes to be free.
    book.done(settle("r1").tokens(490).naming([month(Unit::Tokens)])).await;
    let draft = settle("r2").tokens(10).naming([month(Unit::Tokens)]);
    let rows = book.done(draft.telling(telling(watch(1, Some(0))))).await;
    assert_eq!(rows[0].spent, 500);
    assert_eq!(told(&book).await, [(BudgetThresholdReached, 500, 500)]);
    assert_eq!(book.entries("ws_a").await.len(), 2, "and the use is recorded once");
    book.balances().await;
}

pub(in crate::ledger) async fn a_row_that_is_born_past_a_level_has_reached_it(book: Book) {
    book.done(settle("r1").tokens(700)).await;
    let draft = settle("r2").tokens(1).naming([month(Unit::Tokens)]);
    book.done(draft.telling(telling(watch(1, Some(0))))).await;
    assert_eq!(
        told(&book).await,
        [(BudgetThresholdReached, 500, 701), (BudgetSoftLimitReached, 600, 701)]
    );
}

pub(in crate::ledger) async fn racing_posts_reach_each_level_once(book: Book) {
    // Some know what is spent, some know nothing, and some are wrong.
    let drafts = (0..60_u128).map(|n| {
        let known = [None, Some(0), Some(990)][(n % 3) as usize];
        let draft = settle(&format!("r{n}")).tokens(20).naming([month(Unit::Tokens)]);
        draft.telling(telling(watch(n + 1, known)))
    });
    assert_eq!(super::book::written(&book.race(drafts).await), 60);
    let told = told(&book).await;
    let levels: Vec<_> = told.iter().map(|(kind, level, _)| (*kind, *level)).collect();
    let expected = [
        (BudgetThresholdReached, 500),
        (BudgetSoftLimitReached, 600),
        (BudgetThresholdReached, 800),
        (BudgetExhausted, 1_000),
    ];
    assert_eq!(levels, expected);
    assert!(told.iter().all(|(_, level, spent)| spent >= level), "{told:?}");
    book.balances().await;
}

pub(in crate::ledger) async fn a_refused_post_tells_nothing(book: Book) {
    book.done(settle("r1").tokens(100).naming([month(Unit::Tokens)])).await;
    let draft = settle("r1").tokens(900).naming([month(Unit::Tokens)]);
    let event = Event::new(
        EventId::from_uuid(uuid::Uuid::from_u128(1)),
        Some(workspace("ws_a")),
        EventType::UsageRecorded,
        "recorded".to_owned(),
        super::book::at(NOON),
        json!({"level": 0, "spent": 0}),
    );
    let tells = |known| Tells {
        events: vec![event.clone()],
        ..telling(watch(1, known))
    };
    book.refused(draft.clone().telling(tells(None))).await;
    assert_eq!(told(&book).await, []);
    book.done(settle("r2").tokens(900).naming([month(Unit::Tokens)]).telling(tells(Some(0))))
        .await;
    assert_eq!(
        told(&book).await.len(),
        5,
        "a post that is written tells what happens with it, and its levels"
    );
}

pub(in crate::ledger) async fn a_checkpoint_and_a_correction_reach_levels(book: Book) {
    let naming = |draft: super::book::Draft, seed, known| draft.naming([month(Unit::Tokens)]).telling(telling(watch(seed, known)));
    book.done(naming(checkpoint("r1").tokens(550), 1, Some(0))).await;
    assert_eq!(told(&book).await, [(BudgetThresholdReached, 500, 550)]);
    book.done(naming(settle("r1").tokens(650).on(1), 2, Some(550))).await;
    assert_eq!(told(&book).await.len(), 2, "the final report takes the place of the checkpoint");
    let entry = book.entries("ws_a").await.remove(0);
    let post = naming(settle("r1-correction").correcting(&entry).tokens(200), 3, Some(0)).post();
    let correction = crate::ledger::correction::Correction {
        post,
        audited: audited("entry.correct", "ent"),
    };
    book.ledger().correct(vec![correction]).await.expect("the ledger answers");
    assert_eq!(told(&book).await.last(), Some(&(BudgetThresholdReached, 800, 850)));
}

pub(in crate::ledger) async fn a_raised_level_is_told_when_it_is_passed_from_below(book: Book) {
    let draft = |request: &str, tokens, seed| {
        let draft = settle(request).tokens(tokens).naming([month(Unit::Tokens)]);
        let mut watch = watch(seed, None);
        watch.limited.has_grants = true;
        draft.telling(telling(watch))
    };
    book.done(draft("r1", 850, 1)).await;
    assert_eq!(told(&book).await.len(), 3);
    let grant = Grant {
        id: GrantId::from_uuid(uuid::Uuid::from_u128(1)),
        key: None,
        budget: BudgetId::parse("monthly").expect("a name"),
        unit: Unit::Tokens,
        amount: 1_000,
        priority: PRIORITY_DEFAULT,
        effective_at: super::book::at(NOON),
        expires_at: None,
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::Manual,
        paid: None,
        created_at: super::book::at(NOON),
        voided_at: None,
    };
    let given = book
        .ledger()
        .give(&workspace("ws_a"), grant, None, audited("grant.give", "grt"))
        .await;
    assert!(matches!(given, Ok(Given::New(_))));
    // Of 2,000 now: the half is passed from below, the soft limit of 1,600 not yet.
    book.done(draft("r2", 50, 2)).await;
    assert_eq!(told(&book).await.len(), 3, "the half of 2,000 is not reached");
    book.done(draft("r3", 200, 3)).await;
    assert_eq!(told(&book).await.last(), Some(&(BudgetThresholdReached, 1_000, 1_100)));
    book.done(draft("r4", 400, 4)).await;
    assert_eq!(told(&book).await.len(), 4, "once");
}

pub(in crate::ledger) async fn what_happens_with_a_workspace_is_told_with_it(book: Book) {
    let put = |version: u32, expected: u32, number: u128| {
        let ledger = book.ledger();
        let event = Event::new(
            EventId::from_uuid(uuid::Uuid::from_u128(number)),
            Some(workspace("ws_a")),
            EventType::PlanChanged,
            format!("plan {version}"),
            super::book::at(NOON),
            json!({"level": 0, "spent": 0}),
        );
        let mut next = crate::decision::workspace::Workspace::unknown(workspace("ws_a"), super::book::at(NOON));
        next.version = version;
        async move {
            let put = ledger.put_workspace_and_tell(&next, expected, audited("workspace.put", "ws_a"), vec![event]);
            put.await.expect("the ledger answers")
        }
    };
    assert!(put(1, 0, 1).await);
    assert!(!put(7, 5, 2).await, "decided on another version");
    assert_eq!(told(&book).await.len(), 1);
    let mut racing = JoinSet::new();
    for number in 0..8 {
        racing.spawn(put(2, 1, 10 + number));
    }
    let won = racing.join_all().await.into_iter().filter(|is_put| *is_put).count();
    assert_eq!((won, told(&book).await.len()), (1, 2));
}
