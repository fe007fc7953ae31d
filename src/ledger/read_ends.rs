//! Reads ends beside entries and entries beside ends. Written once and compiled into each store, like `read.rs`.

use super::fault::Fault;
use super::{Connection, many};
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use crate::ledger::ends::{CHECKPOINTS, CheckpointsPage, ENTRIES_BESIDE_ENDS, EndDifference, EndFault, EndsPage, EndsPlace};
use crate::ledger::record::{self, CheckpointRow, UseRecord};
use std::collections::BTreeSet;

#[derive(sqlx::FromRow)]
struct EndRow {
    reservation_id: String,
    workspace_id: String,
    request_id: String,
    end: Option<String>,
    entry_id: Option<String>,
    entry_workspace_id: Option<String>,
    entry_request_id: Option<String>,
    entry_reservation_id: Option<String>,
    entry_corrects: Option<String>,
}

impl EndRow {
    fn difference(&self) -> Result<Option<EndDifference>, Fault> {
        let what = match &self.entry_id {
            None if self.end.as_deref() == Some("settled") => EndFault::NoEntry,
            None => return Ok(None),
            Some(id) if self.entry_workspace_id.is_none() => EndFault::EntryMissing(record::entry_id(id)?),
            Some(id) if !self.is_its_own() && !self.is_of_corrections()? => EndFault::EntryOfAnother(record::entry_id(id)?),
            Some(_) => return Ok(None),
        };
        difference(&self.workspace_id, &self.reservation_id, what).map(Some)
    }

    /// Whether this stands for all corrections of the use that the entry corrects; of the use's reservation is the entry, and not this.
    fn is_of_corrections(&self) -> Result<bool, Fault> {
        let Some(corrected) = &self.entry_corrects else { return Ok(false) };
        let workspace = record::workspace_id(&self.workspace_id)?;
        let chain = ReservationId::of_corrections(&workspace, record::entry_id(corrected)?);
        Ok(self.entry_workspace_id.as_ref() == Some(&self.workspace_id) && chain.to_string() == self.reservation_id)
    }

    /// Whether the entry says of itself what the end says. Where a report came first that knew of no hold, the end has the reservation's id
    /// for a request id, and the entry, which may have known of the hold, its true one.
    fn is_its_own(&self) -> bool {
        let was_unknown = self.request_id == self.reservation_id && self.entry_reservation_id.as_ref() == Some(&self.reservation_id);
        self.entry_workspace_id.as_ref() == Some(&self.workspace_id)
            && (was_unknown || self.entry_request_id.as_ref() == Some(&self.request_id))
            // Use that was never authorized is of no reservation.
            && self.entry_reservation_id.as_ref().is_none_or(|reservation| *reservation == self.reservation_id)
    }
}

#[derive(sqlx::FromRow)]
struct EntryRow {
    recorded_at: i64,
    entry_id: String,
    workspace_id: String,
    reservation_id: Option<String>,
    end_workspace_id: Option<String>,
    end: Option<String>,
}

impl EntryRow {
    fn difference(&self) -> Result<Option<EndDifference>, Fault> {
        let Some(reservation) = &self.reservation_id else { return Ok(None) };
        let is_of_it = self.end_workspace_id.as_ref() == Some(&self.workspace_id);
        if is_of_it && self.end.is_some() {
            return Ok(None);
        }
        let what = EndFault::NoEnd(record::entry_id(&self.entry_id)?);
        difference(&self.workspace_id, reservation, what).map(Some)
    }
}

fn difference(workspace: &str, reservation: &str, what: EndFault) -> Result<EndDifference, Fault> {
    Ok(EndDifference {
        workspace: record::workspace_id(workspace)?,
        reservation: reservation.to_owned(),
        what,
    })
}

pub(super) async fn ends_page(connection: &mut Connection, after: &EndsPlace, limit: usize) -> Result<EndsPage, Fault> {
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    match after {
        EndsPlace::Ends { reservation } => {
            let statement = sqlx::query_as::<_, EndRow>(many::ENDS_BESIDE_ENTRIES).bind(reservation).bind(count);
            let rows = statement.fetch_all(connection).await?;
            let next = match rows.last().filter(|_| rows.len() == limit) {
                Some(last) => EndsPlace::Ends {
                    reservation: last.reservation_id.clone(),
                },
                None => EndsPlace::Entries {
                    recorded_at: Timestamp::MIN,
                    entry: String::new(),
                },
            };
            let differences = rows.iter().filter_map(|row| row.difference().transpose());
            Ok(EndsPage {
                ends: rows.len() as u64,
                differences: differences.collect::<Result<_, Fault>>()?,
                next: Some(next),
            })
        }
        EndsPlace::Entries { recorded_at, entry } => {
            let statement = sqlx::query_as::<_, EntryRow>(ENTRIES_BESIDE_ENDS);
            let rows = statement
                .bind(recorded_at.micros())
                .bind(entry)
                .bind(count)
                .fetch_all(connection)
                .await?;
            let next = rows.last().filter(|_| rows.len() == limit).map(|last| EndsPlace::Entries {
                recorded_at: Timestamp::from_micros(last.recorded_at),
                entry: last.entry_id.clone(),
            });
            let differences = rows.iter().filter_map(|row| row.difference().transpose());
            Ok(EndsPage {
                ends: 0,
                differences: differences.collect::<Result<_, Fault>>()?,
                next,
            })
        }
    }
}

pub(super) async fn checkpoints_page(
    connection: &mut Connection,
    from: Timestamp,
    after: Option<ReservationId>,
    limit: usize,
) -> Result<CheckpointsPage, Fault> {
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let statement = sqlx::query_as::<_, CheckpointRow>(CHECKPOINTS).bind(after);
    let found = statement
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    let is_full = found.len() == limit;
    let mut checkpoints = found.into_iter().map(CheckpointRow::read).collect::<Result<Vec<_>, _>>()?;
    let last = checkpoints.last().filter(|_| is_full).map(|(id, _)| *id);
    checkpoints.retain(|(_, entry)| entry.recorded_at >= from);
    // Later than the checkpoints: a sum that is older than what was used would free a hold for nothing.
    let uses: BTreeSet<UseRecord> = checkpoints.iter().map(|(_, entry)| UseRecord::of(entry)).collect();
    let mut rows = Vec::new();
    if !uses.is_empty() {
        let sums = many::sums_at(connection, uses).await?.into_iter();
        rows = sums.map(|row| Ok(row.read()?)).collect::<Result<_, Fault>>()?;
    }
    Ok(CheckpointsPage { checkpoints, rows, last })
}
