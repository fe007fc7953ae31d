//! What is wrong with a document: a value that names the place, the reason, and what would be right. Never the end of a check.

use super::object::ObjectId;
use std::fmt;

/// How many problems one reading reports before it stops looking.
pub const PROBLEMS_MAX: usize = 100;

/// Which kind of wrong: the API answers 400 to the first and 422 to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A wrong type, an unknown or a missing field.
    Shape,
    /// The right shape with a value that cannot be accepted.
    Value,
    /// A value that names something which is not there.
    Unknown,
    /// An amount of money or of tokens beyond what Weir counts exactly.
    TooLarge,
}

/// Which part of the text a problem is about; the pointer says which member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Part {
    #[default]
    Value,
    /// The name of the member, not what it holds.
    Key,
    /// A character of a text, counted from 0.
    Character(usize),
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The policy object; `None` while a file as a whole is read.
    pub object: Option<ObjectId>,
    /// An RFC 6901 pointer into the object, or into the file where there is none.
    pub pointer: String,
    pub part: Part,
    pub fault: Fault,
    pub detail: String,
}

impl Problem {
    pub fn value(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            object: None,
            pointer: pointer.into(),
            part: Part::Value,
            fault: Fault::Value,
            detail: detail.into(),
        }
    }

    pub fn shape(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::Shape,
            ..Self::value(pointer, detail)
        }
    }

    pub fn unknown(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::Unknown,
            ..Self::value(pointer, detail)
        }
    }

    pub fn too_large(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            fault: Fault::TooLarge,
            ..Self::value(pointer, detail)
        }
    }

    pub fn of(mut self, object: &ObjectId) -> Self {
        self.object = Some(object.clone());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.detail)
    }
}

/// The problems of one policy, as an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the policy has {} problem(s)", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
