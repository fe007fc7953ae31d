//! Days and months of the Gregorian calendar as whole numbers, so that stepping from one to the next can neither fail nor skip.
//!
//! Counting years from March puts the leap day last and makes both directions a handful of divisions; the method is Howard Hinnant's
//! ("chrono-Compatible Low-Level Date Algorithms").

/// From 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// After this many days the calendar repeats.
const DAYS_PER_400_YEARS: i64 = 146_097;

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Day(pub(super) i64);

impl Day {
    pub(super) const fn plus(self, days: i64) -> Day {
        Day(self.0 + days)
    }

    /// The Monday of its week. 1970-01-01 was a Thursday.
    pub(super) const fn monday(self) -> Day {
        self.plus(-(self.0 + 3).rem_euclid(7))
    }

    /// Its month, and its number in it, from 1.
    pub(super) const fn in_month(self) -> (Month, i64) {
        let days = self.0 + EPOCH_DAYS;
        let (cycle, day) = (days.div_euclid(DAYS_PER_400_YEARS), days.rem_euclid(DAYS_PER_400_YEARS));
        // Leap days are taken out first, so that all years of the cycle have 365 days.
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        (Month((cycle * 400 + year) * 12 + month + 2), day - days_before(month) + 1)
    }
}

/// A month, counted from January of the year 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Month(pub(super) i64);

impl Month {
    pub(super) const fn plus(self, months: i64) -> Month {
        Month(self.0 + months)
    }

    /// Of its year.
    pub(super) const fn january(self) -> Month {
        self.plus(-self.0.rem_euclid(12))
    }

    /// Year and month as people write them.
    pub(super) const fn civil(self) -> (i64, i64) {
        (self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    pub(super) const fn first(self) -> Day {
        let (year, month) = ((self.0 - 2).div_euclid(12), (self.0 - 2).rem_euclid(12));
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        Day(365 * year + leap_days + days_before(month) - EPOCH_DAYS)
    }

    /// The day of this number, or the last one of a month that has fewer.
    pub(super) fn day(self, number: i64) -> Day {
        let last = self.plus(1).first().plus(-1);
        self.first().plus(number - 1).min(last)
    }
}

/// How many days a year that begins in March has before this month of it, from 0: months of 31 and 30 days, in a pattern of five.
const fn days_before(month_from_march: i64) -> i64 {
    (153 * month_from_march + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_hundred_years_is_the_day_that_jiff_says() {
        let mut date = jiff::civil::date(1600, 1, 1);
        let first = Day(-135_140);
        for day in (0..292_194).map(|days| first.plus(days)) {
            let (month, number) = day.in_month();
            let (year, month_of_year) = month.civil();
            let expected = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            assert_eq!((year, month_of_year, number), expected);
            assert_eq!(month.first().plus(number - 1), day);
            assert_eq!(month.day(31), month.first().plus(i64::from(date.days_in_month()) - 1));
            assert_eq!(day.0 - day.monday().0, i64::from(date.weekday().to_monday_zero_offset()));
            date = date.tomorrow().expect("a year below 9999");
        }
        assert_eq!(date, jiff::civil::date(2400, 1, 1));
    }
}
