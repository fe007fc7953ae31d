//! Rows of the ledger's tables as they are written and read: columns of text and 64-bit integers, which every engine has.
//!
//! Nothing is guessed here: a column that does not read as the type that it was written from is an error that names it.

use crate::decision::id::{DecisionId, EntryId, Feature, GrantId, ReservationId, WorkspaceId};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;

/// Declares a row: its table, and its columns in the one order in which they are listed and bound.
macro_rules! record {
    ($(#[$doc:meta])* struct $name:ident of $table:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(sqlx::FromRow, serde::Serialize)]
        pub(in crate::ledger) struct $name {
            $($(#[$field_doc])* pub(in crate::ledger) $field: $type,)*
        }

        impl $crate::ledger::record::Record for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn bind(self, arguments: &mut sqlx::sqlite::SqliteArguments) -> Result<(), sqlx::error::BoxDynError> {
                $(sqlx::Arguments::add(arguments, self.$field)?;)*
                Ok(())
            }

            fn bind_postgres(self, arguments: &mut sqlx::postgres::PgArguments) -> Result<(), sqlx::error::BoxDynError> {
                $(sqlx::Arguments::add(arguments, self.$field)?;)*
                Ok(())
            }
        }
    };
}

mod answer;
mod api_key;
mod audit;
mod batch;
mod credit;
mod decision;
mod entry;
mod escalation;
mod event;
mod fair_use;
mod grant;
mod inbound;
mod invoice;
mod provider;
mod standing;
mod sum;
mod webhook;
mod workspace;

pub(super) use answer::{AnswerRow, hex};
pub(super) use api_key::{ApiKeyRecord, ChangedApiKeyRow};
pub(super) use audit::AuditRecord;
pub(super) use batch::{
    BATCH_COLUMNS, BatchRow, MemberRecord, ReignRecord, ReignRow, UncollectedRow, batch_id, batch_state, calendar, exact, meter_id,
    no_factor, reason_code, reason_word, unit,
};
pub(super) use credit::{CreditRow, credit_state};
pub(super) use decision::DecisionRecord;
pub(super) use entry::{EntryRecord, user_column};
pub(super) use escalation::{BandRow, LinkRow, OfferedRow, links};
pub(super) use event::{EventRecord, workspace_column};
pub(super) use fair_use::{ActionRow, UsedRow, action_feature};
pub(super) use grant::{GrantRecord, PaidDifferenceRow, PaidRow};
pub(super) use inbound::{HeardRow, MeterErrorRow, ProgressRow, RevenueRow, SubscriptionRow};
pub(super) use invoice::{CountedRow, GrantPaidRow};
pub(super) use provider::ProviderRow;
pub(super) use standing::{CheckpointRecord, CheckpointRow, StandingRecord, StandingRow};
pub(super) use sum::{DifferenceRow, RecordedRow, SumPlace, SumRecord, UnbornRecord, UseRecord};
pub(super) use webhook::{
    AttemptRow, ClaimedRow, DeliveryRecord, EndpointRecord, QueueRow, read_delivery_id, read_endpoint_id, read_event_id, some_workspace,
};
pub(super) use workspace::{ChangedWorkspaceRow, PolicyObjectRecord, PolicyObjectRow, SumVersionRecord, WorkspaceRecord};

/// What can be a row of a statement.
pub(super) trait Record {
    /// The table, or `item` for rows that are in none.
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];

    fn bind(self, arguments: &mut SqliteArguments) -> Result<(), BoxDynError>;

    fn bind_postgres(self, arguments: &mut PgArguments) -> Result<(), BoxDynError>;
}

record! {
    /// An id that something is looked up by.
    #[derive(Clone)]
    struct IdRecord of "item" {
        id: String,
    }
}

impl IdRecord {
    pub(super) fn of(id: impl ToString) -> Self {
        Self { id: id.to_string() }
    }
}

/// A value that a column should not hold; says which column, which value and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("column {column} holds {value:?}: {why}")]
pub(super) struct Unreadable {
    column: &'static str,
    value: String,
    why: String,
}

/// An entry id that is read by itself.
pub(super) fn entry_id(text: &str) -> Result<EntryId, Unreadable> {
    parse("entry_id", text, EntryId::parse)
}

/// A workspace id that is read by itself.
pub(super) fn workspace_id(text: &str) -> Result<WorkspaceId, Unreadable> {
    parse("workspace_id", text, WorkspaceId::parse)
}

/// A feature that is read by itself.
pub(super) fn feature(text: &str) -> Result<Feature, Unreadable> {
    parse("feature", text, Feature::parse)
}

/// A grant id that is read by itself.
pub(super) fn grant_id(text: &str) -> Result<GrantId, Unreadable> {
    parse("grant_id", text, GrantId::parse)
}

/// A decision id that is read by itself.
pub(super) fn read_decision_id(text: &str) -> Result<DecisionId, Unreadable> {
    parse("decision_id", text, DecisionId::parse)
}

/// A reservation id that is read by itself.
pub(super) fn read_reservation(text: &str) -> Result<ReservationId, Unreadable> {
    parse("reservation_id", text, ReservationId::parse)
}

/// The budgets of a workspace that have or had a grant.
pub(super) fn granted(text: &str) -> Result<std::collections::BTreeSet<crate::decision::id::BudgetId>, Unreadable> {
    read_json("granted", text)
}

/// The word that an enum is known by on the wire is the one in its column.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("an enum without fields is written as a word, not as {other:?}"),
    }
}

fn read_word<'de, T: Deserialize<'de>>(column: &'static str, text: &'de str) -> Result<T, Unreadable> {
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| unreadable(column, text, error))
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("types of the ledger have text keys and finite numbers, which JSON can always say")
}

fn read_json<T: DeserializeOwned>(column: &'static str, text: &str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|error| unreadable(column, text, error))
}

pub(super) fn parse<T>(column: &'static str, text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Unreadable> {
    parse(text).map_err(|why| unreadable(column, text, why))
}

fn parse_some<T>(
    column: &'static str,
    text: Option<&str>,
    parse_text: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Unreadable> {
    text.map(|text| parse(column, text, parse_text)).transpose()
}

fn narrow(column: &'static str, value: i64) -> Result<u32, Unreadable> {
    u32::try_from(value).map_err(|error| unreadable(column, value, error))
}

fn unreadable(column: &'static str, value: impl ToString, why: impl ToString) -> Unreadable {
    Unreadable {
        column,
        value: value.to_string(),
        why: why.to_string(),
    }
}
