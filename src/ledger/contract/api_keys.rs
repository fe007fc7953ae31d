//! API keys: put at their version and audited, listed, followed, and noted when they were used.

use super::book::{Book, at, audited, workspace};
use crate::decision::api_key::{ApiKey, HASH_BYTES, SecretHash};
use crate::decision::id::KeyId;
use crate::decision::scope::{Scope, ScopeSet};
use crate::decision::time::Timestamp;
use crate::ledger::api_keys::ApiKeyQuery;
use crate::ledger::audit::AuditQuery;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use uuid::Uuid;

fn id(number: u128) -> KeyId {
    KeyId::from_uuid(Uuid::from_u128(number))
}

/// A key with every member, at its first version.
fn key(number: u128) -> ApiKey {
    ApiKey {
        id: id(number),
        name: Some("a'b\"ä".to_owned()),
        scopes: ScopeSet::of(Scope::UsageWrite).with(Scope::Portal),
        workspace: Some(workspace("ws_a")),
        hash: SecretHash([0xa5; HASH_BYTES]),
        replaced: None,
        created_by: "usr_1".to_owned(),
        created_at: at(10),
        expires_at: Some(at(20)),
        revoked_at: None,
        last_used_at: None,
        version: 1,
    }
}

async fn put(book: &Book, key: &ApiKey) -> bool {
    let audited = audited("api_key.put", &key.id.to_string());
    let put = book.ledger().put_api_key(key, key.version - 1, audited).await;
    put.expect("the ledger answers")
}

async fn read(book: &Book, number: u128) -> Option<ApiKey> {
    book.ledger().api_key(id(number)).await.expect("the ledger answers")
}

async fn records(book: &Book) -> usize {
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    book.ledger().audit_log(&query).await.expect("the ledger answers").len()
}

/// What follows change `after`, as the keys' numbers and versions.
async fn changed(book: &Book, after: i64, limit: usize) -> Vec<(i64, KeyId, u32)> {
    let changed = book.ledger().api_keys_changed(after, limit).await.expect("the ledger answers");
    changed.into_iter().map(|(number, key)| (number, key.id, key.version)).collect()
}

pub(in crate::ledger) async fn a_key_comes_back_as_it_was_put(mut book: Book) {
    assert_eq!(read(&book, 1).await, None);
    let plain = ApiKey {
        name: None,
        workspace: None,
        expires_at: None,
        ..key(2)
    };
    assert!(put(&book, &key(1)).await && put(&book, &plain).await);
    let rotated = key(1).rotated(SecretHash([7; HASH_BYTES]), at(15));
    assert!(put(&book, &rotated).await);
    let revoked = plain.revoked(at(12));
    assert!(put(&book, &revoked).await);
    book.reopen().await;
    assert_eq!(read(&book, 1).await, Some(rotated));
    assert_eq!(read(&book, 2).await, Some(revoked), "a revoked key is not forgotten");
}

pub(in crate::ledger) async fn a_key_is_put_at_its_version_or_not_at_all(book: Book) {
    assert!(put(&book, &key(1)).await);
    assert!(!put(&book, &key(1)).await, "it is there");
    let late = ApiKey { version: 7, ..key(1) };
    assert!(!put(&book, &late).await);
    assert!(!put(&book, &ApiKey { version: 2, ..key(2) }).await, "it is not there");
    assert_eq!((read(&book, 1).await, read(&book, 2).await), (Some(key(1)), None));
    assert_eq!(records(&book).await, 1, "what was refused leaves no record");
}

pub(in crate::ledger) async fn of_racing_puts_of_a_key_one_wins(book: Book) {
    assert!(put(&book, &key(1)).await);
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let (ledger, next) = (book.ledger(), key(1).rotated(SecretHash([n; HASH_BYTES]), at(15)));
        racing.spawn(async move {
            ledger
                .put_api_key(&next, 1, audited("api_key.rotate", "k"))
                .await
                .expect("the ledger answers")
        });
    }
    let won = racing.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!((won, records(&book).await), (1, 2));
    assert_eq!(read(&book, 1).await.map(|key| key.version), Some(2));
}

pub(in crate::ledger) async fn keys_are_listed_newest_first_without_revoked_ones(book: Book) {
    for number in 1..=6 {
        let of = if number % 2 == 0 { "ws_a" } else { "ws_b" };
        let made = ApiKey {
            workspace: Some(workspace(of)),
            ..key(number)
        };
        assert!(put(&book, &made).await);
        if number == 4 {
            assert!(put(&book, &made.revoked(at(12))).await);
        }
    }
    for (of, after, limit, expected) in [
        (None, None, 10, vec![6, 5, 3, 2, 1]),
        (None, None, 2, vec![6, 5]),
        (None, Some(5), 2, vec![3, 2]),
        (None, Some(1), 2, vec![]),
        (Some("ws_a"), None, 10, vec![6, 2]),
        (Some("ws_a"), Some(6), 10, vec![2]),
        (Some("ws_c"), None, 10, vec![]),
        (None, None, usize::MAX, vec![6, 5, 3, 2, 1]),
    ] {
        let query = ApiKeyQuery {
            workspace: of.map(workspace),
            after: after.map(id),
            limit,
        };
        let listed = book.ledger().api_keys(&query).await.expect("the ledger answers");
        let listed: Vec<KeyId> = listed.into_iter().map(|key| key.id).collect();
        let expected: Vec<KeyId> = expected.into_iter().map(id).collect();
        assert_eq!(listed, expected, "{query:?}");
    }
}

pub(in crate::ledger) async fn changes_of_keys_are_told_in_their_order(book: Book) {
    let newest = async || book.ledger().api_key_change().await.expect("the ledger answers");
    assert_eq!((newest().await, changed(&book, 0, 10).await), (0, vec![]));
    for number in 1..=3 {
        assert!(put(&book, &key(number)).await);
    }
    assert!(put(&book, &key(1).revoked(at(12))).await);
    let told = changed(&book, 0, 10).await;
    let names: Vec<_> = told.iter().map(|(_, id, version)| (*id, *version)).collect();
    assert_eq!(names, [(id(2), 1), (id(3), 1), (id(1), 2)], "each once, at its last change");
    assert!(told.is_sorted_by(|a, b| a.0 < b.0), "{told:?}");
    assert_eq!(changed(&book, 0, 1).await, told[..1]);
    assert_eq!(changed(&book, told[0].0, 10).await, told[1..]);
    assert_eq!(changed(&book, told[2].0, 10).await, []);
    assert_eq!(newest().await, told[2].0);
}

pub(in crate::ledger) async fn who_follows_the_numbers_of_racing_keys_misses_none(book: Book) {
    const KEYS: u128 = 60;
    let mut racing = JoinSet::new();
    for number in 0..KEYS {
        let ledger = book.ledger();
        racing.spawn(async move {
            ledger
                .put_api_key(&key(number), 0, audited("api_key.put", "k"))
                .await
                .expect("the ledger answers")
        });
    }
    let (mut seen, mut after) = (BTreeSet::new(), 0);
    loop {
        let is_over = racing.is_empty();
        for (number, id, _) in changed(&book, after, 7).await {
            assert!(number > after, "{number} after {after}");
            after = number;
            assert!(seen.insert(id));
        }
        while let Some(put) = racing.try_join_next() {
            assert!(put.expect("a task"), "nobody else puts it");
        }
        if is_over && changed(&book, after, 1).await.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len() as u128, KEYS);
}

pub(in crate::ledger) async fn when_a_key_was_used_only_rises_and_is_no_change(book: Book) {
    assert!(put(&book, &key(1)).await && put(&book, &key(2)).await);
    let number = book.ledger().api_key_change().await.expect("the ledger answers");
    let used = async |uses: &[(u128, i64)]| {
        let uses: Vec<(KeyId, Timestamp)> = uses.iter().map(|(number, second)| (id(*number), at(*second))).collect();
        book.ledger().use_api_keys(uses).await.expect("the ledger answers");
        let last = async |number| read(&book, number).await.and_then(|key| key.last_used_at);
        (last(1).await, last(2).await)
    };
    assert_eq!(used(&[]).await, (None, None));
    assert_eq!(
        used(&[(1, 50), (9, 50)]).await,
        (Some(at(50)), None),
        "of a key that is not there nothing is noted"
    );
    assert_eq!(used(&[(1, 40), (2, 60)]).await, (Some(at(50)), Some(at(60))));
    assert!(
        put(&book, &key(1).rotated(SecretHash([7; HASH_BYTES]), at(15))).await,
        "its version is the one that it was put at"
    );
    assert_eq!(
        read(&book, 1).await.and_then(|key| key.last_used_at),
        Some(at(50)),
        "another secret, the same key"
    );
    assert_eq!(book.ledger().api_key_change().await.expect("the ledger answers"), number + 1);
}
