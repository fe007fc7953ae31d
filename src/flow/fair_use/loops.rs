//! Calls that come too fast: how often one user called one feature in the last seconds, on all nodes. Each counts its own calls and adds what
//! the others told of theirs, a second or two ago; they tell of what is on its way to be too fast, not of each call.
//!
//! Two counts for each: of the window that began last and of the one before, which counts for as much of it as still lies within reach. So
//! a key costs some bytes however fast it is called. Refused calls count too: a loop that is paused is still a loop. A request that is told its
//! first answer again is taken back, and the requests of one batch count as one call: neither goes round in circles.

use crate::decision::amount::Unit;
use crate::decision::anomaly::{Action, Observed, Rule, Watch};
use crate::decision::ask::Ask;
use crate::decision::counter::Whose;
use crate::decision::id::FairUseId;
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
use arc_swap::ArcSwap;
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 16;
/// The most users and features of one shard; beyond it those that went quiet are forgotten, else new ones are not watched.
const KEYS_MAX: usize = 8_192;
const MICROS: i64 = 1_000_000;

/// The most that a node tells of; beyond it the fastest count.
const TOLD_MAX: usize = 512;
/// Told is what comes to this part of a rule's figure, so that so many nodes together miss nothing that is a loop.
const TOLD_PART: i64 = 16;

/// Calls of one user and feature by a rule, as nodes tell each other of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FastCalls {
    key: u64,
    /// The number of the window.
    window: i64,
    now: i64,
    before: i64,
}

impl FastCalls {
    /// How many of them lie within reach, `left` of `width` before the end of `window`.
    fn within(&self, window: i64, (left, width): (i64, i64)) -> i64 {
        let share = |calls: i64| i64::try_from(i128::from(calls) * i128::from(left) / i128::from(width)).unwrap_or(i64::MAX);
        match window - self.window {
            0 => self.now.saturating_add(share(self.before)),
            1 => share(self.now),
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Counted {
    /// The number of the window.
    window: i64,
    now: i64,
    before: i64,
    seconds: i64,
    /// So many are too many.
    calls: i64,
}

impl Counted {
    fn told(&self, key: u64) -> FastCalls {
        FastCalls {
            key,
            window: self.window,
            now: self.now,
            before: self.before,
        }
    }

    fn moved_to(&mut self, window: i64) {
        match window - self.window {
            0 => {}
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.window = window;
    }
}

/// The same on every node. Nobody can choose a user's name that is counted as another's: digests that agree are not to be found.
fn key(ask: &Ask, rule: &Rule, seconds: i64) -> u64 {
    let user = ask.user.as_ref().map_or("", |user| user.as_str());
    let mut digest = Sha256::new();
    for part in [ask.workspace.as_str(), user, ask.feature.as_str(), &rule.name] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(seconds.to_be_bytes());
    let digest = digest.finalize();
    digest
        .iter()
        .take(size_of::<u64>())
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[derive(Default)]
pub(super) struct Loops {
    shards: [Mutex<HashMap<u64, Counted>>; SHARDS],
    /// What other nodes told, by key; mostly empty.
    others: ArcSwap<HashMap<u64, Vec<FastCalls>>>,
}

impl Loops {
    /// What the other nodes should add to theirs: the calls that are on their way to be too many.
    pub(super) fn told(&self, now: Timestamp) -> Vec<FastCalls> {
        let mut told: Vec<FastCalls> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let is_fast = |counted: &Counted| {
                (counted.window + 2) * counted.seconds * MICROS > now.micros()
                    && counted.now.saturating_add(counted.before) > counted.calls / TOLD_PART
            };
            let fast = shard.iter().filter(|(_, counted)| is_fast(counted));
            told.extend(fast.map(|(key, counted)| counted.told(*key)));
        }
        told.sort_by_key(|one| std::cmp::Reverse(one.now.saturating_add(one.before)));
        told.truncate(TOLD_MAX);
        told
    }

    /// Takes over what the other nodes told, all of it each time.
    pub(super) fn hear(&self, told: Vec<Vec<FastCalls>>) {
        if told.iter().all(Vec::is_empty) && self.others.load().is_empty() {
            return;
        }
        let mut others: HashMap<u64, Vec<FastCalls>> = HashMap::default();
        for one in told.into_iter().flatten() {
            others.entry(one.key).or_default().push(one);
        }
        self.others.store(Arc::new(others));
    }

    /// Takes back a call that was counted at `at`, unless the window in which it was is out of reach.
    pub(super) fn uncount(&self, rule: &Rule, ask: &Ask, at: Timestamp) {
        let Watch::Loop { seconds, .. } = rule.watch else { return };
        let key = key(ask, rule, seconds);
        let window = at.micros().div_euclid(seconds * MICROS);
        let mut shard = self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counted) = shard.get_mut(&key) else { return };
        let calls = match counted.window - window {
            0 => &mut counted.now,
            1 => &mut counted.before,
            _ => return,
        };
        *calls = (*calls - 1).max(0);
    }

    /// Counts a call; the action that it makes due, but for its id.
    pub(super) fn count(&self, plan: &Plan, rule: &Rule, ask: &Ask, now: Timestamp) -> Option<Action> {
        let Watch::Loop { calls, seconds } = rule.watch else {
            return None;
        };
        let key = key(ask, rule, seconds);
        let width = seconds * MICROS;
        let window = now.micros().div_euclid(width);
        // How much of the window before is still within reach.
        let left = width - now.micros().rem_euclid(width);
        let mut shard = self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= KEYS_MAX && !shard.contains_key(&key) {
            shard.retain(|_, counted| (counted.window + 2) * counted.seconds * MICROS > now.micros());
            if shard.len() >= KEYS_MAX {
                metrics::counter!("weir_fair_use_dropped_total").increment(1);
                return None;
            }
        }
        let counted = shard.entry(key).or_default();
        (counted.seconds, counted.calls) = (seconds, calls);
        counted.moved_to(window);
        counted.now += 1;
        let own = counted.told(key).within(window, (left, width));
        drop(shard);
        let others = self.others.load();
        let told = others.get(&key).into_iter().flatten();
        let amount = told.fold(own, |sum, one| sum.saturating_add(one.within(window, (left, width))));
        (amount >= calls).then(|| Action {
            id: FairUseId::from_uuid(uuid::Uuid::nil()),
            workspace: ask.workspace.clone(),
            whose: Whose::User(ask.user.clone()),
            feature: Some(ask.feature.clone()),
            rule: rule.name.to_string(),
            plan: plan.id.clone(),
            act: rule.act.clone(),
            shadow: rule.shadow,
            observed: Observed {
                unit: Unit::Requests,
                amount,
                typical: None,
                window_seconds: seconds,
            },
            started_at: now,
            ends_at: now.plus_seconds(rule.for_seconds),
            ended_at: None,
        })
    }
}
