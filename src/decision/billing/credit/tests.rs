//! What happens to credits: each course, and that whatever goes wrong what is known of one is true.

use super::*;
use CreditState::*;
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn claimed() -> CreditEvent {
    CreditEvent::Claimed {
        customer: Some("cus".to_owned()),
        until: at(120),
    }
}

fn answered(answer: CreditAnswer) -> CreditEvent {
    CreditEvent::Answered(answer)
}

fn given() -> CreditEvent {
    answered(CreditAnswer::Given("credgr".to_owned()))
}

fn refused() -> CreditEvent {
    answered(CreditAnswer::Refused("no".to_owned()))
}

fn blind() -> CreditEvent {
    answered(CreditAnswer::LookRefused("no such customer".to_owned()))
}

fn busy(is_away: bool) -> CreditEvent {
    answered(CreditAnswer::NotNow {
        seconds: None,
        is_away,
        reason: "busy".to_owned(),
    })
}

fn silent(is_answered: bool) -> CreditEvent {
    answered(CreditAnswer::Unsure {
        is_answered,
        reason: "silence".to_owned(),
    })
}

fn no_customer() -> CreditEvent {
    CreditEvent::Unbillable(Reason {
        code: ReasonCode::NoCustomer,
        detail: String::new(),
    })
}

/// After these events, one after another.
fn after(events: &[CreditEvent]) -> CreditDelivery {
    events.iter().fold(CreditDelivery::new(at(0)), |delivery, event| {
        delivery.step(event.clone(), at(1), 0).expect("it happens")
    })
}

#[test]
fn each_course_ends_where_it_should() {
    use CreditEvent::{Found, Resend, Resumed, SenderLost, Voided as Void};
    let gone = || answered(CreditAnswer::Gone);
    let rows: Vec<(&str, Vec<CreditEvent>, CreditState)> = vec![
        ("new", vec![], Pending),
        ("claimed", vec![claimed()], Sending),
        ("given", vec![claimed(), given()], Acknowledged),
        ("busy", vec![claimed(), busy(false)], Pending),
        ("refused", vec![claimed(), refused()], Rejected),
        ("sent again", vec![claimed(), refused(), Resend], Pending),
        ("silent", vec![claimed(), silent(false)], Unknown),
        ("silent, then busy", vec![claimed(), silent(false), claimed(), busy(true)], Unknown),
        (
            "silent, then there",
            vec![claimed(), silent(false), claimed(), given()],
            Acknowledged,
        ),
        (
            "silent, then refused",
            vec![claimed(), silent(false), claimed(), refused()],
            Rejected,
        ),
        ("lost", vec![claimed(), SenderLost], Unknown),
        ("found", vec![claimed(), SenderLost, Found(Some("credgr".to_owned()))], Acknowledged),
        ("not found", vec![claimed(), SenderLost, Found(None)], Unknown),
        ("late knowledge", vec![claimed(), SenderLost, given()], Acknowledged),
        ("no customer", vec![no_customer()], Unbillable),
        ("a customer came", vec![no_customer(), Resumed], Pending),
        ("the look is refused", vec![claimed(), blind()], Rejected),
        (
            "the look is refused after silence",
            vec![claimed(), silent(false), claimed(), blind()],
            Unknown,
        ),
        ("and it is void", vec![claimed(), silent(false), Void, claimed(), blind()], Voiding),
        ("void before it was given", vec![Void], Voided),
        ("void while unbillable", vec![no_customer(), Void], Voided),
        ("void after it was refused", vec![claimed(), refused(), Void], Voided),
        ("void after it was given", vec![claimed(), given(), Void], Voiding),
        ("voided", vec![claimed(), given(), Void, claimed(), gone()], Voided),
        ("void while it is given", vec![claimed(), Void], Sending),
        ("and it was given", vec![claimed(), Void, given()], Voiding),
        ("and it was refused", vec![claimed(), Void, refused()], Voided),
        ("and it surely was not given", vec![claimed(), Void, busy(true)], Voided),
        ("and nobody knows", vec![claimed(), Void, silent(false)], Voiding),
        (
            "and it was there",
            vec![claimed(), Void, silent(false), claimed(), given()],
            Voiding,
        ),
        ("and it was not there", vec![claimed(), Void, SenderLost, claimed(), gone()], Voided),
        (
            "and it comes after all",
            vec![claimed(), Void, SenderLost, claimed(), gone(), given()],
            Voiding,
        ),
        ("void twice", vec![claimed(), given(), Void, Void], Voiding),
        (
            "the void is refused",
            vec![claimed(), given(), Void, claimed(), refused()],
            Rejected,
        ),
        (
            "the void is tried again",
            vec![claimed(), given(), Void, claimed(), refused(), Resend],
            Voiding,
        ),
        (
            "the void is silent",
            vec![claimed(), given(), Void, claimed(), silent(false)],
            Voiding,
        ),
    ];
    for (what, events, state) in rows {
        assert_eq!(after(&events).state, state, "{what}");
    }
}

#[test]
fn what_does_not_happen_says_why() {
    let there = after(&[claimed(), given()]);
    let refuse = |delivery: &CreditDelivery, event| delivery.step(event, at(2), 0).expect_err("it does not happen");
    assert_eq!(refuse(&there, CreditEvent::Resend), CreditImpossible::Acknowledged);
    assert_eq!(refuse(&there, claimed()), CreditImpossible::Other(Acknowledged));
    let void = after(&[CreditEvent::Voided]);
    assert_eq!(refuse(&void, CreditEvent::Resend), CreditImpossible::Voided);
    assert_eq!(refuse(&after(&[]), refused()), CreditImpossible::Other(Pending));
    // An answer that comes too late takes nothing back.
    assert_eq!(refuse(&there, silent(false)), CreditImpossible::Other(Acknowledged));
}

/// A request that got no answer may land after the void.
#[test]
fn what_may_be_on_its_way_is_looked_for_when_it_has_arrived() {
    let waits = |events: &[CreditEvent]| after(events).next_try_at.expect("a next try") >= at(LATE_SECONDS_MAX);
    assert!(waits(&[claimed(), silent(false), CreditEvent::Voided]));
    assert!(waits(&[claimed(), CreditEvent::Voided, CreditEvent::SenderLost]));
    assert!(waits(&[claimed(), CreditEvent::Voided, silent(false)]));
    assert!(!waits(&[claimed(), given(), CreditEvent::Voided]), "it is known where it is");
    let blind = after(&[claimed(), silent(false), claimed(), blind()]);
    assert!(
        blind.unsure_since.is_some() && blind.next_try_at.is_none(),
        "nothing is forgotten: {blind:?}"
    );
}

#[test]
fn a_key_stays_the_same_until_there_was_an_answer() {
    let keys = |events: &[CreditEvent]| after(events).key_number;
    assert_eq!(keys(&[claimed(), silent(false), claimed(), busy(false)]), 1);
    assert_eq!(keys(&[claimed(), CreditEvent::SenderLost]), 1);
    assert_eq!(keys(&[claimed(), silent(true)]), 2);
    assert_eq!(keys(&[claimed(), refused(), CreditEvent::Resend]), 2);
}

#[test]
fn tries_are_bounded_but_for_a_provider_that_is_away() {
    let tried = |event: fn() -> CreditEvent| {
        let mut delivery = CreditDelivery::new(at(0));
        let mut tries = 0;
        while delivery.next_try_at.is_some() && tries < 2 * TRIES_MAX {
            delivery = delivery.step(claimed(), at(1), 0).expect("it is due");
            delivery = delivery.step(event(), at(1), 7).expect("it is answered");
            tries += 1;
        }
        (tries, delivery.state, delivery.reason.map(|reason| reason.code))
    };
    assert_eq!(tried(|| busy(false)), (TRIES_MAX, Rejected, Some(ReasonCode::TriesExhausted)));
    assert_eq!(tried(|| silent(false)), (TRIES_MAX, Unknown, Some(ReasonCode::TriesExhausted)));
    assert_eq!(tried(|| busy(true)), (2 * TRIES_MAX, Pending, Some(ReasonCode::Away)));
}

#[test]
fn who_comes_back_busy_has_tries_left() {
    let mut delivery = CreditDelivery::new(at(0));
    for event in std::iter::repeat_n(busy(true), 3 * TRIES_MAX as usize).chain([busy(false), silent(true)]) {
        delivery = delivery.step(claimed(), at(1), 0).expect("it is due");
        delivery = delivery.step(event, at(1), 7).expect("it is answered");
    }
    assert_eq!((delivery.state, delivery.tries), (Unknown, AWAY_TRIES_MAX + 2));
    assert!(delivery.next_try_at.is_some());
}

/// A provider that keeps credits, and a sender that meets every fault: what is there in the end.
fn run(steps: &[u8]) -> (CreditDelivery, usize) {
    let (mut delivery, mut there, mut voids) = (CreditDelivery::new(at(0)), 0usize, 0usize);
    let mut task = Task::Give;
    for step in steps {
        let task_of = |delivery: &CreditDelivery| match (&delivery.provider_id, delivery.is_void) {
            (Some(id), true) => Task::Void(id.clone()),
            (None, true) => Task::Find,
            (_, false) => Task::Give,
        };
        let before = delivery.clone();
        let event = match (delivery.state, step % 8) {
            (Pending | Unknown | Voiding, 0..=5) => {
                task = task_of(&delivery);
                claimed()
            }
            (Sending, 5) => CreditEvent::Voided,
            (Sending, fault) => {
                // Each try looks first; so there is one at most, and what is void stays so.
                let is_done = matches!(fault, 0..=2);
                if is_done {
                    match task {
                        Task::Give => there = there.max(1),
                        Task::Void(_) => voids = there,
                        Task::Find => {}
                    }
                }
                match (fault, &task) {
                    (0, Task::Give) => given(),
                    (0, Task::Find) if there > 0 => given(),
                    (0, _) => answered(CreditAnswer::Gone),
                    (1, _) => silent(false),
                    (2, _) => CreditEvent::SenderLost,
                    (3, _) => silent(true),
                    (4, _) => busy(false),
                    _ => busy(true),
                }
            }
            (_, 6) => CreditEvent::Voided,
            _ => CreditEvent::Resend,
        };
        delivery = delivery.step(event, at(1), 0).unwrap_or(before);
    }
    (delivery, there - voids)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever goes wrong, what is known of a credit is true.
    #[test]
    fn what_is_known_is_true(steps in prop::collection::vec(any::<u8>(), 1..60)) {
        let (delivery, valid) = run(&steps);
        match delivery.state {
            Acknowledged => prop_assert_eq!(valid, 1),
            Voided => prop_assert_eq!(valid, 0),
            Pending | Unbillable => prop_assert_eq!(valid, 0),
            Sending | Unknown | Voiding | Rejected => {}
        }
        prop_assert_eq!(delivery.next_try_at.is_none(), matches!(delivery.state, Acknowledged | Voided | Rejected | Unbillable) || delivery.reason.is_some_and(|reason| reason.code == ReasonCode::TriesExhausted));
    }
}
