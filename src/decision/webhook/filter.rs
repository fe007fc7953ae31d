//! Which events an endpoint is told: by name, by the beginning of a name, or all.

use crate::decision::event::EventType;
use crate::decision::nearest::nearest;
use std::fmt;

/// The most filters of an endpoint.
pub const FILTERS_MAX: usize = 32;
/// The longest filter.
pub const FILTER_CHARS_MAX: usize = 64;

/// One of an endpoint's filters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Filter(String);

impl Filter {
    /// The name of an event, or the beginning of one followed by `*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > FILTER_CHARS_MAX {
            return Err(format!("must have 1 to {FILTER_CHARS_MAX} characters"));
        }
        let known = EventType::ALL.map(EventType::as_str);
        let is_met = match text.strip_suffix('*') {
            Some(beginning) => known.iter().any(|name| name.starts_with(beginning)),
            None => known.contains(&text),
        };
        if is_met {
            return Ok(Self(text.to_owned()));
        }
        let meant = nearest(text, known);
        let hint = meant.map_or_else(
            || format!("there are {}", known.join(", ")),
            |meant| format!("did you mean {meant}?"),
        );
        Err(format!("no event is called like that; {hint}"))
    }

    /// As it was kept.
    pub fn kept(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn matches(&self, event: EventType) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => !event.is_opt_in() && event.as_str().starts_with(beginning),
            None => self.0 == event.as_str(),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an event of this type passes any of these filters.
pub fn passes(filters: &[Filter], event: EventType) -> bool {
    filters.iter().any(|filter| filter.matches(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_names_beginnings_and_all() {
        for good in ["*", "budget.*", "budget.exhausted", "usage.recorded", "budget.ex*"] {
            assert!(Filter::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "budget",
            "budget.exhauste",
            "x*",
            "*.exhausted",
            "**",
            "budget.*x",
            "BUDGET.*",
            &"x".repeat(65),
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
        let told = Filter::parse("budget.exausted").expect_err("unknown");
        assert!(told.contains("did you mean budget.exhausted?"), "{told}");
    }

    #[test]
    fn what_is_told_for_each_use_wants_to_be_named() {
        for (filter, event, is_told) in [
            ("*", "budget.exhausted", true),
            ("*", "usage.anomaly_detected", true),
            ("*", "usage.recorded", false),
            ("usage.*", "usage.recorded", false),
            ("usage.recorded", "usage.recorded", true),
            ("budget.*", "budget.renewed", true),
            ("budget.*", "usage.anomaly_detected", false),
            ("budget.renewed", "budget.exhausted", false),
        ] {
            let filters = [Filter::parse(filter).expect(filter)];
            let event = EventType::parse(event).expect(event);
            assert_eq!(passes(&filters, event), is_told, "{filter} {event:?}");
        }
        assert!(!passes(&[], EventType::BudgetExhausted));
    }
}
