//! Each state and what may happen in it, as sentences; then every sequence of events at once, for what must never come to pass.

use super::*;
use proptest::prelude::*;

const STRIPE: Terms = Terms {
    sends: true,
    dedupe_seconds: Some(86_400),
    accepts_negative: false,
    oldest_seconds: Some(35 * 86_400),
    needs_customer: true,
    closes_periods: true,
    takes_back: true,
    calls_per_second: 10,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(0).plus_seconds(seconds)
}

fn step(delivery: &Delivery, event: Event, second: i64) -> Delivery {
    delivery
        .step(event.clone(), &STRIPE, at(second), 0)
        .unwrap_or_else(|why| panic!("{event:?}: {why}"))
}

fn sealed() -> Delivery {
    step(&Delivery::open(), Event::Sealed { is_zero: false }, 0)
}

fn claim(second: i64) -> Event {
    Event::Claimed {
        customer: Some("cus_1".to_owned()),
        told_at: at(second),
    }
}

fn silence() -> Event {
    Event::Answered(Answer::Unknown {
        reason: "timed out".to_owned(),
    })
}

fn busy(is_away: bool, seconds: Option<i64>) -> Event {
    Event::Answered(Answer::RetryAfter {
        seconds,
        is_away,
        reason: "not now".to_owned(),
    })
}

fn refusal() -> Event {
    Event::Answered(Answer::Rejected {
        reason: "no such meter".to_owned(),
    })
}

fn code(delivery: &Delivery) -> Option<ReasonCode> {
    delivery.reason.as_ref().map(|reason| reason.code)
}

#[test]
fn what_is_acknowledged_or_a_duplicate_is_done() {
    for answer in [Answer::Acknowledged, Answer::Duplicate] {
        let done = step(&step(&sealed(), claim(1), 1), Event::Answered(answer), 2);
        assert_eq!(
            (done.state, done.tries, done.acknowledged_at),
            (State::Acknowledged, 1, Some(at(2)))
        );
        assert_eq!(
            done.step(Event::Resend { is_forced: false }, &STRIPE, at(3), 0),
            Err(Impossible::Acknowledged)
        );
    }
}

#[test]
fn what_is_acknowledged_is_another_event_when_it_is_forced() {
    let unsure = step(&step(&sealed(), claim(1), 1), silence(), 2);
    let done = step(&step(&unsure, claim(3), 3), Event::Answered(Answer::Duplicate), 4);
    let again = step(&done, Event::Resend { is_forced: true }, 5);
    assert_eq!(
        (again.state, again.generation, again.tries, again.next_try_at),
        (State::Sealed, 2, 0, Some(at(5)))
    );
    assert_eq!(
        (again.unsure_since, again.acknowledged_at),
        (None, None),
        "nobody doubts the new one"
    );
    assert_eq!(
        (again.customer.as_deref(), again.told_at),
        (Some("cus_1"), Some(at(3))),
        "the first may be there"
    );
    let twice = step(&step(&again, claim(6), 6), Event::Answered(Answer::Acknowledged), 7);
    assert_eq!(step(&twice, Event::Resend { is_forced: true }, 8).generation, 3);
    // What is refused after it was reported is the same event again; what is reported after it was forced is another one.
    let reported = step(&twice, Event::Reported { reason: String::new() }, 9);
    assert_eq!(step(&reported, Event::Resend { is_forced: true }, 10).generation, 3);
}

#[test]
fn nothing_is_told_of_a_value_of_zero() {
    let done = step(&Delivery::open(), Event::Sealed { is_zero: true }, 0);
    assert_eq!((done.state, code(&done)), (State::Acknowledged, Some(ReasonCode::NothingToTell)));
    for is_forced in [false, true] {
        assert_eq!(
            done.step(Event::Resend { is_forced }, &STRIPE, at(1), 0),
            Err(Impossible::NothingToTell)
        );
    }
}

#[test]
fn silence_is_tried_again_for_twenty_hours_and_never_by_guess_afterwards() {
    let unsure = step(&step(&sealed(), claim(10), 10), silence(), 12);
    assert_eq!((unsure.state, unsure.unsure_since), (State::Sealed, Some(at(10))));
    let last = 10 + 20 * 3_600 - 1;
    assert_eq!(step(&unsure, claim(last), last).state, State::Sending);
    let lost = step(&unsure, claim(last + 1), last + 1);
    assert_eq!((lost.state, lost.tries), (State::Unknown, 1));
    assert_eq!(
        lost.step(Event::Resend { is_forced: false }, &STRIPE, at(last), 0),
        Err(Impossible::Unknown)
    );
    assert_eq!(step(&lost, Event::Resend { is_forced: true }, last + 9).state, State::Sealed);
    assert_eq!(step(&lost, Event::Found { is_there: true }, last + 9).state, State::Acknowledged);
    let again = step(&lost, Event::Found { is_there: false }, last + 9);
    assert_eq!((again.state, again.unsure_since, again.generation), (State::Sealed, None, 1));
}

#[test]
fn who_comes_back_busy_after_a_long_time_away_has_tries_left() {
    let mut delivery = sealed();
    for second in 0..3 * TRIES_MAX {
        delivery = step(&step(&delivery, claim(second), second), busy(true, None), second);
    }
    for second in 0..TRIES_MAX - AWAY_TRIES_MAX - 1 {
        delivery = step(&step(&delivery, claim(second), second), busy(false, None), second);
        assert_eq!(delivery.state, State::Sealed, "{second}");
    }
    let last = step(&step(&delivery, claim(900), 900), busy(false, None), 900);
    assert_eq!((last.state, code(&last)), (State::Rejected, Some(ReasonCode::TriesExhausted)));
}

#[test]
fn a_batch_without_a_meter_waits_as_long_as_it_takes_and_nobody_guesses() {
    let no_meter = || {
        let reason = "make one".to_owned();
        Event::Answered(Answer::NoMeter { reason })
    };
    let (mut delivery, mut now) = (sealed(), 0);
    for _ in 0..2 * TRIES_MAX {
        delivery = step(&step(&delivery, claim(now), now), no_meter(), now);
        assert_eq!(
            (delivery.state, delivery.tries, code(&delivery)),
            (State::Sealed, 0, Some(ReasonCode::NoMeter))
        );
        now += METER_PAUSE_SECONDS;
        assert_eq!(delivery.next_try_at, Some(at(now)));
    }
    // Once there is one it is told like any other. What may have been taken before is not kept waiting for ever.
    assert_eq!(
        step(&step(&delivery, claim(now), now), Event::Answered(Answer::Acknowledged), now).state,
        State::Acknowledged
    );
    let unsure = step(&step(&sealed(), claim(1), 1), silence(), 2);
    let last = 1 + 20 * 3_600 - METER_PAUSE_SECONDS;
    assert_eq!(
        step(&step(&unsure, claim(last - 1), last - 1), no_meter(), last - 1).state,
        State::Sealed
    );
    assert_eq!(step(&step(&unsure, claim(last), last), no_meter(), last).state, State::Unknown);
}

#[test]
fn a_sender_that_did_not_come_back_left_silence() {
    let unsure = step(&step(&sealed(), claim(10), 10), Event::SenderLost, 70);
    assert_eq!(
        (unsure.state, unsure.unsure_since, unsure.next_try_at),
        (State::Sealed, Some(at(10)), Some(at(70)))
    );
}

#[test]
fn a_provider_that_recognises_nothing_is_told_nothing_twice() {
    let terms = Terms {
        dedupe_seconds: None,
        ..STRIPE
    };
    let sending = sealed().step(claim(1), &terms, at(1), 0).expect("claimed");
    assert_eq!(sending.step(silence(), &terms, at(2), 0).expect("answered").state, State::Unknown);
}

#[test]
fn a_refusal_ends_it_unless_it_may_have_been_taken_before() {
    let rejected = step(&step(&sealed(), claim(1), 1), refusal(), 2);
    assert_eq!((rejected.state, code(&rejected)), (State::Rejected, Some(ReasonCode::Refused)));
    let again = step(&rejected, Event::Resend { is_forced: false }, 3);
    assert_eq!((again.state, again.tries, again.generation), (State::Sealed, 0, 1));
    let unsure = step(&step(&sealed(), claim(1), 1), silence(), 2);
    let lost = step(&step(&unsure, claim(9), 9), refusal(), 9);
    assert_eq!((lost.state, code(&lost)), (State::Unknown, Some(ReasonCode::RefusedAfterSilence)));
}

#[test]
fn a_busy_provider_is_tried_so_often_and_an_absent_one_for_ever() {
    for (is_away, expected) in [(false, State::Rejected), (true, State::Sealed)] {
        let (mut delivery, mut now) = (sealed(), 0);
        for _ in 0..TRIES_MAX {
            assert_eq!(delivery.state, State::Sealed);
            now = delivery.next_try_at.expect("a next try").micros() / 1_000_000;
            delivery = step(&step(&delivery, claim(now), now), busy(is_away, None), now);
        }
        assert_eq!(delivery.state, expected);
        assert!(now > 6 * 3_600, "{now}");
    }
}

#[test]
fn pauses_double_up_to_a_limit_and_heed_the_provider() {
    for (tries, asked, chance, expected) in [
        (1, None, 0, 1),
        (1, None, 1, 2),
        (3, None, 4, 8),
        (40, None, 0, 450),
        (1, Some(30), 0, 30),
        (1, Some(1_000_000), 0, 3_600),
        (12, Some(1), 450, 900),
    ] {
        assert_eq!(pause(tries, asked, chance), expected, "{tries} {asked:?} {chance}");
    }
}

#[test]
fn what_was_reported_is_another_event_the_next_time() {
    let done = step(&step(&sealed(), claim(1), 1), Event::Answered(Answer::Acknowledged), 2);
    let reported = step(
        &done,
        Event::Reported {
            reason: "no meter".to_owned(),
        },
        3,
    );
    assert_eq!((reported.state, code(&reported)), (State::Rejected, Some(ReasonCode::Reported)));
    assert_eq!(step(&reported, Event::Resend { is_forced: false }, 4).generation, 2);
}

#[test]
fn what_waits_for_a_customer_goes_on_when_there_is_one() {
    let reason = Reason {
        code: ReasonCode::NoCustomer,
        detail: "none".to_owned(),
    };
    let waiting = step(&sealed(), Event::Unbillable(reason.clone()), 1);
    assert_eq!(waiting.state, State::Unbillable);
    assert_eq!(step(&waiting, Event::Resumed, 2).state, State::Sealed);
    let unsure = step(&step(&sealed(), claim(1), 1), silence(), 2);
    assert_eq!(
        step(&unsure, Event::Unbillable(reason), 3).state,
        State::Unknown,
        "it may have been taken"
    );
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(|is_zero| Event::Sealed { is_zero }),
        Just(claim(0)),
        Just(Event::Unbillable(Reason {
            code: ReasonCode::TooOld,
            detail: String::new()
        })),
        Just(Event::Answered(Answer::Acknowledged)),
        Just(Event::Answered(Answer::Duplicate)),
        Just(refusal()),
        (any::<bool>(), proptest::option::of(0..100_000i64)).prop_map(|(is_away, seconds)| busy(is_away, seconds)),
        Just(silence()),
        Just(Event::SenderLost),
        any::<bool>().prop_map(|is_there| Event::Found { is_there }),
        Just(Event::Reported { reason: String::new() }),
        any::<bool>().prop_map(|is_forced| Event::Resend { is_forced }),
        Just(Event::Resumed),
    ]
}

proptest! {
    /// Whatever happens, and however long it takes: what may have been taken is never claimed once the provider may have forgotten it,
    /// and never called rejected or unbillable as if it had not been; and what is sealed has a next try.
    #[test]
    fn nothing_is_told_twice_by_guess(events in proptest::collection::vec((event(), 0..40_000i64, any::<u32>()), 0..40)) {
        let (mut delivery, mut now) = (Delivery::open(), 0);
        // The first try of this generation that got no answer, kept apart from what the delivery remembers.
        let mut silent_since: Option<i64> = None;
        let mut began = 0;
        for (event, later, chance) in events {
            now += later;
            let Ok(next) = delivery.step(event.clone(), &STRIPE, at(now), chance) else { continue };
            match &event {
                Event::Claimed { .. } if next.state == State::Sending => {
                    began = now;
                    if let Some(since) = silent_since {
                        prop_assert!(now < since + 20 * 3_600, "sent again by guess");
                    }
                }
                Event::SenderLost | Event::Answered(Answer::Unknown { .. }) => silent_since = silent_since.or(Some(began)),
                Event::Found { .. } | Event::Resumed | Event::Reported { .. } => silent_since = None,
                Event::Resend { .. } if next.tries == 0 => silent_since = None,
                Event::Answered(Answer::Acknowledged | Answer::Duplicate) => silent_since = None,
                _ => {}
            }
            let is_set_aside = matches!(next.state, State::Rejected | State::Unbillable);
            prop_assert!(!(is_set_aside && silent_since.is_some()), "{:?} although it may have been taken", next.state);
            prop_assert_eq!(next.state == State::Sealed, next.next_try_at.is_some());
            prop_assert_eq!(next.state == State::Acknowledged, next.acknowledged_at.is_some());
            delivery = next;
        }
    }
}
