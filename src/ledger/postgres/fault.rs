//! What can go wrong with the database, in words that say what happened and what to do about it.

use crate::decision::certificate::Refusal;
use crate::ledger::LedgerError;
use crate::ledger::record::Unreadable;
use sqlx::migrate::MigrateError;
use std::fmt;
use std::sync::Arc;

/// Why a statement or a batch failed. Shared by the callers of a batch, so it can be cloned.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Postgres(#[from] Arc<sqlx::Error>),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the schema could not be brought up to date")]
    Migration(#[from] Arc<MigrateError>),
    #[error("{}", behind(*.found, *.known))]
    Schema { found: i64, known: i64 },
    #[error("it does not answer: check the address, and whether a firewall stands in between")]
    Silent,
    #[error("too many writes wait")]
    Full,
    #[error("the ledger has been closed; nothing was written")]
    Closed,
    #[error("the ledger's writer failed before it could answer; it goes on with the next writes")]
    WriterFailed,
    #[error("the ledger answered without a word on this write")]
    Unanswered,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Fault::Postgres(Arc::new(error))
    }
}

/// What to do about a schema that is older than the program.
fn behind(found: i64, known: i64) -> String {
    let made = match found {
        0 => "it has no ledger yet".to_owned(),
        found => format!("its schema is of version {found}, and this program's of version {known}"),
    };
    format!("{made}: run `weir migrate`, or start a node; this command changes no schema")
}

/// What PostgreSQL's codes mean here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// One row or value is at fault, and would be again.
    Refused,
    /// Others held a lock, or stood crosswise. Nothing was written; it may be tried again.
    Contended,
    Full,
    TooManyConnections,
    TooSlow,
    Ended,
    NoEntry,
    /// It follows another server, and takes no writes.
    Standby,
    /// Of our own functions.
    Level,
    Corrupt,
    Other,
}

fn meaning(error: &sqlx::Error) -> Meaning {
    let Some(code) = error
        .as_database_error()
        .and_then(|error| error.code().map(|code| code.into_owned()))
    else {
        return Meaning::Other;
    };
    match code.as_str() {
        "55P03" | "40001" | "40P01" => Meaning::Contended,
        "53100" => Meaning::Full,
        "53300" => Meaning::TooManyConnections,
        "57014" => Meaning::TooSlow,
        "57P01" | "57P02" | "57P03" => Meaning::Ended,
        "28P01" | "28000" | "3D000" | "42501" => Meaning::NoEntry,
        "25006" => Meaning::Standby,
        "WE001" => Meaning::Level,
        "XX001" | "XX002" => Meaning::Corrupt,
        code if ["22", "23", "54"].contains(&&code[..2]) => Meaning::Refused,
        _ => Meaning::Other,
    }
}

impl Fault {
    fn meaning(&self) -> Option<Meaning> {
        match self {
            Fault::Postgres(error) => Some(meaning(error)),
            Fault::Migration(error) => match &**error {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Some(meaning(error)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether one write of a batch is to blame, so that the others may be tried without it.
    pub(super) fn blames_one(&self) -> bool {
        self.meaning() == Some(Meaning::Refused)
    }

    /// Whether others stood in the way: nothing was written, and it may be tried again.
    pub(super) fn is_contention(&self) -> bool {
        self.meaning() == Some(Meaning::Contended)
    }

    /// Whether somebody's lock, or its own length, kept it and all that wait behind it: nothing was written, and it may be tried again.
    pub(super) fn keeps_waiting(&self) -> bool {
        matches!(self.meaning(), Some(Meaning::Contended | Meaning::TooSlow))
    }

    /// Whether a batch reached a level that nobody was there to tell of: nothing was written.
    pub(super) fn is_level(&self) -> bool {
        self.meaning() == Some(Meaning::Level)
    }

    /// Whether the server said it itself, and so has ended the statement and can be asked again on the same connection. A standby is left:
    /// the address may lead to the primary by now.
    pub(super) fn was_said(&self) -> bool {
        match self {
            Fault::Postgres(error) => error.as_database_error().is_some() && !matches!(meaning(error), Meaning::Ended | Meaning::Standby),
            _ => false,
        }
    }

    /// Whether a connection of the pool must not be used again.
    pub(super) fn spoils_connection(&self) -> bool {
        matches!(self, Fault::Silent) || self.meaning() == Some(Meaning::Standby)
    }

    /// The error for a caller who wanted to `act` at `place`.
    pub(super) fn told(&self, act: &'static str, place: &str) -> LedgerError {
        let corrupt = |why: &dyn fmt::Display| LedgerError::Corrupt {
            what: format!("{place}: {why}; restore it from a backup, then run `weir rebuild-counters`"),
        };
        match self {
            Fault::Full => LedgerError::Busy,
            fault if fault.is_contention() => LedgerError::Busy,
            Fault::Unreadable(why) => corrupt(why),
            Fault::Postgres(error) if is_decode(error) || meaning(error) == Meaning::Corrupt => corrupt(error),
            fault => LedgerError::Unavailable {
                act,
                cause: Box::new(Explained {
                    what: fault.explain(place),
                    cause: fault.clone(),
                }),
            },
        }
    }

    fn explain(&self, place: &str) -> String {
        let Fault::Postgres(error) = self else {
            return format!("{place}: {self}");
        };
        match (&**error, meaning(error)) {
            (sqlx::Error::PoolTimedOut, _) => format!("every connection to {place} is busy, or it does not answer: try again shortly"),
            (sqlx::Error::PoolClosed, _) => Fault::Closed.to_string(),
            (sqlx::Error::Io(_) | sqlx::Error::Tls(_), _) if refusal(error).is_some() => {
                let of = |refusal| distrusted(refusal, place);
                refusal(error).map_or_else(String::new, of)
            }
            (_, Meaning::Standby) => {
                format!("{place} is a standby, which takes no writes: lead to the primary; ask again with the same ids")
            }
            (_, Meaning::Refused) => format!("{place} refused a row of it, and would again; nothing was written"),
            (_, Meaning::Full) => format!("the disk of {place} is full: free some space; nothing was written"),
            (_, Meaning::TooManyConnections) => format!("{place} takes no more connections: raise max_connections, or run fewer nodes"),
            (_, Meaning::TooSlow) => format!("{place} took too long and ended the statement; nothing was written"),
            (_, Meaning::Ended) => format!("{place} is starting or stopping; ask again with the same ids"),
            (_, Meaning::NoEntry) => format!("{place} does not let this user in: check user, password, database and grants"),
            _ => format!("{place} could not be reached, or was lost before it answered; ask again with the same ids"),
        }
    }
}

fn refusal(error: &sqlx::Error) -> Option<Refusal> {
    Refusal::read(&error.to_string())
}

fn distrusted(refusal: Refusal, place: &str) -> String {
    match refusal {
        Refusal::Stranger => {
            format!("nobody who is trusted has signed the certificate of {place}: name who did, in PEM, as sslrootcert=FILE in its URL")
        }
        Refusal::OtherName => format!("the certificate of {place} is for another host: name the host in its URL as its certificate does"),
        Refusal::OtherTime => format!("the certificate of {place} has expired or is not valid yet: renew it, or set the clock"),
        Refusal::NoTls => format!("{place} speaks no TLS: set ssl = on there, or take sslmode out of its URL"),
    }
}

/// What happened and what to do, over what PostgreSQL said.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Explained {
    what: String,
    #[source]
    cause: Fault,
}

fn is_decode(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
}
