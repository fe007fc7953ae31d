//! What invoices are made of, and what a billing provider told, as the traits ask for it.

use super::describe::Description;
use super::fault::Fault;
use super::inbound_rows::PruningInbound;
use super::{Connection, PostgresLedger, inbound_rows, invoice_read, sql};
use crate::decision::id::WorkspaceId;
use crate::decision::inbound::{MeterError, Progress, Revenue, Subscription};
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::LedgerError;
use crate::ledger::inbound::{Heard, InboundLedger, Receipt, Received, ReportCounts, ReportMove, ReportedError};
use crate::ledger::invoices::{GrantPaid, InvoiceLedger, Passed, PassedQuery, Used};
use async_trait::async_trait;

#[async_trait]
impl Description<Receipt> for Received {
    async fn write(&self, connection: &mut Connection) -> Result<(Receipt, bool), Fault> {
        sqlx::query(sql::LOCK_INBOUND).execute(&mut *connection).await?;
        inbound_rows::receive(connection, self).await
    }
}

#[async_trait]
impl InvoiceLedger for PostgresLedger {
    async fn used(&self, workspace: &WorkspaceId, period: Period) -> Result<Vec<Used>, LedgerError> {
        read!(self, "add up what was used", invoice_read::used(workspace, period))
    }

    async fn passed(&self, query: &PassedQuery) -> Result<Vec<Passed>, LedgerError> {
        read!(self, "read what passed a limit", invoice_read::passed(query))
    }

    async fn paid_by_grants(&self, workspace: &WorkspaceId, period: Period) -> Result<Vec<GrantPaid>, LedgerError> {
        read!(self, "read what grants paid", invoice_read::paid_by_grants(workspace, period))
    }
}

#[async_trait]
impl InboundLedger for PostgresLedger {
    async fn heard(&self, event: &str) -> Result<Option<Heard>, LedgerError> {
        read!(self, "read an event", inbound_rows::heard(event))
    }

    async fn subscriptions(&self, customer: &str) -> Result<(i64, Vec<Subscription>), LedgerError> {
        read!(self, "read a customer's subscriptions", inbound_rows::subscriptions(customer))
    }

    async fn workspaces_of_customer(&self, customer: &str) -> Result<Vec<Workspace>, LedgerError> {
        read!(
            self,
            "look for a customer's workspaces",
            inbound_rows::workspaces_of_customer(customer)
        )
    }

    async fn receive(&self, received: Received) -> Result<Receipt, LedgerError> {
        self.describe("write what an event changes", received).await
    }

    async fn revenue(
        &self,
        workspace: &WorkspaceId,
        customer: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Revenue>, LedgerError> {
        read!(self, "read what was paid", inbound_rows::revenue(workspace, customer, from, to))
    }

    async fn prune_inbound(&self, before: Timestamp, limit: usize) -> Result<usize, LedgerError> {
        self.describe("prune what a provider told", PruningInbound { before, limit }).await
    }

    async fn meter_errors(&self, from: Timestamp, limit: usize) -> Result<Vec<ReportedError>, LedgerError> {
        read!(self, "read reports of refused usage", inbound_rows::meter_errors(from, limit))
    }

    async fn reported_by(&self, event: &str) -> Result<Vec<MeterError>, LedgerError> {
        read!(self, "read what an event reported", inbound_rows::reported_by(event))
    }

    async fn reports_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Progress>, LedgerError> {
        read!(self, "look for reports that wait", inbound_rows::reports_due(now, limit))
    }

    async fn move_report(&self, moved: ReportMove) -> Result<bool, LedgerError> {
        self.describe("note what became of a report", moved).await
    }

    async fn report_counts(&self) -> Result<ReportCounts, LedgerError> {
        read!(self, "count reports", inbound_rows::report_counts())
    }
}
