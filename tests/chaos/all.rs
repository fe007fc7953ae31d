//! Everything at once: three nodes, one Redis with a replica and one PostgreSQL, and faults by a schedule that a seed decides.

use super::faults::{self, Stores};
use super::scene::{SCHEMA, Scene, Urls, schema_in};
use super::seed_and_seconds;
use super::support::{postgres::Postgres, redis};
use std::time::{Duration, Instant};

const NODES: usize = 3;
const CLIENTS: usize = 24;
/// How long faults go on, unless the environment says otherwise.
const CHAOS_SECONDS: u64 = 40;
/// The hard limit of each workspace in tokens, which clients use up many times over.
const LIMIT: i64 = 6_000;

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
    let until = Instant::now() + Duration::from_secs(seconds);
    let (clients, nodes) = (scene.clients.clone(), scene.nodes.clone());
    let faults = tokio::task::spawn_blocking(move || faults::run(stores, &nodes, &clients.record, seed, until));
    let stores = faults.await.expect("the faults are done");
    scene.judge(&direct).await;
    drop(stores);
}
