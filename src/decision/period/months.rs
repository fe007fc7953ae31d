//! Months counted from a moment, in UTC: how a billing provider steps from the anchor of a subscription.

use super::super::time::Timestamp;
use super::day::Day;

const DAY_MICROS: i64 = 86_400_000_000;

fn day_of(at: Timestamp) -> Day {
    Day(at.micros().div_euclid(DAY_MICROS))
}

/// The moment in the month that lies `months` after that of `anchor`: at its time of day, on its day of the month or on `day`, or on the last
/// one where the month has fewer.
pub fn months_from(anchor: Timestamp, day: Option<u8>, months: i64) -> Timestamp {
    let (month, own) = day_of(anchor).in_month();
    let turn = month.plus(months).day(day.map_or(own, i64::from));
    let time_of_day = anchor.micros().rem_euclid(DAY_MICROS);
    Timestamp::from_micros(turn.0.saturating_mul(DAY_MICROS).saturating_add(time_of_day))
}

/// How many months the month of `to` lies after that of `from`.
pub fn months_between(from: Timestamp, to: Timestamp) -> i64 {
    day_of(to).in_month().0.0 - day_of(from).in_month().0.0
}
