//! Reads a document out of JSON and names everything in it that has the wrong shape, not only the first.
//!
//! serde stops at the first error. Here that part is taken out of a copy and the rest is read again, so that a file of ten mistakes
//! shows ten. A struct is never read from a sequence, as serde would: positions are not names. Invariant: what is returned was read
//! from the whole value; a copy from which something was taken out is only read for its problems.

use super::problem::{Fault, PROBLEMS_MAX, Part, Problem};
use crate::decision::nearest::nearest;
use crate::decision::pointer;
use crate::decision::value::UNACCEPTABLE;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;
use std::fmt;

/// How often a value is read again to find more of its problems.
const READINGS_MAX: usize = 2 * PROBLEMS_MAX;

/// What people write for a name that we call otherwise.
const SYNONYMS: [(&str, &str); 18] = [
    ("budget", "hard"),
    ("limit", "hard"),
    ("max", "hard"),
    ("quota", "hard"),
    ("hard_limit", "hard"),
    ("soft_limit", "soft"),
    ("reset", "period"),
    ("interval", "period"),
    ("models", "allowed_models"),
    ("condition", "when"),
    ("if", "when"),
    ("ttl", "ttl_seconds"),
    ("hourly", "hour"),
    ("daily", "day"),
    ("weekly", "week"),
    ("monthly", "month"),
    ("yearly", "year"),
    ("dollars", "usd"),
];

/// Reads a `T`; the problems are in the order in which they were found.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<Problem>> {
    let mut refused = match T::deserialize(Reader(value)) {
        Ok(read) => return Ok(read),
        Err(refused) => refused,
    };
    let mut rest = value.clone();
    let mut taken = Taken::default();
    let mut problems = Vec::new();
    for _ in 0..READINGS_MAX {
        if !taken.explains(&refused) {
            problems.push(refused.problem(&taken.original(&refused.path)));
        }
        if problems.len() >= PROBLEMS_MAX || !taken.take(&mut rest, &refused) {
            break;
        }
        match T::deserialize(Reader(&rest)) {
            Ok(_) => break,
            Err(next) => refused = next,
        }
    }
    Err(problems)
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// Why a value was not read. The path grows from the inside out while the error passes through the readers around it.
#[derive(Debug)]
struct Refused {
    path: Vec<Step>,
    part: Part,
    fault: Fault,
    detail: String,
    missing: Option<&'static str>,
    /// The known field that an unknown one stands for, most likely.
    meant: Option<&'static str>,
}

impl Refused {
    fn new(fault: Fault, detail: String) -> Self {
        Self {
            path: Vec::new(),
            part: Part::Value,
            fault,
            detail,
            missing: None,
            meant: None,
        }
    }

    fn inside(mut self, step: Step) -> Self {
        self.path.insert(0, step);
        self
    }

    fn problem(&self, path: &[Step]) -> Problem {
        Problem {
            object: None,
            pointer: pointer(path),
            part: self.part,
            fault: self.fault,
            detail: self.detail.clone(),
        }
    }
}

fn pointer(path: &[Step]) -> String {
    let mut pointer = String::new();
    for step in path {
        match step {
            Step::Key(key) => pointer::push(&mut pointer, key),
            Step::Index(index) => pointer::push(&mut pointer, &index.to_string()),
        }
    }
    pointer
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        match text.strip_prefix(UNACCEPTABLE) {
            Some(why) => Refused::new(Fault::Value, why.to_owned()),
            None => Refused::new(Fault::Shape, text),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Unit => "null".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a mapping".to_owned(),
            found => found.to_string(),
        };
        let expected = match expected.to_string() {
            list if list == "a sequence" => "a list".to_owned(),
            other => other,
        };
        Refused::new(Fault::Shape, format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Refused::new(Fault::Value, format!("expected {expected}, found {found}"))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        let hint = hint(meant(found, known));
        Refused::new(Fault::Value, format!("{found:?} is none of {}{hint}", quoted(known)))
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        let meant = meant(found, known);
        let detail = match meant {
            Some(_) => format!("unknown field `{found}`{}", hint(meant)),
            None => format!("unknown field `{found}`; known here: {}", quoted(known)),
        };
        Refused {
            part: Part::Key,
            meant,
            ..Refused::new(Fault::Shape, detail)
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Refused {
            missing: Some(field),
            ..Refused::new(Fault::Shape, format!("the field `{field}` is missing"))
        }
    }
}

fn quoted(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn meant(found: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let is_synonym = |(said, ours): &&(&str, &'static str)| *said == found && known.contains(ours);
    let synonym = || SYNONYMS.iter().find(is_synonym).map(|(_, ours)| *ours);
    nearest(found, known.iter().copied()).or_else(synonym)
}

fn hint(meant: Option<&str>) -> String {
    meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// What was taken out so far, or stood under another name, in the coordinates of the original.
#[derive(Default)]
struct Taken(Vec<Vec<Step>>);

impl Taken {
    /// Whether the error only says that something is missing which was there and was wrong.
    fn explains(&self, refused: &Refused) -> bool {
        refused.missing.is_some_and(|field| {
            let mut path = self.original(&refused.path);
            path.push(Step::Key(field.to_owned()));
            self.0.contains(&path)
        })
    }

    /// Where `path` of the rest is in the original: items after one that was taken out have moved up.
    fn original(&self, path: &[Step]) -> Vec<Step> {
        let mut original: Vec<Step> = Vec::with_capacity(path.len());
        for step in path {
            original.push(match step {
                Step::Key(key) => Step::Key(key.clone()),
                Step::Index(index) => Step::Index(self.original_index(&original, *index)),
            });
        }
        original
    }

    fn original_index(&self, list: &[Step], index: usize) -> usize {
        let of_list = |path: &Vec<Step>| match path.split_last() {
            Some((Step::Index(gone), parent)) if parent == list => Some(*gone),
            _ => None,
        };
        let mut gone: Vec<usize> = self.0.iter().filter_map(of_list).collect();
        gone.sort_unstable();
        gone.into_iter()
            .fold(index, |index, gone| if gone <= index { index + 1 } else { index })
    }

    /// Takes what was refused out of `rest`; false when there is nothing to take.
    fn take(&mut self, rest: &mut Value, refused: &Refused) -> bool {
        let Some((last, parents)) = refused.path.split_last() else {
            return false;
        };
        let original = self.original(&refused.path);
        if let Some(meant) = refused.meant {
            self.0.push([self.original(parents), vec![Step::Key(meant.to_owned())]].concat());
        }
        let parent = parents.iter().try_fold(rest, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        });
        let gone = match (last, parent) {
            (Step::Key(key), Some(Value::Object(members))) => members.shift_remove(key).is_some(),
            (Step::Index(index), Some(Value::Array(items))) if *index < items.len() => {
                items.remove(*index);
                true
            }
            _ => false,
        };
        self.0.push(original);
        gone
    }
}

/// JSON as serde reads it, with errors that know their place.
#[derive(Clone, Copy)]
struct Reader<'de>(&'de Value);

impl<'de> Reader<'de> {
    fn unexpected(&self) -> de::Unexpected<'de> {
        match self.0 {
            Value::Null => de::Unexpected::Unit,
            Value::Bool(value) => de::Unexpected::Bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => de::Unexpected::Unsigned(value),
                (None, Some(value)) => de::Unexpected::Signed(value),
                (None, None) => de::Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => de::Unexpected::Str(text),
            Value::Array(_) => de::Unexpected::Seq,
            Value::Object(_) => de::Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, Some(value)) => visitor.visit_f64(value),
                (None, None, None) => Err(Refused::invalid_type(self.unexpected(), &visitor)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Object(members) => visitor.visit_map(Members {
                members: members.iter(),
                value: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => Err(Refused::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(Refused::invalid_type(self.unexpected(), &"a word")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        let read = seed.deserialize(Reader(item));
        read.map(Some).map_err(|refused| refused.inside(Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Members<'de> {
    members: serde_json::map::Iter<'de>,
    value: Option<(&'de String, &'de Value)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        self.value = self.members.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let name: StrDeserializer<'de, Refused> = key.as_str().into_deserializer();
        let at_key = |mut refused: Refused| {
            refused.part = Part::Key;
            refused.inside(Step::Key(key.clone()))
        };
        seed.deserialize(name).map(Some).map_err(at_key)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (key, value) = self.value.ok_or_else(|| Refused::custom("a value was read before its key"))?;
        seed.deserialize(Reader(value))
            .map_err(|refused| refused.inside(Step::Key(key.clone())))
    }
}

#[cfg(test)]
mod tests;
