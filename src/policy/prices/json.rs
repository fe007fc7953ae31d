//! JSON whose numbers keep their text, and in which no member is there twice.
//!
//! The usual reader makes a binary fraction of a number before anybody sees it. So numbers are put into quotes first, by one look at the
//! text outside of strings, and read as the texts that they are.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// A value. Numbers and strings are both texts: where a table writes a price in quotes it means the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Text(String),
    List(Vec<Json>),
    /// In their order.
    Map(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(&quoted(text)).map_err(|error| format!("this is not JSON that can be read: {error}"))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Map(members) => members.iter().find(|(member, _)| member == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text_at(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Json::text)
    }
}

/// The text with quotes around each number.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_string = rest.starts_with('"');
        let end = if is_string { end_of_string(rest) } else { end_of_number(rest) };
        if is_string {
            out.push_str(&rest[..end]);
        } else {
            out.push('"');
            out.push_str(&rest[..end]);
            out.push('"');
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn end_of_number(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
        .unwrap_or(text.len())
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let (mut members, mut names) = (Vec::new(), HashSet::new());
        while let Some((name, value)) = from.next_entry::<String, Json>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("{name:?} is there twice")));
            }
            members.push((name, value));
        }
        Ok(Json::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_text() {
        let json = Json::parse(r#"{"a-1": 3e-06, "b": [1, -2.50, true, null, "x \" 5"], "c": {"1": 1E+2}}"#).expect("good");
        assert_eq!(json.text_at("a-1"), Some("3e-06"));
        let texts = ["1", "-2.50"].map(|text| Json::Text(text.to_owned()));
        let rest = [Json::Bool(true), Json::Null, Json::Text("x \" 5".to_owned())];
        assert_eq!(json.get("b"), Some(&Json::List([texts.to_vec(), rest.to_vec()].concat())));
        assert_eq!(json.get("c").and_then(|c| c.text_at("1")), Some("1E+2"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "{\"a\": NaN}",
            "{\"a\": 1, \"a\": 2}",
            "[1,]",
            "{\"a\": {\"b\": 1, \"b\": 1}}",
            "\"open",
            "{5: 1 2}",
        ] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_err(), "nesting is bounded");
    }
}
