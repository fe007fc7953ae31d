//! The lookout: what is told by the clock and not by what somebody did, by one node at a time. Each round can be repeated; a crash leaves it to
//! the next leader.

use super::{FlowError, Service, foresee, renew};
use crate::ledger::Lead;
use crate::ledger::slices::{self, Cleared};
use std::time::Duration;

/// How often it looks for budgets that renewed: a customer should hear of it within a minute.
pub const EVERY: Duration = Duration::from_secs(5);
/// In which of its rounds it also looks for grants that end soon, and for limits that the clock raised: half a minute apart.
const GRANTS_EVERY_ROUNDS: u32 = 6;
/// How many pages of budgets at their limit one round looks at for raises.
const RAISES_PAGES_MAX: usize = 5;
/// In which of its rounds it also prunes: ten minutes apart.
const PRUNE_EVERY_ROUNDS: u32 = 120;
/// How many events are deleted in one statement, and for how long one round does so; what is left the next round goes on with.
const PRUNE_ROWS: usize = 2_000;
const PRUNE_SECONDS_MAX: i64 = 2;
/// How long events wait to be handed on before they are given up: as long as they are kept.
const WAIT_SECONDS_MAX: i64 = crate::decision::event::KEPT_SECONDS;
/// The name under which nodes agree on who does it.
const LEAD: &str = "lookout";

/// What a node remembers from round to round.
#[derive(Default)]
pub struct Lookout {
    lead: Option<Box<dyn Lead>>,
    rounds: u32,
    /// The time was over before all events that need not be kept had gone.
    is_behind: bool,
    /// The policy by whose limits is looked for raises.
    policy: Option<i64>,
    raises: renew::Turns,
}

impl Lookout {
    /// One round: nothing if another node leads. Returns how many budgets at their limit were looked at whose period has ended.
    pub async fn look(&mut self, service: &Service) -> Result<usize, FlowError> {
        if !self.leads(service).await? {
            return Ok(0);
        }
        let ended = renew::renew_due(service).await?;
        let version = service.policy.load().version;
        let is_grants_round = self.rounds.is_multiple_of(GRANTS_EVERY_ROUNDS);
        if self.policy != Some(version) {
            self.raises.changed();
            self.policy = Some(version);
        }
        if is_grants_round {
            self.raises.due();
        }
        let raised = self.raises.take(service, RAISES_PAGES_MAX, renew::PAGE_EVENTS).await;
        if is_grants_round {
            foresee::grants(service).await?;
        }
        if self.is_behind || self.rounds.is_multiple_of(PRUNE_EVERY_ROUNDS) {
            self.is_behind = !prune(service).await?.is_all;
        }
        self.rounds = self.rounds.wrapping_add(1);
        raised?;
        Ok(ended)
    }

    async fn leads(&mut self, service: &Service) -> Result<bool, FlowError> {
        let held = match &mut self.lead {
            Some(lead) => lead.is_held().await,
            None => false,
        };
        if !held {
            self.policy = None;
            self.lead = service.ledger.try_lead(LEAD).await?;
        }
        Ok(self.lead.is_some())
    }
}

/// Deletes events that need not be kept, in slices that hold no lock for long.
pub async fn prune(service: &Service) -> Result<Cleared, FlowError> {
    let now = service.clock.now();
    let before = now.plus_seconds(-WAIT_SECONDS_MAX);
    let slice = |limit| service.ledger.prune_events(now, before, limit);
    let cleared = slices::clear(|| service.clock.now(), PRUNE_SECONDS_MAX, PRUNE_ROWS, slice).await?;
    metrics::counter!("weir_events_pruned_total").increment(cleared.rows as u64);
    Ok(cleared)
}
