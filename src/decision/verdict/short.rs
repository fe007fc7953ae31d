//! Which budgets stand in the way of a request, once a store has said what each has left.

use crate::decision::amount::Unit;
use crate::decision::counter::Balance;
use crate::decision::ladder::Ladder;
use crate::decision::plan::Budget;
use crate::decision::refusal::{BlockedBy, Code};
use crate::decision::rung::Rung;

/// A budget that stands in the way of every rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Short {
    /// The place of the budget among the ladder's limits.
    pub limited: usize,
    pub code: Code,
    pub by: BlockedBy,
    /// The least that any way of serving the request needs.
    pub need: i64,
    pub ceiling: i64,
}

/// Which budgets stand in the way, in plan order: short even for the least that any rung needs. Where each budget would do for some rung
/// but none for all, those that are short for the asked model.
pub fn shortages(ladder: &Ladder, balances: &[Balance]) -> Vec<Short> {
    let least = |unit| {
        let of_rung = |rung: &Rung| {
            rung.cap
                .map_or(rung.needs, |cap| cap.amounts(cap.least, rung.needs.requests))
                .of(unit)
        };
        ladder.rungs.iter().map(of_rung).min().unwrap_or(0)
    };
    let asked = |unit| ladder.rungs[ladder.asked].needs.of(unit);
    let short = |need: &dyn Fn(Unit) -> i64| -> Vec<Short> {
        let judged = ladder.limits.budgets.iter().enumerate().filter_map(|(place, limited)| {
            let budget = ladder.budget(limited);
            let ceiling = limited
                .raised(balances[limited.counter])
                .overage_line(budget)
                .filter(|_| !budget.shadow)?;
            judge(place, budget, need(budget.unit), ceiling, balances[limited.counter])
        });
        judged.collect()
    };
    let blocking = short(&least);
    if blocking.is_empty() { short(&asked) } else { blocking }
}

fn judge(limited: usize, budget: &Budget, need: i64, ceiling: i64, balance: Balance) -> Option<Short> {
    if balance.taken().saturating_add(need) <= ceiling {
        return None;
    }
    let (code, by) = if need > ceiling {
        (Code::NeverFits, BlockedBy::Policy)
    } else if budget.period.is_rate() {
        (Code::HardLimitReached, BlockedBy::Rate)
    } else if balance.spent.saturating_add(need) <= ceiling {
        (Code::HardLimitReached, BlockedBy::Held)
    } else {
        (Code::HardLimitReached, BlockedBy::Spent)
    };
    Some(Short {
        limited,
        code,
        by,
        need,
        ceiling,
    })
}
