//! The ledger in SQLite: one file in the data directory, for one process.
//!
//! Writes go through one writer ([`writer`]), which commits what waits together; each commit is on the disk before anybody is answered.
//! Reads have connections of their own, and see every commit that was answered before they began.

use super::audit::Audited;
use super::ends::{CheckpointsPage, EndsLedger, EndsPage, EndsPlace};
use super::{EntryQuery, KeptAnswer, Lead, Ledger, LedgerError, Naming, PolicyChange, PolicyState, Post, Posted, Recorded, Verified};
use crate::counters::SumRow;
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::Entry;
use crate::decision::event::Event;
use crate::decision::finding::Finding;
use crate::decision::id::{EntryId, ReservationId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use async_trait::async_trait;
use describe::Description;
use fault::Fault;
use lead::Leads;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection, SqlitePool};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use writer::{Job, Writer};

/// Reads with a connection of the pool, and names what was to be read if it fails.
macro_rules! read {
    ($ledger:ident, $act:literal, $function:ident($($argument:expr),*)) => {
        read!($ledger, $act, read::$function($($argument),*))
    };
    ($ledger:ident, $act:literal, $from:ident::$function:ident($($argument:expr),*)) => {{
        let result = async { $from::$function(&mut *$ledger.reader().await?, $($argument),*).await };
        $ledger.told($act, result.await)
    }};
}

#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../adjusting.rs"]
mod adjusting;
mod admin;
mod api_keys;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../audited.rs"]
mod audited;
mod batch;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../batches_read.rs"]
mod batches_read;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../batching.rs"]
mod batching;
mod billed;
mod billing;
mod cached;
mod cascade;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../cascaded.rs"]
mod cascaded;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../corrected.rs"]
mod corrected;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../crediting.rs"]
mod crediting;
mod credits;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../daily_read.rs"]
mod daily_read;
mod decisions;
mod describe;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../eventing.rs"]
mod eventing;
mod events;
mod fair_use;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../fair_using.rs"]
mod fair_using;
mod fault;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../granting.rs"]
mod granting;
mod grants;
mod history;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../history_read.rs"]
mod history_read;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../inbound_rows.rs"]
mod inbound_rows;
mod inspect;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../invoice_read.rs"]
mod invoice_read;
mod lead;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../listed.rs"]
mod listed;
mod many;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../objects.rs"]
mod objects;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../paying.rs"]
mod paying;
mod posting;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../read.rs"]
mod read;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../read_ends.rs"]
mod read_ends;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../reigns.rs"]
mod reigns;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../sending.rs"]
mod sending;
mod sql;
mod statement;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../telling.rs"]
mod telling;
#[cfg(test)]
mod tests;
mod told;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../told_read.rs"]
mod told_read;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../webhook_queue_sql.rs"]
mod webhook_queue_sql;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../webhook_sql.rs"]
mod webhook_sql;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../webhook_upkeep_sql.rs"]
mod webhook_upkeep_sql;
mod webhooks;
mod writer;

/// What the shared reads are asked over.
type Connection = SqliteConnection;

/// How the schema came to be, compiled in. A file that a later version has added to is opened all the same: what is added is in nobody's
/// way, and whoever goes back a version should find its ledger.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("./migrations/sqlite");
    migrations.set_ignore_missing(true);
    migrations
});
/// The file's name in the data directory.
const FILE_NAME: &str = "weir.db";
/// How many reads run at once.
const READERS_MAX: u32 = 4;
/// How long a read waits for one of the readers.
const READER_WAIT_SECONDS: u64 = 5;
/// How long a statement waits while another process holds the file's lock.
const LOCK_WAIT_SECONDS: u64 = 5;
/// How much of the file the writer keeps in memory: the keys of reservations are random, so their tree is touched everywhere.
const WRITER_CACHE_KIB: u32 = 65_536;
/// How long the log grows before it is merged into the file. Longer logs are merged more cheaply, and read more slowly.
const LOG_PAGES_MAX: u32 = 16_000;
/// How many rows of an answer wait between SQLite's thread and ours.
const ROW_BUFFER_ROWS: usize = 1_024;
/// How many statements a connection keeps prepared: those of a batch are one for each number of rows.
const STATEMENTS_KEPT_MAX: usize = 512;

/// A ledger in one SQLite file.
pub struct SqliteLedger {
    file: Arc<File>,
    readers: SqlitePool,
    writer: Writer,
    leads: Leads,
}

/// Where the ledger is, and how it is opened.
struct File {
    path: PathBuf,
    options: SqliteConnectOptions,
}

impl File {
    fn new(dir: &Path) -> Self {
        let path = dir.join(FILE_NAME);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(Duration::from_secs(LOCK_WAIT_SECONDS))
            .row_buffer_size(ROW_BUFFER_ROWS)
            .statement_cache_capacity(STATEMENTS_KEPT_MAX);
        Self { path, options }
    }

    async fn open_for_writing(&self) -> Result<SqliteConnection, Fault> {
        let options = self.options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let options = options
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
            .pragma("wal_autocheckpoint", LOG_PAGES_MAX.to_string())
            // Without this REPLACE would delete an entry behind the triggers' back.
            .pragma("recursive_triggers", "ON");
        Ok(options.connect().await?)
    }

    async fn open_for_reading(&self) -> Result<SqlitePool, Fault> {
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(Duration::from_secs(READER_WAIT_SECONDS));
        Ok(pool.connect_with(self.options.clone().read_only(true)).await?)
    }
}

impl SqliteLedger {
    /// Opens the ledger of a data directory, makes it if it is not there, and brings its schema up to date. The writer lives in the
    /// runtime that this is called in.
    pub async fn open(dir: &Path) -> Result<Self, LedgerError> {
        Self::open_file(File::new(dir)).await
    }

    /// Whether a data directory has a ledger already.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(FILE_NAME).is_file()
    }

    async fn open_file(file: File) -> Result<Self, LedgerError> {
        let file = Arc::new(file);
        let opened = async {
            if let Some(dir) = file.path.parent() {
                tokio::fs::create_dir_all(dir).await.map_err(Arc::new)?;
            }
            let mut connection = file.open_for_writing().await?;
            // `run` would do, but its future is `Send` for no lifetime that a caller could name.
            MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(Arc::new)?;
            Ok((connection, file.open_for_reading().await?))
        };
        let (connection, readers) = opened.await.map_err(|fault: Fault| fault.told("be opened", &file.path))?;
        Ok(Self {
            writer: Writer::start(file.clone(), connection),
            readers,
            leads: Leads::default(),
            file,
        })
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        Ok(self.readers.acquire().await?)
    }

    async fn describe<T: Send + 'static>(&self, act: &'static str, description: impl Description<T>) -> Result<T, LedgerError> {
        self.writer.ask(act, description, |call| Job::Describe(Box::new(call))).await
    }

    fn told<T>(&self, act: &'static str, result: Result<T, Fault>) -> Result<T, LedgerError> {
        result.map_err(|fault| fault.told(act, &self.file.path))
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn post(&self, post: Post) -> Result<Posted, LedgerError> {
        self.writer.ask("record a post", post, |call| Job::Post(Box::new(call))).await
    }

    async fn standing(&self, reservation: ReservationId) -> Result<Option<Standing>, LedgerError> {
        let mut standings = self.standings(&[reservation]).await?;
        Ok(standings.pop().map(|(_, standing)| standing))
    }

    async fn standings(&self, reservations: &[ReservationId]) -> Result<Vec<(ReservationId, Standing)>, LedgerError> {
        read!(self, "read how reservations stand", standings(reservations))
    }

    async fn rows(&self, workspace: &WorkspaceId, whose: &Whose, named: &[Counter], now: Timestamp) -> Result<Vec<SumRow>, LedgerError> {
        let rows: Vec<SumRow> = read!(self, "read sums", sums(workspace, whose, now))?;
        let naming = Naming::missing(workspace, whose, named, &rows, now);
        // A workspace that has rows exists.
        if naming.counters.is_empty() && (!rows.is_empty() || self.workspace(workspace).await?.is_some()) {
            return Ok(rows);
        }
        self.writer.ask("begin new sums", naming, Job::Name).await
    }

    async fn checkpoints_due(&self, now: Timestamp, limit: usize) -> Result<Vec<(ReservationId, Standing)>, LedgerError> {
        read!(self, "read which checkpoints are due", checkpoints_due(now, limit))
    }

    async fn extend_checkpoint(&self, reservation: ReservationId, until: Timestamp) -> Result<(), LedgerError> {
        self.describe("extend a checkpoint", describe::Extension { reservation, until })
            .await
    }

    async fn entries(&self, query: &EntryQuery) -> Result<Vec<Entry>, LedgerError> {
        read!(self, "list entries", entries(query))
    }

    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<Workspace>, LedgerError> {
        read!(self, "read a workspace", workspace(id))
    }

    async fn put_workspace_and_tell(
        &self,
        workspace: &Workspace,
        expected_version: u32,
        audited: Audited,
        events: Vec<Event>,
    ) -> Result<bool, LedgerError> {
        let put = describe::WorkspacePut {
            workspace: workspace.clone(),
            expected_version,
            audited,
            events,
        };
        self.describe("write a workspace", put).await
    }

    async fn workspace_on_plan(&self, plan: &str) -> Result<Option<WorkspaceId>, LedgerError> {
        read!(self, "look for workspaces on a plan", workspace_on_plan(plan))
    }

    async fn workspaces_changed(&self, after: i64, limit: usize) -> Result<Vec<(i64, Workspace)>, LedgerError> {
        read!(self, "read which workspaces changed", workspaces_changed(after, limit))
    }

    async fn workspace_change(&self) -> Result<i64, LedgerError> {
        read!(self, "read the newest change of a workspace", workspace_change())
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    async fn policy(&self) -> Result<PolicyState, LedgerError> {
        read!(self, "read the policy", policy())
    }

    async fn policy_at(&self, version: i64) -> Result<Option<PolicyState>, LedgerError> {
        read!(self, "read an earlier policy", policy_at(version))
    }

    async fn policy_version(&self) -> Result<i64, LedgerError> {
        read!(self, "read the policy's version", policy_version())
    }

    async fn change_policy(&self, change: PolicyChange) -> Result<Option<i64>, LedgerError> {
        self.describe("change the policy", change).await
    }

    async fn answer_once(&self, key: u128, answer: Option<KeptAnswer>, since: Timestamp) -> Result<Option<KeptAnswer>, LedgerError> {
        match answer {
            None => read!(self, "recall an answer", answer(key, since)),
            Some(answer) => {
                let answering = describe::Answering { key, answer, since };
                self.describe("keep an answer", answering).await.map(Some)
            }
        }
    }

    async fn recorded_since(&self, from: Timestamp, after: Option<(Timestamp, EntryId)>, limit: usize) -> Result<Recorded, LedgerError> {
        let after = after.map_or((from, None), |(at, id)| (at, Some(id)));
        read!(self, "read what was recorded", recorded(after, limit))
    }

    async fn last_recorded(&self) -> Result<Option<Timestamp>, LedgerError> {
        read!(self, "read when something was recorded last", last_recorded())
    }

    async fn try_lead(&self, what: &str) -> Result<Option<Box<dyn Lead>>, LedgerError> {
        Ok(self.leads.take(what))
    }

    async fn verify_page(&self, after: Option<&(WorkspaceId, Counter)>, limit: usize) -> Result<Verified, LedgerError> {
        read!(self, "verify its sums", verified(after, limit))
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        read!(self, "answer", ping())?;
        self.writer.ask("answer", (), Job::Ping).await
    }

    async fn inspect(&self, _now: Timestamp) -> Result<Vec<Finding>, LedgerError> {
        let result = async { inspect::inspect(&mut *self.reader().await?, &self.file.path).await };
        self.told("be inspected", result.await)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.stop().await;
    }
}

#[async_trait]
impl EndsLedger for SqliteLedger {
    async fn ends_page(&self, after: &EndsPlace, limit: usize) -> Result<EndsPage, LedgerError> {
        let result = async { read_ends::ends_page(&mut *self.reader().await?, after, limit).await };
        self.told("hold its ends against its entries", result.await)
    }

    async fn checkpoints_page(&self, from: Timestamp, after: Option<ReservationId>, limit: usize) -> Result<CheckpointsPage, LedgerError> {
        let result = async { read_ends::checkpoints_page(&mut *self.reader().await?, from, after, limit).await };
        self.told("read open checkpoints", result.await)
    }
}
