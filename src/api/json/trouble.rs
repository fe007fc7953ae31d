//! What is wrong with a body, said in the words of JSON: as serde's error type it keeps kind and place instead of a sentence.

use super::scan::{DEPTH_MAX, Finding};
use crate::api::problem::Problem;
use crate::decision::nearest::nearest;
use crate::decision::pointer;
use crate::decision::value::UNACCEPTABLE;
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// The most characters of a detail: some quote what was sent.
const DETAIL_CHARS_MAX: usize = 300;
/// The most names that are listed for a choice.
const NAMES_LISTED_MAX: usize = 16;

/// Why a value cannot be read, and where.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Of the right shape, and still not acceptable.
    is_value: bool,
    detail: String,
    /// From the place outwards: each object and array adds itself on the way up.
    path: Vec<String>,
}

impl Trouble {
    fn shape(detail: impl Into<String>) -> Self {
        Self {
            is_value: false,
            detail: detail.into(),
            path: Vec::new(),
        }
    }

    fn value(detail: impl Into<String>) -> Self {
        Self {
            is_value: true,
            ..Self::shape(detail)
        }
    }

    /// The same, seen from the object or array that has it as `segment`.
    pub(super) fn below(mut self, segment: impl Into<String>) -> Self {
        self.path.push(segment.into());
        self
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let mut pointer = String::new();
        trouble.path.iter().rev().for_each(|segment| pointer::push(&mut pointer, segment));
        let problem = if trouble.is_value {
            Problem::unacceptable
        } else {
            Problem::malformed
        };
        problem(shortened(&pointer), shortened(&trouble.detail))
    }
}

impl From<Finding> for Problem {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::TooDeep => Problem::malformed("", format!("objects and arrays may nest {DEPTH_MAX} deep at most")),
            Finding::Doubled(pointer) => Problem::malformed(shortened(&pointer), "is there twice; send it once"),
        }
    }
}

/// A text that is no JSON.
pub(super) fn not_json(text: &str, error: &serde_json::Error) -> Problem {
    if text.trim_ascii().is_empty() {
        return Problem::malformed("", "a JSON body is required");
    }
    Problem::malformed("", format!("it is not JSON: {}", shortened(&error.to_string())))
}

impl de::Error for Trouble {
    fn custom<T: fmt::Display>(why: T) -> Self {
        let text = why.to_string();
        match text.strip_prefix(UNACCEPTABLE) {
            Some(why) => Self::value(why),
            None => Self::shape(text),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::shape(format!("must be {}, not {}", wanted(expected), kind(found)))
    }

    /// Of the right type, and not acceptable: −1 where only 0 and more are.
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::value(format!("must be {}", wanted(expected)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::shape(format!("must be {}, not of length {length}", wanted(expected)))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::value(format!("{:?} is none of the choices{}", shortened(found), hint(found, known)))
    }

    /// The member itself is added to the path by the object that has it.
    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::shape(format!("is not a member here{}", hint(found, known)))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::shape("is required").below(name)
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::shape("is there twice; send it once").below(name)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Trouble {}

fn hint(name: &str, known: &[&str]) -> String {
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("; did you mean {meant}?");
    }
    match known.len() {
        0 => String::new(),
        1..=NAMES_LISTED_MAX => format!("; it may be {}", known.join(", ")),
        _ => format!(
            "; it may be {}, or another that the API's document names",
            known[..NAMES_LISTED_MAX].join(", ")
        ),
    }
}

fn kind(found: Unexpected<'_>) -> String {
    let words = match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction or exponent",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        other => return other.to_string(),
    };
    words.to_owned()
}

/// What a type expects, with Rust's names replaced by those of JSON.
fn wanted(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        "a map" => "an object",
        "a sequence" => "an array",
        "i8" | "i16" | "i32" | "i64" => "an integer",
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer from 0 on that is not too large",
        "f32" | "f64" => "a number",
        "unit" => "null",
        _ if text.starts_with("struct ") => "an object",
        _ if text.starts_with("enum ") || text == "variant identifier" => "a string",
        _ => return text,
    };
    words.to_owned()
}

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
