//! Exact answers in this process, for the embedded profile: bounded in all, and what was used longest ago goes first.

use super::exact::{ExactError, ExactStore, FEATURE_BYTES_MAX, LEADER_SECONDS, Looked, Put};
use crate::decision::cache::key::Key;
use crate::decision::id::{CacheEntryId, Feature, ReservationId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use foldhash::HashMap;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What all answers together take at most.
const BYTES_MAX: usize = 128 << 20;
/// When that is reached, so much is made free at once: finding what is oldest means looking at all.
const FREED_BYTES: usize = BYTES_MAX / LOT;
/// Which part of what a feature may have is made free at once, for the same reason.
const LOT: usize = 16;
/// How many leaders are remembered; beyond it those that are over are forgotten.
const LEADERS_MAX: usize = 65_536;
/// What an entry takes beside its answer, about.
const OVERHEAD_BYTES: usize = 320;
/// How long it is known of an answer that was forgotten whose it was.
const REMEMBERED_SECONDS: i64 = 3_600;
/// Of how many that went that is known; beyond it, those that went first are not known any more.
const REMEMBERED_MAX: usize = 65_536;

struct Kept {
    workspace: WorkspaceId,
    feature: Feature,
    id: CacheEntryId,
    answer: Vec<u8>,
    expires_at: Timestamp,
    /// Counts looks and puts, so that the lowest was used longest ago.
    used: u64,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.answer.len() + OVERHEAD_BYTES
    }

    fn is_of(&self, workspace: &WorkspaceId, feature: &Feature) -> bool {
        self.workspace == *workspace && self.feature == *feature
    }
}

#[derive(Default)]
struct State {
    kept: HashMap<Key, Kept>,
    ids: HashMap<CacheEntryId, Key>,
    leaders: HashMap<Key, Timestamp>,
    /// How many entries and bytes each feature of a workspace has.
    sizes: HashMap<(WorkspaceId, Feature), (usize, usize)>,
    bytes: usize,
    uses: u64,
    gone: Gone,
}

/// Whose the answers were that went before their time, so that whoever asks of one again is told the same as before.
#[derive(Default)]
struct Gone {
    owners: HashMap<CacheEntryId, (WorkspaceId, Timestamp)>,
    /// As they went.
    order: VecDeque<CacheEntryId>,
}

impl Gone {
    fn remember(&mut self, id: CacheEntryId, workspace: WorkspaceId, until: Timestamp) {
        if self.owners.insert(id, (workspace, until)).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(first) = self.order.pop_front() {
                self.owners.remove(&first);
            }
        }
    }

    fn owner(&self, id: CacheEntryId, now: Timestamp) -> Option<&WorkspaceId> {
        let (workspace, until) = self.owners.get(&id)?;
        (now < *until).then_some(workspace)
    }
}

impl State {
    /// Takes an answer away. Whose it was is known for as long as it would have been kept.
    fn remove(&mut self, key: &Key) -> Option<Kept> {
        let kept = self.kept.remove(key)?;
        self.ids.remove(&kept.id);
        self.bytes -= kept.bytes();
        let group = (kept.workspace.clone(), kept.feature.clone());
        if let Some((entries, bytes)) = self.sizes.get_mut(&group) {
            *entries -= 1;
            *bytes -= kept.bytes();
            if *entries == 0 {
                self.sizes.remove(&group);
            }
        }
        self.gone.remember(kept.id, kept.workspace.clone(), kept.expires_at);
        Some(kept)
    }

    fn insert(&mut self, key: Key, kept: Kept) {
        let size = self.sizes.entry((kept.workspace.clone(), kept.feature.clone())).or_default();
        size.0 += 1;
        size.1 += kept.bytes();
        self.bytes += kept.bytes();
        self.ids.insert(kept.id, key);
        self.kept.insert(key, kept);
    }

    /// Leads, unless somebody else does.
    fn lead(&mut self, key: &Key, now: Timestamp) -> bool {
        let leads = self.leaders.get(key).is_none_or(|until| *until <= now);
        if leads {
            if self.leaders.len() >= LEADERS_MAX {
                self.leaders.retain(|_, until| *until > now);
            }
            if self.leaders.len() < LEADERS_MAX {
                self.leaders.insert(*key, now.plus_seconds(LEADER_SECONDS));
            }
        }
        leads
    }

    /// Removes what was used longest ago of those that `of` names, until `enough`.
    fn push_out(&mut self, of: impl Fn(&Kept) -> bool, mut enough: impl FnMut(&State) -> bool) {
        let mut oldest: Vec<(u64, Key)> = self
            .kept
            .iter()
            .filter(|(_, kept)| of(kept))
            .map(|(key, kept)| (kept.used, *key))
            .collect();
        oldest.sort_unstable();
        for (_, key) in oldest {
            if enough(self) {
                return;
            }
            self.remove(&key);
        }
    }
}

/// Exact answers of this process.
#[derive(Default)]
pub struct MemoryExact(Mutex<State>);

impl MemoryExact {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ExactStore for MemoryExact {
    async fn look(&self, _workspace: &WorkspaceId, _reservation: ReservationId, key: &Key, now: Timestamp) -> Result<Looked, ExactError> {
        let mut state = self.state();
        state.uses += 1;
        let uses = state.uses;
        if let Some(kept) = state.kept.get_mut(key).filter(|kept| now < kept.expires_at) {
            kept.used = uses;
            return Ok(Looked {
                answer: Some(kept.answer.clone()),
                ..Looked::default()
            });
        }
        state.remove(key);
        Ok(Looked {
            leads: state.lead(key, now),
            ..Looked::default()
        })
    }

    async fn lead(&self, _workspace: &WorkspaceId, key: &Key, now: Timestamp) -> Result<bool, ExactError> {
        Ok(self.state().lead(key, now))
    }

    async fn give_up(&self, _workspace: &WorkspaceId, key: &Key, until: Timestamp) -> Result<bool, ExactError> {
        let mut state = self.state();
        let is_there = state.leaders.get(key) == Some(&until);
        if is_there {
            state.leaders.remove(key);
        }
        Ok(is_there)
    }

    async fn put(&self, put: &Put<'_>, now: Timestamp) -> Result<bool, ExactError> {
        let mut state = self.state();
        state.leaders.remove(&put.key);
        state.remove(&put.key);
        state.uses += 1;
        let kept = Kept {
            workspace: put.workspace.clone(),
            feature: put.feature.clone(),
            id: put.id,
            answer: put.answer.to_vec(),
            expires_at: put.expires_at,
            used: state.uses,
        };
        let (group, room) = ((put.workspace.clone(), put.feature.clone()), kept.bytes());
        let most = put.entries_max as usize;
        let size = |state: &State| state.sizes.get(&group).copied().unwrap_or_default();
        let fits = |state: &State| size(state).0 < most && size(state).1 + room <= FEATURE_BYTES_MAX;
        if !fits(&state) {
            let expired: Vec<Key> = state
                .kept
                .iter()
                .filter(|(_, kept)| kept.expires_at <= now)
                .map(|(key, _)| *key)
                .collect();
            expired.iter().for_each(|key| drop(state.remove(key)));
        }
        if !fits(&state) {
            let (entries, bytes) = size(&state);
            let entries_goal = most.saturating_sub(if entries < most { 1 } else { (most / LOT).max(1) });
            let bytes_goal = FEATURE_BYTES_MAX
                - if bytes + room <= FEATURE_BYTES_MAX {
                    0
                } else {
                    FEATURE_BYTES_MAX / LOT
                };
            let is_enough = |state: &State| size(state).0 <= entries_goal && size(state).1 + room <= bytes_goal;
            state.push_out(|kept| kept.is_of(put.workspace, put.feature), is_enough);
        }
        if state.bytes + room > BYTES_MAX {
            state.push_out(|_| true, |state| state.bytes + FREED_BYTES <= BYTES_MAX);
        }
        state.insert(put.key, kept);
        Ok(true)
    }

    async fn find(&self, id: CacheEntryId, now: Timestamp) -> Result<Option<(WorkspaceId, Option<Vec<u8>>)>, ExactError> {
        let state = self.state();
        let kept = state.ids.get(&id).and_then(|key| state.kept.get(key));
        if let Some(kept) = kept.filter(|kept| now < kept.expires_at) {
            return Ok(Some((kept.workspace.clone(), Some(kept.answer.clone()))));
        }
        Ok(state.gone.owner(id, now).map(|workspace| (workspace.clone(), None)))
    }

    async fn forget(&self, id: CacheEntryId, now: Timestamp) -> Result<bool, ExactError> {
        let mut state = self.state();
        let key = state.ids.get(&id).copied();
        let forgotten = key.and_then(|key| state.remove(&key));
        if let Some(kept) = &forgotten {
            state
                .gone
                .remember(id, kept.workspace.clone(), now.plus_seconds(REMEMBERED_SECONDS));
        }
        Ok(forgotten.is_some())
    }

    async fn purge(&self, workspace: &WorkspaceId, feature: Option<&Feature>) -> Result<u64, ExactError> {
        let mut state = self.state();
        let is_named = |kept: &Kept| kept.workspace == *workspace && feature.is_none_or(|feature| kept.feature == *feature);
        let keys: Vec<Key> = state.kept.iter().filter(|(_, kept)| is_named(kept)).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(state.remove(key)));
        Ok(keys.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_the_answers_were_that_went_is_known_for_a_while_and_of_so_many() {
        let (id, at) = (CacheEntryId::from_bytes, |seconds: i64| Timestamp::from_micros(seconds * 1_000_000));
        let workspace = WorkspaceId::parse("ws").expect("a name");
        let mut gone = Gone::default();
        let number = |n: usize| id((n as u128).to_be_bytes());
        gone.remember(number(0), workspace.clone(), at(10));
        assert_eq!(gone.owner(number(0), at(9)), Some(&workspace));
        assert_eq!(gone.owner(number(0), at(10)), None);
        for n in 1..=REMEMBERED_MAX {
            gone.remember(number(n), workspace.clone(), at(10));
        }
        assert_eq!(gone.owner(number(0), at(9)), None, "the first gives room");
        assert_eq!(gone.owner(number(1), at(9)), Some(&workspace));
        assert_eq!((gone.owners.len(), gone.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
