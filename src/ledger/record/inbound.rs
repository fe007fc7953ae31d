//! What a billing provider told, as rows.

use super::{Unreadable, narrow, read_json, unreadable};
use crate::decision::inbound::{Cycle, MeterError, Outcome, Progress, ReportState, Revenue, Subscription};
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::inbound::{Heard, ReportedError};

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct HeardRow {
    event_id: String,
    event_type: String,
    created_at: i64,
    received_at: i64,
    customer_id: Option<String>,
    outcome: String,
}

impl HeardRow {
    pub(in crate::ledger) fn read(self) -> Result<Heard, Unreadable> {
        let outcome = Outcome::parse(&self.outcome).ok_or_else(|| unreadable("outcome", &self.outcome, "is no outcome"))?;
        Ok(Heard {
            id: self.event_id,
            kind: self.event_type,
            created_at: Timestamp::from_micros(self.created_at),
            received_at: Timestamp::from_micros(self.received_at),
            customer: self.customer_id,
            outcome,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct SubscriptionRow {
    subscription_id: String,
    customer_id: String,
    status: String,
    items: String,
    anchor_day: Option<i64>,
    anchor_at: Option<i64>,
    /// None: nothing was told of it when it was written.
    cycle: Option<String>,
    started_at: i64,
    told_at: i64,
    rank: i64,
    pub(in crate::ledger) revision: i64,
}

impl SubscriptionRow {
    pub(in crate::ledger) fn read(self) -> Result<Subscription, Unreadable> {
        let day = self.anchor_day.map(|day| narrow("anchor_day", day)).transpose()?;
        Ok(Subscription {
            id: self.subscription_id,
            customer: self.customer_id,
            status: self.status,
            items: read_json("items", &self.items)?,
            anchor_day: day.and_then(|day| u8::try_from(day).ok()),
            anchor_at: self.anchor_at.map(Timestamp::from_micros),
            cycle: match &self.cycle {
                Some(cycle) => read_json("cycle", cycle)?,
                None => Cycle::default(),
            },
            started_at: Timestamp::from_micros(self.started_at),
            told_at: Timestamp::from_micros(self.told_at),
            rank: self.rank,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct RevenueRow {
    source_id: String,
    document_id: String,
    amount: i64,
    currency: String,
    period_start: i64,
    period_end: i64,
    paid_at: i64,
}

impl RevenueRow {
    pub(in crate::ledger) fn read(self) -> Revenue {
        Revenue {
            source: self.source_id,
            document: self.document_id,
            amount: self.amount,
            currency: self.currency,
            period: Period {
                start: Timestamp::from_micros(self.period_start),
                end: Timestamp::from_micros(self.period_end),
            },
            paid_at: Timestamp::from_micros(self.paid_at),
        }
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ProgressRow {
    event_id: String,
    event_type: String,
    meter: Option<String>,
    received_at: i64,
    state: String,
    tries: i64,
    next_try_at: Option<i64>,
    validated_from: Option<i64>,
    validated_until: Option<i64>,
    error_count: Option<i64>,
    reason: Option<String>,
}

impl ProgressRow {
    pub(in crate::ledger) fn read(self) -> Result<Progress, Unreadable> {
        let state = ReportState::parse(&self.state).ok_or_else(|| unreadable("state", &self.state, "is no state of a report"))?;
        let validated = self.validated_from.zip(self.validated_until);
        Ok(Progress {
            event: self.event_id,
            kind: self.event_type,
            meter: self.meter,
            received_at: Timestamp::from_micros(self.received_at),
            state,
            tries: self.tries,
            next_try_at: self.next_try_at.map(Timestamp::from_micros),
            validated: validated.map(|(start, end)| Period {
                start: Timestamp::from_micros(start),
                end: Timestamp::from_micros(end),
            }),
            error_count: self.error_count,
            reason: self.reason,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct MeterErrorRow {
    event_id: String,
    reported_at: i64,
    meter: Option<String>,
    identifier: Option<String>,
    code: String,
    message: String,
}

impl MeterErrorRow {
    pub(in crate::ledger) fn read(self) -> ReportedError {
        ReportedError {
            event: self.event_id,
            reported_at: Timestamp::from_micros(self.reported_at),
            error: MeterError {
                meter: self.meter,
                identifier: self.identifier,
                code: self.code,
                message: self.message,
            },
        }
    }
}
