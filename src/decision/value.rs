//! Refusing a value while it is being read: one marker tells "right shape, unacceptable value" (422) from "wrong shape" (400).
//!
//! Types of this folder refuse bad values in their own `Deserialize`, so that nothing invalid can be built. serde knows one kind of
//! error; the marker is how the API finds out, without parsing prose, which of the two answers the caller gets.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;

/// Begins the text of each error that is about a value and not about its shape.
pub const UNACCEPTABLE: &str = "unacceptable value: ";

/// 2^53: from here on a double may stand for another literal than the one that was written.
pub const EXACT_END: f64 = 9_007_199_254_740_992.0;

/// An error for a value of the right shape that cannot be accepted; `why` says what would be.
pub fn unacceptable<E: de::Error>(why: impl fmt::Display) -> E {
    E::custom(format_args!("{UNACCEPTABLE}{why}"))
}

/// Reads a JSON integer that lies in `min..=max`. 5.5, -0 and "5" have the wrong shape; 5.0 is the integer 5; an
/// integer outside is unacceptable.
pub fn integer<'de, D: Deserializer<'de>>(from: D, what: &'static str, min: i64, max: i64) -> Result<i64, D::Error> {
    if !from.is_human_readable() {
        return IntegerVisitor { what, min, max }.visit_i64(i64::deserialize(from)?);
    }
    from.deserialize_any(IntegerVisitor { what, min, max })
}

struct IntegerVisitor {
    what: &'static str,
    min: i64,
    max: i64,
}

impl IntegerVisitor {
    fn outside<E: de::Error>(&self) -> E {
        unacceptable(format_args!("{} must be from {} to {}", self.what, self.min, self.max))
    }
}

impl Visitor<'_> for IntegerVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as an integer", self.what)
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<i64, E> {
        if (self.min..=self.max).contains(&v) {
            Ok(v)
        } else {
            Err(self.outside())
        }
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<i64, E> {
        match i64::try_from(v) {
            Ok(v) => self.visit_i64(v),
            Err(_) => Err(self.outside()),
        }
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<i64, E> {
        // An integer literal of more than 64 bits reaches us as a float; it is an integer all the same, and too large.
        if v.is_finite() && v.abs() >= 9_223_372_036_854_775_808.0 {
            return Err(self.outside());
        }
        // 5.0 and 5e0 are the integer 5: JSON has one kind of number, and JSON Schema calls them integers. Beyond 2^53 a double may stand
        // for another literal than was written, and -0 is refused, as the sign was meant.
        if v.fract() == 0.0 && v.abs() < EXACT_END && !(v == 0.0 && v.is_sign_negative()) {
            return self.visit_i64(v as i64);
        }
        Err(E::invalid_type(de::Unexpected::Float(v), &self))
    }
}

/// Reads text and makes it a `T`, or says why it is unacceptable.
pub fn text<'de, D: Deserializer<'de>, T>(
    from: D,
    what: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct TextVisitor<F> {
        what: &'static str,
        parse: F,
    }
    impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for TextVisitor<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} as a string", self.what)
        }
        fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
            (self.parse)(v).map_err(|why| unacceptable(format_args!("{}: {why}", self.what)))
        }
    }
    from.deserialize_str(TextVisitor { what, parse })
}
