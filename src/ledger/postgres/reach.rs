//! How whoever waits for a connection of the pool learns that there will be none: the pool asks a server that refuses connections again and
//! again, for as long as a caller may wait until others are done with theirs. A pool whose connections are all busy looks like one that lost
//! them: where only new ones are refused, who waits for a busy one is told so too.

use super::fault::Fault;
use super::server::Server;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;

/// How long a server may refuse connections before those who wait for one are told: some restarts are over sooner.
const REFUSES_MAX: Duration = Duration::from_secs(1);
const KNOCK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What the last knock at the server's port found, of whoever of all that wait knocked.
#[derive(Default)]
pub(super) struct Reach(Mutex<Option<Knock>>);

struct Knock {
    at: Instant,
    refused_since: Option<Instant>,
}

impl Knock {
    /// A server that takes connections has better things to do, and its pool may just be busy.
    fn is_fresh(&self) -> bool {
        let after = if self.refused_since.is_some() {
            KNOCK_AGAIN_AFTER
        } else {
            REFUSES_MAX
        };
        self.at.elapsed() < after
    }
}

impl Server {
    pub(super) async fn connection_of(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, Fault> {
        tokio::select! {
            biased;
            connection = pool.acquire() => Ok(connection?),
            fault = self.refuses() => Err(fault),
        }
    }

    /// Ends when the server has refused connections for a while.
    async fn refuses(&self) -> Fault {
        loop {
            tokio::time::sleep(KNOCK_AGAIN_AFTER).await;
            let mut last = self.reach.0.lock().await;
            if !last.as_ref().is_some_and(Knock::is_fresh) {
                let refused = self.is_refused().await;
                let now = Instant::now();
                let before = last.take().filter(|knock| knock.at.elapsed() < REFUSES_MAX);
                let since = before.and_then(|knock| knock.refused_since).unwrap_or(now);
                *last = Some(Knock {
                    at: now,
                    refused_since: refused.then_some(since),
                });
            }
            let since = last.as_ref().and_then(|knock| knock.refused_since);
            if since.is_some_and(|since| since.elapsed() >= REFUSES_MAX) {
                return sqlx::Error::Io(ErrorKind::ConnectionRefused.into()).into();
            }
        }
    }

    async fn is_refused(&self) -> bool {
        let knock = async {
            let (host, port) = (self.options.get_host(), self.options.get_port());
            // A host that is a path is the folder of a socket, too.
            let folder = self.options.get_socket().map(|folder| folder.as_path());
            match folder.or_else(|| host.starts_with('/').then(|| Path::new(host))) {
                Some(folder) => UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await.map(drop),
                None => TcpStream::connect((host, port)).await.map(drop),
            }
        };
        let refusal = |error: std::io::Error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
        // Of one that does not answer at all the pool finds out by itself.
        let knocked = tokio::time::timeout(REFUSES_MAX, knock).await;
        knocked.is_ok_and(|knocked| knocked.is_err_and(refusal))
    }
}
