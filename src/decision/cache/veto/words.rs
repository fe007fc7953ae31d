//! What words mean to the vetoes: numbers, units, opposites, negations, days. English mostly, since that is what the lists were measured on;
//! what another language says is compared by its digits, names, quotes and signs.

use foldhash::{HashMap, HashMapExt};
use std::sync::LazyLock;

/// A number word: its value, or what it multiplies by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NumberWord {
    Value(u64),
    Tens(u64),
    Hundred,
    Scale(u32),
}

pub(super) fn number_word(word: &str) -> Option<NumberWord> {
    use NumberWord::{Hundred, Scale, Tens, Value};
    Some(match word {
        "zero" => Value(0),
        "one" => Value(1),
        "two" => Value(2),
        "three" => Value(3),
        "four" => Value(4),
        "five" => Value(5),
        "six" => Value(6),
        "seven" => Value(7),
        "eight" => Value(8),
        "nine" => Value(9),
        "ten" => Value(10),
        "eleven" => Value(11),
        "twelve" | "dozen" => Value(12),
        "thirteen" => Value(13),
        "fourteen" => Value(14),
        "fifteen" => Value(15),
        "sixteen" => Value(16),
        "seventeen" => Value(17),
        "eighteen" => Value(18),
        "nineteen" => Value(19),
        "twenty" => Tens(20),
        "thirty" => Tens(30),
        "forty" => Tens(40),
        "fifty" => Tens(50),
        "sixty" => Tens(60),
        "seventy" => Tens(70),
        "eighty" => Tens(80),
        "ninety" => Tens(90),
        "third" => Value(3),
        "fourth" => Value(4),
        "fifth" => Value(5),
        "hundred" => Hundred,
        "thousand" => Scale(3),
        "lakh" | "lakhs" | "lac" => Scale(5),
        "million" | "millions" => Scale(6),
        "crore" | "crores" => Scale(7),
        "billion" | "billions" | "bn" => Scale(9),
        "trillion" => Scale(12),
        _ => return None,
    })
}

/// A number that the word may mean and need not: it excuses a number of the other text, and asks for none.
pub(super) fn loose_number(word: &str) -> Option<u64> {
    Some(match word {
        "one" | "once" | "first" | "single" | "a" | "an" => 1,
        "second" | "twice" | "double" | "both" | "couple" | "pair" => 2,
        _ => return None,
    })
}

/// `II` to `XX`, but for single letters, which mean too much else.
pub(super) fn roman(word: &str) -> Option<u64> {
    const NUMERALS: [&str; 19] = [
        "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI", "XVII", "XVIII", "XIX", "XX",
    ];
    let place = NUMERALS.iter().position(|numeral| *numeral == word)?;
    (word.len() > 1).then_some(place as u64 + 2)
}

/// The unit that a word behind a number names, or the sign before or behind it.
pub(super) fn unit(word: &str) -> Option<&'static str> {
    Some(match word {
        "%" | "percent" | "pct" | "percentage" => "%",
        "$" | "usd" | "dollar" | "dollars" | "bucks" => "$",
        "€" | "eur" | "euro" | "euros" => "€",
        "£" | "gbp" => "£",
        "¥" | "jpy" | "yen" => "¥",
        "₹" | "inr" | "rs" | "rupee" | "rupees" => "₹",
        "kg" | "kgs" | "kilo" | "kilos" | "kilogram" | "kilograms" => "kg",
        "lb" | "lbs" | "pound" | "pounds" => "lb",
        "gram" | "grams" => "g",
        "mg" | "milligrams" => "mg",
        "oz" | "ounce" | "ounces" => "oz",
        "ton" | "tons" | "tonnes" => "t",
        "km" | "kms" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => "km",
        "mile" | "miles" => "mile",
        "m" | "meter" | "meters" | "metre" | "metres" => "m",
        "cm" | "cms" | "centimeters" | "centimetres" => "cm",
        "mm" | "millimeters" => "mm",
        "ft" | "foot" | "feet" => "ft",
        "inch" | "inches" => "inch",
        "yard" | "yards" => "yard",
        "ms" | "milliseconds" | "millisecond" => "ms",
        "sec" | "secs" | "second" | "seconds" => "second",
        "min" | "mins" | "minute" | "minutes" => "minute",
        "hr" | "hrs" | "hour" | "hours" => "hour",
        "day" | "days" => "day",
        "week" | "weeks" | "wks" => "week",
        "month" | "months" => "month",
        "year" | "years" | "yr" | "yrs" => "year",
        "decade" | "decades" => "decade",
        "century" | "centuries" => "century",
        "kb" => "kb",
        "mb" => "mb",
        "gb" | "gigs" => "gb",
        "tb" => "tb",
        "hz" => "hz",
        "mhz" => "mhz",
        "ghz" => "ghz",
        "mph" => "mph",
        "kmph" => "kmph",
        "volt" | "volts" => "v",
        "watt" | "watts" => "w",
        "amp" | "amps" => "a",
        "celsius" | "centigrade" => "c",
        "fahrenheit" => "f",
        "litre" | "litres" | "liter" | "liters" => "l",
        "ml" => "ml",
        "gallon" | "gallons" => "gallon",
        _ => return None,
    })
}

/// Pairs of which a text that says one does not mean what a text that says the other, or both, means.
const OPPOSITES: &[(&[&str], &[&str])] = &[
    (&["more"], &["less", "fewer"]),
    (&["greater", "larger", "bigger"], &["smaller"]),
    (&["higher", "highest"], &["lower", "lowest"]),
    (
        &["increase", "increased", "increasing", "raise"],
        &["decrease", "decreased", "decreasing", "reduce", "reducing"],
    ),
    (&["gain", "gaining"], &["lose", "losing", "loose", "loss"]),
    (&["best"], &["worst"]),
    (&["better"], &["worse"]),
    (&["good"], &["bad"]),
    (&["before"], &["after"]),
    (&["above", "over"], &["below", "under"]),
    (&["maximum", "max"], &["minimum", "min"]),
    (&["most"], &["least"]),
    (&["buy", "buying", "purchase"], &["sell", "selling"]),
    (&["add", "adding"], &["remove", "removing", "delete", "deleting"]),
    (&["enable", "enabled"], &["disable", "disabled"]),
    (&["open", "opening"], &["close", "closing"]),
    (&["start", "begin", "starting"], &["stop", "quit", "end", "stopping"]),
    (&["install", "installing"], &["uninstall", "uninstalling"]),
    (&["on"], &["off"]),
    (&["up"], &["down"]),
    (&["left"], &["right"]),
    (
        &["male", "man", "men", "boy", "boys", "guy", "guys"],
        &["female", "woman", "women", "girl", "girls"],
    ),
    (
        &["he", "him", "his", "husband", "boyfriend", "father", "brother", "son"],
        &["she", "her", "wife", "girlfriend", "mother", "sister", "daughter"],
    ),
    (&["legal"], &["illegal"]),
    (&["possible"], &["impossible"]),
    (
        &["advantage", "advantages", "pros", "benefits"],
        &["disadvantage", "disadvantages", "cons", "drawbacks"],
    ),
    (&["true"], &["false"]),
    (&["allow", "allowed"], &["deny", "denied", "forbid", "forbidden"]),
    (&["import", "importing"], &["export", "exporting"]),
    (&["upload", "uploading"], &["download", "downloading"]),
    (&["lock", "locked"], &["unlock", "unlocked"]),
    (&["win", "winning", "won"], &["lose", "losing", "lost"]),
    (&["hot"], &["cold"]),
    (&["north", "northern"], &["south", "southern"]),
    (&["east", "eastern"], &["west", "western"]),
    (&["long", "longer"], &["short", "shorter"]),
    (&["fast", "faster"], &["slow", "slower"]),
    (&["cheap", "cheapest"], &["expensive"]),
    (&["positive"], &["negative"]),
    (&["public"], &["private"]),
    (&["internal"], &["external"]),
    (&["domestic"], &["international"]),
    (&["online"], &["offline"]),
    (&["input"], &["output"]),
    (&["send", "sending"], &["receive", "receiving"]),
    (&["lend"], &["borrow"]),
    (&["accept"], &["reject"]),
    (&["love", "like"], &["hate", "dislike"]),
    (&["block"], &["unblock"]),
    (&["encrypt"], &["decrypt"]),
    (&["ascending"], &["descending"]),
    (&["front"], &["back"]),
    (&["inside"], &["outside"]),
    (&["early", "earliest"], &["late", "latest"]),
    (&["with"], &["without"]),
    (&["single", "unmarried"], &["married"]),
    (&["undergraduate", "bachelors"], &["postgraduate", "masters", "graduate"]),
    (&["include", "including"], &["exclude", "excluding", "except"]),
    (&["debit"], &["credit"]),
    (&["morning"], &["evening", "night"]),
];

/// Two bits for each pair that a word is of: which of the two it is.
pub(super) fn opposites(word: &str) -> u128 {
    static BITS: LazyLock<HashMap<&str, u128>> = LazyLock::new(|| {
        let mut bits: HashMap<&str, u128> = HashMap::new();
        for (place, (one, other)) in OPPOSITES.iter().enumerate() {
            for (words, bit) in [(one, 1u128), (other, 2)] {
                for word in *words {
                    *bits.entry(*word).or_default() |= bit << (2 * place);
                }
            }
        }
        bits
    });
    BITS.get(word).copied().unwrap_or_default()
}

/// How many pairs there are.
pub(super) const PAIRS: usize = OPPOSITES.len();
const _: () = assert!(PAIRS <= 64, "two bits for each pair must fit");

/// Words that turn a sentence into its contrary. An apostrophe has been taken out of them.
pub(super) fn is_negation(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "not",
        "no",
        "never",
        "none",
        "nobody",
        "nothing",
        "nowhere",
        "neither",
        "nor",
        "without",
        "cannot",
        "unable",
        "cant",
        "dont",
        "doesnt",
        "didnt",
        "isnt",
        "arent",
        "wasnt",
        "werent",
        "wont",
        "wouldnt",
        "shouldnt",
        "couldnt",
        "hasnt",
        "havent",
        "hadnt",
        "aint",
        "mustnt",
        "non",
        "avoid",
        "avoiding",
        "prevent",
        "preventing",
        "prevents",
        "absence",
        "lack",
        "lacking",
        "fail",
        "failed",
        "failing",
        "nicht",
        "kein",
        "keine",
        "ohne",
        "pas",
        "jamais",
        "nunca",
        "senza",
        "não",
        "niet",
        "geen",
    ];
    WORDS.contains(&word)
}

/// Months and days of the week, by number; `may` and `march` only beside a number, which the caller sees to.
pub(super) fn date_word(word: &str) -> Option<u8> {
    Some(match word {
        "january" | "jan" => 1,
        "february" | "feb" => 2,
        "march" => 3,
        "april" | "apr" => 4,
        "may" => 5,
        "june" | "jun" => 6,
        "july" | "jul" => 7,
        "august" | "aug" => 8,
        "september" | "sept" | "sep" => 9,
        "october" | "oct" => 10,
        "november" | "nov" => 11,
        "december" | "dec" => 12,
        "monday" | "mondays" => 21,
        "tuesday" | "tuesdays" => 22,
        "wednesday" | "wednesdays" => 23,
        "thursday" | "thursdays" => 24,
        "friday" | "fridays" => 25,
        "saturday" | "saturdays" => 26,
        "sunday" | "sundays" => 27,
        "yesterday" => 31,
        "tomorrow" => 32,
        _ => return None,
    })
}

/// The part that a number or a name behind this word plays: from here to there is not from there to here. 0: none.
pub(super) fn role(word: &str) -> u8 {
    const ROLES: &[&[&str]] = &[
        &["to", "into", "onto", "towards", "toward"],
        &["from", "minus"],
        &["than", "over", "under", "above", "below"],
        &["before", "until"],
        &["after", "since"],
        &["by", "through"],
        &["against", "beat", "beats", "defeated", "defeats", "killed"],
    ];
    ROLES
        .iter()
        .position(|words| words.contains(&word))
        .map_or(0, |place| place as u8 + 1)
}

/// Which languages have this word among their commonest, a bit each.
pub(super) fn languages(word: &str) -> u8 {
    static BITS: LazyLock<HashMap<&str, u8>> = LazyLock::new(|| {
        let mut bits: HashMap<&str, u8> = HashMap::new();
        for (place, words) in LANGUAGES.iter().enumerate() {
            for word in *words {
                *bits.entry(*word).or_default() |= 1 << place;
            }
        }
        bits
    });
    BITS.get(word).copied().unwrap_or_default()
}

/// A language by its commonest words; which number it has does not matter.
pub(super) const LANGUAGES: [&[&str]; 7] = [
    &[
        "the", "is", "are", "what", "how", "do", "does", "of", "and", "to", "in", "can", "i", "for", "my", "it", "you", "which", "why",
        "when",
    ],
    &[
        "der", "die", "das", "ist", "und", "wie", "ich", "ein", "eine", "nicht", "zu", "den", "mit", "für", "auf", "kann", "was", "wo",
        "mein", "sind",
    ],
    &[
        "le", "la", "les", "est", "et", "je", "un", "une", "des", "du", "pour", "comment", "que", "qui", "dans", "quel", "quelle", "mon",
        "ma", "sont",
    ],
    &[
        "el", "los", "las", "es", "y", "cómo", "como", "qué", "que", "una", "para", "por", "puedo", "mi", "del", "cuál", "dónde", "está",
        "son", "con",
    ],
    &[
        "il", "lo", "gli", "è", "che", "come", "di", "per", "posso", "mio", "mia", "della", "del", "sono", "cosa", "dove", "quale", "nel",
        "una", "uno",
    ],
    &[
        "o", "os", "as", "é", "como", "que", "para", "posso", "meu", "minha", "do", "da", "uma", "um", "não", "onde", "qual", "são", "com",
        "em",
    ],
    &[
        "de", "het", "een", "is", "en", "hoe", "ik", "van", "voor", "mijn", "kan", "wat", "waar", "met", "niet", "zijn", "op", "te", "dat",
        "je",
    ],
];

/// Words that begin sentences so often that their capital says nothing.
pub(super) fn is_plain(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "i", "a", "an", "the", "what", "which", "who", "whom", "whose", "why", "when", "where", "how", "is", "are", "was", "were", "am",
        "be", "do", "does", "did", "can", "could", "should", "would", "will", "shall", "may", "might", "must", "has", "have", "had", "if",
        "in", "on", "at", "of", "for", "to", "and", "or", "but", "it", "its", "my", "your", "his", "her", "their", "our", "we", "you",
        "they", "he", "she", "this", "that", "these", "those", "there", "some", "any", "please", "tell", "give", "from", "with", "as",
        "by", "so", "im", "ive", "id",
    ];
    WORDS.contains(&word)
}
