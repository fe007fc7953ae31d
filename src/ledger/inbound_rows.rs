//! What a billing provider told, over a connection.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are. Whoever writes here is alone with it: SQLite has one writer, and
//! on Postgres a lock is taken first.

use super::Connection;
use super::describe::{Description, WorkspacePut};
use super::fault::Fault;
use crate::decision::id::WorkspaceId;
use crate::decision::inbound::{MeterError, Progress, Revenue, Subscription};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::inbound::{self as sql, Heard, Receipt, Received, ReportCounts, ReportMove, ReportedError, WORKSPACES_OF_CUSTOMER_MAX};
use crate::ledger::record::{HeardRow, MeterErrorRow, ProgressRow, RevenueRow, SubscriptionRow, WorkspaceRecord, json};
use crate::ledger::sql as shared;
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

pub(super) async fn heard(connection: &mut Connection, event: &str) -> Result<Option<Heard>, Fault> {
    let row = sqlx::query_as::<_, HeardRow>(sql::HEARD)
        .bind(event)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(HeardRow::read).transpose()?)
}

pub(super) async fn subscriptions(connection: &mut Connection, customer: &str) -> Result<(i64, Vec<Subscription>), Fault> {
    let statement = sqlx::query_as::<_, SubscriptionRow>(sql::SUBSCRIPTIONS).bind(customer);
    let rows = statement.fetch_all(connection).await?;
    let revision = rows.iter().map(|row| row.revision).sum();
    let read: Result<_, Fault> = rows.into_iter().map(|row| Ok(row.read()?)).collect();
    Ok((revision, read?))
}

pub(super) async fn workspaces_of_customer(connection: &mut Connection, customer: &str) -> Result<Vec<Workspace>, Fault> {
    let text = format!(
        "{} FROM workspace WHERE stripe_customer_id = $1 ORDER BY created_at, workspace_id LIMIT $2",
        shared::workspace!()
    );
    let statement = sqlx::query_as::<_, WorkspaceRecord>(AssertSqlSafe(text)).bind(customer);
    let limit = i64::try_from(WORKSPACES_OF_CUSTOMER_MAX).unwrap_or(i64::MAX);
    let rows = statement.bind(limit).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Workspace::try_from(row)?)).collect()
}

/// Writes an event and what follows from it. False beside the answer: it is all taken back.
pub(super) async fn receive(connection: &mut Connection, received: &Received) -> Result<(Receipt, bool), Fault> {
    let event = &received.event;
    if let Some(known) = heard(connection, &event.id).await?
        && !known.outcome.may_come_again()
    {
        // A report that was given up begins anew.
        let is_report = received.report.is_some();
        keep_report(connection, received).await?;
        return Ok((Receipt::Known(known.outcome), is_report));
    }
    if let Some(customer) = &event.customer {
        let revision: i64 = sqlx::query_scalar(sql::REVISION).bind(customer).fetch_one(&mut *connection).await?;
        if revision != received.revision {
            return Ok((Receipt::Raced, false));
        }
    }
    let hear = sqlx::query(sql::HEAR)
        .bind(&event.id)
        .bind(&event.kind)
        .bind(event.created_at.micros());
    let hear = hear
        .bind(event.received_at.micros())
        .bind(&event.customer)
        .bind(event.outcome.as_str());
    hear.execute(&mut *connection).await?;
    if let Some(subscription) = &received.subscription {
        put_subscription(connection, subscription).await?;
    }
    for (workspace, expected_version, audited, events) in &received.workspaces {
        let put = WorkspacePut {
            workspace: workspace.clone(),
            expected_version: *expected_version,
            audited: audited.clone(),
            events: events.clone(),
        };
        if !put.write(connection).await?.0 {
            return Ok((Receipt::Raced, false));
        }
    }
    add_revenue(connection, received).await?;
    add_errors(connection, &event.id, event.received_at, &received.meter_errors).await?;
    keep_report(connection, received).await?;
    Ok((Receipt::Done, true))
}

async fn add_errors(connection: &mut Connection, event: &str, now: Timestamp, errors: &[MeterError]) -> Result<(), Fault> {
    for (place, error) in (0i64..).zip(errors) {
        let add = sqlx::query(sql::ADD_METER_ERROR).bind(event).bind(place).bind(now.micros());
        let add = add
            .bind(&error.meter)
            .bind(&error.identifier)
            .bind(&error.code)
            .bind(&error.message);
        add.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn keep_report(connection: &mut Connection, received: &Received) -> Result<(), Fault> {
    let Some(report) = &received.report else { return Ok(()) };
    let keep = sqlx::query(sql::KEEP_REPORT)
        .bind(&report.event)
        .bind(&report.kind)
        .bind(&report.meter);
    let keep = keep
        .bind(report.received_at.micros())
        .bind(report.state.as_str())
        .bind(report.tries);
    let keep = keep.bind(report.next_try_at.map(Timestamp::micros));
    let keep = keep
        .bind(report.validated.map(|validated| validated.start.micros()))
        .bind(report.validated.map(|validated| validated.end.micros()));
    keep.bind(report.error_count).bind(&report.reason).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Description<bool> for ReportMove {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        let ((state, tries), to) = (self.from, &self.to);
        let moved = sqlx::query(sql::MOVE_REPORT).bind(&to.event).bind(state.as_str()).bind(tries);
        let moved = moved.bind(&to.meter).bind(to.state.as_str()).bind(to.tries);
        let moved = moved.bind(to.next_try_at.map(Timestamp::micros));
        let moved = moved
            .bind(to.validated.map(|validated| validated.start.micros()))
            .bind(to.validated.map(|validated| validated.end.micros()));
        let moved = moved.bind(to.error_count).bind(&to.reason);
        if moved.execute(&mut *connection).await?.rows_affected() == 0 {
            return Ok((false, false));
        }
        add_errors(connection, &to.event, self.now, &self.errors).await?;
        Ok((true, true))
    }
}

pub(super) async fn reports_due(connection: &mut Connection, now: Timestamp, limit: usize) -> Result<Vec<Progress>, Fault> {
    let statement = sqlx::query_as::<_, ProgressRow>(AssertSqlSafe(sql::reports_due())).bind(now.micros());
    let rows = statement
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|row| Ok(row.read()?)).collect()
}

pub(super) async fn report_counts(connection: &mut Connection) -> Result<ReportCounts, Fault> {
    let (waiting, given_up) = sqlx::query_as(sql::REPORT_COUNTS).fetch_one(connection).await?;
    Ok(ReportCounts { waiting, given_up })
}

pub(super) async fn reported_by(connection: &mut Connection, event: &str) -> Result<Vec<MeterError>, Fault> {
    let statement = sqlx::query_as::<_, MeterErrorRow>(sql::REPORTED_BY).bind(event);
    let rows = statement.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| row.read().error).collect())
}

/// Events that are too old to be told again.
pub(super) struct PruningInbound {
    pub(super) before: Timestamp,
    pub(super) limit: usize,
}

#[async_trait]
impl Description<usize> for PruningInbound {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let statement = sqlx::query(sql::PRUNE)
            .bind(self.before.micros())
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX));
        let done = statement.execute(&mut *connection).await?;
        let reports = sqlx::query(sql::PRUNE_REPORTS)
            .bind(self.before.micros())
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX));
        reports.execute(connection).await?;
        Ok((usize::try_from(done.rows_affected()).unwrap_or(usize::MAX), true))
    }
}

async fn put_subscription(connection: &mut Connection, subscription: &Subscription) -> Result<(), Fault> {
    let put = sqlx::query(sql::PUT_SUBSCRIPTION)
        .bind(&subscription.id)
        .bind(&subscription.customer);
    let put = put.bind(&subscription.status).bind(json(&subscription.items));
    let put = put
        .bind(subscription.anchor_day.map(i64::from))
        .bind(subscription.anchor_at.map(Timestamp::micros));
    let put = put
        .bind(subscription.started_at.micros())
        .bind(subscription.told_at.micros())
        .bind(subscription.rank)
        .bind(json(&subscription.cycle));
    put.execute(connection).await?;
    Ok(())
}

async fn add_revenue(connection: &mut Connection, received: &Received) -> Result<(), Fault> {
    let Some(customer) = &received.event.customer else { return Ok(()) };
    for part in &received.revenue {
        let add = sqlx::query(sql::ADD_REVENUE).bind(&part.source).bind(&part.document).bind(customer);
        let add = add
            .bind(received.revenue_of.as_ref().map(WorkspaceId::as_str))
            .bind(part.amount)
            .bind(&part.currency);
        let add = add.bind(part.usd().map(|usd| usd.nanos()));
        let add = add
            .bind(part.period.start.micros())
            .bind(part.period.end.micros())
            .bind(part.paid_at.micros());
        add.bind(&received.event.id).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn revenue(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    customer: Option<&str>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Revenue>, Fault> {
    let statement = sqlx::query_as::<_, RevenueRow>(sql::REVENUE)
        .bind(workspace.as_str())
        .bind(customer);
    let rows = statement.bind(from.micros()).bind(to.micros()).fetch_all(connection).await?;
    Ok(rows.into_iter().map(RevenueRow::read).collect())
}

pub(super) async fn meter_errors(connection: &mut Connection, from: Timestamp, limit: usize) -> Result<Vec<ReportedError>, Fault> {
    let statement = sqlx::query_as::<_, MeterErrorRow>(sql::METER_ERRORS).bind(from.micros());
    let rows = statement
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(MeterErrorRow::read).collect())
}
