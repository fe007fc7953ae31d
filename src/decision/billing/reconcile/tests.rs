//! Tables: batches and a sum, and what is said of them.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::billing::delivery::Delivery;
use crate::decision::billing::exact::Exact;
use crate::decision::billing::{Sealed, batch_id};
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::meter::{FACTOR_BILLIONTHS, Factor};
use crate::decision::period::Period;

const NOW: i64 = 1_000_000_000_000_000;
const DAY: i64 = 86_400;

/// A batch in this state, worth so much, that was last touched so many seconds ago.
fn batch(state: State, value: i64, seconds_ago: i64) -> Batch {
    static NEXT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(1);
    let sequence = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (workspace, meter) = (WorkspaceId::parse("ws").expect("a name"), MeterId::parse("tokens").expect("a name"));
    let at = Timestamp::from_micros(NOW).plus_seconds(-seconds_ago);
    let window = Period {
        start: at.plus_seconds(-3_600),
        end: at,
    };
    Batch {
        id: batch_id(&workspace, &meter, window, sequence),
        workspace,
        meter,
        window,
        sequence,
        event_name: "tokens".to_owned(),
        unit: Unit::Tokens,
        factor: Factor::new(FACTOR_BILLIONTHS, FACTOR_BILLIONTHS, Unit::Tokens).expect("one"),
        members: 1,
        counted: value,
        last_used_at: at,
        opened_at: at,
        seals_at: at,
        adjusts: None,
        sealed: Some(Sealed {
            at,
            number: sequence,
            value,
            carry: Exact::ZERO,
        }),
        delivery: Delivery {
            state,
            customer: Some("cus_1".to_owned()),
            told_at: Some(at),
            tries: 1,
            claimed_at: Some(at),
            unsure_since: (state == State::Unknown).then_some(at),
            acknowledged_at: (state == State::Acknowledged).then_some(at),
            ..Delivery::open()
        },
    }
}

/// A batch of use at that time that was not told yet.
pub(in crate::decision::billing) fn batch_used_at(at: Timestamp) -> Batch {
    Batch {
        last_used_at: at,
        delivery: Delivery::open(),
        ..batch(State::Sealed, 1, 0)
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(NOW)
}

#[test]
fn a_sum_is_right_or_its_difference_has_a_name() {
    use State::{Acknowledged as A, Rejected, Sealed, Sending, Unbillable, Unknown};
    type Row = (&'static str, &'static [(State, i64, i64)], i64, Option<(Code, i64)>);
    let rows: &[Row] = &[
        ("nothing was told, and nothing is there", &[], 0, None),
        ("all of it is there", &[(A, 5, DAY), (A, 7, DAY)], 12, None),
        (
            "something is there that nobody told",
            &[(A, 5, DAY)],
            6,
            Some((Code::Unexplained, 1)),
        ),
        ("something is gone", &[(A, 5, DAY), (A, 7, DAY)], 5, Some((Code::Unexplained, -7))),
        (
            "it was acknowledged just now",
            &[(A, 5, DAY), (A, 7, 60)],
            5,
            Some((Code::Settling, -7)),
        ),
        (
            "more is missing than was acknowledged just now",
            &[(A, 5, DAY), (A, 7, 60)],
            0,
            Some((Code::Unexplained, -12)),
        ),
        (
            "not what was acknowledged just now is missing",
            &[(A, 5, DAY), (A, 7, 60)],
            7,
            Some((Code::Unexplained, -5)),
        ),
        (
            "one is on its way, and there",
            &[(A, 5, DAY), (Sending, 3, 1)],
            8,
            Some((Code::InFlight, 3)),
        ),
        ("one is on its way, and not there", &[(A, 5, DAY), (Sending, 3, 1)], 5, None),
        (
            "nobody knows, and it is there",
            &[(A, 5, DAY), (Unknown, 3, DAY)],
            8,
            Some((Code::Unknown, 3)),
        ),
        (
            "nobody knows, and something else is there",
            &[(A, 5, DAY), (Unknown, 3, DAY)],
            9,
            Some((Code::Unexplained, 4)),
        ),
        ("one of two", &[(Unknown, 3, DAY), (Unknown, 4, DAY)], 4, Some((Code::Unknown, 4))),
        (
            "what was never sent is not there",
            &[(Sealed, 3, DAY), (Rejected, 4, DAY), (Unbillable, 5, DAY)],
            0,
            None,
        ),
        ("what was refused is there", &[(Rejected, 4, DAY)], 4, Some((Code::Unexplained, 4))),
        (
            "one is there and another one not yet",
            &[(A, 9, 60), (Unknown, 4, DAY)],
            4,
            Some((Code::Settling, -5)),
        ),
    ];
    for (why, given, provider, expected) in rows {
        let batches: Vec<Batch> = given.iter().map(|(state, value, ago)| batch(*state, *value, *ago)).collect();
        let found = compare(&batches, *provider, now()).map(|difference| (difference.code, difference.value));
        assert_eq!(found, *expected, "{why}");
    }
}

#[test]
fn an_unknown_batch_is_there_or_not_only_where_one_choice_adds_up() {
    use State::{Acknowledged as A, Sending, Unknown};
    type Row = (&'static str, &'static [(State, i64, i64)], i64, Result<&'static [bool], Presence>);
    let rows: &[Row] = &[
        ("it is there", &[(Unknown, 3, DAY)], 3, Ok(&[true])),
        ("it is not", &[(Unknown, 3, DAY)], 0, Ok(&[false])),
        ("beside others", &[(A, 5, DAY), (Unknown, 3, DAY)], 5, Ok(&[false])),
        ("beside others, there", &[(A, 5, DAY), (Unknown, 3, DAY)], 8, Ok(&[true])),
        ("one of two", &[(Unknown, 3, DAY), (Unknown, 4, DAY)], 4, Ok(&[false, true])),
        (
            "which of two equal ones, the sum does not say",
            &[(Unknown, 3, DAY), (Unknown, 3, DAY)],
            3,
            Err(Presence::Unclear),
        ),
        (
            "three, or one and two",
            &[(Unknown, 3, DAY), (Unknown, 1, DAY), (Unknown, 2, DAY)],
            3,
            Err(Presence::Unclear),
        ),
        ("something else is there", &[(Unknown, 3, DAY)], 2, Err(Presence::Unclear)),
        (
            "what was acknowledged is gone",
            &[(A, 5, DAY), (Unknown, 3, DAY)],
            3,
            Err(Presence::Unclear),
        ),
        ("it was tried just now", &[(Unknown, 3, 60)], 0, Err(Presence::Early)),
        (
            "another one was acknowledged just now",
            &[(A, 5, 60), (Unknown, 3, DAY)],
            5,
            Err(Presence::Early),
        ),
        (
            "another one is under way",
            &[(Sending, 5, DAY), (Unknown, 3, DAY)],
            0,
            Err(Presence::Early),
        ),
    ];
    for (why, given, provider, expected) in rows {
        let batches: Vec<Batch> = given.iter().map(|(state, value, ago)| batch(*state, *value, *ago)).collect();
        let found = match presence(&batches, &[], *provider, now()) {
            Presence::Known(known) => Ok(known.into_iter().map(|(_, is_there)| is_there).collect::<Vec<_>>()),
            other => Err(other),
        };
        assert_eq!(found, expected.clone().map(<[bool]>::to_vec), "{why}");
    }
}

#[test]
fn of_many_batches_only_the_bounds_are_looked_at() {
    let batches: Vec<Batch> = (0..20).map(|_| batch(State::Unknown, 10, DAY)).collect();
    assert_eq!(compare(&batches, 15, now()).map(|difference| difference.code), Some(Code::Unknown));
    assert_eq!(
        compare(&batches, 201, now()).map(|difference| difference.code),
        Some(Code::Unexplained)
    );
    assert_eq!(presence(&batches, &[], 0, now()), Presence::Unclear);
}

/// One that was told as of this minute without an answer, and as of a later one when the books were closed.
#[test]
fn what_may_have_been_told_as_of_two_times_is_in_both_sums_or_in_one() {
    let told_twice = [batch(State::Acknowledged, 5, DAY)];
    let unknown = batch(State::Unknown, 5, DAY);
    for (why, value, provider, expected) in [
        ("it is one of the two", 5, 5, None),
        ("it is neither", 5, 0, Some(false)),
        ("it is both", 5, 10, Some(true)),
        ("the other one alone", 3, 5, Some(false)),
        ("this one alone", 3, 3, Some(true)),
        ("both", 3, 8, Some(true)),
    ] {
        let mut batches = [unknown.clone()];
        if let Some(sealed) = batches[0].sealed.as_mut() {
            sealed.value = value;
        }
        let expected = expected.map_or(Presence::Unclear, |is_there| Presence::Known(vec![(batches[0].id, is_there)]));
        assert_eq!(presence(&batches, &told_twice, provider, now()), expected, "{why}");
    }
}

proptest::proptest! {
    /// Whatever is said to be there and not there adds up to the sum, and what is sent again makes it whole.
    #[test]
    fn what_is_decided_adds_up(values in proptest::collection::vec(1..50i64, 1..6), there in 0..64u32, known in 0..1_000i64) {
        let mut batches = vec![batch(State::Acknowledged, known, DAY)];
        batches.extend(values.iter().map(|value| batch(State::Unknown, *value, DAY)));
        let taken: i64 = values.iter().enumerate().filter(|(place, _)| there & (1 << place) != 0).map(|(_, value)| value).sum();
        if let Presence::Known(found) = presence(&batches, &[], known + taken, now()) {
            let value = |id| batches.iter().find(|batch| batch.id == id).map_or(0, Batch::value);
            let said: i64 = found.iter().filter(|(_, is_there)| *is_there).map(|(id, _)| value(*id)).sum();
            proptest::prop_assert_eq!(said, taken);
            proptest::prop_assert_eq!(found.len(), values.len());
        }
    }
}

/// A batch that was sent again by force, so that it is another event for the provider.
fn again(state: State, value: i64) -> Batch {
    let mut batch = batch(state, value, DAY);
    batch.delivery.generation = 2;
    batch
}

#[test]
fn what_was_sent_again_is_one_event_or_two() {
    use State::{Acknowledged as A, Sealed};
    let code = |batches: &[Batch], elsewhere: &[Batch], sum: i64| {
        compare_beside(batches, elsewhere, sum, now()).map(|difference| (difference.code, difference.value))
    };
    let pair = [batch(A, 5, DAY), again(A, 7)];
    assert_eq!(code(&pair, &[], 12), None, "the first was never counted");
    assert_eq!(code(&pair, &[], 19), Some((Code::SentAgain, 7)), "both are counted");
    let found = compare(&pair, 19, now()).expect("a difference");
    assert_eq!(found.batches, [pair[1].id]);
    assert_eq!(
        code(&pair, &[], 24),
        Some((Code::Unexplained, 12)),
        "the one that was not sent again"
    );
    assert_eq!(
        code(&[again(Sealed, 7)], &[], 7),
        Some((Code::SentAgain, 7)),
        "it is on its way once more"
    );
    assert_eq!(code(&[batch(A, 5, DAY)], &[], 12), Some((Code::Unexplained, 7)));
    let told_now = [again(A, 7)];
    assert_eq!(code(&[batch(A, 5, DAY)], &told_now, 12), Some((Code::SentAgain, 7)));
    // What nobody knows of is the nearer reason, and no guess is made beside what may be there twice.
    let unknown = batch(State::Unknown, 7, DAY);
    assert_eq!(code(&[again(A, 7), unknown.clone()], &[], 14), Some((Code::Unknown, 7)));
    assert_eq!(presence(&[again(A, 7), unknown.clone()], &[], 14, now()), Presence::Unclear);
    let known = Presence::Known(vec![(unknown.id, false)]);
    assert_eq!(presence(&[again(A, 7), unknown], &[], 7, now()), known);
}

#[test]
fn which_of_the_acknowledged_are_counted_is_said_where_the_sum_has_one_reading() {
    use State::{Acknowledged as A, Sending, Unknown};
    // The first so many are suspected; what the sum is; whether each is there.
    type Row = (
        &'static str,
        &'static [(State, i64, i64)],
        usize,
        i64,
        Result<&'static [bool], Presence>,
    );
    let rows: &[Row] = &[
        ("all of it", &[(A, 5, DAY), (A, 7, DAY)], 2, 12, Ok(&[true, true])),
        ("none of it", &[(A, 5, DAY), (A, 7, DAY)], 2, 0, Ok(&[false, false])),
        ("one of two", &[(A, 5, DAY), (A, 7, DAY)], 2, 7, Ok(&[false, true])),
        (
            "beside one that is certain",
            &[(A, 5, DAY), (A, 7, DAY), (A, 7, DAY)],
            2,
            7,
            Ok(&[false, false]),
        ),
        ("two readings", &[(A, 5, DAY), (A, 5, DAY)], 2, 5, Err(Presence::Unclear)),
        (
            "two readings of another kind",
            &[(A, 5, DAY), (A, 7, DAY), (A, 12, DAY)],
            3,
            12,
            Err(Presence::Unclear),
        ),
        ("nothing adds up to it", &[(A, 5, DAY), (A, 7, DAY)], 2, 6, Err(Presence::Unclear)),
        ("acknowledged just now", &[(A, 5, DAY), (A, 7, 60)], 2, 12, Err(Presence::Early)),
        ("another is just now", &[(A, 5, DAY), (A, 7, 60)], 1, 7, Err(Presence::Early)),
        ("one is on its way", &[(A, 5, DAY), (Sending, 7, DAY)], 1, 0, Err(Presence::Early)),
        (
            "one is unknown, and one of them is there",
            &[(A, 5, DAY), (Unknown, 5, DAY)],
            1,
            5,
            Err(Presence::Unclear),
        ),
        (
            "one is unknown, and makes no difference",
            &[(A, 5, DAY), (Unknown, 7, DAY)],
            1,
            7,
            Ok(&[false]),
        ),
        ("nobody is suspected", &[(A, 5, DAY)], 0, 5, Ok(&[])),
    ];
    for (what, batches, count, sum, expected) in rows {
        let batches: Vec<Batch> = batches.iter().map(|(state, value, ago)| batch(*state, *value, *ago)).collect();
        let suspects = &batches[..*count];
        let expected = match expected {
            Ok(is_there) => Presence::Known(suspects.iter().map(|batch| batch.id).zip(is_there.iter().copied()).collect()),
            Err(other) => other.clone(),
        };
        assert_eq!(counted(&batches, &[], suspects, *sum, now()), expected, "{what}");
    }
    // However many they are, all of it or nothing needs no choice; anything between does.
    let many: Vec<Batch> = (0..40).map(|_| batch(A, 3, DAY)).collect();
    let known = |is_there| Presence::Known(many.iter().map(|batch| (batch.id, is_there)).collect());
    assert_eq!(counted(&many, &[], &many, 120, now()), known(true));
    assert_eq!(counted(&many, &[], &many, 0, now()), known(false));
    assert_eq!(counted(&many, &[], &many, 117, now()), Presence::Unclear);
    // What was sent again may be there twice.
    let twice = again(A, 7);
    let suspects = [twice.clone()];
    assert_eq!(counted(&suspects, &[], &suspects, 7, now()), Presence::Unclear);
    assert_eq!(
        counted(&suspects, &[], &suspects, 14, now()),
        Presence::Known(vec![(twice.id, true)])
    );
}
