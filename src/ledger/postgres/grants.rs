//! Grants, as the trait asks for them: reads over the pool, each write a transaction of its own that takes the workspace's row first.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, PostgresLedger, granting};
use crate::decision::grant::Grant;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::{Given, GrantDifference, GrantLedger, LedgerError, Pots};
use async_trait::async_trait;

/// A grant that is to be given.
struct Giving {
    workspace: WorkspaceId,
    grant: Grant,
}

#[async_trait]
impl Description<Given> for Giving {
    async fn write(&self, connection: &mut Connection) -> Result<(Given, bool), Fault> {
        let given = granting::give(connection, &self.workspace, &self.grant).await?;
        let is_kept = matches!(given, Given::New(_));
        Ok((given, is_kept))
    }
}

/// A grant that is to end.
struct Voiding {
    workspace: WorkspaceId,
    grant: GrantId,
    now: Timestamp,
}

#[async_trait]
impl Description<Option<Grant>> for Voiding {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<Grant>, bool), Fault> {
        let voided = granting::void(connection, &self.workspace, self.grant, self.now).await?;
        let is_kept = voided.is_some();
        Ok((voided, is_kept))
    }
}

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
    async fn give(&self, workspace: &WorkspaceId, grant: Grant) -> Result<Given, LedgerError> {
        let workspace = workspace.clone();
        self.describe("give a grant", Giving { workspace, grant }).await
    }

    async fn void(&self, workspace: &WorkspaceId, grant: GrantId, now: Timestamp) -> Result<Option<Grant>, LedgerError> {
        let workspace = workspace.clone();
        self.describe("void a grant", Voiding { workspace, grant, now }).await
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
