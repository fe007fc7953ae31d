//! Events' part of a ledger: what must be told, from the transaction of what happened until it has been handed to those who deliver it.
//!
//! An event is written once: of two of one workspace whose `once` is the same the second is not, whoever writes it and when. Those who deliver
//! take events by membership, the ones that are not relayed yet, so one whose commit came late is not passed over. Those who follow one
//! workspace go by numbers, which are given behind the workspace's lock: an event with a lower number is never seen later.

use super::LedgerError;
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::{EventId, GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// `None`: of all workspaces, and of none.
    pub workspace: Option<WorkspaceId>,
    /// `None`: for whomever.
    pub audience: Option<Audience>,
    /// Empty: all.
    pub kinds: Vec<EventType>,
    /// By when they were recorded.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// After this event, in the order of the list.
    pub after: Option<(Timestamp, EventId)>,
    pub is_oldest_first: bool,
    pub limit: usize,
}

/// A ledger that keeps events until they are told.
#[async_trait]
pub trait EventLedger: Send + Sync {
    /// Writes events that are all that happens. Returns those of them that had not happened before. Where something else is written too, its
    /// own transaction writes them.
    async fn append_events(&self, events: Vec<Event>) -> Result<Vec<EventId>, LedgerError>;

    /// At most `limit` events that are not relayed yet, oldest first.
    async fn events_waiting(&self, limit: usize) -> Result<Vec<Event>, LedgerError>;

    /// These have been handed on.
    async fn events_relayed(&self, events: &[EventId], at: Timestamp) -> Result<(), LedgerError>;

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, LedgerError>;

    /// At most `limit` events of a workspace with a higher number, each with its number, in that order.
    async fn events_after(&self, workspace: &WorkspaceId, number: i64, limit: usize) -> Result<Vec<(i64, Event)>, LedgerError>;

    /// The number of an event of a workspace; `None`: it has none of that id, or not any more.
    async fn event_number(&self, workspace: &WorkspaceId, event: EventId) -> Result<Option<i64>, LedgerError>;

    /// The number of the newest event of each of these workspaces, of those that are there.
    async fn newest_events(&self, workspaces: &[WorkspaceId]) -> Result<Vec<(WorkspaceId, i64)>, LedgerError>;

    /// At most `limit` events of budgets at their limit whose period has ended at `now`, and of which that was not told.
    async fn renewals_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Event>, LedgerError>;

    /// At most `limit` events of budgets at their limit in periods that have not ended at `now`, in the order of their ids after `after`; of
    /// one workspace, or of all.
    async fn crossings_open(
        &self,
        workspace: Option<&WorkspaceId>,
        now: Timestamp,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Event>, LedgerError>;

    /// Writes events that tell how others ended, which are not due for it any more. Returns the new ones.
    async fn renew_budgets(&self, events: Vec<Event>, ended: Vec<EventId>) -> Result<Vec<EventId>, LedgerError>;

    /// At most `limit` grants that expire after `now` and not later than `until`, soonest first, after the place of the page before.
    async fn grants_expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        after: Option<(Timestamp, GrantId)>,
        limit: usize,
    ) -> Result<Vec<(WorkspaceId, GrantId, Timestamp)>, LedgerError>;

    /// Deletes at most `limit` events that need not be kept at `now` and have been relayed, or have waited for that in vain since `before`, and
    /// says how many; fewer than the limit: that was all.
    async fn prune_events(&self, now: Timestamp, before: Timestamp, limit: usize) -> Result<usize, LedgerError>;
}

// Text of statements.

macro_rules! event {
    () => {
        "SELECT event_id, workspace_id, number, type, audience, once, occurred_at, recorded_at, body, renews_at, kept_until, relayed_at \
         FROM event "
    };
}

/// `$1` limit. Whoever takes them inside of a transaction to hand them on says besides which, and how racing takers share.
macro_rules! events_waiting {
    ($which:literal, $more:literal) => {
        concat!(
            $crate::ledger::events::event!(),
            "WHERE relayed_at IS NULL ",
            $which,
            "ORDER BY recorded_at, event_id LIMIT $1",
            $more
        )
    };
}

/// `$1` place in the order of the list: (`$1`, `$2`), `$3` from, `$4` to, `$5` limit, then the workspace and the audience as far as they are
/// named. Types are words of our own.
pub(super) fn list(query: &EventQuery) -> String {
    let named = [("workspace_id", query.workspace.is_some()), ("audience", query.audience.is_some())];
    let named = named.iter().filter(|(_, is_named)| *is_named).zip(6..);
    let mut conditions: String = named.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    if !query.kinds.is_empty() {
        let words: Vec<String> = query.kinds.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
        conditions.push_str(&format!("AND type IN ({}) ", words.join(", ")));
    }
    let (beyond, order) = if query.is_oldest_first { (">", "ASC") } else { ("<", "DESC") };
    format!(
        "{} WHERE (recorded_at, event_id) {beyond} ($1, $2) AND recorded_at >= $3 AND recorded_at < $4 {conditions}\
         ORDER BY recorded_at {order}, event_id {order} LIMIT $5",
        event!(),
    )
}

/// Takes `$2` numbers for events of workspace `$1`, behind the lock of its row.
pub(super) const TAKE_NUMBERS: &str =
    "UPDATE workspace SET event_number = event_number + $2 WHERE workspace_id = $1 RETURNING event_number";

/// Unless it has happened already.
pub(super) const ADD_EVENT: &str = "INSERT INTO event (event_id, workspace_id, number, type, audience, once, occurred_at, recorded_at, body, \
     renews_at, kept_until, relayed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (workspace_id, once) DO NOTHING";

/// What happened in workspace `$1` of all that begins as `$2` does and ends before `$3`.
pub(super) const HAPPENED: &str = "SELECT once FROM event WHERE workspace_id = $1 AND once >= $2 AND once < $3";

pub(super) const RELAYED: &str = "UPDATE event SET relayed_at = $2 WHERE event_id = $1 AND relayed_at IS NULL";

/// Of workspace `$1` after number `$2`; `$3` limit.
pub(super) const EVENTS_AFTER: &str = concat!(event!(), "WHERE workspace_id = $1 AND number > $2 ORDER BY number LIMIT $3");

pub(super) const EVENT_NUMBER: &str = "SELECT number FROM event WHERE workspace_id = $1 AND event_id = $2";

pub(super) const NEWEST_EVENT: &str = "SELECT event_number FROM workspace WHERE workspace_id = $1";

/// At `$1`; `$2` limit.
pub(super) const RENEWALS_DUE: &str = concat!(
    event!(),
    "WHERE renews_at IS NOT NULL AND renews_at <= $1 ORDER BY renews_at, event_id LIMIT $2"
);

/// Not ended at `$1`, after event `$2`; `$3` limit.
pub(super) const CROSSINGS_OPEN: &str = concat!(
    event!(),
    "WHERE renews_at IS NOT NULL AND renews_at > $1 AND event_id > $2 ORDER BY event_id LIMIT $3"
);

/// The same of workspace `$4`, whose levels are together among all that happened to it.
pub(super) const CROSSINGS_OPEN_OF: &str = concat!(
    event!(),
    "WHERE renews_at IS NOT NULL AND renews_at > $1 AND event_id > $2 AND workspace_id = $4 AND once >= 'level ' AND once < 'level!' \
     ORDER BY event_id LIMIT $3"
);

pub(super) const RENEWED: &str = "UPDATE event SET renews_at = NULL WHERE event_id = $1";

/// Between `$1` and `$2`, after the place (`$3`, `$4`); `$5` limit.
pub(super) const GRANTS_EXPIRING: &str = "SELECT workspace_id, grant_id, expires_at FROM budget_grant WHERE expires_at > $1 \
     AND expires_at <= $2 AND (expires_at, grant_id) > ($3, $4) AND voided_at IS NULL ORDER BY expires_at, grant_id LIMIT $5";

/// Not needed at `$1` and relayed, or of before `$2`; `$3` limit.
pub(super) const PRUNE_EVENTS: &str = "DELETE FROM event WHERE event_id IN (SELECT event_id FROM event WHERE kept_until <= $1 \
     AND (relayed_at IS NOT NULL OR recorded_at < $2) ORDER BY kept_until LIMIT $3)";

pub(super) use {event, events_waiting};
