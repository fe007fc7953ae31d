//! The protocol between counters and ledger, tried out: every order of what may happen to two reservations, a stream and its checkpoints, two
//! rebuilders and a store that is flushed or comes back old, up to a number of states. With all rules the ledger never passes the limit but
//! by what is marked or lost; without any one of them an order is found in which it does, or in which it says what nobody reported.
//!
//! Nothing of this is written again for the model: `model/store.rs` has the counters, and `model/ledger.rs` asks the functions that the flows
//! ask what a report may still do. Only what a flow or a database does in SQL or over the network is a step here.

mod ledger;
mod store;
mod world;

use super::naive::Rules;
use crate::decision::counter::Balance;
pub(super) use ledger::{Ledger, Posting, Seen, Settled, id, lifetime, of};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::fmt::Debug;
use std::hash::Hash;
pub(super) use store::Store;
use world::{Rebuilder, Settle, Step, World};

/// How many states are made: several times what it takes for the lack of a rule to show, in some seconds. `WEIR_TEST_STATES` asks for more.
const STATES: usize = 60_000;
/// The same where the store is lost and two rebuild it: without the token it takes 200,000 of them to find what is wrong.
const STATES_WITH_LOSSES: usize = 250_000;
const LIMIT: i64 = 2;
/// What each reservation holds and uses: all that there is.
const NEED: i64 = LIMIT;
/// What checkpoints say before, in all.
const CHECKPOINTS: [i64; 2] = [1, 2];
const HOLD_SECONDS: i64 = 30;

/// What the flows keep to, beside the rules of the store and of the ledger.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    store: Rules,
    posting: Posting,
    /// Settle claims before it commits.
    claim: bool,
    /// The resolver writes the end into the ledger before it frees a claimed hold.
    fence: bool,
    /// Whoever frees a hold for what was committed before brings the rows as they are.
    rows: bool,
    /// What was recorded lately is copied again.
    sweep: bool,
    /// A rebuild reads ends before rows.
    ends_first: bool,
    menu: Menu,
}

/// What may happen.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Menu {
    /// Two reservations, releases, expiries, settles that are asked for again, and applies that come late, out of order or never.
    Quiet,
    /// A stream with its checkpoints, another one that wants its room, and usage that nobody held.
    Stream,
    /// One reservation, and a store that is flushed or comes back old, twice in all, with two rebuilders.
    Losses,
    /// One reservation, and a store that loses its counters and keeps its reservations.
    Evicted,
}

const ALL: Protocol = Protocol {
    store: Rules::ALL,
    posting: Posting::ALL,
    claim: true,
    fence: true,
    rows: true,
    sweep: true,
    ends_first: true,
    menu: Menu::Quiet,
};

impl Menu {
    fn loses(self) -> bool {
        matches!(self, Menu::Losses | Menu::Evicted)
    }

    fn states(self) -> usize {
        if self == Menu::Losses { STATES_WITH_LOSSES } else { STATES }
    }
}

impl Protocol {
    fn settle(&self, world: &World, number: usize, steps: &mut Vec<Step>) {
        match world.settles[number] {
            Settle::NotYet if world.asked[number] => steps.push(Step::Claim(number)),
            Settle::Done if !world.repeated[number] && !self.menu.loses() => steps.push(Step::Claim(number)),
            Settle::Claimed(..) => steps.push(Step::Commit(number)),
            _ => {}
        }
    }

    fn lose(&self, world: &World, steps: &mut Vec<Step>) {
        let rebuilders = if self.menu == Menu::Losses { 2 } else { 1 };
        for number in 0..rebuilders {
            let reads = |rebuilder: &Rebuilder| match (&rebuilder.ends, &rebuilder.row) {
                (None, None) if self.ends_first => Step::ReadEnds(number),
                (None, Some(_)) => Step::ReadEnds(number),
                (_, None) => Step::ReadRows(number),
                (Some(_), Some(_)) => Step::Finish(number),
            };
            match &world.rebuilders[number] {
                Some(rebuilder) => steps.push(reads(rebuilder)),
                None if usize::from(world.begins) <= rebuilders => steps.push(Step::Begin(number)),
                None => {}
            }
        }
        match self.menu {
            Menu::Evicted if world.losses < 2 => steps.push(Step::Evict),
            Menu::Losses if world.losses < 2 => {
                steps.extend([Step::Flush, Step::Back]);
                steps.extend(world.copy.is_none().then_some(Step::Copy));
            }
            _ => {}
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(*self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let nothing_is_lost = !self.menu.loses();
        for number in 0..if nothing_is_lost { 2 } else { 1 } {
            steps.push(Step::Hold(number));
            // Beside a stream the other one only takes what is free.
            if self.menu != Menu::Stream || number == 0 {
                self.settle(world, number, steps);
                steps.extend(nothing_is_lost.then_some(Step::Release(number)));
            }
        }
        match self.menu {
            Menu::Quiet => {}
            Menu::Stream => {
                steps.extend((world.direct == 0).then_some(Step::Direct));
                steps.extend((world.unapplied > 0).then_some(Step::Sweep));
                if world.check.is_some() {
                    steps.push(Step::CommitCheck);
                } else if world.asked[0] && (world.checks as usize) < CHECKPOINTS.len() {
                    steps.push(Step::Check);
                }
            }
            Menu::Losses | Menu::Evicted => self.lose(world, steps),
        }
        for place in 0..world.applies.len() {
            steps.push(Step::Apply(place));
            steps.extend((nothing_is_lost && world.unapplied == 0).then_some(Step::Lose(place)));
        }
        steps.push(Step::Resolve);
        if world.passes < if nothing_is_lost { 2 } else { 1 } && world.asked[0] {
            steps.push(Step::Pass);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, *self).then(|| next.told())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "the ledger passes the limit only by what is marked late, died or was held by nobody",
                |_, world: &World| world.ledger.row.spent <= LIMIT + world.excused(),
            ),
            Property::always("the ledger says once what was reported", |_, world: &World| {
                world.ledger.row.spent == world.reported()
            }),
            Property::always("what was released is not settled, nor the other way round", |_, world: &World| {
                (0..2).all(|number| !(world.settled[number] && world.released[number]))
            }),
            Property::always(
                "with every commit applied or swept, a store that answers says what the ledger says",
                |_, world: &World| {
                    let spent = world.balance().filter(|_| world.all_applied()).map(|balance| balance.spent);
                    spent.is_none_or(|spent| spent == world.ledger.row.spent)
                },
            ),
            Property::always(
                "what is recorded in time is held or spent in a store that answers",
                |_, world: &World| {
                    let taken = world.balance().map(Balance::taken);
                    taken.is_none_or(|taken| world.ledger.row.spent <= taken + world.excused())
                },
            ),
            // That something happens at all: otherwise the others would say nothing.
            Property::sometimes("a settle is applied", |protocol: &Protocol, world: &World| {
                let lost_before = !protocol.menu.loses() || world.losses > 0;
                lost_before && world.settled[0] && world.balance().is_some_and(|balance| balance.spent >= NEED)
            }),
        ]
    }
}

/// The properties that do not hold, of those that always should; looks at no more than so many states.
pub(super) fn broken<M>(model: M, states: usize) -> Vec<String>
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>
        + Copy
        + Debug
        + Send
        + Sync
        + 'static,
    M::State: 'static,
{
    let checker = model.checker().target_state_count(states).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let (made, different) = (checker.state_count(), checker.unique_state_count());
    println!(
        "{model:?}: {made} states made, {different} of them different, depth {}",
        checker.max_depth()
    );
    let found = checker.discoveries();
    let (settled, failures): (Vec<_>, Vec<_>) = found.iter().partition(|(name, _)| name.starts_with("a settle"));
    assert!(settled.len() + failures.len() > 0, "nothing ever happens");
    for (name, path) in &failures {
        let steps: Vec<M::Action> = (*path).clone().into_actions();
        println!("{name}: {steps:?}");
    }
    failures.into_iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// As many as `WEIR_TEST_STATES` asks for, else these.
pub(super) fn states(usual: usize) -> usize {
    let asked = std::env::var("WEIR_TEST_STATES").ok();
    asked.map_or(usual, |number| number.parse().expect("WEIR_TEST_STATES is a number"))
}

fn holds(menu: Menu) {
    assert_eq!(broken(Protocol { menu, ..ALL }, states(menu.states())), [""; 0]);
}

#[test]
fn with_all_rules_the_limit_holds_in_any_order_of_events() {
    holds(Menu::Quiet);
}

#[test]
fn with_all_rules_a_stream_is_counted_once_in_any_order_of_events() {
    holds(Menu::Stream);
}

#[test]
fn with_all_rules_the_limit_holds_whatever_is_lost() {
    holds(Menu::Losses);
}

#[test]
fn with_all_rules_the_limit_holds_though_counters_are_evicted() {
    holds(Menu::Evicted);
}

/// Takes one rule away and wants it to be missed.
fn is_missed(what: &str, menu: Menu, protocol: Protocol) {
    let broken = broken(Protocol { menu, ..protocol }, menu.states());
    assert_ne!(broken, [""; 0], "nothing goes wrong without {what}");
}

#[test]
fn without_set_if_newer_an_old_commit_undoes_a_new_one() {
    let store = Rules {
        newer_only: false,
        ..Rules::ALL
    };
    is_missed("set if newer", Menu::Quiet, Protocol { store, ..ALL });
}

#[test]
fn without_the_claim_a_settle_races_with_the_expiry() {
    is_missed("the claim", Menu::Quiet, Protocol { claim: false, ..ALL });
}

#[test]
fn without_the_fence_a_commit_on_its_way_comes_after_the_end() {
    is_missed("the fence", Menu::Quiet, Protocol { fence: false, ..ALL });
}

#[test]
fn without_one_end_for_each_a_release_and_a_settle_are_both_acknowledged() {
    let posting = Posting {
        one_end: false,
        ..Posting::ALL
    };
    is_missed("one end for each", Menu::Quiet, Protocol { posting, ..ALL });
}

#[test]
fn without_its_rows_a_repeated_settle_frees_what_is_not_spent_yet() {
    is_missed("the rows", Menu::Quiet, Protocol { rows: false, ..ALL });
}

#[test]
fn without_cumulative_checkpoints_a_stream_is_counted_twice() {
    let posting = Posting {
        cumulative: false,
        ..Posting::ALL
    };
    is_missed("cumulative checkpoints", Menu::Stream, Protocol { posting, ..ALL });
}

#[test]
fn without_the_sweep_direct_usage_whose_copy_was_lost_is_never_known() {
    is_missed("the sweep", Menu::Stream, Protocol { sweep: false, ..ALL });
}

#[test]
fn without_the_token_a_rebuilder_from_before_a_loss_finishes_after_it() {
    let store = Rules {
        token: false,
        ..Rules::ALL
    };
    is_missed("the token", Menu::Losses, Protocol { store, ..ALL });
}

#[test]
fn without_the_epoch_an_old_copy_passes_as_current() {
    let store = Rules {
        epoch: false,
        ..Rules::ALL
    };
    is_missed("the epoch", Menu::Losses, Protocol { store, ..ALL });
}

#[test]
fn without_live_an_old_copy_admits_before_it_is_rebuilt() {
    let store = Rules { live: false, ..Rules::ALL };
    is_missed("live", Menu::Losses, Protocol { store, ..ALL });
}

#[test]
fn without_generations_what_counts_no_more_is_claimed() {
    let store = Rules {
        generation: false,
        ..Rules::ALL
    };
    is_missed("generations", Menu::Evicted, Protocol { store, ..ALL });
}

#[test]
fn with_rows_read_before_ends_a_settle_in_between_is_neither_held_nor_spent() {
    let protocol = Protocol { ends_first: false, ..ALL };
    is_missed("ends before rows", Menu::Losses, protocol);
}
