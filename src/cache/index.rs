//! The vectors of this node, for finding an answer to a similar prompt: flat, one partition after the other, each scanned from end to end. For
//! as many vectors as one feature of one workspace has, that is faster than any tree, exact, and needs no tuning.
//!
//! Bounded by entries for a workspace's feature and by bytes in all; what was used longest ago goes first, and what was never used counts as
//! used when it was stored. The answers themselves are not here.

use crate::decision::amount::Ratio;
use crate::decision::cache::key::Partition;
use crate::decision::cache::veto::{Signature, Veto};
use crate::decision::id::{CacheEntryId, Feature, WorkspaceId};
use crate::decision::time::Timestamp;
use foldhash::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::vector::{Vector, dot, similarity};

/// What all vectors together take at most.
pub const BYTES_MAX: usize = 512 << 20;
/// How many candidates of one look are told: those behind the first are for when its answer is gone.
pub const CANDIDATES_MAX: usize = 4;
/// What an entry takes beside its vector and signature, about.
const OVERHEAD_BYTES: usize = 160;

/// A vector to be found by.
#[derive(Clone, Debug)]
pub struct Item {
    pub workspace: WorkspaceId,
    pub feature: Feature,
    pub partition: Partition,
    pub id: CacheEntryId,
    pub vector: Vector,
    pub signature: Signature,
    pub stored_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub workspace: &'a WorkspaceId,
    pub feature: &'a Feature,
    pub partition: &'a Partition,
    pub vector: &'a Vector,
    pub signature: &'a Signature,
    pub threshold: Ratio,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The most similar ones that nothing vetoes, best first.
    pub candidates: Vec<(CacheEntryId, Ratio)>,
    /// What vetoed those that were similar enough.
    pub vetoed: BTreeMap<Veto, u32>,
}

type Group = (WorkspaceId, Feature);

#[derive(Debug)]
struct Row {
    id: CacheEntryId,
    stored_at: Timestamp,
    expires_at: Timestamp,
    signature: Signature,
    used_at: AtomicI64,
    bytes: usize,
}

/// The vectors of one partition, one behind the other.
#[derive(Debug)]
struct Rows {
    dimensions: usize,
    numbers: Vec<i16>,
    rows: Vec<Row>,
}

impl Rows {
    fn remove(&mut self, place: usize) -> Row {
        let last = self.rows.len() - 1;
        let (from, to) = (last * self.dimensions, place * self.dimensions);
        self.numbers.copy_within(from..from + self.dimensions, to);
        self.numbers.truncate(from);
        self.rows.swap_remove(place)
    }
}

#[derive(Debug, Default)]
struct State {
    groups: HashMap<Group, HashMap<Partition, Rows>>,
    /// Where each is: its group, its partition, and its place there.
    places: HashMap<CacheEntryId, (Group, Partition, usize)>,
    bytes: usize,
}

impl State {
    fn remove(&mut self, id: CacheEntryId) -> bool {
        let Some((group, partition, place)) = self.places.remove(&id) else {
            return false;
        };
        let Some(partitions) = self.groups.get_mut(&group) else {
            return false;
        };
        let Some(rows) = partitions.get_mut(&partition) else { return false };
        self.bytes -= rows.remove(place).bytes;
        // The last one took its place.
        if let Some(moved) = rows.rows.get(place)
            && let Some((_, _, moved)) = self.places.get_mut(&moved.id)
        {
            *moved = place;
        }
        if rows.rows.is_empty() {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.groups.remove(&group);
        }
        true
    }

    fn remove_all(&mut self, ids: &[CacheEntryId]) {
        for id in ids {
            self.remove(*id);
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.groups
            .values()
            .flat_map(|partitions| partitions.values())
            .flat_map(|rows| &rows.rows)
    }

    fn in_group(&self, group: &Group) -> usize {
        let partitions = self.groups.get(group).into_iter().flat_map(|partitions| partitions.values());
        partitions.map(|rows| rows.rows.len()).sum()
    }
}

/// Those of `rows` that were used longest ago, as many as make `enough` of what `counts` says of each.
fn longest_unused<'a>(rows: impl Iterator<Item = &'a Row>, counts: impl Fn(&Row) -> usize, enough: usize) -> Vec<CacheEntryId> {
    let mut by_use: Vec<(i64, CacheEntryId, usize)> = rows.map(|row| (row.used_at.load(Ordering::Relaxed), row.id, counts(row))).collect();
    by_use.sort_unstable();
    let mut sum = 0;
    let wanted = by_use.into_iter().take_while(|(_, _, count)| {
        let wanted = sum < enough;
        sum += count;
        wanted
    });
    wanted.map(|(_, id, _)| id).collect()
}

/// The vectors of this node.
pub struct Index {
    state: RwLock<State>,
    bytes_max: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self::bounded(BYTES_MAX)
    }
}

impl Index {
    pub fn bounded(bytes_max: usize) -> Self {
        Self {
            state: RwLock::default(),
            bytes_max,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a vector, once, and says which entries of its workspace and feature had to go for it: beyond `entries_max` nobody keeps them. What
    /// goes because this node is full stays with the others, and is not told.
    pub fn insert(&self, item: Item, entries_max: usize) -> Vec<CacheEntryId> {
        let mut state = self.write();
        if state.places.contains_key(&item.id) {
            return Vec::new();
        }
        let group = (item.workspace, item.feature);
        let entries = state.in_group(&group);
        let pushed_out = match entries.saturating_sub(entries_max.max(1) - 1) {
            0 => Vec::new(),
            many => {
                let rows = state
                    .groups
                    .get(&group)
                    .into_iter()
                    .flat_map(|partitions| partitions.values())
                    .flat_map(|rows| &rows.rows);
                longest_unused(rows, |_| 1, many)
            }
        };
        state.remove_all(&pushed_out);
        let bytes = size_of_val(item.vector.numbers()) + item.signature.bytes() + OVERHEAD_BYTES;
        if state.bytes + bytes > self.bytes_max {
            // More than one at a time: to find what is oldest means to look at all.
            let oldest = longest_unused(state.rows(), |row| row.bytes, bytes + self.bytes_max / 16);
            metrics::counter!("weir_cache_pushed_out_total").increment(oldest.len() as u64);
            state.remove_all(&oldest);
        }
        let dimensions = item.vector.numbers().len();
        let rows = state
            .groups
            .entry(group.clone())
            .or_default()
            .entry(item.partition)
            .or_insert_with(|| Rows {
                dimensions,
                numbers: Vec::new(),
                rows: Vec::new(),
            });
        // The partition names the length, so all of it have the same one.
        if rows.dimensions != dimensions {
            return pushed_out;
        }
        let place = rows.rows.len();
        rows.numbers.extend_from_slice(item.vector.numbers());
        rows.rows.push(Row {
            id: item.id,
            stored_at: item.stored_at,
            expires_at: item.expires_at,
            signature: item.signature,
            used_at: AtomicI64::new(item.stored_at.micros()),
            bytes,
        });
        state.bytes += bytes;
        state.places.insert(item.id, (group, item.partition, place));
        pushed_out
    }

    /// How many numbers a look multiplies.
    pub fn work(&self, wanted: &Wanted<'_>) -> usize {
        let state = self.read();
        rows_of(&state, wanted).map_or(0, |rows| rows.numbers.len())
    }

    /// The most similar ones of a partition.
    pub fn nearest(&self, wanted: &Wanted<'_>, now: Timestamp) -> Found {
        let state = self.read();
        let Some(rows) = rows_of(&state, wanted) else {
            return Found::default();
        };
        let asked = wanted.vector.numbers();
        let mut alike: Vec<(Ratio, usize)> = Vec::new();
        for (place, vector) in rows.numbers.chunks_exact(rows.dimensions).enumerate() {
            let found = similarity(dot(asked, vector));
            if found >= wanted.threshold && now < rows.rows[place].expires_at {
                alike.push((found, place));
            }
        }
        // Of equally similar ones the newest.
        alike.sort_unstable_by_key(|(found, place)| std::cmp::Reverse((*found, rows.rows[*place].stored_at, *place)));
        let mut told = Found::default();
        for (found, place) in alike {
            let row = &rows.rows[place];
            match wanted.signature.veto(&row.signature) {
                Some(veto) => *told.vetoed.entry(veto).or_default() += 1,
                None => told.candidates.push((row.id, found)),
            }
            if told.candidates.len() == CANDIDATES_MAX {
                break;
            }
        }
        told
    }

    /// Notes that an entry was given.
    pub fn used(&self, id: CacheEntryId, now: Timestamp) {
        let state = self.read();
        let row = |(group, partition, place): &(Group, Partition, usize)| state.groups.get(group)?.get(partition)?.rows.get(*place);
        if let Some(row) = state.places.get(&id).and_then(row) {
            row.used_at.fetch_max(now.micros(), Ordering::Relaxed);
        }
    }

    pub fn forget(&self, id: CacheEntryId) -> bool {
        self.write().remove(id)
    }

    /// Forgets all of a workspace, or of one feature of it.
    pub fn purge(&self, workspace: &WorkspaceId, feature: Option<&Feature>) {
        let mut state = self.write();
        let is_named = |group: &Group| group.0 == *workspace && feature.is_none_or(|feature| group.1 == *feature);
        let named: Vec<CacheEntryId> = state
            .places
            .iter()
            .filter(|(_, (group, ..))| is_named(group))
            .map(|(id, _)| *id)
            .collect();
        state.remove_all(&named);
    }

    /// Forgets what has expired.
    pub fn expire(&self, now: Timestamp) {
        let expired: Vec<CacheEntryId> = self.read().rows().filter(|row| row.expires_at <= now).map(|row| row.id).collect();
        if expired.is_empty() {
            return;
        }
        self.write().remove_all(&expired);
    }

    /// How many entries there are, and how many bytes they take.
    pub fn size(&self) -> (usize, usize) {
        let state = self.read();
        (state.places.len(), state.bytes)
    }
}

fn rows_of<'a>(state: &'a State, wanted: &Wanted<'_>) -> Option<&'a Rows> {
    let group = (wanted.workspace.clone(), wanted.feature.clone());
    let rows = state.groups.get(&group)?.get(wanted.partition)?;
    (rows.dimensions == wanted.vector.numbers().len()).then_some(rows)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
