//! Lookups by many keys and writes of many rows, as SQLite takes them: a parameter for each.

use super::fault::Fault;
use super::statement::{fetch_each, padded, write_each};
use super::{Connection, sql};
use crate::decision::id::{EntryId, ReservationId};
use crate::ledger::ends::ends_beside_entries;
use crate::ledger::record::{EntryRecord, IdRecord, Record, StandingRow, SumRecord, UseRecord};
use std::collections::BTreeSet;

pub(super) use super::sql::CHECKPOINTS_DUE;

/// There is one writer, so nobody else has a row.
pub(super) const SKIP_LOCKED: &str = "";

pub(super) const ENDS_BESIDE_ENTRIES: &str = ends_beside_entries!("");

pub(super) async fn standings(connection: &mut Connection, reservations: &[ReservationId]) -> Result<Vec<StandingRow>, Fault> {
    fetch_each(connection, sql::standings, padded(reservations.iter().map(IdRecord::of))).await
}

/// The entries that these standings name.
pub(super) async fn entries_of(connection: &mut Connection, standings: &[StandingRow]) -> Result<Vec<EntryRecord>, Fault> {
    let named = standings.iter().filter_map(StandingRow::entry_id).map(IdRecord::of).collect();
    fetch_each(connection, sql::entries, named).await
}

/// The corrections of these entries, in no order.
pub(super) async fn corrections_of(connection: &mut Connection, entries: &[EntryId]) -> Result<Vec<EntryRecord>, Fault> {
    fetch_each(connection, sql::corrections, padded(entries.iter().map(IdRecord::of))).await
}

/// The sums that these uses fall into, each once.
pub(super) async fn sums_at(connection: &mut Connection, uses: BTreeSet<UseRecord>) -> Result<Vec<SumRecord>, Fault> {
    fetch_each(connection, sql::sums_at, padded(uses)).await
}

/// Inserts all of these rows.
pub(super) async fn insert<R: Record + Send>(connection: &mut Connection, rows: Vec<R>) -> Result<(), Fault> {
    write_each(connection, sql::insert::<R>, rows).await
}
