//! One call of a script: sent with a deadline in the store's own time, loaded where it is missing, sent again where that cannot do harm.
//!
//! A time-out means unknown, never "did not happen"; but what reaches the store after its deadline is refused there.

use super::keys::{TAGS, tag_of};
use super::link::Link;
use super::pack::Pack;
use super::reply::{Reply, Unexpected};
use super::script::Script;
use crate::decision::time::Timestamp;
use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long to wait before a node is asked again that loads its data or whose slot is moving.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// How many calls in a row may end expired holds before an answer: ten times as many holds as a workspace may have open.
const EXPIRING_CALLS_MAX: usize = 400_000;
/// How long a difference of clocks is believed when a smaller one is seen.
const DIFFERENCE_MICROS: i64 = 1_000_000;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    #[error("the command reached the store too late and was refused there")]
    Late,
    #[error("more and more has expired while it was ended")]
    Expiring,
    #[error("another process has taken the place of the one that was asked before")]
    Replaced,
}

/// The store's clocks against our own steady one, for each tag: nodes of a cluster have clocks of their own.
pub(super) struct Clocks {
    started: Instant,
    /// The least difference that was seen, and when.
    differences: Vec<Mutex<Option<(i64, i64)>>>,
    /// How far a caller's clock may be ahead.
    ahead_max: Option<i64>,
}

impl Clocks {
    pub(super) fn new(ahead_max: Option<Duration>) -> Self {
        Self {
            started: Instant::now(),
            differences: (0..TAGS).map(|_| Mutex::new(None)).collect(),
            ahead_max: ahead_max.map(micros_of),
        }
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// The store's time in `timeout`, or 0 where its clock was never seen: then it refuses, and tells it.
    fn deadline(&self, tag: usize, timeout: Duration) -> i64 {
        self.clock(tag).map_or(0, |clock| clock + micros_of(timeout))
    }

    /// The store's time as far as it is known.
    fn clock(&self, tag: usize) -> Option<i64> {
        let known = *self.differences[tag].lock().unwrap_or_else(PoisonError::into_inner);
        known.map(|(difference, _)| self.elapsed() + difference)
    }

    /// A caller's time, but no later than the store's allows: a node whose clock is ahead would end what others hold, and their room would
    /// be given away twice. One that is behind only frees later.
    fn bound(&self, tag: usize, now: i64) -> i64 {
        match (self.ahead_max, self.clock(tag)) {
            (Some(ahead), Some(clock)) if now > clock + ahead => {
                metrics::counter!("weir_clock_ahead_total").increment(1);
                clock + ahead
            }
            _ => now,
        }
    }

    /// Learns from an answer that was written at `clock`, some time ago: the largest difference is the nearest to the truth.
    fn learn(&self, tag: usize, clock: i64) {
        let elapsed = self.elapsed();
        let difference = clock - elapsed;
        let mut known = self.differences[tag].lock().unwrap_or_else(PoisonError::into_inner);
        let stays = known.is_some_and(|(best, seen_at)| best > difference && elapsed - seen_at < DIFFERENCE_MICROS);
        if !stays {
            *known = Some((difference, elapsed));
        }
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// A script with what it is told.
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) tag: usize,
    pub(super) keys: Vec<String>,
    pub(super) pack: Pack,
    /// A second argument. With one, the first is not an array that begins with now and the deadline, but values that begin with the deadline.
    pub(super) more: Option<Vec<u8>>,
    pub(super) now: Timestamp,
}

impl<'a> Call<'a> {
    pub(super) fn new(script: &'a Script, slot: u32, now: Timestamp) -> Self {
        Self {
            script,
            tag: tag_of(slot),
            keys: Vec::new(),
            pack: Pack::default(),
            more: None,
            now,
        }
    }

    fn command(&self, name: &'static str, what: &str, (now, deadline): (i64, i64)) -> Cmd {
        let mut command = ::redis::cmd(name);
        command.arg(what).arg(self.keys.len()).arg(&self.keys);
        match &self.more {
            Some(more) => command.arg(self.pack.behind(deadline)).arg(more),
            None => command.arg(self.pack.after(now, deadline)),
        };
        command
    }

    /// Now, and the deadline.
    fn times(&self, clocks: &Clocks, clock: usize, timeout: Duration) -> (i64, i64) {
        (clocks.bound(clock, super::pack::micros(self.now)), clocks.deadline(clock, timeout))
    }

    /// The word that the script answers with, and the rest.
    pub(super) async fn send(&self, link: &Link, clocks: &Clocks, timeout: Duration) -> Result<(String, Reply), CallError> {
        let started = Instant::now();
        let (mut dropped, mut late) = (false, 0);
        for _ in 0..EXPIRING_CALLS_MAX {
            match self.send_once(link, clocks, timeout).await {
                Ok((word, _)) if word == "again" => {}
                // A clock that stepped, or one that was never seen: the answer brought it.
                Ok((word, _)) if word == "late" && late < 2 && started.elapsed() < timeout => late += 1,
                Ok((word, _)) if word == "late" => return Err(CallError::Late),
                Ok(answer) => return Ok(answer),
                Err(CallError::Redis(error)) if never_ran(&error) && started.elapsed() < timeout => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                // Each script may run twice: holds bear a number of their call, rebuilds their token, and the rest only grows.
                Err(CallError::Redis(error)) if error.is_connection_dropped() && !dropped => dropped = true,
                Err(error) => return Err(error),
            }
        }
        Err(CallError::Expiring)
    }

    async fn send_once(&self, link: &Link, clocks: &Clocks, timeout: Duration) -> Result<(String, Reply), CallError> {
        let clock = if link.is_cluster() { self.tag } else { 0 };
        let times = self.times(clocks, clock, timeout);
        let answer = link.send(&self.command("EVALSHA", &self.script.hash, times)).await;
        let answer = match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                tracing::debug!(script = self.script.name, "the store does not know the script; it is sent whole");
                link.send(&self.command("EVAL", &self.script.code, times)).await?
            }
            answer => answer?,
        };
        let mut reply = Reply::new(answer)?;
        let word = reply.text()?;
        clocks.learn(clock, reply.int()?);
        Ok((word, reply))
    }
}

/// Sends calls of one slot in one round trip, and what each answered. `None`: it has no answer, or wants to be asked again.
pub(super) async fn send_together(calls: &[Call<'_>], link: &Link, clocks: &Clocks, timeout: Duration) -> Vec<Option<(String, Reply)>> {
    let Some(first) = calls.first() else { return Vec::new() };
    let clock = if link.is_cluster() { first.tag } else { 0 };
    let mut pipeline = ::redis::pipe();
    for call in calls {
        pipeline.add_command(call.command("EVALSHA", &call.script.hash, call.times(clocks, clock, timeout)));
    }
    let answers = match link.send_together(&pipeline, calls.len()).await {
        Ok(answers) if answers.len() == calls.len() => answers,
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::debug!(%error, "calls that were sent together are sent one by one");
            Vec::new()
        }
    };
    let read = |answer: Value| -> Option<(String, Reply)> {
        let mut reply = Reply::new(answer.extract_error().ok()?).ok()?;
        let word = reply.text().ok()?;
        clocks.learn(clock, reply.int().ok()?);
        (word != "again" && word != "late").then_some((word, reply))
    };
    let mut read: Vec<_> = answers.into_iter().map(read).collect();
    read.resize_with(calls.len(), || None);
    read
}

/// Whether a command was refused before it did anything, and may be accepted soon: data is loading, or a slot is moving.
fn never_ran(error: &RedisError) -> bool {
    let waits = [
        ServerErrorKind::BusyLoading,
        ServerErrorKind::TryAgain,
        ServerErrorKind::ClusterDown,
        ServerErrorKind::MasterDown,
    ];
    let refused = waits.iter().any(|kind| error.kind() == ErrorKind::Server(*kind));
    refused || error.detail().is_some_and(|detail| detail.contains("non local key"))
}

/// An answer that a script of this version does not give.
pub(super) fn unknown_word(word: &str) -> CallError {
    Unexpected::of("a word of this version", word).into()
}
