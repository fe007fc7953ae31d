//! Grants in the ledger: what was given and voided, what was paid, and what is left. A part of [`Ledger`](super::Ledger).
//!
//! A post names the budgets with grants that its use falls under ([`Charge`]); what passes a limit is paid in the same transaction, behind
//! the workspace's lock, so no balance is spent twice. Definitions and payments are append-only, but for the void of a grant.

use super::LedgerError;
use super::audit::Audited;
use crate::decision::amount::Unit;
use crate::decision::grant::{Grant, Pot, Purse};
use crate::decision::id::{BudgetId, GrantId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::HashMap;

#[cfg(doc)]
use crate::decision::grant::Charge;

/// A grant as the audit log tells of it.
pub fn grant_document(grant: &Grant) -> Value {
    let amount = |amount: i64| match grant.unit {
        Unit::Usd => json!(Usd::from_nanos(amount).to_string()),
        _ => json!(amount),
    };
    json!({
        "grant_id": grant.id,
        "key": grant.key,
        "budget_id": grant.budget,
        "unit": grant.unit,
        "amount": amount(grant.amount),
        "priority": grant.priority,
        "effective_at": grant.effective_at,
        "expires_at": grant.expires_at,
        "recurrence": grant.recurrence,
        "rollover_min": grant.rollover_min.map(amount),
        "rollover_max": grant.rollover_max.map(amount),
        "source": grant.source,
        "paid": grant.paid,
        "voided_at": grant.voided_at,
    })
}

/// Another key under which a grant may have been given already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlierKey {
    pub key: String,
    /// It is another grant if it was given at that moment or before.
    pub since: Timestamp,
}

/// What became of a grant that was to be given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Given {
    New(Grant),
    /// One of this key was given before; the caller compares them.
    Known(Grant),
    /// The budget has as many grants as it may.
    TooMany,
}

/// The grants of a workspace that had not ended at a moment, by budget, with what they paid; as of a version of its sums, or later.
#[derive(Clone, Default, Debug)]
pub struct Pots {
    pub version: i64,
    pub by_budget: HashMap<BudgetId, Pot>,
}

impl Pots {
    /// What the grants of a budget have left at a moment of its period.
    pub fn purse(&self, budget: &BudgetId, unit: Unit, at: Timestamp, period: Period) -> Purse {
        let pot = self.by_budget.get(budget);
        Purse {
            budget: budget.clone(),
            unit,
            left: pot.map_or(0, |pot| pot.left(unit, at, period)),
            until: pot.map_or(Timestamp::MAX, |pot| pot.until(at, period)),
            version: self.version,
        }
    }
}

/// A sum of payments that is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantDifference {
    pub workspace: WorkspaceId,
    pub grant: GrantId,
    pub segment: Timestamp,
    pub paid: i64,
    /// What its payments add up to; the same as `paid`: it paid more than it had.
    pub payments: i64,
}

/// The part of a ledger that is about grants.
#[async_trait]
pub trait GrantLedger: Send + Sync {
    /// Gives a grant to a workspace that exists, unless one of its key, or of an earlier one, was given before. From then on all nodes name
    /// its purse.
    async fn give(
        &self,
        workspace: &WorkspaceId,
        grant: Grant,
        earlier: Option<EarlierKey>,
        audited: Audited,
    ) -> Result<Given, LedgerError>;

    /// Ends a grant at `now`, if it has not ended, and tells how it stands; `None`: there is none of that id in this workspace.
    async fn void(&self, workspace: &WorkspaceId, grant: GrantId, now: Timestamp, audited: Audited) -> Result<Option<Grant>, LedgerError>;

    async fn grant(&self, workspace: &WorkspaceId, grant: GrantId) -> Result<Option<Grant>, LedgerError>;

    /// At most `limit` grants of a workspace, newest first, after the place of the page before.
    async fn grants(&self, workspace: &WorkspaceId, after: Option<(Timestamp, GrantId)>, limit: usize) -> Result<Vec<Grant>, LedgerError>;

    /// The grants of a workspace that had not ended at `at`.
    async fn pots(&self, workspace: &WorkspaceId, at: Timestamp) -> Result<Pots, LedgerError>;

    /// Adds up all payments, and names each difference.
    async fn verify_grants(&self) -> Result<Vec<GrantDifference>, LedgerError>;
}
