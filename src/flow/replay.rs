//! Replay: a request that was allowed before is told its first answer again, computed from what its hold remembers.

use super::authorize::{Decision, Request, Verdict, permit};
use super::context::Context;
use super::{FlowError, Service};
use crate::counters::{FINGERPRINT_UNKNOWN, Record};
use crate::decision::id::ReservationId;

/// What a request that would be refused by now was allowed before: whatever has changed since, its hold is told again, and its end.
pub(super) async fn told_before(service: &Service, request: &Request) -> Result<Option<Decision>, FlowError> {
    if request.dry_run {
        return Ok(None);
    }
    let id = ReservationId::derive(&request.ask.workspace, &request.ask.request_id);
    // Without the counters nothing is known of a hold, and a refusal needs none.
    match service.counters.find(id, service.clock.now()).await.unwrap_or_default() {
        None => Ok(None),
        Some(record) if ![request.fingerprint, FINGERPRINT_UNKNOWN].contains(&record.fingerprint) => Err(FlowError::IdempotencyMismatch),
        Some(Record { end: Some(end), .. }) => Err(FlowError::ReservationEnded(id, end)),
        Some(record) => replay(service, id, &record, request.accept_language.as_deref()).await.map(Some),
    }
}

/// The first answer again, computed from what the hold remembers; its sentences in a language that whoever asks now accepts.
pub(super) async fn replay(
    service: &Service,
    reservation: ReservationId,
    record: &Record,
    accepted: Option<&str>,
) -> Result<Decision, FlowError> {
    let context = Context::decode(&record.context, reservation)?;
    let policy = service.policy_of(&context).await?;
    let ladder = context.ladder(&policy)?;
    let voice = policy.voice(accepted, Some(&ladder.plan));
    let (note, taken) = (context.note(), record.taken);
    let permit = permit(voice, &context.ask, &ladder, Some(reservation), taken, &record.before, &note);
    Ok(Decision {
        decision: context.decision,
        verdict: Verdict::Allowed(Box::new(permit)),
        replayed: true,
        explain: None,
        cache: context.cache.as_ref().map(|ticket| ticket.status()),
    })
}
