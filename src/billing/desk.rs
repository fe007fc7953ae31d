//! The desk: collects what was recorded, seals what is due, sends what was sealed. Any number of nodes may have one; the ledger sees to it
//! that an entry is in one batch and a batch in one hand. A round is done by the node that leads, a flush by whichever is asked.
//!
//! What a crash costs: before a claim nothing; between claim and answer the lease, after which the batch counts as sent without an answer
//! and goes out again under the same identifier; after the answer was written nothing.

mod adjusting;
mod credits;

use super::gate::Gate;
use super::{Answer, Outgoing, Provider, Terms};
use crate::clock::Clock;
use crate::decision::billing::{Batch, State};
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::ledger::audit::Audited;
use crate::ledger::billing::{Answered, BEFORE_SECONDS, Claim, Claiming, Collecting, Debt, PASS_LAG_SECONDS, Place, Sealing};
use crate::ledger::{Ledger, LedgerError};
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::RwLock;

/// How many entries are looked at in one transaction.
const COLLECT_ENTRIES: usize = 1_000;
/// How many pages of one meter and pass a round looks at, so that a backlog keeps neither other meters nor the sender waiting.
const COLLECT_PAGES_MAX: usize = 100;
/// How often the passes run that look for what was committed late.
const LOOK_BACK_EVERY_SECONDS: i64 = 30;
/// For how long after its end a meter's entries are looked for, and corrections of them: as long as use may be told, and a day for the last
/// pass. So what was used before a meter went away is told although the service was down in between.
const ENDED_SECONDS: i64 = BEFORE_SECONDS + PASS_LAG_SECONDS[PASS_LAG_SECONDS.len() - 1];
/// How often it is counted how many batches are where.
const MEASURE_EVERY_SECONDS: i64 = 30;
/// How many batches are sealed in one transaction.
const SEAL_BATCHES: usize = 200;
/// How many batches are claimed at once, and how many of them are under way at once.
const CLAIM_BATCHES: usize = 32;
const CALLS_MAX: usize = 8;
/// How many times a round claims, so that it ends although work keeps coming.
const CLAIMS_MAX: usize = 64;
/// How long a claim lasts. A provider gives up a call in well under a minute, and nothing is sent in the second half of a lease.
pub const LEASE_SECONDS: i64 = 120;
/// How often it is looked whether those without a customer have one by now.
const RESUME_EVERY_SECONDS: i64 = 60;
const RESUME_BATCHES: usize = 500;

/// How batches are cut, and when they go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    pub window_seconds: i64,
    pub seal_after_seconds: i64,
    pub late_after_seconds: i64,
}

/// When something was done last that is done now and then.
struct Rhythm(AtomicI64);

impl Default for Rhythm {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Rhythm {
    /// Whether it is time again; then it is taken to be done.
    fn is_due(&self, every_seconds: i64, now: Timestamp) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        // A clock that was set back is no reason to wait for it.
        let is_due = now.micros().saturating_sub(last) >= every_seconds * 1_000_000 || now.micros() < last;
        if is_due {
            self.0.store(now.micros(), Ordering::Relaxed);
        }
        is_due
    }
}

/// What one round or flush did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Entries that became members of a batch.
    pub collected: usize,
    /// Batches that were sealed.
    pub sealed: usize,
    /// Batches that the provider acknowledged, and credits that it gave or voided.
    pub acknowledged: usize,
    /// Calls that ended otherwise, and batches that were set aside.
    pub other: usize,
}

/// One node's desk.
pub struct Desk {
    ledger: Arc<dyn Ledger>,
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    rules: Rules,
    gate: Gate,
    resumed: Rhythm,
    resumed_credits: Rhythm,
    adjusted: Rhythm,
    /// The last debt that was looked at, while there are more.
    adjusted_last: Mutex<Option<Debt>>,
    looked_back: Rhythm,
    measured: Rhythm,
    is_closing: AtomicBool,
    /// Held for reading while something is under way.
    under_way: RwLock<()>,
}

impl Desk {
    pub fn new(ledger: Arc<dyn Ledger>, provider: Arc<dyn Provider>, clock: Arc<dyn Clock>, rules: Rules) -> Self {
        Self {
            gate: Gate::new(provider.terms().calls_per_second, clock.now()),
            ledger,
            provider,
            clock,
            rules,
            resumed: Rhythm::default(),
            resumed_credits: Rhythm::default(),
            adjusted: Rhythm::default(),
            adjusted_last: Mutex::default(),
            looked_back: Rhythm::default(),
            measured: Rhythm::default(),
            is_closing: AtomicBool::new(false),
            under_way: RwLock::new(()),
        }
    }

    pub fn terms(&self) -> Terms {
        self.provider.terms()
    }

    pub fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Notes what meters are from then on: all that the policy has that came at `since`.
    pub async fn begin(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError> {
        self.ledger.begin_meters(meters, since.min(self.clock.now())).await
    }

    /// When a meter last came, changed or ended, as far as that was noted.
    pub async fn begun_at(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.ledger.meters_changed_at().await
    }

    /// These meters, and those that ended so lately that not all of their passes have seen all that is theirs.
    async fn and_ended(&self, meters: &[Meter]) -> Result<Vec<Meter>, LedgerError> {
        let since = self.clock.now().plus_seconds(-ENDED_SECONDS);
        let ended = self.ledger.meters_ended(since).await?;
        Ok(meters.iter().cloned().chain(ended).collect())
    }

    /// What the leading node does each second: collects, seals what is due, sends. Credits have rounds of their own.
    pub async fn round(&self, meters: &[Meter], since: Timestamp) -> Result<Done, LedgerError> {
        let mut done = Done::default();
        let (passes, meters) = match self.looked_back.is_due(LOOK_BACK_EVERY_SECONDS, self.clock.now()) {
            true => (PASS_LAG_SECONDS.len(), self.and_ended(meters).await?),
            false => (1, meters.to_vec()),
        };
        for meter in &meters {
            for (pass, lag_seconds) in PASS_LAG_SECONDS.into_iter().enumerate().take(passes) {
                let until = self.clock.now().plus_seconds(-lag_seconds);
                done.collected += self.collect(meter, since, Place::Pass(pass), until, COLLECT_PAGES_MAX).await?;
            }
        }
        let now = self.clock.now();
        done.sealed += self.seal(now, None).await?;
        if self.terms().sends && self.resumed.is_due(RESUME_EVERY_SECONDS, now) {
            self.ledger.resume_batches(self.terms(), RESUME_BATCHES, now).await?;
        }
        self.send(&mut done).await?;
        self.adjust_now_and_then().await;
        Ok(done)
    }

    /// Seals what is open now, windows that are not over too, and sends what the provider takes now; the rest goes out in rounds.
    pub async fn flush(&self, meters: &[Meter], since: Timestamp, audited: Audited) -> Result<Done, LedgerError> {
        let mut done = Done::default();
        for meter in &self.and_ended(meters).await? {
            done.collected += self.collect(meter, since, Place::Ahead(None), Timestamp::MAX, usize::MAX).await?;
        }
        done.sealed += self.seal(Timestamp::MAX, Some(audited)).await?;
        self.send(&mut done).await?;
        self.send_credits(&mut done).await?;
        Ok(done)
    }

    /// Makes members of what a meter counts from a place on, at most so many pages.
    async fn collect(
        &self,
        meter: &Meter,
        since: Timestamp,
        mut place: Place,
        until: Timestamp,
        pages: usize,
    ) -> Result<usize, LedgerError> {
        let mut members = 0;
        for _ in 0..pages {
            let now = self.clock.now();
            let collecting = Collecting {
                meter: meter.clone(),
                since: since.min(now),
                place: place.clone(),
                until,
                limit: COLLECT_ENTRIES,
                window_seconds: self.rules.window_seconds,
                seal_after_seconds: self.rules.seal_after_seconds,
                now,
            };
            let page = self.ledger.collect(collecting).await?;
            members += page.members;
            match (page.next, &mut place) {
                (None, _) => break,
                (next, Place::Ahead(after)) => *after = next,
                // The ledger remembers where a pass goes on.
                (Some(_), Place::Pass(_)) => {}
            }
        }
        metrics::counter!("weir_billing_entries_total").increment(members as u64);
        Ok(members)
    }

    /// Seals all that was to be sealed by `due`. Who asked for it is written with the first of it.
    async fn seal(&self, due: Timestamp, mut audited: Option<Audited>) -> Result<usize, LedgerError> {
        let mut sealed = 0;
        loop {
            let sealing = Sealing {
                due,
                accepts_negative: self.terms().accepts_negative,
                limit: SEAL_BATCHES,
                now: self.clock.now(),
                audited: audited.take(),
            };
            let page = self.ledger.seal(sealing).await?;
            sealed += page;
            if page < SEAL_BATCHES {
                break;
            }
        }
        metrics::counter!("weir_billing_sealed_total").increment(sealed as u64);
        Ok(sealed)
    }

    /// Sends what is due, as far as the provider takes it now.
    async fn send(&self, done: &mut Done) -> Result<(), LedgerError> {
        if !self.terms().sends {
            return Ok(());
        }
        for _ in 0..CLAIMS_MAX {
            let limit = self.gate.open(CLAIM_BATCHES, self.clock.now());
            if limit == 0 || self.is_closing.load(Ordering::Relaxed) {
                break;
            }
            let claiming = Claiming {
                terms: self.terms(),
                late_after_seconds: self.rules.late_after_seconds,
                lease_seconds: LEASE_SECONDS,
                limit,
                now: self.clock.now(),
            };
            let claims = self.ledger.claim(claiming).await?;
            if claims.claims.is_empty() {
                self.gate.pass_on(self.clock.now());
            }
            if claims.claims.is_empty() && claims.set_aside.is_empty() {
                break;
            }
            done.other += claims.set_aside.len();
            claims.set_aside.iter().for_each(told_aside);
            for is_acknowledged in self.send_all(claims.claims).await? {
                match is_acknowledged {
                    true => done.acknowledged += 1,
                    false => done.other += 1,
                }
            }
        }
        Ok(())
    }

    /// Sends these, several at once, but one after the other of one customer and meter, which is as much as a provider takes.
    async fn send_all(&self, claims: Vec<Claim>) -> Result<Vec<bool>, LedgerError> {
        let _under_way = self.under_way.read().await;
        let mut lanes: BTreeMap<(String, String), Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            let batch = &claim.batch;
            let customer = batch.delivery.customer.clone().unwrap_or_else(|| batch.workspace.to_string());
            lanes.entry((customer, batch.event_name.clone())).or_default().push(claim);
        }
        let lanes = lanes.into_values().map(|lane| async move {
            let mut sent = Vec::with_capacity(lane.len());
            for claim in lane {
                sent.push(self.send_one(claim).await?);
            }
            Ok::<_, LedgerError>(sent)
        });
        let results: Vec<Result<Vec<bool>, LedgerError>> = stream::iter(lanes).buffer_unordered(CALLS_MAX).collect().await;
        let mut sent = Vec::new();
        for result in results {
            sent.extend(result?);
        }
        Ok(sent)
    }

    /// One call, and what became of it; whether the provider has the batch.
    async fn send_one(&self, claim: Claim) -> Result<bool, LedgerError> {
        let Claim { batch, lease } = claim;
        let answer = match self.is_in_time(&batch) {
            true => {
                self.gate.spend();
                let answer = self.provider.send(&outgoing(&batch)).await;
                self.gate.note(&answer, self.clock.now());
                answer
            }
            // Others were slow before it. It was not sent, surely.
            false => Answer::RetryAfter {
                seconds: None,
                is_away: true,
                reason: "it was not sent before its lease was half over".to_owned(),
            },
        };
        let is_acknowledged = matches!(answer, Answer::Acknowledged | Answer::Duplicate);
        metrics::counter!("weir_billing_calls_total", "outcome" => outcome(&answer)).increment(1);
        let mut chance = [0u8; 4];
        self.clock.fill(&mut chance);
        let answered = Answered {
            batch: batch.id,
            generation: batch.delivery.generation,
            lease,
            answer,
            terms: self.terms(),
            now: self.clock.now(),
            chance: u32::from_be_bytes(chance),
        };
        if let Some(batch) = self.ledger.answered(answered).await? {
            told_aside(&batch);
        }
        Ok(is_acknowledged)
    }

    fn is_in_time(&self, batch: &Batch) -> bool {
        let claimed_at = batch.delivery.claimed_at.unwrap_or(Timestamp::MIN);
        self.clock.now() < claimed_at.plus_seconds(LEASE_SECONDS / 2) && !self.is_closing.load(Ordering::Relaxed)
    }

    /// Shows how many batches are where, now and then. Done by the node that leads.
    pub async fn measure(&self) -> Result<(), LedgerError> {
        if !self.measured.is_due(MEASURE_EVERY_SECONDS, self.clock.now()) {
            return Ok(());
        }
        self.measure_credits().await?;
        let states = self.ledger.batch_states().await?;
        let now = self.clock.now();
        for state in State::ALL.into_iter().filter(|state| *state != State::Acknowledged) {
            let count = states.iter().find(|count| count.state == state);
            metrics::gauge!("weir_billing_batches", "state" => state.as_str()).set(count.map_or(0, |count| count.batches) as f64);
        }
        let waiting = states.iter().filter(|count| matches!(count.state, State::Sealed | State::Sending));
        let oldest = waiting.map(|count| count.oldest).min();
        let age = oldest.map_or(0, |oldest| oldest.seconds_until(now)).max(0);
        metrics::gauge!("weir_billing_oldest_unsent_seconds").set(age as f64);
        metrics::gauge!("weir_billing_owed").set(self.ledger.owed().await? as f64);
        metrics::gauge!("weir_billing_provider_down").set(if self.gate.is_closed() { 1.0 } else { 0.0 });
        Ok(())
    }

    /// Sends nothing more, and returns when nothing is under way.
    pub async fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        drop(self.under_way.write().await);
    }
}

fn outgoing(batch: &Batch) -> Outgoing {
    Outgoing {
        identifier: batch.identifier(),
        workspace: batch.workspace.clone(),
        customer: batch.delivery.customer.clone(),
        meter: batch.meter.clone(),
        event_name: batch.event_name.clone(),
        value: batch.value(),
        at: batch.delivery.told_at.unwrap_or(batch.last_used_at),
        window: batch.window,
        members: batch.members,
    }
}

const fn outcome(answer: &Answer) -> &'static str {
    match answer {
        Answer::Acknowledged => "acknowledged",
        Answer::Duplicate => "duplicate",
        Answer::Rejected { .. } => "rejected",
        Answer::RetryAfter { is_away: true, .. } => "away",
        Answer::RetryAfter { is_away: false, .. } => "busy",
        Answer::NoMeter { .. } => "no_meter",
        Answer::Unknown { .. } => "unanswered",
    }
}

/// A line for the log about a batch that an operator has to look at.
fn told_aside(batch: &Batch) {
    let state = batch.delivery.state;
    if batch.value() < 0 && state == State::Acknowledged && batch.delivery.customer.is_none() {
        let reason = batch.delivery.reason.as_ref().map_or("", |reason| reason.detail.as_str());
        tracing::warn!(batch = %batch.id, workspace = batch.workspace.as_str(), value = batch.value(), reason, "what is owed was not taken back");
    }
    if !matches!(state, State::Rejected | State::Unknown | State::Unbillable) {
        return;
    }
    let reason = batch.delivery.reason.as_ref().map_or("", |reason| reason.detail.as_str());
    let (workspace, meter) = (batch.workspace.as_str(), batch.meter.as_str());
    metrics::counter!("weir_billing_set_aside_total", "state" => state.as_str()).increment(1);
    tracing::warn!(batch = %batch.id, workspace, meter, value = batch.value(), state = state.as_str(), reason, "a batch was not billed");
}
