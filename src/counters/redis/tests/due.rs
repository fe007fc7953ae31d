//! What waits for the ledger is named in turn, a bounded number at a time, wherever it lies and whatever cannot be ended.

use super::faults::desk;
use super::moving::{begin_move, end_move, migrate, owner};
use super::shared::{on_a_cluster, on_one_server, settings};
use crate::clock::{Clock, SystemClock};
use crate::counters::contract::desk::{Desk, HOLD_SECONDS, counter, daily, row};
use crate::counters::redis::keys::tag_of;
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::redis_server::{Cluster, Server, is_there};
use crate::counters::{CLAIM_OPEN_SECONDS, Claim};
use crate::decision::amount::Unit;
use crate::decision::id::{ReservationId, slot};
use crate::decision::period::PeriodKind;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Holds whose claims stay open, of a workspace that has many and of one that has few; they are due.
async fn with_many_due(store: RedisCounters) -> (Desk, BTreeSet<ReservationId>) {
    let day = daily();
    let store: Arc<RedisCounters> = Arc::new(store);
    let mut many = desk(store.clone(), &[&day]).await;
    let few = Desk::bare(store, "ws_b");
    few.rebuild(&[row(&day, 0, 1)]).await;
    let mut ids = BTreeSet::new();
    for number in 0..305 {
        let owner = if number % 61 == 0 { &few } else { &many };
        let id = owner.held(&format!("r{number}"), 1, &[(&day, 1_000)]).await;
        owner.claim(id, Claim::Final).await;
        ids.insert(id);
    }
    many.later(CLAIM_OPEN_SECONDS);
    (many, ids)
}

/// Nobody resolves anything, as if nothing of it could be; all the same each is named.
async fn all_are_named(store: RedisCounters, limit: usize, rounds: usize) {
    let (desk, ids) = with_many_due(store).await;
    let mut named = BTreeSet::new();
    for round in 0..rounds {
        let due = desk.due(limit).await;
        assert!(due.len() <= limit, "{} of {limit}", due.len());
        named.extend(due);
        if named == ids {
            assert!(round > 0, "they are more than one round takes");
            return;
        }
    }
    panic!("{} of {} were named in {rounds} rounds", named.len(), ids.len());
}

#[tokio::test]
async fn each_is_named_in_turn_by_one_server() {
    if is_there() {
        all_are_named(on_one_server().await, 40, 20).await;
    }
}

#[tokio::test]
async fn each_is_named_in_turn_by_a_cluster() {
    if is_there() {
        all_are_named(on_a_cluster().await, 40, 20).await;
    }
}

/// One node's clock is two hours ahead: what others hold for an hour stays held, and nobody is given its room.
#[tokio::test]
async fn a_node_whose_clock_is_ahead_ends_nobody_elses_hold() {
    if !is_there() {
        return;
    }
    let server = tokio::task::spawn_blocking(Server::start).await.expect("no panic");
    let settings = settings(&server.url()).bounded();
    let (right, wrong) = (
        RedisCounters::connect(settings.clone()).await,
        RedisCounters::connect(settings).await,
    );
    let (right, wrong) = (Arc::new(right.expect("a store")), Arc::new(wrong.expect("a store")));
    let day = counter(Unit::Tokens, PeriodKind::Lifetime);
    let mut desk = Desk::bare(right, "ws_a");
    desk.now = SystemClock.now();
    desk.rebuild(&[row(&day, 0, 1)]).await;
    let id = desk.held("r", 10, &[(&day, 10)]).await;
    let mut ahead = desk.clone();
    ahead.store = wrong;
    ahead.later(7_200);
    assert!(!ahead.fits("s", 1, &[(&day, 10)]).await);
    assert_eq!((ahead.end_of(id).await, ahead.balance(&day).await), (None, (0, 10)));
    desk.later(HOLD_SECONDS + 1);
    assert_eq!(
        desk.end_of(id).await,
        None,
        "nor does one whose clock is ahead by more than its hold"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_moved_yet_is_not_taken_for_lost() {
    if !is_there() {
        return;
    }
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.expect("no panic");
    let settings = RedisSettings {
        response_timeout: Duration::from_millis(300),
        ..settings(&cluster.url())
    };
    let store = Arc::new(RedisCounters::connect(settings).await.expect("a store"));
    let day = daily();
    let mut desk = desk(store.clone(), &[&day]).await;
    let id = desk.held("r", 7, &[(&day, 1_000)]).await;
    desk.claim(id, Claim::Final).await;
    desk.later(CLAIM_OPEN_SECONDS);
    let index = store.keys.index(tag_of(slot(&desk.workspace)));
    let moved = cluster.servers[0].cli(&["CLUSTER", "KEYSLOT", &index]);
    let (from, to) = owner(&cluster, &moved);
    begin_move(&moved, from, to);
    migrate(&[&index], from, to);
    // The index is on the new node, the reservation and its groups are on the old one.
    for _ in 0..3 {
        let due = desk.store.due(desk.now, 10).await;
        assert!(
            due.is_err() || due.is_ok_and(|due| due.is_empty()),
            "it cannot be read at the moment"
        );
    }
    end_move(&moved, from, to);
    assert_eq!(desk.due(10).await, [id]);
    desk.rebuild(&[row(&day, 0, 1)]).await;
    assert_eq!(desk.balance(&day).await, (0, 7), "it is held as it was");
}
