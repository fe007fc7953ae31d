//! Cases of promises 5 and 6: what a store does not know it asks for, once.

use super::desk::{Desk, NOON, Store, counter, counter_at, daily, of_user, period, row, user};
use crate::counters::{Begun, HoldOutcome, HoldRequest, Progress, REBUILD_CLOCKS_MILLIS, REBUILD_JOIN_MILLIS, REBUILD_JOIN_MILLIS_MAX};
use crate::decision::amount::Unit;
use crate::decision::counter::Whose;
use crate::decision::period::PeriodKind;
use crate::decision::standing::End;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) async fn a_fresh_store_asks_for_every_group(store: Store) {
    let (ann, shared, day) = (
        of_user("ann", daily()),
        crate::decision::counter::Counter {
            whose: Whose::User(None),
            ..daily()
        },
        daily(),
    );
    let hour = counter(Unit::Tokens, PeriodKind::Hour);
    let desk = Desk::bare(store, "ws_a");
    let limits = [(&ann, 100), (&day, 100), (&hour, 100), (&shared, 100)];
    let unready = HoldOutcome::Unready(vec![user("ann"), Whose::Workspace, Whose::User(None)]);
    assert_eq!(desk.hold(&desk.ask("r", 10, &limits)).await, unready);
    assert_eq!(desk.known(&day).await, None);
    desk.apply_rows(&[row(&day, 10, 2)]).await;
    assert_eq!(desk.known(&day).await, None, "one row does not make a group");
    desk.rebuild(&[row(&ann, 0, 1), row(&day, 10, 2), row(&hour, 10, 2)]).await;
    let unready = HoldOutcome::Unready(vec![Whose::User(None)]);
    assert_eq!(desk.hold(&desk.ask("r", 10, &limits)).await, unready);
    assert_eq!(desk.balance(&day).await, (10, 0), "nothing was held by those that were refused");
}

pub(crate) async fn a_group_is_ready_once_its_rebuild_ended(store: Store) {
    let day = daily();
    let desk = Desk::bare(store, "ws_a");
    let token = desk.begun(&Whose::Workspace).await;
    assert!(matches!(
        desk.hold(&desk.ask("r", 10, &[(&day, 100)])).await,
        HoldOutcome::Unready(_)
    ));
    assert!(desk.finish(&Whose::Workspace, token, &[row(&day, 95, 7)]).await);
    assert_eq!(desk.balance(&day).await, (95, 0));
    assert!(!desk.fits("r", 10, &[(&day, 100)]).await);
    assert!(desk.fits("r", 5, &[(&day, 100)]).await);
}

pub(crate) async fn of_two_rebuilders_one_waits_and_joins_in_time(store: Store) {
    let day = daily();
    let mut desk = Desk::bare(store, "ws_a");
    let first = desk.begun(&Whose::Workspace).await;
    assert_eq!(desk.begin(&Whose::Workspace).await, Begun::Wait);
    assert!(
        matches!(desk.begin(&user("ann")).await, Begun::Started { .. }),
        "another group is another rebuild"
    );
    desk.now = NOON.plus_micros(REBUILD_JOIN_MILLIS * 1_000 - 1);
    assert_eq!(desk.begin(&Whose::Workspace).await, Begun::Wait);
    desk.now = desk.now.plus_micros(1);
    let second = desk.begun(&Whose::Workspace).await;
    assert!(
        desk.finish(&Whose::Workspace, first, &[row(&day, 1, 1)]).await,
        "what the first has read was not in vain"
    );
    assert_eq!(desk.balance(&day).await, (1, 0));
    assert!(
        !desk.finish(&Whose::Workspace, second, &[row(&day, 2, 2)]).await,
        "one of them ends it"
    );
    let next = desk.begun(&Whose::Workspace).await;
    assert_ne!(next, second, "and a rebuild that begins then is another one");
}

pub(crate) async fn whoever_joined_a_rebuild_may_end_it_and_each_makes_the_next_wait_longer(store: Store) {
    let day = daily();
    let mut desk = Desk::bare(store, "ws_a");
    let first = desk.begun(&Whose::Workspace).await;
    let mut wait = REBUILD_JOIN_MILLIS;
    for _ in 0..8 {
        desk.now = desk.now.plus_micros(wait * 1_000 - 1);
        assert_eq!(desk.begin(&Whose::Workspace).await, Begun::Wait, "{wait} ms");
        desk.now = desk.now.plus_micros(1);
        assert_eq!(desk.begun(&Whose::Workspace).await, first);
        wait = REBUILD_JOIN_MILLIS_MAX.min(2 * wait);
    }
    assert_eq!(wait, REBUILD_JOIN_MILLIS_MAX);
    assert!(desk.finish(&Whose::Workspace, first, &[row(&day, 2, 2)]).await);
    desk.begun(&Whose::Workspace).await;
    desk.now = desk.now.plus_micros(REBUILD_JOIN_MILLIS * 1_000);
    desk.begun(&Whose::Workspace).await;
}

/// Two nodes whose clocks differ ask in turn, each as often as its requests make it.
pub(crate) async fn clocks_that_differ_make_no_two_rebuild_against_each_other(store: Store) {
    let mut desk = Desk::bare(store, "ws_a");
    let first = desk.begun(&Whose::Workspace).await;
    let mut begun = 0;
    for millis in 0..100 {
        for ahead in [0, 2_000] {
            desk.now = NOON.plus_micros((millis + ahead) * 1_000);
            if let Begun::Started { token, .. } = desk.begin(&Whose::Workspace).await {
                assert_eq!(token, first, "so that the finish of either counts");
                begun += 1;
            }
        }
    }
    assert_eq!(begun, 1, "the one whose clock is ahead has joined, once");
}

/// A node began while its clock was wrong, and died.
pub(crate) async fn a_rebuild_of_the_far_future_keeps_nobody_waiting(store: Store) {
    let mut desk = Desk::bare(store, "ws_a");
    desk.now = NOON.plus_micros(REBUILD_CLOCKS_MILLIS * 1_000);
    desk.begun(&Whose::Workspace).await;
    desk.now = NOON.plus_micros(1);
    assert_eq!(desk.begin(&Whose::Workspace).await, Begun::Wait);
    desk.now = NOON;
    desk.begun(&Whose::Workspace).await;
}

pub(crate) async fn a_finish_whose_token_is_not_the_current_one_is_thrown_away(store: Store) {
    let (day, ann) = (daily(), of_user("ann", daily()));
    let desk = Desk::bare(store, "ws_a");
    let token = desk.begun(&Whose::Workspace).await;
    let anns = desk.begun(&user("ann")).await;
    for (whose, wrong) in [
        (Whose::Workspace, token.wrapping_add(1_000_000)),
        (Whose::Workspace, anns),
        (user("ben"), token),
    ] {
        assert!(
            !desk.finish(&whose, wrong, &[row(&day, 50, 50), row(&ann, 50, 50)]).await,
            "{whose:?}"
        );
    }
    assert!(desk.finish(&Whose::Workspace, token, &[row(&day, 3, 3)]).await);
    assert_eq!(desk.balance(&day).await, (3, 0));
    assert_eq!(desk.known(&ann).await, None);
}

pub(crate) async fn a_finish_ends_one_rebuild(store: Store) {
    let day = daily();
    let desk = Desk::bare(store, "ws_a");
    let token = desk.begun(&Whose::Workspace).await;
    assert!(desk.finish(&Whose::Workspace, token, &[row(&day, 3, 3)]).await);
    assert!(
        !desk.finish(&Whose::Workspace, token, &[row(&day, 4, 4)]).await,
        "the same again changes nothing"
    );
    assert_eq!(desk.balance(&day).await, (3, 0));
    assert!(
        matches!(desk.begin(&Whose::Workspace).await, Begun::Started { .. }),
        "and the next one need not wait"
    );
}

pub(crate) async fn an_apply_during_a_rebuild_is_not_undone_by_it(store: Store) {
    let (day, hour) = (daily(), counter(Unit::Tokens, PeriodKind::Hour));
    let desk = Desk::bare(store, "ws_a");
    let token = desk.begun(&Whose::Workspace).await;
    desk.apply(&[row(&day, 20, 4), row(&hour, 20, 4)], desk.id("r"), Progress::Ended(End::Settled))
        .await;
    // The rows were read before that commit.
    assert!(desk.finish(&Whose::Workspace, token, &[row(&day, 10, 3)]).await);
    assert_eq!(desk.balance(&day).await, (20, 0));
    assert_eq!(desk.balance(&hour).await, (20, 0));
}

pub(crate) async fn a_rebuild_of_a_live_group_keeps_what_is_held_and_stops_nobody(store: Store) {
    let (day, lifetime) = (daily(), counter(Unit::Tokens, PeriodKind::Lifetime));
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.later(1);
    assert_eq!(desk.known(&lifetime).await, None);
    let token = desk.begun(&Whose::Workspace).await;
    assert!(desk.fits("b", 30, &[(&day, 100)]).await, "while it runs");
    assert_eq!(desk.claim(id, crate::counters::Claim::Final).await.end, None);
    assert!(
        desk.finish(&Whose::Workspace, token, &[row(&day, 5, 2), row(&lifetime, 500, 2)])
            .await
    );
    assert_eq!(desk.balance(&day).await, (5, 90));
    assert_eq!(desk.balance(&lifetime).await, (500, 0));
    let next_day = counter_at(Unit::Tokens, PeriodKind::Day, NOON.plus_seconds(86_400));
    assert_eq!(desk.balance(&next_day).await, (0, 0));
}

/// A thousand tasks hold as a flow would: asked to rebuild, one of them does, and the others ask again.
pub(crate) async fn a_thousand_requests_at_a_fresh_store_rebuild_it_once(store: Store) {
    let day = daily();
    let desk = Desk::bare(store, "ws_a");
    let rebuilds = Arc::new(AtomicUsize::new(0));
    let begun = desk.begun(&Whose::Workspace).await;
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let (desk, day, rebuilds) = (desk.clone(), day.clone(), rebuilds.clone());
            tokio::spawn(async move {
                let request = desk.ask(&format!("r{number}"), 1, &[(&day, 100)]);
                loop {
                    match desk.hold(&request).await {
                        HoldOutcome::Held { .. } => return 1,
                        HoldOutcome::Short { .. } => return 0,
                        HoldOutcome::Unready(groups) => {
                            if let Begun::Started { .. } = desk.begin(&groups[0]).await {
                                rebuilds.fetch_add(1, Ordering::Relaxed);
                            }
                            tokio::task::yield_now().await;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(desk.finish(&Whose::Workspace, begun, &[row(&day, 40, 9)]).await);
    let mut held = 0;
    for task in tasks {
        held += task.await.expect("no panic");
    }
    assert_eq!(held, 60);
    assert_eq!(desk.balance(&day).await, (40, 60));
    // One who was told to rebuild just before the finish may begin just after it; what it would read changes nothing.
    assert!(rebuilds.load(Ordering::Relaxed) <= 1);
}

pub(crate) async fn a_period_that_began_after_the_build_begins_at_zero(store: Store) {
    let now_running = counter(Unit::Tokens, PeriodKind::Day);
    let mut desk = Desk::open(store, &[&counter(Unit::Requests, PeriodKind::Day)]).await;
    assert_eq!(desk.known(&now_running).await, None, "it began before");
    // A build at the very start of a period has read all there was before it.
    assert_eq!(period(PeriodKind::Hour, desk.now).start, desk.now);
    assert_eq!(desk.balance(&counter(Unit::Tokens, PeriodKind::Hour)).await, (0, 0));
    desk.later(3_000);
    let hour = counter_at(Unit::Tokens, PeriodKind::Hour, NOON.plus_seconds(3_600));
    assert_eq!(desk.balance(&hour).await, (0, 0));
    desk.held("a", 10, &[(&hour, 10)]).await;
    assert!(!desk.fits("b", 1, &[(&hour, 10)]).await);
    assert_eq!(
        desk.free_at(&hour, 10, 1).await,
        Some(desk.now.plus_seconds(super::desk::HOLD_SECONDS))
    );
}

pub(crate) async fn a_counter_that_was_named_in_mid_period_is_read_from_the_ledger(store: Store) {
    let mut desk = Desk::open(store, &[&daily()]).await;
    let hour = desk.next_hour().await;
    for (named_since, expected) in [
        (hour.period.start.plus_micros(1), None),
        (hour.period.start, Some((0, 0))),
        (NOON, Some((0, 0))),
    ] {
        assert_eq!(desk.known_if_named_since(&hour, named_since).await, expected);
        let request = HoldRequest {
            named_since,
            open_max: 0,
            ..desk.ask("r", 1, &[(&hour, 100)])
        };
        let unready = matches!(desk.hold(&request).await, HoldOutcome::Unready(_));
        assert_eq!(unready, expected.is_none());
    }
}

pub(crate) async fn a_lifetime_is_never_taken_for_zero(store: Store) {
    let desk = Desk::open(store, &[&daily()]).await;
    let mut lifetime = counter(Unit::Tokens, PeriodKind::Lifetime);
    assert_eq!(desk.known(&lifetime).await, None);
    lifetime.period.start = NOON.plus_seconds(60);
    assert_eq!(desk.known(&lifetime).await, None, "whatever its start is said to be");
}

/// A plan that names the counter since before its period, another plan that does not, and the first again: what was used under the second
/// is in no row yet, so the zero that was right under the first must not be believed again.
pub(crate) async fn a_zero_that_no_row_confirmed_does_not_outlive_its_policy(store: Store) {
    let mut desk = Desk::open(store, &[&daily()]).await;
    let hour = desk.next_hour().await;
    let id = desk.held("a", 10, &[(&hour, 100)]).await;
    assert_eq!(desk.balance(&hour).await, (0, 10));
    let changed_back = desk.now.plus_seconds(300);
    assert_eq!(desk.known_if_named_since(&hour, changed_back).await, None);
    desk.rebuild(&[row(&hour, 70, 2)]).await;
    assert_eq!(desk.known_if_named_since(&hour, changed_back).await, Some((70, 10)));
    desk.release(id).await;
    assert_eq!(desk.known_if_named_since(&hour, changed_back).await, Some((70, 0)));
}
