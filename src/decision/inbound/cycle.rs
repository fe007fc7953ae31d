//! When the periods of a subscription begin and end, by what Stripe told of them.
//!
//! Stripe tells the period of now. Those before it are remembered as they were told, and what was not told follows from the anchor, in steps
//! of the interval. Where the anchor is set anew, the period of then ends sooner than it was announced to: it is cut where the next one begins.
//!
//! Invariant: the periods of a subscription tile time, to the second of its anchor.

use super::Subscription;
use crate::decision::period::{Period, months_between, months_from};
use crate::decision::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How many periods are remembered. Of older ones nothing is told late.
pub const PERIODS_MAX: usize = 16;
/// Of a kind of interval; Stripe takes three years at most.
pub const COUNT_MAX: i64 = 1_100;
const DAY_MICROS: i64 = 86_400_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    Day,
    Week,
    #[default]
    Month,
    Year,
}

/// How long a period is. Where Stripe did not say, it is taken for a month: an end too many only makes late use be told as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Every {
    pub interval: Interval,
    pub count: i64,
}

impl Default for Every {
    fn default() -> Self {
        Self {
            interval: Interval::Month,
            count: 1,
        }
    }
}

/// A period of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    pub period: Period,
    /// It ended sooner than it was to. Such a period is invoiced at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// What was told of a subscription's periods.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cycle {
    #[serde(default)]
    pub every: Every,
    /// Oldest first; no two share a moment.
    #[serde(default)]
    pub told: Vec<Told>,
    /// When the subscription ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

impl Cycle {
    /// The period of now, and nothing before.
    pub fn now(every: Every, period: Option<Period>, ended_at: Option<Timestamp>) -> Self {
        let told = period.map(|period| Told { period, is_cut: false }).into_iter().collect();
        Self { every, told, ended_at }
    }
}

impl Every {
    /// The period that `at` lies in, of those that are counted from `anchor`; on `day` of the month, if it is named.
    fn period(self, anchor: Timestamp, day: Option<u8>, at: Timestamp) -> Period {
        let count = self.count.clamp(1, COUNT_MAX);
        let of_days = |days: i64| {
            let length = count * days * DAY_MICROS;
            let start = at.plus_micros(-at.micros().saturating_sub(anchor.micros()).rem_euclid(length));
            Period {
                start,
                end: start.plus_micros(length),
            }
        };
        let of_months = |months: i64| {
            let length = count * months;
            let turn = |number: i64| months_from(anchor, day, number * length);
            let number = months_between(anchor, at).div_euclid(length);
            let number = if turn(number) > at { number - 1 } else { number };
            Period {
                start: turn(number),
                end: turn(number + 1),
            }
        };
        match self.interval {
            Interval::Day => of_days(1),
            Interval::Week => of_days(7),
            Interval::Month => of_months(1),
            Interval::Year => of_months(12),
        }
    }
}

impl Subscription {
    /// The period of it that `at` lies in, whether it was there then or not.
    pub fn period(&self, at: Timestamp) -> Told {
        let told = &self.cycle.told;
        if let Some(known) = told.iter().find(|known| known.period.contains(at)) {
            return *known;
        }
        let last = told.last().map(|last| last.period.start);
        let anchor = self.anchor_at.or(last).unwrap_or(self.started_at);
        let stepped = self.cycle.every.period(anchor, self.anchor_day, at);
        let from = told.iter().map(|known| known.period.end).filter(|end| *end <= at).max();
        let until = told.iter().map(|known| known.period.start).filter(|start| at < *start).min();
        Told {
            period: Period {
                start: from.map_or(stepped.start, |from| from.max(stepped.start)),
                end: until.map_or(stepped.end, |until| until.min(stepped.end)),
            },
            // What was not told of, before what was, may have been cut.
            is_cut: until.is_some(),
        }
    }

    /// When it ended, if it did. Of one that was told of before anybody wrote that down, it is when it was told of.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.cycle.ended_at.or((self.status == "canceled").then_some(self.told_at))
    }

    /// Remembers of its periods what was told `before`, until the one begins that is told now.
    pub(super) fn follow(&mut self, before: &Subscription) {
        // An anchor that moved begins a period, whether that is told or not.
        let moved = self
            .anchor_at
            .filter(|at| self.anchor_at != before.anchor_at && *at <= self.told_at);
        if let Some(at) = moved.filter(|_| self.cycle.told.is_empty()) {
            self.cycle.told = vec![self.period(at)];
        }
        let mut told = before.cycle.told.clone();
        if let Some(begins) = self.cycle.told.first().map(|first| first.period.start) {
            // What was not heard of the one before follows from the anchor of then.
            let last = before.period(begins.plus_micros(-1));
            if begins > before.started_at && !told.contains(&last) {
                told.push(last);
            }
            told.retain(|known| known.period.start < begins);
            for known in told.iter_mut().filter(|known| known.period.end > begins) {
                known.period.end = begins;
                known.is_cut = true;
            }
        }
        told.append(&mut self.cycle.told);
        told.drain(..told.len().saturating_sub(PERIODS_MAX));
        self.cycle.told = told;
    }
}
