//! Why a usage object could not be read. A value, not a failure: its text tells the caller what to send instead.

use super::super::amount::COUNT_MAX;
use super::format::UsageFormat;
use std::fmt;

/// What is wrong with a usage object. Pointers are JSON pointers (RFC 6901) from the usage object on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// No field counts tokens. `format`: where it was forced or recognised.
    NoCount { format: Option<UsageFormat> },
    /// Fields of two formats that count differently.
    Ambiguous { formats: [UsageFormat; 2] },
    /// A field that should hold a count, or counts, does not.
    BadField { pointer: String, fault: Fault },
    /// Something in Weir's own format that looks like a count, but is not one of its names; dropping it could lose money.
    UnknownCount { pointer: String },
    /// A count is absent, or less than what is counted inside of it.
    LessThanParts { pointer: String, whole: Option<i64>, parts: i64 },
    /// Weir's own pools do not make the total that stands beside them.
    OtherTotal { pointer: String, total: i64, sum: i64 },
    /// Each count is in range, but one pool that they make together is not.
    TooMany,
}

/// What is wrong with one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Negative,
    TooLarge,
    NotWhole,
    NotANumber,
    NotAnObject,
    NotAList,
}

impl Unreadable {
    /// The field to look at, where one field is to blame.
    pub fn pointer(&self) -> Option<&str> {
        match self {
            Self::NoCount { .. } | Self::Ambiguous { .. } | Self::TooMany => None,
            Self::BadField { pointer, .. }
            | Self::UnknownCount { pointer }
            | Self::LessThanParts { pointer, .. }
            | Self::OtherTotal { pointer, .. } => Some(pointer),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCount { format: None } => f.write_str(
                "The usage object has no token count that Weir knows. Send the provider's usage object as it came, \
                 or Weir's own pools: at least input_tokens or output_tokens.",
            ),
            Self::NoCount { format: Some(format) } => write!(
                f,
                "Read as {}, the usage object does not say how many tokens came in or out. Send all of the provider's usage object, \
                 name another usage_format, or send Weir's own pools: at least input_tokens or output_tokens.",
                format.as_str()
            ),
            Self::Ambiguous { formats: [one, other] } => write!(
                f,
                "The usage object has fields of {} and of {}, which count differently. Say which it is with usage_format.",
                one.as_str(),
                other.as_str()
            ),
            Self::BadField { pointer, fault } => write!(f, "{pointer} {fault}."),
            Self::UnknownCount { pointer } => write!(
                f,
                "{pointer} looks like a count, but is not one of Weir's pools. Correct its name, leave it out, or, if this is \
                 a provider's own object, name its usage_format."
            ),
            Self::LessThanParts { pointer, whole, parts } => {
                match whole {
                    Some(whole) => write!(f, "{pointer} is {whole}, less than the {parts} tokens that should be inside of it.")?,
                    None => write!(f, "{pointer} is absent, but {parts} tokens are said to be inside of it.")?,
                }
                f.write_str(
                    " If they are counted beside it, name the usage_format that does so, or send Weir's own pools, which share no token.",
                )
            }
            Self::OtherTotal { pointer, total, sum } => write!(
                f,
                "{pointer} is {total}, but the pools together are {sum}. Weir's pools share no token: cached tokens are not in \
                 input_tokens, and reasoning is in output_tokens."
            ),
            Self::TooMany => write!(
                f,
                "Together the counts are more than the {COUNT_MAX} tokens that one call may report. Split it."
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = match self {
            Self::Negative => "is negative",
            Self::TooLarge => "is larger",
            Self::NotWhole => "is not a whole number, or not written as one",
            Self::NotANumber => "is not a number",
            Self::NotAnObject => return f.write_str("must be an object of counts"),
            Self::NotAList => return f.write_str("must be a list of objects"),
        };
        write!(f, "must be an integer from 0 to {COUNT_MAX}, but it {is}")
    }
}

impl std::error::Error for Unreadable {}
