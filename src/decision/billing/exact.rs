//! Values of meters before they are cut to whole ones: decimals of 27 places, which every meter's factor divides, so no sum of them is
//! ever rounded.

use crate::decision::meter::Factor;
use std::fmt;

/// How many decimals there are: nine each of markup, scale, and dollars that are counted in nano-dollars.
const PLACES: usize = 27;
/// How many parts make one.
const PARTS: i128 = 10i128.pow(PLACES as u32);

/// An exact value: so many whole ones, and parts of one that are never negative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exact {
    whole: i128,
    parts: i128,
}

impl Exact {
    pub const ZERO: Exact = Exact { whole: 0, parts: 0 };

    /// Of what was counted.
    pub fn of(factor: Factor, counted: i64) -> Self {
        let (numerator, denominator) = (i128::from(factor.numerator()), i128::from(factor.denominator()));
        let product = i128::from(counted) * numerator;
        Self {
            whole: product.div_euclid(denominator),
            // The denominator divides the parts of one, so nothing is left over.
            parts: product.rem_euclid(denominator) * (PARTS / denominator),
        }
    }

    pub fn plus(self, other: Exact) -> Self {
        let parts = self.parts + other.parts;
        Self {
            whole: self.whole + other.whole + parts / PARTS,
            parts: parts % PARTS,
        }
    }

    /// Less a whole number.
    pub fn minus(self, whole: i64) -> Self {
        Self {
            whole: self.whole - i128::from(whole),
            ..self
        }
    }

    /// The largest whole number that is not above it.
    pub const fn whole(self) -> i128 {
        self.whole
    }

    /// How many whole ones are missing for it not to be below zero.
    pub fn owed(self) -> i64 {
        i64::try_from(-self.whole.min(0)).unwrap_or(i64::MAX)
    }

    pub const fn is_negative(self) -> bool {
        self.whole < 0
    }

    /// Reads what was written.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, parts) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(parts) || parts.len() > PLACES {
            return None;
        }
        let (whole, parts): (i128, i128) = (whole.parse().ok()?, format!("{parts:0<PLACES$}").parse().ok()?);
        Some(match (is_negative, parts) {
            (false, parts) => Self { whole, parts },
            (true, 0) => Self { whole: -whole, parts },
            (true, parts) => Self {
                whole: -whole - 1,
                parts: PARTS - parts,
            },
        })
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, whole, parts) = match (self.is_negative(), self.parts) {
            (true, 0) => ("-", -self.whole, 0),
            (true, parts) => ("-", -self.whole - 1, PARTS - parts),
            (false, parts) => ("", self.whole, parts),
        };
        if parts == 0 {
            return write!(f, "{sign}{whole}");
        }
        let decimals = format!("{parts:0>PLACES$}");
        write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::amount::Unit;

    #[test]
    fn values_are_written_as_decimals_and_read_back() {
        for text in [
            "0",
            "1",
            "-1",
            "0.5",
            "-0.5",
            "-3.25",
            "12.000000000000000000000000001",
            "-9223372036854775808.1",
        ] {
            assert_eq!(Exact::parse(text).expect(text).to_string(), text);
        }
        for bad in ["", "-", "1.", ".5", "+1", "1e3", "0.0000000000000000000000000001", "--1", " 1"] {
            assert_eq!(Exact::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_owed_are_the_whole_ones_that_are_missing() {
        for (text, owed) in [("0", 0), ("3.5", 0), ("-0.5", 1), ("-1", 1), ("-1.5", 2), ("-30.999", 31)] {
            assert_eq!(Exact::parse(text).expect(text).owed(), owed, "{text}");
        }
    }

    proptest::proptest! {
        /// However use is cut and whatever is told of it, what was told and what is carried is what was counted.
        #[test]
        fn nothing_is_gained_or_lost(
            markup in 0..5_000_000_000i64, scale in 1..1_000_000_000i64, usd in proptest::bool::ANY, negative in proptest::bool::ANY,
            pieces in proptest::collection::vec(-1_000_000_000_000..5_000_000_000_000i64, 0..12)
        ) {
            let unit = if usd { Unit::Usd } else { Unit::Tokens };
            let Some(factor) = Factor::new(markup, scale, unit) else { return Ok(()) };
            let (mut told, mut carried) = (Exact::ZERO, Exact::ZERO);
            for piece in &pieces {
                let (value, rest) = super::super::value(factor, *piece, carried, negative);
                proptest::prop_assert!(negative || value >= 0);
                proptest::prop_assert!(rest.whole() <= 0, "whole ones are told, not carried: {rest}");
                told = told.minus(-value);
                carried = rest;
            }
            let all = pieces.iter().fold(Exact::ZERO, |sum, piece| sum.plus(Exact::of(factor, *piece)));
            proptest::prop_assert_eq!(told.plus(carried), all);
            proptest::prop_assert_eq!(Exact::parse(&carried.to_string()), Some(carried));
        }
    }
}
