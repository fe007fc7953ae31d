//! Entries by their id, and the corrections of what they say. A correction is an entry of its own; it and the record of who made it are
//! one transaction. Its post is of a reservation that stands for all corrections of one entry, so two that race are decided in turn.

use super::audit::Audited;
use super::record::EntryRecord;
use super::sql::columns;
use super::{LedgerError, Post, Posted};
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, ModelId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// One correction, and who makes it.
#[derive(Clone, Debug)]
pub struct Correction {
    pub post: Post,
    pub audited: Audited,
}

/// Which uses without a price to list, oldest first.
#[derive(Clone, Debug, Default)]
pub struct UnpricedQuery {
    pub workspace: Option<WorkspaceId>,
    /// As it was recorded.
    pub model: Option<ModelId>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// After this entry, in the order of the list.
    pub after: Option<(Timestamp, EntryId)>,
    pub limit: usize,
}

impl UnpricedQuery {
    /// Columns that must have a value, in the order in which their values are bound, from `$6` on.
    pub(super) fn filters(&self) -> Vec<(&'static str, &str)> {
        let workspace = self.workspace.as_ref().map(WorkspaceId::as_str);
        let model = self.model.as_ref().map(ModelId::as_str);
        let filters = [("workspace_id", workspace), ("model", model)];
        let named = filters.into_iter().filter_map(|(column, value)| Some((column, value?)));
        named.collect()
    }
}

/// The part of a ledger that corrects.
#[async_trait]
pub trait CorrectionLedger: Send + Sync {
    async fn entry(&self, id: EntryId) -> Result<Option<Entry>, LedgerError>;

    /// The corrections of these entries, in the order in which they were recorded.
    async fn corrections(&self, entries: &[EntryId]) -> Result<Vec<Entry>, LedgerError>;

    /// Uses that were recorded without a price and that no correction has given one.
    async fn unpriced(&self, query: &UnpricedQuery) -> Result<Vec<Entry>, LedgerError>;

    /// Posts these in one transaction, each that is still decided on what stands, and tells what became of each.
    async fn correct(&self, corrections: Vec<Correction>) -> Result<Vec<Posted>, LedgerError>;

    /// The policy versions in which an object changed, newest first, not more than some hundreds.
    async fn policy_versions_of(&self, kind: &str, id: &str) -> Result<Vec<i64>, LedgerError>;
}

/// `$1` entry id.
pub(super) fn entry() -> String {
    format!("SELECT {} FROM entry WHERE entry_id = $1", columns::<EntryRecord>())
}

/// Oldest first: `$1` from, `$2` to, (`$3`, `$4`) after this place in the list, `$5` limit, then the filters.
pub(super) fn unpriced(query: &UnpricedQuery) -> String {
    let filters = query.filters();
    let named = filters.iter().zip(6..);
    let conditions: String = named.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    format!(
        "SELECT {} FROM entry WHERE NOT priced AND kind = 'usage' AND occurred_at >= $1 AND occurred_at < $2 \
         AND (occurred_at, entry_id) > ($3, $4) {conditions}\
         AND NOT EXISTS (SELECT 1 FROM entry AS later WHERE later.corrects = entry.entry_id AND later.priced) \
         ORDER BY occurred_at, entry_id LIMIT $5",
        columns::<EntryRecord>(),
    )
}

/// `$1` kind, `$2` id.
pub(super) const POLICY_VERSIONS_OF: &str =
    "SELECT policy_version FROM policy_object WHERE kind = $1 AND id = $2 ORDER BY version DESC LIMIT 500";
