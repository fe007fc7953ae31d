//! Explain: takes a decision apart, from what its hold remembers or from the decision log. Changes nothing.

use super::context::Context;
use super::find::visible;
use super::{FlowError, Service, decided, policy};
use crate::counters::Record;
use crate::decision::explain::{self, Explanation};
use crate::decision::facts::{Facts, Outcome};
use crate::decision::id::{DecisionId, ReservationId, WorkspaceId};
use crate::ledger::{LedgerError, LoggedDecision};
use std::time::Duration;

/// For how long after a decision another node may still be about to write it.
const YOUNG_SECONDS: i64 = 2;
/// How often and how long is waited for it.
const LOOKS_AGAIN: usize = 4;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(150);

/// A decision, taken apart.
#[derive(Clone, Debug)]
pub struct Explained {
    pub decision: DecisionId,
    pub reservation: Option<ReservationId>,
    pub explanation: Explanation,
}

/// A decision by its id. Of another tenant than `bound` it is as unknown as if it never was.
pub async fn decision(service: &Service, id: DecisionId, bound: Option<&WorkspaceId>) -> Result<Explained, FlowError> {
    flush_own(service).await;
    let mut found = service.ledger.decision(id).await?;
    for _ in 0..LOOKS_AGAIN {
        // Made by another node a moment ago: it is on its way.
        if found.is_some() || id.made_at().plus_seconds(YOUNG_SECONDS) < service.clock.now() {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        found = service.ledger.decision(id).await?;
    }
    let logged = found
        .filter(|logged| visible(&logged.workspace, bound))
        .ok_or(FlowError::NotFound)?;
    of_log(service, logged).await
}

/// The decision by which a reservation was allowed.
pub async fn reservation(service: &Service, id: ReservationId, bound: Option<&WorkspaceId>) -> Result<Explained, FlowError> {
    let held = service.counters.find(id, service.clock.now()).await;
    if let Ok(Some(record)) = &held
        && !record.context.is_empty()
    {
        return match visible(&record.workspace, bound) {
            true => of_hold(service, record).await,
            false => Err(FlowError::NotFound),
        };
    }
    flush_own(service).await;
    match service.ledger.decision_of(id).await? {
        Some(logged) if visible(&logged.workspace, bound) => of_log(service, logged).await,
        // With the counters away nothing is known of a hold that the log does not have.
        Some(_) => Err(FlowError::NotFound),
        None => Err(held.err().map_or(FlowError::NotFound, FlowError::from)),
    }
}

/// What this node has decided is to be found at once. A log that cannot be written is told by whoever writes it.
async fn flush_own(service: &Service) {
    if let Err(error) = decided::flush_all(service).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the decision log waits");
    }
}

async fn of_hold(service: &Service, record: &Record) -> Result<Explained, FlowError> {
    let context = Context::decode(&record.context, record.reservation)?;
    let facts = context.facts(record.before.clone(), Outcome::Held(record.taken));
    Ok(Explained {
        decision: context.decision,
        reservation: Some(record.reservation),
        explanation: explain(service, facts, None).await?,
    })
}

async fn of_log(service: &Service, logged: LoggedDecision) -> Result<Explained, FlowError> {
    let facts = decided::decode(&logged.facts).ok_or_else(|| LedgerError::Corrupt {
        what: format!("the facts of {}", logged.decision),
    })?;
    Ok(Explained {
        decision: logged.decision,
        reservation: logged.reservation,
        explanation: explain(service, facts, None).await?,
    })
}

/// Takes facts apart by the policy that they were decided under, in a language that is accepted.
pub(super) async fn explain(service: &Service, facts: Facts, accepted: Option<&str>) -> Result<Explanation, FlowError> {
    let policy = policy::at(service, facts.policy_version).await?;
    let plan = facts.plan.as_ref().and_then(|plan| policy.plans.get(plan)).cloned();
    let voice = policy.voice(accepted, plan.as_deref());
    explain::explain(facts, plan.as_ref(), &policy.catalogue, voice).map_err(|_| FlowError::AmountTooLarge)
}
