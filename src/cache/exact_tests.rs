//! The promises of a store of exact answers, over both.

use super::*;
use crate::cache::answer::Answer;
use crate::cache::answer::tests::answer;
use crate::cache::memory::MemoryExact;
use crate::cache::redis::RedisExact;
use crate::counters::Counters;
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::redis_server::{Cluster, Server, is_there};
use crate::decision::cache::key::Key;
use crate::decision::id::RequestId;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);
static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

async fn over(url: String) -> RedisExact {
    static USED: AtomicUsize = AtomicUsize::new(0);
    let settings = RedisSettings {
        prefix: format!("e{}:", USED.fetch_add(1, Ordering::Relaxed)),
        connections: 2,
        response_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        ..RedisSettings::new(&url)
    };
    let counters = RedisCounters::connect(settings).await.expect("a store");
    RedisExact::new(counters.beside().expect("a way"))
}

async fn stores() -> Vec<(&'static str, Box<dyn ExactStore>)> {
    let mut stores: Vec<(&'static str, Box<dyn ExactStore>)> = vec![("memory", Box::new(MemoryExact::default()))];
    if is_there() {
        let url = tokio::task::spawn_blocking(|| SERVER.url()).await.expect("no panic");
        stores.push(("one server", Box::new(over(url).await)));
        let url = tokio::task::spawn_blocking(|| CLUSTER.url()).await.expect("no panic");
        stores.push(("a cluster", Box::new(over(url).await)));
    }
    stores
}

fn workspace() -> WorkspaceId {
    WorkspaceId::parse("ws").expect("a name")
}

fn feature(name: &str) -> Feature {
    Feature::parse(name).expect("a name")
}

fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

struct Store<'a>(&'a dyn ExactStore);

impl Store<'_> {
    async fn look(&self, number: u8, now: i64) -> Looked {
        let reservation = ReservationId::derive(&workspace(), &RequestId::parse("r").expect("an id"));
        self.0
            .look(&workspace(), reservation, &key(number), at(now))
            .await
            .expect("an answer")
    }

    async fn put(&self, number: u8, kept: &Answer, entries_max: u32) -> bool {
        let bytes = kept.encode().expect("small enough");
        let put = Put {
            workspace: &workspace(),
            feature: &feature("faq"),
            key: key(number),
            id: kept.id,
            answer: &bytes,
            expires_at: at(61),
            entries_max,
        };
        self.0.put(&put, at(1)).await.expect("an answer")
    }

    async fn has(&self, number: u8, now: i64) -> Option<Answer> {
        self.look(number, now)
            .await
            .answer
            .map(|bytes| Answer::decode(&bytes).expect("an answer"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_gives_what_was_put_under_it_last_and_by_its_id() {
    for (name, store) in stores().await {
        let store = Store(&*store);
        assert_eq!(store.has(1, 1).await, None, "{name}");
        let (first, second) = (
            answer(1, "{\"n\":1}"),
            answer(2, &format!("{{\"n\":\"{}\"}}", "long".repeat(1_000))),
        );
        assert!(store.put(1, &first, 10).await, "{name}");
        assert_eq!(store.has(1, 1).await, Some(first.clone()), "{name}");
        assert_eq!(store.has(2, 1).await, None, "{name}");
        assert!(store.put(1, &second, 10).await, "{name}");
        assert_eq!(store.has(1, 1).await, Some(second.clone()), "{name}");
        // The first id leads to what is no longer there, and takes nothing away.
        assert!(!store.0.forget(first.id, at(2)).await.expect("an answer"), "{name}");
        let found = store.0.find(second.id, at(2)).await.expect("an answer").expect("it is there");
        assert_eq!(
            (found.0, found.1.and_then(|bytes| Answer::decode(&bytes))),
            (workspace(), Some(second.clone())),
            "{name}"
        );
        assert!(store.0.forget(second.id, at(2)).await.expect("an answer"), "{name}");
        assert_eq!(store.has(1, 2).await, None, "{name}");
        assert!(!store.0.forget(second.id, at(2)).await.expect("an answer"), "{name}");
        for (gone, which) in [(&first, "another was put under its key"), (&second, "it was forgotten")] {
            let found = store.0.find(gone.id, at(3)).await.expect("an answer");
            assert_eq!(found, Some((workspace(), None)), "{name}: {which}");
        }
        assert_eq!(store.0.find(answer(9, "{}").id, at(2)).await.expect("an answer"), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_for_a_minute_or_until_there_is_an_answer() {
    for (name, store) in stores().await {
        let store = Store(&*store);
        assert!(store.look(1, 1).await.leads, "{name}");
        assert!(!store.look(1, 2).await.leads, "{name}");
        assert!(store.look(2, 2).await.leads, "{name}: another key");
        assert!(store.look(1, 61).await.leads, "{name}: the leader was away for too long");
        assert!(!store.look(1, 62).await.leads, "{name}");
        let kept = answer(1, "{}");
        store.put(1, &kept, 10).await;
        store.0.forget(kept.id, at(63)).await.expect("an answer");
        assert!(store.look(1, 63).await.leads, "{name}: the answer came and went");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_is_given_up_by_whom_it_is_and_taken_over_an_answer_of_no_use() {
    for (name, store) in stores().await {
        let store = Store(&*store);
        let give_up = async |since: i64| {
            let until = at(since + LEADER_SECONDS);
            store.0.give_up(&workspace(), &key(1), until).await.expect("an answer")
        };
        assert!(!give_up(1).await, "{name}: nobody leads");
        assert!(store.look(1, 1).await.leads, "{name}");
        assert!(!give_up(2).await, "{name}: it is another's");
        assert!(!store.look(1, 2).await.leads, "{name}");
        assert!(give_up(1).await, "{name}");
        assert!(store.look(1, 3).await.leads, "{name}: the next one leads at once");
        let kept = answer(1, "{}");
        store.put(1, &kept, 10).await;
        let lead = async |now: i64| store.0.lead(&workspace(), &key(1), at(now)).await.expect("an answer");
        assert!(!store.look(1, 4).await.leads, "{name}: there is an answer");
        assert!(lead(4).await, "{name}: which is of no use to one");
        assert!(!lead(5).await, "{name}: nor to another, who waits");
        assert_eq!(store.has(1, 5).await, Some(kept), "{name}: it stays");
        assert!(give_up(4).await && lead(6).await, "{name}");
        assert!(!lead(65).await && lead(66).await, "{name}: for a minute");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_has_so_many_entries_and_is_purged_by_name() {
    for (name, store) in stores().await {
        let store = Store(&*store);
        for number in 1..=5 {
            assert!(store.put(number, &answer(u128::from(number), "{}"), 3).await, "{name}");
        }
        let mut left = 0;
        for number in 1..=5 {
            left += usize::from(store.has(number, 2).await.is_some());
        }
        assert_eq!(left, 3, "{name}");
        assert!(store.has(5, 2).await.is_some(), "{name}: the newest is there");
        assert_eq!(
            store.0.purge(&workspace(), Some(&feature("other"))).await.expect("an answer"),
            0,
            "{name}"
        );
        assert_eq!(
            store.0.purge(&workspace(), Some(&feature("faq"))).await.expect("an answer"),
            3,
            "{name}"
        );
        assert_eq!(store.has(5, 2).await, None, "{name}");
        store.put(1, &answer(1, "{}"), 3).await;
        assert_eq!(store.0.purge(&workspace(), None).await.expect("an answer"), 1, "{name}");
        assert_eq!(store.has(1, 2).await, None, "{name}");
        for number in 1..=5 {
            let found = store.0.find(answer(number, "{}").id, at(3)).await.expect("an answer");
            assert_eq!(found, Some((workspace(), None)), "{name}: pushed out or purged");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_that_is_full_makes_room_in_lots() {
    for (name, store) in stores().await {
        let store = Store(&*store);
        let count = async || {
            let mut left = 0;
            for number in 0..=33 {
                left += u32::from(store.has(number, 2).await.is_some());
            }
            left
        };
        for number in 0..32 {
            assert!(store.put(number, &answer(u128::from(number), "{}"), 32).await, "{name}");
        }
        assert_eq!(count().await, 32, "{name}");
        assert!(store.put(32, &answer(32, "{}"), 32).await, "{name}");
        assert_eq!(count().await, 31, "{name}: a sixteenth went");
        assert!(store.put(33, &answer(33, "{}"), 32).await, "{name}");
        assert_eq!(count().await, 32, "{name}: so there was room for another");
    }
}

/// Nothing else bounds how many ids are known: answers may be kept for months, and pushed out each second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_whose_answer_went_is_known_for_an_hour_in_redis() {
    if !is_there() {
        return;
    }
    let url = tokio::task::spawn_blocking(|| SERVER.url()).await.expect("no panic");
    let store = over(url).await;
    let put = async |number: u8, id: u128| {
        let kept = answer(id, "{}");
        let bytes = kept.encode().expect("small enough");
        let put = Put {
            workspace: &workspace(),
            feature: &feature("faq"),
            key: key(number),
            id: kept.id,
            answer: &bytes,
            expires_at: at(1_000_000),
            entries_max: 2,
        };
        assert!(store.put(&put, at(1)).await.expect("an answer"));
        kept.id
    };
    let known = async |id| match store.known_for(id).await {
        redis::Value::Int(seconds) => seconds,
        other => panic!("{other:?}"),
    };
    let replaced = put(1, 0xabc).await;
    assert!(known(replaced).await > 900_000);
    let first = put(1, 2).await;
    assert!((1..=3_600).contains(&known(replaced).await), "another was put under its key");
    let second = put(2, 3).await;
    let third = put(3, 4).await;
    let pushed_out = [first, second];
    let mut short = 0;
    for id in pushed_out {
        short += u32::from(known(id).await <= 3_600);
    }
    assert_eq!(short, 1, "one was pushed out");
    assert!(known(third).await > 900_000);
    store.purge(&workspace(), None).await.expect("an answer");
    assert!((1..=3_600).contains(&known(third).await), "it was purged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_nearly_full_keeps_its_room_for_counters() {
    if !is_there() {
        return;
    }
    let server = tokio::task::spawn_blocking(|| Server::start_with(&["--maxmemory", "4mb"]))
        .await
        .expect("no panic");
    let store = over(server.url()).await;
    let store = Store(&store);
    // What hardly compresses, so that it takes its length.
    let noise = |seed: u64| -> String {
        let mut state = seed + 1;
        (0..100_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from(b' ' + (state >> 58) as u8)
            })
            .filter(|c| *c != '"' && *c != '\\')
            .collect()
    };
    let mut kept = 0;
    for number in 0..60u8 {
        kept += u32::from(
            store
                .put(number, &answer(u128::from(number), &noise(u64::from(number))), 1_000)
                .await,
        );
    }
    assert!((1..60).contains(&kept), "{kept}");
    assert!(store.has(0, 2).await.is_some(), "what was kept stays");
}
