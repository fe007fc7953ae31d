//! The contract over PostgreSQL, and what only a server can do: be shared, be away, be slow, and lose its answers.

use super::*;
use crate::ledger::contract::book::Book;
use crate::ledger::contract::{Fixture, ledger_contract};
use sqlx::AssertSqlSafe;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod aside;
mod away;
mod ends;
mod kept;
mod plans;
mod several;
mod snapshot;
mod tls;

#[path = "../../../tests/support/proxy.rs"]
mod proxy;
#[path = "../../../tests/support/postgres.rs"]
mod server_of_tests;

use server_of_tests::Postgres as TestServer;

/// A ledger in a schema of its own.
struct InSchema {
    url: String,
    ledger: Arc<PostgresLedger>,
}

/// The URL of a schema that nobody has used yet.
async fn new_schema(server: &TestServer) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let schema = format!("case_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut stranger = stranger(&server.url(&schema)).await;
    execute(&mut stranger, &format!("CREATE SCHEMA {schema}")).await.expect("a schema");
    server.url(&schema)
}

async fn open(url: &str) -> Arc<PostgresLedger> {
    Arc::new(PostgresLedger::open(url).await.expect("a ledger"))
}

/// Anybody's connection to the database.
async fn stranger(url: &str) -> PgConnection {
    <PgConnection as sqlx::Connection>::connect(url).await.expect("the database")
}

async fn execute(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

async fn is_true(connection: &mut PgConnection, query: &'static str) -> bool {
    let answer = sqlx::query_scalar(query).fetch_one(connection).await;
    answer.expect("the database")
}

async fn in_schema() -> Option<Box<dyn Fixture>> {
    let url = new_schema(server_of_tests::shared()?).await;
    let ledger = open(&url).await;
    Some(Box::new(InSchema { url, ledger }))
}

#[async_trait]
impl Fixture for InSchema {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    async fn reopen(&mut self) {
        self.ledger.close().await;
        self.ledger = open(&self.url).await;
    }
}

ledger_contract!(in_schema);

/// A book over a new ledger, that ledger, and the URL of its schema.
async fn plain(server: &TestServer) -> (Book, Arc<PostgresLedger>, String) {
    let url = new_schema(server).await;
    let ledger = open(&url).await;
    let fixture = InSchema {
        url: url.clone(),
        ledger: ledger.clone(),
    };
    (Book::over(Box::new(fixture)), ledger, url)
}

/// The whole of an error, causes included.
fn told(error: &LedgerError) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        told += &format!(": {inner}");
        cause = inner.source();
    }
    told
}

/// Tries until it is true, for as long as anybody should have to wait.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    for _ in 0..1_500 {
        if is_true().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// The server of this process, or the end of the test where there is none.
macro_rules! server {
    () => {
        match crate::ledger::postgres::tests::server_of_tests::shared() {
            Some(server) => server,
            None => return,
        }
    };
}
use server;
