//! What entries and payments add up to, as rows.

use super::{Unreadable, narrow, parse, parse_some, read_json, read_word, unreadable};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::id::{BudgetId, Feature, GrantId, PlanId};
use crate::decision::time::Timestamp;
use crate::ledger::invoices::{GrantPaid, Used};

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct CountedRow {
    plan_id: Option<String>,
    plan_version: Option<i64>,
    feature: String,
    billable_outcomes: String,
    entries: i64,
    tokens: i64,
    usd: i64,
    requests: i64,
    credits: i64,
    last_at: Option<i64>,
}

impl CountedRow {
    pub(in crate::ledger) fn read(self) -> Result<Used, Unreadable> {
        let plan = parse_some("plan_id", self.plan_id.as_deref(), PlanId::parse)?;
        let version = self.plan_version.map(|version| narrow("plan_version", version)).transpose()?;
        Ok(Used {
            plan: plan.zip(version),
            feature: parse("feature", &self.feature, Feature::parse)?,
            outcomes: read_json("billable_outcomes", &self.billable_outcomes)?,
            entries: self.entries,
            counted: Amounts {
                tokens: self.tokens,
                usd: self.usd,
                requests: self.requests,
                credits: self.credits,
            },
            last_at: self.last_at.map(Timestamp::from_micros),
        })
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct GrantPaidRow {
    grant_id: String,
    grant_key: Option<String>,
    budget_id: String,
    unit: String,
    source: String,
    paid: i64,
}

impl GrantPaidRow {
    pub(in crate::ledger) fn read(self) -> Result<GrantPaid, Unreadable> {
        let unit = Unit::parse(&self.unit).ok_or_else(|| unreadable("unit", &self.unit, "is no unit"))?;
        Ok(GrantPaid {
            grant: parse("grant_id", &self.grant_id, GrantId::parse)?,
            key: self.grant_key,
            budget: parse("budget_id", &self.budget_id, BudgetId::parse)?,
            unit,
            source: read_word("source", &self.source)?,
            paid: self.paid,
        })
    }
}
