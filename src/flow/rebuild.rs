//! Rebuild: begin, read the ledger, finish. A cold start, a lost store, an old copy of it that came back and a budget that is new in
//! mid-period are this one path.
//!
//! A crash after begin costs nothing: the next one takes over after a quarter of a second.

use super::{FlowError, Service};
use crate::counters::{Begun, Claim, Progress, Rebuilt, Record, SumRow};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use futures_util::{StreamExt, TryStreamExt};
use std::time::Duration;

/// How often a caller looks again while another one rebuilds.
const LOOK_AGAIN_MILLIS: u64 = 2;
/// How often at most: five seconds in all.
const LOOKS_MAX: u32 = 2_500;
/// How many reservations of an old copy are looked up in the ledger at a time.
const STANDINGS_AT_ONCE: usize = 16;

/// Makes the groups of `whose` ready. `named` are the counters that the plan names, so that missing rows are born.
pub async fn rebuild(service: &Service, workspace: &WorkspaceId, whose: &[Whose], named: &[Counter]) -> Result<(), FlowError> {
    for group in whose {
        let now = service.clock.now();
        match service.counters.begin(workspace, group, now).await? {
            Begun::Wait => tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MILLIS)).await,
            Begun::Started { token, adopt } => {
                // Ends before rows: what is settled in between is then held and spent for a moment, never neither.
                let adopted = standings(service, adopt).await?;
                let own: Vec<Counter> = named.iter().filter(|counter| counter.whose == *group).cloned().collect();
                let rows = service.ledger.rows(workspace, group, &own, now).await?;
                let rebuilt = Rebuilt {
                    token,
                    adopted: &adopted,
                    rows: &rows,
                };
                service.counters.finish(workspace, group, &rebuilt, now).await?;
            }
        }
    }
    Ok(())
}

/// Where the ledger has these reservations; of most that are open it has nothing.
async fn standings(service: &Service, reservations: Vec<ReservationId>) -> Result<Vec<(ReservationId, Progress)>, FlowError> {
    let read = reservations.into_iter().map(|id| async move {
        let standing = service.ledger.standing(id).await?;
        Ok(standing.and_then(progress).map(|progress| (id, progress)))
    });
    let found: Vec<Option<_>> = futures_util::stream::iter(read)
        .buffer_unordered(STANDINGS_AT_ONCE)
        .map_err(|error: LedgerError| FlowError::from(error))
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

fn progress(standing: Standing) -> Option<Progress> {
    let reported = standing.checkpoint.map(|checkpoint| Progress::Used(checkpoint.entry.counted));
    standing.end.map(Progress::Ended).or(reported)
}

/// Claims a hold, whatever has to be rebuilt for it.
pub async fn claim(
    service: &Service,
    (workspace, named): (&WorkspaceId, &[Counter]),
    id: ReservationId,
    claim: Claim,
) -> Result<Option<Record>, FlowError> {
    let mut patience = Patience::default();
    loop {
        match service.counters.claim(id, claim, service.clock.now()).await? {
            Ok(record) => return Ok(record),
            Err(unready) => rebuild(service, workspace, &unready, named).await?,
        }
        patience.spend(workspace)?;
    }
}

/// Counts the attempts of one caller to get an answer from counters that may have to be rebuilt first.
#[derive(Default)]
pub struct Patience {
    looks: u32,
}

impl Patience {
    pub fn spend(&mut self, workspace: &WorkspaceId) -> Result<(), FlowError> {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            Err(FlowError::RebuildTimeout(workspace.clone()))
        } else {
            Ok(())
        }
    }
}

/// The balances of `counters`, whatever has to be rebuilt for it.
pub async fn balances(
    service: &Service,
    workspace: &WorkspaceId,
    counters: &[Counter],
    named: &[Counter],
    named_since: Timestamp,
) -> Result<Vec<Balance>, FlowError> {
    let mut patience = Patience::default();
    loop {
        match service
            .counters
            .balances(workspace, counters, named_since, service.clock.now())
            .await?
        {
            Ok(balances) => return Ok(balances),
            Err(unready) => rebuild(service, workspace, &unready, named).await?,
        }
        patience.spend(workspace)?;
    }
}

/// The rows of all groups that `counters` belong to, as the ledger has them now.
pub async fn rows(service: &Service, workspace: &WorkspaceId, counters: &[Counter]) -> Result<Vec<SumRow>, FlowError> {
    let mut groups: Vec<&Whose> = counters.iter().map(|counter| &counter.whose).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut rows = Vec::new();
    for group in groups {
        let own: Vec<Counter> = counters.iter().filter(|counter| counter.whose == *group).cloned().collect();
        rows.extend(service.ledger.rows(workspace, group, &own, service.clock.now()).await?);
    }
    Ok(rows)
}
