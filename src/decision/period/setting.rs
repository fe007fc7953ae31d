//! What a workspace sets about its periods, and the periods that would follow if it had never set anything else.

use super::super::time::Timestamp;
use super::super::value;
use super::day::Day;
use super::zone::Zone;
use super::{Period, PeriodKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MINUTE_MICROS: i64 = 60_000_000;
const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;

/// 0001-01-01 and 9998-12-31 in UTC. Moments outside are taken for the nearer one: no clock and no request gets there, and within
/// these years no date and no sum can leave its range.
const MOMENT_MIN: Timestamp = Timestamp::from_micros(-62_135_596_800_000_000);
const MOMENT_MAX: Timestamp = Timestamp::from_micros(253_370_678_400_000_000);

/// The day of the month on which billing periods begin: 1 to 31. In shorter months it is their last day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AnchorDay(u8);

impl AnchorDay {
    pub const MIN: AnchorDay = AnchorDay(1);
    pub const MAX: AnchorDay = AnchorDay(31);

    pub fn new(day: u8) -> Result<Self, String> {
        let anchor = Self(day);
        if (Self::MIN..=Self::MAX).contains(&anchor) {
            Ok(anchor)
        } else {
            Err(format!("a billing anchor day must be from {} to {}", Self::MIN.0, Self::MAX.0))
        }
    }

    pub const fn get(self) -> u8 {
        self.0
    }

    /// The day of the month that `at` lies in, in a zone.
    pub fn of(at: Timestamp, zone: &Zone) -> Self {
        let (_, day) = zone.day_at(at.clamp(MOMENT_MIN, MOMENT_MAX)).in_month();
        Self(u8::try_from(day).map_or(1, |day| day.clamp(Self::MIN.0, Self::MAX.0)))
    }
}

impl Default for AnchorDay {
    fn default() -> Self {
        Self::MIN
    }
}

impl Serialize for AnchorDay {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(self.0.into())
    }
}

impl<'de> Deserialize<'de> for AnchorDay {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (min, max) = (Self::MIN.0.into(), Self::MAX.0.into());
        value::integer(from, "a billing anchor day", min, max).map(|day| Self(day as u8))
    }
}

/// Where and from which day of the month on a workspace counts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Setting {
    pub timezone: Zone,
    pub billing_anchor_day: AnchorDay,
}

impl Setting {
    /// The period of `kind` that `at` lies in.
    pub fn period(&self, kind: PeriodKind, at: Timestamp) -> Period {
        let at = at.clamp(MOMENT_MIN, MOMENT_MAX);
        match kind {
            PeriodKind::Minute => even(MINUTE_MICROS, at),
            PeriodKind::Hour => even(HOUR_MICROS, at),
            PeriodKind::Day => self.of_days(at, |day| (day, day.plus(1))),
            PeriodKind::Week => self.of_days(at, |day| (day.monday(), day.monday().plus(7))),
            PeriodKind::Month => self.of_days(at, |day| {
                let (month, _) = day.in_month();
                (month.first(), month.plus(1).first())
            }),
            PeriodKind::Year => self.of_days(at, |day| {
                let january = day.in_month().0.january();
                (january.first(), january.plus(12).first())
            }),
            PeriodKind::Billing => self.of_days(at, |day| self.billing_days(day)),
            PeriodKind::Lifetime => Period::LIFETIME,
        }
    }

    /// The first day of the billing period that `day` lies in, and of the next one.
    fn billing_days(&self, day: Day) -> (Day, Day) {
        let (month, _) = day.in_month();
        let anchor = i64::from(self.billing_anchor_day.0);
        let turn = month.day(anchor);
        if turn <= day {
            (turn, month.plus(1).day(anchor))
        } else {
            (month.plus(-1).day(anchor), turn)
        }
    }

    /// The period at a moment whose first day, and the next one's, `days` tells for each day of it.
    fn of_days(&self, at: Timestamp, days: impl Fn(Day) -> (Day, Day)) -> Period {
        let (first, mut next) = days(self.timezone.day_at(at));
        let mut start = self.timezone.start_of(first);
        let mut end = self.timezone.start_of(next);
        // Clocks that go back over a midnight show a day again that has ended already: the next one goes on.
        while end <= at {
            start = end;
            (_, next) = days(next);
            end = self.timezone.start_of(next);
        }
        Period { start, end }
    }

    /// Whether periods of `kind` are the same by both settings.
    pub(super) fn agrees(&self, other: &Setting, kind: PeriodKind) -> bool {
        match kind {
            PeriodKind::Minute | PeriodKind::Hour | PeriodKind::Lifetime => true,
            PeriodKind::Day | PeriodKind::Week | PeriodKind::Month | PeriodKind::Year => self.timezone == other.timezone,
            PeriodKind::Billing => self == other,
        }
    }
}

/// The period at a moment, of those of one length that are counted from the epoch.
fn even(micros: i64, at: Timestamp) -> Period {
    let start = at.plus_micros(-at.micros().rem_euclid(micros));
    Period {
        start,
        end: start.plus_micros(micros),
    }
}
