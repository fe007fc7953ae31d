//! Grants, as the trait asks for them: reads over the pool, each write a transaction of its own that takes the workspace's row first.

use super::fault::Fault;
use super::granting::{Giving, Voiding};
use super::{PostgresLedger, granting};
use crate::decision::grant::Grant;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::Audited;
use crate::ledger::{EarlierKey, Given, GrantDifference, GrantLedger, LedgerError, Pots};
use async_trait::async_trait;

/// Reads with a connection of the pool.
macro_rules! read {
    ($ledger:ident, $act:literal, $function:ident($($argument:expr),*)) => {{
        let result = async {
            let mut connection = $ledger.reader().await?;
            let result = $ledger.server.answer(granting::$function(&mut *connection, $($argument),*)).await;
            if matches!(result, Err(Fault::Silent)) {
                drop(connection.detach());
            }
            result
        };
        $ledger.told($act, result.await)
    }};
}

#[async_trait]
impl GrantLedger for PostgresLedger {
    async fn give(
        &self,
        workspace: &WorkspaceId,
        grant: Grant,
        earlier: Option<EarlierKey>,
        audited: Audited,
    ) -> Result<Given, LedgerError> {
        let giving = Giving {
            workspace: workspace.clone(),
            grant,
            earlier,
            audited,
        };
        self.describe("give a grant", giving).await
    }

    async fn void(&self, workspace: &WorkspaceId, grant: GrantId, now: Timestamp, audited: Audited) -> Result<Option<Grant>, LedgerError> {
        let workspace = workspace.clone();
        let voiding = Voiding {
            workspace,
            grant,
            now,
            audited,
        };
        self.describe("void a grant", voiding).await
    }

    async fn grant(&self, workspace: &WorkspaceId, grant: GrantId) -> Result<Option<Grant>, LedgerError> {
        read!(self, "read a grant", grant(workspace, grant))
    }

    async fn grants(&self, workspace: &WorkspaceId, after: Option<(Timestamp, GrantId)>, limit: usize) -> Result<Vec<Grant>, LedgerError> {
        read!(self, "list grants", page(workspace, after, limit))
    }

    async fn pots(&self, workspace: &WorkspaceId, at: Timestamp) -> Result<Pots, LedgerError> {
        read!(self, "read what grants have left", pots(workspace, at))
    }

    async fn verify_grants(&self) -> Result<Vec<GrantDifference>, LedgerError> {
        let result = async {
            let mut patient = self.server.connect_patiently().await?;
            granting::verified(&mut patient).await
        };
        self.told("verify its grants", result.await)
    }
}
