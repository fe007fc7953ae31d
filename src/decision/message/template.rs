//! A text with placeholders, taken apart once so that filling it in is copying. Values are never looked into, so none can bring a
//! placeholder of its own.

use super::texts::{Slot, Text};
use crate::decision::nearest::nearest;
use std::fmt;

/// The longest text of a policy.
pub const TEXT_CHARS_MAX: usize = 600;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Words(Box<str>),
    Value(Slot),
}

/// A text that is ready to be filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(Box<[Piece]>);

/// What is wrong with a text, and at which of its characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misspelt {
    pub character: usize,
    pub detail: String,
}

impl fmt::Display for Misspelt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Template {
    /// Takes `words` apart; only the placeholders of `text` may stand in it.
    pub fn parse(text: Text, words: &str) -> Result<Self, Misspelt> {
        let wrong = |character: usize, detail: String| Err(Misspelt { character, detail });
        if words.trim().is_empty() || words.chars().count() > TEXT_CHARS_MAX {
            return wrong(0, format!("a text has 1 to {TEXT_CHARS_MAX} characters"));
        }
        if let Some(at) = words.chars().position(char::is_control) {
            return wrong(at, "a text stands on one line".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = words;
        while let Some(open) = rest.find(['{', '}']) {
            let at = || words.chars().count() - rest[open..].chars().count();
            let (before, from) = rest.split_at(open);
            let Some((name, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                return wrong(at(), "a placeholder is a name in braces, such as {limit}".to_owned());
            };
            let Some(slot) = Slot::parse(name).filter(|slot| text.slots().contains(slot)) else {
                return wrong(at(), unknown(text, name));
            };
            if !before.is_empty() {
                pieces.push(Piece::Words(before.into()));
            }
            pieces.push(Piece::Value(slot));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Words(rest.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// The text with these values. Where one is empty, the blank before it goes too, so that no gap is left.
    pub fn fill(&self, values: &[(Slot, &str)]) -> String {
        let mut filled = String::with_capacity(160);
        for piece in &self.0 {
            match piece {
                Piece::Words(words) => filled.push_str(words),
                Piece::Value(slot) => match values.iter().find(|(known, value)| known == slot && !value.is_empty()) {
                    Some((_, value)) => filled.push_str(value),
                    None if filled.ends_with(' ') => {
                        filled.pop();
                    }
                    None => {}
                },
            }
        }
        filled
    }
}

fn unknown(text: Text, name: &str) -> String {
    let known = || text.slots().iter().map(|slot| slot.key());
    let names: Vec<String> = known().map(|name| format!("{{{name}}}")).collect();
    match (nearest(name, known()), names.is_empty()) {
        (Some(near), _) => format!("{} has no placeholder {{{name}}}; did you mean {{{near}}}?", text.key()),
        (None, true) => format!("{} has no placeholders", text.key()),
        (None, false) => format!("{} has no placeholder {{{name}}}; it has {}", text.key(), names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_english_texts_use_only_their_placeholders() {
        for text in Text::ALL {
            assert!(Template::parse(*text, text.english()).is_ok(), "{}", text.key());
        }
    }

    #[test]
    fn what_is_misspelt_is_told_with_its_place() {
        for (text, words, character, detail) in [
            (
                Text::Date,
                "{day} {mnth}",
                6,
                "date has no placeholder {mnth}; did you mean {month}?",
            ),
            (
                Text::Date,
                "{day} {limit}",
                6,
                "date has no placeholder {limit}; it has {day}, {month}",
            ),
            (Text::ForDay, "für {day}", 4, "for_day has no placeholders"),
            (Text::Date, "{day", 0, "a placeholder is a name in braces, such as {limit}"),
            (Text::Date, "day}", 3, "a placeholder is a name in braces, such as {limit}"),
            (Text::Date, "a\nb", 1, "a text stands on one line"),
            (Text::Date, " ", 0, "a text has 1 to 600 characters"),
        ] {
            let expected = Misspelt {
                character,
                detail: detail.to_owned(),
            };
            assert_eq!(Template::parse(text, words), Err(expected), "{words}");
        }
    }

    #[test]
    fn an_empty_value_leaves_no_gap_and_a_value_is_not_looked_into() {
        let template = Template::parse(Text::LimitSpent, "{subject} has used {limit} {period}. {renews}").expect("good");
        let filled = template.fill(&[
            (Slot::Subject, "{limit}"),
            (Slot::Limit, "5"),
            (Slot::Period, ""),
            (Slot::Renews, ""),
        ]);
        assert_eq!(filled, "{limit} has used 5.");
    }
}
