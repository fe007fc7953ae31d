//! Counters that do not answer who asks for a reservation, as when that one question ran into a time-out, and answer everything else.

use async_trait::async_trait;
use std::sync::Arc;
use weir::counters::run::{ChildOutcome, ChildRequest};
use weir::counters::{Applied, Begun, Claim, Counters, CountersError, Extended, HoldOutcome, HoldRequest, Rebuilt, Record};
use weir::decision::counter::{Balance, Counter, Whose};
use weir::decision::finding::Finding;
use weir::decision::grant::PurseUse;
use weir::decision::id::{ReservationId, WorkspaceId};
use weir::decision::time::Timestamp;

pub struct Blind(pub Arc<dyn Counters>);

#[async_trait]
impl Counters for Blind {
    async fn find(&self, _reservation: ReservationId, _now: Timestamp) -> Result<Option<Record>, CountersError> {
        Err(CountersError {
            act: "find a reservation",
            cause: "the answer did not come in time".into(),
        })
    }

    async fn hold(&self, request: &HoldRequest) -> Result<HoldOutcome, CountersError> {
        self.0.hold(request).await
    }

    async fn hold_child(&self, request: &ChildRequest) -> Result<ChildOutcome, CountersError> {
        self.0.hold_child(request).await
    }

    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError> {
        self.0.balances(workspace, counters, purses, named_since, now).await
    }

    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError> {
        self.0.claim(reservation, claim, now).await
    }

    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError> {
        self.0.apply(workspace, applied, read, purses, now).await
    }

    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError> {
        self.0.extend(reservation, until, now).await
    }

    async fn free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CountersError> {
        self.0.free_at(workspace, counter, ceiling, room, now).await
    }

    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError> {
        self.0.begin(workspace, whose, now).await
    }

    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError> {
        self.0.finish(workspace, whose, rebuilt, now).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CountersError> {
        self.0.due(now, limit).await
    }

    async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, CountersError> {
        self.0.inspect(now).await
    }

    async fn open(&self) -> Result<u64, CountersError> {
        self.0.open().await
    }
}
