//! Extend: a request takes longer than its hold. Only the store is asked; a checkpoint's expiry follows.

use super::find::visible;
use super::{FlowError, Service};
use crate::counters::Extended;
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::time::Timestamp;

pub async fn extend(service: &Service, id: ReservationId, seconds: i64, bound: Option<&WorkspaceId>) -> Result<Timestamp, FlowError> {
    let now = service.clock.now();
    let record = service.counters.find(id, now).await?;
    match &record {
        Some(record) if visible(&record.workspace, bound) => {}
        Some(_) => return Err(FlowError::ReservationGone(id)),
        None => return Err(ended(service, id, bound).await),
    }
    match service.counters.extend(id, now.plus_seconds(seconds), now).await? {
        Extended::Until(until) => {
            if record.is_some_and(|record| record.claimed.is_some()) {
                service.ledger.extend_checkpoint(id, until).await?;
            }
            Ok(until)
        }
        Extended::Ended(end) => Err(FlowError::ReservationEnded(id, end)),
        Extended::Unknown => Err(ended(service, id, bound).await),
    }
}

/// Why a reservation that the store does not remember cannot be extended.
async fn ended(service: &Service, id: ReservationId, bound: Option<&WorkspaceId>) -> FlowError {
    match service.ledger.standing(id).await {
        Ok(Some(standing)) if visible(&standing.workspace, bound) => match standing.end {
            Some(end) => FlowError::ReservationEnded(id, end),
            None => FlowError::ReservationGone(id),
        },
        Ok(_) => FlowError::ReservationGone(id),
        Err(error) => error.into(),
    }
}
