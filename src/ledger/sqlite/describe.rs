//! Writes of what is described rather than counted: workspaces, policies, kept answers. They are rare, and each is a step of a batch: the
//! writer knows that there is one, and not what it is.

use super::fault::Fault;
use super::writer::{Call, Described};
use super::{Connection, File, audited, eventing, history_read, objects, posting, read};
use crate::decision::event::Event;
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::audit::Audited;
use crate::ledger::record::hex;
use crate::ledger::{KeptAnswer, PolicyChange, sql};
use async_trait::async_trait;

/// A write, and what its caller learns of it.
#[async_trait]
pub(super) trait Description<T>: Send + Sync + 'static {
    /// Writes inside of the batch's transaction. False beside the answer: what it wrote is taken back.
    async fn write(&self, connection: &mut Connection) -> Result<(T, bool), Fault>;
}

#[async_trait]
impl<D: Description<T>, T: Send + 'static> Described for Call<D, T> {
    async fn write(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        execute(connection, "SAVEPOINT description").await?;
        let (answer, is_kept) = self.ask.write(connection).await?;
        if !is_kept {
            execute(connection, "ROLLBACK TO description").await?;
        }
        execute(connection, "RELEASE description").await?;
        self.outcome = Some(Ok(answer));
        Ok(())
    }

    fn answer(self: Box<Self>, committed: &Result<(), Fault>, file: &File) {
        Call::answer(*self, committed, file);
    }
}

async fn execute(connection: &mut Connection, statement: &'static str) -> Result<(), Fault> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
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
        if history_read::is_gone(connection, self.workspace.plan_id.as_ref()).await? {
            return Ok((false, false));
        }
        let is_put = match self.expected_version {
            0 => posting::create_workspace(connection, &self.workspace).await?,
            expected => posting::replace_workspace(connection, &self.workspace, expected).await?,
        };
        if is_put {
            posting::number_workspace(connection, &self.workspace.id).await?;
            audited::write(connection, std::slice::from_ref(&self.audited)).await?;
            eventing::add(connection, &self.events).await?;
        }
        Ok((is_put, is_put))
    }
}

#[async_trait]
impl Description<Option<i64>> for PolicyChange {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<i64>, bool), Fault> {
        if read::policy_version(connection).await? != self.expected_version || history_read::would_strand(connection, self).await? {
            return Ok((None, false));
        }
        let version = self.expected_version + 1;
        let head = sqlx::query(sql::ADD_POLICY_VERSION).bind(version).bind(self.now.micros());
        let head = head.bind(&self.by.actor).bind(&self.by.reason).bind(&self.files_hash);
        head.execute(&mut *connection).await?;
        objects::write(connection, self, version).await?;
        audited::write(connection, &self.audited).await?;
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
        let keep = sqlx::query(sql::KEEP_ANSWER)
            .bind(hex(self.key))
            .bind(hex(self.answer.fingerprint))
            .bind(i64::from(self.answer.status))
            .bind(&self.answer.content_type)
            .bind(&self.answer.body)
            .bind(self.answer.at.micros())
            .bind(self.since.micros());
        keep.execute(&mut *connection).await?;
        let forget = sqlx::query(sql::FORGET_ANSWERS).bind(self.since.micros());
        forget.execute(&mut *connection).await?;
        let kept = read::answer(connection, self.key, self.since).await?;
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
        let statement = sqlx::query(sql::EXTEND_CHECKPOINT)
            .bind(self.reservation.to_string())
            .bind(self.until.micros());
        statement.execute(connection).await?;
        Ok(((), true))
    }
}
