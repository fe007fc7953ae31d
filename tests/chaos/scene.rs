//! Nodes over some stores, clients at work on them, and what is found of it in the end.

use super::clients::Clients;
use super::node::{self, Node, Settings};
use super::record::{Happened, Loss, Micros, Request, now};
use super::support;
use super::{check, record};
use sqlx::{Connection, PgConnection};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinHandle;
use weir::api::auth::{Claims, ScopeSet, mint};
use weir::clock::{Clock, SystemClock};

/// How long clients may take to get their last answers once nothing fails any more.
const LAST_ANSWERS_SECONDS: i64 = 40;
/// Where the nodes' tables are.
pub const SCHEMA: &str = "chaos";

/// A folder that stays, with the logs in it, if the test fails.
pub struct Folder(Option<tempfile::TempDir>);

impl Folder {
    pub fn new() -> Self {
        Self(Some(tempfile::tempdir().expect("a folder")))
    }

    pub fn path(&self) -> PathBuf {
        self.0.as_ref().expect("a folder").path().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.0.take()
        {
            eprintln!("the nodes' logs are in {}", folder.keep().display());
        }
    }
}

/// How a node reaches its stores.
pub struct Urls {
    pub database: String,
    pub redis: String,
}

pub struct Scene {
    pub nodes: Vec<Arc<Node>>,
    pub clients: Arc<Clients>,
    working: Vec<JoinHandle<()>>,
    seed: u64,
    limit: i64,
    _folder: Folder,
}

pub fn token() -> String {
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

/// Makes the schema in a new database.
pub async fn schema_in(url: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    sqlx::raw_sql("CREATE SCHEMA chaos")
        .execute(&mut connection)
        .await
        .expect("a schema");
}

impl Scene {
    /// Nodes that reach their stores by `urls`, and a hard limit of each workspace in tokens, which clients use up many times over.
    pub fn start(nodes: usize, limit: i64, seed: u64, urls: impl Fn(usize) -> Urls) -> Self {
        let folder = Folder::new();
        let path = folder.path();
        let policies = node::policies(&path, limit);
        let start = |number| {
            let Urls { database, redis } = urls(number);
            let settings = Settings {
                folder: path.clone(),
                policies: policies.clone(),
                database_url: database,
                redis_url: redis,
                more: Vec::new(),
            };
            Arc::new(Node::start(number, settings))
        };
        let nodes: Vec<Arc<Node>> = (0..nodes).map(start).collect();
        Self {
            clients: Arc::new(Clients::new(nodes.clone(), token())),
            nodes,
            working: Vec::new(),
            seed,
            limit,
            _folder: folder,
        }
    }

    /// So many clients begin.
    pub fn work(&mut self, clients: usize) {
        let one = |number| tokio::spawn(self.clients.clone().work(number, self.seed));
        self.working = (0..clients).map(one).collect();
    }

    /// Does something to the service, on a thread that may wait, and writes it down.
    pub async fn strike<T: Send + 'static>(
        &self,
        what: &str,
        hides_redis: bool,
        strike: impl FnOnce() -> (T, Option<Loss>) + Send + 'static,
    ) -> T {
        let began = now();
        let (result, loss) = tokio::task::spawn_blocking(strike).await.expect("it is done");
        self.clients.record.happened(Happened {
            what: what.to_owned(),
            began,
            ended: now(),
            hides_redis,
            parts_redis: false,
            loss,
        });
        result
    }

    /// Ends the clients, waits until all is quiet, and compares what they were told with what is in this database and in the counters.
    pub async fn judge(self, database_url: &str) {
        self.clients.stop(LAST_ANSWERS_SECONDS);
        for client in self.working {
            client.await.expect("a client");
        }
        let requests = self.clients.record.requests();
        tell(&self.clients, &requests);
        let books = check::until_quiet(&self.clients, database_url, self.limit).await;
        check::all(&self.clients, &requests, &books, self.limit).await;
        let wrong = self.clients.record.all_wrong();
        for what in wrong.iter().take(10) {
            println!("WRONG: {what}");
        }
        assert!(
            wrong.is_empty(),
            "{} things are wrong with WEIR_CHAOS_SEED={}",
            wrong.len(),
            self.seed
        );
    }
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

fn seconds(micros: Micros) -> f64 {
    micros as f64 / record::SECOND as f64
}
