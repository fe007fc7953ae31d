//! The protocol between counters and ledger, tried out: every order of what may happen to two reservations, two rebuilders and a store that
//! is flushed or comes back old, up to a number of states. With all rules the ledger never passes the limit but by what is marked or lost;
//! without any one of them an order is found in which it does.
//!
//! The counters are the naive store, which the contract and the random histories hold to the others; the ledger is a row and two ends.

use super::desk::{NOON, counter, rung, workspace};
use super::naive::{Naive, Rules, State};
use crate::counters::{
    Applied, Begun, CLAIM_OPEN_SECONDS, Claim, Counters, HoldOutcome, HoldRequest, Progress, REBUILD_TAKEOVER_MILLIS, Rebuilt, SumRow,
};
use crate::decision::amount::Unit;
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::id::{RequestId, ReservationId, WorkspaceId};
use crate::decision::period::PeriodKind;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use futures_util::FutureExt;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How many states are made with all rules: more than it takes for the lack of any of them to show, in some ten seconds. `WEIR_TEST_STATES`
/// asks for more.
const STATES: usize = 250_000;
const LIMIT: i64 = 1;
const HOLD_SECONDS: i64 = 30;

/// What the flows keep to, beside the store's own rules.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    store: Rules,
    /// Settle claims before it commits.
    claim: bool,
    /// The resolver writes the end into the ledger before it frees a claimed hold.
    fence: bool,
    /// A rebuild reads ends before rows.
    ends_first: bool,
    menu: Menu,
}

/// What may happen.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Menu {
    /// Two reservations, releases, expiries, and applies that come late, out of order or never.
    Quiet,
    /// One reservation, and a store that is flushed or comes back old, twice in all, with two rebuilders.
    Losses,
}

const ALL: Protocol = Protocol {
    store: Rules::ALL,
    claim: true,
    fence: true,
    ends_first: true,
    menu: Menu::Quiet,
};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    Hold(usize),
    /// A settle reads its reservation, and claims it.
    Claim(usize),
    Commit(usize),
    Release(usize),
    /// Delivers a commit to the store, or loses it.
    Apply(usize),
    Lose(usize),
    /// Asks the ledger about all that is due.
    Resolve,
    Pass,
    Begin(usize),
    /// A rebuilder reads: ends and rows are two questions, and anything may happen between them.
    ReadEnds(usize),
    ReadRows(usize),
    Finish(usize),
    Flush,
    Copy,
    /// The store comes back as it was when it was copied.
    Back,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Settle {
    NotYet,
    /// Whether the hold was live.
    Claimed(bool),
    Done,
}

#[derive(Clone, Debug)]
struct Rebuilder {
    token: u64,
    adopt: Vec<ReservationId>,
    ends: Option<Vec<(ReservationId, Progress)>>,
    row: Option<SumRow>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
struct World {
    store: State,
    copy: Option<State>,
    now: Timestamp,
    row: SumRow,
    ends: [Option<End>; 2],
    asked: [bool; 2],
    settles: [Settle; 2],
    applies: Vec<(SumRow, usize, End)>,
    rebuilders: [Option<Rebuilder>; 2],
    /// Commits that were never applied, units that were recorded late, and units held by what died with a copy of the store.
    unapplied: u8,
    late: i64,
    died: i64,
    passes: u8,
    losses: u8,
    begins: u8,
    /// All of the above as text: what makes two moments the same.
    text: String,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

fn of() -> WorkspaceId {
    workspace("ws")
}

fn lifetime() -> Counter {
    counter(Unit::Tokens, PeriodKind::Lifetime)
}

fn id(number: usize) -> ReservationId {
    ReservationId::derive(&of(), &RequestId::parse(&format!("r{number}")).expect("a key"))
}

/// Asks a store that never waits.
pub(super) fn ask<T>(store: &mut State, question: impl AsyncFnOnce(&Naive) -> T) -> T {
    let naive = Naive::of(store.clone());
    let answer = question(&naive).now_or_never().expect("it never waits");
    *store = naive.state();
    answer
}

impl World {
    /// A workspace whose counters are built.
    fn new(protocol: Protocol) -> Self {
        let row = SumRow {
            counter: lifetime(),
            spent: 0,
            version: 1,
            paid: 0,
        };
        let mut world = World {
            store: State::under(protocol.store),
            copy: None,
            now: NOON,
            row,
            ends: [None; 2],
            asked: [false; 2],
            settles: [Settle::NotYet; 2],
            applies: Vec::new(),
            rebuilders: [const { None }; 2],
            unapplied: 0,
            late: 0,
            died: 0,
            passes: 0,
            losses: 0,
            begins: 0,
            text: String::new(),
        };
        for step in [Step::Begin(0), Step::ReadEnds(0), Step::ReadRows(0), Step::Finish(0)] {
            world.take(step, protocol);
        }
        world.begins = 0;
        world.told()
    }

    fn told(mut self) -> Self {
        self.text.clear();
        self.text = format!("{self:?}");
        self
    }

    fn request(&self, number: usize) -> HoldRequest {
        HoldRequest {
            workspace: of(),
            reservation: id(number),
            fingerprint: 1,
            counters: vec![lifetime()],
            purses: Vec::new(),
            named_since: Timestamp::MIN,
            rungs: vec![rung(1, &[LIMIT], self.now.plus_seconds(HOLD_SECONDS))],
            open_max: u32::MAX,
            charge_on_expiry: false,
            tell_on_expiry: false,
            context: Arc::default(),
            now: self.now,
        }
    }

    /// Whether a reservation is held, as far as a store knows, and claimed.
    fn live(&self, store: &State, number: usize) -> Option<Option<Claim>> {
        let found = ask(&mut store.clone(), async |naive| {
            naive.find(id(number), self.now).await.expect("find")
        });
        found.filter(|record| record.end.is_none()).map(|record| record.claimed)
    }

    /// What the store believes to be spent, if it may be asked.
    fn spent(&self) -> Option<i64> {
        self.balance().map(|balance| balance.spent)
    }

    fn taken(&self) -> Option<i64> {
        self.balance().map(Balance::taken)
    }

    fn balance(&self) -> Option<Balance> {
        let answer = ask(&mut self.store.clone(), async |naive| {
            naive
                .balances(&of(), &[lifetime()], &[], Timestamp::MIN, self.now)
                .await
                .expect("balances")
        });
        answer.ok().map(|balances| balances[0])
    }

    fn standing(&self, id_asked: ReservationId) -> Option<(ReservationId, Progress)> {
        let number = (0..2).find(|number| id(*number) == id_asked)?;
        self.ends[number].map(|end| (id_asked, Progress::Ended(end)))
    }

    /// Another process follows, which knows what `knowing` knew.
    fn follow(&mut self, knowing: &State) {
        let next = self.store.next_process(knowing);
        for number in 0..2 {
            // One whose claim alone is forgotten may expire while its commit is on its way.
            let live = self.live(&self.store, number);
            self.died += i64::from(live.is_some() && self.live(&next, number) != live);
        }
        self.store = next;
        self.losses += 1;
    }

    fn apply(&mut self, row: SumRow, number: usize, end: End) {
        let applied = Applied {
            rows: vec![row],
            reservation: Some((id(number), Progress::Ended(end))),
            purses: Vec::new(),
        };
        let now = self.now;
        ask(&mut self.store, async |naive| {
            naive.apply(&of(), &applied, &[], &[], now).await.expect("apply")
        });
    }

    /// Lets a step happen. False: it changes nothing.
    fn take(&mut self, step: Step, protocol: Protocol) -> bool {
        let now = self.now;
        match step {
            Step::Hold(number) => {
                let request = self.request(number);
                let outcome = ask(&mut self.store, async |naive| naive.hold(&request).await.expect("hold"));
                self.asked[number] |= matches!(outcome, HoldOutcome::Held { .. });
                matches!(outcome, HoldOutcome::Held { .. })
            }
            Step::Claim(number) => self.claim(number, protocol),
            Step::Commit(number) => {
                let Settle::Claimed(live) = self.settles[number] else {
                    return false;
                };
                self.settles[number] = Settle::Done;
                if self.ends[number] == Some(End::Released) {
                    return true;
                }
                self.late += i64::from(!live || self.ends[number].is_some());
                self.ends[number] = Some(End::Settled);
                self.row.spent += 1;
                self.row.version += 1;
                self.applies.push((self.row.clone(), number, End::Settled));
                true
            }
            Step::Release(number) => {
                let released = self.asked[number] && self.ends[number].is_none();
                if released {
                    self.ends[number] = Some(End::Released);
                    self.applies.push((self.row.clone(), number, End::Released));
                }
                released
            }
            Step::Apply(place) => {
                let (row, number, end) = self.applies.remove(place);
                self.apply(row, number, end);
                true
            }
            Step::Lose(place) => {
                self.applies.remove(place);
                self.unapplied += 1;
                true
            }
            Step::Resolve => self.resolve(protocol),
            Step::Pass => {
                self.now = now.plus_seconds(HOLD_SECONDS + CLAIM_OPEN_SECONDS);
                self.passes += 1;
                true
            }
            Step::Begin(place) => {
                // Whoever begins has waited until the one before may be taken over.
                self.now = now.plus_micros(REBUILD_TAKEOVER_MILLIS * 1_000);
                let now = self.now;
                let begun = ask(&mut self.store, async |naive| {
                    naive.begin(&of(), &Whose::Workspace, now).await.expect("begin")
                });
                if let Begun::Started { token, adopt } = begun {
                    // Without anything to adopt there are no ends to read.
                    let (ends, row) = (adopt.is_empty().then(Vec::new), None);
                    self.rebuilders[place] = Some(Rebuilder { token, adopt, ends, row });
                }
                self.begins += 1;
                true
            }
            Step::ReadEnds(place) => {
                let ends = self.rebuilders[place].as_ref().map(|rebuilder| {
                    let read = rebuilder.adopt.iter().filter_map(|id| self.standing(*id));
                    read.collect()
                });
                self.rebuilders[place].as_mut().is_some_and(|rebuilder| {
                    rebuilder.ends = ends;
                    true
                })
            }
            Step::ReadRows(place) => {
                let row = self.row.clone();
                self.rebuilders[place].as_mut().is_some_and(|rebuilder| {
                    rebuilder.row = Some(row);
                    true
                })
            }
            Step::Finish(place) => self.finish(place),
            Step::Flush => {
                self.follow(&State::under(protocol.store));
                true
            }
            Step::Copy => {
                self.copy = Some(self.store.clone());
                true
            }
            Step::Back => {
                let copy = self.copy.clone();
                copy.is_some_and(|copy| {
                    self.follow(&copy);
                    true
                })
            }
        }
    }

    fn claim(&mut self, number: usize, protocol: Protocol) -> bool {
        let now = self.now;
        let record = ask(&mut self.store, async |naive| {
            if protocol.claim {
                naive.claim(id(number), Claim::Final, now).await.expect("claim")
            } else {
                Ok(naive.find(id(number), now).await.expect("find"))
            }
        });
        if let Ok(record) = &record {
            let live = record.as_ref().is_some_and(|record| record.end.is_none());
            self.settles[number] = Settle::Claimed(live);
        }
        record.is_ok()
    }

    fn resolve(&mut self, protocol: Protocol) -> bool {
        let now = self.now;
        let due = ask(&mut self.store, async |naive| naive.due(now, 10).await.expect("due"));
        for number in (0..2).filter(|number| due.iter().any(|record| record.reservation == id(*number))) {
            let end = self.ends[number].unwrap_or(End::Expired);
            if protocol.fence {
                self.ends[number] = Some(end);
            }
            self.apply(self.row.clone(), number, end);
        }
        !due.is_empty()
    }

    fn finish(&mut self, place: usize) -> bool {
        let now = self.now;
        let Some(Rebuilder {
            token,
            ends: Some(ends),
            row: Some(row),
            ..
        }) = self.rebuilders[place].take()
        else {
            return false;
        };
        let rebuilt = Rebuilt {
            token,
            adopted: &ends,
            rows: &[row],
            purses: &[],
        };
        ask(&mut self.store, async |naive| {
            naive.finish(&of(), &Whose::Workspace, &rebuilt, now).await.expect("finish")
        });
        true
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(*self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let quiet = self.menu == Menu::Quiet;
        for number in 0..if quiet { 2 } else { 1 } {
            steps.push(Step::Hold(number));
            match world.settles[number] {
                Settle::NotYet if world.asked[number] => {
                    steps.push(Step::Claim(number));
                    steps.extend(quiet.then_some(Step::Release(number)));
                }
                Settle::Claimed(_) => steps.push(Step::Commit(number)),
                _ => {}
            }
        }
        for number in (0..2).filter(|_| !quiet) {
            let reads = |rebuilder: &Rebuilder| match (&rebuilder.ends, &rebuilder.row) {
                (None, None) if self.ends_first => Step::ReadEnds(number),
                (None, Some(_)) => Step::ReadEnds(number),
                (_, None) => Step::ReadRows(number),
                (Some(_), Some(_)) => Step::Finish(number),
            };
            match &world.rebuilders[number] {
                Some(rebuilder) => steps.push(reads(rebuilder)),
                None if world.begins < 3 => steps.push(Step::Begin(number)),
                None => {}
            }
        }
        for place in 0..world.applies.len() {
            steps.push(Step::Apply(place));
            steps.extend(quiet.then_some(Step::Lose(place)));
        }
        steps.push(Step::Resolve);
        if world.passes < if quiet { 2 } else { 1 } && world.asked[0] {
            steps.push(Step::Pass);
        }
        if !quiet && world.losses < 2 {
            steps.extend([Step::Flush, Step::Back]);
            steps.extend(world.copy.is_none().then_some(Step::Copy));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, *self).then(|| next.told())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "the ledger passes the limit only by what is marked late or died",
                |_, world: &World| world.row.spent <= LIMIT + world.late + world.died,
            ),
            Property::always(
                "with every commit applied, a store that answers says what the ledger says",
                |_, world: &World| {
                    let all_applied = world.applies.is_empty() && world.unapplied == 0;
                    !all_applied || world.spent().is_none_or(|spent| spent == world.row.spent)
                },
            ),
            Property::always(
                "what is recorded in time is held or spent in a store that answers",
                |_, world: &World| world.taken().is_none_or(|taken| world.row.spent <= taken + world.late + world.died),
            ),
            // That something happens at all: otherwise the two above would say nothing.
            Property::sometimes("a settle is applied", |protocol: &Protocol, world: &World| {
                let lost_before = protocol.menu == Menu::Quiet || world.losses > 0;
                lost_before && world.taken().is_some() && world.spent() > Some(0)
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
    assert_eq!(broken(Protocol { menu, ..ALL }, states(STATES)), [""; 0]);
}

#[test]
fn with_all_rules_the_limit_holds_in_any_order_of_events() {
    holds(Menu::Quiet);
}

#[test]
fn with_all_rules_the_limit_holds_whatever_is_lost() {
    holds(Menu::Losses);
}

/// Takes one rule away and wants it to be missed.
fn is_missed(what: &str, menu: Menu, protocol: Protocol) {
    let broken = broken(Protocol { menu, ..protocol }, STATES);
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
fn with_rows_read_before_ends_a_settle_in_between_is_neither_held_nor_spent() {
    let protocol = Protocol { ends_first: false, ..ALL };
    is_missed("ends before rows", Menu::Losses, protocol);
}
