//! What a billing provider told: each event once, with all that follows from it in one transaction.
//!
//! The promises, which `contract/inbound.rs` checks on each store: an event is handled once, whoever receives it how often and wherever;
//! but one that had no effect for a reason that can be taken away is taken again ([`Outcome::may_come_again`]). What an event does to
//! a subscription and to workspaces was decided on what was known of the customer ([`Received::revision`]); if that has changed, nothing
//! is written. Parts of revenue are told apart by their source, so that the same part told by two events is one; what belongs to no
//! workspace yet is given to one by whoever tells it again, and counts for the oldest one of its customer until then.

use super::LedgerError;
use super::audit::Audited;
use crate::decision::event::Event;
use crate::decision::id::WorkspaceId;
use crate::decision::inbound::{MeterError, Outcome, Progress, ReportState, Revenue, Subscription};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use async_trait::async_trait;

/// The most workspaces that one customer may have.
pub const WORKSPACES_OF_CUSTOMER_MAX: usize = 1_000;

/// The record of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    pub id: String,
    pub kind: String,
    pub created_at: Timestamp,
    pub received_at: Timestamp,
    pub customer: Option<String>,
    pub outcome: Outcome,
}

/// An event and all that follows from it.
#[derive(Clone, Debug)]
pub struct Received {
    pub event: Heard,
    /// Of the customer's subscriptions, as they were when this was decided.
    pub revision: i64,
    pub subscription: Option<Subscription>,
    /// Workspaces as they become, each with the version that it replaces, and with what is told of it.
    pub workspaces: Vec<(Workspace, u32, Audited, Vec<Event>)>,
    /// What was paid, with the workspace whose it is; none: nobody has this customer yet.
    pub revenue: Vec<Revenue>,
    pub revenue_of: Option<WorkspaceId>,
    pub meter_errors: Vec<MeterError>,
    /// Of an event that reports refused usage: what is to be done about it. It is kept with the event, and begins anew when it was given up
    /// and the event comes again.
    pub report: Option<Progress>,
}

/// A step of a report.
#[derive(Clone, Debug)]
pub struct ReportMove {
    /// The state and tries that this was decided on.
    pub from: (ReportState, i64),
    pub to: Progress,
    /// What it says, where that was learned just now.
    pub errors: Vec<MeterError>,
    pub now: Timestamp,
}

/// How many reports wait for something, and how many were given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportCounts {
    pub waiting: i64,
    pub given_up: i64,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receipt {
    Done,
    /// It was handled before.
    Known(Outcome),
    /// What it was decided on has changed, and nothing was written.
    Raced,
}

/// A report of refused usage, with the event that told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportedError {
    pub event: String,
    pub reported_at: Timestamp,
    pub error: MeterError,
}

/// The part of a ledger that hears a billing provider.
#[async_trait]
pub trait InboundLedger: Send + Sync {
    /// What became of an event; `None`: it was never heard of.
    async fn heard(&self, event: &str) -> Result<Option<Heard>, LedgerError>;

    /// A customer's subscriptions, and their revision, which rises with each change of one.
    async fn subscriptions(&self, customer: &str) -> Result<(i64, Vec<Subscription>), LedgerError>;

    /// The workspaces that have this customer, oldest first.
    async fn workspaces_of_customer(&self, customer: &str) -> Result<Vec<Workspace>, LedgerError>;

    async fn receive(&self, received: Received) -> Result<Receipt, LedgerError>;

    /// What was paid for a workspace, or by its customer before it had any if this is its oldest one, for periods that begin from `from` until before `to`.
    async fn revenue(
        &self,
        workspace: &WorkspaceId,
        customer: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Revenue>, LedgerError>;

    /// Deletes at most `limit` events that were received before then, and tells how many. What followed from them stays.
    async fn prune_inbound(&self, before: Timestamp, limit: usize) -> Result<usize, LedgerError>;

    /// Reports of refused usage from `from` on, oldest first, at most `limit`.
    async fn meter_errors(&self, from: Timestamp, limit: usize) -> Result<Vec<ReportedError>, LedgerError>;

    /// What one event reported, in its order.
    async fn reported_by(&self, event: &str) -> Result<Vec<MeterError>, LedgerError>;

    /// Reports about which something is to be done by now, those first that wait longest.
    async fn reports_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Progress>, LedgerError>;

    /// Takes a step of a report. False: somebody else did before, and nothing was written.
    async fn move_report(&self, moved: ReportMove) -> Result<bool, LedgerError>;

    async fn report_counts(&self) -> Result<ReportCounts, LedgerError>;
}

pub(super) const HEARD: &str =
    "SELECT event_id, event_type, created_at, received_at, customer_id, outcome FROM inbound_event WHERE event_id = $1";

pub(super) const HEAR: &str = "INSERT INTO inbound_event (event_id, event_type, created_at, received_at, customer_id, outcome) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (event_id) DO UPDATE SET received_at = excluded.received_at, outcome = excluded.outcome";

pub(super) const PRUNE: &str = "DELETE FROM inbound_event WHERE event_id IN (SELECT event_id FROM inbound_event WHERE received_at < $1 \
     ORDER BY received_at LIMIT $2)";

pub(super) const SUBSCRIPTIONS: &str = "SELECT subscription_id, customer_id, status, items, anchor_day, anchor_at, cycle, started_at, told_at, \
     rank, revision FROM stripe_subscription WHERE customer_id = $1 ORDER BY started_at, subscription_id";

pub(super) const REVISION: &str = "SELECT CAST(COALESCE(SUM(revision), 0) AS BIGINT) FROM stripe_subscription WHERE customer_id = $1";

pub(super) const PUT_SUBSCRIPTION: &str = "INSERT INTO stripe_subscription (subscription_id, customer_id, status, items, anchor_day, anchor_at, \
     started_at, told_at, rank, cycle, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1) ON CONFLICT (subscription_id) DO UPDATE SET \
     customer_id = excluded.customer_id, status = excluded.status, items = excluded.items, anchor_day = excluded.anchor_day, \
     anchor_at = excluded.anchor_at, started_at = excluded.started_at, told_at = excluded.told_at, rank = excluded.rank, \
     cycle = excluded.cycle, revision = stripe_subscription.revision + 1";

pub(super) const ADD_REVENUE: &str = "INSERT INTO revenue (source_id, document_id, customer_id, workspace_id, amount, currency, usd, \
     period_start, period_end, paid_at, event_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (source_id) DO UPDATE \
     SET workspace_id = excluded.workspace_id WHERE revenue.workspace_id IS NULL AND excluded.workspace_id IS NOT NULL";

/// Of workspace `$1`, and of customer `$2` what belongs to no workspace, if it is the customer's oldest one, from `$3` until before `$4`.
pub(super) const REVENUE: &str = "SELECT source_id, document_id, amount, currency, period_start, period_end, paid_at FROM revenue \
     WHERE (workspace_id = $1 OR (workspace_id IS NULL AND customer_id = $2 AND $1 = (SELECT workspace.workspace_id \
     FROM workspace WHERE workspace.stripe_customer_id = $2 ORDER BY workspace.created_at, workspace.workspace_id LIMIT 1))) AND period_start >= $3 AND period_start < $4 \
     ORDER BY period_start, source_id";

pub(super) const ADD_METER_ERROR: &str = "INSERT INTO meter_error (event_id, place, reported_at, meter, identifier, code, message) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (event_id, place) DO NOTHING";

const PROGRESS: &str = "SELECT event_id, event_type, meter, received_at, state, tries, next_try_at, validated_from, validated_until, \
     error_count, reason FROM meter_report";

pub(super) fn reports_due() -> String {
    format!("{PROGRESS} WHERE next_try_at <= $1 ORDER BY next_try_at, event_id LIMIT $2")
}

/// One that was given up is as it was heard now, but for what it was known to say.
pub(super) const KEEP_REPORT: &str = "INSERT INTO meter_report (event_id, event_type, meter, received_at, state, tries, next_try_at, \
     validated_from, validated_until, error_count, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (event_id) DO UPDATE SET received_at = excluded.received_at, tries = excluded.tries, next_try_at = excluded.next_try_at, \
     reason = NULL, state = CASE WHEN meter_report.error_count IS NULL THEN excluded.state ELSE 'check' END, \
     validated_from = COALESCE(meter_report.validated_from, excluded.validated_from), \
     validated_until = COALESCE(meter_report.validated_until, excluded.validated_until), \
     error_count = COALESCE(meter_report.error_count, excluded.error_count) WHERE meter_report.state = 'given_up'";

pub(super) const MOVE_REPORT: &str = "UPDATE meter_report SET meter = $4, state = $5, tries = $6, next_try_at = $7, validated_from = $8, \
     validated_until = $9, error_count = $10, reason = $11 WHERE event_id = $1 AND state = $2 AND tries = $3";

pub(super) const REPORT_COUNTS: &str = "SELECT CAST(COALESCE(SUM(CASE WHEN next_try_at IS NULL THEN 0 ELSE 1 END), 0) AS BIGINT), \
     CAST(COALESCE(SUM(CASE WHEN state = 'given_up' THEN 1 ELSE 0 END), 0) AS BIGINT) FROM meter_report WHERE state <> 'done'";

/// Reports that nobody works on any more are forgotten with their events.
pub(super) const PRUNE_REPORTS: &str = "DELETE FROM meter_report WHERE event_id IN (SELECT event_id FROM meter_report \
     WHERE next_try_at IS NULL AND received_at < $1 ORDER BY received_at LIMIT $2)";

pub(super) const REPORTED_BY: &str = "SELECT event_id, reported_at, meter, identifier, code, message FROM meter_error \
     WHERE event_id = $1 ORDER BY place";

pub(super) const METER_ERRORS: &str = "SELECT event_id, reported_at, meter, identifier, code, message FROM meter_error \
     WHERE reported_at >= $1 ORDER BY reported_at, event_id, place LIMIT $2";
