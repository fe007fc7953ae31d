//! Health of providers: which models fail at the moment, by the outcomes and latencies that settles report. Each model has a breaker:
//!
//! ```text
//! closed ── too many errors, or too slow ──▶ open ── after a while ──▶ half open ── enough good probes ──▶ closed
//!                                             ▲                            │
//!                                             └────── probes that fail ────┘
//! ```
//!
//! A book is one node's. Nodes tell each other what they counted and how their breakers stand ([`Told`]): the newest turn of a breaker is
//! everybody's, and what is counted belongs to a turn, so that failures of before an opening never count against what came after it.
//! Opening after a while is a comparison with the clock, no event. Counts are of whole seconds.
//!
//! Outcomes are what callers say, and a workspace may have prompts that no provider takes. So one alone opens nothing for others: where more
//! than one uses a model, it has to fail for the rest too, and what is slow is told by what is usual for each.
//!
//! Never denies: where nothing healthy could serve, the asked model goes on.

use super::id::{ModelId, Provider};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use track::{AHEAD_SECONDS_MAX, Counted, SHORT_SECONDS, Track, Turn, failing, second};

mod track;

pub use track::{BreakerState, Counts, OpenedBy, Rules, Sample, whose};

/// The most models that are watched.
pub const MODELS_MAX: usize = 2_048;

/// What one node tells the others of a model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Told {
    model: ModelId,
    provider: Provider,
    turn: Turn,
    counts: Vec<Counted>,
}

/// A turn that a breaker took, for logs and metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub model: ModelId,
    pub provider: Provider,
    pub opened: bool,
    pub why: OpenedBy,
    pub counts: Counts,
}

/// How a model stands, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub model: ModelId,
    pub provider: Provider,
    pub state: BreakerState,
    pub why: OpenedBy,
    /// Of its last turn; `None`: it never took one.
    pub since: Option<Timestamp>,
    pub counts: Counts,
    /// The usual latency of an answer without tokens; `None`: too few were reported.
    pub baseline_ms: Option<i64>,
}

/// One that does not stand well, as requests look it up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    pub model: ModelId,
    pub until: Timestamp,
}

/// What requests need to know; empty while all is well.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Troubles {
    pub models: Vec<Trouble>,
    /// Of these every model fails that is known well enough; the others are taken to fail too.
    pub providers: Vec<Provider>,
}

/// All breakers of a node.
#[derive(Debug, Default)]
pub struct Book {
    tracks: BTreeMap<ModelId, Track>,
}

impl Book {
    /// Takes in how a request ended, and says whether a breaker turned because of it.
    pub fn record(&mut self, model: &ModelId, provider: &Provider, sample: Sample, rules: &Rules, now: Timestamp) -> Option<Change> {
        if !self.tracks.contains_key(model) && !self.make_room(rules, now) {
            return None;
        }
        let track = self.tracks.entry(model.clone()).or_insert_with(|| Track::new(provider.clone()));
        track.provider = provider.clone();
        let mut counts = Counts::default();
        match (sample.failed, sample.latency_ms) {
            (true, latency) => {
                counts.errors = 1;
                counts.timeouts = i64::from(latency.is_some_and(|latency| latency >= rules.timeout_ms));
            }
            (false, latency) => {
                counts.successes = 1;
                counts.slow = latency.map_or(0, |latency| {
                    i64::from(track.is_slow(sample.whose, latency, sample.output_tokens, rules.slow_factor))
                });
            }
        }
        let state = track.state(now);
        // Of a half-open one the turn to that state is the end of its wait.
        let since = match state {
            BreakerState::HalfOpen => track.turn.until.min(now),
            BreakerState::Open | BreakerState::Closed => track.since,
        };
        if state == BreakerState::Open || sample.began < since {
            return None;
        }
        track.count(sample.whose, &counts, rules.window_seconds, now);
        self.judge(model, rules, now)
    }

    /// Turns the breaker of a model if what was counted says so.
    fn judge(&mut self, model: &ModelId, rules: &Rules, now: Timestamp) -> Option<Change> {
        let track = self.tracks.get_mut(model)?;
        let (opened, why, counts) = match track.state(now) {
            BreakerState::Open => return None,
            BreakerState::Closed => {
                let failing = [SHORT_SECONDS.min(rules.window_seconds), rules.window_seconds]
                    .into_iter()
                    .find_map(|seconds| {
                        let counts = track.counts(seconds, now);
                        let why = failing(&counts, rules.min_requests, rules)?;
                        let rest = track.counts_but_worst(seconds, now);
                        let fails_for_all = rest.is_none_or(|rest| failing(&rest, 1, rules).is_some());
                        fails_for_all.then_some((why, counts))
                    });
                let (why, counts) = failing?;
                (true, why, counts)
            }
            BreakerState::HalfOpen => {
                let all = track.counts(rules.window_seconds, now);
                let rest = track.counts_but_worst(rules.window_seconds, now);
                let is_clean = |counts: &Counts| counts.errors + counts.slow == 0;
                let counts = rest.filter(|rest| !is_clean(&all) && is_clean(rest)).unwrap_or(all);
                let slow = if track.turn.why == OpenedBy::Latency { counts.slow } else { 0 };
                let (good, bad) = (counts.successes - slow, counts.errors + slow);
                if bad * 2 > good {
                    (true, track.turn.why, counts)
                } else if good >= rules.close_after {
                    (false, track.turn.why, counts)
                } else {
                    return None;
                }
            }
        };
        Some(track.take_turn(model, opened, (why, counts), rules, now))
    }

    /// Closes the breakers of a provider: somebody who knows says that it works.
    pub fn close(&mut self, provider: &Provider, rules: &Rules, now: Timestamp) -> Vec<Change> {
        let of_provider = self
            .tracks
            .iter_mut()
            .filter(|(_, track)| track.provider == *provider && track.turn.is_open);
        let closed = of_provider.map(|(model, track)| {
            let why = track.turn.why;
            track.take_turn(model, false, (why, Counts::default()), rules, now)
        });
        closed.collect()
    }

    /// Whether a request may go to a half-open model, to see whether it works again.
    pub fn probe(&mut self, model: &ModelId, rules: &Rules, now: Timestamp) -> bool {
        let Some(track) = self.tracks.get_mut(model) else { return false };
        let at = second(now);
        if track.probes.0 != at {
            track.probes = (at, 0);
        }
        let may = track.state(now) == BreakerState::HalfOpen && track.probes.1 < rules.probes_per_second;
        track.probes.1 += u32::from(may);
        may
    }

    /// What the other nodes should know: everything that was counted lately or has turned.
    pub fn told(&self, rules: &Rules, now: Timestamp) -> Vec<Told> {
        let told = self.tracks.iter().filter_map(|(model, track)| {
            let counts = track.told(rules.window_seconds, now);
            let is_well = track.state(now) == BreakerState::Closed;
            let quiet = counts.is_empty() && is_well && track.turn.at < now.plus_seconds(-2 * rules.window_seconds);
            (!quiet).then(|| Told {
                model: model.clone(),
                provider: track.provider.clone(),
                turn: track.turn,
                counts,
            })
        });
        told.collect()
    }

    /// Takes over what other nodes told, all of it each time, and says which breakers turned: theirs, or by what all have counted together.
    pub fn hear(&mut self, told: &[Vec<Told>], rules: &Rules, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for one in told.iter().flatten() {
            if !self.tracks.contains_key(&one.model) && !self.make_room(rules, now) {
                continue;
            }
            let track = self
                .tracks
                .entry(one.model.clone())
                .or_insert_with(|| Track::new(one.provider.clone()));
            if one.turn.at > track.turn.at && one.turn.at <= now.plus_seconds(AHEAD_SECONDS_MAX) {
                if one.turn.is_open != track.turn.is_open {
                    changes.push(Change {
                        model: one.model.clone(),
                        provider: one.provider.clone(),
                        opened: one.turn.is_open,
                        why: one.turn.why,
                        counts: Counts::default(),
                    });
                }
                track.turn(one.turn, now);
            }
        }
        self.tracks.values_mut().for_each(|track| track.others.clear());
        for one in told.iter().flatten() {
            if let Some(track) = self.tracks.get_mut(&one.model).filter(|track| track.turn == one.turn) {
                track.others.extend(&one.counts);
            }
        }
        let models: Vec<ModelId> = self.tracks.keys().cloned().collect();
        changes.extend(models.iter().filter_map(|model| self.judge(model, rules, now)));
        changes
    }

    /// What requests need to know.
    pub fn troubles(&self, rules: &Rules, now: Timestamp) -> Troubles {
        if !rules.enabled {
            return Troubles::default();
        }
        let trouble = |(model, track): (&ModelId, &Track)| {
            let until = match track.state(now) {
                BreakerState::Closed => return None,
                BreakerState::HalfOpen => track.turn.until.min(now),
                BreakerState::Open => track.turn.until,
            };
            Some(Trouble {
                model: model.clone(),
                until,
            })
        };
        let models: Vec<Trouble> = self.tracks.iter().filter_map(trouble).collect();
        if models.is_empty() {
            return Troubles::default();
        }
        let mut by_provider: BTreeMap<&Provider, (usize, usize)> = BTreeMap::new();
        for track in self.tracks.values() {
            let (bad, good) = by_provider.entry(&track.provider).or_default();
            let known_good = track.counts(rules.window_seconds, now).requests() >= rules.min_requests
                || track.turn.at > now.plus_seconds(-rules.window_seconds);
            match track.state(now) != BreakerState::Closed {
                true => *bad += 1,
                false if known_good => *good += 1,
                false => {}
            }
        }
        // One failing model says nothing of the others; two, and none that works, do.
        let down = by_provider.into_iter().filter(|(_, (bad, good))| *bad >= 2 && *good == 0);
        Troubles {
            models,
            providers: down.map(|(provider, _)| provider.clone()).collect(),
        }
    }

    /// How every model stands that was heard of lately, by name.
    pub fn standings(&self, rules: &Rules, now: Timestamp) -> Vec<Standing> {
        let standing = |(model, track): (&ModelId, &Track)| {
            let state = track.state(now);
            Standing {
                model: model.clone(),
                provider: track.provider.clone(),
                state,
                why: track.turn.why,
                since: Some(if state == BreakerState::HalfOpen {
                    track.turn.until
                } else {
                    track.turn.at
                })
                .filter(|at| *at > Timestamp::MIN),
                counts: track.counts(rules.window_seconds, now),
                baseline_ms: track.baseline.known_ms(),
            }
        };
        self.tracks.iter().map(standing).collect()
    }

    /// Room for one more model: that of one which is well and has nothing to tell, if there has to be.
    fn make_room(&mut self, rules: &Rules, now: Timestamp) -> bool {
        if self.tracks.len() < MODELS_MAX {
            return true;
        }
        let quiet =
            |track: &Track| track.state(now) == BreakerState::Closed && track.counts(rules.window_seconds, now) == Counts::default();
        let quiet = self.tracks.iter().find(|(_, track)| quiet(track)).map(|(model, _)| model.clone());
        quiet.is_some_and(|model| self.tracks.remove(&model).is_some())
    }
}

#[cfg(test)]
mod tests;
