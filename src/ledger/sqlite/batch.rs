//! A batch of writes, applied in memory and in order to what the ledger holds of them. Pure: the store loads before and writes after.
//!
//! Invariant: after each post every sum here, born or not, is the ledger's sum of its dimensions and period with that post in it. So a
//! row that is born in mid-batch needs no second look at the ledger, and no use is counted twice.

use crate::counters::SumRow;
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::Entry;
use crate::decision::id::{Feature, ReservationId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use crate::ledger::record::{CheckpointRecord, IdRecord, StandingRecord, SumRecord, SumVersionRecord, UseRecord};
use crate::ledger::{Naming, Post, Posted};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[cfg(test)]
mod tests;

/// A write of a batch.
#[derive(Clone, Copy)]
pub(super) enum Write<'a> {
    Post(&'a Post),
    Name(&'a Naming),
}

/// A post whose sums would leave 64 bits; nothing of it was applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the sum of {unit} of workspace {workspace} would leave 64 bits: correct the entries that made it so large")]
pub(super) struct Overflow {
    workspace: WorkspaceId,
    unit: &'static str,
}

/// What the ledger holds of a batch's reservations, workspaces and counters, and what the batch has changed so far.
#[derive(Default)]
pub(super) struct Batch {
    standings: HashMap<ReservationId, Standing>,
    /// By workspace; absent: the workspace does not exist.
    sum_versions: HashMap<WorkspaceId, i64>,
    sums: Vec<Sum>,
    /// Places in `sums`, by what a use is looked up with.
    groups: HashMap<(WorkspaceId, Whose, Option<Feature>), Vec<usize>>,
    changes: Changes,
}

struct Sum {
    workspace: WorkspaceId,
    row: SumRow,
    /// Whether the ledger has a row for it, now or after this batch. One that is not born is summed up all the same.
    born: bool,
}

/// What is to be written. Of things that changed more than once only the last state is.
#[derive(Default)]
struct Changes {
    created: Vec<(WorkspaceId, Timestamp)>,
    entries: Vec<Entry>,
    standings: BTreeMap<ReservationId, Before>,
    /// Reservations whose checkpoint came, went or was replaced.
    checkpoints: BTreeSet<ReservationId>,
    sums: BTreeMap<usize, Before>,
    sum_versions: BTreeSet<WorkspaceId>,
}

/// Whether the ledger had a row for something before this batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Present,
}

impl Write<'_> {
    pub(super) fn workspace(&self) -> &WorkspaceId {
        match self {
            Write::Post(post) => &post.workspace,
            Write::Name(naming) => &naming.workspace,
        }
    }

    fn counters(&self) -> &[Counter] {
        match self {
            Write::Post(post) => &post.counters,
            Write::Name(naming) => &naming.counters,
        }
    }

    pub(super) fn reservation(&self) -> Option<ReservationId> {
        match self {
            Write::Post(post) => Some(post.reservation),
            Write::Name(_) => None,
        }
    }
}

/// What the store tells the batch before it is applied, in this order.
impl Batch {
    pub(super) fn know_standing(&mut self, reservation: ReservationId, standing: Standing) {
        self.standings.insert(reservation, standing);
    }

    pub(super) fn know_workspace(&mut self, workspace: WorkspaceId, sum_version: i64) {
        self.sum_versions.insert(workspace, sum_version);
    }

    /// By which uses the sums of `writes` are found: those that they bring or take away, and one in each counter that they name.
    pub(super) fn uses(&self, writes: &[Write<'_>]) -> BTreeSet<UseRecord> {
        let mut uses = BTreeSet::new();
        for write in writes {
            uses.extend(write.counters().iter().map(|counter| UseRecord::within(write.workspace(), counter)));
            if let Write::Post(post) = write {
                let before = self
                    .standings
                    .get(&post.reservation)
                    .and_then(|standing| standing.checkpoint.as_ref());
                let checkpoints = before.into_iter().chain(&post.checkpoint).map(|checkpoint| &checkpoint.entry);
                uses.extend(checkpoints.chain(&post.entries).map(UseRecord::of));
            }
        }
        uses
    }

    pub(super) fn know_sum(&mut self, workspace: WorkspaceId, row: SumRow) {
        self.put_sum(workspace, row, true);
    }

    /// The counters that `writes` name and that have no row yet: the store must tell their sums.
    pub(super) fn unborn<'a>(&self, writes: &'a [Write<'a>]) -> BTreeSet<(&'a WorkspaceId, &'a Counter)> {
        let named = writes
            .iter()
            .flat_map(|write| write.counters().iter().map(|counter| (write.workspace(), counter)));
        named
            .filter(|(workspace, counter)| self.find(workspace, counter).is_none())
            .collect()
    }

    pub(super) fn know_unborn(&mut self, workspace: WorkspaceId, row: SumRow) {
        self.put_sum(workspace, row, false);
    }

    fn put_sum(&mut self, workspace: WorkspaceId, row: SumRow, born: bool) {
        let group = (workspace.clone(), row.counter.whose.clone(), row.counter.feature.clone());
        self.groups.entry(group).or_default().push(self.sums.len());
        self.sums.push(Sum { workspace, row, born });
    }
}

/// The writes themselves.
impl Batch {
    /// Applies one post, or says how its reservation stands. All or nothing.
    pub(super) fn post(&mut self, post: &Post) -> Result<Posted, Overflow> {
        let standing = self.standings.get(&post.reservation).cloned().unwrap_or_else(|| post.unheard_of());
        if standing.revision != post.revision {
            return Ok(Posted::Stands(Box::new(standing)));
        }
        let mut moved = BTreeMap::new();
        if let Some(replaced) = &standing.checkpoint {
            self.count(&mut moved, &post.workspace, &replaced.entry, i64::checked_sub)?;
        }
        for added in post.checkpoint.iter().map(|checkpoint| &checkpoint.entry).chain(&post.entries) {
            debug_assert_eq!(added.workspace_id, post.workspace, "an entry is of its post's workspace");
            self.count(&mut moved, &post.workspace, added, i64::checked_add)?;
        }
        let rows = self.move_sums(&post.workspace, moved, &post.counters, post.now)?;
        if standing.checkpoint.is_some() || post.checkpoint.is_some() {
            self.changes.checkpoints.insert(post.reservation);
        }
        let before = if standing.revision == 0 { Before::Absent } else { Before::Present };
        self.changes.standings.entry(post.reservation).or_insert(before);
        self.changes.entries.extend(post.entries.iter().cloned());
        self.standings.insert(post.reservation, after(standing, post));
        Ok(Posted::Done { rows, purses: Vec::new() })
    }

    /// Gives birth to the missing ones of the counters that are named, and creates the workspace.
    pub(super) fn name(&mut self, naming: &Naming) -> Result<(), Overflow> {
        self.move_sums(&naming.workspace, BTreeMap::new(), &naming.counters, naming.now)
            .map(drop)
    }

    /// Notes what `entry` adds to each sum that it falls into, be it nothing in that unit: the caller learns of those too.
    fn count(
        &self,
        moved: &mut BTreeMap<usize, i64>,
        workspace: &WorkspaceId,
        entry: &Entry,
        add: impl Fn(i64, i64) -> Option<i64>,
    ) -> Result<(), Overflow> {
        for whose in [Whose::Workspace, Whose::User(entry.user_id.clone())] {
            for feature in [None, Some(entry.feature.clone())] {
                let group = (workspace.clone(), whose.clone(), feature);
                for &place in self.groups.get(&group).into_iter().flatten() {
                    let counter = &self.sums[place].row.counter;
                    if counter.period.contains(entry.occurred_at) {
                        let so_far = moved.entry(place).or_insert(0);
                        *so_far = add(*so_far, entry.counted.of(counter.unit)).ok_or_else(|| self.overflow(place))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves sums and gives birth to the named ones. Returns the rows that were met, as they are now.
    fn move_sums(
        &mut self,
        workspace: &WorkspaceId,
        mut moved: BTreeMap<usize, i64>,
        named: &[Counter],
        now: Timestamp,
    ) -> Result<Vec<SumRow>, Overflow> {
        let named: BTreeSet<usize> = named.iter().filter_map(|counter| self.find(workspace, counter)).collect();
        for place in &named {
            moved.entry(*place).or_insert(0);
        }
        let spent_after = |(&place, &by): (&usize, &i64)| {
            let spent = self.sums[place].row.spent.checked_add(by).ok_or_else(|| self.overflow(place))?;
            Ok((place, spent))
        };
        let spent: Vec<(usize, i64)> = moved.iter().map(spent_after).collect::<Result<_, _>>()?;

        // From here on nothing can fail.
        let version = self.create_or_read(workspace, now) + 1;
        let mut rows = Vec::with_capacity(spent.len());
        for (place, spent) in spent {
            let sum = &mut self.sums[place];
            let before = if sum.born { Before::Present } else { Before::Absent };
            let changed = if sum.born { sum.row.spent != spent } else { named.contains(&place) };
            sum.row.spent = spent;
            if changed {
                sum.born = true;
                sum.row.version = version;
                self.changes.sums.entry(place).or_insert(before);
                self.changes.sum_versions.insert(workspace.clone());
                self.sum_versions.insert(workspace.clone(), version);
            }
            if sum.born {
                rows.push(sum.row.clone());
            }
        }
        Ok(rows)
    }

    /// The version of the workspace's newest sum; a workspace that does not exist is created.
    fn create_or_read(&mut self, workspace: &WorkspaceId, now: Timestamp) -> i64 {
        if let Some(version) = self.sum_versions.get(workspace) {
            return *version;
        }
        self.changes.created.push((workspace.clone(), now));
        self.sum_versions.insert(workspace.clone(), 0);
        0
    }

    fn find(&self, workspace: &WorkspaceId, counter: &Counter) -> Option<usize> {
        let group = (workspace.clone(), counter.whose.clone(), counter.feature.clone());
        let mut places = self.groups.get(&group)?.iter().copied();
        places.find(|place| self.sums[*place].row.counter == *counter)
    }

    fn overflow(&self, place: usize) -> Overflow {
        let sum = &self.sums[place];
        Overflow {
            workspace: sum.workspace.clone(),
            unit: sum.row.counter.unit.as_str(),
        }
    }
}

/// What the store must write when all writes are applied.
impl Batch {
    pub(super) fn created(&self) -> &[(WorkspaceId, Timestamp)] {
        &self.changes.created
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.changes.entries
    }

    /// Those to insert, and those to update.
    pub(super) fn standings(&self) -> (Vec<StandingRecord>, Vec<StandingRecord>) {
        apart(&self.changes.standings, |id| StandingRecord::new(*id, &self.standings[id]))
    }

    /// Whose checkpoint to delete, then which ones to insert.
    pub(super) fn checkpoints(&self) -> (Vec<IdRecord>, Vec<CheckpointRecord>) {
        let replaced = &self.changes.checkpoints;
        let open = replaced
            .iter()
            .filter_map(|id| Some((*id, self.standings[id].checkpoint.as_ref()?)));
        let open = open.map(|(id, checkpoint)| CheckpointRecord::new(id, checkpoint));
        (replaced.iter().map(IdRecord::of).collect(), open.collect())
    }

    /// Those to insert, and those to update.
    pub(super) fn sums(&self) -> (Vec<SumRecord>, Vec<SumRecord>) {
        apart(&self.changes.sums, |place| {
            SumRecord::new(&self.sums[*place].workspace, &self.sums[*place].row)
        })
    }

    pub(super) fn sum_versions(&self) -> Vec<SumVersionRecord> {
        let raised = self.changes.sum_versions.iter();
        let record = |workspace| SumVersionRecord::new(workspace, self.sum_versions[workspace]);
        raised.map(record).collect()
    }
}

/// The records of what is new to the ledger, and of what it has a row for.
fn apart<K, R>(changes: &BTreeMap<K, Before>, record: impl Fn(&K) -> R) -> (Vec<R>, Vec<R>) {
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for (key, before) in changes {
        match before {
            Before::Absent => new.push(record(key)),
            Before::Present => known.push(record(key)),
        }
    }
    (new, known)
}

/// How a reservation stands after a post. An end may be followed by another one, and is never taken back.
fn after(before: Standing, post: &Post) -> Standing {
    Standing {
        revision: before.revision + 1,
        end: post.end.or(before.end),
        entry: post.entries.first().cloned().or(before.entry),
        fingerprint: post.fingerprint,
        checkpoint: post.checkpoint.clone(),
        ..before
    }
}
