//! Numbers in words, in the languages of [`super::words::LANGUAGES`]. Where a word is a number in one language and something else in another,
//! it counts by which language the text is in.

use super::words::{DUTCH, ENGLISH, FRENCH, GERMAN, ITALIAN, PORTUGUESE, SPANISH};
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

use NumberWord::{Hundred, Scale, Tens, Value};

/// What each word of a line means, whatever the language.
const WORDS: &[(NumberWord, &str)] = &[
    (Value(0), "zero null cero nul"),
    (Value(1), "one eins"),
    (Value(2), "two zwei zwo deux dois duas twee"),
    (Value(3), "three third drei trois tre drie"),
    (Value(4), "four fourth vier quatre cuatro quattro quatro"),
    (Value(5), "five fifth funf cinq cinco cinque vijf"),
    (Value(6), "six sechs seis zes"),
    (Value(7), "seven sieben siete sette sete zeven"),
    (Value(8), "eight acht huit ocho otto oito"),
    (Value(9), "nine neun nueve nove negen"),
    (Value(10), "ten zehn dix diez dieci dez tien"),
    (Value(11), "eleven onze undici"),
    (Value(12), "twelve dozen zwolf douze doce dodici doze twaalf"),
    (Value(13), "thirteen dreizehn treize trece tredici treze dertien"),
    (Value(14), "fourteen vierzehn quatorze catorce quattordici veertien"),
    (Value(15), "fifteen funfzehn quinze quince quindici vijftien"),
    (Value(16), "sixteen sechzehn sedici zestien"),
    (Value(17), "seventeen siebzehn diciassette zeventien"),
    (Value(18), "eighteen achtzehn diciotto achttien"),
    (Value(19), "nineteen neunzehn diciannove negentien"),
    (Tens(20), "twenty zwanzig vingt veinte venti vinte twintig"),
    (Tens(30), "thirty dreißig dreissig trente treinta trenta trinta dertig"),
    (Tens(40), "forty vierzig quarante cuarenta quaranta quarenta veertig"),
    (Tens(50), "fifty funfzig cinquante cincuenta cinquanta cinquenta vijftig"),
    (Tens(60), "sixty sechzig soixante sesenta sessanta sessenta zestig"),
    (Tens(70), "seventy siebzig setenta settanta zeventig"),
    (Tens(80), "eighty achtzig ochenta ottanta oitenta tachtig"),
    (Tens(90), "ninety neunzig noventa novanta negentig"),
    (Hundred, "hundred hundert cien ciento cem honderd"),
    (Scale(3), "thousand tausend mille mila duizend"),
    (Scale(5), "lakh lakhs lac"),
    (
        Scale(6),
        "million millions millionen millon millones milhao milhoes miljoen milione milioni",
    ),
    (Scale(7), "crore crores"),
    (
        Scale(9),
        "billion billions bn milliarde milliarden milliard milliards miliardo miliardi miljard",
    ),
    (Scale(12), "trillion"),
];

/// Numbers only in these languages.
const ONLY_IN: &[(NumberWord, &str, &[u8])] = &[
    (Value(2), "due", &[ITALIAN]),
    (Value(3), "tres", &[SPANISH, PORTUGUESE]),
    (Value(7), "sept", &[FRENCH]),
    (Value(9), "neuf", &[FRENCH]),
    (Value(11), "once", &[SPANISH]),
    (Value(16), "seize", &[FRENCH]),
    (Hundred, "cent", &[FRENCH]),
    (Hundred, "cento", &[ITALIAN, PORTUGUESE]),
];

/// Numbers but in these languages.
const BUT_IN: &[(NumberWord, &str, &[u8])] = &[
    (Value(2), "dos", &[ENGLISH, PORTUGUESE, GERMAN, DUTCH]),
    (Value(11), "elf", &[ENGLISH]),
    (Scale(3), "mil", &[ENGLISH]),
];

/// The number that a word is in a text of this language; 0: it is not clear which.
pub(super) fn number_word(word: &str, language: u8) -> Option<NumberWord> {
    type Places = (NumberWord, Option<(&'static [u8], bool)>);
    static MEANINGS: LazyLock<HashMap<&str, Places>> = LazyLock::new(|| {
        let mut meanings: HashMap<&str, Places> = HashMap::new();
        for (number, words) in WORDS {
            meanings.extend(words.split(' ').map(|word| (word, (*number, None))));
        }
        for (list, is_only) in [(ONLY_IN, true), (BUT_IN, false)] {
            meanings.extend(
                list.iter()
                    .map(|(number, word, languages)| (*word, (*number, Some((*languages, is_only))))),
            );
        }
        meanings
    });
    match MEANINGS.get(word) {
        Some((number, None)) => Some(*number),
        Some((number, Some((languages, is_only)))) => (languages.contains(&language) == *is_only).then_some(*number),
        None => german(word).map(Value),
    }
}

/// What German writes as one word: `fünfundzwanzig`, `zweihundert`, `dreitausendfünfzig`.
fn german(word: &str) -> Option<u64> {
    const ONES: [&str; 9] = ["ein", "zwei", "drei", "vier", "funf", "sechs", "sieben", "acht", "neun"];
    const LETTERS_MIN: usize = 8;
    let is_tens = word.ends_with("ig") && word.contains("und");
    if word.len() < LETTERS_MIN || !(is_tens || word.contains("hundert") || word.contains("tausend")) {
        return None;
    }
    let ones = |word: &str| ONES.iter().position(|one| *one == word).map(|place| place as u64 + 1);
    let part = |word: &str, if_none: u64| match word {
        "" => Some(if_none),
        "eins" => Some(1),
        word => ones(word).or_else(|| match number_word(word, GERMAN)? {
            Value(n) | Tens(n) => Some(n),
            Hundred => Some(100),
            Scale(_) => None,
        }),
    };
    for (by, value) in [("tausend", 1_000), ("hundert", 100)] {
        if let Some((times, rest)) = word.split_once(by) {
            return Some(part(times, 1)? * value + part(rest.strip_prefix("und").unwrap_or(rest), 0)?);
        }
    }
    let (one, tens) = word.split_once("und")?;
    match number_word(tens, GERMAN)? {
        Tens(tens) => Some(tens + ones(one)?),
        _ => None,
    }
}

/// A number that the word may mean and need not: it excuses a number of the other text, and asks for none.
pub(super) fn loose_number(word: &str) -> Option<u64> {
    Some(match word {
        "one" | "once" | "first" | "single" | "a" | "an" => 1,
        "ein" | "eine" | "einen" | "einem" | "einer" | "un" | "une" | "una" | "uno" | "um" | "uma" | "een" => 1,
        "second" | "twice" | "double" | "both" | "couple" | "pair" | "beide" | "zweimal" => 2,
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

#[cfg(test)]
mod tests {
    use super::super::tokens::plain;
    use super::*;

    #[test]
    fn words_are_listed_as_they_are_looked_up_and_once() {
        let lines = WORDS.iter().flat_map(|(_, words)| words.split(' '));
        let words: Vec<&str> = lines.chain(ONLY_IN.iter().chain(BUT_IN).map(|(_, word, _)| *word)).collect();
        for word in &words {
            assert_eq!(**word, word.chars().map(plain).collect::<String>());
            assert_eq!(words.iter().filter(|other| *other == word).count(), 1, "{word}");
        }
    }

    #[test]
    fn german_writes_numbers_as_one_word() {
        for (word, expected) in [
            ("funfundzwanzig", Some(25)),
            ("einunddreißig", Some(31)),
            ("zweihundert", Some(200)),
            ("hunderteins", Some(101)),
            ("tausendundeins", Some(1_001)),
            ("dreitausendfunfzig", Some(3_050)),
            ("zweitausendvierundzwanzig", Some(2_024)),
            ("zwolftausenddreihundertvierzig", Some(12_340)),
            ("jahrhundert", None),
            ("tausendfach", None),
            ("undzwanzig", None),
        ] {
            assert_eq!(german(word), expected, "{word}");
        }
        assert_eq!(number_word("once", SPANISH), Some(Value(11)));
        assert_eq!(number_word("once", ENGLISH), None);
        assert_eq!((number_word("dos", 0), number_word("dos", PORTUGUESE)), (Some(Value(2)), None));
    }
}
