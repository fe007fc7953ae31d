//! Release: the request did not happen. A ledger write first, so that release and settle cannot both be acknowledged; then the hold is
//! freed. A crash between them leaves a hold that expires by itself, and an end that is already decided.

use super::find::look;
use super::rebuild::{self, Committed};
use super::{DECIDE_AGAIN_MAX, FlowError, Service, cache, run, tell};
use crate::decision::counter::Counter;
use crate::decision::entry::{Entry, Outcome};
use crate::decision::id::{RequestId, ReservationId, WorkspaceId};
use crate::decision::standing::{End, Standing};
use crate::flow::context::Context;
use crate::ledger::{Post, Posted, Tells};

/// A released reservation; `entry` is what its checkpoints had reported, if any.
#[derive(Clone, Debug)]
pub struct Released {
    pub entry: Option<Entry>,
}

pub async fn release(service: &Service, id: ReservationId, bound: Option<&WorkspaceId>) -> Result<Released, FlowError> {
    let now = service.clock.now();
    let seen = look(service, id, bound).await?;
    let (workspace, context, mut standing) = (seen.workspace, seen.context, seen.standing);
    let counters = context.as_ref().map(|context| context.limits.counters.clone()).unwrap_or_default();
    for _ in 0..DECIDE_AGAIN_MAX {
        let (entry, request_id) = match &standing {
            Some(Standing {
                end: Some(End::Settled), ..
            }) => return Err(FlowError::ReservationEnded(id, End::Settled)),
            Some(Standing {
                end: Some(End::Released),
                entry,
                ..
            }) => {
                // What checkpoints and the end left may not have reached the counters: a hold is never freed without it.
                let is_held = seen.record.as_ref().is_some_and(|record| record.end.is_none());
                let committed = match is_held {
                    true => rebuild::committed(service, &workspace, &counters).await?,
                    false => Committed::default(),
                };
                free(service, id, &workspace, entry.as_ref(), committed).await;
                return Ok(Released { entry: entry.clone() });
            }
            // What expired with a use on record stays recorded; there is nothing left to free.
            Some(Standing {
                end: Some(End::Expired),
                entry: Some(entry),
                ..
            }) => {
                return Ok(Released {
                    entry: Some(entry.clone()),
                });
            }
            Some(standing) => {
                let reported = standing.checkpoint.as_ref().map(|checkpoint| &checkpoint.entry);
                let entry = reported.map(|entry| Entry {
                    outcome: Outcome::Cancelled,
                    recorded_at: now,
                    ..entry.clone()
                });
                (entry, standing.request_id.clone())
            }
            None => (None, request_id(context.as_ref(), id)?),
        };
        let post = post(&workspace, id, request_id, standing.as_ref(), entry.clone(), &counters, now);
        match tell::post(service, post).await? {
            Posted::Done { rows, purses } => {
                if let (Some(context), Some(record)) = (&context, &seen.record) {
                    service.decisions.ended(context, record);
                    cache::give_up(service, &workspace, context.cache.as_deref(), record.held_at).await;
                }
                free(service, id, &workspace, entry.as_ref(), Committed { rows, purses }).await;
                return Ok(Released { entry });
            }
            Posted::Stands(now) => standing = Some(*now),
        }
    }
    Err(FlowError::Raced {
        what: format!("reservation {id}"),
    })
}

fn request_id(context: Option<&Context>, id: ReservationId) -> Result<RequestId, FlowError> {
    context
        .map(|context| context.ask.request_id.clone())
        .ok_or(FlowError::ReservationGone(id))
}

fn post(
    workspace: &WorkspaceId,
    id: ReservationId,
    request_id: RequestId,
    standing: Option<&Standing>,
    entry: Option<Entry>,
    counters: &[Counter],
    now: crate::decision::time::Timestamp,
) -> Post {
    Post {
        workspace: workspace.clone(),
        reservation: id,
        request_id,
        revision: standing.map_or(0, |standing| standing.revision),
        end: Some(End::Released),
        fingerprint: None,
        checkpoint: None,
        entries: entry.into_iter().collect(),
        counters: counters.to_vec(),
        charges: Vec::new(),
        tells: Tells::default(),
        now,
    }
}

/// Frees the hold. If the store is away the hold runs out by itself.
async fn free(service: &Service, id: ReservationId, workspace: &WorkspaceId, entry: Option<&Entry>, committed: Committed) {
    let applied = committed.applied(id, run::ended(End::Released, entry));
    if let Err(error) = service.counters.apply(workspace, &applied, &[], &[], service.clock.now()).await {
        tracing::warn!(reservation = %id, error = &error as &dyn std::error::Error, "released; its hold stays until it expires");
    }
}
