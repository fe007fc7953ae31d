//! Reports of usage that Stripe took and could not count, and what is still to be done about each.
//!
//! Stripe pushes such a report as a notice of it, without its data, which is then asked for; an older endpoint may push it whole. Of the
//! events that went wrong it names a few as samples and says how many there were, so what it does not name is looked for.
//!
//! Invariants: a report that was heard is fetched, checked and then done, or given up with a reason, within [`REPORT_SECONDS_MAX`]; one that
//! was given up begins anew when Stripe sends it again.

use super::read::{id, list, moment, whole};
use super::{Event, MeterError};
use crate::decision::billing::delivery::pause;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most samples of one report that are kept.
const SAMPLES_MAX: usize = 500;
/// How much of Stripe's own words is kept.
const MESSAGE_CHARS_MAX: usize = 500;
/// For how long a report is worked on; Stripe itself sends an event again for three days.
pub const REPORT_SECONDS_MAX: i64 = 3 * 86_400;
/// How often it is asked for an event that Stripe says it does not have: it may come to know it.
const MISSING_TRIES_MAX: i64 = 8;
/// How long before Stripe looked at events they may have been told: it does so by minutes afterwards, and its sums are trusted after an hour.
const TOLD_BEFORE_SECONDS: i64 = 3_600;
/// How far its clock may be from ours.
const CLOCK_SECONDS: i64 = 300;

/// A report as an event says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The meter at Stripe; none: it knows no meter of that name.
    pub meter: Option<String>,
    /// `None`: it was told of without its data.
    pub findings: Option<Findings>,
}

/// The data of a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Findings {
    /// Samples of what went wrong; at least one entry, which may name no event.
    pub errors: Vec<MeterError>,
    /// How many events went wrong, those without a sample too.
    pub error_count: i64,
    /// When Stripe looked at them.
    pub validated: Option<Period>,
}

/// What is still to be done about a report.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportState {
    /// Its data is to be asked for.
    Fetch,
    /// What it names is to be rejected, and what it does not name to be looked for.
    Check,
    Done,
    /// It could not be had, or not be checked, for so long that nobody tries any more.
    GivenUp,
}

impl ReportState {
    pub const ALL: [ReportState; 4] = [ReportState::Fetch, ReportState::Check, ReportState::Done, ReportState::GivenUp];

    pub const fn as_str(self) -> &'static str {
        match self {
            ReportState::Fetch => "fetch",
            ReportState::Check => "check",
            ReportState::Done => "done",
            ReportState::GivenUp => "given_up",
        }
    }

    pub fn parse(text: &str) -> Option<ReportState> {
        ReportState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// How far a report has come. Its samples are kept beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    pub event: String,
    pub kind: String,
    pub meter: Option<String>,
    pub received_at: Timestamp,
    pub state: ReportState,
    /// Of this state.
    pub tries: i64,
    /// `None`: there is nothing to be done.
    pub next_try_at: Option<Timestamp>,
    pub validated: Option<Period>,
    /// `None`: nobody knows yet.
    pub error_count: Option<i64>,
    /// Why the last try came to nothing.
    pub reason: Option<String>,
}

/// What a provider says when it is asked for an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Fetched {
    Found(Value),
    /// It has none of that id, or does not show it to us.
    Missing(String),
    /// It may later.
    NotNow {
        seconds: Option<i64>,
        reason: String,
    },
}

/// What came of looking for what a report does not name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Checked {
    Done,
    /// Some of it cannot be said yet.
    Again {
        at: Option<Timestamp>,
        reason: String,
    },
}

impl Progress {
    /// Of a report that was heard just now.
    pub fn heard(event: &Event, report: &Report, now: Timestamp) -> Self {
        let begun = Self {
            event: event.id.clone(),
            kind: event.kind.clone(),
            meter: report.meter.clone(),
            received_at: now,
            state: ReportState::Fetch,
            tries: 0,
            next_try_at: Some(now),
            validated: None,
            error_count: None,
            reason: None,
        };
        match &report.findings {
            Some(findings) => begun.found(report.meter.as_ref(), findings, now),
            None => begun,
        }
    }

    /// After its data was had.
    pub fn found(self, meter: Option<&String>, findings: &Findings, now: Timestamp) -> Self {
        Self {
            meter: meter.cloned().or(self.meter),
            state: ReportState::Check,
            tries: 0,
            next_try_at: Some(now),
            validated: findings.validated,
            error_count: Some(findings.error_count),
            reason: None,
            ..self
        }
    }

    /// After its data was asked for in vain.
    pub fn not_found(self, is_missing: bool, seconds: Option<i64>, reason: String, now: Timestamp, chance: u32) -> Self {
        let is_over = is_missing && self.tries + 1 >= MISSING_TRIES_MAX;
        let again = now.plus_seconds(pause(self.tries + 1, seconds, chance));
        self.tried(Some(again).filter(|_| !is_over), reason, now)
    }

    /// After what it does not name was looked for.
    pub fn checked(self, checked: Checked, now: Timestamp, chance: u32) -> Self {
        match checked {
            Checked::Done => Self {
                state: ReportState::Done,
                tries: self.tries + 1,
                next_try_at: None,
                reason: None,
                ..self
            },
            Checked::Again { at, reason } => {
                let later = now.plus_seconds(pause(self.tries + 1, None, chance));
                self.tried(Some(at.map_or(later, |at| at.max(later))), reason, now)
            }
        }
    }

    fn tried(self, again: Option<Timestamp>, reason: String, now: Timestamp) -> Self {
        let again = again.filter(|_| now < self.received_at.plus_seconds(REPORT_SECONDS_MAX));
        Self {
            state: if again.is_some() { self.state } else { ReportState::GivenUp },
            tries: self.tries + 1,
            next_try_at: again,
            reason: Some(reason),
            ..self
        }
    }

    /// Whether more went wrong than the samples name.
    pub fn names_not_all(&self, errors: &[MeterError]) -> bool {
        let named = errors.iter().filter(|error| error.identifier.is_some()).count();
        self.error_count
            .is_none_or(|count| count > i64::try_from(named).unwrap_or(i64::MAX))
    }

    /// When the events were told that Stripe looked at, or a little more than that.
    pub fn told(&self) -> Period {
        let seen = self.validated.unwrap_or(Period {
            start: self.received_at,
            end: self.received_at,
        });
        Period {
            start: seen.start.plus_seconds(-TOLD_BEFORE_SECONDS),
            end: seen.end.plus_seconds(CLOCK_SECONDS),
        }
    }
}

/// Reads a report out of its event's JSON.
pub(super) fn report(body: &Value) -> Report {
    let meter = id(body.get("related_object"), "").ok();
    let data = body
        .get("data")
        .filter(|data| data.as_object().is_some_and(|data| !data.is_empty()));
    Report {
        findings: data.map(|data| findings(data, meter.as_ref())),
        meter,
    }
}

fn findings(data: &Value, meter: Option<&String>) -> Findings {
    let words = |value: Option<&Value>| -> String {
        let text = value.and_then(Value::as_str).unwrap_or_default();
        text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
    };
    let (mut errors, mut counted) = (Vec::new(), 0i64);
    for kind in list(data, "/reason/error_types") {
        let samples = list(kind, "/sample_errors");
        let at_least = i64::try_from(samples.len()).unwrap_or(i64::MAX);
        counted = counted.saturating_add(whole(kind.get("error_count")).unwrap_or(0).max(at_least));
        for sample in samples {
            let identifier = sample.pointer("/request/identifier");
            errors.push(MeterError {
                meter: meter.cloned(),
                identifier: id(identifier, "").ok(),
                code: words(kind.get("code")),
                message: words(sample.get("error_message")),
            });
        }
    }
    errors.truncate(SAMPLES_MAX);
    if errors.is_empty() {
        errors.push(MeterError {
            meter: meter.cloned(),
            identifier: None,
            code: words(data.pointer("/reason/error_types/0/code")),
            message: words(data.get("developer_message_summary")),
        });
    }
    let said = whole(data.pointer("/reason/error_count")).unwrap_or(0);
    let (start, end) = (moment(data.get("validation_start")), moment(data.get("validation_end")));
    Findings {
        errors,
        error_count: said.max(counted).max(1),
        validated: start
            .zip(end)
            .filter(|(start, end)| start <= end)
            .map(|(start, end)| Period { start, end }),
    }
}
