//! The sentences of warnings and denials: what happened, when it ends and what to do.

use super::amount::Unit;
use super::ask::Ask;
use super::counter::{Balance, Counter, Whose};
use super::explain::{Because, Ceiling};
use super::id::{ModelId, ReservationId, WorkspaceId};
use super::limits::Limited;
use super::money::Usd;
use super::period::PeriodKind;
use super::plan::Budget;
use super::refusal::BlockedBy;
use super::time::Timestamp;
use super::verdict::Short;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub fn routed(rule: &str, model: &ModelId) -> String {
    format!("Routing chose {model} ({rule}).")
}

pub fn would_route(rule: &str) -> String {
    format!("The shadow routing rule {rule} would have applied.")
}

pub fn capped(output: i64) -> String {
    format!("The answer may have at most {} tokens; no more fits.", grouped(output))
}

pub fn would_deny(budget: &Budget, limited: &Limited) -> String {
    format!(
        "The shadow budget {} would have denied this request at its limit of {}.",
        budget.id,
        limit(budget, limited)
    )
}

pub fn soft(ask: &Ask, budget: &Budget, limited: &Limited, counter: &Counter, before: Balance) -> String {
    let who = who(ask, counter);
    let of = limit(budget, limited);
    format!(
        "{who} has used or holds {} of {of}{}.{}",
        amount(budget.unit, before.taken()),
        for_period(counter),
        renews(counter)
    )
}

pub fn asked_does_not_fit(budget: &Budget, limited: &Limited, before: Balance, need: i64) -> String {
    let left = limited.hard_line().unwrap_or(0).saturating_sub(before.taken()).max(0);
    format!(
        "The request as asked needs {} of budget {}, which has {} left.",
        amount(budget.unit, need),
        budget.id,
        amount(budget.unit, left)
    )
}

pub fn overage(budget: &Budget, beyond: i64) -> String {
    format!(
        "Budget {} is {} over its limit; the plan bills this as overage.",
        budget.id,
        amount(budget.unit, beyond)
    )
}

pub fn too_many_open(workspace: &WorkspaceId, open_max: u32) -> String {
    format!("Workspace {workspace} has {open_max} open reservations, as many as its plan allows. Settle or release some of them.")
}

pub fn run_has_no_calls(parent: ReservationId, calls_max: i64) -> String {
    format!(
        "The run of {parent} admits {} calls, and has had them. Open another one.",
        grouped(calls_max)
    )
}

/// What is left of an amount.
pub fn left_of(unit: Unit, left: i64, taken: i64) -> String {
    format!("{} of {}", amount(unit, left), amount(unit, taken))
}

/// Why what a parent has left does not do for a call.
pub fn run_is_short(parent: ReservationId, unit: Unit, left: i64, taken: i64, need: i64) -> String {
    format!(
        "The run of {parent} has {} left of its {}, and this call needs {}. Settle or release its calls, or open another run.",
        amount(unit, left),
        amount(unit, taken),
        amount(unit, need)
    )
}

/// Why a budget stands in the way of a request.
pub fn short(ask: &Ask, budget: &Budget, limited: &Limited, counter: &Counter, balance: Balance, short: &Short) -> String {
    let who = who(ask, counter);
    let need = amount(budget.unit, short.need);
    let ceiling = amount(budget.unit, short.ceiling);
    let left = short.ceiling.saturating_sub(balance.taken()).max(0);
    match short.by {
        BlockedBy::Policy => {
            format!(
                "The request needs {need}, and budget {} never allows more than {ceiling}. Make it smaller, or raise the limit.",
                budget.id
            )
        }
        BlockedBy::Held => format!(
            "Running requests of {} hold {}; with {} spent, {need} more would pass {ceiling}. Settle or release them, or wait until they expire.",
            in_sentence(&who),
            amount(budget.unit, balance.held),
            amount(budget.unit, balance.spent),
        ),
        BlockedBy::Rate => format!("{who} is at its rate of {} per {}.", limit(budget, limited), counter.kind.as_str()),
        BlockedBy::Spent if left == 0 => format!("{who} has used its {ceiling}{}.{}", for_period(counter), renews(counter)),
        BlockedBy::Spent => format!(
            "{who} has {} of its {ceiling} left{}, and this request needs {need}.{}",
            amount(budget.unit, left),
            for_period(counter),
            renews(counter)
        ),
    }
}

/// What an explanation says of questions to counters that did not answer.
pub const COUNTERS_AWAY: &str = "No counter was asked: they were away, and the plan allows that.";

/// Why a budget closes a rung, for an explanation.
pub fn closed(ceiling: &Ceiling, because: Because) -> String {
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

/// The upgrade link of a plan for one workspace.
pub fn upgrade_url(template: &str, workspace: &WorkspaceId) -> String {
    let mut encoded = String::with_capacity(workspace.as_str().len());
    for byte in workspace.as_str().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    template.replace("{workspace_id}", &encoded)
}

fn who(ask: &Ask, counter: &Counter) -> String {
    let feature = counter
        .feature
        .as_ref()
        .map(|feature| format!(" for {feature}"))
        .unwrap_or_default();
    match &counter.whose {
        Whose::Workspace => format!("Workspace {}{feature}", ask.workspace),
        Whose::User(Some(user)) => format!("User {user} of workspace {}{feature}", ask.workspace),
        Whose::User(None) => format!("The unnamed user of workspace {}{feature}", ask.workspace),
    }
}

fn in_sentence(who: &str) -> String {
    let mut chars = who.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

fn limit(budget: &Budget, limited: &Limited) -> String {
    amount(budget.unit, limited.hard_line().or(limited.soft_line()).unwrap_or(0))
}

pub(super) fn amount(unit: Unit, amount: i64) -> String {
    match unit {
        Unit::Usd => format!("${}", dollars(amount)),
        unit => format!("{} {}", grouped(amount), unit.as_str()),
    }
}

/// Dollars with at least two decimals, and as many more as say something.
fn dollars(nanos: i64) -> String {
    let text = Usd::from_nanos(nanos).to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{whole}.{}", &fraction[..kept])
}

/// 5,000,000 rather than 5000000.
fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if n < 0 {
        text.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn utc(at: Timestamp) -> jiff::civil::DateTime {
    jiff::tz::Offset::UTC.to_datetime(at.to_jiff())
}

pub(super) fn for_period(counter: &Counter) -> String {
    match counter.kind {
        PeriodKind::Minute => " for this minute".to_owned(),
        PeriodKind::Hour => " for this hour".to_owned(),
        PeriodKind::Day => " for today".to_owned(),
        PeriodKind::Week => " for this week".to_owned(),
        PeriodKind::Month => {
            // A month's middle lies in it whatever the time zone.
            let middle = utc(counter.period.start.plus_seconds(14 * 24 * 3600));
            MONTHS
                .get(usize::from(middle.month().unsigned_abs()) - 1)
                .map(|month| format!(" for {month}"))
                .unwrap_or_default()
        }
        PeriodKind::Year => " for this year".to_owned(),
        PeriodKind::Billing => " for this billing period".to_owned(),
        PeriodKind::Lifetime => String::new(),
    }
}

pub(super) fn renews(counter: &Counter) -> String {
    if counter.period.end == Timestamp::MAX {
        return String::new();
    }
    let end = utc(counter.period.end);
    let verb = if counter.unit == Unit::Usd { "It renews" } else { "They renew" };
    let midnight = end.hour() == 0 && end.minute() == 0 && end.second() == 0;
    match MONTHS.get(usize::from(end.month().unsigned_abs()) - 1) {
        Some(month) if midnight => format!(" {verb} on {} {month}.", end.day()),
        _ => format!(" {verb} at {}.", counter.period.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (5_000_000, "5,000,000"),
            (-1_234, "-1,234"),
        ] {
            assert_eq!(grouped(n), text);
        }
        for (nanos, text) in [(0, "0.00"), (1_500_000_000, "1.50"), (1, "0.000000001"), (12_345_000_000, "12.345")] {
            assert_eq!(dollars(nanos), text);
        }
    }

    #[test]
    fn an_upgrade_link_cannot_be_bent_by_a_workspace_id() {
        let workspace = WorkspaceId::parse("a/b+c=d|e").expect("a name");
        assert_eq!(
            upgrade_url("https://x.example/?ws={workspace_id}", &workspace),
            "https://x.example/?ws=a%2Fb%2Bc%3Dd%7Ce"
        );
    }
}
