//! Cases of promise 7: a hold is idempotent for the life of its record, and its end is remembered after it.

use super::desk::{Desk, HOLD_SECONDS, Store, counter, daily, row};
use crate::counters::{Applied, FINGERPRINT_UNKNOWN, HoldOutcome, HoldRequest, Progress, TOMBSTONE_SECONDS};
use crate::decision::amount::Unit;
use crate::decision::counter::Balance;
use crate::decision::period::PeriodKind;
use crate::decision::standing::End;

pub(crate) async fn the_same_reservation_twice_holds_once(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let request = desk.ask("r", 10, &[(&day, 100)]);
    let HoldOutcome::Held { taken, before } = desk.hold(&request).await else {
        panic!("the first is held");
    };
    desk.held("between", 5, &[(&day, 100)]).await;
    desk.later(30);
    let again = HoldRequest {
        now: desk.now,
        ..desk.ask("r", 10, &[(&day, 100)])
    };
    let HoldOutcome::Replayed(record) = desk.hold(&again).await else {
        panic!("the second is a replay");
    };
    assert_eq!((record.taken, &record.before), (taken, &before), "as it was answered first");
    assert_eq!(record.expires_at, request.rungs[0].expires_at);
    assert_eq!(record.held_at, request.now);
    assert_eq!(record.context, request.context);
    assert_eq!((record.claimed, record.end), (None, None));
    assert_eq!(desk.balance(&day).await, (0, 15));
}

pub(crate) async fn fifty_equal_requests_at_once_hold_once_and_are_answered_alike(store: Store) {
    let (day, minute) = (daily(), counter(Unit::Requests, PeriodKind::Minute));
    let desk = Desk::open(store, &[&day, &minute]).await;
    let tries: Vec<_> = (0..50)
        .map(|_| {
            let (desk, request) = (desk.clone(), desk.ask("r", 10, &[(&day, 100), (&minute, 100)]));
            tokio::spawn(async move { desk.hold(&request).await })
        })
        .collect();
    let (mut first, mut answers) = (0, Vec::new());
    for one in tries {
        answers.push(match one.await.expect("no panic") {
            HoldOutcome::Held { taken, before } => {
                first += 1;
                (taken, before)
            }
            HoldOutcome::Replayed(record) => (record.taken, record.before),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(first, 1);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(desk.balance(&day).await, (0, 10));
    assert_eq!(desk.balance(&minute).await, (0, 1));
}

pub(crate) async fn a_replay_needs_no_room_and_no_rebuilt_group(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    desk.held("r", 100, &[(&day, 100)]).await;
    let unknown = counter(Unit::Credits, PeriodKind::Lifetime);
    let request = desk.ask("r", 100, &[(&day, 100), (&unknown, 100)]);
    assert!(matches!(desk.hold(&request).await, HoldOutcome::Replayed(_)));
    assert_eq!(desk.balance(&day).await, (0, 100));
}

pub(crate) async fn the_same_id_with_another_body_is_a_mismatch(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let id = desk.held("r", 10, &[(&day, 100)]).await;
    let other = HoldRequest {
        fingerprint: 2,
        ..desk.ask("r", 20, &[(&day, 100)])
    };
    assert_eq!(desk.hold(&other).await, HoldOutcome::Mismatch);
    assert_eq!(desk.balance(&day).await, (0, 10));
    desk.settle(id, &[row(&day, 8, 2)]).await;
    assert_eq!(desk.hold(&other).await, HoldOutcome::Mismatch, "after its end too");
}

pub(crate) async fn an_ended_reservation_answers_with_its_end(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    for (key, end) in [("s", End::Settled), ("r", End::Released)] {
        let id = desk.held(key, 10, &[(&day, 100)]).await;
        desk.apply(&[], id, Progress::Ended(end)).await;
        assert_eq!(desk.hold(&desk.ask(key, 10, &[(&day, 100)])).await, HoldOutcome::Ended(end));
        assert_eq!(desk.end_of(id).await, Some(end));
    }
    desk.held("e", 10, &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS);
    assert_eq!(
        desk.hold(&desk.ask("e", 10, &[(&day, 100)])).await,
        HoldOutcome::Ended(End::Expired)
    );
    assert_eq!(desk.balance(&day).await, (0, 0));
}

pub(crate) async fn an_end_is_remembered_for_a_day(store: Store) {
    let lifetime = counter(Unit::Tokens, PeriodKind::Lifetime);
    let mut desk = Desk::open(store, &[&lifetime]).await;
    let released = desk.held("r", 10, &[(&lifetime, 100)]).await;
    let expired = desk.held("e", 10, &[(&lifetime, 100)]).await;
    desk.release(released).await;
    desk.later(TOMBSTONE_SECONDS - 1);
    assert_eq!(desk.end_of(released).await, Some(End::Released));
    desk.later(1);
    assert_eq!(desk.find(released).await, None);
    assert_eq!(
        desk.end_of(expired).await,
        Some(End::Expired),
        "it ended when it ran out, ten minutes later"
    );
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.find(expired).await, None);
    desk.rebuild(&[row(&lifetime, 0, 1)]).await;
    for key in ["r", "e"] {
        desk.held(key, 10, &[(&lifetime, 100)]).await;
    }
    assert_eq!(desk.balance(&lifetime).await, (0, 20));
}

/// The checkpoint of a hold is applied a day after it ran out: it has ended, and its end is forgotten, all in one step.
pub(crate) async fn an_apply_may_end_and_forget_at_once(store: Store) {
    let lifetime = counter(Unit::Tokens, PeriodKind::Lifetime);
    let mut desk = Desk::open(store, &[&lifetime]).await;
    let id = desk.held("r", 10, &[(&lifetime, 100)]).await;
    desk.later(HOLD_SECONDS + TOMBSTONE_SECONDS);
    let applied = Applied {
        rows: vec![row(&lifetime, 4, 2)],
        reservation: Some((id, Progress::Used(super::desk::tokens(4)))),
        purses: Vec::new(),
    };
    let read = [lifetime.clone()];
    desk.store
        .apply(&desk.workspace, &applied, &read, &[], desk.now)
        .await
        .expect("apply");
    assert_eq!(desk.find(id).await, None);
    desk.rebuild(&[row(&lifetime, 4, 2)]).await;
    assert_eq!(desk.balance(&lifetime).await, (4, 0));
    desk.held("r", 10, &[(&lifetime, 100)]).await;
}

pub(crate) async fn the_end_of_an_unknown_reservation_is_remembered(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let id = desk.id("r");
    desk.apply(&[row(&day, 10, 2)], id, Progress::Ended(End::Settled)).await;
    assert_eq!(desk.balance(&day).await, (10, 0));
    let record = desk.find(id).await.expect("a tombstone");
    assert_eq!(record.end, Some(End::Settled));
    assert_eq!((record.fingerprint, record.context.len()), (FINGERPRINT_UNKNOWN, 0));
    assert_eq!(
        desk.hold(&desk.ask("r", 1, &[(&day, 100)])).await,
        HoldOutcome::Ended(End::Settled),
        "whatever the body was"
    );
}

pub(crate) async fn an_unknown_reservation_is_not_found(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let id = desk.id("r");
    assert_eq!(desk.find(id).await, None);
    let claimed = desk.store.claim(id, crate::counters::Claim::Final, desk.now).await;
    assert_eq!(claimed.expect("claim"), Ok(None));
    desk.apply(&[], id, Progress::Used(super::desk::tokens(10))).await;
    assert_eq!(desk.find(id).await, None, "a checkpoint alone says nothing of an end");
    let outcome = desk.hold(&desk.ask("r", 1, &[(&day, 100)])).await;
    let expected = [Balance::default()];
    assert!(
        matches!(&outcome, HoldOutcome::Held { before, .. } if *before == expected),
        "{outcome:?}"
    );
}
