//! What an explanation says to people who operate Weir: always in English, unlike what their customers read.

use super::{Because, Ceiling};
use crate::decision::amount::Unit;
use crate::decision::message::Voice;

/// What is said of questions to counters that did not answer.
pub(super) const COUNTERS_AWAY: &str = "No counter was asked: they were away, and the plan allows that.";

/// What is said of questions that come behind the cache.
pub(super) const ANSWERED: &str = "The cache had an answer, so this was not asked.";

fn amount(unit: Unit, amount: i64) -> String {
    Voice::english().amount(unit, amount)
}

/// What is left of an amount.
pub(super) fn left_of(unit: Unit, left: i64, taken: i64) -> String {
    format!("{} of {}", amount(unit, left), amount(unit, taken))
}

/// Why a budget closes a rung.
pub(super) fn closed(ceiling: &Ceiling, because: Because) -> String {
    let unit = ceiling.counter.unit;
    let (need, room) = (amount(unit, ceiling.need), amount(unit, ceiling.room.unwrap_or(0).max(0)));
    let line = |line: Option<i64>| amount(unit, line.unwrap_or(0));
    let (spent, held) = (amount(unit, ceiling.spent), amount(unit, ceiling.held));
    match because {
        Because::SoftLimitReached => format!(
            "{spent} spent and {held} held are not below the soft limit of {}.",
            line(ceiling.open_below)
        ),
        Because::NeverFits => format!("{need} are more than the whole limit of {}.", line(ceiling.ceiling)),
        Because::Held => format!(
            "{need} are needed and {room} are left of {}: {held} are held.",
            line(ceiling.ceiling)
        ),
        Because::Spent => format!(
            "{need} are needed and {room} are left of {}: {spent} are spent.",
            line(ceiling.ceiling)
        ),
    }
}
