//! Slots of a cluster move from node to node under load. No hold that was answered is lost, none counts twice. And they move while the whole
//! contract is asked of a store, see `following.rs`.

use super::faults::desk;
use super::following::Following;
use super::shared::store_at;
use crate::counters::contract::desk::{Desk, daily, row, workspace};
use crate::counters::redis::keys::{Keys, tag_of};
use crate::counters::redis_server::{Cluster, Server, is_there};
use crate::counters::{Begun, Counters, HoldOutcome, KnownGroup, Rebuilt};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::slot;
use futures_util::stream::TryStreamExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::time::{Duration, Instant};

/// How many keys move at once, unless there are very many of them.
const FEW_KEYS: &str = "10";

pub(super) fn begin_move(slot: &str, from: &Server, to: &Server) {
    let (source, target) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    to.cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &source]);
    from.cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &target]);
}

pub(super) fn migrate(keys: &[&str], from: &Server, to: &Server) {
    let port = to.port.to_string();
    from.cli(&[&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"], keys].concat());
}

/// Moves what is left of a slot's keys, as an operator's tool does.
pub(super) fn end_move(slot: &str, from: &Server, to: &Server) {
    end_move_by(FEW_KEYS, slot, from, to);
}

fn end_move_by(keys_at_once: &str, slot: &str, from: &Server, to: &Server) {
    loop {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", slot, keys_at_once]);
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        migrate(&keys, from, to);
        std::thread::sleep(Duration::from_millis(2));
    }
    let target = to.cli(&["CLUSTER", "MYID"]);
    for node in [to, from] {
        node.cli(&["CLUSTER", "SETSLOT", slot, "NODE", &target]);
    }
}

pub(super) fn owner<'a>(cluster: &'a Cluster, slot: &str) -> (&'a Server, &'a Server) {
    let owns = |server: &&Server| server.try_cli(&["CLUSTER", "COUNTKEYSINSLOT", slot]).stdout.trim_ascii() != b"0";
    let from = cluster.servers.iter().find(owns).expect("somebody has keys of this slot");
    let to = cluster.servers.iter().find(|server| server.port != from.port).expect("another one");
    (from, to)
}

/// The workspaces of the contract whose slots move.
const MOVED: [&str; 3] = ["ws_a", "ws_b", "ws_unlimited"];
/// The keys of all cases lie in these few slots, so many move at once.
const MANY_KEYS: &str = "200";
/// How long slots lie still between two moves.
const STILL: Duration = Duration::from_millis(300);
/// How long a slot may take to move, on a busy machine.
const MOVE_SECONDS_MAX: u64 = 60;

/// Counts the beginnings and the ends of moves, of which there is one at a time.
#[derive(Default)]
pub(super) struct Moves(AtomicUsize);

impl Moves {
    pub(super) fn number(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether nothing moves and nothing has moved since there were so many.
    pub(super) fn are_still(&self, number: usize) -> bool {
        number.is_multiple_of(2) && self.number() == number
    }
}

/// A cluster whose slots move for as long as this process lives.
struct Restless {
    cluster: Cluster,
    moves: Moves,
}

static RESTLESS: LazyLock<Restless> = LazyLock::new(|| Restless {
    cluster: Cluster::start(),
    moves: Moves::default(),
});

impl Restless {
    fn begin(&'static self) {
        static BEGUN: Once = Once::new();
        BEGUN.call_once(|| {
            std::thread::spawn(|| {
                for name in MOVED.iter().cycle() {
                    self.move_slot_of(name);
                    std::thread::sleep(STILL);
                }
            });
        });
    }

    fn move_slot_of(&self, name: &str) {
        let servers = &self.cluster.servers;
        let index = Keys::new("").index(tag_of(slot(&workspace(name))));
        let number = servers[0].cli(&["CLUSTER", "KEYSLOT", &index]);
        let has_it = |server: &Server| !server.try_cli(&["EXISTS", &index]).stdout.starts_with(b"MOVED");
        let from = servers.iter().position(has_it).expect("somebody has this slot");
        let (from, to) = (&servers[from], &servers[(from + 1) % servers.len()]);
        self.moves.0.fetch_add(1, Ordering::SeqCst);
        begin_move(&number, from, to);
        end_move_by(MANY_KEYS, &number, from, to);
        self.moves.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) async fn on_a_cluster_whose_slots_move() -> Following {
    let restless = tokio::task::spawn_blocking(|| &*RESTLESS).await.expect("no panic");
    restless.begin();
    Following::over(store_at(&restless.cluster.url()).await, &restless.moves)
}

/// The contract over such a cluster says little if nothing moves.
#[tokio::test(flavor = "multi_thread")]
async fn slots_move_while_the_contract_is_asked() {
    if !is_there() {
        return;
    }
    drop(on_a_cluster_whose_slots_move().await);
    let (began, before) = (Instant::now(), RESTLESS.moves.number());
    while RESTLESS.moves.number() < before + 2 * MOVED.len() {
        assert!(began.elapsed() < Duration::from_secs(MOVE_SECONDS_MAX), "no slot moves any more");
        tokio::time::sleep(STILL).await;
    }
}

/// Holds one token, rebuilding when told to. Counts as unknown what was not answered.
async fn hold(desk: &Desk, day: &Counter, key: &str) -> Result<bool, ()> {
    let request = desk.ask(key, 1, &[(day, i64::MAX >> 12)]);
    for _ in 0..200 {
        let groups = match desk.store.hold(&request).await {
            Ok(HoldOutcome::Held { .. } | HoldOutcome::Replayed(_)) => return Ok(true),
            Ok(HoldOutcome::Unready(groups)) => groups,
            Ok(other) => panic!("{key}: {other:?}"),
            Err(_) => return Err(()),
        };
        for whose in groups {
            match desk.store.begin(&desk.workspace, &whose, desk.now).await {
                Ok(Begun::Started { token, .. }) => {
                    let rebuilt = Rebuilt {
                        token,
                        adopted: &[],
                        rows: &[row(day, 0, 1)],
                        purses: &[],
                    };
                    // A finish that fails is one that somebody takes over.
                    let _ = desk.store.finish(&desk.workspace, &whose, &rebuilt, desk.now).await;
                }
                Ok(Begun::Wait) | Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
    Err(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slots_may_move_under_load() {
    if !is_there() {
        return;
    }
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.expect("no panic");
    let day = daily();
    let store = Arc::new(store_at(&cluster.url()).await);
    let index = store.keys.index(tag_of(slot(&workspace("ws_a"))));
    let desk = desk(store, &[&day]).await;
    let slot = cluster.servers[0].cli(&["CLUSTER", "KEYSLOT", &index]);
    let moved = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|task| {
            let (desk, day, moved) = (desk.clone(), day.clone(), moved.clone());
            tokio::spawn(async move {
                let (mut held, mut unknown) = (0, 0);
                let mut number = 0;
                while !moved.load(Ordering::Relaxed) || number < 50 {
                    match hold(&desk, &day, &format!("r{task}-{number}")).await {
                        Ok(_) => held += 1,
                        Err(()) => unknown += 1,
                    }
                    number += 1;
                }
                (held, unknown)
            })
        })
        .collect();
    let cluster = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..3 {
            let (from, to) = owner(&cluster, &slot);
            begin_move(&slot, from, to);
            end_move(&slot, from, to);
            std::thread::sleep(Duration::from_millis(100));
        }
        cluster
    })
    .await
    .expect("no panic");
    moved.store(true, Ordering::Relaxed);
    let (mut held, mut unknown) = (0, 0);
    for task in load {
        let (of_task, not_known) = task.await.expect("no panic");
        held += of_task;
        unknown += not_known;
    }
    assert_eq!(hold(&desk, &day, "last").await, Ok(true), "the cluster answers again");
    let (_, counted) = desk.balance(&day).await;
    assert!(
        counted > held && counted <= held + 1 + unknown,
        "{held} answered, {unknown} unknown, {counted} counted"
    );
    assert!(held > 100, "there was load: {held} answered, {unknown} unknown");
    drop(cluster);
}

/// A cluster's client knows nodes by their slots, so of this one it has never heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_to_a_new_node_is_followed_there_and_what_it_has_is_found() {
    if !is_there() {
        return;
    }
    let (cluster, new) = tokio::task::spawn_blocking(|| {
        let cluster = Cluster::start();
        let new = cluster.another();
        (cluster, new)
    })
    .await
    .expect("no panic");
    let day = daily();
    let store = Arc::new(store_at(&cluster.url()).await);
    let desk = desk(store.clone(), &[&day]).await;
    desk.held("before", 1, &[(&day, 10)]).await;
    let index = store.keys.index(tag_of(slot(&desk.workspace)));
    let number = cluster.servers[0].cli(&["CLUSTER", "KEYSLOT", &index]);
    let (old, _) = owner(&cluster, &number);
    begin_move(&number, old, &new);
    let keys = old.cli(&["CLUSTER", "GETKEYSINSLOT", &number, MANY_KEYS]);
    migrate(&keys.lines().collect::<Vec<_>>(), old, &new);
    // Another process has it now, so it is compared with the ledger first. New keys have to wait until the slot has moved.
    desk.rebuild(&[row(&day, 3, 2)]).await;
    assert_eq!(desk.balance(&day).await, (3, 1));
    end_move(&number, old, &new);
    desk.held("after", 1, &[(&day, 10)]).await;

    // A walk tells of a primary that it does not know yet rather than leaving it out.
    let began = Instant::now();
    let groups = loop {
        match store.known().try_collect::<Vec<_>>().await {
            Ok(groups) => break groups,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let group = KnownGroup {
        workspace: desk.workspace.clone(),
        whose: Whose::Workspace,
        counters: vec![day],
    };
    assert_eq!(groups, [group]);
}
