//! Who pays, in tables, and what must be true whatever is paid.

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_704_067_200_000_000).plus_seconds(seconds)
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

/// Days of 10 from the start on, as the periods of these budgets.
fn decade(at_second: i64) -> Period {
    let start = at_second.div_euclid(10 * DAY) * 10 * DAY;
    Period {
        start: at(start),
        end: at(start + 10 * DAY),
    }
}

fn grant(number: u128, amount: i64) -> Grant {
    Grant {
        id: GrantId::from_uuid(Uuid::from_u128(number)),
        key: None,
        budget: BudgetId::parse("monthly").expect("a budget"),
        unit: Unit::Tokens,
        amount,
        priority: 1,
        effective_at: at(0),
        expires_at: None,
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::Manual,
        paid: None,
        created_at: at(0),
        voided_at: None,
    }
}

fn pot(grants: &[Grant]) -> Pot {
    Pot::new(grants.to_vec(), HashMap::new())
}

/// What was paid of `amount` at a second, by grant number.
fn pay(pot: &mut Pot, amount: i64, second: i64) -> Vec<(u128, i64)> {
    let payments = pot.pay(Unit::Tokens, amount, at(second), decade(second));
    payments.iter().map(|payment| (number(payment.grant), payment.amount)).collect()
}

fn number(id: GrantId) -> u128 {
    (1..10)
        .find(|number| GrantId::from_uuid(Uuid::from_u128(*number)) == id)
        .unwrap_or(0)
}

fn left(pot: &Pot, second: i64) -> i64 {
    pot.left(Unit::Tokens, at(second), decade(second))
}

#[test]
fn grants_pay_by_priority_then_expiry_then_age() {
    let base = grant(1, 10);
    let first = Grant {
        priority: 0,
        expires_at: None,
        created_at: at(9),
        ..grant(1, 10)
    };
    let soon = Grant {
        expires_at: Some(at(30 * DAY)),
        created_at: at(8),
        ..grant(2, 10)
    };
    let later = Grant {
        expires_at: Some(at(60 * DAY)),
        created_at: at(0),
        ..grant(3, 10)
    };
    let old = Grant {
        created_at: at(1),
        ..grant(4, 10)
    };
    let young = Grant {
        created_at: at(2),
        ..grant(5, 10)
    };
    let twin = Grant {
        created_at: at(2),
        ..grant(6, 10)
    };
    let mut shuffled = pot(&[twin, young, old, later, soon, first]);
    shuffled.add(Grant {
        priority: 200,
        id: GrantId::from_uuid(Uuid::from_u128(7)),
        ..base
    });
    assert_eq!(
        pay(&mut shuffled, 65, 5 * DAY),
        [(1, 10), (2, 10), (3, 10), (4, 10), (5, 10), (6, 10), (7, 5)]
    );
    assert_eq!(pay(&mut shuffled, 65, 5 * DAY), [(7, 5)], "no more than there is");
}

#[test]
fn a_grant_pays_from_its_effect_until_before_its_expiry_or_void() {
    for (expires, voided, second, pays) in [
        (None, None, 99, false),
        (None, None, 100, true),
        (Some(200), None, 199, true),
        (Some(200), None, 200, false),
        (Some(200), Some(150), 149, true),
        (Some(200), Some(150), 150, false),
        (None, Some(50), 100, false),
    ] {
        let grant = Grant {
            effective_at: at(100),
            expires_at: expires.map(at),
            voided_at: voided.map(at),
            ..grant(1, 10)
        };
        assert_eq!(
            !pay(&mut pot(&[grant]), 1, second).is_empty(),
            pays,
            "{expires:?} {voided:?} {second}"
        );
    }
}

#[test]
fn a_use_is_paid_from_the_segment_in_which_it_occurred() {
    let recurring = Grant {
        recurrence: Some(Recurrence {
            interval: Interval::Week,
            anchor: at(0),
        }),
        ..grant(1, 100)
    };
    let mut pot = pot(&[recurring]);
    assert_eq!(pay(&mut pot, 80, DAY), [(1, 80)]);
    assert_eq!(left(&pot, 2 * DAY), 20);
    assert_eq!(left(&pot, 7 * DAY), 100, "the balance becomes the amount anew, not more");
    assert_eq!(pay(&mut pot, 130, 8 * DAY), [(1, 100)]);
    assert_eq!(pay(&mut pot, 50, 6 * DAY), [(1, 20)], "recorded late, from the week that has ended");
    assert_eq!(left(&pot, 8 * DAY), 0);
}

#[test]
fn what_rolls_over_is_bounded_below_and_above() {
    // Amount 100: what was used in the first period, the bounds, what the second one opens with.
    for (used, min, max, opens) in [
        (10, None, None, 90),
        (10, None, Some(50), 50),
        (70, None, Some(50), 30),
        (100, None, Some(50), 0),
        (10, Some(50), Some(50), 50),
        (100, Some(50), Some(50), 50),
        (80, Some(40), None, 40),
        (10, Some(40), None, 90),
        (0, None, Some(0), 0),
    ] {
        let rolling = Grant {
            rollover_min: min,
            rollover_max: max,
            ..grant(1, 100)
        };
        let mut pot = pot(&[rolling]);
        pay(&mut pot, used, DAY);
        assert_eq!(left(&pot, 9 * DAY), 100 - used, "{used} {min:?} {max:?}");
        for later in [10, 25, 1_000] {
            assert_eq!(left(&pot, later * DAY), opens, "{used} {min:?} {max:?} after {later} days");
        }
    }
}

#[test]
fn a_late_use_takes_nothing_that_was_rolled_over_and_spent() {
    let rolling = |min, max| Grant {
        rollover_min: min,
        rollover_max: max,
        ..grant(1, 100)
    };
    for (min, max, late_pays) in [
        (Some(0), None, 10),
        (None, Some(95), 10),
        (Some(90), None, 100),
        (Some(50), None, 10),
    ] {
        let mut pot = pot(&[rolling(min, max)]);
        assert_eq!(pay(&mut pot, 90, 11 * DAY), [(1, 90)], "{min:?} {max:?}");
        assert_eq!(pay(&mut pot, 200, DAY), [(1, late_pays)], "{min:?} {max:?}");
        assert_eq!(pot.overdrawn().count(), 0, "{min:?} {max:?}");
    }
}

#[test]
fn months_recur_on_their_anchors_day_or_the_last_one() {
    let recurrence = |interval, anchor| Recurrence {
        interval,
        anchor: time(anchor),
    };
    for (interval, anchor, now, last, next) in [
        (
            Interval::Month,
            "2024-01-31T12:00:00Z",
            "2024-02-29T11:59:59Z",
            "2024-01-31T12:00:00Z",
            "2024-02-29T12:00:00Z",
        ),
        (
            Interval::Month,
            "2024-01-31T12:00:00Z",
            "2024-02-29T12:00:00Z",
            "2024-02-29T12:00:00Z",
            "2024-03-31T12:00:00Z",
        ),
        (
            Interval::Month,
            "2024-01-31T12:00:00Z",
            "2023-12-01T00:00:00Z",
            "2023-11-30T12:00:00Z",
            "2023-12-31T12:00:00Z",
        ),
        (
            Interval::Year,
            "2024-02-29T00:00:00Z",
            "2027-03-01T00:00:00Z",
            "2027-02-28T00:00:00Z",
            "2028-02-29T00:00:00Z",
        ),
        (
            Interval::Week,
            "2024-01-04T00:00:00Z",
            "2024-01-03T00:00:00Z",
            "2023-12-28T00:00:00Z",
            "2024-01-04T00:00:00Z",
        ),
        (
            Interval::Day,
            "2024-01-04T06:00:00Z",
            "2024-03-10T05:00:00Z",
            "2024-03-09T06:00:00Z",
            "2024-03-10T06:00:00Z",
        ),
    ] {
        let recurrence = recurrence(interval, anchor);
        assert_eq!(recurrence.last(time(now)), time(last), "{interval:?} {anchor} {now}");
        assert_eq!(recurrence.next(time(now)), time(next), "{interval:?} {anchor} {now}");
    }
}

#[test]
fn the_purse_says_until_when_it_holds() {
    let ends = Grant {
        expires_at: Some(at(4 * DAY)),
        ..grant(1, 10)
    };
    let begins = Grant {
        effective_at: at(3 * DAY),
        ..grant(2, 10)
    };
    let rolls = Grant {
        rollover_max: Some(5),
        ..grant(3, 10)
    };
    let gone = Grant {
        voided_at: Some(at(0)),
        ..grant(4, 10)
    };
    let pot = pot(&[ends, begins, rolls, gone]);
    for (second, left_then, until) in [(0, 20, 3), (3, 30, 4), (4, 20, 10), (10, 15, 20)] {
        assert_eq!(left(&pot, second * DAY), left_then, "day {second}");
        assert_eq!(pot.until(at(second * DAY), decade(second * DAY)), at(until * DAY), "day {second}");
    }
    assert_eq!(super::Pot::default().until(at(0), decade(0)), Timestamp::MAX);
}

#[test]
fn a_grant_of_another_unit_pays_nothing() {
    let mut pot = pot(&[Grant {
        unit: Unit::Usd,
        ..grant(1, 10)
    }]);
    assert_eq!((left(&pot, 0), pay(&mut pot, 5, 0)), (0, vec![]));
}

#[test]
fn what_stands_on_grants_is_what_passes_the_limit_and_is_held() {
    for (spent, held, hard, paid, expected) in [
        (0, 100, 100, 0, 0),
        (50, 100, 100, 0, 50),
        (150, 30, 100, 0, 30),
        (150, 30, 100, 50, 30),
        (120, 30, 100, 50, 0),
        (140, 30, 100, 50, 20),
        (0, 0, 0, 0, 0),
    ] {
        assert_eq!(on_grants(spent, held, hard, paid), expected, "{spent} {held} {hard} {paid}");
    }
}

/// Of the cases that the property below has found: a grant that rolls over, and begins in the period after this one.
#[test]
fn a_purse_holds_until_a_grant_that_is_to_come_begins() {
    let to_come = Grant {
        effective_at: at(12 * DAY),
        rollover_max: Some(60),
        ..grant(1, 40)
    };
    let pot = pot(&[to_come, grant(2, 5)]);
    let now = 8 * DAY;
    let until = pot.until(at(now), decade(now));
    assert!(until > at(now) && until <= at(12 * DAY), "{until}");
    assert_eq!((left(&pot, now), left(&pot, 12 * DAY - 1), left(&pot, 12 * DAY)), (5, 5, 45));
}

fn any_grant(number: u128) -> impl Strategy<Value = Grant> {
    let when = (
        0..30 * DAY,
        prop::option::of(1..60 * DAY),
        prop::option::weighted(0.2, 0..60 * DAY),
        0..3u8,
    );
    let interval = prop_oneof![Just(Interval::Day), Just(Interval::Week), Just(Interval::Month)];
    let recurrence = prop::option::of((interval, -20 * DAY..20 * DAY));
    let rollover = prop::option::of((prop::option::of(0..60i64), prop::option::of(60..100i64)));
    (0..100i64, when, recurrence, rollover).prop_map(move |(amount, (from, lasts, voided, priority), recurrence, rollover)| Grant {
        priority,
        effective_at: at(from),
        expires_at: lasts.map(|lasts| at(from + lasts)),
        voided_at: voided.map(at),
        recurrence: recurrence.map(|(interval, anchor)| Recurrence {
            interval,
            anchor: at(anchor),
        }),
        rollover_min: rollover.and_then(|(min, _)| min),
        rollover_max: rollover.and_then(|(_, max)| max),
        ..grant(number, amount)
    })
}

proptest! {
    /// However uses come, in whatever order of time: no segment pays more than it opened with, and what is paid leaves the purse once.
    #[test]
    fn nothing_is_paid_twice(grants in (any_grant(1), any_grant(2), any_grant(3)), uses in prop::collection::vec((0..90 * DAY, 1..80i64), 1..40)) {
        let mut pot = pot(&[grants.0, grants.1, grants.2]);
        for (second, amount) in uses {
            let before = left(&pot, second);
            let paid: i64 = pay(&mut pot, amount, second).iter().map(|(_, amount)| amount).sum();
            prop_assert_eq!(paid, amount.min(before));
            prop_assert_eq!(left(&pot, second), before - paid);
            prop_assert_eq!(pot.overdrawn().count(), 0);
        }
    }

    /// Within one segment it does not matter how a sum is divided into uses: in all, the same grants pay the same.
    #[test]
    fn division_into_uses_does_not_matter(grants in (any_grant(1), any_grant(2)), parts in prop::collection::vec(1..30i64, 1..10), second in 0..40 * DAY) {
        let (mut whole, mut divided) = (pot(&[grants.0.clone(), grants.1.clone()]), pot(&[grants.0, grants.1]));
        let mut sums: BTreeMap<u128, i64> = BTreeMap::new();
        for part in &parts {
            for (grant, amount) in pay(&mut divided, *part, second) {
                *sums.entry(grant).or_default() += amount;
            }
        }
        prop_assert_eq!(pay(&mut whole, parts.iter().sum(), second).into_iter().collect::<BTreeMap<_, _>>(), sums);
    }

    /// Between now and `until` nothing changes by itself.
    #[test]
    fn the_purse_holds_until_it_says(grants in (any_grant(1), any_grant(2)), used in 0..50i64, second in 0..40 * DAY, share in 0.0..1.0f64) {
        let mut pot = pot(&[grants.0, grants.1]);
        pay(&mut pot, used, second);
        let until = pot.until(at(second), decade(second)).micros().min(at(100 * DAY).micros());
        let span = until - at(second).micros();
        let moment = Timestamp::from_micros(at(second).micros() + ((span - 1) as f64 * share) as i64);
        let period = decade(at(0).seconds_until(moment.plus_micros(1)) - 1);
        prop_assert!(pot.grants().iter().all(|grant| !grant.rolls() || !grant.is_active(at(second))) || period == decade(second));
        prop_assert_eq!(pot.left(Unit::Tokens, moment, period), left(&pot, second));
    }
}
