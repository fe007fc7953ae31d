//! The statements about API keys, the same for both stores. Written once and compiled into each (`#[path]`), which brings its own
//! `Connection` and `Fault`.

use super::Connection;
use super::fault::Fault;
use crate::decision::api_key::ApiKey;
use crate::decision::id::KeyId;
use crate::decision::time::Timestamp;
use crate::ledger::api_keys::{ApiKeyQuery, PAGE_KEYS_MAX};
use crate::ledger::record::{ApiKeyRecord, ChangedApiKeyRow};

macro_rules! columns {
    () => {
        "SELECT key_id, name, scopes, workspace_id, secret_hash, replaced_hash, replaced_until, created_by, created_at, expires_at, \
         revoked_at, last_used_at, version"
    };
}

const API_KEY: &str = concat!(columns!(), " FROM api_key WHERE key_id = $1");

/// Older than `$1`, of workspace `$2` or of any; `$3` limit.
const API_KEYS: &str = concat!(
    columns!(),
    " FROM api_key WHERE revoked_at IS NULL AND key_id < $1 AND (CAST($2 AS TEXT) IS NULL OR workspace_id = $2) ",
    "ORDER BY key_id DESC LIMIT $3"
);

/// Those that were put after change `$1`, in the order of their changes; `$2` limit.
const API_KEYS_CHANGED: &str = concat!(
    columns!(),
    ", change_number FROM api_key WHERE change_number > $1 ORDER BY change_number LIMIT $2"
);

const API_KEY_CHANGE: &str = "SELECT last FROM change_number WHERE what = 'api_key'";

const CREATE_API_KEY: &str = "INSERT INTO api_key (key_id, name, scopes, workspace_id, secret_hash, replaced_hash, replaced_until, \
     created_by, created_at, expires_at, revoked_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (key_id) DO NOTHING";

/// `$13` is the version that is replaced. When it was used last is another matter, and stays.
const REPLACE_API_KEY: &str = "UPDATE api_key SET name = $2, scopes = $3, workspace_id = $4, secret_hash = $5, replaced_hash = $6, \
     replaced_until = $7, created_by = $8, created_at = $9, expires_at = $10, revoked_at = $11, version = $12 \
     WHERE key_id = $1 AND version = $13";

/// Takes the number of a change. Whoever comes next waits for this one's commit, so numbers are seen in their order.
const NEXT_CHANGE: &str = "UPDATE change_number SET last = last + 1 WHERE what = 'api_key' RETURNING last";

const NUMBER_API_KEY: &str = "UPDATE api_key SET change_number = $2 WHERE key_id = $1";

const USE_API_KEY: &str = "UPDATE api_key SET last_used_at = $2 WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

/// Sorts after the id of every key.
const AFTER_ALL: &str = "key_~";

pub(in crate::ledger) async fn api_key(connection: &mut Connection, id: KeyId) -> Result<Option<ApiKey>, Fault> {
    let statement = sqlx::query_as::<_, ApiKeyRecord>(API_KEY).bind(id.to_string());
    let row = statement.fetch_optional(connection).await?;
    Ok(row.map(ApiKey::try_from).transpose()?)
}

pub(in crate::ledger) async fn api_keys(connection: &mut Connection, query: &ApiKeyQuery) -> Result<Vec<ApiKey>, Fault> {
    let statement = sqlx::query_as::<_, ApiKeyRecord>(API_KEYS)
        .bind(query.after.map_or_else(|| AFTER_ALL.to_owned(), |id| id.to_string()))
        .bind(query.workspace.as_ref().map(|workspace| workspace.as_str()))
        .bind(count(query.limit.min(PAGE_KEYS_MAX + 1)));
    let rows = statement.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(ApiKey::try_from(row)?)).collect()
}

pub(in crate::ledger) async fn api_keys_changed(
    connection: &mut Connection,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, ApiKey)>, Fault> {
    let statement = sqlx::query_as::<_, ChangedApiKeyRow>(API_KEYS_CHANGED);
    let rows = statement.bind(after).bind(count(limit)).fetch_all(connection).await?;
    let read = |row: ChangedApiKeyRow| Ok((row.change_number, ApiKey::try_from(row.key)?));
    rows.into_iter().map(read).collect()
}

pub(in crate::ledger) async fn api_key_change(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(API_KEY_CHANGE).fetch_one(connection).await?)
}

/// Inside of a transaction. False: nothing was written.
pub(in crate::ledger) async fn put_api_key(connection: &mut Connection, key: &ApiKey, expected_version: u32) -> Result<bool, Fault> {
    let row = ApiKeyRecord::from(key);
    let text = if expected_version == 0 { CREATE_API_KEY } else { REPLACE_API_KEY };
    let statement = sqlx::query(text)
        .bind(&row.key_id)
        .bind(&row.name)
        .bind(&row.scopes)
        .bind(&row.workspace_id)
        .bind(&row.secret_hash)
        .bind(&row.replaced_hash)
        .bind(row.replaced_until)
        .bind(&row.created_by)
        .bind(row.created_at)
        .bind(row.expires_at)
        .bind(row.revoked_at)
        .bind(row.version);
    let statement = match expected_version {
        0 => statement,
        expected => statement.bind(i64::from(expected)),
    };
    if statement.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(false);
    }
    // The number is taken last: its lock, which all changes of keys share, is held for as short as can be.
    let number: i64 = sqlx::query_scalar(NEXT_CHANGE).fetch_one(&mut *connection).await?;
    let numbered = sqlx::query(NUMBER_API_KEY).bind(&row.key_id).bind(number);
    numbered.execute(connection).await?;
    Ok(true)
}

/// Inside of a transaction. `uses` are in the order of their ids, so that two nodes that note the same keys do not cross.
pub(in crate::ledger) async fn use_api_keys(connection: &mut Connection, uses: &[(KeyId, Timestamp)]) -> Result<(), Fault> {
    for (id, at) in uses {
        let statement = sqlx::query(USE_API_KEY).bind(id.to_string()).bind(at.micros());
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
