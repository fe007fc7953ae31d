//! What opens a breaker and what closes it, by a clock that the tests move.

use super::*;

const BEGIN: i64 = 1_764_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(0).plus_seconds(BEGIN + seconds)
}

fn model(id: &str) -> ModelId {
    ModelId::parse(id).expect("a name")
}

fn acme() -> Provider {
    Provider::parse("acme").expect("a name")
}

fn sample(failed: bool, latency_ms: i64, began: Timestamp) -> Sample {
    Sample {
        failed,
        latency_ms: Some(latency_ms),
        output_tokens: 0,
        whose: 7,
        began,
    }
}

/// A node with its book, on the default rules.
#[derive(Default)]
struct Node(Book);

impl Node {
    fn record(&mut self, id: &str, failed: bool, latency_ms: i64, seconds: i64) -> Option<bool> {
        let change = self.0.record(
            &model(id),
            &acme(),
            sample(failed, latency_ms, at(seconds)),
            &Rules::default(),
            at(seconds),
        );
        change.map(|change| change.opened)
    }

    fn state(&self, id: &str, seconds: i64) -> BreakerState {
        let standings = self.0.standings(&Rules::default(), at(seconds));
        let found = standings.iter().find(|standing| standing.model == model(id));
        found.map_or(BreakerState::Closed, |standing| standing.state)
    }

    fn tell(&self, other: &mut Node, seconds: i64) -> Vec<Change> {
        let told = self.0.told(&Rules::default(), at(seconds));
        other.0.hear(&[told], &Rules::default(), at(seconds))
    }

    fn fail(&mut self, id: &str, times: usize, seconds: i64) {
        for _ in 0..times {
            self.record(id, true, 100, seconds);
        }
    }
}

#[test]
fn a_provider_that_fails_amid_much_traffic_is_left_within_three_seconds() {
    let mut node = Node::default();
    for second in 0..30 {
        (0..100).for_each(|_| assert_eq!(node.record("big", false, 200, second), None));
    }
    let opened = (30..60).find(|second| (0..100).any(|_| node.record("big", true, 200, *second) == Some(true)));
    assert!(opened.is_some_and(|second| second - 30 <= 2), "{opened:?}");
    assert_eq!(node.state("big", 33), BreakerState::Open);
}

#[test]
fn few_outcomes_and_few_errors_open_nothing() {
    let mut node = Node::default();
    node.fail("big", 4, 0);
    assert_eq!(node.state("big", 0), BreakerState::Closed, "four say nothing");
    let mut node = Node::default();
    for second in 0..100 {
        for n in 0..10 {
            assert_eq!(node.record("big", n % 5 == 4, 200, second), None, "a fifth of errors");
        }
    }
    node.fail("big", 4, 200);
    assert_eq!(
        node.state("big", 200),
        BreakerState::Closed,
        "the earlier ones are out of the window"
    );
}

#[test]
fn probes_close_it_again_or_make_the_wait_longer() {
    let mut node = Node::default();
    node.fail("big", 5, 0);
    assert_eq!(
        (node.state("big", 9), node.state("big", 10)),
        (BreakerState::Open, BreakerState::HalfOpen)
    );
    let rules = Rules::default();
    let mut probes = |seconds| (0..5).filter(|_| node.0.probe(&model("big"), &rules, at(seconds))).count();
    assert_eq!((probes(9), probes(10), probes(11)), (0, 2, 2), "so many each second");
    assert_eq!(node.record("big", true, 100, 10), Some(true), "the first probe fails");
    assert_eq!(
        (node.state("big", 29), node.state("big", 30)),
        (BreakerState::Open, BreakerState::HalfOpen),
        "twice as long"
    );
    // What began while it was open says nothing of now.
    let late = sample(true, 100, at(29));
    assert_eq!(node.0.record(&model("big"), &acme(), late, &rules, at(30)), None);
    assert_eq!(node.record("big", false, 100, 30), None);
    assert_eq!(node.record("big", false, 100, 31), None);
    assert_eq!(node.record("big", false, 100, 31), Some(false), "three good probes");
    assert_eq!(node.state("big", 31), BreakerState::Closed);
    assert_eq!(node.0.troubles(&rules, at(31)), Troubles::default());
    // What failed before it closed does not open it.
    for _ in 0..20 {
        assert_eq!(
            node.0.record(&model("big"), &acme(), sample(true, 100, at(5)), &rules, at(32)),
            None
        );
    }
    assert_eq!(node.state("big", 32), BreakerState::Closed);
}

#[test]
fn what_takes_much_longer_than_usual_is_left_too() {
    let mut node = Node::default();
    for second in 0..40 {
        assert_eq!(node.record("big", false, 400, second), None);
    }
    let standing = &node.0.standings(&Rules::default(), at(40))[0];
    assert_eq!(standing.baseline_ms, Some(400));
    assert_eq!(node.record("big", false, 1_900, 40), None, "below five times as long");
    let opened = (41..90).find(|second| (0..3).any(|_| node.record("big", false, 9_000, *second).is_some()));
    assert!(opened.is_some_and(|second| second <= 46), "{opened:?}");
    assert_eq!(node.0.standings(&Rules::default(), at(50))[0].why, OpenedBy::Latency);
    // Long answers take long: what is judged is the pace.
    let mut node = Node::default();
    let rules = Rules::default();
    for n in 0..200 {
        let tokens = if n % 2 == 0 { 0 } else { 2_000 };
        let latency_ms = Some(400 * (tokens + 100) / 100);
        let sample = Sample {
            output_tokens: tokens,
            latency_ms,
            ..sample(false, 0, at(n))
        };
        assert_eq!(node.0.record(&model("big"), &acme(), sample, &rules, at(n)), None);
    }
}

#[test]
fn nodes_add_up_what_they_count_and_share_each_turn() {
    let (mut one, mut two) = (Node::default(), Node::default());
    one.fail("big", 3, 0);
    two.fail("big", 3, 0);
    assert_eq!(
        (one.state("big", 1), two.state("big", 1)),
        (BreakerState::Closed, BreakerState::Closed)
    );
    let changes = one.tell(&mut two, 1);
    assert!(changes.len() == 1 && changes[0].opened, "six together: {changes:?}");
    assert_eq!(two.tell(&mut one, 1).len(), 1);
    assert_eq!(one.state("big", 2), BreakerState::Open);
    assert_eq!(two.tell(&mut one, 2), [], "told again it is nothing new");
    // Both probe, and together they have enough.
    assert_eq!(one.record("big", false, 100, 12), None);
    assert_eq!(one.record("big", false, 100, 12), None);
    assert_eq!(two.record("big", false, 100, 12), None);
    let changes = one.tell(&mut two, 13);
    assert!(changes.len() == 1 && !changes[0].opened, "{changes:?}");
    assert_eq!(two.tell(&mut one, 13).len(), 1);
    assert_eq!(
        (one.state("big", 13), two.state("big", 13)),
        (BreakerState::Closed, BreakerState::Closed)
    );
}

#[test]
fn a_provider_is_down_when_all_fails_that_is_known_of_it() {
    let rules = Rules::default();
    let mut node = Node::default();
    node.fail("big", 5, 0);
    assert_eq!(node.0.troubles(&rules, at(1)).providers, [], "one model says nothing of the others");
    node.fail("small", 5, 1);
    assert_eq!(node.0.troubles(&rules, at(1)).providers, [acme()]);
    for _ in 0..5 {
        node.record("mid", false, 100, 1);
    }
    assert_eq!(node.0.troubles(&rules, at(1)).providers, [], "one works");
    let off = Rules { enabled: false, ..rules };
    assert_eq!(node.0.troubles(&off, at(1)), Troubles::default());
}

/// What a workspace says of `big`, so many times.
#[test]
fn time_outs_open_at_a_smaller_share_than_other_errors() {
    for (latency_ms, opens) in [(100, None), (30_000, Some(true))] {
        let mut node = Node::default();
        let mut opened = None;
        for request in 0..20 {
            opened = opened.or(node.record("big", request % 3 == 2, latency_ms, request / 4));
        }
        assert_eq!(opened, opens, "a third of them fails, after {latency_ms} ms");
    }
}

/// Most ask for little and are answered in 200 ms. One who asks for much waits for eight seconds, as always.
#[test]
fn what_is_usual_for_one_is_not_slow_because_others_are_faster() {
    let mut node = Node::default();
    let mut say = |whose, latency_ms, seconds| {
        let sample = Sample {
            whose,
            ..sample(false, latency_ms, at(seconds))
        };
        node.0.record(&model("big"), &acme(), sample, &Rules::default(), at(seconds))
    };
    for second in 0..60 {
        (0..5).for_each(|_| assert_eq!(say(1, 200, second), None));
        assert_eq!(say(2, 8_000, second), None);
        assert_eq!(say(3, 9_000, second), None);
    }
    for second in 60..120 {
        for whose in [2, 3] {
            assert_eq!(say(whose, 8_000, second), None, "those who ask for little are asleep");
        }
    }
    let opened = (120..130).any(|second| [2, 3].into_iter().any(|whose| say(whose, 50_000, second).is_some()));
    assert!(opened, "slow it is where it is slow for them");
}

fn say(node: &mut Node, whose: u64, failed: bool, times: usize, seconds: i64) {
    let sample = Sample {
        whose,
        ..sample(failed, 100, at(seconds))
    };
    for _ in 0..times {
        node.0.record(&model("big"), &acme(), sample, &Rules::default(), at(seconds));
    }
}

#[test]
fn one_workspace_alone_opens_nothing_for_the_others() {
    // Ten others have no trouble, whoever counts them.
    let (mut node, mut other) = (Node::default(), Node::default());
    for workspace in 1..=10 {
        say(&mut node, workspace, false, 1, 0);
    }
    say(&mut node, 99, true, 50, 0);
    assert_eq!(node.state("big", 0), BreakerState::Closed);
    say(&mut other, 99, true, 50, 0);
    node.tell(&mut other, 1);
    // Its own count alone had opened the other node's, which nobody else used; that is a turn, which all take over.
    let mut third = Node::default();
    say(&mut third, 98, false, 3, 1);
    say(&mut third, 99, true, 4, 1);
    node.tell(&mut third, 1);
    assert_eq!(third.state("big", 1), BreakerState::Closed, "with what the others told");
    // A second one for whom most fails is enough.
    say(&mut third, 97, true, 8, 2);
    say(&mut third, 98, true, 8, 2);
    assert_eq!(third.state("big", 2), BreakerState::Open);
    // Whose probes fail where those of others do not keeps nobody away either.
    say(&mut third, 97, false, 1, 12);
    say(&mut third, 99, true, 2, 12);
    say(&mut third, 97, false, 2, 13);
    assert_eq!(third.state("big", 13), BreakerState::Closed);
}

#[test]
fn who_uses_a_model_alone_is_heard_and_many_workspaces_take_bounded_room() {
    let mut node = Node::default();
    say(&mut node, 5, true, 5, 0);
    assert_eq!(node.state("big", 0), BreakerState::Open);
    let mut node = Node::default();
    for second in 0..60 {
        for workspace in 1..=200 {
            say(&mut node, workspace, workspace == 3, 1, second);
        }
    }
    let track = &node.0.tracks[&model("big")];
    assert!(track.own.len() <= 30 * 17, "{}", track.own.len());
    assert_eq!(track.counts(30, at(59)).requests(), 30 * 200, "none is lost");
    assert_eq!(node.state("big", 59), BreakerState::Closed);
}

#[test]
fn what_nobody_probes_closes_by_itself_and_an_operator_may_close_it() {
    let rules = Rules::default();
    let (mut node, mut other) = (Node::default(), Node::default());
    node.fail("big", 5, 0);
    assert_eq!(
        (node.state("big", 309), node.state("big", 310)),
        (BreakerState::HalfOpen, BreakerState::Closed)
    );
    assert_eq!(node.0.troubles(&rules, at(310)), Troubles::default());
    node.fail("big", 5, 400);
    assert_eq!(
        (node.state("big", 419), node.state("big", 420)),
        (BreakerState::Open, BreakerState::HalfOpen),
        "twice as long"
    );
    node.tell(&mut other, 401);
    let closed = other.0.close(&acme(), &rules, at(402));
    assert!(closed.len() == 1 && !closed[0].opened, "{closed:?}");
    assert_eq!(other.0.close(&acme(), &rules, at(402)), [], "once");
    assert_eq!(other.tell(&mut node, 403).len(), 1);
    assert_eq!(node.state("big", 403), BreakerState::Closed);
}

#[test]
fn a_turn_by_a_clock_that_is_ahead_blinds_nobody() {
    let (mut ahead, mut node) = (Node::default(), Node::default());
    // Eight seconds ahead it opens, and closes again.
    ahead.fail("big", 5, 8);
    for second in [18, 19, 20] {
        ahead.record("big", false, 100, second);
    }
    assert_eq!(ahead.state("big", 20), BreakerState::Closed);
    ahead.tell(&mut node, 12);
    // What fails here from then on counts, and the turn is everybody's.
    assert_eq!(node.record("big", true, 100, 13), None);
    node.fail("big", 4, 13);
    assert_eq!(node.state("big", 13), BreakerState::Open);
    assert_eq!(node.tell(&mut ahead, 21).len(), 1);
    assert_eq!(ahead.state("big", 21), BreakerState::Open);
    // One that was set back by an hour does not wait for an hour.
    let mut node = Node::default();
    node.fail("big", 5, 3_600);
    assert_eq!(node.state("big", 0), BreakerState::HalfOpen);
    for _ in 0..3 {
        node.record("big", false, 100, 1);
    }
    assert_eq!(node.state("big", 1), BreakerState::Closed);
}

#[test]
fn a_clock_that_is_far_ahead_is_not_believed() {
    let (mut one, mut two) = (Node::default(), Node::default());
    one.fail("big", 5, 3_600);
    assert_eq!(one.tell(&mut two, 3_600).len(), 1);
    let mut three = Node::default();
    let told = one.0.told(&Rules::default(), at(3_600));
    assert_eq!(three.0.hear(&[told], &Rules::default(), at(0)), []);
}
