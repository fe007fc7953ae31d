//! Grants, as the trait asks for them: reads over the readers' connections, writes through the only writer.

use super::granting::{Giving, Voiding};
use super::{SqliteLedger, granting};
use crate::decision::grant::Grant;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::Audited;
use crate::ledger::{EarlierKey, Given, GrantDifference, GrantLedger, LedgerError, Pots};
use async_trait::async_trait;

/// Reads with a connection of the pool.
macro_rules! read {
    ($ledger:ident, $act:literal, $function:ident($($argument:expr),*)) => {{
        let result = async { granting::$function(&mut *$ledger.reader().await?, $($argument),*).await };
        $ledger.told($act, result.await)
    }};
}

#[async_trait]
impl GrantLedger for SqliteLedger {
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
        read!(self, "verify its grants", verified())
    }
}
