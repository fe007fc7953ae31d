//! Reprice: gives uses that were recorded without a price the one that was in force when they occurred, now that it is known. Each by a
//! correction of its own. What has been priced is passed over, so the same call again changes nothing, and goes on where one broke off.

use super::audit::By;
use super::correct::{self, apply, written};
use super::{FlowError, Service};
use crate::decision::correction::{Priced, Said, difference};
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, ReservationId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::ledger::Posted;
use crate::ledger::correction::Correction;
pub use crate::ledger::correction::UnpricedQuery;
use crate::policy::Policy;
use std::collections::HashMap;

/// The most uses that one call looks at: each may cost up to a million dollars, and their sum is told.
pub const REPRICE_ENTRIES_MAX: usize = 5_000;
/// How many are corrected in one transaction.
const PAGE: usize = 200;

/// What became of the uses without a price.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repriced {
    pub repriced: u64,
    /// No price was in force when these occurred.
    pub unpriced: u64,
    /// What those that were repriced cost together.
    pub cost: i64,
    /// Where the next call goes on; `None`: nothing is left.
    pub next: Option<(Timestamp, EntryId)>,
}

impl Repriced {
    pub fn cost_usd(&self) -> Usd {
        Usd::from_nanos(self.cost)
    }
}

pub async fn reprice(service: &Service, query: &UnpricedQuery, by: &By) -> Result<Repriced, FlowError> {
    let mut query = UnpricedQuery {
        limit: PAGE,
        ..query.clone()
    };
    let mut done = Repriced::default();
    let mut seen = 0;
    loop {
        let entries = service.ledger.unpriced(&query).await?;
        let Some(last) = entries.last() else { break };
        let place = (last.occurred_at, last.entry_id);
        let is_last = entries.len() < PAGE;
        seen += entries.len();
        page(service, entries, by, &mut done).await?;
        if is_last {
            break;
        }
        if seen >= REPRICE_ENTRIES_MAX {
            done.next = Some(place);
            break;
        }
        query.after = Some(place);
    }
    Ok(done)
}

async fn page(service: &Service, entries: Vec<Entry>, by: &By, done: &mut Repriced) -> Result<(), FlowError> {
    let policy = service.policy.load();
    let chains: Vec<ReservationId> = entries
        .iter()
        .map(|entry| ReservationId::of_corrections(&entry.workspace_id, entry.entry_id))
        .collect();
    // In this order, as a single correction does it.
    let standings: HashMap<_, _> = service.ledger.standings(&chains).await?.into_iter().collect();
    let ids: Vec<EntryId> = entries.iter().map(|entry| entry.entry_id).collect();
    let mut corrected: HashMap<EntryId, Vec<Entry>> = HashMap::new();
    for correction in service.ledger.corrections(&ids).await? {
        if let Some(of) = correction.corrects {
            corrected.entry(of).or_default().push(correction);
        }
    }
    let mut corrections: Vec<Correction> = Vec::new();
    for (entry, chain) in entries.iter().zip(chains) {
        let before = corrected.get(&entry.entry_id).map_or(&[][..], Vec::as_slice);
        let revision = standings.get(&chain).map_or(0, |standing| standing.revision);
        match priced(service, &policy, entry, before, (chain, revision), by) {
            Some(correction) => corrections.push(correct::watched(service, correction).await?),
            None => done.unpriced += 1,
        }
    }
    if corrections.is_empty() {
        return Ok(());
    }
    let posted = service.ledger.correct(corrections.clone()).await?;
    for (correction, posted) in corrections.into_iter().zip(posted) {
        // Of one that was corrected by somebody else meanwhile, the next call decides anew.
        if let Posted::Done { rows, .. } = posted {
            done.repriced += 1;
            let cost = correction
                .post
                .entries
                .first()
                .and_then(|entry| entry.cost_usd)
                .unwrap_or(Usd::ZERO);
            done.cost = done.cost.saturating_add(cost.nanos());
            apply(service, &correction.post.workspace, rows).await;
        }
    }
    Ok(())
}

/// The correction that gives `entry` its price; `None`: there is none, or it is more than an entry may cost.
fn priced(
    service: &Service,
    policy: &Policy,
    entry: &Entry,
    corrections: &[Entry],
    chain: (ReservationId, i64),
    by: &By,
) -> Option<Correction> {
    let catalogue = &policy.catalogue;
    let found = Priced::in_force(catalogue, entry.model.as_str(), entry.occurred_at)?;
    let list = Priced::in_force(catalogue, entry.requested_model.as_str(), entry.occurred_at);
    let before = Said::of(entry, corrections)?;
    let after = before.with_price(entry, &found, list.as_ref().map(|list| &*list.price)).ok()?;
    let model = catalogue.find(entry.model.as_str());
    let of = Entry {
        price_version: Some(found.price.version.clone()),
        tier: model.map(|model| model.tier.clone()),
        provider: model.map(|model| model.provider.clone()),
        ..entry.clone()
    };
    let correction = difference(entry, &of, &before, &after, service.entry_id(), service.clock.now())?;
    Some(written(service, chain, correction, (&before, &after), by, "entry.reprice"))
}
