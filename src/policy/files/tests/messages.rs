//! What is wrong with `messages.yaml` is told by its place; what is left out is as Weir brings it along.

use super::*;
use crate::decision::message::language::Language;
use crate::decision::message::{Slot, Text};

#[test]
fn what_is_wrong_with_messages_is_told_by_its_place() {
    for (text, expected) in [
        (
            "locales:\n  - id: en\n    texts:\n      §limit_spend: \"All.\"\n",
            "there is no text `limit_spend`; did you mean limit_spent?",
        ),
        (
            "locales:\n  - id: en\n    texts:\n      date: \"{day} §{mnth}\"\n",
            "date has no placeholder {mnth}; did you mean {month}?",
        ),
        (
            "locales:\n  - id: en\n    texts: {date: \"§{day\"}\n",
            "a placeholder is a name in braces, such as {limit}",
        ),
        (
            "locales:\n  - id: §deutsch_\n",
            "\"deutsch_\" is no language tag such as de or pt-BR",
        ),
        ("locales:\n  - {id: en}\n  - {id: §en}\n", "the language en is there more than once"),
        ("default_locale: §fr\n", "no messages are in \"fr\""),
        (
            "locales:\n  - id: en\n    plans:\n      §prox: {date: \"{day}\"}\n",
            "there is no plan prox; did you mean pro?",
        ),
        (
            "locales:\n  - {id: en, months: §[January]}\n",
            "there are twelve months, each with a name",
        ),
        (
            "locales:\n  - {id: en, numbers: {group: \",\", decimal: §\"5\"}}\n",
            "a separator is a character or two, and no digit",
        ),
        ("locales:\n  - {id: en, §text: {}}\n", "unknown field `text`; did you mean `texts`?"),
        (
            "locales:\n  - {id: en, texts: {date: §5}}\n",
            "expected a string, found integer `5`",
        ),
    ] {
        says_at_mark(MESSAGES_FILE, text, expected);
    }
}

#[test]
fn a_language_that_weir_does_not_bring_along_says_everything() {
    let french = "locales:\n  - id: fr\n    numbers: {group: \" \", decimal: \",\"}\n    texts: {date: \"le {day} {month}\"}\n";
    let lacking = Sources {
        messages: Some(french.to_owned()),
        ..sources(MODELS, PLANS, ROUTING)
    };
    let told = told(&lacking);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], "messages.yaml:2:5: the language fr lacks `months`");
    assert!(
        told[1].starts_with("messages.yaml:4:12: the language fr lacks these texts: subject_workspace, "),
        "{told:?}"
    );
    // What was taken before a newer Weir knew more texts is still read: the rest is said in English.
    let document = read_messages(french);
    let policy = Policy::default()
        .with(&[(ObjectId::messages(), Some(crate::policy::object::messages_body(&document)))])
        .expect("an older policy");
    let says = |language: &str, text: Text, values: &[(Slot, &str)]| policy.voice(Some(language), None).say(text, values);
    let date = [(Slot::Day, "1"), (Slot::Month, "mai")];
    assert_eq!(says("fr", Text::Date, &date), "le 1 mai");
    assert_eq!(says("fr", Text::ForDay, &[]), "for today");
    assert_eq!(says("de", Text::ForDay, &[]), "für heute");
}

#[test]
fn plans_say_things_their_own_way_and_name_a_language() {
    let plans = "default_plan: pro\nplans:\n  - {id: pro, locale: de}\n  - {id: other}\n";
    let messages = "locales:\n  - id: de\n    plans:\n      pro: {for_day: \"heute bei Pro\"}\n";
    let files = Files::load(&Sources {
        messages: Some(messages.to_owned()),
        ..sources(MODELS, plans, ROUTING)
    });
    let policy = files.unwrap_or_else(|problems| panic!("{problems}")).policy;
    let plan = |id: &str| policy.plans.values().find(|plan| plan.id.as_str() == id).expect("a plan");
    for (accepted, id, expected) in [
        (None, "pro", "heute bei Pro"),
        (Some("de-AT"), "pro", "heute bei Pro"),
        (Some("en"), "pro", "for today"),
        (None, "other", "for today"),
        (Some("de"), "other", "für heute"),
        (Some("fr, de;q=0.1"), "other", "für heute"),
    ] {
        assert_eq!(
            policy.voice(accepted, Some(plan(id))).say(Text::ForDay, &[]),
            expected,
            "{accepted:?} {id}"
        );
    }
    assert!(policy.messages.locale(&Language::parse("de").expect("a tag")).is_some());
    says_at_mark(PLANS_FILE, "plans:\n  - {id: pro, locale: §fr}\n", "no messages are in fr");
    says_at_mark(
        PLANS_FILE,
        "plans:\n  - {id: pro, locale: §\"de_DE\"}\n",
        "\"de_DE\" is no language tag such as de or pt-BR",
    );
}

fn read_messages(text: &str) -> crate::policy::document::MessagesDocument {
    let value = crate::policy::yaml::parse(text).expect("YAML").to_value();
    crate::policy::read::read(&value).expect("messages")
}
