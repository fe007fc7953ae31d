//! Rungs as a store sees them: amounts and ceilings over counters, nothing of plans or models. A store takes the first that fits.

use super::amount::{Amounts, Unit};
use super::counter::Balance;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Numerators of a [`Line`] stay below this, so that a store that counts in doubles computes them exactly.
pub const EXACT_MAX: i128 = 1 << 52;

/// One way to serve a request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rung {
    /// What the whole answer needs.
    pub needs: Amounts,
    /// The longest answer that it pays for.
    pub output: i64,
    /// Present where a shorter answer is acceptable: the store may then choose its length.
    pub cap: Option<Cap>,
    pub limits: Vec<Limit>,
    /// When a hold that this rung takes runs out.
    pub expires_at: Timestamp,
}

/// What one counter must allow before a rung is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// The place of the counter in the list that goes with the rungs.
    pub counter: usize,
    /// Spent and held must be below this before the request.
    pub open_below: Option<i64>,
    /// Spent, held and need together must not pass this.
    pub ceiling: Option<i64>,
    /// Both are raised by what the balance says is granted.
    pub granted: bool,
}

impl Limit {
    fn raised(&self, line: Option<i64>, balances: &[Balance]) -> Option<i64> {
        let granted = if self.granted { balances[self.counter].granted } else { 0 };
        line.map(|line| line.saturating_add(granted))
    }

    /// Whether the counter is still open to this rung.
    fn is_open(&self, balances: &[Balance]) -> bool {
        let below = self.raised(self.open_below, balances);
        below.is_none_or(|below| balances[self.counter].taken() < below)
    }

    /// How much more fits; `None`: anything.
    fn room(&self, balances: &[Balance]) -> Option<i64> {
        let ceiling = self.raised(self.ceiling, balances);
        ceiling.map(|ceiling| ceiling.saturating_sub(balances[self.counter].taken()))
    }
}

/// How much an answer of `n` output tokens needs, for `n` from `least` to the rung's `output`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cap {
    pub least: i64,
    pub tokens: Line,
    pub usd: Line,
    pub credits: Line,
}

/// `(base + per_output × n) / denominator`, rounded half to even where money is meant and up where credits are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    pub base: i64,
    pub per_output: i64,
    pub denominator: i64,
    pub up: bool,
}

impl Line {
    /// A line in lowest terms. Where its numbers would not be exact in a double they are rounded up to whole units, which can only hold more.
    pub fn new(base: i128, per_output: i128, denominator: i128, output_max: i64, up: bool) -> Self {
        let divisor = gcd(gcd(base, per_output), denominator).max(1);
        let (base, per_output, denominator) = (base / divisor, per_output / divisor, denominator / divisor);
        let exact = base + per_output * i128::from(output_max) < EXACT_MAX;
        let (base, per_output, denominator) = if exact {
            (base, per_output, denominator)
        } else {
            (ceil(base, denominator), ceil(per_output, denominator), 1)
        };
        let narrow = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            base: narrow(base),
            per_output: narrow(per_output),
            denominator: narrow(denominator),
            up,
        }
    }

    pub fn at(&self, output: i64) -> i64 {
        let numerator = i128::from(self.base) + i128::from(self.per_output) * i128::from(output);
        let denominator = i128::from(self.denominator);
        let amount = if self.up {
            ceil(numerator, denominator)
        } else {
            super::money::half_even(numerator, denominator)
        };
        i64::try_from(amount).unwrap_or(i64::MAX)
    }

    /// The longest output whose exact amount stays within `room`; negative when even none does.
    pub(super) fn longest(&self, room: i64) -> i64 {
        let left = i128::from(room) * i128::from(self.denominator) - i128::from(self.base);
        match (left < 0, self.per_output) {
            (true, _) => -1,
            (false, 0) => i64::MAX,
            (false, per_output) => i64::try_from(left / i128::from(per_output)).unwrap_or(i64::MAX),
        }
    }
}

fn ceil(numerator: i128, denominator: i128) -> i128 {
    -(-numerator).div_euclid(denominator)
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

impl Cap {
    pub(super) fn line(&self, unit: Unit) -> Option<&Line> {
        match unit {
            Unit::Tokens => Some(&self.tokens),
            Unit::Usd => Some(&self.usd),
            Unit::Credits => Some(&self.credits),
            Unit::Requests => None,
        }
    }

    pub fn amounts(&self, output: i64, requests: i64) -> Amounts {
        Amounts {
            tokens: self.tokens.at(output),
            usd: self.usd.at(output),
            requests,
            credits: self.credits.at(output),
        }
    }
}

/// Which rung was taken, with how long an answer and at what need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub rung: usize,
    pub output: i64,
    pub amounts: Amounts,
}

/// The first rung that fits every counter, or none. `units` and `balances` belong to the counters in their order.
pub fn first_fit(rungs: &[Rung], units: &[Unit], balances: &[Balance]) -> Option<Taken> {
    rungs.iter().enumerate().find_map(|(index, rung)| {
        let (output, amounts) = fit(rung, units, balances)?;
        Some(Taken {
            rung: index,
            output,
            amounts,
        })
    })
}

/// The answer's length and need if `rung` fits.
pub fn fit(rung: &Rung, units: &[Unit], balances: &[Balance]) -> Option<(i64, Amounts)> {
    if !rung.limits.iter().all(|limit| limit.is_open(balances)) {
        return None;
    }
    let room = |limit: &Limit| limit.room(balances);
    let whole = rung
        .limits
        .iter()
        .all(|limit| room(limit).is_none_or(|room| rung.needs.of(units[limit.counter]) <= room));
    if whole {
        return Some((rung.output, rung.needs));
    }
    let cap = rung.cap?;
    let mut output = rung.output;
    for limit in &rung.limits {
        let Some(room) = room(limit) else { continue };
        let unit = units[limit.counter];
        match cap.line(unit) {
            Some(line) => output = output.min(line.longest(room)),
            None if rung.needs.of(unit) > room => return None,
            None => {}
        }
    }
    (output >= cap.least).then(|| (output, cap.amounts(output, rung.needs.requests)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(tokens: i64, output: i64, limits: Vec<Limit>) -> Rung {
        Rung {
            needs: Amounts {
                tokens,
                requests: 1,
                ..Amounts::ZERO
            },
            output,
            cap: None,
            limits,
            expires_at: Timestamp::MAX,
        }
    }

    fn under(ceiling: i64) -> Vec<Limit> {
        vec![Limit {
            counter: 0,
            open_below: None,
            ceiling: Some(ceiling),
            granted: false,
        }]
    }

    const TOKENS: [Unit; 1] = [Unit::Tokens];

    #[test]
    fn a_need_may_reach_a_ceiling_and_not_pass_it() {
        for (spent, held, need, fits) in [
            (0, 0, 100, true),
            (0, 0, 101, false),
            (50, 49, 1, true),
            (50, 50, 1, false),
            (50, 50, 0, true),
            (150, 0, 0, false),
        ] {
            let taken = first_fit(&[rung(need, 0, under(100))], &TOKENS, &[Balance { spent, held, granted: 0 }]);
            assert_eq!(taken.is_some(), fits, "{spent} + {held} + {need}");
        }
    }

    #[test]
    fn a_soft_limit_is_judged_before_the_request() {
        let soft = vec![Limit {
            granted: false,
            counter: 0,
            open_below: Some(80),
            ceiling: Some(100),
        }];
        for (taken, fits) in [(79, true), (80, false)] {
            let balance = Balance {
                spent: taken,
                held: 0,
                granted: 0,
            };
            assert_eq!(
                first_fit(&[rung(20, 0, soft.clone())], &TOKENS, &[balance]).is_some(),
                fits,
                "{taken}"
            );
        }
    }

    #[test]
    fn the_first_of_several_is_taken() {
        let rungs = [rung(10, 0, under(5)), rung(10, 0, under(10)), rung(1, 0, under(10))];
        assert_eq!(first_fit(&rungs, &TOKENS, &[Balance::default()]).map(|taken| taken.rung), Some(1));
    }

    #[test]
    fn a_cap_takes_what_is_left_and_no_less_than_the_least() {
        let line = |base, per_output, up| Line::new(base, per_output, 1, 1_024, up);
        let cap = Cap {
            least: 256,
            tokens: line(300, 1, false),
            usd: line(0, 0, false),
            credits: line(0, 0, true),
        };
        let capped = Rung {
            cap: Some(cap),
            ..rung(1_324, 1_024, under(1_000))
        };
        assert_eq!(
            first_fit(std::slice::from_ref(&capped), &TOKENS, &[Balance::default()]).map(|t| (t.output, t.amounts.tokens)),
            Some((700, 1_000))
        );
        assert_eq!(
            first_fit(
                &[capped],
                &TOKENS,
                &[Balance {
                    spent: 500,
                    held: 0,
                    granted: 0
                }]
            ),
            None,
            "200 left is less than the least"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_capped_need_never_passes_the_room_and_one_more_would(
            base in 0i128..1_000_000_000_000, per_output in 1i128..1_000_000_000, denominator in 1i128..10_000, room in 0i64..1_000_000_000,
        ) {
            let line = Line::new(base, per_output, denominator, 1 << 20, false);
            let longest = line.longest(room);
            if longest >= 0 {
                proptest::prop_assert!(line.at(longest) <= room);
                proptest::prop_assert!(line.at(longest.saturating_add(1)) >= room);
            }
        }
    }
}
