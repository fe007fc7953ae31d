//! Languages by their tags (RFC 5646), and which of several a caller would rather read (RFC 9110, 12.5.4; the lookup of RFC 4647, 3.4).

use std::fmt;

/// How much of an `Accept-Language` is looked at.
pub const ACCEPTED_BYTES_MAX: usize = 256;
const TAG_CHARS_MAX: usize = 35;

/// A language tag such as `de` or `pt-BR`, in lower case: tags are compared without regard to case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Language(Box<str>);

impl Language {
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let primary = parts
            .next()
            .is_some_and(|part| (2..=8).contains(&part.len()) && is_alphabetic(part));
        let others = parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
        (primary && others && text.len() <= TAG_CHARS_MAX).then(|| Self(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_alphabetic(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_alphabetic())
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first of `known` that `accepted` asks for, by quality and then by place; `None`: it asks for none of them.
pub fn lookup<'a, T>(accepted: &str, known: &'a [(Language, T)]) -> Option<&'a T> {
    let mut ranges: Vec<(u32, &str)> = accepted.split(',').filter_map(range).collect();
    // Stable, so that of equal qualities the first stays first.
    ranges.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    ranges.into_iter().find_map(|(_, tag)| best(tag, known))
}

/// The language of `tag`, or of the longest beginning of it that is known.
fn best<'a, T>(tag: &str, known: &'a [(Language, T)]) -> Option<&'a T> {
    let mut tag = tag;
    loop {
        if let Some((_, found)) = known.iter().find(|(language, _)| language.as_str().eq_ignore_ascii_case(tag)) {
            return Some(found);
        }
        tag = tag.rsplit_once('-')?.0;
    }
}

/// A tag with its quality in thousandths. What is refused, or cannot be read, is left out; so is `*`, which asks for nothing.
fn range(text: &str) -> Option<(u32, &str)> {
    let mut parts = text.split(';').map(str::trim);
    let tag = parts.next().filter(|tag| !tag.is_empty() && *tag != "*")?;
    let quality = match parts.find_map(|part| part.strip_prefix("q=")) {
        None => 1_000,
        Some(quality) => thousandths(quality)?,
    };
    (quality > 0).then_some((quality, tag))
}

fn thousandths(quality: &str) -> Option<u32> {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 {
        return None;
    }
    let fraction: u32 = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<3}").parse().ok()?
    };
    Some((whole.parse::<u32>().ok()? * 1_000 + fraction).min(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_language_gets_the_nearest_that_is_known() {
        let known: Vec<(Language, &str)> = ["en", "de", "pt-BR"]
            .into_iter()
            .map(|tag| (Language::parse(tag).expect("a tag"), tag))
            .collect();
        for (accepted, expected) in [
            ("de", Some("de")),
            ("de-AT", Some("de")),
            ("DE-at, en;q=0.5", Some("de")),
            ("en;q=0.5, de;q=0.9", Some("de")),
            ("fr, en;q=0.3", Some("en")),
            ("pt-br", Some("pt-BR")),
            ("pt", None),
            ("de;q=0, en;q=0.1", Some("en")),
            ("*", None),
            ("fr", None),
            ("", None),
            (";;;,,,q=1", None),
            ("de;q=abc, en", Some("en")),
        ] {
            assert_eq!(lookup(accepted, &known).copied(), expected, "{accepted}");
        }
    }

    #[test]
    fn tags_are_tags() {
        for (text, good) in [
            ("en", true),
            ("pt-BR", true),
            ("zh-Hant-TW", true),
            ("e", false),
            ("en_US", false),
            ("en-", false),
            ("1a", false),
        ] {
            assert_eq!(Language::parse(text).is_some(), good, "{text}");
        }
    }
}
