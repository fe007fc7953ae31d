//! Runs in memory: what a parent lends moves between two holds, and no counter hears of it.
//!
//! Invariant: what live holds have left adds up to what their counters hold. So whenever a call changes, its counters free by how much less
//! remains of it and of its parent together: nothing where amounts only move between the two, and never anything twice.

use super::group::is_sticky;
use super::hold::{Hold, Remembered};
use super::shard::Shard;
use crate::counters::run::{ChildOutcome, ChildRequest, Lending, Run, Unfit};
use crate::counters::{HoldOutcome, Record};
use crate::decision::amount::Amounts;
use crate::decision::id::ReservationId;
use crate::decision::run;
use crate::decision::rung::Taken;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;

/// What a hold is in a run.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Kin {
    /// Calls draw from it, and have used so much.
    Parent {
        lending: Lending,
        used: Amounts,
    },
    Child(Parent),
}

/// A parent as it was when a call drew from it: the same id held anew is another one.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Parent {
    id: ReservationId,
    held_at: Timestamp,
}

impl Kin {
    pub(super) fn told(&self) -> Run {
        match self {
            Kin::Parent { lending, .. } => Run::Parent(*lending),
            Kin::Child(parent) => Run::Child(parent.id),
        }
    }
}

impl Hold {
    /// As a parent: what it lends, and what its calls have used.
    pub(super) fn parent(&self) -> Option<(Lending, Amounts)> {
        match self.kin.as_deref()? {
            Kin::Parent { lending, used } => Some((*lending, *used)),
            Kin::Child(_) => None,
        }
    }

    fn drawn_from(&self) -> Option<Parent> {
        match self.kin.as_deref()? {
            Kin::Child(parent) => Some(*parent),
            Kin::Parent { .. } => None,
        }
    }

    /// What of its rest counts as used when it ends without a use on record: attempts, where a rate counts them.
    pub(super) fn attempts(&self) -> Amounts {
        let requests = if self.counters().any(is_sticky) {
            self.remaining().requests
        } else {
            0
        };
        Amounts { requests, ..Amounts::ZERO }
    }

    fn lend(&mut self, need: Amounts) {
        let (mut lending, used) = self.parent().unwrap_or_default();
        lending.lent = lending.lent.plus(need);
        lending.calls += 1;
        lending.children += 1;
        self.kin = Some(Box::new(Kin::Parent { lending, used }));
    }
}

impl Shard {
    pub(super) fn hold_child(&mut self, request: &ChildRequest) -> ChildOutcome {
        let now = request.now;
        self.upkeep(now);
        self.expire(&request.workspace, now);
        match self.recall((&request.workspace, request.reservation), request.fingerprint, now) {
            None => {}
            Some(HoldOutcome::Replayed(record)) => return ChildOutcome::Replayed(record),
            Some(HoldOutcome::Ended(end)) => return ChildOutcome::Ended(end),
            Some(_) => return ChildOutcome::Mismatch,
        }
        self.refresh(request.parent, now);
        let parent = match self.parent_for(request) {
            Ok(parent) => parent,
            Err(outcome) => return outcome,
        };
        let open = self.workspaces.get(&request.workspace).map_or(0, |workspace| workspace.open);
        if open >= request.open_max {
            return ChildOutcome::TooManyOpen;
        }
        let (lending, _) = parent.parent().unwrap_or_default();
        let has_calls = request.calls_max.is_none_or(|most| lending.calls < most);
        let units = run::units(parent.counters().map(|counter| counter.unit));
        match run::first_fit(&request.rungs, &units, parent.remaining()).filter(|_| has_calls) {
            Some(taken) => ChildOutcome::Held(self.take_from_parent(request, taken)),
            None => ChildOutcome::Exhausted(Box::new(parent.record(request.parent))),
        }
    }

    /// The hold that a call may draw from, or why not.
    fn parent_for(&self, request: &ChildRequest) -> Result<&Hold, ChildOutcome> {
        let known = self
            .records
            .get(&request.parent)
            .filter(|known| *known.workspace() == request.workspace)
            .ok_or(ChildOutcome::NoParent)?;
        if let Some((end, _)) = known.ended() {
            return Err(ChildOutcome::ParentEnded(end));
        }
        let Remembered::Hold(hold) = known else {
            return Err(ChildOutcome::NoParent);
        };
        let unfit = |why| Err(ChildOutcome::Unfit(why));
        if hold.held_at != request.parent_held_at {
            return Err(ChildOutcome::NoParent);
        } else if hold.drawn_from().is_some() {
            return unfit(Unfit::Child);
        } else if hold.parent().is_none() && hold.is_reported() {
            return unfit(Unfit::Reported);
        } else if hold.expires_at <= request.now {
            // One that is charged waits for the ledger, and is over all the same.
            return Err(ChildOutcome::ParentEnded(End::Expired));
        }
        Ok(hold)
    }

    /// Moves what was taken from the parent's hold to a new one on the same counters.
    fn take_from_parent(&mut self, request: &ChildRequest, taken: Taken) -> Box<Record> {
        self.alter(request.parent, |parent| parent.lend(taken.amounts));
        let parent = self.records.get_mut(&request.parent).and_then(Remembered::live);
        let parent = parent.expect("it lent in this same step");
        let hold = Hold {
            workspace: request.workspace.clone(),
            fingerprint: request.fingerprint,
            context: request.context.clone(),
            counters: parent.counters.clone(),
            taken,
            held_at: request.now,
            expires_at: request.rungs[taken.rung].expires_at.min(parent.expires_at),
            charge_on_expiry: request.charge_on_expiry,
            tell_on_expiry: request.tell_on_expiry,
            reported: None,
            kin: Some(Box::new(Kin::Child(Parent {
                id: request.parent,
                held_at: parent.held_at,
            }))),
            expired_at: None,
        };
        let record = Box::new(hold.record(request.reservation));
        self.open(request.reservation, hold);
        record
    }

    /// The parent that a live call draws from, and what the call has used so far.
    pub(super) fn draws(&self, id: ReservationId) -> Option<(Parent, Amounts)> {
        match self.records.get(&id)? {
            Remembered::Hold(hold) if hold.is_live() => Some((hold.drawn_from()?, hold.used())),
            _ => None,
        }
    }

    pub(super) fn used_since(&self, id: ReservationId, before: Amounts) -> Amounts {
        self.draws(id).map_or(Amounts::ZERO, |(_, used)| used.minus(before))
    }

    /// Has a parent follow what became of a call: `less` of it is lent, `used` more is used. Says by how much less remains of the parent,
    /// which is below zero where it got something back. A parent that has ended follows no more.
    pub(super) fn follow(&mut self, parent: &Parent, less: Amounts, used: Amounts, ended: bool) -> Amounts {
        let lives = match self.records.get(&parent.id) {
            Some(Remembered::Hold(hold)) => hold.is_live() && hold.held_at == parent.held_at && hold.parent().is_some(),
            _ => false,
        };
        if !lives {
            return Amounts::ZERO;
        }
        let follows = |hold: &mut Hold| {
            if let Some(Kin::Parent {
                lending,
                used: used_before,
            }) = hold.kin.as_deref_mut()
            {
                lending.lent = lending.lent.minus(less);
                lending.children -= i64::from(ended);
                *used_before = used_before.plus(used);
            }
        };
        self.alter(parent.id, follows).unwrap_or_default()
    }

    /// A call that is about to end has used so much in all, or as much as it held where that is less said than known.
    pub(super) fn use_up(&mut self, id: ReservationId, used: Option<Amounts>) {
        if let Some(used) = used.filter(|_| self.draws(id).is_some()) {
            self.change(id, |call| {
                let used = if used == Amounts::MAX { call.taken.amounts } else { used };
                call.apply(used);
            });
        }
    }

    /// A call that had given back what it held is settled after all: its run, while it lives, has that much less, and holds it no more.
    pub(super) fn use_late(&mut self, id: ReservationId, used: Option<Amounts>) {
        let Some(Remembered::Hold(call)) = self.records.get(&id) else {
            return;
        };
        let Some(parent) = call.drawn_from() else { return };
        let tried = if call.keeps_rates(End::Expired) {
            call.attempts()
        } else {
            Amounts::ZERO
        };
        let more = used.unwrap_or(call.taken.amounts).beyond(call.used()).beyond(tried);
        let freed = self.follow(&parent, Amounts::ZERO, more, false);
        self.free(parent.id, freed, |_| true);
    }

    pub(super) fn is_parent(&self, id: ReservationId) -> bool {
        let known = self.records.get(&id);
        matches!(known, Some(Remembered::Hold(hold)) if hold.is_live() && hold.parent().is_some())
    }

    /// Brings a reservation up to `now`, and if it is a parent its calls as well, so that it tells what it has left.
    pub(super) fn refresh_run(&mut self, id: ReservationId, now: Timestamp) {
        if self.is_parent(id)
            && let Some(workspace) = self.records.get(&id).map(|known| known.workspace().clone())
        {
            self.expire(&workspace, now);
        }
        self.refresh(id, now);
    }

    /// Until when a hold may be extended: a call never beyond its parent, and not at all once that has ended.
    pub(super) fn latest_expiry(&mut self, id: ReservationId, now: Timestamp) -> Timestamp {
        let Some((parent, _)) = self.draws(id) else {
            return Timestamp::MAX;
        };
        self.refresh(parent.id, now);
        match self.records.get(&parent.id) {
            Some(Remembered::Hold(hold)) if hold.is_live() && hold.held_at == parent.held_at => hold.expires_at,
            _ => Timestamp::MIN,
        }
    }

    /// What counters get back when this hold runs out: of a call nothing while its parent lives, of a parent all that its calls hold too.
    pub(super) fn freed_by_expiry(&self, hold: &Hold) -> Amounts {
        if let Some((lending, _)) = hold.parent() {
            return hold.remaining().plus(lending.lent);
        }
        let lives = hold.drawn_from().is_some_and(|parent| match self.records.get(&parent.id) {
            Some(Remembered::Hold(other)) => other.is_live() && other.held_at == parent.held_at,
            _ => false,
        });
        if lives { Amounts::ZERO } else { hold.remaining() }
    }
}
