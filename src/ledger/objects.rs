//! Policy objects as rows: those of one change are written together, each with the version after its last one.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::fault::Fault;
use super::{Connection, many};
use crate::ledger::PolicyChange;
use crate::ledger::record::PolicyObjectRecord;
use std::collections::HashMap;

/// From so many objects on, all last versions are read at once; each by itself is a statement more.
const TOGETHER_MIN: usize = 16;

const LAST_VERSION: &str = "SELECT kind, id, MAX(version) FROM policy_object WHERE kind = $1 AND id = $2 GROUP BY kind, id";
const LAST_VERSIONS: &str = "SELECT kind, id, MAX(version) FROM policy_object GROUP BY kind, id";

type Last = (String, String, i64);

/// Writes the objects of a change that makes this policy version.
pub(super) async fn write(connection: &mut Connection, change: &PolicyChange, policy_version: i64) -> Result<(), Fault> {
    let mut last: HashMap<(String, String), i64> = HashMap::new();
    let mut note = |rows: Vec<Last>| last.extend(rows.into_iter().map(|(kind, id, version)| ((kind, id), version)));
    if change.objects.len() < TOGETHER_MIN {
        for (kind, id, _) in &change.objects {
            note(sqlx::query_as(LAST_VERSION).bind(kind).bind(id).fetch_all(&mut *connection).await?);
        }
    } else {
        note(sqlx::query_as(LAST_VERSIONS).fetch_all(&mut *connection).await?);
    }
    let record = |(kind, id, body): &(String, String, Option<serde_json::Value>)| PolicyObjectRecord {
        kind: kind.clone(),
        id: id.clone(),
        version: 1 + last.get(&(kind.clone(), id.clone())).copied().unwrap_or(0),
        policy_version,
        body: body.as_ref().map(serde_json::Value::to_string),
    };
    many::insert(connection, change.objects.iter().map(record).collect()).await
}
