//! Cases of promises 8 and 10: one end each, and a rate counts attempts.

use super::desk::{Desk, HOLD_SECONDS, Store, counter, daily, row, tokens, workspace};
use crate::counters::{Claim, HoldRequest, Progress};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::period::PeriodKind;
use crate::decision::standing::End;

pub(crate) async fn a_settle_frees_what_is_left_at_once(store: Store) {
    let (day, minute) = (daily(), counter(Unit::Requests, PeriodKind::Minute));
    let desk = Desk::open(store, &[&day, &minute]).await;
    let id = desk.held("a", 60, &[(&day, 100), (&minute, 10)]).await;
    desk.settle(id, &[row(&day, 25, 2), row(&minute, 1, 2)]).await;
    assert_eq!(desk.balance(&day).await, (25, 0));
    assert_eq!(desk.balance(&minute).await, (1, 0));
    assert!(desk.fits("b", 75, &[(&day, 100)]).await);
    desk.apply(&[row(&day, 25, 2)], id, Progress::Ended(End::Settled)).await;
    assert_eq!(desk.balance(&day).await, (25, 75), "a doubled apply frees nothing of another");
}

pub(crate) async fn the_first_end_stays(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let ends = [End::Settled, End::Released, End::Expired];
    for (first, second) in ends.iter().flat_map(|first| ends.iter().map(move |second| (*first, *second))) {
        let pair = format!("{}-{}", first.as_str(), second.as_str());
        let held = desk.held(&pair, 10, &[(&day, 100)]).await;
        for id in [held, desk.id(&format!("unknown-{pair}"))] {
            desk.apply(&[], id, Progress::Ended(first)).await;
            desk.apply(&[], id, Progress::Ended(second)).await;
            desk.apply(&[], id, Progress::Used(tokens(5))).await;
            let late = (first, second) == (End::Expired, End::Settled);
            assert_eq!(desk.end_of(id).await, Some(if late { second } else { first }), "{pair}");
            assert_eq!(desk.balance(&day).await, (0, 0));
        }
    }
}

pub(crate) async fn an_expired_hold_may_be_settled_late_and_gives_nothing_back_twice(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS);
    desk.held("b", 90, &[(&day, 100)]).await;
    for _ in 0..2 {
        desk.settle(id, &[row(&day, 50, 2)]).await;
        assert_eq!(desk.balance(&day).await, (50, 90));
        assert_eq!(desk.end_of(id).await, Some(End::Settled));
    }
}

pub(crate) async fn a_reservation_of_another_workspace_is_left_alone(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let (id, unknown) = (desk.held("a", 60, &[(&day, 100)]).await, desk.id("never-held"));
    // So many that some of them are kept in the same part of the store, however it is divided.
    for number in 0..300 {
        let other = Desk {
            workspace: workspace(&format!("other_{number}")),
            ..desk.clone()
        };
        other.apply(&[], id, Progress::Used(tokens(30))).await;
        other.apply(&[], id, Progress::Ended(End::Released)).await;
        other.apply(&[], unknown, Progress::Ended(End::Released)).await;
    }
    assert_eq!(desk.balance(&day).await, (0, 60));
    assert_eq!(desk.end_of(id).await, None);
    assert_eq!(desk.find(unknown).await, None);
}

pub(crate) async fn an_attempt_stays_counted_in_its_minute_after_a_release(store: Store) {
    let (minute, day) = (
        counter(Unit::Requests, PeriodKind::Minute),
        counter(Unit::Requests, PeriodKind::Day),
    );
    let (tokens, rate) = (daily(), counter(Unit::Tokens, PeriodKind::Minute));
    let limits = [(&minute, 1), (&day, 100), (&tokens, 100), (&rate, 100)];
    let mut desk = Desk::open(store, &[&minute, &day, &tokens, &rate]).await;
    let id = desk.held("a", 10, &limits).await;
    desk.release(id).await;
    assert_eq!(desk.balance(&minute).await, (0, 1), "a rate counts attempts");
    for other in [&day, &tokens, &rate] {
        assert_eq!(desk.balance(other).await, (0, 0), "nothing else does: {other:?}");
    }
    assert!(!desk.fits("b", 10, &limits).await);
    desk.later(59);
    assert!(!desk.fits("b", 10, &limits).await, "until its period ends");
}

pub(crate) async fn an_attempt_stays_counted_in_its_hour_after_an_expiry(store: Store) {
    let (hour, day) = (counter(Unit::Requests, PeriodKind::Hour), counter(Unit::Requests, PeriodKind::Day));
    let mut desk = Desk::open(store, &[&hour, &day]).await;
    let checkpointed = desk.held("c", 10, &[(&hour, 10), (&day, 10)]).await;
    desk.held("a", 10, &[(&hour, 10), (&day, 10)]).await;
    let one = Amounts {
        requests: 1,
        ..Amounts::ZERO
    };
    desk.claim(checkpointed, Claim::UpTo(one)).await;
    desk.apply(&[row(&hour, 1, 2), row(&day, 1, 2)], checkpointed, Progress::Used(one))
        .await;
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.balance(&hour).await, (1, 1), "one that is spent, one that was tried");
    assert_eq!(desk.balance(&day).await, (1, 0));
}

pub(crate) async fn a_settled_attempt_is_counted_once(store: Store) {
    let minute = counter(Unit::Requests, PeriodKind::Minute);
    let desk = Desk::open(store, &[&minute]).await;
    for (key, version) in [("a", 2), ("b", 3)] {
        let id = desk.held(key, 10, &[(&minute, 10)]).await;
        desk.settle(id, &[row(&minute, version - 1, version)]).await;
    }
    assert_eq!(desk.balance(&minute).await, (2, 0));
}

pub(crate) async fn an_attempt_that_is_settled_late_is_counted_once(store: Store) {
    let hour = counter(Unit::Requests, PeriodKind::Hour);
    let mut desk = Desk::open(store, &[&hour]).await;
    let late = desk.held("late", 10, &[(&hour, 10)]).await;
    desk.held("never", 10, &[(&hour, 10)]).await;
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.balance(&hour).await, (0, 2));
    desk.settle(late, &[row(&hour, 1, 2)]).await;
    assert_eq!(desk.balance(&hour).await, (1, 1));
    desk.settle(late, &[row(&hour, 1, 2)]).await;
    assert_eq!(desk.balance(&hour).await, (1, 1));
}

pub(crate) async fn an_attempt_that_is_charged_is_counted_once(store: Store) {
    let hour = counter(Unit::Requests, PeriodKind::Hour);
    let mut desk = Desk::open(store, &[&hour]).await;
    let request = HoldRequest {
        charge_on_expiry: true,
        ..desk.ask("charged", 10, &[(&hour, 10)])
    };
    desk.hold(&request).await;
    desk.held("other", 10, &[(&hour, 10)]).await;
    desk.later(HOLD_SECONDS);
    let id = desk.id("charged");
    desk.apply(&[row(&hour, 1, 2)], id, Progress::Ended(End::Expired)).await;
    assert_eq!(desk.balance(&hour).await, (1, 1));
    desk.settle(id, &[row(&hour, 1, 3)]).await;
    assert_eq!(desk.balance(&hour).await, (1, 1), "nor does a late settle free another's");
}
