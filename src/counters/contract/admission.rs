//! Cases of promise 1: all limits are checked and all amounts are held in one step, or nothing is.

use super::desk::{Desk, Store, counter, daily, of_feature, of_user, row, rung, tokens};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Balance, Counter};
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Cap, Limit, Line, Taken};

pub(crate) async fn two_racing_holds_cannot_both_take_the_last_token(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    for round in 0..100 {
        let ceiling = round + 1;
        let (one, other) = (desk.clone(), desk.clone());
        let (limit, same_limit) = (day.clone(), day.clone());
        let one = tokio::spawn(async move { one.fits(&format!("one {round}").replace(' ', "-"), 1, &[(&limit, ceiling)]).await });
        let other = tokio::spawn(async move {
            other
                .fits(&format!("other {round}").replace(' ', "-"), 1, &[(&same_limit, ceiling)])
                .await
        });
        let (one, other) = (one.await.expect("no panic"), other.await.expect("no panic"));
        assert!(one != other, "round {round}: {one} and {other}");
    }
    assert_eq!(desk.balance(&day).await, (0, 100));
}

pub(crate) async fn a_thousand_racing_holds_take_exactly_what_there_is(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let tries: Vec<_> = (0..1_000)
        .map(|number| {
            let (desk, day) = (desk.clone(), day.clone());
            tokio::spawn(async move { desk.fits(&format!("r{number}"), 1, &[(&day, 100)]).await })
        })
        .collect();
    let mut fitted = 0;
    for one in tries {
        fitted += i64::from(one.await.expect("no panic"));
    }
    assert_eq!(fitted, 100);
    assert_eq!(desk.balance(&day).await, (0, 100));
}

/// Eight tasks hold one token each on a pair of twelve users' counters, in either order, until most are full.
pub(crate) async fn racing_holds_over_crossing_counters_are_whole_or_nothing(store: Store) {
    const COUNTERS: usize = 12;
    const CEILING: i64 = 100;
    let counters: Vec<Counter> = (0..COUNTERS).map(|n| of_user(&format!("u{n}"), daily())).collect();
    let desk = Desk::open(store, &counters.iter().collect::<Vec<_>>()).await;
    let tasks: Vec<_> = (0..8usize)
        .map(|task| {
            let (desk, counters) = (desk.clone(), counters.clone());
            tokio::spawn(async move {
                let mut held = [0; COUNTERS];
                for round in 0..1_250usize {
                    let (a, b) = pair(task * 1_250 + round, COUNTERS);
                    let limits = [(&counters[a], CEILING), (&counters[b], CEILING)];
                    if desk.fits(&format!("r{task}-{round}"), 1, &limits).await {
                        held[a] += 1;
                        held[b] += 1;
                    }
                }
                held
            })
        })
        .collect();
    let mut held = [0; COUNTERS];
    for task in tasks {
        let of_task = task.await.expect("no panic");
        held.iter_mut().zip(of_task).for_each(|(sum, part)| *sum += part);
    }
    for (counter, held) in counters.iter().zip(held) {
        assert_eq!(desk.balance(counter).await, (0, held));
        assert!(held <= CEILING);
    }
    assert!(held.contains(&CEILING), "some were full, so some holds were refused for one of two");
}

/// Two different places below `count`, scattered over all ordered pairs.
fn pair(number: usize, count: usize) -> (usize, usize) {
    let scattered = number.wrapping_mul(0x9E37_79B9) >> 7;
    let first = scattered % count;
    let second = (first + 1 + (scattered / count) % (count - 1)) % count;
    (first, second)
}

pub(crate) async fn one_short_budget_leaves_every_other_counter_untouched(store: Store) {
    let budgets = [
        daily(),
        counter(Unit::Requests, PeriodKind::Minute),
        of_user("ann", daily()),
        of_feature("chat", daily()),
    ];
    let desk = Desk::open(store, &budgets.iter().collect::<Vec<_>>()).await;
    desk.apply_rows(&[row(&budgets[2], 95, 2)]).await;
    let limits: Vec<(&Counter, i64)> = budgets.iter().map(|budget| (budget, 100)).collect();
    let outcome = desk.hold(&desk.ask("r", 10, &limits)).await;
    let untouched = |spent| Balance {
        spent,
        held: 0,
        granted: 0,
    };
    assert_eq!(
        outcome,
        HoldOutcome::Short {
            balances: vec![untouched(0), untouched(0), untouched(95), untouched(0)]
        }
    );
    for (budget, spent) in budgets.iter().zip([0, 0, 95, 0]) {
        assert_eq!(desk.balance(budget).await, (spent, 0));
    }
    assert_eq!(desk.find(desk.id("r")).await, None);
}

pub(crate) async fn the_first_rung_that_fits_is_taken(store: Store) {
    let (day, minute) = (daily(), counter(Unit::Requests, PeriodKind::Minute));
    let desk = Desk::open(store, &[&day, &minute]).await;
    let asked = desk.ask("r", 0, &[(&day, 0), (&minute, 0)]);
    let soon = desk.now.plus_seconds(60);
    let request = HoldRequest {
        rungs: vec![
            rung(200, &[100, 5], soon),
            rung(50, &[100, 0], soon),
            rung(100, &[100, 1], soon),
            rung(1, &[100, 1], soon),
        ],
        ..asked
    };
    let taken = Taken {
        rung: 2,
        output: 100,
        amounts: Amounts {
            requests: 1,
            ..tokens(100)
        },
    };
    let before = vec![Balance::default(); 2];
    assert_eq!(desk.hold(&request).await, HoldOutcome::Held { taken, before });
    assert_eq!(desk.balance(&day).await, (0, 100));
    assert_eq!(desk.balance(&minute).await, (0, 1));
    assert_eq!(desk.find(desk.id("r")).await.map(|record| record.expires_at), Some(soon));
}

pub(crate) async fn a_capped_rung_takes_what_is_left_and_no_more(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let flat = Line::new(0, 0, 1, 1_024, false);
    let cap = Cap {
        least: 256,
        tokens: Line::new(300, 1, 1, 1_024, false),
        usd: flat,
        credits: flat,
    };
    let ask = |key: &str| {
        let mut request = desk.ask(key, 1_324, &[(&day, 1_000)]);
        request.rungs[0].output = 1_024;
        request.rungs[0].cap = Some(cap);
        request
    };
    let outcome = desk.hold(&ask("a")).await;
    assert!(
        matches!(&outcome, HoldOutcome::Held { taken, .. } if taken.output == 700),
        "{outcome:?}"
    );
    assert_eq!(desk.balance(&day).await, (0, 1_000));
    desk.release(desk.id("a")).await;
    desk.apply_rows(&[row(&day, 500, 2)]).await;
    assert!(
        matches!(desk.hold(&ask("b")).await, HoldOutcome::Short { .. }),
        "200 are less than the least"
    );
}

pub(crate) async fn a_soft_limit_closes_its_rung_before_the_hard_one(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    for (key, rung_taken) in [("a", 0), ("b", 0), ("c", 1)] {
        let mut request = desk.ask(key, 40, &[(&day, 1_000)]);
        let soft = Limit {
            granted: false,
            open_below: Some(80),
            ..request.rungs[0].limits[0]
        };
        request.rungs.insert(0, request.rungs[0].clone());
        request.rungs[0].limits = vec![soft];
        let outcome = desk.hold(&request).await;
        assert!(
            matches!(&outcome, HoldOutcome::Held { taken, .. } if taken.rung == rung_taken),
            "{key}: {outcome:?}"
        );
    }
}

pub(crate) async fn an_answer_tells_the_balances_just_before_it(store: Store) {
    let (day, ann) = (daily(), of_user("ann", daily()));
    let desk = Desk::open(store, &[&day, &ann]).await;
    desk.apply_rows(&[row(&day, 7, 2), row(&ann, 5, 2)]).await;
    desk.held("a", 10, &[(&day, 100)]).await;
    let outcome = desk.hold(&desk.ask("b", 20, &[(&ann, 100), (&day, 100)])).await;
    let expected = [
        Balance {
            spent: 5,
            held: 0,
            granted: 0,
        },
        Balance {
            spent: 7,
            held: 10,
            granted: 0,
        },
    ];
    assert!(
        matches!(&outcome, HoldOutcome::Held { before, .. } if *before == expected),
        "{outcome:?}"
    );
}

pub(crate) async fn a_hold_of_nothing_fits_a_full_counter(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    desk.held("a", 100, &[(&day, 100)]).await;
    desk.held("nothing", 0, &[(&day, 100)]).await;
    assert!(!desk.fits("one", 1, &[(&day, 100)]).await);
    assert_eq!(desk.balance(&day).await, (0, 100));
    desk.apply_rows(&[row(&day, 1, 2)]).await;
    assert!(
        !desk.fits("nothing-beyond", 0, &[(&day, 100)]).await,
        "even nothing does not fit beyond the ceiling"
    );
}

pub(crate) async fn a_hold_without_counters_takes_the_first_rung(store: Store) {
    let desk = Desk::bare(store, "ws_unlimited");
    let id = desk.held("r", 10, &[]).await;
    assert_eq!(desk.find(id).await.map(|record| record.taken.amounts.tokens), Some(10));
    desk.settle(id, &[]).await;
    assert!(matches!(desk.hold(&desk.ask("r", 10, &[])).await, HoldOutcome::Ended(_)));
}

pub(crate) async fn a_workspace_holds_no_more_reservations_than_it_may(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let two = |desk: &Desk, key: &str| HoldRequest {
        open_max: 2,
        ..desk.ask(key, 1, &[(&day, 100)])
    };
    let is_held = |outcome: HoldOutcome| matches!(outcome, HoldOutcome::Held { .. });
    assert!(is_held(desk.hold(&two(&desk, "a")).await));
    assert!(is_held(desk.hold(&two(&desk, "b")).await));
    let balances = vec![Balance {
        spent: 0,
        held: 2,
        granted: 0,
    }];
    assert_eq!(desk.hold(&two(&desk, "c")).await, HoldOutcome::TooManyOpen { balances });
    assert!(
        matches!(desk.hold(&two(&desk, "a")).await, HoldOutcome::Replayed(_)),
        "a known one needs no place"
    );
    desk.release(desk.id("a")).await;
    assert!(is_held(desk.hold(&two(&desk, "c")).await), "an end makes a place");
    desk.later(super::desk::HOLD_SECONDS);
    assert!(is_held(desk.hold(&two(&desk, "d")).await), "expiries make places");
    assert!(is_held(desk.hold(&two(&desk, "e")).await));
    assert!(!is_held(desk.hold(&two(&desk, "f")).await));
}

pub(crate) async fn workspaces_users_and_features_do_not_share_counters(store: Store) {
    let counters = [
        daily(),
        of_user("ann", daily()),
        of_user("ben", daily()),
        Counter {
            whose: crate::decision::counter::Whose::User(None),
            ..daily()
        },
        of_feature("chat", daily()),
        of_feature("search", daily()),
        counter(Unit::Requests, PeriodKind::Day),
        counter(Unit::Tokens, PeriodKind::Hour),
    ];
    let all: Vec<&Counter> = counters.iter().collect();
    let desk = Desk::open(store, &all).await;
    let other = Desk {
        workspace: super::desk::workspace("ws_b"),
        ..desk.clone()
    };
    other.rebuild(&counters.clone().map(|counter| row(&counter, 0, 1))).await;
    for (place, full) in counters.iter().enumerate() {
        let amount = if full.unit == Unit::Requests { 1 } else { 10 };
        desk.held(&format!("r{place}"), 10, &[(full, amount)]).await;
        assert!(!desk.fits("one-more", 10, &[(full, amount)]).await);
        assert_eq!(desk.balance(full).await, (0, amount));
        assert_eq!(other.balance(full).await, (0, 0));
        for empty in &counters[place + 1..] {
            assert_eq!(desk.balance(empty).await, (0, 0), "{empty:?} beside {full:?}");
        }
    }
}

pub(crate) async fn a_limit_on_a_counter_that_is_not_there_is_an_error_and_holds_nothing(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let mut request = desk.ask("r", 1, &[(&day, 100)]);
    request.rungs[0].limits[0].counter = 1;
    assert!(desk.store.hold(&request).await.is_err());
    assert_eq!(desk.balance(&day).await, (0, 0));
    assert_eq!(desk.find(desk.id("r")).await, None);
}
