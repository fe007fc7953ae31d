//! Reads a type from a JSON value and, unlike serde_json, takes an object for nothing but an object: a derived `Deserialize` would also
//! take its members from an array, in order. What cannot be read is told with its place.

use super::trouble::Trouble;
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, map};

/// A value to read from.
#[derive(Clone, Copy)]
pub(super) struct Strict<'v>(pub &'v Value);

impl<'v> Strict<'v> {
    fn members(object: &'v Map<String, Value>) -> Members<'v> {
        Members {
            rest: object.iter(),
            current: None,
        }
    }

    fn items(array: &'v [Value]) -> Items<'v> {
        Items {
            rest: array.iter().enumerate(),
        }
    }

    fn unexpected(self) -> Unexpected<'v> {
        match self.0 {
            Value::Null => Unexpected::Unit,
            Value::Bool(b) => Unexpected::Bool(*b),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(n), _) => Unexpected::Signed(n),
                (None, float) => number
                    .as_u64()
                    .map_or(Unexpected::Float(float.unwrap_or_default()), Unexpected::Unsigned),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Trouble;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(_) => match self.unexpected() {
                Unexpected::Unsigned(n) => visitor.visit_u64(n),
                Unexpected::Signed(n) if n >= 0 => visitor.visit_u64(n.unsigned_abs()),
                Unexpected::Signed(n) => visitor.visit_i64(n),
                Unexpected::Float(n) => visitor.visit_f64(n),
                other => Err(Trouble::invalid_type(other, &visitor)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(array) => visitor.visit_seq(Self::items(array)),
            Value::Object(object) => visitor.visit_map(Self::members(object)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Trouble> {
        match self.0 {
            Value::Object(object) => visitor.visit_map(Self::members(object)),
            _ => Err(Trouble::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Trouble> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Trouble> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Object(object) if object.len() == 1 => visitor.visit_enum(MapAccessDeserializer::new(Self::members(object))),
            _ => Err(Trouble::invalid_type(self.unexpected(), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

struct Items<'v> {
    rest: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'v> SeqAccess<'v> for Items<'v> {
    type Error = Trouble;

    fn next_element_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, Trouble> {
        let Some((index, value)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(Strict(value))
            .map(Some)
            .map_err(|trouble| trouble.below(index.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Members<'v> {
    rest: map::Iter<'v>,
    /// The member whose name was read and whose value comes next.
    current: Option<(&'v String, &'v Value)>,
}

impl<'v> MapAccess<'v> for Members<'v> {
    type Error = Trouble;

    fn next_key_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, Trouble> {
        self.current = self.rest.next();
        let Some((name, _)) = self.current else { return Ok(None) };
        let read = seed.deserialize(BorrowedStrDeserializer::new(name));
        read.map(Some).map_err(|trouble: Trouble| trouble.below(name))
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Trouble> {
        let (name, value) = self
            .current
            .take()
            .ok_or_else(|| Trouble::custom("a member's value was asked for before its name"))?;
        seed.deserialize(Strict(value)).map_err(|trouble| trouble.below(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
