//! A Redis Cluster of three primaries, each with a replica: a primary is killed under load and its replica takes its place by itself.

use super::record::{Loss, SECOND, now};
use super::scene::{SCHEMA, Scene, Urls, schema_in};
use super::seed_and_seconds;
use super::support::postgres::Postgres;
use super::support::redis::{Cluster, is_there, until};
use std::time::{Duration, Instant};

const NODES: usize = 2;
const CLIENTS: usize = 8;
const LIMIT: i64 = 6_000;
/// How long primaries are killed, one after the other, unless the environment says otherwise: one.
const SECONDS: u64 = 1;
/// How long clients work before and after each.
const BETWEEN: Duration = Duration::from_secs(2);

/// Kills the primary of some slots, waits until the cluster is whole without it, and starts it again, as a replica.
fn kill_one(mut cluster: Cluster, round: usize) -> (Cluster, Option<Loss>) {
    let primaries: Vec<usize> = (0..cluster.servers.len()).filter(|place| cluster.is_primary(*place)).collect();
    let place = primaries[round % primaries.len()];
    let kept_before = Some(now() - SECOND / 5);
    let began = now();
    cluster.servers[place].kill();
    let others = || (0..cluster.servers.len()).filter(|other| *other != place);
    until("a replica takes its place", || {
        others().filter(|other| cluster.is_primary(*other)).count() == primaries.len() && others().all(|other| cluster.is_whole(other))
    });
    let ended = now();
    cluster.servers[place].run();
    until("it follows", || {
        let info = cluster.servers[place].cli(&["INFO", "replication"]);
        info.contains("role:slave") && info.contains("master_link_status:up")
    });
    (cluster, Some(Loss { kept_before, began, ended }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_the_place_of_a_clusters_primary() {
    if !is_there() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let (seed, seconds) = seed_and_seconds(SECONDS);
    let mut cluster = tokio::task::spawn_blocking(Cluster::with_replicas).await.expect("a cluster");
    let (database, redis) = (postgres.url(SCHEMA), cluster.url());
    schema_in(&database).await;
    let mut scene = Scene::start(NODES, LIMIT, seed, |_| Urls {
        database: database.clone(),
        redis: redis.clone(),
    });
    scene.work(CLIENTS);
    let (until, mut round) = (Instant::now() + Duration::from_secs(seconds), seed as usize % 3);
    loop {
        tokio::time::sleep(BETWEEN).await;
        cluster = scene.strike("a primary is killed", true, move || kill_one(cluster, round)).await;
        round += 1;
        if Instant::now() > until {
            break;
        }
    }
    tokio::time::sleep(BETWEEN).await;
    scene.judge(&database).await;
    drop(cluster);
}
