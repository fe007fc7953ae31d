//! When a grant's balance becomes its amount anew. Pure. Recurrences are counted from their anchor in UTC: each 31st is the last day in
//! shorter months.

use crate::decision::time::Timestamp;
use jiff::Span;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

const DAY_MICROS: i64 = 86_400_000_000;

/// When the balance becomes `amount` anew: at `anchor` and each whole number of intervals before and after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recurrence {
    /// How often.
    pub interval: Interval,
    /// A recurrence, from which the others are counted in UTC.
    #[schema(value_type = String, format = DateTime)]
    pub anchor: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GrantInterval)]
pub enum Interval {
    Day,
    Week,
    Month,
    Year,
}

impl Recurrence {
    /// The last recurrence at or before `at`.
    pub(super) fn last(&self, at: Timestamp) -> Timestamp {
        let guess = self.number_near(at);
        // The guess is off by one at most: months and years are counted by their numbers.
        let candidates = [guess + 1, guess, guess - 1].map(|number| self.nth(number));
        candidates.into_iter().find(|start| *start <= at).unwrap_or(Timestamp::MIN)
    }

    /// The first recurrence after `at`.
    pub(super) fn next(&self, at: Timestamp) -> Timestamp {
        let guess = self.number_near(at);
        let candidates = [guess - 1, guess, guess + 1, guess + 2].map(|number| self.nth(number));
        candidates.into_iter().find(|start| *start > at).unwrap_or(Timestamp::MAX)
    }

    fn number_near(&self, at: Timestamp) -> i64 {
        let days = |count: i64| (at.micros().saturating_sub(self.anchor.micros())).div_euclid(count * DAY_MICROS);
        let (from, to) = (self.civil(self.anchor), self.civil(at));
        let years = i64::from(to.year()) - i64::from(from.year());
        match self.interval {
            Interval::Day => days(1),
            Interval::Week => days(7),
            Interval::Month => years * 12 + i64::from(to.month()) - i64::from(from.month()),
            Interval::Year => years,
        }
    }

    fn nth(&self, number: i64) -> Timestamp {
        let span = match self.interval {
            Interval::Day => return self.anchor.plus_micros(number.saturating_mul(DAY_MICROS)),
            Interval::Week => return self.anchor.plus_micros(number.saturating_mul(7 * DAY_MICROS)),
            Interval::Month => Span::new().try_months(number),
            Interval::Year => Span::new().try_years(number),
        };
        let moment = span.and_then(|span| self.civil(self.anchor).checked_add(span));
        let moment = moment.and_then(|moment| TimeZone::UTC.to_timestamp(moment));
        // Outside of the calendar's years there is no recurrence.
        let outside = if number < 0 { Timestamp::MIN } else { Timestamp::MAX };
        moment.map_or(outside, Timestamp::from_jiff)
    }

    fn civil(&self, at: Timestamp) -> jiff::civil::DateTime {
        TimeZone::UTC.to_datetime(at.to_jiff())
    }
}
