//! Webhooks' part of a ledger: endpoints, and the queue of what is still to be told to each. The queue is a table.
//!
//! 1. Handing on an event marks it and puts a delivery for each endpoint that wants it into the queue, in one transaction: an event is
//!    handed on once, and to all or to nobody.
//! 2. A delivery is claimed by one node at a time. A claim that is not finished by its time is lost, and the delivery is due again: a
//!    node that died between sending and noting it makes the same event, under the same id, be sent once more.
//! 3. Of an endpoint only so many tries run at once, over all nodes: few if its last try soon succeeded, one if not. A claim takes from many
//!    endpoints a few each and none that is busy, so a slow one keeps nobody waiting; what there is for each use comes after all else.
//! 4. What a claim comes to is noted by who holds it and nobody else. Noting it orders itself behind the endpoint's row of the queue, as
//!    claims and new deliveries do; that row is never later than the endpoint's next try.
//! 5. An endpoint that is disabled or deleted has no pending deliveries left but those that run, and they end with it.

use super::LedgerError;
use super::audit::Audited;
use crate::decision::event::Event;
use crate::decision::id::{DeliveryId, EventId, WebhookEndpointId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::retry::{Attempt, Disable, Next};
use crate::decision::webhook::{Delivery, Endpoint, State};
use async_trait::async_trait;

/// The most endpoints, or deliveries, of one page.
pub const PAGE_WEBHOOKS_MAX: usize = 500;

/// Whose endpoints and deliveries to list.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Whose {
    /// Of all workspaces, and of none.
    #[default]
    Anybody,
    Workspace(WorkspaceId),
}

/// Which endpoints to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct EndpointQuery {
    pub whose: Whose,
    /// Older than this one.
    pub after: Option<WebhookEndpointId>,
    pub limit: usize,
}

/// Which deliveries to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    pub whose: Whose,
    pub endpoint: Option<WebhookEndpointId>,
    pub event: Option<EventId>,
    pub state: Option<State>,
    /// Older than this one.
    pub after: Option<DeliveryId>,
    pub limit: usize,
}

/// What came of putting an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    Done,
    /// It is not at the version that was expected.
    Raced,
    /// There are as many as there may be.
    TooMany,
}

/// Whose enabled endpoints are told of an event; `None` among them: they are told of all workspaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subscribers {
    /// Of the one that there is for each use.
    pub usage: Vec<Option<WorkspaceId>>,
    /// Of `reservation.expired`.
    pub expired: Vec<Option<WorkspaceId>>,
}

/// Who claims, and how much.
#[derive(Clone, Debug)]
pub struct Claiming {
    pub now: Timestamp,
    /// When what is claimed counts as lost.
    pub until: Timestamp,
    /// Only of endpoints whose last try soon succeeded, or only of the others.
    pub proven: bool,
    /// How many tries may run at once for one endpoint.
    pub per_endpoint: usize,
    /// From how many endpoints at most, so at most `per_endpoint` times as many.
    pub endpoints: usize,
    /// Tells this claim from all others.
    pub claim: String,
}

/// A delivery that whoever claimed it tries now.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub delivery: DeliveryId,
    pub event: EventId,
    pub body: String,
    /// How often it was tried since it was last put on its way, this try not included.
    pub tries: u32,
    pub claim: String,
    /// `None`: it is deleted.
    pub endpoint: Option<Endpoint>,
    pub endpoint_id: WebhookEndpointId,
    /// The first failure after the last success.
    pub failing_since: Option<Timestamp>,
}

/// What a claim came to.
#[derive(Clone, Debug)]
pub struct Finished {
    pub delivery: DeliveryId,
    pub endpoint: WebhookEndpointId,
    pub claim: String,
    pub how: How,
    /// What is written if the endpoint ends with this try.
    pub disabling: Option<Disabling>,
}

#[derive(Clone, Debug)]
pub enum How {
    Tried {
        attempt: Attempt,
        next: Next,
    },
    /// Without a try, for this reason.
    Cancelled(&'static str),
}

/// The end of an endpoint that may come with a try.
#[derive(Clone, Debug)]
pub struct Disabling {
    pub why: Disable,
    pub event: Event,
    pub audited: Audited,
}

/// What came of noting a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noted {
    Done,
    /// With it the endpoint was disabled.
    Disabled,
    /// Whoever noted it did not hold it any more.
    Lost,
}

/// What there is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Events wait to be handed on.
    pub events: bool,
    /// Something is due of endpoints whose last try soon succeeded,
    pub proven: bool,
    /// and of others.
    pub unproven: bool,
}

/// What was handed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relayed {
    pub events: usize,
    pub deliveries: usize,
}

/// Which events to send to an endpoint again.
#[derive(Clone, Debug)]
pub struct Replay {
    pub endpoint: Endpoint,
    /// By when they were recorded.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Where the page before ended.
    pub after: Option<(Timestamp, EventId)>,
    /// Of events to look at.
    pub limit: usize,
    pub now: Timestamp,
    /// Of the first page.
    pub audited: Option<Audited>,
}

/// What a page of a replay came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Replayed {
    pub deliveries: usize,
    /// Where the next page goes on; `None`: this was the last one.
    pub last: Option<(Timestamp, EventId)>,
}

/// How the queue stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueState {
    /// Up to [`DEPTH_MAX`].
    pub pending: usize,
    /// Since when the oldest due delivery waits to be claimed.
    pub due_since: Option<Timestamp>,
}

/// Beyond this the pending deliveries are not counted.
pub const DEPTH_MAX: usize = 100_000;

/// How many tries of a delivery are kept: those of the schedule, and of it being put on its way again often.
pub const ATTEMPTS_KEPT_MAX: usize = 100;

/// A ledger that keeps endpoints, and the queue.
#[async_trait]
pub trait WebhookLedger: Send + Sync {
    /// Creates or replaces an endpoint, at most `endpoints_max` of one workspace or of none. One that is not enabled loses what is pending.
    async fn put_webhook_endpoint(
        &self,
        endpoint: &Endpoint,
        expected_version: u32,
        endpoints_max: usize,
        audited: Audited,
    ) -> Result<Put, LedgerError>;

    /// Deletes an endpoint with what is pending. False: it is not at this version.
    async fn delete_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        expected_version: u32,
        now: Timestamp,
        audited: Audited,
    ) -> Result<bool, LedgerError>;

    /// The endpoint; `None`: there is none of this id, or not any more.
    async fn webhook_endpoint(&self, id: WebhookEndpointId) -> Result<Option<Endpoint>, LedgerError>;

    async fn webhook_endpoints(&self, query: &EndpointQuery) -> Result<Vec<Endpoint>, LedgerError>;

    /// Who is told of what is only written where somebody is.
    async fn event_subscribers(&self) -> Result<Subscribers, LedgerError>;

    /// What there is to do at `now`; cheap enough to ask ten times a second.
    async fn webhook_work(&self, now: Timestamp) -> Result<Work, LedgerError>;

    /// Hands on at most `limit` events that wait, those that there are for each use after all others; if they are fewer, those were all. The first try of each delivery is due at `due_at`.
    async fn relay_events(&self, limit: usize, now: Timestamp, due_at: Timestamp) -> Result<Relayed, LedgerError>;

    async fn claim_deliveries(&self, claiming: Claiming) -> Result<Vec<Claimed>, LedgerError>;

    /// Notes what claims came to, in their order.
    async fn finish_deliveries(&self, finished: Vec<Finished>) -> Result<Vec<Noted>, LedgerError>;

    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Vec<Delivery>, LedgerError>;

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, LedgerError>;

    /// The tries of a delivery, oldest first and each with its number: all of them, or the last [`ATTEMPTS_KEPT_MAX`].
    async fn delivery_attempts(&self, id: DeliveryId) -> Result<Vec<(u32, Attempt)>, LedgerError>;

    /// Writes a delivery that was made outside of the queue.
    async fn log_delivery(&self, delivery: Delivery) -> Result<(), LedgerError>;

    /// Puts a delivery on its way again, from the first try on. False: it is not there, or its endpoint is not enabled.
    async fn redeliver(&self, id: DeliveryId, now: Timestamp, audited: Audited) -> Result<bool, LedgerError>;

    /// Puts a page of events that were handed on on their way to an endpoint, again or for the first time, as far as it wants them.
    async fn replay_events(&self, replay: Replay) -> Result<Replayed, LedgerError>;

    async fn queue_state(&self, now: Timestamp) -> Result<QueueState, LedgerError>;

    /// Cancels at most `limit` deliveries that have been due since before `before` and were not tried, as too old, and says how many; fewer
    /// than the limit: that was all.
    async fn give_up_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize, LedgerError>;

    /// Deletes at most `limit` deliveries that are not pending and older than `before`, and says how many; fewer than the limit: that was all.
    /// Endpoints that were deleted before and have none left go too.
    async fn prune_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize, LedgerError>;
}

/// Since when endpoint `$1` fails; `$more` says how its row is locked.
macro_rules! lock_queue {
    ($more:literal) => {
        concat!("SELECT failing_since FROM webhook_queue WHERE endpoint_id = $1", $more)
    };
}

/// Endpoints with something due at `$1`, whose last try soon succeeded or not (`$2`), the longest due first; `$3` limit.
macro_rules! take_queues {
    ($more:literal) => {
        concat!(
            "SELECT endpoint_id, failing_since FROM webhook_queue WHERE is_proven = $2 AND next_due_at <= $1 \
             ORDER BY next_due_at, endpoint_id LIMIT $3",
            $more
        )
    };
}

pub(super) use {lock_queue, take_queues};
