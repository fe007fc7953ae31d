//! Batches for a billing provider, for whoever looks after them: listed, sealed and sent ahead of time, sent again.
//!
//! The desk that collects, seals and sends is not known here; the composition root gives one to the service ([`Desk`]). What it does, and
//! what a crash costs, stands with it.

use super::audit::{self, By, Subject};
use super::{FlowError, Service};
use crate::decision::billing::delivery::Event;
use crate::decision::billing::{Batch, Terms};
use crate::decision::id::BatchId;
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::audit::Audited;
pub use crate::ledger::billing::BatchQuery;
use crate::ledger::billing::{BatchChange, Changed};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};

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
    /// Batches that the provider acknowledged.
    pub acknowledged: usize,
}

/// Who collects, seals and sends.
#[async_trait]
pub trait Desk: Send + Sync {
    /// As `WEIR_BILLING_PROVIDER` has it.
    fn provider(&self) -> &'static str;

    fn terms(&self) -> Terms;

    /// Notes meters that are not known yet; `since` is when the policy came that has them.
    async fn begin(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError>;

    /// What one node of all does each second.
    async fn round(&self, meters: &[Meter], since: Timestamp) -> Result<Done, LedgerError>;

    /// Seals what is open and sends what can be sent now.
    async fn flush(&self, meters: &[Meter], since: Timestamp, audited: Audited) -> Result<Done, LedgerError>;

    /// Shows how many batches are where.
    async fn measure(&self) -> Result<(), LedgerError>;

    /// Sends nothing more, and returns when nothing is under way.
    async fn close(&self);
}

/// The desk of a service, once it has one.
#[derive(Default)]
pub struct Employed(RwLock<Option<Arc<dyn Desk>>>);

impl Employed {
    pub fn employ(&self, desk: Arc<dyn Desk>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(desk);
    }

    pub fn desk(&self) -> Option<Arc<dyn Desk>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes the meters of the policy in force, so that what is recorded from now on is theirs.
pub async fn begin(service: &Service) -> Result<(), FlowError> {
    let (meters, since) = meters(service);
    if let Some(desk) = service.billing.desk() {
        desk.begin(&meters, since).await?;
    }
    Ok(())
}

/// What one node of all does each second.
pub async fn round(service: &Service) -> Result<Done, FlowError> {
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

/// The meters in force, and when the policy came that has them.
fn meters(service: &Service) -> (Vec<Meter>, Timestamp) {
    let policy = service.policy.load();
    (policy.billing.meters.clone(), policy.changed_at.unwrap_or(service.clock.now()))
}

/// Seals what is open now, the current window too, and sends what can be sent now.
pub async fn flush(service: &Service, by: &By) -> Result<Done, FlowError> {
    let desk = service.billing.desk().ok_or(FlowError::NotFound)?;
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
        "tries": batch.delivery.tries,
        "reason": batch.delivery.reason.as_ref().map(|reason| reason.code),
    })
}
