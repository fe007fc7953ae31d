//! `escalation`: what a settlement permits, and what came of it.

use super::{Unreadable, parse, read_reservation, workspace_id};
use crate::decision::amount::Ratio;
use crate::decision::cascade::{Band, Escalation, Offered};
use crate::decision::id::{Feature, ModelId, ReservationId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct OfferedRow {
    reservation_id: String,
    workspace_id: String,
    feature: String,
    model: String,
    min_quality_score: i64,
    offered_at: i64,
    taken_by: Option<String>,
}

impl TryFrom<OfferedRow> for Offered {
    type Error = Unreadable;

    fn try_from(row: OfferedRow) -> Result<Self, Unreadable> {
        Ok(Self {
            reservation: read_reservation(&row.reservation_id)?,
            workspace: workspace_id(&row.workspace_id)?,
            feature: parse("feature", &row.feature, Feature::parse)?,
            escalation: Escalation {
                model: parse("model", &row.model, ModelId::parse)?,
                min_quality_score: ratio(row.min_quality_score)?,
            },
            offered_at: Timestamp::from_micros(row.offered_at),
            taken_by: row.taken_by.as_deref().map(read_reservation).transpose()?,
        })
    }
}

fn ratio(steps: i64) -> Result<Ratio, Unreadable> {
    let read = |text: &str| {
        let steps = text.parse().ok().and_then(Ratio::from_ten_thousandths);
        steps.ok_or_else(|| "not a share in ten-thousandths".to_owned())
    };
    parse("min_quality_score", &steps.to_string(), read)
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct BandRow {
    model: String,
    next_model: String,
    tenth: i64,
    min_quality_score: i64,
    answers: i64,
    cost: i64,
    escalated: i64,
    escalated_cost: i64,
    judged: i64,
    score_before: i64,
    score_after: i64,
}

impl TryFrom<BandRow> for Band {
    type Error = Unreadable;

    fn try_from(row: BandRow) -> Result<Self, Unreadable> {
        Ok(Self {
            model: parse("model", &row.model, ModelId::parse)?,
            next_model: parse("next_model", &row.next_model, ModelId::parse)?,
            tenth: Some(row.tenth).filter(|tenth| *tenth >= 0),
            min_quality_score: ratio(row.min_quality_score)?,
            answers: row.answers,
            cost: Usd::from_nanos(row.cost),
            escalated: row.escalated,
            escalated_cost: Usd::from_nanos(row.escalated_cost),
            judged: row.judged,
            score_before: row.score_before,
            score_after: row.score_after,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct LinkRow {
    reservation_id: String,
    taken_by: Option<String>,
}

/// Which of these rows is the link before `reservation`, and which the one after it.
pub(in crate::ledger) fn links(
    reservation: ReservationId,
    rows: Vec<LinkRow>,
) -> Result<(Option<ReservationId>, Option<ReservationId>), Unreadable> {
    let (mut before, mut after) = (None, None);
    for row in rows {
        let first = read_reservation(&row.reservation_id)?;
        let second = row.taken_by.as_deref().map(read_reservation).transpose()?;
        match first == reservation {
            true => after = second,
            false => before = Some(first),
        }
    }
    Ok((before, after))
}
