//! Reading what happened and what is in force. No effects.

use super::{FlowError, Service, workspace};
use crate::decision::entry::Entry;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;

pub use crate::ledger::cached::CacheUse;
pub use crate::ledger::{EntryQuery, LedgerError, PAGE_ENTRIES_MAX};

/// Entries of a workspace that exists, newest first.
pub async fn entries(service: &Service, query: &EntryQuery) -> Result<Vec<Entry>, FlowError> {
    workspace::find(service, &query.workspace).await?.ok_or(FlowError::NotFound)?;
    Ok(service.ledger.entries(query).await?)
}

/// What the features of a workspace that exists came to in a time, or those of all together.
pub async fn features(service: &Service, of: Option<&WorkspaceId>, from: Timestamp, to: Timestamp) -> Result<Vec<CacheUse>, FlowError> {
    if let Some(of) = of {
        workspace::find(service, of).await?.ok_or(FlowError::NotFound)?;
    }
    Ok(service.ledger.cache_use(of, from, to).await?)
}

/// Whether the stores answer, and how many reservations are open.
pub struct Health {
    pub ledger: bool,
    pub open_reservations: Option<u64>,
}

pub async fn health(service: &Service) -> Health {
    Health {
        ledger: service.ledger.ping().await.is_ok(),
        open_reservations: service.counters.open().await.ok(),
    }
}
