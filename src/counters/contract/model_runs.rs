//! The protocol of runs, tried out like that of single reservations in `model.rs`: every order of what may happen to a parent, two calls that
//! draw from it, somebody else who waits for their room, a store that is lost and its rebuild, up to a number of states. Whatever happens,
//! counters hold what live holds have left; without any one of the rules an order is found in which they do not.

use super::model::{broken, states};
use super::naive::Rules;
use crate::counters::CLAIM_OPEN_SECONDS;
use crate::decision::counter::Balance;
use stateright::{Model, Property};
use world::{Rebuilder, Settle, Step, World};

mod world;

/// How many states are made: more than it takes for the lack of any rule to show, in a few seconds. Without losses there are 240,000 in all,
/// which `WEIR_TEST_STATES=250000` makes.
const STATES: usize = 60_000;
const LIMIT: i64 = 2;
/// Who there is: a parent, its calls, and another one that is no call. What each holds, what it uses, and for how long it may.
const PARENT: usize = 0;
const CALLS: [usize; 2] = [1, 2];
const OTHER: usize = 3;
const NEEDS: [i64; 4] = [LIMIT, 2, 1, 1];
const USES: [i64; 4] = [0, 1, 1, 0];
const HOLD_SECONDS: [i64; 4] = [2 * PASS_SECONDS - 1, 30, 30, 3_600];
/// Calls expire and open claims are due after one of these, the parent after two.
const PASS_SECONDS: i64 = 30 + CLAIM_OPEN_SECONDS;

/// What the flows keep to, beside the store's own rules.
#[derive(Clone, Copy, Debug)]
struct Runs {
    store: Rules,
    /// Settle claims a call before it commits.
    claim: bool,
    /// The resolver writes the end into the ledger before it frees a claimed call.
    fence: bool,
    /// An end is told with what was used.
    tells_use: bool,
    /// A rebuild reads ends before rows.
    ends_first: bool,
    /// A store is lost or comes back old, and there is one call; else nothing is lost but copies of commits, and there are two.
    losses: bool,
}

const ALL: Runs = Runs {
    store: Rules::ALL,
    claim: true,
    fence: true,
    tells_use: true,
    ends_first: true,
    losses: false,
};

impl Model for Runs {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(*self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let calls = if self.losses { &CALLS[..1] } else { &CALLS[..] };
        for call in calls {
            match world.settles[*call] {
                Settle::NotYet if world.drawn[*call] => steps.extend([Step::Claim(*call), Step::Release(*call)]),
                Settle::NotYet => steps.push(Step::Draw(*call)),
                Settle::Claimed(..) => steps.push(Step::Commit(*call)),
                Settle::Done => {}
            }
        }
        if !world.drawn[OTHER] {
            steps.push(Step::Other);
        }
        steps.push(Step::Release(PARENT));
        for place in 0..world.applies.len() {
            steps.push(Step::Apply(place));
            steps.extend((!self.losses && world.unapplied == 0).then_some(Step::Lose(place)));
        }
        steps.push(Step::Resolve);
        if world.passes < 2 {
            steps.push(Step::Pass);
        }
        if self.losses {
            match &world.rebuilder {
                Some(Rebuilder { ends: None, row, .. }) if self.ends_first || row.is_some() => steps.push(Step::ReadEnds),
                Some(Rebuilder { row: None, .. }) => steps.push(Step::ReadRows),
                Some(_) => steps.push(Step::Finish),
                None if world.begins < 2 && world.losses > 0 => steps.push(Step::Begin),
                None => {}
            }
            if world.losses < 1 {
                steps.extend([Step::Flush, Step::Back]);
                steps.extend(world.copy.is_none().then_some(Step::Copy));
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, *self).then(|| next.told())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what is recorded and what another holds pass the limit only by what is late or died",
                |_, world: &World| {
                    let other = if world.live(&world.store, OTHER).is_some() {
                        NEEDS[OTHER]
                    } else {
                        0
                    };
                    world.ledger.row.spent + other <= LIMIT + world.ledger.late + world.died
                },
            ),
            Property::always(
                "with every commit applied, counters hold what live holds have left",
                |runs: &Runs, world: &World| {
                    let held = world.balance().filter(|_| world.all_applied()).map(|balance| balance.held);
                    // An old copy may not know of a call that its parent had, and then holds what that one used a while longer.
                    held.is_none_or(|held| held == world.left(true) || (runs.losses && held > world.left(true)))
                },
            ),
            Property::always(
                "with every commit applied, a store that answers says what the ledger says",
                |_, world: &World| {
                    let spent = world.balance().filter(|_| world.all_applied()).map(|balance| balance.spent);
                    spent.is_none_or(|spent| spent == world.ledger.row.spent)
                },
            ),
            Property::always(
                "what is recorded in time, and what is left to holds, is held or spent in a store that answers",
                |_, world: &World| {
                    let taken = world.balance().map(Balance::taken);
                    taken.is_none_or(|taken| world.ledger.row.spent + world.left(false) <= taken + world.ledger.late + world.died)
                },
            ),
            Property::always(
                "with every commit applied, each has the one end that the ledger gave it",
                |_, world: &World| {
                    let answers = world.all_applied() && world.balance().is_some();
                    !answers || (0..NEEDS.len()).all(|number| world.has_its_end(number))
                },
            ),
            // That something happens at all: otherwise those above would say nothing.
            Property::sometimes("a settle of a call is applied", |runs: &Runs, world: &World| {
                let lost_before = !runs.losses || world.losses > 0;
                lost_before && world.balance().is_some_and(|balance| balance.spent > 0)
            }),
        ]
    }
}

#[test]
fn with_all_rules_counters_hold_what_runs_have_left_in_any_order_of_events() {
    assert_eq!(broken(ALL, states(STATES)), [""; 0]);
}

#[test]
fn with_all_rules_counters_hold_what_runs_have_left_whatever_is_lost() {
    assert_eq!(broken(Runs { losses: true, ..ALL }, states(STATES)), [""; 0]);
}

/// Takes one rule away and wants it to be missed.
fn is_missed(what: &str, runs: Runs) {
    assert_ne!(broken(runs, STATES), [""; 0], "nothing goes wrong without {what}");
}

#[test]
fn without_the_claim_a_call_races_with_the_expiry_of_its_run() {
    is_missed("the claim", Runs { claim: false, ..ALL });
}

#[test]
fn without_the_fence_the_commit_of_a_call_comes_after_its_end() {
    is_missed("the fence", Runs { fence: false, ..ALL });
}

#[test]
fn without_a_word_of_what_it_used_a_call_gives_nothing_back() {
    is_missed("what was used", Runs { tells_use: false, ..ALL });
}

#[test]
fn without_taking_late_use_from_its_run_a_call_is_given_away_twice() {
    let store = Rules {
        late_use: false,
        ..Rules::ALL
    };
    is_missed("late use", Runs { store, ..ALL });
}

#[test]
fn without_the_epoch_an_old_copy_of_a_run_passes_as_current() {
    let store = Rules {
        epoch: false,
        ..Rules::ALL
    };
    is_missed(
        "the epoch",
        Runs {
            store,
            losses: true,
            ..ALL
        },
    );
}

#[test]
fn with_rows_read_before_ends_a_call_in_between_is_neither_held_nor_spent() {
    let runs = Runs {
        ends_first: false,
        losses: true,
        ..ALL
    };
    is_missed("ends before rows", runs);
}
