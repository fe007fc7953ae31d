//! Cases of promise 3: expiry is a comparison, nothing has to run for it.

use super::desk::{Desk, HOLD_SECONDS, Store, daily, row};
use crate::counters::{Extended, HOLD_SECONDS_MAX, HoldRequest, Progress};
use crate::decision::standing::End;

pub(crate) async fn a_hold_past_its_expiry_is_free_even_if_no_sweeper_ran(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS - 1);
    assert_eq!(desk.balance(&day).await, (0, 60));
    assert!(!desk.fits("b", 60, &[(&day, 100)]).await);
    desk.later(1);
    assert!(desk.fits("b", 60, &[(&day, 100)]).await, "nobody asked about the first before");
    assert_eq!(desk.balance(&day).await, (0, 60));
    assert_eq!(desk.end_of(id).await, Some(End::Expired));
}

pub(crate) async fn an_expired_hold_keeps_what_a_late_settle_needs(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    let live = desk.find(id).await.expect("live");
    desk.later(HOLD_SECONDS + 3_600);
    let expired = desk.find(id).await.expect("expired");
    let expected = crate::counters::Record {
        end: Some(End::Expired),
        ..live
    };
    assert_eq!(expired, expected);
    assert_eq!(&*expired.context, b"context of a");
}

pub(crate) async fn a_charged_hold_waits_for_the_ledger(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let request = HoldRequest {
        charge_on_expiry: true,
        ..desk.ask("a", 60, &[(&day, 100)])
    };
    desk.hold(&request).await;
    let id = desk.id("a");
    desk.later(HOLD_SECONDS + 3_600);
    assert_eq!(desk.balance(&day).await, (0, 60));
    assert_eq!(desk.end_of(id).await, None);
    desk.apply(&[row(&day, 60, 2)], id, Progress::Ended(End::Expired)).await;
    assert_eq!(desk.balance(&day).await, (60, 0));
    assert_eq!(desk.end_of(id).await, Some(End::Expired));
}

pub(crate) async fn an_extension_never_shortens_and_never_passes_seven_days(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    let (taken, expiry) = (desk.now, desk.now.plus_seconds(HOLD_SECONDS));
    desk.later(10);
    let latest = taken.plus_seconds(HOLD_SECONDS_MAX);
    for (until, expected) in [
        (desk.now.plus_seconds(5), expiry),
        (expiry.plus_seconds(1), expiry.plus_seconds(1)),
        (expiry, expiry.plus_seconds(1)),
        (latest.plus_seconds(1), latest),
        (latest.plus_seconds(3_600), latest),
    ] {
        let answer = desk.store.extend(id, until, desk.now).await.expect("extend");
        assert_eq!(answer, Extended::Until(expected), "{until}");
        assert_eq!(desk.find(id).await.map(|record| record.expires_at), Some(expected));
    }
}

pub(crate) async fn an_extended_hold_lives_until_its_new_expiry(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS - 1);
    let until = desk.now.plus_seconds(HOLD_SECONDS);
    desk.store.extend(id, until, desk.now).await.expect("extend");
    desk.later(HOLD_SECONDS - 1);
    assert_eq!(desk.balance(&day).await, (0, 60));
    desk.later(1);
    assert_eq!(desk.balance(&day).await, (0, 0));
}

pub(crate) async fn what_has_ended_cannot_be_extended(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let (settled, expired) = (desk.held("s", 10, &[(&day, 100)]).await, desk.held("e", 10, &[(&day, 100)]).await);
    desk.settle(settled, &[row(&day, 10, 2)]).await;
    desk.later(HOLD_SECONDS);
    let until = desk.now.plus_seconds(60);
    for (id, expected) in [
        (settled, Extended::Ended(End::Settled)),
        (expired, Extended::Ended(End::Expired)),
        (desk.id("never-held"), Extended::Unknown),
    ] {
        assert_eq!(desk.store.extend(id, until, desk.now).await.expect("extend"), expected);
    }
    assert_eq!(desk.balance(&day).await, (10, 0));
}
