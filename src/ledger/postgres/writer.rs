//! The writers: a few tasks, each with a connection, that share one queue. A writer takes everything that waits, has it written in one call
//! and one commit, and answers each caller. While it waits for the commit the others take what came meanwhile.
//!
//! Births of sums have a queue and a writer of their own, since one may take long. What takes long or finds its workspace locked goes by itself
//! (`aside.rs`), so that one workspace does not keep the others waiting.
//!
//! A write that is queued is written, whether or not its caller still waits. Nobody is answered before the commit. A batch runs in a task
//! of its own, so that a panic costs that batch's callers an error and drops the connection; the next batch opens another one.

use super::aside::Aside;
use super::batch;
use super::fault::Fault;
use super::server::{Pace, Server};
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
    queues: RwLock<Option<Queues>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    aside: Arc<Aside>,
}

struct Queues {
    posts: mpsc::Sender<Job>,
    births: mpsc::Sender<Job>,
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
        let aside = Aside::new(server.clone());
        let mut tasks = Vec::new();
        let mut start = async |pace, writers| {
            let (queue, waiting) = mpsc::channel(QUEUE_WRITES_MAX);
            let waiting = Arc::new(Mutex::new(waiting));
            for _ in 0..writers {
                let line = Line {
                    open: Some((server.connect_durably(pace).await?, Instant::now())),
                    aside: Some(aside.clone()),
                    ..Line::closed(server, pace)
                };
                tasks.push(tokio::spawn(write_all(line, waiting.clone())));
            }
            Ok::<_, Fault>(queue)
        };
        let queues = Queues {
            posts: start(Pace::Posts, server.writers).await?,
            births: start(Pace::Births, 1).await?,
        };
        Ok(Self {
            queues: RwLock::new(Some(queues)),
            tasks: Mutex::new(tasks),
            aside,
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
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        let queues = queues.as_ref().ok_or(Fault::Closed)?;
        let queue = match &job {
            Job::Name(_) => &queues.births,
            _ => &queues.posts,
        };
        queue.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Fault::Full,
            mpsc::error::TrySendError::Closed(_) => Fault::Closed,
        })
    }

    /// Writes what waits and ends; writes that come later are refused.
    pub(super) async fn stop(&self) {
        drop(self.queues.write().unwrap_or_else(PoisonError::into_inner).take());
        for task in self.tasks.lock().await.drain(..) {
            let _ = task.await;
        }
        self.aside.finish().await;
    }
}

/// A writer's connection, made anew when it was lost.
pub(super) struct Line {
    server: Arc<Server>,
    pace: Pace,
    open: Option<(PgConnection, Instant)>,
    /// Who takes what would keep others waiting; `None`: nobody else waits for this line.
    pub(super) aside: Option<Arc<Aside>>,
}

impl Line {
    /// One whose connection is made when it is needed.
    pub(super) fn closed(server: &Arc<Server>, pace: Pace) -> Self {
        Self {
            server: server.clone(),
            pace,
            open: None,
            aside: None,
        }
    }

    /// The same without its connection.
    pub(super) fn anew(&self) -> Self {
        Self {
            aside: self.aside.clone(),
            ..Self::closed(&self.server, self.pace)
        }
    }

    /// Has writes of one workspace written elsewhere.
    pub(super) fn put_aside(&self, jobs: Vec<Job>) {
        if let Some(aside) = &self.aside {
            aside.take(jobs);
        }
    }

    pub(super) async fn close(self) {
        if let Some((connection, _)) = self.open {
            // Whatever keeps it from that, the server finds out by itself.
            let _ = sqlx::Connection::close(connection).await;
        }
    }

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
                None => self.server.connect_durably(self.pace).await?,
            },
            None => self.server.connect_durably(self.pace).await?,
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
        if let Some(aside) = &line.aside {
            jobs = aside.join(jobs);
        }
        line = batch::write_apart(line, jobs).await;
    }
    line.close().await;
}

impl<A, T> Call<A, T> {
    pub(super) fn answer(self, result: Result<T, Fault>) {
        // Who went away wants no answer.
        let _ = self.caller.send(result);
    }
}
