//! Cases of promise 11: calls of a run take their need from one hold, and what each of them holds is freed once.

use super::desk::{Desk, HOLD_SECONDS, NOON, Store, counter, daily, of_user, one_token_each, row, tokens, workspace};
use crate::counters::run::{ChildOutcome, ChildRequest, Lending, Run, Unfit};
use crate::counters::{CLAIM_OPEN_SECONDS, Claim, Extended, HoldOutcome, HoldRequest, Progress, Record, TOMBSTONE_SECONDS};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::Counter;
use crate::decision::id::ReservationId;
use crate::decision::period::PeriodKind;
use crate::decision::rung::Rung;
use crate::decision::standing::End;
use futures_util::future::join_all;

/// A workspace whose day admits 1,000 tokens, and a parent that holds so many of them.
async fn run_of(store: Store, held: i64) -> (Desk, Counter, ReservationId) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let parent = desk.held("parent", held, &[(&day, 1_000)]).await;
    (desk, day, parent)
}

/// What a parent tells: used, lent, calls so far and calls that live.
async fn account(desk: &Desk, parent: ReservationId) -> (i64, i64, i64, i64) {
    let record = desk.find(parent).await.expect("it is remembered");
    assert_eq!(record.end, None);
    match record.run {
        Some(Run::Parent(lending)) => (record.used.tokens, lending.lent.tokens, lending.calls, lending.children),
        other => panic!("{other:?} is no parent"),
    }
}

fn is_exhausted(outcome: &ChildOutcome) -> bool {
    matches!(outcome, ChildOutcome::Exhausted(_))
}

pub(crate) async fn a_call_takes_its_need_from_its_parent_and_no_counter_changes(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    desk.later(10);
    let outcome = desk.draw(&desk.call("a", parent, 60)).await;
    let ChildOutcome::Held(record) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((record.reservation, record.run), (desk.id("a"), Some(Run::Child(parent))));
    assert_eq!((record.taken.amounts.tokens, record.held_at), (60, desk.now));
    assert_eq!(&*record.context, b"context of a");
    assert_eq!(desk.find(desk.id("a")).await.as_ref(), Some(&*record));
    assert_eq!(desk.balance(&day).await, (0, 100));
    assert_eq!(account(&desk, parent).await, (0, 60, 1, 1));
    let outcome = desk.draw(&desk.call("b", parent, 41)).await;
    let ChildOutcome::Exhausted(told) = outcome else {
        panic!("{outcome:?}");
    };
    let lending = Lending {
        lent: Amounts { requests: 1, ..tokens(60) },
        calls: 1,
        children: 1,
    };
    assert_eq!((told.reservation, told.run), (parent, Some(Run::Parent(lending))));
    assert_eq!(desk.find(desk.id("b")).await, None, "nothing is held");
    desk.drawn("c", parent, 40).await;
    desk.drawn("d", parent, 0).await;
    assert_eq!(account(&desk, parent).await, (0, 100, 3, 3));
    assert_eq!(desk.balance(&day).await, (0, 100));
}

pub(crate) async fn racing_calls_take_no_more_than_their_parent_holds(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let keys: Vec<String> = (0..50).map(|number| format!("call-{number}")).collect();
    let calls: Vec<ChildRequest> = keys.iter().map(|key| desk.call(key, parent, 7)).collect();
    let outcomes = join_all(calls.iter().map(|call| desk.draw(call))).await;
    let held = outcomes.iter().filter(|outcome| matches!(outcome, ChildOutcome::Held(_))).count();
    assert_eq!(held, 14, "14 × 7 is 98");
    assert_eq!(outcomes.iter().filter(|outcome| is_exhausted(outcome)).count(), 36);
    assert_eq!(account(&desk, parent).await, (0, 98, 14, 14));
    assert_eq!(desk.balance(&day).await, (0, 100));
}

pub(crate) async fn racing_calls_are_no_more_than_their_parent_admits(store: Store) {
    let (desk, _, parent) = run_of(store, 100).await;
    let keys: Vec<String> = (0..50).map(|number| format!("call-{number}")).collect();
    let call = |key: &String| ChildRequest {
        calls_max: Some(10),
        ..desk.call(key, parent, 1)
    };
    let calls: Vec<ChildRequest> = keys.iter().map(call).collect();
    let outcomes = join_all(calls.iter().map(|call| desk.draw(call))).await;
    assert_eq!(outcomes.iter().filter(|outcome| is_exhausted(outcome)).count(), 40);
    let taken: Vec<ReservationId> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            ChildOutcome::Held(record) => Some(record.reservation),
            _ => None,
        })
        .collect();
    for call in taken {
        desk.release(call).await;
    }
    assert_eq!(account(&desk, parent).await, (0, 0, 10, 0));
    let again = desk.draw(&call(&"again".to_owned())).await;
    assert!(is_exhausted(&again), "a call that was released was one all the same: {again:?}");
}

pub(crate) async fn what_a_call_did_not_use_goes_back_once(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let call = desk.drawn("a", parent, 60).await;
    desk.settle_using(call, tokens(25), &[row(&day, 25, 2)]).await;
    for version in [2, 2, 1] {
        assert_eq!(desk.balance(&day).await, (25, 75), "held and spent are 100 together");
        assert_eq!(account(&desk, parent).await, (25, 0, 1, 0));
        let again = Progress::EndedUsing(End::Settled, tokens(25));
        desk.apply(&[row(&day, 25, version)], call, again).await;
        desk.apply(&[], call, Progress::Ended(End::Released)).await;
        desk.apply(&[], call, Progress::Used(tokens(60))).await;
    }
    desk.drawn("b", parent, 75).await;
    assert!(is_exhausted(&desk.draw(&desk.call("c", parent, 1)).await));
    desk.release(parent).await;
    assert_eq!(desk.balance(&day).await, (25, 75));
    desk.release(desk.id("b")).await;
    assert_eq!(desk.balance(&day).await, (25, 0));
}

pub(crate) async fn a_call_that_was_settled_without_a_word_gives_nothing_back(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let call = desk.drawn("a", parent, 60).await;
    desk.settle(call, &[row(&day, 25, 2)]).await;
    assert_eq!(account(&desk, parent).await, (60, 0, 1, 0));
    assert_eq!(
        desk.balance(&day).await,
        (25, 40),
        "the run may have used all of it, and the day has its row"
    );
}

pub(crate) async fn a_call_that_is_released_or_expires_gives_all_back(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let until = NOON.plus_seconds(3 * HOLD_SECONDS);
    assert_eq!(
        desk.store.extend(parent, until, desk.now).await.expect("extend"),
        Extended::Until(until)
    );
    let released = desk.drawn("a", parent, 60).await;
    desk.drawn("b", parent, 40).await;
    desk.release(released).await;
    assert_eq!(account(&desk, parent).await, (0, 40, 2, 1));
    desk.later(HOLD_SECONDS - 1);
    assert!(is_exhausted(&desk.draw(&desk.call("c", parent, 61)).await));
    desk.later(1);
    assert_eq!(account(&desk, parent).await, (0, 0, 2, 0), "nobody asked about b before");
    assert_eq!(desk.balance(&day).await, (0, 100), "the parent goes on holding");
    desk.drawn("c", parent, 100).await;
}

pub(crate) async fn a_streaming_call_moves_what_it_used_as_it_goes(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let call = desk.drawn("a", parent, 60).await;
    for (reported, spent) in [(20, 20), (45, 45), (20, 45)] {
        desk.claim(call, Claim::UpTo(tokens(reported))).await;
        desk.apply(&[row(&day, spent, spent)], call, Progress::Used(tokens(reported))).await;
        assert_eq!(account(&desk, parent).await, (spent, 60 - spent, 1, 1));
        assert_eq!(desk.balance(&day).await, (spent, 100 - spent));
    }
    desk.settle_using(call, tokens(50), &[row(&day, 50, 50)]).await;
    assert_eq!(account(&desk, parent).await, (50, 0, 1, 0));
    assert_eq!(desk.balance(&day).await, (50, 50));
}

pub(crate) async fn what_a_call_used_beyond_its_hold_its_parent_has_less(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let (call, stream) = (desk.drawn("a", parent, 20).await, desk.drawn("b", parent, 20).await);
    desk.settle_using(call, tokens(50), &[row(&day, 50, 2)]).await;
    assert_eq!(account(&desk, parent).await, (50, 20, 2, 1));
    assert_eq!(desk.balance(&day).await, (50, 50));
    desk.claim(stream, Claim::UpTo(tokens(30))).await;
    for _ in 0..2 {
        desk.apply(&[row(&day, 80, 3)], stream, Progress::Used(tokens(30))).await;
        assert_eq!(account(&desk, parent).await, (80, 0, 2, 1));
        assert_eq!(desk.balance(&day).await, (80, 20));
    }
    assert!(is_exhausted(&desk.draw(&desk.call("c", parent, 21)).await));
}

pub(crate) async fn a_parent_that_owes_more_than_it_has_pays_from_what_comes_back(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let (call, other) = (desk.drawn("a", parent, 40).await, desk.drawn("b", parent, 60).await);
    desk.settle_using(call, tokens(90), &[row(&day, 90, 2)]).await;
    assert_eq!(account(&desk, parent).await, (90, 60, 2, 1), "50 more than it took");
    assert_eq!(desk.balance(&day).await, (90, 60));
    desk.release(other).await;
    assert_eq!(desk.balance(&day).await, (90, 10), "of 60 that come back 50 are spent");
    assert_eq!(account(&desk, parent).await, (90, 0, 2, 0));
    desk.drawn("c", parent, 10).await;
    assert!(is_exhausted(&desk.draw(&desk.call("d", parent, 1)).await));
}

pub(crate) async fn a_parent_that_is_released_frees_what_no_call_holds(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let (used, live) = (desk.drawn("a", parent, 30).await, desk.drawn("b", parent, 20).await);
    desk.settle_using(used, tokens(10), &[row(&day, 10, 2)]).await;
    for _ in 0..2 {
        desk.release(parent).await;
        assert_eq!(desk.balance(&day).await, (10, 20));
    }
    assert_eq!(desk.end_of(parent).await, Some(End::Released));
    let outcome = desk.draw(&desk.call("c", parent, 1)).await;
    assert_eq!(outcome, ChildOutcome::ParentEnded(End::Released));
    desk.settle_using(live, tokens(15), &[row(&day, 25, 3)]).await;
    assert_eq!(desk.balance(&day).await, (25, 0), "its parent is gone, so the rest is free");
}

pub(crate) async fn a_parent_that_expires_frees_what_no_call_holds(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let (live, claimed) = (desk.drawn("a", parent, 30).await, desk.drawn("b", parent, 20).await);
    desk.claim(claimed, Claim::Final).await;
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.balance(&day).await, (0, 20), "one that is claimed waits for the ledger");
    assert_eq!(desk.end_of(parent).await, Some(End::Expired));
    assert_eq!(desk.end_of(live).await, Some(End::Expired));
    let outcome = desk.draw(&desk.call("c", parent, 1)).await;
    assert_eq!(outcome, ChildOutcome::ParentEnded(End::Expired));
    desk.apply(&[row(&day, 5, 2)], claimed, Progress::EndedUsing(End::Settled, tokens(5)))
        .await;
    assert_eq!(desk.balance(&day).await, (5, 0));
}

pub(crate) async fn a_call_lives_no_longer_than_its_parent(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let (ends, soon) = (NOON.plus_seconds(HOLD_SECONDS), NOON.plus_seconds(20));
    desk.later(10);
    let call = desk.drawn("a", parent, 30).await;
    assert_eq!(desk.find(call).await.map(|record| record.expires_at), Some(ends));
    let short = ChildRequest {
        rungs: vec![Rung {
            expires_at: soon,
            ..desk.call("b", parent, 30).rungs[0].clone()
        }],
        ..desk.call("b", parent, 30)
    };
    desk.draw(&short).await;
    assert_eq!(desk.find(desk.id("b")).await.map(|record| record.expires_at), Some(soon));
    let extend = async |id, seconds| {
        let until = NOON.plus_seconds(seconds);
        desk.store.extend(id, until, desk.now).await.expect("extend")
    };
    assert_eq!(extend(desk.id("b"), 60).await, Extended::Until(NOON.plus_seconds(60)));
    assert_eq!(extend(call, 2 * HOLD_SECONDS).await, Extended::Until(ends));
    let later = NOON.plus_seconds(3 * HOLD_SECONDS);
    assert_eq!(extend(parent, 3 * HOLD_SECONDS).await, Extended::Until(later));
    assert_eq!(extend(call, 9 * HOLD_SECONDS).await, Extended::Until(later));
    desk.release(parent).await;
    assert_eq!(extend(call, 9 * HOLD_SECONDS).await, Extended::Until(later));
    assert_eq!(
        extend(desk.id("b"), 90).await,
        Extended::Until(NOON.plus_seconds(60)),
        "not any more"
    );
    assert_eq!(desk.balance(&day).await, (0, 60));
}

pub(crate) async fn a_call_that_is_charged_or_claimed_outlasts_its_parent_until_the_ledger_ends_it(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let charged = ChildRequest {
        charge_on_expiry: true,
        ..desk.call("charged", parent, 30)
    };
    assert!(matches!(desk.draw(&charged).await, ChildOutcome::Held(_)));
    let claimed = desk.drawn("claimed", parent, 20).await;
    desk.claim(claimed, Claim::Final).await;
    desk.later(HOLD_SECONDS + CLAIM_OPEN_SECONDS);
    assert_eq!(desk.balance(&day).await, (0, 50));
    assert_eq!(desk.due(10).await.len(), 2);
    let all = Progress::EndedUsing(End::Expired, tokens(30));
    desk.apply(&[row(&day, 30, 2)], charged.reservation, all).await;
    desk.apply(&[], claimed, Progress::Ended(End::Expired)).await;
    assert_eq!(desk.balance(&day).await, (30, 0));
}

pub(crate) async fn a_call_that_outlasts_its_parent_is_extended_no_more(store: Store) {
    let (mut desk, _, parent) = run_of(store, 100).await;
    let soon = NOON.plus_seconds(20);
    let charged = ChildRequest {
        charge_on_expiry: true,
        rungs: vec![Rung {
            expires_at: soon,
            ..desk.call("charged", parent, 30).rungs[0].clone()
        }],
        ..desk.call("charged", parent, 30)
    };
    assert!(matches!(desk.draw(&charged).await, ChildOutcome::Held(_)));
    // Nobody has looked at the parent since it ran out.
    desk.later(HOLD_SECONDS);
    let extended = desk.store.extend(charged.reservation, desk.now, desk.now).await;
    assert_eq!(extended.expect("extend"), Extended::Until(soon));
}

pub(crate) async fn a_late_settle_of_a_call_gives_nothing_back_twice(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let until = NOON.plus_seconds(3 * HOLD_SECONDS);
    desk.store.extend(parent, until, desk.now).await.expect("extend");
    let call = desk.drawn("a", parent, 60).await;
    desk.later(HOLD_SECONDS);
    desk.drawn("b", parent, 100).await;
    for _ in 0..2 {
        desk.settle_using(call, tokens(50), &[row(&day, 50, 2)]).await;
        assert_eq!(desk.balance(&day).await, (50, 100));
        assert_eq!(
            account(&desk, parent).await,
            (50, 100, 2, 1),
            "it had given back before, and used it all the same"
        );
        assert_eq!(desk.end_of(call).await, Some(End::Settled));
    }
}

pub(crate) async fn the_same_call_twice_takes_once(store: Store) {
    let (mut desk, _, parent) = run_of(store, 100).await;
    let call = desk.call("a", parent, 60);
    let ChildOutcome::Held(record) = desk.draw(&call).await else {
        panic!("it fits");
    };
    let other = ChildRequest {
        fingerprint: 2,
        ..call.clone()
    };
    assert_eq!(desk.draw(&call).await, ChildOutcome::Replayed(record.clone()));
    assert_eq!(desk.draw(&other).await, ChildOutcome::Mismatch);
    assert_eq!(account(&desk, parent).await, (0, 60, 1, 1));
    desk.release(parent).await;
    assert_eq!(
        desk.draw(&call).await,
        ChildOutcome::Replayed(record),
        "whatever became of its parent"
    );
    desk.later(HOLD_SECONDS);
    let late = ChildRequest { now: desk.now, ..call };
    assert_eq!(desk.draw(&late).await, ChildOutcome::Ended(End::Expired));
    let not_a_parent = desk.call("parent", parent, 1);
    assert_eq!(
        desk.draw(&not_a_parent).await,
        ChildOutcome::Ended(End::Released),
        "a reservation is no call of its own"
    );
}

pub(crate) async fn fifty_equal_calls_at_once_take_once(store: Store) {
    let (desk, _, parent) = run_of(store, 100).await;
    let call = desk.call("a", parent, 60);
    let outcomes = join_all((0..50).map(|_| desk.draw(&call))).await;
    let record = desk.find(desk.id("a")).await.expect("held");
    let is_it = |told: &Record| *told == record;
    let alike = |outcome: &ChildOutcome| matches!(outcome, ChildOutcome::Held(told) | ChildOutcome::Replayed(told) if is_it(told));
    assert!(outcomes.iter().all(alike), "{outcomes:?}");
    assert_eq!(account(&desk, parent).await, (0, 60, 1, 1));
}

pub(crate) async fn a_parent_must_be_there_live_and_of_this_workspace(store: Store) {
    let (mut desk, _, parent) = run_of(store, 100).await;
    assert_eq!(desk.draw(&desk.call("a", desk.id("never"), 1)).await, ChildOutcome::NoParent);
    // So many that some of them are kept in the same part of the store, however it is divided.
    for number in 0..300 {
        let other = Desk {
            workspace: workspace(&format!("other_{number}")),
            ..desk.clone()
        };
        assert_eq!(other.draw(&other.call("a", parent, 1)).await, ChildOutcome::NoParent);
    }
    let earlier = ChildRequest {
        parent_held_at: NOON.plus_seconds(-1),
        ..desk.call("a", parent, 1)
    };
    assert_eq!(desk.draw(&earlier).await, ChildOutcome::NoParent, "that was another hold");
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.draw(&desk.call("a", parent, 1)).await, ChildOutcome::ParentEnded(End::Expired));
    desk.later(TOMBSTONE_SECONDS);
    assert_eq!(desk.draw(&desk.call("a", parent, 1)).await, ChildOutcome::NoParent);
    assert_eq!(desk.find(desk.id("a")).await, None);
}

pub(crate) async fn runs_have_one_level_and_begin_before_any_report(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let call = desk.drawn("a", parent, 60).await;
    assert_eq!(desk.draw(&desk.call("b", call, 1)).await, ChildOutcome::Unfit(Unfit::Child));
    for (key, claim) in [("final", Claim::Final), ("stream", Claim::UpTo(tokens(1)))] {
        let reported = desk.held(key, 10, &[(&day, 1_000)]).await;
        desk.claim(reported, claim).await;
        assert_eq!(desk.draw(&desk.call("b", reported, 1)).await, ChildOutcome::Unfit(Unfit::Reported));
    }
    let request = HoldRequest {
        charge_on_expiry: true,
        ..desk.ask("charged", 10, &[(&day, 1_000)])
    };
    desk.hold(&request).await;
    desk.later(HOLD_SECONDS);
    let outcome = desk.draw(&desk.call("b", request.reservation, 1)).await;
    assert_eq!(outcome, ChildOutcome::ParentEnded(End::Expired), "though it waits for the ledger");
}

pub(crate) async fn a_parent_is_neither_claimed_nor_charged(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let request = HoldRequest {
        charge_on_expiry: true,
        ..desk.ask("parent", 100, &[(&day, 1_000)])
    };
    desk.hold(&request).await;
    let parent = request.reservation;
    let call = desk.drawn("a", parent, 60).await;
    let record = desk.claim(parent, Claim::Final).await;
    assert!(record.claimed.is_none() && record.end.is_none() && matches!(record.run, Some(Run::Parent(_))));
    desk.apply(&[], parent, Progress::Used(tokens(100))).await;
    assert_eq!(account(&desk, parent).await, (0, 60, 1, 1));
    desk.settle_using(call, tokens(60), &[row(&day, 60, 2)]).await;
    desk.later(HOLD_SECONDS + CLAIM_OPEN_SECONDS);
    assert_eq!(desk.due(10).await, []);
    assert_eq!(desk.balance(&day).await, (60, 0), "its calls are what was used");
    assert_eq!(desk.end_of(parent).await, Some(End::Expired));
}

pub(crate) async fn calls_count_among_the_open_before_their_parent_is_asked(store: Store) {
    let (desk, day, parent) = run_of(store, 100).await;
    let three = |key: &str, tokens| ChildRequest {
        open_max: 3,
        ..desk.call(key, parent, tokens)
    };
    for key in ["a", "b"] {
        assert!(matches!(desk.draw(&three(key, 10)).await, ChildOutcome::Held(_)));
    }
    assert_eq!(desk.draw(&three("c", 1_000)).await, ChildOutcome::TooManyOpen);
    let request = HoldRequest {
        open_max: 3,
        ..desk.ask("other", 1, &[(&day, 1_000)])
    };
    assert!(matches!(desk.hold(&request).await, HoldOutcome::TooManyOpen { .. }));
    desk.release(desk.id("a")).await;
    assert!(is_exhausted(&desk.draw(&three("c", 1_000)).await));
    assert_eq!(desk.store.open().await.expect("open"), 2);
}

pub(crate) async fn a_parent_is_a_ceiling_in_the_units_that_its_counters_count(store: Store) {
    let (day, calls) = (daily(), counter(Unit::Requests, PeriodKind::Day));
    let ann = of_user("ann", daily());
    let desk = Desk::open(store, &[&day, &calls, &ann]).await;
    let parent = desk.held("tokens", 100, &[(&day, 1_000), (&ann, 1_000)]).await;
    for key in ["a", "b", "c"] {
        desk.drawn(key, parent, 20).await;
    }
    assert_eq!(
        account(&desk, parent).await,
        (0, 60, 3, 3),
        "it asked for one request, which nothing counts"
    );
    let request = desk.ask("both", 100, &[(&day, 1_000), (&calls, 10)]);
    let mut rungs = request.rungs.clone();
    rungs[0].needs.requests = 2;
    let parent = request.reservation;
    desk.hold(&HoldRequest { rungs, ..request }).await;
    desk.drawn("d", parent, 1).await;
    let used = Amounts { requests: 1, ..tokens(1) };
    desk.settle_using(desk.id("d"), used, &[row(&day, 1, 2), row(&calls, 1, 2)]).await;
    desk.drawn("e", parent, 1).await;
    assert!(is_exhausted(&desk.draw(&desk.call("f", parent, 1)).await), "two requests");
    desk.release(desk.id("e")).await;
    desk.drawn("f", parent, 1).await;
    assert_eq!(desk.balance(&calls).await, (1, 1));
    let parent = desk.held("unlimited", 100, &[]).await;
    desk.drawn("g", parent, 100).await;
    assert!(
        is_exhausted(&desk.draw(&desk.call("h", parent, 1)).await),
        "without counters, tokens"
    );
    assert_eq!((desk.balance(&day).await, desk.balance(&ann).await), ((1, 199), (0, 100)));
}

pub(crate) async fn a_capped_call_takes_what_its_parent_has_left(store: Store) {
    let (desk, _, parent) = run_of(store, 100).await;
    desk.drawn("a", parent, 70).await;
    for (least, length) in [(31, None), (10, Some(30))] {
        let request = desk.call("b", parent, 50);
        let capped = Rung {
            cap: Some(one_token_each(least, 50)),
            ..request.rungs[0].clone()
        };
        let rungs = vec![request.rungs[0].clone(), capped];
        let outcome = desk.draw(&ChildRequest { rungs, ..request }).await;
        let taken = match &outcome {
            ChildOutcome::Held(record) => Some((record.taken.rung, record.taken.output, record.taken.amounts.tokens)),
            _ => None,
        };
        assert_eq!(taken, length.map(|length| (1, length, length)), "{outcome:?}");
    }
    assert_eq!(account(&desk, parent).await, (0, 100, 2, 2));
}

pub(crate) async fn attempts_of_calls_stay_counted_in_their_minute(store: Store) {
    let (minute, day) = (
        counter(Unit::Requests, PeriodKind::Minute),
        counter(Unit::Requests, PeriodKind::Day),
    );
    let tokens_of_day = daily();
    let desk = Desk::open(store, &[&minute, &day, &tokens_of_day]).await;
    let request = desk.ask("parent", 100, &[(&minute, 10), (&day, 10), (&tokens_of_day, 1_000)]);
    let mut rungs = request.rungs.clone();
    rungs[0].needs.requests = 3;
    let parent = request.reservation;
    desk.hold(&HoldRequest { rungs, ..request }).await;
    let (released, settled) = (desk.drawn("a", parent, 10).await, desk.drawn("b", parent, 10).await);
    desk.release(released).await;
    assert_eq!((desk.balance(&minute).await, desk.balance(&day).await), ((0, 3), (0, 2)));
    assert_eq!(desk.balance(&tokens_of_day).await, (0, 100));
    let used = Amounts { requests: 1, ..tokens(10) };
    let rows = [row(&minute, 1, 2), row(&day, 1, 2), row(&tokens_of_day, 10, 2)];
    desk.settle_using(settled, used, &rows).await;
    desk.drawn("c", parent, 10).await;
    assert!(
        is_exhausted(&desk.draw(&desk.call("d", parent, 10)).await),
        "an attempt is not given back"
    );
    desk.release(desk.id("c")).await;
    desk.release(parent).await;
    assert_eq!(desk.balance(&minute).await, (1, 2), "two attempts that were not settled");
    assert_eq!((desk.balance(&day).await, desk.balance(&tokens_of_day).await), ((1, 0), (10, 0)));
    let request = desk.ask("another", 1, &[(&minute, 10)]);
    let mut rungs = request.rungs.clone();
    rungs[0].needs.requests = 7;
    let parent = request.reservation;
    desk.hold(&HoldRequest { rungs, ..request }).await;
    desk.drawn("e", parent, 1).await;
    desk.release(parent).await;
    assert_eq!(desk.balance(&minute).await, (1, 3), "what a parent still had was never attempted");
}

pub(crate) async fn free_at_counts_what_calls_hold_at_the_expiry_of_their_parent(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let ends = NOON.plus_seconds(HOLD_SECONDS);
    let soon = ChildRequest {
        rungs: vec![Rung {
            expires_at: NOON.plus_seconds(20),
            ..desk.call("a", parent, 60).rungs[0].clone()
        }],
        ..desk.call("a", parent, 60)
    };
    desk.draw(&soon).await;
    desk.later(1);
    for (room, at) in [(0, desk.now), (1, ends), (100, ends)] {
        assert_eq!(desk.free_at(&day, 100, room).await, Some(at), "{room}");
    }
    desk.release(parent).await;
    for (room, at) in [(40, desk.now), (41, NOON.plus_seconds(20)), (100, NOON.plus_seconds(20))] {
        assert_eq!(desk.free_at(&day, 100, room).await, Some(at), "{room}");
    }
}

pub(crate) async fn another_hold_of_the_same_id_is_another_parent(store: Store) {
    let (mut desk, day, parent) = run_of(store, 100).await;
    let call = desk.drawn("a", parent, 30).await;
    desk.claim(call, Claim::Final).await;
    // The parent expires and is forgotten; a claim holds on for as long as the ledger does not answer.
    for _ in 0..(HOLD_SECONDS + TOMBSTONE_SECONDS) / 1_800 + 2 {
        desk.later(1_800);
        desk.rebuild(&[row(&day, 0, 1)]).await;
    }
    assert_eq!(desk.find(parent).await, None);
    let lifetime = counter(Unit::Tokens, PeriodKind::Lifetime);
    desk.rebuild(&[row(&lifetime, 0, 1)]).await;
    desk.held("parent", 50, &[(&lifetime, 1_000)]).await;
    let again = ChildRequest {
        parent_held_at: desk.now,
        ..desk.call("b", parent, 20)
    };
    assert!(matches!(desk.draw(&again).await, ChildOutcome::Held(_)));
    desk.apply(&[], call, Progress::EndedUsing(End::Settled, tokens(10))).await;
    assert_eq!(account(&desk, parent).await, (0, 20, 1, 1), "that call was not of this run");
    assert_eq!(desk.balance(&lifetime).await, (0, 50));
}
