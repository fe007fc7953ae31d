//! Which window a use falls into, and which time the provider is told of it.

use super::periods::Periods;
use crate::decision::meter::Reign;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;

const SECOND_MICROS: i64 = 1_000_000;

/// The window of a use: one of those of equal length that are counted from the epoch, cut where a period of its invoices begins or
/// ends, so that nothing of a batch belongs on another invoice than the rest.
pub fn window(used_at: Timestamp, seconds: i64, periods: &Periods) -> Period {
    let length = seconds.max(1) * SECOND_MICROS;
    let start = used_at.plus_micros(-used_at.micros().rem_euclid(length));
    let period = periods.at(used_at);
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
pub fn told_at(used_at: Timestamp, periods: &Periods, closes_periods: bool, late_after_seconds: i64, now: Timestamp) -> Timestamp {
    match closes_periods && periods.is_closed(used_at, late_after_seconds, now) {
        true => now,
        // Use may be recorded a little ahead of time.
        false => used_at.min(now),
    }
}

/// The reign of a meter, of all that it had (oldest first), under which it counts a use: the one in which the use was recorded. What was
/// recorded before the meter first came is counted under its first reign, if it belongs to the billing period in which it came; earlier
/// periods were invoiced without it. Whoever takes a meter away wants what is used in the meantime not to be billed, so of a later reign
/// nothing earlier is counted.
pub fn reign<'a>(reigns: &'a [Reign], used_at: Timestamp, recorded_at: Timestamp, periods: &Periods) -> Option<&'a Reign> {
    let first = reigns.first()?;
    if recorded_at < first.from {
        return (used_at >= periods.at(first.from).start).then_some(first);
    }
    let holds = |reign: &&Reign| reign.from <= recorded_at && reign.until.is_none_or(|until| recorded_at < until);
    reigns.iter().find(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::amount::Unit;
    use crate::decision::id::MeterId;
    use crate::decision::meter::{Factor, Meter, MeterFilter};
    use crate::decision::period::{AnchorDay, Calendar, Setting, Zone};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    fn periods(zone: &str) -> Periods {
        Periods::of_calendar(Calendar::new(Setting {
            timezone: Zone::parse(zone).expect(zone),
            billing_anchor_day: AnchorDay::new(1).expect("a day"),
        }))
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
            let window = window(at(used_at), 3_600, &periods(zone));
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
            assert_eq!(told_at(used, &periods("UTC"), closes, 3_000, at(now)), at(expected), "{now}");
        }
    }

    #[test]
    fn a_meter_counts_the_period_in_which_it_came_and_what_is_recorded_while_it_is_there() {
        let of = |event_name: &str, from: &str, until: Option<&str>| Reign {
            meter: Meter {
                id: MeterId::parse("tokens").expect("a name"),
                event_name: event_name.to_owned(),
                unit: Unit::Tokens,
                only: MeterFilter::default(),
                factor: Factor::of(1, 1).expect("one"),
            },
            from: at(from),
            until: until.map(at),
        };
        let reigns = [
            of("first", "2026-11-20T10:00:00Z", Some("2026-11-21T00:00:00Z")),
            of("second", "2026-11-21T00:00:00Z", Some("2026-11-22T00:00:00Z")),
            of("back", "2026-11-25T00:00:00Z", None),
        ];
        for (used_at, recorded_at, expected) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:01Z", Some("first")),
            ("2026-10-31T23:59:59Z", "2026-11-01T00:00:01Z", None),
            ("2026-10-31T23:59:59Z", "2026-11-20T10:00:00Z", Some("first")),
            ("2026-11-20T23:00:00Z", "2026-11-21T00:00:00Z", Some("second")),
            ("2026-11-21T23:59:59Z", "2026-11-21T23:59:59.999999Z", Some("second")),
            ("2026-11-21T23:59:59Z", "2026-11-22T00:00:00Z", None),
            ("2026-11-24T00:00:00Z", "2026-11-24T23:59:59Z", None),
            ("2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z", Some("back")),
        ] {
            let found = reign(&reigns, at(used_at), at(recorded_at), &periods("UTC"));
            assert_eq!(
                found.map(|found| found.meter.event_name.as_str()),
                expected,
                "{used_at} recorded {recorded_at}"
            );
        }
        assert_eq!(
            reign(&[], at("2026-11-24T00:00:00Z"), at("2026-11-24T00:00:00Z"), &periods("UTC")),
            None
        );
    }
}
