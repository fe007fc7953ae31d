//! Money: whole nano-dollars in 64 bits, every operation checked. Never a float, never a silent zero.
//!
//! Invariant: a cost is rounded once, when its ledger entry is written (half to even, in [`half_even`]); everything after is integer
//! addition, so every sum is exact.

use super::value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Nano-dollars in a dollar.
pub const NANOS_PER_USD: i64 = 1_000_000_000;
/// What one ledger entry may cost at most.
pub const ENTRY_COST_USD_MAX: i64 = 1_000_000;
/// What a budget in usd may be at most: below 2^52 nano-dollars, so that a store that counts in doubles stays exact.
pub const LIMIT_USD_MAX: i64 = 4_000_000;

/// An amount of US dollars in nano-dollars; negative only in corrections and differences.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(i64);

impl Usd {
    pub const ZERO: Usd = Usd(0);
    pub const ENTRY_MAX: Usd = Usd(ENTRY_COST_USD_MAX * NANOS_PER_USD);
    pub const LIMIT_MAX: Usd = Usd(LIMIT_USD_MAX * NANOS_PER_USD);

    pub const fn from_nanos(nanos: i64) -> Self {
        Usd(nanos)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    pub fn checked_add(self, other: Usd) -> Option<Usd> {
        self.0.checked_add(other.0).map(Usd)
    }

    pub fn checked_sub(self, other: Usd) -> Option<Usd> {
        self.0.checked_sub(other.0).map(Usd)
    }

    /// Reads a plain decimal such as `12.5`: an optional sign, digits, at most nine decimals. No exponent, no blanks, no `+`.
    pub fn parse(text: &str) -> Result<Usd, String> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(format!("{text:?} is not a decimal number such as \"12.50\""));
        }
        if fraction.len() > 9 {
            return Err(format!("{text:?} has more than nine decimals"));
        }
        let too_large = || format!("{text:?} is too large");
        let whole: i64 = whole.parse().map_err(|_| too_large())?;
        let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| too_large())?;
        let nanos = whole
            .checked_mul(NANOS_PER_USD)
            .and_then(|n| n.checked_add(fraction))
            .ok_or_else(too_large)?;
        Ok(Usd(if negative { -nanos } else { nanos }))
    }

    /// Whether a text that cannot be read is a decimal like others, only of more than an amount can be.
    pub fn is_beyond(text: &str) -> bool {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        all_digits(whole) && all_digits(fraction) && fraction.len() <= 9 && Usd::parse(text).is_err()
    }
}

/// How many decimals an amount is written with.
const DECIMALS: usize = 9;
/// The longest text of an amount: a sign, ten digits, the point, the decimals.
const TEXT_BYTES_MAX: usize = 1 + 10 + 1 + DECIMALS;

impl Usd {
    /// Writes the decimal from its last digit to its first, without the machinery of formatting: each answer has several.
    fn write(self, buffer: &mut [u8; TEXT_BYTES_MAX]) -> &str {
        let mut left = self.0.unsigned_abs();
        let mut start = buffer.len();
        let point = buffer.len() - DECIMALS - 1;
        while left > 0 || start >= point {
            start -= 1;
            if start == point {
                buffer[start] = b'.';
                start -= 1;
            }
            buffer[start] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        if self.0 < 0 {
            start -= 1;
            buffer[start] = b'-';
        }
        std::str::from_utf8(&buffer[start..]).unwrap_or_default()
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.write(&mut [0; TEXT_BYTES_MAX]))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(self.write(&mut [0; TEXT_BYTES_MAX]))
        } else {
            to.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return i64::deserialize(from).map(Usd);
        }
        value::text(from, "an amount in usd", Usd::parse)
    }
}

/// `numerator / denominator` to the nearest integer, ties to the even one. The only rounding of money in Weir.
pub fn half_even(numerator: i128, denominator: i128) -> i128 {
    debug_assert!(denominator > 0);
    let floor = numerator.div_euclid(denominator);
    let twice = numerator.rem_euclid(denominator) * 2;
    match twice.cmp(&denominator) {
        std::cmp::Ordering::Less => floor,
        std::cmp::Ordering::Greater => floor + 1,
        std::cmp::Ordering::Equal => floor + (floor & 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usd_reads_and_writes_nine_decimals() {
        for (text, nanos, written) in [
            ("0", 0, "0.000000000"),
            ("12.5", 12_500_000_000, "12.500000000"),
            ("0.000000001", 1, "0.000000001"),
            ("-0.01", -10_000_000, "-0.010000000"),
            ("4000000", 4_000_000_000_000_000, "4000000.000000000"),
        ] {
            let usd = Usd::parse(text).expect(text);
            assert_eq!((usd.nanos(), usd.to_string().as_str()), (nanos, written), "{text}");
        }
    }

    #[test]
    fn the_widest_amounts_are_written_whole() {
        assert_eq!(Usd::from_nanos(i64::MIN).to_string(), "-9223372036.854775808");
        assert_eq!(Usd::from_nanos(i64::MAX).to_string(), "9223372036.854775807");
        assert_eq!(format!("{:>12}", Usd::ZERO), " 0.000000000");
    }

    #[test]
    fn usd_refuses_what_is_not_a_plain_decimal() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            " 1",
            "1 ",
            "NaN",
            "inf",
            "0x1",
            "1,5",
            "0.0000000001",
            "9223372036.854775808",
            "1_000",
            "--1",
        ] {
            assert!(Usd::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn ties_go_to_the_even_neighbour() {
        for (numerator, denominator, expected) in [
            (5, 2, 2),
            (7, 2, 4),
            (-5, 2, -2),
            (-7, 2, -4),
            (1, 3, 0),
            (2, 3, 1),
            (-1, 3, 0),
            (-2, 3, -1),
            (0, 7, 0),
            (6, 3, 2),
        ] {
            assert_eq!(half_even(numerator, denominator), expected, "{numerator}/{denominator}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_read_back(nanos in -i64::MAX..=i64::MAX) {
            let usd = Usd::from_nanos(nanos);
            proptest::prop_assert_eq!(Usd::parse(&usd.to_string()), Ok(usd));
        }
    }
}
