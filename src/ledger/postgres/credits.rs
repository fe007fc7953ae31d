//! Credits of paid grants, as the trait asks for them: each write is one transaction.

use super::PostgresLedger;
use super::crediting::{self, ResumingCredits};
use super::fault::Fault;
use crate::decision::billing::credit::{Credit, CreditState};
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::credits::{CreditAnswered, CreditChange, CreditChanged, CreditClaiming, CreditClaims, CreditLedger, LostCredits};
use async_trait::async_trait;

#[async_trait]
impl CreditLedger for PostgresLedger {
    async fn claim_credits(&self, claiming: CreditClaiming) -> Result<CreditClaims, LedgerError> {
        self.describe("claim credits", claiming).await
    }

    async fn credit_answered(&self, answered: CreditAnswered) -> Result<Option<Credit>, LedgerError> {
        self.describe("write what became of a credit", answered).await
    }

    async fn change_credit(&self, change: CreditChange) -> Result<CreditChanged, LedgerError> {
        self.describe("change a credit", change).await
    }

    async fn resume_credits(&self, limit: usize, now: Timestamp) -> Result<usize, LedgerError> {
        self.describe("resume credits", ResumingCredits { limit, now }).await
    }

    async fn credits_of(&self, workspace: &WorkspaceId, from: Timestamp, to: Timestamp) -> Result<Vec<Credit>, LedgerError> {
        read!(self, "read a workspace's credits", crediting::of_workspace(workspace, from, to))
    }

    async fn open_credits(&self, workspace: Option<&WorkspaceId>, limit: usize) -> Result<Vec<Credit>, LedgerError> {
        read!(self, "list open credits", crediting::open(workspace, limit))
    }

    async fn lost_credits(&self, query: &LostCredits) -> Result<Vec<Credit>, LedgerError> {
        read!(self, "list lost credits", crediting::lost(query))
    }

    async fn credit_states(&self) -> Result<Vec<(CreditState, i64)>, LedgerError> {
        read!(self, "count credits", crediting::states())
    }
}
