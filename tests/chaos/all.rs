//! Everything at once: three nodes, one Redis with a replica and one PostgreSQL, and faults by a schedule that a seed decides. In a run that is
//! asked to be longer, nodes stand still and stores are away for minutes, and meanwhile more is to be written than may wait.

use super::clients::Clients;
use super::faults::{self, Lengths, Schedule, Stores};
use super::scene::{SCHEMA, Scene, Urls, schema_in};
use super::seed_and_seconds;
use super::support::{postgres::Postgres, redis};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const NODES: usize = 3;
const CLIENTS: usize = 24;
/// How long faults go on, unless the environment says otherwise.
const CHAOS_SECONDS: u64 = 40;
/// The hard limit of each workspace in tokens, which clients use up many times over.
const LIMIT: i64 = 6_000;

/// How many calls with a thousand uses each a node is sent at a time while writes wait: more than it may keep waiting.
const FLOOD_CALLS: usize = 12;
const FLOOD_PAUSE: Duration = Duration::from_secs(2);

/// Reports more than the nodes may keep waiting for as long as the ledger is away, and counts what they refused for that reason.
async fn flood(clients: Arc<Clients>, writes_wait: Arc<AtomicBool>, is_over: Arc<AtomicBool>) -> usize {
    let (mut refused, mut number) = (0, 0);
    while !is_over.load(Ordering::SeqCst) {
        tokio::time::sleep(FLOOD_PAUSE).await;
        if !writes_wait.load(Ordering::SeqCst) {
            continue;
        }
        for node in 0..clients.nodes.len() {
            let calls = (0..FLOOD_CALLS).map(|call| clients.flood(node, number + call));
            refused += futures_util::future::join_all(calls).await.into_iter().sum::<usize>();
            number += FLOOD_CALLS;
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_kept_once_whatever_fails() {
    if !redis::is_there() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let (seed, seconds) = seed_and_seconds(CHAOS_SECONDS);
    let direct = postgres.url(SCHEMA);
    schema_in(&direct).await;
    let stores = Stores::start(postgres, NODES);
    let mut scene = Scene::start(NODES, LIMIT, seed, |node| Urls {
        database: stores.database_url(SCHEMA),
        redis: stores.redis_url(node),
    });
    scene.work(CLIENTS);
    let is_long = seconds > CHAOS_SECONDS;
    let writes_wait = Arc::new(AtomicBool::new(false));
    let is_over = Arc::new(AtomicBool::new(false));
    let flood = is_long.then(|| tokio::spawn(flood(scene.clients.clone(), writes_wait.clone(), is_over.clone())));
    let schedule = Schedule {
        seed,
        until: Instant::now() + Duration::from_secs(seconds),
        lengths: if is_long { Lengths::LONG } else { Lengths::SHORT },
        writes_wait,
    };
    let (clients, nodes) = (scene.clients.clone(), scene.nodes.clone());
    let faults = tokio::task::spawn_blocking(move || faults::run(stores, &nodes, &clients.record, &schedule));
    let stores = faults.await.expect("the faults are done");
    is_over.store(true, Ordering::SeqCst);
    if let Some(flood) = flood {
        let refused = flood.await.expect("the flood is over");
        println!("{refused} uses were refused because too many waited");
        assert!(refused > 0, "no queue was full");
    }
    scene.judge(&direct).await;
    drop(stores);
}
