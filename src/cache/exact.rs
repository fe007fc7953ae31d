//! The store of exact answers: one answer for one key, with whatever finds it again.
//!
//! What every store promises, and `tests` below check on each:
//! 1. A key gives what was put under it last, until it expires, is forgotten, purged, or pushed out.
//! 2. A workspace and feature have at most so many entries and bytes as the put says; what expires first is pushed out first in Redis, what
//!    was used longest ago in this process.
//! 3. Of those who look for a key that has nothing, one leads until [`LEADER_SECONDS`] have passed, something is put, or it gives up;
//!    what another has taken over since, nobody else gives up.
//! 4. An entry that was put under a key of its own again is forgotten only by its own id.
//! 5. Whose an answer was is still known after it went before its time: for an hour at most in Redis, and in this
//!    process until it would have expired, of a bounded number.

use crate::decision::cache::key::Key;
use crate::decision::id::{CacheEntryId, Feature, ReservationId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// How long the one who leads is waited for.
pub const LEADER_SECONDS: i64 = 60;
/// The most that the answers of one workspace and feature take.
pub const FEATURE_BYTES_MAX: usize = 64 << 20;

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("exact answers could not be reached")]
pub struct ExactError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What a look found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Looked {
    /// The counters beside it know the reservation, so the request was decided before; then nothing else was looked at. `None`: not known here.
    pub is_decided: Option<bool>,
    pub answer: Option<Vec<u8>>,
    /// Nobody is about to bring an answer: whoever asks should, and others may wait for it.
    pub leads: bool,
}

/// An answer to keep.
#[derive(Clone, Debug)]
pub struct Put<'a> {
    pub workspace: &'a WorkspaceId,
    pub feature: &'a Feature,
    pub key: Key,
    pub id: CacheEntryId,
    pub answer: &'a [u8],
    pub expires_at: Timestamp,
    pub entries_max: u32,
}

/// A store of exact answers.
#[async_trait]
pub trait ExactStore: Send + Sync {
    async fn look(&self, workspace: &WorkspaceId, reservation: ReservationId, key: &Key, now: Timestamp) -> Result<Looked, ExactError>;

    /// Leads for a key, whatever is kept under it. False: somebody else does.
    async fn lead(&self, workspace: &WorkspaceId, key: &Key, now: Timestamp) -> Result<bool, ExactError>;

    /// Ends a lead that would have lasted until then, so that the next who looks leads. False: it was not there any more.
    async fn give_up(&self, workspace: &WorkspaceId, key: &Key, until: Timestamp) -> Result<bool, ExactError>;

    /// False: there is no room for it.
    async fn put(&self, put: &Put<'_>, now: Timestamp) -> Result<bool, ExactError>;

    /// Whose an entry is, and the entry if it is still there; `None`: there never was one, or too long ago.
    async fn find(&self, id: CacheEntryId, now: Timestamp) -> Result<Option<(WorkspaceId, Option<Vec<u8>>)>, ExactError>;

    /// Forgets an entry, and says whether it was there.
    async fn forget(&self, id: CacheEntryId, now: Timestamp) -> Result<bool, ExactError>;

    /// Forgets what is kept of a workspace, or of one feature of it, and says how much that was.
    async fn purge(&self, workspace: &WorkspaceId, feature: Option<&Feature>) -> Result<u64, ExactError>;
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
