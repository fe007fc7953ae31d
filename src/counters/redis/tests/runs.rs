//! Runs over a server that forgets, comes back old or is followed by its replica: what calls and their parent hold is freed once all the same.

use super::faults::desk;
use super::shared::{settings, store_at};
use crate::counters::contract::desk::{Desk, HOLD_SECONDS, NOON, daily, of_user, row, tokens, user};
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::redis_server::{Server, is_there};
use crate::counters::run::{ChildOutcome, Run};
use crate::counters::{Begun, CLAIM_OPEN_SECONDS, Claim, Progress, Rebuilt, SumRow};
use crate::decision::counter::Whose;
use crate::decision::id::ReservationId;
use crate::decision::standing::End;
use std::sync::Arc;
use std::time::Duration;

/// How long a client needs to notice that its server has gone.
const NOTICED: Duration = Duration::from_millis(150);

/// Rebuilds the workspace's own group, and tells which reservations came back.
async fn rebuild(desk: &Desk, adopted: &[(ReservationId, Progress)], rows: &[SumRow]) -> Vec<ReservationId> {
    let Begun::Started { token, mut adopt } = desk.begin(&Whose::Workspace).await else {
        panic!("nobody else rebuilds");
    };
    let rebuilt = Rebuilt {
        token,
        adopted,
        rows,
        purses: &[],
    };
    let finished = desk.store.finish(&desk.workspace, &Whose::Workspace, &rebuilt, desk.now).await;
    assert!(finished.expect("finish"));
    adopt.sort();
    adopt
}

async fn lent_and_used(desk: &Desk, parent: ReservationId) -> (i64, i64) {
    let record = desk.find(parent).await.expect("it is remembered");
    match record.run {
        Some(Run::Parent(lending)) => (lending.lent.tokens, record.used.tokens),
        other => panic!("{other:?} is no parent"),
    }
}

/// The dump is older than the settle of one call and than another call: the ledger tells of the settle, and the call that died is late.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_came_back_with_an_older_dump_follows_the_ledger() {
    if !is_there() {
        return;
    }
    for parent_is_released in [false, true] {
        let mut server = Server::start();
        let (day, ann) = (daily(), of_user("ann", daily()));
        let desk = desk(Arc::new(store_at(&server.url()).await), &[&day, &ann]).await;
        let parent = desk.held("parent", 100, &[(&day, 1_000), (&ann, 1_000)]).await;
        let settled = desk.drawn("settled", parent, 30).await;
        let open = desk.drawn("open", parent, 20).await;
        server.cli(&["SAVE"]);
        desk.settle_using(settled, tokens(10), &[row(&day, 10, 2), row(&ann, 10, 2)]).await;
        desk.drawn("died", parent, 70).await;
        server.kill();
        server.run();
        tokio::time::sleep(NOTICED).await;

        let before = desk.draw(&desk.call("early", parent, 1)).await;
        assert_eq!(
            before,
            ChildOutcome::Unready(vec![Whose::Workspace]),
            "nothing is drawn from an old copy"
        );
        let mut adopted = vec![(settled, Progress::EndedUsing(End::Settled, tokens(10)))];
        if parent_is_released {
            adopted.insert(0, (parent, Progress::Ended(End::Released)));
        }
        let mut came_back = vec![parent, settled, open];
        came_back.sort();
        assert_eq!(rebuild(&desk, &adopted, &[row(&day, 10, 2)]).await, came_back);
        let Begun::Started { token, adopt } = desk.begin(&user("ann")).await else {
            panic!("nobody else rebuilds");
        };
        assert_eq!(adopt, [], "once for the whole workspace");
        assert!(desk.finish(&user("ann"), token, &[row(&ann, 10, 2)]).await);
        let held = if parent_is_released { 20 } else { 90 };
        assert_eq!((desk.balance(&day).await, desk.balance(&ann).await), ((10, held), (10, held)));
        if !parent_is_released {
            assert_eq!(lent_and_used(&desk, parent).await, (20, 10));
            desk.drawn("next", parent, 70).await;
            desk.release(desk.id("next")).await;
            desk.release(parent).await;
        }
        // What died is recorded late, and frees nothing of others.
        desk.apply(
            &[row(&day, 60, 3), row(&ann, 60, 3)],
            desk.id("died"),
            Progress::EndedUsing(End::Settled, tokens(50)),
        )
        .await;
        assert_eq!(desk.balance(&day).await, (60, 20));
        desk.settle_using(open, tokens(20), &[row(&day, 80, 4), row(&ann, 80, 4)]).await;
        assert_eq!((desk.balance(&day).await, desk.balance(&ann).await), ((80, 0), (80, 0)));
        assert_eq!(desk.store.open().await.expect("open"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_at_a_promoted_replica() {
    if !is_there() {
        return;
    }
    let mut primary = Server::start();
    let replica = primary.replica();
    let day = daily();
    let at_primary = settings(&primary.url());
    let first = Arc::new(RedisCounters::connect(at_primary.clone()).await.expect("a store"));
    let desk = desk(first, &[&day]).await;
    let parent = desk.held("parent", 100, &[(&day, 1_000)]).await;
    let call = desk.drawn("a", parent, 60).await;
    primary.reach(&replica);
    primary.kill();
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    let at_replica = RedisSettings {
        url: replica.url(),
        ..at_primary
    };
    let second = Desk {
        store: Arc::new(RedisCounters::connect(at_replica).await.expect("a store")),
        ..desk.clone()
    };
    assert_eq!(rebuild(&second, &[], &[row(&day, 0, 1)]).await.len(), 2);
    second.settle_using(call, tokens(25), &[row(&day, 25, 2)]).await;
    assert_eq!(second.balance(&day).await, (25, 75));
    second.drawn("b", parent, 75).await;
    second.release(second.id("b")).await;
    second.release(parent).await;
    assert_eq!(second.balance(&day).await, (25, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_server_was_emptied_is_unknown() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    let parent = desk.held("parent", 100, &[(&day, 1_000)]).await;
    let call = desk.drawn("a", parent, 60).await;
    server.cli(&["FLUSHALL"]);
    assert_eq!(desk.draw(&desk.call("b", parent, 1)).await, ChildOutcome::NoParent);
    desk.rebuild(&[row(&day, 0, 1)]).await;
    desk.held("parent", 50, &[(&day, 1_000)]).await;
    desk.apply(&[row(&day, 10, 2)], call, Progress::EndedUsing(End::Settled, tokens(10)))
        .await;
    assert_eq!(
        desk.balance(&day).await,
        (10, 50),
        "the call was of another hold than the one that is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_sent_again_by_a_connection_is_no_replay() {
    if !is_there() {
        return;
    }
    let store = Arc::new(super::shared::on_one_server().await);
    let day = daily();
    let desk = desk(store.clone(), &[&day]).await;
    let parent = desk.held("parent", 100, &[(&day, 1_000)]).await;
    let request = desk.call("a", parent, 60);
    let mut answers = Vec::new();
    for nonce in [7, 7, 8] {
        answers.push(store.try_hold_child(&request, nonce).await.expect("hold for a run"));
    }
    assert!(matches!(answers[0], ChildOutcome::Held(_)));
    assert_eq!(answers[0], answers[1], "its first answer got lost on the way");
    assert!(matches!(answers[2], ChildOutcome::Replayed(_)));
    assert_eq!(lent_and_used(&desk, parent).await, (60, 0));
}

/// One kind of keys is gone from under a run with a live and a claimed call. Returns what is held when nothing should be.
async fn after_losing(pattern: &str) -> (i64, i64) {
    let server = Server::start();
    let day = daily();
    let mut desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    let parent = desk.held("parent", 100, &[(&day, 1_000)]).await;
    let (live, claimed) = (desk.drawn("live", parent, 30).await, desk.drawn("claimed", parent, 20).await);
    desk.claim(claimed, Claim::Final).await;
    let pattern = match pattern {
        "parent" => format!("*r:{}", hex(parent)),
        "call" => format!("*r:{}", hex(live)),
        other => other.to_owned(),
    };
    let keys = server.cli(&["KEYS", &pattern]);
    let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
    assert!(!keys.is_empty(), "{pattern}");
    for key in keys {
        server.cli(&["DEL", key]);
    }
    desk.rebuild(&[row(&day, 5, 2)]).await;
    desk.apply(&[row(&day, 5, 2)], claimed, Progress::EndedUsing(End::Settled, tokens(5)))
        .await;
    desk.later(HOLD_SECONDS + CLAIM_OPEN_SECONDS);
    for _ in 0..3 {
        desk.rebuild(&[row(&day, 5, 2)]).await;
        desk.due(10).await;
        // A hold of its own finds what expired, and what nobody holds any more.
        desk.hold(&desk.ask("last", 1, &[(&day, 1_000)])).await;
        desk.release(desk.id("last")).await;
    }
    desk.rebuild(&[row(&day, 5, 2)]).await;
    desk.balance(&day).await
}

fn hex(id: ReservationId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_under_a_run_leaves_nothing_held() {
    if !is_there() {
        return;
    }
    for pattern in ["parent", "call", "*r:*", "*g:*", "*i"] {
        assert_eq!(after_losing(pattern).await, (5, 0), "{pattern}");
    }
}

/// Numbers that only fit because doubles are exact below 2^52 move between holds without a unit lost.
#[tokio::test(flavor = "multi_thread")]
async fn large_amounts_move_exactly() {
    if !is_there() {
        return;
    }
    const MOST: i64 = (1 << 52) - 1;
    let store = Arc::new(super::shared::on_one_server().await);
    let day = daily();
    let desk = desk(store, &[&day]).await;
    let parent = desk.held("parent", MOST, &[(&day, MOST)]).await;
    let (odd, rest) = (desk.drawn("odd", parent, 1_234_567_890_123).await, MOST - 1_234_567_890_123);
    let other = desk.drawn("rest", parent, rest).await;
    assert!(matches!(desk.draw(&desk.call("more", parent, 1)).await, ChildOutcome::Exhausted(_)));
    desk.settle_using(odd, tokens(1_234_567_890_122), &[row(&day, 1_234_567_890_122, 2)])
        .await;
    assert_eq!(lent_and_used(&desk, parent).await, (rest, 1_234_567_890_122));
    desk.drawn("last", parent, 1).await;
    desk.release(other).await;
    desk.release(parent).await;
    assert_eq!(desk.balance(&day).await, (1_234_567_890_122, 1));
    assert_eq!(desk.find(desk.id("last")).await.map(|record| record.held_at), Some(NOON));
}
