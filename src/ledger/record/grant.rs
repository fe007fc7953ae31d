//! `budget_grant` and `grant_payment`: what was given, and what was paid of it.

use super::{Unreadable, json, parse, read_json, read_word, unreadable, word};
use crate::decision::amount::Unit;
use crate::decision::grant::{Grant, Recurrence};
use crate::decision::id::{BudgetId, GrantId, WorkspaceId};
use crate::decision::time::Timestamp;

record! {
    /// A row of `budget_grant`.
    struct GrantRecord of "budget_grant" {
        grant_id: String,
        workspace_id: String,
        grant_key: Option<String>,
        budget_id: String,
        unit: String,
        amount: i64,
        priority: i64,
        effective_at: i64,
        expires_at: Option<i64>,
        recurrence: Option<String>,
        rollover_min: Option<i64>,
        rollover_max: Option<i64>,
        source: String,
        created_at: i64,
        voided_at: Option<i64>,
        ends_at: i64,
        paid_amount: Option<i64>,
        paid_currency: Option<String>,
    }
}

/// What a grant paid in one segment.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct PaidRow {
    grant_id: String,
    segment: i64,
    paid: i64,
}

/// A sum of payments beside what its payments add up to.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct PaidDifferenceRow {
    workspace_id: String,
    grant_id: String,
    segment: i64,
    paid: i64,
    payments: i64,
}

impl GrantRecord {
    pub(in crate::ledger) fn new(workspace: &WorkspaceId, grant: &Grant) -> Self {
        Self {
            grant_id: grant.id.to_string(),
            workspace_id: workspace.to_string(),
            grant_key: grant.key.clone(),
            budget_id: grant.budget.to_string(),
            unit: grant.unit.as_str().to_owned(),
            amount: grant.amount,
            priority: i64::from(grant.priority),
            effective_at: grant.effective_at.micros(),
            expires_at: grant.expires_at.map(Timestamp::micros),
            recurrence: grant.recurrence.as_ref().map(json),
            rollover_min: grant.rollover_min,
            rollover_max: grant.rollover_max,
            source: word(&grant.source),
            created_at: grant.created_at.micros(),
            voided_at: grant.voided_at.map(Timestamp::micros),
            ends_at: grant.ends_at().micros(),
            paid_amount: grant.paid.as_ref().map(|paid| paid.amount),
            paid_currency: grant.paid.as_ref().map(|paid| paid.currency.clone()),
        }
    }

    pub(in crate::ledger) fn read(self) -> Result<Grant, Unreadable> {
        let unit = |text: &str| Unit::parse(text).ok_or_else(|| "is no unit".to_owned());
        let recurrence: Option<Recurrence> = self.recurrence.as_deref().map(|text| read_json("recurrence", text)).transpose()?;
        Ok(Grant {
            id: parse("grant_id", &self.grant_id, GrantId::parse)?,
            key: self.grant_key,
            budget: parse("budget_id", &self.budget_id, BudgetId::parse)?,
            unit: parse("unit", &self.unit, unit)?,
            amount: self.amount,
            priority: u8::try_from(self.priority).map_err(|error| unreadable("priority", self.priority, error))?,
            effective_at: Timestamp::from_micros(self.effective_at),
            expires_at: self.expires_at.map(Timestamp::from_micros),
            recurrence,
            rollover_min: self.rollover_min,
            rollover_max: self.rollover_max,
            source: read_word("source", &self.source)?,
            paid: super::credit::purchase(self.paid_amount, self.paid_currency)?,
            created_at: Timestamp::from_micros(self.created_at),
            voided_at: self.voided_at.map(Timestamp::from_micros),
        })
    }
}

impl PaidRow {
    pub(in crate::ledger) fn read(&self) -> Result<(GrantId, Timestamp, i64), Unreadable> {
        let grant = parse("grant_id", &self.grant_id, GrantId::parse)?;
        Ok((grant, Timestamp::from_micros(self.segment), self.paid))
    }
}

impl PaidDifferenceRow {
    /// Whose, which grant and segment, its sum, and what its payments add up to.
    pub(in crate::ledger) fn read(&self) -> Result<(WorkspaceId, GrantId, Timestamp, i64, i64), Unreadable> {
        let workspace = parse("workspace_id", &self.workspace_id, WorkspaceId::parse)?;
        let grant = parse("grant_id", &self.grant_id, GrantId::parse)?;
        Ok((workspace, grant, Timestamp::from_micros(self.segment), self.paid, self.payments))
    }
}
