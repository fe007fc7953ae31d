//! Cases of holds that are asked for together: each by itself, in their order, and never past a ceiling whoever races.

use super::desk::{Desk, Store, counter, counter_at, daily, of_user, row, rung, user};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::amount::Unit;
use crate::decision::counter::Whose;
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Cap, Line};
use crate::decision::standing::End;

/// What each became, in a word.
async fn together(desk: &Desk, requests: &[HoldRequest]) -> Vec<&'static str> {
    let outcomes = desk.store.hold_many(requests).await;
    assert_eq!(outcomes.len(), requests.len(), "each has an answer");
    let word = |outcome| match outcome {
        Ok(HoldOutcome::Held { .. }) => "held",
        Ok(HoldOutcome::Replayed(_)) => "replayed",
        Ok(HoldOutcome::Mismatch) => "mismatch",
        Ok(HoldOutcome::Ended(_)) => "ended",
        Ok(HoldOutcome::Short { .. }) => "short",
        Ok(HoldOutcome::TooManyOpen { .. }) => "open",
        Ok(HoldOutcome::Unready(_)) => "unready",
        Err(_) => "failed",
    };
    outcomes.into_iter().map(word).collect()
}

pub(crate) async fn of_holds_asked_for_together_the_first_get_what_is_left(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    // Twice, since a store may answer its first calls in another way than later ones.
    for round in ["a", "b"] {
        let ceiling = if round == "a" { 3 } else { 6 };
        let asked: Vec<HoldRequest> = (0..5).map(|n| desk.ask(&format!("{round}{n}"), 1, &[(&day, ceiling)])).collect();
        assert_eq!(together(&desk, &asked).await, ["held", "held", "held", "short", "short"], "{round}");
    }
    assert_eq!(desk.balance(&day).await, (0, 6));
    assert!(desk.find(desk.id("b2")).await.is_some() && desk.find(desk.id("b3")).await.is_none());
}

pub(crate) async fn holds_asked_for_together_are_each_decided_by_themselves(store: Store) {
    let (day, minute) = (daily(), counter(Unit::Requests, PeriodKind::Minute));
    let desk = Desk::open(store, &[&day, &minute]).await;
    desk.held("known", 1, &[(&day, 100)]).await;
    let gone = desk.held("gone", 1, &[(&day, 100)]).await;
    desk.release(gone).await;
    let mut crowded = desk.ask("crowded", 1, &[(&day, 100)]);
    crowded.open_max = 1;
    let mut wrong = desk.ask("wrong", 1, &[(&day, 100)]);
    wrong.rungs = vec![rung(1, &[100, 100], desk.now.plus_seconds(60))];
    let mut other = desk.ask("known", 1, &[(&day, 100)]);
    other.fingerprint = 2;
    let asked = [
        desk.ask("huge", 101, &[(&day, 100)]),
        desk.ask("known", 1, &[(&day, 100)]),
        other,
        desk.ask("gone", 1, &[(&day, 100)]),
        crowded,
        wrong,
        desk.ask("two", 2, &[(&day, 100), (&minute, 1)]),
        desk.ask("rate", 2, &[(&day, 100), (&minute, 1)]),
        desk.ask("last", 3, &[(&day, 100)]),
    ];
    let words = together(&desk, &asked).await;
    assert_eq!(
        words,
        ["short", "replayed", "mismatch", "ended", "open", "failed", "held", "short", "held"]
    );
    assert_eq!(desk.balance(&day).await, (0, 6));
    assert_eq!(desk.balance(&minute).await, (0, 1));
    assert_eq!(desk.end_of(gone).await, Some(End::Released));
}

pub(crate) async fn one_id_twice_among_many_holds_once(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    for round in ["a", "b"] {
        let mut other = desk.ask(round, 10, &[(&day, 100)]);
        other.fingerprint = 9;
        let same = || desk.ask(round, 10, &[(&day, 100)]);
        let asked = [same(), same(), other, same()];
        assert_eq!(
            together(&desk, &asked).await,
            ["held", "replayed", "mismatch", "replayed"],
            "{round}"
        );
    }
    assert_eq!(desk.balance(&day).await, (0, 20));
}

pub(crate) async fn a_capped_hold_among_many_takes_its_turn(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let flat = Line::new(0, 0, 1, 100, false);
    let mut capped = desk.ask("capped", 100, &[(&day, 60)]);
    capped.rungs[0].cap = Some(Cap {
        least: 10,
        tokens: Line::new(0, 1, 1, 100, false),
        usd: flat,
        credits: flat,
    });
    let asked = [desk.ask("first", 20, &[(&day, 60)]), capped, desk.ask("last", 1, &[(&day, 60)])];
    assert_eq!(together(&desk, &asked).await, ["held", "held", "short"]);
    let taken = desk.find(desk.id("capped")).await.expect("it is held").taken;
    assert_eq!(taken.amounts.tokens, 40, "what the first left, and nothing of it to the last");
}

pub(crate) async fn what_needs_a_second_look_keeps_its_turn_among_many(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day, &of_user("ada", daily())]).await;
    for (round, behind) in [("a", 1), ("b", 40)] {
        // Nobody asked for her counter of this minute before, while that of the day is as ready as it can be.
        desk.later(60);
        let minute = of_user("ada", counter_at(Unit::Tokens, PeriodKind::Minute, desk.now));
        desk.held(&format!("before_{round}"), 0, &[(&day, 100)]).await;
        let first = desk.ask(&format!("first_{round}"), 100, &[(&day, 100), (&minute, 100)]);
        let mut asked = vec![first.clone()];
        asked.extend((0..behind).map(|n| desk.ask(&format!("{round}{n}"), 1, &[(&day, 100)])));
        let expected: Vec<&str> = std::iter::once("held").chain(std::iter::repeat_n("short", behind)).collect();
        assert_eq!(together(&desk, &asked).await, expected, "{round}");
        desk.release(first.reservation).await;
    }
}

pub(crate) async fn expired_holds_are_free_for_many_at_once(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    for n in 0..3 {
        desk.held(&format!("old{n}"), 10, &[(&day, 30)]).await;
    }
    desk.later(super::desk::HOLD_SECONDS);
    let asked: Vec<HoldRequest> = (0..4).map(|n| desk.ask(&format!("new{n}"), 10, &[(&day, 30)])).collect();
    assert_eq!(together(&desk, &asked).await, ["held", "held", "held", "short"]);
    assert_eq!(desk.balance(&day).await, (0, 30));
}

pub(crate) async fn many_at_a_fresh_store_ask_for_what_must_be_rebuilt(store: Store) {
    let (day, own) = (daily(), of_user("ada", daily()));
    let desk = Desk::bare(store, "ws_a");
    assert_eq!(desk.store.hold_many(&[]).await.len(), 0);
    let asked = [desk.ask("a", 1, &[(&day, 10)]), desk.ask("b", 1, &[(&own, 10)])];
    assert_eq!(together(&desk, &asked).await, ["unready", "unready"]);
    desk.rebuild(&[row(&day, 0, 1)]).await;
    let outcomes = desk.store.hold_many(&asked).await;
    assert!(matches!(&outcomes[0], Ok(HoldOutcome::Held { .. })), "{outcomes:?}");
    let whose: Vec<Whose> = vec![user("ada")];
    assert!(
        matches!(&outcomes[1], Ok(HoldOutcome::Unready(groups)) if *groups == whose),
        "{outcomes:?}"
    );
    desk.rebuild(&[row(&own, 0, 1)]).await;
    assert_eq!(together(&desk, &asked).await, ["replayed", "held"]);
}

/// What each of twenty callers is told who ask for ten at once, of a hundred that there are.
pub(crate) async fn race_in_batches(desk: &Desk) -> Vec<Vec<&'static str>> {
    let day = daily();
    let batches: Vec<_> = (0..20)
        .map(|batch| {
            let (desk, day) = (desk.clone(), day.clone());
            tokio::spawn(async move {
                let asked: Vec<HoldRequest> = (0..10).map(|n| desk.ask(&format!("r{batch}-{n}"), 1, &[(&day, 100)])).collect();
                together(&desk, &asked).await
            })
        })
        .collect();
    let mut told = Vec::with_capacity(batches.len());
    for batch in batches {
        told.push(batch.await.expect("no panic"));
    }
    told
}

pub(crate) async fn racing_batches_take_exactly_what_there_is(store: Store) {
    let desk = Desk::open(store, &[&daily()]).await;
    let told = race_in_batches(&desk).await.concat();
    assert_eq!(told.iter().filter(|word| **word == "held").count(), 100);
    assert_eq!(told.iter().filter(|word| **word == "short").count(), 100);
    assert_eq!(desk.balance(&daily()).await, (0, 100));
}
