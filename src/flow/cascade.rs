//! Cascade: whether a request may be tried again on a better model, because the answer before was not good enough.
//!
//! What a settle permits is written before the settle is: a crash in between leaves an offer without a settlement, which permits nothing.
//! Whoever takes an offer writes that before it holds; a crash after it leaves it taken by a request id that may ask again. What came to
//! nothing (denied, released, expired without use) makes room for another.

use super::authorize::{Decision, Request, Verdict};
use super::context::Context;
use super::known::Known;
use super::{FlowError, Service};
use crate::decision::amount::Amounts;
use crate::decision::cascade::{Escalation, Offered};
use crate::decision::entry::{Entry, Outcome};
use crate::decision::id::{ModelId, ReservationId};
use crate::decision::standing::End;

/// What becomes of a request that names an earlier one: the model of its second try.
#[derive(Clone, Debug)]
pub(super) struct Escalated {
    pub(super) from: ReservationId,
    /// Whose answer was not good enough.
    pub(super) failed: ModelId,
    pub(super) escalation: Escalation,
}

/// Takes the escalation that `first` permits for this request; the same request may take it again. A dry run only looks.
pub(super) async fn take(service: &Service, request: &Request, first: ReservationId) -> Result<Escalated, FlowError> {
    let workspace = &request.ask.workspace;
    let standing = service.ledger.standing(first).await?;
    let not_due = |why| Err(FlowError::EscalationNotDue(first, why));
    let Some(standing) = standing.filter(|standing| standing.workspace == *workspace) else {
        let held = service.counters.find(first, service.clock.now()).await?;
        return match held.filter(|record| record.workspace == *workspace) {
            Some(_) => not_due("is not settled"),
            None => Err(FlowError::EscalationUnknown(first)),
        };
    };
    let (Some(End::Settled), Some(entry)) = (standing.end, &standing.entry) else {
        return not_due("is not settled");
    };
    let Some(offered) = service.ledger.escalation(first).await? else {
        return not_due("was offered no escalation");
    };
    if !offered.escalation.is_due(entry.quality_score) {
        return not_due("was not settled with a quality_score below the least");
    }
    let own = ReservationId::derive(workspace, &request.ask.request_id);
    let is_own = match (request.dry_run, offered.taken_by) {
        (false, Some(taker)) if taker == own => true,
        (false, taker) => {
            is_unused(service, request, own).await?;
            if let Some(taker) = taker {
                take_from_ended(service, first, taker).await?;
            }
            let is_taken = service.ledger.take_escalation(first, own).await?;
            metrics::counter!("weir_escalations_taken_total").increment(u64::from(is_taken));
            is_taken
        }
        (true, Some(taker)) => taker == own || came_to_nothing(service, taker).await?,
        (true, None) => true,
    };
    match is_own {
        true => Ok(Escalated {
            from: first,
            failed: entry.model.clone(),
            escalation: offered.escalation,
        }),
        false => Err(FlowError::AlreadyEscalated(first)),
    }
}

/// An offer is not taken by a request id that was used for something else: its owner could never ask again.
async fn is_unused(service: &Service, request: &Request, own: ReservationId) -> Result<(), FlowError> {
    if let Some(end) = service.ledger.standing(own).await?.and_then(|standing| standing.end) {
        return Err(FlowError::ReservationEnded(own, end));
    }
    let held = service.counters.find(own, service.clock.now()).await?;
    match held.filter(|record| record.fingerprint != request.fingerprint) {
        Some(_) => Err(FlowError::IdempotencyMismatch),
        None => Ok(()),
    }
}

/// Gives back an offer whose taker has ended without any use.
async fn take_from_ended(service: &Service, first: ReservationId, taker: ReservationId) -> Result<(), FlowError> {
    if came_to_nothing(service, taker).await? {
        service.ledger.give_back_escalation(first, taker).await?;
    }
    Ok(())
}

async fn came_to_nothing(service: &Service, taker: ReservationId) -> Result<bool, FlowError> {
    let is_over = |end: Option<End>| matches!(end, Some(End::Released | End::Expired));
    if let Some(standing) = service.ledger.standing(taker).await? {
        return Ok(is_over(standing.end) && standing.entry.is_none());
    }
    // What ended without use may be known to the counters alone. One that nobody knows may be on its way.
    let record = service.counters.find(taker, service.clock.now()).await?;
    Ok(record.is_some_and(|record| is_over(record.end) && record.used == Amounts::default()))
}

/// Gives back what a request took that came to nothing, so that another may take it. One that may hold, and whose caller can ask again, keeps it.
pub(super) async fn give_back(service: &Service, request: &Request, decided: &Result<Decision, FlowError>) {
    let Some(first) = request
        .escalate_from
        .filter(|_| !request.dry_run && holds_nothing(request, decided))
    else {
        return;
    };
    let own = ReservationId::derive(&request.ask.workspace, &request.ask.request_id);
    if let Err(error) = service.ledger.give_back_escalation(first, own).await {
        // The same request id may still ask again.
        tracing::info!(reservation = %first, error = &error as &dyn std::error::Error, "an escalation stays taken by a request that holds nothing");
    }
}

fn holds_nothing(request: &Request, decided: &Result<Decision, FlowError>) -> bool {
    match decided {
        Ok(decision) => matches!(decision.verdict, Verdict::Denied(_)),
        Err(FlowError::ReservationEnded(_, end)) => *end != End::Settled,
        Err(FlowError::IdempotencyMismatch) => false,
        // The hold may have been made. Where nobody knows its id, it can only expire.
        Err(FlowError::Counters(_) | FlowError::RebuildTimeout(_) | FlowError::Ledger(_)) => !request.is_named,
        Err(_) => true,
    }
}

/// Writes down what the settlement of this reservation will permit, if its authorize offered anything.
pub(super) async fn offer(service: &Service, id: ReservationId, known: &Known, entry: &Entry) -> Result<Option<Escalation>, FlowError> {
    let Some((record, _)) = known.hold.as_ref().filter(|(record, _)| Context::has_detour(&record.context)) else {
        return Ok(None);
    };
    let context = Context::decode(&record.context, id)?;
    let offered = context
        .detour
        .as_ref()
        .and_then(|detour| detour.escalation_after(&known.subject.model));
    let Some(escalation) = offered.filter(|_| entry.outcome == Outcome::Success) else {
        return Ok(None);
    };
    let offered = Offered {
        reservation: id,
        workspace: entry.workspace_id.clone(),
        feature: entry.feature.clone(),
        escalation: escalation.clone(),
        offered_at: service.clock.now(),
        taken_by: None,
    };
    service.ledger.offer_escalation(&offered).await?;
    Ok(Some(offered.escalation))
}

/// Counts what a settlement that was recorded a moment ago permits.
pub(super) fn count_offered(offered: Option<&Escalation>, entry: &Entry) {
    if let Some(escalation) = offered {
        let due = if escalation.is_due(entry.quality_score) { "yes" } else { "no" };
        metrics::counter!("weir_escalations_offered_total", "due" => due).increment(1);
    }
}
