//! The stores, the proxies before them, and all that is done to them and to the nodes.

use super::node::Node;
use super::record::{Happened, Loss, Micros, Record, SECOND, now};
use super::support::local;
use super::support::postgres::Postgres;
use super::support::proxy::{Proxy, Replies};
use super::support::redis::{Server, until};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weir::counters::CLAIM_OPEN_SECONDS;

/// How long a hold may take from a primary to its replica.
const REPLICATION_LAG: Micros = SECOND / 5;
/// The longest pause between two faults.
const PAUSE_MILLIS_MAX: u64 = 1_200;

/// How long things last.
pub struct Lengths {
    /// How long a node stands still.
    pause: Duration,
    /// How long a store is away, in milliseconds, and how long Redis is where it would be back at once otherwise.
    away_millis: Range<u64>,
    redis_away_millis: Range<u64>,
    /// How long nobody hears a store.
    silence: Duration,
}

impl Lengths {
    /// So that all of it fits into a minute.
    pub const SHORT: Self = Self {
        pause: Duration::from_secs(2),
        away_millis: 300..2_000,
        redis_away_millis: 0..1,
        silence: Duration::from_secs(1),
    };
    /// A node stands still for longer than a claim stays open, and stores are away for minutes.
    pub const LONG: Self = Self {
        pause: Duration::from_secs(CLAIM_OPEN_SECONDS.unsigned_abs() + 15),
        away_millis: 120_000..180_000,
        redis_away_millis: 120_000..180_000,
        silence: Duration::from_secs(130),
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    FlushAll,
    /// Counters are lost while the ledger is away, from which they are to be read again.
    FlushAllWithoutPostgres,
    ScriptFlush,
    KillNode(usize),
    PauseNode(usize),
    Failover,
    /// Redis comes back with nothing.
    RestartRedis,
    /// Redis comes back as it was some time before.
    RestartRedisFromDump,
    RestartPostgres,
    RedisSilent,
    RedisLate,
    PostgresSilent,
    /// Its memory is used up, and it evicts nothing.
    RedisFull,
    /// The replica is promoted while this node still reaches the old primary.
    Partition(usize),
}

impl Fault {
    /// Each once.
    fn all(nodes: usize) -> Vec<Self> {
        let mut all = vec![
            Self::FlushAll,
            Self::FlushAllWithoutPostgres,
            Self::ScriptFlush,
            Self::Failover,
            Self::RestartRedis,
            Self::RestartRedisFromDump,
            Self::RestartPostgres,
            Self::RedisSilent,
            Self::RedisLate,
            Self::PostgresSilent,
            Self::RedisFull,
        ];
        all.extend((0..nodes).map(Self::KillNode));
        all
    }

    fn costs_holds(self) -> bool {
        matches!(
            self,
            Self::FlushAll
                | Self::FlushAllWithoutPostgres
                | Self::Failover
                | Self::RestartRedis
                | Self::RestartRedisFromDump
                | Self::Partition(_)
        )
    }

    /// Whether the ledger does not answer for a while, so that what is to be written has to wait.
    fn keeps_writes_waiting(self) -> bool {
        matches!(self, Self::RestartPostgres | Self::PostgresSilent)
    }

    /// Whether a node may miss answers of Redis. One that was paused takes those for late that came meanwhile.
    fn hides_redis(self) -> bool {
        matches!(
            self,
            Self::Failover
                | Self::RestartRedis
                | Self::RestartRedisFromDump
                | Self::RedisSilent
                | Self::RedisLate
                | Self::PauseNode(_)
                | Self::RedisFull
                | Self::Partition(_)
        )
    }
}

/// Redis with a replica that follows it through a proxy, so that it can be made to miss writes.
struct Pair {
    primary: Server,
    replica: Server,
    between: Proxy,
}

impl Pair {
    fn of(primary: Server) -> Self {
        // Told and not an option, so that it is a primary if it is promoted and then started again.
        Self::both(primary, Server::start())
    }

    fn both(primary: Server, replica: Server) -> Self {
        let between = Proxy::to(local(primary.port));
        replica.cli(&["REPLICAOF", "127.0.0.1", &between.port().to_string()]);
        let pair = Self { primary, replica, between };
        pair.follows();
        pair
    }

    /// Waits until the replica has all that the primary had a moment before. That their link is up is not enough: what was written while the
    /// replica read its copy comes after that.
    fn follows(&self) {
        let place = |server: &Server, name: &str| {
            let info = server.cli(&["INFO", "replication"]);
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|text| text.trim().to_owned())
        };
        let offset = |server, name| place(server, name).and_then(|text| text.parse::<u64>().ok());
        until("the replica follows", || {
            let history = |server| place(server, "master_replid");
            let had = offset(&self.primary, "master_repl_offset");
            place(&self.replica, "master_link_status").as_deref() == Some("up")
                && history(&self.replica) == history(&self.primary)
                && offset(&self.replica, "slave_repl_offset") >= had
        });
    }
}

/// Both stores, each behind a proxy that is all that nodes know of it.
pub struct Stores {
    pub postgres: Postgres,
    pair: Option<Pair>,
    to_postgres: Proxy,
    /// Of each node, since a partition may leave one elsewhere.
    to_redis: Vec<Proxy>,
}

impl Stores {
    pub fn start(postgres: Postgres, nodes: usize) -> Self {
        let pair = Pair::of(Server::start());
        Self {
            to_postgres: Proxy::to(local(postgres.port())),
            to_redis: (0..nodes).map(|_| Proxy::to(local(pair.primary.port))).collect(),
            postgres,
            pair: Some(pair),
        }
    }

    pub fn database_url(&self, schema: &str) -> String {
        self.postgres.url_at(self.to_postgres.port(), schema)
    }

    pub fn redis_url(&self, node: usize) -> String {
        format!("redis://{}", self.to_redis[node].address())
    }

    fn pair(&self) -> &Pair {
        self.pair.as_ref().expect("a pair")
    }

    fn flush_all(&self) -> Loss {
        let began = now();
        self.pair().primary.cli(&["FLUSHALL"]);
        Loss {
            kept_before: None,
            began,
            ended: now(),
        }
    }

    fn flush_scripts(&self) {
        for _ in 0..10 {
            self.pair().primary.cli(&["SCRIPT", "FLUSH"]);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The replica misses what is written for a while; then the primary dies and the replica takes its place.
    fn fail_over(&mut self, missed: Duration) -> Loss {
        let mut pair = self.pair.take().expect("a pair");
        pair.follows();
        let kept_before = Some(now() - REPLICATION_LAG);
        pair.between.cut();
        std::thread::sleep(missed);
        let began = now();
        pair.primary.kill();
        pair.replica.cli(&["REPLICAOF", "NO", "ONE"]);
        let ended = now();
        for way in &self.to_redis {
            way.lead_to(local(pair.replica.port));
            way.cut_once();
        }
        self.pair = Some(Pair::of(pair.replica));
        Loss { kept_before, began, ended }
    }

    /// The replica is promoted, and all nodes but one are led to it. Then the old primary follows it, which that node finds out by itself.
    fn part(&mut self, alone: usize, during: Duration) -> Loss {
        let pair = self.pair.take().expect("a pair");
        pair.follows();
        let (kept_before, began) = (Some(now() - REPLICATION_LAG), now());
        pair.between.cut();
        pair.replica.cli(&["REPLICAOF", "NO", "ONE"]);
        let others = self.to_redis.iter().enumerate().filter(|(node, _)| *node != alone);
        for (_, way) in others {
            way.lead_to(local(pair.replica.port));
            way.cut_once();
        }
        std::thread::sleep(during);
        self.to_redis[alone].lead_to(local(pair.replica.port));
        self.pair = Some(Pair::both(pair.replica, pair.primary));
        Loss {
            kept_before,
            began,
            ended: now(),
        }
    }

    fn fill_redis(&self, during: Duration) {
        let set = |bytes| self.pair().primary.cli(&["CONFIG", "SET", "maxmemory", bytes]);
        set("1mb");
        std::thread::sleep(during);
        set("0");
    }

    /// Kills Redis and starts it after a while, with the dump that it made `since` before, or with nothing.
    fn restart_redis(&mut self, since: Option<Duration>, away: Duration) -> Loss {
        let primary = &mut self.pair.as_mut().expect("a pair").primary;
        let mut kept_before = None;
        if let Some(since) = since {
            kept_before = Some(now());
            primary.cli(&["SAVE"]);
            std::thread::sleep(since);
        }
        let began = now();
        primary.kill();
        if since.is_none() {
            // There is one only where it was a replica or has made one before.
            let _ = std::fs::remove_file(primary.folder().join("dump.rdb"));
        }
        std::thread::sleep(away);
        primary.run();
        let ended = now();
        Loss { kept_before, began, ended }
    }

    fn restart_postgres(&self, away: Duration) {
        self.postgres.stop_immediately();
        std::thread::sleep(away);
        self.postgres.start_again();
    }
}

/// Loses or delays replies for a while. A stream that has lost some cannot go on, so its connections end with it.
fn disturb(proxies: &[Proxy], replies: Replies, during: Duration) {
    proxies.iter().for_each(|proxy| proxy.replies(replies));
    std::thread::sleep(during);
    proxies.iter().for_each(Proxy::cut);
    // One that was just being accepted is ended too.
    std::thread::sleep(Duration::from_millis(20));
    for proxy in proxies {
        proxy.cut();
        proxy.mend();
    }
}

/// When it ends and what decides of it.
pub struct Schedule {
    pub seed: u64,
    pub until: Instant,
    pub lengths: Lengths,
    /// Set while writes have to wait for the ledger.
    pub writes_wait: Arc<AtomicBool>,
}

/// Does all that is on the schedule of this seed, and more until the time is over. Gives the stores back whole.
pub fn run(mut stores: Stores, nodes: &[Arc<Node>], record: &Record, times: &Schedule) -> Stores {
    let (seed, until) = (times.seed, times.until);
    let mut random = StdRng::seed_from_u64(seed);
    let mut schedule = Fault::all(nodes.len());
    schedule.push(Fault::PauseNode(random.random_range(0..nodes.len())));
    schedule.push(Fault::Partition(random.random_range(0..nodes.len())));
    schedule.shuffle(&mut random);
    // Every other schedule begins with what costs no holds: until then no limit may be passed at all.
    if seed.is_multiple_of(2) {
        schedule.sort_by_key(|fault| fault.costs_holds());
    }
    let mut next = schedule.clone().into_iter();
    loop {
        std::thread::sleep(Duration::from_millis(random.random_range(200..PAUSE_MILLIS_MAX)));
        let fault = match next.next() {
            Some(fault) => fault,
            None if Instant::now() < until => schedule[random.random_range(0..schedule.len())],
            None => return stores,
        };
        let began = now();
        times.writes_wait.store(fault.keeps_writes_waiting(), Ordering::SeqCst);
        let loss = strike(fault, &mut stores, nodes, &times.lengths, &mut random);
        times.writes_wait.store(false, Ordering::SeqCst);
        record.happened(Happened {
            what: format!("{fault:?}"),
            began,
            ended: now(),
            hides_redis: fault.hides_redis(),
            parts_redis: matches!(fault, Fault::Partition(_)),
            loss,
        });
    }
}

fn strike(fault: Fault, stores: &mut Stores, nodes: &[Arc<Node>], lengths: &Lengths, random: &mut StdRng) -> Option<Loss> {
    let away = Duration::from_millis(random.random_range(lengths.away_millis.clone()));
    let redis_away = Duration::from_millis(random.random_range(lengths.redis_away_millis.clone()));
    let mut millis = |from: u64, to: u64| Duration::from_millis(random.random_range(from..to));
    match fault {
        Fault::FlushAllWithoutPostgres => {
            stores.postgres.stop_immediately();
            std::thread::sleep(millis(50, 300));
            let loss = stores.flush_all();
            std::thread::sleep(millis(50, 800));
            stores.postgres.start_again();
            return Some(loss);
        }
        Fault::FlushAll => return Some(stores.flush_all()),
        Fault::Failover => return Some(stores.fail_over(millis(200, 800))),
        Fault::RestartRedis => return Some(stores.restart_redis(None, redis_away)),
        Fault::RestartRedisFromDump => return Some(stores.restart_redis(Some(millis(200, 1_500)), Duration::ZERO)),
        Fault::Partition(alone) => return Some(stores.part(alone, millis(500, 2_000))),
        Fault::RedisFull => stores.fill_redis(millis(500, 1_500)),
        Fault::ScriptFlush => stores.flush_scripts(),
        Fault::RestartPostgres => stores.restart_postgres(away),
        Fault::RedisSilent => disturb(&stores.to_redis, Replies::Dropped, lengths.silence),
        Fault::RedisLate => disturb(&stores.to_redis, Replies::Delayed(millis(300, 700)), Duration::from_secs(2)),
        Fault::PostgresSilent => disturb(std::slice::from_ref(&stores.to_postgres), Replies::Dropped, lengths.silence),
        Fault::KillNode(number) => {
            nodes[number].kill();
            std::thread::sleep(millis(100, 600));
            nodes[number].run();
        }
        Fault::PauseNode(number) => {
            nodes[number].pause();
            std::thread::sleep(lengths.pause);
            nodes[number].resume();
        }
    }
    None
}
