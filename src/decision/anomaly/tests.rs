//! When a rule acts: tables, and what must be true of any history.

use super::baseline::{COHORT_MIN, Cohort, History, Usual, hour_of, middle};
use super::*;
use crate::decision::amount::Amounts;
use crate::decision::id::{RequestId, UserId};
use crate::decision::price::Mode;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a moment")
}

fn tokens(tokens: i64) -> Amounts {
    Amounts { tokens, ..Amounts::ZERO }
}

/// As much each hour as `amount` says, for `weeks` before `now`.
fn history(now: Timestamp, weeks: i64, amount: impl Fn(i64) -> i64) -> History {
    let (end, begin) = (hour_of(now), hour_of(now) - weeks * 168);
    History::new((begin..end).map(|hour| (hour, tokens(amount(hour)))).collect(), begin)
}

#[test]
fn medians_are_of_the_middle() {
    for (values, typical, spread) in [
        (vec![], 0, 0),
        (vec![5], 5, 0),
        (vec![1, 100], 50, 49),
        (vec![3, 1, 2], 2, 1),
        (vec![10, 10, 10, 1_000_000], 10, 0),
        (vec![0, 0, 8, 8], 4, 4),
    ] {
        assert_eq!(middle(values.clone()), Usual { typical, spread }, "{values:?}");
    }
}

#[test]
fn what_is_usual_is_of_this_hour_of_the_week() {
    let now = at("2025-11-21T10:30:00Z");
    // By day a thousand an hour, by night ten; so an ordinary hour is 505, and no hour expects less than a quarter of it.
    let by_day = |hour: i64| if (8..20).contains(&(hour % 24)) { 1_000 } else { 10 };
    let usual = |from: &str, to: &str| {
        history(now, 4, by_day)
            .usual(Unit::Tokens, at(from), at(to))
            .map(|usual| usual.typical)
    };
    assert_eq!(usual("2025-11-21T10:00:00Z", "2025-11-21T11:00:00Z"), Some(1_000));
    assert_eq!(usual("2025-11-21T10:15:00Z", "2025-11-21T10:30:00Z"), Some(250));
    assert_eq!(usual("2025-11-21T02:00:00Z", "2025-11-21T03:00:00Z"), Some(126));
    // Over an edge of hours each counts for what of it is in the window.
    assert_eq!(usual("2025-11-21T04:30:00Z", "2025-11-21T05:30:00Z"), Some(126));
}

#[test]
fn one_bad_week_does_not_become_the_measure() {
    let now = at("2025-11-21T10:30:00Z");
    let week_ago = hour_of(now) - 168;
    let attacked = |hour: i64| if (hour - week_ago).abs() <= 6 { 1_000_000 } else { 100 };
    let usual = history(now, 4, attacked).usual(Unit::Tokens, at("2025-11-21T10:00:00Z"), at("2025-11-21T11:00:00Z"));
    assert_eq!(usual, Some(Usual { typical: 100, spread: 0 }));
}

#[test]
fn who_is_not_known_for_a_week_has_no_usual_of_its_own() {
    let now = at("2025-11-21T10:30:00Z");
    let window = (at("2025-11-21T10:15:00Z"), now);
    assert_eq!(history(now, 0, |_| 5).usual(Unit::Tokens, window.0, window.1), None);
    let two_hours = history(now, 1, |_| 60);
    assert_eq!(
        two_hours.usual(Unit::Tokens, window.0, window.1),
        None,
        "the hour before is not known"
    );
    let a_week = history(now.plus_seconds(-3_600), 1, |_| 60);
    assert!(a_week.usual(Unit::Tokens, window.0, window.1).is_some());
}

#[test]
fn a_cohort_is_a_measure_from_five_on() {
    let now = at("2025-11-21T10:30:00Z");
    let window = (at("2025-11-21T10:15:00Z"), now);
    let hours = Cohort::hours_of(window.0, window.1);
    assert_eq!(hours, [hour_of(now) - 168]);
    let of = |count: usize| Cohort {
        hours: vec![(hours[0], (1..=count as i64).map(|n| tokens(n * 400)).collect())],
    };
    assert_eq!(of(COHORT_MIN - 1).usual(Unit::Tokens, window.0, window.1), None);
    let usual = of(COHORT_MIN).usual(Unit::Tokens, window.0, window.1).expect("a measure");
    assert_eq!(usual.typical, 300, "a quarter of an hour of the median of 400 to 2,000");
}

#[test]
fn a_rule_acts_on_a_multiple_that_is_also_large_and_far_out() {
    let usual = |typical, spread| Usual { typical, spread };
    for (ratio, min, observed, known, expected) in [
        (Some(10), 100, 99, usual(1, 0), false),
        (Some(10), 100, 100, usual(10, 0), true),
        (Some(10), 100, 999, usual(100, 0), false),
        (Some(10), 100, 1_000, usual(100, 0), true),
        // So uneven that ten times is nothing special.
        (Some(2), 100, 1_000, usual(400, 200), false),
        (Some(2), 100, 1_200, usual(400, 200), true),
        // Nothing is usual: the least amount decides.
        (Some(10), 100, 100, usual(0, 0), true),
        (None, 100, 100, usual(1_000, 0), true),
        (None, 100, 99, usual(0, 0), false),
        (Some(1_000), 1, i64::MAX, usual(i64::MAX, i64::MAX), false),
    ] {
        assert_eq!(
            is_excess(ratio, min, observed, known),
            expected,
            "{ratio:?} {min} {observed} {known:?}"
        );
    }
}

fn action(whose: Whose, feature: Option<&str>, act: Act) -> Action {
    let started_at = at("2025-11-21T10:00:00Z");
    Action {
        id: FairUseId::from_uuid(uuid::Uuid::from_u128(1)),
        workspace: WorkspaceId::parse("ws").expect("a name"),
        whose,
        feature: feature.map(|feature| Feature::parse(feature).expect("a name")),
        rule: "burst".to_owned(),
        plan: PlanId::parse("pro").expect("a name"),
        act,
        shadow: false,
        observed: Observed {
            unit: Unit::Tokens,
            amount: 250_000,
            typical: Some(9_000),
            window_seconds: 900,
        },
        started_at,
        ends_at: started_at.plus_seconds(600),
        ended_at: None,
    }
}

fn ask(user: Option<&str>, feature: &str) -> Ask {
    Ask {
        workspace: WorkspaceId::parse("ws").expect("a name"),
        user: user.map(|user| UserId::parse(user).expect("a name")),
        feature: Feature::parse(feature).expect("a name"),
        model: crate::decision::id::ModelId::parse("big").expect("a name"),
        request_id: RequestId::parse("r").expect("a name"),
        input_tokens: 1,
        input_tokens_estimated: false,
        max_output_tokens: None,
        min_output_tokens: None,
        mode: Mode::Interactive,
        allow_batch: false,
        requests: 1,
        hold_seconds: None,
        exclude_providers: Vec::new(),
        tags: Default::default(),
    }
}

#[test]
fn an_action_is_about_whom_it_names_and_ends() {
    let user = |name: Option<&str>| Whose::User(name.map(|name| UserId::parse(name).expect("a name")));
    let now = at("2025-11-21T10:05:00Z");
    for (whose, feature, asked, expected) in [
        (Whose::Workspace, None, ask(Some("u"), "chat"), true),
        (Whose::Workspace, Some("chat"), ask(None, "chat"), true),
        (Whose::Workspace, Some("chat"), ask(None, "search"), false),
        (user(Some("u")), None, ask(Some("u"), "chat"), true),
        (user(Some("u")), None, ask(Some("v"), "chat"), false),
        (user(None), None, ask(None, "chat"), true),
        (user(None), None, ask(Some("u"), "chat"), false),
    ] {
        let action = action(whose, feature, Act::Pause);
        assert_eq!(action.applies(&asked, now), expected, "{action:?} {asked:?}");
        assert!(!action.applies(&asked, action.ends_at), "its end is exclusive");
        let ended = Action {
            ended_at: Some(now),
            ..action
        };
        assert!(!ended.applies(&asked, now));
    }
}

#[test]
fn of_several_actions_the_longest_pause_counts_and_shadows_do_nothing() {
    let shadow = |act| {
        Arc::new(Action {
            shadow: true,
            ..action(Whose::Workspace, None, act)
        })
    };
    let longer = Arc::new(Action {
        ends_at: at("2025-11-21T12:00:00Z"),
        ..action(Whose::Workspace, None, Act::Pause)
    });
    let shorter = Arc::new(action(Whose::Workspace, None, Act::Pause));
    let to = |to: Option<&str>| Act::Downgrade { to: to.map(str::to_owned) };
    assert_eq!(pause(&[shorter.clone(), longer.clone(), shadow(Act::Pause)]), Some(&longer));
    assert_eq!(pause(&[shadow(Act::Pause)]), None);
    assert_eq!(
        downgrade(&[
            shorter,
            shadow(to(Some("mid"))),
            Arc::new(action(Whose::Workspace, None, to(Some("fast"))))
        ]),
        Some(Some("fast"))
    );
    assert_eq!(downgrade(&[shadow(to(None))]), None);
    assert_eq!(downgrade(&[Arc::new(action(Whose::Workspace, None, to(None)))]), Some(None));
}

#[test]
fn what_is_told_of_it_says_what_happened_what_works_and_until_when() {
    let user = Whose::User(Some(UserId::parse("u").expect("a name")));
    for (action, expected) in [
        (
            action(Whose::Workspace, None, Act::Throttle { delay_ms: 5 }),
            "Workspace ws used 250,000 tokens in 15 minutes, where 9,000 tokens are usual (burst). Requests still go through, each with a delay, until 21 November at 10:10 UTC. No limit has changed.",
        ),
        (
            Action {
                observed: Observed {
                    unit: Unit::Requests,
                    amount: 60,
                    typical: None,
                    window_seconds: 10,
                },
                ..action(user, Some("chat"), Act::Pause)
            },
            "User u of workspace ws for chat made 60 calls within 10 seconds (burst). New requests are paused until 21 November at 10:10 UTC; what runs can be settled. If this is meant, an administrator can end the pause.",
        ),
    ] {
        assert_eq!(action.message(Voice::english()), expected);
    }
}

proptest! {
    #[test]
    fn more_use_never_makes_a_rule_stop_seeing_it(
        ratio in proptest::option::of(2_i64..1_000), min in 1_i64..1_000_000, observed in 0_i64..i64::MAX / 2, more in 0_i64..i64::MAX / 2,
        typical in 0_i64..1_000_000_000, spread in 0_i64..1_000_000_000,
    ) {
        let usual = Usual { typical, spread };
        if is_excess(ratio, min, observed, usual) {
            prop_assert!(is_excess(ratio, min, observed + more, usual));
        }
    }

    #[test]
    fn what_is_usual_lies_between_the_least_and_the_most_that_was(values in proptest::collection::vec(0_i64..1_000_000, 1..60)) {
        let usual = middle(values.clone());
        let (least, most) = (values.iter().min().expect("some"), values.iter().max().expect("some"));
        prop_assert!(usual.typical >= *least && usual.typical <= *most);
        prop_assert!(usual.spread >= 0 && usual.spread <= most - least);
    }

    #[test]
    fn a_window_is_as_usual_as_its_halves_together(minutes in 2_i64..240, amounts in proptest::collection::vec(0_i64..100_000, 168), offset in 0_i64..3_600) {
        let now = at("2025-11-21T10:00:00Z").plus_seconds(offset);
        let history = history(now, 4, |hour| amounts[(hour % 168) as usize]);
        let (from, half) = (now.plus_seconds(-minutes * 60), now.plus_seconds(-minutes * 30));
        let usual = |from, to| history.usual(Unit::Tokens, from, to).expect("known").typical;
        let (whole, parts) = (usual(from, now), usual(from, half) + usual(half, now));
        // Each half is rounded down by itself.
        prop_assert!((0..=1).contains(&(whole - parts)), "{whole} {parts}");
    }

    #[test]
    fn no_action_outlives_its_end(seconds in 0_i64..1_000_000, asked in 0_i64..2_000_000) {
        let mut action = action(Whose::Workspace, None, Act::Pause);
        action.ends_at = action.started_at.plus_seconds(seconds);
        let now = action.started_at.plus_seconds(asked);
        prop_assert_eq!(action.applies(&ask(None, "chat"), now), asked < seconds);
    }
}
