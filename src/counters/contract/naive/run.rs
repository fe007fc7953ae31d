//! Runs in the naive store: a parent has a line for each call, and what it has left is what it took without its lines.

use super::{Hold, State};
use crate::counters::run::{ChildOutcome, ChildRequest, Lending, Run, Unfit};
use crate::counters::{HoldOutcome, Record};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::ReservationId;
use crate::decision::run;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;

/// What one call takes of its parent.
#[derive(Clone, Debug)]
pub(super) struct Line {
    call: u64,
    lives: bool,
    lent: Amounts,
    used: Amounts,
}

impl Hold {
    /// Reports so much in all, if it says anything. What the calls of a parent used is known from them.
    pub(super) fn use_in_all(&mut self, used: Option<Amounts>) {
        if let Some(used) = used.filter(|_| !self.is_parent()) {
            self.record.used = self.record.used.max(used);
        }
    }

    /// What a line says of a call that ended, beyond its use: attempts that some rate still counts.
    pub(super) fn attempts(&self) -> Amounts {
        let is_kept = |counter: &&Counter| counter.unit == Unit::Requests && self.holds(counter) > 0;
        let kept = self.counters.iter().find(is_kept);
        Amounts {
            requests: kept.map_or(0, |counter| self.holds(counter)),
            ..Amounts::ZERO
        }
    }
}

impl State {
    /// Writes each live parent's lines anew from what its calls are by now. The lines of a call that ended stay as they are.
    pub(super) fn follow_calls(&mut self) {
        if !self.holds.iter().any(Hold::is_parent) {
            return;
        }
        let holds = self.holds.clone();
        for parent in self.holds.iter_mut().filter(|hold| hold.is_parent() && hold.record.end.is_none()) {
            for line in parent.lines.iter_mut().filter(|line| line.lives) {
                let call = holds.iter().find(|hold| hold.serial == line.call);
                line.lives = call.is_some_and(|call| call.record.end.is_none());
                line.lent = call.filter(|_| line.lives).map_or(Amounts::ZERO, Hold::remaining);
                if let Some(call) = call {
                    let tried = if line.lives { Amounts::ZERO } else { call.attempts() };
                    line.used = call.record.used.plus(tried);
                }
            }
            let sum = |of: fn(&Line) -> Amounts| parent.lines.iter().map(of).fold(Amounts::ZERO, Amounts::plus);
            parent.record.used = sum(|line| line.used);
            parent.record.run = Some(Run::Parent(Lending {
                lent: sum(|line| line.lent),
                calls: parent.lines.len() as i64,
                children: parent.lines.iter().filter(|line| line.lives).count() as i64,
            }));
        }
    }

    /// A call that had given back what it held did use so much more: its run has that much less.
    pub(super) fn use_late(&mut self, call: u64, more: Amounts) {
        if !self.rules.late_use {
            return;
        }
        let live = self.holds.iter_mut().filter(|hold| hold.record.end.is_none());
        for line in live.flat_map(|hold| &mut hold.lines).filter(|line| line.call == call) {
            line.used = line.used.plus(more);
        }
    }

    pub(super) fn admit_child(&mut self, request: &ChildRequest) -> ChildOutcome {
        match self.recall(&request.workspace, request.reservation, request.fingerprint) {
            None => {}
            Some(HoldOutcome::Replayed(record)) => return ChildOutcome::Replayed(record),
            Some(HoldOutcome::Ended(end)) => return ChildOutcome::Ended(end),
            Some(HoldOutcome::Unready(groups)) => return ChildOutcome::Unready(groups),
            Some(_) => return ChildOutcome::Mismatch,
        }
        let place = self.holds.iter().position(|hold| hold.record.reservation == request.parent);
        let Some(place) = place.filter(|place| self.holds[*place].record.workspace == request.workspace) else {
            return ChildOutcome::NoParent;
        };
        let parent = &self.holds[place];
        let reported = parent.record.claimed.is_some() || parent.record.used != Amounts::ZERO;
        if let Some(end) = parent.record.end {
            return ChildOutcome::ParentEnded(end);
        } else if !self.is_compared(&request.workspace) {
            return ChildOutcome::Unready(vec![Whose::Workspace]);
        } else if self.is_lost(parent) {
            return ChildOutcome::ParentEnded(End::Expired);
        } else if parent.record.held_at != request.parent_held_at {
            return ChildOutcome::NoParent;
        } else if parent.parent.is_some() {
            return ChildOutcome::Unfit(Unfit::Child);
        } else if reported && !parent.is_parent() {
            return ChildOutcome::Unfit(Unfit::Reported);
        } else if parent.record.expires_at <= request.now {
            return ChildOutcome::ParentEnded(End::Expired);
        }
        let open = self
            .of_workspace(&request.workspace)
            .filter(|hold| hold.record.end.is_none())
            .count();
        if open >= request.open_max as usize {
            return ChildOutcome::TooManyOpen;
        }
        let units = run::units(parent.counters.iter().map(|counter| counter.unit));
        let admits = request.calls_max.is_none_or(|most| (parent.lines.len() as i64) < most);
        let taken = run::first_fit(&request.rungs, &units, parent.remaining()).filter(|_| admits);
        let Some(taken) = taken else {
            return ChildOutcome::Exhausted(Box::new(parent.record.clone()));
        };
        let record = Record {
            reservation: request.reservation,
            fingerprint: request.fingerprint,
            context: request.context.clone(),
            taken,
            held_at: request.now,
            expires_at: request.rungs[taken.rung].expires_at.min(parent.record.expires_at),
            run: Some(Run::Child(request.parent)),
            used: Amounts::ZERO,
            ..parent.record.clone()
        };
        let serial = self.serial();
        let parent = &mut self.holds[place];
        parent.charged = false;
        parent.record.run.get_or_insert(Run::Parent(Lending::default()));
        parent.lines.push(Line {
            call: serial,
            lives: true,
            lent: taken.amounts,
            used: Amounts::ZERO,
        });
        let call = Hold {
            record: record.clone(),
            charged: request.charge_on_expiry,
            untold: request.tell_on_expiry,
            claimed_at: request.now,
            serial,
            parent: Some(parent.serial),
            lines: Vec::new(),
            ..parent.clone()
        };
        self.holds.push(call);
        self.follow_calls();
        ChildOutcome::Held(Box::new(record))
    }

    /// The live hold that a call draws from.
    fn parent_of(&self, call: &Hold) -> Option<&Hold> {
        let live = self.holds.iter().find(|hold| Some(hold.serial) == call.parent);
        live.filter(|hold| hold.record.end.is_none())
    }

    /// No call outlives its parent, and none is extended after it.
    pub(super) fn run_ends_at(&self, id: ReservationId) -> Timestamp {
        let call = self.holds.iter().find(|hold| hold.record.reservation == id);
        match call.filter(|hold| hold.parent.is_some()) {
            Some(call) => self.parent_of(call).map_or(Timestamp::MIN, |parent| parent.record.expires_at),
            None => Timestamp::MAX,
        }
    }

    /// What a counter gets back when a hold runs out.
    pub(super) fn freed_by_expiry(&self, hold: &Hold, counter: &Counter) -> i64 {
        match hold.record.run {
            Some(Run::Parent(lending)) if hold.counters.contains(counter) => hold.holds(counter) + lending.lent.of(counter.unit),
            Some(Run::Child(_)) if self.parent_of(hold).is_some() => 0,
            _ => hold.holds(counter),
        }
    }
}
