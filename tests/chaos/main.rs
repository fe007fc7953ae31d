//! The production profile under fire: three nodes, one Redis with a replica and one PostgreSQL, clients that go on whatever happens, and
//! faults by a schedule that a seed decides. In the end all is quiet, and what clients were told is compared with what is in the stores.
//!
//! `WEIR_CHAOS_SECONDS` makes it longer, `WEIR_CHAOS_SEED` does a schedule again.

#[path = "../support/mod.rs"]
mod support;

mod books;
mod check;
mod clients;
mod faults;
mod node;
mod reads;
mod record;

use clients::Clients;
use faults::Stores;
use node::{Node, Settings};
use record::Request;
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{postgres::Postgres, redis};
use weir::api::auth::{Claims, ScopeSet, mint};
use weir::clock::{Clock, SystemClock};

const NODES: usize = 3;
const CLIENTS: usize = 24;
/// How long faults go on, unless the environment says otherwise.
const CHAOS_SECONDS: u64 = 40;
/// The hard limit of each workspace in tokens, which clients use up many times over.
const LIMIT: i64 = 6_000;
/// How long clients may take to get their last answers once nothing fails any more.
const LAST_ANSWERS_SECONDS: i64 = 40;
const SCHEMA: &str = "chaos";

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

fn token() -> String {
    let claims = Claims {
        issuer: "weir",
        audience: "weir",
        subject: "chaos",
        scopes: ScopeSet::of_claim("admin"),
        workspace: None,
        issued_at: SystemClock.now(),
        ttl_seconds: 24 * 3_600,
    };
    mint(support::SECRET.as_bytes(), &claims)
}

/// A folder that stays, with the logs in it, if the test fails.
struct Folder(Option<tempfile::TempDir>);

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.0.take()
        {
            eprintln!("the nodes' logs are in {}", folder.keep().display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_kept_once_whatever_fails() {
    if !redis::is_there() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let seed = number("WEIR_CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let seconds = number("WEIR_CHAOS_SECONDS").unwrap_or(CHAOS_SECONDS);
    println!("chaos for {seconds} s by WEIR_CHAOS_SEED={seed}");

    let direct = postgres.url(SCHEMA);
    let mut connection = PgConnection::connect(&direct).await.expect("the database");
    sqlx::raw_sql("CREATE SCHEMA chaos")
        .execute(&mut connection)
        .await
        .expect("a schema");
    drop(connection);
    let stores = Stores::start(postgres);
    let folder = Folder(Some(tempfile::tempdir().expect("a folder")));
    let path = folder.0.as_ref().expect("a folder").path().to_owned();
    let policies = node::policies(&path, LIMIT);
    let start = |number| {
        let settings = Settings {
            folder: path.clone(),
            policies: policies.clone(),
            database_url: stores.database_url(SCHEMA),
            redis_url: stores.redis_url(),
            more: Vec::new(),
        };
        Arc::new(Node::start(number, settings))
    };
    let nodes: Vec<Arc<Node>> = (0..NODES).map(start).collect();
    let clients = Arc::new(Clients::new(nodes.clone(), token()));
    let working: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(clients.clone().work(number, seed)))
        .collect();

    let until = Instant::now() + Duration::from_secs(seconds);
    let shared = clients.clone();
    let faults = tokio::task::spawn_blocking(move || faults::run(stores, &nodes, &shared.record, seed, until));
    let stores = faults.await.expect("the faults are done");
    clients.stop(LAST_ANSWERS_SECONDS);
    for client in working {
        client.await.expect("a client");
    }
    let requests = clients.record.requests();
    tell(&clients, &requests);

    let books = check::until_quiet(&clients, &direct, LIMIT).await;
    check::all(&clients, &requests, &books, LIMIT).await;
    drop(stores);
    let wrong = clients.record.all_wrong();
    for what in wrong.iter().take(10) {
        println!("WRONG: {what}");
    }
    assert!(wrong.is_empty(), "{} things are wrong with WEIR_CHAOS_SEED={seed}", wrong.len());
}

fn tell(clients: &Clients, requests: &[Request]) {
    let happened = clients.record.all_that_happened();
    let first = happened.first().map_or(0, |happened| happened.began);
    for happened in &happened {
        let (at, took) = (happened.began - first, happened.ended - happened.began);
        println!("  {:7.3} s  {:<20} took {:.3} s", seconds(at), happened.what, seconds(took));
    }
    println!("{} requests; calls by answer:", requests.len());
    for ((verb, status, word), count) in record::tally(requests) {
        println!("  {verb:<13} {status:>3} {word:<22} {count:>6}");
    }
}

fn seconds(micros: record::Micros) -> f64 {
    micros as f64 / record::SECOND as f64
}
