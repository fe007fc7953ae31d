//! Who is waited for: the one that leads for an answer. A lead ends with the answer, and as soon as it is known that none will come: by a denial, a
//! release, a settle that keeps nothing, a hit that was found otherwise. What ends without a word of it (a crash, a hold that expires) is waited for
//! until the lead runs out by itself.
//!
//! A lead is told apart from another's by when it began, so one that ran out and went to somebody else is not taken away from them.

use super::super::Service;
use super::super::authorize::{Decision, Verdict};
use super::super::context::Context;
use super::super::known::Known;
use super::{Looked, Status, Ticket};
use crate::cache::exact::LEADER_SECONDS;
use crate::decision::ask::Ask;
use crate::decision::cache::key::Key;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use crate::flow::FlowError;

/// Leads, where there is an answer that is of no use for the request; of many who find that, one should ask.
pub(super) async fn take(service: &Service, ask: &Ask, key: &Key, now: Timestamp) -> bool {
    let taken = service.cache.exact.lead(&ask.workspace, key, now).await;
    // Where it is not known, several ask rather than none.
    taken.unwrap_or(true)
}

/// Gives up the lead of a look that ended without a request that will bring an answer.
pub(super) async fn unless_missed(service: &Service, ask: &Ask, key: &Key, now: Timestamp, looked: &Result<Looked, FlowError>) {
    if !matches!(looked, Ok(Looked::Not(Status::Miss { .. }, Some(_)))) {
        free(service, &ask.workspace, key, now).await;
    }
}

/// Gives up the lead of a request that began at `since` and will bring no answer.
pub(in crate::flow) async fn give_up(service: &Service, workspace: &WorkspaceId, ticket: Option<&Ticket>, since: Timestamp) {
    if let Some(ticket) = ticket.filter(|ticket| ticket.leads) {
        free(service, workspace, &ticket.key, since).await;
    }
}

/// The same, where the decision holds nothing.
pub(in crate::flow) async fn unless_held(service: &Service, context: &Context, since: Timestamp, decided: Result<&Decision, &FlowError>) {
    let is_held = |decision: &Decision| matches!(&decision.verdict, Verdict::Allowed(permit) if !permit.degraded);
    if !decided.is_ok_and(is_held) {
        give_up(service, &context.ask.workspace, context.cache.as_deref(), since).await;
    }
}

/// The same, where what was settled is not kept as an exact answer.
pub(super) async fn unless_kept(service: &Service, known: &Known) {
    let Some((record, _)) = &known.hold else { return };
    if let Ok(context) = Context::decode(&record.context, record.reservation) {
        give_up(service, &record.workspace, context.cache.as_deref(), record.held_at).await;
    }
}

async fn free(service: &Service, workspace: &WorkspaceId, key: &Key, since: Timestamp) {
    let until = since.plus_seconds(LEADER_SECONDS);
    if let Err(error) = service.cache.exact.give_up(workspace, key, until).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a lead runs out by itself");
    }
}
