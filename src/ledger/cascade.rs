//! Escalations: what settlements permitted, and which second tries took it. A row is written before the settlement that permits it, and
//! permits nothing without; its only change is who took it.

use super::LedgerError;
use crate::decision::cascade::{Band, Offered};
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// A ledger that links the tries of one request.
#[async_trait]
pub trait CascadeLedger: Send + Sync {
    /// Writes what a settlement will permit. What was written before for the same reservation stays as it is.
    async fn offer_escalation(&self, offered: &Offered) -> Result<(), LedgerError>;

    async fn escalation(&self, reservation: ReservationId) -> Result<Option<Offered>, LedgerError>;

    /// Takes what `reservation` permits for `taker`. True as often as the same one asks; false: another one has it, or there is nothing.
    async fn take_escalation(&self, reservation: ReservationId, taker: ReservationId) -> Result<bool, LedgerError>;

    /// Gives it back, if `taker` has it.
    async fn give_back_escalation(&self, reservation: ReservationId, taker: ReservationId) -> Result<(), LedgerError>;

    /// The reservation of which this one is the second try, and the one that is the second try of this one.
    async fn escalation_links(&self, reservation: ReservationId) -> Result<(Option<ReservationId>, Option<ReservationId>), LedgerError>;

    /// What came of what was offered from `from` on and before `to`, by both models and the score of the first answer.
    async fn escalations(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Band>, LedgerError>;
}

pub(super) const OFFER: &str = "INSERT INTO escalation (reservation_id, workspace_id, feature, model, min_quality_score, offered_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (reservation_id) DO NOTHING";

pub(super) const OFFERED: &str = "SELECT reservation_id, workspace_id, feature, model, min_quality_score, offered_at, taken_by \
     FROM escalation WHERE reservation_id = $1";

pub(super) const TAKE: &str = "UPDATE escalation SET taken_by = $2 WHERE reservation_id = $1 AND (taken_by IS NULL OR taken_by = $2)";

pub(super) const GIVE_BACK: &str = "UPDATE escalation SET taken_by = NULL WHERE reservation_id = $1 AND taken_by = $2";

pub(super) const LINKS: &str = "SELECT reservation_id, taken_by FROM escalation WHERE reservation_id = $1 OR taken_by = $1";

/// What another model answered (a fallback, or one that a budget led to) costs what it costs, and says nothing of how good the offered one is.
macro_rules! is_judged {
    () => {
        "second_entry.quality_score IS NOT NULL AND second_entry.model = escalation.model"
    };
}
pub(super) use is_judged;

/// `$first` and `$second` join an entry to the end that names it; the stores keep entries by different keys.
macro_rules! bands {
    ($first:literal, $second:literal) => {
        concat!(
            "SELECT first_entry.model, escalation.model AS next_model, ",
            "CASE WHEN first_entry.quality_score IS NULL THEN -1 WHEN first_entry.quality_score >= 10000 THEN 9 ",
            "ELSE first_entry.quality_score / 1000 END AS tenth, ",
            "MAX(escalation.min_quality_score) AS min_quality_score, COUNT(*) AS answers, ",
            "CAST(COALESCE(SUM(first_entry.cost_usd), 0) AS BIGINT) AS cost, COUNT(second_entry.entry_id) AS escalated, ",
            "CAST(COALESCE(SUM(second_entry.cost_usd), 0) AS BIGINT) AS escalated_cost, ",
            "CAST(COALESCE(SUM(CASE WHEN ",
            $crate::ledger::cascade::is_judged!(),
            " THEN 1 ELSE 0 END), 0) AS BIGINT) AS judged, CAST(COALESCE(SUM(CASE WHEN ",
            $crate::ledger::cascade::is_judged!(),
            " THEN first_entry.quality_score ELSE 0 END), 0) AS BIGINT) AS score_before, CAST(COALESCE(SUM(CASE WHEN ",
            $crate::ledger::cascade::is_judged!(),
            " THEN second_entry.quality_score ELSE 0 END), 0) AS BIGINT) AS score_after ",
            "FROM escalation ",
            "JOIN reservation_end AS first ON first.reservation_id = escalation.reservation_id AND first.\"end\" = 'settled' ",
            "JOIN entry AS first_entry ON ",
            $first,
            " LEFT JOIN reservation_end AS second ON second.reservation_id = escalation.taken_by AND second.\"end\" = 'settled' ",
            "LEFT JOIN entry AS second_entry ON ",
            $second,
            " WHERE escalation.offered_at >= $1 AND escalation.offered_at < $2 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        )
    };
}
pub(super) use bands;
