//! Reconcile: holds the ledger, its batches and the provider's sums against each other, and mends what can be mended without a guess.
//!
//! First the batches whose fate is unknown: where the provider's sum of the minute in which they were told has one reading, they are
//! acknowledged, or sent once more. Then every customer and meter: whatever differs is named. Then paid grants that are no credits there,
//! and what is owed back or left over and no use takes up.
//! After a report of usage that could not be counted, what it does not name is looked for in the same way, and rejected.
//! Nothing else is changed, and nothing is ever sent from here.
//!
//! What a crash costs: nothing; a batch that was found is a batch that is not unknown any more, whoever looks next. Two of these at once ask
//! twice, and the ledger takes one answer.

mod credits;
mod lines;
mod reported;

use super::{Provider, SummaryQuery, Untold};
use crate::clock::Clock;
use crate::decision::billing::delivery::Event;
use crate::decision::billing::reconcile::{self as rules, Presence};
use crate::decision::billing::report::{CARRIED_MAX, CarriedCode, CarriedLine, Outcome, Repair, Report};
use crate::decision::billing::{Batch, State};
use crate::decision::id::{AuditId, BatchId, WorkspaceId};
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::ledger::audit::{Audited, Subject};
use crate::ledger::billing::{BatchChange, BatchQuery, Carried, CarriedQuery, Changed};
use crate::ledger::told::{Scope, ToldAccount};
use crate::ledger::{Ledger, LedgerError};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many rows are read at once.
const PAGE: usize = 200;

/// Whoever reconciles.
pub struct Reconciler {
    pub ledger: Arc<dyn Ledger>,
    pub provider: Arc<dyn Provider>,
    pub clock: Arc<dyn Clock>,
    /// Those in force.
    pub meters: Vec<Meter>,
    pub window_seconds: i64,
}

/// What was told as of some minutes, what may have been, and the provider's sum.
type Sums = (Vec<Batch>, Vec<Batch>, i64);

/// Batches of one customer and event name that may have been told in the same minutes.
struct Together {
    minutes: BTreeSet<Timestamp>,
    unknown: Vec<Batch>,
}

impl Reconciler {
    pub async fn reconcile(&self, scope: &Scope) -> Result<Report, LedgerError> {
        let repairs = match self.provider.terms().sends {
            true => self.mend(scope).await?,
            false => Vec::new(),
        };
        let (from, to) = lines::stretch(scope, self.window_seconds);
        let lines = self.lines(scope, from, to).await?;
        Ok(Report {
            provider: self.provider.name(),
            from,
            to,
            unexplained: lines.iter().filter(|line| !line.is_explained).count(),
            lines,
            repairs,
            credits: self.credits(scope).await?,
            carried: self.carried(scope).await?,
        })
    }

    async fn carried(&self, scope: &Scope) -> Result<Vec<CarriedLine>, LedgerError> {
        let query = CarriedQuery {
            workspace: scope.workspace.clone(),
            meter: scope.meter.clone(),
            limit: CARRIED_MAX,
        };
        Ok(self.ledger.carried(&query).await?.into_iter().map(carried).collect())
    }

    /// Finds out about what is unknown, however old it is.
    async fn mend(&self, scope: &Scope) -> Result<Vec<Repair>, LedgerError> {
        let mut by_account: BTreeMap<ToldAccount, Vec<Batch>> = BTreeMap::new();
        let mut repairs = Vec::new();
        for batch in self.unknown(scope).await? {
            match &batch.delivery.customer {
                Some(customer) => {
                    let (customer, event_name) = (customer.clone(), batch.event_name.clone());
                    by_account.entry(ToldAccount { customer, event_name }).or_default().push(batch);
                }
                None => repairs.push(left(&batch, "the provider has no sums of it: resend it by force, or let it be")),
            }
        }
        for (account, unknown) in by_account {
            for together in together(unknown) {
                repairs.extend(self.look(scope, &account, together).await?);
            }
        }
        Ok(repairs)
    }

    async fn unknown(&self, scope: &Scope) -> Result<Vec<Batch>, LedgerError> {
        let mut query = BatchQuery {
            workspace: scope.workspace.clone(),
            meter: scope.meter.clone(),
            state: Some(State::Unknown),
            after: None,
            limit: PAGE,
        };
        let mut all = Vec::new();
        loop {
            let page = self.ledger.batches(&query).await?;
            query.after = page.last().map(|last| (last.opened_at, last.id));
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    async fn look(&self, scope: &Scope, account: &ToldAccount, together: Together) -> Result<Vec<Repair>, LedgerError> {
        let sums = self.sums(account, &together).await?;
        let unknown = together.unknown;
        let (batches, elsewhere, sum) = match sums {
            Ok(Some(sums)) => sums,
            Ok(None) => return Ok(all_left(&unknown, "the provider has no sums: resend it by force, or let it be")),
            Err(untold) => return Ok(all_left(&unknown, &untold.to_string())),
        };
        match rules::presence(&batches, &elsewhere, sum, self.clock.now()) {
            Presence::Early => Ok(all_left(
                &unknown,
                "it is too early: the provider's sums need not have all of that minute yet",
            )),
            Presence::Unclear => Ok(all_left(
                &unknown,
                "the provider's sum of that minute does not say which batches it has",
            )),
            Presence::Known(found) => {
                let mut repairs = Vec::new();
                for (id, is_there) in found {
                    if let Some(batch) = unknown.iter().find(|batch| batch.id == id) {
                        repairs.push(self.found(scope, batch, is_there).await?);
                    }
                }
                Ok(repairs)
            }
        }
    }

    /// Of the minutes of some batches: all that was told as of them, what may have been told as of them and was as of another time last,
    /// and the provider's sum.
    async fn sums(&self, account: &ToldAccount, together: &Together) -> Result<Result<Option<Sums>, Untold>, LedgerError> {
        let Together { minutes, unknown } = together;
        let (mut batches, mut elsewhere, mut sum): Sums = (Vec::new(), Vec::new(), 0);
        for minute in minutes {
            let (from, to) = rules::minute(*minute);
            batches.extend(self.ledger.told_batches(account, from, to).await?);
            let is_other = |batch: &Batch| unknown.iter().all(|one| one.id != batch.id);
            let told_later = self.ledger.told_elsewhere(account, from, to).await?;
            elsewhere.extend(told_later.into_iter().filter(is_other));
            match self.summed(&unknown[0].workspace, account, from, to).await {
                Ok(Some(value)) => sum = sum.saturating_add(value),
                Ok(None) => return Ok(Ok(None)),
                Err(untold) => return Ok(Err(untold)),
            }
        }
        Ok(Ok(Some((batches, elsewhere, sum))))
    }

    async fn summed(&self, workspace: &WorkspaceId, account: &ToldAccount, from: Timestamp, to: Timestamp) -> Result<Option<i64>, Untold> {
        let query = SummaryQuery {
            workspace: workspace.clone(),
            customer: Some(account.customer.clone()),
            event_name: account.event_name.clone(),
            from,
            to,
        };
        self.provider.summary(&query).await
    }

    async fn found(&self, scope: &Scope, batch: &Batch, is_there: bool) -> Result<Repair, LedgerError> {
        let now = self.clock.now();
        let audited = Audited {
            id: AuditId::from_uuid(self.clock.uuid()),
            changed_at: now,
            by: scope.by.clone(),
            action: "billing.batch.reconcile".to_owned(),
            subject: Subject::of(&batch.workspace, "batch", batch.id.to_string()),
            before: Some(json!({"state": State::Unknown})),
            after: Some(json!({"state": if is_there { State::Acknowledged } else { State::Sealed }, "provider_has_it": is_there})),
        };
        let change = BatchChange {
            batch: batch.id,
            generation: Some(batch.delivery.generation),
            event: Event::Found { is_there },
            terms: self.provider.terms(),
            now,
            audited: Some(audited),
        };
        let (outcome, detail) = match (self.ledger.change_batch(change).await?, is_there) {
            (Changed::Done(_), true) => (Outcome::Acknowledged, "the provider has it"),
            (Changed::Done(_), false) => (Outcome::SentAgain, "the provider does not have it"),
            (Changed::Refused(..) | Changed::Gone, _) => (Outcome::Left, "somebody else was faster"),
        };
        tracing::info!(batch = %batch.id, workspace = %batch.workspace, value = batch.value(), outcome = ?outcome, detail, "an unknown batch was looked for");
        Ok(Repair {
            outcome,
            ..left(batch, detail)
        })
    }
}

fn carried(carried: Carried) -> CarriedLine {
    let (code, detail) = match (carried.is_in_force, carried.owed > 0) {
        (true, _) => (
            CarriedCode::OwedBack,
            "a correction owes it back: it is set off against the next use, or after two hours without any taken back from what was told in this \
             billing period",
        ),
        (false, true) => (
            CarriedCode::LeftOver,
            "it is owed back of what the meter was before: it is taken back from what was told in this billing period, and what is left after \
             that is yours to give back at the provider",
        ),
        (false, false) => (
            CarriedCode::LeftOver,
            "a part of one of what the meter was before: the provider is not told of it any more",
        ),
    };
    CarriedLine {
        workspace_id: carried.workspace,
        customer: carried.customer,
        meter_id: carried.meter,
        event_name: carried.event_name,
        value: carried.carry,
        owed_since: carried.owed_since,
        code,
        detail: detail.to_owned(),
    }
}

fn left(batch: &Batch, detail: &str) -> Repair {
    Repair {
        batch_id: batch.id,
        workspace_id: batch.workspace.clone(),
        value: batch.value(),
        outcome: Outcome::Left,
        detail: detail.to_owned(),
    }
}

fn all_left(batches: &[Batch], detail: &str) -> Vec<Repair> {
    batches.iter().map(|batch| left(batch, detail)).collect()
}

/// Every minute as of which the provider may have been told of a batch: that of the last try, and that of its use, for the books may have
/// been closed between two tries.
fn minutes_of(batch: &Batch) -> BTreeSet<Timestamp> {
    let told_at = batch.delivery.told_at.into_iter();
    told_at.chain([batch.last_used_at]).map(|at| rules::minute(at).0).collect()
}

/// Batches that share a minute are looked at together.
fn together(unknown: Vec<Batch>) -> Vec<Together> {
    let mut groups: Vec<Together> = Vec::new();
    for batch in unknown {
        let mut merged = Together {
            minutes: minutes_of(&batch),
            unknown: vec![batch],
        };
        let (sharing, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| !group.minutes.is_disjoint(&merged.minutes));
        for group in sharing {
            merged.minutes.extend(group.minutes);
            merged.unknown.extend(group.unknown);
        }
        groups = apart;
        groups.push(merged);
    }
    groups
}

/// The first few of many.
fn some(ids: Vec<BatchId>) -> Vec<BatchId> {
    ids.into_iter().take(crate::decision::billing::report::NAMED_MAX).collect()
}
