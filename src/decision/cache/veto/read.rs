//! Reads a text into its signature, in one pass over its words.

use super::numbers::{self, NumberWord};
use super::tokens::{Token, scaled, tokens};
use super::words;
use super::{ITEMS_MAX, Signature, TEXT_BYTES_MAX, VERSION};

/// The longest quote that is a name; what is longer is a text of its own, and its words count like all others.
const QUOTE_WORDS_MAX: usize = 8;
/// How much of a word tells which it is.
const STEM_CHARS: usize = 6;
/// How far before a number or a name the word stands that gives it its part.
const ROLE_WORDS_BEFORE: usize = 3;
/// The longest acronym that is spelt out again.
const INITIALS_MAX: usize = 5;
/// How many common words of a language make it clear.
const LANGUAGE_WORDS_MIN: usize = 2;

const CURRENCIES: [&str; 5] = ["$", "€", "£", "¥", "₹"];

/// A hash that is the same in each process and version (FNV-1a, with the upper half folded in).
fn hash(text: &str) -> u32 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (state >> 32) as u32 ^ state as u32
}

/// The hash of a word by how it begins: endings tell apart what means the same, as does the `s` of a plural.
fn stem(word: &str) -> u32 {
    let word = match word.strip_suffix('s') {
        Some(one) if one.chars().count() > 3 && !one.ends_with('s') => one,
        _ => word,
    };
    match word.char_indices().nth(STEM_CHARS) {
        Some((end, _)) => hash(&word[..end]),
        None => hash(word),
    }
}

pub(super) fn read(text: &str) -> Signature {
    if text.len() > TEXT_BYTES_MAX {
        return Signature::default();
    }
    let tokens = tokens(text);
    let language = language(&tokens);
    let number_word = |place| numbers::number_word(word_at(&tokens, place)?, language);
    let mut reader = Reader {
        language,
        number_words: (0..tokens.len()).map(number_word).collect(),
        ..Reader::default()
    };
    reader.signature.codes = codes(text);
    for place in 0..tokens.len() {
        reader.token(&tokens, place);
    }
    reader.number_ends();
    reader.chain_ends();
    reader.signature.initials = initials(&tokens);
    let mut signature = reader.signature;
    signature.language = reader.language;
    signature.scripts = text.chars().filter_map(script).fold(0, |scripts, script| scripts | 1 << script);
    signature.quotes = quotes(text);
    let lists = [
        &mut signature.acronyms,
        &mut signature.words,
        &mut signature.names,
        &mut signature.quotes,
        &mut signature.loose,
        &mut signature.spelt,
    ];
    for list in lists.into_iter().chain([&mut signature.bare_units, &mut signature.codes]) {
        list.sort_unstable();
        list.dedup();
    }
    signature.dates.sort_unstable();
    signature.dates.dedup();
    signature.units.sort_unstable();
    signature.units.dedup();
    signature.counts.sort_unstable();
    signature.counts.dedup();
    let longest = [
        signature.words.len(),
        signature.numbers.len(),
        signature.names.len(),
        signature.quotes.len(),
    ];
    match longest.iter().all(|length| *length <= ITEMS_MAX) {
        true => Signature {
            read_by: VERSION,
            ..signature
        },
        false => Signature::default(),
    }
}

#[derive(Default)]
struct Reader {
    signature: Signature,
    language: u8,
    /// Which token is one.
    number_words: Vec<Option<NumberWord>>,
    /// Numbers that are joined to each other.
    chain: Vec<u32>,
    /// Number words that belong together: what was added up, and what is still to be multiplied.
    spelt: Option<(u64, u64)>,
}

impl Reader {
    fn token(&mut self, tokens: &[Token], place: usize) {
        match &tokens[place] {
            Token::Number { value, is_joined } => {
                self.number_ends();
                if !is_joined {
                    self.chain_ends();
                }
                let mut value = match self.number_word_at(place + 1) {
                    Some(NumberWord::Scale(by)) => scaled(value, by),
                    Some(NumberWord::Hundred) => scaled(value, 2),
                    _ => value.clone(),
                };
                if is_behind_minus(tokens, place) && !value.starts_with('-') {
                    value.insert(0, '-');
                }
                self.number(tokens, place, &value);
            }
            Token::Sign(_) => {
                self.number_ends();
            }
            Token::Word { text, written, begins } => self.word(tokens, place, (text, written, *begins)),
        }
    }

    fn number_word_at(&self, place: usize) -> Option<NumberWord> {
        self.number_words.get(place).copied().flatten()
    }

    fn number(&mut self, tokens: &[Token], place: usize, number: &str) {
        let number = hash(number);
        // "The top 10" says no more than "the best".
        match place.checked_sub(1).and_then(|before| word_at(tokens, before)) {
            Some("top" | "best") => self.signature.spelt.push(number),
            _ => {
                self.signature.numbers.push(number);
                self.chain.push(number);
            }
        }
        if let Some(thing) = counted(tokens, place) {
            self.signature.counts.push((number, thing));
        }
        self.signature.roles.push((number, role(tokens, place)));
        let before = place.checked_sub(1).and_then(|before| unit_at(tokens, before, true));
        let is_scale = self.number_word_at(place + 1).is_some();
        let behind = if is_scale { place + 2 } else { place + 1 };
        if let Some(unit) = before.or_else(|| unit_at(tokens, behind, false)) {
            self.signature.units.push((number, hash(unit)));
        }
    }

    fn chain_ends(&mut self) {
        let chain = std::mem::take(&mut self.chain);
        if chain.len() > 1 {
            self.signature.chains.push(chain);
        }
    }

    fn word(&mut self, tokens: &[Token], place: usize, (text, written, begins): (&str, &str, bool)) {
        let signature = &mut self.signature;
        signature.words.push(stem(text));
        if words::is_negation(text, self.language) && !is_idle_negation(tokens, place, text) {
            signature.negated_softly = words::is_soft_negation(text) && (!signature.negated || signature.negated_softly);
            signature.negated = true;
            // Where a language negates twice to negate once, or it is not clear which it is, only that it does counts.
            signature.negated_twice |= words::negates_by_each(self.language) && takes_back(tokens, place, self.language);
        }
        signature.stops |= words::stops(text);
        signature.opposites |= words::opposites(text);
        let after_number = is_number(tokens, place.checked_sub(1));
        let beside_number = after_number || is_number(tokens, Some(place + 1));
        let date = words::date_word(text, self.language, beside_number);
        signature.dates.extend(date);
        if !after_number && let Some(unit) = words::unit(text).filter(|_| text.len() > 2 && text != "second" && text != "min") {
            signature.bare_units.push(hash(unit));
        }
        let before_unit = word_at(tokens, place + 1).is_some_and(|word| words::unit(word).is_some());
        if let Some(value) = numbers::loose_number(text).filter(|_| before_unit || !matches!(text, "a" | "an")) {
            signature.loose.push(hash(&value.to_string()));
        }
        if let Some(value) = numbers::roman(written) {
            signature.numbers.push(hash(&value.to_string()));
        } else if written.starts_with(char::is_uppercase) && !begins && date.is_none() && !words::is_plain(text) {
            signature.names.push(stem(text));
            signature.roles.push((stem(text), role(tokens, place)));
            let is_short = (2..=INITIALS_MAX).contains(&text.len());
            if is_short && written.chars().all(char::is_uppercase) {
                signature.acronyms.push(hash(text));
            }
        }
        self.number_word(tokens, place);
    }

    /// Takes a number word in: "two hundred", "twenty five", "three million".
    fn number_word(&mut self, tokens: &[Token], place: usize) {
        let after_number = is_number(tokens, place.checked_sub(1));
        let word = self.number_word_at(place).filter(|_| !after_number);
        let next = self.number_word_at(place + 1);
        self.spelt = match (word, self.spelt) {
            (None, _) => {
                self.number_ends();
                None
            }
            // Alone it is a pronoun as often as a number.
            (Some(NumberWord::Value(1)), None) if next.is_none() => None,
            (Some(NumberWord::Value(n) | NumberWord::Tens(n)), None) => Some((0, n)),
            (Some(NumberWord::Value(n)), Some((sum, part))) if part >= 20 && part % 10 == 0 && n < 10 || part == 0 && n > 0 => {
                Some((sum, part + n))
            }
            (Some(NumberWord::Tens(n)), Some((sum, part))) if part % 100 == 0 => Some((sum, part + n)),
            (Some(NumberWord::Value(n) | NumberWord::Tens(n)), Some(_)) => {
                self.number_ends();
                Some((0, n))
            }
            (Some(NumberWord::Hundred), spelt) => {
                let (sum, part) = spelt.unwrap_or((0, 1));
                Some((sum, part.max(1).saturating_mul(100)))
            }
            (Some(NumberWord::Scale(by)), spelt) => {
                let (sum, part) = spelt.unwrap_or((0, 1));
                Some((sum.saturating_add(part.max(1).saturating_mul(10u64.saturating_pow(by))), 0))
            }
        };
        // The unit stands behind the last word of it.
        if self.spelt.is_some() && next.is_none() {
            let unit = unit_at(tokens, place + 1, false);
            if let (Some(number), Some(unit)) = (self.number_ends(), unit) {
                self.signature.units.push((number, hash(unit)));
            }
        }
    }

    /// What was spelt is a number.
    fn number_ends(&mut self) -> Option<u32> {
        let (sum, part) = self.spelt.take()?;
        let number = hash(&sum.saturating_add(part).to_string());
        self.signature.spelt.push(number);
        Some(number)
    }
}

/// The part that a number or a name plays: given by the nearest word before it in its sentence that gives one. Several names in a row play
/// one part.
fn role(tokens: &[Token], place: usize) -> u8 {
    let begins = |at: usize| matches!(&tokens[at], Token::Word { begins: true, .. });
    let first = place.saturating_sub(ROLE_WORDS_BEFORE);
    let before = (first..place)
        .rev()
        .take_while(|at| !begins(at + 1))
        .map_while(|at| match &tokens[at] {
            Token::Word { text, .. } => Some(words::role(text)),
            Token::Number { .. } => None,
            Token::Sign(_) => Some(0),
        });
    before.into_iter().find(|role| *role != 0).unwrap_or(0)
}

/// Of names in a row, each with what their first letters may abbreviate: `Federal Bureau of Investigation` is `FBI`.
fn initials(tokens: &[Token]) -> Vec<(u32, u32)> {
    let name = |token: &'_ Token| match token {
        Token::Word { text, written, .. } if written.starts_with(char::is_uppercase) => Some((stem(text), text.chars().next()?)),
        _ => None,
    };
    let joins = |token: &Token| matches!(token, Token::Word { text, .. } if matches!(text.as_str(), "of" | "for" | "and" | "the"));
    let mut found = Vec::new();
    let mut row: Vec<(u32, char)> = Vec::new();
    for token in tokens {
        match name(token) {
            Some(name) => row.push(name),
            None if joins(token) => continue,
            None => row.clear(),
        }
        for first in row.len().saturating_sub(INITIALS_MAX)..row.len().saturating_sub(1) {
            let letters: String = row[first..].iter().map(|(_, letter)| letter).collect();
            let short = hash(&letters);
            found.extend(row[first..].iter().map(|(name, _)| (*name, short)));
        }
    }
    found.truncate(ITEMS_MAX);
    found.sort_unstable();
    found.dedup();
    found
}

/// "or not", "why not", "if not", and "No. 2".
fn is_idle_negation(tokens: &[Token], place: usize, text: &str) -> bool {
    let before = place.checked_sub(1).and_then(|before| word_at(tokens, before));
    match text {
        "not" => before.is_some_and(|before| matches!(before, "or" | "why" | "if")),
        "no" => is_number(tokens, Some(place + 1)),
        _ => false,
    }
}

/// Whether a unit, as a signature has it, is one of money.
pub(super) fn is_currency(unit: u32) -> bool {
    CURRENCIES.iter().any(|currency| hash(currency) == unit)
}

/// Whether a negation stands just behind another one, in one sentence: "never without" denies nothing. "No, it does not" denies once.
fn takes_back(tokens: &[Token], place: usize, language: u8) -> bool {
    const WORDS_BEFORE: usize = 3;
    let ends = |at: usize| matches!(&tokens[at], Token::Word { begins: true, .. });
    let is_negation = |at: &usize| {
        word_at(tokens, *at).is_some_and(|word| {
            words::is_negation(word, language) && !matches!(word, "no" | "neither") && !is_idle_negation(tokens, *at, word)
        })
    };
    let before = (place.saturating_sub(WORDS_BEFORE)..place).rev();
    before.take_while(|at| !ends(at + 1)).any(|at| is_negation(&at))
}

/// What a number counts: the next word, if that says something.
fn counted(tokens: &[Token], place: usize) -> Option<u32> {
    let word = word_at(tokens, place + 1)?;
    (words::languages(word) == 0 && !words::is_plain(word)).then(|| stem(word))
}

/// Words of letters and digits, such as `i5` and `d5200`; not a number with its unit behind it.
fn codes(text: &str) -> Vec<u32> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let coded = words.filter(|word| word.contains(|c: char| c.is_ascii_digit()) && word.starts_with(char::is_alphabetic));
    coded.map(|word| hash(&word.to_lowercase())).collect()
}

fn is_number(tokens: &[Token], place: Option<usize>) -> bool {
    matches!(place.and_then(|place| tokens.get(place)), Some(Token::Number { .. }))
}

/// "minus 5", but not "7 minus 5".
fn is_behind_minus(tokens: &[Token], place: usize) -> bool {
    let word = place.checked_sub(1).and_then(|before| word_at(tokens, before));
    matches!(word, Some("minus" | "negative")) && !is_number(tokens, place.checked_sub(2))
}

fn word_at(tokens: &[Token], place: usize) -> Option<&str> {
    match tokens.get(place) {
        Some(Token::Word { text, .. }) => Some(text),
        _ => None,
    }
}

/// The unit at a place beside a number. Before it only money stands.
fn unit_at(tokens: &[Token], place: usize, is_before: bool) -> Option<&'static str> {
    let unit = match tokens.get(place)? {
        Token::Word { text, .. } => words::unit(text),
        Token::Sign(sign) => words::unit(sign.encode_utf8(&mut [0; 4])),
        Token::Number { .. } => None,
    }?;
    (!is_before || CURRENCIES.contains(&unit)).then_some(unit)
}

/// The language whose common words are most, if that is clear.
fn language(tokens: &[Token]) -> u8 {
    let mut found = [0usize; words::LANGUAGES.len()];
    for token in tokens {
        if let Token::Word { text, .. } = token {
            let languages = words::languages(text);
            for (place, count) in found.iter_mut().enumerate() {
                *count += usize::from(languages >> place & 1);
            }
        }
    }
    let mut counts: Vec<(usize, u8)> = found.into_iter().zip(1..).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    match counts[..] {
        [(most, language), (next, _), ..] if most >= LANGUAGE_WORDS_MIN && most > next + 1 => language,
        _ => 0,
    }
}

/// Which alphabet a letter is of. Chinese characters and both kana are one, since Japanese mixes them.
fn script(c: char) -> Option<u32> {
    Some(match c as u32 {
        0x41..=0x5a | 0x61..=0x7a | 0xc0..=0x24f | 0x1e00..=0x1eff => 0,
        // Single letters of it stand in formulas of any language.
        0x370..=0x3ff => return None,
        0x400..=0x52f => 2,
        0x590..=0x5ff => 3,
        0x600..=0x77f => 4,
        0x900..=0x97f => 5,
        0x980..=0xdff => 6,
        0xe00..=0xe7f => 7,
        0x1100..=0x11ff | 0xac00..=0xd7af => 8,
        0x3040..=0x30ff | 0x3400..=0x9fff | 0x20000..=0x3ffff => 9,
        _ => return None,
    })
}

/// The words of all short quotes. An apostrophe inside of a word opens none.
fn quotes(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['"', '“', '«', '`', '„']) {
        let mark = rest[open..].chars().next().unwrap_or('"');
        let inside = &rest[open + mark.len_utf8()..];
        let closes: &[char] = match mark {
            '“' => &['”', '"'],
            '„' => &['“', '”', '"'],
            '«' => &['»'],
            '`' => &['`'],
            _ => &['"', '”'],
        };
        let Some(end) = inside.find(closes) else { break };
        let quoted: Vec<Token> = tokens(&inside[..end]);
        if quoted.len() <= QUOTE_WORDS_MAX {
            found.extend(quoted.iter().filter_map(|token| match token {
                Token::Word { text, .. } => Some(stem(text)),
                _ => None,
            }));
        }
        rest = inside[end..].chars().next().map_or("", |close| &inside[end + close.len_utf8()..]);
    }
    found
}
