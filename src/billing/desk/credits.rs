//! The part of a desk that has grants which were paid for given to the provider as credits, and voided there when they are voided.
//!
//! What a crash costs: before a claim nothing; between claim and answer the lease, after which the credit is looked for at the provider, and
//! given only if it is not there; after the answer was written nothing.

use super::{Desk, Done, LEASE_SECONDS, RESUME_EVERY_SECONDS};
use crate::billing::{Answer, Credit, CreditAnswer};
use crate::decision::billing::credit::{CreditState, Task};
use crate::ledger::LedgerError;
use crate::ledger::credits::{CreditAnswered, CreditClaiming};
use futures_util::{StreamExt, stream};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many credits are claimed at once, and how many of them are under way at once.
const CLAIM_CREDITS: usize = 16;
const CALLS_MAX: usize = 4;
/// How many times a round claims, so that it ends although grants keep coming.
const CLAIMS_MAX: usize = 16;
/// How long one credit may take, with all calls that it needs; nothing is begun in the second half of a lease, so none outlasts it.
const CREDIT_SECONDS_MAX: u64 = 50;
const RESUME_CREDITS: usize = 500;

impl Desk {
    /// What the leading node does beside its other rounds: one credit may take a minute of calls that nobody answers, and batches do not wait
    /// for it.
    pub async fn round_of_credits(&self) -> Result<Done, LedgerError> {
        let mut done = Done::default();
        if self.terms().sends && self.resumed_credits.is_due(RESUME_EVERY_SECONDS, self.clock.now()) {
            self.resume_credits().await?;
        }
        self.send_credits(&mut done).await?;
        Ok(done)
    }

    /// Has what is due given and voided, as far as the provider takes it now.
    pub(super) async fn send_credits(&self, done: &mut Done) -> Result<(), LedgerError> {
        if !self.provider.keeps_credits() {
            return Ok(());
        }
        for _ in 0..CLAIMS_MAX {
            let limit = self.gate.open(CLAIM_CREDITS, self.clock.now());
            if limit == 0 || self.is_closing.load(Ordering::Relaxed) {
                break;
            }
            let claiming = CreditClaiming {
                lease_seconds: LEASE_SECONDS,
                limit,
                now: self.clock.now(),
            };
            let claims = self.ledger.claim_credits(claiming).await?;
            if claims.claims.is_empty() {
                self.gate.pass_on(self.clock.now());
            }
            if claims.claims.is_empty() && claims.set_aside.is_empty() {
                break;
            }
            done.other += claims.set_aside.len();
            claims.set_aside.iter().for_each(told_aside);
            let _under_way = self.under_way.read().await;
            let sent = claims.claims.into_iter().map(|credit| self.send_credit(credit));
            let sent: Vec<Result<bool, LedgerError>> = stream::iter(sent).buffer_unordered(CALLS_MAX).collect().await;
            for is_done in sent {
                match is_done? {
                    true => done.acknowledged += 1,
                    false => done.other += 1,
                }
            }
        }
        Ok(())
    }

    /// Has credits that waited for a customer go on.
    async fn resume_credits(&self) -> Result<(), LedgerError> {
        if self.provider.keeps_credits() {
            self.ledger.resume_credits(RESUME_CREDITS, self.clock.now()).await?;
        }
        Ok(())
    }

    /// What one try is about, and what became of it; whether it is done with.
    async fn send_credit(&self, credit: Credit) -> Result<bool, LedgerError> {
        let ends_at = credit.delivery.next_try_at.unwrap_or_else(|| self.clock.now());
        let is_in_time = self.clock.now() < ends_at.plus_seconds(-LEASE_SECONDS / 2) && !self.is_closing.load(Ordering::Relaxed);
        let answer = match is_in_time {
            true => {
                self.gate.spend();
                let limit = Duration::from_secs(CREDIT_SECONDS_MAX);
                let answer = tokio::time::timeout(limit, self.call(&credit)).await;
                let answer = answer.unwrap_or_else(|_| CreditAnswer::Unsure {
                    is_answered: false,
                    reason: format!("no answer within {CREDIT_SECONDS_MAX} s"),
                });
                self.gate.note(&as_heard(&answer), self.clock.now());
                answer
            }
            // Others were slow before it. It was not sent, surely.
            false => CreditAnswer::NotNow {
                seconds: None,
                is_away: true,
                reason: "it was not sent before its lease was half over".to_owned(),
            },
        };
        metrics::counter!("weir_billing_credit_calls_total", "outcome" => outcome(&answer)).increment(1);
        let mut chance = [0u8; 4];
        self.clock.fill(&mut chance);
        let answered = CreditAnswered {
            grant: credit.grant,
            claim: credit.delivery.claims,
            answer,
            now: self.clock.now(),
            chance: u32::from_be_bytes(chance),
        };
        let Some(credit) = self.ledger.credit_answered(answered).await? else {
            return Ok(false);
        };
        told_aside(&credit);
        Ok(matches!(credit.delivery.state, CreditState::Acknowledged | CreditState::Voided))
    }

    async fn call(&self, credit: &Credit) -> CreditAnswer {
        match credit.task() {
            Task::Give => self.provider.give_credit(credit).await,
            Task::Find => self.provider.find_credit(credit).await,
            Task::Void(id) => self.provider.void_credit(&id).await,
        }
    }

    /// Shows how many credits are where.
    pub(super) async fn measure_credits(&self) -> Result<(), LedgerError> {
        let states = self.ledger.credit_states().await?;
        let is_open = |state: &CreditState| !matches!(state, CreditState::Acknowledged | CreditState::Voided);
        for state in CreditState::ALL.into_iter().filter(is_open) {
            let count = states.iter().find(|(counted, _)| *counted == state).map_or(0, |(_, count)| *count);
            metrics::gauge!("weir_billing_credits", "state" => state.as_str()).set(count as f64);
        }
        Ok(())
    }
}

/// What an answer says of the way to the provider.
fn as_heard(answer: &CreditAnswer) -> Answer {
    match answer {
        CreditAnswer::Given(_) | CreditAnswer::Gone | CreditAnswer::Refused(_) | CreditAnswer::LookRefused(_) => Answer::Acknowledged,
        CreditAnswer::NotNow { seconds, is_away, reason } => Answer::RetryAfter {
            seconds: *seconds,
            is_away: *is_away,
            reason: reason.clone(),
        },
        CreditAnswer::Unsure { reason, .. } => Answer::Unknown { reason: reason.clone() },
    }
}

const fn outcome(answer: &CreditAnswer) -> &'static str {
    match answer {
        CreditAnswer::Given(_) => "given",
        CreditAnswer::Gone => "gone",
        CreditAnswer::Refused(_) | CreditAnswer::LookRefused(_) => "rejected",
        CreditAnswer::NotNow { is_away: true, .. } => "away",
        CreditAnswer::NotNow { is_away: false, .. } => "busy",
        CreditAnswer::Unsure { .. } => "unanswered",
    }
}

/// A line for the log about a credit that an operator has to look at.
fn told_aside(credit: &Credit) {
    let delivery = &credit.delivery;
    let is_parked = delivery.next_try_at.is_none();
    if !is_parked || matches!(delivery.state, CreditState::Acknowledged | CreditState::Voided) {
        return;
    }
    let reason = delivery.reason.as_ref().map_or("", |reason| reason.detail.as_str());
    let (workspace, state) = (credit.workspace.as_str(), delivery.state.as_str());
    metrics::counter!("weir_billing_credits_set_aside_total", "state" => state).increment(1);
    tracing::warn!(grant = %credit.grant, workspace, state, reason, "a paid grant is not a credit at the provider");
}
