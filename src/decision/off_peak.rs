//! Hours at which a provider is cheaper: windows of the week in UTC, and the price that holds in them.
//!
//! A window begins with its first minute and ends before its last one; one that ends at or before its begin goes on into the next day, and
//! belongs to the day on which it began. The price of off-peak hours holds whatever the length of a request: it has no long-context steps.

use super::price::Price;
use super::time::Timestamp;
use std::sync::Arc;

const MINUTE_MICROS: i64 = 60_000_000;
const DAY_MINUTES: i64 = 24 * 60;

/// Another price at some hours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffPeak {
    pub windows: Vec<Window>,
    pub price: Arc<Price>,
}

/// A stretch of each of some days, in minutes from their midnight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// From Monday on.
    pub weekdays: [bool; 7],
    pub from: i64,
    pub to: i64,
}

impl OffPeak {
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.windows.iter().any(|window| window.contains(at))
    }
}

impl Window {
    fn contains(&self, at: Timestamp) -> bool {
        let minutes = at.micros().div_euclid(MINUTE_MICROS);
        let (day, minute) = (minutes.div_euclid(DAY_MINUTES), minutes.rem_euclid(DAY_MINUTES));
        // 1970-01-01 was a Thursday.
        let is_on = |day: i64| self.weekdays[usize::try_from((day + 3).rem_euclid(7)).unwrap_or_default()];
        if self.from < self.to {
            return is_on(day) && (self.from..self.to).contains(&minute);
        }
        (is_on(day) && minute >= self.from) || (is_on(day - 1) && minute < self.to)
    }

    /// Reads `HH:MM-HH:MM`.
    pub fn parse(hours: &str, weekdays: [bool; 7]) -> Result<Self, String> {
        let wrong = || format!("{hours:?} is not a window such as \"16:30-00:30\"");
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let minute = |text: &str| -> Option<i64> {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, max: i64| {
                let is_two_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                text.parse::<i64>().ok().filter(|number| is_two_digits && *number <= max)
            };
            Some(number(hour, 23)? * 60 + number(minute, 59)?)
        };
        Ok(Self {
            weekdays,
            from: minute(from).ok_or_else(wrong)?,
            to: minute(to).ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hours: &str, weekdays: [bool; 7], moments: &[(&str, bool)]) {
        let window = Window::parse(hours, weekdays).expect(hours);
        for (moment, expected) in moments {
            let at = Timestamp::parse(moment).expect(moment);
            assert_eq!(window.contains(at), *expected, "{hours} at {moment}");
        }
    }

    #[test]
    fn a_window_has_its_first_minute_and_not_its_last_and_belongs_to_the_day_of_its_begin() {
        // 2026-03-02 is a Monday.
        check(
            "16:30-00:30",
            [true; 7],
            &[
                ("2026-03-02T16:29:59.999999Z", false),
                ("2026-03-02T16:30:00Z", true),
                ("2026-03-03T00:29:59Z", true),
                ("2026-03-03T00:30:00Z", false),
            ],
        );
        let monday = [true, false, false, false, false, false, false];
        check(
            "22:00-02:00",
            monday,
            &[
                ("2026-03-02T01:00:00Z", false),
                ("2026-03-02T22:00:00Z", true),
                ("2026-03-03T01:59:00Z", true),
                ("2026-03-03T22:00:00Z", false),
            ],
        );
        check(
            "00:00-00:00",
            monday,
            &[
                ("2026-03-01T23:59:59Z", false),
                ("2026-03-02T00:00:00Z", true),
                ("2026-03-02T23:59:59Z", true),
                ("2026-03-03T00:00:00Z", false),
            ],
        );
        check(
            "08:00-12:00",
            monday,
            &[
                ("2026-03-02T11:59:59Z", true),
                ("2026-03-02T12:00:00Z", false),
                ("1969-12-29T09:00:00Z", true),
            ],
        );
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "-",
            "8:00-12:00",
            "08:00",
            "24:00-25:00",
            "08:60-09:00",
            "08:00-+9:00",
            "08:00-12:00-13:00",
        ] {
            assert!(Window::parse(text, [true; 7]).is_err(), "{text:?}");
        }
    }
}
