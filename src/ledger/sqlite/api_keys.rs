//! API keys in SQLite: puts and uses go through the one writer, like every write.

use super::writer::Job;
use super::{Connection, SqliteLedger, fault};
use crate::decision::api_key::ApiKey;
use crate::decision::id::KeyId;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::api_keys::{ApiKeyLedger, ApiKeyQuery};
use async_trait::async_trait;

#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../api_keys_sql.rs"]
mod read;
pub(super) use read::{put_api_key, use_api_keys};

#[async_trait]
impl ApiKeyLedger for SqliteLedger {
    async fn put_api_key(&self, key: &ApiKey, expected_version: u32) -> Result<bool, LedgerError> {
        let ask = (key.clone(), expected_version);
        let put = |call| Job::PutApiKey(Box::new(call));
        self.writer.ask("write an API key", ask, put).await
    }

    async fn api_key(&self, id: KeyId) -> Result<Option<ApiKey>, LedgerError> {
        read!(self, "read an API key", api_key(id))
    }

    async fn api_keys(&self, query: &ApiKeyQuery) -> Result<Vec<ApiKey>, LedgerError> {
        read!(self, "list API keys", api_keys(query))
    }

    async fn api_keys_changed(&self, after: i64, limit: usize) -> Result<Vec<(i64, ApiKey)>, LedgerError> {
        read!(self, "read which API keys changed", api_keys_changed(after, limit))
    }

    async fn api_key_change(&self) -> Result<i64, LedgerError> {
        read!(self, "read the newest change of an API key", api_key_change())
    }

    async fn use_api_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), LedgerError> {
        self.writer.ask("note the use of API keys", uses, Job::UseApiKeys).await
    }
}
