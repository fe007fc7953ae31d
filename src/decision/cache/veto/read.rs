//! Reads a text into its signature, in one pass over its words.

use super::words::{self, NumberWord};
use super::{ITEMS_MAX, Signature, TEXT_BYTES_MAX};

/// The longest quote that is a name; what is longer is a text of its own, and its words count like all others.
const QUOTE_WORDS_MAX: usize = 8;
/// How much of a word tells which it is.
const STEM_CHARS: usize = 6;
/// How far before a number or a name the word stands that gives it its part.
const ROLE_WORDS_BEFORE: usize = 3;
/// How many common words of a language make it clear.
const LANGUAGE_WORDS_MIN: usize = 2;

/// A hash that is the same in each process and version (FNV-1a, with the upper half folded in).
fn hash(text: &str) -> u32 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (state >> 32) as u32 ^ state as u32
}

/// The hash of a word by how it begins: endings tell apart what means the same.
fn stem(word: &str) -> u32 {
    match word.char_indices().nth(STEM_CHARS) {
        Some((end, _)) => hash(&word[..end]),
        None => hash(word),
    }
}

/// A letter without its accent, where it is one of the common Latin ones.
fn plain(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    const ACCENTED: &str = "àáâãäåçèéêëìíîïñòóôõöøùúûüýÿ";
    const PLAIN: &[u8] = b"aaaaaaceeeeiiiinoooooouuuuyy";
    match ACCENTED.chars().position(|accented| accented == c) {
        Some(place) => char::from(PLAIN[place]),
        None => c,
    }
}

/// A piece of a text.
#[derive(Clone, PartialEq, Debug)]
enum Token {
    /// In small letters without apostrophes, and as it was written.
    Word {
        text: String,
        written: String,
        begins: bool,
    },
    Number(String),
    Sign(char),
}

pub(super) fn read(text: &str) -> Signature {
    if text.len() > TEXT_BYTES_MAX {
        return Signature::default();
    }
    let tokens = tokens(text);
    let mut reader = Reader::default();
    reader.signature.codes = codes(text);
    for place in 0..tokens.len() {
        reader.token(&tokens, place);
    }
    reader.number_ends();
    let mut signature = reader.signature;
    signature.language = language(&tokens);
    signature.scripts = text.chars().filter_map(script).fold(0, |scripts, script| scripts | 1 << script);
    signature.quotes = quotes(text);
    let lists = [
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
    let longest = [
        signature.words.len(),
        signature.numbers.len(),
        signature.names.len(),
        signature.quotes.len(),
    ];
    signature.whole = longest.iter().all(|length| *length <= ITEMS_MAX);
    match signature.whole {
        true => signature,
        false => Signature::default(),
    }
}

/// Cuts a text into words, numbers and signs.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut place, mut begins) = (0, true);
    while place < chars.len() {
        let c = chars[place];
        if c.is_ascii_digit() {
            let (number, next) = number(&chars, place);
            tokens.push(Token::Number(number));
            (place, begins) = (next, false);
        } else if c.is_numeric() {
            let end = run(&chars, place, |c| c.is_numeric());
            tokens.push(Token::Number(chars[place..end].iter().collect()));
            (place, begins) = (end, false);
        } else if c.is_alphabetic() {
            let (written, next) = word(&chars, place);
            tokens.push(Token::Word {
                text: written.to_lowercase().chars().map(plain).collect(),
                written,
                begins,
            });
            (place, begins) = (next, false);
        } else {
            if matches!(c, '%' | '$' | '€' | '£' | '¥' | '₹') {
                tokens.push(Token::Sign(c));
            }
            begins |= matches!(c, '.' | '?' | '!' | ':' | ';' | '\n' | '"' | '“' | '(');
            place += 1;
        }
    }
    tokens
}

/// The word that begins here and where it ends, without apostrophes and what a genitive adds. `U.S.` is one word.
fn word(chars: &[char], from: usize) -> (String, usize) {
    let letter = |at: usize| chars.get(at).is_some_and(|c| c.is_alphabetic());
    let mut end = run(chars, from, |c| c.is_alphabetic() || matches!(c, '\'' | '’'));
    let mut written: String = chars[from..end].iter().collect();
    while end == from + 1 || written.chars().count() > 1 && chars[end - 2] == '.' {
        if !(chars.get(end) == Some(&'.') && letter(end + 1) && !letter(end + 2)) {
            break;
        }
        written.push(chars[end + 1]);
        end += 2;
    }
    let genitive = ["'s", "’s"].iter().find_map(|ending| written.strip_suffix(ending));
    let word = genitive.unwrap_or(&written).chars().filter(|c| c.is_alphabetic()).collect();
    (word, end)
}

fn run(chars: &[char], from: usize, is_of: impl Fn(char) -> bool) -> usize {
    chars[from..]
        .iter()
        .position(|c| !is_of(*c))
        .map_or(chars.len(), |length| from + length)
}

/// The number that begins here, without separators of thousands and needless zeros, and where it ends. `50k` is 50000.
fn number(chars: &[char], from: usize) -> (String, usize) {
    let digits_end = |at: usize| run(chars, at, |c| c.is_ascii_digit());
    let mut end = digits_end(from);
    let mut whole: String = chars[from..end].iter().collect();
    while whole.len() <= 3 || end > from + 3 {
        let group = chars.get(end) == Some(&',') && digits_end(end + 1) == end + 4;
        if !group {
            break;
        }
        whole.extend(&chars[end + 1..end + 4]);
        end += 4;
    }
    let mut fraction = String::new();
    if chars.get(end) == Some(&'.') && chars.get(end + 1).is_some_and(char::is_ascii_digit) {
        let fraction_end = digits_end(end + 1);
        fraction = chars[end + 1..fraction_end].iter().collect();
        end = fraction_end;
    }
    let is_thousands = matches!(chars.get(end), Some('k' | 'K')) && !chars.get(end + 1).is_some_and(|c| c.is_alphanumeric());
    if is_thousands {
        return (shifted(&whole, &fraction, 3), end + 1);
    }
    (shifted(&whole, &fraction, 0), end)
}

/// A decimal number times ten to the `by`, in its shortest form.
fn shifted(whole: &str, fraction: &str, by: u32) -> String {
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    for _ in 0..by {
        whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[derive(Default)]
struct Reader {
    signature: Signature,
    /// Number words that belong together: what was added up, and what is still to be multiplied.
    spelt: Option<(u64, u64)>,
}

impl Reader {
    fn token(&mut self, tokens: &[Token], place: usize) {
        match &tokens[place] {
            Token::Number(number) => {
                self.number_ends();
                let number = match word_at(tokens, place + 1).and_then(words::number_word) {
                    Some(NumberWord::Scale(by)) => scaled(number, by),
                    Some(NumberWord::Hundred) => scaled(number, 2),
                    _ => number.clone(),
                };
                self.number(tokens, place, &number);
            }
            Token::Sign(_) => {
                self.number_ends();
            }
            Token::Word { text, written, begins } => self.word(tokens, place, (text, written, *begins)),
        }
    }

    fn number(&mut self, tokens: &[Token], place: usize, number: &str) {
        let number = hash(number);
        self.signature.numbers.push(number);
        self.signature.roles.push((number, role(tokens, place)));
        let before = place.checked_sub(1).and_then(|before| unit_at(tokens, before, true));
        let is_scale = |at: usize| word_at(tokens, at).and_then(words::number_word).is_some();
        let behind = if is_scale(place + 1) { place + 2 } else { place + 1 };
        if let Some(unit) = before.or_else(|| unit_at(tokens, behind, false)) {
            self.signature.units.push((number, hash(unit)));
        }
    }

    fn word(&mut self, tokens: &[Token], place: usize, (text, written, begins): (&str, &str, bool)) {
        let signature = &mut self.signature;
        signature.words.push(stem(text));
        signature.negated |= words::is_negation(text) && !is_idle_negation(tokens, place, text);
        signature.opposites |= words::opposites(text);
        if let Some(date) = words::date_word(text) {
            let beside_number = [place.checked_sub(1), Some(place + 1)]
                .into_iter()
                .flatten()
                .any(|at| matches!(tokens.get(at), Some(Token::Number(_))));
            if beside_number || !matches!(text, "may" | "march" | "mar" | "sep" | "dec" | "jan" | "jun") {
                signature.dates.push(date);
            }
        }
        let after_number = place
            .checked_sub(1)
            .is_some_and(|before| matches!(tokens[before], Token::Number(_)));
        if !after_number && let Some(unit) = words::unit(text).filter(|_| text.len() > 2 && text != "second" && text != "min") {
            signature.bare_units.push(hash(unit));
        }
        let before_unit = word_at(tokens, place + 1).is_some_and(|word| words::unit(word).is_some());
        if let Some(value) = words::loose_number(text).filter(|_| before_unit || !matches!(text, "a" | "an")) {
            signature.loose.push(hash(&value.to_string()));
        }
        if let Some(value) = words::roman(written) {
            signature.numbers.push(hash(&value.to_string()));
        } else if written.starts_with(char::is_uppercase) && !begins && !words::is_plain(text) {
            signature.names.push(stem(text));
            signature.roles.push((stem(text), role(tokens, place)));
        }
        self.number_word(tokens, place, text);
    }

    /// Takes a number word in: "two hundred", "twenty five", "three million".
    fn number_word(&mut self, tokens: &[Token], place: usize, text: &str) {
        let after_number = place
            .checked_sub(1)
            .is_some_and(|before| matches!(tokens[before], Token::Number(_)));
        let word = words::number_word(text).filter(|_| !after_number);
        let next = word_at(tokens, place + 1).and_then(words::number_word);
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

/// The part that a number or a name plays: given by the nearest word before it that gives one. Several names in a row play one part.
fn role(tokens: &[Token], place: usize) -> u8 {
    let first = place.saturating_sub(ROLE_WORDS_BEFORE);
    let before = (first..place).rev().map_while(|at| match &tokens[at] {
        Token::Word { text, .. } => Some(words::role(text)),
        Token::Number(_) => None,
        Token::Sign(_) => Some(0),
    });
    before.into_iter().find(|role| *role != 0).unwrap_or(0)
}

/// "or not", "why not", "if not", and "No. 2".
fn is_idle_negation(tokens: &[Token], place: usize, text: &str) -> bool {
    let before = place.checked_sub(1).and_then(|before| word_at(tokens, before));
    match text {
        "not" => before.is_some_and(|before| matches!(before, "or" | "why" | "if")),
        "no" => matches!(tokens.get(place + 1), Some(Token::Number(_))),
        _ => false,
    }
}

/// Words of letters and digits, such as `i5` and `d5200`; not a number with its unit behind it.
fn codes(text: &str) -> Vec<u32> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let coded = words.filter(|word| word.contains(|c: char| c.is_ascii_digit()) && word.starts_with(char::is_alphabetic));
    coded.map(|word| hash(&word.to_lowercase())).collect()
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
        Token::Number(_) => None,
    }?;
    (!is_before || matches!(unit, "$" | "€" | "£" | "¥" | "₹")).then_some(unit)
}

fn scaled(number: &str, by: u32) -> String {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    shifted(whole, fraction, by)
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
