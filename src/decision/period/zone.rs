//! Time zones, and where the days of a zone begin: at the first instant whose local time is at or past 00:00.
//!
//! That one sentence decides every clock change. A midnight that clocks jump over begins the day right after the jump; a midnight that
//! they show twice begins it the first time; a day that a zone leaves out is empty, for it begins where the next one does.

use super::super::time::Timestamp;
use super::super::value;
use super::day::Day;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The most characters of a time zone's name.
pub const ZONE_CHARS_MAX: usize = 64;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// Names of the database that stand for a zone that nobody has set.
const NAMES_OF_NO_ZONE: [&str; 2] = ["Etc/Unknown", "Factory"];

/// A time zone of the IANA database. Cheap to clone; two are equal if their names are.
#[derive(Clone)]
pub struct Zone {
    rules: TimeZone,
    /// Most workspaces are in UTC, whose days are plain arithmetic.
    is_utc: bool,
}

impl Zone {
    pub const UTC: Zone = Zone {
        rules: TimeZone::UTC,
        is_utc: true,
    };

    /// Reads a name in any case; it is kept as the database spells it.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name.len() > ZONE_CHARS_MAX {
            return Err(format!("must have at most {ZONE_CHARS_MAX} characters"));
        }
        let found = TimeZoneDatabase::bundled().get(name).ok();
        let named = found.filter(|rules| rules.iana_name().is_some_and(|name| !NAMES_OF_NO_ZONE.contains(&name)));
        let rules =
            named.ok_or_else(|| format!("{name:?} is not a name of the IANA time zone database, such as \"Europe/Berlin\" or \"UTC\""))?;
        let is_utc = rules.to_offset(jiff::Timestamp::UNIX_EPOCH) == Offset::UTC && rules.following(jiff::Timestamp::MIN).next().is_none();
        Ok(Self { rules, is_utc })
    }

    pub fn name(&self) -> &str {
        self.rules.iana_name().expect("a zone is only made from a name of the database")
    }

    /// The local date at a moment, as `2025-11-21`.
    pub fn date(&self, at: Timestamp) -> String {
        self.rules.to_datetime(at.to_jiff()).date().to_string()
    }

    /// The local day at a moment.
    pub(super) fn day_at(&self, at: Timestamp) -> Day {
        let local = if self.is_utc {
            at
        } else {
            at.plus_seconds(self.rules.to_offset(at.to_jiff()).seconds().into())
        };
        Day(local.micros().div_euclid(DAY_MICROS))
    }

    /// The first instant whose local time is at or past 00:00 of `day`, which is one of the years 0 to 9999.
    pub(super) fn start_of(&self, day: Day) -> Timestamp {
        let midnight = Timestamp::from_micros(day.0 * DAY_MICROS);
        if self.is_utc {
            return midnight;
        }
        let read_with = |offset: Offset| midnight.plus_seconds(-i64::from(offset.seconds()));
        match self.rules.to_ambiguous_timestamp(civil_midnight(day)).offset() {
            AmbiguousOffset::Unambiguous { offset } => read_with(offset),
            AmbiguousOffset::Fold { before, .. } => read_with(before),
            // The jump itself lies after the midnight as the later offset reads it, and at or before it as the earlier one does.
            AmbiguousOffset::Gap { before, after } => {
                let jump = self.rules.following(read_with(after).to_jiff()).next();
                jump.map_or(read_with(before), |change| Timestamp::from_jiff(change.timestamp()))
            }
        }
    }
}

fn civil_midnight(day: Day) -> DateTime {
    let (month, day) = day.in_month();
    let (year, month) = month.civil();
    DateTime::new(year as i16, month as i8, day as i8, 0, 0, 0, 0).expect("a day of the years 0 to 9999")
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        value::text(from, "a time zone", Self::parse)
    }
}
