//! API keys beside the ledger: made, replaced, revoked, followed by other nodes, and when each was used last.
//!
//! 1. A put names the version that it was decided on; of racing puts one is written, with its record in the audit log.
//! 2. Puts are numbered in the order of their commits, so that who follows the numbers misses none.
//! 3. When a key was used last only rises, and is no change: it has no version and no number.
//! 4. A revoked key stays, so that nobody takes it for one that was never heard of; it is in no list.

use super::LedgerError;
use super::audit::Audited;
use crate::decision::api_key::ApiKey;
use crate::decision::id::{KeyId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// The most keys of one page.
pub const PAGE_KEYS_MAX: usize = 500;

/// Which keys to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyQuery {
    pub workspace: Option<WorkspaceId>,
    /// Older than this one.
    pub after: Option<KeyId>,
    pub limit: usize,
}

#[async_trait]
pub trait ApiKeyLedger: Send + Sync {
    /// Creates or replaces a key. False: it is not at `expected_version` (0: not there), and nothing changed.
    async fn put_api_key(&self, key: &ApiKey, expected_version: u32, audited: Audited) -> Result<bool, LedgerError>;

    /// The key, be it revoked; `None`: there never was one.
    async fn api_key(&self, id: KeyId) -> Result<Option<ApiKey>, LedgerError>;

    /// Those that are not revoked.
    async fn api_keys(&self, query: &ApiKeyQuery) -> Result<Vec<ApiKey>, LedgerError>;

    /// At most `limit` keys that were put after change number `after`, each with the number of its last change, in that order.
    async fn api_keys_changed(&self, after: i64, limit: usize) -> Result<Vec<(i64, ApiKey)>, LedgerError>;

    /// The number of the newest change of a key; 0: none was ever put.
    async fn api_key_change(&self) -> Result<i64, LedgerError>;

    /// Notes when keys were used last.
    async fn use_api_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), LedgerError>;
}
