//! The reads of reconcile, as the trait asks for them.

use super::fault::Fault;
use super::{PostgresLedger, told_read};
use crate::decision::billing::Batch;
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::told::{Forgotten, MemberSum, Stretch, ToldAccount, ToldLedger, WindowSum};
use async_trait::async_trait;

#[async_trait]
impl ToldLedger for PostgresLedger {
    async fn told_accounts(&self, stretch: &Stretch, after: Option<&ToldAccount>, limit: usize) -> Result<Vec<ToldAccount>, LedgerError> {
        read!(self, "list whom a provider was told of", told_read::accounts(stretch, after, limit))
    }

    async fn told_batches(&self, account: &ToldAccount, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, LedgerError> {
        read!(self, "read what a provider was told", told_read::batches(account, from, to))
    }

    async fn told_elsewhere(&self, account: &ToldAccount, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, LedgerError> {
        read!(
            self,
            "read what a provider may have been told twice",
            told_read::elsewhere(account, from, to)
        )
    }

    async fn told_while(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Batch>, LedgerError> {
        read!(self, "read what a provider was told meanwhile", told_read::told_while(from, to))
    }

    async fn window_sums(&self, stretch: &Stretch) -> Result<Vec<WindowSum>, LedgerError> {
        read!(self, "add up batches of windows", told_read::window_sums(stretch))
    }

    async fn member_sums(&self, stretch: &Stretch) -> Result<Vec<MemberSum>, LedgerError> {
        read!(self, "add up the entries of batches", told_read::member_sums(stretch))
    }

    async fn forgotten(&self, meter: &Meter, stretch: &Stretch) -> Result<Vec<Forgotten>, LedgerError> {
        read!(self, "look for what is in no batch", told_read::forgotten(meter, stretch))
    }
}
