//! The decision log in SQLite: written by the one writer among its other work, in statements of many rows.

use super::describe::Description;
use super::fault::Fault;
use super::statement::write_each;
use super::{Connection, SqliteLedger, sql};
use crate::decision::id::{DecisionId, ReservationId};
use crate::ledger::LedgerError;
use crate::ledger::decisions::{
    DECISION, DECISION_OF, DECISIONS_TOO_MANY, DecisionLedger, DecisionRow, LoggedDecision, PRUNE_DECISIONS, Pruning, count, verdict,
};
use crate::ledger::record::DecisionRecord;
use async_trait::async_trait;

#[async_trait]
impl DecisionLedger for SqliteLedger {
    async fn log_decisions(&self, rows: Vec<LoggedDecision>) -> Result<(), LedgerError> {
        self.describe("log decisions", Logging(rows)).await
    }

    async fn decision(&self, id: DecisionId) -> Result<Option<LoggedDecision>, LedgerError> {
        let found = async { one(&mut *self.reader().await?, DECISION, id.to_string()).await };
        self.told("read a decision", found.await)
    }

    async fn decision_of(&self, reservation: ReservationId) -> Result<Option<LoggedDecision>, LedgerError> {
        let found = async { one(&mut *self.reader().await?, DECISION_OF, reservation.to_string()).await };
        self.told("read the decision of a reservation", found.await)
    }

    async fn prune_decisions(&self, pruning: Pruning) -> Result<usize, LedgerError> {
        self.describe("prune decisions", pruning).await
    }
}

async fn one(connection: &mut Connection, statement: &'static str, id: String) -> Result<Option<LoggedDecision>, Fault> {
    let row: Option<DecisionRow> = sqlx::query_as(statement).bind(id).fetch_optional(connection).await?;
    Ok(row.map(LoggedDecision::try_from).transpose()?)
}

struct Logging(Vec<LoggedDecision>);

#[async_trait]
impl Description<()> for Logging {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        write_each(connection, sql::log_decisions, self.0.iter().map(DecisionRecord::from).collect()).await?;
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
