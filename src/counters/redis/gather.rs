//! Plain holds that come together go together: one call of the script takes those that a thread's turn brought, so they share what a call
//! costs on both sides. Nobody waits for others to come: what is there when the turn ends is sent, be it one.
//!
//! A script that fails would fail for all that share it, so then each is asked by itself. On a cluster, where a call may only use keys of one
//! slot, each always is.

use super::call::{Call, CallError, Clocks, Plain, unknown_word};
use super::link::{Link, thread_number};
use super::plain::{Answer, Answers};
use super::reply::Reply;
use super::script;
use crate::decision::time::Timestamp;
use ::redis::{ErrorKind, ServerErrorKind};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How many holds one call takes: a quarter of a millisecond, in which the server answers nobody else.
pub(super) const TOGETHER_MAX: usize = 16;

/// How many queues there are, so that hardly ever two threads share one.
const QUEUES: usize = 64;

/// A hold as the short script takes it.
pub(super) struct PlainHold {
    pub(super) slot: u32,
    pub(super) keys: Vec<String>,
    pub(super) plain: Plain,
    /// How many bytes of its answer are balances.
    pub(super) balances_bytes: usize,
}

/// One that waits for its answer.
struct Waiting {
    hold: PlainHold,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

pub(super) struct Gather {
    link: Arc<Link>,
    clocks: Arc<Clocks>,
    timeout: Duration,
    /// For each thread what it wants to send in this turn. Whoever comes first sees to it that it is sent.
    queues: Vec<Mutex<Vec<Waiting>>>,
}

impl Gather {
    pub(super) fn new(link: Arc<Link>, clocks: Arc<Clocks>, timeout: Duration) -> Arc<Self> {
        let queues = (0..QUEUES).map(|_| Mutex::default()).collect();
        Arc::new(Self {
            link,
            clocks,
            timeout,
            queues,
        })
    }

    fn queue(&self, place: usize) -> MutexGuard<'_, Vec<Waiting>> {
        self.queues[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the script answers to this one.
    pub(super) async fn hold(self: &Arc<Self>, hold: PlainHold) -> Result<Answer, CallError> {
        if self.link.is_cluster() {
            // Boxed: what a call is sent with would make the future of each hold many times as large.
            return Box::pin(self.alone(hold)).await;
        }
        let place = thread_number() % self.queues.len();
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut queue = self.queue(place);
            queue.push(Waiting { hold, answer });
            queue.len() == 1
        };
        if is_first {
            let mut turn = Turn {
                gather: self.clone(),
                place,
                is_over: false,
            };
            // Whoever is ready in this turn of the thread comes before it.
            tokio::spawn(async move {
                let waiting = turn.end();
                turn.gather.clone().send_all(waiting).await;
            });
        }
        answered.await.unwrap_or(Err(CallError::GivenUp))
    }

    async fn send_all(self: Arc<Self>, mut waiting: Vec<Waiting>) {
        // Whoever went away meanwhile holds nothing yet, and shall not.
        waiting.retain(|one| !one.answer.is_closed());
        while waiting.len() > TOGETHER_MAX {
            let rest = waiting.split_off(TOGETHER_MAX);
            let this = self.clone();
            tokio::spawn(async move { this.send(waiting).await });
            waiting = rest;
        }
        if !waiting.is_empty() {
            self.send(waiting).await;
        }
    }

    async fn send(&self, waiting: Vec<Waiting>) {
        let (holds, answers): (Vec<_>, Vec<_>) = waiting.into_iter().map(|one| (one.hold, one.answer)).unzip();
        match self.ask(&together(&holds)).await {
            Ok(mut told) => {
                for (answer, hold) in answers.into_iter().zip(&holds) {
                    // Whoever went away meanwhile has its hold, which runs out, or which it asks for again.
                    let _ = answer.send(told.next(hold.balances_bytes).map_err(CallError::from));
                }
            }
            Err(error) if answers.len() > 1 && is_of_one(&error) => {
                tracing::debug!(%error, "holds that were asked for together are asked for one by one");
                let each = answers.into_iter().zip(holds).map(|(answer, hold)| async {
                    let _ = answer.send(self.alone(hold).await);
                });
                join_all(each).await;
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn alone(&self, hold: PlainHold) -> Result<Answer, CallError> {
        let bytes = hold.balances_bytes;
        Ok(self.ask(&together(&[hold])).await?.next(bytes)?)
    }

    async fn ask(&self, call: &Call<'_>) -> Result<Answers, CallError> {
        let (word, reply) = call.send(&self.link, &self.clocks, self.timeout).await?;
        answers(&word, reply)
    }
}

/// What a call of plain holds answered.
pub(super) fn answers(word: &str, mut reply: Reply) -> Result<Answers, CallError> {
    match word {
        "plain" => Ok(Answers::new(reply.bytes()?)),
        other => Err(unknown_word(other)),
    }
}

/// The end of a thread's turn, at which what it brought is sent. Where a runtime ends before, whoever waits is told, and the queue is empty.
struct Turn {
    gather: Arc<Gather>,
    place: usize,
    is_over: bool,
}

impl Turn {
    fn end(&mut self) -> Vec<Waiting> {
        self.is_over = true;
        std::mem::take(&mut *self.gather.queue(self.place))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.end();
        }
    }
}

/// Whether one of several may have been the reason: what it found at its keys, and not what refuses whoever asks.
fn is_of_one(error: &CallError) -> bool {
    match error {
        CallError::Redis(error) => match error.kind() {
            ErrorKind::Server(ServerErrorKind::ResponseError) => true,
            _ => error.code() == Some("WRONGTYPE"),
        },
        _ => false,
    }
}

/// One call for all of them, which are of one slot or for one server.
pub(super) fn together(holds: &[PlainHold]) -> Call<'_> {
    let slot = holds.first().map_or(0, |hold| hold.slot);
    let mut call = Call::new(&script::PLAIN_HOLD, slot, Timestamp::from_micros(0));
    for hold in holds {
        call.keys.extend_from_slice(&hold.keys);
        call.plain.push(&hold.plain);
    }
    call
}
