//! `billing_batch` and `billing_member`: what a provider is told, and which entries it is made of.

use super::{Unreadable, parse, parse_some, read_word, unreadable, word};
use crate::decision::amount::Unit;
use crate::decision::billing::delivery::{Delivery, Reason, ReasonCode};
use crate::decision::billing::exact::Exact;
use crate::decision::billing::{Batch, Sealed};
use crate::decision::id::{BatchId, Feature, MeterId, ModelId, Tier, WorkspaceId};
use crate::decision::meter::{Factor, Meter, MeterFilter, Reign};
use crate::decision::period::{Calendar, Period};
use crate::decision::time::Timestamp;

/// The columns of a batch, in the order of [`BatchRow`].
pub(in crate::ledger) const BATCH_COLUMNS: &str = "batch_number, batch_id, workspace_id, meter_id, window_start, window_end, sequence, \
     event_name, unit, factor_numerator, factor_denominator, members, counted, last_used_at, opened_at, seals_at, sealed_at, seal_number, \
     value, carry, state, generation, customer, told_at, tries, claimed_at, unsure_since, next_try_at, reason_code, reason, acknowledged_at, \
     adjusts";

record! {
    /// An entry of a batch.
    struct MemberRecord of "billing_member" {
        meter_number: i64,
        entry_id: String,
        batch_number: i64,
        counted: i64,
    }
}

/// A batch as it is stored.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct BatchRow {
    pub(in crate::ledger) batch_number: i64,
    pub(in crate::ledger) batch_id: String,
    pub(in crate::ledger) workspace_id: String,
    pub(in crate::ledger) meter_id: String,
    window_start: i64,
    window_end: i64,
    sequence: i64,
    event_name: String,
    unit: String,
    factor_numerator: i64,
    factor_denominator: i64,
    members: i64,
    counted: i64,
    last_used_at: i64,
    opened_at: i64,
    seals_at: i64,
    sealed_at: Option<i64>,
    seal_number: Option<i64>,
    value: Option<i64>,
    carry: Option<String>,
    state: String,
    generation: i64,
    customer: Option<String>,
    told_at: Option<i64>,
    tries: i64,
    claimed_at: Option<i64>,
    unsure_since: Option<i64>,
    next_try_at: Option<i64>,
    reason_code: Option<String>,
    reason: Option<String>,
    acknowledged_at: Option<i64>,
    adjusts: Option<String>,
}

/// An entry as a collector sees it.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct UncollectedRow {
    pub(in crate::ledger) recorded_at: i64,
    pub(in crate::ledger) entry_id: String,
    pub(in crate::ledger) workspace_id: String,
    pub(in crate::ledger) feature: String,
    pub(in crate::ledger) model: String,
    pub(in crate::ledger) tier: Option<String>,
    pub(in crate::ledger) occurred_at: i64,
    counted_tokens: i64,
    counted_usd: i64,
    counted_requests: i64,
    counted_credits: i64,
    pub(in crate::ledger) is_member: i64,
    pub(in crate::ledger) corrects_member: i64,
    pub(in crate::ledger) original_recorded_at: Option<i64>,
    pub(in crate::ledger) calendar: String,
    pub(in crate::ledger) stripe_customer_id: Option<String>,
}

impl UncollectedRow {
    pub(in crate::ledger) const fn counted(&self, unit: Unit) -> i64 {
        match unit {
            Unit::Tokens => self.counted_tokens,
            Unit::Usd => self.counted_usd,
            Unit::Requests => self.counted_requests,
            Unit::Credits => self.counted_credits,
        }
    }
}

/// A row of `billing_reign` with the id of its meter.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ReignRow {
    meter_id: String,
    event_name: String,
    unit: String,
    feature: Option<String>,
    model: Option<String>,
    tier: Option<String>,
    factor_numerator: i64,
    factor_denominator: i64,
    from_at: i64,
    until_at: Option<i64>,
}

impl TryFrom<ReignRow> for Reign {
    type Error = Unreadable;

    fn try_from(row: ReignRow) -> Result<Self, Unreadable> {
        let factor = Factor::of(row.factor_numerator, row.factor_denominator);
        Ok(Self {
            meter: Meter {
                id: meter_id(&row.meter_id)?,
                event_name: row.event_name,
                unit: unit(&row.unit)?,
                only: MeterFilter {
                    feature: parse_some("feature", row.feature.as_deref(), Feature::parse)?,
                    model: parse_some("model", row.model.as_deref(), ModelId::parse)?,
                    tier: parse_some("tier", row.tier.as_deref(), Tier::parse)?,
                },
                factor: factor.ok_or_else(|| no_factor(row.factor_denominator))?,
            },
            from: Timestamp::from_micros(row.from_at),
            until: row.until_at.map(Timestamp::from_micros),
        })
    }
}

record! {
    /// What a meter is from a moment on.
    struct ReignRecord of "billing_reign" {
        meter_number: i64,
        event_name: String,
        unit: String,
        feature: Option<String>,
        model: Option<String>,
        tier: Option<String>,
        factor_numerator: i64,
        factor_denominator: i64,
        from_at: i64,
        until_at: Option<i64>,
    }
}

impl ReignRecord {
    pub(in crate::ledger) fn new(meter_number: i64, meter: &Meter, from: Timestamp) -> Self {
        Self {
            meter_number,
            event_name: meter.event_name.clone(),
            unit: meter.unit.as_str().to_owned(),
            feature: meter.only.feature.as_ref().map(Feature::to_string),
            model: meter.only.model.as_ref().map(ModelId::to_string),
            tier: meter.only.tier.as_ref().map(Tier::to_string),
            factor_numerator: meter.factor.numerator(),
            factor_denominator: meter.factor.denominator(),
            from_at: from.micros(),
            until_at: None,
        }
    }
}

pub(in crate::ledger) fn unit(text: &str) -> Result<Unit, Unreadable> {
    Unit::parse(text).ok_or_else(|| unreadable("unit", text, "is no unit"))
}

impl TryFrom<BatchRow> for Batch {
    type Error = Unreadable;

    fn try_from(row: BatchRow) -> Result<Self, Unreadable> {
        let at = Timestamp::from_micros;
        let id = parse("batch_id", &row.batch_id, BatchId::parse)?;
        let unit = unit(&row.unit)?;
        let factor = Factor::of(row.factor_numerator, row.factor_denominator);
        let sealed = match (row.sealed_at, row.seal_number, row.value, row.carry) {
            (Some(sealed_at), Some(number), Some(value), Some(carry)) => Some(Sealed {
                at: at(sealed_at),
                number,
                value,
                carry: exact("carry", &carry)?,
            }),
            _ => None,
        };
        Ok(Self {
            id,
            workspace: parse("workspace_id", &row.workspace_id, WorkspaceId::parse)?,
            meter: parse("meter_id", &row.meter_id, MeterId::parse)?,
            window: Period {
                start: at(row.window_start),
                end: at(row.window_end),
            },
            sequence: row.sequence,
            event_name: row.event_name,
            unit,
            factor: factor.ok_or_else(|| no_factor(row.factor_denominator))?,
            members: row.members,
            counted: row.counted,
            last_used_at: at(row.last_used_at),
            opened_at: at(row.opened_at),
            seals_at: at(row.seals_at),
            sealed,
            adjusts: parse_some("adjusts", row.adjusts.as_deref(), BatchId::parse)?,
            delivery: Delivery {
                state: read_word("state", &row.state)?,
                generation: row.generation,
                customer: row.customer,
                told_at: row.told_at.map(at),
                tries: row.tries,
                claimed_at: row.claimed_at.map(at),
                unsure_since: row.unsure_since.map(at),
                next_try_at: row.next_try_at.map(at),
                reason: reason(row.reason_code.as_deref(), row.reason)?,
                acknowledged_at: row.acknowledged_at.map(at),
            },
        })
    }
}

pub(super) fn reason(code: Option<&str>, detail: Option<String>) -> Result<Option<Reason>, Unreadable> {
    let Some(code) = code else { return Ok(None) };
    Ok(Some(Reason {
        code: reason_code(code)?,
        detail: detail.unwrap_or_default(),
    }))
}

pub(in crate::ledger) fn reason_code(text: &str) -> Result<ReasonCode, Unreadable> {
    read_word("reason_code", text)
}

/// The word of a reason in its column.
pub(in crate::ledger) fn reason_word(code: ReasonCode) -> String {
    word(&code)
}

pub(in crate::ledger) fn exact(column: &'static str, text: &str) -> Result<Exact, Unreadable> {
    Exact::parse(text).ok_or_else(|| unreadable(column, text, "is no exact value"))
}

pub(in crate::ledger) fn batch_id(text: &str) -> Result<BatchId, Unreadable> {
    parse("batch_id", text, BatchId::parse)
}

pub(in crate::ledger) fn meter_id(text: &str) -> Result<MeterId, Unreadable> {
    parse("meter_id", text, MeterId::parse)
}

pub(in crate::ledger) fn batch_state(text: &str) -> Result<crate::decision::billing::State, Unreadable> {
    read_word("state", text)
}

/// A factor that is none.
pub(in crate::ledger) fn no_factor(denominator: i64) -> Unreadable {
    unreadable("factor_denominator", denominator, "is of no factor")
}

/// A workspace's calendar that is read by itself.
pub(in crate::ledger) fn calendar(text: &str) -> Result<Calendar, Unreadable> {
    super::read_json("calendar", text)
}
