//! API keys in SQLite.

use super::describe::Description;
use super::fault::{self, Fault};
use super::{Connection, SqliteLedger, audited};
use crate::decision::api_key::ApiKey;
use crate::decision::id::KeyId;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::api_keys::{ApiKeyLedger, ApiKeyQuery};
use crate::ledger::audit::Audited;
use async_trait::async_trait;

#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../api_keys_sql.rs"]
mod read;

/// A key as it is to be.
struct ApiKeyPut {
    key: ApiKey,
    /// 0: it is not there.
    expected_version: u32,
    audited: Audited,
}

#[async_trait]
impl Description<bool> for ApiKeyPut {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        if !read::put_api_key(connection, &self.key, self.expected_version).await? {
            return Ok((false, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        Ok((true, true))
    }
}

/// When keys were used last.
struct Uses(Vec<(KeyId, Timestamp)>);

#[async_trait]
impl Description<()> for Uses {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        read::use_api_keys(connection, &self.0).await?;
        Ok(((), true))
    }
}

#[async_trait]
impl ApiKeyLedger for SqliteLedger {
    async fn put_api_key(&self, key: &ApiKey, expected_version: u32, audited: Audited) -> Result<bool, LedgerError> {
        let put = ApiKeyPut {
            key: key.clone(),
            expected_version,
            audited,
        };
        self.describe("write an API key", put).await
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
        self.describe("note the use of API keys", Uses(uses)).await
    }
}
