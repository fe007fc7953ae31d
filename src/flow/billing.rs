//! Batches for a billing provider, for whoever looks after them: listed, sealed and sent ahead of time, sent again.
//!
//! The desk that collects, seals and sends is not known here; the composition root gives one to the service ([`Desk`]). What it does, and
//! what a crash costs, stands with it.

use super::audit::{self, By, Subject};
use super::{FlowError, Service, policy};
use crate::decision::billing::delivery::Event;
use crate::decision::billing::reconcile::Uncounted;
use crate::decision::billing::report::Report;
use crate::decision::billing::{Batch, Terms};
use crate::decision::id::BatchId;
use crate::decision::inbound::Fetched;
use crate::decision::meter::Meter;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::audit::Audited;
pub use crate::ledger::billing::BatchQuery;
use crate::ledger::billing::{BatchChange, Changed};
use crate::ledger::history::HistoryQuery;
use crate::ledger::told::Scope;
use crate::policy::Policy;
use crate::policy::object::ObjectId;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How many versions of the policy are looked at in one step.
const HISTORY_PAGE: usize = 50;

/// Windows and times of batches, as settings have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BillingOptions {
    pub window_seconds: i64,
    pub seal_after_seconds: i64,
    pub late_after_seconds: i64,
}

impl Default for BillingOptions {
    fn default() -> Self {
        Self {
            window_seconds: 3_600,
            seal_after_seconds: 60,
            late_after_seconds: 3_000,
        }
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
}

/// Who collects, seals and sends.
#[async_trait]
pub trait Desk: Send + Sync {
    /// As `WEIR_BILLING_PROVIDER` has it.
    fn provider(&self) -> &'static str;

    fn terms(&self) -> Terms;

    /// Whether paid grants become credits at the provider.
    fn keeps_credits(&self) -> bool;

    /// Notes what all meters are from `since` on, when the policy came that has them.
    async fn begin(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError>;

    /// When a meter last came, changed or ended, as far as that was noted.
    async fn begun_at(&self) -> Result<Option<Timestamp>, LedgerError>;

    /// What one node of all does each second.
    async fn round(&self, meters: &[Meter], since: Timestamp) -> Result<Done, LedgerError>;

    /// What that node does beside it: has paid grants given to the provider as credits, and voided there.
    async fn round_of_credits(&self) -> Result<Done, LedgerError>;

    /// Seals what is open and sends what can be sent now.
    async fn flush(&self, meters: &[Meter], since: Timestamp, audited: Audited) -> Result<Done, LedgerError>;

    /// Holds the ledger, its batches and the provider's sums against each other, and mends what needs no guess.
    async fn reconcile(&self, meters: &[Meter], scope: Scope) -> Result<Report, LedgerError>;

    /// Asks the provider for an event that it told of without its data.
    async fn event(&self, id: &str) -> Fetched;

    /// Of what was told meanwhile to a meter of the provider's, or to any: rejects what the provider surely does not have.
    async fn uncounted(&self, meter: Option<&str>, told: Period, by: &By) -> Result<Uncounted, LedgerError>;

    /// Shows how many batches are where.
    async fn measure(&self) -> Result<(), LedgerError>;

    /// Sends nothing more, and returns when nothing is under way.
    async fn close(&self);
}

/// The desk of a service, once it has one.
#[derive(Default)]
pub struct Employed {
    desk: RwLock<Option<Arc<dyn Desk>>>,
    /// The version of the policy up to which meters were noted.
    noted: AtomicI64,
}

impl Employed {
    pub fn employ(&self, desk: Arc<dyn Desk>) {
        *self.desk.write().unwrap_or_else(PoisonError::into_inner) = Some(desk);
        self.noted.store(0, Ordering::Relaxed);
    }

    pub fn desk(&self) -> Option<Arc<dyn Desk>> {
        self.desk.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes what meters are, of each policy since the last time: a meter may have gone and come back in between, by a node that is no more or
/// by the command line, and what was used meanwhile is not for it.
pub async fn begin(service: &Service) -> Result<(), FlowError> {
    let Some(desk) = service.billing.desk() else { return Ok(()) };
    let policy = service.policy.load();
    let noted = service.billing.noted.load(Ordering::Relaxed);
    if noted == policy.version && noted > 0 {
        return Ok(());
    }
    for earlier in earlier(service, desk.as_ref(), noted, policy.version).await?.into_iter().rev() {
        desk.begin(&earlier.billing.meters, earlier.changed_at.unwrap_or(Timestamp::MIN))
            .await?;
    }
    let (meters, since) = meters(service);
    desk.begin(&meters, since).await?;
    service.billing.noted.store(policy.version, Ordering::Relaxed);
    Ok(())
}

/// The policies before version `before` that changed what is billed and were not noted, newest first. Where nothing was ever noted, meters
/// begin with the policy in force.
async fn earlier(service: &Service, desk: &dyn Desk, noted: i64, before: i64) -> Result<Vec<Arc<Policy>>, FlowError> {
    let Some(begun_at) = desk.begun_at().await? else {
        return Ok(Vec::new());
    };
    let object = ObjectId::billing();
    let mut query = HistoryQuery {
        object: Some((object.kind.as_str().to_owned(), object.id.to_string())),
        before: Some(before.saturating_add(1)),
        limit: HISTORY_PAGE,
    };
    let mut found = Vec::new();
    loop {
        let page = service.ledger.policy_history(&query).await?;
        let is_last = page.len() < HISTORY_PAGE;
        query.before = page.last().map(|version| version.version);
        for version in page {
            if version.version <= noted || version.changed_at < begun_at {
                return Ok(found);
            }
            found.push(policy::at(service, version.version).await?);
        }
        if is_last {
            return Ok(found);
        }
    }
}

/// What one node of all does each second.
pub async fn round(service: &Service) -> Result<Done, FlowError> {
    begin(service).await?;
    let (meters, since) = meters(service);
    match service.billing.desk() {
        Some(desk) => {
            let done = desk.round(&meters, since).await?;
            desk.measure().await?;
            Ok(done)
        }
        None => Ok(Done::default()),
    }
}

/// What that node does beside it, in turns of its own: a provider that answers to one need not answer to the other.
pub async fn round_of_credits(service: &Service) -> Result<Done, FlowError> {
    match service.billing.desk() {
        Some(desk) => Ok(desk.round_of_credits().await?),
        None => Ok(Done::default()),
    }
}

/// The meters in force, and when the policy came that has them.
fn meters(service: &Service) -> (Vec<Meter>, Timestamp) {
    let policy = service.policy.load();
    (policy.billing.meters.clone(), policy.changed_at.unwrap_or(service.clock.now()))
}

/// Seals what is open now, the current window too, and sends what can be sent now.
pub async fn flush(service: &Service, by: &By) -> Result<Done, FlowError> {
    let desk = service.billing.desk().ok_or(FlowError::NotFound)?;
    begin(service).await?;
    let (meters, since) = meters(service);
    let record = audit::record(
        &*service.clock,
        by,
        "billing.flush",
        Subject::shared("billing", desk.provider()),
        None,
        None,
    );
    Ok(desk.flush(&meters, since, record).await?)
}

pub async fn list(service: &Service, query: &BatchQuery) -> Result<Vec<Batch>, FlowError> {
    Ok(service.ledger.batches(query).await?)
}

pub async fn find(service: &Service, id: BatchId) -> Result<Batch, FlowError> {
    service.ledger.batch(id).await?.ok_or(FlowError::NotFound)
}

/// Has a batch sent again; forced, although the provider may have it.
pub async fn resend(service: &Service, id: BatchId, is_forced: bool, by: &By) -> Result<Batch, FlowError> {
    let desk = service.billing.desk().ok_or(FlowError::NotFound)?;
    let batch = find(service, id).await?;
    let subject = Subject::of(&batch.workspace, "batch", id.to_string());
    let (before, after) = (told(&batch), json!({"state": "sealed", "force": is_forced}));
    let change = BatchChange {
        batch: id,
        generation: None,
        event: Event::Resend { is_forced },
        terms: desk.terms(),
        now: service.clock.now(),
        audited: Some(audit::record(
            &*service.clock,
            by,
            "billing.batch.resend",
            subject,
            Some(before),
            Some(after),
        )),
    };
    match service.ledger.change_batch(change).await? {
        Changed::Done(batch) => Ok(*batch),
        Changed::Refused(batch, why) => Err(FlowError::BatchConflict(batch.id, why)),
        Changed::Gone => Err(FlowError::NotFound),
    }
}

/// A batch as the audit log tells of it.
fn told(batch: &Batch) -> Value {
    json!({
        "state": batch.delivery.state,
        "identifier": batch.identifier(),
        "tries": batch.delivery.tries,
        "reason": batch.delivery.reason.as_ref().map(|reason| reason.code),
    })
}
