//! Amounts in the four units in which a budget can count.

use super::money::Usd;
use super::value;
use serde::{Deserialize, Deserializer, Serialize};

/// The most tokens, requests or credits that one call may name: 2^36.
pub const COUNT_MAX: i64 = 1 << 36;
/// The most that a budget in tokens, requests or credits may be: below 2^52, so that a store that counts in doubles stays exact.
pub const LIMIT_COUNT_MAX: i64 = 4_000_000_000_000_000;

/// What a budget counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Tokens,
    Usd,
    Requests,
    Credits,
}

impl Unit {
    pub const ALL: [Unit; 4] = [Unit::Tokens, Unit::Usd, Unit::Requests, Unit::Credits];

    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Tokens => "tokens",
            Unit::Usd => "usd",
            Unit::Requests => "requests",
            Unit::Credits => "credits",
        }
    }

    pub fn parse(text: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

/// An amount in each unit at once: what a request needs, holds or has used. usd is in nano-dollars.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Amounts {
    pub tokens: i64,
    pub usd: i64,
    pub requests: i64,
    pub credits: i64,
}

impl Amounts {
    pub const ZERO: Amounts = Amounts {
        tokens: 0,
        usd: 0,
        requests: 0,
        credits: 0,
    };

    /// All that there can be.
    pub const MAX: Amounts = Amounts {
        tokens: i64::MAX,
        usd: i64::MAX,
        requests: i64::MAX,
        credits: i64::MAX,
    };

    pub const fn of(&self, unit: Unit) -> i64 {
        match unit {
            Unit::Tokens => self.tokens,
            Unit::Usd => self.usd,
            Unit::Requests => self.requests,
            Unit::Credits => self.credits,
        }
    }

    pub const fn usd(&self) -> Usd {
        Usd::from_nanos(self.usd)
    }

    /// Unit by unit; `None` when a sum leaves 64 bits.
    pub fn zip(self, other: Amounts, f: impl Fn(i64, i64) -> Option<i64>) -> Option<Amounts> {
        Some(Amounts {
            tokens: f(self.tokens, other.tokens)?,
            usd: f(self.usd, other.usd)?,
            requests: f(self.requests, other.requests)?,
            credits: f(self.credits, other.credits)?,
        })
    }

    pub fn checked_add(self, other: Amounts) -> Option<Amounts> {
        self.zip(other, i64::checked_add)
    }

    pub fn checked_sub(self, other: Amounts) -> Option<Amounts> {
        self.zip(other, i64::checked_sub)
    }

    pub fn max(self, other: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.max(other.tokens),
            usd: self.usd.max(other.usd),
            requests: self.requests.max(other.requests),
            credits: self.credits.max(other.credits),
        }
    }

    /// The sum, unit by unit; what leaves 64 bits stays at their edge.
    pub fn plus(self, other: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.saturating_add(other.tokens),
            usd: self.usd.saturating_add(other.usd),
            requests: self.requests.saturating_add(other.requests),
            credits: self.credits.saturating_add(other.credits),
        }
    }

    /// The signed difference, unit by unit; what leaves 64 bits stays at their edge.
    pub fn minus(self, other: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.saturating_sub(other.tokens),
            usd: self.usd.saturating_sub(other.usd),
            requests: self.requests.saturating_sub(other.requests),
            credits: self.credits.saturating_sub(other.credits),
        }
    }

    /// What of `self` is beyond `held`, unit by unit, never below zero.
    pub fn beyond(self, held: Amounts) -> Amounts {
        Amounts {
            tokens: self.tokens.saturating_sub(held.tokens).max(0),
            usd: self.usd.saturating_sub(held.usd).max(0),
            requests: self.requests.saturating_sub(held.requests).max(0),
            credits: self.credits.saturating_sub(held.credits).max(0),
        }
    }
}

/// A number of tokens, requests, seconds or the like that a caller gives: an integer from 0 to 2^36.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Count(i64);

impl Count {
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        value::integer(from, "this number", 0, COUNT_MAX).map(Count)
    }
}

/// A share from 0 to 1 in ten-thousandths: exact, so that money can be multiplied by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ratio(u16);

impl Ratio {
    pub const ZERO: Ratio = Ratio(0);
    pub const ONE: Ratio = Ratio(10_000);
    pub const DENOMINATOR: i64 = 10_000;

    pub const fn ten_thousandths(self) -> i64 {
        self.0 as i64
    }

    pub const fn from_ten_thousandths(n: u16) -> Option<Ratio> {
        if n <= 10_000 { Some(Ratio(n)) } else { None }
    }

    /// Reads the decimal text of a JSON number, so that 0.07 is seven hundredths and not the nearest double.
    pub fn parse(text: &str) -> Result<Ratio, String> {
        let wrong = || format!("{text} is not a share from 0 to 1 with at most four decimals");
        let decimal: rust_decimal::Decimal = text.parse().map_err(|_| wrong())?;
        let scaled = decimal
            .checked_mul(rust_decimal::Decimal::from(Self::DENOMINATOR))
            .ok_or_else(wrong)?
            .normalize();
        if scaled.scale() != 0 {
            return Err(wrong());
        }
        u16::try_from(scaled).ok().and_then(Ratio::from_ten_thousandths).ok_or_else(wrong)
    }
}

impl std::fmt::Debug for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/10000", self.0)
    }
}

impl Serialize for Ratio {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return to.serialize_u16(self.0);
        }
        // A ratio is a JSON number on the wire. Four decimals pass through a double and back without loss.
        match self.0 {
            0 => to.serialize_u64(0),
            10_000 => to.serialize_u64(1),
            n => to.serialize_f64(f64::from(n) / 10_000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct RatioVisitor;
        impl serde::de::Visitor<'_> for RatioVisitor {
            type Value = Ratio;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a share as a number from 0 to 1")
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Ratio, E> {
                Ratio::parse(&v.to_string()).map_err(value::unacceptable)
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Ratio, E> {
                Ratio::parse(&v.to_string()).map_err(value::unacceptable)
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Ratio, E> {
                // The shortest text of a double is the decimal that was written, for as few digits as we accept.
                Ratio::parse(&v.to_string()).map_err(value::unacceptable)
            }
        }
        if !from.is_human_readable() {
            return u16::deserialize(from).map(Ratio);
        }
        from.deserialize_any(RatioVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_integers_in_range() {
        for (json, expected) in [
            ("0", Some(0)),
            ("68719476736", Some(COUNT_MAX)),
            ("5.0", Some(5)),
            ("1e3", Some(1_000)),
        ] {
            assert_eq!(serde_json::from_str::<Count>(json).ok().map(Count::get), expected, "{json}");
        }
        for (json, is_about_the_value) in [
            ("-1", true),
            ("68719476737", true),
            ("99999999999999999999999", true),
            ("5.5", false),
            ("-0", false),
            ("\"5\"", false),
            ("null", false),
            ("true", false),
            ("1e400", false),
            ("[5]", false),
        ] {
            let error = serde_json::from_str::<Count>(json).expect_err(json).to_string();
            assert_eq!(error.starts_with(value::UNACCEPTABLE), is_about_the_value, "{json}: {error}");
        }
    }

    #[test]
    fn ratios_are_read_as_decimals() {
        for (json, expected) in [("0", 0), ("1", 10_000), ("0.07", 700), ("0.9999", 9_999), ("1.0", 10_000)] {
            assert_eq!(
                serde_json::from_str::<Ratio>(json).expect(json).ten_thousandths(),
                expected,
                "{json}"
            );
        }
        for json in ["1.1", "-0.1", "0.00001", "\"0.5\"", "2", "-1", "1e-9"] {
            assert!(serde_json::from_str::<Ratio>(json).is_err(), "{json}");
        }
    }
}
