//! A workspace: its groups of counters, and its live holds in the order in which they expire.

use super::group::Group;
use crate::counters::PURSE_HOLDERS_MAX;
use crate::decision::amount::Amounts;
use crate::decision::counter::{Counter, Whose};
use crate::decision::grant::PurseUse;
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use foldhash::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reservations by a moment of theirs.
pub(super) type Index = BTreeSet<(Timestamp, ReservationId)>;

#[derive(Default)]
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) struct Workspace {
    pub(super) groups: HashMap<Whose, Group>,
    /// Live holds that end by themselves, by their expiry.
    pub(super) expiring: Index,
    pub(super) open: u32,
}

impl Workspace {
    /// Holds `amount` on a counter whose balance was read in this same step.
    pub(super) fn hold(&mut self, counter: &Counter, amount: i64) -> Arc<Counter> {
        let group = self.groups.get_mut(&counter.whose);
        group.expect("its balance was read in this same step").hold(counter, amount)
    }

    /// What a purse has left for one counter: less what the others hold on it. `None`: only the ledger knows.
    pub(super) fn left(&self, used: &PurseUse, counter: &Counter, now: Timestamp) -> Option<i64> {
        let cell = self.groups.get(&Whose::Workspace)?.purse(&used.budget, counter.unit, now)?;
        let others = cell.holders.iter().filter(|(other, _)| **other != *counter);
        let held = others.map(|(other, hard)| self.on_grants(other, *hard, now));
        let (count, sum) = held
            .filter(|held| *held > 0)
            .fold((0, 0i64), |(count, sum), held| (count + 1, sum.saturating_add(held)));
        Some(if count < PURSE_HOLDERS_MAX {
            cell.purse.left.saturating_sub(sum).max(0)
        } else {
            0
        })
    }

    /// What grants paid of a counter.
    pub(super) fn paid(&self, counter: &Counter) -> i64 {
        self.groups.get(&counter.whose).map_or(0, |group| group.paid(counter))
    }

    fn on_grants(&self, counter: &Counter, hard: i64, now: Timestamp) -> i64 {
        let group = self.groups.get(&counter.whose);
        group.map_or(0, |group| group.on_grants(counter, hard, now))
    }

    /// Notes that a counter holds on a purse, if it does. One that is new there takes the place of those that no longer do.
    pub(super) fn note_holder(&mut self, used: &PurseUse, counter: &Arc<Counter>, now: Timestamp) {
        if self.on_grants(counter, used.hard, now) == 0 {
            return;
        }
        let find = |group: &mut Group| group.purses.iter().position(|cell| cell.is_of(&used.budget, counter.unit));
        let Some(own) = self.groups.get_mut(&Whose::Workspace) else {
            return;
        };
        let Some(place) = find(own) else { return };
        let mut holders = std::mem::take(&mut own.purses[place].holders);
        match holders.iter_mut().find(|(other, _)| other == counter) {
            Some((_, hard)) => *hard = used.hard,
            None => {
                holders.retain(|(other, hard)| self.on_grants(other, *hard, now) > 0);
                holders.push((counter.clone(), used.hard));
            }
        }
        if let Some(own) = self.groups.get_mut(&Whose::Workspace) {
            own.purses[place].holders = holders;
        }
    }

    /// Frees what was held on these counters, of each what its unit says.
    pub(super) fn free<'a>(&mut self, counters: impl Iterator<Item = &'a Counter>, amounts: Amounts) {
        for counter in counters {
            if let Some(group) = self.groups.get_mut(&counter.whose) {
                group.free(counter, amounts.of(counter.unit));
            }
        }
    }

    /// Takes out the first hold that has expired by now, if there is one.
    pub(super) fn pop_expired(&mut self, now: Timestamp) -> Option<(Timestamp, ReservationId)> {
        let (at, _) = self.expiring.first()?;
        if *at <= now { self.expiring.pop_first() } else { None }
    }
}
