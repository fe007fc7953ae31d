//! Cuts a text into words, numbers and signs, so that how a number was written is known only here.
//!
//! `1,000.5`, `1.000,5` and `1000.5` are one number, `1,5` is 1.5, and `1,00,000` is a lakh. `1.000` is a thousand to some and one to others,
//! so it is a number of its own, which neither `1000` nor `1` is. A minus belongs to a number that follows it at once.

/// A piece of a text.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// In small letters without accents and apostrophes, and as it was written.
    Word {
        text: String,
        written: String,
        begins: bool,
    },
    Number {
        value: String,
        /// To the number before it, as in a date, a ratio or a sum, where the order counts.
        is_joined: bool,
    },
    Sign(char),
}

/// A letter without its accent, where it is one of the common Latin ones.
pub(super) fn plain(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    const ACCENTED: &str = "àáâãäåāăąçćčďđèéêëēėęěğģìíîïīįıķĺļľłñńņňòóôõöøōőŕřśşșšţťțùúûüūůűųýÿźżž";
    const PLAIN: &[u8] = b"aaaaaaaaacccddeeeeeeeeggiiiiiiikllllnnnnoooooooorrsssstttuuuuuuuuyyzzz";
    match ACCENTED.chars().position(|accented| accented == c) {
        Some(place) => char::from(PLAIN[place]),
        None => c,
    }
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut place, mut begins) = (0, true);
    while place < chars.len() {
        let c = chars[place];
        if let Some(start) = number_start(&chars, place) {
            if let Some(sign) = chars[place..start].iter().find(|c| is_currency(**c)) {
                tokens.push(Token::Sign(*sign));
            }
            place = chain(&chars, start, start > place && is_minus(c), &mut tokens);
            begins = false;
        } else if c.is_numeric() {
            let end = run(&chars, place, |c| c.is_numeric() && !c.is_ascii_digit());
            tokens.push(Token::Number {
                value: chars[place..end].iter().collect(),
                is_joined: false,
            });
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
            if is_currency(c) {
                tokens.push(Token::Sign(c));
            }
            begins |= matches!(c, '.' | '?' | '!' | ':' | ';' | '\n' | '"' | '“' | '(');
            place += 1;
        }
    }
    tokens
}

fn is_currency(c: char) -> bool {
    matches!(c, '%' | '$' | '€' | '£' | '¥' | '₹')
}

fn is_minus(c: char) -> bool {
    matches!(c, '-' | '−')
}

fn is_digit(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

/// Where the digits of a number are that begins here: at once, behind a minus that belongs to it (`-5`, `-$5`), or as in `.5`.
fn number_start(chars: &[char], at: usize) -> Option<usize> {
    if is_digit(chars, at) {
        return Some(at);
    }
    let is_free = at == 0 || !chars[at - 1].is_alphanumeric() && !matches!(chars[at - 1], '-' | '−' | '.' | ')');
    let is_point = |at: usize| chars.get(at) == Some(&'.') && is_digit(chars, at + 1);
    match chars[at] {
        _ if !is_free => None,
        '.' if is_point(at) => Some(at),
        c if is_minus(c) => {
            let digits = at + 1 + usize::from(chars.get(at + 1).is_some_and(|c| is_currency(*c)));
            (is_digit(chars, digits) || is_point(digits)).then_some(digits)
        }
        _ => None,
    }
}

/// Takes the numbers that are joined to each other, and says where they end.
fn chain(chars: &[char], from: usize, is_negative: bool, tokens: &mut Vec<Token>) -> usize {
    let (mut place, mut is_joined, mut is_negative) = (from, false, is_negative);
    loop {
        let (values, end) = numbers(chars, place);
        for value in values {
            let value = if is_negative && value != "0" { format!("-{value}") } else { value };
            tokens.push(Token::Number { value, is_joined });
            (is_joined, is_negative) = (true, false);
        }
        match joined(chars, end) {
            Some(next) => place = next,
            None => return end,
        }
    }
}

/// Where the next number of a chain begins: `2024-01-02`, `3:4`, `1920x1080`, `7 - 5`.
fn joined(chars: &[char], end: usize) -> Option<usize> {
    let blanks = |at: usize| run(chars, at, |c| c == ' ');
    let by = blanks(end);
    let next = match chars.get(by)? {
        // `4 -3` are two numbers, `4 - 3` and `4-3` are joined.
        '-' | '−' if by > end && is_digit(chars, by + 1) => return None,
        '-' | '−' | '–' | '/' | ':' | '^' | '+' | '*' | '×' | '÷' | '=' | '<' | '>' => blanks(by + 1),
        'x' | 'X' | ',' | '.' if by == end => by + 1,
        _ => return None,
    };
    is_digit(chars, next).then_some(next)
}

/// The numbers that begin here, in their shortest form, and where they end: one, or several without blanks between them. `50k` is 50000.
fn numbers(chars: &[char], from: usize) -> (Vec<String>, usize) {
    let digits_end = |at: usize| run(chars, at, |c| c.is_ascii_digit());
    if chars[from] == '.' {
        let end = digits_end(from + 1);
        return (vec![decimal("0", &chars[from + 1..end].iter().collect::<String>())], end);
    }
    let mut end = digits_end(from);
    let mut parts: Vec<String> = vec![chars[from..end].iter().collect()];
    let mut marks = Vec::new();
    while matches!(chars.get(end), Some('.' | ',')) && is_digit(chars, end + 1) {
        marks.push(chars[end]);
        let part_end = digits_end(end + 1);
        parts.push(chars[end + 1..part_end].iter().collect());
        end = part_end;
    }
    let Some((whole, fraction)) = one_number(&parts, &marks) else {
        let values = parts.iter().map(|part| decimal(part, "")).collect();
        return (values, end);
    };
    let is_thousands = matches!(chars.get(end), Some('k' | 'K')) && !chars.get(end + 1).is_some_and(|c| c.is_alphanumeric());
    match is_thousands {
        true => (vec![shifted(&whole, &fraction, 3)], end + 1),
        false => (vec![decimal(&whole, &fraction)], end),
    }
}

/// What digits with marks between them are, if they are one number: its whole and its fraction.
fn one_number(parts: &[String], marks: &[char]) -> Option<(String, String)> {
    let (last, before) = parts.split_last()?;
    let Some((mark, marks)) = marks.split_last() else {
        return Some((last.clone(), String::new()));
    };
    let are_same = |mark: char| marks.iter().all(|other| *other == mark);
    if marks.is_empty() {
        let is_fraction = match mark {
            ',' if is_grouped(parts) => return Some((parts.concat(), String::new())),
            ',' => last.len() <= 2,
            _ => true,
        };
        return is_fraction.then(|| (before.concat(), last.clone()));
    }
    // Thousands, with a fraction behind the other mark or without one.
    match marks[0] {
        first if first == *mark => (are_same(first) && is_grouped(parts)).then(|| (parts.concat(), String::new())),
        first => (are_same(first) && is_grouped(before)).then(|| (before.concat(), last.clone())),
    }
}

/// Groups of three digits, or as in India of two before the last three.
fn is_grouped(parts: &[String]) -> bool {
    let [first, between @ .., last] = parts else { return false };
    let all_of = |length: usize| between.iter().all(|part| part.len() == length);
    (1..=3).contains(&first.len()) && !first.starts_with('0') && last.len() == 3 && (all_of(3) || all_of(2) && first.len() < 3)
}

/// A decimal number in its shortest form. Zeros at the end of a fraction stay unless it has nothing else: a version 3.10 is none 3.1.
fn decimal(whole: &str, fraction: &str) -> String {
    let is_ambiguous = fraction.len() == 3 && whole.len() <= 3 && !whole.starts_with('0');
    match is_ambiguous || fraction.bytes().any(|digit| digit != b'0') {
        true => format!("{}.{fraction}", unpadded(whole)),
        false => unpadded(whole).to_owned(),
    }
}

fn unpadded(whole: &str) -> &str {
    match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    }
}

/// A decimal number times ten to the `by`, in its shortest form.
fn shifted(whole: &str, fraction: &str, by: u32) -> String {
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    for _ in 0..by {
        whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
    }
    match fraction.trim_end_matches('0') {
        "" => unpadded(&whole).to_owned(),
        fraction => format!("{}.{fraction}", unpadded(&whole)),
    }
}

/// The value of a number token times ten to the `by`.
pub(super) fn scaled(value: &str, by: u32) -> String {
    let (sign, size) = value.strip_prefix('-').map_or(("", value), |size| ("-", size));
    let (whole, fraction) = size.split_once('.').unwrap_or((size, ""));
    format!("{sign}{}", shifted(whole, fraction, by))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let shown: Vec<String> = tokens(text)
            .into_iter()
            .map(|token| match token {
                Token::Word { text, .. } => text,
                Token::Number { value, is_joined: true } => format!("+{value}"),
                Token::Number { value, .. } => value,
                Token::Sign(sign) => sign.to_string(),
            })
            .collect();
        shown.join(" ")
    }

    #[test]
    fn numbers_are_read_as_they_are_meant_and_joined_where_their_order_counts() {
        for (text, expected) in [
            ("1,000,000 or 1000000", "1000000 or 1000000"),
            ("1.000.000,50 €", "1000000.50 €"),
            ("1,234.50", "1234.50"),
            ("1.000 and 1.0", "1.000 and 1"),
            ("1,5 0,25 .5", "1.5 0.25 0.5"),
            ("1,00,000", "100000"),
            ("2012,2013", "2012 +2013"),
            ("50k 2.5K 3.10", "50000 2500 3.10"),
            ("at -5 −3 and 4-3", "at -5 -3 and 4 +3"),
            ("10 - 5, 10 -5", "10 +5 10 -5"),
            ("-$5, -€.5", "$ -5 € -0.5"),
            ("covid-19, --5, (-0.5)", "covid 19 5 -0.5"),
            ("2024-01-02 3:4 1920x1080", "2024 +1 +2 3 +4 1920 +1080"),
            ("1.2.3 and 01.02.2024", "1 +2 +3 and 1 +2 +2024"),
            ("5, 6. 7", "5 6 7"),
            ("007 0 -0 0.0", "7 0 0 0"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(scaled("-2.80", 5), "-280000");
        assert_eq!(scaled("0.5", 6), "500000");
    }
}
