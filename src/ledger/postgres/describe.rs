//! Writes of what is described rather than counted: workspaces, policies, and how long a checkpoint lives. They are rare, so each is a
//! transaction of its own, in a task of its own: nobody who hangs up leaves one half done on a pooled connection.

use super::fault::Fault;
use super::server::Server;
use super::{Connection, audited, eventing, follow, history_read, objects, read, sql};
use crate::decision::event::Event;
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::audit::Audited;
use crate::ledger::record::{Record, WorkspaceRecord, hex};
use crate::ledger::{KeptAnswer, PolicyChange, sql as shared};
use async_trait::async_trait;
use sqlx::postgres::PgArguments;
use sqlx::{Connection as _, PgPool};
use std::sync::Arc;

/// A write, and what its caller learns of it.
#[async_trait]
pub(super) trait Description<T>: Send + Sync + 'static {
    /// Writes inside of a transaction. False beside the answer: it is rolled back.
    async fn write(&self, connection: &mut Connection) -> Result<(T, bool), Fault>;
}

/// How often contention is tried again: nothing was written by then.
const ATTEMPTS_MAX: u32 = 4;

/// Writes in a task of its own.
pub(super) async fn describe<T: Send + 'static>(server: Arc<Server>, pool: PgPool, what: impl Description<T>) -> Result<T, Fault> {
    let task = async move {
        let mut attempt = 1;
        loop {
            match once(&server, &pool, &what).await {
                Err(fault) if fault.is_contention() && attempt < ATTEMPTS_MAX => attempt += 1,
                result => return result,
            }
        }
    };
    tokio::spawn(task).await.unwrap_or(Err(Fault::WriterFailed))
}

async fn once<T>(server: &Server, pool: &PgPool, what: &impl Description<T>) -> Result<T, Fault> {
    let mut connection = server.connection_of(pool).await?;
    let written = async {
        let mut transaction = connection.begin().await?;
        // Dropped on the way out, a transaction is rolled back.
        let (answer, is_kept) = what.write(&mut transaction).await?;
        match is_kept {
            true => transaction.commit().await?,
            false => transaction.rollback().await?,
        }
        Ok(answer)
    };
    let result = server.answer(written).await;
    if result.as_ref().is_err_and(Fault::spoils_connection) {
        drop(connection.detach());
    }
    result
}

/// A workspace as it is to be.
pub(super) struct WorkspacePut {
    pub(super) workspace: Workspace,
    /// 0: it is not there.
    pub(super) expected_version: u32,
    pub(super) audited: Audited,
    pub(super) events: Vec<Event>,
}

#[async_trait]
impl Description<bool> for WorkspacePut {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        let mut columns = PgArguments::default();
        let record = WorkspaceRecord::from(&self.workspace);
        record.bind_postgres(&mut columns).map_err(sqlx::Error::Encode)?;
        let statement = match self.expected_version {
            0 => sqlx::query_with(shared::CREATE_WORKSPACE, columns),
            expected => sqlx::query_with(shared::REPLACE_WORKSPACE, columns).bind(i64::from(expected)),
        };
        if statement.execute(&mut *connection).await?.rows_affected() == 0 {
            return Ok((false, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        eventing::add(connection, &self.events).await?;
        // The number is taken last: its lock, which all changes of workspaces share, is held for as short as can be.
        let number: i64 = sqlx::query_scalar(shared::NEXT_WORKSPACE_CHANGE)
            .fetch_one(&mut *connection)
            .await?;
        let numbered = sqlx::query(shared::NUMBER_WORKSPACE).bind(self.workspace.id.as_str()).bind(number);
        numbered.execute(&mut *connection).await?;
        // Under that lock no plan goes.
        if history_read::is_gone(connection, self.workspace.plan_id.as_ref()).await? {
            return Ok((false, false));
        }
        follow::tell(connection).await?;
        Ok((true, true))
    }
}

#[async_trait]
impl Description<Option<i64>> for PolicyChange {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<i64>, bool), Fault> {
        // Whoever puts a workspace on a plan takes this lock too, and what is read after it is read in statements of their own: of a plan
        // that goes and a workspace that comes one is told that it is too late.
        if self.plans_gone().next().is_some() {
            sqlx::query(sql::LOCK_WORKSPACE_CHANGES).execute(&mut *connection).await?;
            if history_read::would_strand(connection, self).await? {
                return Ok((None, false));
            }
        }
        let version = self.expected_version + 1;
        let head = sqlx::query(sql::ADD_NEXT_POLICY_VERSION).bind(version).bind(self.now.micros());
        let head = head
            .bind(&self.by.actor)
            .bind(&self.by.reason)
            .bind(&self.files_hash)
            .bind(self.expected_version);
        if head.execute(&mut *connection).await?.rows_affected() == 0 {
            return Ok((None, false));
        }
        objects::write(connection, self, version).await?;
        audited::write(connection, &self.audited).await?;
        follow::tell(connection).await?;
        Ok((Some(version), true))
    }
}

/// The answer to a request under an `Idempotency-Key`, to be kept unless one is.
pub(super) struct Answering {
    pub(super) key: u128,
    pub(super) answer: KeptAnswer,
    pub(super) since: Timestamp,
}

#[async_trait]
impl Description<KeptAnswer> for Answering {
    async fn write(&self, connection: &mut Connection) -> Result<(KeptAnswer, bool), Fault> {
        let keep = sqlx::query(shared::KEEP_ANSWER)
            .bind(hex(self.key))
            .bind(hex(self.answer.fingerprint));
        let keep = keep.bind(i64::from(self.answer.status)).bind(&self.answer.content_type);
        let keep = keep.bind(&self.answer.body).bind(self.answer.at.micros()).bind(self.since.micros());
        keep.execute(&mut *connection).await?;
        // A statement of its own: it sees the answer that the one before waited for.
        let kept = read::answer(connection, self.key, self.since).await?;
        sqlx::query(shared::FORGET_ANSWERS)
            .bind(self.since.micros())
            .execute(connection)
            .await?;
        Ok((kept.unwrap_or_else(|| self.answer.clone()), true))
    }
}

/// A later expiry of an open checkpoint.
pub(super) struct Extension {
    pub(super) reservation: ReservationId,
    pub(super) until: Timestamp,
}

#[async_trait]
impl Description<()> for Extension {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        let statement = sqlx::query(shared::EXTEND_CHECKPOINT)
            .bind(self.reservation.to_string())
            .bind(self.until.micros());
        statement.execute(connection).await?;
        Ok(((), true))
    }
}
