//! Reads of the policy's past. Compiled into each store, as `read.rs` is.

use super::fault::Fault;
use super::{Connection, read};
use crate::decision::id::PlanId;
use crate::decision::time::Timestamp;
use crate::ledger::PolicyChange;
use crate::ledger::history::{ChangedObject, HistoryQuery, PolicyVersion};

/// Versions before `$1` that changed the object `$2`, `$3` (any, where `$2` is empty), newest first; `$4` limit.
const VERSIONS: &str = "SELECT version, changed_at, actor, reason, files_hash FROM policy_version AS head WHERE version < $1 \
     AND ($2 = '' OR EXISTS (SELECT 1 FROM policy_object AS object WHERE object.policy_version = head.version AND object.kind = $2 \
     AND object.id = $3)) ORDER BY version DESC LIMIT $4";

/// What the versions from `$1` to `$2` changed.
const OBJECTS: &str = "SELECT policy_version, kind, id, version, CAST(CASE WHEN body IS NULL THEN 1 ELSE 0 END AS BIGINT) \
     FROM policy_object WHERE policy_version >= $1 AND policy_version <= $2 ORDER BY policy_version, kind, id";

const BY_PLAN: &str = "SELECT plan_id, CAST(COUNT(*) AS BIGINT) FROM workspace GROUP BY plan_id ORDER BY plan_id";

/// Whether a plan was there and is no more.
const PLAN_IS_GONE: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM policy_object WHERE kind = 'plan' AND id = $1 AND body IS NULL \
     AND version = (SELECT MAX(version) FROM policy_object WHERE kind = 'plan' AND id = $1)";

type VersionRow = (i64, i64, String, String, Option<String>);

/// Two statements over what never changes once it is there.
pub(super) async fn history(connection: &mut Connection, query: &HistoryQuery) -> Result<Vec<PolicyVersion>, Fault> {
    let (kind, id) = query.object.clone().unwrap_or_default();
    let statement = sqlx::query_as::<_, VersionRow>(VERSIONS)
        .bind(query.before.unwrap_or(i64::MAX))
        .bind(kind);
    let statement = statement.bind(id).bind(i64::try_from(query.limit).unwrap_or(i64::MAX));
    let rows = statement.fetch_all(&mut *connection).await?;
    let mut versions: Vec<PolicyVersion> = rows
        .into_iter()
        .map(|(version, changed_at, actor, reason, files_hash)| PolicyVersion {
            version,
            changed_at: Timestamp::from_micros(changed_at),
            actor,
            reason,
            files_hash,
            objects: Vec::new(),
        })
        .collect();
    let (Some(newest), Some(oldest)) = (versions.first(), versions.last()) else {
        return Ok(versions);
    };
    let statement = sqlx::query_as::<_, (i64, String, String, i64, i64)>(OBJECTS);
    let rows = statement.bind(oldest.version).bind(newest.version).fetch_all(connection).await?;
    for (policy_version, kind, id, version, is_deleted) in rows {
        if let Some(head) = versions.iter_mut().find(|head| head.version == policy_version) {
            head.objects.push(ChangedObject {
                kind,
                id,
                version: u32::try_from(version).unwrap_or(u32::MAX),
                is_deleted: is_deleted != 0,
            });
        }
    }
    Ok(versions)
}

/// Whether a workspace may not be put on this plan any more. Plans of which the policy never knew are not its matter.
pub(super) async fn is_gone(connection: &mut Connection, plan: Option<&PlanId>) -> Result<bool, Fault> {
    let Some(plan) = plan else { return Ok(false) };
    let gone: i64 = sqlx::query_scalar(PLAN_IS_GONE).bind(plan.as_str()).fetch_one(connection).await?;
    Ok(gone > 0)
}

/// Whether a workspace is on one of the plans that a change takes away.
pub(super) async fn would_strand(connection: &mut Connection, change: &PolicyChange) -> Result<bool, Fault> {
    for plan in change.plans_gone() {
        if read::workspace_on_plan(&mut *connection, plan).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) async fn workspaces_by_plan(connection: &mut Connection) -> Result<Vec<(Option<String>, u64)>, Fault> {
    let rows = sqlx::query_as::<_, (Option<String>, i64)>(BY_PLAN).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(plan, count)| (plan, u64::try_from(count).unwrap_or(0)))
        .collect())
}
