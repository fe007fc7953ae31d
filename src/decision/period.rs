//! Periods: over which stretch of time a budget counts. They come from the clock alone; nothing is ever reset.
//!
//! Minutes and hours are those of UTC. Days, weeks, months, years and billing months are those of the workspace's [`Calendar`], which
//! remembers earlier settings, because a change of zone or anchor waits for the next period.
//!
//! Invariant: the periods of one kind tile time. Each moment lies in exactly one of them and each begins where the one before it ends,
//! whatever clocks and settings do. Reads no clock and no file: the time zone database is compiled in, so all nodes agree on it.

mod calendar;
mod day;
mod months;
mod setting;
#[cfg(test)]
mod tests;
mod zone;

pub use calendar::{CALENDAR_CHANGES_MAX, CALENDAR_REMEMBERED_DAYS, Calendar};
pub use months::{months_between, months_from};
pub use setting::{AnchorDay, Setting};
pub use zone::{ZONE_CHARS_MAX, Zone};

use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a budget counts before it begins anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeriodKind {
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    Year,
    /// A month that begins on the workspace's anchor day.
    Billing,
    /// Never ends.
    Lifetime,
}

impl PeriodKind {
    pub const ALL: [PeriodKind; 8] = [
        PeriodKind::Minute,
        PeriodKind::Hour,
        PeriodKind::Day,
        PeriodKind::Week,
        PeriodKind::Month,
        PeriodKind::Year,
        PeriodKind::Billing,
        PeriodKind::Lifetime,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            PeriodKind::Minute => "minute",
            PeriodKind::Hour => "hour",
            PeriodKind::Day => "day",
            PeriodKind::Week => "week",
            PeriodKind::Month => "month",
            PeriodKind::Year => "year",
            PeriodKind::Billing => "billing",
            PeriodKind::Lifetime => "lifetime",
        }
    }

    pub fn parse(text: &str) -> Option<PeriodKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether a budget of this kind limits a rate rather than an allowance.
    pub const fn is_rate(self) -> bool {
        matches!(self, PeriodKind::Minute | PeriodKind::Hour)
    }
}

/// One period: `start` belongs to it, `end` to the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(into = "Bounds", try_from = "Bounds")]
pub struct Period {
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub end: Timestamp,
}

impl Period {
    /// The only period of its kind. Its bounds order correctly against any moment, in SQL too, and are written as null.
    pub const LIFETIME: Period = Period {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
    };

    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// The whole length; `None` when it never ends. Clocks change by whole seconds, so nothing is rounded.
    pub fn seconds(&self) -> Option<i64> {
        (*self != Self::LIFETIME).then(|| self.start.seconds_until(self.end))
    }
}

/// A period as it is written: a bound that is no moment is null.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Period", deny_unknown_fields)]
struct Bounds {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl From<Period> for Bounds {
    fn from(period: Period) -> Self {
        Self {
            start: (period.start != Timestamp::MIN).then_some(period.start),
            end: (period.end != Timestamp::MAX).then_some(period.end),
        }
    }
}

impl TryFrom<Bounds> for Period {
    type Error = String;

    fn try_from(bounds: Bounds) -> Result<Self, String> {
        let start = bounds.start.unwrap_or(Timestamp::MIN);
        let end = bounds.end.unwrap_or(Timestamp::MAX);
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(format!("a period must end after it starts, but {end} is not after {start}"))
        }
    }
}
