//! Grants, as the trait asks for them: reads over the readers' connections, writes through the only writer.

use super::fault::Fault;
use super::writer::Job;
use super::{SqliteLedger, granting};
use crate::decision::grant::Grant;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::{Given, GrantDifference, GrantLedger, LedgerError, Pots};
use async_trait::async_trait;

#[async_trait]
impl GrantLedger for SqliteLedger {
    async fn give(&self, workspace: &WorkspaceId, grant: Grant) -> Result<Given, LedgerError> {
        let give = |call| Job::Give(Box::new(call));
        self.writer.ask("give a grant", (workspace.clone(), grant), give).await
    }

    async fn void(&self, workspace: &WorkspaceId, grant: GrantId, now: Timestamp) -> Result<Option<Grant>, LedgerError> {
        self.writer.ask("void a grant", (workspace.clone(), grant, now), Job::Void).await
    }

    async fn grants(&self, workspace: &WorkspaceId, after: Option<(Timestamp, GrantId)>, limit: usize) -> Result<Vec<Grant>, LedgerError> {
        let read = async { granting::page(&mut *self.reader().await?, workspace, after, limit).await };
        self.told("list grants", read.await)
    }

    async fn pots(&self, workspace: &WorkspaceId, at: Timestamp) -> Result<Pots, LedgerError> {
        let read = async { granting::pots(&mut *self.reader().await?, workspace, at).await };
        self.told("read what grants have left", read.await)
    }

    async fn verify_grants(&self) -> Result<Vec<GrantDifference>, LedgerError> {
        let verify = async { Ok::<_, Fault>(granting::verified(&mut *self.reader().await?).await?) };
        self.told("verify its grants", verify.await)
    }
}
