//! Connections to one server or to a cluster: a few of them, each used by some threads, opened when first needed and again after a failure.
//!
//! Sends a command once. Whether it may be sent again is the caller's affair, who knows what it does.
//!
//! A connection on which everything is late for a while is replaced: what it leads to may be gone without a word, which TCP finds out after
//! a quarter of an hour, and a cluster's client has been seen to wait for itself after a failover, for ever.

use super::settings::{Place, RedisSettings};
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long after a failure to connect others are told so without a try of their own.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long a connection may have no answer in time before it is replaced. A cluster is whole again sooner than that, so its client is.
const SILENT_MAX: Duration = Duration::from_secs(3);
/// A cluster's client sends a command once, too. What it sends again takes room from others meanwhile; and where it follows a slot that moves,
/// it asks to be let in there by a command of its own, which counts for whatever comes next on a connection that all share.
const CLUSTER_RETRIES: u32 = 0;
/// How many commands a cluster's client is given at once by each connection. It has room for fifty that wait to be written to a node; while it
/// asks which node has which slot, nothing else of it runs, and when that question finds no room it waits for commands that wait for it.
const CLUSTER_COMMANDS_MAX: usize = 32;

/// How many keys one step of a scan looks at.
const SCAN_KEYS: usize = 500;

/// A host and a port.
pub(super) type Node = (String, u16);

fn node_of(address: &str) -> Option<Node> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn unreadable(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "an answer that cannot be read", what.to_owned()))
}

fn timed_out(_: tokio::time::error::Elapsed) -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

enum To {
    Server(Client, AsyncConnectionConfig),
    Cluster(ClusterClient, ClusterTimes),
}

struct ClusterTimes {
    connect: Duration,
    response: Duration,
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
            Connection::Cluster(connection) => match connection.req_packed_command(command).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) => send_after(connection, command, error).await,
                answer => answer,
            },
        }
    }
}

/// Sends a command to where its slot moves, whose old place has nothing of what it names any more. It is written in one piece with what lets
/// it in there, so that nobody else's comes in between.
async fn send_after(connection: &mut ClusterConnection, command: &Cmd, refused: RedisError) -> RedisResult<Value> {
    let Some((host, port)) = refused.redirect_node().and_then(|(address, _)| node_of(address)) else {
        return Err(refused);
    };
    let mut together = ::redis::pipe();
    together.cmd("ASKING").add_command(command.clone());
    let there = SingleNodeRoutingInfo::ByAddress { host, port };
    let answers = connection.route_pipeline(together, 1, 1, there).await?;
    let [answer] = <[Value; 1]>::try_from(answers).map_err(|_| unreadable("the answer to one command"))?;
    Ok(answer)
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
        let to = match settings.place()? {
            Place::Server(url) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(settings.connect_timeout))
                    .set_response_timeout(Some(settings.response_timeout));
                let client = match authorities {
                    Some(authorities) => Client::build_with_tls(url, authorities)?,
                    None => Client::open(url)?,
                };
                To::Server(client, config)
            }
            Place::Cluster(urls) => {
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
                let times = ClusterTimes {
                    connect: settings.connect_timeout,
                    response: settings.response_timeout,
                };
                To::Cluster(client, times)
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
        answer
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
        let To::Cluster(_, times) = &self.to else { return Ok(None) };
        let room = tokio::time::timeout(times.response, slot.room.acquire()).await;
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
            To::Cluster(client, times) => {
                let connecting = tokio::time::timeout(2 * times.connect, client.get_async_connection()).await;
                Ok(Connection::Cluster(connecting.map_err(timed_out)??))
            }
        }
    }

    /// The primaries of a cluster by their addresses, in their order; the one server has none.
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
        let mut nodes = answers.into_iter().map(node).collect::<RedisResult<Vec<_>>>()?;
        nodes.sort();
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
