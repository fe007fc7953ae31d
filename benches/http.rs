//! Authorize, and authorize with settle, over HTTP against the embedded service, beside an empty actix handler with the same body sizes in
//! the same run: `cargo bench --bench http`. Figures are ratios to that handler, because absolute ones are the machine's.
//!
//! Both servers are processes of their own with as many workers as there are cores; the load comes from this one, over as many
//! connections as the row says, each with one request under way. Rounds alternate, so that a noisy moment meets both.

mod load;

use load::{Connection, Figures, Server, request};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 3] = [1, 16, 64];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const WORKSPACES: u64 = 100;
const HELD_OPEN: u64 = 20_000;
/// Of the kinds of work, in their order.
const NAMES: [&str; 4] = ["empty handler", "authorize", "authorize by API key", "authorize + settle"];

fn main() {
    if load::serve_if_yardstick() {
        return;
    }
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1)).cloned();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(compare(if quick { Duration::from_millis(200) } else { ROUND }, only.as_deref()));
}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Empty,
    Authorize,
    /// With an API key instead of a token.
    AuthorizeByKey,
    AuthorizeAndSettle,
}

struct Bench {
    weir: Server,
    empty: Server,
    token: String,
    key: String,
    next: AtomicU64,
}

impl Bench {
    fn authorize(&self, address: &str, credential: &str) -> Vec<u8> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            "{{\"workspace_id\":\"bench-{}\",\"user_id\":\"user-{}\",\"feature\":\"document_summarization\",\"model\":\"claude-sonnet-4-5\",\
             \"request_id\":\"request-{n:012}\",\"input_tokens\":4521,\"max_output_tokens\":1024}}",
            n % WORKSPACES,
            n % 7
        );
        request(address, "POST", "/v1/authorize", credential, &body)
    }

    async fn admin(&self, path: &str, body: &str) {
        let mut connection = Connection::open(&self.weir.address).await;
        let (status, at) = connection.send(&request(&self.weir.address, "PUT", path, &self.token, body)).await;
        assert!(
            status == 200 || status == 201,
            "{path}: {status}: {}",
            String::from_utf8_lossy(&connection.buffer[at..])
        );
    }

    async fn one(&self, connection: &mut Connection, work: Work) {
        let address = if work == Work::Empty {
            &self.empty.address
        } else {
            &self.weir.address
        };
        let credential = if work == Work::AuthorizeByKey { &self.key } else { &self.token };
        let (status, at) = connection.send(&self.authorize(address, credential)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&connection.buffer[at..]));
        if work != Work::AuthorizeAndSettle {
            return;
        }
        let answer = std::str::from_utf8(&connection.buffer[at..]).expect("text");
        let reservation = answer
            .split("\"reservation_id\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect(answer)
            .to_owned();
        let report = "{\"usage\":{\"input_tokens\":4521,\"output_tokens\":387},\"outcome\":\"success\",\"latency_ms\":1842}";
        let settle = request(
            address,
            "POST",
            &format!("/v1/reservations/{reservation}/settle"),
            &self.token,
            report,
        );
        let (status, at) = connection.send(&settle).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&connection.buffer[at..]));
    }

    async fn round(self: &std::sync::Arc<Self>, connections: usize, work: Work, time: Duration, figures: &mut Figures) {
        let began = Instant::now();
        let tasks = (0..connections).map(|_| {
            let bench = self.clone();
            tokio::spawn(async move {
                let address = if work == Work::Empty {
                    &bench.empty.address
                } else {
                    &bench.weir.address
                };
                let mut connection = Connection::open(address).await;
                let mut latencies = Vec::with_capacity(1 << 16);
                while began.elapsed() < time {
                    let sent = Instant::now();
                    bench.one(&mut connection, work).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        });
        let mut done = 0;
        for task in tasks.collect::<Vec<_>>() {
            let latencies = task.await.expect("a connection's work");
            done += latencies.len();
            figures.latencies.extend(latencies);
        }
        figures.rates.push(done as f64 / began.elapsed().as_secs_f64());
    }
}

/// `only`: the one number of connections to measure.
async fn compare(round: Duration, only: Option<&str>) {
    let data = tempfile::tempdir().expect("a directory");
    let data_dir = data.path().to_str().expect("a path of text");
    let began = Instant::now();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_weir"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]);
    let weir = Server::start(serve);
    let started = began.elapsed();
    std::thread::sleep(Duration::from_millis(500));
    let at_rest = weir.resident();
    let token = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["token", "--scope", "authorize,read,admin", "--ttl", "86400", "--data-dir", data_dir])
        .output()
        .expect("a token");
    let token = String::from_utf8(token.stdout)
        .expect("text")
        .lines()
        .last()
        .expect("a line")
        .to_owned();

    let mut probe = Command::new(std::env::current_exe().expect("this program"));
    probe.args(["--yardstick", "1"]);
    let mut bench = Bench {
        weir,
        empty: Server::start(probe),
        token,
        key: String::new(),
        next: AtomicU64::new(0),
    };
    bench
        .admin(
            "/v1/admin/plans/bench",
            r#"{"name": "Bench", "pricing": {"model": "flat", "base_usd": "0"}, "max_open_reservations": 1000000, "budgets": [
                {"id": "monthly_tokens", "unit": "tokens", "period": "month", "soft": 3000000000000000, "hard": 3900000000000000},
                {"id": "monthly_usd", "unit": "usd", "period": "month", "hard": "3900000"},
                {"id": "summaries", "feature": "document_summarization", "unit": "tokens", "period": "month", "hard": 3900000000000000}]}"#,
        )
        .await;
    for n in 0..WORKSPACES {
        bench
            .admin(&format!("/v1/admin/workspaces/bench-{n}"), r#"{"plan_id": "bench"}"#)
            .await;
    }
    let mut connection = Connection::open(&bench.weir.address).await;
    let make = request(
        &bench.weir.address,
        "POST",
        "/v1/admin/api-keys",
        &bench.token,
        r#"{"scopes": ["authorize"]}"#,
    );
    let (_, at) = connection.send(&make).await;
    let made = std::str::from_utf8(&connection.buffer[at..]).expect("text");
    let secret = made.split("\"secret\":\"").nth(1).and_then(|rest| rest.split('"').next());
    bench.key = secret.expect(made).to_owned();
    // The yardstick answers as many bytes as authorize does.
    let (_, at) = connection.send(&bench.authorize(&bench.weir.address, &bench.token)).await;
    let answer_bytes = connection.buffer.len() - at;
    let mut empty = Command::new(std::env::current_exe().expect("this program"));
    empty.args(["--yardstick", &answer_bytes.to_string()]);
    bench.empty = Server::start(empty);
    for n in 0..WORKSPACES * 2 {
        let _ = n;
        bench.one(&mut connection, Work::Authorize).await;
    }

    let before = bench.weir.resident();
    for _ in 0..HELD_OPEN {
        bench.one(&mut connection, Work::Authorize).await;
    }
    let each = bench.weir.resident().saturating_sub(before) / HELD_OPEN;
    println!(
        "start to first answerable line {} ms; resident at rest {:.1} MB; {each} bytes per open reservation",
        started.as_millis(),
        at_rest as f64 / 1e6
    );
    println!(
        "bodies: {} bytes in, {answer_bytes} bytes out; {} rounds of {:?} each\n",
        bench.authorize("x", &bench.token).len(),
        ROUNDS,
        round
    );
    println!(
        "{:>11}  {:<20} {:>10} {:>8} {:>10} {:>10}",
        "connections", "what", "per second", "ratio", "p50", "p99"
    );

    let bench = std::sync::Arc::new(bench);
    for connections in CONNECTIONS.into_iter().filter(|n| only.is_none_or(|only| n.to_string() == only)) {
        let mut figures = [(); 4].map(|()| Figures::default());
        let kinds = [Work::Empty, Work::Authorize, Work::AuthorizeByKey, Work::AuthorizeAndSettle];
        for _ in 0..ROUNDS {
            for (work, figures) in kinds.into_iter().zip(&mut figures) {
                bench.round(connections, work, round, figures).await;
            }
        }
        let yardstick = figures[0].rate();
        for (name, figures) in NAMES.into_iter().zip(&mut figures) {
            let (rate, p50, p99) = (figures.rate(), figures.percentile(50), figures.percentile(99));
            println!(
                "{connections:>11}  {name:<20} {rate:>10.0} {:>8.2} {p50:>10.1?} {p99:>10.1?}",
                rate / yardstick
            );
        }
    }
}
