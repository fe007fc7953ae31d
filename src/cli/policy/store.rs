//! The ledger that the settings name, opened beside a service that may run on it.
//!
//! PostgreSQL is made for many. So is SQLite's log (WAL) for processes of one machine that write one transaction at a time: each waits for
//! the lock of the other, and what a policy command writes are rows that a running service reads anew at each poll.

use super::Failure;
use crate::config::{Settings, data_dir};
use crate::flow::policy::By;
use crate::ledger::Ledger;
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::sqlite::SqliteLedger;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

/// What becomes of a data directory without a ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Absent {
    IsRefused,
    /// A service that starts later finds the policy there.
    IsMade,
}

/// Runs `work` on the ledger of the settings, and closes it whatever comes of that.
pub(in crate::cli) fn with_ledger<F>(
    settings: &Settings,
    absent: Absent,
    work: impl FnOnce(Arc<dyn Ledger>) -> F,
) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<ExitCode, Failure>>,
{
    actix_web::rt::System::new().block_on(async {
        let ledger = open(settings, absent).await?;
        let result = work(ledger.clone()).await;
        ledger.close().await;
        result
    })
}

async fn open(settings: &Settings, absent: Absent) -> Result<Arc<dyn Ledger>, Failure> {
    if let Some((database, _)) = settings.production() {
        return Ok(Arc::new(PostgresLedger::open(database).await?));
    }
    let directory = &settings.data_dir;
    if !SqliteLedger::is_in(directory) {
        if absent == Absent::IsRefused {
            let told = format!(
                "there is no ledger in {}; name the service's data directory with --data-dir",
                directory.display()
            );
            return Err(told.into());
        }
        data_dir::create(directory)?;
    }
    Ok(Arc::new(SqliteLedger::open(directory).await?))
}

/// Whoever runs the command, as the operating system knows them.
pub(in crate::cli) fn by(reason: String) -> By {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    By {
        actor: user
            .filter(|user| !user.is_empty())
            .map_or_else(|| "cli".to_owned(), |user| format!("cli:{user}")),
        reason,
        request_id: None,
    }
}
