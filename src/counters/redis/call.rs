//! One call of a script: sent with a deadline in the store's own time, loaded where it is missing, sent again where that cannot do harm.
//!
//! A time-out means unknown, never "did not happen"; but what reaches the store after its deadline is refused there.

use super::keys::{TAGS, tag_of};
use super::link::{AGAIN_AFTER, Link, has_moved};
use super::pack::{Pack, micros, values};
use super::reply::{Reply, Unexpected};
use super::script::Script;
use crate::decision::time::Timestamp;
use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many calls in a row may end expired holds before an answer: ten times as many holds as a workspace may have open.
const EXPIRING_CALLS_MAX: usize = 400_000;
/// How long a difference of clocks is believed when a smaller one is seen.
const DIFFERENCE_MICROS: i64 = 1_000_000;
/// How long an epoch is believed after it was looked up. A process that loses its place to another one, misses what that
/// one does and has the place again needs two failovers for it, each of which takes a tick of a tenth of a second or more.
const EPOCH_MICROS: i64 = 10_000;
/// What is told of an epoch.
const EPOCH_BYTES: usize = 16;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    #[error("the command reached the store too late and was refused there")]
    Late,
    #[error("more and more has expired while it was ended")]
    Expiring,
    #[error("this call was given up before it had an answer, and whether it was carried out is not known")]
    GivenUp,
    #[error("another process has taken the place of the one that was asked before")]
    Replaced,
}

/// The store's clocks against our own steady one, and the epochs of its processes, for each tag: nodes of a cluster have their own.
pub(super) struct Clocks {
    started: Instant,
    known: Vec<Mutex<Known>>,
    /// How far a caller's clock may be ahead.
    ahead_max: Option<i64>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    /// The least difference that was seen, and when.
    difference: Option<(i64, i64)>,
    epoch: [u8; EPOCH_BYTES],
    /// Until when the epoch is believed, by the store's clock and by ours. The store's refuses what arrives late; ours does not mind that another
    /// server, whose clock may be behind, has the address now.
    epoch_until: i64,
    epoch_until_here: i64,
}

/// What a script is told of time and place.
struct Moment {
    /// Our own time, before the call is sent.
    sent_at: i64,
    /// The latest time that a caller may have.
    latest: Option<i64>,
    /// The store's time from which on nobody waits for an answer; 0 where its clock was never seen: then it refuses, and tells it.
    deadline: i64,
    epoch: [u8; EPOCH_BYTES],
    epoch_until: i64,
}

impl Moment {
    /// A caller's time in microseconds. A node whose clock is ahead would end what others hold, and their room would be given away twice; so
    /// it is bounded by the store's. One that is behind only frees later.
    fn bounded(&self, now: Timestamp) -> i64 {
        let now = micros(now);
        match self.latest {
            Some(latest) if now > latest => {
                metrics::counter!("weir_clock_ahead_total").increment(1);
                latest
            }
            _ => now,
        }
    }
}

impl Clocks {
    pub(super) fn new(ahead_max: Option<Duration>) -> Self {
        Self {
            started: Instant::now(),
            known: (0..TAGS).map(|_| Mutex::default()).collect(),
            ahead_max: ahead_max.map(micros_of),
        }
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn known(&self, tag: usize) -> MutexGuard<'_, Known> {
        self.known[tag].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self, tag: usize, timeout: Duration) -> Moment {
        let known = *self.known(tag);
        let elapsed = self.elapsed();
        let clock = known.difference.map(|(difference, _)| elapsed + difference);
        Moment {
            sent_at: elapsed,
            latest: self.ahead_max.zip(clock).map(|(ahead, clock)| clock + ahead),
            deadline: clock.map_or(0, |clock| clock + micros_of(timeout)),
            epoch: known.epoch,
            epoch_until: if elapsed < known.epoch_until_here { known.epoch_until } else { 0 },
        }
    }

    /// Learns from an answer that was written at `clock`, some time ago: the largest difference is the nearest to the truth.
    fn learn(&self, tag: usize, clock: i64) {
        let elapsed = self.elapsed();
        let difference = clock - elapsed;
        let mut known = self.known(tag);
        let stays = known
            .difference
            .is_some_and(|(best, seen_at)| best > difference && elapsed - seen_at < DIFFERENCE_MICROS);
        if !stays {
            known.difference = Some((difference, elapsed));
        }
    }

    /// The epoch was looked up for an answer that was written at `clock`, to a call that was sent at `sent_at`. An answer may have lain long
    /// where it came from, so it counts from the sending on; and of two the later question is right.
    fn learn_epoch(&self, tag: usize, clock: i64, epoch: &[u8], sent_at: i64) {
        let mut known = self.known(tag);
        let until_here = sent_at + EPOCH_MICROS;
        if let Ok(epoch) = epoch.try_into()
            && until_here > known.epoch_until_here
        {
            known.epoch = epoch;
            (known.epoch_until, known.epoch_until_here) = (clock + EPOCH_MICROS, until_here);
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
    /// Plain holds, instead of the pack. Then the first argument is not an array that begins with now and the deadline, but the deadline and
    /// the epoch as far as it is known; and what is answered begins with the epoch where it had to be looked up.
    pub(super) plain: Vec<&'a Plain>,
    pub(super) turns: Turns,
    pub(super) now: Timestamp,
}

/// How plain holds wait for each other: what comes behind one that is handed over to the long script may be decided before it, or not.
#[derive(Clone, Copy)]
pub(super) enum Turns {
    Own = 0,
    InOrder = 1,
    /// In the order of several calls, whose last key is the same.
    OfCalls = 2,
}

/// A plain hold: its values, behind now, and the first part of its record.
pub(super) struct Plain {
    pub(super) now: Timestamp,
    pub(super) values: Pack,
    pub(super) record: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(super) fn new(script: &'a Script, slot: u32, now: Timestamp) -> Self {
        Self {
            script,
            tag: tag_of(slot),
            keys: Vec::new(),
            pack: Pack::default(),
            plain: Vec::new(),
            turns: Turns::Own,
            now,
        }
    }

    fn command(&self, name: &'static str, what: &str, moment: &Moment) -> Cmd {
        let mut command = ::redis::cmd(name);
        command.arg(what).arg(self.keys.len()).arg(&self.keys);
        if self.plain.is_empty() {
            command.arg(self.pack.after(moment.bounded(self.now), moment.deadline));
            return command;
        }
        command.arg(values(|all| {
            all.int(moment.deadline)
                .int(moment.epoch_until)
                .text(&moment.epoch)
                .int(self.turns as i64);
        }));
        for plain in &self.plain {
            let now = values(|first| {
                first.int(moment.bounded(plain.now));
            });
            command.arg(plain.values.behind(&now)).arg(&plain.record);
        }
        command
    }

    /// What an answer says of time and place, and the word with which it begins.
    fn learn(&self, clocks: &Clocks, clock: usize, sent_at: i64, reply: &mut Reply) -> Result<String, Unexpected> {
        let word = reply.text()?;
        let written_at = reply.int()?;
        clocks.learn(clock, written_at);
        if !self.plain.is_empty()
            && let Some(epoch) = reply.bytes_if_any()?
        {
            clocks.learn_epoch(clock, written_at, &epoch, sent_at);
        }
        Ok(word)
    }

    /// The word that the script answers with, and the rest.
    pub(super) async fn send(&self, link: &Link, clocks: &Clocks, timeout: Duration) -> Result<(String, Reply), CallError> {
        let started = Instant::now();
        let (mut dropped, mut late) = (0, 0);
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
                // Each connection may have broken, and threads have their own. Each script may run twice: holds bear a number of their call,
                // rebuilds their token, and the rest only grows.
                Err(CallError::Redis(error)) if error.is_connection_dropped() && dropped < link.connections() => dropped += 1,
                Err(error) => return Err(error),
            }
        }
        Err(CallError::Expiring)
    }

    async fn send_once(&self, link: &Link, clocks: &Clocks, timeout: Duration) -> Result<(String, Reply), CallError> {
        let clock = if link.is_cluster() { self.tag } else { 0 };
        let moment = clocks.moment(clock, timeout);
        let answer = link.send(&self.command("EVALSHA", &self.script.hash, &moment)).await;
        let answer = match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                tracing::debug!(script = self.script.name, "the store does not know the script; it is sent whole");
                link.send(&self.command("EVAL", &self.script.code, &moment)).await?
            }
            answer => answer?,
        };
        let mut reply = Reply::new(answer)?;
        Ok((self.learn(clocks, clock, moment.sent_at, &mut reply)?, reply))
    }
}

/// Sends calls of one slot in one round trip, and what each answered. `None`: it has no answer, or wants to be asked again.
pub(super) async fn send_together(calls: &[Call<'_>], link: &Link, clocks: &Clocks, timeout: Duration) -> Vec<Option<(String, Reply)>> {
    let Some(first) = calls.first() else { return Vec::new() };
    let clock = if link.is_cluster() { first.tag } else { 0 };
    let mut pipeline = ::redis::pipe();
    let moment = clocks.moment(clock, timeout);
    let sent_at = moment.sent_at;
    for call in calls {
        pipeline.add_command(call.command("EVALSHA", &call.script.hash, &moment));
    }
    let answers = match link.send_together(&pipeline, calls.len()).await {
        Ok(answers) if answers.len() == calls.len() => answers,
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::debug!(%error, "calls that were sent together are sent one by one");
            Vec::new()
        }
    };
    let read = |(answer, call): (Value, &Call<'_>)| -> Option<(String, Reply)> {
        let mut reply = Reply::new(answer.extract_error().ok()?).ok()?;
        let word = call.learn(clocks, clock, sent_at, &mut reply).ok()?;
        (word != "again" && word != "late").then_some((word, reply))
    };
    let mut read: Vec<_> = answers.into_iter().zip(calls).map(read).collect();
    read.resize_with(calls.len(), || None);
    read
}

/// Whether a command was refused or not even sent, and may be accepted soon: data is loading, or a slot is moving or has moved.
fn never_ran(error: &RedisError) -> bool {
    let waits = [
        ServerErrorKind::BusyLoading,
        ServerErrorKind::ClusterDown,
        ServerErrorKind::MasterDown,
    ];
    let refused = has_moved(error) || waits.iter().any(|kind| error.kind() == ErrorKind::Server(*kind));
    let had_no_way = error.kind() == ErrorKind::ClusterConnectionNotFound;
    refused || had_no_way || error.detail().is_some_and(|detail| detail.contains("non local key"))
}

/// An answer that a script of this version does not give.
pub(super) fn unknown_word(word: &str) -> CallError {
    Unexpected::of("a word of this version", word).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(500);

    #[test]
    fn an_epoch_is_not_believed_for_longer_because_another_clock_is_behind() {
        let clocks = Clocks::new(None);
        assert_eq!(clocks.moment(0, TIMEOUT).epoch_until, 0, "nobody has looked it up");
        let sent_at = clocks.elapsed();
        clocks.learn_epoch(0, 1_000_000, &[b'e'; EPOCH_BYTES], sent_at);
        // What was asked before and answered after it changes nothing.
        clocks.learn_epoch(0, 9_000_000, &[b'o'; EPOCH_BYTES], sent_at - 1);
        assert_eq!(clocks.known(0).epoch_until_here, sent_at + EPOCH_MICROS);
        assert_eq!(clocks.known(0).epoch, [b'e'; EPOCH_BYTES]);
        // As if no time passed here.
        clocks.known(0).epoch_until_here = i64::MAX;
        assert_eq!(clocks.moment(0, TIMEOUT).epoch_until, 1_000_000 + EPOCH_MICROS);
        assert_eq!(clocks.moment(1, TIMEOUT).epoch_until, 0, "another tag may lie on another server");
        // As if that long had passed here, whatever time it is there.
        clocks.known(0).epoch_until_here = 0;
        assert_eq!(clocks.moment(0, TIMEOUT).epoch_until, 0);
    }
}
