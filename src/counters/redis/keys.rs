//! Names of keys and of fields. All keys of a workspace bear one hash tag, so they lie in one slot of a cluster and one script may use them.
//!
//! The tag comes from the workspace's slot, which each reservation id bears too: so the id alone leads to the right keys.

use crate::decision::amount::Unit;
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::{BudgetId, Feature, ReservationId, WorkspaceId, slot};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::time::Timestamp;
use std::sync::LazyLock;

/// How many tags there are. Few enough that a round over all of them, which is what asking for what is due means, is cheap.
pub(super) const TAGS: usize = 256;
/// How long a generation is, as scripts know it.
pub(super) const GENERATION_BYTES: usize = 20;
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// What most keys fit into.
const KEY_BYTES_USUALLY_MAX: usize = 64;
/// The digits of a slot in an id.
pub(super) const SLOT_DIGITS: usize = 6;
/// The slots of a Redis Cluster.
const CLUSTER_SLOTS: usize = 16_384;

/// One tag for each 64 neighbouring slots of a cluster, so that any division of slots among nodes divides the workspaces alike.
static TAG_TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut tags = vec![String::new(); TAGS];
    let mut left = TAGS;
    for number in 0u32.. {
        let text = number.to_string();
        let place = usize::from(crc16(text.as_bytes())) % CLUSTER_SLOTS / (CLUSTER_SLOTS / TAGS);
        if tags[place].is_empty() {
            tags[place] = text;
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    tags
});

/// CRC-16/XMODEM, by which a cluster assigns keys to slots (Redis cluster specification, appendix A).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// The tag of a workspace's slot, by its number.
pub(super) fn tag_of(slot: u32) -> usize {
    (slot >> 16) as usize % TAGS
}

/// The keys below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn below(&self, tag: usize, rest: std::fmt::Arguments<'_>) -> String {
        self.of_tag(tag, &[&rest.to_string()])
    }

    fn of_tag(&self, tag: usize, parts: &[&str]) -> String {
        let mut key = String::with_capacity(KEY_BYTES_USUALLY_MAX);
        for part in [self.prefix.as_str(), "{", &TAG_TEXTS[tag], "}"].iter().chain(parts) {
            key.push_str(part);
        }
        key
    }

    pub(super) fn index(&self, tag: usize) -> String {
        self.of_tag(tag, &["i"])
    }

    pub(super) fn indexes(&self) -> Vec<String> {
        (0..TAGS).map(|tag| self.index(tag)).collect()
    }

    pub(super) fn reservation(&self, id: ReservationId) -> String {
        self.of_tag(tag_of(id.slot()), &["r:", &hex(id)])
    }

    /// By which calls that are sent together keep their order: there if one of them handed something over.
    pub(super) fn order(&self, tag: usize, nonce: u64) -> String {
        self.below(tag, format_args!("o:{nonce:016x}"))
    }

    /// Of the keys of all groups, for `SCAN`. What means something in a pattern is escaped.
    pub(super) fn groups_pattern(&self) -> String {
        let escaped = self
            .prefix
            .chars()
            .flat_map(|c| "*?[]^\\-".contains(c).then_some('\\').into_iter().chain([c]));
        format!("{}{{*}}g:*", escaped.collect::<String>())
    }

    /// A comma stands in no name that a caller may choose.
    pub(super) fn group(&self, workspace: &WorkspaceId, column: &str) -> String {
        self.group_of_tag(tag_of(slot(workspace)), workspace, column)
    }

    /// The same where the workspace's tag is known, which takes a hash to tell.
    pub(super) fn group_of_tag(&self, tag: usize, workspace: &WorkspaceId, column: &str) -> String {
        self.of_tag(tag, &["g:", workspace.as_str(), ",", column])
    }
}

/// The id of a reservation, which begins with the slot of its workspace.
pub(super) fn hex(id: ReservationId) -> String {
    let digit = |number: u8| char::from(DIGITS[usize::from(number)]);
    let mut hex = String::with_capacity(2 * size_of::<ReservationId>());
    for byte in id.as_bytes() {
        hex.push(digit(byte >> 4));
        hex.push(digit(byte & 15));
    }
    hex
}

/// The token of a rebuild. A group's first one is its generation, which has the same length in all.
pub(super) fn token_text(token: u64) -> String {
    format!("{token:0width$}", width = GENERATION_BYTES)
}

/// A workspace's slot, as its reservations' ids begin.
pub(super) fn slot_text(workspace: &WorkspaceId) -> String {
    format!("{:06x}", slot(workspace))
}

/// Groups by the place at which each is first named, but the workspace's own before those of its users.
pub(super) struct Columns<'a> {
    pub(super) groups: Vec<&'a Whose>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(counters: impl Iterator<Item = &'a Counter>) -> Self {
        let mut groups: Vec<&Whose> = Vec::new();
        for counter in counters {
            if !groups.contains(&&counter.whose) {
                groups.push(&counter.whose);
            }
        }
        groups.sort_by_key(|whose| **whose != Whose::Workspace);
        Self { groups }
    }

    pub(super) fn has_workspace(&self) -> bool {
        self.groups.first().is_some_and(|whose| **whose == Whose::Workspace)
    }

    /// The place of a counter's group, as scripts count.
    pub(super) fn place(&self, counter: &Counter) -> i64 {
        let place = self.groups.iter().position(|whose| **whose == counter.whose);
        place.map_or(0, |place| place as i64 + 1)
    }

    /// Of each counter its place.
    pub(super) fn places(&self, counters: &[Counter]) -> Vec<i64> {
        counters.iter().map(|counter| self.place(counter)).collect()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &'a str> {
        self.groups.iter().map(|whose| whose.column())
    }

    /// Groups that a script named.
    pub(super) fn named(&self, columns: &[String]) -> Vec<Whose> {
        let named = |column: &String| {
            let known = self.groups.iter().find(|whose| whose.column() == column);
            known.map_or(Whose::Workspace, |whose| (*whose).clone())
        };
        columns.iter().map(named).collect()
    }
}

/// The workspace and the column of the group that a key is of.
pub(super) fn group_named(key: &str) -> Option<(&str, &str)> {
    key.split_once("}g:")?.1.split_once(',')
}

fn unit_letter(unit: Unit) -> char {
    match unit {
        Unit::Tokens => 'T',
        Unit::Usd => 'U',
        Unit::Requests => 'R',
        Unit::Credits => 'C',
    }
}

fn kind_letter(kind: PeriodKind) -> char {
    match kind {
        PeriodKind::Minute => 'm',
        PeriodKind::Hour => 'h',
        PeriodKind::Day => 'd',
        PeriodKind::Week => 'w',
        PeriodKind::Month => 'o',
        PeriodKind::Year => 'y',
        PeriodKind::Billing => 'b',
        PeriodKind::Lifetime => 'l',
    }
}

/// The field of a counter. The scripts read its first two letters and the end of its period.
pub(super) fn field(counter: &Counter) -> String {
    let mut field = String::with_capacity(FIELD_BYTES_USUALLY_MAX);
    field.push(unit_letter(counter.unit));
    field.push(kind_letter(counter.kind));
    push_moment(&mut field, counter.period.start);
    field.push(',');
    push_moment(&mut field, counter.period.end);
    field.push(',');
    field.push_str(counter.feature_column());
    field
}

/// The counter of a group that a field is of; `None`: the field is of something else.
pub(super) fn counter_named(whose: &Whose, field: &str) -> Option<Counter> {
    let mut letters = field.chars();
    let (unit, kind) = (letters.next()?, letters.next()?);
    let mut parts = letters.as_str().splitn(3, ',');
    let (start, end, feature) = (moment_of(parts.next()?)?, moment_of(parts.next()?)?, parts.next()?);
    Some(Counter {
        whose: whose.clone(),
        feature: match feature {
            "*" => None,
            name => Some(Feature::parse(name).ok()?),
        },
        unit: Unit::ALL.into_iter().find(|known| unit_letter(*known) == unit)?,
        kind: PeriodKind::ALL.into_iter().find(|known| kind_letter(*known) == kind)?,
        period: Period { start, end },
    })
}

/// What most fields fit into.
const FIELD_BYTES_USUALLY_MAX: usize = 48;
const SECOND_MICROS: i64 = 1_000_000;

/// Whole seconds to the base of 36, since each byte of a field is paid for in every script; or microseconds and a point.
fn push_moment(field: &mut String, moment: Timestamp) {
    let micros = moment.micros();
    if micros < 0 || micros % SECOND_MICROS != 0 {
        field.push_str(&format!("{micros}."));
        return;
    }
    let mut seconds = (micros / SECOND_MICROS).cast_unsigned();
    let mut digits = [0u8; 13];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = DIGITS[(seconds % 36) as usize];
        seconds /= 36;
        if seconds == 0 {
            break;
        }
    }
    field.extend(digits[first..].iter().copied().map(char::from));
}

/// What [`push_moment`] wrote.
fn moment_of(text: &str) -> Option<Timestamp> {
    let micros = match text.strip_suffix('.') {
        Some(micros) => micros.parse().ok()?,
        None => i64::from_str_radix(text, 36).ok()?.checked_mul(SECOND_MICROS)?,
    };
    Some(Timestamp::from_micros(micros))
}

/// The field of what a budget's grants have left of a unit.
pub(super) fn purse_field(budget: &BudgetId, unit: Unit) -> String {
    format!("p{}{budget}", unit_letter(unit))
}

/// The place of a unit among amounts, as scripts count.
pub(super) fn unit_place(unit: Unit) -> i64 {
    match unit {
        Unit::Tokens => 1,
        Unit::Usd => 2,
        Unit::Requests => 3,
        Unit::Credits => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_from_one_another() {
        let told = |micros: i64| {
            let mut field = String::new();
            push_moment(&mut field, Timestamp::from_micros(micros));
            field
        };
        for (micros, text) in [
            (0, "0"),
            (35_000_000, "z"),
            (36_000_000, "10"),
            (1_793_491_200_000_000, "tnsqo0"),
            (1, "1."),
            (-1_000_000, "-1000000."),
            (i64::MAX, "9223372036854775807."),
            (i64::MAX / 1_000_000 * 1_000_000, "39p5pkj5i"),
        ] {
            assert_eq!(told(micros), text);
            assert_eq!(moment_of(text), Some(Timestamp::from_micros(micros)));
        }
    }

    #[test]
    fn a_counter_is_told_from_its_field() {
        let features = [None, Feature::parse("chat").ok()];
        let ends = [0, 1, 1_793_491_200_000_000, i64::MAX].map(Timestamp::from_micros);
        for (unit, kind) in Unit::ALL.into_iter().flat_map(|unit| PeriodKind::ALL.map(|kind| (unit, kind))) {
            for (feature, end) in features.iter().flat_map(|feature| ends.map(|end| (feature, end))) {
                let counter = Counter {
                    whose: Whose::User(None),
                    feature: feature.clone(),
                    unit,
                    kind,
                    period: Period {
                        start: Timestamp::MIN,
                        end,
                    },
                };
                assert_eq!(counter_named(&Whose::User(None), &field(&counter)), Some(counter));
            }
        }
        for other in ["", "b", "e", "pTtopup", "Tm", "Tm0,0", "Xm0,0,*", "Tx0,0,*", "Tm!,0,*", "p,,"] {
            assert_eq!(counter_named(&Whose::Workspace, other), None, "{other}");
        }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn each_tag_lies_among_slots_of_its_own() {
        for (place, tag) in TAG_TEXTS.iter().enumerate() {
            assert_eq!(usize::from(crc16(tag.as_bytes())) % CLUSTER_SLOTS / 64, place, "{tag}");
        }
    }
}
