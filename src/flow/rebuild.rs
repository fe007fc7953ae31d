//! Rebuild: begin, read the ledger, finish. A cold start, a lost store, an old copy of it that came back and a budget that is new in
//! mid-period are this one path.
//!
//! A crash after begin costs nothing: the next one joins after a quarter of a second, and ends it.

use super::{FlowError, Service, grant, run};
use crate::counters::{Applied, Begun, Claim, Progress, Rebuilt, Record, SumRow};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::{ReservationId, UserId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How soon a caller looks again while another one rebuilds; each time twice as late, up to a maximum, so that a thousand who wait for a slow
/// ledger do not keep the counters busy.
const LOOK_AGAIN_MILLIS: u64 = 2;
const LOOK_AGAIN_MILLIS_MAX: u64 = 64;
/// How long it looks again.
const PATIENCE_MILLIS: u64 = 5_000;
/// How many reservations of an old copy are looked up in the ledger at a time.
const STANDINGS_AT_ONCE: usize = 500;

/// How many sums are listed in one step.
const PAGE_SUMS: usize = 500;

/// Makes the groups of `whose` ready. `named` are the counters that the plan names, so that missing rows are born. False: somebody else is at
/// one of them.
pub async fn rebuild(service: &Service, workspace: &WorkspaceId, whose: &[Whose], named: &[Counter]) -> Result<bool, FlowError> {
    let mut is_ready = true;
    for group in whose {
        is_ready &= rebuild_one(service, workspace, group, named).await?;
    }
    Ok(is_ready)
}

/// Makes one group ready. False: somebody else is at it, or was sooner.
async fn rebuild_one(service: &Service, workspace: &WorkspaceId, whose: &Whose, named: &[Counter]) -> Result<bool, FlowError> {
    let now = service.clock.now();
    let Begun::Started { token, adopt } = service.counters.begin(workspace, whose, now).await? else {
        return Ok(false);
    };
    // Ends before rows: what is settled in between is then held and spent for a moment, never neither.
    let adopted = standings(service, adopt).await?;
    let own: Vec<Counter> = named.iter().filter(|counter| counter.whose == *whose).cloned().collect();
    let rows = service.ledger.rows(workspace, whose, &own, now).await?;
    let purses = match whose {
        Whose::Workspace => grant::purses(service, workspace).await?,
        Whose::User(_) => Vec::new(),
    };
    let rebuilt = Rebuilt {
        token,
        adopted: &adopted,
        rows: &rows,
        purses: &purses,
    };
    let is_ours = service.counters.finish(workspace, whose, &rebuilt, now).await?;
    if is_ours {
        metrics::counter!("weir_rebuilds_total").increment(1);
    }
    Ok(is_ours)
}

/// Reads every group whose period runs from the ledger again, whatever is known of it: the ledger may have been set back by a backup. What is
/// held stays held. Returns how many groups there were; `progress` is told the number of sums so far.
pub async fn all(service: &Service, mut progress: impl FnMut(u64)) -> Result<u64, FlowError> {
    // Those too of which the ledger knows nothing any more: they are rebuilt when they are asked next.
    service.counters.forget_rows(service.clock.now()).await?;
    let (mut groups, mut sums, mut after) = (0, 0, None);
    let mut last: Option<(WorkspaceId, Whose)> = None;
    loop {
        let page = service.ledger.verify_page(after.as_ref(), PAGE_SUMS).await?;
        sums += page.rows.len() as u64;
        for (workspace, row) in page.rows {
            let group = (workspace, row.counter.whose);
            // Sums come in the order of their groups, so one that continues is the one just read.
            if row.counter.period.end <= service.clock.now() || last.as_ref() == Some(&group) {
                continue;
            }
            let mut patience = Patience::default();
            while !rebuild_one(service, &group.0, &group.1, &[]).await? {
                patience.spend(&group.0, false).await?;
            }
            groups += 1;
            last = Some(group);
        }
        progress(sums);
        match page.last {
            Some(place) => after = Some(place),
            None => return Ok(groups),
        }
    }
}

/// Where the ledger has these reservations; of most that are open it has nothing.
async fn standings(service: &Service, reservations: Vec<ReservationId>) -> Result<Vec<(ReservationId, Progress)>, FlowError> {
    let mut found = Vec::new();
    for some in reservations.chunks(STANDINGS_AT_ONCE) {
        let standings = service.ledger.standings(some).await?.into_iter();
        found.extend(standings.filter_map(|(id, standing)| Some((id, progress(standing)?))));
    }
    Ok(found)
}

fn progress(standing: Standing) -> Option<Progress> {
    let reported = standing.checkpoint.map(|checkpoint| Progress::Used(checkpoint.entry.counted));
    let ended = standing.end.map(|end| run::ended(end, standing.entry.as_ref()));
    ended.or(reported)
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
            Err(unready) => {
                let is_ready = rebuild(service, workspace, &unready, named).await?;
                patience.spend(workspace, is_ready).await?;
            }
        }
    }
}

/// How long one caller tries to get an answer from counters that may have to be rebuilt first.
#[derive(Default)]
pub struct Patience {
    looks: u32,
    waited_millis: u64,
}

impl Patience {
    /// After an attempt in vain: waits, unless what it wanted was just made ready.
    pub async fn spend(&mut self, workspace: &WorkspaceId, is_ready: bool) -> Result<(), FlowError> {
        let millis = (LOOK_AGAIN_MILLIS << self.looks.min(16)).min(LOOK_AGAIN_MILLIS_MAX);
        self.looks += 1;
        // An attempt counts as a wait, so that nobody tries for ever what is never ready.
        self.waited_millis += millis;
        if self.waited_millis > PATIENCE_MILLIS {
            return Err(FlowError::RebuildTimeout(workspace.clone()));
        }
        if !is_ready {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        Ok(())
    }
}

/// The balances of `counters`, whatever has to be rebuilt for it.
pub async fn balances(
    service: &Service,
    workspace: &WorkspaceId,
    (counters, purses): (&[Counter], &[PurseUse]),
    named: &[Counter],
    named_since: Timestamp,
) -> Result<Vec<Balance>, FlowError> {
    let mut patience = Patience::default();
    loop {
        match service
            .counters
            .balances(workspace, counters, purses, named_since, service.clock.now())
            .await?
        {
            Ok(balances) => return Ok(balances),
            Err(unready) => {
                let is_ready = rebuild(service, workspace, &unready, named).await?;
                patience.spend(workspace, is_ready).await?;
            }
        }
    }
}

/// What a commit left, to be copied into the counters.
#[derive(Default)]
pub struct Committed {
    pub rows: Vec<SumRow>,
    pub purses: Vec<Purse>,
}

impl Committed {
    pub fn applied(self, reservation: ReservationId, progress: Progress) -> Applied {
        Applied {
            rows: self.rows,
            reservation: Some((reservation, progress)),
            purses: self.purses,
        }
    }
}

/// The rows of all groups that `counters` belong to, and what grants have left, as the ledger has them now.
pub async fn committed(service: &Service, workspace: &WorkspaceId, counters: &[Counter]) -> Result<Committed, FlowError> {
    let groups = counters.iter().map(|counter| counter.whose.clone()).collect();
    read(service, workspace, groups, counters).await
}

/// The same for a hold that nobody has seen: of all groups that one of this user may be counted in, whatever plan it was taken under.
pub async fn committed_of_any(
    service: &Service,
    workspace: &WorkspaceId,
    user: Option<&UserId>,
    counters: &[Counter],
) -> Result<Committed, FlowError> {
    let groups = BTreeSet::from([Whose::Workspace, Whose::User(user.cloned())]);
    read(service, workspace, groups, counters).await
}

async fn read(service: &Service, workspace: &WorkspaceId, groups: BTreeSet<Whose>, counters: &[Counter]) -> Result<Committed, FlowError> {
    let purses = grant::purses(service, workspace).await?;
    let mut rows = Vec::new();
    for group in &groups {
        let own: Vec<Counter> = counters.iter().filter(|counter| counter.whose == *group).cloned().collect();
        rows.extend(service.ledger.rows(workspace, group, &own, service.clock.now()).await?);
    }
    Ok(Committed { rows, purses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn who_waits_for_a_rebuild_looks_seldom_and_not_for_ever() {
        let workspace = WorkspaceId::parse("ws").expect("a name");
        let (mut patience, began) = (Patience::default(), Instant::now());
        for millis in [2, 6, 14] {
            patience.spend(&workspace, false).await.expect("patience");
            assert!(began.elapsed() >= Duration::from_millis(millis), "{millis}");
        }
        let mut looks = 3;
        while patience.spend(&workspace, true).await.is_ok() {
            looks += 1;
            assert!(looks < 100, "{looks}");
        }
        assert_eq!(looks, 5 + (5_000 - 62) / 64, "each wait is twice as long, up to 64 ms");
    }
}
