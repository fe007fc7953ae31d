//! A decimal number, exactly as its text says it: `3e-06` is three millionths and nothing else.

/// More digits than any price has.
const DIGITS_MAX: usize = 34;
/// Exponents beyond this are no price.
const EXPONENT_MAX: i32 = 64;

/// `±digits × 10^exponent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decimal {
    is_negative: bool,
    digits: u128,
    exponent: i32,
}

/// Why a number is not a whole one in the wanted unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotWhole {
    Fraction,
    TooLarge,
}

impl Decimal {
    /// Reads the text of a JSON number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = !whole.is_empty() && all_digits(whole) && all_digits(fraction) && !mantissa.ends_with('.');
        if !is_number || exponent.abs() > EXPONENT_MAX {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        if significant.len() > DIGITS_MAX {
            return None;
        }
        let zeros = all.trim_start_matches('0').len() - significant.len();
        let exponent = exponent - i32::try_from(fraction.len()).ok()? + i32::try_from(zeros).ok()?;
        let digits = if significant.is_empty() { 0 } else { significant.parse().ok()? };
        Some(Self {
            is_negative: is_negative && digits != 0,
            digits,
            exponent: if digits == 0 { 0 } else { exponent },
        })
    }

    pub(super) fn is_zero(self) -> bool {
        self.digits == 0
    }

    pub(super) fn is_negative(self) -> bool {
        self.is_negative
    }

    /// The number times `10^shift`, if that is whole.
    pub(super) fn times_ten_to(self, shift: i32) -> Result<i64, NotWhole> {
        if self.digits == 0 {
            return Ok(0);
        }
        // No trailing zero is left in the digits, so a negative power is a fraction.
        let power = u32::try_from(self.exponent + shift).map_err(|_| NotWhole::Fraction)?;
        let scaled = 10u128.checked_pow(power).and_then(|power| self.digits.checked_mul(power));
        let whole = scaled.and_then(|scaled| i64::try_from(scaled).ok()).ok_or(NotWhole::TooLarge)?;
        Ok(if self.is_negative { -whole } else { whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_number_is_what_it_says() {
        for (text, shift, expected) in [
            ("3e-06", 15, Ok(3_000_000_000)),
            ("3E-6", 15, Ok(3_000_000_000)),
            ("0.000003", 15, Ok(3_000_000_000)),
            ("2.5e-07", 15, Ok(250_000_000)),
            ("1e-7", 15, Ok(100_000_000)),
            ("1.25", 9, Ok(1_250_000_000)),
            ("0.1", 9, Ok(100_000_000)),
            ("22.50", 9, Ok(22_500_000_000)),
            ("15", 9, Ok(15_000_000_000)),
            ("200000.0", 0, Ok(200_000)),
            ("2e+5", 0, Ok(200_000)),
            ("-1e-6", 15, Ok(-1_000_000_000)),
            ("0", 15, Ok(0)),
            ("-0.0e5", 15, Ok(0)),
            // What a double made of a tenth of a millionth is not a tenth of a millionth.
            ("1.0000000000000001e-07", 15, Err(NotWhole::Fraction)),
            ("3.3333333333333335e-05", 15, Err(NotWhole::Fraction)),
            ("1e-16", 15, Err(NotWhole::Fraction)),
            ("1e30", 15, Err(NotWhole::TooLarge)),
            ("9223372036854775808", 0, Err(NotWhole::TooLarge)),
        ] {
            assert_eq!(Decimal::parse(text).expect(text).times_ten_to(shift), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "", "-", ".5", "1.", "1e", "e5", "NaN", "1_000", " 1", "0x1", "+1", "1e999", "1.2.3", "--1", "\"1\"",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
        assert_eq!(Decimal::parse(&"9".repeat(DIGITS_MAX + 1)), None);
    }

    proptest::proptest! {
        #[test]
        fn a_whole_number_is_itself_however_it_is_written(n in 1..=1_000_000_000_000i64, zeros in 0..6i32) {
            let plain = Decimal::parse(&n.to_string()).expect("a number");
            let shifted = Decimal::parse(&format!("{n}e{}", -zeros)).expect("a number");
            let padded = Decimal::parse(&format!("00{n}.000")).expect("a number");
            proptest::prop_assert_eq!(plain.times_ten_to(0), Ok(n));
            proptest::prop_assert_eq!(padded, plain);
            proptest::prop_assert_eq!(shifted.times_ten_to(zeros), Ok(n));
        }
    }
}
