//! Verify: every sum against its entries, every counter against its sum or the lack of one, every purse against its grants, every
//! end against its entry, and every batch against its members. Reads only; what differs is named, not mended.
//!
//! A counter may be behind its sum for the moment between a commit and its copy, so one that differs is looked at again before it is told.

use super::FlowError;
use super::authorize::POLICY_REACHES_ALL_SECONDS;
use crate::clock::Clock;
use crate::counters::{Applied, Counters, KnownGroup, SumRow};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use crate::ledger::billing::BatchDifference;
use crate::ledger::ends::{EndDifference, EndsPlace};
use crate::ledger::{GrantDifference, Ledger, SumDifference};
use futures_util::stream::TryStreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod purses;

pub use purses::PurseDifference;
use purses::Purses;

/// How many sums are recomputed in one step.
const PAGE_SUMS: usize = 500;
/// How many ends or entries are held against each other in one step: so few that the other side is looked up by its key, and not read whole.
const PAGE_ENDS: usize = 500;
/// How many workspaces and meters have their batches added up again in one step.
const PAGE_BILLED: usize = 100;
/// How many of the groups that the store knows are looked up in the ledger at once.
const GROUPS_AT_ONCE: usize = 16;
/// How often a counter that differs is looked at again, and how long apart.
const LOOKS_AGAIN: usize = 5;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What was compared, and what differs.
#[derive(Debug, Default)]
pub struct Verification {
    pub sums: u64,
    /// Counters that the store knows; it forgets ended periods, and reads what it does not know from the ledger.
    pub counters: u64,
    /// Reservations that have a standing.
    pub ends: u64,
    /// Batches for the billing provider, open ones too.
    pub batches: u64,
    pub differences: Vec<Difference>,
}

/// What is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// A sum is not what its entries add up to.
    Sum(SumDifference),
    /// What grants paid of a counter is not what their payments add up to.
    Paid(SumDifference),
    /// What a grant paid is not what its payments add up to, or more than it had.
    Grant(GrantDifference),
    /// A counter is not what its sum says.
    Counter(CounterDifference),
    /// What counters say that grants have left is not what the ledger says.
    Purse(PurseDifference),
    /// An end and an entry do not belong together.
    End(EndDifference),
    /// A batch is not what its members say, or what is carried is not what is left of them.
    Batch(BatchDifference),
}

/// A counter that is not what its sum says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CounterDifference {
    pub workspace: WorkspaceId,
    pub counter: Counter,
    pub ledger: i64,
    pub store: i64,
}

/// Compares everything that is derived, without `counters` all but those. `progress` is told the number of sums so far.
pub async fn verify(
    ledger: &dyn Ledger,
    counters: Option<&dyn Counters>,
    clock: &dyn Clock,
    mut progress: impl FnMut(u64),
) -> Result<Verification, FlowError> {
    let mut found = Verification::default();
    let policy_changed_at = ledger.policy().await?.changed_at.unwrap_or(Timestamp::MIN);
    let book = counters.map(|store| Book {
        ledger,
        store,
        clock,
        policy_changed_at,
    });
    let mut after = None;
    loop {
        let page = ledger.verify_page(after.as_ref(), PAGE_SUMS).await?;
        found.sums += page.rows.len() as u64;
        found.differences.extend(page.differences.into_iter().map(Difference::Sum));
        found.differences.extend(page.paid_differences.into_iter().map(Difference::Paid));
        if let Some(book) = &book {
            for (workspace, rows) in by_workspace(page.rows) {
                book.compare(&workspace, rows, &mut found).await?;
            }
            // Of a workspace on two pages a purse may be looked at twice, and is told once.
            found.differences.dedup();
        }
        progress(found.sums);
        match page.last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if let Some(book) = &book {
        book.strays(&mut found).await?;
    }
    found
        .differences
        .extend(ledger.verify_grants().await?.into_iter().map(Difference::Grant));
    ends(ledger, &mut found).await?;
    batches(ledger, &mut found).await?;
    Ok(found)
}

async fn ends(ledger: &dyn Ledger, found: &mut Verification) -> Result<(), FlowError> {
    let mut next = Some(EndsPlace::beginning());
    while let Some(place) = next {
        let page = ledger.ends_page(&place, PAGE_ENDS).await?;
        found.ends += page.ends;
        found.differences.extend(page.differences.into_iter().map(Difference::End));
        next = page.next;
    }
    Ok(())
}

async fn batches(ledger: &dyn Ledger, found: &mut Verification) -> Result<(), FlowError> {
    let mut after = None;
    loop {
        let page = ledger.verify_batches(after, PAGE_BILLED).await?;
        found.batches += page.batches;
        found.differences.extend(page.differences.into_iter().map(Difference::Batch));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// The rows of each workspace.
pub fn by_workspace(rows: Vec<(WorkspaceId, SumRow)>) -> BTreeMap<WorkspaceId, Vec<SumRow>> {
    let mut by_workspace: BTreeMap<WorkspaceId, Vec<SumRow>> = BTreeMap::new();
    for (workspace, row) in rows {
        by_workspace.entry(workspace).or_default().push(row);
    }
    by_workspace
}

/// The two sides that are compared.
struct Book<'a> {
    ledger: &'a dyn Ledger,
    store: &'a dyn Counters,
    clock: &'a dyn Clock,
    policy_changed_at: Timestamp,
}

impl Book<'_> {
    async fn compare(&self, workspace: &WorkspaceId, rows: Vec<SumRow>, found: &mut Verification) -> Result<(), FlowError> {
        let now = self.clock.now();
        let running: Vec<SumRow> = rows.into_iter().filter(|row| now < row.counter.period.end).collect();
        let counters: Vec<Counter> = running.iter().map(|row| row.counter.clone()).collect();
        let purses = Purses {
            ledger: self.ledger,
            store: self.store,
            clock: self.clock,
        };
        purses.compare(workspace, &running, &mut found.differences).await?;
        let known = self.store.apply(workspace, &Applied::default(), &counters, &[], now).await?;
        for (row, balance) in running.into_iter().zip(known) {
            let store = match balance {
                Some(balance) => Some(balance.spent),
                None => self.taken_for_zero(workspace, &row.counter, now).await?,
            };
            let Some(store) = store else { continue };
            found.counters += 1;
            if store != row.spent
                && let Some(difference) = self.look_again(workspace, row).await?
            {
                found.differences.push(Difference::Counter(difference));
            }
        }
        Ok(())
    }

    /// Counters of which the ledger has no sum: it was set back to a day before them.
    async fn strays(&self, found: &mut Verification) -> Result<(), FlowError> {
        let strays = self.store.known().map_err(FlowError::from).map_ok(|group| self.strays_of(group));
        let mut strays = strays.try_buffer_unordered(GROUPS_AT_ONCE);
        // What changes during the walk may be named twice.
        let mut told = BTreeSet::new();
        while let Some(some) = strays.try_next().await? {
            let fresh = some
                .into_iter()
                .filter(|stray| told.insert((stray.workspace.clone(), stray.counter.clone())));
            found.differences.extend(fresh.map(Difference::Counter));
        }
        Ok(())
    }

    async fn strays_of(&self, group: KnownGroup) -> Result<Vec<CounterDifference>, FlowError> {
        let mut strays = Vec::new();
        for counter in self.without_sum(&group.workspace, &group.whose, group.counters).await? {
            strays.extend(self.look_again_without_sum(&group.workspace, counter).await?);
        }
        Ok(strays)
    }

    /// Those of these counters that are running and have no sum.
    async fn without_sum(&self, workspace: &WorkspaceId, whose: &Whose, mut counters: Vec<Counter>) -> Result<Vec<Counter>, FlowError> {
        let now = self.clock.now();
        counters.retain(|counter| now < counter.period.end);
        // Only of a workspace that is there, since to ask for its sums creates it.
        if !counters.is_empty() && self.ledger.workspace(workspace).await?.is_some() {
            let rows = self.ledger.rows(workspace, whose, &[], now).await?;
            counters.retain(|counter| rows.iter().all(|row| row.counter != *counter));
        }
        Ok(counters)
    }

    /// The difference, if there is no sum for a while and something is spent: what is only held has none yet.
    async fn look_again_without_sum(&self, workspace: &WorkspaceId, counter: Counter) -> Result<Option<CounterDifference>, FlowError> {
        let mut counters = vec![counter];
        let mut store = 0;
        for look in 0..=LOOKS_AGAIN {
            let known = self
                .store
                .apply(workspace, &Applied::default(), &counters, &[], self.clock.now())
                .await?;
            store = known.first().copied().flatten().map_or(0, |balance| balance.spent);
            if store == 0 || look == LOOKS_AGAIN {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            let whose = counters[0].whose.clone();
            counters = self.without_sum(workspace, &whose, counters).await?;
            if counters.is_empty() {
                return Ok(None);
            }
        }
        Ok(counters.pop().filter(|_| store != 0).map(|counter| CounterDifference {
            workspace: workspace.clone(),
            counter,
            ledger: 0,
            store,
        }))
    }

    /// What the store would say to a request about a counter of which it knows no row; `None`: it would ask the ledger.
    async fn taken_for_zero(&self, workspace: &WorkspaceId, counter: &Counter, now: Timestamp) -> Result<Option<i64>, FlowError> {
        let updated_at = self.ledger.workspace(workspace).await?.map(|workspace| workspace.updated_at);
        let named_since = self.policy_changed_at.max(updated_at.unwrap_or(Timestamp::MIN));
        let named_since = named_since.plus_seconds(POLICY_REACHES_ALL_SECONDS);
        let counters = std::slice::from_ref(counter);
        let balances = self.store.balances(workspace, counters, &[], named_since, now).await?;
        Ok(balances.ok().and_then(|balances| balances.first().map(|balance| balance.spent)))
    }

    /// The difference, if it is still there once every commit on its way has been copied.
    async fn look_again(&self, workspace: &WorkspaceId, mut row: SumRow) -> Result<Option<CounterDifference>, FlowError> {
        let mut store = 0;
        for _ in 0..LOOKS_AGAIN {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            let now = self.clock.now();
            let rows = self.ledger.rows(workspace, &row.counter.whose, &[], now).await?;
            let Some(newer) = rows.into_iter().find(|newer| newer.counter == row.counter) else {
                return Ok(None);
            };
            row = newer;
            let counters = std::slice::from_ref(&row.counter);
            let known = self.store.apply(workspace, &Applied::default(), counters, &[], now).await?;
            store = match known.first().copied().flatten() {
                Some(balance) => balance.spent,
                None => match self.taken_for_zero(workspace, &row.counter, now).await? {
                    Some(store) => store,
                    None => return Ok(None),
                },
            };
            if store == row.spent {
                return Ok(None);
            }
        }
        Ok(Some(CounterDifference {
            workspace: workspace.clone(),
            counter: row.counter,
            ledger: row.spent,
            store,
        }))
    }
}
