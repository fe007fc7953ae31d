//! Fair use in PostgreSQL.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, PostgresLedger, audited, eventing, fair_using, follow};
use crate::decision::amount::Amounts;
use crate::decision::anomaly::Action;
use crate::decision::counter::Whose;
use crate::decision::event::Event;
use crate::decision::id::{FairUseId, PlanId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::audit::Audited;
use crate::ledger::fair_use::{ActionQuery, FairUseLedger, Used};
use async_trait::async_trait;

struct Adding(Vec<Used>);

#[async_trait]
impl Description<()> for Adding {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        fair_using::add(connection, &self.0).await?;
        Ok(((), true))
    }
}

struct Beginning {
    action: Action,
    audited: Audited,
    event: Event,
}

#[async_trait]
impl Description<bool> for Beginning {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        if !fair_using::begin(connection, &self.action).await? {
            return Ok((false, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        eventing::add(connection, std::slice::from_ref(&self.event)).await?;
        follow::tell(connection).await?;
        Ok((true, true))
    }
}

struct Ending {
    id: FairUseId,
    now: Timestamp,
    audited: Audited,
}

#[async_trait]
impl Description<bool> for Ending {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        if !fair_using::end(connection, self.id, self.now).await? {
            return Ok((false, false));
        }
        audited::write(connection, std::slice::from_ref(&self.audited)).await?;
        follow::tell(connection).await?;
        Ok((true, true))
    }
}

struct Pruning {
    minutes_before: Timestamp,
    hours_before: Timestamp,
    limit: usize,
}

#[async_trait]
impl Description<usize> for Pruning {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let deleted = fair_using::prune(connection, self.minutes_before, self.hours_before, self.limit).await?;
        Ok((deleted, true))
    }
}

#[async_trait]
impl FairUseLedger for PostgresLedger {
    async fn add_usage(&self, used: Vec<Used>) -> Result<(), LedgerError> {
        if used.is_empty() {
            return Ok(());
        }
        self.describe("add up usage", Adding(used)).await
    }

    async fn usage_since(
        &self,
        of_users: bool,
        from: Timestamp,
        least: Amounts,
        after: Option<&(WorkspaceId, Whose)>,
        limit: usize,
    ) -> Result<Vec<Used>, LedgerError> {
        read!(self, "read who used much", fair_using::since(of_users, from, least, after, limit))
    }

    async fn usage_of(
        &self,
        workspace: &WorkspaceId,
        whose: &Whose,
        width_seconds: i64,
        from: Timestamp,
    ) -> Result<Vec<Used>, LedgerError> {
        read!(self, "read what is usual", fair_using::of(workspace, whose, width_seconds, from))
    }

    async fn usage_of_plan(&self, plan: &PlanId, of_users: bool, hour: Timestamp, limit: usize) -> Result<Vec<Amounts>, LedgerError> {
        read!(
            self,
            "read what is usual on a plan",
            fair_using::of_plan(plan, of_users, hour, limit)
        )
    }

    async fn prune_usage(&self, minutes_before: Timestamp, hours_before: Timestamp, limit: usize) -> Result<usize, LedgerError> {
        let pruning = Pruning {
            minutes_before,
            hours_before,
            limit,
        };
        self.describe("delete old usage", pruning).await
    }

    async fn begin_action(&self, action: &Action, audited: Audited, event: Event) -> Result<bool, LedgerError> {
        let action = action.clone();
        self.describe("begin a fair-use action", Beginning { action, audited, event }).await
    }

    async fn end_action(&self, id: FairUseId, now: Timestamp, audited: Audited) -> Result<bool, LedgerError> {
        self.describe("end a fair-use action", Ending { id, now, audited }).await
    }

    async fn action(&self, id: FairUseId) -> Result<Option<Action>, LedgerError> {
        read!(self, "read a fair-use action", fair_using::action(id))
    }

    async fn actions(&self, query: &ActionQuery) -> Result<Vec<Action>, LedgerError> {
        read!(self, "list fair-use actions", fair_using::list(query))
    }

    async fn last_end(&self, action: &Action) -> Result<Option<Timestamp>, LedgerError> {
        read!(self, "read when a fair-use action ended", fair_using::last_end(action))
    }
}
