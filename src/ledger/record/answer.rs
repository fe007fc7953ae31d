//! `answer`: what a request under an `Idempotency-Key` was answered with.

use super::{Unreadable, parse, unreadable};
use crate::decision::time::Timestamp;
use crate::ledger::KeptAnswer;

/// A row of `answer`, without its key.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct AnswerRow {
    fingerprint: String,
    status: i64,
    content_type: String,
    body: String,
    answered_at: i64,
}

/// A key or fingerprint as its column has it.
pub(in crate::ledger) fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

impl TryFrom<AnswerRow> for KeptAnswer {
    type Error = Unreadable;

    fn try_from(row: AnswerRow) -> Result<Self, Unreadable> {
        Ok(Self {
            fingerprint: parse("fingerprint", &row.fingerprint, |text| {
                u128::from_str_radix(text, 16).map_err(|error| error.to_string())
            })?,
            status: u16::try_from(row.status).map_err(|error| unreadable("status", row.status, error))?,
            content_type: row.content_type,
            body: row.body,
            at: Timestamp::from_micros(row.answered_at),
        })
    }
}
