//! Texts: each known by its key, each placeholder one that its text has, each language whole.

use super::{Found, hint};
use crate::decision::id::PlanId;
use crate::decision::message::language::Language;
use crate::decision::message::template::Template;
use crate::decision::message::{Locale, Messages, Text};
use crate::decision::plan::Plan;
use crate::decision::pointer;
use crate::policy::document::{Documents, LocaleDocument, MessagesDocument};
use crate::policy::object::ObjectId;
use crate::policy::problem::{Part, Problem};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// The most languages of a policy.
const LOCALES_MAX: usize = 32;
/// The most plans of one language that say something otherwise.
const PLANS_MAX: usize = 1_000;
const MONTH_CHARS_MAX: usize = 32;
const SEPARATOR_CHARS_MAX: usize = 2;

/// What Weir brings along: the samples, compiled in; their test keeps them good.
pub static SHIPPED: LazyLock<Arc<Messages>> = LazyLock::new(|| {
    let value = crate::policy::yaml::parse(include_str!("../../../policies/messages.yaml")).expect("the sample messages are YAML");
    let document: MessagesDocument = crate::policy::read::read(&value.to_value()).expect("the sample messages have the shape");
    let mut found = Found::default();
    let messages = build(&document, &HashMap::new(), Messages::english(), &mut found);
    assert!(found.problems.is_empty(), "the sample messages are broken: {:?}", found.problems);
    Arc::new(messages)
});

pub(super) fn messages(documents: &Documents, plans: &HashMap<PlanId, Arc<Plan>>, found: &mut Found) -> Arc<Messages> {
    let messages = match &documents.messages {
        None => SHIPPED.clone(),
        Some(document) => {
            found.about(&ObjectId::messages());
            Arc::new(build(document, plans, &SHIPPED, found))
        }
    };
    for plan in plans.values() {
        if let Some(language) = plan.locale.as_ref().filter(|language| messages.locale(language).is_none()) {
            found.about(&ObjectId::plan(plan.id.as_str()));
            let hint = hint(language.as_str(), messages.locales.iter().map(|(known, _)| known.as_str()));
            found.value("/locale", format!("no messages are in {language}{hint}"));
        }
    }
    messages
}

/// `base` is what is there anyway.
fn build(document: &MessagesDocument, plans: &HashMap<PlanId, Arc<Plan>>, base: &Messages, found: &mut Found) -> Messages {
    let mut locales = base.locales.clone();
    if document.locales.len() > LOCALES_MAX {
        found.value("/locales", format!("there are at most {LOCALES_MAX} languages"));
    }
    let mut seen: Vec<Language> = Vec::new();
    for (n, given) in document.locales.iter().take(LOCALES_MAX).enumerate() {
        let place = format!("/locales/{n}");
        let Some(language) = Language::parse(&given.id) else {
            found.value(
                format!("{place}/id"),
                format!("{:?} is no language tag such as de or pt-BR", given.id),
            );
            continue;
        };
        if seen.contains(&language) {
            found.value(format!("{place}/id"), format!("the language {language} is there more than once"));
        }
        let mut at = At { place, found: &mut *found };
        let compiled = Arc::new(at.locale(given, base.locale(&language).map(|known| &**known), plans));
        locales.retain(|(known, _)| *known != language);
        locales.push((language.clone(), compiled));
        seen.push(language);
    }
    let default = Language::parse(&document.default_locale).and_then(|language| {
        let known = locales.iter().find(|(known, _)| *known == language);
        known.map(|(_, locale)| locale.clone())
    });
    if default.is_none() {
        let hint = hint(&document.default_locale, locales.iter().map(|(known, _)| known.as_str()));
        found.value("/default_locale", format!("no messages are in {:?}{hint}", document.default_locale));
    }
    Messages {
        locales,
        default: default.unwrap_or_else(|| base.default.clone()),
    }
}

/// Which texts a language that Weir does not bring along lacks. Told of what somebody writes, not of what was taken before: a newer Weir has
/// texts that an older policy cannot know, and says them in English until somebody adds them.
pub fn missing(document: &MessagesDocument) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (n, locale) in document.locales.iter().enumerate() {
        // What is no language is told by itself.
        if Language::parse(&locale.id).is_none_or(|language| SHIPPED.locale(&language).is_some()) {
            continue;
        }
        let mut tell = |field: &str, detail: String| {
            problems.push(Problem::shape(format!("/locales/{n}{field}"), detail).of(&ObjectId::messages()));
        };
        if locale.numbers.is_none() {
            tell("", format!("the language {} lacks `numbers`", locale.id));
        }
        if locale.months.is_none() {
            tell("", format!("the language {} lacks `months`", locale.id));
        }
        let lacking: Vec<&str> = Text::ALL
            .iter()
            .map(|text| text.key())
            .filter(|key| !locale.texts.contains_key(*key))
            .collect();
        if !lacking.is_empty() {
            let detail = format!("the language {} lacks these texts: {}", locale.id, lacking.join(", "));
            tell("/texts", detail);
        }
    }
    problems
}

/// One language of the document.
struct At<'a> {
    place: String,
    found: &'a mut Found,
}

impl At<'_> {
    fn locale(&mut self, given: &LocaleDocument, base: Option<&Locale>, plans: &HashMap<PlanId, Arc<Plan>>) -> Locale {
        let mut locale = base.cloned().unwrap_or_else(Locale::english);
        if let Some(numbers) = &given.numbers {
            for (name, text) in [("group", &numbers.group), ("decimal", &numbers.decimal)] {
                let plain = text.chars().count() <= SEPARATOR_CHARS_MAX && !text.chars().any(|c| c.is_control() || c.is_ascii_digit());
                if !plain || (name == "decimal" && text.is_empty()) {
                    self.value(&format!("/numbers/{name}"), "a separator is a character or two, and no digit");
                }
            }
            (locale.group, locale.decimal) = (numbers.group.as_str().into(), numbers.decimal.as_str().into());
        }
        if let Some(months) = &given.months {
            let named = |month: &String| {
                !month.trim().is_empty() && month.chars().count() <= MONTH_CHARS_MAX && !month.chars().any(char::is_control)
            };
            match <[String; 12]>::try_from(months.clone()) {
                Ok(months) if months.iter().all(named) => locale.months = months.map(Into::into),
                _ => self.value("/months", "there are twelve months, each with a name"),
            }
        }
        locale.texts.extend(self.texts("/texts", &given.texts));
        if given.plans.len() > PLANS_MAX {
            self.value("/plans", &format!("at most {PLANS_MAX} plans say something otherwise"));
        }
        for (plan, texts) in given.plans.iter().take(PLANS_MAX) {
            let place = pointer::member("/plans", plan.as_str());
            if !plans.contains_key(plan) {
                let hint = hint(plan.as_str(), plans.keys().map(PlanId::as_str));
                let mut problem = Problem::unknown(format!("{}{place}", self.place), format!("there is no plan {plan}{hint}"));
                problem.part = Part::Key;
                self.found.add(problem);
            }
            locale.plans.insert(plan.clone(), self.texts(&place, texts));
        }
        locale
    }

    fn value(&mut self, field: &str, detail: &str) {
        self.found.value(format!("{}{field}", self.place), detail);
    }

    fn texts(&mut self, below: &str, given: &BTreeMap<String, String>) -> HashMap<Text, Template> {
        let mut texts = HashMap::with_capacity(given.len());
        for (key, words) in given {
            let place = pointer::member(&format!("{}{below}", self.place), key);
            let Some(text) = Text::parse(key) else {
                let hint = hint(key, Text::ALL.iter().map(|text| text.key()));
                let mut problem = Problem::shape(place, format!("there is no text `{key}`{hint}"));
                problem.part = Part::Key;
                self.found.add(problem);
                continue;
            };
            match Template::parse(text, words) {
                Ok(template) => {
                    texts.insert(text, template);
                }
                Err(misspelt) => {
                    let mut problem = Problem::value(place, misspelt.detail);
                    problem.part = Part::Character(misspelt.character);
                    self.found.add(problem);
                }
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shipped_languages_say_everything_and_english_says_what_the_program_says() {
        let value = crate::policy::yaml::parse(include_str!("../../../policies/messages.yaml")).expect("YAML");
        let document: MessagesDocument = crate::policy::read::read(&value.to_value()).expect("the shape");
        let ids: Vec<&str> = document.locales.iter().map(|locale| locale.id.as_str()).collect();
        assert_eq!(ids, ["en", "de"]);
        for locale in &document.locales {
            for text in Text::ALL {
                let words = locale.texts.get(text.key());
                assert!(words.is_some(), "{} lacks {}", locale.id, text.key());
                if locale.id == "en" {
                    assert_eq!(words.map(String::as_str), Some(text.english()), "{}", text.key());
                } else {
                    // A translation leaves nothing out that the sentence is about.
                    let names = |words: &str| {
                        let mut names: Vec<String> = words
                            .split('{')
                            .skip(1)
                            .filter_map(|part| Some(part.split_once('}')?.0.to_owned()))
                            .collect();
                        names.sort();
                        names.dedup();
                        names
                    };
                    assert_eq!(names(words.expect("said")), names(text.english()), "{} {}", locale.id, text.key());
                }
            }
        }
        assert_eq!(SHIPPED.default.as_ref(), &Locale::english());
    }
}
