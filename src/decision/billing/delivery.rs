//! How a batch gets to the provider: its states, and what moves it from one to another. One match, [`Delivery::step`], has them all.
//!
//! What is feared is not that a batch is late but that it is told twice, or not at all and nobody knows. So a try without an answer is
//! remembered: from the first one on the batch is sent again only while the provider recognises the identifier, with four hours to spare.
//! After that nobody sends it by guess; reconcile looks at what the provider has. What is certain is never overruled by what is not.

use super::{State, Terms};
use crate::decision::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How much earlier than the provider forgets an identifier a batch is given up: clocks differ, and calls take time.
pub const RESEND_SPARE_SECONDS: i64 = 4 * 3_600;
/// How often a batch is tried that the provider answers with "not now"; about half a day.
pub const TRIES_MAX: i64 = 60;
/// While the provider is away tries count no further: by then the pauses are as long as they become, and whoever comes back busy has the others.
pub(super) const AWAY_TRIES_MAX: i64 = 10;
/// The first pause between two tries; each one doubles it.
const PAUSE_SECONDS_MIN: i64 = 2;
pub const PAUSE_SECONDS_MAX: i64 = 900;
/// How long a batch waits before it is looked whether somebody made its meter.
const METER_PAUSE_SECONDS: i64 = 120;
/// The longest pause that a provider may ask for.
const ASKED_PAUSE_SECONDS_MAX: i64 = 3_600;

/// What a provider said to one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has it.
    Acknowledged,
    /// It had it before: the same as acknowledged.
    Duplicate,
    /// It does not want it, and would not the next time.
    Rejected { reason: String },
    /// It was not taken, surely, and may be later.
    RetryAfter {
        /// As the provider asks.
        seconds: Option<i64>,
        /// Whether the provider is out of reach altogether: then no try is counted, however long it takes.
        is_away: bool,
        reason: String,
    },
    /// Nothing was sent: the account has no meter for it. That is no fault of a batch; all of its kind wait until somebody makes one.
    NoMeter { reason: String },
    /// Nobody knows: no answer in time, a connection that broke, an error of theirs. It may have been taken.
    Unknown { reason: String },
}

/// Why a batch is where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    pub code: ReasonCode,
    pub detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Its value is zero.
    NothingToTell,
    /// The workspace has no customer at the provider.
    NoCustomer,
    /// Its use is older than the provider takes, or its grant has expired.
    TooOld,
    /// The provider said no.
    Refused,
    /// The provider said no, after a try that it had not answered: it may have the batch from then.
    RefusedAfterSilence,
    /// The provider was too busy each time.
    TriesExhausted,
    /// The provider took it, and reported later that it could not be billed.
    Reported,
    /// The last try got no answer.
    Unanswered,
    /// The last try was put off by the provider.
    Busy,
    /// The provider was out of reach at the last try.
    Away,
    /// The provider has no active meter that sums of its event name: it goes on by itself once there is one.
    NoMeter,
    /// The provider keeps no credits: that of a paid grant waits for one that does.
    NoCreditsKept,
}

/// How the delivery of a batch stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub state: State,
    /// Rises when it has to be another event for the provider than the one that it has.
    pub generation: i64,
    /// As of the last try.
    pub customer: Option<String>,
    /// The time that the provider was told at the last try.
    pub told_at: Option<Timestamp>,
    pub tries: i64,
    /// When the last try began.
    pub claimed_at: Option<Timestamp>,
    /// The first try that may have been taken although no answer said so.
    pub unsure_since: Option<Timestamp>,
    /// Of a sealed one.
    pub next_try_at: Option<Timestamp>,
    pub reason: Option<Reason>,
    pub acknowledged_at: Option<Timestamp>,
}

/// What happens to a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Its value was fixed.
    Sealed {
        is_zero: bool,
    },
    /// A node takes it to send it.
    Claimed {
        customer: Option<String>,
        told_at: Timestamp,
    },
    /// It cannot be told.
    Unbillable(Reason),
    Answered(Answer),
    /// The node that was sending it is gone, or took too long.
    SenderLost,
    /// Reconcile knows whether the provider has it.
    Found {
        is_there: bool,
    },
    /// The provider took it, and reports that it could not be billed.
    Reported {
        reason: String,
    },
    /// An operator wants it sent again. Forced: although it may have been taken, or was taken and, as the operator knows, never counted.
    Resend {
        is_forced: bool,
    },
    /// What it waited for has come.
    Resumed,
    /// It would have taken something back, surely has not, and does not try again.
    Vain,
}

/// What does not happen to a batch in its state; nothing changes then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Impossible {
    #[error("it is open: use is still added to it; POST /v1/admin/billing/flush seals it")]
    Open,
    #[error("the provider has it: sent again, it is billed twice, unless it never counted it; force it only if you know that")]
    Acknowledged,
    #[error("its value is zero: there is nothing to tell")]
    NothingToTell,
    #[error("the provider may have it: let reconcile find out, or force it and risk that it is billed twice")]
    Unknown,
    #[error("of what it is about something was taken back in a billing period that is over: set that right at the provider")]
    Adjusted,
    #[error("it is {} and not what this would happen to", .0.as_str())]
    Other(State),
}

impl Delivery {
    /// Of a batch that was opened just now.
    pub const fn open() -> Self {
        Self {
            state: State::Open,
            generation: 1,
            customer: None,
            told_at: None,
            tries: 0,
            claimed_at: None,
            unsure_since: None,
            next_try_at: None,
            reason: None,
            acknowledged_at: None,
        }
    }

    /// How it stands after `event`. `chance` spreads tries, so that what failed together does not come again together.
    pub fn step(&self, event: Event, terms: &Terms, now: Timestamp, chance: u32) -> Result<Delivery, Impossible> {
        use {Answer as A, Event as E, State as S};
        let next = self.clone();
        Ok(match (self.state, event) {
            (S::Open, E::Sealed { is_zero: true }) => next.acknowledged(now).because(ReasonCode::NothingToTell, "its value is zero"),
            (S::Open, E::Sealed { is_zero: false }) => next.due(now),
            (S::Open, E::Resend { .. }) => return Err(Impossible::Open),

            (S::Sealed, E::Claimed { .. }) if self.is_given_up(terms, now) => next.lost(),
            (S::Sealed, E::Claimed { customer, told_at }) => next.claimed(customer, told_at, now),
            // What may have been taken is not set aside as if it had not been.
            (S::Sealed, E::Unbillable(_)) if self.unsure_since.is_some() => next.lost(),
            (S::Sealed, E::Unbillable(reason)) => next.ended(S::Unbillable, reason),

            // Knowledge is taken from whoever has it, be it a sender that was given up.
            (S::Sending | S::Sealed | S::Unknown, E::Answered(A::Acknowledged | A::Duplicate)) => next.acknowledged(now),
            (S::Sending, E::Answered(A::Rejected { reason })) => next.refused(reason),
            (S::Sending, E::Answered(A::RetryAfter { seconds, is_away, reason })) => {
                let pause = pause(self.tries, seconds, chance);
                next.put_off(is_away, reason, terms, now, pause)
            }
            (S::Sending, E::Answered(A::NoMeter { reason })) => next.without_meter(reason, terms, now),
            (S::Sending, E::Answered(A::Unknown { reason })) => {
                let pause = pause(self.tries, None, chance);
                next.unanswered(reason, terms, now, pause)
            }
            (S::Sending, E::SenderLost) => next.unanswered("whoever sent it did not come back".to_owned(), terms, now, 0),

            (S::Unknown, E::Found { is_there: true }) => next.acknowledged(now),
            (S::Unknown, E::Found { is_there: false }) => next.anew(now),
            (S::Sending | S::Sealed | S::Unknown | S::Acknowledged, E::Reported { reason }) => {
                let code = ReasonCode::Reported;
                next.ended(S::Rejected, Reason { code, detail: reason })
            }

            (S::Rejected | S::Unbillable, E::Vain) => next.vain(now),

            (S::Sealed, E::Resend { .. }) => next.due(now),
            (S::Sending, E::Resend { .. }) => next,
            (S::Rejected | S::Unbillable, E::Resend { .. }) | (S::Unbillable, E::Resumed) => next.anew(now),
            (S::Unknown, E::Resend { is_forced: true }) => next.anew(now),
            (S::Unknown, E::Resend { is_forced: false }) => return Err(Impossible::Unknown),
            (S::Acknowledged, E::Resend { .. }) if self.is_of_nothing() => return Err(Impossible::NothingToTell),
            (S::Acknowledged, E::Resend { is_forced: true }) => next.told_anew(now),
            (S::Acknowledged, E::Resend { is_forced: false }) => return Err(Impossible::Acknowledged),

            (state, _) => return Err(Impossible::Other(state)),
        })
    }

    /// Whether it may have been taken, and the provider may have forgotten that by now.
    fn is_given_up(&self, terms: &Terms, at: Timestamp) -> bool {
        let Some(since) = self.unsure_since else { return false };
        let seconds = terms.dedupe_seconds.map_or(0, |seconds| seconds - RESEND_SPARE_SECONDS);
        at >= since.plus_seconds(seconds.max(0))
    }

    fn claimed(self, customer: Option<String>, told_at: Timestamp, now: Timestamp) -> Self {
        Self {
            state: State::Sending,
            customer,
            told_at: Some(told_at),
            tries: self.tries + 1,
            claimed_at: Some(now),
            next_try_at: None,
            ..self
        }
    }

    fn acknowledged(self, now: Timestamp) -> Self {
        Self {
            state: State::Acknowledged,
            acknowledged_at: Some(now),
            next_try_at: None,
            reason: None,
            ..self
        }
    }

    fn refused(self, reason: String) -> Self {
        let (state, code) = match self.unsure_since {
            None => (State::Rejected, ReasonCode::Refused),
            Some(_) => (State::Unknown, ReasonCode::RefusedAfterSilence),
        };
        self.ended(state, Reason { code, detail: reason })
    }

    fn put_off(self, is_away: bool, reason: String, terms: &Terms, now: Timestamp, pause_seconds: i64) -> Self {
        let next = now.plus_seconds(pause_seconds);
        if self.is_given_up(terms, next) {
            return self.lost();
        }
        if !is_away && self.tries >= TRIES_MAX {
            let code = ReasonCode::TriesExhausted;
            return match self.unsure_since {
                None => self.ended(State::Rejected, Reason { code, detail: reason }),
                Some(_) => self.lost(),
            };
        }
        if is_away {
            let tries = self.tries.min(AWAY_TRIES_MAX);
            return Self { tries, ..self }.due(next).because(ReasonCode::Away, reason);
        }
        self.due(next).because(ReasonCode::Busy, reason)
    }

    fn without_meter(self, reason: String, terms: &Terms, now: Timestamp) -> Self {
        let next = now.plus_seconds(METER_PAUSE_SECONDS);
        if self.is_given_up(terms, next) {
            return self.lost();
        }
        let tries = self.tries - 1;
        Self { tries, ..self }.due(next).because(ReasonCode::NoMeter, reason)
    }

    fn unanswered(self, reason: String, terms: &Terms, now: Timestamp, pause_seconds: i64) -> Self {
        let unsure = Self {
            unsure_since: self.unsure_since.or(self.claimed_at).or(Some(now)),
            ..self
        };
        let next = now.plus_seconds(pause_seconds);
        match unsure.is_given_up(terms, next) {
            true => unsure.lost(),
            false => unsure.due(next).because(ReasonCode::Unanswered, reason),
        }
    }

    /// It may have been taken, and may not be asked by sending it again.
    fn lost(self) -> Self {
        let since = self.unsure_since.map_or_else(String::new, |since| format!(" at {since}"));
        let detail = format!("a try{since} got no answer, and it is too late to send it again by guess");
        let code = ReasonCode::Unanswered;
        self.ended(State::Unknown, Reason { code, detail })
    }

    fn ended(self, state: State, reason: Reason) -> Self {
        Self {
            state,
            reason: Some(reason),
            next_try_at: None,
            acknowledged_at: None,
            ..self
        }
    }

    /// Nobody was told of it, and nobody will be.
    fn vain(self, now: Timestamp) -> Self {
        let why = self.reason.as_ref().map_or_else(String::new, |reason| reason.detail.clone());
        let (customer, told_at) = (None, None);
        Self { customer, told_at, ..self }.acknowledged(now).because(
            ReasonCode::NothingToTell,
            format!("nothing was taken back, so it is owed again: {why}"),
        )
    }

    fn due(self, at: Timestamp) -> Self {
        Self {
            state: State::Sealed,
            next_try_at: Some(at),
            ..self
        }
    }

    /// As if it had never been tried. What the provider took and could not bill is another event for it the next time: it may still
    /// recognise the old one.
    fn anew(self, now: Timestamp) -> Self {
        let was_reported = self.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Reported);
        Self {
            state: State::Sealed,
            generation: self.generation + i64::from(was_reported),
            customer: None,
            told_at: None,
            tries: 0,
            claimed_at: None,
            unsure_since: None,
            next_try_at: Some(now),
            reason: None,
            acknowledged_at: None,
        }
    }

    /// What the provider has is told once more, as another event: under its identifier it would be recognised. Whom it was told of, and as of
    /// when, stays known until then, for the first event may count after all.
    fn told_anew(self, now: Timestamp) -> Self {
        let (customer, told_at) = (self.customer.clone(), self.told_at);
        let generation = self.generation + 1;
        Self {
            generation,
            customer,
            told_at,
            ..self.anew(now)
        }
    }

    fn is_of_nothing(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::NothingToTell)
    }

    fn because(self, code: ReasonCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            reason: Some(Reason { code, detail }),
            ..self
        }
    }
}

/// Seconds until the next try after so many: doubled each time, and half of it by chance; never sooner than the provider asks.
pub(in crate::decision) fn pause(tries: i64, asked_seconds: Option<i64>, chance: u32) -> i64 {
    let doublings = u32::try_from(tries.clamp(1, 20) - 1).unwrap_or(0);
    let whole = (PAUSE_SECONDS_MIN << doublings).min(PAUSE_SECONDS_MAX);
    let half = whole / 2;
    let own = half + i64::from(chance) % (whole - half + 1);
    own.max(asked_seconds.unwrap_or(0).clamp(0, ASKED_PAUSE_SECONDS_MAX))
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
mod tests;
