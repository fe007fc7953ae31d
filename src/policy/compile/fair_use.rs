//! Rules of fair use: each looks at one thing, in amounts of its unit, and does something that has what it needs.

use super::plan::{Targets, amount, narrow};
use super::{Found, LABEL_CHARS_MAX, is_label};
use crate::decision::amount::Unit;
use crate::decision::anomaly::{Act, RULES_MAX, Rule, Watch};
use crate::policy::document::{FairUseAct, FairUseDocument, Measure};

pub(super) fn rules(documents: &[FairUseDocument], targets: &Targets<'_>, found: &mut Found) -> Vec<Rule> {
    if documents.len() > RULES_MAX {
        found.value("/fair_use", format!("a plan has at most {RULES_MAX} rules of fair use"));
    }
    let mut rules: Vec<Rule> = Vec::with_capacity(documents.len());
    for (n, document) in documents.iter().take(RULES_MAX).enumerate() {
        let place = format!("/fair_use/{n}");
        let name = document.name.as_str();
        if !is_label(name) {
            let detail = format!("a rule's name has 1 to {LABEL_CHARS_MAX} characters on one line");
            found.value(format!("{place}/name"), detail);
        }
        if rules.iter().any(|other| *other.name == *name) {
            found.value(format!("{place}/name"), format!("there is more than one rule {name:?}"));
        }
        let act = act(document, &place, targets, found);
        if let Some(watch) = watch(document, &place, found) {
            rules.push(Rule {
                name: name.into(),
                watch,
                act,
                for_seconds: document.for_seconds.get(),
                shadow: document.shadow,
            });
        }
    }
    rules
}

fn watch(document: &FairUseDocument, place: &str, found: &mut Found) -> Option<Watch> {
    let unit = match document.measure {
        Measure::Tokens => Unit::Tokens,
        Measure::Requests => Unit::Requests,
        Measure::Usd => Unit::Usd,
    };
    match (document.over_minutes, document.min_amount, document.calls, document.seconds) {
        (Some(over), Some(least), None, None) => {
            let min_amount = amount(least, unit, format!("{place}/min_amount"), found)?;
            if min_amount == 0 {
                found.value(format!("{place}/min_amount"), "the least amount is above zero");
            }
            Some(Watch::Use {
                unit,
                scope: document.scope,
                over_minutes: over.get(),
                ratio: document.ratio.map(|ratio| ratio.get()),
                min_amount,
            })
        }
        (None, None, Some(calls), Some(seconds)) => {
            // What is said for nothing is said in the belief that it counts.
            if document.ratio.is_some() {
                found.value(format!("{place}/ratio"), "a loop has no ratio");
            }
            if document.measure != Measure::Tokens {
                found.value(format!("{place}/measure"), "a loop counts calls");
            }
            Some(Watch::Loop {
                calls: calls.get(),
                seconds: seconds.get(),
            })
        }
        _ => {
            found.value(
                place,
                "a rule has either over_minutes and min_amount, or calls and seconds for a loop of one user and feature",
            );
            None
        }
    }
}

fn act(document: &FairUseDocument, place: &str, targets: &Targets<'_>, found: &mut Found) -> Act {
    if document.downgrade_to.is_some() && document.act != FairUseAct::Downgrade {
        found.value(format!("{place}/downgrade_to"), "downgrade_to is for rules that downgrade");
    }
    match document.act {
        FairUseAct::Event => Act::Event,
        FairUseAct::Pause => Act::Pause,
        FairUseAct::Throttle => Act::Throttle {
            delay_ms: narrow(document.throttle_ms.get()),
        },
        FairUseAct::Downgrade => Act::Downgrade {
            to: document
                .downgrade_to
                .as_ref()
                .map(|name| super::plan::downgrade(name, place, targets, found)),
        },
    }
}
