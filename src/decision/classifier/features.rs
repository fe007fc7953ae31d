//! What a classifier looks at: n-grams of words and characters, hashed into buckets, and a few figures of the whole text. Pure and the same
//! on every machine; bounded, so that a long prompt costs no more than a short one.

/// How many buckets n-grams and attributes are hashed into.
pub const BUCKETS: usize = 4_096;
/// How many figures a text has beside them.
pub const FIGURES: usize = 14;
/// How much of a text is looked at, half from its beginning and half from its end: what is asked stands in one of the two.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Beyond this an attribute is as large as can be.
const ATTRIBUTE_MAX: f32 = 8.0;

const QUESTION_WORDS: [&str; 8] = ["how", "what", "when", "where", "which", "who", "whose", "why"];
const REASONING_WORDS: [&str; 8] = ["compare", "compute", "derive", "explain", "if", "prove", "solve", "step"];
/// Mixes what is hashed; odd, so that nothing is lost.
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
/// Tells runs of characters from words.
const RUNS: u64 = 0x00c4_ceb9_fe1a_85ec;

/// An attribute of a request, as far as a classifier can use it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Attribute<'a> {
    Number(f64),
    Text(&'a str),
    Truth(bool),
}

/// A request as a vector.
#[derive(Clone, PartialEq, Debug)]
pub struct Features {
    /// Of length one, where there is any.
    pub buckets: Vec<f32>,
    /// As they are; the classifier knows their usual size. `None`: there is no text.
    pub figures: Option<[f32; FIGURES]>,
}

impl Features {
    /// Of a text, a request's attributes, or both.
    pub fn new<'a>(text: Option<&str>, attributes: impl IntoIterator<Item = (&'a str, Attribute<'a>)>) -> Self {
        let mut features = Self {
            buckets: vec![0.0; BUCKETS],
            figures: None,
        };
        if let Some(text) = text {
            let (head, tail) = ends(text);
            let mut seen = Seen::default();
            for part in [head, tail] {
                seen.characters(part);
                features.count(&part.to_ascii_lowercase(), &mut seen);
            }
            features.figures = Some(seen.figures(text.len()));
        }
        // A word that stands there four times says twice as much as one that stands there once.
        features.buckets.iter_mut().for_each(|count| *count = count.sqrt());
        features.normalize();
        for (name, value) in attributes {
            match value {
                Attribute::Number(number) => features.add(
                    hash(b'#', name.as_bytes(), b""),
                    (number as f32).clamp(-ATTRIBUTE_MAX, ATTRIBUTE_MAX),
                ),
                Attribute::Text(text) => features.add(hash(b'=', name.as_bytes(), text.as_bytes()), 1.0),
                Attribute::Truth(truth) => features.add(hash(b'=', name.as_bytes(), if truth { b"true" } else { b"false" }), 1.0),
            }
        }
        features
    }

    fn add(&mut self, hash: u64, amount: f32) {
        self.buckets[hash as usize % BUCKETS] += amount;
    }

    fn normalize(&mut self) {
        let length = self.buckets.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            self.buckets.iter_mut().for_each(|x| *x /= length);
        }
    }

    /// Words, pairs of words, and runs of four characters within words.
    fn count(&mut self, lower: &str, seen: &mut Seen) {
        let mut before: Option<u64> = None;
        for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let bytes = word.as_bytes();
            // Numbers say that there are numbers; which ones does not matter.
            let is_number = bytes.iter().all(u8::is_ascii_digit);
            seen.word(word, is_number);
            let own = if is_number { hash(b'n', b"", b"") } else { hash(b'w', bytes, b"") };
            self.add(own, 1.0);
            if let Some(before) = before {
                self.add((before ^ own.rotate_left(17)).wrapping_mul(PRIME) >> 20, 1.0);
            }
            before = Some(own);
            if bytes.len() > 4 && !is_number {
                let run = |run: &[u8]| u32::from_le_bytes([run[0], run[1], run[2], run[3]]);
                bytes
                    .windows(4)
                    .for_each(|four| self.add((u64::from(run(four)) ^ RUNS).wrapping_mul(PRIME) >> 20, 0.5));
            }
        }
    }
}

/// What is counted of a text on the way.
#[derive(Default)]
struct Seen {
    bytes: f32,
    digits: f32,
    code: f32,
    lines: f32,
    upper: f32,
    questions: f32,
    signs: f32,
    beyond_ascii: f32,
    words: f32,
    numbers: f32,
    long_words: f32,
    question_words: f32,
    reasoning_words: f32,
}

impl Seen {
    fn characters(&mut self, text: &str) {
        self.bytes += text.len() as f32;
        for c in text.chars() {
            match c {
                '0'..='9' => self.digits += 1.0,
                'A'..='Z' => self.upper += 1.0,
                '\n' => self.lines += 1.0,
                '?' => self.questions += 1.0,
                '{' | '}' | ';' | '<' | '>' | '=' | '_' | '\\' | '`' | '|' => self.code += 1.0,
                '%' | '$' | '+' | '*' | '/' | '^' => self.signs += 1.0,
                c if !c.is_ascii() => self.beyond_ascii += 1.0,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str, is_number: bool) {
        self.words += 1.0;
        if is_number {
            self.numbers += 1.0;
        } else if word.len() > 8 {
            self.long_words += 1.0;
        } else if QUESTION_WORDS.contains(&word) {
            self.question_words += 1.0;
        } else if REASONING_WORDS.contains(&word) {
            self.reasoning_words += 1.0;
        }
    }

    /// Shares of what was looked at, and the sizes of counts; `bytes` is how long the whole text is.
    fn figures(&self, bytes: usize) -> [f32; FIGURES] {
        let (share, size) = (|part: f32| part / self.bytes.max(1.0), |count: f32| (count + 1.0).ln());
        [
            size(bytes as f32),
            size(self.words),
            self.bytes / (self.words + 1.0),
            share(self.digits),
            size(self.numbers),
            share(self.code),
            size(self.lines),
            share(self.upper),
            size(self.questions),
            size(self.question_words),
            size(self.reasoning_words),
            share(self.signs),
            self.long_words / (self.words + 1.0),
            share(self.beyond_ascii),
        ]
    }
}

/// The beginning and the end of a text, which do not overlap.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= TEXT_BYTES_MAX {
        return (text, "");
    }
    let half = TEXT_BYTES_MAX / 2;
    (
        &text[..text.floor_char_boundary(half)],
        &text[text.ceil_char_boundary(text.len() - half)..],
    )
}

/// FNV-1a over a kind and two parts, with its high bits mixed into the low ones.
fn hash(kind: u8, first: &[u8], second: &[u8]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = step(0xcbf2_9ce4_8422_2325, kind);
    hash = first.iter().fold(hash, |hash, byte| step(hash, *byte));
    hash = second.iter().fold(step(hash, 0xff), |hash, byte| step(hash, *byte));
    hash ^ (hash >> 29)
}
