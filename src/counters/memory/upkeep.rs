//! What a shard must come back to: tombstones to forget, groups and workspaces that nobody uses any more.
//!
//! Nothing here decides an answer: ends, dropped periods and forgotten tombstones are comparisons wherever they are read. This only gives
//! memory back, a few steps with each call, so no call pays for all.

use super::SHARDS;
use super::hold::{Remembered, is_forgotten};
use super::shard::Shard;
use crate::decision::counter::Whose;
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many tombstones, and how many groups, one call looks at. More than one call can add, so that they never pile up.
const STEPS_PER_CALL: usize = 4;
/// How long a group or workspace that was looked at is left alone.
const VISIT_SECONDS: i64 = 600;

/// How much memory all shards of a store may spend on reservations that have ended. Half of it is shared out evenly, so that each shard
/// always has its part; the other half goes to whoever has more.
pub(super) struct TombstoneBudget {
    used: AtomicUsize,
    bytes_max: usize,
}

impl TombstoneBudget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            bytes_max,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Ended reservations in the order in which they ended, with what they take.
pub(super) struct Graves {
    queue: VecDeque<(Timestamp, ReservationId)>,
    bytes: usize,
    budget: Arc<TombstoneBudget>,
}

impl Graves {
    fn new(budget: Arc<TombstoneBudget>) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    pub(super) fn push(&mut self, ended_at: Timestamp, reservation: ReservationId) {
        self.queue.push_back((ended_at, reservation));
    }

    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_crowded(&self) -> bool {
        let half = self.budget.bytes_max / 2;
        self.bytes > half / SHARDS && self.budget.used() > half
    }
}

impl Drop for Graves {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A group, or a whole workspace, to look at again.
#[cfg_attr(test, derive(Clone))]
struct Visit {
    at: Timestamp,
    workspace: WorkspaceId,
    whose: Option<Whose>,
}

/// The work that a shard has before it.
pub(super) struct Upkeep {
    pub(super) graves: Graves,
    /// Each group and each workspace once, the earliest first.
    visits: VecDeque<Visit>,
}

impl Upkeep {
    pub(super) fn new(budget: Arc<TombstoneBudget>) -> Self {
        Self {
            graves: Graves::new(budget),
            visits: VecDeque::new(),
        }
    }

    /// Has a new group, or a new workspace, looked at from now on.
    pub(super) fn visit(&mut self, workspace: &WorkspaceId, whose: Option<&Whose>, now: Timestamp) {
        self.visits.push_back(Visit {
            at: now.plus_seconds(VISIT_SECONDS),
            workspace: workspace.clone(),
            whose: whose.cloned(),
        });
    }
}

impl Shard {
    /// Gives back what is no longer needed, a few steps of it.
    pub(super) fn upkeep(&mut self, now: Timestamp) {
        while self.upkeep.graves.is_crowded() && self.forget_oldest() {}
        for _ in 0..STEPS_PER_CALL {
            self.forget_if_old(now);
            self.visit_next(now);
        }
    }

    /// Forgets the reservation that ended first, whatever its age. False: there is none.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, id)) = self.upkeep.graves.queue.pop_front() else {
            return false;
        };
        if self.records.get(&id).is_some_and(|record| record.ended().is_some()) {
            self.forget(id);
        }
        true
    }

    fn forget_if_old(&mut self, now: Timestamp) {
        let graves = &mut self.upkeep.graves.queue;
        let Some((_, id)) = graves.pop_front_if(|(ended_at, _)| is_forgotten(*ended_at, now)) else {
            return;
        };
        // It may have been forgotten and held again since, or settled late: then it has a later place in the queue.
        let ended = self.records.get(&id).and_then(Remembered::ended);
        if ended.is_some_and(|(_, ended_at)| is_forgotten(ended_at, now)) {
            self.forget(id);
        }
    }

    fn visit_next(&mut self, now: Timestamp) {
        let Some(visit) = self.upkeep.visits.pop_front_if(|visit| visit.at <= now) else {
            return;
        };
        let stays = match &visit.whose {
            Some(whose) => self.visit_group(&visit.workspace, whose, now),
            None => self.visit_workspace(&visit.workspace, now),
        };
        if stays {
            self.upkeep.visit(&visit.workspace, visit.whose.as_ref(), now);
        }
    }

    fn visit_group(&mut self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> bool {
        self.expire(workspace, now);
        let Some(workspace) = self.workspaces.get_mut(workspace) else {
            return false;
        };
        let Some(group) = workspace.groups.get_mut(whose) else {
            return false;
        };
        group.drop_ended(now);
        // What others hold on the workspace's grants is known by its own group alone.
        let is_needed = *whose == Whose::Workspace && workspace.open > 0;
        let idle = group.is_idle(now) && !is_needed;
        if idle {
            workspace.groups.remove(whose);
        }
        !idle
    }

    fn visit_workspace(&mut self, id: &WorkspaceId, now: Timestamp) -> bool {
        self.expire(id, now);
        let empty = self
            .workspaces
            .get(id)
            .is_none_or(|workspace| workspace.open == 0 && workspace.groups.is_empty());
        if empty {
            self.workspaces.remove(id);
        }
        !empty
    }
}

#[cfg(test)]
impl Upkeep {
    /// That of a copy of the shard, with a budget of its own.
    pub(super) fn copied(&self) -> Self {
        let mut graves = Graves::new(Arc::new(TombstoneBudget::new(self.graves.budget.bytes_max)));
        graves.queue = self.graves.queue.clone();
        graves.grow(self.graves.bytes);
        let visits = self.visits.clone();
        Self { graves, visits }
    }
}
