//! The HTTP server: HTTP/1.1 and cleartext HTTP/2 on one port, and what bounds a connection.
//!
//! A connection that says nothing costs a file and is closed after [`HEAD_SECONDS_MAX`]; actix's own listener waits for its first byte
//! without an end. A request that does not come to its answer within [`REQUEST_SECONDS_MAX`] ends its connection ([`bounded`]). A body that is not read to its end closes the connection too. Connections are kept below the files that the process may open, so that a flood of them never takes those of the stores.

mod bounded;
mod unread;

use super::problem::Problem;
use super::request_id::RequestIds;
use super::stream::Stopping;
use crate::clock::Clock;
use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest};
use bounded::Bounded;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a connection may take for its first byte, and for the head of its first request.
pub const HEAD_SECONDS_MAX: u64 = 10;
/// How long from the first byte of a request to the first of its answer: longer than a body may take to arrive, and any work after it.
/// Longer than silence, too: on HTTP/2 the last byte between requests may be the caller's, and the ping that goes out after so much
/// silence must come first.
pub const REQUEST_SECONDS_MAX: u64 = 90;
const _: () = assert!(REQUEST_SECONDS_MAX > IDLE_SECONDS_MAX);
/// How long a connection is kept without a request: longer than the 60 s of common load balancers, which must be the ones to hang up.
pub const IDLE_SECONDS_MAX: u64 = 75;
/// How long requests that are under way may take to end when the service is told to stop.
pub const DRAIN_SECONDS_MAX: u64 = 30;
/// How long what a caller still sends is thrown away before it is hung up on, so that it reads its answer first.
const HANG_UP_MILLIS_MAX: u64 = 500;
/// Files that are left for the stores and logs.
const FILES_RESERVED: u64 = 256;
const CONNECTIONS_PER_WORKER_MAX: u64 = 25_000;
const CONNECTIONS_PER_WORKER_MIN: u64 = 64;

/// The beginning of the preface of HTTP/2 (RFC 9113, 3.4), enough to tell it from any method of HTTP/1.1.
const HTTP2_PREFACE: &[u8; 12] = b"PRI * HTTP/2";

/// Opens the port of `listen` (HOST:PORT) on every address of the host; with port 0 on the first, at any free port.
pub fn bind(listen: &str) -> io::Result<Vec<TcpListener>> {
    let mut addresses: Vec<SocketAddr> = listen.to_socket_addrs()?.collect();
    if addresses.first().is_some_and(|address| address.port() == 0) {
        addresses.truncate(1);
    }
    addresses.dedup();
    let opened: Vec<io::Result<TcpListener>> = addresses.into_iter().map(TcpListener::bind).collect();
    // A host may have an address that this machine does not (::1 without IPv6): one that opens is enough.
    if opened.iter().any(Result::is_ok) {
        return Ok(opened.into_iter().flatten().collect());
    }
    opened.into_iter().collect::<io::Result<Vec<_>>>()?;
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address"))
}

/// Starts to serve what `configure` mounts; anything else is 404. The server ends when its handle says so: signals are the caller's.
pub fn start<F>(listeners: Vec<TcpListener>, clock: Arc<dyn Clock>, configure: F) -> io::Result<Server>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let patience = Patience {
        head: Duration::from_secs(HEAD_SECONDS_MAX),
        request: Duration::from_secs(REQUEST_SECONDS_MAX),
    };
    start_with(listeners, clock, configure, patience)
}

/// What a connection may take; tests have less.
#[derive(Clone, Copy)]
struct Patience {
    head: Duration,
    request: Duration,
}

fn start_with<F>(listeners: Vec<TcpListener>, clock: Arc<dyn Clock>, configure: F, patience: Patience) -> io::Result<Server>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let workers = available_parallelism().map_or(2, usize::from);
    let per_worker =
        (raise_open_files().saturating_sub(FILES_RESERVED) / workers as u64).clamp(CONNECTIONS_PER_WORKER_MIN, CONNECTIONS_PER_WORKER_MAX);
    tracing::debug!(
        workers,
        connections = per_worker * workers as u64,
        "the most connections that are taken"
    );
    let mut builder = Server::build()
        .workers(workers)
        .disable_signals()
        .max_concurrent_connections(per_worker as usize)
        .shutdown_timeout(DRAIN_SECONDS_MAX);
    for listener in listeners {
        let stopping = builder.graceful_shutdown_signal();
        let (configure, clock) = (configure.clone(), clock.clone());
        builder = builder.listen("weir", listener, move || {
            let stopping = stopping.clone();
            let configure = configure.clone();
            let told = stopping.clone();
            let told = Stopping::new(move || {
                let told = told.clone();
                Box::pin(async move { told.notified().await })
            });
            let app = App::new()
                .app_data(told)
                .configure(move |config| configure(config))
                .default_service(web::to(unknown))
                .wrap_fn(unread::close_when_unread)
                .wrap(RequestIds::new(clock.clone()));
            let http = HttpService::build()
                .keep_alive(KeepAlive::Timeout(Duration::from_secs(IDLE_SECONDS_MAX)))
                .client_request_timeout(patience.head)
                .client_disconnect_timeout(Duration::from_millis(HANG_UP_MILLIS_MAX))
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .finish(map_config(app.into_factory(), |()| AppConfig::default()));
            fn_service(move |connection| spoken(connection, patience)).and_then(http)
        })?;
    }
    Ok(builder.run())
}

/// Which protocol a new connection speaks, once it says something.
async fn spoken(connection: TcpStream, patience: Patience) -> Result<(Bounded, Protocol, Option<SocketAddr>), DispatchError> {
    let mut first = [0; HTTP2_PREFACE.len()];
    let peek = connection.peek(&mut first);
    tokio::time::timeout(patience.head, peek)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let protocol = if first == *HTTP2_PREFACE {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    // Answers are written whole; waiting for more to send would only delay them.
    connection.set_nodelay(true)?;
    let peer = connection.peer_addr().ok();
    Ok((Bounded::new(connection, patience.request), protocol, peer))
}

/// The answer to a path that does not exist.
async fn unknown(request: HttpRequest) -> actix_web::HttpResponse {
    Problem::not_found().response(&request)
}

/// Lets the process open as many files as it may, and says how many that are.
fn raise_open_files() -> u64 {
    const UNLIMITED: u64 = 1 << 20;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    let raised = setrlimit(Resource::Nofile, wanted).is_ok();
    (if raised { maximum } else { current }).unwrap_or(UNLIMITED)
}

#[cfg(test)]
mod tests;
