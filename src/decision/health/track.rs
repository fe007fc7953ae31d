//! One model's breaker: what was counted, the last turn, and what is usual.

use super::Change;
use crate::decision::amount::Ratio;
use crate::decision::id::{ModelId, Provider, WorkspaceId};
use crate::decision::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};

/// Beside the whole window failures are judged over these last seconds, so that one that begins amid much traffic is seen at once.
pub(super) const SHORT_SECONDS: i64 = 4;
/// A wait is doubled this often at most.
pub(super) const STRIKES_MAX: u32 = 4;
/// How many latencies a baseline needs before anything is slow.
const BASELINE_SAMPLES: u32 = 30;
/// So many workspaces are told apart in one second.
const WORKSPACES_MAX: usize = 8;
/// A breaker that could have been probed for so long, and was not closed, is closed.
pub(super) const LAPSE_SECONDS: i64 = 300;
/// A node whose clock is further ahead is not believed.
pub(super) const AHEAD_SECONDS_MAX: i64 = 10;
/// So many workspaces have a baseline of their own.
const BASELINES_MAX: usize = 256;
/// The weight of one latency in a baseline, once it has enough.
const BASELINE_SHARE: i64 = 32;
/// What a latency is divided by: answers of a hundred tokens and of none take about one and two parts.
const PACE_TOKENS: i64 = 100;
/// Nothing is slow that is faster than this, whatever the baseline.
const SLOW_MS_MIN: i64 = 1_000;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// When a breaker opens and closes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    pub enabled: bool,
    pub window_seconds: i64,
    /// Fewer outcomes say nothing.
    pub min_requests: i64,
    /// This share of errors opens.
    pub error_share: Ratio,
    /// This share of time-outs among all opens.
    pub timeout_share: Ratio,
    /// An error that took so long is a time-out.
    pub timeout_ms: i64,
    /// An answer is slow that takes so many times the usual.
    pub slow_factor: i64,
    /// This share of slow answers opens.
    pub slow_share: Ratio,
    /// How long it stays open; doubled when it opens again soon.
    pub open_seconds: i64,
    /// How many requests a second each node sends to see whether it works again.
    pub probes_per_second: u32,
    /// How many good ones close it.
    pub close_after: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            enabled: true,
            window_seconds: 30,
            min_requests: 5,
            error_share: Ratio::from_ten_thousandths(5_000).unwrap_or(Ratio::ONE),
            timeout_share: Ratio::from_ten_thousandths(2_500).unwrap_or(Ratio::ONE),
            timeout_ms: 30_000,
            slow_factor: 5,
            slow_share: Ratio::from_ten_thousandths(8_000).unwrap_or(Ratio::ONE),
            open_seconds: 10,
            probes_per_second: 2,
            close_after: 3,
        }
    }
}

/// How the breaker of a model stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    #[default]
    Closed,
    /// Requests are served elsewhere.
    Open,
    /// A few requests find out whether it works again.
    HalfOpen,
}

/// What opened a breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenedBy {
    #[default]
    Errors,
    Latency,
}

/// How one request to a model ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    pub failed: bool,
    /// `None`: not reported, or not comparable, as of a batch.
    pub latency_ms: Option<i64>,
    pub output_tokens: i64,
    /// Whose it was, as [`whose`] says it.
    pub whose: u64,
    /// When it was authorized: what began before a turn of the breaker says nothing of what came after.
    pub began: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub successes: i64,
    pub errors: i64,
    /// Of the errors.
    pub timeouts: i64,
    /// Of the successes.
    pub slow: i64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.successes += other.successes;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.slow += other.slow;
    }

    pub const fn requests(&self) -> i64 {
        self.successes + self.errors
    }

    pub(super) fn share(part: i64, whole: i64) -> Ratio {
        let steps = (part * Ratio::DENOMINATOR).checked_div(whole).unwrap_or(0);
        u16::try_from(steps)
            .ok()
            .and_then(Ratio::from_ten_thousandths)
            .unwrap_or(Ratio::ONE)
    }

    pub fn error_rate(&self) -> Ratio {
        Self::share(self.errors, self.requests())
    }
}

/// Outcomes of one workspace in one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) second: i64,
    pub(super) whose: u64,
    pub(super) counts: Counts,
}

/// Workspaces beyond those that are told apart, together.
pub(super) const VARIOUS: u64 = 0;

/// What a workspace is told apart by here. Two that look alike are taken for one, which can only delay an opening.
pub fn whose(workspace: &WorkspaceId) -> u64 {
    let digest = Sha256::digest(workspace.as_str());
    digest
        .iter()
        .take(8)
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        .max(VARIOUS + 1)
}

/// A breaker's last turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) is_open: bool,
    pub(super) at: Timestamp,
    /// Of an open one, until when.
    pub(super) until: Timestamp,
    pub(super) why: OpenedBy,
    pub(super) strikes: u32,
}

const BEGINNING: Turn = Turn {
    is_open: false,
    at: Timestamp::MIN,
    until: Timestamp::MIN,
    why: OpenedBy::Errors,
    strikes: 0,
};

#[derive(Debug)]
pub(super) struct Track {
    pub(super) provider: Provider,
    pub(super) turn: Turn,
    /// By this node's clock, what began before it says nothing of the time since the turn.
    pub(super) since: Timestamp,
    /// What this node counted since the turn, by second and workspace.
    pub(super) own: VecDeque<Counted>,
    /// What other nodes counted since the same turn.
    pub(super) others: Vec<Counted>,
    /// Of all workspaces together, and of each of those that came first.
    pub(super) baseline: Baseline,
    own_baselines: BTreeMap<u64, Baseline>,
    /// The second in which probes are counted, and how many there were.
    pub(super) probes: (i64, u32),
}

impl Track {
    pub(super) fn new(provider: Provider) -> Self {
        Self {
            provider,
            turn: BEGINNING,
            since: Timestamp::MIN,
            own: VecDeque::new(),
            others: Vec::new(),
            baseline: Baseline::default(),
            own_baselines: BTreeMap::new(),
            probes: (0, 0),
        }
    }

    /// One that was set back is not waited for: a clock that shows a time long before the turn says nothing of its end. One that nobody
    /// probes, because no request comes that would go there, closes by itself.
    pub(super) fn state(&self, now: Timestamp) -> BreakerState {
        let Turn { is_open, at, until, .. } = self.turn;
        let is_set_back = now < at.plus_seconds(-AHEAD_SECONDS_MAX);
        match is_open {
            false => BreakerState::Closed,
            true if now < until && !is_set_back => BreakerState::Open,
            true if now >= until.plus_seconds(LAPSE_SECONDS) => BreakerState::Closed,
            true => BreakerState::HalfOpen,
        }
    }

    fn within(&self, seconds: i64, now: Timestamp) -> impl Iterator<Item = &Counted> {
        let from = second(now) - seconds + 1;
        self.own.iter().chain(&self.others).filter(move |counted| counted.second >= from)
    }

    /// What was counted in the last `seconds` since the turn.
    pub(super) fn counts(&self, seconds: i64, now: Timestamp) -> Counts {
        let all = self.within(seconds, now);
        all.fold(Counts::default(), |mut sum, counted| {
            sum.add(&counted.counts);
            sum
        })
    }

    /// The same without the workspace that has the most failures; `None`: there is no other.
    pub(super) fn counts_but_worst(&self, seconds: i64, now: Timestamp) -> Option<Counts> {
        let mut by_workspace: BTreeMap<u64, Counts> = BTreeMap::new();
        for counted in self.within(seconds, now) {
            by_workspace.entry(counted.whose).or_default().add(&counted.counts);
        }
        let named = by_workspace.iter().filter(|(whose, _)| **whose != VARIOUS);
        let worst = *named.max_by_key(|(_, counts)| counts.errors + counts.slow)?.0;
        by_workspace.remove(&worst);
        let rest = by_workspace.into_values().reduce(|mut sum, counts| {
            sum.add(&counts);
            sum
        });
        rest.filter(|rest| rest.requests() > 0)
    }

    pub(super) fn count(&mut self, whose: u64, counts: &Counts, window: i64, now: Timestamp) {
        let second = second(now);
        let of_now = self.own.iter_mut().rev().take_while(|counted| counted.second == second);
        let (mut told_apart, mut known) = (0, None);
        // For whom it fails are told apart even where many others came first.
        let has_failed = counts.errors + counts.slow > 0;
        let most = if has_failed { 2 * WORKSPACES_MAX } else { WORKSPACES_MAX };
        for counted in of_now {
            if counted.whose == whose || (counted.whose == VARIOUS && known.is_none()) {
                known = Some(counted);
                continue;
            }
            told_apart += 1;
        }
        match known.filter(|counted| counted.whose == whose || told_apart >= most) {
            Some(counted) => counted.counts.add(counts),
            None => self.own.push_back(Counted {
                second,
                whose: if told_apart < most { whose } else { VARIOUS },
                counts: *counts,
            }),
        }
        while self.own.front().is_some_and(|first| first.second <= second - window) {
            self.own.pop_front();
        }
    }

    /// What this node counted within the window, for others; by workspace only where anything failed, which is when it matters.
    pub(super) fn told(&self, window: i64, now: Timestamp) -> Vec<Counted> {
        let from = second(now) - window + 1;
        let recent = self.own.iter().filter(|counted| counted.second >= from);
        if self.own.iter().any(|counted| counted.counts.errors + counted.counts.slow > 0) {
            return recent.copied().collect();
        }
        let mut told: Vec<Counted> = Vec::new();
        for counted in recent {
            match told.last_mut() {
                Some(last) if last.second == counted.second => last.counts.add(&counted.counts),
                _ => told.push(Counted {
                    whose: VARIOUS,
                    ..*counted
                }),
            }
        }
        told
    }

    pub(super) fn turn(&mut self, turn: Turn, now: Timestamp) {
        self.turn = turn;
        self.since = turn.at.min(now);
        self.own.clear();
        self.others.clear();
    }

    /// Takes a turn of its own. It comes after the last one even if a clock that is ahead took that, so that nodes hear of it.
    pub(super) fn take_turn(
        &mut self,
        model: &ModelId,
        opened: bool,
        (why, counts): (OpenedBy, Counts),
        rules: &Rules,
        now: Timestamp,
    ) -> Change {
        let before = self.turn;
        let soon = before.is_open || (before.at > Timestamp::MIN && now < before.at.plus_seconds(2 * rules.window_seconds));
        let strikes = match (opened, soon) {
            (true, true) => (before.strikes + 1).min(STRIKES_MAX),
            (true, false) => 0,
            (false, _) => before.strikes,
        };
        let next = before.at.plus_micros(1);
        let at = if next <= now.plus_seconds(AHEAD_SECONDS_MAX) {
            next.max(now)
        } else {
            now
        };
        let until = if opened {
            now.plus_seconds(rules.open_seconds << strikes)
        } else {
            now
        };
        let turn = Turn {
            is_open: opened,
            at,
            until,
            why,
            strikes,
        };
        self.turn(turn, now);
        Change {
            model: model.clone(),
            provider: self.provider.clone(),
            opened,
            why,
            counts,
        }
    }

    /// Judges a latency by what is usual for its workspace, and learns from it: what one asks for may take five times as long as what most
    /// others do, without anything being slow. Of workspaces beyond those that have a baseline of their own what is usual for all counts.
    pub(super) fn is_slow(&mut self, whose: u64, latency_ms: i64, output_tokens: i64, factor: i64) -> bool {
        let pace = latency_ms.saturating_mul(1_000 * PACE_TOKENS) / (output_tokens.max(0).saturating_add(PACE_TOKENS));
        let may_be_slow = latency_ms >= SLOW_MS_MIN;
        let is_known = self.own_baselines.len() < BASELINES_MAX || self.own_baselines.contains_key(&whose);
        let by_all = self.baseline.judge(pace, factor);
        let by_own = is_known.then(|| self.own_baselines.entry(whose).or_default().judge(pace, factor));
        may_be_slow && by_own.unwrap_or(by_all)
    }
}

/// What is usual: a moving mean of latencies, each divided by the length of its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Baseline {
    /// In thousandths of a millisecond.
    pace: i64,
    samples: u32,
}

impl Baseline {
    /// The usual latency of an answer without tokens, once enough are known.
    pub(super) fn known_ms(&self) -> Option<i64> {
        (self.samples >= BASELINE_SAMPLES).then_some(self.pace / 1_000)
    }

    /// Whether this is so many times the usual, which it then learns from. What is far off moves it little.
    fn judge(&mut self, pace: i64, factor: i64) -> bool {
        let judged = self.samples >= BASELINE_SAMPLES;
        let slow = judged && pace > self.pace.saturating_mul(factor);
        let (learned, share) = match judged {
            true => (pace.min(self.pace.saturating_mul(2).max(1_000)), BASELINE_SHARE),
            false => (pace, i64::from(self.samples) + 1),
        };
        self.pace += (learned - self.pace) / share;
        self.samples = self.samples.saturating_add(1);
        slow
    }
}

/// Why these counts open a breaker, if they do and are enough to say so.
pub(super) fn failing(counts: &Counts, requests_min: i64, rules: &Rules) -> Option<OpenedBy> {
    let timeouts = Counts::share(counts.timeouts, counts.requests());
    let fails = counts.error_rate() >= rules.error_share || (counts.timeouts > 0 && timeouts >= rules.timeout_share);
    if counts.requests() >= requests_min && fails {
        return Some(OpenedBy::Errors);
    }
    let slow = Counts::share(counts.slow, counts.successes);
    (counts.successes >= requests_min && counts.slow > 0 && slow >= rules.slow_share).then_some(OpenedBy::Latency)
}

pub(super) fn second(at: Timestamp) -> i64 {
    at.micros().div_euclid(MICROS_PER_SECOND)
}
