//! Cases of what waits: reservations that are due, holds that will make room, open ones.

use super::desk::{Desk, HOLD_SECONDS, NOON, Store, counter, daily, of_user, row, tokens};
use crate::counters::run::ChildRequest;
use crate::counters::{CLAIM_OPEN_SECONDS, Claim, FREE_AT_HOLDS_MAX, HoldOutcome, HoldRequest, Progress};
use crate::decision::amount::Unit;
use crate::decision::counter::Counter;
use crate::decision::id::ReservationId;
use crate::decision::period::PeriodKind;
use crate::decision::standing::End;
use std::collections::BTreeSet;

async fn charged(desk: &Desk, key: &str, limits: &[(&Counter, i64)]) -> ReservationId {
    let request = HoldRequest {
        charge_on_expiry: true,
        ..desk.ask(key, 10, limits)
    };
    desk.hold(&request).await;
    desk.id(key)
}

pub(crate) async fn a_claim_that_stays_open_is_due_after_a_minute(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.claim(id, Claim::UpTo(tokens(20))).await;
    desk.later(30);
    desk.claim(id, Claim::UpTo(tokens(20))).await;
    desk.later(CLAIM_OPEN_SECONDS - 1);
    assert_eq!(desk.due(10).await, [], "its caller tried again half a minute later");
    desk.later(1);
    assert_eq!(desk.due(10).await, [id]);
    desk.apply(&[row(&day, 20, 2)], id, Progress::Used(tokens(20))).await;
    assert_eq!(desk.due(10).await, [], "what was claimed is applied");
    desk.claim(id, Claim::UpTo(tokens(10))).await;
    desk.later(CLAIM_OPEN_SECONDS);
    assert_eq!(desk.due(10).await, [], "an old checkpoint claims nothing new");
    desk.claim(id, Claim::Final).await;
    desk.later(CLAIM_OPEN_SECONDS);
    assert_eq!(desk.due(10).await, [id]);
}

/// Nobody resolves anything, as if nothing of it could be; all the same each is named, and no call names one twice.
pub(crate) async fn what_is_due_is_named_in_turn(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store.clone(), &[&day]).await;
    let other = Desk::bare(store, "ws_b");
    other.rebuild(&[row(&day, 0, 1)]).await;
    let mut ids = BTreeSet::new();
    for number in 0..45 {
        let owner = if number % 9 == 0 { &other } else { &desk };
        let id = owner.held(&format!("r{number}"), 1, &[(&day, 1_000)]).await;
        owner.claim(id, Claim::Final).await;
        ids.insert(id);
    }
    desk.later(CLAIM_OPEN_SECONDS);
    for limit in [7, 45, 100] {
        let mut named = BTreeSet::new();
        for _ in 0..20 {
            let due = desk.due(limit).await;
            assert!(due.len() <= limit, "{} of {limit}", due.len());
            assert_eq!(due.iter().collect::<BTreeSet<_>>().len(), due.len(), "one is named twice");
            named.extend(due);
        }
        assert_eq!(named.len(), ids.len(), "at most {limit} at once");
    }
}

pub(crate) async fn a_charged_hold_is_due_at_its_expiry(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = charged(&desk, "a", &[(&day, 100)]).await;
    let plain = desk.held("b", 10, &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS - 1);
    assert_eq!(desk.due(10).await, []);
    desk.store.extend(id, desk.now.plus_seconds(11), desk.now).await.expect("extend");
    desk.later(10);
    assert_eq!(desk.due(10).await, [], "it was extended");
    desk.later(1);
    assert_eq!(desk.due(10).await, [id]);
    assert_eq!(desk.end_of(plain).await, Some(End::Expired));
}

pub(crate) async fn a_charged_hold_with_a_claim_in_flight_is_due_by_the_claim(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = charged(&desk, "a", &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS - 1);
    desk.claim(id, Claim::UpTo(tokens(5))).await;
    desk.later(1);
    assert_eq!(desk.due(10).await, [], "its commit may be on the way");
    desk.later(CLAIM_OPEN_SECONDS - 1);
    assert_eq!(desk.due(10).await, [id]);
    desk.apply(&[row(&day, 5, 2)], id, Progress::Used(tokens(5))).await;
    assert_eq!(desk.due(10).await, [id], "past its expiry, and charged");
}

pub(crate) async fn what_is_due_is_named_until_it_ends_and_no_more_than_asked(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let mut ids = Vec::new();
    for key in ["a", "b", "c"] {
        let id = desk.held(key, 10, &[(&day, 100)]).await;
        desk.claim(id, Claim::Final).await;
        ids.push(id);
    }
    desk.later(CLAIM_OPEN_SECONDS);
    for _ in 0..2 {
        let mut named = desk.due(10).await;
        named.sort();
        ids.sort();
        assert_eq!(named, ids);
    }
    let two = desk.due(2).await;
    assert_eq!(two.len(), 2);
    assert!(two.iter().all(|id| ids.contains(id)) && two[0] != two[1]);
    assert_eq!(desk.due(0).await, []);
    for (id, end) in ids.iter().zip([End::Settled, End::Released, End::Expired]) {
        desk.apply(&[], *id, Progress::Ended(end)).await;
    }
    desk.later(3_600);
    assert_eq!(desk.due(10).await, []);
}

/// A hold of which somebody wants to hear if it runs out by itself.
async fn told(desk: &Desk, key: &str, limits: &[(&Counter, i64)]) -> ReservationId {
    let request = HoldRequest {
        tell_on_expiry: true,
        ..desk.ask(key, 10, limits)
    };
    let outcome = desk.hold(&request).await;
    assert!(matches!(outcome, HoldOutcome::Held { .. }), "{outcome:?}");
    desk.id(key)
}

pub(crate) async fn an_expiry_that_is_to_be_told_is_due_until_its_end_is_applied(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = told(&desk, "a", &[(&day, 100)]).await;
    desk.held("plain", 10, &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS - 1);
    assert_eq!(desk.due(10).await, []);
    desk.later(1);
    for asked in ["nobody asked before", "somebody did"] {
        let due = desk.store.due(desk.now, 10).await.expect("due");
        let ended: Vec<_> = due.iter().map(|record| (record.reservation, record.end)).collect();
        assert_eq!(ended, [(id, Some(End::Expired))], "{asked}");
        assert_eq!(&*due[0].context, b"context of a");
        assert_eq!(desk.balance(&day).await, (0, 0), "it ended by itself");
    }
    desk.apply(&[], id, Progress::Ended(End::Expired)).await;
    assert_eq!(desk.due(10).await, []);
    assert_eq!(desk.end_of(id).await, Some(End::Expired));
    desk.apply(&[row(&day, 7, 2)], id, Progress::EndedUsing(End::Settled, tokens(7)))
        .await;
    assert_eq!(desk.balance(&day).await, (7, 0), "a late settle stays what it is");
    assert_eq!((desk.due(10).await, desk.end_of(id).await), (vec![], Some(End::Settled)));
}

pub(crate) async fn what_ended_before_it_was_told_is_not_told(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    for (key, end) in [("s", End::Settled), ("r", End::Released)] {
        let id = told(&desk, key, &[(&day, 100)]).await;
        desk.apply(&[], id, Progress::Ended(end)).await;
    }
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.due(10).await, []);
    for (key, end) in [("late", End::Settled), ("late-r", End::Released)] {
        let id = told(&desk, key, &[(&day, 100)]).await;
        desk.later(HOLD_SECONDS);
        assert_eq!(desk.due(10).await, [id]);
        desk.apply(&[], id, Progress::Ended(end)).await;
        assert_eq!(desk.due(10).await, [], "the ledger knows of an end: {end:?}");
    }
}

pub(crate) async fn a_claim_in_flight_puts_off_what_is_told(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = told(&desk, "a", &[(&day, 100)]).await;
    desk.later(HOLD_SECONDS - 1);
    desk.claim(id, Claim::UpTo(tokens(4))).await;
    desk.later(1);
    assert_eq!(desk.due(10).await, [], "its commit may be on the way");
    desk.apply(&[row(&day, 4, 2)], id, Progress::Used(tokens(4))).await;
    assert_eq!(desk.due(10).await, [id], "with its claim ended it ends by itself");
    assert_eq!(desk.balance(&day).await, (4, 0));
    let dead = told(&desk, "b", &[(&day, 100)]).await;
    desk.claim(dead, Claim::Final).await;
    desk.later(HOLD_SECONDS.max(CLAIM_OPEN_SECONDS));
    assert!(desk.due(10).await.contains(&dead));
    assert_eq!(desk.end_of(dead).await, None, "only the ledger ends it");
    for ended in [id, dead] {
        desk.apply(&[], ended, Progress::Ended(End::Expired)).await;
    }
    assert_eq!(desk.due(10).await, []);
}

pub(crate) async fn an_extended_hold_is_told_at_its_new_expiry(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = told(&desk, "a", &[(&day, 100)]).await;
    let until = desk.now.plus_seconds(HOLD_SECONDS + 20);
    desk.store.extend(id, until, desk.now).await.expect("extend");
    desk.later(HOLD_SECONDS + 19);
    assert_eq!(desk.due(10).await, []);
    desk.later(1);
    let due = desk.store.due(desk.now, 10).await.expect("due");
    assert_eq!(due.iter().map(|record| record.expires_at).collect::<Vec<_>>(), [until]);
}

pub(crate) async fn parents_and_calls_of_runs_are_told(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    for (key, charge) in [("plain", false), ("charged", true)] {
        let request = HoldRequest {
            tell_on_expiry: true,
            charge_on_expiry: charge,
            ..desk.ask(key, 50, &[(&day, 1_000)])
        };
        desk.hold(&request).await;
        let call = ChildRequest {
            tell_on_expiry: true,
            parent_held_at: desk.now,
            ..desk.call(&format!("call-{key}"), desk.id(key), 10)
        };
        desk.draw(&call).await;
        desk.later(HOLD_SECONDS);
        let mut due = desk.due(10).await;
        let mut expected = [desk.id(key), desk.id(&format!("call-{key}"))];
        due.sort();
        expected.sort();
        assert_eq!(due, expected, "no parent is charged: {key}");
        assert_eq!(desk.balance(&day).await, (0, 0));
        for id in due {
            assert_eq!(desk.end_of(id).await, Some(End::Expired));
            desk.apply(&[], id, Progress::Ended(End::Expired)).await;
        }
        assert_eq!(desk.due(10).await, []);
    }
}

pub(crate) async fn what_is_charged_is_told_by_whoever_ends_it(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let request = HoldRequest {
        tell_on_expiry: true,
        charge_on_expiry: true,
        ..desk.ask("a", 10, &[(&day, 100)])
    };
    desk.hold(&request).await;
    let id = desk.id("a");
    desk.later(HOLD_SECONDS + 5);
    assert_eq!((desk.due(10).await, desk.end_of(id).await), (vec![id], None));
    desk.apply(&[row(&day, 10, 2)], id, Progress::EndedUsing(End::Expired, tokens(10)))
        .await;
    assert_eq!(desk.due(10).await, []);
    assert_eq!(desk.balance(&day).await, (10, 0));
}

pub(crate) async fn free_at_names_the_expiry_that_makes_room(store: Store) {
    let (day, ann) = (daily(), of_user("ann", daily()));
    let mut desk = Desk::open(store, &[&day, &ann]).await;
    desk.apply_rows(&[row(&day, 10, 2)]).await;
    desk.held("a", 20, &[(&day, 100)]).await;
    desk.later(60);
    desk.held("elsewhere", 500, &[(&ann, 1_000)]).await;
    desk.held("b", 30, &[(&ann, 1_000), (&day, 100)]).await;
    desk.later(60);
    let long = desk.held("c", 35, &[(&day, 100)]).await;
    desk.store.extend(long, NOON.plus_seconds(5_000), desk.now).await.expect("extend");
    let [a, b, c] = [HOLD_SECONDS, 60 + HOLD_SECONDS, 5_000].map(|seconds| NOON.plus_seconds(seconds));
    for (ceiling, room, expected) in [
        (100, 5, Some(desk.now)),
        (100, 6, Some(a)),
        (100, 25, Some(a)),
        (100, 26, Some(b)),
        (100, 55, Some(b)),
        (100, 56, Some(c)),
        (100, 90, Some(c)),
        (100, 91, None),
        (9, 0, None),
    ] {
        assert_eq!(desk.free_at(&day, ceiling, room).await, expected, "{room} below {ceiling}");
    }
    assert_eq!(
        desk.free_at(&counter(Unit::Usd, PeriodKind::Day), 100, 1).await,
        None,
        "nothing is known of it"
    );
}

pub(crate) async fn free_at_counts_on_nothing_that_does_not_expire_by_itself(store: Store) {
    let (day, minute, hour) = (
        daily(),
        counter(Unit::Requests, PeriodKind::Minute),
        counter(Unit::Requests, PeriodKind::Hour),
    );
    let requests = counter(Unit::Requests, PeriodKind::Day);
    let mut desk = Desk::open(store, &[&day, &minute, &hour, &requests]).await;
    let claimed = desk.held("claimed", 40, &[(&day, 100)]).await;
    desk.claim(claimed, Claim::Final).await;
    charged(&desk, "charged", &[(&day, 100)]).await;
    let checkpointed = desk.held("checkpointed", 40, &[(&day, 100)]).await;
    desk.claim(checkpointed, Claim::UpTo(tokens(10))).await;
    assert_eq!(desk.free_at(&day, 100, 20).await, None);
    desk.apply(&[row(&day, 10, 2)], checkpointed, Progress::Used(tokens(10))).await;
    let expiry = desk.now.plus_seconds(HOLD_SECONDS);
    assert_eq!(
        desk.free_at(&day, 100, 40).await,
        Some(expiry),
        "its claim is applied, so its rest expires"
    );
    assert_eq!(desk.free_at(&day, 100, 41).await, None, "what it used stays spent");
    desk.later(1);
    desk.held("rate", 0, &[(&minute, 1), (&hour, 1), (&requests, 1)]).await;
    assert_eq!(desk.free_at(&minute, 1, 1).await, None, "an attempt stays counted");
    assert_eq!(desk.free_at(&hour, 1, 1).await, None);
    assert_eq!(desk.free_at(&requests, 1, 1).await, Some(desk.now.plus_seconds(HOLD_SECONDS)));
}

/// Holds one token each on these counters, one second after the other.
async fn held_in_a_row(desk: &mut Desk, name: &str, holds: usize, limits: &[(&Counter, i64)]) {
    for number in 0..holds {
        desk.held(&format!("{name}-{number}"), 1, limits).await;
        desk.later(1);
    }
}

pub(crate) async fn free_at_looks_as_far_as_it_must(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let first = desk.now.plus_seconds(HOLD_SECONDS);
    held_in_a_row(&mut desk, "row", 113, &[(&day, 113)]).await;
    for room in [1, 15, 16, 17, 47, 48, 49, 112, 113] {
        assert_eq!(desk.free_at(&day, 113, room).await, Some(first.plus_seconds(room - 1)), "{room}");
    }
    assert_eq!(desk.free_at(&day, 113, 114).await, None, "that much is not held");
}

pub(crate) async fn free_at_looks_at_so_many_holds_and_tells_how_far(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let first = desk.now.plus_seconds(HOLD_SECONDS);
    let most = FREE_AT_HOLDS_MAX as i64;
    held_in_a_row(&mut desk, "row", FREE_AT_HOLDS_MAX, &[(&day, 1_000)]).await;
    let last = Some(first.plus_seconds(most - 1));
    assert_eq!(desk.free_at(&day, most, most).await, last);
    assert_eq!(desk.free_at(&day, most, most + 1).await, None, "there are no more");
    held_in_a_row(&mut desk, "more", 3, &[(&day, 1_000)]).await;
    for room in [1, 3, 4] {
        assert_eq!(desk.free_at(&day, 3, room).await, last, "not before that, for {room}");
    }
    assert_eq!(desk.free_at(&day, 4, 1).await, last, "exactly then");
    assert_eq!(desk.free_at(&day, 5, 1).await, Some(first.plus_seconds(most - 2)));
}

pub(crate) async fn free_at_passes_over_holds_of_others(store: Store) {
    let (day, ann) = (daily(), of_user("ann", daily()));
    let anna = of_user("anna", daily());
    let mut desk = Desk::open(store, &[&day, &ann, &anna]).await;
    held_in_a_row(&mut desk, "others", 20, &[(&day, 100), (&anna, 100)]).await;
    desk.held("hers", 1, &[(&ann, 1)]).await;
    assert_eq!(desk.free_at(&ann, 1, 1).await, Some(desk.now.plus_seconds(HOLD_SECONDS)));
}

pub(crate) async fn open_reservations_are_counted(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let open = async || desk.store.open().await.expect("open");
    assert_eq!(open().await, 0);
    let id = desk.held("a", 10, &[(&day, 100)]).await;
    desk.held("b", 10, &[(&day, 100)]).await;
    desk.hold(&desk.ask("b", 10, &[(&day, 100)])).await;
    desk.hold(&desk.ask("too-much", 1_000, &[(&day, 100)])).await;
    assert_eq!(open().await, 2);
    desk.claim(id, Claim::Final).await;
    assert_eq!(open().await, 2);
    desk.apply(&[], id, Progress::Ended(End::Settled)).await;
    desk.apply(&[], id, Progress::Ended(End::Settled)).await;
    assert_eq!(open().await, 1);
}
