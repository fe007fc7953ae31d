//! The policy's past, as SQLite tells it.

use super::{SqliteLedger, history_read};
use crate::ledger::LedgerError;
use crate::ledger::history::{HistoryQuery, PolicyHistory, PolicyVersion};
use async_trait::async_trait;

#[async_trait]
impl PolicyHistory for SqliteLedger {
    async fn policy_history(&self, query: &HistoryQuery) -> Result<Vec<PolicyVersion>, LedgerError> {
        let result = async { history_read::history(&mut *self.reader().await?, query).await };
        self.told("read the policy's history", result.await)
    }

    async fn workspaces_by_plan(&self) -> Result<Vec<(Option<String>, u64)>, LedgerError> {
        let result = async { history_read::workspaces_by_plan(&mut *self.reader().await?).await };
        self.told("count workspaces by plan", result.await)
    }
}
