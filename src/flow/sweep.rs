//! Sweep: copies the sums that were touched lately into the counters once more, in case a copy was lost. Claims find their way by
//! themselves ([`super::expire`]); this is for what leaves no claim behind: direct usage, corrections, grants that were given or voided, and
//! checkpoints of streams, whose claim may have gone to a store that has lost its place since.
//!
//! What was touched lately is also what may run out sooner than its period: of that it tells, too ([`super::foresee`]).
//!
//! One node at a time does it. A crash costs one round: the next leader looks back far enough. How far is what the store itself remembers:
//! after a partition the copy of it that was promoted has missed what commits told the other one, and says since when. While both are
//! primaries the leader reaches one of them, so whoever finds its own not copied to for too long does it too.

use super::verify::by_workspace;
use super::{FlowError, Service, cache, decided, foresee, grant, inbound};
use crate::counters::{Applied, Copying, Progress, SumRow};
use crate::decision::counter::Whose;
use crate::decision::time::Timestamp;
use crate::ledger::Lead;
use std::collections::BTreeMap;

/// How often it runs.
pub const EVERY_SECONDS: u64 = 30;
/// How far it looks back: three rounds, so that a round which failed and clocks that differ lose nothing.
pub const BACK_SECONDS: i64 = 90;
/// How many entries, checkpoints or changes of grants are looked at in one step.
const PAGE_ENTRIES: usize = 500;
/// In which of its rounds the leader also prunes the decision log, kept answers and what a billing provider told: ten minutes apart.
const PRUNE_EVERY_ROUNDS: u32 = 20;
/// The name under which nodes agree on who does it.
const LEAD: &str = "sweep";

/// What a node remembers from round to round.
#[derive(Default)]
pub struct Sweeper {
    lead: Option<Box<dyn Lead>>,
    /// Until when everything has been swept; `None`: this node has not swept since it leads.
    swept: Option<Timestamp>,
    rounds: u32,
}

impl Sweeper {
    /// One round: nothing if another node leads and reaches the same store. Returns how many rows were copied.
    pub async fn sweep(&mut self, service: &Service) -> Result<usize, FlowError> {
        let leads = self.leads(service).await?;
        let now = service.clock.now();
        let copying = service.counters.begin_copy(now).await?;
        let is_forsaken = copying.since.is_some_and(|since| since < now.plus_seconds(-BACK_SECONDS));
        if !leads && !is_forsaken {
            return Ok(0);
        }
        let from = match self.swept.filter(|_| leads) {
            Some(swept) => swept.min(now),
            // While no node ran nothing was recorded, so what was recorded last tells when the last one did.
            None => service.ledger.last_recorded().await?.map_or(now, |last| last.min(now)),
        };
        let from = copying.since.map_or(from, |since| since.min(from));
        let from = from.plus_seconds(-BACK_SECONDS);
        let mut rows = copy(service, from, &copying).await?;
        rows += copy_checkpoints(service, from, &copying).await?;
        copy_grants(service, from, &copying).await?;
        service.counters.end_copy(&copying, now, service.clock.now()).await?;
        metrics::counter!("weir_swept_rows_total").increment(rows as u64);
        if !leads {
            tracing::warn!(rows, "sums were copied to counters that the leading node does not reach");
            return Ok(rows);
        }
        self.swept = Some(now);
        if self.rounds.is_multiple_of(PRUNE_EVERY_ROUNDS) {
            decided::prune(service).await?;
            cache::prune(service).await?;
            inbound::prune(service).await?;
        }
        self.rounds = self.rounds.wrapping_add(1);
        Ok(rows)
    }

    async fn leads(&mut self, service: &Service) -> Result<bool, FlowError> {
        let held = match &mut self.lead {
            Some(lead) => lead.is_held().await,
            None => false,
        };
        if !held {
            self.swept = None;
            self.lead = service.ledger.try_lead(LEAD).await?;
        }
        Ok(self.lead.is_some())
    }
}

/// Copies what was recorded at `from` or later.
async fn copy(service: &Service, from: Timestamp, copying: &Copying) -> Result<usize, FlowError> {
    let (mut copied, mut after) = (0, None);
    loop {
        let page = service.ledger.recorded_since(from, after, PAGE_ENTRIES).await?;
        copied += page.rows.len();
        for (workspace, rows) in by_workspace(page.rows) {
            let applied = Applied {
                rows,
                reservation: None,
                purses: grant::purses(service, &workspace).await?,
            };
            service.counters.copy(&workspace, &applied, copying, service.clock.now()).await?;
            foresee::budgets(service, &workspace, &applied.rows, &applied.purses).await?;
        }
        match page.last {
            Some(last) => after = Some(last),
            None => return Ok(copied),
        }
    }
}

/// Copies how far streams had come that reported at `from` or later and still run.
async fn copy_checkpoints(service: &Service, from: Timestamp, copying: &Copying) -> Result<usize, FlowError> {
    let (mut copied, mut after) = (0, None);
    loop {
        let page = service.ledger.checkpoints_page(from, after, PAGE_ENTRIES).await?;
        copied += page.rows.len();
        let rows = by_workspace(page.rows);
        let mut purses = BTreeMap::new();
        for (id, entry) in page.checkpoints {
            let workspace = entry.workspace_id;
            if !purses.contains_key(&workspace) {
                purses.insert(workspace.clone(), grant::purses(service, &workspace).await?);
            }
            let user = Whose::User(entry.user_id);
            let is_its_own = |row: &&SumRow| row.counter.whose == Whose::Workspace || row.counter.whose == user;
            let applied = Applied {
                rows: rows.get(&workspace).into_iter().flatten().filter(is_its_own).cloned().collect(),
                reservation: Some((id, Progress::Used(entry.counted))),
                purses: purses[&workspace].clone(),
            };
            service.counters.copy(&workspace, &applied, copying, service.clock.now()).await?;
        }
        match page.last {
            Some(last) => after = Some(last),
            None => return Ok(copied),
        }
    }
}

/// Copies what grants have left where one was given or voided at `from` or later.
async fn copy_grants(service: &Service, from: Timestamp, copying: &Copying) -> Result<(), FlowError> {
    for workspace in grant::changed_since(service, from, PAGE_ENTRIES).await? {
        let applied = Applied {
            purses: grant::purses(service, &workspace).await?,
            ..Applied::default()
        };
        service.counters.copy(&workspace, &applied, copying, service.clock.now()).await?;
    }
    Ok(())
}
