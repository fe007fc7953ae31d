//! What the model of `model.rs` is at one moment, and how each step changes it.

use super::super::desk::{NOON, rung};
use super::ledger::{Ledger, Seen, Settled, id, lifetime, of};
use super::store::Store;
use super::{CHECKPOINTS, HOLD_SECONDS, LIMIT, NEED, Protocol};
use crate::counters::{
    Applied, Begun, CLAIM_OPEN_SECONDS, Claim, HoldOutcome, HoldRequest, Progress, REBUILD_JOIN_MILLIS_MAX, Rebuilt, Record, SumRow,
};
use crate::decision::amount::Amounts;
use crate::decision::counter::{Balance, Whose};
use crate::decision::id::ReservationId;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Step {
    Hold(usize),
    /// A settle reads the ledger and its reservation, and claims it.
    Claim(usize),
    /// It records; where the ledger says that it was recorded before, or ended otherwise, it has the rows applied as they are now.
    Commit(usize),
    Release(usize),
    /// A checkpoint of the first reservation reads and claims, and records.
    Check,
    CommitCheck,
    /// Somebody records what nobody held.
    Direct,
    /// Delivers a commit to the store, or loses it.
    Apply(usize),
    Lose(usize),
    /// Asks the ledger about all that is due.
    Resolve,
    /// Copies once more what was recorded lately.
    Sweep,
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
    /// Its counters go, while its reservations stay.
    Evict,
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

/// What a commit has for the store.
#[derive(Clone, Debug)]
pub(super) struct Apply {
    row: Option<SumRow>,
    of: Option<(usize, Progress)>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) store: Store,
    pub(super) copy: Option<Store>,
    pub(super) now: Timestamp,
    pub(super) ledger: Ledger,
    pub(super) asked: [bool; 2],
    pub(super) settles: [Settle; 2],
    /// A caller that had its answer asks once more.
    pub(super) repeated: [bool; 2],
    /// A checkpoint under way: how it saw the ledger.
    pub(super) check: Option<Seen>,
    pub(super) checks: i64,
    pub(super) applies: Vec<Apply>,
    pub(super) rebuilders: [Option<Rebuilder>; 2],
    /// What each caller was told: that its settle or its release is recorded; and how much it has reported, that was acknowledged.
    pub(super) settled: [bool; 2],
    pub(super) released: [bool; 2],
    pub(super) reported: [i64; 2],
    pub(super) direct: i64,
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

fn is_live(record: Option<&Record>) -> bool {
    record.is_some_and(|record| record.end.is_none())
}

impl World {
    /// A workspace whose counters are built.
    pub(super) fn new(protocol: Protocol) -> Self {
        let mut world = World {
            store: Store::new(protocol.store, protocol.menu.loses()),
            copy: None,
            now: NOON,
            ledger: Ledger::new(protocol.posting, 2),
            asked: [false; 2],
            settles: [const { Settle::NotYet }; 2],
            repeated: [false; 2],
            check: None,
            checks: 0,
            applies: Vec::new(),
            rebuilders: [const { None }; 2],
            settled: [false; 2],
            released: [false; 2],
            reported: [0; 2],
            direct: 0,
            unapplied: 0,
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

    pub(super) fn told(mut self) -> Self {
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
            rungs: vec![rung(NEED, &[LIMIT], self.now.plus_seconds(HOLD_SECONDS))],
            open_max: u32::MAX,
            charge_on_expiry: false,
            tell_on_expiry: false,
            context: Arc::default(),
            now: self.now,
        }
    }

    /// What a store knows of a reservation.
    fn found(&self, store: &Store, number: usize) -> Option<Record> {
        store.look(async |counters| counters.find(id(number), self.now).await.expect("find"))
    }

    /// Whether a reservation is held, as far as a store knows, and claimed.
    fn live(&self, store: &Store, number: usize) -> Option<Option<Claim>> {
        let found = self.found(store, number).filter(|record| record.end.is_none());
        found.map(|record| record.claimed)
    }

    /// What the store believes, if it may be asked.
    pub(super) fn balance(&self) -> Option<Balance> {
        let answer = self.store.look(async |counters| {
            let (workspace, asked) = (of(), [lifetime()]);
            let balances = counters.balances(&workspace, &asked, &[], Timestamp::MIN, self.now);
            balances.await.expect("balances")
        });
        answer.ok().map(|balances| balances[0])
    }

    /// How the ledger has a reservation, for a rebuild that adopts it.
    fn progress(&self, number: usize) -> Option<Progress> {
        let used = self.ledger.checkpoint(number).map(|checkpoint| checkpoint.entry.counted);
        let ended = self.ledger.end(number).map(Progress::Ended);
        ended.or(used.map(Progress::Used))
    }

    /// Another process follows, or the same one without what it knew.
    fn follow(&mut self, next: Store) {
        for number in 0..2 {
            // One whose claim alone is forgotten may expire while its commit is on its way.
            let live = self.live(&self.store, number);
            self.died += if live.is_some() && self.live(&next, number) != live {
                NEED
            } else {
                0
            };
        }
        self.store = next;
        self.losses += 1;
    }

    fn apply(&mut self, apply: Apply) {
        let applied = Applied {
            rows: apply.row.into_iter().collect(),
            reservation: apply.of.map(|(number, progress)| (id(number), progress)),
            purses: Vec::new(),
        };
        let now = self.now;
        self.store
            .ask(async |counters| counters.apply(&of(), &applied, &[], &[], now).await.expect("apply"));
    }

    /// A commit, or a repeated one, has this for the store.
    fn send(&mut self, has_row: bool, of: Option<(usize, Progress)>) {
        let row = has_row.then(|| self.ledger.row.clone());
        self.applies.push(Apply { row, of });
    }

    /// Lets a step happen. False: it changes nothing.
    pub(super) fn take(&mut self, step: Step, protocol: Protocol) -> bool {
        let now = self.now;
        match step {
            Step::Hold(number) => {
                let request = self.request(number);
                let outcome = self.store.ask(async |counters| counters.hold(&request).await.expect("hold"));
                self.asked[number] |= matches!(outcome, HoldOutcome::Held { .. });
                matches!(outcome, HoldOutcome::Held { .. })
            }
            Step::Claim(number) => self.claim(number, protocol),
            Step::Commit(number) => self.commit(number, protocol),
            Step::Release(number) => {
                let may = self.asked[number] && self.ledger.end(number).is_none();
                if may {
                    self.ledger.end_with_checkpoint(number, End::Released);
                    self.released[number] = true;
                    self.send(true, Some((number, Progress::Ended(End::Released))));
                }
                may
            }
            Step::Check => self.check(),
            Step::CommitCheck => self.commit_check(),
            Step::Direct => {
                self.ledger.add(1);
                self.direct += 1;
                self.send(true, None);
                true
            }
            Step::Apply(place) => {
                let apply = self.applies.remove(place);
                self.apply(apply);
                true
            }
            Step::Lose(place) => {
                self.applies.remove(place);
                self.unapplied += 1;
                true
            }
            Step::Resolve => self.resolve(protocol),
            Step::Sweep => {
                self.unapplied = 0;
                if protocol.sweep {
                    self.send(true, None);
                }
                true
            }
            Step::Pass => {
                self.now = now.plus_seconds(HOLD_SECONDS + CLAIM_OPEN_SECONDS);
                self.passes += 1;
                true
            }
            Step::Begin(_) | Step::ReadEnds(_) | Step::ReadRows(_) | Step::Finish(_) => self.rebuild(step),
            Step::Flush => {
                let empty = Store::new(protocol.store, true);
                self.follow(self.store.next_process(&empty));
                true
            }
            Step::Copy => {
                self.copy = Some(self.store.clone());
                true
            }
            Step::Back => {
                let copy = self.copy.clone();
                copy.is_some_and(|copy| {
                    self.follow(self.store.next_process(&copy));
                    true
                })
            }
            Step::Evict => {
                self.follow(self.store.without_groups());
                true
            }
        }
    }

    fn claim(&mut self, number: usize, protocol: Protocol) -> bool {
        let now = self.now;
        let seen = self.ledger.seen(number);
        let record = self.store.ask(async |counters| {
            if protocol.claim {
                counters.claim(id(number), Claim::Final, now).await.expect("claim")
            } else {
                Ok(counters.find(id(number), now).await.expect("find"))
            }
        });
        self.repeated[number] |= matches!(self.settles[number], Settle::Done);
        if let Ok(record) = &record {
            self.settles[number] = Settle::Claimed(seen, is_live(record.as_ref()));
        }
        record.is_ok()
    }

    fn commit(&mut self, number: usize, protocol: Protocol) -> bool {
        let Settle::Claimed(seen, live) = std::mem::replace(&mut self.settles[number], Settle::Done) else {
            return false;
        };
        match self.ledger.settle(number, seen, NEED, live, self.now) {
            Settled::Recorded => self.send(true, Some((number, Progress::Ended(End::Settled)))),
            // Without a live hold there is nothing to free, and the rows are left to whoever committed them.
            Settled::Replayed => self.send(live && protocol.rows, Some((number, Progress::Ended(End::Settled)))),
            Settled::Refused(end) => {
                self.send(live && protocol.rows, Some((number, Progress::Ended(end))));
                return true;
            }
        }
        self.settled[number] = true;
        self.reported[number] = NEED;
        true
    }

    fn check(&mut self) -> bool {
        let (now, seen) = (self.now, self.ledger.seen(0));
        let so_far = CHECKPOINTS[self.checks as usize];
        let Some(entry) = self.ledger.counted(0, &seen, so_far, now) else {
            return false;
        };
        let claim = Claim::UpTo(entry.counted);
        let record = self
            .store
            .ask(async |counters| counters.claim(id(0), claim, now).await.expect("claim"));
        let is_live = record.is_ok_and(|record| is_live(record.as_ref()));
        self.check = is_live.then_some(seen);
        is_live
    }

    fn commit_check(&mut self) -> bool {
        let Some(mut seen) = self.check.take() else { return false };
        let so_far = CHECKPOINTS[self.checks as usize];
        self.checks += 1;
        while let Some(entry) = self.ledger.counted(0, &seen, so_far, self.now) {
            let counted = entry.counted;
            if self.ledger.check(0, &seen, entry, self.now.plus_seconds(HOLD_SECONDS)) {
                self.reported[0] = self.reported[0].max(so_far);
                self.send(true, Some((0, Progress::Used(counted))));
                break;
            }
            seen = self.ledger.seen(0);
        }
        true
    }

    fn resolve(&mut self, protocol: Protocol) -> bool {
        let now = self.now;
        let due = self.store.ask(async |counters| counters.due(now, 10).await.expect("due"));
        for number in 0..2 {
            let Some(record) = due.iter().find(|record| record.reservation == id(number)) else {
                continue;
            };
            let counted = self.ledger.checkpoint(number).map(|checkpoint| checkpoint.entry.counted);
            let is_recorded = counted.filter(|counted| match record.claimed {
                Some(Claim::UpTo(claimed)) => claimed.beyond(*counted) == Amounts::ZERO,
                _ => false,
            });
            let progress = match (self.ledger.end(number), is_recorded) {
                (None, Some(counted)) if record.expires_at > now => Progress::Used(counted),
                (end, _) => {
                    if end.is_none() && protocol.fence {
                        self.ledger.end_with_checkpoint(number, End::Expired);
                    }
                    Progress::Ended(end.unwrap_or(End::Expired))
                }
            };
            let row = Some(self.ledger.row.clone());
            self.apply(Apply {
                row,
                of: Some((number, progress)),
            });
        }
        // A stream whose last checkpoint is past its hold, and that nobody settled.
        let is_over = self.ledger.checkpoint(0).is_some_and(|checkpoint| checkpoint.expires_at <= now);
        let runs_on = |record: &Record| record.end.is_none() && record.expires_at > now;
        let streams = is_over && !self.found(&self.store, 0).as_ref().is_some_and(runs_on);
        if streams {
            self.ledger.end_with_checkpoint(0, End::Expired);
            self.send(true, Some((0, Progress::Ended(End::Expired))));
        }
        !due.is_empty() || streams
    }

    fn rebuild(&mut self, step: Step) -> bool {
        if let Step::Begin(place) = step {
            // Whoever begins has waited until the one before may be joined.
            self.now = self.now.plus_micros(REBUILD_JOIN_MILLIS_MAX * 1_000);
            let now = self.now;
            let begun = self
                .store
                .ask(async |counters| counters.begin(&of(), &Whose::Workspace, now).await.expect("begin"));
            if let Begun::Started { token, adopt } = begun {
                // Without anything to adopt there are no ends to read.
                let (ends, row) = (adopt.is_empty().then(Vec::new), None);
                self.rebuilders[place] = Some(Rebuilder { token, adopt, ends, row });
            }
            self.begins += 1;
            return true;
        }
        let (Step::ReadEnds(place) | Step::ReadRows(place) | Step::Finish(place)) = step else {
            return false;
        };
        let Some(mut rebuilder) = self.rebuilders[place].take() else {
            return false;
        };
        match (step, &rebuilder.ends, &rebuilder.row) {
            (Step::ReadEnds(_), ..) => {
                let number = |asked: &ReservationId| (0..2).find(|number| id(*number) == *asked);
                let read = |asked: &ReservationId| Some((*asked, self.progress(number(asked)?)?));
                rebuilder.ends = Some(rebuilder.adopt.iter().filter_map(read).collect());
                self.rebuilders[place] = Some(rebuilder);
            }
            (Step::ReadRows(_), ..) => {
                rebuilder.row = Some(self.ledger.row.clone());
                self.rebuilders[place] = Some(rebuilder);
            }
            (_, Some(ends), Some(row)) => {
                let rebuilt = Rebuilt {
                    token: rebuilder.token,
                    adopted: ends,
                    rows: std::slice::from_ref(row),
                    purses: &[],
                };
                let now = self.now;
                self.store.ask(async |counters| {
                    let workspace = of();
                    let finish = counters.finish(&workspace, &Whose::Workspace, &rebuilt, now);
                    finish.await.expect("finish")
                });
            }
            _ => return false,
        }
        true
    }

    /// What may be beyond the limit, or beyond what the store knows: what was recorded late, died with the store or was held by nobody.
    pub(super) fn excused(&self) -> i64 {
        self.ledger.late + self.died + self.direct
    }

    pub(super) fn all_applied(&self) -> bool {
        self.applies.is_empty() && self.unapplied == 0
    }

    /// How far the reports go that were acknowledged.
    pub(super) fn reported(&self) -> i64 {
        self.reported.iter().sum::<i64>() + self.direct
    }
}
