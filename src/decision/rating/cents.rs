//! From nano-dollars to cents, the smallest amount that is ever paid, so that the parts are still what the whole is.

use super::TooMuch;
use crate::decision::money::{Usd, half_even};

pub const NANOS_PER_CENT: i64 = 10_000_000;

/// The amounts in whole cents. Their sum is the exact sum, rounded once, half to even: each amount is rounded down, and the cents that are
/// missing go to those that lost most by it; of those that lost the same to the first.
pub fn to_cents(amounts: &[Usd]) -> Result<Vec<Usd>, TooMuch> {
    let exact: i128 = amounts.iter().map(|amount| i128::from(amount.nanos())).sum();
    let total = half_even(exact, i128::from(NANOS_PER_CENT));
    let mut cents: Vec<i64> = amounts.iter().map(|amount| amount.nanos().div_euclid(NANOS_PER_CENT)).collect();
    let missing = total - cents.iter().map(|cents| i128::from(*cents)).sum::<i128>();
    let mut by_loss: Vec<usize> = (0..amounts.len()).collect();
    by_loss.sort_by_key(|place| std::cmp::Reverse(amounts[*place].nanos().rem_euclid(NANOS_PER_CENT)));
    // Each loses less than a cent, so no more are missing than there are amounts.
    for place in by_loss.into_iter().take(usize::try_from(missing).map_err(|_| TooMuch)?) {
        cents[place] += 1;
    }
    let usd = |cents: i64| cents.checked_mul(NANOS_PER_CENT).map(Usd::from_nanos).ok_or(TooMuch);
    cents.into_iter().map(usd).collect()
}
