//! The workspaces and reservations of one shard. Every method is one atomic step: its caller holds the shard's lock, and nothing awaits.
//!
//! Invariant: a live hold stands in exactly one index, that of what it waits for, and holds on its counters exactly what remains of it. One
//! whose end by itself is to be told stands in the ledger's index besides, until the ledger knows of its end.

use super::group::{Group, is_sticky};
use super::hold::{Hold, Remembered, Tombstone, Wait, is_forgotten};
use super::upkeep::{TombstoneBudget, Upkeep};
use super::workspace::{Index, Workspace};
use crate::counters::{Applied, Begun, Claim, Extended, FINGERPRINT_UNKNOWN, HoldOutcome, HoldRequest, Progress, Rebuilt, Record};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::grant::PurseUse;
use crate::decision::id::{ReservationId, WorkspaceId, slot};
use crate::decision::rung::{Taken, first_fit};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use foldhash::{HashMap, HashMapExt};
use std::ops::Bound;
use std::sync::Arc;

pub(super) struct Shard {
    pub(super) workspaces: HashMap<WorkspaceId, Workspace>,
    pub(super) records: HashMap<ReservationId, Remembered>,
    /// Live holds that only the ledger ends, by when it is asked, and what ends by itself and is to be told.
    pub(super) due: Index,
    /// Where the last call that asked what is due began, and where it stopped because that was all it could take.
    pub(super) named_from: Option<(Timestamp, ReservationId)>,
    pub(super) named_last: Option<(Timestamp, ReservationId)>,
    /// How many holds are live, as far as anybody looked.
    pub(super) open: u64,
    pub(super) upkeep: Upkeep,
}

/// The index in which a hold that waits so stands, and its key there.
fn place<'a>(
    reservation: ReservationId,
    wait: Wait,
    expiring: &'a mut Index,
    due: &'a mut Index,
) -> (&'a mut Index, (Timestamp, ReservationId)) {
    match wait {
        Wait::Expiry(at) => (expiring, (at, reservation)),
        Wait::Ledger(at) => (due, (at, reservation)),
    }
}

impl Shard {
    pub(super) fn new(budget: Arc<TombstoneBudget>) -> Self {
        Self {
            workspaces: HashMap::new(),
            records: HashMap::new(),
            due: Index::new(),
            named_from: None,
            named_last: None,
            open: 0,
            upkeep: Upkeep::new(budget),
        }
    }

    pub(super) fn hold(&mut self, request: &HoldRequest) -> HoldOutcome {
        self.upkeep(request.now);
        self.expire(&request.workspace, request.now);
        if let Some(known) = self.recall((&request.workspace, request.reservation), request.fingerprint, request.now) {
            return known;
        }
        let balances = match self.read(
            &request.workspace,
            &request.counters,
            &request.purses,
            request.named_since,
            request.now,
        ) {
            Ok(balances) => balances,
            Err(groups) => return HoldOutcome::Unready(groups),
        };
        let open = self.workspaces.get(&request.workspace).map_or(0, |workspace| workspace.open);
        if open >= request.open_max {
            return HoldOutcome::TooManyOpen { balances };
        }
        let units: Vec<Unit> = request.counters.iter().map(|counter| counter.unit).collect();
        let Some(taken) = first_fit(&request.rungs, &units, &balances) else {
            return HoldOutcome::Short { balances };
        };
        self.take(request, taken, &balances);
        HoldOutcome::Held { taken, before: balances }
    }

    /// The answer to a request whose reservation is known already.
    pub(super) fn recall(
        &mut self,
        (workspace, id): (&WorkspaceId, ReservationId),
        fingerprint: u128,
        now: Timestamp,
    ) -> Option<HoldOutcome> {
        self.refresh(id, now);
        let known = self.records.get(&id)?;
        Some(if !known.is_of(workspace, fingerprint) {
            HoldOutcome::Mismatch
        } else if let Some((end, _)) = known.ended() {
            HoldOutcome::Ended(end)
        } else {
            HoldOutcome::Replayed(Box::new(known.record(id)))
        })
    }

    /// Writes down a hold that fits.
    fn take(&mut self, request: &HoldRequest, taken: Taken, before: &[Balance]) {
        let now = request.now;
        let workspace = self.workspaces.entry(request.workspace.clone()).or_insert_with(|| {
            self.upkeep.visit(&request.workspace, None, now);
            Workspace::default()
        });
        let hold_one = |(counter, before): (&Counter, &Balance)| (workspace.hold(counter, taken.amounts.of(counter.unit)), *before);
        let hold = Hold {
            workspace: request.workspace.clone(),
            fingerprint: request.fingerprint,
            context: request.context.clone(),
            counters: request.counters.iter().zip(before).map(hold_one).collect::<Box<[_]>>(),
            taken,
            held_at: now,
            expires_at: request.rungs[taken.rung].expires_at,
            charge_on_expiry: request.charge_on_expiry,
            tell_on_expiry: request.tell_on_expiry,
            reported: None,
            kin: None,
            expired_at: None,
        };
        for used in &request.purses {
            workspace.note_holder(used, &hold.counters[used.counter].0, now);
        }
        self.open(request.reservation, hold);
    }

    /// Puts a new hold in its place.
    pub(super) fn open(&mut self, id: ReservationId, hold: Hold) {
        if let Some(workspace) = self.workspaces.get_mut(&hold.workspace) {
            let (index, key) = place(id, hold.wait(), &mut workspace.expiring, &mut self.due);
            index.insert(key);
            self.due.extend(hold.told_at().map(|at| (at, id)));
            workspace.open += 1;
            self.open += 1;
            self.records.insert(id, Remembered::Hold(Box::new(hold)));
        }
    }

    pub(super) fn find(&mut self, id: ReservationId, now: Timestamp) -> Option<Record> {
        self.refresh_run(id, now);
        self.records.get(&id).map(|known| known.record(id))
    }

    pub(super) fn claim(&mut self, id: ReservationId, claim: Claim, now: Timestamp) -> Option<Record> {
        self.refresh_run(id, now);
        if !self.is_parent(id) {
            self.change(id, |hold| hold.claim(claim, now));
        }
        self.records.get(&id).map(|known| known.record(id))
    }

    pub(super) fn extend(&mut self, id: ReservationId, until: Timestamp, now: Timestamp) -> Extended {
        self.refresh(id, now);
        let until = until.min(self.latest_expiry(id, now));
        self.change(id, |hold| hold.extend(until));
        match self.records.get(&id) {
            None => Extended::Unknown,
            Some(Remembered::Hold(hold)) if hold.is_live() => Extended::Until(hold.expires_at),
            Some(Remembered::Hold(_)) => Extended::Ended(End::Expired),
            Some(Remembered::Tombstone(tombstone)) => Extended::Ended(tombstone.end),
        }
    }

    pub(super) fn apply(
        &mut self,
        id: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Vec<Option<Balance>> {
        self.upkeep(now);
        if let Some(workspace) = self.workspaces.get_mut(id) {
            for row in &applied.rows {
                // A group that is not here will read the ledger after this commit, so nothing is missed.
                if let Some(group) = workspace.groups.get_mut(&row.counter.whose) {
                    group.touch(now);
                    group.set(row, now);
                }
            }
            if let Some(group) = workspace.groups.get_mut(&Whose::Workspace) {
                applied.purses.iter().for_each(|purse| group.set_purse(purse));
            }
        }
        if let Some((reservation, progress)) = applied.reservation {
            self.progress(id, reservation, progress, now);
        }
        self.expire(id, now);
        let workspace = self.workspaces.get(id);
        let by_row = |counter: &Counter| workspace?.groups.get(&counter.whose)?.balance_by_row(counter, now);
        let mut balances: Vec<Option<Balance>> = read.iter().map(by_row).collect();
        for used in purses {
            let counter = &read[used.counter];
            if let (Some(balance), Some(workspace)) = (&mut balances[used.counter], workspace) {
                let left = workspace.left(used, counter, now).unwrap_or(0);
                balance.granted = workspace.paid(counter).saturating_add(left);
            }
        }
        balances
    }

    /// Follows a reservation to where the ledger has it. One that belongs to another workspace is left alone.
    fn progress(&mut self, workspace: &WorkspaceId, id: ReservationId, progress: Progress, now: Timestamp) {
        self.refresh(id, now);
        let known = self.records.get(&id).map(|known| (known.workspace() == workspace, known.ended()));
        if matches!(known, Some((true, _))) && !matches!(progress, Progress::Used(_)) {
            self.told(id);
        }
        match (known, progress) {
            // What the calls of a parent used is known from them.
            (Some((true, None)), Progress::Used(_)) if self.is_parent(id) => {}
            (Some((true, None)), Progress::Used(amounts)) => self.change(id, |hold| hold.apply(amounts)),
            (Some((true, None)), Progress::Ended(end)) => {
                self.use_up(id, (end == End::Settled).then_some(Amounts::MAX));
                self.end(id, end, now);
            }
            (Some((true, None)), Progress::EndedUsing(end, used)) => {
                self.use_up(id, Some(used));
                self.end(id, end, now);
            }
            (Some((true, Some((End::Expired, _)))), Progress::Ended(End::Settled)) => self.settle_late(id, None, now),
            (Some((true, Some((End::Expired, _)))), Progress::EndedUsing(End::Settled, used)) => self.settle_late(id, Some(used), now),
            (None, Progress::Ended(end) | Progress::EndedUsing(end, _)) if id.slot() == slot(workspace) => {
                self.bury(id, workspace.clone(), FINGERPRINT_UNKNOWN, end, now);
            }
            _ => {}
        }
    }

    pub(super) fn begin(&mut self, workspace: &WorkspaceId, whose: &Whose, token: u64, now: Timestamp) -> Begun {
        self.upkeep(now);
        let upkeep = &mut self.upkeep;
        let known = self.workspaces.entry(workspace.clone()).or_insert_with(|| {
            upkeep.visit(workspace, None, now);
            Workspace::default()
        });
        let group = known.groups.entry(whose.clone()).or_insert_with(|| {
            upkeep.visit(workspace, Some(whose), now);
            Group::new(now)
        });
        group.touch(now);
        group.begin(token, now)
    }

    pub(super) fn finish(&mut self, id: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> bool {
        let workspace = self.workspaces.get_mut(id);
        let group = workspace.and_then(|workspace| workspace.groups.get_mut(whose));
        let finished = group.is_some_and(|group| group.finish(rebuilt.token, rebuilt.rows, rebuilt.purses, now));
        // No copy ever comes back here, so there is nothing to adopt but what a caller insists on.
        for (reservation, progress) in rebuilt.adopted.iter().filter(|_| finished) {
            self.progress(id, *reservation, *progress, now);
        }
        finished
    }

    /// At most `limit` holds for which the ledger is to be asked, with the moment since when: those after the one that was named last, or
    /// again those up to there from which the call before went on.
    pub(super) fn due(&mut self, now: Timestamp, limit: usize, is_again: bool) -> Vec<(Timestamp, Record)> {
        if limit == 0 {
            return Vec::new();
        }
        let bounds = match (is_again, self.named_from) {
            (false, _) => {
                self.named_from = self.named_last;
                (self.named_last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
            }
            (true, Some(from)) => (Bound::Unbounded, Bound::Included(from)),
            (true, None) => return Vec::new(),
        };
        let waiting = self.due.range(bounds).take_while(|(at, _)| *at <= now).take(limit);
        let waiting: Vec<_> = waiting.copied().collect();
        self.named_last = waiting.last().copied().filter(|_| waiting.len() == limit);
        waiting.iter().for_each(|(_, id)| self.refresh(*id, now));
        let waiting = waiting.into_iter();
        waiting
            .filter_map(|(at, id)| Some((at, self.records.get(&id)?.record(id))))
            .collect()
    }

    /// The ledger knows how a reservation ended, so whoever wants to hear of it is told from there.
    fn told(&mut self, id: ReservationId) {
        if let Some(Remembered::Hold(hold)) = self.records.get_mut(&id) {
            hold.told_at().map(|at| self.due.remove(&(at, id)));
            hold.tell_on_expiry = false;
        }
    }

    /// Ends all holds of a workspace whose expiry has passed.
    pub(super) fn expire(&mut self, workspace: &WorkspaceId, now: Timestamp) {
        while let Some((at, id)) = self.workspaces.get_mut(workspace).and_then(|known| known.pop_expired(now)) {
            self.end(id, End::Expired, at);
        }
    }

    /// Brings one reservation up to `now`: past its expiry a hold has ended, and after a day an end is forgotten.
    pub(super) fn refresh(&mut self, id: ReservationId, now: Timestamp) {
        let Some(known) = self.records.get_mut(&id) else {
            return;
        };
        if let Some(Wait::Expiry(at)) = known.live().map(|hold| hold.wait())
            && at <= now
        {
            self.end(id, End::Expired, at);
        }
        let ended = self.records.get(&id).and_then(Remembered::ended);
        if ended.is_some_and(|(_, at)| is_forgotten(at, now)) {
            self.forget(id);
        }
    }

    /// Changes a live hold, and frees what no longer remains of it.
    pub(super) fn change(&mut self, id: ReservationId, change: impl FnOnce(&mut Hold)) {
        let draws = self.draws(id);
        let Some(less) = self.alter(id, change) else { return };
        let freed = match draws {
            Some((parent, used)) => less.plus(self.follow(&parent, less, self.used_since(id, used), false)),
            None => less,
        };
        self.free(id, freed, |_| true);
    }

    /// Changes a live hold and moves it to the index of what it now waits for. Says by how much less remains of it; frees nothing.
    pub(super) fn alter(&mut self, id: ReservationId, change: impl FnOnce(&mut Hold)) -> Option<Amounts> {
        let hold = self.records.get_mut(&id).and_then(Remembered::live)?;
        let workspace = self.workspaces.get_mut(&hold.workspace)?;
        let (wait, told_at, remaining) = (hold.wait(), hold.told_at(), hold.remaining());
        change(hold);
        if (hold.wait(), hold.told_at()) != (wait, told_at) {
            told_at.map(|at| self.due.remove(&(at, id)));
            let (index, key) = place(id, wait, &mut workspace.expiring, &mut self.due);
            index.remove(&key);
            let (index, key) = place(id, hold.wait(), &mut workspace.expiring, &mut self.due);
            index.insert(key);
            self.due.extend(hold.told_at().map(|at| (at, id)));
        }
        Some(remaining.minus(hold.remaining()))
    }

    /// Frees amounts on those counters of a live hold that are `wanted`.
    pub(super) fn free(&mut self, id: ReservationId, amounts: Amounts, wanted: impl Fn(&Counter) -> bool) {
        let Some(hold) = self.records.get_mut(&id).and_then(Remembered::live) else {
            return;
        };
        if amounts != Amounts::ZERO
            && let Some(workspace) = self.workspaces.get_mut(&hold.workspace)
        {
            workspace.free(hold.counters().filter(|counter| wanted(counter)), amounts);
        }
    }

    /// Ends a live hold: what remains of it is free, or goes back to where it was drawn from.
    fn end(&mut self, id: ReservationId, end: End, at: Timestamp) {
        let draws = self.draws(id);
        let Some(hold) = self.records.get_mut(&id).and_then(Remembered::live) else {
            return;
        };
        let Some(workspace) = self.workspaces.get_mut(&hold.workspace) else {
            return;
        };
        let (index, key) = place(id, hold.wait(), &mut workspace.expiring, &mut self.due);
        index.remove(&key);
        workspace.open -= 1;
        self.open -= 1;
        let (keeps_rates, mut left) = (hold.keeps_rates(end), hold.remaining());
        if let Some((parent, _)) = draws {
            let tried = if keeps_rates { hold.attempts() } else { Amounts::ZERO };
            left = left.plus(self.follow(&parent, left, tried, true));
        }
        self.free(id, left, |counter| !(keeps_rates && is_sticky(counter)));
        let Some(hold) = self.records.get_mut(&id).and_then(Remembered::live) else {
            return;
        };
        if end == End::Expired {
            // A late settle wants all that it said.
            hold.expired_at = Some(at);
            self.upkeep.graves.grow(hold.bytes());
            self.upkeep.graves.push(at, id);
        } else {
            let (workspace, fingerprint) = (hold.workspace.clone(), hold.fingerprint);
            self.bury(id, workspace, fingerprint, end, at);
        }
    }

    /// An expired reservation was settled after all: its requests are spent now, so no rate keeps them a second time. A call used what it had
    /// given back to its run; no word of it means as much as it held.
    fn settle_late(&mut self, id: ReservationId, used: Option<Amounts>, now: Timestamp) {
        self.use_late(id, used);
        let Some(known) = self.records.remove(&id) else {
            return;
        };
        self.upkeep.graves.shrink(known.bytes());
        let (workspace, fingerprint) = match known {
            Remembered::Tombstone(tombstone) => (tombstone.workspace, tombstone.fingerprint),
            Remembered::Hold(hold) => {
                if let Some(workspace) = self.workspaces.get_mut(&hold.workspace) {
                    let kept = hold
                        .counters()
                        .filter(|counter| hold.keeps_rates(End::Expired) && is_sticky(counter));
                    workspace.free(kept, hold.remaining());
                }
                (hold.workspace, hold.fingerprint)
            }
        };
        self.bury(id, workspace, fingerprint, End::Settled, now);
    }

    /// Leaves a tombstone in place of whatever was there.
    fn bury(&mut self, id: ReservationId, workspace: WorkspaceId, fingerprint: u128, end: End, ended_at: Timestamp) {
        let tombstone = Remembered::Tombstone(Box::new(Tombstone {
            workspace,
            fingerprint,
            end,
            ended_at,
        }));
        self.upkeep.graves.grow(tombstone.bytes());
        self.upkeep.graves.push(ended_at, id);
        self.records.insert(id, tombstone);
    }

    /// Forgets a reservation that has ended.
    pub(super) fn forget(&mut self, id: ReservationId) {
        self.told(id);
        if let Some(known) = self.records.remove(&id) {
            self.upkeep.graves.shrink(known.bytes());
        }
    }
}
