//! A workspace as decisions see it: plan, seats, status, calendar, overrides. Changing any of them never moves a counter.

use super::amount::Unit;
use super::grant::TopUp;
use super::id::{BudgetId, PlanId, WorkspaceId};
use super::money::Usd;
use super::period::{Calendar, Period};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most seats of a workspace.
pub const SEATS_MAX: i64 = 1_000_000;
/// The most overrides of one workspace.
pub const OVERRIDES_MAX: usize = 64;
/// How many changes of seats are remembered; more in one period forget the oldest, in the workspace's disfavour by that one change.
const SEAT_CHANGES_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Active,
    Suspended,
}

/// Who suspended a workspace. Each lifts only what is its own, but an operator lifts all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Suspender {
    Operator,
    /// A subscription that is not paid.
    Subscription,
}

/// A customer tenant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Workspace {
    pub id: WorkspaceId,
    /// `None`: the default plan of the policy, if it names one.
    pub plan_id: Option<PlanId>,
    pub seats: Seats,
    pub status: Status,
    /// `None` exactly where it is active.
    #[serde(default)]
    pub suspended_by: Option<Suspender>,
    pub calendar: Calendar,
    pub stripe_customer_id: Option<String>,
    pub revenue_usd: Option<Usd>,
    pub overrides: BTreeMap<BudgetId, Override>,
    /// The budgets that have or had a grant.
    pub granted: BTreeSet<BudgetId>,
    pub top_ups: BTreeMap<BudgetId, TopUp>,
    /// Short texts by which routing rules tell workspaces apart.
    pub tags: BTreeMap<String, String>,
    /// Rises with each change; what `ETag` shows.
    pub version: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A change of one workspace's limits that ends by itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Override {
    pub soft: Option<i64>,
    pub hard: Option<i64>,
    pub expires_at: Option<Timestamp>,
    /// What the limits are in. A plan may come to count something else under the name of the budget, and then they are limits of nothing.
    /// `None`: it was written before units were, and is in the budget's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl Override {
    /// Whether it changes the limits of a budget that counts in `unit`.
    pub fn in_force(&self, unit: Unit, at: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| at < end) && self.unit.is_none_or(|own| own == unit)
    }
}

/// How many seats, and how many there were: more count at once, fewer with the next period.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seats {
    now: i64,
    /// Earlier numbers, each with the moment at which it ended; oldest first.
    earlier: Vec<(i64, Timestamp)>,
}

impl Seats {
    pub fn new(seats: i64) -> Self {
        Self {
            now: seats,
            earlier: Vec::new(),
        }
    }

    pub fn now(&self) -> i64 {
        self.now
    }

    pub fn change(&mut self, seats: i64, at: Timestamp) {
        if seats == self.now {
            return;
        }
        self.earlier.push((self.now, at));
        if self.earlier.len() > SEAT_CHANGES_MAX {
            self.earlier.remove(0);
        }
        self.now = seats;
    }

    /// The most seats that there were at any moment of `period`.
    pub fn within(&self, period: Period) -> i64 {
        let touched = self.earlier.iter().filter(|(_, ended)| *ended > period.start);
        touched.map(|(seats, _)| *seats).fold(self.now, i64::max)
    }
}

impl Workspace {
    /// Whether grants may pay for what passes the limit of a budget.
    pub fn may_be_granted(&self, budget: &BudgetId) -> bool {
        self.granted.contains(budget) || self.top_ups.contains_key(budget)
    }

    /// Suspends it; one that is suspended already stays so by whom it is.
    pub fn suspend(&mut self, by: Suspender) {
        self.status = Status::Suspended;
        self.suspended_by.get_or_insert(by);
    }

    pub fn resume(&mut self) {
        self.status = Status::Active;
        self.suspended_by = None;
    }

    /// A workspace that nobody has described yet: the default plan, one seat, UTC.
    pub fn unknown(id: WorkspaceId, now: Timestamp) -> Self {
        Self {
            id,
            plan_id: None,
            seats: Seats::new(1),
            status: Status::Active,
            suspended_by: None,
            calendar: Calendar::default(),
            stripe_customer_id: None,
            revenue_usd: None,
            overrides: BTreeMap::new(),
            granted: BTreeSet::new(),
            top_ups: BTreeMap::new(),
            tags: BTreeMap::new(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_seats_count_at_once_and_fewer_with_the_next_period() {
        let at = |seconds| Timestamp::from_micros(0).plus_seconds(seconds);
        let period = |from, to| Period {
            start: at(from),
            end: at(to),
        };
        let mut seats = Seats::new(5);
        seats.change(10, at(150));
        assert_eq!(seats.within(period(100, 200)), 10);
        seats.change(3, at(160));
        assert_eq!(seats.within(period(100, 200)), 10, "fewer wait for the period's end");
        assert_eq!(seats.within(period(200, 300)), 3);
        assert_eq!(seats.now(), 3);
    }
}
