//! Keeps the partitions of `entry` ahead of time: those of the months around now are made at the start and looked after while it runs. A
//! month without one loses nothing, its entries are kept in `entry_other`.

use super::fault::Fault;
use super::server::Server;
use super::sql;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it looks. Months are made three ahead, so any of many looks may fail.
const LOOK_EVERY_SECONDS: u64 = 6 * 3600;

pub(super) struct Keeper {
    task: JoinHandle<()>,
}

impl Keeper {
    /// Makes what is missing now, and goes on from there.
    pub(super) async fn start(server: &Arc<Server>) -> Self {
        keep(server).await;
        let server = server.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(LOOK_EVERY_SECONDS)).await;
                keep(&server).await;
            }
        });
        Self { task }
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn keep(server: &Server) {
    match make(server).await {
        Ok(unmade) if unmade.is_empty() => {}
        Ok(unmade) => tracing::warn!(
            months = unmade.join(", "),
            "entries of these months are in entry_other, and stay there"
        ),
        Err(fault) => tracing::warn!(
            error = &fault as &dyn std::error::Error,
            "partitions of the coming months wait for the next look"
        ),
    }
}

async fn make(server: &Server) -> Result<Vec<String>, Fault> {
    let mut connection = server.connect().await?;
    let unmade = sqlx::query_scalar(sql::MAKE_MONTHS).fetch_all(&mut connection).await?;
    sqlx::Connection::close(connection).await?;
    Ok(unmade)
}
