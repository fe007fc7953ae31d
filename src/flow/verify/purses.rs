//! What counters say that grants have left, against what the ledger says. More than it says is promised money that nobody has; less is only
//! wrong while nothing is held, since what runs holds on it.

use super::{Difference, LOOK_AGAIN_AFTER, LOOKS_AGAIN};
use crate::clock::Clock;
use crate::counters::{Counters, SumRow};
use crate::decision::amount::Unit;
use crate::decision::grant::PurseUse;
use crate::decision::id::{BudgetId, WorkspaceId};
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::flow::FlowError;
use crate::ledger::Ledger;

/// A budget whose grants have not left what its purse says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurseDifference {
    pub workspace: WorkspaceId,
    pub budget: BudgetId,
    pub unit: Unit,
    pub ledger: i64,
    pub store: i64,
}

/// The two sides that are compared.
pub(super) struct Purses<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) store: &'a dyn Counters,
    pub(super) clock: &'a dyn Clock,
}

impl Purses<'_> {
    /// Compares the purses of a workspace, each over one of its `running` counters.
    pub(super) async fn compare(
        &self,
        workspace: &WorkspaceId,
        running: &[SumRow],
        differences: &mut Vec<Difference>,
    ) -> Result<(), FlowError> {
        let pots = self.ledger.pots(workspace, self.clock.now()).await?;
        for (budget, pot) in &pots.by_budget {
            // When a balance rolls over depends on the plan, of which the ledger's books know nothing.
            if pot.is_rolled_over() {
                continue;
            }
            for unit in pot.units() {
                if let Some(over) = running.iter().find(|row| row.counter.unit == unit)
                    && let Some(difference) = self.difference(workspace, budget, over).await?
                {
                    differences.push(Difference::Purse(difference));
                }
            }
        }
        Ok(())
    }

    /// The difference, if it is still there once every commit on its way has been copied.
    async fn difference(&self, workspace: &WorkspaceId, budget: &BudgetId, over: &SumRow) -> Result<Option<PurseDifference>, FlowError> {
        let (counter, unit) = (&over.counter, over.counter.unit);
        let used = PurseUse {
            budget: budget.clone(),
            counter: 0,
            hard: i64::MAX,
        };
        let mut found = None;
        for _ in 0..=LOOKS_AGAIN {
            let now = self.clock.now();
            let rows = self.ledger.rows(workspace, &counter.whose, &[], now).await?;
            let Some(row) = rows.into_iter().find(|row| row.counter == *counter) else {
                return Ok(None);
            };
            let pots = self.ledger.pots(workspace, now).await?;
            let left = pots.purse(budget, unit, now, Period::LIFETIME).left;
            // Requests of a rate stay held when nobody holds them any more.
            let is_quiet = unit != Unit::Requests && self.store.open().await? == 0;
            let (counters, uses) = (std::slice::from_ref(counter), std::slice::from_ref(&used));
            let told = self.store.balances(workspace, counters, uses, Timestamp::MIN, now).await?;
            let Some(balance) = told.ok().and_then(|told| told.first().copied()) else {
                return Ok(None);
            };
            let store = balance.granted.saturating_sub(row.paid);
            if store == left || (store < left && !is_quiet) {
                return Ok(None);
            }
            found = Some(PurseDifference {
                workspace: workspace.clone(),
                budget: budget.clone(),
                unit,
                ledger: left,
                store,
            });
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(found)
    }
}
