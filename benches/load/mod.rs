//! What both benchmarks of the service share: a yardstick, servers as processes, a connection with one request under way, and figures.

#![allow(dead_code, reason = "each benchmark uses what it needs")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The yardstick has the service's allocator, so that a ratio to it says nothing about allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves as the yardstick if that is what this process was started for: with `--yardstick ANSWER_BYTES`.
pub fn serve_if_yardstick() -> bool {
    let mut args = std::env::args().skip_while(|arg| arg != "--yardstick").skip(1);
    let Some(bytes) = args.next() else { return false };
    let bytes = bytes.parse().expect("--yardstick ANSWER_BYTES");
    actix_web::rt::System::new()
        .block_on(yardstick(bytes))
        .expect("the yardstick serves");
    true
}

/// An actix server whose only handler reads a body and answers a constant one.
async fn yardstick(bytes: usize) -> std::io::Result<()> {
    use actix_web::{App, HttpResponse, HttpServer, web};
    let answer: &'static str = Box::leak("x".repeat(bytes).into_boxed_str());
    let server = HttpServer::new(move || {
        let handler = move |_body: web::Bytes| async move { HttpResponse::Ok().content_type("application/json").body(answer) };
        App::new().route("/v1/authorize", web::post().to(handler))
    })
    .bind("127.0.0.1:0")?;
    println!("http://{}", server.addrs()[0]);
    server.run().await
}

/// A server process, ended with this value.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split("http://")
                    .nth(1)
                    .map(|rest| rest.split([' ', '/']).next().unwrap_or_default().to_owned())
            })
            .expect("the server tells its address");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// Resident memory in bytes, as the kernel tells it.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection with one request under way.
pub struct Connection {
    stream: TcpStream,
    pub buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
        }
    }

    /// Sends a request and reads the whole answer; its body is in the buffer from the returned place on.
    pub async fn send(&mut self, request: &[u8]) -> (u16, usize) {
        self.stream.write_all(request).await.expect("the request is sent");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(read > 0, "the server hung up");
            let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&self.buffer[..head]).expect("a head of text");
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if self.buffer.len() >= head + 4 + length.unwrap_or(0) {
                return (text[9..12].parse().expect("a status"), head + 4);
            }
        }
    }
}

#[derive(Default)]
pub struct Figures {
    pub rates: Vec<f64>,
    pub latencies: Vec<Duration>,
}

impl Figures {
    pub fn rate(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }

    pub fn percentile(&mut self, percent: usize) -> Duration {
        self.latencies.sort_unstable();
        self.latencies[(self.latencies.len() * percent / 100).min(self.latencies.len() - 1)]
    }
}

pub fn request(address: &str, method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Processor time that a process has used, as the kernel counts it: in hundredths of a second.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The program's name, which may have spaces, stands in parentheses.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
