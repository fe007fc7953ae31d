//! `api_key`: a credential that Weir made, without its secret.

use super::{Unreadable, narrow, parse, parse_some};
use crate::decision::api_key::{ApiKey, HASH_BYTES, Replaced, SecretHash};
use crate::decision::id::{KeyId, WorkspaceId};
use crate::decision::scope::{Scope, ScopeSet};
use crate::decision::time::Timestamp;

/// A row of `api_key`.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ApiKeyRecord {
    pub(in crate::ledger) key_id: String,
    pub(in crate::ledger) name: Option<String>,
    pub(in crate::ledger) scopes: String,
    pub(in crate::ledger) workspace_id: Option<String>,
    pub(in crate::ledger) secret_hash: String,
    pub(in crate::ledger) replaced_hash: Option<String>,
    pub(in crate::ledger) replaced_until: Option<i64>,
    pub(in crate::ledger) created_by: String,
    pub(in crate::ledger) created_at: i64,
    pub(in crate::ledger) expires_at: Option<i64>,
    pub(in crate::ledger) revoked_at: Option<i64>,
    pub(in crate::ledger) last_used_at: Option<i64>,
    pub(in crate::ledger) version: i64,
}

/// A key with the number of its last change.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ChangedApiKeyRow {
    #[sqlx(flatten)]
    pub(in crate::ledger) key: ApiKeyRecord,
    pub(in crate::ledger) change_number: i64,
}

impl From<&ApiKey> for ApiKeyRecord {
    fn from(key: &ApiKey) -> Self {
        Self {
            key_id: key.id.to_string(),
            name: key.name.clone(),
            scopes: key.scopes.joined(" "),
            workspace_id: key.workspace.as_ref().map(WorkspaceId::to_string),
            secret_hash: hex(&key.hash),
            replaced_hash: key.replaced.map(|replaced| hex(&replaced.hash)),
            replaced_until: key.replaced.map(|replaced| replaced.until.micros()),
            created_by: key.created_by.clone(),
            created_at: key.created_at.micros(),
            expires_at: key.expires_at.map(Timestamp::micros),
            revoked_at: key.revoked_at.map(Timestamp::micros),
            last_used_at: key.last_used_at.map(Timestamp::micros),
            version: i64::from(key.version),
        }
    }
}

impl TryFrom<ApiKeyRecord> for ApiKey {
    type Error = Unreadable;

    fn try_from(row: ApiKeyRecord) -> Result<Self, Unreadable> {
        let replaced_hash = parse_some("replaced_hash", row.replaced_hash.as_deref(), unhex)?;
        let replaced = replaced_hash.zip(row.replaced_until).map(|(hash, until)| Replaced {
            hash,
            until: Timestamp::from_micros(until),
        });
        Ok(Self {
            id: parse("key_id", &row.key_id, KeyId::parse)?,
            scopes: parse("scopes", &row.scopes, scopes)?,
            workspace: parse_some("workspace_id", row.workspace_id.as_deref(), WorkspaceId::parse)?,
            hash: parse("secret_hash", &row.secret_hash, unhex)?,
            replaced,
            name: row.name,
            created_by: row.created_by,
            created_at: Timestamp::from_micros(row.created_at),
            expires_at: row.expires_at.map(Timestamp::from_micros),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
            last_used_at: row.last_used_at.map(Timestamp::from_micros),
            version: narrow("version", row.version)?,
        })
    }
}

/// A word that is not known is of a later version: a key with it may do less here, and never more.
fn scopes(text: &str) -> Result<ScopeSet, String> {
    Ok(text.split(' ').filter_map(Scope::parse).fold(ScopeSet::EMPTY, ScopeSet::with))
}

fn hex(hash: &SecretHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<SecretHash, String> {
    let broken = || format!("is not {HASH_BYTES} bytes in hexadecimal digits");
    if text.len() != 2 * HASH_BYTES || !text.is_ascii() {
        return Err(broken());
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| broken())?;
    }
    Ok(SecretHash(hash))
}
