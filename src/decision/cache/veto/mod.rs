//! Vetoes: whether two texts that an embedding finds alike still must not share an answer. Embeddings measure what texts are about; that one
//! asks of 2016 and the other of 2017, that one says *not*, or that one is in kilograms hardly moves them.
//!
//! A text is read once into a [`Signature`], which is small enough to lie beside each vector, and two signatures are compared without the
//! texts. Everything that decides is a multiset of hashes or a mask, so a signature tells nobody what the text said.
//! Invariants: [`Signature::veto`] is symmetric, a text never vetoes itself, and a text that was too long to be read whole vetoes everything.

mod numbers;
mod read;
mod tokens;
mod words;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// Texts beyond this are not read, so they are never found similar.
pub const TEXT_BYTES_MAX: usize = 32 << 10;
/// Changes with what is read of a text, so that nothing is compared with what an older version kept.
const VERSION: u8 = 3;
/// The most things of one kind that a signature keeps; a text with more is not compared.
pub const ITEMS_MAX: usize = 512;

/// Why two texts must not share an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Veto {
    /// One of them was too long to be compared.
    TooLong,
    Language,
    Negation,
    Number,
    Unit,
    Date,
    Direction,
    Quote,
    Name,
}

impl Veto {
    /// All of them, for whoever counts by kind.
    pub const ALL: [Veto; 9] = [
        Veto::TooLong,
        Veto::Language,
        Veto::Negation,
        Veto::Number,
        Veto::Unit,
        Veto::Date,
        Veto::Direction,
        Veto::Quote,
        Veto::Name,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Veto::TooLong => "too_long",
            Veto::Language => "language",
            Veto::Negation => "negation",
            Veto::Number => "number",
            Veto::Unit => "unit",
            Veto::Date => "date",
            Veto::Direction => "direction",
            Veto::Quote => "quote",
            Veto::Name => "name",
        }
    }
}

/// What of a text must agree.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Signature {
    /// Which version read it to its end; 0: none did.
    read_by: u8,
    /// Which alphabets its letters are of, a bit each.
    scripts: u32,
    /// Which language its common words are of; 0: not clear.
    language: u8,
    /// It negates, it takes a negation back, and all that negates is a verb like *avoid*.
    negated: bool,
    negated_twice: bool,
    negated_softly: bool,
    /// It speaks of stopping, which may stand for such a verb.
    stops: bool,
    /// Written in digits.
    numbers: Vec<u32>,
    /// Those of them that are joined, as in a date or a ratio: their order counts.
    chains: Vec<Vec<u32>>,
    /// Written in words, of which a text may leave one out.
    spelt: Vec<u32>,
    /// Numbers that it may mean: they excuse one of the other text.
    loose: Vec<u32>,
    /// Letters and digits in one word, such as the names of products.
    codes: Vec<u32>,
    /// A number and the unit beside it.
    units: Vec<(u32, u32)>,
    /// A number and the word behind it that says of what it counts.
    counts: Vec<(u32, u32)>,
    /// Units without a number, such as in "per week".
    bare_units: Vec<u32>,
    dates: Vec<u8>,
    /// Two bits for each pair of opposites.
    opposites: u128,
    quotes: Vec<u32>,
    /// Words that are written as names.
    names: Vec<u32>,
    /// Names of few letters, all of them large.
    acronyms: Vec<u32>,
    /// Names with what they and their neighbours may be called for short.
    initials: Vec<(u32, u32)>,
    /// The parts that numbers and names play, by the words before them.
    roles: Vec<(u32, u8)>,
    /// All words.
    words: Vec<u32>,
}

impl Signature {
    pub fn of(text: &str) -> Self {
        read::read(text)
    }

    /// About how many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        let pairs = 2 * (self.counts.len() + self.units.len() + self.roles.len() + self.initials.len());
        let lists = [
            &self.numbers,
            &self.spelt,
            &self.loose,
            &self.codes,
            &self.bare_units,
            &self.quotes,
            &self.names,
            &self.acronyms,
            &self.words,
        ];
        let items: usize = lists.into_iter().chain(&self.chains).map(Vec::len).sum();
        size_of::<Self>() + self.dates.len() + size_of_val(&self.chains[..]) + size_of::<u32>() * (items + pairs)
    }

    /// Why these texts must not share an answer, if they must not.
    pub fn veto(&self, other: &Self) -> Option<Veto> {
        let tests: [(Veto, Differ); Veto::ALL.len()] = [
            (Veto::TooLong, |a, b| a.read_by != VERSION || b.read_by != VERSION),
            (Veto::Language, languages_differ),
            (Veto::Number, numbers_differ),
            (Veto::Negation, negations_differ),
            (Veto::Unit, units_differ),
            (Veto::Date, |a, b| a.dates != b.dates),
            (Veto::Direction, |a, b| opposites_differ(a.opposites, b.opposites) || turned(a, b)),
            (Veto::Quote, quotes_differ),
            (Veto::Name, names_differ),
        ];
        tests.into_iter().find(|(_, differ)| differ(self, other)).map(|(veto, _)| veto)
    }
}

/// Whether two texts differ in one respect.
type Differ = fn(&Signature, &Signature) -> bool;

fn languages_differ(a: &Signature, b: &Signature) -> bool {
    a.scripts != b.scripts || (a.language != b.language && a.language != 0 && b.language != 0)
}

/// Every number that one text has in digits must stand in the other, or be excused by it. Of those in words, neither may have one of its own.
fn numbers_differ(a: &Signature, b: &Signature) -> bool {
    let said = |of: &Signature, number: &u32| [&of.numbers, &of.spelt, &of.loose].iter().any(|list| list.contains(number));
    let lacks = |of: &Signature, list: &[u32]| list.iter().any(|number| !said(of, number));
    let (lost_by_a, lost_by_b) = (lacks(a, &b.spelt), lacks(b, &a.spelt));
    lacks(a, &b.numbers)
        || lacks(b, &a.numbers)
        || (lost_by_a && (lost_by_b || a.numbers.len() > b.numbers.len()))
        || (lost_by_b && b.numbers.len() > a.numbers.len())
        || each_has_its_own(&a.codes, &b.codes, |of, code| of.contains(code))
        || repeats_differ(&a.numbers, &b.numbers)
        || is_out_of_order(a, b)
        || is_out_of_order(b, a)
        || counts_are_swapped(a, b)
}

/// The same digits more often: of three or more numbers in both, how often each stands there matters.
fn repeats_differ(a: &[u32], b: &[u32]) -> bool {
    let times = |of: &[u32], number: u32| of.iter().filter(|other| **other == number).count();
    let is_other = |number: &u32| b.contains(number) && times(a, *number) != times(b, *number);
    a.len() > 2 && b.len() > 2 && (a.len() != b.len() || a.iter().any(is_other))
}

/// The other text has all numbers of a chain, and nowhere in this order.
fn is_out_of_order(a: &Signature, b: &Signature) -> bool {
    a.chains.iter().any(|chain| {
        let has_all = chain.iter().all(|number| b.numbers.contains(number));
        has_all && !b.numbers.windows(chain.len()).any(|numbers| numbers == chain)
    })
}

/// Three cats and five dogs are not five cats and three dogs.
fn counts_are_swapped(a: &Signature, b: &Signature) -> bool {
    let pairs = |of: &Signature| {
        let counts = of.counts.clone();
        move |first: &(u32, u32), second: &(u32, u32)| counts.contains(first) && counts.contains(second)
    };
    let (in_a, in_b) = (pairs(a), pairs(b));
    a.counts.iter().any(|(number, thing)| {
        a.counts.iter().any(|(other, another)| {
            let (swapped, back) = ((*number, *another), (*other, *thing));
            number != other && thing != another && in_b(&swapped, &back) && !in_a(&swapped, &back)
        })
    })
}

/// One denies what the other says: by whether it negates at all, and by whether it takes back what it denied. How to avoid a thing may be how to
/// stop it.
fn negations_differ(a: &Signature, b: &Signature) -> bool {
    let may_be_said_by = |of: &Signature, other: &Signature| of.negated_softly && !other.negated && other.stops;
    let denies = a.negated != b.negated && !may_be_said_by(a, b) && !may_be_said_by(b, a);
    denies || a.negated_twice != b.negated_twice
}

/// A number that has a unit in both must have the same one; one that has a unit in one text alone is another number; and of units without a number neither text may have one of its own.
fn units_differ(a: &Signature, b: &Signature) -> bool {
    let clash = a.units.iter().any(|(number, unit)| {
        let mut same = b.units.iter().filter(|(other, _)| other == number).peekable();
        same.peek().is_some() && same.all(|(_, other)| other != unit)
    });
    let is_bare = |of: &Signature, number: &u32| {
        (of.numbers.contains(number) || of.spelt.contains(number)) && !of.units.iter().any(|(other, _)| other == number)
    };
    // Of money it is often left out which, where there is only one.
    let is_told = |of: &Signature, unit: &u32| {
        read::is_currency(*unit) || of.bare_units.contains(unit) || of.units.iter().any(|(_, other)| other == unit)
    };
    let lacks = |of: &Signature, other: &Signature| {
        let lost = |(number, unit): &(u32, u32)| is_bare(other, number) && !is_told(other, unit);
        of.units.iter().any(lost)
    };
    clash || lacks(a, b) || lacks(b, a) || each_has_its_own(&a.bare_units, &b.bare_units, |of, unit| of.contains(unit))
}

fn each_has_its_own(a: &[u32], b: &[u32], has: impl Fn(&[u32], &u32) -> bool) -> bool {
    a.iter().any(|item| !has(b, item)) && b.iter().any(|item| !has(a, item))
}

/// Of a pair that both texts speak of, they must say the same. What only joins words may stand beside its opposite in one of them.
fn opposites_differ(a: u128, b: u128) -> bool {
    (0..words::PAIRS).any(|pair| {
        let (a, b) = ((a >> (2 * pair)) & 3, (b >> (2 * pair)) & 3);
        match pair < words::JOINING_PAIRS {
            true => a & b == 0 && a != 0 && b != 0,
            false => a != b && a != 0 && b != 0,
        }
    })
}

/// Two things that play each other's part: from 5 to 7 is not from 7 to 5.
fn turned(a: &Signature, b: &Signature) -> bool {
    let role = |of: &Signature, thing: u32| of.roles.iter().find(|(other, _)| *other == thing).map(|(_, role)| *role);
    let moved: Vec<(u8, u8)> = a
        .roles
        .iter()
        .filter_map(|(thing, before)| Some((*before, role(b, *thing)?)).filter(|(before, after)| before != after))
        .collect();
    moved.iter().any(|(before, after)| moved.contains(&(*after, *before)))
}

/// What one text quotes must be words of the other.
fn quotes_differ(a: &Signature, b: &Signature) -> bool {
    let says = |of: &Signature, word: &u32| of.quotes.contains(word) || of.words.binary_search(word).is_ok();
    !a.quotes.iter().all(|word| says(b, word)) || !b.quotes.iter().all(|word| says(a, word))
}

/// Each text has a name that the other does not say at all, be it for short or in full.
fn names_differ(a: &Signature, b: &Signature) -> bool {
    let shorts = |of: &Signature, other: &Signature| {
        let mut shorts: Vec<u32> = of.initials.iter().map(|(_, short)| *short).collect();
        shorts.retain(|short| other.acronyms.contains(short));
        shorts
    };
    let (spelt_in_a, spelt_in_b) = (shorts(a, b), shorts(b, a));
    let missing = |of: &Signature, other: &Signature, spelt_in_of: &[u32], spelt_in_other: &[u32]| {
        let is_said = |name: &u32| {
            other.words.binary_search(name).is_ok()
                || spelt_in_other.contains(name)
                || of.initials.iter().any(|(of, short)| of == name && spelt_in_of.contains(short))
        };
        of.names.iter().any(|name| !is_said(name))
    };
    missing(a, b, &spelt_in_a, &spelt_in_b) && missing(b, a, &spelt_in_b, &spelt_in_a)
}
