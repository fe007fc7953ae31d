//! What happens to kept answers beside requests: other nodes' are followed, an operator purges, a caller says that one was wrong, and what is old
//! goes. What goes is gone from the stores at once, so that no node gives it any more; that its vector goes from the memory of others takes them
//! their poll.

use super::super::audit::{self, By, Subject};
use super::super::find::visible;
use super::super::{FlowError, Service};
use super::keep::signature;
use crate::cache::exact::ExactError;
use crate::cache::index::Item;
use crate::cache::vector::Vector;
use crate::counters::CountersError;
use crate::decision::id::{CacheEntryId, Feature, WorkspaceId};
use crate::ledger::cached::{CacheChange, CachePruning, CachedAnswer, Going};
use serde_json::json;

/// How many changes are followed at a time.
const PAGE: usize = 500;
/// How long a row tells other nodes that its answer is gone.
const GONE_KEPT_SECONDS: i64 = 3_600;
/// How many answers the ledger keeps, the newest ones.
const ROWS_MAX: usize = 1_000_000;
/// How many are deleted in one statement, and how many statements one round makes.
const PRUNE_ROWS: usize = 1_000;
const PRUNE_SLICES_MAX: usize = 50;

fn away(error: ExactError) -> FlowError {
    FlowError::Counters(CountersError {
        act: "reach kept answers",
        cause: error.into(),
    })
}

/// Takes over what other nodes have kept and dropped, and says how much that was.
pub async fn follow(service: &Service) -> Result<usize, FlowError> {
    let mut followed = service.cache.followed.lock().await;
    let mut changes = 0;
    loop {
        let page = service.ledger.cached_changed(*followed, PAGE).await?;
        let count = page.len();
        for (place, change) in page {
            match change {
                CacheChange::Gone(id) => drop(service.cache.index.forget(id)),
                CacheChange::Kept(row) => take_in(service, *row),
            }
            *followed = place;
        }
        changes += count;
        if count < PAGE {
            break;
        }
    }
    service.cache.index.expire(service.clock.now());
    let (entries, bytes) = service.cache.index.size();
    metrics::gauge!("weir_cache_vectors").set(entries as f64);
    metrics::gauge!("weir_cache_vector_bytes").set(bytes as f64);
    Ok(changes)
}

fn take_in(service: &Service, row: CachedAnswer) {
    let Some(vector) = Vector::from_bytes(&row.vector).filter(|_| service.clock.now() < row.expires_at) else {
        return;
    };
    let item = Item {
        signature: signature(&row.signature),
        workspace: row.workspace,
        feature: row.feature,
        partition: row.partition,
        id: row.id,
        vector,
        stored_at: row.stored_at,
        expires_at: row.expires_at,
    };
    // Whoever stored it has kept to the plan's number.
    service.cache.index.insert(item, usize::MAX);
}

/// Forgets what is kept of a workspace, or of one feature of it, and says how many answers that were. Those of requests that are under way may
/// still be kept after it.
pub async fn purge(service: &Service, workspace: &WorkspaceId, feature: Option<&Feature>, by: &By) -> Result<u64, FlowError> {
    let exact = service.cache.exact.purge(workspace, feature).await.map_err(away)?;
    let what = json!({"feature": feature});
    let subject = Subject::of(workspace, "cache", workspace.as_str());
    let record = audit::record(&*service.clock, by, "cache.purge", subject, Some(what), None);
    let similar = service.ledger.purge_cached(workspace, feature, record).await?;
    service.cache.index.purge(workspace, feature);
    let gone = exact.max(similar);
    metrics::counter!("weir_cache_purged_total").increment(gone);
    tracing::info!(%workspace, feature = feature.map(Feature::as_str), gone, "kept answers were purged");
    Ok(gone)
}

/// A caller says whether an answer that was given was right; a wrong one is not given again. Says whether this evicted it.
pub async fn feedback(service: &Service, id: CacheEntryId, is_correct: bool, bound: Option<&WorkspaceId>) -> Result<bool, FlowError> {
    let now = service.clock.now();
    let owner = match service.cache.exact.find(id, now).await.map_err(away)? {
        Some((owner, _)) => Some(owner),
        None => service.ledger.cached_of(id).await?,
    };
    owner.filter(|owner| visible(owner, bound)).ok_or(FlowError::NotFound)?;
    let verdict = if is_correct { "true" } else { "false" };
    metrics::counter!("weir_cache_feedback_total", "correct" => verdict).increment(1);
    if is_correct {
        return Ok(false);
    }
    // The ledger first: exact answers tell whose it is, which whoever repeats this after a failure needs.
    let similar = service.ledger.drop_cached(&Going::These(vec![id]), now).await?;
    service.cache.index.forget(id);
    let exact = service.cache.exact.forget(id, now).await.map_err(away)?;
    Ok(exact || similar > 0)
}

/// Deletes what has expired, has gone, or is too much. For the node that sweeps.
pub async fn prune(service: &Service) -> Result<usize, FlowError> {
    let now = service.clock.now();
    let pruning = CachePruning {
        now,
        gone_before: now.plus_seconds(-GONE_KEPT_SECONDS),
        rows_max: ROWS_MAX,
        limit: PRUNE_ROWS,
    };
    let mut deleted = 0;
    for _ in 0..PRUNE_SLICES_MAX {
        let slice = service.ledger.prune_cached(pruning).await?;
        deleted += slice;
        if slice < PRUNE_ROWS {
            break;
        }
    }
    Ok(deleted)
}
