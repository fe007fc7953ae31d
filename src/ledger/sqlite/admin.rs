//! What operators change besides policies and workspaces: corrections of entries, and providers.

use super::batch::Write;
use super::describe::Description;
use super::fault::Fault;
use super::{Connection, SqliteLedger, audited, corrected, listed, posting, telling};
use crate::decision::entry::Entry;
use crate::decision::id::EntryId;
use crate::decision::provider::ProviderSetting;
use crate::decision::workspace::Workspace;
use crate::ledger::audit::{AuditLedger, AuditQuery, Audited};
use crate::ledger::correction::{Correction, CorrectionLedger, UnpricedQuery};
use crate::ledger::directory::{DirectoryLedger, WorkspaceQuery};
use crate::ledger::provider::ProviderLedger;
use crate::ledger::tells::Written;
use crate::ledger::{LedgerError, Posted};
use async_trait::async_trait;

struct Corrections(Vec<Correction>);

#[async_trait]
impl Description<Vec<Posted>> for Corrections {
    async fn write(&self, connection: &mut Connection) -> Result<(Vec<Posted>, bool), Fault> {
        let writes: Vec<Write<'_>> = self.0.iter().map(|correction| Write::Post(&correction.post)).collect();
        let mut batch = posting::load(connection, &writes).await?;
        let posted = self.0.iter().map(|correction| batch.post(&correction.post));
        let posted: Vec<Posted> = posted.collect::<Result<_, _>>()?;
        posting::store(connection, &batch).await?;
        let written = self.0.iter().zip(&posted).filter_map(|(correction, posted)| match posted {
            Posted::Done { rows, .. } => Some(Written {
                post: &correction.post,
                rows,
            }),
            Posted::Stands(_) => None,
        });
        let written: Vec<Written<'_>> = written.collect();
        telling::tell(connection, &written, |one, row| {
            row.spent.saturating_sub(one.post.brings(&row.counter))
        })
        .await?;
        audited::write(connection, &made(&self.0, &posted)).await?;
        Ok((posted, true))
    }
}

/// The records of those that were written.
fn made(corrections: &[Correction], posted: &[Posted]) -> Vec<Audited> {
    let both = corrections.iter().zip(posted);
    let made = both.filter(|(_, posted)| matches!(posted, Posted::Done { .. }));
    made.map(|(correction, _)| correction.audited.clone()).collect()
}

struct ProviderPut {
    setting: ProviderSetting,
    audited: Audited,
}

#[async_trait]
impl Description<()> for ProviderPut {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        listed::put_provider(connection, &self.setting).await?;
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        Ok(((), true))
    }
}

#[async_trait]
impl AuditLedger for SqliteLedger {
    async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<Audited>, LedgerError> {
        read!(self, "read the audit log", audited::list(query))
    }
}

#[async_trait]
impl CorrectionLedger for SqliteLedger {
    async fn entry(&self, id: EntryId) -> Result<Option<Entry>, LedgerError> {
        read!(self, "read an entry", corrected::entry(id))
    }

    async fn corrections(&self, entries: &[EntryId]) -> Result<Vec<Entry>, LedgerError> {
        read!(self, "read the corrections of entries", corrected::corrections(entries))
    }

    async fn unpriced(&self, query: &UnpricedQuery) -> Result<Vec<Entry>, LedgerError> {
        read!(self, "list what has no price", corrected::unpriced(query))
    }

    async fn correct(&self, corrections: Vec<Correction>) -> Result<Vec<Posted>, LedgerError> {
        self.describe("correct entries", Corrections(corrections)).await
    }

    async fn policy_versions_of(&self, kind: &str, id: &str) -> Result<Vec<i64>, LedgerError> {
        read!(self, "read when a policy object changed", corrected::policy_versions_of(kind, id))
    }
}

#[async_trait]
impl ProviderLedger for SqliteLedger {
    async fn providers(&self) -> Result<Vec<ProviderSetting>, LedgerError> {
        read!(self, "list providers", listed::providers())
    }

    async fn put_provider(&self, setting: &ProviderSetting, audited: Audited) -> Result<(), LedgerError> {
        let setting = setting.clone();
        self.describe("set a provider", ProviderPut { setting, audited }).await
    }
}

#[async_trait]
impl DirectoryLedger for SqliteLedger {
    async fn workspaces(&self, query: &WorkspaceQuery) -> Result<Vec<Workspace>, LedgerError> {
        read!(self, "list workspaces", listed::workspaces(query))
    }
}
