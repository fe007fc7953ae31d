//! What a workspace used by day and feature: sums over its entries, read for people. No counter, and nothing that is decided by.

use super::LedgerError;
use crate::decision::id::{Feature, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::period::Period;
use async_trait::async_trait;

/// What was used of one feature in one period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Daily {
    pub period: Period,
    pub feature: Feature,
    pub tokens: i64,
    pub requests: i64,
    pub credits: i64,
    /// What it cost, as far as it has a price.
    pub cost: Usd,
}

/// A ledger that adds up what was used.
#[async_trait]
pub trait DailyLedger: Send + Sync {
    /// What a workspace used in each of these periods, by feature; corrections included, open checkpoints not. In the order of periods and
    /// features, those alone in which something was recorded.
    async fn daily(&self, workspace: &WorkspaceId, periods: &[Period]) -> Result<Vec<Daily>, LedgerError>;
}

/// `$1` workspace, then start and end of each of so many periods.
pub(super) fn daily(periods: usize) -> String {
    let place = |n: usize| format!("(CAST(${} AS BIGINT), CAST(${} AS BIGINT))", 2 * n + 2, 2 * n + 3);
    let places: Vec<String> = (0..periods).map(place).collect();
    format!(
        "WITH day (starts, ends) AS (VALUES {}) SELECT day.starts, day.ends, entry.feature, \
         CAST(SUM(counted_tokens) AS BIGINT) AS tokens, CAST(SUM(counted_requests) AS BIGINT) AS requests, \
         CAST(SUM(counted_credits) AS BIGINT) AS credits, CAST(COALESCE(SUM(cost_usd), 0) AS BIGINT) AS cost \
         FROM day JOIN entry ON entry.workspace_id = $1 AND entry.occurred_at >= day.starts AND entry.occurred_at < day.ends \
         GROUP BY day.starts, day.ends, entry.feature ORDER BY day.starts, entry.feature",
        places.join(", ")
    )
}

/// A row of the answer.
#[derive(sqlx::FromRow)]
pub(super) struct DailyRow {
    pub(super) starts: i64,
    pub(super) ends: i64,
    pub(super) feature: String,
    pub(super) tokens: i64,
    pub(super) requests: i64,
    pub(super) credits: i64,
    pub(super) cost: i64,
}
