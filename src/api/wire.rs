//! Shapes that several answers share: amounts, budgets, reasons, entries. Field names and units are the contract's.

use crate::decision::amount::{Amounts, Unit};
use crate::decision::entry::{Entry, Kind, Outcome};
use crate::decision::id::{EntryId, ReservationId};
use crate::decision::limits::{BudgetView, State};
use crate::decision::money::Usd;
use crate::decision::period::Period;
use crate::decision::plan::Scope;
use crate::decision::price::Mode;
use crate::decision::refusal::{BlockedBy, Code};
use crate::decision::time::Timestamp;
use crate::decision::verdict::{Block, Reason};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An amount in its unit: a decimal string for usd, an integer otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Amount(pub Unit, pub i64);

impl utoipa::PartialSchema for Amount {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let usd = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("usd, with nine decimals"));
        let count = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some("tokens, requests or credits"));
        OneOfBuilder::new()
            .item(usd)
            .item(count)
            .description(Some("An amount in its budget's unit."))
            .into()
    }
}

impl ToSchema for Amount {}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Unit::Usd => Usd::from_nanos(self.1).serialize(to),
            _ => to.serialize_i64(self.1),
        }
    }
}

/// Tokens, dollars and requests together.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmountsOut {
    #[schema(example = 5545)]
    pub tokens: i64,
    #[schema(value_type = String, example = "0.009641000")]
    pub usd: Usd,
    #[schema(example = 1)]
    pub requests: i64,
    /// Only where the plan or the model counts credits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credits: Option<i64>,
}

impl From<Amounts> for AmountsOut {
    fn from(amounts: Amounts) -> Self {
        let credits = Some(amounts.credits).filter(|credits| *credits != 0);
        Self {
            tokens: amounts.tokens,
            usd: amounts.usd(),
            requests: amounts.requests,
            credits,
        }
    }
}

/// What a settle used more than it had held.
#[derive(Debug, Serialize, ToSchema)]
pub struct BeyondHold {
    #[schema(example = 0)]
    pub tokens: i64,
    #[schema(value_type = String, example = "0.000000000")]
    pub usd: Usd,
}

impl From<Amounts> for BeyondHold {
    fn from(amounts: Amounts) -> Self {
        Self {
            tokens: amounts.tokens,
            usd: amounts.usd(),
        }
    }
}

/// When a period begins and ends; both null for a lifetime.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeriodOut {
    #[schema(value_type = Option<String>, format = DateTime, example = "2025-11-01T00:00:00Z")]
    pub start: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime, example = "2025-12-01T00:00:00Z")]
    pub end: Option<Timestamp>,
}

impl From<Period> for PeriodOut {
    fn from(period: Period) -> Self {
        let ends = period.end != Timestamp::MAX;
        Self {
            start: ends.then_some(period.start),
            end: ends.then_some(period.end),
        }
    }
}

/// A budget as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct BudgetOut<'a> {
    #[schema(example = "monthly_tokens")]
    pub budget_id: &'a str,
    pub scope: Scope,
    pub feature: Option<&'a str>,
    pub unit: Unit,
    pub period: PeriodOut,
    /// The limits in force: seats multiplied, overrides taken.
    pub soft: Option<Amount>,
    pub hard: Option<Amount>,
    pub granted: Amount,
    pub spent: Amount,
    pub held: Amount,
    /// `max(0, hard + granted − spent − held)`; null without a hard limit.
    pub remaining: Option<Amount>,
    pub overage_remaining: Option<Amount>,
    pub state: State,
    pub shadow: bool,
}

impl<'a> From<&'a BudgetView> for BudgetOut<'a> {
    fn from(view: &'a BudgetView) -> Self {
        let amount = |n: i64| Amount(view.unit, n);
        Self {
            budget_id: view.id.as_str(),
            scope: view.scope,
            feature: view.feature.as_ref().map(|feature| feature.as_str()),
            unit: view.unit,
            period: view.period.into(),
            soft: view.soft.map(amount),
            hard: view.hard.map(amount),
            granted: amount(view.granted),
            spent: amount(view.balance.spent),
            held: amount(view.balance.held),
            remaining: view.remaining.map(amount),
            overage_remaining: view.overage_remaining.map(amount),
            state: view.state,
            shadow: view.shadow,
        }
    }
}

pub fn budgets(views: &[BudgetView]) -> Vec<BudgetOut<'_>> {
    views.iter().map(BudgetOut::from).collect()
}

/// Why an answer is what it is. `blocked_by`, `retry_after_seconds` and `upgrade_url` only on denials.
#[derive(Debug, ToSchema)]
pub struct ReasonOut<'a> {
    pub code: Code,
    #[schema(example = "monthly_tokens")]
    pub budget_id: Option<&'a str>,
    pub blocked_by: Option<BlockedBy>,
    /// When it fits again: null for never.
    #[schema(example = 86400)]
    pub retry_after_seconds: Option<i64>,
    pub message: &'a str,
    pub upgrade_url: Option<&'a str>,
    #[schema(ignore)]
    pub is_denial: bool,
}

impl<'a> From<&'a Reason> for ReasonOut<'a> {
    fn from(reason: &'a Reason) -> Self {
        let block: Option<&Block> = reason.block.as_ref();
        Self {
            code: reason.code,
            budget_id: reason.budget.as_ref().map(|budget| budget.as_str()),
            blocked_by: block.map(|block| block.by),
            retry_after_seconds: block.and_then(|block| block.retry_after_seconds),
            message: &reason.message,
            upgrade_url: block.and_then(|block| block.upgrade_url.as_deref()),
            is_denial: block.is_some(),
        }
    }
}

impl Serialize for ReasonOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("budget_id", &self.budget_id)?;
        if self.is_denial {
            map.serialize_entry("blocked_by", &self.blocked_by)?;
            map.serialize_entry("retry_after_seconds", &self.retry_after_seconds)?;
        }
        map.serialize_entry("message", self.message)?;
        if self.is_denial {
            map.serialize_entry("upgrade_url", &self.upgrade_url)?;
        }
        map.end()
    }
}

pub fn reasons(reasons: &[Reason]) -> Vec<ReasonOut<'_>> {
    reasons.iter().map(ReasonOut::from).collect()
}

/// A ledger entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryOut<'a> {
    #[schema(value_type = String, example = "ent_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    pub entry_id: EntryId,
    pub kind: Kind,
    /// The entry that a correction corrects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub corrects: Option<EntryId>,
    pub request_id: &'a str,
    #[schema(value_type = Option<String>)]
    pub reservation_id: Option<ReservationId>,
    pub workspace_id: &'a str,
    pub user_id: Option<&'a str>,
    pub feature: &'a str,
    pub model: &'a str,
    pub requested_model: &'a str,
    pub tier: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub mode: Mode,
    pub requests: i64,
    pub input_tokens: i64,
    pub cache_read_tokens: i64,
    pub cache_write_tokens: i64,
    pub cache_write_1h_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_input_tokens: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_output_tokens: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub image_input_tokens: i64,
    pub cache_hit: bool,
    pub latency_ms: Option<i64>,
    pub outcome: Outcome,
    pub priced: bool,
    pub late: bool,
    #[schema(value_type = Option<String>, example = "0.006456000")]
    pub cost_usd: Option<Usd>,
    #[schema(value_type = Option<String>, example = "0.019368000")]
    pub list_cost_usd: Option<Usd>,
    pub counted: AmountsOut,
    pub price_version: Option<&'a str>,
    pub plan_id: Option<&'a str>,
    pub plan_version: Option<u32>,
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
    pub tags: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub quality_score: Option<crate::decision::amount::Ratio>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub other_cost_usd: Option<Usd>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub billable_outcomes: &'a BTreeMap<String, i64>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl<'a> From<&'a Entry> for EntryOut<'a> {
    fn from(entry: &'a Entry) -> Self {
        let pools = &entry.pools;
        Self {
            entry_id: entry.entry_id,
            kind: entry.kind,
            corrects: entry.corrects,
            request_id: entry.request_id.as_str(),
            reservation_id: entry.reservation_id,
            workspace_id: entry.workspace_id.as_str(),
            user_id: entry.user_id.as_ref().map(|user| user.as_str()),
            feature: entry.feature.as_str(),
            model: entry.model.as_str(),
            requested_model: entry.requested_model.as_str(),
            tier: entry.tier.as_ref().map(|tier| tier.as_str()),
            provider: entry.provider.as_ref().map(|provider| provider.as_str()),
            mode: entry.mode,
            requests: entry.requests,
            input_tokens: pools.input_tokens,
            cache_read_tokens: pools.cache_read_tokens,
            cache_write_tokens: pools.cache_write_tokens,
            cache_write_1h_tokens: pools.cache_write_1h_tokens,
            output_tokens: pools.output_tokens,
            reasoning_tokens: pools.reasoning_tokens,
            audio_input_tokens: pools.audio_input_tokens,
            audio_output_tokens: pools.audio_output_tokens,
            image_input_tokens: pools.image_input_tokens,
            cache_hit: entry.cache_hit,
            latency_ms: entry.latency_ms,
            outcome: entry.outcome,
            priced: entry.priced,
            late: entry.late,
            cost_usd: entry.cost_usd,
            list_cost_usd: entry.list_cost_usd,
            counted: entry.counted.into(),
            price_version: entry.price_version.as_deref(),
            plan_id: entry.plan_id.as_ref().map(|plan| plan.as_str()),
            plan_version: entry.plan_version,
            occurred_at: entry.occurred_at,
            recorded_at: entry.recorded_at,
            tags: &entry.tags,
            provider_request_id: entry.provider_request_id.as_deref(),
            quality_score: entry.quality_score,
            other_cost_usd: entry.other_cost_usd,
            billable_outcomes: &entry.billable_outcomes,
        }
    }
}
