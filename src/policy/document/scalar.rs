//! The single values of policy documents: whole numbers in bounds, usd as quoted decimals, limits whose unit decides, dates.

use crate::decision::amount::{LIMIT_COUNT_MAX, Ratio};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::decision::value::{self, unacceptable};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A whole number in bounds, which the schema tells too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct Whole<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Whole<MIN, MAX> {
    /// Used for defaults and by importers; `None` outside of the bounds.
    pub const fn new(number: i64) -> Option<Self> {
        if number >= MIN && number <= MAX { Some(Self(number)) } else { None }
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A default whose bounds are checked when this is compiled.
pub(super) const fn whole<const MIN: i64, const MAX: i64, const DEFAULT: i64>() -> Whole<MIN, MAX> {
    const { assert!(DEFAULT >= MIN && DEFAULT <= MAX) };
    Whole(DEFAULT)
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        value::integer(from, "a whole number", MIN, MAX).map(Self)
    }
}

/// An amount in usd, zero or more. Only ever a quoted decimal: a bare number would be a binary fraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Dollars(Usd);

impl Dollars {
    /// `None` below zero.
    pub fn new(usd: Usd) -> Option<Self> {
        (usd >= Usd::ZERO).then_some(Self(usd))
    }

    pub const fn get(self) -> Usd {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(Usd::parse(text)?).ok_or_else(|| format!("{text:?} is below zero"))
    }
}

/// The advice for a bare number where usd belongs.
fn quote_it<E: de::Error>(number: impl fmt::Display) -> E {
    E::custom(format_args!(
        "an amount in usd is a decimal in quotes: write \"{number}\", not {number}"
    ))
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct DollarsVisitor;
        impl Visitor<'_> for DollarsVisitor {
            type Value = Dollars;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount in usd as a quoted decimal such as \"12.50\"")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Dollars, E> {
                Dollars::parse(v).map_err(unacceptable)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Dollars, E> {
                Err(quote_it(v))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Dollars, E> {
                Err(quote_it(v))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Dollars, E> {
                Err(quote_it(v))
            }
        }
        from.deserialize_any(DollarsVisitor)
    }
}

/// A limit in the unit of its budget: an integer for tokens, requests and credits, a quoted decimal for usd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Count(i64),
    Usd(Usd),
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Count(count) => to.serialize_i64(*count),
            Limit::Usd(usd) => usd.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a limit: an integer, or a quoted decimal for usd")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Limit, E> {
                Dollars::parse(v).map(|dollars| Limit::Usd(dollars.get())).map_err(unacceptable)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Limit, E> {
                let count = i64::try_from(v).unwrap_or(i64::MAX);
                Ok(Limit::Count(count))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Limit, E> {
                if v < 0 {
                    return Err(unacceptable(format_args!("a limit must be from 0 to {LIMIT_COUNT_MAX}")));
                }
                Ok(Limit::Count(v))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Limit, E> {
                // A literal of more than 64 bits arrives as a float; it is a number of tokens all the same, and too large.
                if v.is_finite() && v >= 9_223_372_036_854_775_808.0 {
                    return Ok(Limit::Count(i64::MAX));
                }
                if v.fract() == 0.0 && v < value::EXACT_END && !v.is_sign_negative() {
                    return Ok(Limit::Count(v as i64));
                }
                Err(E::custom(format_args!(
                    "a limit is an integer; if usd is meant, a decimal in quotes: \"{v}\""
                )))
            }
        }
        from.deserialize_any(LimitVisitor)
    }
}

/// A number with at most four decimals, in ten-thousandths; read as a decimal and never as a binary fraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fraction(i64);

impl Fraction {
    pub const ONE: Fraction = Fraction(Ratio::DENOMINATOR);
    /// What it may be at most.
    pub const WHOLE_MAX: i64 = 1_000_000;

    pub const fn ten_thousandths(self) -> i64 {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not a number from 0 to {} with at most four decimals", Self::WHOLE_MAX);
        let decimal: rust_decimal::Decimal = text.parse().map_err(|_| wrong())?;
        let scaled = decimal.checked_mul(Ratio::DENOMINATOR.into()).ok_or_else(wrong)?.normalize();
        let scaled = if scaled.scale() == 0 { i64::try_from(scaled).ok() } else { None };
        let in_bounds = |n: &i64| (0..=Self::WHOLE_MAX * Ratio::DENOMINATOR).contains(n);
        scaled.filter(in_bounds).map(Self).ok_or_else(wrong)
    }
}

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (whole, rest) = (self.0 / Ratio::DENOMINATOR, self.0 % Ratio::DENOMINATOR);
        if rest == 0 {
            return to.serialize_i64(whole);
        }
        // Eleven digits pass through a double and back without loss.
        let text = format!("{whole}.{rest:04}");
        to.serialize_f64(text.parse().expect("a decimal of digits is a number"))
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FractionVisitor;
        impl Visitor<'_> for FractionVisitor {
            type Value = Fraction;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with at most four decimals")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Fraction, E> {
                Fraction::parse(&v.to_string()).map_err(unacceptable)
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Fraction, E> {
                Fraction::parse(&v.to_string()).map_err(unacceptable)
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Fraction, E> {
                // The shortest text of a double is the decimal that was written, for as few digits as we accept.
                Fraction::parse(&v.to_string()).map_err(unacceptable)
            }
        }
        from.deserialize_any(FractionVisitor)
    }
}

/// From when a price holds: a date (its midnight in UTC), or a moment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EffectiveFrom {
    at: Timestamp,
    text: String,
}

impl EffectiveFrom {
    /// Before any request.
    pub fn always() -> Self {
        Self {
            at: Timestamp::from_micros(0),
            text: "1970-01-01".to_owned(),
        }
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// A date where it is one, as price versions begin with.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a date such as \"2025-09-29\"");
        if text.len() != "2025-09-29".len() {
            let at = Timestamp::parse(text).map_err(|_| wrong())?;
            return Ok(Self { at, text: at.to_string() });
        }
        let date: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
        let midnight = date.to_zoned_datetime(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
        Ok(Self {
            at: Timestamp::from_jiff(midnight.timestamp()),
            text: date.to_string(),
        })
    }
}

impl Serialize for EffectiveFrom {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for EffectiveFrom {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        value::text(from, "a date", Self::parse)
    }
}

/// What a cache hit counts for: nothing, all of the avoided use, or a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bill(Ratio);

impl Bill {
    pub const fn share(self) -> Ratio {
        self.0
    }
}

impl Serialize for Bill {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ratio::ZERO => to.serialize_str("free"),
            Ratio::ONE => to.serialize_str("full"),
            share => share.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Bill {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct BillVisitor;
        impl BillVisitor {
            fn share<E: de::Error>(text: &str) -> Result<Bill, E> {
                Ratio::parse(text).map(Bill).map_err(unacceptable)
            }
        }
        impl Visitor<'_> for BillVisitor {
            type Value = Bill;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("free, full or a share from 0 to 1")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Bill, E> {
                match v {
                    "free" => Ok(Bill(Ratio::ZERO)),
                    "full" => Ok(Bill(Ratio::ONE)),
                    other => Err(unacceptable(format_args!(
                        "{other:?} is neither free, full nor a share from 0 to 1"
                    ))),
                }
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Bill, E> {
                Self::share(&v.to_string())
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Bill, E> {
                Self::share(&v.to_string())
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Bill, E> {
                Self::share(&v.to_string())
            }
        }
        from.deserialize_any(BillVisitor)
    }
}
