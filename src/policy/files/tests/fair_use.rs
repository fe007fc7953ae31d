//! What is wrong with a rule of fair use is told by its place.

use super::*;

#[test]
fn a_rule_looks_at_one_thing_and_has_what_it_needs() {
    for (rule, expected) in [
        (
            "§{name: r, over_minutes: 5}",
            "a rule has either over_minutes and min_amount, or calls and seconds for a loop of one user and feature",
        ),
        (
            "§{name: r, over_minutes: 5, min_amount: 1, calls: 5, seconds: 5}",
            "a rule has either over_minutes and min_amount, or calls and seconds for a loop of one user and feature",
        ),
        ("{name: r, over_minutes: 5, min_amount: §0}", "the least amount is above zero"),
        (
            "{name: r, over_minutes: 5, measure: usd, min_amount: §5}",
            "a limit in usd is a decimal in quotes: write \"5\", not 5",
        ),
        (
            "{name: r, over_minutes: §241, min_amount: 5}",
            "a whole number must be from 1 to 240",
        ),
        (
            "{name: r, over_minutes: 5, min_amount: 5, ratio: §1}",
            "a whole number must be from 2 to 1000",
        ),
        ("{name: r, calls: 5, seconds: 5, ratio: §5}", "a loop has no ratio"),
        ("{name: r, calls: 5, seconds: 5, measure: §requests}", "a loop counts calls"),
        (
            "{name: r, calls: 5, seconds: 5, act: §stop}",
            "\"stop\" is none of `event`, `throttle`, `downgrade`, `pause`",
        ),
        (
            "{name: r, calls: 5, seconds: 5, for_seconds: §86401}",
            "a whole number must be from 1 to 86400",
        ),
        (
            "{name: r, calls: 5, seconds: 5, downgrade_to: §fast}",
            "downgrade_to is for rules that downgrade",
        ),
        (
            "{name: r, calls: 5, seconds: 5, act: downgrade, downgrade_to: §fats}",
            "fats is neither a tier nor a model; did you mean fast?",
        ),
        (
            "{name: §\"\", calls: 5, seconds: 5}",
            "a rule's name has 1 to 128 characters on one line",
        ),
        (
            "{name: r, calls: 5, seconds: 5}, {name: §r, calls: 6, seconds: 5}",
            "there is more than one rule \"r\"",
        ),
    ] {
        says_at_mark(PLANS_FILE, &format!("plans:\n  - id: p\n    fair_use: [{rule}]\n"), expected);
    }
}
