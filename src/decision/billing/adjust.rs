//! Adjustments: what a correction owes back and no later use was set off against is taken back from what the provider was told already,
//! while it lets itself be told so, and its period is not invoiced.
//!
//! An adjusting batch has no members. Its value is below zero: so much is taken back from its original. It is told by cancelling the event of
//! the original and telling what is left of that as an event of its own, as of the same time; both can be repeated. What surely was not taken
//! back is owed again: a batch of the opposite value puts it back into the carry, so that all values and the carry still add up.

use super::delivery::{Event, Reason, ReasonCode};
use super::periods::Periods;
use super::{Batch, State, Terms, window};
use crate::decision::time::Timestamp;

/// How long what is owed back waits for use that it can be set off against: an hour of use and its seal. By then the provider has summed up
/// what it was told, too.
const WAIT_SECONDS: i64 = 2 * 3_600;

/// Which debts are to be taken back now: those that came in a stretch of time. What came earlier waits for use, or for whoever gives it back.
pub fn owed_between(terms: &Terms, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let seconds = terms.cancel_seconds.filter(|_| terms.sends && !terms.accepts_negative)?;
    let (from, to) = (now.plus_seconds(-begin_seconds(seconds)), now.plus_seconds(-WAIT_SECONDS));
    (from < to).then_some((from, to))
}

/// For how long after an original was told an adjustment of it may begin: half of what the provider gives, and the rest is for tries.
const fn begin_seconds(cancel_seconds: i64) -> i64 {
    cancel_seconds / 2
}

/// Whether something may be taken back from this batch.
pub fn can_give(original: &Batch, terms: &Terms, periods: &Periods, now: Timestamp) -> bool {
    let delivery = &original.delivery;
    let (Some(seconds), Some(claimed_at), Some(told_at)) = (terms.cancel_seconds, delivery.claimed_at, delivery.told_at) else {
        return false;
    };
    delivery.state == State::Acknowledged
        && original.adjusts.is_none()
        && original.value() > 0
        && claimed_at > now.plus_seconds(-begin_seconds(seconds))
        && !periods.is_closed(told_at, 0, now)
}

/// How much is taken back from an original, as a value.
pub fn value(owed: i64, original: &Batch) -> i64 {
    -owed.clamp(0, original.value().max(0))
}

/// What happens to an adjusting batch when it is due.
pub fn when_due(
    adjusting: &Batch,
    original: Option<&Batch>,
    terms: &Terms,
    periods: &Periods,
    late_after_seconds: i64,
    now: Timestamp,
) -> Event {
    let too_late = |detail: &str| {
        Event::Unbillable(Reason {
            code: ReasonCode::TooOld,
            detail: detail.to_owned(),
        })
    };
    let Some(original) = original.filter(|original| original.delivery.state == State::Acknowledged) else {
        return too_late("what it is taken back from is not acknowledged any more");
    };
    let told_at = adjusting.last_used_at;
    let until = |from: Timestamp| terms.cancel_seconds.map(|seconds| from.plus_seconds(seconds));
    match original.delivery.claimed_at.and_then(until) {
        Some(until) if now < until => {}
        _ => return too_late("the provider takes nothing back of what it was told so long ago"),
    }
    if window::told_at(told_at, periods, terms.closes_periods, late_after_seconds, now) != told_at {
        return too_late("the period that it was told of is invoiced already");
    }
    Event::Claimed {
        customer: original.delivery.customer.clone(),
        told_at,
    }
}

/// Whether a batch may be told anew, as another event. Not if it takes something back, or if `adjusting` took its place and was not in vain:
/// beside that it would count twice.
pub fn stands_for_itself(batch: &Batch, adjusting: Option<&Batch>) -> bool {
    let is_done = |batch: &Batch| batch.delivery.state == State::Acknowledged;
    let is_vain = |batch: &Batch| {
        let reason = batch.delivery.reason.as_ref().map(|reason| reason.code);
        is_done(batch) && reason == Some(ReasonCode::NothingToTell)
    };
    let takes_back = batch.adjusts.is_some() && is_done(batch) && !is_vain(batch);
    !takes_back && adjusting.is_none_or(is_vain)
}

/// Whether it was surely not taken back, and will not be: then it is owed again. What the provider took and could not count is not that.
pub fn is_vain(batch: &Batch) -> bool {
    let reason = batch.delivery.reason.as_ref().map(|reason| reason.code);
    batch.adjusts.is_some()
        && batch.value() < 0
        && matches!(batch.delivery.state, State::Rejected | State::Unbillable)
        && reason != Some(ReasonCode::Reported)
}
