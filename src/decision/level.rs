//! Levels of a budget: what its customer is told when use reaches it. Shares of the limit, the soft limit, the limit itself.
//!
//! A level is a name and the amount that it stands for now, grants, seats and overrides in. It is told once in a period under both; so
//! where the limit is raised, the same share is another level. One that was told before in the period, at another amount, is told again
//! only when use passes the new amount from below: who was told of 80 % hears of 80 % of the raised limit when that is reached, and not
//! because the limit was raised while more than that was used.
//!
//! Reached is judged by what is spent, as the transaction that counts the use leaves it; what is held may still be given back. The limit itself
//! is reached, too, where what is left of it refuses a request of ordinary size: use may never come to the very figure.

use super::amount::{Amounts, Ratio, Unit};
use super::counter::{Balance, Counter, Whose};
use super::event::{Audience, Bought, BudgetData, Event, EventType, KEPT_SECONDS, Place, Span, level_once};
use super::id::{EventId, UserId, WorkspaceId};
use super::limits::Limited;
use super::message::{Messages, Voice};
use super::money::Usd;
use super::period::Period;
use super::plan::{Budget, Plan};
use super::time::Timestamp;
use super::{message, notice};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

#[cfg(test)]
pub(crate) mod tests;

/// The lowest bits of a seed that are of its levels; those of two budgets differ above them.
pub const SEED_BITS: u32 = 16;

/// A request that needs more than this part of a limit says nothing about what others find there.
const WALL_PARTS: i64 = 10;

/// One level of a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    pub name: LevelName,
    pub at: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LevelName {
    /// Of `hard` and what is granted.
    Share(Ratio),
    Soft,
    Hard,
}

/// A budget whose levels a use may reach.
#[derive(Clone, Debug)]
pub struct Watch {
    pub plan: Arc<Plan>,
    /// In whose words it is told.
    pub messages: Arc<Messages>,
    pub limited: Limited,
    pub counter: Counter,
    /// Below it nothing can be reached that was not told already.
    pub floor: i64,
    /// What the writer knew to be spent; `None`: it does not know.
    pub known: Option<i64>,
    /// What the ids of events are made of.
    pub seed: Uuid,
}

impl Watch {
    pub fn budget(&self) -> &Budget {
        &self.plan.budgets[self.limited.budget]
    }

    /// Whether a use of this much may reach a level, as far as its writer can tell.
    pub fn may_reach(&self, counted: Amounts) -> bool {
        let by = counted.of(self.counter.unit);
        self.known.is_none_or(|known| known.saturating_add(by) >= self.floor)
    }

    /// The limits with what grants add.
    pub fn granted(&self, granted: i64) -> Limited {
        let balance = Balance {
            granted,
            ..Balance::default()
        };
        self.limited.raised(balance)
    }

    fn place(&self) -> Place<'_> {
        place(self.budget(), &self.counter)
    }

    /// How everything begins that is told of this budget's levels in this period.
    pub fn prefix(&self) -> String {
        self.place().levels()
    }
}

fn place<'a>(budget: &'a Budget, counter: &'a Counter) -> Place<'a> {
    Place {
        budget: &budget.id,
        unit: budget.unit,
        user: counter.whose.column(),
        start: counter.period.start,
    }
}

/// Under what it is told once that a budget is at its limit of so much.
pub fn once_at_limit(budget: &Budget, counter: &Counter, at: i64) -> String {
    level_once(&place(budget, counter), &LevelName::Hard.word(), at)
}

/// What is told once of a budget in a period, under `what`.
pub fn once(what: &str, budget: &Budget, counter: &Counter) -> String {
    place(budget, counter).once(what)
}

/// The levels of a budget at these limits, lowest first. Nothing is told of a limit of nothing.
pub fn levels(limited: &Limited, budget: &Budget) -> Vec<Level> {
    let level = |name, at: Option<i64>| at.filter(|at| *at > 0).map(|at| Level { name, at });
    let hard = limited.hard_line();
    let shares = budget
        .alerts
        .iter()
        .map(|share| level(LevelName::Share(*share), share_of(hard, *share)));
    let lines = [level(LevelName::Soft, limited.soft_line()), level(LevelName::Hard, hard)];
    let mut levels: Vec<Level> = shares.chain(lines).flatten().collect();
    levels.sort_by_key(|level| level.at);
    levels
}

/// The lowest level of a budget that is above `told`; `None`: there is none.
pub fn lowest_above(limited: &Limited, budget: &Budget, told: i64) -> Option<i64> {
    let hard = limited.hard_line();
    let shares = budget.alerts.iter().filter_map(|share| share_of(hard, *share));
    let all = shares.chain(limited.soft_line()).chain(hard);
    all.filter(|at| *at > told.max(0)).min()
}

/// The smallest whole amount that is not less than the share.
fn share_of(hard: Option<i64>, share: Ratio) -> Option<i64> {
    let parts = i128::from(hard?) * i128::from(share.ten_thousandths());
    i64::try_from((parts + 9_999).div_euclid(10_000)).ok()
}

/// The levels that are to be told when use has come from `before` to `spent`, given what was told in the period, each as `prefix` and more.
pub fn due(watch: &Watch, granted: i64, before: i64, spent: i64, told: &[String]) -> Vec<Level> {
    let prefix = watch.prefix();
    let told: Vec<(&str, &str)> = told.iter().filter_map(|once| once.strip_prefix(&prefix)?.split_once(' ')).collect();
    let reached = levels(&watch.granted(granted), watch.budget())
        .into_iter()
        .filter(|level| level.at <= spent);
    let is_due = |level: &Level| {
        let (name, at) = (level.name.word(), level.at.to_string());
        let is_told_at = |at: &str| told.iter().any(|(other, there)| *other == name && *there == at);
        let was_told = told.iter().any(|(other, _)| *other == name);
        !is_told_at(&at) && (!was_told || before < level.at)
    };
    reached.filter(is_due).collect()
}

impl LevelName {
    fn word(self) -> String {
        match self {
            LevelName::Share(share) => share.ten_thousandths().to_string(),
            LevelName::Soft => "soft".to_owned(),
            LevelName::Hard => "hard".to_owned(),
        }
    }

    const fn kind(self) -> EventType {
        match self {
            LevelName::Share(_) => EventType::BudgetThresholdReached,
            LevelName::Soft => EventType::BudgetSoftLimitReached,
            LevelName::Hard => EventType::BudgetExhausted,
        }
    }
}

/// What is told of a level that use has reached.
pub fn event(watch: &Watch, workspace: &WorkspaceId, level: Level, granted: i64, spent: i64, now: Timestamp) -> Event {
    let limited = watch.granted(granted);
    let voice = Voice::new(&watch.messages, None, Some(&watch.plan));
    let message = notice::reached(voice, workspace, watch.budget(), &watch.counter, level, limited.hard_line());
    written(watch, workspace, (level, message), (&limited, spent), now)
}

/// Whether a budget that refuses a request for what was spent is at its limit for all that its customer does: one request that asks for a
/// large part of it does not say so.
pub fn is_wall(need: i64, line: i64, spent: i64) -> bool {
    spent >= line || need <= line / WALL_PARTS
}

/// What is told of a limit that refuses requests, though use has not reached it: where it stands, and what a request needed.
pub fn wall(watch: &Watch, workspace: &WorkspaceId, (line, need): (i64, i64), spent: i64, now: Timestamp) -> Event {
    let level = Level {
        name: LevelName::Hard,
        at: line,
    };
    let voice = Voice::new(&watch.messages, None, Some(&watch.plan));
    let message = message::nearly_spent(
        voice,
        workspace,
        watch.budget(),
        &watch.counter,
        (line.saturating_sub(spent), need, line),
    );
    written(watch, workspace, (level, message), (&watch.limited, spent), now)
}

fn written(
    watch: &Watch,
    workspace: &WorkspaceId,
    (level, message): (Level, String),
    (limited, spent): (&Limited, i64),
    now: Timestamp,
) -> Event {
    let budget = watch.budget();
    let told = Told {
        workspace,
        plan: &watch.plan,
        budget,
        limited,
        counter: &watch.counter,
        spent,
    };
    let mut data = told.data(message);
    data.threshold = match level.name {
        LevelName::Share(share) => Some(share),
        LevelName::Hard => Ratio::from_ten_thousandths(10_000),
        LevelName::Soft => None,
    };
    data.level = amount(budget.unit, level.at);
    let once = level_once(&watch.place(), &level.name.word(), level.at);
    let end = watch.counter.period.end;
    Event {
        audience: Audience::of_unit(budget.unit),
        renews_at: (!matches!(level.name, LevelName::Share(_))).then_some(end),
        kept_until: end.max(now).plus_seconds(KEPT_SECONDS),
        ..Event::new(
            id(watch.seed, level),
            Some(workspace.clone()),
            level.name.kind(),
            once,
            now,
            serde_json::to_value(data).unwrap_or_default(),
        )
    }
}

/// Each level has an id of its own, made of chance that was drawn once for all of them.
fn id(seed: Uuid, level: Level) -> EventId {
    let place = match level.name {
        LevelName::Share(share) => share.ten_thousandths() as u128,
        LevelName::Soft => 1 << 14,
        LevelName::Hard => 1 << 15,
    };
    EventId::from_uuid(Uuid::from_u128(seed.as_u128() ^ place))
}

/// A budget as events tell of it.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub workspace: &'a WorkspaceId,
    pub plan: &'a Plan,
    pub budget: &'a Budget,
    /// Raised by what is granted.
    pub limited: &'a Limited,
    pub counter: &'a Counter,
    pub spent: i64,
}

impl Told<'_> {
    /// What is said of the budget; no level yet.
    pub fn data(&self, message: String) -> BudgetData {
        let unit = self.budget.unit;
        let maybe = |value: Option<i64>| value.map_or(Value::Null, |value| amount(unit, value));
        let user = match &self.counter.whose {
            Whose::User(user) => user.clone(),
            Whose::Workspace => None,
        };
        BudgetData {
            bought: bought(self.workspace, user, Some(self.plan), message),
            budget_id: self.budget.id.clone(),
            scope: self.budget.scope,
            feature: self.budget.feature.clone(),
            unit,
            period: span(self.counter.period),
            threshold: None,
            level: Value::Null,
            soft: maybe(self.limited.soft),
            hard: maybe(self.limited.hard),
            granted: amount(unit, self.limited.granted),
            spent: amount(unit, self.spent),
            remaining: maybe(self.limited.hard_line().map(|line| line.saturating_sub(self.spent).max(0))),
        }
    }
}

/// What an event says of the plan.
pub fn bought(workspace: &WorkspaceId, user: Option<UserId>, plan: Option<&Plan>, message: String) -> Bought {
    let link = plan.and_then(|plan| plan.upgrade_url.as_deref());
    Bought {
        workspace_id: workspace.clone(),
        user_id: user,
        plan_id: plan.map(|plan| plan.id.clone()),
        plan_version: plan.map(|plan| plan.version),
        upgrade_url: link.map(|link| message::upgrade_url(link, workspace)),
        message,
    }
}

pub fn span(period: Period) -> Span {
    let ends = period.end != Timestamp::MAX;
    Span {
        start: ends.then_some(period.start),
        end: ends.then_some(period.end),
    }
}

/// An amount as events tell it: a decimal string for usd, an integer otherwise.
pub fn amount(unit: Unit, amount: i64) -> Value {
    match unit {
        Unit::Usd => Value::from(Usd::from_nanos(amount).to_string()),
        Unit::Tokens | Unit::Requests | Unit::Credits => Value::from(amount),
    }
}

/// The amount that was written so.
pub fn amount_of(value: &Value) -> Option<i64> {
    match value {
        Value::String(usd) => Usd::parse(usd).ok().map(Usd::nanos),
        other => other.as_i64(),
    }
}
