//! Events: what happened that somebody should be told. The closed set of their types, and what each one says.
//!
//! An event happens once: [`Event::once`] is what it is about, and of two of one workspace that say the same the first is the only one. So
//! nodes may race, restart, and find out again what they knew.
//!
//! - Customers are told what they can act on, and never what anything costs: no cost, list cost or margin, and nothing of a budget in usd,
//!   which is a sum of costs. Events of such budgets are for operators ([`Audience`]), as the portal does not show those budgets either.
//! - A budget's levels (shares of its limit, soft, hard) are told each time that use reaches one. Where the limit is raised in mid-period,
//!   the level is another one: it is told when use reaches it from below.

use super::amount::Unit;
use super::id::{BudgetId, EventId, PlanId, UserId, WorkspaceId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

mod data;

pub use data::{
    BudgetData, ForecastData, GrantData, PlanData, RenewalReason, RenewedData, ReservationData, Span, SuspendedData, UsageData,
};

/// How long an event is kept after what it is about has ended.
pub const KEPT_SECONDS: i64 = 90 * 24 * 3600;

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// Use reached a share of a budget's limit that its plan names.
    #[serde(rename = "budget.threshold_reached")]
    BudgetThresholdReached,
    #[serde(rename = "budget.soft_limit_reached")]
    BudgetSoftLimitReached,
    /// Use reached the hard limit, grants included.
    #[serde(rename = "budget.exhausted")]
    BudgetExhausted,
    /// A budget that was at its soft or hard limit is below it again: a new period began, or the limit was raised.
    #[serde(rename = "budget.renewed")]
    BudgetRenewed,
    /// At the pace of its period so far a budget runs out before the period ends.
    #[serde(rename = "budget.forecast")]
    BudgetForecast,
    #[serde(rename = "grant.expiring")]
    GrantExpiring,
    #[serde(rename = "usage.anomaly_detected")]
    UsageAnomalyDetected,
    /// Only for who asks for it: there is one for each entry.
    #[serde(rename = "usage.recorded")]
    UsageRecorded,
    #[serde(rename = "reservation.expired")]
    ReservationExpired,
    #[serde(rename = "plan.changed")]
    PlanChanged,
    #[serde(rename = "workspace.suspended")]
    WorkspaceSuspended,
    /// Nothing could be delivered to an endpoint for so long that it is not tried any more.
    #[serde(rename = "webhook_endpoint.disabled")]
    WebhookEndpointDisabled,
    /// Sent because somebody asked for it, to see whether it arrives.
    #[serde(rename = "webhook.test")]
    WebhookTest,
}

impl EventType {
    pub const ALL: [EventType; 13] = [
        EventType::BudgetThresholdReached,
        EventType::BudgetSoftLimitReached,
        EventType::BudgetExhausted,
        EventType::BudgetRenewed,
        EventType::BudgetForecast,
        EventType::GrantExpiring,
        EventType::UsageAnomalyDetected,
        EventType::UsageRecorded,
        EventType::ReservationExpired,
        EventType::PlanChanged,
        EventType::WorkspaceSuspended,
        EventType::WebhookEndpointDisabled,
        EventType::WebhookTest,
    ];

    /// As it stands in the contract, in columns and in filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventType::BudgetThresholdReached => "budget.threshold_reached",
            EventType::BudgetSoftLimitReached => "budget.soft_limit_reached",
            EventType::BudgetExhausted => "budget.exhausted",
            EventType::BudgetRenewed => "budget.renewed",
            EventType::BudgetForecast => "budget.forecast",
            EventType::GrantExpiring => "grant.expiring",
            EventType::UsageAnomalyDetected => "usage.anomaly_detected",
            EventType::UsageRecorded => "usage.recorded",
            EventType::ReservationExpired => "reservation.expired",
            EventType::PlanChanged => "plan.changed",
            EventType::WorkspaceSuspended => "workspace.suspended",
            EventType::WebhookEndpointDisabled => "webhook_endpoint.disabled",
            EventType::WebhookTest => "webhook.test",
        }
    }

    pub fn parse(text: &str) -> Option<EventType> {
        EventType::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Told only where it is asked for by name: `*` does not mean it.
    pub const fn is_opt_in(self) -> bool {
        matches!(self, EventType::UsageRecorded)
    }
}

/// Who may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The workspace that it is of, and operators.
    Customer,
    /// Only who runs the service: endpoints that belong to no workspace.
    Operator,
}

impl Audience {
    pub const fn as_str(self) -> &'static str {
        match self {
            Audience::Customer => "customer",
            Audience::Operator => "operator",
        }
    }

    pub fn parse(text: &str) -> Option<Audience> {
        [Audience::Customer, Audience::Operator]
            .into_iter()
            .find(|audience| audience.as_str() == text)
    }

    /// Who may be told of a budget, or a grant, in this unit.
    pub const fn of_unit(unit: Unit) -> Audience {
        match unit {
            Unit::Usd => Audience::Operator,
            Unit::Tokens | Unit::Requests | Unit::Credits => Audience::Customer,
        }
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub id: EventId,
    /// `None`: it is of no workspace.
    pub workspace: Option<WorkspaceId>,
    pub kind: EventType,
    pub audience: Audience,
    /// What it is about: of two events of a workspace with the same words here only the first one happened.
    pub once: String,
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    /// What is told: a JSON object.
    pub data: Value,
    /// Of a budget that reached its soft or hard limit: the end of that period, which is told too when it comes.
    pub renews_at: Option<Timestamp>,
    /// When it may be forgotten, and with it that it happened: not before what it is about has ended.
    pub kept_until: Timestamp,
}

impl Event {
    /// An event of `workspace` at `now`, for its customers, kept for the usual time.
    pub fn new(id: EventId, workspace: Option<WorkspaceId>, kind: EventType, once: String, now: Timestamp, data: Value) -> Self {
        Self {
            id,
            workspace,
            kind,
            audience: Audience::Customer,
            once,
            occurred_at: now,
            recorded_at: now,
            data,
            renews_at: None,
            kept_until: now.plus_seconds(KEPT_SECONDS),
        }
    }

    /// The body that is delivered: `{"type", "timestamp", "data"}`.
    pub fn body(&self) -> Body<'_> {
        Body {
            kind: self.kind,
            timestamp: self.occurred_at,
            data: &self.data,
        }
    }
}

/// An event as it is told, by webhooks and in the stream of events.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct Body<'a> {
    #[serde(rename = "type")]
    pub kind: EventType,
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    #[schema(value_type = Object)]
    pub data: &'a Value,
}

/// What a level is told under: the budget, whose use, its period, and which level at which amount. No name may have a space in it.
pub fn level_once(place: &Place<'_>, level: &str, at: i64) -> String {
    format!("{}{level} {at}", place.levels())
}

/// A budget of a workspace in one period.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub budget: &'a BudgetId,
    pub unit: Unit,
    /// As in the column of a counter.
    pub user: &'a str,
    pub start: Timestamp,
}

impl Place<'_> {
    /// How all that is told of its levels begins.
    pub fn levels(&self) -> String {
        format!("level {} ", self.words())
    }

    /// What is told once in the period under `what`.
    pub fn once(&self, what: &str) -> String {
        format!("{what} {}", self.words())
    }

    fn words(&self) -> String {
        format!("{} {} {} {}", self.budget, self.unit.as_str(), self.user, self.start.micros())
    }
}

/// What most events say besides: which plan a workspace is on and where it can get more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Bought {
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    pub plan_version: Option<u32>,
    pub upgrade_url: Option<String>,
    /// What happened, what it means and what can be done, for people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for kind in EventType::ALL {
            assert_eq!(EventType::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).ok(), Some(Value::from(kind.as_str())));
        }
        assert_eq!(EventType::parse("budget.unheard_of"), None);
    }

    #[test]
    fn customers_are_not_told_of_budgets_in_usd() {
        for unit in Unit::ALL {
            assert_eq!(Audience::of_unit(unit) == Audience::Operator, unit == Unit::Usd, "{unit:?}");
        }
    }
}
