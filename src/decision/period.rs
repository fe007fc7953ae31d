//! Periods. Stands in until the whole of it is merged.
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeriodKind {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Billing,
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
    pub fn as_str(self) -> &'static str {
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
    pub fn is_rate(self) -> bool {
        matches!(self, PeriodKind::Minute | PeriodKind::Hour)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Period {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Period {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Calendar {}

impl Calendar {
    pub fn period(&self, _kind: PeriodKind, _at: Timestamp) -> Period {
        Period {
            start: Timestamp::MIN,
            end: Timestamp::MAX,
        }
    }
}
