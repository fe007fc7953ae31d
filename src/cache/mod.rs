//! Answers that are kept and given again: exact ones beside the counters, similar ones found by their vectors.
//!
//! - [`exact`]: the answer to this very request, under a key of everything that tells requests apart. Two stores: this process ([`memory`])
//!   and the Redis of the counters ([`redis`]), each bounded by entries and bytes.
//! - [`index`]: the vectors of this node, scanned flat, one partition at a time. The answers to them lie in the ledger's database, which all
//!   nodes follow; what is gone there is not given again by anybody, whatever a node still has in memory.
//! - [`embedder`]: the client of the endpoint that makes vectors of prompts, for callers who do not bring their own.
//!
//! Invariant: nothing here is looked up under less than a digest of workspace (and user), feature, model family, system prompt and parameters
//! ([`crate::decision::cache::key`]): an answer never crosses one of them. Nothing here decides about money; whatever fails here is a miss.

pub mod answer;
mod breaker;
pub mod embedder;
pub mod exact;
pub mod index;
pub mod memory;
pub mod redis;
pub mod vector;

use crate::counters::Counters;
use crate::decision::id::CacheEntryId;
use embedder::{Embedder, EmbeddingSettings};
use exact::ExactStore;
use index::Index;
use std::sync::Arc;
use tokio::sync::Mutex;

/// All that a service keeps of answers.
pub struct Cache {
    pub exact: Arc<dyn ExactStore>,
    pub index: Arc<Index>,
    /// Up to where the answers of other nodes were followed; held by whoever follows.
    pub followed: Mutex<(i64, Option<CacheEntryId>)>,
    /// `None`: only callers bring vectors.
    pub embedder: Option<Embedder>,
}

impl Cache {
    /// Beside these counters: where they are shared, exact answers are too.
    pub fn beside(counters: &dyn Counters, embeddings: Option<&EmbeddingSettings>) -> Self {
        let exact: Arc<dyn ExactStore> = match counters.beside() {
            Some(beside) => Arc::new(redis::RedisExact::new(beside)),
            None => Arc::new(memory::MemoryExact::default()),
        };
        Self {
            exact,
            index: Arc::default(),
            followed: Mutex::default(),
            embedder: embeddings.map(Embedder::new),
        }
    }
}
