//! Where the database is, and how connections to it are made. The password never leaves the options.

use super::fault::Fault;
use super::reach::Reach;
use crate::ledger::LedgerError;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// How the schema came to be, compiled in. A schema that a later version has added to is taken all the same: during a deployment nodes of
/// both versions start, and what is added is in nobody's way.
pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("./migrations/postgres");
    migrations.set_ignore_missing(true);
    migrations
});
/// How many reads and rare writes run at once.
const POOL_CONNECTIONS_MAX: u32 = 8;
/// How many batches of posts are under way at once: while one waits for the disk, another one works.
const WRITERS: usize = 2;
/// How long a read waits for a connection.
const POOL_WAIT_SECONDS: u64 = 5;
/// How long it takes at most to connect, or to find out that one cannot.
const CONNECT_SECONDS_MAX: u64 = 5;
/// How long a statement may take; it is ended, and nothing of it is written.
const STATEMENT_SECONDS_MAX: u32 = 30;
/// How long an answer is waited for, in case it is the network that is gone: longer than the server works on it.
const ANSWER_SECONDS_MAX: u64 = STATEMENT_SECONDS_MAX as u64 + 5;
/// How long a statement waits for the locks of others.
const LOCK_WAIT_MILLIS: u32 = 1_000;
/// How long a batch of many workspaces may take, and wait for a lock: beyond it they are told apart, and the slow one goes by itself.
const BATCH_MILLIS_MAX: u32 = 500;
const BATCH_LOCK_WAIT_MILLIS: u32 = 200;
/// The same of births of sums, which others seldom wait for, and of which one may be over a million entries.
const BIRTHS_MILLIS_MAX: u32 = 250;
/// How long the server waits for the rest of a transaction of ours before it ends it, locks and all.
const IDLE_IN_TRANSACTION_SECONDS_MAX: u32 = 5;
/// How long a migration is tried again while others use its tables, and how long they are left alone in between.
const MIGRATE_SECONDS_MAX: u64 = 10 * 60;
const MIGRATE_AGAIN_MILLIS: u64 = 500;
/// How many statements a connection keeps prepared.
const STATEMENTS_KEPT_MAX: usize = 64;

/// How much time the statements of a connection that writes may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    Posts,
    Births,
    /// As long as they need.
    Patient,
}

impl Pace {
    /// For a statement, and for a lock, in milliseconds; 0: no limit.
    fn millis(self) -> (u32, u32) {
        match self {
            Pace::Posts => (BATCH_MILLIS_MAX, BATCH_LOCK_WAIT_MILLIS),
            Pace::Births => (BIRTHS_MILLIS_MAX, BATCH_LOCK_WAIT_MILLIS),
            Pace::Patient => (0, LOCK_WAIT_MILLIS),
        }
    }
}

/// Where the ledger is, and how it is reached.
pub(super) struct Server {
    pub(super) options: PgConnectOptions,
    /// For people: where it is, without any secret.
    pub(super) place: String,
    /// How many connections write posts.
    pub(super) writers: usize,
    /// How many connections read and describe.
    pub(super) pool_max: u32,
    pub(super) pool_wait: Duration,
    /// How long an answer is waited for before the connection is given up.
    pub(super) answer_wait: Duration,
    pub(super) reach: Reach,
}

impl Server {
    pub(super) fn parse(url: &str) -> Result<Self, LedgerError> {
        let options = PgConnectOptions::from_str(url).map_err(|_| LedgerError::Unavailable {
            act: "be opened",
            cause: "the database's URL cannot be read: it looks like postgres://user:password@host:5432/database".into(),
        })?;
        let place = match options.get_socket() {
            Some(socket) => format!("the PostgreSQL at {}", socket.display()),
            None => format!("the PostgreSQL at {}:{}", options.get_host(), options.get_port()),
        };
        let place = format!("{place}, database {}", options.get_database().unwrap_or("of its user"));
        let options = options
            .application_name("weir")
            .statement_cache_capacity(STATEMENTS_KEPT_MAX)
            .options([
                // That a table exists already is no news for a log.
                ("client_min_messages", "warning".to_owned()),
                ("default_transaction_isolation", "read committed".to_owned()),
                ("statement_timeout", format!("{STATEMENT_SECONDS_MAX}s")),
                ("lock_timeout", format!("{LOCK_WAIT_MILLIS}ms")),
                ("idle_in_transaction_session_timeout", format!("{IDLE_IN_TRANSACTION_SECONDS_MAX}s")),
                // Statements here are short, whatever a planner fears of many months: compiling one took 40 times as long as answering it.
                ("jit", "off".to_owned()),
                // A server whose client is gone without a word finds out in a minute and not in hours.
                ("tcp_keepalives_idle", "30".to_owned()),
                ("tcp_keepalives_interval", "10".to_owned()),
                ("tcp_keepalives_count", "3".to_owned()),
            ]);
        Ok(Self {
            options,
            place,
            writers: WRITERS,
            pool_max: POOL_CONNECTIONS_MAX,
            pool_wait: Duration::from_secs(POOL_WAIT_SECONDS),
            answer_wait: Duration::from_secs(ANSWER_SECONDS_MAX),
            reach: Reach::default(),
        })
    }

    /// A connection that belongs to no pool.
    pub(super) async fn connect(&self) -> Result<PgConnection, Fault> {
        self.connect_with(&self.options).await
    }

    /// A connection whose statements may take as long as they need.
    pub(super) async fn connect_patiently(&self) -> Result<PgConnection, Fault> {
        self.connect_with(&self.options.clone().options([("statement_timeout", "0")])).await
    }

    /// A connection for writes that are answered for: the server says "committed" only when it is on the disk, whatever it does for others.
    pub(super) async fn connect_durably(&self, pace: Pace) -> Result<PgConnection, Fault> {
        let (statement, lock) = pace.millis();
        let limits = [("statement_timeout", statement), ("lock_timeout", lock)];
        let limits = limits.map(|(name, millis)| (name, format!("{millis}ms")));
        let mut connection = self.connect_with(&self.options.clone().options(limits)).await?;
        sqlx::query("SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    /// What `asked` comes to, unless the answer does not come: then nothing is known, and its connection must not be used again.
    pub(super) async fn answer<T>(&self, asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::time::timeout(self.answer_wait, asked).await.unwrap_or(Err(Fault::Silent))
    }

    /// Connections are made when they are asked for.
    pub(super) fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(self.pool_max)
            .acquire_timeout(self.pool_wait)
            .connect_lazy_with(self.options.clone())
    }

    /// A pool for one listener, which makes its connection anew when it loses it.
    pub(super) fn pool_of_one(&self) -> PgPool {
        PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone())
    }

    /// Brings the schema up to date. An advisory lock lets one node do it; the others wait, for as long as it takes, and find it done. A table
    /// is not waited for as long: whoever asks for it later would wait behind the migration, which steps back and tries again.
    pub(super) async fn migrate(&self) -> Result<(), Fault> {
        let options = self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let mut connection = self.connect_with(&options).await?;
        sqlx::query("SELECT pg_advisory_lock(hashtext(concat(current_schema(), ' weir migrate')))")
            .execute(&mut connection)
            .await?;
        sqlx::query(AssertSqlSafe(format!("SET lock_timeout = '{LOCK_WAIT_MILLIS}ms'")))
            .execute(&mut connection)
            .await?;
        let give_up = Instant::now() + Duration::from_secs(MIGRATE_SECONDS_MAX);
        while let Err(error) = MIGRATIONS.run_direct(None, &mut connection, false).await {
            let fault = Fault::Migration(Arc::new(error));
            if !fault.is_contention() || Instant::now() > give_up {
                return Err(fault);
            }
            tracing::info!("a table that the schema's next version changes is in use; it is tried again");
            tokio::time::sleep(Duration::from_millis(MIGRATE_AGAIN_MILLIS)).await;
        }
        // Closed and not only dropped, so that the lock is free at once.
        sqlx::Connection::close(connection).await?;
        Ok(())
    }

    /// Whether the schema is as new as this program wants it, which changes nothing.
    pub(super) async fn check_schema(&self) -> Result<(), Fault> {
        let mut connection = self.connect_with(&self.options).await?;
        let is_there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut connection)
            .await?;
        let found: Option<i64> = match is_there {
            true => {
                sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                    .fetch_one(&mut connection)
                    .await?
            }
            false => None,
        };
        sqlx::Connection::close(connection).await?;
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        match found.unwrap_or(0) {
            found if found < known => Err(Fault::Schema { found, known }),
            _ => Ok(()),
        }
    }

    async fn connect_with(&self, options: &PgConnectOptions) -> Result<PgConnection, Fault> {
        let wait = self.answer_wait.min(Duration::from_secs(CONNECT_SECONDS_MAX));
        match tokio::time::timeout(wait, options.connect()).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Fault::Silent),
        }
    }
}
