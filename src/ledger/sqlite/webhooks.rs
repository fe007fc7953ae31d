//! Webhooks in SQLite.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, SqliteLedger, audited, webhook_queue_sql as queue, webhook_sql as read, webhook_upkeep_sql as upkeep};
use crate::decision::id::{DeliveryId, WebhookEndpointId};
use crate::decision::time::Timestamp;
use crate::decision::webhook::retry::Attempt;
use crate::decision::webhook::{Delivery, Endpoint};
use crate::ledger::LedgerError;
use crate::ledger::audit::Audited;
use crate::ledger::webhooks::{
    Claimed, Claiming, DeliveryQuery, EndpointQuery, Finished, Noted, Put, QueueState, Relayed, Replay, Replayed, Subscribers,
    WebhookLedger, Work, lock_queue, take_queues,
};
use async_trait::async_trait;

// The writer is the only one who takes anything, so nothing is locked.
pub(super) const LOCK_ENDPOINTS: &str = "SELECT 1";
pub(super) const LOCK_QUEUE: &str = lock_queue!("");
pub(super) const TAKE_QUEUES: &str = take_queues!("");

#[async_trait]
impl WebhookLedger for SqliteLedger {
    async fn put_webhook_endpoint(
        &self,
        endpoint: &Endpoint,
        expected_version: u32,
        endpoints_max: usize,
        audited: Audited,
    ) -> Result<Put, LedgerError> {
        let put = Putting {
            endpoint: endpoint.clone(),
            expected_version,
            endpoints_max,
            audited,
        };
        self.describe("write a webhook endpoint", put).await
    }

    async fn delete_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        expected_version: u32,
        now: Timestamp,
        audited: Audited,
    ) -> Result<bool, LedgerError> {
        let deletion = Deletion {
            id,
            expected_version,
            now,
            audited,
        };
        self.describe("delete a webhook endpoint", deletion).await
    }

    async fn webhook_endpoint(&self, id: WebhookEndpointId) -> Result<Option<Endpoint>, LedgerError> {
        read!(self, "read a webhook endpoint", endpoint(id))
    }

    async fn webhook_endpoints(&self, query: &EndpointQuery) -> Result<Vec<Endpoint>, LedgerError> {
        read!(self, "list webhook endpoints", endpoints(query))
    }

    async fn event_subscribers(&self) -> Result<Subscribers, LedgerError> {
        read!(self, "read who is told of each use and expiry", subscribers())
    }

    async fn webhook_work(&self, now: Timestamp) -> Result<Work, LedgerError> {
        read!(self, "look for webhooks that are due", queue::work(now))
    }

    async fn relay_events(&self, limit: usize, now: Timestamp, due_at: Timestamp) -> Result<Relayed, LedgerError> {
        self.describe("hand on events", Relaying { limit, now, due_at }).await
    }

    async fn claim_deliveries(&self, claiming: Claiming) -> Result<Vec<Claimed>, LedgerError> {
        self.describe("claim webhook deliveries", claiming).await
    }

    async fn finish_deliveries(&self, finished: Vec<Finished>) -> Result<Vec<Noted>, LedgerError> {
        self.describe("note webhook deliveries", Finishing(finished)).await
    }

    async fn deliveries(&self, query: &DeliveryQuery) -> Result<Vec<Delivery>, LedgerError> {
        read!(self, "list webhook deliveries", deliveries(query))
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, LedgerError> {
        read!(self, "read a webhook delivery", delivery(id))
    }

    async fn delivery_attempts(&self, id: DeliveryId) -> Result<Vec<(u32, Attempt)>, LedgerError> {
        read!(self, "read the tries of a webhook delivery", attempts(id))
    }

    async fn log_delivery(&self, delivery: Delivery) -> Result<(), LedgerError> {
        self.describe("log a webhook delivery", Logging(delivery)).await
    }

    async fn redeliver(&self, id: DeliveryId, now: Timestamp, audited: Audited) -> Result<bool, LedgerError> {
        self.describe("deliver a webhook again", Redelivery { id, now, audited }).await
    }

    async fn replay_events(&self, replay: Replay) -> Result<Replayed, LedgerError> {
        self.describe("replay events to a webhook endpoint", replay).await
    }

    async fn queue_state(&self, now: Timestamp) -> Result<QueueState, LedgerError> {
        read!(self, "read how the webhook queue stands", upkeep::state(now))
    }

    async fn give_up_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize, LedgerError> {
        self.describe("give up webhook deliveries", GivingUp { before, limit }).await
    }

    async fn prune_deliveries(&self, before: Timestamp, limit: usize) -> Result<usize, LedgerError> {
        self.describe("prune webhook deliveries", Pruning { before, limit }).await
    }
}

/// An endpoint as it is to be.
struct Putting {
    endpoint: Endpoint,
    /// 0: it is not there.
    expected_version: u32,
    endpoints_max: usize,
    audited: Audited,
}

#[async_trait]
impl Description<Put> for Putting {
    async fn write(&self, connection: &mut Connection) -> Result<(Put, bool), Fault> {
        let put = read::put(connection, &self.endpoint, self.expected_version, self.endpoints_max).await?;
        if put != Put::Done {
            return Ok((put, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        Ok((put, true))
    }
}

struct Deletion {
    id: WebhookEndpointId,
    expected_version: u32,
    now: Timestamp,
    audited: Audited,
}

#[async_trait]
impl Description<bool> for Deletion {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        if !read::delete(connection, self.id, self.expected_version, self.now).await? {
            return Ok((false, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        Ok((true, true))
    }
}

struct Relaying {
    limit: usize,
    now: Timestamp,
    due_at: Timestamp,
}

#[async_trait]
impl Description<Relayed> for Relaying {
    async fn write(&self, connection: &mut Connection) -> Result<(Relayed, bool), Fault> {
        Ok((queue::relay(connection, self.limit, self.now, self.due_at).await?, true))
    }
}

#[async_trait]
impl Description<Vec<Claimed>> for Claiming {
    async fn write(&self, connection: &mut Connection) -> Result<(Vec<Claimed>, bool), Fault> {
        Ok((queue::claim(connection, self).await?, true))
    }
}

struct Finishing(Vec<Finished>);

#[async_trait]
impl Description<Vec<Noted>> for Finishing {
    async fn write(&self, connection: &mut Connection) -> Result<(Vec<Noted>, bool), Fault> {
        Ok((queue::finish(connection, &self.0).await?, true))
    }
}

struct Logging(Delivery);

#[async_trait]
impl Description<()> for Logging {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        read::add(connection, std::slice::from_ref(&self.0)).await?;
        Ok(((), true))
    }
}

struct Redelivery {
    id: DeliveryId,
    now: Timestamp,
    audited: Audited,
}

#[async_trait]
impl Description<bool> for Redelivery {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        let Some(delivery) = read::delivery(connection, self.id).await? else {
            return Ok((false, false));
        };
        if !queue::redeliver(connection, &delivery, self.now).await? {
            return Ok((false, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        Ok((true, true))
    }
}

#[async_trait]
impl Description<Replayed> for Replay {
    async fn write(&self, connection: &mut Connection) -> Result<(Replayed, bool), Fault> {
        let replayed = queue::replay(connection, self).await?;
        audited::write(connection, self.audited.as_slice()).await?;
        Ok((replayed, true))
    }
}

struct Pruning {
    before: Timestamp,
    limit: usize,
}

#[async_trait]
impl Description<usize> for Pruning {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        Ok((upkeep::prune(connection, self.before, self.limit).await?, true))
    }
}

struct GivingUp {
    before: Timestamp,
    limit: usize,
}

#[async_trait]
impl Description<usize> for GivingUp {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        Ok((upkeep::give_up(connection, self.before, self.limit).await?, true))
    }
}
