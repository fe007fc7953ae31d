//! The stores under a test's service: of the embedded profile, or with `WEIR_TEST_PROFILE=production` a real Redis and a real PostgreSQL that
//! all tests of the process share, each with a database of one and a schema of the other for itself. With `cluster` it is a Redis Cluster of
//! three primaries, which has one database, so each test's keys have a prefix.

use super::{postgres, redis};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use weir::app::{self, StartError};
use weir::clock::Clock;
use weir::counters::redis::RedisSettings;
use weir::flow::{Options, Service};

/// How many tests of one process may have a database of their own in the shared Redis.
const DATABASES: u32 = 4_096;
/// Of one server of a cluster.
const UNLINK_ALL: &str =
    "#!lua flags=allow-cross-slot-keys\nfor _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end";

pub enum Stores {
    Embedded(TempDir),
    Production { database: String, redis: String },
    Cluster { database: String, prefix: String },
}

#[derive(PartialEq)]
enum Profile {
    Embedded,
    Production,
    Cluster,
}

fn profile() -> Profile {
    match std::env::var("WEIR_TEST_PROFILE").as_deref() {
        Err(_) | Ok("embedded") => Profile::Embedded,
        Ok("production") => Profile::Production,
        Ok("cluster") => Profile::Cluster,
        Ok(other) => panic!("WEIR_TEST_PROFILE is embedded, production or cluster, not {other}"),
    }
}

/// Whether the suites run on Redis and PostgreSQL.
pub fn is_production() -> bool {
    profile() != Profile::Embedded
}

/// Whether there are servers for tests of the production profile alone; says so if not.
pub fn can_be_production() -> bool {
    redis::is_there() && postgres::shared().is_some()
}

/// The server that all tests of this process share.
fn shared_redis() -> &'static redis::Server {
    static REDIS: OnceLock<redis::Server> = OnceLock::new();
    REDIS.get_or_init(|| redis::Server::start_with(&["--databases", &DATABASES.to_string()]))
}

/// The cluster that all tests of this process share.
fn shared_cluster() -> &'static redis::Cluster {
    static CLUSTER: OnceLock<redis::Cluster> = OnceLock::new();
    CLUSTER.get_or_init(redis::Cluster::start)
}

fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < DATABASES, "more tests than databases");
    number
}

/// The URL of a schema that nobody has used.
async fn empty_schema(server: &postgres::Postgres, number: u32) -> String {
    let schema = format!("test_{number}");
    let database = server.url(&schema);
    let mut connection = PgConnection::connect(&database).await.expect("the database");
    let create = sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}")));
    create.execute(&mut connection).await.expect("a schema");
    database
}

impl Stores {
    /// Empty stores of the profile under test.
    pub async fn empty() -> Self {
        match profile() {
            Profile::Embedded => Self::Embedded(tempfile::tempdir().expect("a directory")),
            _ => Self::empty_production().await,
        }
    }

    /// An empty database and an empty Redis.
    pub async fn empty_production() -> Self {
        let server = postgres::shared().expect("a PostgreSQL for the production profile");
        Self::empty_production_in(server).await
    }

    /// An empty database in this server, and an empty Redis.
    pub async fn empty_production_in(server: &postgres::Postgres) -> Self {
        let number = next_number();
        let database = empty_schema(server, number).await;
        match profile() {
            Profile::Cluster => Self::Cluster {
                database,
                prefix: format!("test-{number}:"),
            },
            _ => Self::Production {
                database,
                redis: format!("{}/{number}", shared_redis().url()),
            },
        }
    }

    /// An empty database, and this Redis.
    pub async fn empty_production_on(redis: String) -> Self {
        let server = postgres::shared().expect("a PostgreSQL for the production profile");
        Self::Production {
            database: empty_schema(server, next_number()).await,
            redis,
        }
    }

    /// Empties the Redis of these stores.
    pub fn flush(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::Production { redis, .. } => {
                let number = redis.rsplit('/').next().expect("a database");
                shared_redis().cli(&["-n", number, "FLUSHDB"]);
            }
            Self::Cluster { prefix, .. } => {
                for server in &shared_cluster().servers {
                    server.cli(&["EVAL", UNLINK_ALL, "0", &format!("{prefix}*")]);
                }
            }
        }
    }

    /// The URL of the ledger's database, of the production profile.
    pub fn database(&self) -> &str {
        match self {
            Self::Production { database, .. } | Self::Cluster { database, .. } => database,
            Self::Embedded(_) => panic!("the production profile"),
        }
    }

    /// The same Redis, and a ledger that is reached in another way.
    pub fn through(&self, database: String) -> Self {
        match self {
            Self::Production { redis, .. } => Self::Production {
                database,
                redis: redis.clone(),
            },
            Self::Cluster { prefix, .. } => Self::Cluster {
                database,
                prefix: prefix.clone(),
            },
            Self::Embedded(_) => panic!("the production profile"),
        }
    }

    /// Lets nobody write an answer to a request into the ledger, until what is returned is dropped.
    pub async fn keep_answers_waiting(&self) -> Box<dyn Send> {
        match self {
            Self::Embedded(directory) => {
                let file = SqliteConnectOptions::new().filename(directory.path().join("weir.db"));
                let mut connection = SqliteConnection::connect_with(&file).await.expect("the ledger");
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("alone");
                Box::new(connection)
            }
            Self::Production { database, .. } | Self::Cluster { database, .. } => {
                let mut connection = PgConnection::connect(database).await.expect("the ledger");
                let alone = sqlx::raw_sql("BEGIN; LOCK TABLE answer IN ACCESS EXCLUSIVE MODE");
                alone.execute(&mut connection).await.expect("alone");
                Box::new(connection)
            }
        }
    }

    /// A service on these stores; of the production profile there may be several.
    pub async fn open(&self, policies: &Path, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<Service>, StartError> {
        let (database, redis) = match self {
            Self::Embedded(directory) => return app::embedded(directory.path(), policies, clock, options).await,
            Self::Production { database, redis } => (database, RedisSettings::new(redis)),
            Self::Cluster { database, prefix } => {
                let settings = RedisSettings::new(&shared_cluster().url());
                let prefix = format!("{prefix}{}", settings.prefix);
                (database, RedisSettings { prefix, ..settings })
            }
        };
        // Debug builds on two busy cores are late more often than a service should be.
        let patient = RedisSettings {
            response_timeout: Duration::from_secs(5),
            ..redis
        };
        app::production(database, patient, policies, clock, options).await
    }
}
