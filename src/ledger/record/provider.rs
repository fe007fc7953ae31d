//! `provider`: what an operator said of a provider.

use super::{Unreadable, parse, read_word, word};
use crate::decision::id::Provider;
use crate::decision::provider::ProviderSetting;
use crate::decision::time::Timestamp;

#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct ProviderRow {
    pub(in crate::ledger) provider: String,
    pub(in crate::ledger) state: String,
    pub(in crate::ledger) changed_at: i64,
}

impl From<&ProviderSetting> for ProviderRow {
    fn from(setting: &ProviderSetting) -> Self {
        Self {
            provider: setting.provider.to_string(),
            state: word(&setting.state),
            changed_at: setting.changed_at.micros(),
        }
    }
}

impl TryFrom<ProviderRow> for ProviderSetting {
    type Error = Unreadable;

    fn try_from(row: ProviderRow) -> Result<Self, Unreadable> {
        Ok(Self {
            provider: parse("provider", &row.provider, Provider::parse)?,
            state: read_word("state", &row.state)?,
            changed_at: Timestamp::from_micros(row.changed_at),
        })
    }
}
