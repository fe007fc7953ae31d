//! What answers were like so far, for requests that name no length. Lives in memory: after a start it learns anew.

use crate::decision::estimate::{OUTPUT_TOKENS_UNKNOWN, Sketch};
use crate::decision::id::{Feature, ModelId, WorkspaceId};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many sketches are kept; beyond it the shard that is full starts anew. One is at most about 350 bytes.
const SKETCHES_MAX: usize = 40_000;
const SHARDS: usize = 16;

/// Sketches by workspace, feature and model, and by feature and model for workspaces that are new.
#[derive(Default)]
pub struct Estimator {
    shards: [Mutex<HashMap<u64, Sketch>>; SHARDS],
}

impl Estimator {
    /// The answer's expected length for one request.
    pub fn expect(&self, workspace: &WorkspaceId, feature: &Feature, model: &ModelId) -> i64 {
        let own = || self.estimate(key(Some(workspace), feature, model));
        let general = || self.estimate(key(None, feature, model));
        own().or_else(general).unwrap_or(OUTPUT_TOKENS_UNKNOWN)
    }

    /// Learns from one recorded use of `requests` requests.
    pub fn learn(&self, workspace: &WorkspaceId, feature: &Feature, model: &ModelId, output_tokens: i64, requests: i64) {
        if output_tokens <= 0 || requests <= 0 {
            return;
        }
        let each = output_tokens / requests;
        self.learn_one(key(Some(workspace), feature, model), each);
        self.learn_one(key(None, feature, model), each);
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Sketch>> {
        self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn estimate(&self, key: u64) -> Option<i64> {
        self.shard(key).get(&key).and_then(Sketch::estimate)
    }

    fn learn_one(&self, key: u64, output_tokens: i64) {
        let mut shard = self.shard(key);
        if shard.len() >= SKETCHES_MAX / SHARDS && !shard.contains_key(&key) {
            shard.clear();
        }
        shard.entry(key).or_default().learn(output_tokens);
    }
}

fn key(workspace: Option<&WorkspaceId>, feature: &Feature, model: &ModelId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (workspace, feature, model).hash(&mut hasher);
    hasher.finish()
}
