//! `counter_sum`: the truth of one counter.

use super::entry::user_column;
use super::{Unreadable, parse, parse_some};
use crate::counters::SumRow;
use crate::decision::amount::Unit;
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::Entry;
use crate::decision::id::{Feature, UserId, WorkspaceId};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::time::Timestamp;

record! {
    /// A row of `counter_sum`.
    struct SumRecord of "counter_sum" {
        workspace_id: String,
        user_id: String,
        feature: String,
        unit: String,
        period_kind: String,
        period_start: i64,
        period_end: i64,
        spent: i64,
        version: i64,
        paid: i64,
    }
}

record! {
    /// A row of `counter_sum` that is missing, to ask for its sum.
    struct UnbornRecord of "item" {
        workspace_id: String,
        user_id: String,
        feature: String,
        unit: String,
        period_kind: String,
        period_start: i64,
        period_end: i64,
    }
}

record! {
    /// Dimensions and moment of a use, to look up the sums that it falls into.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct UseRecord of "item" {
        workspace_id: String,
        user_id: String,
        feature: String,
        at: i64,
    }
}

/// What was recorded, as far as it says which sums it fell into, and its place in the order of recording.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct RecordedRow {
    pub(in crate::ledger) recorded_at: i64,
    pub(in crate::ledger) entry_id: String,
    #[sqlx(flatten)]
    pub(in crate::ledger) used: UseRecord,
}

/// A place in the order of `counter_sum`'s key.
#[derive(Default)]
pub(in crate::ledger) struct SumPlace {
    pub(in crate::ledger) workspace_id: String,
    pub(in crate::ledger) user_id: String,
    pub(in crate::ledger) feature: String,
    pub(in crate::ledger) period_end: i64,
    pub(in crate::ledger) period_kind: String,
    pub(in crate::ledger) period_start: i64,
    pub(in crate::ledger) unit: String,
}

impl SumPlace {
    /// Just before the first row: no workspace is called "".
    pub(in crate::ledger) fn before_all() -> Self {
        Self::default()
    }

    pub(in crate::ledger) fn of(workspace: &WorkspaceId, counter: &Counter) -> Self {
        Self {
            workspace_id: workspace.to_string(),
            user_id: counter.whose.column().to_owned(),
            feature: counter.feature_column().to_owned(),
            period_end: counter.period.end.micros(),
            period_kind: counter.kind.as_str().to_owned(),
            period_start: counter.period.start.micros(),
            unit: counter.unit.as_str().to_owned(),
        }
    }
}

/// A sum beside what its entries and checkpoints add up to.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct DifferenceRow {
    #[sqlx(flatten)]
    sum: SumRecord,
    entries: i64,
    payments: i64,
}

impl SumRecord {
    pub(in crate::ledger) fn new(workspace: &WorkspaceId, row: &SumRow) -> Self {
        Self {
            workspace_id: workspace.to_string(),
            user_id: row.counter.whose.column().to_owned(),
            feature: row.counter.feature_column().to_owned(),
            unit: row.counter.unit.as_str().to_owned(),
            period_kind: row.counter.kind.as_str().to_owned(),
            period_start: row.counter.period.start.micros(),
            period_end: row.counter.period.end.micros(),
            spent: row.spent,
            version: row.version,
            paid: row.paid,
        }
    }

    pub(in crate::ledger) fn read(self) -> Result<(WorkspaceId, SumRow), Unreadable> {
        let whose = match self.user_id.as_str() {
            "*" => Whose::Workspace,
            "" => Whose::User(None),
            user => Whose::User(Some(parse("user_id", user, UserId::parse)?)),
        };
        let feature = Some(self.feature.as_str()).filter(|feature| *feature != "*");
        let unit = |text: &str| Unit::parse(text).ok_or_else(|| "is no unit".to_owned());
        let kind = |text: &str| PeriodKind::parse(text).ok_or_else(|| "is no kind of period".to_owned());
        let counter = Counter {
            whose,
            feature: parse_some("feature", feature, Feature::parse)?,
            unit: parse("unit", &self.unit, unit)?,
            kind: parse("period_kind", &self.period_kind, kind)?,
            period: Period {
                start: Timestamp::from_micros(self.period_start),
                end: Timestamp::from_micros(self.period_end),
            },
        };
        let row = SumRow {
            counter,
            spent: self.spent,
            version: self.version,
            paid: self.paid,
        };
        Ok((parse("workspace_id", &self.workspace_id, WorkspaceId::parse)?, row))
    }
}

impl UnbornRecord {
    pub(in crate::ledger) fn new(workspace: &WorkspaceId, counter: &Counter) -> Self {
        Self {
            workspace_id: workspace.to_string(),
            user_id: counter.whose.column().to_owned(),
            feature: counter.feature_column().to_owned(),
            unit: counter.unit.as_str().to_owned(),
            period_kind: counter.kind.as_str().to_owned(),
            period_start: counter.period.start.micros(),
            period_end: counter.period.end.micros(),
        }
    }
}

impl UseRecord {
    /// The use that `entry` tells of.
    pub(in crate::ledger) fn of(entry: &Entry) -> Self {
        Self {
            workspace_id: entry.workspace_id.to_string(),
            user_id: user_column(entry).to_owned(),
            feature: entry.feature.to_string(),
            at: entry.occurred_at.micros(),
        }
    }

    /// A use at the start of `counter`'s period: whatever it finds besides, it finds this counter.
    pub(in crate::ledger) fn within(workspace: &WorkspaceId, counter: &Counter) -> Self {
        Self {
            workspace_id: workspace.to_string(),
            user_id: counter.whose.column().to_owned(),
            feature: counter.feature_column().to_owned(),
            at: counter.period.start.micros(),
        }
    }
}

impl DifferenceRow {
    /// Whose sum, its row, and what its entries and the payments of grants add up to.
    pub(in crate::ledger) fn read(self) -> Result<(WorkspaceId, SumRow, i64, i64), Unreadable> {
        let (workspace, row) = self.sum.read()?;
        Ok((workspace, row, self.entries, self.payments))
    }
}
