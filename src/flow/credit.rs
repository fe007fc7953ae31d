//! Credits of paid grants at the billing provider, for whoever looks after them: how each stands, and sent again. The credit is written with
//! its grant ([`super::grant`]); the desk gives it ([`super::billing`]).

use super::audit::{self, By, Subject};
use super::grant::{self, Standing};
use super::{FlowError, Service};
use crate::decision::billing::credit::{Credit, CreditEvent, CreditState};
use crate::decision::billing::delivery::{Reason, ReasonCode};
use crate::decision::id::{GrantId, WorkspaceId};
use crate::ledger::credits::{CreditChange, CreditChanged};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A grant as it stands, and how its credit does, if it was paid for.
#[derive(Clone, Debug)]
pub struct Crediting {
    pub standing: Standing,
    pub credit: Option<Credit>,
}

/// These grants of a workspace with their credits, in the same order.
pub async fn of(service: &Service, workspace: &WorkspaceId, standings: Vec<Standing>) -> Result<Vec<Crediting>, FlowError> {
    let paid = standings.iter().filter(|standing| standing.grant.paid.is_some());
    let moments: Vec<_> = paid.map(|standing| standing.grant.created_at).collect();
    let credits = match (moments.iter().min(), moments.iter().max()) {
        (Some(from), Some(to)) => service.ledger.credits_of(workspace, *from, *to).await?,
        _ => Vec::new(),
    };
    let mut credits: HashMap<GrantId, Credit> = credits.into_iter().map(|credit| (credit.grant, credit)).collect();
    let crediting = |standing: Standing| Crediting {
        credit: credits.remove(&standing.grant.id).map(|credit| seen(service, credit)),
        standing,
    };
    Ok(standings.into_iter().map(crediting).collect())
}

/// A credit that nobody will send says so, for as long as that is so.
fn seen(service: &Service, mut credit: Credit) -> Credit {
    let desk = service.billing.desk();
    let keeps_credits = desk.as_ref().is_some_and(|desk| desk.keeps_credits());
    if !keeps_credits
        && matches!(
            credit.delivery.state,
            CreditState::Pending | CreditState::Unknown | CreditState::Voiding
        )
    {
        let provider = desk.map_or("none", |desk| desk.provider());
        credit.delivery.next_try_at = None;
        credit.delivery.reason = Some(Reason {
            code: ReasonCode::NoCreditsKept,
            detail: format!("the billing provider {provider} keeps no credits: it waits until there is one that does"),
        });
    }
    credit
}

/// Has the credit of a grant sent again.
pub async fn resend(service: &Service, workspace: &WorkspaceId, id: GrantId, by: &By) -> Result<Crediting, FlowError> {
    let standing = grant::find(service, workspace, id).await?;
    let known = of(service, workspace, vec![standing.clone()]).await?.pop();
    let known = known.and_then(|crediting| crediting.credit).ok_or(FlowError::NotFound)?;
    let audited = audit::record(
        &*service.clock,
        by,
        "billing.credit.resend",
        Subject::of(workspace, "grant", id.to_string()),
        Some(told(&known)),
        Some(json!({"state": if known.delivery.is_void { CreditState::Voiding } else { CreditState::Pending }})),
    );
    let change = CreditChange {
        grant: id,
        event: CreditEvent::Resend,
        now: service.clock.now(),
        audited: Some(audited),
    };
    match service.ledger.change_credit(change).await? {
        CreditChanged::Done(credit) => Ok(Crediting {
            standing,
            credit: Some(seen(service, *credit)),
        }),
        CreditChanged::Refused(_, why) => Err(FlowError::CreditConflict(id, why)),
        CreditChanged::Gone => Err(FlowError::NotFound),
    }
}

/// A credit as the audit log tells of it.
fn told(credit: &Credit) -> Value {
    json!({
        "state": credit.delivery.state,
        "tries": credit.delivery.tries,
        "reason": credit.delivery.reason.as_ref().map(|reason| reason.code),
    })
}
