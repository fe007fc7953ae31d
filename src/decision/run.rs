//! Runs: what a call may take from its parent's hold, and what is said when the parent has not enough.
//!
//! A run's ceiling is what its parent holds on counters, unit by unit: a plan that counts dollars alone caps a run in dollars alone.
//! A parent on no counter at all, as on an unlimited plan, is a ceiling in tokens and dollars.

use super::amount::{Amounts, Unit};
use super::ask::Ask;
use super::counter::Balance;
use super::id::ReservationId;
use super::ladder::Ladder;
use super::message::{self, Voice};
use super::refusal::{BlockedBy, Code};
use super::rung::{self, Limit, Rung, Taken};
use super::verdict::{Block, Denied, Reason};
use serde::{Deserialize, Serialize};

/// In which units a parent that holds on counters of these is a ceiling, each once.
pub fn units(counted: impl Iterator<Item = Unit>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for unit in counted {
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    if units.is_empty() { vec![Unit::Tokens, Unit::Usd] } else { units }
}

/// The first rung that a parent with so much left pays for. Limits of the rungs themselves are not asked.
pub fn first_fit(rungs: &[Rung], units: &[Unit], left: Amounts) -> Option<Taken> {
    let limits: Vec<Limit> = units
        .iter()
        .enumerate()
        .map(|(counter, unit)| Limit {
            granted: false,
            counter,
            open_below: None,
            ceiling: Some(left.of(*unit)),
        })
        .collect();
    let balances = vec![Balance::default(); units.len()];
    rungs.iter().enumerate().find_map(|(place, rung)| {
        let under_parent = Rung {
            limits: limits.clone(),
            ..rung.clone()
        };
        let (output, amounts) = rung::fit(&under_parent, units, &balances)?;
        Some(Taken {
            rung: place,
            output,
            amounts,
        })
    })
}

/// How a parent stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    pub parent: ReservationId,
    pub taken: Amounts,
    /// By all its calls.
    pub used: Amounts,
    /// What live calls hold.
    pub lent: Amounts,
    pub calls: i64,
    /// Of these, how many are live.
    pub live_calls: i64,
    pub calls_max: Option<i64>,
}

impl Account {
    /// What the next call may take.
    pub fn left(&self) -> Amounts {
        self.taken.beyond(self.used.plus(self.lent))
    }

    /// Whether it has a call left.
    pub fn admits(&self) -> bool {
        self.calls_max.is_none_or(|most| self.calls < most)
    }
}

/// The denial of a call whose parent has not enough left, in any of these units or in calls.
pub fn exhausted(voice: Voice<'_>, ask: &Ask, ladder: &Ladder, units: &[Unit], account: &Account) -> Denied {
    let upgrade_url = ladder.plan.upgrade_url.as_deref();
    let upgrade_url = || upgrade_url.map(|url| message::upgrade_url(url, &ask.workspace));
    let told = |by: BlockedBy, message: String| Reason {
        code: Code::ParentExhausted,
        budget: None,
        message,
        block: Some(Block {
            by,
            // Each call that ends may give something back, so there is no better moment to name than soon; nothing else ever does.
            retry_after_seconds: (by == BlockedBy::Held).then_some(1),
            upgrade_url: upgrade_url(),
        }),
    };
    let mut reasons = Vec::new();
    if let Some(most) = account.calls_max.filter(|most| account.calls >= *most) {
        reasons.push(told(BlockedBy::Policy, message::run_has_no_calls(voice, account.parent, most)));
    }
    // As with budgets: first what is short for every rung, else what is short for the asked model.
    let least = |rung: &Rung| rung.cap.map_or(rung.needs, |cap| cap.amounts(cap.least, rung.needs.requests));
    let least_of = |unit: Unit| ladder.rungs.iter().map(|rung| least(rung).of(unit)).min().unwrap_or(0);
    let asked = |unit: Unit| ladder.rungs.get(ladder.asked).map_or(0, |rung| rung.needs.of(unit));
    let short = |need: &dyn Fn(Unit) -> i64| -> Vec<Reason> {
        let short = units.iter().filter(|unit| need(**unit) > account.left().of(**unit));
        short
            .map(|unit| {
                let (need, taken) = (need(*unit), account.taken.of(*unit));
                let by = if need > taken {
                    BlockedBy::Policy
                } else if need.saturating_add(account.used.of(*unit)) <= taken {
                    BlockedBy::Held
                } else {
                    BlockedBy::Spent
                };
                told(
                    by,
                    message::run_is_short(voice, account.parent, *unit, account.left().of(*unit), taken, need),
                )
            })
            .collect()
    };
    let blocking = short(&least_of);
    reasons.extend(if blocking.is_empty() { short(&asked) } else { blocking });
    Denied {
        code: Code::ParentExhausted,
        reasons,
        shadow_reasons: Vec::new(),
        budgets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::Timestamp;

    fn rung(tokens: i64, usd: i64) -> Rung {
        let needs = Amounts {
            tokens,
            usd,
            requests: 1,
            credits: 0,
        };
        Rung {
            needs,
            output: tokens,
            cap: None,
            limits: Vec::new(),
            expires_at: Timestamp::MAX,
        }
    }

    #[test]
    fn a_parent_is_a_ceiling_in_the_units_that_it_holds_on_counters() {
        let left = Amounts {
            tokens: 10,
            usd: 10,
            requests: 0,
            credits: 0,
        };
        for (counted, tokens, usd, fits) in [
            (vec![Unit::Tokens], 10, 11, true),
            (vec![Unit::Tokens], 11, 1, false),
            (vec![Unit::Usd, Unit::Usd], 11, 10, true),
            (vec![Unit::Tokens, Unit::Requests], 1, 1, false),
            (vec![], 10, 10, true),
            (vec![], 11, 10, false),
            (vec![], 10, 11, false),
        ] {
            let units = units(counted.clone().into_iter());
            let taken = first_fit(&[rung(tokens, usd)], &units, left);
            assert_eq!(taken.is_some(), fits, "{counted:?}: {tokens} tokens, {usd} usd");
        }
    }

    #[test]
    fn the_first_rung_that_the_rest_pays_for_is_taken() {
        let left = Amounts {
            tokens: 10,
            ..Amounts::ZERO
        };
        let taken = first_fit(&[rung(11, 0), rung(10, 0), rung(1, 0)], &[Unit::Tokens], left);
        assert_eq!(taken.map(|taken| taken.rung), Some(1));
    }
}
