//! The part of the desk that takes back what is owed and met no later use. A crash leaves what it had not done yet to the next look.

use super::Desk;
use crate::decision::billing::adjust;
use crate::ledger::LedgerError;
use crate::ledger::billing::{Adjusting, DebtQuery};
use std::sync::PoisonError;

/// How often it is looked for.
const EVERY_SECONDS: i64 = 60;
/// How many debts one look looks at, so that a round ends.
const PAGE: usize = 100;

impl Desk {
    /// Whatever fails here keeps nobody from being billed.
    pub(super) async fn adjust_now_and_then(&self) {
        if !self.adjusted.is_due(EVERY_SECONDS, self.clock.now()) {
            return;
        }
        if let Err(error) = self.adjust().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what is owed back is taken back in a later round");
        }
    }

    /// Makes batches that take back what is owed and met no later use, each in a transaction of its own. Each look goes on where the last one
    /// stopped.
    async fn adjust(&self) -> Result<(), LedgerError> {
        let Some(until) = adjust::owed_until(&self.terms(), self.clock.now()) else {
            return Ok(());
        };
        let after = self.adjusted_last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let query = DebtQuery { until, after, limit: PAGE };
        let page = self.ledger.debts(&query).await?;
        for debt in &page {
            let (debt, now) = (debt.clone(), self.clock.now());
            if self.ledger.adjust(Adjusting { debt, now }).await? {
                metrics::counter!("weir_billing_adjustments_total").increment(1);
            }
        }
        let last = page.last().filter(|_| page.len() == PAGE).cloned();
        *self.adjusted_last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(())
    }
}
