//! What nodes tell each other of failing models and of calls that come too fast. Not the truth of anything, and worth nothing a minute later: a ledger is merely the place
//! where all nodes meet.

use super::LedgerError;
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// A ledger by which nodes tell each other what they count.
#[async_trait]
pub trait HealthLedger: Send + Sync {
    /// Replaces what `node` told, if there is anything new, and returns what the others told at `since` or later. On a ledger of one process
    /// there are no others, and nothing is kept.
    async fn exchange_reports(
        &self,
        node: &str,
        report: Option<Vec<u8>>,
        now: Timestamp,
        since: Timestamp,
    ) -> Result<Vec<Vec<u8>>, LedgerError>;
}
