//! Takes counts out of a JSON object, and knows where it stands, so that a refusal can point at the field. Copies nothing.
//!
//! Null means absent, everywhere. A place is a chain of borrows, so it costs nothing until a refusal writes it down.

use super::super::amount::COUNT_MAX;
use super::super::pointer;
use super::unreadable::{Fault, Unreadable};
use serde_json::{Map, Value};

/// Where a whole answer keeps its usage object: most providers, Gemini in its two spellings, Cohere's older API.
const CONTAINERS: [&str; 4] = ["usage", "usageMetadata", "usage_metadata", "meta"];

/// The fields of one object, or of one that is not there.
pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    place: Place<'a>,
}

enum Place<'a> {
    Top,
    Key(&'a Fields<'a>, &'a str),
    Item(&'a Fields<'a>, &'a str, usize),
}

impl<'a> Fields<'a> {
    pub(super) fn top(map: &'a Map<String, Value>) -> Self {
        Self {
            map: Some(map),
            place: Place::Top,
        }
    }

    /// The usage object inside of a whole answer.
    pub(super) fn container(&'a self) -> Option<(Self, &'a Map<String, Value>)> {
        CONTAINERS.into_iter().find_map(|key| {
            let map = self.get(key)?.as_object()?;
            Some((
                Self {
                    map: Some(map),
                    place: Place::Key(self, key),
                },
                map,
            ))
        })
    }

    /// The count of that name; `None` where it is absent.
    pub(super) fn count(&self, key: &str) -> Result<Option<i64>, Unreadable> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let fault = match value {
            Value::Number(number) => match number.as_i64() {
                Some(n @ 0..=COUNT_MAX) => return Ok(Some(n)),
                Some(n) if n < 0 => Fault::Negative,
                Some(_) => Fault::TooLarge,
                None if number.is_u64() => Fault::TooLarge,
                None => Fault::NotWhole,
            },
            _ => Fault::NotANumber,
        };
        Err(self.bad(key, fault))
    }

    /// One count that goes by several names. Relays that fill in several leave some at zero, so the largest is meant.
    pub(super) fn largest(&self, keys: &[&str]) -> Result<Option<i64>, Unreadable> {
        keys.iter().try_fold(None, |largest, key| Ok(largest.max(self.count(key)?)))
    }

    /// The object inside of this one under the first of these names that is there. Absent, it has no fields.
    pub(super) fn inner<'b>(&'b self, keys: &[&'b str]) -> Result<Fields<'b>, Unreadable> {
        let found = keys.iter().find_map(|key| Some((*key, self.get(key)?)));
        match found {
            None => Ok(Fields {
                map: None,
                place: Place::Top,
            }),
            Some((key, Value::Object(map))) => Ok(Fields {
                map: Some(map),
                place: Place::Key(self, key),
            }),
            Some((key, _)) => Err(self.bad(key, Fault::NotAnObject)),
        }
    }

    /// Hands over each object of a list; an absent list is empty.
    pub(super) fn each(&self, key: &str, mut each: impl FnMut(&Fields<'_>) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
        let items = match self.get(key) {
            None => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.bad(key, Fault::NotAList)),
        };
        items.iter().enumerate().try_for_each(|(index, item)| match item {
            Value::Object(map) => each(&Fields {
                map: Some(map),
                place: Place::Item(self, key, index),
            }),
            _ => Err(self.bad(key, Fault::NotAList)),
        })
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// The JSON pointer of a field.
    pub(super) fn pointer(&self, key: &str) -> String {
        let mut pointer = String::new();
        self.write_place(&mut pointer);
        pointer::push(&mut pointer, key);
        pointer
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    fn bad(&self, key: &str, fault: Fault) -> Unreadable {
        Unreadable::BadField {
            pointer: self.pointer(key),
            fault,
        }
    }

    fn write_place(&self, pointer: &mut String) {
        match self.place {
            Place::Top => {}
            Place::Key(parent, key) => {
                parent.write_place(pointer);
                pointer::push(pointer, key);
            }
            Place::Item(parent, key, index) => {
                parent.write_place(pointer);
                pointer::push(pointer, key);
                pointer::push(pointer, &index.to_string());
            }
        }
    }
}

/// Whether a value says anything beyond nothing: zeros, and objects of zeros, do not.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(_) => true,
        Value::Array(items) => items.iter().any(says_something),
        Value::Object(map) => map.values().any(says_something),
    }
}
