//! After a report of usage that the provider took and could not count: of the batches that it was told of meanwhile and that the report does
//! not name, which does it not have? As with what is unknown, only one reading of its sums counts. What it surely does not have is rejected
//! as reported, so that a person sends it again; the rest is named. Nothing is ever sent from here.

use super::{Reconciler, Together, together};
use crate::billing::Untold;
use crate::decision::billing::delivery::Event;
use crate::decision::billing::reconcile::{self as rules, Presence, SETTLED_SECONDS, Uncounted};
use crate::decision::billing::{Batch, State};
use crate::decision::id::AuditId;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::audit::{Audited, By, Subject};
use crate::ledger::billing::{BatchChange, Changed};
use crate::ledger::told::ToldAccount;
use serde_json::json;
use std::collections::BTreeMap;

impl Reconciler {
    /// Looks at all that was told in a stretch of time to a meter, by the provider's id of it; `None`: to any.
    pub async fn uncounted(&self, meter: Option<&str>, told: Period, by: &By) -> Result<Uncounted, LedgerError> {
        let mut found = Uncounted::default();
        if !self.provider.terms().sends {
            return Ok(found);
        }
        let event_name = match meter {
            None => None,
            Some(id) => match self.provider.event_name(id).await {
                Ok(event_name) => event_name,
                Err(untold) => {
                    found.wait(None, &untold.to_string());
                    return Ok(found);
                }
            },
        };
        let mut by_account: BTreeMap<ToldAccount, Vec<Batch>> = BTreeMap::new();
        for batch in self.ledger.told_while(told.start, told.end).await? {
            let is_of_meter = event_name.as_ref().is_none_or(|name| *name == batch.event_name);
            let Some(customer) = batch.delivery.customer.clone().filter(|_| is_of_meter) else {
                continue;
            };
            let event_name = batch.event_name.clone();
            by_account.entry(ToldAccount { customer, event_name }).or_default().push(batch);
        }
        for (account, batches) in by_account {
            for together in together(batches) {
                self.look_for(&account, together, by, &mut found).await?;
            }
        }
        Ok(found)
    }

    async fn look_for(&self, account: &ToldAccount, together: Together, by: &By, found: &mut Uncounted) -> Result<(), LedgerError> {
        let (sums, suspects) = (self.sums(account, &together).await?, together.unknown);
        let is_acknowledged = |batch: &Batch| batch.delivery.state == State::Acknowledged;
        // What is on its way may be told again, and taken for a duplicate of what was not counted.
        if suspects
            .iter()
            .any(|batch| matches!(batch.delivery.state, State::Sending | State::Sealed))
        {
            found.wait(None, "some of it is still on its way");
        }
        let suspects: Vec<Batch> = suspects.into_iter().filter(is_acknowledged).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        match sums {
            Ok(Some((batches, elsewhere, sum))) => match rules::counted(&batches, &elsewhere, &suspects, sum, self.clock.now()) {
                Presence::Early => found.wait(settled_at(&batches), "the provider's sums need not have all of it yet"),
                Presence::Unclear => found.unclear.extend(suspects),
                Presence::Known(known) => {
                    let is_gone = |batch: &&Batch| known.iter().any(|(id, is_there)| *id == batch.id && !is_there);
                    for batch in suspects.iter().filter(is_gone) {
                        self.reject(batch, "the provider's sum does not have it", by, found).await?;
                    }
                }
            },
            Err(Untold::CustomerUnknown) => {
                for batch in &suspects {
                    self.reject(batch, "the provider has no such customer", by, found).await?;
                }
            }
            Ok(None) | Err(Untold::MeterUnknown) => found.unclear.extend(suspects),
            Err(untold @ Untold::NoAnswer(_)) => found.wait(None, &untold.to_string()),
        }
        Ok(())
    }

    async fn reject(&self, batch: &Batch, why: &str, by: &By, found: &mut Uncounted) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let reason = format!("reported without being named: {why}");
        let audited = Audited {
            id: AuditId::from_uuid(self.clock.uuid()),
            changed_at: now,
            by: by.clone(),
            action: "billing.batch.report".to_owned(),
            subject: Subject::of(&batch.workspace, "batch", batch.id.to_string()),
            before: Some(json!({"state": batch.delivery.state})),
            after: Some(json!({"state": State::Rejected, "reason": reason})),
        };
        let change = BatchChange {
            batch: batch.id,
            generation: Some(batch.delivery.generation),
            event: Event::Reported { reason },
            terms: self.provider.terms(),
            now,
            audited: Some(audited),
        };
        if let Changed::Done(batch) = self.ledger.change_batch(change).await? {
            found.rejected.push(*batch);
        }
        Ok(())
    }
}

/// When the provider's sums are trusted to have all that was acknowledged of these.
fn settled_at(batches: &[Batch]) -> Option<Timestamp> {
    let last = batches.iter().filter_map(|batch| batch.delivery.acknowledged_at).max();
    last.map(|at| at.plus_seconds(SETTLED_SECONDS))
}
