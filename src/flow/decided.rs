//! The decision log: what was decided and by which facts, kept for whoever asks why, and denials for simulation.
//!
//! Authorize never waits for it. It puts facts into a bounded queue and goes on; they are encoded and written in the background, a bounded
//! number a second. What does not fit is dropped and counted: allows first, then the oldest denials. A crash loses what waits, which is the
//! last quarter of a second unless more is decided than the log takes.
//!
//! Every denial is put in. Of allows only so many a second are, so that a busy service does not pay for each with a write; their holds
//! remember the facts, and the end of a hold (settle, release) puts in what its beginning did not. What is answered from the cache counts as an
//! allow, without a hold that could remember it.

use super::context::Context;
use super::{FlowError, Service};
use crate::counters::Record;
use crate::decision::facts::{Facts, Outcome};
use crate::decision::id::{DecisionId, ReservationId};
use crate::decision::time::Timestamp;
use crate::ledger::{LoggedDecision, Pruning};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often what waits is written.
pub const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// How many decisions one flush writes at most; with [`FLUSH_EVERY`] that is 2,048 a second and node.
pub const FLUSH_ROWS_MAX: usize = 512;
/// How many decisions wait at most, about a kilobyte each.
pub const WAITING_MAX: usize = 8_192;
/// How many allows a second are logged as they are made.
pub const ALLOWS_PER_SECOND_MAX: u32 = 256;
/// How long allows are kept.
pub const ALLOWS_KEPT_SECONDS: i64 = 7 * 24 * 3600;
/// How long denials are kept: simulations try raised limits on them.
pub const DENIALS_KEPT_SECONDS: i64 = 90 * 24 * 3600;
/// How many of each kind are kept, the newest ones.
pub const ROWS_MAX: usize = 2_000_000;
/// How many are deleted in one statement, and how many statements one round makes.
const PRUNE_ROWS: usize = 2_000;
const PRUNE_SLICES_MAX: usize = 50;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A decision that waits to be written.
pub struct Decided {
    pub decision: DecisionId,
    /// Of an allow; what was answered from the cache has none.
    pub reservation: Option<ReservationId>,
    pub facts: Facts,
}

/// What waits, in this process.
#[derive(Default)]
pub struct DecisionLog {
    waiting: Mutex<Waiting>,
    /// The second in which allows are being counted, and how many there were.
    second: AtomicI64,
    allows: AtomicU32,
}

/// Each queue oldest first.
#[derive(Default)]
struct Waiting {
    denials: VecDeque<Decided>,
    allows: VecDeque<Decided>,
}

impl DecisionLog {
    /// Whether an allow of `now` may be logged as it is made.
    pub fn takes_allow(&self, now: Timestamp) -> bool {
        let second = now.micros().div_euclid(MICROS_PER_SECOND);
        if self.second.load(Ordering::Relaxed) != second {
            // Of two that come here at once one forgets what the other counted: a few more are logged then.
            self.second.store(second, Ordering::Relaxed);
            self.allows.store(0, Ordering::Relaxed);
        }
        self.allows.load(Ordering::Relaxed) < ALLOWS_PER_SECOND_MAX && self.allows.fetch_add(1, Ordering::Relaxed) < ALLOWS_PER_SECOND_MAX
    }

    pub fn deny(&self, decision: DecisionId, facts: Facts) {
        let denied = Decided {
            decision,
            reservation: None,
            facts,
        };
        let mut waiting = self.waiting();
        // The newest denials are what is kept of a flood: whoever asks why asks about the last ones.
        if waiting.denials.len() + waiting.allows.len() >= WAITING_MAX {
            match waiting.allows.pop_front() {
                Some(_) => dropped("allow"),
                None => {
                    waiting.denials.pop_front();
                    dropped("deny");
                }
            }
        }
        waiting.denials.push_back(denied);
    }

    pub fn allow(&self, decision: DecisionId, reservation: ReservationId, facts: Facts) {
        self.served(decision, Some(reservation), facts);
    }

    /// What was answered from the cache, unless there was too much to log within this second: no hold remembers it.
    pub fn cached(&self, decision: DecisionId, facts: Facts) {
        match self.takes_allow(facts.decided_at) {
            true => self.served(decision, None, facts),
            false => dropped("cached"),
        }
    }

    fn served(&self, decision: DecisionId, reservation: Option<ReservationId>, facts: Facts) {
        let mut waiting = self.waiting();
        if waiting.denials.len() + waiting.allows.len() >= WAITING_MAX {
            return dropped(if reservation.is_some() { "allow" } else { "cached" });
        }
        waiting.allows.push_back(Decided {
            decision,
            reservation,
            facts,
        });
    }

    /// What a hold remembers, put in at its end unless it was at its beginning.
    pub(super) fn ended(&self, context: &Context, record: &Record) {
        if !context.logged {
            let facts = context.facts(record.before.clone(), Outcome::Held(record.taken));
            self.allow(context.decision, record.reservation, facts);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to be written, denials first.
    fn take(&self) -> Vec<Decided> {
        let mut waiting = self.waiting();
        let denials = waiting.denials.len().min(FLUSH_ROWS_MAX);
        let allows = waiting.allows.len().min(FLUSH_ROWS_MAX - denials);
        let mut taken: Vec<Decided> = waiting.denials.drain(..denials).collect();
        taken.extend(waiting.allows.drain(..allows));
        taken
    }
}

fn dropped(verdict: &'static str) {
    metrics::counter!("weir_decisions_dropped_total", "verdict" => verdict).increment(1);
}

/// Writes some of what waits, and says how many. What cannot be written is dropped and counted: while the ledger is away nothing piles up.
pub async fn flush(service: &Service) -> Result<usize, FlowError> {
    let taken = service.decisions.take();
    if taken.is_empty() {
        return Ok(0);
    }
    let rows: Vec<LoggedDecision> = taken.iter().map(row).collect();
    let count = rows.len();
    let result = service.ledger.log_decisions(rows).await;
    if result.is_err() {
        taken
            .iter()
            .for_each(|decided| dropped(if decided.facts.outcome.is_denial() { "deny" } else { "allow" }));
    }
    Ok(result.map(|()| count)?)
}

/// Writes all of what waits.
pub async fn flush_all(service: &Service) -> Result<(), FlowError> {
    while flush(service).await? > 0 {}
    Ok(())
}

fn row(decided: &Decided) -> LoggedDecision {
    LoggedDecision {
        decision: decided.decision,
        reservation: decided.reservation,
        workspace: decided.facts.ask.workspace.clone(),
        decided_at: decided.facts.asked_at(),
        is_denial: decided.facts.outcome.is_denial(),
        facts: encode(&decided.facts),
    }
}

/// The first byte of stored facts; another layout gets another number.
const LAYOUT: u8 = 2;
/// The layout before, without what fair use did.
const LAYOUT_BEFORE: u8 = 1;
/// What that layout lacks at its end: nothing was done.
const LACKED_BEFORE: [u8; 1] = [0];
/// Added to it where a detour follows, before the facts.
const WITH_DETOUR: u8 = 0x40;

fn encode(facts: &Facts) -> Vec<u8> {
    // Plain data into memory cannot fail; no facts at all would be read back as unreadable, not as others.
    let head = match &facts.detour {
        None => vec![LAYOUT],
        Some(detour) => postcard::to_extend(detour, vec![LAYOUT | WITH_DETOUR]).unwrap_or_default(),
    };
    postcard::to_extend(facts, head).unwrap_or_default()
}

/// The facts of a row; `None`: they are of a version that this one does not know.
pub fn decode(bytes: &[u8]) -> Option<Facts> {
    match bytes.split_first() {
        Some((&LAYOUT, rest)) => postcard::from_bytes(rest).ok(),
        Some((&layout, rest)) if layout == LAYOUT | WITH_DETOUR => {
            let (detour, rest) = postcard::take_from_bytes(rest).ok()?;
            let facts: Facts = postcard::from_bytes(rest).ok()?;
            Some(Facts {
                detour: Some(detour),
                ..facts
            })
        }
        Some((&LAYOUT_BEFORE, rest)) => postcard::from_bytes(&[rest, &LACKED_BEFORE].concat()).ok(),
        _ => None,
    }
}

/// Deletes what is too old or too much, in slices that hold no lock for long. For the node that sweeps.
pub async fn prune(service: &Service) -> Result<usize, FlowError> {
    let now = service.clock.now();
    let mut deleted = 0;
    for (is_denial, kept_seconds) in [(false, ALLOWS_KEPT_SECONDS), (true, DENIALS_KEPT_SECONDS)] {
        let pruning = Pruning {
            is_denial,
            before: now.plus_seconds(-kept_seconds),
            rows_max: ROWS_MAX,
            limit: PRUNE_ROWS,
        };
        for _ in 0..PRUNE_SLICES_MAX {
            let slice = service.ledger.prune_decisions(pruning).await?;
            deleted += slice;
            if slice < PRUNE_ROWS {
                break;
            }
        }
    }
    metrics::counter!("weir_decisions_pruned_total").increment(deleted as u64);
    Ok(deleted)
}
