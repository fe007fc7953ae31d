//! What changes of zone and anchor do to periods, told by tables and by a second, slower way to reckon.

use super::super::*;
use super::{LOCAL, at, moments, period, setting, settings};
use PeriodKind::*;
use proptest::prelude::*;

/// Kind, then the bounds of the period in force at the change and of the one after it.
type Change = (PeriodKind, [&'static str; 3]);

fn check_change(from: Setting, to: Setting, moment: &str, rows: &[Change]) {
    let mut calendar = Calendar::new(from);
    calendar.change(to.clone(), at(moment));
    assert_eq!(calendar.setting(), &to);
    for (kind, [start, handover, end]) in rows {
        let (running, next) = (period(start, handover), period(handover, end));
        assert_eq!(calendar.period(*kind, at(moment)), running, "the {kind:?} of the change");
        assert_eq!(calendar.period(*kind, running.start), running, "from its start");
        assert_eq!(calendar.period(*kind, running.end.plus_micros(-1)), running, "to its end");
        assert_eq!(calendar.period(*kind, running.end), next, "the {kind:?} after it");
        assert_eq!(calendar.period(*kind, next.end.plus_micros(-1)), next, "to its end");
        assert_eq!(calendar.period(*kind, next.end), to.period(*kind, next.end), "whole from then on");
    }
}

#[test]
fn a_change_waits_for_the_end_of_each_period_by_itself() {
    check_change(
        setting("UTC", 1),
        setting("Asia/Tokyo", 10),
        "2025-11-21T09:30:00Z",
        &[
            (Minute, ["2025-11-21T09:30:00Z", "2025-11-21T09:31:00Z", "2025-11-21T09:32:00Z"]),
            (Day, ["2025-11-21T00:00:00Z", "2025-11-22T00:00:00Z", "2025-11-22T15:00:00Z"]),
            (Week, ["2025-11-17T00:00:00Z", "2025-11-24T00:00:00Z", "2025-11-30T15:00:00Z"]),
            (Month, ["2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z", "2025-12-31T15:00:00Z"]),
            (Year, ["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-12-31T15:00:00Z"]),
            (Billing, ["2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z", "2025-12-09T15:00:00Z"]),
        ],
    );
    check_change(
        setting("UTC", 31),
        setting("America/New_York", 31),
        // At the very start of a period that period is in force, and the change waits for its end.
        "2025-11-30T00:00:00Z",
        &[
            (Day, ["2025-11-30T00:00:00Z", "2025-12-01T00:00:00Z", "2025-12-01T05:00:00Z"]),
            (Week, ["2025-11-24T00:00:00Z", "2025-12-01T00:00:00Z", "2025-12-01T05:00:00Z"]),
            (Month, ["2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z", "2025-12-01T05:00:00Z"]),
            (Billing, ["2025-11-30T00:00:00Z", "2025-12-31T00:00:00Z", "2025-12-31T05:00:00Z"]),
        ],
    );
    check_change(
        setting("Europe/Berlin", 1),
        setting("Europe/Berlin", 15),
        "2025-11-30T22:59:59.999999Z",
        &[
            // Only the anchor changes, and only billing periods ask for it.
            (Day, ["2025-11-29T23:00:00Z", "2025-11-30T23:00:00Z", "2025-12-01T23:00:00Z"]),
            (Month, ["2025-10-31T23:00:00Z", "2025-11-30T23:00:00Z", "2025-12-31T23:00:00Z"]),
            (Billing, ["2025-10-31T23:00:00Z", "2025-11-30T23:00:00Z", "2025-12-14T23:00:00Z"]),
        ],
    );
}

#[test]
fn of_several_changes_in_one_period_the_last_one_wins() {
    let mut calendar = Calendar::new(setting("UTC", 1));
    calendar.change(setting("Asia/Tokyo", 1), at("2025-11-21T09:00:00Z"));
    calendar.change(setting("Europe/Berlin", 20), at("2025-11-21T10:00:00Z"));
    calendar.change(setting("America/New_York", 10), at("2025-11-24T10:00:00Z"));
    // The day met Berlin in between; week, month and billing period have only known UTC and New York.
    let expected = [
        (Day, "2025-11-22T12:00:00Z", period("2025-11-22T00:00:00Z", "2025-11-22T23:00:00Z")),
        (Day, "2025-11-24T22:00:00Z", period("2025-11-23T23:00:00Z", "2025-11-24T23:00:00Z")),
        (Day, "2025-11-24T23:00:00Z", period("2025-11-24T23:00:00Z", "2025-11-25T05:00:00Z")),
        (Week, "2025-11-24T00:00:00Z", period("2025-11-24T00:00:00Z", "2025-11-30T23:00:00Z")),
        (Week, "2025-11-30T23:00:00Z", period("2025-11-30T23:00:00Z", "2025-12-01T05:00:00Z")),
        (
            Month,
            "2025-12-01T00:00:00Z",
            period("2025-12-01T00:00:00Z", "2025-12-01T05:00:00Z"),
        ),
        (
            Billing,
            "2025-12-01T00:00:00Z",
            period("2025-12-01T00:00:00Z", "2025-12-10T05:00:00Z"),
        ),
    ];
    for (kind, moment, period) in expected {
        assert_eq!(calendar.period(kind, at(moment)), period, "{kind:?} at {moment}");
    }
}

#[test]
fn a_change_that_is_taken_back_in_time_leaves_no_trace() {
    let before = Calendar::new(setting("Europe/Berlin", 31));
    let mut calendar = before.clone();
    calendar.change(setting("Asia/Tokyo", 1), at("2025-11-21T09:00:00Z"));
    assert_ne!(calendar, before);
    calendar.change(setting("Europe/Berlin", 31), at("2025-11-21T09:00:01Z"));
    assert_eq!(calendar, before);
}

#[test]
fn a_change_at_the_moment_of_a_handover_waits_for_the_period_that_begins_there() {
    let mut calendar = Calendar::new(setting("UTC", 1));
    calendar.change(setting("Asia/Tokyo", 1), at("2025-11-21T09:00:00Z"));
    calendar.change(setting("America/New_York", 1), at("2025-11-22T00:00:00Z"));
    for (start, end) in [
        ("2025-11-21T00:00:00Z", "2025-11-22T00:00:00Z"),
        ("2025-11-22T00:00:00Z", "2025-11-22T15:00:00Z"),
        ("2025-11-22T15:00:00Z", "2025-11-23T05:00:00Z"),
    ] {
        assert_eq!(calendar.period(Day, at(start)), period(start, end));
    }
}

#[test]
fn a_change_by_a_clock_that_lags_joins_the_newest_change_and_rewrites_nothing() {
    let mut calendar = Calendar::new(setting("UTC", 1));
    calendar.change(setting("Asia/Tokyo", 1), at("2025-11-21T09:00:00Z"));
    calendar.change(setting("America/New_York", 1), at("2025-11-22T00:00:00.5Z"));
    calendar.change(setting("UTC", 1), at("2025-11-21T23:59:59.5Z"));
    for (start, end) in [
        ("2025-11-21T00:00:00Z", "2025-11-22T00:00:00Z"),
        ("2025-11-22T00:00:00Z", "2025-11-22T15:00:00Z"),
        ("2025-11-22T15:00:00Z", "2025-11-23T00:00:00Z"),
    ] {
        assert_eq!(calendar.period(Day, at(start)), period(start, end));
    }
}

#[test]
fn an_announced_boundary_stays_when_a_newer_database_moves_midnight() {
    // Two hours before the midnight of today's database, and three hours after it.
    for (until, before, after) in [
        (
            "2025-11-21T22:00:00Z",
            period("2025-11-21T00:00:00Z", "2025-11-21T22:00:00Z"),
            period("2025-11-21T22:00:00Z", "2025-11-22T15:00:00Z"),
        ),
        (
            "2025-11-22T03:00:00Z",
            period("2025-11-22T00:00:00Z", "2025-11-22T03:00:00Z"),
            period("2025-11-22T03:00:00Z", "2025-11-22T15:00:00Z"),
        ),
    ] {
        let stored = serde_json::json!({
            "setting": setting("Asia/Tokyo", 1),
            "handovers": [{"kind": "day", "until": until, "setting": setting("UTC", 1)}],
        });
        let calendar: Calendar = serde_json::from_value(stored).expect("a calendar");
        assert_eq!(calendar.period(Day, at(until).plus_micros(-1)), before);
        assert_eq!(calendar.period(Day, at(until)), after);
    }
}

#[test]
fn changes_are_remembered_in_bounded_number_and_time() {
    let zones = [setting("UTC", 1), setting("Asia/Tokyo", 31), setting("America/New_York", 15)];
    let mut calendar = Calendar::new(zones[0].clone());
    let noon = |day: i64| at("2025-01-01T12:00:00Z").plus_seconds(day * 86_400);
    for day in 1..=100 {
        let shown = |calendar: &Calendar| {
            (
                LOCAL.map(|kind| calendar.period(kind, noon(day))),
                calendar.period(Day, noon(day - 1)),
            )
        };
        let before = shown(&calendar);
        calendar.change(zones[day as usize % 3].clone(), noon(day));
        assert_eq!(shown(&calendar), before, "neither a current period moves nor a recent one");
    }
    let of = |kind: PeriodKind| calendar.handovers().filter(|(of, _)| *of == kind).count();
    assert_eq!(of(Day), CALENDAR_CHANGES_MAX);
    assert_eq!(of(Year), 1, "the year goes on: only its last change waits");

    let newest = calendar.handovers().map(|(_, until)| until).max().expect("a year's end");
    let mut later = calendar.clone();
    later.change(
        calendar.setting().clone(),
        newest.plus_seconds(CALENDAR_REMEMBERED_DAYS * 86_400 - 1),
    );
    assert_eq!(later.handovers().count(), 1);
    later.change(calendar.setting().clone(), newest.plus_seconds(CALENDAR_REMEMBERED_DAYS * 86_400));
    assert_eq!(later.handovers().count(), 0);
}

/// The rule of the contract said once more, as a walk: each period ends where the setting that counted at its start says, and what
/// counts at a start is what was set last before it.
fn walk(first: &Setting, changes: &[(Timestamp, Setting)], kind: PeriodKind, from: Timestamp, to: Timestamp) -> Vec<Period> {
    let mut periods = vec![first.period(kind, from)];
    while let Some(last) = periods.last().filter(|last| last.end < to) {
        let set_last = changes.iter().rev().find(|(at, _)| *at < last.end);
        let setting = set_last.map_or(first, |(_, setting)| setting);
        periods.push(Period {
            start: last.end,
            end: setting.period(kind, last.end).end,
        });
    }
    periods
}

proptest! {
    #[test]
    fn a_history_of_changes_gives_the_periods_that_a_walk_through_time_meets(
        first in settings(),
        begin in moments(),
        // Changes follow each other within minutes, hours or weeks, some of them without a difference.
        changes in proptest::collection::vec((prop_oneof![0i64..7_200, 0i64..200_000, 0i64..6_000_000], settings()), 1..8),
        kind in proptest::sample::select(LOCAL.to_vec()),
    ) {
        let mut now = begin;
        let mut calendar = Calendar::new(first.clone());
        let mut history = Vec::new();
        for (seconds, setting) in changes {
            now = now.plus_seconds(seconds);
            let running = PeriodKind::ALL.map(|kind| calendar.period(kind, now));
            calendar.change(setting.clone(), now);
            prop_assert_eq!(PeriodKind::ALL.map(|kind| calendar.period(kind, now)), running, "the change at {} moved a current period", now);
            history.push((now, setting));
        }
        let bytes = postcard::to_allocvec(&calendar).expect("postcard");
        prop_assert_eq!(&postcard::from_bytes::<Calendar>(&bytes).expect("postcard"), &calendar);
        let json = serde_json::to_string(&calendar).expect("json");
        prop_assert_eq!(&serde_json::from_str::<Calendar>(&json).expect("json"), &calendar);
        for period in walk(&first, &history, kind, begin, now.plus_seconds(400 * 86_400)) {
            for at in [period.start, period.end.plus_micros(-1)] {
                prop_assert_eq!(calendar.period(kind, at), period);
            }
        }
    }
}
