//! Cascade: a cheap model tries first, and where its answer was not good enough a better one is asked. Who judges the answer is the caller,
//! by the `quality_score` of its settle; whether the better model may be asked follows from that score alone.

use super::amount::Ratio;
use super::id::{Feature, ModelId, ReservationId, WorkspaceId};
use super::money::Usd;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How much better answers must become for an escalation to be worth its price, where nobody says otherwise: 0.05.
pub const GAIN_MIN: i64 = 500;
/// How many escalations of a band must have been judged before it says anything.
pub const JUDGED_MIN: i64 = 20;
/// Scores are looked at in tenths.
pub const BANDS: i64 = 10;

/// What may be tried after an answer whose score is below the least.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Escalation {
    pub model: ModelId,
    pub min_quality_score: Ratio,
}

impl Escalation {
    /// Whether an answer of this score may be tried again on the better model. One that nobody judged may not.
    pub fn is_due(&self, quality_score: Option<Ratio>) -> bool {
        quality_score.is_some_and(|score| score < self.min_quality_score)
    }
}

/// An escalation that a settled reservation was offered, as the ledger keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offered {
    pub reservation: ReservationId,
    pub workspace: WorkspaceId,
    pub feature: Feature,
    pub escalation: Escalation,
    pub offered_at: Timestamp,
    /// The reservation that took it.
    pub taken_by: Option<ReservationId>,
}

/// What came of the escalations that answers of one model with scores of one band were offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Band {
    pub model: ModelId,
    pub next_model: ModelId,
    /// The tenth into which the first answer's score falls, from 0; `None`: nobody judged it.
    pub tenth: Option<i64>,
    /// The highest threshold that they were offered with.
    pub min_quality_score: Ratio,
    pub answers: i64,
    /// What these answers cost.
    pub cost: Usd,
    /// How many were tried again on the better model, and settled.
    pub escalated: i64,
    pub escalated_cost: Usd,
    /// How many of these the offered model answered and somebody judged, and the sums of both scores over them in ten-thousandths.
    pub judged: i64,
    pub score_before: i64,
    pub score_after: i64,
}

/// What is advised for one pair of models.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advice {
    pub model: ModelId,
    pub next_model: ModelId,
    pub answers: i64,
    pub escalated: i64,
    pub cost: Usd,
    pub escalated_cost: Usd,
    pub threshold: Ratio,
    /// `None`: too few escalations were judged to say.
    pub recommended: Option<Ratio>,
}

impl Advice {
    /// The share of answers that were escalated, in ten-thousandths.
    pub fn rate(&self) -> i64 {
        self.escalated * Ratio::DENOMINATOR / self.answers.max(1)
    }
}

/// Sums bands up by pair of models, and says up to which score an escalation made answers better by `gain_min` ten-thousandths or more.
///
/// Walks up from the lowest scores and stops before the first band, among those with [`JUDGED_MIN`] judged escalations, that gains too
/// little. Above the threshold in force nothing was ever escalated, so nothing is known there, and no advice goes beyond it.
pub fn advise(bands: &[Band], gain_min: i64) -> Vec<Advice> {
    let mut pairs: Vec<(&ModelId, &ModelId)> = bands.iter().map(|band| (&band.model, &band.next_model)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let advice = |(model, next): (&ModelId, &ModelId)| {
        let mut own: Vec<&Band> = bands
            .iter()
            .filter(|band| band.model == *model && band.next_model == *next)
            .collect();
        own.sort_unstable_by_key(|band| band.tenth);
        let sum = |of: fn(&Band) -> i64| own.iter().map(|band| of(band)).sum::<i64>();
        let threshold = own.iter().map(|band| band.min_quality_score).max().unwrap_or(Ratio::ZERO);
        Advice {
            model: model.clone(),
            next_model: next.clone(),
            answers: sum(|band| band.answers),
            escalated: sum(|band| band.escalated),
            cost: Usd::from_nanos(sum(|band| band.cost.nanos())),
            escalated_cost: Usd::from_nanos(sum(|band| band.escalated_cost.nanos())),
            threshold,
            recommended: recommended(&own, threshold, gain_min),
        }
    };
    pairs.into_iter().map(advice).collect()
}

fn recommended(bands: &[&Band], threshold: Ratio, gain_min: i64) -> Option<Ratio> {
    let mut best = None;
    for band in bands.iter().filter(|band| band.judged >= JUDGED_MIN) {
        let Some(tenth) = band.tenth else { continue };
        let gain = (band.score_after - band.score_before) / band.judged;
        let edge = |tenth: i64| {
            let edge = u16::try_from(tenth * Ratio::DENOMINATOR / BANDS).ok();
            edge.and_then(Ratio::from_ten_thousandths).unwrap_or(Ratio::ONE)
        };
        if gain < gain_min {
            return Some(best.unwrap_or_else(|| edge(tenth)).min(threshold));
        }
        best = Some(edge(tenth + 1).min(threshold));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(n: u16) -> Ratio {
        Ratio::from_ten_thousandths(n).expect("a ratio")
    }

    fn model(id: &str) -> ModelId {
        ModelId::parse(id).expect("a name")
    }

    fn band(tenth: i64, judged: i64, before: i64, after: i64) -> Band {
        Band {
            model: model("small"),
            next_model: model("big"),
            tenth: Some(tenth),
            min_quality_score: ratio(7_000),
            answers: judged * 2,
            cost: Usd::from_nanos(10 * judged),
            escalated: judged,
            escalated_cost: Usd::from_nanos(100 * judged),
            judged,
            score_before: before * judged,
            score_after: after * judged,
        }
    }

    #[test]
    fn only_a_judged_answer_below_the_least_is_due() {
        let escalation = Escalation {
            model: model("big"),
            min_quality_score: ratio(7_000),
        };
        for (score, due) in [(None, false), (Some(6_999), true), (Some(7_000), false), (Some(0), true)] {
            assert_eq!(escalation.is_due(score.map(ratio)), due, "{score:?}");
        }
    }

    #[test]
    fn the_advice_goes_up_to_where_escalations_stop_helping() {
        for (bands, expected) in [
            // Each band up to the threshold gains: nothing is known above it.
            (vec![band(3, 30, 3_500, 8_000), band(6, 30, 6_500, 8_000)], Some(7_000)),
            (
                vec![band(3, 30, 3_500, 8_000), band(5, 30, 5_500, 5_600), band(6, 30, 6_500, 9_000)],
                Some(4_000),
            ),
            (vec![band(3, 30, 3_500, 3_500)], Some(3_000)),
            (vec![band(3, JUDGED_MIN - 1, 3_500, 8_000)], None),
            // A band with too few says nothing, and stops nothing.
            (
                vec![band(3, 30, 3_500, 8_000), band(4, 2, 4_500, 1_000), band(5, 30, 5_500, 8_000)],
                Some(6_000),
            ),
        ] {
            let advice = advise(&bands, GAIN_MIN);
            assert_eq!(advice[0].recommended, expected.map(ratio), "{bands:?}");
        }
        let advice = &advise(&[band(1, 30, 0, 0), band(2, 10, 0, 0)], GAIN_MIN)[0];
        assert_eq!((advice.answers, advice.escalated, advice.rate()), (80, 40, 5_000));
        assert_eq!((advice.cost.nanos(), advice.escalated_cost.nanos()), (400, 4_000));
    }
}
