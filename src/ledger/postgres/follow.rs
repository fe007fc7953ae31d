//! Word from other nodes that policy or a workspace changed. A hint and no more: nothing depends on it but how soon a node looks.

use super::fault::Fault;
use super::server::Server;
use super::{Connection, sql};
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long it waits before it connects again.
const CONNECT_AGAIN_MILLIS: u64 = 1_000;

/// Listens for as long as the ledger is open.
pub(super) struct Follower {
    news: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Follower {
    pub(super) fn start(server: &Arc<Server>) -> Self {
        let news = Arc::new(Notify::new());
        let task = tokio::spawn(listen(server.clone(), news.clone()));
        Self { news, task }
    }

    /// Resolves at the next word, or at once if one came since the last time.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells all nodes, this one too, once the transaction is committed.
pub(super) async fn tell(connection: &mut Connection) -> Result<(), Fault> {
    let channel = channel(connection).await?;
    sqlx::query(sql::TELL).bind(channel).execute(connection).await?;
    Ok(())
}

async fn channel(connection: &mut Connection) -> Result<String, Fault> {
    let schema: String = sqlx::query_scalar(sql::SCHEMA).fetch_one(connection).await?;
    Ok(format!("weir_{schema}"))
}

async fn listen(server: Arc<Server>, news: Arc<Notify>) {
    loop {
        if let Err(fault) = listen_once(&server, &news).await {
            tracing::debug!(
                error = &fault as &dyn std::error::Error,
                "no word from other nodes until it connects again"
            );
        }
        tokio::time::sleep(Duration::from_millis(CONNECT_AGAIN_MILLIS)).await;
    }
}

async fn listen_once(server: &Server, news: &Notify) -> Result<(), Fault> {
    let pool = server.pool_of_one();
    let channel = channel(&mut *pool.acquire().await?).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel).await?;
    // What was said while nobody listened is not said again.
    news.notify_one();
    // `None`: the connection was lost and made again, and something may have been missed.
    loop {
        let _ = listener.try_recv().await?;
        news.notify_one();
    }
}
