//! What invoices are made of: what the entries of a period add up to, which sums passed a limit, and what grants paid. Reads only.

use super::LedgerError;
use crate::decision::amount::{Amounts, Unit};
use crate::decision::grant::Source;
use crate::decision::id::{BudgetId, Feature, GrantId, PlanId, WorkspaceId};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use std::collections::BTreeMap;

/// The most sums of one budget that one invoice looks at: a budget of minutes has 44,640 in a month.
pub const PASSED_MAX: usize = 100_000;

/// What entries of one plan version, one feature and one set of reported outcomes add up to; corrections are among them.
#[derive(Clone, PartialEq, Debug)]
pub struct Used {
    pub plan: Option<(PlanId, u32)>,
    pub feature: Feature,
    /// Of each of these entries.
    pub outcomes: BTreeMap<String, i64>,
    pub entries: i64,
    pub counted: Amounts,
    /// When the last of them occurred that was recorded before the period ended; `None`: all of them came late.
    pub last_at: Option<Timestamp>,
}

/// Sums of which budget to look at.
#[derive(Clone, Debug)]
pub struct PassedQuery {
    pub workspace: WorkspaceId,
    /// Sums of single users; else those of everybody.
    pub by_user: bool,
    pub feature: Option<Feature>,
    pub unit: Unit,
    pub kind: PeriodKind,
    /// Sums whose period ends after this moment, and at the latest at the other one.
    pub after: Timestamp,
    pub until: Timestamp,
    /// Only those of which more than this was not paid by grants.
    pub above: i64,
}

/// A sum that passed a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    pub period: Period,
    pub spent: i64,
    /// By grants.
    pub paid: i64,
}

/// What one grant paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantPaid {
    pub grant: GrantId,
    pub key: Option<String>,
    pub budget: BudgetId,
    pub unit: Unit,
    pub source: Source,
    pub paid: i64,
}

/// The part of a ledger that invoices are made from.
#[async_trait]
pub trait InvoiceLedger: Send + Sync {
    /// What the entries add up to that occurred in `period`.
    async fn used(&self, workspace: &WorkspaceId, period: Period) -> Result<Vec<Used>, LedgerError>;

    /// The sums that passed, by the end of their period; one more than [`PASSED_MAX`] at most, which says that there are too many.
    async fn passed(&self, query: &PassedQuery) -> Result<Vec<Passed>, LedgerError>;

    /// What grants paid for uses that occurred in `period`, by budget and then as they were given.
    async fn paid_by_grants(&self, workspace: &WorkspaceId, period: Period) -> Result<Vec<GrantPaid>, LedgerError>;
}

/// Of workspace `$1` from `$2` until before `$3`. Outcomes are compared as the text that was written, so equal ones are one group.
pub(super) const USED: &str = "SELECT plan_id, plan_version, feature, billable_outcomes, CAST(COUNT(*) AS BIGINT) AS entries, \
     CAST(SUM(counted_tokens) AS BIGINT) AS tokens, CAST(SUM(counted_usd) AS BIGINT) AS usd, \
     CAST(SUM(counted_requests) AS BIGINT) AS requests, CAST(SUM(counted_credits) AS BIGINT) AS credits, \
     MAX(CASE WHEN recorded_at < $3 THEN occurred_at END) AS last_at \
     FROM entry WHERE workspace_id = $1 AND occurred_at >= $2 AND occurred_at < $3 \
     GROUP BY plan_id, plan_version, feature, billable_outcomes ORDER BY plan_id, plan_version, feature, billable_outcomes";

/// Of workspace `$1`; `$2` is 0 for everybody's sums and 1 for those of users; `$3` feature, `$4` unit, `$5` kind of period, whose end is after
/// `$6` and until `$7`; `$8` above; `$9` limit.
pub(super) const PASSED: &str = "SELECT period_start, period_end, spent, paid FROM counter_sum WHERE workspace_id = $1 \
     AND (user_id = '*') = ($2 = 0) AND feature = $3 AND unit = $4 AND period_kind = $5 AND period_end > $6 AND period_end <= $7 \
     AND spent - paid > $8 ORDER BY period_end, user_id LIMIT $9";

/// Of workspace `$1` from `$2` until before `$3`.
pub(super) const PAID_BY_GRANTS: &str = "SELECT given.grant_id, given.grant_key, given.budget_id, given.unit, given.source, \
     CAST(SUM(payment.amount) AS BIGINT) AS paid FROM grant_payment AS payment JOIN budget_grant AS given \
     ON given.grant_id = payment.grant_id WHERE payment.workspace_id = $1 AND payment.occurred_at >= $2 AND payment.occurred_at < $3 \
     GROUP BY given.grant_id, given.grant_key, given.budget_id, given.unit, given.source, given.created_at \
     ORDER BY given.budget_id, given.created_at, given.grant_id";
