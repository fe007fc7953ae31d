//! Authorize over HTTP on the production profile, beside its two yardsticks in the same run: (a) an empty actix handler with the same bodies,
//! and (b) the same script called directly, without HTTP. `cargo bench --bench redis`; needs redis-server and PostgreSQL, and starts private ones.
//!
//! The service, or the empty handler, has one core for itself; the load and Redis share the other. Processor time for each authorize is what
//! the kernel says of both processes. The same over a cluster of three primaries, which share that core too. After that: what a tenth budget,
//! a fifth rung, a thousand live reservations, denials and a million workspaces cost the script.

mod load;
#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/support/redis.rs"]
mod redis;

use futures_util::stream::{self, StreamExt};
use load::{Connection, Figures, Server, cpu_of, request};
use serde_json::json;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir::clock::{Clock, SystemClock};
use weir::counters::redis::{RedisCounters, RedisSettings};
use weir::counters::{Begun, Counters, HoldOutcome, HoldRequest, Rebuilt, SumRow};
use weir::decision::amount::{Amounts, Unit};
use weir::decision::counter::{Counter, Whose};
use weir::decision::id::{Feature, RequestId, ReservationId, WorkspaceId};
use weir::decision::period::{Period, PeriodKind};
use weir::decision::rung::{Limit, Rung};
use weir::decision::time::Timestamp;

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const WORKSPACES: u64 = 100;
const SECRET: &str = "a secret for benchmarks, long enough to be one";
const CALLERS_WHO_BUILD: usize = 64;
const CORE_OF_SERVICE: &str = "0";
const CORE_OF_LOAD: &str = "1";

fn main() {
    if load::serve_if_yardstick() {
        return;
    }
    let args: Vec<String> = std::env::args().collect();
    if !redis::is_there() {
        return;
    }
    let Some(postgres) = postgres::Postgres::start() else { return };
    let redis = redis::Server::start();
    let cluster = redis::Cluster::start();
    let one = (redis.url(), vec![redis.pid()]);
    let three = (cluster.url(), cluster.servers.iter().map(redis::Server::pid).collect());
    pin(std::process::id());
    for place in [&one, &three] {
        place.1.iter().copied().for_each(pin);
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let round = if quick { Duration::from_millis(200) } else { ROUND };
    // One thread, since it has one core: what it takes from that is taken from Redis.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for (what, (url, servers)) in [("one Redis", &one), ("a Redis Cluster of three primaries", &three)] {
            println!("\nover HTTP, {what}");
            over_http(&postgres, url, servers, round).await;
        }
        script_alone(&redis, round).await;
        many_workspaces(&redis, round, if quick { &[1, 1_000] } else { &[1, 1_000, 100_000, 1_000_000] }).await;
    });
}

/// Puts a process on the core of the load.
fn pin(process: u32) {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", CORE_OF_LOAD, &process.to_string()])
        .output();
    status.expect("taskset, of util-linux");
}

/// A command that has the service's core for itself.
fn on_its_own_core(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", CORE_OF_SERVICE, program]);
    command
}

struct Bench {
    weir: Server,
    empty: Server,
    token: String,
    next: AtomicU64,
}

impl Bench {
    fn authorize(&self, address: &str) -> Vec<u8> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            "{{\"workspace_id\":\"bench-{}\",\"user_id\":\"user-{}\",\"feature\":\"document_summarization\",\"model\":\"claude-sonnet-4-5\",\
             \"request_id\":\"request-{n:012}\",\"input_tokens\":4521,\"max_output_tokens\":1024}}",
            n % WORKSPACES,
            n % 7
        );
        request(address, "POST", "/v1/authorize", &self.token, &body)
    }

    async fn one(&self, connection: &mut Connection, address: &str) {
        let (status, at) = connection.send(&self.authorize(address)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&connection.buffer[at..]));
    }

    async fn round(self: &Arc<Self>, connections: usize, is_empty: bool, time: Duration, figures: &mut Figures) -> usize {
        let began = Instant::now();
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let bench = self.clone();
                tokio::spawn(async move {
                    let address = if is_empty { &bench.empty.address } else { &bench.weir.address };
                    let mut connection = Connection::open(address).await;
                    let mut latencies = Vec::with_capacity(1 << 14);
                    while began.elapsed() < time {
                        let sent = Instant::now();
                        bench.one(&mut connection, address).await;
                        latencies.push(sent.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            let latencies = task.await.expect("a connection's work");
            done += latencies.len();
            figures.latencies.extend(latencies);
        }
        figures.rates.push(done as f64 / began.elapsed().as_secs_f64());
        done
    }
}

async fn over_http(postgres: &postgres::Postgres, redis: &str, servers: &[u32], round: Duration) {
    let cpu_of_redis = || servers.iter().copied().map(cpu_of).sum::<Duration>();
    let variables = [
        ("WEIR_DATABASE_URL", postgres.url("public")),
        ("WEIR_REDIS_URL", redis.to_owned()),
        ("WEIR_JWT_SECRET", SECRET.to_owned()),
    ];
    let mut serve = on_its_own_core(env!("CARGO_BIN_EXE_weir"));
    serve.args(["serve", "--listen", "127.0.0.1:0"]).envs(variables.clone());
    let weir = Server::start(serve);
    let token = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["token", "--scope", "authorize,admin", "--ttl", "86400"])
        .envs(variables)
        .output()
        .expect("a token");
    let token = String::from_utf8(token.stdout).expect("text").trim().to_owned();
    let this = std::env::current_exe().expect("this program");
    let this = this.to_str().expect("a path of text");
    let yardstick = |bytes: usize| {
        let mut command = on_its_own_core(this);
        command.args(["--yardstick", &bytes.to_string()]);
        Server::start(command)
    };
    let mut bench = Bench {
        weir,
        empty: yardstick(1),
        token,
        next: AtomicU64::new(0),
    };
    let mut connection = Connection::open(&bench.weir.address).await;
    let budgets = json!([
        {"id": "monthly_tokens", "unit": "tokens", "period": "month", "soft": 3_000_000_000_000_000_i64, "hard": 3_900_000_000_000_000_i64},
        {"id": "monthly_usd", "unit": "usd", "period": "month", "hard": "3900000"},
        {"id": "summaries", "feature": "document_summarization", "unit": "tokens", "period": "month", "hard": 3_900_000_000_000_000_i64}]);
    let plan =
        json!({"name": "Bench", "pricing": {"model": "flat", "base_usd": "0"}, "max_open_reservations": 1_000_000, "budgets": budgets});
    let mut puts = vec![("/v1/admin/plans/bench".to_owned(), plan)];
    puts.extend((0..WORKSPACES).map(|n| (format!("/v1/admin/workspaces/bench-{n}"), json!({"plan_id": "bench"}))));
    for (path, body) in puts {
        let (status, _) = connection
            .send(&request(&bench.weir.address, "PUT", &path, &bench.token, &body.to_string()))
            .await;
        assert!(status == 200 || status == 201, "{path}: {status}");
    }
    let (_, at) = connection.send(&bench.authorize(&bench.weir.address)).await;
    bench.empty = yardstick(connection.buffer.len() - at);
    let bench = Arc::new(bench);
    for _ in 0..2 * WORKSPACES {
        bench.one(&mut connection, &bench.weir.address).await;
    }

    println!(
        "{:>11}  {:>10} {:>10} {:>6}  {:>9} {:>9}  {:>10} {:>10}",
        "connections", "empty/s", "authorize/s", "ratio", "p99 empty", "p99", "service us", "redis us"
    );
    for connections in CONNECTIONS {
        let mut figures = [Figures::default(), Figures::default()];
        let (mut service, mut store, mut done) = (Duration::ZERO, Duration::ZERO, 0);
        for _ in 0..ROUNDS {
            bench.round(connections, true, round, &mut figures[0]).await;
            let before = (bench.weir.cpu(), cpu_of_redis());
            done += bench.round(connections, false, round, &mut figures[1]).await;
            service += bench.weir.cpu() - before.0;
            store += cpu_of_redis() - before.1;
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / done.max(1) as f64;
        let [empty, authorize] = &mut figures;
        println!(
            "{connections:>11}  {:>10.0} {:>10.0} {:>6.2}  {:>9.1?} {:>9.1?}  {:>10.1} {:>10.1}",
            empty.rate(),
            authorize.rate(),
            authorize.rate() / empty.rate(),
            empty.percentile(99),
            authorize.percentile(99),
            each(service),
            each(store)
        );
    }
}

/// What each request needs of each counter, and a limit that none reaches.
const NEED: i64 = 5;
const NO_CEILING: i64 = 1 << 50;

/// How requests are answered.
#[derive(Clone, Copy)]
enum Answer {
    Held,
    Denied,
    /// What a denial costs where nothing is kept of what an earlier one was told.
    DeniedUntil,
}

/// The script without HTTP, asked from this process.
async fn script_alone(redis: &redis::Server, round: Duration) {
    let store = RedisCounters::connect(RedisSettings::new(&redis.url())).await.expect("the store");
    let store = Arc::new(store);
    println!(
        "\n{:<52} {:>10} {:>10} {:>10} {:>10}",
        "the script alone, 16 callers where not said", "per second", "p99", "redis us", "in it us"
    );
    for (what, callers, budgets, rungs, live, answer) in [
        ("3 budgets, 1 rung, 64 callers", 64, 3, 1, 0, Answer::Held),
        ("3 budgets, 1 rung", 16, 3, 1, 0, Answer::Held),
        ("3 budgets, 1,000 live reservations", 16, 3, 1, 1_000, Answer::Held),
        ("1 budget", 16, 1, 1, 0, Answer::Held),
        ("10 budgets", 16, 10, 1, 0, Answer::Held),
        ("3 budgets, the fifth rung fits", 16, 3, 5, 0, Answer::Held),
        ("denied, 3 budgets, 1,000 live reservations", 16, 3, 1, 1_000, Answer::Denied),
        ("the same, and asked when each frees up", 16, 3, 1, 1_000, Answer::DeniedUntil),
    ] {
        // Each begins with an empty store, since what it keeps costs something too.
        redis.cli(&["FLUSHALL"]);
        let number = format!("{budgets}-{rungs}-{live}");
        let workspace = WorkspaceId::parse(&format!("alone-{number}")).expect("a name");
        let counters: Arc<Vec<Counter>> = Arc::new((0..budgets).map(counter).collect());
        build(&store, &workspace, &counters).await;
        for n in 0..live {
            take(&store, &request_of(&workspace, &counters, 1, NO_CEILING, &format!("live-{n}"))).await;
        }
        let store = store.clone();
        measure(redis, what, callers, round, move |key| {
            let (store, workspace, counters) = (store.clone(), workspace.clone(), counters.clone());
            async move {
                match answer {
                    Answer::Held => take(&store, &request_of(&workspace, &counters, rungs, NO_CEILING, &key)).await,
                    _ => refuse(&store, &request_of(&workspace, &counters, rungs, live * NEED, &key), answer).await,
                }
            }
        })
        .await;
    }
}

/// The same, of one of more and more workspaces, drawn anew each time.
async fn many_workspaces(redis: &redis::Server, round: Duration, counts: &[usize]) {
    let store = Arc::new(RedisCounters::connect(RedisSettings::new(&redis.url())).await.expect("the store"));
    let counters: Arc<Vec<Counter>> = Arc::new((0..3).map(counter).collect());
    let named = |number: usize| WorkspaceId::parse(&format!("one-of-many-{number}")).expect("a name");
    println!();
    for count in counts.iter().copied() {
        // Holds of the row before are not this one's.
        redis.cli(&["FLUSHALL"]);
        let before = memory(redis);
        stream::iter(0..count)
            .for_each_concurrent(CALLERS_WHO_BUILD, async |number| build(&store, &named(number), &counters).await)
            .await;
        let kilobytes = memory(redis).saturating_sub(before) / 1_000;
        let what = format!("3 budgets, of {count} workspaces ({kilobytes} kB)");
        let (store, counters) = (store.clone(), counters.clone());
        measure(redis, &what, 16, round, move |key| {
            let (store, counters) = (store.clone(), counters.clone());
            async move {
                let workspace = named(rand::random_range(0..count));
                take(&store, &request_of(&workspace, &counters, 1, NO_CEILING, &key)).await;
            }
        })
        .await;
    }
}

fn memory(redis: &redis::Server) -> u64 {
    let info = redis.cli(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).expect("a number")
}

/// Lets so many callers work for a while, each call with a key of its own, and prints what one took.
async fn measure<W, F>(redis: &redis::Server, what: &str, callers: usize, round: Duration, work: W)
where
    W: Fn(String) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// No key is used twice, since a hold would be told again.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    redis.cli(&["CONFIG", "RESETSTAT"]);
    let (began, before) = (Instant::now(), cpu_of(redis.pid()));
    let call = |_| {
        let work = work.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < round {
                let sent = Instant::now();
                work(format!("r{}", CALLS.fetch_add(1, Ordering::Relaxed))).await;
                latencies.push(sent.elapsed());
            }
            latencies
        })
    };
    let callers: Vec<_> = (0..callers).map(call).collect();
    let mut figures = Figures::default();
    for caller in callers {
        figures.latencies.extend(caller.await.expect("a caller's work"));
    }
    let done = figures.latencies.len() as f64;
    let each = (cpu_of(redis.pid()) - before).as_secs_f64() * 1e6 / done;
    println!(
        "{what:<52} {:>10.0} {:>10.1?} {each:>10.1} {:>10.1}",
        done / began.elapsed().as_secs_f64(),
        figures.percentile(99),
        in_script(redis, done)
    );
}

/// Microseconds in the script for each hold, of which a call may take several, by the store's own account: the rest of its time goes to
/// reading, writing and waiting.
fn in_script(redis: &redis::Server, holds: f64) -> f64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
    let all = line
        .split("usec=")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap_or_default();
    all.parse::<f64>().unwrap_or(f64::NAN) / holds
}

fn counter(number: usize) -> Counter {
    let start = SystemClock.now().plus_seconds(-3_600);
    let hour = 3_600 * 1_000_000;
    let start = Timestamp::from_micros(start.micros() / hour * hour);
    Counter {
        whose: Whose::Workspace,
        feature: (number > 0).then(|| Feature::parse(&format!("feature-{number}")).expect("a name")),
        unit: Unit::Tokens,
        kind: PeriodKind::Day,
        period: Period {
            start,
            end: start.plus_seconds(86_400),
        },
    }
}

async fn build(store: &RedisCounters, workspace: &WorkspaceId, counters: &[Counter]) {
    let now = SystemClock.now();
    let Begun::Started { token, .. } = store.begin(workspace, &Whose::Workspace, now).await.expect("begun") else {
        panic!("nobody else rebuilds")
    };
    let row = |counter: &Counter| SumRow {
        counter: counter.clone(),
        spent: 0,
        version: 1,
        paid: 0,
    };
    let rows: Vec<SumRow> = counters.iter().map(row).collect();
    let rebuilt = Rebuilt {
        token,
        adopted: &[],
        rows: &rows,
        purses: &[],
    };
    assert!(store.finish(workspace, &Whose::Workspace, &rebuilt, now).await.expect("finished"));
}

/// Of several rungs only the last one fits, below this ceiling.
fn request_of(workspace: &WorkspaceId, counters: &[Counter], rungs: usize, ceiling: i64, key: &str) -> HoldRequest {
    let now = SystemClock.now();
    let rung = |number: usize| Rung {
        needs: Amounts {
            tokens: NEED,
            requests: 1,
            ..Amounts::ZERO
        },
        output: 4,
        cap: None,
        limits: (0..counters.len())
            .map(|counter| Limit {
                granted: false,
                counter,
                open_below: None,
                ceiling: Some(if number + 1 == rungs { ceiling } else { 0 }),
            })
            .collect(),
        expires_at: now.plus_seconds(600),
    };
    HoldRequest {
        workspace: workspace.clone(),
        reservation: ReservationId::derive(workspace, &RequestId::parse(key).expect("a key")),
        fingerprint: 1,
        counters: counters.to_vec(),
        purses: Vec::new(),
        named_since: now,
        rungs: (0..rungs).map(rung).collect(),
        open_max: 10_000_000,
        charge_on_expiry: false,
        tell_on_expiry: false,
        context: vec![7; 320].into(),
        now,
    }
}

async fn take(store: &RedisCounters, request: &HoldRequest) {
    let outcome = store.hold(request).await.expect("an answer");
    assert!(matches!(outcome, HoldOutcome::Held { .. }), "{outcome:?}");
}

async fn refuse(store: &RedisCounters, request: &HoldRequest, answer: Answer) {
    let outcome = store.hold(request).await.expect("an answer");
    let HoldOutcome::Short { balances } = outcome else {
        panic!("{outcome:?}")
    };
    if let Answer::DeniedUntil = answer {
        for (counter, balance) in request.counters.iter().zip(balances) {
            let free_at = store.free_at(&request.workspace, counter, balance.taken(), NEED, request.now).await;
            assert!(free_at.expect("an answer").is_some());
        }
    }
}
