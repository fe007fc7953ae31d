//! Which window a use falls into, and which time the provider is told of it.

use crate::decision::period::{Calendar, Period, PeriodKind};
use crate::decision::time::Timestamp;

const SECOND_MICROS: i64 = 1_000_000;

/// The window of a use: one of those of equal length that are counted from the epoch, cut where the workspace's billing period begins or
/// ends, so that nothing of a batch belongs on another invoice than the rest.
pub fn window(used_at: Timestamp, seconds: i64, calendar: &Calendar) -> Period {
    let length = seconds.max(1) * SECOND_MICROS;
    let start = used_at.plus_micros(-used_at.micros().rem_euclid(length));
    let period = calendar.period(PeriodKind::Billing, used_at);
    Period {
        start: start.max(period.start),
        end: start.plus_micros(length).min(period.end),
    }
}

/// When a batch is sealed that is opened now: some time after its window, or, where the window is over, as long after now, so that what
/// comes late comes together.
pub fn seals_at(window: Period, now: Timestamp, seal_after_seconds: i64) -> Timestamp {
    window.end.max(now).plus_seconds(seal_after_seconds)
}

/// The time that the provider is told of a use: its own, as long as the billing period that it fell into is still being invoiced, and
/// now afterwards. An older time would be taken, and never invoiced.
pub fn told_at(used_at: Timestamp, calendar: &Calendar, closes_periods: bool, late_after_seconds: i64, now: Timestamp) -> Timestamp {
    let end = calendar.period(PeriodKind::Billing, used_at).end;
    match closes_periods && now >= end.plus_seconds(late_after_seconds) {
        true => now,
        // Use may be recorded a little ahead of time.
        false => used_at.min(now),
    }
}

/// Whether a meter that is there since `since` counts a use: all that is recorded from then on, and of what was recorded before, what
/// belongs to the billing period in which the meter came. Earlier periods were invoiced without it.
pub fn is_metered(used_at: Timestamp, recorded_at: Timestamp, since: Timestamp, calendar: &Calendar) -> bool {
    recorded_at >= since || used_at >= calendar.period(PeriodKind::Billing, since).start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::period::{AnchorDay, Setting, Zone};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    fn calendar(zone: &str) -> Calendar {
        Calendar::new(Setting {
            timezone: Zone::parse(zone).expect(zone),
            billing_anchor_day: AnchorDay::new(1).expect("a day"),
        })
    }

    #[test]
    fn a_window_is_an_hour_that_ends_where_the_billing_period_does() {
        for (zone, used_at, start, end) in [
            ("UTC", "2026-11-30T23:59:59Z", "2026-11-30T23:00:00Z", "2026-12-01T00:00:00Z"),
            (
                "Asia/Kolkata",
                "2026-11-30T18:29:00Z",
                "2026-11-30T18:00:00Z",
                "2026-11-30T18:30:00Z",
            ),
            (
                "Asia/Kolkata",
                "2026-11-30T18:30:00Z",
                "2026-11-30T18:30:00Z",
                "2026-11-30T19:00:00Z",
            ),
        ] {
            let window = window(at(used_at), 3_600, &calendar(zone));
            assert_eq!((window.start, window.end), (at(start), at(end)), "{zone} {used_at}");
        }
    }

    #[test]
    fn use_is_told_as_of_its_own_time_until_its_period_is_invoiced() {
        let used = at("2026-11-30T23:10:00Z");
        for (now, closes, expected) in [
            ("2026-11-30T23:59:00Z", true, "2026-11-30T23:10:00Z"),
            ("2026-12-01T00:49:59Z", true, "2026-11-30T23:10:00Z"),
            ("2026-12-01T00:50:00Z", true, "2026-12-01T00:50:00Z"),
            ("2026-12-09T00:00:00Z", false, "2026-11-30T23:10:00Z"),
            ("2026-11-30T23:09:00Z", true, "2026-11-30T23:09:00Z"),
        ] {
            assert_eq!(told_at(used, &calendar("UTC"), closes, 3_000, at(now)), at(expected), "{now}");
        }
    }

    #[test]
    fn a_meter_counts_the_period_in_which_it_came_and_whatever_is_recorded_since() {
        let (since, calendar) = (at("2026-11-20T10:00:00Z"), calendar("UTC"));
        assert!(is_metered(at("2026-11-01T00:00:00Z"), at("2026-11-01T00:00:01Z"), since, &calendar));
        assert!(!is_metered(
            at("2026-10-31T23:59:59Z"),
            at("2026-11-01T00:00:01Z"),
            since,
            &calendar
        ));
        assert!(is_metered(at("2026-10-31T23:59:59Z"), since, since, &calendar));
    }
}
