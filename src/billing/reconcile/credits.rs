//! The part of reconcile that is about grants which were paid for: those that are not credits at the provider, and what became of those that
//! nobody knew about. A credit can be looked for by its grant's id, so nothing is left to a sum.

use super::{PAGE, Reconciler};
use crate::billing::{Credit, CreditAnswer};
use crate::decision::billing::credit::{CreditEvent, CreditState};
use crate::decision::billing::report::{CREDITS_MAX, CreditLine, Outcome};
use crate::decision::id::{AuditId, GrantId};
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::audit::{Audited, Subject};
use crate::ledger::credits::{CreditChange, CreditChanged, LostCredits};
use crate::ledger::told::Scope;
use serde_json::json;
use std::collections::BTreeSet;

impl Reconciler {
    /// Whoever asks about one meter is not told of credits: they are of none.
    pub(super) async fn credits(&self, scope: &Scope) -> Result<Vec<CreditLine>, LedgerError> {
        if scope.meter.is_some() {
            return Ok(Vec::new());
        }
        let mut lines = match self.provider.keeps_credits() {
            true => self.look_for_lost(scope).await?,
            false => Vec::new(),
        };
        let looked_for: BTreeSet<GrantId> = lines.iter().map(|(_, line)| line.grant_id).collect();
        for credit in self.ledger.open_credits(scope.workspace.as_ref(), CREDITS_MAX).await? {
            if !looked_for.contains(&credit.grant) {
                lines.push((credit.created_at, line(&credit, None)));
            }
        }
        // Where they are too many, those that somebody looked for are named.
        lines.truncate(CREDITS_MAX);
        lines.sort_by_key(|(created_at, line)| (*created_at, line.grant_id));
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    /// All that nobody knows about, however many wait beside them. What has a next try looks by itself.
    async fn look_for_lost(&self, scope: &Scope) -> Result<Vec<(Timestamp, CreditLine)>, LedgerError> {
        let mut query = LostCredits {
            workspace: scope.workspace.clone(),
            after: None,
            limit: PAGE,
        };
        let mut lines = Vec::new();
        loop {
            let page = self.ledger.lost_credits(&query).await?;
            query.after = page.last().map(|last| (last.created_at, last.grant));
            let is_last = page.len() < PAGE;
            for credit in page {
                lines.push((credit.created_at, self.found_out(scope, credit).await?));
            }
            if is_last {
                return Ok(lines);
            }
        }
    }

    async fn found_out(&self, scope: &Scope, credit: Credit) -> Result<CreditLine, LedgerError> {
        let found = match self.provider.find_credit(&credit).await {
            CreditAnswer::Given(id) => Some(id),
            CreditAnswer::Gone => None,
            CreditAnswer::Refused(_) | CreditAnswer::LookRefused(_) | CreditAnswer::NotNow { .. } | CreditAnswer::Unsure { .. } => {
                return Ok(line(&credit, Some(Outcome::Left)));
            }
        };
        let now = self.clock.now();
        let outcome = if found.is_some() {
            Outcome::Acknowledged
        } else {
            Outcome::SentAgain
        };
        let audited = Audited {
            id: AuditId::from_uuid(self.clock.uuid()),
            changed_at: now,
            by: scope.by.clone(),
            action: "billing.credit.reconcile".to_owned(),
            subject: Subject::of(&credit.workspace, "grant", credit.grant.to_string()),
            before: Some(json!({"state": CreditState::Unknown})),
            after: Some(json!({"provider_id": found})),
        };
        let change = CreditChange {
            grant: credit.grant,
            event: CreditEvent::Found(found),
            now,
            audited: Some(audited),
        };
        Ok(match self.ledger.change_credit(change).await? {
            CreditChanged::Done(credit) => line(&credit, Some(outcome)),
            CreditChanged::Refused(credit, _) => line(&credit, Some(Outcome::Left)),
            CreditChanged::Gone => line(&credit, Some(Outcome::Left)),
        })
    }
}

fn line(credit: &Credit, outcome: Option<Outcome>) -> CreditLine {
    let delivery = &credit.delivery;
    CreditLine {
        grant_id: credit.grant,
        workspace_id: credit.workspace.clone(),
        customer: delivery.customer.clone(),
        amount: credit.paid.amount,
        currency: credit.paid.currency.clone(),
        state: delivery.state,
        reason: delivery.reason.as_ref().map(|reason| reason.code),
        detail: delivery.reason.as_ref().map_or_else(String::new, |reason| reason.detail.clone()),
        outcome,
    }
}
