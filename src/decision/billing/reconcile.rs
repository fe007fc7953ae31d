//! Reconcile: what batches say against what the provider has summed up, of one customer and event name. Pure; who asks and who mends is the
//! flow's matter.
//!
//! Two questions. [`compare`]: is the provider's sum what it must be, and if not, which batches explain it? [`presence`]: of batches whose
//! fate is unknown, which does the provider have? The second is answered only where there is one answer: a guess would bill twice or never.
//!
//! Invariant: a difference is explained only if some of the named batches add up to it. What is left is unexplained, and never rounded away.

use super::{Batch, State};
use crate::decision::id::BatchId;
use crate::decision::time::Timestamp;
use serde::Serialize;

/// How long after an answer the provider's sums are trusted to have it: they follow events by minutes.
pub const SETTLED_SECONDS: i64 = 3_600;
/// The provider sums by the minute, no finer.
pub const MINUTE_SECONDS: i64 = 60;
/// The most batches of which every choice is tried; above it only the bounds of their sum are looked at.
const CHOICES_MAX: usize = 14;

/// Why two sums differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BillingDifferenceCode)]
pub enum Code {
    /// Recorded, and in no sealed batch yet.
    NotYetSealed,
    /// Sealed, or on its way.
    InFlight,
    /// Acknowledged so lately that the provider may not have summed it up.
    Settling,
    /// The provider said no.
    Rejected,
    /// It cannot be told: the workspace has no customer.
    Unbillable,
    /// Its use is older than the provider takes.
    TooOld,
    /// Nobody knows whether the provider has it.
    Unknown,
    /// It was sent again as another event, and the provider counts the first one too: cancel one of them there.
    SentAgain,
    /// Less than one, carried to the next batch; or owed back until there is enough to set it off against.
    CarriedFraction,
    /// The provider has no such customer.
    CustomerUnknown,
    /// The provider has no such meter.
    MeterUnknown,
    /// The provider has no sums to compare with.
    ProviderHasNoSummaries,
    /// The provider did not say what it has.
    ProviderDidNotAnswer,
    /// None of these.
    Unexplained,
}

impl Code {
    /// Whether it is worth telling although nothing differs by it.
    pub const fn is_told_of_nothing(self) -> bool {
        matches!(
            self,
            Code::CustomerUnknown | Code::MeterUnknown | Code::ProviderHasNoSummaries | Code::ProviderDidNotAnswer
        )
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Code::NotYetSealed => "not_yet_sealed",
            Code::InFlight => "in_flight",
            Code::Settling => "settling",
            Code::Rejected => "rejected",
            Code::Unbillable => "unbillable",
            Code::TooOld => "too_old",
            Code::Unknown => "unknown",
            Code::SentAgain => "sent_again",
            Code::CarriedFraction => "carried_fraction",
            Code::CustomerUnknown => "customer_unknown",
            Code::MeterUnknown => "meter_unknown",
            Code::ProviderHasNoSummaries => "provider_has_no_summaries",
            Code::ProviderDidNotAnswer => "provider_did_not_answer",
            Code::Unexplained => "unexplained",
        }
    }
}

/// A part of a difference between what the provider has and what was acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    pub code: Code,
    /// Provider less acknowledged.
    pub value: i64,
    /// Those that may be it.
    pub batches: Vec<BatchId>,
}

/// What a batch is for the provider's sum.
enum Place {
    /// It must be in it.
    In,
    /// It may be in it.
    Perhaps(Code),
    /// It is not.
    Out,
}

fn place(batch: &Batch, now: Timestamp) -> Place {
    let delivery = &batch.delivery;
    match delivery.state {
        State::Acknowledged if batch.value() == 0 => Place::Out,
        State::Acknowledged if is_settled(delivery.acknowledged_at, now) => Place::In,
        State::Acknowledged => Place::Perhaps(Code::Settling),
        State::Unknown => Place::Perhaps(Code::Unknown),
        State::Sending => Place::Perhaps(Code::InFlight),
        State::Sealed if delivery.unsure_since.is_some() => Place::Perhaps(Code::InFlight),
        State::Open | State::Sealed | State::Rejected | State::Unbillable => Place::Out,
    }
}

fn is_settled(at: Option<Timestamp>, now: Timestamp) -> bool {
    at.is_none_or(|at| at.seconds_until(now) >= SETTLED_SECONDS)
}

/// What the provider has of a batch besides the event that it knows it by now: those that it was told before are not counted, or so it was
/// said, and may be after all.
fn earlier(batch: &Batch) -> impl Iterator<Item = i128> {
    let times = usize::try_from(batch.delivery.generation - 1).unwrap_or(0).min(CHOICES_MAX);
    std::iter::repeat_n(i128::from(batch.value()), times)
}

/// What was acknowledged of these batches.
pub fn acknowledged(batches: &[Batch]) -> i128 {
    let is_there = |batch: &&Batch| batch.delivery.state == State::Acknowledged;
    batches.iter().filter(is_there).map(|batch| i128::from(batch.value())).sum()
}

/// Why the provider's sum is not what was acknowledged of these batches, all of which it was told for the time that was summed up; `None`:
/// it is.
pub fn compare(batches: &[Batch], provider: i64, now: Timestamp) -> Option<Difference> {
    compare_beside(batches, &[], provider, now)
}

/// The same where batches that were told as of another time, `elsewhere`, may have been told as of this one before they were sent again.
pub fn compare_beside(batches: &[Batch], elsewhere: &[Batch], provider: i64, now: Timestamp) -> Option<Difference> {
    let difference = i128::from(provider) - acknowledged(batches);
    if difference == 0 {
        return None;
    }
    // What may be there adds to the sum, what may not be there yet takes from it.
    let mut perhaps: Vec<(Code, i128, BatchId)> = Vec::new();
    for batch in batches {
        let value = i128::from(batch.value());
        match place(batch, now) {
            Place::Perhaps(Code::Settling) => perhaps.push((Code::Settling, -value, batch.id)),
            Place::Perhaps(code) => perhaps.push((code, value, batch.id)),
            Place::In | Place::Out => {}
        }
    }
    let add_up = |perhaps: &[(Code, i128, BatchId)]| {
        let values: Vec<i128> = perhaps.iter().map(|(_, value, _)| *value).collect();
        can_add_up(&values, difference)
    };
    let is_explained = add_up(&perhaps);
    if !is_explained {
        let twice = batches.iter().chain(elsewhere);
        perhaps.extend(twice.flat_map(|batch| earlier(batch).map(|value| (Code::SentAgain, value, batch.id))));
    }
    let value = i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX });
    if !is_explained && !add_up(&perhaps) {
        return Some(Difference {
            code: Code::Unexplained,
            value,
            batches: Vec::new(),
        });
    }
    // The word for it is what most needs an eye of all that has the right sign.
    let fits = |(_, part, _): &&(Code, i128, BatchId)| (*part < 0) == (difference < 0);
    let code = perhaps.iter().filter(fits).map(|(code, ..)| *code).max().unwrap_or(Code::Settling);
    let mut batches: Vec<BatchId> = perhaps.iter().filter(|(of, ..)| *of == code).map(|(_, _, id)| *id).collect();
    batches.dedup();
    Some(Difference { code, value, batches })
}

fn can_add_up(values: &[i128], sum: i128) -> bool {
    if values.len() <= CHOICES_MAX {
        return choices(values).any(|(_, added)| added == sum);
    }
    let of = |is_negative: bool| values.iter().filter(|value| (**value < 0) == is_negative).sum::<i128>();
    (of(true)..=of(false)).contains(&sum)
}

/// Every choice of some of the values, as bits, and what it adds up to.
fn choices(values: &[i128]) -> impl Iterator<Item = (u32, i128)> {
    let added = |chosen: u32| {
        let is_chosen = |(place, _): &(usize, &i128)| chosen & (1 << place) != 0;
        values.iter().enumerate().filter(is_chosen).map(|(_, value)| *value).sum()
    };
    (0..1u32 << values.len()).map(move |chosen| (chosen, added(chosen)))
}

/// What is known of batches whose fate was unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Something of that minute is under way, or so fresh that sums need not have it.
    Early,
    /// The sum does not say: nothing adds up to it, or more than one choice does.
    Unclear,
    /// Each of the unknown ones: whether the provider has it.
    Known(Vec<(BatchId, bool)>),
}

/// What was found out about batches that a report of the provider's may be about and does not name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uncounted {
    /// The provider does not have them, and they were rejected.
    pub rejected: Vec<Batch>,
    /// Its sums do not say.
    pub unclear: Vec<Batch>,
    /// Some of it cannot be said yet: when it can, where that is known, and why.
    pub wait: Option<(Option<Timestamp>, String)>,
}

impl Uncounted {
    /// The latest of all times is the one that all can be said at.
    pub fn wait(&mut self, at: Option<Timestamp>, reason: &str) {
        let before = self.wait.take().and_then(|(before, _)| before);
        self.wait = Some((before.max(at), reason.to_owned()));
    }
}

/// Which of the `suspects`, acknowledged batches among these, the provider counts, by its sum of the minutes in which all of these were told.
/// The rest is as with [`presence`]; what is unknown besides may be there or not.
pub fn counted(batches: &[Batch], elsewhere: &[Batch], suspects: &[Batch], provider: i64, now: Timestamp) -> Presence {
    let is_suspect = |batch: &&Batch| suspects.iter().any(|suspect| suspect.id == batch.id);
    let mut certain = 0i128;
    let mut perhaps: Vec<&Batch> = Vec::new();
    for batch in batches {
        match place(batch, now) {
            Place::In if is_suspect(&batch) => {}
            Place::In => certain += i128::from(batch.value()),
            Place::Perhaps(Code::Unknown) => perhaps.push(batch),
            Place::Perhaps(_) => return Presence::Early,
            Place::Out => {}
        }
    }
    let of_suspects = suspects.iter().map(|batch| i128::from(batch.value()));
    let others = perhaps.into_iter().chain(elsewhere.iter().filter(|batch| !is_suspect(batch)));
    let told_before = batches.iter().chain(elsewhere).flat_map(earlier);
    let of_others = others.map(|batch| i128::from(batch.value()));
    let values: Vec<i128> = of_suspects.chain(of_others).chain(told_before).collect();
    let beyond = i128::from(provider) - certain;
    // All or none needs no choice, however many they are.
    let all: i128 = values.iter().sum();
    if values.iter().all(|value| *value > 0) && (beyond == 0 || beyond == all) {
        return Presence::Known(suspects.iter().map(|batch| (batch.id, beyond != 0)).collect());
    }
    match chosen(&values, suspects.len(), beyond) {
        Some(is_there) => Presence::Known(suspects.iter().map(|batch| batch.id).zip(is_there).collect()),
        None => Presence::Unclear,
    }
}

/// Which of the first `count` values are in a sum of some of them all; `None`: there is not one answer.
fn chosen(values: &[i128], count: usize, sum: i128) -> Option<Vec<bool>> {
    if count == 0 || values.len() > CHOICES_MAX {
        return None;
    }
    let mask = (1u32 << count) - 1;
    let mut fitting = choices(values).filter(|(_, added)| *added == sum).map(|(chosen, _)| chosen & mask);
    let first = fitting.next()?;
    let is_clear = fitting.all(|other| other == first);
    is_clear.then(|| (0..count).map(|place| first & (1 << place) != 0).collect())
}

/// Which of the unknown batches the provider has, by its sum of the minute in which all of these batches were told. `elsewhere` are batches
/// that were used in that minute and told as of another one last: before the books were closed they may have been told as of this one, so
/// each may be in the sum or not.
pub fn presence(batches: &[Batch], elsewhere: &[Batch], provider: i64, now: Timestamp) -> Presence {
    let mut unknown: Vec<&Batch> = Vec::new();
    for batch in batches {
        match place(batch, now) {
            Place::Perhaps(Code::Unknown) if is_settled(batch.delivery.claimed_at, now) => unknown.push(batch),
            Place::Perhaps(_) => return Presence::Early,
            Place::In | Place::Out => {}
        }
    }
    let of_this = unknown.iter().map(|batch| i128::from(batch.value()));
    let of_others = elsewhere.iter().map(|batch| i128::from(batch.value()));
    let told_before = batches.iter().chain(elsewhere).flat_map(earlier);
    let values: Vec<i128> = of_this.chain(of_others).chain(told_before).collect();
    if unknown.is_empty() {
        return Presence::Unclear;
    }
    // What is chosen of the unknown ones, which come first, is all that matters.
    match chosen(&values, unknown.len(), i128::from(provider) - acknowledged(batches)) {
        Some(is_there) => Presence::Known(unknown.iter().map(|batch| batch.id).zip(is_there).collect()),
        None => Presence::Unclear,
    }
}

/// The minute of a moment, as the provider sums it.
pub fn minute(at: Timestamp) -> (Timestamp, Timestamp) {
    let length = MINUTE_SECONDS * 1_000_000;
    let start = at.plus_micros(-at.micros().rem_euclid(length));
    (start, start.plus_micros(length))
}

#[cfg(test)]
#[path = "reconcile/tests.rs"]
pub(super) mod tests;
