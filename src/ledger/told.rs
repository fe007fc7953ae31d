//! What reconcile asks a ledger about batches: those that one customer was told of in a stretch of time, what batches of windows add up to,
//! and which entries no batch has although every pass has been over them. Reads only; what is found is mended by [`BillingLedger`].

#[cfg(doc)]
use super::billing::BillingLedger;

use super::LedgerError;
use super::audit::By;
use super::billing_sql::{column, is_metered};
use super::record::BATCH_COLUMNS;
use crate::decision::billing::delivery::ReasonCode;
use crate::decision::billing::{Batch, State};
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::meter::{Factor, Meter};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// A customer and an event name, as the provider knows both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ToldAccount {
    pub customer: String,
    pub event_name: String,
}

/// Which stretch of time, and whose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    pub workspace: Option<WorkspaceId>,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What is to be reconciled, and who wants it.
#[derive(Clone, Debug)]
pub struct Scope {
    pub from: Timestamp,
    pub to: Timestamp,
    pub workspace: Option<WorkspaceId>,
    pub meter: Option<MeterId>,
    pub by: By,
}

/// What the batches of one workspace, meter and state add up to, of windows that begin in a stretch of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowSum {
    pub workspace: WorkspaceId,
    pub meter: MeterId,
    pub event_name: String,
    pub state: State,
    pub reason: Option<ReasonCode>,
    pub factor: Factor,
    pub batches: i64,
    pub counted: i64,
    pub value: i64,
}

/// What the entries count that are members of the sealed batches of one workspace and meter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSum {
    pub workspace: WorkspaceId,
    pub meter: MeterId,
    pub event_name: String,
    pub counted: i64,
}

/// Entries that should be members of a batch by now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forgotten {
    pub workspace: WorkspaceId,
    pub entries: i64,
    pub counted: i64,
}

/// A ledger that can be reconciled with a provider.
#[async_trait]
pub trait ToldLedger: Send + Sync {
    /// The next customers and event names, in order, of which batches were told as of the stretch.
    async fn told_accounts(&self, stretch: &Stretch, after: Option<&ToldAccount>, limit: usize) -> Result<Vec<ToldAccount>, LedgerError>;

    /// The batches of a customer and event name, of whichever workspace, that were told as of a time in a stretch.
    async fn told_batches(&self, account: &ToldAccount, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, LedgerError>;

    /// The batches of a customer and event name that were used last in a stretch and told as of a time outside of it: before the books of then
    /// were closed they may have been told as of their own time.
    async fn told_elsewhere(&self, account: &ToldAccount, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, LedgerError>;

    /// The batches that a provider may have been told of while this stretch passed, whatever time it was told, and may still be thought to
    /// have.
    async fn told_while(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, LedgerError>;

    /// What batches of windows that begin in a stretch add up to, open ones too.
    async fn window_sums(&self, stretch: &Stretch) -> Result<Vec<WindowSum>, LedgerError>;

    /// What the entries count that sealed batches of windows that begin in a stretch are made of, as the entries have it.
    async fn member_sums(&self, stretch: &Stretch) -> Result<Vec<MemberSum>, LedgerError>;

    /// Entries that were recorded in a stretch, that a meter counts, and that are in no batch of it.
    async fn forgotten(&self, meter: &Meter, stretch: &Stretch) -> Result<Vec<Forgotten>, LedgerError>;
}

/// Customers and event names after `$1` and `$2`, told as of `$3` to `$4`, of workspace `$5` (empty: all), at most `$6`.
pub(super) const ACCOUNTS: &str = "SELECT DISTINCT customer, event_name FROM billing_batch WHERE customer IS NOT NULL \
     AND (customer > $1 OR (customer = $1 AND event_name > $2)) AND told_at >= $3 AND told_at < $4 AND ($5 = '' OR workspace_id = $5) \
     ORDER BY customer, event_name LIMIT $6";

pub(super) fn batches() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE customer = $1 AND event_name = $2 AND told_at >= $3 AND told_at < $4 \
         ORDER BY told_at, batch_number"
    )
}

pub(super) fn elsewhere() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE customer = $1 AND event_name = $2 AND last_used_at >= $3 AND last_used_at < $4 \
         AND (told_at < $3 OR told_at >= $4) AND value <> 0 ORDER BY told_at, batch_number"
    )
}

/// From `$1` to `$2`; no batch is tried again later than `$3` that was first tried before `$2`.
pub(super) fn told_while() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE claimed_at >= $1 AND claimed_at < $3 AND COALESCE(unsure_since, claimed_at) < $2 \
         AND customer IS NOT NULL AND value <> 0 AND (state IN ('acknowledged', 'unknown', 'sending') \
         OR (state = 'sealed' AND unsure_since IS NOT NULL)) ORDER BY batch_number"
    )
}

pub(super) const WINDOW_SUMS: &str = "SELECT workspace_id, meter_id, event_name, state, reason_code, factor_numerator, \
     factor_denominator, CAST(COUNT(*) AS BIGINT), CAST(SUM(counted) AS BIGINT), CAST(SUM(COALESCE(value, 0)) AS BIGINT) \
     FROM billing_batch WHERE window_start >= $1 AND window_start < $2 AND ($3 = '' OR workspace_id = $3) \
     GROUP BY workspace_id, meter_id, event_name, state, reason_code, factor_numerator, factor_denominator \
     ORDER BY workspace_id, meter_id, event_name, state, reason_code";

pub(super) const MEMBER_SUMS: &str = "SELECT batch.workspace_id, batch.meter_id, batch.event_name, CAST(SUM(CASE batch.unit \
     WHEN 'tokens' THEN entry.counted_tokens WHEN 'usd' THEN entry.counted_usd WHEN 'requests' THEN entry.counted_requests \
     ELSE entry.counted_credits END) AS BIGINT) FROM billing_batch AS batch \
     JOIN billing_member AS member ON member.batch_number = batch.batch_number \
     JOIN entry ON entry.entry_id = member.entry_id AND entry.workspace_id = batch.workspace_id \
     WHERE batch.window_start >= $1 AND batch.window_start < $2 AND batch.state <> 'open' AND ($3 = '' OR batch.workspace_id = $3) \
     GROUP BY batch.workspace_id, batch.meter_id, batch.event_name ORDER BY batch.workspace_id, batch.meter_id, batch.event_name";

/// Of meter `$1`, recorded from `$2` to `$3`, of workspace `$4` (empty: all).
pub(super) fn forgotten(meter: &Meter) -> String {
    let (counted, is_metered) = (column(meter.unit), is_metered(meter.unit));
    format!(
        "SELECT entry.workspace_id, CAST(COUNT(*) AS BIGINT), CAST(SUM(entry.{counted}) AS BIGINT) FROM entry \
         JOIN billing_meter AS meter ON meter.meter_id = $1 LEFT JOIN billing_member AS member \
         ON member.meter_number = meter.meter_number AND member.entry_id = entry.entry_id \
         LEFT JOIN entry AS original ON original.entry_id = entry.corrects \
         WHERE entry.recorded_at >= $2 AND entry.recorded_at < $3 AND entry.recorded_at >= meter.since AND member.entry_id IS NULL \
         AND entry.{counted} <> 0 AND ($4 = '' OR entry.workspace_id = $4) AND {is_metered} \
         GROUP BY entry.workspace_id ORDER BY entry.workspace_id"
    )
}
