//! What words mean to the vetoes: units, opposites, negations, days. Negations, days and common words are those of seven languages, units and
//! opposites English, since that is what the lists were measured on; what another language says of these is compared by digits, names and quotes.
//!
//! All of it stands here without accents and apostrophes, as words are looked up.

use foldhash::{HashMap, HashMapExt, HashSet};
use std::sync::LazyLock;

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

/// Pairs of which a text that says one does not mean what a text that says the other, or both, means; first those that [`JOINING_PAIRS`] counts.
const OPPOSITES: &[(&[&str], &[&str])] = &[
    (&["with"], &["without"]),
    (&["on"], &["off"]),
    (&["up"], &["down"]),
    (&["before"], &["after"]),
    (&["above", "over"], &["below", "under"]),
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
    (&["maximum", "max"], &["minimum", "min"]),
    (&["most"], &["least"]),
    (&["buy", "buying", "purchase"], &["sell", "selling"]),
    (&["add", "adding"], &["remove", "removing", "delete", "deleting"]),
    (&["enable", "enabled"], &["disable", "disabled"]),
    (&["open", "opening"], &["close", "closing"]),
    (&["start", "begin", "starting"], &["stop", "quit", "end", "stopping"]),
    (&["install", "installing"], &["uninstall", "uninstalling"]),
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

/// How many of them, the first ones, join words and say little by themselves.
pub(super) const JOINING_PAIRS: usize = 5;
/// How many pairs there are.
pub(super) const PAIRS: usize = OPPOSITES.len();
const _: () = assert!(PAIRS <= 64, "two bits for each pair must fit");

/// Words that turn a sentence into its contrary.
const NEGATIONS: &[&str] = &[
    // English
    "not no never none nobody nothing nowhere neither nor without cannot unable cant dont doesnt didnt isnt arent wasnt werent wont wouldnt",
    "shouldnt couldnt hasnt havent hadnt aint mustnt non avoid avoiding prevent preventing prevents absence lack lacking fail failed failing",
    // German
    "nicht nichts nie niemals niemand niemanden niemandem nirgends nirgendwo nein ohne weder",
    "kein keine keinen keinem keiner keines keinerlei keinesfalls keineswegs",
    // French
    "ne pas jamais aucun aucune aucuns aucunes rien sans ni nul nulle nest nont nai nas navons navez nest netait",
    // Spanish and Portuguese
    "nunca jamas ningun ninguno ninguna ningunos ningunas nadie nada tampoco nao nem nenhum nenhuma nenhuns nenhumas ninguem jamais sem",
    // Italian
    "senza niente nulla nessun nessuno nessuna neanche nemmeno",
    // Dutch
    "niet niets nooit geen niemand nergens zonder",
];

/// Whether a word turns a sentence of this language into its contrary.
pub(super) fn is_negation(word: &str, language: u8) -> bool {
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| NEGATIONS.iter().flat_map(|line| line.split(' ')).collect());
    match word {
        // To others it is a sin, or the sine.
        "sin" => language == SPANISH,
        // To others a month.
        "mai" => language == ITALIAN,
        word => WORDS.contains(word),
    }
}

/// Of them verbs that say of an act that it is not to happen.
pub(super) fn is_soft_negation(word: &str) -> bool {
    matches!(word, "avoid" | "avoiding" | "prevent" | "preventing" | "prevents")
}

/// What may be said instead of them.
pub(super) fn stops(word: &str) -> bool {
    matches!(word, "stop" | "stopping" | "quit" | "quitting" | "rid")
}

/// Whether two negations of a language make none.
pub(super) fn negates_by_each(language: u8) -> bool {
    matches!(language, ENGLISH | GERMAN | DUTCH)
}

/// Months by number, days of the week from 21 on, and what is told from today.
const DATES: &[(u8, &str)] = &[
    (1, "january jan januar janvier enero janeiro gennaio januari"),
    (2, "february feb februar fevrier febrero fevereiro febbraio februari"),
    (3, "march mar marz mars marzo marco maart"),
    (4, "april apr avril abril aprile"),
    (5, "may mai mayo maio maggio mei"),
    (6, "june jun juni juin junio junho giugno"),
    (7, "july jul juli juillet julio julho luglio"),
    (8, "august aug aout agosto augustus"),
    (9, "september sept sep septembre septiembre setembro settembre"),
    (10, "october oct oktober octobre octubre outubro ottobre"),
    (11, "november nov novembre noviembre novembro"),
    (12, "december dec dezember decembre diciembre dezembro dicembre"),
    (21, "monday mondays montag montags lundi lunes lunedi maandag"),
    (22, "tuesday tuesdays dienstag dienstags mardi martes martedi dinsdag"),
    (23, "wednesday wednesdays mittwoch mittwochs mercredi miercoles mercoledi woensdag"),
    (24, "thursday thursdays donnerstag donnerstags jeudi jueves giovedi donderdag"),
    (25, "friday fridays freitag freitags vendredi viernes venerdi vrijdag"),
    (26, "saturday saturdays samstag samstags sonnabend samedi sabado sabato zaterdag"),
    (27, "sunday sundays sonntag sonntags dimanche domingo domenica zondag"),
    (31, "yesterday gestern ayer ontem ieri gisteren"),
    (32, "tomorrow morgen demain manana amanha domani"),
];

/// The date that a word tells; `may`, `march` and others of their kind only beside a number.
pub(super) fn date_word(word: &str, language: u8, is_beside_number: bool) -> Option<u8> {
    static WORDS: LazyLock<HashMap<&str, u8>> = LazyLock::new(|| {
        let words = DATES.iter().flat_map(|(date, words)| words.split(' ').map(|word| (word, *date)));
        words.collect()
    });
    let means_else = match word {
        "may" | "march" | "mar" | "mars" | "mai" | "mayo" | "mei" | "marco" | "sep" | "dec" | "jan" | "jun" => !is_beside_number,
        // Seven.
        "sept" => language == FRENCH,
        _ => false,
    };
    WORDS.get(word).copied().filter(|_| !means_else)
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
            for word in words.split(' ') {
                *bits.entry(word).or_default() |= 1 << place;
            }
        }
        bits
    });
    BITS.get(word).copied().unwrap_or_default()
}

pub(super) const ENGLISH: u8 = 1;
pub(super) const GERMAN: u8 = 2;
pub(super) const FRENCH: u8 = 3;
pub(super) const SPANISH: u8 = 4;
pub(super) const ITALIAN: u8 = 5;
pub(super) const PORTUGUESE: u8 = 6;
pub(super) const DUTCH: u8 = 7;

/// A language by its commonest words, in the order of their numbers.
pub(super) const LANGUAGES: [&str; 7] = [
    "the is are what how do does of and to in can i for my it you which why when",
    "der die das ist und wie ich ein eine nicht zu den mit fur auf kann was wo mein sind",
    "le la les est et je un une des du pour comment que qui dans quel quelle mon ma sont",
    "el los las es y como que una para por puedo mi del cual donde esta son con",
    "il lo gli e che come di per posso mio mia della del sono cosa dove quale nel una uno",
    "o os as e como que para posso meu minha do da uma um nao onde qual sao com em",
    "de het een is en hoe ik van voor mijn kan wat waar met niet zijn op te dat je",
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

#[cfg(test)]
mod tests {
    use super::super::tokens::{Token, tokens};
    use super::*;

    /// A word that is written otherwise than it is looked up would never be found.
    #[test]
    fn words_are_listed_as_they_are_looked_up() {
        let lines = NEGATIONS.iter().chain(&LANGUAGES).copied();
        let lines = lines.chain(DATES.iter().map(|(_, words)| *words));
        let pairs = OPPOSITES.iter().flat_map(|(one, other)| one.iter().chain(*other)).copied();
        for word in lines.flat_map(|line| line.split(' ')).chain(pairs) {
            let read = tokens(word);
            let [Token::Word { text, .. }] = &read[..] else {
                panic!("{word:?} is {read:?}")
            };
            assert_eq!(text, word);
        }
    }
}
