//! The ledger in PostgreSQL: one database, for any number of nodes that write at once.
//!
//! Posts go through a few writers ([`writer`]); each takes what waits and has it written in one call of `post_batch_watched`, which locks, decides
//! and commits by itself (`migrations/postgres/0002_post_batch.sql` has the rules). So no turn of a node holds the lock of a workspace, and
//! a node that stops in the middle of something keeps nobody waiting; but for posts that grants may have to pay for ([`paid`]), where
//! time-outs bound how long. Everything here reads from the primary.
//!
//! Every write runs in a task of its own: a caller who hangs up changes nothing of it. A time-out or a lost connection means that nothing is
//! known; the same ids asked again get the answer.

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
use follow::Follower;
use server::Server;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use std::sync::Arc;
use writer::Writers;

/// Reads with a connection of the pool, and names what was to be read if it fails.
macro_rules! read {
    ($ledger:ident, $act:literal, $function:ident($($argument:expr),*)) => {
        read!($ledger, $act, read::$function($($argument),*))
    };
    ($ledger:ident, $act:literal, $from:ident::$function:ident($($argument:expr),*)) => {{
        let result = async {
            let mut connection = $ledger.reader().await?;
            let result = $ledger.server.answer($from::$function(&mut *connection, $($argument),*)).await;
            if matches!(result, Err(Fault::Silent)) {
                drop(connection.detach());
            }
            result
        };
        $ledger.told($act, result.await)
    }};
}

#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../adjusting.rs"]
mod adjusting;
mod admin;
mod api_keys;
mod aside;
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
mod call;
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
mod follow;
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
mod months;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../objects.rs"]
mod objects;
mod paid;
#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../paying.rs"]
mod paying;
mod reach;
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
mod server;
mod sql;
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
type Connection = PgConnection;

/// What an older schema means to whoever opens the database.
#[derive(Clone, Copy)]
enum Schema {
    BroughtUpToDate,
    Checked,
}

/// A ledger in a PostgreSQL database.
pub struct PostgresLedger {
    server: Arc<Server>,
    pool: PgPool,
    writers: Writers,
    follower: Follower,
    months: months::Keeper,
}

impl PostgresLedger {
    /// Opens the ledger of a database (`postgres://user:password@host:port/database`) and brings its schema up to date, which one node
    /// does while the others wait. What it does besides requests lives in the runtime that this is called in.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        Self::open_with(Server::parse(url)?, Schema::BroughtUpToDate).await
    }

    /// Opens it as it is: a schema that is older than this program is an error. For what only looks, beside nodes that run.
    pub async fn open_as_it_is(url: &str) -> Result<Self, LedgerError> {
        Self::open_with(Server::parse(url)?, Schema::Checked).await
    }

    async fn open_with(server: Server, schema: Schema) -> Result<Self, LedgerError> {
        let server = Arc::new(server);
        let opened = async {
            match schema {
                Schema::BroughtUpToDate => server.migrate().await?,
                Schema::Checked => server.check_schema().await?,
            }
            let writers = Writers::start(&server).await?;
            Ok(writers)
        };
        let writers = opened.await.map_err(|fault: Fault| fault.told("be opened", &server.place))?;
        let pool = server.pool();
        Ok(Self {
            follower: Follower::start(&server),
            months: months::Keeper::start(&server).await,
            writers,
            pool,
            server,
        })
    }

    /// A connection of the pool, for reading.
    async fn reader(&self) -> Result<PoolConnection<Postgres>, Fault> {
        self.server.connection_of(&self.pool).await
    }

    fn told<T>(&self, act: &'static str, result: Result<T, Fault>) -> Result<T, LedgerError> {
        result.map_err(|fault| fault.told(act, &self.server.place))
    }

    async fn describe<T: Send + 'static>(&self, act: &'static str, description: impl Description<T>) -> Result<T, LedgerError> {
        let described = describe::describe(self.server.clone(), self.pool.clone(), description);
        self.told(act, described.await)
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn post(&self, post: Post) -> Result<Posted, LedgerError> {
        self.told("record a post", self.writers.post(post).await)
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
        self.told("begin new sums", self.writers.name(naming).await)?;
        read!(self, "read sums", sums(workspace, whose, now))
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
        self.follower.changed().await;
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
        self.told("find out who leads", lead::try_lead(&self.server, what).await)
    }

    async fn verify_page(&self, after: Option<&(WorkspaceId, Counter)>, limit: usize) -> Result<Verified, LedgerError> {
        let result = async {
            let mut patient = self.server.connect_patiently().await?;
            read::verified(&mut patient, after, limit).await
        };
        self.told("verify its sums", result.await)
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        read!(self, "answer", ping())
    }

    async fn clock(&self) -> Result<Option<Timestamp>, LedgerError> {
        let result = async { inspect::clock(&mut *self.reader().await?).await };
        self.told("tell its time", result.await).map(Some)
    }

    async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, LedgerError> {
        let result = async { inspect::inspect(&mut *self.reader().await?, &self.server.place, now).await };
        self.told("be inspected", result.await)
    }

    async fn close(&self) {
        self.months.stop();
        self.follower.stop();
        self.writers.stop().await;
        self.pool.close().await;
    }
}

#[async_trait]
impl EndsLedger for PostgresLedger {
    async fn ends_page(&self, after: &EndsPlace, limit: usize) -> Result<EndsPage, LedgerError> {
        let result = async {
            let mut patient = self.server.connect_patiently().await?;
            read_ends::ends_page(&mut patient, after, limit).await
        };
        self.told("hold its ends against its entries", result.await)
    }

    async fn checkpoints_page(&self, from: Timestamp, after: Option<ReservationId>, limit: usize) -> Result<CheckpointsPage, LedgerError> {
        let result = async { read_ends::checkpoints_page(&mut *self.reader().await?, from, after, limit).await };
        self.told("read open checkpoints", result.await)
    }
}
