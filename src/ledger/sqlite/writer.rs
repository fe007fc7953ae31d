//! The only writer: one task, one connection, one queue. Takes everything that waits, commits it together, then answers each caller.
//!
//! A write that is queued is written, whether or not its caller still waits. Nobody is answered before the commit. A batch runs in a task
//! of its own, so that a panic costs that batch's callers an error and drops the connection, which rolls back; the next batch opens
//! another one.

use super::File;
use super::batch::Write;
use super::fault::Fault;
use super::paying::Due;
use super::{paying, posting, read, telling};
use crate::counters::SumRow;
use crate::decision::grant::Charge;
use crate::ledger::tells::Written;
use crate::ledger::{LedgerError, Naming, Post, Posted};
use async_trait::async_trait;
use sqlx::SqliteConnection;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

/// The most writes that wait; more are refused at once, so that callers know sooner than their time-outs would tell them.
pub(super) const QUEUE_WRITES_MAX: usize = 8_192;
/// The most writes of one commit: it bounds how long the first of them waits for the others.
pub(super) const BATCH_WRITES_MAX: usize = 512;

/// The way to the writer.
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    file: Arc<File>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A write and who asked for it.
pub(super) struct Call<A, T> {
    pub(super) ask: A,
    act: &'static str,
    /// Known before the commit, told after it.
    pub(super) outcome: Option<Result<T, Fault>>,
    caller: oneshot::Sender<Result<T, LedgerError>>,
}

/// A write of which the writer knows no more than that it is one; see [`super::describe`].
#[async_trait]
pub(super) trait Described: Send {
    async fn write(&mut self, connection: &mut SqliteConnection) -> Result<(), Fault>;

    fn answer(self: Box<Self>, committed: &Result<(), Fault>, file: &File);
}

pub(super) enum Job {
    Post(Box<Call<Post, Posted>>),
    Name(Call<Naming, Vec<SumRow>>),
    Describe(Box<dyn Described>),
    Ping(Call<(), ()>),
    Stop,
    #[cfg(test)]
    Panic(Call<(), ()>),
}

impl Writer {
    pub(super) fn start(file: Arc<File>, connection: SqliteConnection) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_WRITES_MAX);
        let task = tokio::spawn(write_all(file.clone(), connection, waiting));
        Self {
            queue,
            file,
            task: Mutex::new(Some(task)),
        }
    }

    /// Queues a write and waits for its commit. Once this was polled, dropping it changes nothing: the write is in the queue.
    pub(super) async fn ask<A, T>(&self, act: &'static str, ask: A, job: impl FnOnce(Call<A, T>) -> Job) -> Result<T, LedgerError> {
        let (caller, answer) = oneshot::channel();
        let call = Call {
            ask,
            act,
            outcome: None,
            caller,
        };
        self.queue.try_send(job(call)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => LedgerError::Busy,
            mpsc::error::TrySendError::Closed(_) => Fault::Closed.told(act, &self.file.path),
        })?;
        answer.await.unwrap_or_else(|_| Err(Fault::WriterFailed.told(act, &self.file.path)))
    }

    /// Writes what waits and ends; writes that come later are refused.
    pub(super) async fn stop(&self) {
        // An error says that the writer has ended already.
        let _ = self.queue.send(Job::Stop).await;
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

async fn write_all(file: Arc<File>, connection: SqliteConnection, mut waiting: mpsc::Receiver<Job>) {
    let mut connection = Some(connection);
    loop {
        let mut jobs = Vec::new();
        if waiting.recv_many(&mut jobs, BATCH_WRITES_MAX).await == 0 {
            break;
        }
        if jobs.iter().any(|job| matches!(job, Job::Stop)) {
            waiting.close();
        }
        let batch = commit_all(file.clone(), connection.take(), jobs);
        connection = tokio::spawn(batch).await.unwrap_or_else(|failure| {
            tracing::error!(%failure, "a batch of the ledger's writes failed");
            None
        });
    }
    if let Some(connection) = connection {
        // Closing merges the log into the file; whatever keeps it from that is found when the file is opened next.
        let _ = sqlx::Connection::close(connection).await;
    }
}

/// Commits a batch and answers its callers. Returns the connection if it may be used again.
async fn commit_all(file: Arc<File>, mut connection: Option<SqliteConnection>, mut jobs: Vec<Job>) -> Option<SqliteConnection> {
    let result = commit(&file, &mut connection, &mut jobs).await;
    if jobs.len() == 1 || !result.as_ref().is_err_and(Fault::blames_one) {
        answer(jobs, &result, &file);
        return connection;
    }
    // Nothing of the batch was kept. Alone, each write meets no fault but its own.
    let mut jobs = jobs.into_iter();
    while let Some(job) = jobs.next() {
        let mut alone = [job];
        let result = commit(&file, &mut connection, &mut alone).await;
        answer(alone, &result, &file);
        if result.as_ref().is_err_and(|fault| !fault.blames_one()) {
            answer(jobs, &result, &file);
            break;
        }
    }
    connection
}

/// Does the jobs in one transaction, or nothing of any. Leaves no connection behind that could be inside a transaction.
async fn commit(file: &File, connection: &mut Option<SqliteConnection>, jobs: &mut [Job]) -> Result<(), Fault> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => file.open_for_writing().await?,
    };
    execute(&mut open, "BEGIN IMMEDIATE").await?;
    let result = match work(&mut open, jobs).await {
        Ok(()) => execute(&mut open, "COMMIT").await,
        Err(fault) => Err(fault),
    };
    // Some failures have rolled back already, and then this fails too: such a connection is not used again.
    if result.is_ok() || execute(&mut open, "ROLLBACK").await.is_ok() {
        *connection = Some(open);
    }
    result
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), Fault> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}

/// The jobs in their order; posts that stand together are one batch.
async fn work(connection: &mut SqliteConnection, jobs: &mut [Job]) -> Result<(), Fault> {
    for together in jobs.chunk_by_mut(|a, b| a.write().is_some() && b.write().is_some()) {
        match together {
            [Job::Describe(description)] => description.write(connection).await?,
            [Job::Ping(call)] => call.outcome = Some(Ok(())),
            [Job::Stop] => {}
            #[cfg(test)]
            [Job::Panic(_)] => panic!("asked for by a test"),
            writes => post_all(connection, writes).await?,
        }
    }
    Ok(())
}

async fn post_all(connection: &mut SqliteConnection, jobs: &mut [Job]) -> Result<(), Fault> {
    let writes: Vec<Write<'_>> = jobs.iter().filter_map(Job::write).collect();
    let mut batch = posting::load(connection, &writes).await?;
    for job in &mut *jobs {
        match job {
            Job::Post(call) => call.outcome = Some(batch.post(&call.ask).map_err(Fault::from)),
            Job::Name(call) => call.outcome = batch.name(&call.ask).err().map(|overflow| Err(overflow.into())),
            _ => {}
        }
    }
    posting::store(connection, &batch).await?;
    paying::pay(connection, jobs.iter_mut().filter_map(Job::due).collect()).await?;
    let written: Vec<Written<'_>> = jobs.iter().filter_map(Job::written).collect();
    telling::tell(connection, &written, |one, row| {
        row.spent.saturating_sub(one.post.brings(&row.counter))
    })
    .await?;
    for job in jobs {
        if let Job::Name(Call { ask, outcome, .. }) = job
            && outcome.is_none()
        {
            *outcome = Some(Ok(read::sums(connection, &ask.workspace, &ask.whose, ask.now).await?));
        }
    }
    Ok(())
}

impl Job {
    /// What grants may have to pay of it. Posts are counted one by one, so its rows say what was spent once it was.
    fn due(&mut self) -> Option<Due<'_>> {
        let Job::Post(call) = self else { return None };
        let Call {
            ask: post,
            outcome: Some(Ok(Posted::Done { rows, purses })),
            ..
        } = &mut **call
        else {
            return None;
        };
        let spent = |charge: &Charge| rows.iter().find(|row| row.counter == charge.counter).map_or(0, |row| row.spent);
        let spent = post.charges.iter().map(spent).collect();
        Some(Due { post, rows, purses, spent })
    }

    /// What is written of it. Its rows are as they were once it was counted, and none of those after it.
    fn written(&self) -> Option<Written<'_>> {
        match self {
            Job::Post(call) => match &**call {
                Call {
                    ask: post,
                    outcome: Some(Ok(Posted::Done { rows, .. })),
                    ..
                } => Some(Written { post, rows }),
                _ => None,
            },
            _ => None,
        }
    }

    /// Its part in a batch of posts, if it has one.
    fn write(&self) -> Option<Write<'_>> {
        match self {
            Job::Post(call) => Some(Write::Post(&call.ask)),
            Job::Name(call) => Some(Write::Name(&call.ask)),
            _ => None,
        }
    }
}

fn answer(jobs: impl IntoIterator<Item = Job>, committed: &Result<(), Fault>, file: &File) {
    for job in jobs {
        match job {
            Job::Post(call) => call.answer(committed, file),
            Job::Name(call) => call.answer(committed, file),
            Job::Describe(description) => description.answer(committed, file),
            Job::Ping(call) => call.answer(committed, file),
            Job::Stop => {}
            #[cfg(test)]
            Job::Panic(call) => call.answer(committed, file),
        }
    }
}

impl<A, T> Call<A, T> {
    pub(super) fn answer(self, committed: &Result<(), Fault>, file: &File) {
        let result = match committed {
            Ok(()) => self.outcome.unwrap_or(Err(Fault::WriterFailed)),
            Err(fault) => Err(fault.clone()),
        };
        // Who went away wants no answer.
        let _ = self.caller.send(result.map_err(|fault| fault.told(self.act, &file.path)));
    }
}
