//! Counters in the process, for the embedded profile and for tests: the same promises as any store's, without a round trip.
//!
//! A workspace with all its groups and reservations lives in one shard, behind one lock that is held for about a microsecond and never
//! across an await. Nothing survives the process, and nothing needs to: the start of the process is the epoch, and a fresh store asks for
//! every group to be rebuilt from the ledger. A panic under a lock loses its shard in the same way, instead of going on with half a change.

#[cfg(test)]
mod copied;
mod group;
mod hold;
mod reading;
mod run;
mod shard;
mod upkeep;
mod workspace;

use super::run::{ChildOutcome, ChildRequest};
use super::{Applied, Begun, Claim, Counters, CountersError, Extended, HoldOutcome, HoldRequest, Rebuilt, Record};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::finding::Finding;
use crate::decision::grant::PurseUse;
use crate::decision::id::{ReservationId, WorkspaceId, slot};
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use shard::Shard;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use upkeep::TombstoneBudget;

/// Workspaces are spread over this many locks.
const SHARDS: usize = 64;
/// The most memory that ended reservations take, about; the oldest are forgotten first. Enough for a million that were settled.
pub const TOMBSTONE_BYTES_MAX: usize = 256 << 20;

/// The counter store of one process.
pub struct MemoryCounters {
    shards: Vec<Mutex<Shard>>,
    /// No token is ever given out twice, so one from before a loss matches nothing after it.
    tokens: AtomicU64,
    /// The shard that named the last of what is due, when it was too much for one call.
    asked_last: AtomicUsize,
    tombstones: Arc<TombstoneBudget>,
}

impl Default for MemoryCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryCounters {
    pub fn new() -> Self {
        Self::with_tombstone_bytes(TOMBSTONE_BYTES_MAX)
    }

    fn with_tombstone_bytes(bytes_max: usize) -> Self {
        let tombstones = Arc::new(TombstoneBudget::new(bytes_max));
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(tombstones.clone()))).collect(),
            tokens: AtomicU64::new(1),
            asked_last: AtomicUsize::new(0),
            tombstones,
        }
    }

    fn shard(&self, slot: u32) -> MutexGuard<'_, Shard> {
        self.lock(&self.shards[slot as usize % self.shards.len()])
    }

    fn lock<'a>(&self, shard: &'a Mutex<Shard>) -> MutexGuard<'a, Shard> {
        shard.lock().unwrap_or_else(|poisoned| {
            tracing::error!("a panic interrupted a change of counters; their shard starts empty and is rebuilt from the ledger");
            let mut guard = poisoned.into_inner();
            *guard = Shard::new(self.tombstones.clone());
            shard.clear_poison();
            guard
        })
    }
}

/// Refuses a request that names a counter which is not there.
fn check(request: &HoldRequest) -> Result<(), CountersError> {
    let counters = request.counters.len();
    let mut limits = request.rungs.iter().flat_map(|rung| &rung.limits);
    match limits.find(|limit| limit.counter >= counters) {
        None => Ok(()),
        Some(limit) => Err(CountersError {
            act: "hold",
            cause: format!("a limit names counter {} of {counters}", limit.counter).into(),
        }),
    }
}

#[async_trait]
impl Counters for MemoryCounters {
    async fn hold(&self, request: &HoldRequest) -> Result<HoldOutcome, CountersError> {
        check(request)?;
        Ok(self.shard(request.reservation.slot()).hold(request))
    }

    async fn hold_child(&self, request: &ChildRequest) -> Result<ChildOutcome, CountersError> {
        Ok(self.shard(request.reservation.slot()).hold_child(request))
    }

    async fn hold_many(&self, requests: &[HoldRequest]) -> Vec<Result<HoldOutcome, CountersError>> {
        // Of one workspace, and so behind one lock.
        let Some(first) = requests.first() else { return Vec::new() };
        let mut shard = self.shard(first.reservation.slot());
        let hold = |request: &HoldRequest| check(request).map(|()| shard.hold(request));
        requests.iter().map(hold).collect()
    }

    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError> {
        Ok(self.shard(slot(workspace)).balances(workspace, counters, purses, named_since, now))
    }

    async fn find(&self, reservation: ReservationId, now: Timestamp) -> Result<Option<Record>, CountersError> {
        Ok(self.shard(reservation.slot()).find(reservation, now))
    }

    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError> {
        Ok(Ok(self.shard(reservation.slot()).claim(reservation, claim, now)))
    }

    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError> {
        Ok(self.shard(slot(workspace)).apply(workspace, applied, read, purses, now))
    }

    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError> {
        Ok(self.shard(reservation.slot()).extend(reservation, until, now))
    }

    async fn free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CountersError> {
        Ok(self.shard(slot(workspace)).free_at(workspace, counter, ceiling, room, now))
    }

    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        Ok(self.shard(slot(workspace)).begin(workspace, whose, token, now))
    }

    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError> {
        Ok(self.shard(slot(workspace)).finish(workspace, whose, rebuilt, now))
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CountersError> {
        // Each call goes on after the one before, and once round: what cannot be ended keeps nobody waiting.
        let mut due = Vec::new();
        let first = self.asked_last.load(Ordering::Relaxed);
        let mut stopped_at = None;
        for number in (first..self.shards.len()).chain(0..first) {
            let mut shard = self.lock(&self.shards[number]);
            shard.upkeep(now);
            due.extend(shard.due(now, limit - due.len(), false));
            if due.len() == limit {
                stopped_at.get_or_insert(number);
            }
        }
        due.extend(self.lock(&self.shards[first]).due(now, limit - due.len(), true));
        self.asked_last.store(stopped_at.unwrap_or(first), Ordering::Relaxed);
        due.sort_unstable_by_key(|(since, record)| (*since, record.reservation));
        Ok(due.into_iter().map(|(_, record)| record).collect())
    }

    async fn inspect(&self, _now: Timestamp) -> Result<Vec<Finding>, CountersError> {
        Ok(vec![Finding::fine(
            "counters",
            "in the serving process; each start derives them from the ledger",
        )])
    }

    async fn open(&self) -> Result<u64, CountersError> {
        Ok(self.shards.iter().map(|shard| self.lock(shard).open).sum())
    }
}

#[cfg(test)]
mod tests;
