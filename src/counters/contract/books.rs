//! A ledger that cannot fail, for [`World`](super::world::World): one row for each counter, one end for each reservation.

use super::desk::row;
use crate::counters::{Applied, Progress, SumRow};
use crate::decision::amount::Amounts;
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::collections::BTreeMap;

/// How a reservation stands.
#[derive(Clone, Default)]
pub(super) struct Standing {
    /// What it was held for last.
    pub(super) held: Amounts,
    pub(super) counters: Vec<Counter>,
    pub(super) charged: bool,
    pub(super) held_at: Option<Timestamp>,
    pub(super) is_call: bool,
    pub(super) reported: Amounts,
    pub(super) end: Option<End>,
}

#[derive(Default)]
pub(super) struct Books {
    sums: BTreeMap<(WorkspaceId, Counter), SumRow>,
    versions: i64,
    standings: BTreeMap<ReservationId, Standing>,
}

impl Books {
    pub(super) fn rows(&self) -> impl Iterator<Item = &SumRow> {
        self.sums.values()
    }

    pub(super) fn standing(&self, id: ReservationId) -> Standing {
        self.standings.get(&id).cloned().unwrap_or_default()
    }

    /// Notes what a reservation was held for, on which counters.
    pub(super) fn open(&mut self, id: ReservationId, held: Amounts, counters: Vec<Counter>, charged: bool, now: Timestamp) {
        let standing = self.standings.entry(id).or_default();
        (standing.held, standing.counters, standing.charged) = (held, counters, charged);
        (standing.held_at, standing.is_call) = (Some(now), false);
    }

    /// Notes the same of a call of a run, which holds on the counters of its parent.
    pub(super) fn open_call(&mut self, id: ReservationId, parent: ReservationId, held: Amounts, charged: bool, now: Timestamp) {
        self.open(id, held, self.standing(parent).counters, charged, now);
        self.standings.entry(id).or_default().is_call = true;
    }

    /// Records how far a reservation has come: this much in all, and perhaps its end.
    pub(super) fn post(&mut self, workspace: &WorkspaceId, id: ReservationId, used: Amounts, end: Option<End>) {
        let standing = self.standings.entry(id).or_default();
        let more = used.beyond(standing.reported);
        standing.reported = standing.reported.max(used);
        standing.end = end;
        for counter in standing.counters.clone() {
            self.add(workspace, &counter, more.of(counter.unit));
        }
    }

    /// Adds to a counter's row, which is born if it is missing, and returns it.
    pub(super) fn add(&mut self, workspace: &WorkspaceId, counter: &Counter, amount: i64) -> SumRow {
        self.versions += 1;
        let key = (workspace.clone(), counter.clone());
        let sum = self.sums.entry(key).or_insert_with(|| row(counter, 0, 0));
        sum.spent += amount;
        sum.version = self.versions;
        sum.clone()
    }

    /// What brings a store to where a reservation stands now.
    pub(super) fn commit(&self, workspace: &WorkspaceId, id: ReservationId) -> Applied {
        let standing = self.standing(id);
        let row = |counter: &Counter| self.sums.get(&(workspace.clone(), counter.clone())).cloned();
        let progress = match standing.end {
            None => Progress::Used(standing.reported),
            Some(end) => Progress::ended(end, Some(standing.reported).filter(|_| standing.is_call)),
        };
        Applied {
            rows: standing.counters.iter().filter_map(row).collect(),
            reservation: Some((id, progress)),
        }
    }

    /// The rows of a group, those of `named` born where they were missing.
    pub(super) fn group(&mut self, workspace: &WorkspaceId, whose: &Whose, named: &[Counter]) -> Vec<SumRow> {
        for counter in named.iter().filter(|counter| counter.whose == *whose) {
            if !self.sums.contains_key(&(workspace.clone(), counter.clone())) {
                self.add(workspace, counter, 0);
            }
        }
        let of_group = self
            .sums
            .iter()
            .filter(|((of, counter), _)| of == workspace && counter.whose == *whose);
        of_group.map(|(_, row)| row.clone()).collect()
    }
}
