//! Kept answers in SQLite.

use super::describe::Description;
use super::fault::{self, Fault};
use super::{Connection, SqliteLedger, audited};
use crate::decision::id::{CacheEntryId, Feature, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::audit::Audited;
use crate::ledger::cached::{CacheChange, CacheLedger, CachePruning, CacheUse, CachedAnswer, ChangePlace, Going};
use async_trait::async_trait;

#[allow(clippy::duplicate_mod, reason = "written once, compiled for the connection of each store")]
#[path = "../cached_sql.rs"]
mod read;

struct Putting(CachedAnswer);

#[async_trait]
impl Description<()> for Putting {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        read::put_cached(connection, &self.0).await?;
        Ok(((), true))
    }
}

struct Dropping {
    going: Going,
    now: Timestamp,
    audited: Option<Audited>,
}

#[async_trait]
impl Description<u64> for Dropping {
    async fn write(&self, connection: &mut Connection) -> Result<(u64, bool), Fault> {
        let gone = read::drop_cached(connection, &self.going, self.now).await?;
        audited::write(connection, self.audited.as_slice()).await?;
        Ok((gone, true))
    }
}

#[async_trait]
impl Description<usize> for CachePruning {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        Ok((read::prune_cached(connection, self).await?, true))
    }
}

#[async_trait]
impl CacheLedger for SqliteLedger {
    async fn put_cached(&self, answer: &CachedAnswer) -> Result<(), LedgerError> {
        self.describe("keep an answer", Putting(answer.clone())).await
    }

    async fn cached(&self, id: CacheEntryId) -> Result<Option<CachedAnswer>, LedgerError> {
        read!(self, "read a kept answer", cached(id))
    }

    async fn cached_of(&self, id: CacheEntryId) -> Result<Option<WorkspaceId>, LedgerError> {
        read!(self, "read whose a kept answer is", cached_of(id))
    }

    async fn cached_changed(&self, after: ChangePlace, limit: usize) -> Result<Vec<(ChangePlace, CacheChange)>, LedgerError> {
        read!(self, "read which answers came and went", cached_changed(after, limit))
    }

    async fn cache_use(&self, workspace: Option<&WorkspaceId>, from: Timestamp, to: Timestamp) -> Result<Vec<CacheUse>, LedgerError> {
        read!(self, "sum the use of features up", cache_use(workspace, from, to))
    }

    async fn drop_cached(&self, going: &Going, now: Timestamp) -> Result<u64, LedgerError> {
        let dropping = Dropping {
            going: going.clone(),
            now,
            audited: None,
        };
        self.describe("drop kept answers", dropping).await
    }

    async fn purge_cached(&self, workspace: &WorkspaceId, feature: Option<&Feature>, audited: Audited) -> Result<u64, LedgerError> {
        let purging = Dropping {
            going: Going::Of(workspace.clone(), feature.cloned()),
            now: audited.changed_at,
            audited: Some(audited),
        };
        self.describe("purge kept answers", purging).await
    }

    async fn prune_cached(&self, pruning: CachePruning) -> Result<usize, LedgerError> {
        self.describe("prune kept answers", pruning).await
    }
}
