//! Servers that all cases share, and stores on them.

use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::redis_server::{Cluster, Server};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);
static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

fn fresh_prefix() -> String {
    static USED: AtomicUsize = AtomicUsize::new(0);
    format!("t{}:", USED.fetch_add(1, Ordering::Relaxed))
}

/// Settings with keys that no other case uses. The machine may be busy, so answers may take long.
pub(super) fn settings(url: &str) -> RedisSettings {
    RedisSettings {
        prefix: fresh_prefix(),
        connections: 2,
        response_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        ..RedisSettings::new(url)
    }
}

pub(super) async fn store_at(url: &str) -> RedisCounters {
    RedisCounters::connect(settings(url)).await.expect("a store")
}

/// What blocks to start a server must not keep a runtime's other tasks from their work.
pub(super) async fn on_one_server() -> RedisCounters {
    let url = tokio::task::spawn_blocking(|| SERVER.url()).await.expect("no panic");
    store_at(&url).await
}

pub(super) async fn on_a_cluster() -> RedisCounters {
    let url = tokio::task::spawn_blocking(|| CLUSTER.url()).await.expect("no panic");
    store_at(&url).await
}

/// Stores that share their connections, for many short histories.
pub(super) fn fresh_stores() -> impl AsyncFn() -> RedisCounters {
    let first = tokio::sync::OnceCell::new();
    async move || {
        let first: &RedisCounters = first.get_or_init(on_one_server).await;
        first.with_prefix(&fresh_prefix())
    }
}
