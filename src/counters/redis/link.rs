//! Connections to one server or to a cluster: a few of them, each used by some threads, opened when first needed and again after a failure.
//!
//! Sends a command once. Whether it may be sent again is the caller's affair, who knows what it does.
//!
//! A connection on which everything is late for a while is replaced: what it leads to may be gone without a word, which TCP finds out after
//! a quarter of an hour, and a cluster's client has been seen to wait for itself after a failover, for ever.

use super::door::Doors;
use super::settings::{Place, RedisSettings};
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long after a failure to connect others are told so without a try of their own.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long a connection may have no answer in time before it is replaced. A cluster is whole again sooner than that, so its client is.
const SILENT_MAX: Duration = Duration::from_secs(3);
/// A cluster's client sends a command once, too: what it sends again takes room from others meanwhile, and where a slot moves the callers who
/// follow it there by this client send one another back, see `door.rs`.
const CLUSTER_RETRIES: u32 = 0;
/// How many commands a cluster's client is given at once by each connection. It has room for fifty that wait to be written to a node; while it
/// asks which node has which slot, nothing else of it runs, and when that question finds no room it waits for commands that wait for it.
const CLUSTER_COMMANDS_MAX: usize = 32;

/// How long what is refused because data loads, or a slot moves or has moved, waits before it is sent again.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// How long a command of no script is sent again: its client learns soon where a slot is, and what a cache does not find in time is a miss.
const MOVES_MAX: Duration = Duration::from_millis(100);

/// How many keys one step of a scan looks at.
const SCAN_KEYS: usize = 500;

/// A host and a port.
pub(super) type Node = (String, u16);

pub(super) fn node_of(address: &str) -> Option<Node> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

pub(super) fn unreadable(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "an answer that cannot be read", what.to_owned()))
}

fn timed_out(_: tokio::time::error::Elapsed) -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Whether a command did not run where it was sent, since its slot moves or has moved.
pub(super) fn has_moved(error: &RedisError) -> bool {
    let moves = [ServerErrorKind::Ask, ServerErrorKind::Moved, ServerErrorKind::TryAgain];
    moves.iter().any(|kind| error.kind() == ErrorKind::Server(*kind))
}

enum To {
    Server(Box<Client>, AsyncConnectionConfig),
    Cluster(Box<ToCluster>),
}

struct ToCluster {
    client: ClusterClient,
    connect_timeout: Duration,
    response_timeout: Duration,
    doors: Doors,
}

#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Connection::Server(connection) => connection.req_packed_command(command).await,
            Connection::Cluster(connection) => connection.req_packed_command(command).await,
        }
    }
}

/// One place for a connection.
struct Slot {
    state: Mutex<State>,
    /// For commands to a cluster.
    room: Semaphore,
    /// Held by whoever connects.
    connecting: tokio::sync::Mutex<()>,
    /// An answer was late, and none has come since.
    is_silent: AtomicBool,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Counts connections, so that a failure throws away only the one that it met.
    number: u64,
    failed_at: Option<Instant>,
    /// When the first answer was late of those that have been since the last one that came.
    silent_since: Option<Instant>,
}

impl Slot {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            room: Semaphore::new(CLUSTER_COMMANDS_MAX),
            connecting: tokio::sync::Mutex::default(),
            is_silent: AtomicBool::new(false),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<(Connection, u64)> {
        let state = self.state();
        state.connection.clone().map(|connection| (connection, state.number))
    }

    fn discard(&self, number: u64) {
        let mut state = self.state();
        if state.number == number {
            state.connection = None;
        }
    }

    fn heard(&self) {
        if self.is_silent.load(Ordering::Relaxed) {
            self.state().silent_since = None;
            self.is_silent.store(false, Ordering::Relaxed);
        }
    }

    /// An answer did not come in time.
    fn missed(&self, number: u64) {
        let mut state = self.state();
        if state.number != number {
            return;
        }
        let since = *state.silent_since.get_or_insert_with(Instant::now);
        self.is_silent.store(true, Ordering::Relaxed);
        if since.elapsed() >= SILENT_MAX && state.connection.take().is_some() {
            tracing::warn!("a connection to Redis had no answer for too long, so another one takes its place");
        }
    }
}

pub(super) struct Link {
    to: To,
    slots: Vec<Slot>,
}

/// The place of the calling thread among all that ever asked.
pub(super) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    MINE.with(|mine| *mine)
}

impl Link {
    pub(super) fn new(settings: &RedisSettings) -> RedisResult<Self> {
        let authorities = settings.authorities()?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.response_timeout));
        let to = match settings.place()? {
            Place::Server(url) => {
                let client = match authorities {
                    Some(authorities) => Client::build_with_tls(url, authorities)?,
                    None => Client::open(url)?,
                };
                To::Server(Box::new(client), config)
            }
            Place::Cluster(urls) => {
                let doors = Doors {
                    node: urls[0].as_str().into_connection_info()?,
                    authorities: authorities.clone(),
                    config,
                    open: tokio::sync::Mutex::default(),
                };
                let mut client = ClusterClient::builder(urls);
                if let Some(authorities) = authorities {
                    client = client.certs(authorities);
                }
                let client = client
                    .connection_timeout(settings.connect_timeout)
                    .response_timeout(settings.response_timeout)
                    .overall_response_timeout(Some(2 * settings.response_timeout))
                    .retries(CLUSTER_RETRIES)
                    .build()?;
                To::Cluster(Box::new(ToCluster {
                    client,
                    connect_timeout: settings.connect_timeout,
                    response_timeout: settings.response_timeout,
                    doors,
                }))
            }
        };
        let slots = (0..settings.connections.max(1)).map(|_| Slot::new()).collect();
        Ok(Self { to, slots })
    }

    pub(super) fn connections(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.to, To::Cluster(..))
    }

    fn own_slot(&self) -> &Slot {
        &self.slots[thread_number() % self.slots.len()]
    }

    /// Sends a command on the calling thread's connection, to the node that has its first key.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let slot = self.own_slot();
        let _room = self.room(slot).await?;
        let (mut connection, number) = self.connection(slot).await?;
        let answer = connection.send(command).await.and_then(Value::extract_error);
        self.learn(slot, number, answer.as_ref().err());
        match (answer, &self.to) {
            (Err(error), To::Cluster(to)) if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) => {
                to.doors.send(command, error).await.and_then(Value::extract_error)
            }
            (answer, _) => answer,
        }
    }

    /// Sends a command of no script, and again for a while where its slot moves or has moved: it did not run.
    pub(super) async fn send_after_moves(&self, command: &Cmd) -> RedisResult<Value> {
        let started = Instant::now();
        loop {
            match self.send(command).await {
                Err(error) if has_moved(&error) && started.elapsed() < MOVES_MAX => tokio::time::sleep(AGAIN_AFTER).await,
                answer => return answer,
            }
        }
    }

    /// Sends commands of one slot together, one behind the other; their answers may be errors, each for itself.
    pub(super) async fn send_together(&self, commands: &Pipeline, count: usize) -> RedisResult<Vec<Value>> {
        let slot = self.own_slot();
        let _room = self.room(slot).await?;
        let (mut connection, number) = self.connection(slot).await?;
        let answers = match &mut connection {
            Connection::Server(connection) => connection.req_packed_commands(commands, 0, count).await,
            Connection::Cluster(connection) => connection.req_packed_commands(commands, 0, count).await,
        };
        self.learn(slot, number, answers.as_ref().err());
        answers
    }

    /// Waits until a cluster's client may be given another command; a server's has room for all.
    async fn room<'a>(&self, slot: &'a Slot) -> RedisResult<Option<SemaphorePermit<'a>>> {
        let To::Cluster(to) = &self.to else { return Ok(None) };
        let room = tokio::time::timeout(to.response_timeout, slot.room.acquire()).await;
        // It is never closed.
        Ok(room.map_err(timed_out)?.ok())
    }

    /// What an answer says about the connection on which it came, or did not come.
    fn learn(&self, slot: &Slot, number: u64, error: Option<&RedisError>) {
        match error {
            Some(error) if self.is_spoilt(error) => slot.discard(number),
            Some(error) if error.is_timeout() => slot.missed(number),
            _ => slot.heard(),
        }
    }

    /// Whether a connection is of no more use. A cluster's client mends its own. A primary that became a replica is left, so that its name is
    /// looked up again.
    fn is_spoilt(&self, error: &RedisError) -> bool {
        let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        !self.is_cluster() && (is_replica || error.is_unrecoverable_error())
    }

    async fn connection(&self, slot: &Slot) -> RedisResult<(Connection, u64)> {
        if let Some(current) = slot.current() {
            return Ok(current);
        }
        let _connecting = slot.connecting.lock().await;
        if let Some(current) = slot.current() {
            return Ok(current);
        }
        if slot.state().failed_at.is_some_and(|at| at.elapsed() < CONNECT_AGAIN_AFTER) {
            let message = "the last try to connect failed a moment ago";
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, message).into());
        }
        let connected = self.connect().await;
        let mut state = slot.state();
        state.failed_at = connected.is_err().then(Instant::now);
        let connection = connected?;
        state.number += 1;
        state.silent_since = None;
        state.connection = Some(connection.clone());
        Ok((connection, state.number))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        match &self.to {
            To::Server(client, config) => {
                let connection = client.get_multiplexed_async_connection_with_config(config).await?;
                Ok(Connection::Server(connection))
            }
            To::Cluster(to) => {
                let connecting = tokio::time::timeout(2 * to.connect_timeout, to.client.get_async_connection()).await;
                Ok(Connection::Cluster(connecting.map_err(timed_out)??))
            }
        }
    }

    /// The primaries of a cluster by their addresses; the one server has none. An error if one that has slots does not answer, which the
    /// client would leave out.
    pub(super) async fn primaries(&self) -> RedisResult<Vec<Option<Node>>> {
        let (connection, _) = self.connection(self.own_slot()).await?;
        let Connection::Cluster(mut connection) = connection else {
            return Ok(vec![None]);
        };
        let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let Value::Map(answers) = connection.route_command(::redis::cmd("PING"), primaries).await? else {
            return Err(unreadable("the primaries of a cluster"));
        };
        let node = |(address, _): (Value, Value)| {
            let address: String = ::redis::from_redis_value(address)?;
            Ok(Some(node_of(&address).ok_or_else(|| unreadable("an address"))?))
        };
        let nodes = answers.into_iter().map(node).collect::<RedisResult<Vec<_>>>()?;
        let mut state = ::redis::cmd("CLUSTER");
        state.arg("INFO");
        let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let state: String = ::redis::from_redis_value(connection.route_command(state, anywhere).await?)?;
        let size = state
            .lines()
            .find_map(|line| line.strip_prefix("cluster_size:")?.trim().parse().ok());
        if size.is_none_or(|size: usize| nodes.len() < size) {
            let (kind, what) = (ErrorKind::ClusterConnectionNotFound, "a primary of the cluster does not answer");
            return Err(RedisError::from((kind, what)));
        }
        Ok(nodes)
    }

    /// One step of `SCAN` on a node: where the next one begins, 0 after the last, and the names of keys.
    pub(super) async fn scan(&self, node: Option<&Node>, cursor: u64, pattern: &str) -> RedisResult<(u64, Vec<String>)> {
        let mut command = ::redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_KEYS);
        let (mut connection, _) = self.connection(self.own_slot()).await?;
        let answer = match (&mut connection, node) {
            (Connection::Cluster(connection), Some((host, port))) => {
                let address = SingleNodeRoutingInfo::ByAddress {
                    host: host.clone(),
                    port: *port,
                };
                connection.route_command(command, RoutingInfo::SingleNode(address)).await?
            }
            (connection, _) => connection.send(&command).await?,
        };
        Ok(::redis::from_redis_value(answer)?)
    }

    /// What `INFO` says on each primary.
    pub(super) async fn info(&self) -> RedisResult<Vec<String>> {
        let command = ::redis::cmd("INFO");
        let (mut connection, _) = self.connection(self.own_slot()).await?;
        let answer = match &mut connection {
            Connection::Server(connection) => connection.req_packed_command(&command).await?,
            Connection::Cluster(connection) => {
                let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                connection.route_command(command, primaries).await?
            }
        };
        match answer {
            Value::Map(nodes) => nodes
                .into_iter()
                .map(|(_, info)| ::redis::from_redis_value(info))
                .map(|info| Ok(info?))
                .collect(),
            info => Ok(vec![::redis::from_redis_value(info)?]),
        }
    }
}
