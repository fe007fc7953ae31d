//! How a grant that was paid for gets to the provider as a credit, and away again when it is voided. One match, [`CreditDelivery::step`],
//! has all that happens to one.
//!
//! What is feared is a customer who is given the same credit twice. A provider takes no identifier for credits, so each try looks for the
//! grant's id among the customer's credits first ([`Task::Give`]), and bears a key that stays the same until an answer came: a request that
//! is still on its way and the next try are one for the provider. So nothing is ever given by guess, however long the provider was away, and
//! unlike a batch a credit of unknown fate finds its way by itself.

use super::delivery::{AWAY_TRIES_MAX, Reason, ReasonCode, TRIES_MAX, pause};
use crate::decision::grant::Purchase;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a request may go on at the provider that nobody waits for any more.
const LATE_SECONDS_MAX: i64 = 120;

/// Whether a credit waits, is under way, is with the provider, or where it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CreditState)]
pub enum CreditState {
    /// It waits to be given.
    Pending,
    /// A node is giving it, or taking it back.
    Sending,
    /// Nobody knows whether the provider has it. The next try looks before it gives.
    Unknown,
    /// The provider has it.
    Acknowledged,
    /// The grant was voided; what the provider has, or may have, waits to be voided too.
    Voiding,
    /// The grant was voided, and the provider has nothing of it, or has it as void.
    Voided,
    /// The provider refuses it.
    Rejected,
    /// It cannot be given: `reason` says why.
    Unbillable,
}

impl CreditState {
    pub const ALL: [CreditState; 8] = [
        CreditState::Pending,
        CreditState::Sending,
        CreditState::Unknown,
        CreditState::Acknowledged,
        CreditState::Voiding,
        CreditState::Voided,
        CreditState::Rejected,
        CreditState::Unbillable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            CreditState::Pending => "pending",
            CreditState::Sending => "sending",
            CreditState::Unknown => "unknown",
            CreditState::Acknowledged => "acknowledged",
            CreditState::Voiding => "voiding",
            CreditState::Voided => "voided",
            CreditState::Rejected => "rejected",
            CreditState::Unbillable => "unbillable",
        }
    }
}

/// What a provider said to one call about a credit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CreditAnswer {
    /// It is there, and the provider calls it so.
    Given(String),
    /// It is void there, or is not there at all.
    Gone,
    /// It does not want that, and would not the next time.
    Refused(String),
    /// It does not want to be asked what is there, and would not the next time. Nothing was done by it, and nothing is known of what was before.
    LookRefused(String),
    /// Nothing was done, surely, and it may be later.
    NotNow {
        /// As the provider asks.
        seconds: Option<i64>,
        /// Whether the provider is out of reach altogether: then no try is counted, however long it takes.
        is_away: bool,
        reason: String,
    },
    /// It may be done or not: the next try looks first.
    Unsure {
        /// Whether the provider answered, with an error of its own. It would repeat that under the same key; without an answer the same
        /// key is what makes one of two requests.
        is_answered: bool,
        reason: String,
    },
}

/// What one try is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Look for it, and give it if it is not there.
    Give,
    /// Look whether it is there: it is to be voided, and may never have been given.
    Find,
    /// Void what the provider calls so.
    Void(String),
}

/// How the credit of a paid grant stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreditDelivery {
    pub state: CreditState,
    /// The grant was voided.
    pub is_void: bool,
    /// Whom the provider was told at the last try.
    pub customer: Option<String>,
    /// What the provider calls it.
    pub provider_id: Option<String>,
    /// Which key its tries bear, from 1.
    pub key_number: i64,
    /// Rises with each claim: an answer under an older one comes too late.
    pub claims: i64,
    pub tries: i64,
    /// The first try that may have been taken although no answer said so.
    pub unsure_since: Option<Timestamp>,
    /// When it is tried next; while a node has it, when its claim ends.
    pub next_try_at: Option<Timestamp>,
    pub reason: Option<Reason>,
    /// When the provider said that it has it.
    pub acknowledged_at: Option<Timestamp>,
}

/// What happens to a credit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CreditEvent {
    /// A node takes it until then.
    Claimed {
        customer: Option<String>,
        until: Timestamp,
    },
    /// It cannot be given.
    Unbillable(Reason),
    Answered(CreditAnswer),
    /// The node that had it is gone, or took too long.
    SenderLost,
    /// The grant was voided.
    Voided,
    /// Reconcile looked for it: what the provider calls it, if it has it.
    Found(Option<String>),
    /// An operator wants it tried again.
    Resend,
    /// What it waited for has come.
    Resumed,
}

/// What does not happen to a credit in its state; nothing changes then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreditImpossible {
    #[error("the provider has it: there is nothing to send")]
    Acknowledged,
    #[error("the grant was voided, and the provider has nothing of it")]
    Voided,
    #[error("it is {} and not what this would happen to", .0.as_str())]
    Other(CreditState),
}

/// The credit of one paid grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credit {
    pub grant: GrantId,
    pub workspace: WorkspaceId,
    pub paid: Purchase,
    pub effective_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Of the grant.
    pub created_at: Timestamp,
    pub delivery: CreditDelivery,
}

impl Credit {
    /// The key of a try: a repetition under it is the same request for the provider.
    pub fn key(&self) -> String {
        match self.delivery.key_number {
            ..=1 => self.grant.to_string(),
            later => format!("{}-{later}", self.grant),
        }
    }

    /// What a try of it is about now.
    pub fn task(&self) -> Task {
        match (&self.delivery.provider_id, self.delivery.is_void) {
            (Some(id), true) => Task::Void(id.clone()),
            (None, true) => Task::Find,
            (_, false) => Task::Give,
        }
    }

    /// What happens to it when it is due: a node takes it until `until`, or it cannot be given.
    pub fn when_due(&self, customer: Option<&str>, until: Timestamp, now: Timestamp) -> CreditEvent {
        let delivery = &self.delivery;
        let may_be_there = delivery.unsure_since.is_some() || delivery.provider_id.is_some();
        // Whom it may have been given once, it is given again.
        let customer = delivery.customer.as_deref().filter(|_| may_be_there).or(customer);
        let unbillable = |code, detail| CreditEvent::Unbillable(Reason { code, detail });
        if customer.is_none() {
            let detail = format!("workspace {} has no stripe_customer_id", self.workspace);
            return unbillable(ReasonCode::NoCustomer, detail);
        }
        if let Some(at) = self.expires_at.filter(|at| *at <= now && !may_be_there) {
            return unbillable(ReasonCode::TooOld, format!("the grant expired at {at}, before it could be given"));
        }
        CreditEvent::Claimed {
            customer: customer.map(str::to_owned),
            until,
        }
    }
}

impl CreditDelivery {
    /// Of a grant that is given just now.
    pub const fn new(now: Timestamp) -> Self {
        Self {
            state: CreditState::Pending,
            is_void: false,
            customer: None,
            provider_id: None,
            key_number: 1,
            claims: 0,
            tries: 0,
            unsure_since: None,
            next_try_at: Some(now),
            reason: None,
            acknowledged_at: None,
        }
    }

    /// How it stands after `event`. `chance` spreads tries, so that what failed together does not come again together.
    pub fn step(&self, event: CreditEvent, now: Timestamp, chance: u32) -> Result<CreditDelivery, CreditImpossible> {
        use {CreditAnswer as A, CreditEvent as E, CreditState as S};
        let next = self.clone();
        Ok(match (self.state, event) {
            (S::Pending | S::Unknown | S::Voiding, E::Claimed { customer, until }) => next.claimed(customer, until),
            (S::Pending, E::Unbillable(reason)) => next.ended(S::Unbillable, reason),

            (S::Sending, E::SenderLost) => {
                let reason = "whoever sent it did not come back".to_owned();
                next.unanswered(false, reason, now, now)
            }
            // Knowledge is taken from whoever has it, be it a sender that was given up; the rest only from who has it in hand.
            (_, E::Answered(A::Given(id))) if self.provider_id.is_none() => next.given(id, now),
            (S::Sending, E::Answered(A::Given(id))) => next.given(id, now),
            (S::Sending, E::Answered(A::Gone)) => next.gone(),
            (S::Sending, E::Answered(A::Refused(detail))) => next.refused(detail),
            (S::Sending, E::Answered(A::LookRefused(detail))) => next.unseen(detail),
            (S::Sending, E::Answered(A::NotNow { seconds, is_away, reason })) => {
                let at = now.plus_seconds(pause(self.tries, seconds, chance));
                let code = if is_away { ReasonCode::Away } else { ReasonCode::Busy };
                next.put_off(is_away, Reason { code, detail: reason }, at)
            }
            (S::Sending, E::Answered(A::Unsure { is_answered, reason })) => {
                let at = now.plus_seconds(pause(self.tries, None, chance));
                next.unanswered(is_answered, reason, now, at)
            }

            (S::Voiding | S::Voided, E::Voided) => next,
            (S::Sending, E::Voided) => Self { is_void: true, ..next },
            (_, E::Voided) => {
                let void = Self {
                    is_void: true,
                    tries: 0,
                    ..next
                };
                let at = void.looked_for_from(now);
                void.due(at)
            }

            (S::Unknown, E::Found(Some(id))) => next.given(id, now),
            // Tried once more, under the key that it has: a request of before may still be on its way.
            (S::Unknown, E::Found(None)) => Self { tries: 0, ..next }.due(now),

            (S::Acknowledged, E::Resend) => return Err(CreditImpossible::Acknowledged),
            (S::Voided, E::Resend) => return Err(CreditImpossible::Voided),
            (S::Sending, E::Resend) => next,
            (S::Rejected | S::Unbillable, E::Resend) | (S::Unbillable, E::Resumed) => next.anew(now),
            // It looks first, so nothing is forgotten and nothing is risked.
            (S::Pending | S::Unknown | S::Voiding, E::Resend) => Self { tries: 0, ..next }.due(now),

            (state, _) => return Err(CreditImpossible::Other(state)),
        })
    }

    fn claimed(self, customer: Option<String>, until: Timestamp) -> Self {
        Self {
            state: CreditState::Sending,
            customer,
            claims: self.claims + 1,
            tries: self.tries + 1,
            next_try_at: Some(until),
            ..self
        }
    }

    /// The provider has it. If the grant is void by now, that is not the end.
    fn given(self, id: String, now: Timestamp) -> Self {
        let given = Self {
            state: CreditState::Acknowledged,
            provider_id: Some(id),
            unsure_since: None,
            next_try_at: None,
            reason: None,
            acknowledged_at: self.acknowledged_at.or(Some(now)),
            ..self
        };
        match given.is_void {
            true => Self { tries: 0, ..given }.due(now),
            false => given,
        }
    }

    /// From when on "it is not there" is believed of what is to be voided: a request that got no answer may still be at work until then, and
    /// nothing but time says when it is not.
    fn looked_for_from(&self, now: Timestamp) -> Timestamp {
        match self.is_void && self.unsure_since.is_some() && self.provider_id.is_none() {
            true => now.plus_seconds(LATE_SECONDS_MAX),
            false => now,
        }
    }

    /// Where something may be there an operator has to look, and its next try looks again; where nothing can be, it is refused.
    fn unseen(self, detail: String) -> Self {
        if self.unsure_since.is_none() && self.provider_id.is_none() {
            return self.refused(detail);
        }
        let state = if self.is_void { CreditState::Voiding } else { CreditState::Unknown };
        let code = ReasonCode::Refused;
        self.ended(state, Reason { code, detail })
    }

    fn gone(self) -> Self {
        Self {
            state: CreditState::Voided,
            is_void: true,
            unsure_since: None,
            next_try_at: None,
            reason: None,
            ..self
        }
    }

    /// Nothing is there: each try looked before it gave. What was refused of a grant that is void by now needs no more.
    fn refused(self, detail: String) -> Self {
        if self.is_void && self.provider_id.is_none() {
            return self.gone();
        }
        let code = ReasonCode::Refused;
        let refused = Self {
            unsure_since: None,
            ..self
        };
        refused.ended(CreditState::Rejected, Reason { code, detail })
    }

    fn unanswered(self, is_answered: bool, reason: String, now: Timestamp, at: Timestamp) -> Self {
        // To void twice is to void once: only what is given can be there without anybody knowing.
        let unsure_since = match self.provider_id {
            Some(_) => None,
            None => self.unsure_since.or(Some(now)),
        };
        let unsure = Self {
            unsure_since,
            key_number: self.key_number + i64::from(is_answered),
            ..self
        };
        let code = ReasonCode::Unanswered;
        let at = at.max(unsure.looked_for_from(now));
        unsure.put_off(false, Reason { code, detail: reason }, at)
    }

    fn put_off(self, is_away: bool, reason: Reason, at: Timestamp) -> Self {
        if is_away || self.tries < TRIES_MAX {
            let most = if is_away { AWAY_TRIES_MAX } else { TRIES_MAX };
            return Self {
                tries: self.tries.min(most),
                reason: Some(reason),
                ..self.due(at)
            };
        }
        let code = ReasonCode::TriesExhausted;
        let state = match self.unsure_since {
            Some(_) => CreditState::Unknown,
            None => CreditState::Rejected,
        };
        self.ended(state, Reason { code, ..reason })
    }

    /// It waits for its next try, in the state that says what is known. What was never given needs no voiding.
    fn due(self, at: Timestamp) -> Self {
        let may_be_there = self.unsure_since.is_some() || self.provider_id.is_some();
        let state = match (self.is_void, may_be_there) {
            (true, false) => return self.gone(),
            (true, true) => CreditState::Voiding,
            (false, _) if self.unsure_since.is_some() => CreditState::Unknown,
            (false, _) => CreditState::Pending,
        };
        Self {
            state,
            next_try_at: Some(at),
            reason: None,
            ..self
        }
    }

    fn ended(self, state: CreditState, reason: Reason) -> Self {
        Self {
            state,
            reason: Some(reason),
            next_try_at: None,
            ..self
        }
    }

    /// As if it had never been tried, under a key of its own: what was answered under the last one would be answered again.
    fn anew(self, now: Timestamp) -> Self {
        let anew = Self {
            key_number: self.key_number + 1,
            tries: 0,
            unsure_since: None,
            reason: None,
            ..self
        };
        anew.due(now)
    }
}

#[cfg(test)]
#[path = "credit/tests.rs"]
mod tests;
