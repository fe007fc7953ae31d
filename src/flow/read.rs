//! Reading what happened and what is in force. No effects.

use super::{FlowError, Service, workspace};
use crate::decision::entry::Entry;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;

pub use crate::counters::CLOCK_AHEAD_MILLIS_MAX;
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

/// How far this node's clock is ahead of those of its stores, in milliseconds; below zero: behind. `None`: the store has none but this
/// machine's, or does not answer. Of several counter servers the one that is furthest away.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clocks {
    pub counters: Option<i64>,
    pub ledger: Option<i64>,
}

impl Clocks {
    /// Whether all that are known are near enough. A node that is further ahead is answered by the counter store's clock; one that is further
    /// behind ends holds and periods that much later.
    pub fn are_near(&self) -> bool {
        let known = [self.counters, self.ledger].into_iter().flatten();
        known.map(i64::unsigned_abs).all(|apart| apart <= CLOCK_AHEAD_MILLIS_MAX)
    }
}

/// Compares clocks with the stores that answered.
pub async fn clocks(service: &Service, health: &Health) -> Clocks {
    let mut clocks = Clocks::default();
    if health.open_reservations.is_some() {
        let found = service.counters.inspect(service.clock.now()).await.unwrap_or_default();
        let apart = found.iter().filter_map(|finding| finding.ahead_millis);
        clocks.counters = apart.max_by_key(|ahead| ahead.unsigned_abs());
    }
    if health.ledger {
        let asked_at = service.clock.now();
        let there = service.ledger.clock().await.ok().flatten();
        clocks.ledger = there.map(|there| (asked_at.micros() - there.micros()) / 1_000);
    }
    clocks
}
