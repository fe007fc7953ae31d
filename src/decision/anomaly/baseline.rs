//! What is usual: the median of what a subject used at this hour of the week in the last four weeks, with the hours beside it, since four
//! values alone say little; and how far such values lie from it (their median absolute deviation). Medians, so that one bad day, or an
//! earlier attack, does not become the measure.
//!
//! An ordinary hour at an unusual time is no excess: where a subject is quiet at this hour, a quarter of its median hour with use stands for
//! what is usual.
//!
//! Who is not known for a week is measured by the others of its plan, the cohort, as they were a week ago, if there are enough of them. Where
//! nothing is known, a rule's least amount stands for what is usual: a new customer may use a multiple of it before a rule acts.

use super::super::amount::{Amounts, Unit};
use super::super::time::Timestamp;

pub const HOUR_SECONDS: i64 = 3_600;
const WEEK_HOURS: i64 = 7 * 24;
/// How many weeks are looked at.
pub const WEEKS: i64 = 4;
/// How far back that reaches, with an hour on each side.
pub const HISTORY_HOURS: i64 = WEEKS * WEEK_HOURS + OVERLAP_HOURS + 1;
/// A window may begin in the hours before.
const OVERLAP_HOURS: i64 = super::OVER_MINUTES_MAX / 60 + 1;
/// From so many others on a cohort is a measure.
pub const COHORT_MIN: usize = 5;
/// Of which hours a median is taken, beside the same hour of the week.
const NEIGHBOURS: [i64; 3] = [-1, 0, 1];
/// Of an ordinary hour, what is usual at every hour: one of this part of it.
const ORDINARY_PART: i64 = 4;

/// What is usual in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usual {
    pub typical: i64,
    /// How far single values lie from it.
    pub spread: i64,
}

/// The number of an hour since 1970.
pub fn hour_of(at: Timestamp) -> i64 {
    at.micros().div_euclid(HOUR_SECONDS * 1_000_000)
}

/// What a subject used, hour by hour.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// By hour, rising; hours without use may be left out.
    hours: Vec<(i64, Amounts)>,
    /// The first hour that anything is known of.
    since: i64,
    /// The median of the hours with use.
    ordinary: Amounts,
}

impl History {
    /// `hours` rise; what is not among them from `since` on was an hour without use.
    pub fn new(hours: Vec<(i64, Amounts)>, since: i64) -> Self {
        let ordinary = |unit| {
            let used = hours.iter().map(|(_, amounts)| amounts.of(unit)).filter(|amount| *amount > 0);
            middle(used.collect()).typical
        };
        Self {
            ordinary: Amounts {
                tokens: ordinary(Unit::Tokens),
                usd: ordinary(Unit::Usd),
                requests: ordinary(Unit::Requests),
                credits: ordinary(Unit::Credits),
            },
            hours,
            since,
        }
    }

    fn at(&self, hour: i64, unit: Unit) -> i64 {
        let found = self.hours.binary_search_by_key(&hour, |(known, _)| *known);
        found.map_or(0, |place| self.hours[place].1.of(unit))
    }

    /// What is usual from `from` to `to`; `None`: it is not known for long enough.
    pub fn usual(&self, unit: Unit, from: Timestamp, to: Timestamp) -> Option<Usual> {
        over(from, to, |hour| {
            let weeks = (1..=WEEKS).map(|week| hour - week * WEEK_HOURS);
            let hours = weeks.flat_map(|same| NEIGHBOURS.map(|beside| same + beside));
            let values: Vec<i64> = hours.filter(|hour| *hour >= self.since).map(|hour| self.at(hour, unit)).collect();
            (values.len() >= NEIGHBOURS.len()).then(|| {
                let usual = middle(values);
                Usual {
                    typical: usual.typical.max(self.ordinary.of(unit) / ORDINARY_PART),
                    ..usual
                }
            })
        })
    }
}

/// What others of a plan used at one hour each, a week ago.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cohort {
    pub hours: Vec<(i64, Vec<Amounts>)>,
}

impl Cohort {
    /// Which hours it needs of others for a window.
    pub fn hours_of(from: Timestamp, to: Timestamp) -> Vec<i64> {
        (hour_of(from)..=hour_of(to.plus_micros(-1)))
            .map(|hour| hour - WEEK_HOURS)
            .collect()
    }

    /// What is usual among them; `None`: there are too few.
    pub fn usual(&self, unit: Unit, from: Timestamp, to: Timestamp) -> Option<Usual> {
        over(from, to, |hour| {
            let (_, others) = self.hours.iter().find(|(known, _)| *known == hour - WEEK_HOURS)?;
            (others.len() >= COHORT_MIN).then(|| middle(others.iter().map(|amounts| amounts.of(unit)).collect()))
        })
    }
}

/// Adds up a window, of each hour as much as lies in it.
fn over(from: Timestamp, to: Timestamp, usual: impl Fn(i64) -> Option<Usual>) -> Option<Usual> {
    let micros_of_hour = i128::from(HOUR_SECONDS) * 1_000_000;
    let (mut typical, mut spread) = (0_i128, 0_i128);
    for hour in hour_of(from)..=hour_of(to.plus_micros(-1)) {
        let begins = i128::from(hour) * micros_of_hour;
        let part = (begins + micros_of_hour).min(i128::from(to.micros())) - begins.max(i128::from(from.micros()));
        let one = usual(hour)?;
        typical += i128::from(one.typical) * part;
        spread += i128::from(one.spread) * part;
    }
    let narrow = |sum: i128| i64::try_from(sum / micros_of_hour).unwrap_or(i64::MAX);
    Some(Usual {
        typical: narrow(typical),
        spread: narrow(spread),
    })
}

/// Median and median absolute deviation; of an even number of values the mean of the two in the middle, rounded down.
pub fn middle(mut values: Vec<i64>) -> Usual {
    let typical = median(&mut values);
    let mut distances: Vec<i64> = values.iter().map(|value| value.saturating_sub(typical).saturating_abs()).collect();
    Usual {
        typical,
        spread: median(&mut distances),
    }
}

fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    let half = values.len() / 2;
    match (values.len() % 2, values.get(half)) {
        (1, Some(middle)) => *middle,
        (_, Some(upper)) => {
            let lower = values[half - 1];
            lower + (upper - lower) / 2
        }
        (_, None) => 0,
    }
}
