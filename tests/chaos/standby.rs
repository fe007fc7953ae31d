//! A standby of PostgreSQL takes the primary's place: synchronous, so that what was answered for is on both.

use super::scene::{SCHEMA, Scene, Urls, schema_in};
use super::seed_and_seconds;
use super::support::local;
use super::support::postgres::Postgres;
use super::support::proxy::Proxy;
use super::support::redis::{Server, is_there};
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};

const NODES: usize = 2;
const CLIENTS: usize = 8;
const LIMIT: i64 = 6_000;
/// How long primaries are killed, one after the other, unless the environment says otherwise: one.
const SECONDS: u64 = 1;
/// How long clients work before and after each.
const BETWEEN: Duration = Duration::from_secs(2);

/// Commits wait for the standby from now on.
async fn wait_for_standby(primary: &Postgres) {
    let mut connection = PgConnection::connect(&primary.url("public")).await.expect("the primary");
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut connection).await.expect("set");
    }
    let began = Instant::now();
    let states = "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    while sqlx::query_scalar::<_, i64>(states)
        .fetch_one(&mut connection)
        .await
        .expect("a count")
        == 0
    {
        assert!(began.elapsed() < Duration::from_secs(20), "the standby follows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The primary dies, the standby is promoted, and the address that the nodes know leads to it, as an operator's would.
fn take_over(primary: Postgres, standby: Postgres, way: Proxy) -> (Postgres, Proxy) {
    primary.stop_immediately();
    standby.promote();
    way.lead_to(local(standby.port()));
    way.cut_once();
    (standby, way)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_the_place_of_the_ledger_and_nothing_answered_for_is_lost() {
    if !is_there() {
        return;
    }
    let Some(mut primary) = Postgres::start() else { return };
    let (seed, seconds) = seed_and_seconds(SECONDS);
    let redis = Server::start();
    let mut way = Proxy::to(local(primary.port()));
    schema_in(&primary.url(SCHEMA)).await;
    let mut scene = Scene::start(NODES, LIMIT, seed, |_| Urls {
        database: primary.url_at(way.port(), SCHEMA),
        redis: redis.url(),
    });
    scene.work(CLIENTS);
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let standby = primary.standby();
        wait_for_standby(&primary).await;
        tokio::time::sleep(BETWEEN).await;
        let taken_over = scene.strike("a standby takes over", false, move || (take_over(primary, standby, way), None));
        (primary, way) = taken_over.await;
        if Instant::now() > until {
            break;
        }
    }
    tokio::time::sleep(BETWEEN).await;
    scene.judge(&primary.url(SCHEMA)).await;
}
