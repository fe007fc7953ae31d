//! In which period a use lies, and whether that is invoiced, in the life of subscriptions as Stripe tells of it.

use super::*;
use crate::decision::billing::delivery::Event;
use crate::decision::billing::{Terms, window};
use crate::decision::id::PlanId;
use crate::decision::inbound::{About, Subscription, read};
use crate::decision::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LATE: i64 = 3_000;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

fn unix(text: &str) -> i64 {
    at(text).micros() / 1_000_000
}

fn period(start: &str, end: &str) -> Period {
    Period {
        start: at(start),
        end: at(end),
    }
}

/// A monthly subscription as an event of then tells of it; no period: as an event without one does.
fn told(kind: &str, id: &str, created: &str, anchor: &str, told: Option<(&str, &str)>) -> Subscription {
    let mut item = json!({"price": {"id": "price_use", "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"}}});
    if let Some((start, end)) = told {
        item["current_period_start"] = json!(unix(start));
        item["current_period_end"] = json!(unix(end));
    }
    let object = json!({"id": id, "customer": "cus", "status": "active", "start_date": unix("2025-09-14T14:37:05Z"),
        "billing_cycle_anchor": unix(anchor), "items": {"data": [item]}, "ended_at": Value::Null});
    of(kind, created, object)
}

fn of(kind: &str, created: &str, object: Value) -> Subscription {
    let event = json!({"id": "evt", "type": format!("customer.subscription.{kind}"), "created": unix(created), "data": {"object": object}});
    match read(&event).expect("an event").about {
        About::Subscription(subscription) => subscription,
        other => panic!("{other:?}"),
    }
}

/// What is known after these were told, one after the other.
fn history(events: Vec<Subscription>) -> Subscription {
    let mut known: Option<Subscription> = None;
    for mut next in events {
        next.remember(&BTreeMap::new(), known.as_ref(), |_: &PlanId| true);
        known = Some(next);
    }
    known.expect("an event")
}

fn periods(subscriptions: Vec<Subscription>) -> Periods {
    Periods::new(Calendar::default(), subscriptions)
}

const ANCHOR: &str = "2025-09-14T14:37:05Z";

fn monthly() -> Subscription {
    let now = Some(("2025-10-14T14:37:05Z", "2025-11-14T14:37:05Z"));
    told("updated", "sub_1", "2025-10-14T14:37:06Z", ANCHOR, now)
}

#[test]
fn a_period_begins_at_the_second_of_its_anchor() {
    let known = periods(vec![monthly()]);
    for (used_at, expected) in [
        (
            "2025-11-14T14:37:04.999999Z",
            period("2025-10-14T14:37:05Z", "2025-11-14T14:37:05Z"),
        ),
        // The renewal is not heard of yet, and then not for a year.
        ("2025-11-14T14:37:05Z", period("2025-11-14T14:37:05Z", "2025-12-14T14:37:05Z")),
        ("2026-11-14T14:37:05Z", period("2026-11-14T14:37:05Z", "2026-12-14T14:37:05Z")),
        // What was before the first that was told.
        ("2025-10-14T14:37:04Z", period("2025-09-14T14:37:05Z", "2025-10-14T14:37:05Z")),
        // There was no subscription yet: the calendar's, until it began.
        ("2025-09-14T14:37:04Z", period("2025-09-01T00:00:00Z", "2025-09-14T14:37:05Z")),
        ("2025-08-05T00:00:00Z", period("2025-08-01T00:00:00Z", "2025-09-01T00:00:00Z")),
    ] {
        assert_eq!(known.at(at(used_at)), expected, "{used_at}");
    }
    let nobody = periods(Vec::new());
    assert_eq!(
        nobody.at(at("2025-11-14T14:37:05Z")),
        period("2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z")
    );
}

#[test]
fn steps_are_taken_from_the_anchor_in_whatever_interval() {
    let known = |interval: &str, count: i64, anchor: &str, day: Option<u8>| {
        let plan = json!({"id": "price_use", "interval": interval, "interval_count": count, "usage_type": "metered"});
        let mut object = json!({"id": "sub_1", "customer": "cus", "status": "active", "start_date": unix("2023-01-01T00:00:00Z"),
            "billing_cycle_anchor": unix(anchor), "items": {"data": [{"plan": plan}]}});
        // Nothing of its period is told, but what it was when it began.
        object["billing_cycle_anchor_config"] = json!({"day_of_month": day});
        // The interval alone is of no item with a period, so one is told.
        object["current_period_start"] = json!(unix("2023-01-01T00:00:00Z"));
        object["current_period_end"] = json!(unix("2023-01-01T00:00:01Z"));
        periods(vec![of("updated", "2024-01-31T23:59:59Z", object)])
    };
    for (interval, count, anchor, day, used_at, expected) in [
        (
            "month",
            1,
            "2024-01-31T23:59:59Z",
            None,
            "2024-02-29T23:59:58Z",
            period("2024-01-31T23:59:59Z", "2024-02-29T23:59:59Z"),
        ),
        (
            "month",
            1,
            "2024-01-31T23:59:59Z",
            None,
            "2024-02-29T23:59:59Z",
            period("2024-02-29T23:59:59Z", "2024-03-31T23:59:59Z"),
        ),
        (
            "month",
            1,
            "2024-02-29T01:00:00Z",
            Some(31),
            "2024-03-30T00:00:00Z",
            period("2024-02-29T01:00:00Z", "2024-03-31T01:00:00Z"),
        ),
        (
            "month",
            3,
            "2024-01-31T12:00:00Z",
            None,
            "2024-05-01T00:00:00Z",
            period("2024-04-30T12:00:00Z", "2024-07-31T12:00:00Z"),
        ),
        (
            "month",
            3,
            "2024-01-31T12:00:00Z",
            None,
            "2023-12-31T00:00:00Z",
            period("2023-10-31T12:00:00Z", "2024-01-31T12:00:00Z"),
        ),
        (
            "year",
            1,
            "2024-02-29T12:00:00Z",
            None,
            "2025-02-28T12:00:00Z",
            period("2025-02-28T12:00:00Z", "2026-02-28T12:00:00Z"),
        ),
        (
            "year",
            1,
            "2024-02-29T12:00:00Z",
            None,
            "2028-02-29T11:59:59Z",
            period("2027-02-28T12:00:00Z", "2028-02-29T12:00:00Z"),
        ),
        (
            "week",
            2,
            "2024-01-01T00:00:07Z",
            None,
            "2024-01-29T00:00:06Z",
            period("2024-01-15T00:00:07Z", "2024-01-29T00:00:07Z"),
        ),
        (
            "day",
            1,
            "2024-01-01T00:00:07Z",
            None,
            "2023-12-31T00:00:06Z",
            period("2023-12-30T00:00:07Z", "2023-12-31T00:00:07Z"),
        ),
        // An interval that is not known is taken for a month.
        (
            "eon",
            1,
            "2024-01-01T00:00:07Z",
            None,
            "2024-02-03T00:00:00Z",
            period("2024-02-01T00:00:07Z", "2024-03-01T00:00:07Z"),
        ),
    ] {
        let found = known(interval, count, anchor, day).at(at(used_at));
        assert_eq!(found, expected, "{count} {interval} from {anchor} at {used_at}");
    }
}

#[test]
fn an_anchor_that_is_set_anew_ends_a_period_and_closes_it_at_once() {
    let reset = |now| told("updated", "sub_1", "2025-10-20T09:11:13Z", "2025-10-20T09:11:13Z", now);
    let now = Some(("2025-10-20T09:11:13Z", "2025-11-20T09:11:13Z"));
    let old = told("updated", "sub_1", "2025-09-20T00:00:00Z", ANCHOR, None);
    for (case, events) in [
        ("both periods were told", vec![monthly(), reset(now)]),
        ("only the new one", vec![old.clone(), reset(now)]),
        ("only anchors", vec![old, reset(None)]),
        ("and later something else changed", vec![monthly(), reset(now), reset(now)]),
    ] {
        let known = periods(vec![history(events)]);
        for (used_at, expected, closes_at) in [
            // Of what was before the first that is known, the anchor of now says too many ends rather than too few.
            (
                "2025-10-14T14:37:04Z",
                period("2025-09-20T09:11:13Z", "2025-10-14T14:37:05Z"),
                "2025-10-14T14:37:05Z",
            ),
            (
                "2025-10-20T09:11:12Z",
                period("2025-10-14T14:37:05Z", "2025-10-20T09:11:13Z"),
                "2025-10-20T09:11:13Z",
            ),
            (
                "2025-10-20T09:11:13Z",
                period("2025-10-20T09:11:13Z", "2025-11-20T09:11:13Z"),
                "2025-11-20T10:01:13Z",
            ),
            (
                "2025-11-20T09:11:13Z",
                period("2025-11-20T09:11:13Z", "2025-12-20T09:11:13Z"),
                "2025-12-20T10:01:13Z",
            ),
        ] {
            let (used_at, closes_at) = (at(used_at), at(closes_at));
            assert_eq!(known.at(used_at), expected, "{case}: {used_at}");
            assert!(known.is_closed(used_at, LATE, closes_at), "{case}: {used_at}");
            assert!(!known.is_closed(used_at, LATE, closes_at.plus_micros(-1)), "{case}: {used_at}");
        }
    }
}

#[test]
fn what_was_before_the_first_that_was_told_is_closed_at_once() {
    // Nobody knows whether its end was one of a month or a new anchor.
    let known = periods(vec![monthly()]);
    for (used_at, closes_at) in [
        ("2025-10-14T14:37:04Z", "2025-10-14T14:37:05Z"),
        ("2025-11-14T14:37:04Z", "2025-11-14T15:27:05Z"),
    ] {
        assert!(known.is_closed(at(used_at), LATE, at(closes_at)), "{used_at}");
        assert!(!known.is_closed(at(used_at), LATE, at(closes_at).plus_micros(-1)), "{used_at}");
    }
}

#[test]
fn a_subscription_that_ends_ends_its_period_and_the_next_one_begins_its_own() {
    let gone = |ended_at: Value| {
        let object = json!({"id": "sub_1", "customer": "cus", "status": "canceled", "start_date": unix(ANCHOR),
            "billing_cycle_anchor": unix(ANCHOR), "ended_at": ended_at, "items": {"data": [{"price": {"id": "price_use"}}]}});
        history(vec![monthly(), of("deleted", "2025-10-20T09:11:13Z", object)])
    };
    let next = Subscription {
        started_at: at("2025-10-20T10:00:00Z"),
        ..told("created", "sub_2", "2025-10-20T10:00:00Z", "2025-10-20T10:00:00Z", None)
    };
    let (before, between, after) = ("2025-10-20T09:11:12Z", "2025-10-20T09:30:00Z", "2025-10-20T10:00:00Z");
    // When it ended is when it was told of, where that is not said.
    for ended_at in [json!(unix("2025-10-20T09:11:13Z")), Value::Null] {
        let alone = periods(vec![gone(ended_at.clone())]);
        assert_eq!(alone.at(at(before)), period("2025-10-14T14:37:05Z", "2025-10-20T09:11:13Z"));
        assert!(alone.is_closed(at(before), LATE, at("2025-10-20T10:01:13Z")));
        assert!(!alone.is_closed(at(before), LATE, at("2025-10-20T10:01:12Z")));
        assert_eq!(
            alone.at(at(between)),
            period("2025-10-20T09:11:13Z", "2025-11-01T00:00:00Z"),
            "the calendar's"
        );
        assert!(
            !alone.is_closed(at(between), LATE, at("2025-10-25T00:00:00Z")),
            "there is none to tell it to"
        );

        let both = periods(vec![next.clone(), gone(ended_at)]);
        assert_eq!(both.at(at(before)), alone.at(at(before)));
        assert_eq!(both.at(at(between)), period("2025-10-20T09:11:13Z", "2025-10-20T10:00:00Z"));
        assert!(both.is_closed(at(between), LATE, at(after)), "the next one invoices it, as of now");
        assert_eq!(both.at(at(after)), period(after, "2025-11-20T10:00:00Z"));
    }
}

#[test]
fn of_several_all_count_and_the_first_that_closes_closes() {
    let of = |id: &str, began: &str, interval: &str| {
        let mut one = told("created", id, began, began, None);
        one.started_at = at(began);
        let object = json!({"id": id, "customer": "cus", "status": "active", "start_date": unix(began), "billing_cycle_anchor": unix(began),
            "current_period_start": unix(began), "current_period_end": unix(began) + 1,
            "items": {"data": [{"plan": {"id": "price", "interval": interval, "interval_count": 1}}]}});
        one.cycle.every = self::of("created", began, object).cycle.every;
        one
    };
    let seats = of("sub_1", "2025-02-01T01:01:01Z", "year");
    let calls = of("sub_2", "2025-02-10T02:02:02Z", "month");
    let mut never = of("sub_4", "2025-10-21T03:03:03Z", "month");
    never.status = "incomplete_expired".to_owned();
    let used_at = at("2025-10-25T00:00:00Z");
    let monthly = period("2025-10-10T02:02:02Z", "2025-11-10T02:02:02Z");
    for (subscriptions, expected) in [
        (vec![&calls], monthly),
        (vec![&seats], period("2025-02-01T01:01:01Z", "2026-02-01T01:01:01Z")),
        (vec![&seats, &calls, &never], monthly),
        (vec![&never], period("2025-10-01T00:00:00Z", "2025-11-01T00:00:00Z")),
    ] {
        let known = periods(subscriptions.into_iter().cloned().collect());
        assert_eq!(known.at(used_at), expected);
        let closes_at = expected.end.plus_seconds(LATE);
        assert!(known.is_closed(used_at, LATE, closes_at), "{expected:?}");
        assert!(!known.is_closed(used_at, LATE, closes_at.plus_micros(-1)), "{expected:?}");
    }
}

#[test]
fn windows_are_cut_at_the_second_and_told_by_the_period_they_lie_in() {
    let known = periods(vec![monthly()]);
    for (used_at, start, end) in [
        ("2025-11-14T14:37:04Z", "2025-11-14T14:00:00Z", "2025-11-14T14:37:05Z"),
        ("2025-11-14T14:37:05Z", "2025-11-14T14:37:05Z", "2025-11-14T15:00:00Z"),
    ] {
        assert_eq!(window::window(at(used_at), 3_600, &known), period(start, end), "{used_at}");
    }
    for (used_at, now, expected) in [
        ("2025-11-14T14:37:04Z", "2025-11-14T15:27:04Z", "2025-11-14T14:37:04Z"),
        ("2025-11-14T14:37:04Z", "2025-11-14T15:27:05Z", "2025-11-14T15:27:05Z"),
        ("2025-11-14T14:37:05Z", "2025-11-14T15:27:05Z", "2025-11-14T14:37:05Z"),
    ] {
        assert_eq!(
            window::told_at(at(used_at), &known, true, LATE, at(now)),
            at(expected),
            "{used_at} {now}"
        );
    }
}

#[test]
fn periods_tile_time_whatever_was_told() {
    let reset = told("updated", "sub_1", "2025-10-20T09:11:13Z", "2025-10-20T09:11:13Z", None);
    let second = Subscription {
        started_at: at("2025-12-03T00:00:01Z"),
        ..told("created", "sub_2", "2025-12-03T00:00:01Z", "2025-12-20T10:00:00Z", None)
    };
    for subscriptions in [
        vec![],
        vec![monthly()],
        vec![history(vec![monthly(), reset.clone()])],
        vec![reset, second],
    ] {
        let known = periods(subscriptions);
        let mut moment = at("2025-08-01T00:00:00Z");
        while moment < at("2026-03-01T00:00:00Z") {
            let found = known.at(moment);
            assert!(found.contains(moment));
            assert_eq!(known.at(found.end.plus_micros(-1)), found, "to its last moment");
            assert_eq!(known.at(found.start), found, "from its first one");
            assert_eq!(known.at(found.end).start, found.end);
            moment = found.end;
        }
    }
}

#[test]
fn only_so_many_periods_are_remembered_and_the_last_ones() {
    let mut events = vec![monthly()];
    let mut begins = at("2025-11-14T14:37:05Z");
    for _ in 0..40 {
        let mut next = monthly();
        next.cycle.told[0].period = Period {
            start: begins,
            end: begins.plus_seconds(7 * 86_400),
        };
        begins = begins.plus_seconds(7 * 86_400);
        events.push(next);
    }
    let known = history(events);
    assert_eq!(known.cycle.told.len(), crate::decision::inbound::PERIODS_MAX);
    assert_eq!(known.cycle.told.last().map(|last| last.period.end), Some(begins));
}

#[test]
fn use_that_grows_too_old_in_a_long_period_is_told_as_of_now() {
    let used_at = at("2025-06-01T00:00:00Z");
    let mut batch = crate::decision::billing::reconcile::tests::batch_used_at(used_at);
    let terms = Terms {
        sends: true,
        oldest_seconds: Some(35 * 86_400),
        closes_periods: true,
        ..Terms::NONE
    };
    let mut yearly = monthly();
    yearly.cycle = of(
        "updated",
        "2025-01-01T00:00:00Z",
        json!({"id": "sub_1", "customer": "cus", "status": "active", "start_date": unix(ANCHOR), "billing_cycle_anchor": unix("2025-01-01T00:00:00Z"),
            "current_period_start": unix("2025-01-01T00:00:00Z"), "current_period_end": unix("2026-01-01T00:00:00Z"),
            "items": {"data": [{"plan": {"id": "price", "interval": "year", "interval_count": 1}}]}}),
    )
    .cycle;
    yearly.started_at = at("2025-01-01T00:00:00Z");
    let known = periods(vec![yearly]);
    for (now, told_at) in [
        ("2025-07-05T22:59:59Z", Some("2025-06-01T00:00:00Z")),
        ("2025-07-05T23:00:00Z", Some("2025-07-05T23:00:00Z")),
        ("2025-07-20T00:00:00Z", Some("2025-07-20T00:00:00Z")),
        // It was opened on the first of July.
        ("2025-08-05T00:00:00Z", None),
    ] {
        batch.opened_at = at("2025-07-01T00:00:00Z");
        let found = match batch.when_due(&terms, &known, None, LATE, at(now)) {
            Event::Claimed { told_at, .. } => Some(told_at),
            _ => None,
        };
        assert_eq!(found, told_at.map(at), "{now}");
    }
}
