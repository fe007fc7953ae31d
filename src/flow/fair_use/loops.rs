//! Calls that come too fast: how often one user called one feature in the last seconds, on this node. Behind several nodes a loop is seen by
//! the one that gets enough of its calls, so with calls spread evenly over them a rule acts at up to that many times its figure.
//!
//! Two counts for each: of the window that began last and of the one before, which counts for as much of it as still lies within reach. So
//! a key costs some bytes however fast it is called. Refused calls count too: a loop that is paused is still a loop.

use crate::decision::amount::Unit;
use crate::decision::anomaly::{Action, Observed, Rule, Watch};
use crate::decision::ask::Ask;
use crate::decision::counter::Whose;
use crate::decision::id::FairUseId;
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
use foldhash::HashMap;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

const SHARDS: usize = 16;
/// The most users and features of one shard; beyond it those that went quiet are forgotten, else new ones are not watched.
const KEYS_MAX: usize = 8_192;
const MICROS: i64 = 1_000_000;

#[derive(Clone, Copy, Default)]
struct Counted {
    /// The number of the window.
    window: i64,
    now: i64,
    before: i64,
    seconds: i64,
}

impl Counted {
    fn moved_to(&mut self, window: i64) {
        match window - self.window {
            0 => {}
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.window = window;
    }
}

#[derive(Default)]
pub(super) struct Loops {
    shards: [Mutex<HashMap<u64, Counted>>; SHARDS],
    hasher: RandomState,
}

impl Loops {
    /// Counts a call; the action that it makes due, but for its id.
    pub(super) fn count(&self, plan: &Plan, rule: &Rule, ask: &Ask, now: Timestamp) -> Option<Action> {
        let Watch::Loop { calls, seconds } = rule.watch else {
            return None;
        };
        let key = self.hasher.hash_one((&ask.workspace, &ask.user, &ask.feature, &rule.name, seconds));
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
        counted.seconds = seconds;
        counted.moved_to(window);
        counted.now += 1;
        let before = i128::from(counted.before) * i128::from(left) / i128::from(width);
        let amount = counted.now + i64::try_from(before).unwrap_or(i64::MAX);
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
