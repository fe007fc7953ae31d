//! What an inspection of a store finds: one line each, for the person who asked whether all is well.

use super::time::Timestamp;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Gravity {
    Fine,
    /// It works, and something could be lost or slow: the detail says what to do.
    Warning,
    /// It does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub what: &'static str,
    pub gravity: Gravity,
    /// What was found; of anything but fine also what to do.
    pub detail: String,
    /// Of a comparison of clocks: how far this machine's is ahead; below zero, behind.
    pub ahead_millis: Option<i64>,
}

impl Finding {
    pub fn fine(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, Gravity::Fine, detail)
    }

    pub fn warning(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, Gravity::Warning, detail)
    }

    pub fn failed(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, Gravity::Failed, detail)
    }

    /// What a comparison of this machine's clock with a server's tells.
    pub fn clock(what: &'static str, here: Timestamp, there: Timestamp, apart_millis_max: i64) -> Self {
        let millis = (here.micros() - there.micros()) / 1_000;
        let found = match millis.abs() <= apart_millis_max {
            true => Self::fine(what, format!("{} ms apart from this machine's", millis.abs())),
            false => Self::warning(
                what,
                format!(
                    "{} ms apart from this machine's: periods begin and end by the node's clock; keep clocks in step",
                    millis.abs()
                ),
            ),
        };
        Self {
            ahead_millis: Some(millis),
            ..found
        }
    }

    fn new(what: &'static str, gravity: Gravity, detail: impl Into<String>) -> Self {
        Self {
            what,
            gravity,
            detail: detail.into(),
            ahead_millis: None,
        }
    }
}
