//! Providers of which an operator said something.

use super::LedgerError;
use super::audit::Audited;
use crate::decision::provider::ProviderSetting;
use async_trait::async_trait;

/// The part of a ledger that remembers which providers are drained.
#[async_trait]
pub trait ProviderLedger: Send + Sync {
    /// All that were ever set, by name.
    async fn providers(&self) -> Result<Vec<ProviderSetting>, LedgerError>;

    async fn put_provider(&self, setting: &ProviderSetting, audited: Audited) -> Result<(), LedgerError>;
}

pub(super) const PROVIDERS: &str = "SELECT provider, state, changed_at FROM provider ORDER BY provider";

pub(super) const PUT_PROVIDER: &str = "INSERT INTO provider (provider, state, changed_at) VALUES ($1, $2, $3) \
     ON CONFLICT (provider) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at";
