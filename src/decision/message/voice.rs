//! In whose words something is said: the texts of a policy by language and plan, and how a language writes numbers, amounts and times.

use super::language::{Language, lookup};
use super::template::Template;
use super::texts::{Slot, Text};
use crate::decision::amount::Unit;
use crate::decision::id::PlanId;
use crate::decision::money::Usd;
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// The language of whoever asks for none that there is.
pub const LANGUAGE_DEFAULT: &str = "en";

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

/// How one language says things. Every text is there.
#[derive(Clone, PartialEq, Debug)]
pub struct Locale {
    /// Between thousands; empty: nothing.
    pub group: Box<str>,
    pub decimal: Box<str>,
    pub months: [Box<str>; 12],
    pub texts: HashMap<Text, Template>,
    /// What plans say otherwise.
    pub plans: HashMap<PlanId, HashMap<Text, Template>>,
}

impl Locale {
    /// English as it stands beside the names of the texts.
    pub fn english() -> Self {
        let template = |text: &Text| (*text, Template::parse(*text, text.english()).expect("its test parses each"));
        Self {
            group: ",".into(),
            decimal: ".".into(),
            months: MONTHS.map(Into::into),
            texts: Text::ALL.iter().map(template).collect(),
            plans: HashMap::new(),
        }
    }
}

/// All that a policy can say.
#[derive(Clone, PartialEq, Debug)]
pub struct Messages {
    pub locales: Vec<(Language, Arc<Locale>)>,
    pub default: Arc<Locale>,
}

static ENGLISH: LazyLock<Arc<Messages>> = LazyLock::new(|| {
    let default = Arc::new(Locale::english());
    let language = Language::parse(LANGUAGE_DEFAULT).expect("a tag");
    Arc::new(Messages {
        locales: vec![(language, default.clone())],
        default,
    })
});

impl Default for Messages {
    fn default() -> Self {
        Messages::english().as_ref().clone()
    }
}

impl Messages {
    /// English alone.
    pub fn english() -> &'static Arc<Messages> {
        &ENGLISH
    }

    pub fn locale(&self, language: &Language) -> Option<&Arc<Locale>> {
        self.locales.iter().find(|(known, _)| known == language).map(|(_, locale)| locale)
    }
}

/// Whose words are used: of the languages that the caller accepts, else that of the plan, else the policy's default.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    messages: &'a Messages,
    /// As in `Accept-Language`.
    accepted: Option<&'a str>,
    plan: Option<&'a Plan>,
}

impl<'a> Voice<'a> {
    pub fn new(messages: &'a Messages, accepted: Option<&'a str>, plan: Option<&'a Plan>) -> Self {
        Self { messages, accepted, plan }
    }

    /// For people who operate Weir.
    pub fn english() -> Voice<'static> {
        Voice::new(Messages::english(), None, None)
    }

    /// Only looked up when something is said, which is seldom.
    fn locale(&self) -> &'a Locale {
        let accepted = self.accepted.and_then(|accepted| lookup(accepted, &self.messages.locales));
        let of_plan = || self.messages.locale(self.plan?.locale.as_ref()?);
        accepted.or_else(of_plan).unwrap_or(&self.messages.default)
    }

    pub fn say(&self, text: Text, values: &[(Slot, &str)]) -> String {
        debug_assert!(
            text.slots().iter().all(|slot| values.iter().any(|(given, _)| given == slot)),
            "{} lacks a value",
            text.key()
        );
        let locale = self.locale();
        let own = self
            .plan
            .and_then(|plan| locale.plans.get(&plan.id))
            .and_then(|texts| texts.get(&text));
        own.or_else(|| locale.texts.get(&text))
            .map(|template| template.fill(values))
            .unwrap_or_default()
    }

    pub fn month(&self, number: i8) -> &'a str {
        let place = usize::from(number.unsigned_abs()).saturating_sub(1);
        self.locale().months.get(place).map_or("", |month| month)
    }

    /// 5,000,000 tokens; $1.50.
    pub fn amount(&self, unit: Unit, amount: i64) -> String {
        let number = match unit {
            Unit::Usd => self.dollars(amount),
            _ => self.number(amount),
        };
        let text = match (unit, amount) {
            (Unit::Tokens, 1) => Text::OneToken,
            (Unit::Tokens, _) => Text::Tokens,
            (Unit::Requests, 1) => Text::OneRequest,
            (Unit::Requests, _) => Text::Requests,
            (Unit::Credits, 1) => Text::OneCredit,
            (Unit::Credits, _) => Text::Credits,
            (Unit::Usd, _) => Text::Usd,
        };
        self.say(text, &[(Slot::Amount, &number)])
    }

    /// Dollars with at least two decimals, and as many more as say something.
    fn dollars(&self, nanos: i64) -> String {
        let text = Usd::from_nanos(nanos).to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
        let kept = fraction.trim_end_matches('0').len().max(2);
        let locale = self.locale();
        let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
        format!("{sign}{}{}{}", grouped(digits, &locale.group), locale.decimal, &fraction[..kept])
    }

    /// 5,000,000 rather than 5000000.
    pub fn number(&self, n: i64) -> String {
        let digits = grouped(&n.unsigned_abs().to_string(), &self.locale().group);
        if n < 0 { format!("-{digits}") } else { digits }
    }

    /// 1 December.
    pub fn date(&self, at: Timestamp) -> String {
        let at = utc(at);
        self.say(
            Text::Date,
            &[(Slot::Day, &at.day().to_string()), (Slot::Month, self.month(at.month()))],
        )
    }

    /// 23:00 UTC.
    pub fn clock(&self, at: Timestamp) -> String {
        let at = utc(at);
        let (hour, minute) = (format!("{:02}", at.hour()), format!("{:02}", at.minute()));
        self.say(Text::Clock, &[(Slot::Hour, &hour), (Slot::Minute, &minute)])
    }

    /// 30 November at 23:00 UTC.
    pub fn time(&self, at: Timestamp) -> String {
        self.say(Text::Time, &[(Slot::Date, &self.date(at)), (Slot::Clock, &self.clock(at))])
    }
}

pub(super) fn utc(at: Timestamp) -> jiff::civil::DateTime {
    jiff::tz::Offset::UTC.to_datetime(at.to_jiff())
}

fn grouped(digits: &str, group: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push_str(group);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let voice = Voice::english();
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (5_000_000, "5,000,000"),
            (-1_234, "-1,234"),
        ] {
            assert_eq!(voice.number(n), text);
        }
        for (nanos, text) in [
            (0, "$0.00"),
            (1_500_000_000, "$1.50"),
            (1, "$0.000000001"),
            (12_345_000_000, "$12.345"),
            (1_234_500_000_000, "$1,234.50"),
        ] {
            assert_eq!(voice.amount(Unit::Usd, nanos), text);
        }
        assert_eq!(voice.amount(Unit::Tokens, 1), "1 token");
        assert_eq!(voice.amount(Unit::Requests, 2), "2 requests");
    }
}
