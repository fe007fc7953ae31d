//! Answers that may be given to similar prompts. Neither the truth of anything nor append-only: they expire, are purged, and are pruned. What
//! they say is bytes that the cache encodes and reads.

use super::LedgerError;
use super::audit::Audited;
use super::record::{Unreadable, parse, workspace_id};
use crate::decision::cache::key::Partition;
use crate::decision::id::{CacheEntryId, Feature, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// An answer with what it is found by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CachedAnswer {
    pub id: CacheEntryId,
    pub workspace: WorkspaceId,
    pub feature: Feature,
    pub partition: Partition,
    pub vector: Vec<u8>,
    pub signature: Vec<u8>,
    /// Empty where only what it is found by was asked for.
    pub answer: Vec<u8>,
    pub stored_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What became of an answer, as nodes follow it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheChange {
    /// Without the answer itself.
    Kept(Box<CachedAnswer>),
    Gone(CacheEntryId),
}

/// The place of a change among all: what follows it came later, or at once and behind it.
pub type ChangePlace = (i64, Option<CacheEntryId>);

/// Which answers are to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Going {
    These(Vec<CacheEntryId>),
    /// All of a workspace, or of one feature of it.
    Of(WorkspaceId, Option<Feature>),
}

/// What the requests of one feature came to, and how many an answer was there for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheUse {
    pub feature: Feature,
    /// Requests that a model served.
    pub requests: i64,
    /// Requests for which an answer was there.
    pub hits: i64,
    /// What the feature cost.
    pub cost: Usd,
    /// What its hits would have cost at list price.
    pub avoided: Usd,
}

/// What is deleted for good.
#[derive(Clone, Copy, Debug)]
pub struct CachePruning {
    pub now: Timestamp,
    /// What has gone before this moment has been told to everybody.
    pub gone_before: Timestamp,
    /// Of the rest all but the newest so many.
    pub rows_max: usize,
    /// At most so many in one call.
    pub limit: usize,
}

/// A ledger that keeps answers.
#[async_trait]
pub trait CacheLedger: Send + Sync {
    /// Keeps an answer. One that is there already stays as it is.
    async fn put_cached(&self, answer: &CachedAnswer) -> Result<(), LedgerError>;

    /// An answer by its id; `None`: it is not there, or not any more.
    async fn cached(&self, id: CacheEntryId) -> Result<Option<CachedAnswer>, LedgerError>;

    /// Whose an answer is or was; `None`: it was pruned, or never was.
    async fn cached_of(&self, id: CacheEntryId) -> Result<Option<WorkspaceId>, LedgerError>;

    /// At most `limit` answers that came or went after this place, each with its own, in their order. One that is numbered later than another
    /// is also seen later: who follows the places misses none.
    async fn cached_changed(&self, after: ChangePlace, limit: usize) -> Result<Vec<(ChangePlace, CacheChange)>, LedgerError>;

    /// Has answers go, and says how many were there.
    async fn drop_cached(&self, going: &Going, now: Timestamp) -> Result<u64, LedgerError>;

    /// Has the answers of a workspace, or of one feature of it, go at the moment of this record, which is written with it, and says how many
    /// were there.
    async fn purge_cached(&self, workspace: &WorkspaceId, feature: Option<&Feature>, audited: Audited) -> Result<u64, LedgerError>;

    /// What features came to of whatever occurred from `from` on and before `to`, of one workspace or all; those with most hits first.
    async fn cache_use(&self, workspace: Option<&WorkspaceId>, from: Timestamp, to: Timestamp) -> Result<Vec<CacheUse>, LedgerError>;

    /// Deletes what has expired, has gone, or is too much, and says how much; less than the limit: that was all.
    async fn prune_cached(&self, pruning: CachePruning) -> Result<usize, LedgerError>;
}

/// A row of `cache_entry`.
#[derive(sqlx::FromRow)]
pub(super) struct CachedRow {
    cache_entry_id: String,
    workspace_id: String,
    feature: String,
    partition_key: Vec<u8>,
    vector: Vec<u8>,
    signature: Vec<u8>,
    answer: Vec<u8>,
    stored_at: i64,
    expires_at: i64,
    gone_at: Option<i64>,
    change_number: i64,
}

pub(super) fn read_id(text: &str) -> Result<CacheEntryId, Unreadable> {
    parse("cache_entry_id", text, CacheEntryId::parse)
}

impl CachedRow {
    pub(super) fn place(&self) -> Result<ChangePlace, Unreadable> {
        Ok((self.change_number, Some(read_id(&self.cache_entry_id)?)))
    }
}

impl TryFrom<CachedRow> for CachedAnswer {
    type Error = Unreadable;

    fn try_from(row: CachedRow) -> Result<Self, Unreadable> {
        let partition =
            |_: &str| <[u8; 32]>::try_from(row.partition_key.as_slice()).map_err(|_| "its partition is not 32 bytes long".to_owned());
        Ok(Self {
            id: read_id(&row.cache_entry_id)?,
            workspace: workspace_id(&row.workspace_id)?,
            feature: parse("feature", &row.feature, Feature::parse)?,
            partition: Partition::from_bytes(parse("cache_entry_id", &row.cache_entry_id, partition)?),
            vector: row.vector,
            signature: row.signature,
            answer: row.answer,
            stored_at: Timestamp::from_micros(row.stored_at),
            expires_at: Timestamp::from_micros(row.expires_at),
        })
    }
}

impl TryFrom<CachedRow> for CacheChange {
    type Error = Unreadable;

    fn try_from(row: CachedRow) -> Result<Self, Unreadable> {
        match row.gone_at {
            Some(_) => Ok(CacheChange::Gone(read_id(&row.cache_entry_id)?)),
            None => Ok(CacheChange::Kept(Box::new(row.try_into()?))),
        }
    }
}
