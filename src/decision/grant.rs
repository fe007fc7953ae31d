//! Grants: extra allowance for one budget, and which of them pays for a use. Pure; the ledger asks and writes down what it is told.
//!
//! A grant has one balance, however many periods and users its budget has. The plan's allowance is used first; what a counter's spent
//! passes it by is paid by the grants in their order: priority (lower first), expiry (soonest first, none last), age. What was used before a
//! grant came is paid too, by the next use that is recorded: so balances, `remaining` and billed overage say the same.
//!
//! - *When*: a grant pays for uses that occurred from `effective_at` on and before its expiry and its void, whenever they are recorded. What
//!   is still owed then is paid by those that have been active since in the same period: of two holds the one that is settled last owes, and
//!   that need not be the one that stood on the grant. What a grant paid stays paid: it raised the limit of that counter's period for good,
//!   and corrections give nothing back to it.
//! - *Segments*: a grant's life is cut at each recurrence, where its balance becomes `amount` anew, and, if it bounds rollover, at each end
//!   of its budget's period, where what remains becomes `min(max, max(min, remaining))`. A use is paid from the segment in which it
//!   occurred. One that is recorded late never takes what a later segment has rolled over and spent already.
//! - *Stored* is only what was paid, per grant and start of segment; balances are folded from it. Applying a rollover twice is applying
//!   it once, so segments without payments need not be stored.

use super::amount::Unit;
use super::counter::Counter;
use super::id::{BudgetId, GrantId};
use super::period::Period;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

mod purchase;
mod recurrence;
#[cfg(test)]
mod tests;

pub use purchase::{CURRENCY_CHARS, PURCHASE_AMOUNT_MAX, Purchase};
pub use recurrence::{Interval, Recurrence};

/// The most grants of one budget that have not ended.
pub const GRANTS_MAX: usize = 500;
/// The priority of a grant that names none; lower pays first.
pub const PRIORITY_DEFAULT: u8 = 100;

/// Extra allowance for one budget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub id: GrantId,
    /// What the caller calls it: the same again is the same grant.
    pub key: Option<String>,
    pub budget: BudgetId,
    /// Of the budget when it was given; if the budget counts something else by now, the grant pays nothing.
    pub unit: Unit,
    pub amount: i64,
    pub priority: u8,
    pub effective_at: Timestamp,
    /// Exclusive.
    pub expires_at: Option<Timestamp>,
    pub recurrence: Option<Recurrence>,
    pub rollover_min: Option<i64>,
    pub rollover_max: Option<i64>,
    pub source: Source,
    /// What the customer paid for it; `None`: it was given.
    pub paid: Option<Purchase>,
    pub created_at: Timestamp,
    pub voided_at: Option<Timestamp>,
}

/// Who gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Manual,
    TopUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GrantState)]
pub enum State {
    /// Not effective yet.
    Pending,
    Active,
    /// Nothing left in this segment.
    Exhausted,
    Expired,
    Voided,
}

/// Grants that are given by themselves when a budget runs low.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopUp {
    /// Given as soon as less than this remains of limit and grants together.
    pub below: i64,
    pub amount: i64,
    /// The most in one period of the budget.
    pub per_period_max: u32,
    pub priority: u8,
    /// How long each lasts; `None`: until it is used.
    pub expires_after_seconds: Option<i64>,
    /// What it gives: nothing, while the budget counts something else. `None`: it was written before units were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// What a use may have to be paid for by grants: a budget that it falls under, with its limit then.
#[derive(Clone, PartialEq, Debug)]
pub struct Charge {
    pub budget: BudgetId,
    pub counter: Counter,
    pub hard: i64,
    /// The budget's period at the moment of the write, which may be a later one than the counter's.
    pub period: Period,
    /// With the id that the grant would have.
    pub top_up: Option<(TopUp, GrantId)>,
}

/// What the grants of one budget have left together, as a store of counters keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Purse {
    pub budget: BudgetId,
    /// A budget of this name that counts something else by now has another purse.
    pub unit: Unit,
    pub left: i64,
    /// From then on the ledger must be asked anew: something begins, recurs, rolls over or expires.
    pub until: Timestamp,
    /// Of the workspace's sums.
    pub version: i64,
}

/// A budget whose limit grants may raise, over one of the counters that it is named with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurseUse {
    pub budget: BudgetId,
    /// The place of its counter.
    pub counter: usize,
    /// Without grants.
    pub hard: i64,
}

impl Purse {
    /// Whether this one says more than `known`: it is of a later write, or of the same one at a later time.
    pub fn is_newer(&self, known: &Purse) -> bool {
        (self.version, self.until) > (known.version, known.until)
    }
}

/// What one grant pays for one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payment {
    pub grant: GrantId,
    pub segment: Timestamp,
    pub amount: i64,
}

/// What was paid, by the start of the segment.
pub type Paid = BTreeMap<Timestamp, i64>;

impl Grant {
    /// When it ends, be it by expiry or by void.
    pub fn ends_at(&self) -> Timestamp {
        let expires_at = self.expires_at.unwrap_or(Timestamp::MAX);
        self.voided_at.map_or(expires_at, |voided_at| voided_at.min(expires_at))
    }

    pub fn is_active(&self, at: Timestamp) -> bool {
        self.effective_at <= at && at < self.ends_at()
    }

    /// The last moment from `from` to `until` at which it is active.
    fn last_active(&self, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let last = until.min(self.ends_at().plus_micros(-1));
        (last >= from.max(self.effective_at)).then_some(last)
    }

    fn rolls(&self) -> bool {
        self.rollover_min.is_some() || self.rollover_max.is_some()
    }

    fn roll(&self, remaining: i64) -> i64 {
        if self.rolls() {
            remaining
                .max(self.rollover_min.unwrap_or(0))
                .min(self.rollover_max.unwrap_or(i64::MAX))
        } else {
            remaining
        }
    }

    /// Since when the balance has been counted down from `amount`, as of `at`.
    fn filled_at(&self, at: Timestamp) -> Timestamp {
        let recurred = self.recurrence.map_or(Timestamp::MIN, |recurrence| recurrence.last(at));
        recurred.max(self.effective_at)
    }

    /// The start of the segment that `at` lies in, in a period of the budget.
    fn segment(&self, at: Timestamp, period: Period) -> Timestamp {
        let filled = self.filled_at(at);
        if self.rolls() { filled.max(period.start) } else { filled }
    }

    /// What it can still pay in a segment, of what it opened with and what it paid so far.
    fn available(&self, segment: Timestamp, paid: &Paid) -> i64 {
        let filled = self.filled_at(segment);
        let (mut left, mut place) = (self.amount, filled);
        for (start, amount) in paid.range(filled..=segment) {
            if *start > place {
                left = self.roll(left);
                place = *start;
            }
            left = left.saturating_sub(*amount);
        }
        if segment > place {
            left = self.roll(left);
        }
        left.saturating_sub(self.spent_ahead(segment, paid)).max(0)
    }

    /// What later segments have paid of what this one rolls over to them.
    fn spent_ahead(&self, segment: Timestamp, paid: &Paid) -> i64 {
        let refilled = self.recurrence.map_or(Timestamp::MAX, |recurrence| recurrence.next(segment));
        let ahead = paid.range(segment.plus_micros(1)..refilled.max(segment.plus_micros(1))).rev();
        ahead.fold(0, |after, (_, amount)| {
            let opened = amount.saturating_add(after);
            // What every segment opens with at least is not taken from the one before.
            if opened <= self.rollover_min.unwrap_or(0) { 0 } else { opened }
        })
    }

    /// The first moment after `at` at which its part of the purse may change by itself.
    pub fn changes_after(&self, at: Timestamp, period: Period) -> Timestamp {
        if at < self.effective_at {
            return self.effective_at;
        }
        let recurs = self.recurrence.map_or(Timestamp::MAX, |recurrence| recurrence.next(at));
        let rolls = if self.rolls() { period.end } else { Timestamp::MAX };
        self.ends_at().min(recurs).min(rolls)
    }

    pub fn state(&self, left: i64, at: Timestamp) -> State {
        if self.voided_at.is_some_and(|voided_at| voided_at <= at) {
            State::Voided
        } else if self.expires_at.is_some_and(|expires_at| expires_at <= at) {
            State::Expired
        } else if at < self.effective_at {
            State::Pending
        } else if left == 0 {
            State::Exhausted
        } else {
            State::Active
        }
    }
}

/// The grants of one budget, with what each has paid.
#[derive(Clone, Default, Debug)]
pub struct Pot {
    /// In the order in which they pay.
    grants: Vec<Grant>,
    paid: HashMap<GrantId, Paid>,
}

impl Pot {
    pub fn new(mut grants: Vec<Grant>, paid: HashMap<GrantId, Paid>) -> Self {
        grants.sort_by_key(order);
        Self { grants, paid }
    }

    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// In which units they count, each once.
    pub fn units(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> = self.grants.iter().map(|grant| grant.unit).collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    /// Whether what is left depends on the periods of the budget.
    pub fn is_rolled_over(&self) -> bool {
        self.grants.iter().any(Grant::rolls)
    }

    /// What a grant paid in a segment.
    pub fn paid(&self, grant: GrantId, segment: Timestamp) -> i64 {
        let paid = self.paid.get(&grant).and_then(|paid| paid.get(&segment));
        paid.copied().unwrap_or(0)
    }

    pub fn add(&mut self, grant: Grant) {
        let place = self.grants.partition_point(|other| order(other) <= order(&grant));
        self.grants.insert(place, grant);
    }

    /// What one grant has left at a moment of the budget's `period`; nothing unless it is active.
    pub fn left_of(&self, grant: &Grant, at: Timestamp, period: Period) -> i64 {
        if !grant.is_active(at) {
            return 0;
        }
        let nothing = Paid::new();
        let paid = self.paid.get(&grant.id).unwrap_or(&nothing);
        grant.available(grant.segment(at, period), paid)
    }

    /// What all have left that count in `unit`.
    pub fn left(&self, unit: Unit, at: Timestamp, period: Period) -> i64 {
        let own = self.grants.iter().filter(|grant| grant.unit == unit);
        own.fold(0, |sum: i64, grant| sum.saturating_add(self.left_of(grant, at, period)))
    }

    /// Until when that holds, if nothing is written.
    pub fn until(&self, at: Timestamp, period: Period) -> Timestamp {
        let alive = self.grants.iter().filter(|grant| at < grant.ends_at());
        alive.map(|grant| grant.changes_after(at, period)).min().unwrap_or(Timestamp::MAX)
    }

    /// Has `amount` of a use at `at` paid, as far as the balances go, and notes it.
    pub fn pay(&mut self, unit: Unit, amount: i64, at: Timestamp, period: Period) -> Vec<Payment> {
        self.pay_by(unit, amount, period, |grant| grant.is_active(at).then_some(at))
    }

    /// Has `amount` paid that is owed since `from`, by all grants that were active since then in its `period`: while they were, they raised the
    /// limit for what held beside the use.
    pub fn pay_owed(&mut self, unit: Unit, amount: i64, from: Timestamp, now: Timestamp, period: Period) -> Vec<Payment> {
        let until = now.min(period.end.plus_micros(-1));
        self.pay_by(unit, amount, period, |grant| grant.last_active(from, until))
    }

    /// Each grant pays from the segment of the moment that is named for it.
    fn pay_by(&mut self, unit: Unit, amount: i64, period: Period, moment: impl Fn(&Grant) -> Option<Timestamp>) -> Vec<Payment> {
        let (mut missing, mut payments) = (amount, Vec::new());
        for place in 0..self.grants.len() {
            if missing <= 0 {
                break;
            }
            let grant = &self.grants[place];
            let Some(at) = moment(grant) else { continue };
            let amount = self.left_of(grant, at, period).min(missing);
            if grant.unit != unit || amount == 0 {
                continue;
            }
            let payment = Payment {
                grant: grant.id,
                segment: grant.segment(at, period),
                amount,
            };
            *self.paid.entry(payment.grant).or_default().entry(payment.segment).or_default() += amount;
            missing -= amount;
            payments.push(payment);
        }
        payments
    }

    /// The grants that have paid more in some segment than they opened it with: there should be none.
    pub fn overdrawn(&self) -> impl Iterator<Item = (&Grant, Timestamp)> {
        self.grants.iter().filter_map(|grant| {
            let paid = self.paid.get(&grant.id)?;
            let over = paid.keys().find(|start| grant.is_overdrawn(**start, paid))?;
            Some((grant, *over))
        })
    }
}

impl Grant {
    fn is_overdrawn(&self, segment: Timestamp, paid: &Paid) -> bool {
        let amount = paid.get(&segment).copied().unwrap_or(0);
        let mut without = paid.clone();
        without.insert(segment, 0);
        amount > self.available(segment, &without)
    }
}

/// The order in which grants pay.
fn order(grant: &Grant) -> impl Ord + use<> {
    // Of equal ones the soonest to expire; those that never do come last.
    let expires = grant.expires_at.map_or((1, Timestamp::MAX), |expires_at| (0, expires_at));
    (grant.priority, expires, grant.created_at, grant.id)
}

/// How much a counter has spent past its limit and what grants have paid of it.
pub fn unpaid(spent: i64, hard: i64, paid: i64) -> i64 {
    spent.saturating_sub(hard.saturating_add(paid)).max(0)
}

/// How much of what a counter holds stands on grants: what passes its limit and what was paid, up to all that is held.
pub fn on_grants(spent: i64, held: i64, hard: i64, paid: i64) -> i64 {
    unpaid(spent.saturating_add(held), hard, paid).min(held).max(0)
}
