//! The writers: a few tasks, each with a connection, that share one queue. A writer takes everything that waits, has it written in one call
//! and one commit, and answers each caller. While it waits for the commit the others take what came meanwhile.
//!
//! A write that is queued is written, whether or not its caller still waits. Nobody is answered before the commit. A batch runs in a task
//! of its own, so that a panic costs that batch's callers an error and drops the connection; the next batch opens another one.

use super::batch;
use super::fault::Fault;
use super::server::Server;
use crate::ledger::{Naming, Post, Posted};
use sqlx::PgConnection;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

/// The most writes that wait; more are refused at once, so that callers know sooner than their time-outs would tell them.
pub(super) const QUEUE_WRITES_MAX: usize = 8_192;
/// The most writes of one commit: it bounds how long the first of them waits for the others, and how long the workspaces are locked.
pub(super) const BATCH_WRITES_MAX: usize = 512;
/// A connection that was idle for longer is asked whether it is still there before a write is trusted to it.
const TRUSTED_IDLE_MILLIS: u64 = 1_000;

/// The way to the writers.
pub(super) struct Writers {
    /// Taken away when the ledger is closed; then the writers end, after what still waits.
    queue: RwLock<Option<mpsc::Sender<Job>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A write, and who asked for it.
pub(super) struct Call<A, T> {
    pub(super) ask: A,
    caller: oneshot::Sender<Result<T, Fault>>,
}

pub(super) enum Job {
    Post(Box<Call<Post, Posted>>),
    Name(Call<Naming, ()>),
    #[cfg(test)]
    Panic,
}

impl Writers {
    /// Starts them over a server that must answer by now.
    pub(super) async fn start(server: &Arc<Server>) -> Result<Self, Fault> {
        let (queue, waiting) = mpsc::channel(QUEUE_WRITES_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut tasks = Vec::new();
        for _ in 0..server.writers {
            let line = Line {
                open: Some((server.connect_durably().await?, Instant::now())),
                server: server.clone(),
            };
            tasks.push(tokio::spawn(write_all(line, waiting.clone())));
        }
        Ok(Self {
            queue: RwLock::new(Some(queue)),
            tasks: Mutex::new(tasks),
        })
    }

    pub(super) async fn post(&self, post: Post) -> Result<Posted, Fault> {
        self.ask(post, |call| Job::Post(Box::new(call))).await
    }

    pub(super) async fn name(&self, naming: Naming) -> Result<(), Fault> {
        self.ask(naming, Job::Name).await
    }

    /// Queues a write and waits for its commit. Once this was polled, dropping it changes nothing: the write is in the queue.
    async fn ask<A, T>(&self, ask: A, job: impl FnOnce(Call<A, T>) -> Job) -> Result<T, Fault> {
        let (caller, answer) = oneshot::channel();
        self.queue(job(Call { ask, caller }))?;
        answer.await.unwrap_or(Err(Fault::WriterFailed))
    }

    pub(super) fn queue(&self, job: Job) -> Result<(), Fault> {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().ok_or(Fault::Closed)?.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Fault::Full,
            mpsc::error::TrySendError::Closed(_) => Fault::Closed,
        })
    }

    /// Writes what waits and ends; writes that come later are refused.
    pub(super) async fn stop(&self) {
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        for task in self.tasks.lock().await.drain(..) {
            let _ = task.await;
        }
    }
}

/// A writer's connection, made anew when it was lost.
pub(super) struct Line {
    server: Arc<Server>,
    open: Option<(PgConnection, Instant)>,
}

impl Line {
    /// Asks something over the connection, which is made if there is none. After anything but an answer of the server it is not used again.
    pub(super) async fn ask<T>(&mut self, question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        let server = self.server.clone();
        let connection = self.connection().await?;
        let result = server.answer(question(connection)).await;
        match (&mut self.open, &result) {
            (Some((_, used)), Ok(_)) => *used = Instant::now(),
            (_, Err(fault)) if !fault.was_said() => self.open = None,
            _ => {}
        }
        result
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, Fault> {
        let connection = match self.open.take() {
            Some((connection, used)) if used.elapsed() < Duration::from_millis(TRUSTED_IDLE_MILLIS) => connection,
            Some((connection, _)) => match still_there(&self.server, connection).await {
                Some(connection) => connection,
                None => self.server.connect_durably().await?,
            },
            None => self.server.connect_durably().await?,
        };
        Ok(&mut self.open.insert((connection, Instant::now())).0)
    }
}

/// The connection, if the server still answers over it.
async fn still_there(server: &Server, mut connection: PgConnection) -> Option<PgConnection> {
    let ping = async { Ok(sqlx::Connection::ping(&mut connection).await?) };
    server.answer(ping).await.ok()?;
    Some(connection)
}

async fn write_all(mut line: Line, waiting: Arc<Mutex<mpsc::Receiver<Job>>>) {
    loop {
        let mut jobs = Vec::new();
        if waiting.lock().await.recv_many(&mut jobs, BATCH_WRITES_MAX).await == 0 {
            break;
        }
        let server = line.server.clone();
        let batch = async move {
            batch::write(&mut line, jobs).await;
            line
        };
        line = tokio::spawn(batch).await.unwrap_or_else(|failure| {
            tracing::error!(%failure, "a batch of the ledger's writes failed");
            Line { server, open: None }
        });
    }
    if let Some((connection, _)) = line.open {
        // Whatever keeps it from that, the server finds out by itself.
        let _ = sqlx::Connection::close(connection).await;
    }
}

impl<A, T> Call<A, T> {
    pub(super) fn answer(self, result: Result<T, Fault>) {
        // Who went away wants no answer.
        let _ = self.caller.send(result);
    }
}
