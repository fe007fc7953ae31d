//! What expired by comparison is told, where an endpoint wants to hear of it. Nothing is ended by it: the hold was free when its time was over,
//! the ledger has no end of it, and a settle that comes later is late as ever.
//!
//! An event is written before the counters forget that it was to be told, so a crash in between has it written once more, under the words by
//! which it happened once. Every node does this; what another one wrote first is not written again.

use super::super::context::Context;
use super::super::rebuild::{self, Committed};
use super::super::run;
use super::{FlowError, Service, apply, expired_event};
use crate::counters::{Progress, Record};
use crate::decision::event::{Event, ReservationData};
use crate::decision::id::ReservationId;
use crate::decision::standing::{End, Standing};
use std::collections::HashMap;

/// Tells what ended by itself, all in one transaction. Returns how many the counters need not name again.
pub(super) async fn tell(service: &Service, records: Vec<Record>) -> Result<usize, FlowError> {
    if records.is_empty() {
        return Ok(0);
    }
    let ids: Vec<ReservationId> = records.iter().map(|record| record.reservation).collect();
    let standings: HashMap<ReservationId, Standing> = service.ledger.standings(&ids).await?.into_iter().collect();
    let (mut events, mut ended) = (Vec::new(), Vec::with_capacity(records.len()));
    for record in records {
        let standing = standings.get(&record.reservation);
        let progress = match standing.and_then(|standing| standing.end) {
            // It was settled or released meanwhile, or a node that knew more has told of it.
            Some(end) => run::ended(end, standing.and_then(|standing| standing.entry.as_ref())),
            // A stream: the ledger ends it, records what it used, and tells that.
            None if standing.is_some_and(|standing| standing.checkpoint.is_some()) => continue,
            None => {
                events.extend(event(service, &record).await?);
                run::ended(End::Expired, None)
            }
        };
        ended.push((record, progress));
    }
    let new = service.ledger.append_events(events).await?;
    metrics::counter!("weir_reservations_expired_total").increment(new.len() as u64);
    let resolved = ended.len();
    for (record, progress) in ended {
        let committed = committed(service, &record, progress).await?;
        apply(service, record.reservation, &record.workspace, progress, committed).await?;
    }
    Ok(resolved)
}

/// What goes with it: nothing was recorded by what expired; the copy of another end may have been lost, and is made again.
async fn committed(service: &Service, record: &Record, progress: Progress) -> Result<Committed, FlowError> {
    match Context::decode(&record.context, record.reservation) {
        Ok(context) if progress != run::ended(End::Expired, None) => {
            rebuild::committed(service, &record.workspace, &context.limits.counters).await
        }
        _ => Ok(Committed::default()),
    }
}

/// `None`: what it remembers cannot be read, so there is nothing to tell.
async fn event(service: &Service, record: &Record) -> Result<Option<Event>, FlowError> {
    let context = match Context::decode(&record.context, record.reservation) {
        Ok(context) => context,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(reservation = %record.reservation, error, "nobody is told that a reservation expired");
            return Ok(None);
        }
    };
    let data = ReservationData {
        workspace_id: record.workspace.clone(),
        reservation_id: record.reservation,
        request_id: context.ask.request_id.clone(),
        user_id: context.ask.user.clone(),
        feature: Some(context.ask.feature.clone()),
        model: Some(context.chosen.clone()),
        charged: false,
        tokens: 0,
        message: String::new(),
    };
    let mut event = expired_event(service, data).await?;
    event.occurred_at = record.expires_at;
    Ok(Some(event))
}
