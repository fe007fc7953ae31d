//! The decision log in PostgreSQL: many rows in one statement, as arrays.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, PostgresLedger};
use crate::decision::id::{DecisionId, ReservationId};
use crate::ledger::LedgerError;
use crate::ledger::decisions::{
    DECISION, DECISION_OF, DECISIONS_TOO_MANY, DecisionLedger, DecisionRow, LoggedDecision, PRUNE_DECISIONS, Pruning, count, verdict,
};
use async_trait::async_trait;

/// The columns as arrays. In the order of their ids, so that two nodes which write the same ones do not cross.
const LOG_DECISIONS: &str = "INSERT INTO decision (decision_id, reservation_id, workspace_id, decided_at, verdict, facts) \
     SELECT * FROM unnest($1, $2, $3, $4, $5, $6) AS new (decision, reservation, workspace, at, verdict, facts) ORDER BY decision \
     ON CONFLICT (decision_id) DO NOTHING";

#[async_trait]
impl DecisionLedger for PostgresLedger {
    async fn log_decisions(&self, rows: Vec<LoggedDecision>) -> Result<(), LedgerError> {
        self.describe("log decisions", Logging(rows)).await
    }

    async fn decision(&self, id: DecisionId) -> Result<Option<LoggedDecision>, LedgerError> {
        let found = async { self.one(DECISION, id.to_string()).await };
        self.told("read a decision", found.await)
    }

    async fn decision_of(&self, reservation: ReservationId) -> Result<Option<LoggedDecision>, LedgerError> {
        let found = async { self.one(DECISION_OF, reservation.to_string()).await };
        self.told("read the decision of a reservation", found.await)
    }

    async fn prune_decisions(&self, pruning: Pruning) -> Result<usize, LedgerError> {
        self.describe("prune decisions", pruning).await
    }
}

impl PostgresLedger {
    async fn one(&self, statement: &'static str, id: String) -> Result<Option<LoggedDecision>, Fault> {
        let mut connection = self.reader().await?;
        let reading = async {
            let row: Option<DecisionRow> = sqlx::query_as(statement).bind(id).fetch_optional(&mut *connection).await?;
            Ok(row.map(LoggedDecision::try_from).transpose()?)
        };
        let result = self.server.answer(reading).await;
        if matches!(result, Err(Fault::Silent)) {
            drop(connection.detach());
        }
        result
    }
}

struct Logging(Vec<LoggedDecision>);

#[async_trait]
impl Description<()> for Logging {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        let rows = &self.0;
        let ids: Vec<String> = rows.iter().map(|row| row.decision.to_string()).collect();
        let reservations: Vec<Option<String>> = rows.iter().map(|row| row.reservation.map(|id| id.to_string())).collect();
        let workspaces: Vec<&str> = rows.iter().map(|row| row.workspace.as_str()).collect();
        let moments: Vec<i64> = rows.iter().map(|row| row.decided_at.micros()).collect();
        let verdicts: Vec<&str> = rows.iter().map(|row| verdict(row.is_denial)).collect();
        let facts: Vec<&[u8]> = rows.iter().map(|row| row.facts.as_slice()).collect();
        let statement = sqlx::query(LOG_DECISIONS).bind(ids).bind(reservations).bind(workspaces);
        statement.bind(moments).bind(verdicts).bind(facts).execute(connection).await?;
        Ok(((), true))
    }
}

#[async_trait]
impl Description<usize> for Pruning {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let word = verdict(self.is_denial);
        let too_many: Option<i64> = sqlx::query_scalar(DECISIONS_TOO_MANY)
            .bind(word)
            .bind(count(self.rows_max))
            .fetch_optional(&mut *connection)
            .await?;
        let statement = sqlx::query(PRUNE_DECISIONS).bind(word).bind(self.until(too_many));
        let deleted = statement.bind(count(self.limit)).execute(connection).await?.rows_affected();
        Ok((usize::try_from(deleted).unwrap_or(usize::MAX), true))
    }
}
