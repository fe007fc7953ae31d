//! Counters in groups: those of a workspace's whole use are one group, those of each of its users another.
//!
//! A group is live from the end of its first rebuild on. What is spent is only ever set if newer; what is held is exactly what live holds
//! and sticky requests put there, so it is never below zero.

use crate::counters::{
    Begun, GROUP_IDLE_SECONDS, KEEP_ENDED_SECONDS, REBUILD_CLOCKS_MILLIS, REBUILD_JOIN_MILLIS, REBUILD_JOIN_MILLIS_MAX, SumRow,
};
use crate::decision::amount::Unit;
use crate::decision::counter::{Balance, Counter};
use crate::decision::grant::{self, Purse};
use crate::decision::id::BudgetId;
use crate::decision::period::PeriodKind;
use crate::decision::time::Timestamp;
use foldhash::{HashMap, HashMapExt};
use std::sync::Arc;

/// The counters of one [`Whose`](crate::decision::counter::Whose) in one workspace.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) struct Group {
    rebuild: Option<Rebuild>,
    /// When the first rebuild ended; `None`: not yet, so nothing may be admitted.
    built_at: Option<Timestamp>,
    used_at: Timestamp,
    cells: HashMap<Arc<Counter>, Cell>,
    /// What grants have left; of the workspace's own group.
    pub(super) purses: Vec<PurseCell>,
}

/// A purse, and the counters that have held on it, each with its limit then.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) struct PurseCell {
    pub(super) purse: Purse,
    pub(super) holders: Vec<(Arc<Counter>, i64)>,
}

impl PurseCell {
    pub(super) fn is_of(&self, budget: &BudgetId, unit: Unit) -> bool {
        self.purse.budget == *budget && self.purse.unit == unit
    }
}

/// A rebuild that has begun and not ended.
#[cfg_attr(test, derive(Clone, Debug))]
struct Rebuild {
    token: u64,
    /// When the last one who is at it began.
    begun_at: Timestamp,
    /// How long after that others wait.
    wait_millis: i64,
}

impl Rebuild {
    fn is_waited_for(&self, now: Timestamp) -> bool {
        let since = now.micros() - self.begun_at.micros();
        (-REBUILD_CLOCKS_MILLIS * 1_000 + 1..self.wait_millis * 1_000).contains(&since)
    }
}

#[cfg_attr(test, derive(Clone, Debug))]
struct Cell {
    /// The key again, for holds to share.
    counter: Arc<Counter>,
    /// The newest row that was copied here; `None`: none yet, the counter began at zero.
    sum: Option<Sum>,
    /// Wide enough that no number of holds makes it wrap.
    held: i128,
}

#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug))]
struct Sum {
    spent: i64,
    version: i64,
    paid: i64,
}

impl Cell {
    fn new(counter: Arc<Counter>) -> Self {
        Self {
            counter,
            sum: None,
            held: 0,
        }
    }

    fn balance(&self) -> Balance {
        Balance {
            spent: self.sum.map_or(0, |sum| sum.spent),
            held: i64::try_from(self.held).unwrap_or(i64::MAX),
            granted: 0,
        }
    }
}

/// Whether requests held on `counter` stay held when a reservation is released or expires: a rate counts attempts.
pub(super) fn is_sticky(counter: &Counter) -> bool {
    counter.unit == Unit::Requests && counter.kind.is_rate()
}

/// Whether the period of `counter` ended so long ago that it is no longer kept.
fn is_dropped(counter: &Counter, now: Timestamp) -> bool {
    counter.period.end.plus_seconds(KEEP_ENDED_SECONDS) <= now
}

impl Group {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            rebuild: None,
            built_at: None,
            used_at: now,
            cells: HashMap::new(),
            purses: Vec::new(),
        }
    }

    /// The purse of a budget, as far as it is known as of `now`.
    pub(super) fn purse(&self, budget: &BudgetId, unit: Unit, now: Timestamp) -> Option<&PurseCell> {
        self.built_at?;
        let mut purses = self.purses.iter();
        purses.find(|cell| cell.is_of(budget, unit) && now < cell.purse.until)
    }

    /// What grants paid of a counter.
    pub(super) fn paid(&self, counter: &Counter) -> i64 {
        let sum = self.cells.get(counter).and_then(|cell| cell.sum);
        sum.map_or(0, |sum| sum.paid)
    }

    /// How much a counter holds on grants, past this limit.
    pub(super) fn on_grants(&self, counter: &Counter, hard: i64, now: Timestamp) -> i64 {
        if is_dropped(counter, now) {
            return 0;
        }
        let balance = self.cells.get(counter).map(Cell::balance).unwrap_or_default();
        grant::on_grants(balance.spent, balance.held, hard, self.paid(counter))
    }

    /// Copies a purse if it is newer than the one that is here.
    pub(super) fn set_purse(&mut self, purse: &Purse) {
        match self.purses.iter_mut().find(|cell| cell.is_of(&purse.budget, purse.unit)) {
            Some(cell) if purse.is_newer(&cell.purse) => cell.purse = purse.clone(),
            Some(_) => {}
            None => self.purses.push(PurseCell {
                purse: purse.clone(),
                holders: Vec::new(),
            }),
        }
    }

    pub(super) fn touch(&mut self, now: Timestamp) {
        self.used_at = self.used_at.max(now);
    }

    /// What `counter` says, or `None` if only the ledger knows. A counter without a row is zero for those who can tell that none was missed:
    /// its period began after the group was built, and after every node knew the policy that names it.
    pub(super) fn balance(&self, counter: &Counter, named_since: Timestamp, now: Timestamp) -> Option<Balance> {
        let built_at = self.built_at?;
        if is_dropped(counter, now) {
            return None;
        }
        let cell = self.cells.get(counter);
        let read = cell.is_some_and(|cell| cell.sum.is_some());
        let born_since = || counter.kind != PeriodKind::Lifetime && counter.period.start >= built_at.max(named_since);
        (read || born_since()).then(|| cell.map(Cell::balance).unwrap_or_default())
    }

    /// What `counter` says by a row of the ledger, or `None`.
    pub(super) fn balance_by_row(&self, counter: &Counter, now: Timestamp) -> Option<Balance> {
        self.balance(counter, Timestamp::MAX, now)
    }

    /// Holds `amount`, and returns the counter's name to share.
    pub(super) fn hold(&mut self, counter: &Counter, amount: i64) -> Arc<Counter> {
        if let Some(cell) = self.cells.get_mut(counter) {
            cell.held += i128::from(amount);
            return cell.counter.clone();
        }
        let name = Arc::new(counter.clone());
        let cell = self.cells.entry(name.clone()).or_insert(Cell::new(name.clone()));
        cell.held += i128::from(amount);
        name
    }

    /// Frees `amount` of what was held. A counter that was dropped with its period holds nothing any more, and one that a clock which stepped
    /// back brought here again knows nothing of earlier holds.
    pub(super) fn free(&mut self, counter: &Counter, amount: i64) {
        if let Some(cell) = self.cells.get_mut(counter) {
            cell.held = (cell.held - i128::from(amount)).max(0);
        }
    }

    /// Copies a row if it is newer than the one that is here.
    pub(super) fn set(&mut self, row: &SumRow, now: Timestamp) {
        if is_dropped(&row.counter, now) {
            return;
        }
        let sum = Sum {
            spent: row.spent,
            version: row.version,
            paid: row.paid,
        };
        match self.cells.get_mut(&row.counter) {
            Some(cell) if cell.sum.is_some_and(|known| known.version >= sum.version) => {}
            Some(cell) => cell.sum = Some(sum),
            None => {
                let name = Arc::new(row.counter.clone());
                let cell = Cell {
                    sum: Some(sum),
                    ..Cell::new(name.clone())
                };
                self.cells.insert(name, cell);
            }
        }
    }

    /// Starts a rebuild, unless one began a moment ago; one that began before is joined. A clock that jumped back far does not make anybody
    /// wait.
    pub(super) fn begin(&mut self, token: u64, now: Timestamp) -> Begun {
        let (token, wait_millis) = match &self.rebuild {
            Some(rebuild) if rebuild.is_waited_for(now) => return Begun::Wait,
            Some(rebuild) => (rebuild.token, (2 * rebuild.wait_millis).min(REBUILD_JOIN_MILLIS_MAX)),
            None => (token, REBUILD_JOIN_MILLIS),
        };
        self.rebuild = Some(Rebuild {
            token,
            begun_at: now,
            wait_millis,
        });
        Begun::Started { token, adopt: Vec::new() }
    }

    /// Ends the rebuild of `token`, if it is the current one.
    pub(super) fn finish(&mut self, token: u64, rows: &[SumRow], purses: &[Purse], now: Timestamp) -> bool {
        if self.rebuild.as_ref().is_none_or(|rebuild| rebuild.token != token) {
            return false;
        }
        self.rebuild = None;
        rows.iter().for_each(|row| self.set(row, now));
        purses.iter().for_each(|purse| self.set_purse(purse));
        // Commits since the first build were all applied here, so a later one makes no counter less known.
        self.built_at.get_or_insert(now);
        true
    }

    /// Forgets the counters whose period ended long ago.
    pub(super) fn drop_ended(&mut self, now: Timestamp) {
        self.cells.retain(|counter, _| !is_dropped(counter, now));
        if self.cells.capacity() > 4 * self.cells.len().max(4) {
            self.cells.shrink_to_fit();
        }
    }

    /// Whether nobody misses this group: it was long not used, and nothing is held in a period that is still kept.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        let holds = |(counter, cell): (&Arc<Counter>, &Cell)| cell.held != 0 && !is_dropped(counter, now);
        self.used_at.plus_seconds(GROUP_IDLE_SECONDS) <= now && !self.cells.iter().any(holds)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }
}
