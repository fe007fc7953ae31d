//! `reservation_end` and `checkpoint`: how a reservation stands, and what it has used while it runs.

use super::answer::hex;
use super::entry::user_column;
use super::{Unreadable, json, parse, parse_some, read_json, unreadable};
use crate::decision::entry::{Checkpoint, Entry};
use crate::decision::id::{RequestId, ReservationId, WorkspaceId};
use crate::decision::standing::{End, Standing};
use crate::decision::time::Timestamp;

record! {
    /// A row of `reservation_end`.
    struct StandingRecord of "reservation_end" {
        reservation_id: String,
        workspace_id: String,
        request_id: String,
        revision: i64,
        end: Option<String>,
        entry_id: Option<String>,
        fingerprint: Option<String>,
    }
}

record! {
    /// A row of `checkpoint`.
    struct CheckpointRecord of "checkpoint" {
        reservation_id: String,
        workspace_id: String,
        user_id: String,
        feature: String,
        occurred_at: i64,
        counted_tokens: i64,
        counted_usd: i64,
        counted_requests: i64,
        counted_credits: i64,
        expires_at: i64,
        entry: String,
    }
}

/// A standing as it is read: with the open checkpoint beside it.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct StandingRow {
    #[sqlx(flatten)]
    standing: StandingRecord,
    /// The month in which the entry is, where entries are kept by month.
    #[sqlx(default)]
    entry_occurred_at: Option<i64>,
    checkpoint: Option<String>,
    checkpoint_expires_at: Option<i64>,
}

impl StandingRecord {
    pub(in crate::ledger) fn new(reservation: ReservationId, standing: &Standing) -> Self {
        Self {
            reservation_id: reservation.to_string(),
            workspace_id: standing.workspace.to_string(),
            request_id: standing.request_id.to_string(),
            revision: standing.revision,
            end: standing.end.map(|end| end.as_str().to_owned()),
            entry_id: standing.entry.as_ref().map(|entry| entry.entry_id.to_string()),
            fingerprint: standing.fingerprint.map(hex),
        }
    }
}

impl CheckpointRecord {
    pub(in crate::ledger) fn new(reservation: ReservationId, checkpoint: &Checkpoint) -> Self {
        let entry = &checkpoint.entry;
        Self {
            reservation_id: reservation.to_string(),
            workspace_id: entry.workspace_id.to_string(),
            user_id: user_column(entry).to_owned(),
            feature: entry.feature.to_string(),
            occurred_at: entry.occurred_at.micros(),
            counted_tokens: entry.counted.tokens,
            counted_usd: entry.counted.usd,
            counted_requests: entry.counted.requests,
            counted_credits: entry.counted.credits,
            expires_at: checkpoint.expires_at.micros(),
            entry: json(entry),
        }
    }
}

/// An open checkpoint by itself.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct CheckpointRow {
    reservation_id: String,
    entry: String,
}

impl CheckpointRow {
    pub(in crate::ledger) fn read(self) -> Result<(ReservationId, Entry), Unreadable> {
        let id = parse("reservation_id", &self.reservation_id, ReservationId::parse)?;
        Ok((id, read_json("checkpoint.entry", &self.entry)?))
    }
}

impl StandingRow {
    /// The entry that must be read for it.
    pub(in crate::ledger) fn entry_id(&self) -> Option<&String> {
        self.standing.entry_id.as_ref()
    }

    /// That entry's time, if it says when.
    pub(in crate::ledger) fn entry_occurred_at(&self) -> Option<i64> {
        self.entry_occurred_at
    }

    /// The standing, given that entry.
    pub(in crate::ledger) fn read(self, entry: Option<Entry>) -> Result<(ReservationId, Standing), Unreadable> {
        let row = self.standing;
        if let (Some(id), None) = (&row.entry_id, &entry) {
            return Err(unreadable("entry_id", id, "there is no such entry"));
        }
        let end = |text: &str| End::parse(text).ok_or_else(|| "is no end of a reservation".to_owned());
        let fingerprint = |text: &str| u128::from_str_radix(text, 16).map_err(|error| error.to_string());
        let checkpoint = self.checkpoint.as_deref().map(|entry| read_json("checkpoint.entry", entry));
        let standing = Standing {
            workspace: parse("workspace_id", &row.workspace_id, WorkspaceId::parse)?,
            request_id: parse("request_id", &row.request_id, RequestId::parse)?,
            revision: row.revision,
            end: parse_some("end", row.end.as_deref(), end)?,
            entry,
            fingerprint: parse_some("fingerprint", row.fingerprint.as_deref(), fingerprint)?,
            checkpoint: checkpoint
                .transpose()?
                .zip(self.checkpoint_expires_at)
                .map(|(entry, expires_at)| Checkpoint {
                    entry,
                    expires_at: Timestamp::from_micros(expires_at),
                }),
        };
        Ok((parse("reservation_id", &row.reservation_id, ReservationId::parse)?, standing))
    }
}
