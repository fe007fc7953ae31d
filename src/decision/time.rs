//! Moments: microseconds since the Unix epoch, in UTC. Reads no clock; now is always an argument.

use super::value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A moment, to the microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The end of a period that never ends.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    pub const fn from_micros(micros: i64) -> Self {
        Timestamp(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Timestamp(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    pub const fn plus_micros(self, micros: i64) -> Self {
        Timestamp(self.0.saturating_add(micros))
    }

    /// Whole seconds from `self` until `later`, rounded up; 0 when `later` is past.
    pub fn seconds_until(self, later: Timestamp) -> i64 {
        let micros = later.0.saturating_sub(self.0).max(0);
        micros.div_euclid(1_000_000) + i64::from(micros.rem_euclid(1_000_000) > 0)
    }

    /// The moment as jiff knows it; moments outside of its years −9999 to 9999 are clamped.
    pub fn to_jiff(self) -> jiff::Timestamp {
        let clamp = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(clamp)
    }

    pub fn from_jiff(moment: jiff::Timestamp) -> Self {
        Timestamp(moment.as_microsecond())
    }

    /// Reads RFC 3339, with any offset.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>()
            .map(Self::from_jiff)
            .map_err(|_| match text.starts_with("9999-12-3") {
                // What many write for never is a little later than any moment that every zone can tell.
                true => format!("{text:?} is later than any time that is taken; leave it out, or end it earlier"),
                false => format!("{text:?} is not a time such as \"2025-11-21T09:30:00Z\" (RFC 3339)"),
            })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.collect_str(self)
        } else {
            to.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return i64::deserialize(from).map(Timestamp);
        }
        value::text(from, "a time", Timestamp::parse)
    }
}
