//! Somebody's endpoint: a small HTTP server on a real socket that does what its path says, well or badly, and remembers what it was sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// How a path answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// This status, these header lines, this body.
    Answers(u16, &'static str, String),
    /// Takes the request, and never answers.
    Hangs,
    /// Answers 200, and its body a byte at a time.
    Drips,
    /// Answers 200, and ten gigabytes.
    Floods,
    /// Closes the connection.
    HangsUp,
}

pub fn answers(status: u16) -> Manner {
    Manner::Answers(status, "", String::new())
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    manners: Mutex<HashMap<String, Manner>>,
    written: AtomicU64,
}

pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().expect("an address")).await
    }

    pub async fn start_on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<State>::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, state, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on this path answers like that; others answer 200.
    pub fn on(&self, path: &str, manner: Manner) {
        self.state
            .manners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), manner);
    }

    /// What this path was sent, in the order in which it came.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    /// When this event arrived first.
    pub fn at(&self, event: &str) -> Option<Instant> {
        let seen = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|seen| seen.header("webhook-id") == event).map(|seen| seen.at)
    }

    /// How many bytes of floods were taken.
    pub fn written(&self) -> u64 {
        self.state.written.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let Some(seen) = read(&mut stream).await else { return };
    let manner = state
        .manners
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&seen.path)
        .cloned();
    state.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    let head =
        |status: u16, length: u64, headers: &str| format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n").into_bytes();
    match manner.unwrap_or(answers(200)) {
        Manner::HangsUp => {}
        Manner::Hangs => std::future::pending().await,
        Manner::Answers(status, headers, body) => {
            let mut answer = head(status, body.len() as u64, headers);
            answer.extend_from_slice(body.as_bytes());
            stream.write_all(&answer).await.ok();
        }
        Manner::Drips => {
            stream.write_all(&head(200, 1_000_000, "")).await.ok();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Manner::Floods => {
            stream.write_all(&head(200, 10_000_000_000, "")).await.ok();
            let chunk = vec![b'x'; 64 * 1_024];
            while let Ok(count) = stream.write(&chunk).await {
                state.written.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(place) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break place;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        path,
        headers,
        body: String::from_utf8(body).ok()?,
        at: Instant::now(),
    })
}
