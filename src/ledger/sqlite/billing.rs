//! Batches for a billing provider, as the trait asks for them: each write is one transaction.

use super::batching;
use super::reigns::{self, Beginning};
use super::sending::Resuming;
use super::{SqliteLedger, batches_read, sending};
use crate::decision::billing::{Batch, Terms};
use crate::decision::id::{BatchId, MeterId, WorkspaceId};
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::billing::{
    Adjusting, Answered, BatchChange, BatchQuery, BatchesVerified, BillingLedger, COLLECT_AGAIN_MAX, Carried, CarriedQuery, Changed,
    Claiming, Claims, Collected, Collecting, Debt, DebtQuery, Metered, MeteredQuery, Sealing, StateCount,
};
use async_trait::async_trait;

#[async_trait]
impl BillingLedger for SqliteLedger {
    async fn begin_meters(&self, meters: &[Meter], since: Timestamp) -> Result<(), LedgerError> {
        let (meters, is_all) = (meters.to_vec(), true);
        self.describe("note its meters", Beginning { meters, since, is_all }).await
    }

    async fn meters_ended(&self, since: Timestamp) -> Result<Vec<Meter>, LedgerError> {
        read!(self, "read which meters ended", reigns::ended(since))
    }

    async fn meters_changed_at(&self) -> Result<Option<Timestamp>, LedgerError> {
        read!(self, "read when meters changed", reigns::last())
    }

    async fn collect(&self, collecting: Collecting) -> Result<Collected, LedgerError> {
        for _ in 0..COLLECT_AGAIN_MAX {
            let Some(page) = read!(self, "read what is to be billed", batching::page(&collecting))? else {
                let beginning = Beginning {
                    meters: vec![collecting.meter.clone()],
                    since: collecting.since,
                    is_all: false,
                };
                self.describe("note a meter", beginning).await?;
                continue;
            };
            if let Some(nothing) = page.nothing() {
                return Ok(nothing);
            }
            if let Some(collected) = self.describe("collect what is to be billed", page).await? {
                return Ok(collected);
            }
        }
        Err(LedgerError::Busy)
    }

    async fn seal(&self, sealing: Sealing) -> Result<usize, LedgerError> {
        self.describe("seal batches", sealing).await
    }

    async fn debts(&self, query: &DebtQuery) -> Result<Vec<Debt>, LedgerError> {
        read!(self, "read what is owed", batches_read::debts(query))
    }

    async fn adjust(&self, adjusting: Adjusting) -> Result<bool, LedgerError> {
        self.describe("take back what is owed", adjusting).await
    }

    async fn claim(&self, claiming: Claiming) -> Result<Claims, LedgerError> {
        self.describe("claim batches", claiming).await
    }

    async fn answered(&self, answered: Answered) -> Result<Option<Batch>, LedgerError> {
        self.describe("write what became of a batch", answered).await
    }

    async fn change_batch(&self, change: BatchChange) -> Result<Changed, LedgerError> {
        self.describe("change a batch", change).await
    }

    async fn resume_batches(&self, terms: Terms, limit: usize, now: Timestamp) -> Result<usize, LedgerError> {
        self.describe("resume batches", Resuming { terms, limit, now }).await
    }

    async fn batches(&self, query: &BatchQuery) -> Result<Vec<Batch>, LedgerError> {
        read!(self, "list batches", batches_read::list(query))
    }

    async fn batch(&self, id: BatchId) -> Result<Option<Batch>, LedgerError> {
        read!(self, "read a batch", sending::batch(id))
    }

    async fn batch_states(&self) -> Result<Vec<StateCount>, LedgerError> {
        read!(self, "count batches", batches_read::states())
    }

    async fn carried(&self, query: &CarriedQuery) -> Result<Vec<Carried>, LedgerError> {
        read!(self, "read what batches carry", batches_read::carried(query))
    }

    async fn owed(&self) -> Result<i64, LedgerError> {
        read!(self, "count who is owed", batches_read::owed())
    }

    async fn metered(&self, query: &MeteredQuery) -> Result<Vec<Metered>, LedgerError> {
        read!(self, "add up what a meter counts", batches_read::metered(query))
    }

    async fn verify_batches(&self, after: Option<(WorkspaceId, MeterId)>, limit: usize) -> Result<BatchesVerified, LedgerError> {
        read!(self, "verify its batches", batches_read::verified(after.as_ref(), limit))
    }
}
