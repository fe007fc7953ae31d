//! Which budgets apply to a request, over which counters, and how high their limits are at this moment.

use super::amount::Unit;
use super::counter::{Balance, Counter, Whose};
use super::grant::PurseUse;
use super::id::{BudgetId, Feature, UserId};
use super::period::PeriodKind;
use super::plan::{AtHard, Budget, Plan, Scope, SoftActions};
use super::time::Timestamp;
use super::workspace::Workspace;
use serde::{Deserialize, Serialize};

/// A budget with its limits as they are for one workspace at one moment: seats multiplied, overrides taken.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limited {
    /// The place of the budget in its plan.
    pub budget: usize,
    /// The place of its counter among those that go with it.
    pub counter: usize,
    pub soft: Option<i64>,
    pub hard: Option<i64>,
    /// Whether grants may raise these limits; by how much, only the counter's balance knows.
    pub has_grants: bool,
    /// By how much they do: nothing before [`Limited::raised`].
    #[serde(skip)]
    pub granted: i64,
    pub overage_hard: Option<i64>,
}

impl Limited {
    /// The same with what grants add, as `balance` says it of its counter.
    pub fn raised(&self, balance: Balance) -> Limited {
        Limited {
            granted: if self.has_grants { balance.granted } else { 0 },
            ..*self
        }
    }

    /// From where on the budget acts softly.
    pub fn soft_line(&self) -> Option<i64> {
        self.soft.map(|soft| soft.saturating_add(self.granted))
    }

    /// What may be spent and held at most, unless the plan bills what goes beyond.
    pub fn hard_line(&self) -> Option<i64> {
        self.hard.map(|hard| hard.saturating_add(self.granted))
    }

    /// What may be spent and held at most where `budget` bills overage.
    pub fn overage_line(&self, budget: &Budget) -> Option<i64> {
        match budget.at_hard {
            AtHard::Deny => self.hard_line(),
            AtHard::Overage => self.overage_hard.map(|overage| overage.saturating_add(self.granted)),
        }
    }
}

/// The budgets that apply to one request, and their counters.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Without doubles: two budgets over the same use share a counter.
    pub counters: Vec<Counter>,
    /// In plan order, shadow budgets last.
    pub budgets: Vec<Limited>,
}

impl Limits {
    /// The budgets of `plan` that count a request of `feature` by `user` at `now`.
    pub fn of_request(plan: &Plan, workspace: &Workspace, feature: &Feature, user: Option<&UserId>, now: Timestamp) -> Self {
        Self::build(plan, workspace, user, now, |budget| budget.applies_to(feature))
    }

    /// All budgets of `plan` as they stand for `user` at `now`; user budgets only where a user is named.
    pub fn of_workspace(plan: &Plan, workspace: &Workspace, user: Option<&UserId>, now: Timestamp) -> Self {
        Self::build(plan, workspace, user, now, |budget| {
            budget.scope == Scope::Workspace || user.is_some()
        })
    }

    fn build(plan: &Plan, workspace: &Workspace, user: Option<&UserId>, now: Timestamp, wanted: impl Fn(&Budget) -> bool) -> Self {
        let mut limits = Limits {
            counters: Vec::with_capacity(plan.budgets.len()),
            budgets: Vec::with_capacity(plan.budgets.len()),
        };
        for shadow in [false, true] {
            for (place, budget) in plan
                .budgets
                .iter()
                .enumerate()
                .filter(|(_, budget)| budget.shadow == shadow && wanted(budget))
            {
                limits.add(place, budget, workspace, user, now);
            }
        }
        limits
    }

    fn add(&mut self, place: usize, budget: &Budget, workspace: &Workspace, user: Option<&UserId>, now: Timestamp) {
        let counter = counter_of(budget, workspace, user, now);
        let seats = if budget.per_seat {
            workspace.seats.within(counter.period)
        } else {
            1
        };
        let times_seats = |limit: Option<i64>| limit.map(|limit| limit.saturating_mul(seats));
        let (mut soft, mut hard) = (times_seats(budget.soft), times_seats(budget.hard));
        if let Some(change) = workspace
            .overrides
            .get(&budget.id)
            .filter(|change| change.in_force(budget.unit, now))
        {
            soft = change.soft.or(soft);
            hard = change.hard.or(hard);
        }
        // An override may lower hard below the plan's soft, or raise it past the plan's overage; both lines follow it.
        let soft = match (soft, hard) {
            (Some(soft), Some(hard)) => Some(soft.min(hard)),
            (soft, _) => soft,
        };
        let overage_hard = times_seats(budget.overage_hard).map(|overage| overage.max(hard.unwrap_or(0)));
        let known = self.counters.iter().position(|other| *other == counter);
        let index = known.unwrap_or_else(|| {
            self.counters.push(counter);
            self.counters.len() - 1
        });
        // Of several budgets over one counter the first one with a limit has the grants: what they pay is noted by counter.
        let is_first = || !self.budgets.iter().any(|other| other.counter == index && other.has_grants);
        let has_grants = hard.is_some() && workspace.may_be_granted(&budget.id) && is_first();
        self.budgets.push(Limited {
            budget: place,
            counter: index,
            soft,
            hard,
            has_grants,
            granted: 0,
            overage_hard,
        });
    }

    /// The budgets whose limits grants may raise. `plan` is the one that these limits were built from.
    pub fn purses(&self, plan: &Plan) -> Vec<PurseUse> {
        let granted = self.budgets.iter().filter(|limited| limited.has_grants);
        let purse = |limited: &Limited| {
            Some(PurseUse {
                budget: plan.budgets[limited.budget].id.clone(),
                counter: limited.counter,
                hard: limited.hard?,
            })
        };
        granted.filter_map(purse).collect()
    }

    pub fn units(&self) -> Vec<Unit> {
        self.counters.iter().map(|counter| counter.unit).collect()
    }
}

/// The hard limit of a budget of `plan` for a workspace as it is at `at`: seats multiplied, an override taken.
pub fn hard_of(plan: &Plan, budget: &Budget, workspace: &Workspace, at: Timestamp) -> Option<i64> {
    let limits = Limits::build(plan, workspace, None, at, |other| other.id == budget.id);
    limits.budgets.first().and_then(|limited| limited.hard)
}

/// The counter of `budget` at `now`.
pub fn counter_of(budget: &Budget, workspace: &Workspace, user: Option<&UserId>, now: Timestamp) -> Counter {
    Counter {
        whose: match budget.scope {
            Scope::Workspace => Whose::Workspace,
            Scope::User => Whose::User(user.cloned()),
        },
        feature: budget.feature.clone(),
        unit: budget.unit,
        kind: budget.period,
        period: workspace.calendar.period(budget.period, now),
    }
}

/// How far a budget is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    Soft,
    Exhausted,
}

/// A budget as an answer shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct BudgetView {
    pub id: BudgetId,
    pub scope: Scope,
    pub feature: Option<Feature>,
    pub unit: Unit,
    pub kind: PeriodKind,
    pub period: super::period::Period,
    pub soft: Option<i64>,
    pub hard: Option<i64>,
    pub granted: i64,
    pub balance: Balance,
    pub remaining: Option<i64>,
    pub overage_remaining: Option<i64>,
    pub state: State,
    pub shadow: bool,
}

impl BudgetView {
    pub fn new(limited: &Limited, budget: &Budget, counter: &Counter, balance: Balance) -> Self {
        let limited = &limited.raised(balance);
        let left = |line: Option<i64>| line.map(|line| line.saturating_sub(balance.taken()).max(0));
        let remaining = left(limited.hard_line());
        let state = match (remaining, limited.soft_line()) {
            (Some(0), _) => State::Exhausted,
            (_, Some(soft)) if balance.taken() >= soft => State::Soft,
            _ => State::Ok,
        };
        Self {
            id: budget.id.clone(),
            scope: budget.scope,
            feature: budget.feature.clone(),
            unit: budget.unit,
            kind: counter.kind,
            period: counter.period,
            soft: limited.soft,
            hard: limited.hard,
            granted: limited.granted,
            balance,
            remaining,
            overage_remaining: match budget.at_hard {
                AtHard::Deny => None,
                AtHard::Overage => left(limited.overage_line(budget)),
            },
            state,
            shadow: budget.shadow,
        }
    }
}

/// Whether a budget has any action that needs a rung of its own from its soft limit on.
pub fn gates_softly(actions: SoftActions) -> bool {
    actions.downgrade || actions.defer
}
