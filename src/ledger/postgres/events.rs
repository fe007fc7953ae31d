//! Events in PostgreSQL: any number of nodes may take what waits, each of them others.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, PostgresLedger, daily_read, eventing};
use crate::decision::event::Event;
use crate::decision::id::{EventId, GrantId, WorkspaceId};
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::daily::{Daily, DailyLedger};
use crate::ledger::events::{EventLedger, EventQuery};
use async_trait::async_trait;

#[async_trait]
impl EventLedger for PostgresLedger {
    async fn append_events(&self, events: Vec<Event>) -> Result<Vec<EventId>, LedgerError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.describe("write events", Appending(events)).await
    }

    async fn events_waiting(&self, limit: usize) -> Result<Vec<Event>, LedgerError> {
        read!(self, "read which events wait", eventing::waiting(limit))
    }

    async fn events_relayed(&self, events: &[EventId], at: Timestamp) -> Result<(), LedgerError> {
        self.describe("write that events were handed on", Relaying(events.to_vec(), at))
            .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, LedgerError> {
        read!(self, "list events", eventing::list(query))
    }

    async fn events_after(&self, workspace: &WorkspaceId, number: i64, limit: usize) -> Result<Vec<(i64, Event)>, LedgerError> {
        read!(self, "read the next events", eventing::after(workspace, number, limit))
    }

    async fn event_number(&self, workspace: &WorkspaceId, event: EventId) -> Result<Option<i64>, LedgerError> {
        read!(self, "look up an event", eventing::number(workspace, event))
    }

    async fn newest_events(&self, workspaces: &[WorkspaceId]) -> Result<Vec<(WorkspaceId, i64)>, LedgerError> {
        read!(self, "look for new events", eventing::newest(workspaces))
    }

    async fn renewals_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Event>, LedgerError> {
        read!(self, "read which budgets renewed", eventing::renewals_due(now, limit))
    }

    async fn crossings_open(
        &self,
        workspace: Option<&WorkspaceId>,
        now: Timestamp,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, LedgerError> {
        read!(
            self,
            "read which budgets are at their limit",
            eventing::crossings_open(workspace, now, after, limit)
        )
    }

    async fn renew_budgets(&self, events: Vec<Event>, ended: Vec<EventId>) -> Result<Vec<EventId>, LedgerError> {
        self.describe("write that budgets renewed", Renewing(events, ended)).await
    }

    async fn grants_expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        after: Option<(Timestamp, GrantId)>,
        limit: usize,
    ) -> Result<Vec<(WorkspaceId, GrantId, Timestamp)>, LedgerError> {
        read!(
            self,
            "read which grants end soon",
            eventing::grants_expiring(now, until, after, limit)
        )
    }

    async fn prune_events(&self, now: Timestamp, before: Timestamp, limit: usize) -> Result<usize, LedgerError> {
        self.describe("prune events", Pruning { now, before, limit }).await
    }
}

#[async_trait]
impl DailyLedger for PostgresLedger {
    async fn daily(&self, workspace: &WorkspaceId, periods: &[Period]) -> Result<Vec<Daily>, LedgerError> {
        read!(self, "add up what was used", daily_read::daily(workspace, periods))
    }
}

struct Appending(Vec<Event>);

#[async_trait]
impl Description<Vec<EventId>> for Appending {
    async fn write(&self, connection: &mut Connection) -> Result<(Vec<EventId>, bool), Fault> {
        Ok((eventing::add(connection, &self.0).await?, true))
    }
}

struct Relaying(Vec<EventId>, Timestamp);

#[async_trait]
impl Description<()> for Relaying {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        eventing::relayed(connection, &self.0, self.1).await?;
        Ok(((), true))
    }
}

struct Renewing(Vec<Event>, Vec<EventId>);

#[async_trait]
impl Description<Vec<EventId>> for Renewing {
    async fn write(&self, connection: &mut Connection) -> Result<(Vec<EventId>, bool), Fault> {
        Ok((eventing::renew(connection, &self.0, &self.1).await?, true))
    }
}

struct Pruning {
    now: Timestamp,
    before: Timestamp,
    limit: usize,
}

#[async_trait]
impl Description<usize> for Pruning {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        Ok((eventing::prune(connection, self.now, self.before, self.limit).await?, true))
    }
}
