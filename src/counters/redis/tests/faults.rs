//! What a server can do to its clients: forget, come back empty or old, be promoted, refuse, stop for a while. After each of these nothing
//! that the ledger recorded is lost or counted twice, and nothing is held twice.

use super::shared::{settings, store_at};
use crate::counters::contract::desk::{Desk, NOON, Store, daily, of_user, row, user};
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::redis_server::{Server, is_there};
use crate::counters::{Applied, Begun, Claim, Counters, HoldOutcome, Progress, Rebuilt};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::id::ReservationId;
use crate::decision::standing::End;
use std::sync::Arc;
use std::time::Duration;

/// A workspace on a store of its own, whose ledger says that nothing is spent.
pub(super) async fn desk(store: Arc<RedisCounters>, counters: &[&Counter]) -> Desk {
    Desk::open(store as Store, counters).await
}

/// A second store with the keys of the first, at another address: what a node sees after a failover.
async fn same_keys_at(url: &str, settings: &RedisSettings) -> Arc<RedisCounters> {
    let settings = RedisSettings {
        url: url.to_owned(),
        ..settings.clone()
    };
    Arc::new(RedisCounters::connect(settings).await.expect("a store"))
}

/// Begins a rebuild, and tells which reservations came back.
async fn begun(desk: &Desk, whose: &Whose) -> (u64, Vec<ReservationId>) {
    match desk.begin(whose).await {
        Begun::Started { token, adopt } => (token, adopt),
        Begun::Wait => panic!("nobody else rebuilds {whose:?}"),
    }
}

/// Whether a hold would be told to rebuild first.
async fn must_rebuild(desk: &Desk, counter: &Counter) -> bool {
    matches!(desk.hold(&desk.ask("probe", 1, &[(counter, 100)])).await, HoldOutcome::Unready(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_frees_what_was_held_and_loses_nothing_that_was_spent() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let mut desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.later(1);
    let (before, adopt) = begun(&desk, &Whose::Workspace).await;
    assert_eq!(adopt, [], "nothing came back");
    server.cli(&["FLUSHALL"]);
    assert!(must_rebuild(&desk, &day).await);
    assert_eq!(desk.find(id).await, None);
    assert!(!desk.finish(&Whose::Workspace, before, &[row(&day, 1, 1)]).await, "its begin died");
    desk.apply(&[row(&day, 40, 3)], desk.id("b"), Progress::Ended(End::Settled)).await;
    assert!(must_rebuild(&desk, &day).await, "a row alone makes no group");
    desk.rebuild(&[row(&day, 40, 3)]).await;
    assert_eq!(desk.balance(&day).await, (40, 0));
    // The lost reservation settles late: it holds nothing that could be freed.
    desk.apply(&[row(&day, 100, 4)], id, Progress::Ended(End::Settled)).await;
    assert_eq!(desk.balance(&day).await, (100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_from_before_a_second_flush_changes_nothing() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    server.cli(&["FLUSHALL"]);
    let (old, _) = begun(&desk, &Whose::Workspace).await;
    server.cli(&["FLUSHALL"]);
    let (new, _) = begun(&desk, &Whose::Workspace).await;
    assert!(!desk.finish(&Whose::Workspace, old, &[row(&day, 10, 2)]).await);
    assert!(must_rebuild(&desk, &day).await);
    assert!(desk.finish(&Whose::Workspace, new, &[row(&day, 90, 3)]).await);
    assert_eq!(desk.balance(&day).await, (90, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_flushed_all_the_time_are_sent_again() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    for number in 0..50 {
        server.cli(&["SCRIPT", "FLUSH"]);
        desk.held(&format!("r{number}"), 1, &[(&day, 50)]).await;
    }
    assert_eq!(desk.balance(&day).await, (0, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_nothing_is_a_cold_start() {
    if !is_there() {
        return;
    }
    let mut server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    server.kill();
    assert!(desk.store.find(id, desk.now).await.is_err(), "nobody answers");
    server.run();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(must_rebuild(&desk, &day).await);
    desk.rebuild(&[row(&day, 7, 2)]).await;
    assert_eq!(desk.balance(&day).await, (7, 0));
}

/// The dump is older than a settle, an expiry, a checkpoint and two holds: what came back is compared with the ledger before anything is
/// admitted, each of it is freed once, and what the ledger knows nothing of still holds.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_dump_is_compared_with_the_ledger_before_it_admits_anything() {
    if !is_there() {
        return;
    }
    let mut server = Server::start();
    let (day, ann) = (daily(), of_user("ann", daily()));
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day, &ann]).await;
    let limits = [(&day, 1_000), (&ann, 1_000)];
    let settled = desk.held("settled", 100, &limits).await;
    let checkpointed = desk.held("checkpointed", 100, &limits).await;
    let open = desk.held("open", 100, &limits).await;
    server.cli(&["SAVE"]);
    desk.settle(settled, &[row(&day, 80, 2), row(&ann, 80, 2)]).await;
    let used = crate::counters::contract::desk::tokens(30);
    desk.claim(checkpointed, Claim::UpTo(used)).await;
    let rows = [row(&day, 110, 3), row(&ann, 110, 3)];
    desk.apply(&rows, checkpointed, Progress::Used(used)).await;
    desk.held("lost", 500, &limits).await;
    server.kill();
    server.run();
    tokio::time::sleep(Duration::from_millis(150)).await;

    assert!(must_rebuild(&desk, &day).await);
    let claim = desk.store.claim(open, Claim::Final, desk.now).await.expect("claim");
    assert_eq!(claim, Err(vec![Whose::Workspace]), "nobody claims on an old copy");
    desk.apply_rows(&rows).await;
    assert!(must_rebuild(&desk, &day).await, "an apply does not make it live");
    let (token, mut adopt) = begun(&desk, &Whose::Workspace).await;
    adopt.sort();
    let mut came_back = vec![settled, checkpointed, open];
    came_back.sort();
    assert_eq!(adopt, came_back);
    let adopted = [(settled, Progress::Ended(End::Settled)), (checkpointed, Progress::Used(used))];
    let rebuilt = Rebuilt {
        token,
        adopted: &adopted,
        rows: &rows[..1],
        purses: &[],
    };
    let finished = desk.store.finish(&desk.workspace, &Whose::Workspace, &rebuilt, desk.now).await;
    assert!(finished.expect("finish"));
    assert_eq!(desk.balance(&day).await, (110, 170));
    assert_eq!(desk.end_of(settled).await, Some(End::Settled));
    let (token, adopt) = begun(&desk, &user("ann")).await;
    assert_eq!(adopt, [], "once for the whole workspace");
    assert!(desk.finish(&user("ann"), token, &rows[1..]).await);
    assert_eq!(desk.balance(&ann).await, (110, 170));
    // Each that came back ends once more, late or in time, and frees its part.
    desk.apply(&[row(&day, 110, 3)], settled, Progress::Ended(End::Settled)).await;
    desk.settle(open, &[row(&day, 150, 4), row(&ann, 150, 4)]).await;
    desk.settle(checkpointed, &[row(&day, 160, 5), row(&ann, 160, 5)]).await;
    assert_eq!(desk.balance(&day).await, (160, 0));
    assert_eq!(desk.balance(&ann).await, (160, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_dump_in_which_nothing_is_open_is_not_believed_either() {
    if !is_there() {
        return;
    }
    let mut server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    desk.apply_rows(&[row(&day, 10, 2)]).await;
    server.cli(&["SAVE"]);
    desk.apply_rows(&[row(&day, 95, 3)]).await;
    server.kill();
    server.run();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(desk.known(&day).await, None, "it says 10, and 95 are spent");
    assert!(must_rebuild(&desk, &day).await);
    desk.rebuild(&[row(&day, 95, 3)]).await;
    assert_eq!(desk.balance(&day).await, (95, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_keeps_what_is_held_and_a_replica_takes_no_write() {
    if !is_there() {
        return;
    }
    let mut primary = Server::start();
    let replica = primary.replica();
    let day = daily();
    let at_primary = settings(&primary.url());
    let first = Arc::new(RedisCounters::connect(at_primary.clone()).await.expect("a store"));
    let desk = desk(first, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    primary.reach(&replica);
    let second = Desk {
        store: same_keys_at(&replica.url(), &at_primary).await,
        ..desk.clone()
    };
    let refused = second.store.hold(&second.ask("b", 1, &[(&day, 100)])).await;
    let told = format!("{:?}", refused.expect_err("a replica takes no write"));
    assert!(told.contains("ReadOnly"), "{told}");
    primary.kill();
    replica.cli(&["REPLICAOF", "NO", "ONE"]);

    assert!(must_rebuild(&second, &day).await, "it may have missed something");
    let (token, adopt) = begun(&second, &Whose::Workspace).await;
    assert_eq!(adopt, [id]);
    assert!(second.finish(&Whose::Workspace, token, &[row(&day, 0, 1)]).await);
    assert_eq!(second.balance(&day).await, (0, 60));
    assert_eq!(second.claim(id, Claim::Final).await.end, None, "it is as live as before");
    second.settle(id, &[row(&day, 50, 2)]).await;
    assert_eq!(second.balance(&day).await, (50, 0));
}

/// The mark comes with a copy of the store and begins anew with the first rebuild of what was promoted; what was meant for one process is
/// refused by the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_remembers_until_when_it_was_copied_to_and_so_does_what_takes_its_place() {
    if !is_there() {
        return;
    }
    let primary = Server::start();
    let replica = primary.replica();
    let day = daily();
    let at_primary = settings(&primary.url());
    let first = Arc::new(RedisCounters::connect(at_primary.clone()).await.expect("a store"));
    assert_eq!(first.begin_copy(NOON).await.expect("told").since, None, "nothing is live");
    let desk = desk(first, &[&day]).await;
    let copying = desk.store.begin_copy(desk.now).await.expect("told");
    assert_eq!(copying.since, Some(desk.now), "its first rebuild");
    let until = desk.now.plus_seconds(30);
    desk.store.end_copy(&copying, until, until).await.expect("remembered");
    let copying = desk.store.begin_copy(until).await.expect("told");
    assert_eq!(copying.since, Some(until));
    primary.reach(&replica);
    replica.cli(&["REPLICAOF", "NO", "ONE"]);

    let mut second = Desk {
        store: same_keys_at(&replica.url(), &at_primary).await,
        ..desk.clone()
    };
    second.later(100);
    assert_eq!(
        second.store.begin_copy(second.now).await.expect("told").since,
        None,
        "nothing is live yet"
    );
    second.rebuild(&[row(&day, 0, 1)]).await;
    let missed = Applied {
        rows: vec![row(&day, 50, 2)],
        ..Applied::default()
    };
    let refused = second.store.copy(&desk.workspace, &missed, &copying, second.now).await;
    refused.expect_err("it is meant for the other one");
    second
        .store
        .end_copy(&copying, second.now, second.now)
        .await
        .expect_err("nor has it been copied here");
    assert_eq!(second.balance(&day).await, (0, 0));
    let copying = second.store.begin_copy(second.now).await.expect("told");
    assert_eq!(copying.since, Some(second.now), "its first rebuild as a primary");
    second
        .store
        .copy(&desk.workspace, &missed, &copying, second.now)
        .await
        .expect("copied");
    assert_eq!(second.balance(&day).await, (50, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_a_server_too_late_is_refused_there() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let patient = settings(&server.url());
    let desk = desk(Arc::new(RedisCounters::connect(patient.clone()).await.expect("a store")), &[&day]).await;
    let hasty = RedisSettings {
        response_timeout: Duration::from_millis(200),
        ..patient
    };
    let hasty = Desk {
        store: Arc::new(RedisCounters::connect(hasty).await.expect("a store")),
        ..desk.clone()
    };
    hasty.held("before", 10, &[(&day, 100)]).await;
    server.pause();
    let request = hasty.ask("stuck", 50, &[(&day, 100)]);
    let answer = hasty.store.hold(&request).await;
    server.resume();
    assert!(answer.is_err(), "nobody answered: {answer:?}");
    assert_eq!(
        desk.balance(&day).await,
        (0, 10),
        "the command came out of its socket and was refused"
    );
    // The caller asks again with the same id, and holds once.
    for _ in 0..3 {
        hasty.hold(&request).await;
    }
    assert_eq!(desk.balance(&day).await, (0, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_sent_again_by_a_connection_is_no_replay() {
    if !is_there() {
        return;
    }
    let store = Arc::new(super::shared::on_one_server().await);
    let day = daily();
    let desk = desk(store.clone(), &[&day]).await;
    let request = desk.ask("a", 10, &[(&day, 100)]);
    let mut answers = Vec::new();
    for nonce in [7, 7, 8] {
        answers.push(store.try_hold(&request, nonce).await.expect("hold"));
    }
    assert!(matches!(&answers[0], HoldOutcome::Held { before, .. } if *before == [Balance::default()]));
    assert_eq!(answers[0], answers[1], "its first answer got lost on the way");
    assert!(
        matches!(answers[2], HoldOutcome::Replayed(_)),
        "another call is told that it came second"
    );
    assert_eq!(desk.balance(&day).await, (0, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_evict_are_refused_and_a_full_one_holds_nothing_by_halves() {
    if !is_there() {
        return;
    }
    let evicting = Server::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let refused = RedisCounters::connect(settings(&evicting.url())).await.err().expect("refused");
    let told = refused.cause.to_string();
    assert!(told.contains("allkeys-lru") && told.contains("noeviction"), "{told}");

    let server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    desk.held("a", 10, &[(&day, 100)]).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(desk.store.hold(&desk.ask("b", 10, &[(&day, 100)])).await.is_err());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(desk.balance(&day).await, (0, 10));
    assert_eq!(desk.find(desk.id("b")).await, None);
    assert_eq!(desk.store.open().await.expect("open"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_together_wait_once_for_a_server_that_refuses_everybody() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let hasty = RedisSettings {
        response_timeout: Duration::from_millis(200),
        ..settings(&server.url())
    };
    let desk = desk(Arc::new(RedisCounters::connect(hasty).await.expect("a store")), &[&day]).await;
    // A replica that has not reached its primary, as one that loads its data, takes no command and may soon.
    server.cli(&["CONFIG", "SET", "replica-serve-stale-data", "no", "replica-read-only", "no"]);
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let requests: Vec<_> = (0..20).map(|n| desk.ask(&n.to_string(), 1, &[(&day, 100)])).collect();
    let outcomes = desk.store.hold_many(&requests).await;
    let told: Vec<String> = outcomes
        .into_iter()
        .map(|told| told.expect_err("nobody holds").cause.to_string())
        .collect();
    assert!(told[0].contains("MASTER is down"), "{}", told[0]);
    for told in &told[1..] {
        assert!(told.contains("was away for one"), "{told}");
    }
}
