//! A workspace: its groups of counters, and its live holds in the order in which they expire.

use super::group::Group;
use crate::decision::amount::Amounts;
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use foldhash::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reservations by a moment of theirs.
pub(super) type Index = BTreeSet<(Timestamp, ReservationId)>;

#[derive(Default)]
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
