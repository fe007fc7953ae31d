//! Cases of promises 2 and 9: what is spent is set if newer, and periods that ended are dropped in time.

use super::desk::{Desk, NOON, Store, counter, counter_at, daily, of_user, row};
use crate::counters::{Applied, HoldOutcome, KEEP_ENDED_SECONDS, Progress};
use crate::decision::amount::Unit;
use crate::decision::counter::Balance;
use crate::decision::period::PeriodKind;
use crate::decision::standing::End;

pub(crate) async fn an_older_sum_never_replaces_a_newer_one(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    for (spent, version, expected) in [(10, 5, 10), (99, 4, 10), (99, 5, 10), (12, 6, 12), (99, 1, 12)] {
        desk.apply_rows(&[row(&day, spent, version)]).await;
        assert_eq!(desk.balance(&day).await, (expected, 0), "version {version}");
    }
    desk.rebuild(&[row(&day, 99, 5)]).await;
    assert_eq!(desk.balance(&day).await, (12, 0), "nor by a rebuild");
}

pub(crate) async fn a_correction_lowers_a_counter(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    desk.apply_rows(&[row(&day, 100, 2)]).await;
    assert!(!desk.fits("a", 10, &[(&day, 100)]).await);
    desk.apply_rows(&[row(&day, -20, 3)]).await;
    assert_eq!(desk.balance(&day).await, (-20, 0));
    assert!(desk.fits("a", 120, &[(&day, 100)]).await);
}

pub(crate) async fn an_apply_answers_with_what_it_left(store: Store) {
    let (day, ann, unread) = (daily(), of_user("ann", daily()), counter(Unit::Usd, PeriodKind::Day));
    let desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.held("b", 7, &[(&day, 100)]).await;
    let applied = Applied {
        rows: vec![row(&day, 25, 2), row(&ann, 25, 2)],
        reservation: Some((id, Progress::Ended(End::Settled))),
        purses: Vec::new(),
    };
    let read = [unread, day, ann];
    let answer = desk
        .store
        .apply(&desk.workspace, &applied, &read, &[], desk.now)
        .await
        .expect("apply");
    assert_eq!(
        answer,
        [
            None,
            Some(Balance {
                spent: 25,
                held: 7,
                granted: 0
            }),
            None
        ],
        "ann's group was never built"
    );
}

pub(crate) async fn a_new_counter_comes_with_its_row(store: Store) {
    let (day, year) = (daily(), counter(Unit::Credits, PeriodKind::Lifetime));
    let desk = Desk::open(store, &[&day]).await;
    assert_eq!(desk.known(&year).await, None);
    desk.apply_rows(&[row(&year, 40, 2)]).await;
    assert_eq!(
        desk.balance(&year).await,
        (40, 0),
        "a row is the truth of its counter, whatever came before it"
    );
}

pub(crate) async fn counters_stay_for_an_hour_after_their_period(store: Store) {
    let minute = counter(Unit::Tokens, PeriodKind::Minute);
    let mut desk = Desk::open(store, &[&minute]).await;
    desk.apply_rows(&[row(&minute, 5, 2)]).await;
    desk.later(60 + KEEP_ENDED_SECONDS - 1);
    desk.rebuild(&[row(&minute, 5, 2)]).await;
    assert_eq!(desk.balance(&minute).await, (5, 0));
    desk.later(1);
    assert_eq!(desk.known(&minute).await, None, "and are not taken for zero after it");
    desk.apply_rows(&[row(&minute, 6, 3)]).await;
    assert_eq!(desk.known(&minute).await, None);
}

pub(crate) async fn sums_and_ends_of_a_dropped_period_are_harmless(store: Store) {
    let (minute, lifetime) = (
        counter(Unit::Tokens, PeriodKind::Minute),
        counter(Unit::Tokens, PeriodKind::Lifetime),
    );
    let mut desk = Desk::open(store, &[&minute, &lifetime]).await;
    let mut batch = desk.ask("batch", 60, &[(&minute, 100), (&lifetime, 100)]);
    batch.rungs[0].expires_at = NOON.plus_seconds(90_000);
    assert!(matches!(desk.hold(&batch).await, HoldOutcome::Held { .. }));
    desk.later(80_000);
    let next = counter_at(Unit::Tokens, PeriodKind::Minute, desk.now);
    desk.rebuild(&[row(&next, 0, 2), row(&lifetime, 0, 2)]).await;
    assert_eq!(desk.balance(&lifetime).await, (0, 60));
    let id = desk.id("batch");
    desk.settle(id, &[row(&minute, 50, 3), row(&lifetime, 50, 3)]).await;
    assert_eq!(desk.balance(&lifetime).await, (50, 0));
    assert_eq!(desk.balance(&next).await, (0, 0), "the minute that runs now is another counter");
    assert_eq!(desk.known(&minute).await, None);
}
