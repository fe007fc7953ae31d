//! Kept answers: put once, followed as they come and go, purged by name, pruned.

use super::book::{Book, at, settle, workspace};
use crate::decision::cache::key::Partition;
use crate::decision::entry::Kind;
use crate::decision::id::{AuditId, CacheEntryId, Feature};
use crate::decision::money::Usd;
use crate::ledger::audit::{AuditQuery, Audited, By, Subject};
use crate::ledger::cached::{CacheChange, CachePruning, CachedAnswer, ChangePlace, Going};
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use uuid::Uuid;

fn feature(name: &str) -> Feature {
    Feature::parse(name).expect("a name")
}

/// An answer of this number, stored at that second, in a workspace and feature.
fn answer(number: u128, of: &str, named: &str) -> CachedAnswer {
    let workspace = workspace(of);
    CachedAnswer {
        // Later ones have higher ids, as ids that are made have.
        id: CacheEntryId::of(&workspace, Uuid::from_u128(number << 80)),
        workspace,
        feature: feature(named),
        partition: Partition::from_bytes([number as u8; 32]),
        vector: vec![0, 255, number as u8],
        signature: vec![1, 2],
        answer: vec![0, 255, 3],
        stored_at: at(number as i64),
        expires_at: at(1_000),
    }
}

async fn put(book: &Book, answers: &[CachedAnswer]) {
    for answer in answers {
        book.ledger().put_cached(answer).await.expect("the ledger answers");
    }
}

async fn find(book: &Book, answer: &CachedAnswer) -> Option<CachedAnswer> {
    book.ledger().cached(answer.id).await.expect("the ledger answers")
}

async fn drop_all(book: &Book, going: Going) -> u64 {
    book.ledger().drop_cached(&going, at(50)).await.expect("the ledger answers")
}

async fn purge(book: &Book, of: &str, named: Option<&str>) -> u64 {
    let workspace = workspace(of);
    let audited = Audited {
        id: AuditId::from_uuid(Uuid::now_v7()),
        changed_at: at(50),
        by: By {
            actor: "operator".to_owned(),
            reason: String::new(),
            request_id: None,
        },
        action: "cache.purge".to_owned(),
        subject: Subject::of(&workspace, "cache", of),
        before: None,
        after: None,
    };
    let named = named.map(feature);
    let purged = book.ledger().purge_cached(&workspace, named.as_ref(), audited).await;
    purged.expect("the ledger answers")
}

async fn changed(book: &Book, after: ChangePlace, limit: usize) -> Vec<(ChangePlace, CacheChange)> {
    book.ledger().cached_changed(after, limit).await.expect("the ledger answers")
}

fn without_answer(answer: &CachedAnswer) -> CacheChange {
    CacheChange::Kept(Box::new(CachedAnswer {
        answer: Vec::new(),
        ..answer.clone()
    }))
}

pub(in crate::ledger) async fn a_kept_answer_comes_back_as_it_was_put(mut book: Book) {
    let first = answer(1, "ws_a", "faq");
    assert_eq!(find(&book, &first).await, None);
    put(&book, std::slice::from_ref(&first)).await;
    let again = CachedAnswer {
        answer: vec![9],
        ..first.clone()
    };
    put(&book, &[again]).await;
    book.reopen().await;
    assert_eq!(find(&book, &first).await.as_ref(), Some(&first));
    let whose = |answer: &CachedAnswer| answer.id;
    assert_eq!(drop_all(&book, Going::These(vec![first.id])).await, 1);
    assert_eq!(drop_all(&book, Going::These(vec![first.id])).await, 0);
    assert_eq!(find(&book, &first).await, None);
    let owner = book.ledger().cached_of(whose(&first)).await.expect("the ledger answers");
    assert_eq!(owner, Some(workspace("ws_a")), "it is still known whose it was");
    let owner = book
        .ledger()
        .cached_of(whose(&answer(2, "ws_a", "faq")))
        .await
        .expect("the ledger answers");
    assert_eq!(owner, None);
}

pub(in crate::ledger) async fn what_came_and_went_is_told_in_its_order(book: Book) {
    let answers = [answer(2, "ws_a", "faq"), answer(1, "ws_a", "faq"), answer(3, "ws_b", "faq")];
    put(&book, &answers).await;
    let all = changed(&book, (0, None), 10).await;
    let told: Vec<CacheChange> = all.iter().map(|(_, change)| change.clone()).collect();
    assert_eq!(told, answers.iter().map(without_answer).collect::<Vec<_>>());
    assert_eq!(changed(&book, (0, None), 2).await, all[..2]);
    assert_eq!(changed(&book, all[1].0, 10).await, all[2..]);
    assert_eq!(changed(&book, all[2].0, 10).await, []);
    // Several go with one number, and a page may end among them.
    drop_all(&book, Going::Of(workspace("ws_a"), None)).await;
    let first = changed(&book, all[2].0, 1).await;
    let second = changed(&book, first[0].0, 1).await;
    let gone: BTreeSet<CacheEntryId> = first
        .iter()
        .chain(&second)
        .map(|(_, change)| match change {
            CacheChange::Gone(id) => *id,
            CacheChange::Kept(kept) => panic!("{kept:?} is gone"),
        })
        .collect();
    assert_eq!(gone, BTreeSet::from([answers[0].id, answers[1].id]));
    assert_eq!(changed(&book, second[0].0, 10).await, []);
}

pub(in crate::ledger) async fn who_follows_racing_changes_of_answers_misses_none(book: Book) {
    let mut writers = JoinSet::new();
    for writer in 0..4u128 {
        let ledger = book.ledger();
        writers.spawn(async move {
            for n in 0..10 {
                let answer = answer(writer * 10 + n + 1, "ws_a", "faq");
                ledger.put_cached(&answer).await.expect("the ledger answers");
            }
        });
    }
    let (mut seen, mut after) = (BTreeSet::new(), (0, None));
    let mut done = false;
    while !done || seen.len() < 40 {
        let page = changed(&book, after, 7).await;
        if done && page.is_empty() {
            break;
        }
        for (place, change) in page {
            after = place;
            if let CacheChange::Kept(kept) = change {
                seen.insert(kept.id);
            }
        }
        while writers.try_join_next().is_some() {}
        done = writers.is_empty();
    }
    assert_eq!(seen.len(), 40);
}

pub(in crate::ledger) async fn a_purge_takes_what_it_names_and_nothing_else(book: Book) {
    let answers = [
        answer(1, "ws_a", "faq"),
        answer(2, "ws_a", "other"),
        answer(3, "ws_b", "faq"),
        answer(4, "ws_a", "faq"),
    ];
    put(&book, &answers).await;
    assert_eq!(purge(&book, "ws_a", Some("faq")).await, 2);
    let mut left = Vec::new();
    for answer in &answers {
        left.push(find(&book, answer).await.is_some());
    }
    assert_eq!(left, [false, true, true, false]);
    assert_eq!(purge(&book, "ws_a", None).await, 1);
    assert!(find(&book, &answers[2]).await.is_some());
    assert_eq!(purge(&book, "ws_a", None).await, 0, "and is on record, whatever it finds");
    let query = AuditQuery {
        subject_kind: Some("cache".to_owned()),
        limit: 10,
        ..AuditQuery::default()
    };
    let told = book.ledger().audit_log(&query).await.expect("the ledger answers");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told.iter().all(|record| record.subject.workspace == Some(workspace("ws_a"))),
        "{told:?}"
    );
}

pub(in crate::ledger) async fn answers_are_pruned_by_expiry_age_and_number(book: Book) {
    let mut answers: Vec<CachedAnswer> = (1..=6).map(|number| answer(number, "ws_a", "faq")).collect();
    answers[0].expires_at = at(10);
    put(&book, &answers).await;
    drop_all(&book, Going::These(vec![answers[1].id])).await;
    let prune = async |now: i64, gone_before: i64, rows_max: usize, limit: usize| {
        let pruning = CachePruning {
            now: at(now),
            gone_before: at(gone_before),
            rows_max,
            limit,
        };
        book.ledger().prune_cached(pruning).await.expect("the ledger answers")
    };
    assert_eq!(prune(9, 50, 10, 10).await, 0);
    assert_eq!(prune(10, 50, 10, 10).await, 1, "it has expired");
    assert_eq!(prune(10, 51, 10, 10).await, 1, "everybody knows that it is gone");
    assert_eq!(prune(10, 51, 3, 10).await, 1, "four are left of six");
    assert!(find(&book, &answers[2]).await.is_none(), "the oldest went");
    assert_eq!(prune(10, 51, 1, 1).await, 1, "a slice");
    assert_eq!(prune(10, 51, 1, 10).await, 1);
    assert!(find(&book, &answers[5]).await.is_some(), "the newest stays");
}

pub(in crate::ledger) async fn hits_are_counted_beside_the_requests_of_their_feature(book: Book) {
    for (request, of, named, second, kind) in [
        ("a", "ws_a", "faq", 10, Kind::Usage),
        ("b", "ws_a", "faq", 11, Kind::CacheHit),
        ("c", "ws_b", "faq", 12, Kind::CacheHit),
        ("d", "ws_a", "chat", 13, Kind::Usage),
        ("e", "ws_a", "faq", 20, Kind::CacheHit),
    ] {
        let mut draft = settle(request).of(of).feature(named).at(second);
        draft.entry.kind = kind;
        draft.entry.requests = if kind == Kind::Usage { 3 } else { 1 };
        let cost = if kind == Kind::Usage { 100 } else { 0 };
        (draft.entry.cost_usd, draft.entry.list_cost_usd) = (Some(Usd::from_nanos(cost)), Some(Usd::from_nanos(70)));
        book.done(draft).await;
    }
    let told = async |of: Option<&str>| {
        let workspace = of.map(workspace);
        let found = book
            .ledger()
            .cache_use(workspace.as_ref(), at(10), at(20))
            .await
            .expect("the ledger answers");
        found
            .iter()
            .map(|one| {
                (
                    one.feature.to_string(),
                    one.requests,
                    one.hits,
                    one.cost.nanos(),
                    one.avoided.nanos(),
                )
            })
            .collect::<Vec<_>>()
    };
    let chat = ("chat".to_owned(), 3, 0, 100, 0);
    assert_eq!(
        told(None).await,
        [("faq".to_owned(), 3, 2, 100, 140), chat.clone()],
        "the last is of later"
    );
    assert_eq!(told(Some("ws_a")).await, [("faq".to_owned(), 3, 1, 100, 70), chat]);
    assert_eq!(told(Some("ws_c")).await, []);
}
