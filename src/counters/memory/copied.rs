//! A store of which a model has a copy for each moment: small, and to be looked through. Only for tests.

use super::MemoryCounters;
use super::hold::Remembered;
use super::shard::Shard;
use crate::decision::id::ReservationId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More tombstones than a model makes.
const BYTES_MAX: usize = 1 << 20;

impl MemoryCounters {
    /// One for a few workspaces, which share a lock.
    pub(crate) fn small() -> Self {
        let usual = Self::with_tombstone_bytes(BYTES_MAX);
        let shard = Shard::new(usual.tombstones.clone());
        Self {
            shards: vec![Mutex::new(shard)],
            ..usual
        }
    }
}

impl Shard {
    fn copied(&self) -> Self {
        Self {
            workspaces: self.workspaces.clone(),
            records: self.records.clone(),
            due: self.due.clone(),
            named_from: self.named_from,
            named_last: self.named_last,
            open: self.open,
            upkeep: self.upkeep.copied(),
        }
    }
}

impl Clone for MemoryCounters {
    fn clone(&self) -> Self {
        let copied = |shard| Mutex::new(self.lock(shard).copied());
        Self {
            shards: self.shards.iter().map(copied).collect(),
            tokens: AtomicU64::new(self.tokens.load(Ordering::Relaxed)),
            asked_last: AtomicUsize::new(self.asked_last.load(Ordering::Relaxed)),
            tombstones: self.tombstones.clone(),
        }
    }
}

/// All that a later answer may depend on, but for what upkeep gives back in hours.
impl fmt::Debug for MemoryCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            let shard = self.lock(shard);
            let records: BTreeMap<&ReservationId, &Remembered> = shard.records.iter().collect();
            let workspaces: BTreeMap<_, _> = shard.workspaces.iter().collect();
            let named = (shard.named_from, shard.named_last);
            write!(f, "{workspaces:?} {records:?} {:?} {named:?} {}", shard.due, shard.open)?;
        }
        write!(f, " {:?}", self.tokens)
    }
}
