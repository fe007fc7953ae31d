//! What can go wrong with the file, in words that say what happened and what to do about it.

use super::batch::Overflow;
use crate::ledger::LedgerError;
use crate::ledger::record::Unreadable;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Why a statement or a batch failed. Shared by the callers of a batch, so it can be cloned.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sqlite(#[from] Arc<sqlx::Error>),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Overflow(#[from] Overflow),
    #[error("the schema could not be brought up to date")]
    Migration(#[from] Arc<sqlx::migrate::MigrateError>),
    #[error("the data directory could not be made")]
    Directory(#[from] Arc<std::io::Error>),
    #[error("the ledger has been closed; nothing was written")]
    Closed,
    #[error("the ledger's writer failed before it could answer; it goes on with the next writes")]
    WriterFailed,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Fault::Sqlite(Arc::new(error))
    }
}

/// SQLite's primary result codes that have a meaning here.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IO: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANNOT_OPEN: i32 = 14;
    pub(super) const TOO_BIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

impl Fault {
    /// Whether one write of a batch is to blame, so that the others may be tried without it.
    pub(super) fn blames_one(&self) -> bool {
        match self {
            Fault::Sqlite(error) => matches!(code_of(error), Some(code::CONSTRAINT | code::MISMATCH | code::TOO_BIG)) || is_decode(error),
            Fault::Unreadable(_) | Fault::Overflow(_) => true,
            Fault::Migration(_) | Fault::Directory(_) | Fault::Closed | Fault::WriterFailed => false,
        }
    }

    /// The error for a caller who wanted to `act`.
    pub(super) fn told(&self, act: &'static str, file: &Path) -> LedgerError {
        let corrupt = |why: &dyn fmt::Display| LedgerError::Corrupt {
            what: format!("{}: {why}; restore it from a backup", file.display()),
        };
        match self {
            Fault::Unreadable(why) => corrupt(why),
            Fault::Sqlite(error) if is_decode(error) => corrupt(error),
            Fault::Sqlite(error) if matches!(code_of(error), Some(code::CORRUPT | code::NOT_A_DATABASE)) => corrupt(error),
            fault => LedgerError::Unavailable {
                act,
                cause: Box::new(Explained {
                    what: fault.explain(file),
                    cause: fault.clone(),
                }),
            },
        }
    }

    fn explain(&self, file: &Path) -> String {
        let file = file.display();
        let Fault::Sqlite(error) = self else { return self.to_string() };
        match **error {
            sqlx::Error::PoolTimedOut => return "every reader is busy: try again shortly".to_owned(),
            sqlx::Error::PoolClosed => return Fault::Closed.to_string(),
            _ => {}
        }
        match code_of(error) {
            Some(code::BUSY | code::LOCKED) => format!("another process has kept {file} locked: end it, a data directory is for one weir"),
            Some(code::FULL) => format!("the disk of {file} is full, or its quota is: free some space; nothing was written"),
            Some(code::READONLY) => {
                format!("{file} may not be written: check its owner, its mode and whether its disk is mounted read-only")
            }
            Some(code::CANNOT_OPEN) => format!("{file} could not be opened: check that its directory is there and may be written"),
            Some(code::IO) => format!("the disk of {file} failed: check the system's log and the space that is left"),
            Some(code::CONSTRAINT | code::MISMATCH | code::TOO_BIG) => {
                format!("{file} refused a row of it, and would again; nothing was written")
            }
            _ => format!("SQLite refused to work on {file}"),
        }
    }
}

/// What happened and what to do, over what SQLite said.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Explained {
    what: String,
    #[source]
    cause: Fault,
}

fn code_of(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

fn is_decode(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
}
