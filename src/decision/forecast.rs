//! When a budget will be used up if its period goes on as it began. A straight line, and only where it means something.

use super::limits::BudgetView;
use super::time::Timestamp;

/// A pace over less than this share of the period says nothing yet.
const PERIOD_PARTS_MIN: i128 = 100;

/// The moment at which `budget` runs out at the pace of its period so far; `None`: not in this period, or too early to tell.
/// `since` is when the workspace began: a pace is not thinned by time before it.
pub fn exhausted_at(budget: &BudgetView, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let line = budget.hard?.saturating_add(budget.granted);
    if budget.balance.spent >= line {
        return Some(now);
    }
    let (start, end) = (budget.period.start.max(since), budget.period.end);
    if end == Timestamp::MAX || budget.balance.spent <= 0 {
        return None;
    }
    let elapsed = i128::from(now.micros()) - i128::from(start.micros());
    let length = i128::from(end.micros()) - i128::from(budget.period.start.micros());
    if elapsed <= 0 || elapsed * PERIOD_PARTS_MIN < length {
        return None;
    }
    let left = i128::from(line) - i128::from(budget.balance.spent);
    let until = left * elapsed / i128::from(budget.balance.spent);
    let at = i64::try_from(i128::from(now.micros()) + until).ok().map(Timestamp::from_micros)?;
    (at < end).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::amount::Unit;
    use crate::decision::counter::Balance;
    use crate::decision::id::BudgetId;
    use crate::decision::limits::State;
    use crate::decision::period::{Period, PeriodKind};
    use crate::decision::plan::Scope;

    fn view(spent: i64, hard: Option<i64>) -> BudgetView {
        BudgetView {
            id: BudgetId::parse("b").expect("a name"),
            scope: Scope::Workspace,
            feature: None,
            unit: Unit::Tokens,
            kind: PeriodKind::Day,
            period: Period {
                start: at(0),
                end: at(1_000),
            },
            soft: None,
            hard,
            granted: 0,
            balance: Balance {
                spent,
                held: 0,
                granted: 0,
            },
            remaining: None,
            overage_remaining: None,
            state: State::Ok,
            shadow: false,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(0).plus_seconds(seconds)
    }

    #[test]
    fn a_pace_is_a_straight_line() {
        for (spent, hard, since, now, expected) in [
            (50, Some(100), 0, 250, Some(500)),
            (50, Some(100), 0, 600, None),
            (50, Some(100), 150, 250, Some(350)),
            (100, Some(100), 0, 250, Some(250)),
            (0, Some(100), 0, 250, None),
            (50, None, 0, 250, None),
            (50, Some(100), 0, 5, None),
        ] {
            let told = exhausted_at(&view(spent, hard), at(since), at(now));
            assert_eq!(told, expected.map(at), "{spent} of {hard:?} since {since} at {now}");
        }
    }
}
