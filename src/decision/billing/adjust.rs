//! Adjustments: what a correction owes back and no later use was set off against is taken back from what the provider was told already, while
//! its period lasts.
//!
//! An adjusting batch has no members, and a value below zero: so much is taken back from its original, as of the same time. It is told like any
//! other batch. Of an original something is taken back once, and never more than it is worth, so a period's sum does not fall below zero by it:
//! a provider that invoices such a sum as nothing would keep the rest. What surely was not taken back is owed again: a batch of the opposite
//! value puts it back into the carry, so that all values and the carry still add up.

use super::delivery::{Event, Reason, ReasonCode};
use super::periods::Periods;
use super::reconcile::SETTLED_SECONDS;
use super::{Batch, State, Terms};
use crate::decision::time::Timestamp;

/// How long what is owed back waits for use that it can be set off against: an hour of use and its seal.
const WAIT_SECONDS: i64 = 2 * 3_600;
/// How long before the end of a period nothing of it is taken back any more, so that there is time for tries.
const SPARE_SECONDS: i64 = 4 * 3_600;

/// Since when a debt is to have been there for it to be taken back now; `None`: the provider takes nothing back.
pub fn owed_until(terms: &Terms, now: Timestamp) -> Option<Timestamp> {
    (terms.sends && terms.takes_back).then(|| now.plus_seconds(-WAIT_SECONDS))
}

/// Whether something may be taken back from this batch.
pub fn can_give(original: &Batch, periods: &Periods, now: Timestamp) -> bool {
    let delivery = &original.delivery;
    let is_settled = |at: Timestamp| at.seconds_until(now) >= SETTLED_SECONDS;
    delivery.state == State::Acknowledged
        && delivery.acknowledged_at.is_some_and(is_settled)
        && original.adjusts.is_none()
        && original.value() > 0
        && delivery
            .told_at
            .is_some_and(|told_at| !periods.is_closed(told_at, -SPARE_SECONDS, now))
}

/// How much is taken back from an original, as a value.
pub fn value(owed: i64, original: &Batch) -> i64 {
    -owed.clamp(0, original.value().max(0))
}

/// What happens to an adjusting batch when it is due.
pub fn when_due(
    adjusting: &Batch,
    original: Option<&Batch>,
    customer: Option<&str>,
    terms: &Terms,
    periods: &Periods,
    late_after_seconds: i64,
    now: Timestamp,
) -> Event {
    let in_vain = |detail: &str| {
        Event::Unbillable(Reason {
            code: ReasonCode::TooOld,
            detail: detail.to_owned(),
        })
    };
    let Some(original) = original.filter(|original| original.delivery.state == State::Acknowledged) else {
        return in_vain("what it is taken back from is not acknowledged any more");
    };
    if !terms.takes_back {
        return in_vain("the provider takes nothing back");
    }
    if original.delivery.customer.is_some() && original.delivery.customer.as_deref() != customer {
        return in_vain("it was told of another customer");
    }
    let told_at = adjusting.last_used_at;
    if terms.is_too_old(told_at, now) {
        return in_vain("the provider takes nothing of that time any more");
    }
    if terms.closes_periods && periods.is_closed(told_at, late_after_seconds, now) {
        return in_vain("the period that it was told of is invoiced already");
    }
    Event::Claimed {
        customer: original.delivery.customer.clone(),
        told_at,
    }
}

/// Whether something that may happen to a batch would leave the sums of a period that is over apart: of what was taken back in it one side would
/// count there and the other elsewhere, or twice. `adjusting` is what takes back from the batch, or the batch itself.
pub fn is_over(adjusting: &Batch, periods: &Periods, now: Timestamp) -> bool {
    let reason = adjusting.delivery.reason.as_ref().map(|reason| reason.code);
    reason != Some(ReasonCode::NothingToTell) && adjusting.value() < 0 && periods.is_closed(adjusting.last_used_at, 0, now)
}

/// Whether it surely was not taken back, and will not be: then it is owed again. What the provider took and could not count may still be.
pub fn is_vain(batch: &Batch) -> bool {
    let reason = batch.delivery.reason.as_ref().map(|reason| reason.code);
    batch.adjusts.is_some()
        && batch.value() < 0
        && matches!(batch.delivery.state, State::Rejected | State::Unbillable)
        && reason != Some(ReasonCode::Reported)
}
