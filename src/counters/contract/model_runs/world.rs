//! What there is at one moment of a run, and what each step makes of it.

use super::{CALLS, HOLD_SECONDS, LIMIT, NEEDS, OTHER, PARENT, PASS_SECONDS, Runs, USES};
use crate::counters::contract::desk::{NOON, rung, tokens};
use crate::counters::contract::model::{Ledger, Posting, Seen, Settled, Store, id, lifetime, of};
use crate::counters::run::{ChildOutcome, ChildRequest};
use crate::counters::{Applied, Begun, Claim, HoldOutcome, HoldRequest, Progress, REBUILD_JOIN_MILLIS_MAX, Rebuilt, SumRow};
use crate::decision::counter::{Balance, Whose};
use crate::decision::id::ReservationId;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Step {
    Draw(usize),
    /// Somebody else takes what is free.
    Other,
    Claim(usize),
    Commit(usize),
    Release(usize),
    /// Delivers a commit to the store, or loses it.
    Apply(usize),
    Lose(usize),
    Resolve,
    Pass,
    Begin,
    ReadEnds,
    ReadRows,
    Finish,
    Flush,
    Copy,
    Back,
}

#[derive(Clone, Debug)]
pub(super) enum Settle {
    NotYet,
    /// How it saw the ledger, and whether the hold was live.
    Claimed(Seen, bool),
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Rebuilder {
    token: u64,
    adopt: Vec<ReservationId>,
    pub(super) ends: Option<Vec<(ReservationId, Progress)>>,
    pub(super) row: Option<SumRow>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) store: Store,
    pub(super) copy: Option<Store>,
    pub(super) now: Timestamp,
    pub(super) parent_held_at: Timestamp,
    pub(super) ledger: Ledger,
    pub(super) drawn: [bool; 4],
    pub(super) settles: [Settle; 4],
    pub(super) applies: Vec<(SumRow, usize, Progress)>,
    pub(super) rebuilder: Option<Rebuilder>,
    /// Commits that were never applied, and units held by what died with a copy of the store.
    pub(super) unapplied: u8,
    pub(super) died: i64,
    pub(super) passes: u8,
    pub(super) losses: u8,
    pub(super) begins: u8,
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

impl World {
    /// A workspace whose counters are built, and in which the parent holds all that there is.
    pub(super) fn new(runs: Runs) -> Self {
        let mut world = World {
            store: Store::new(runs.store, runs.losses),
            copy: None,
            now: NOON,
            parent_held_at: NOON,
            ledger: Ledger::new(Posting::ALL, 4),
            drawn: [false; 4],
            settles: [const { Settle::NotYet }; 4],
            applies: Vec::new(),
            rebuilder: None,
            unapplied: 0,
            died: 0,
            passes: 0,
            losses: 0,
            begins: 0,
            text: String::new(),
        };
        for step in [Step::Begin, Step::ReadEnds, Step::ReadRows, Step::Finish] {
            world.take(step, runs);
        }
        world.begins = 0;
        world.parent_held_at = world.now;
        assert!(world.hold(PARENT), "it is all free");
        world.told()
    }

    pub(super) fn told(mut self) -> Self {
        self.text.clear();
        self.text = format!("{self:?}");
        self
    }

    fn hold(&mut self, number: usize) -> bool {
        let request = HoldRequest {
            workspace: of(),
            reservation: id(number),
            fingerprint: 1,
            counters: vec![lifetime()],
            purses: Vec::new(),
            named_since: Timestamp::MIN,
            rungs: vec![rung(NEEDS[number], &[LIMIT], self.now.plus_seconds(HOLD_SECONDS[number]))],
            open_max: u32::MAX,
            charge_on_expiry: false,
            tell_on_expiry: false,
            context: Arc::default(),
            now: self.now,
        };
        let outcome = self.store.ask(async |counters| counters.hold(&request).await.expect("hold"));
        let held = matches!(outcome, HoldOutcome::Held { .. });
        self.drawn[number] |= held;
        held
    }

    fn draw(&mut self, number: usize) -> bool {
        let request = ChildRequest {
            workspace: of(),
            reservation: id(number),
            fingerprint: 1,
            parent: id(PARENT),
            parent_held_at: self.parent_held_at,
            calls_max: None,
            rungs: vec![rung(NEEDS[number], &[], self.now.plus_seconds(HOLD_SECONDS[number]))],
            open_max: u32::MAX,
            charge_on_expiry: false,
            tell_on_expiry: false,
            context: Arc::default(),
            now: self.now,
        };
        let outcome = self
            .store
            .ask(async |counters| counters.hold_child(&request).await.expect("a call"));
        let held = matches!(outcome, ChildOutcome::Held(_));
        self.drawn[number] |= held;
        held
    }

    /// Whether a reservation is held, as far as a store knows, and claimed.
    pub(super) fn live(&self, store: &Store, number: usize) -> Option<Option<Claim>> {
        let found = store.look(async |counters| counters.find(id(number), self.now).await.expect("find"));
        found.filter(|record| record.end.is_none()).map(|record| record.claimed)
    }

    pub(super) fn balance(&self) -> Option<Balance> {
        let answer = self.store.look(async |counters| {
            counters
                .balances(&of(), &[lifetime()], &[], Timestamp::MIN, self.now)
                .await
                .expect("balances")
        });
        answer.ok().map(|balances| balances[0])
    }

    /// What holds have left that live in the store, with those or without those of which only the ledger knows that they ended; by what the
    /// ledger says of the others.
    pub(super) fn left(&self, with_ended: bool) -> i64 {
        let in_store = |number: usize| self.live(&self.store, number).is_some();
        let lives = |number: &usize| in_store(*number) && (with_ended || self.ledger.end(*number).is_none());
        let lent: i64 = CALLS.iter().filter(|call| lives(call)).map(|call| NEEDS[*call]).sum();
        let is_settled = |call: &&usize| self.ledger.end(**call) == Some(End::Settled) && !lives(call);
        let used: i64 = CALLS.iter().filter(is_settled).map(|call| USES[*call]).sum();
        let own = if lives(&PARENT) { (NEEDS[PARENT] - lent - used).max(0) } else { 0 };
        own + lent + if lives(&OTHER) { NEEDS[OTHER] } else { 0 }
    }

    pub(super) fn all_applied(&self) -> bool {
        self.applies.is_empty() && self.unapplied == 0
    }

    /// Whether a reservation has in the store the end that the ledger gave it.
    pub(super) fn has_its_end(&self, number: usize) -> bool {
        let found = self
            .store
            .look(async |counters| counters.find(id(number), self.now).await.expect("find"));
        let Some(record) = found else { return true };
        match self.ledger.end(number) {
            // An old copy goes on to say of one that ran out, and was settled late since, that it ran out: only what is open is compared.
            Some(End::Settled) => record.end == Some(End::Settled) || (self.losses > 0 && record.end == Some(End::Expired)),
            // The first end stays: it may have run out before.
            Some(End::Released) => matches!(record.end, Some(End::Released | End::Expired)),
            Some(End::Expired) => record.end == Some(End::Expired),
            None => matches!(record.end, None | Some(End::Expired)),
        }
    }

    fn progress(&self, number: usize, end: End, runs: Runs) -> Progress {
        let recorded = (end == End::Settled && runs.tells_use).then(|| tokens(USES[number]));
        Progress::ended(end, recorded)
    }

    /// Another process follows, which knows what `knowing` knew.
    fn follow(&mut self, knowing: &Store) {
        let next = self.store.next_process(knowing);
        for (number, need) in NEEDS.iter().enumerate() {
            // One whose claim alone is forgotten may expire while its commit is on its way.
            let live = self.live(&self.store, number);
            self.died += if live.is_some() && self.live(&next, number) != live {
                *need
            } else {
                0
            };
        }
        self.store = next;
        self.losses += 1;
    }

    fn apply(&mut self, row: SumRow, number: usize, progress: Progress) {
        let applied = Applied {
            rows: vec![row],
            reservation: Some((id(number), progress)),
            purses: Vec::new(),
        };
        let now = self.now;
        self.store
            .ask(async |counters| counters.apply(&of(), &applied, &[], &[], now).await.expect("apply"));
    }

    /// Lets a step happen. False: it changes nothing.
    pub(super) fn take(&mut self, step: Step, runs: Runs) -> bool {
        match step {
            Step::Draw(number) => self.draw(number),
            Step::Other => self.hold(OTHER),
            Step::Claim(number) => self.claim(number, runs),
            Step::Commit(number) => self.commit(number, runs),
            Step::Release(number) => {
                let released = self.ledger.end(number).is_none();
                if released {
                    self.ledger.end_with_checkpoint(number, End::Released);
                    self.applies.push((self.ledger.row.clone(), number, Progress::Ended(End::Released)));
                }
                released
            }
            Step::Apply(place) => {
                let (row, number, progress) = self.applies.remove(place);
                self.apply(row, number, progress);
                true
            }
            Step::Lose(place) => {
                self.applies.remove(place);
                self.unapplied += 1;
                true
            }
            Step::Resolve => self.resolve(runs),
            Step::Pass => {
                self.now = self.now.plus_seconds(PASS_SECONDS);
                self.passes += 1;
                true
            }
            Step::Begin | Step::ReadEnds | Step::ReadRows | Step::Finish => self.rebuild(step, runs),
            Step::Flush => {
                self.follow(&Store::new(runs.store, true));
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

    fn claim(&mut self, number: usize, runs: Runs) -> bool {
        let (now, seen) = (self.now, self.ledger.seen(number));
        let record = self.store.ask(async |counters| {
            if runs.claim {
                counters.claim(id(number), Claim::Final, now).await.expect("claim")
            } else {
                Ok(counters.find(id(number), now).await.expect("find"))
            }
        });
        if let Ok(record) = &record {
            let live = record.as_ref().is_some_and(|record| record.end.is_none());
            self.settles[number] = Settle::Claimed(seen, live);
        }
        record.is_ok()
    }

    fn commit(&mut self, number: usize, runs: Runs) -> bool {
        let Settle::Claimed(seen, live) = std::mem::replace(&mut self.settles[number], Settle::Done) else {
            return false;
        };
        if let Settled::Recorded = self.ledger.settle(number, seen, USES[number], live, self.now) {
            let progress = self.progress(number, End::Settled, runs);
            self.applies.push((self.ledger.row.clone(), number, progress));
        }
        true
    }

    fn resolve(&mut self, runs: Runs) -> bool {
        let now = self.now;
        let due = self.store.ask(async |counters| counters.due(now, 10).await.expect("due"));
        for number in (0..4).filter(|number| due.iter().any(|record| record.reservation == id(*number))) {
            let end = self.ledger.end(number).unwrap_or(End::Expired);
            if runs.fence && self.ledger.end(number).is_none() {
                self.ledger.end_with_checkpoint(number, End::Expired);
            }
            self.apply(self.ledger.row.clone(), number, self.progress(number, end, runs));
        }
        !due.is_empty()
    }

    fn rebuild(&mut self, step: Step, runs: Runs) -> bool {
        if step == Step::Begin {
            // Whoever begins has waited until the one before may be joined.
            self.now = self.now.plus_micros(REBUILD_JOIN_MILLIS_MAX * 1_000);
            let now = self.now;
            let begun = self
                .store
                .ask(async |counters| counters.begin(&of(), &Whose::Workspace, now).await.expect("begin"));
            self.begins += 1;
            if let Begun::Started { token, adopt } = begun {
                // Without anything to adopt there are no ends to read.
                let (ends, row) = (adopt.is_empty().then(Vec::new), None);
                self.rebuilder = Some(Rebuilder { token, adopt, ends, row });
            }
            return true;
        }
        let Some(mut rebuilder) = self.rebuilder.take() else { return false };
        match step {
            Step::ReadEnds => {
                let number = |asked: &ReservationId| (0..4).find(|number| id(*number) == *asked);
                let ended = |asked: &ReservationId| {
                    let number = number(asked)?;
                    Some((*asked, self.progress(number, self.ledger.end(number)?, runs)))
                };
                rebuilder.ends = Some(rebuilder.adopt.iter().filter_map(ended).collect());
                self.rebuilder = Some(rebuilder);
            }
            Step::ReadRows => {
                rebuilder.row = Some(self.ledger.row.clone());
                self.rebuilder = Some(rebuilder);
            }
            _ => {
                let (Some(ends), Some(row)) = (rebuilder.ends, rebuilder.row) else {
                    return false;
                };
                let rebuilt = Rebuilt {
                    token: rebuilder.token,
                    adopted: &ends,
                    rows: &[row],
                    purses: &[],
                };
                let now = self.now;
                self.store
                    .ask(async |counters| counters.finish(&of(), &Whose::Workspace, &rebuilt, now).await.expect("finish"));
            }
        }
        true
    }
}
