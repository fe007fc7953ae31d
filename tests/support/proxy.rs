//! A TCP proxy that loses things on purpose. It knows no protocol: bytes go to the server, and what becomes of its replies is told. Who knows
//! the protocol may watch its connections.

#![allow(dead_code, reason = "each suite uses what it needs")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What becomes of the server's replies from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    Forwarded,
    /// The server is heard, and the client hears nothing.
    Dropped,
    /// Each piece comes so much later.
    Delayed(Duration),
}

/// Reads what goes through one connection, and says what of it goes on.
pub trait Watcher: Send {
    /// What the server is sent of what the client has sent.
    fn asked(&mut self, bytes: &[u8]) -> Vec<u8>;

    /// What the client is sent of what the server has sent.
    fn answered(&mut self, bytes: &[u8]) -> Vec<u8>;
}

/// Makes a watcher for each connection.
pub type Watch = Box<dyn Fn() -> Box<dyn Watcher> + Send + Sync>;

/// A proxy before one server. Its threads end with the connections.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: Mutex<SocketAddr>,
    replies: Mutex<Replies>,
    /// While this is set, connections are refused.
    is_cut: AtomicBool,
    is_over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    /// How many bytes of replies were kept from clients.
    dropped: AtomicU64,
    /// How often all connections that there were have been abandoned.
    abandoned: AtomicU64,
    watch: Option<Watch>,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Self {
        Self::before(server, None)
    }

    pub fn watched(server: SocketAddr, watch: Watch) -> Self {
        Self::before(server, Some(watch))
    }

    fn before(server: SocketAddr, watch: Option<Watch>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            server: Mutex::new(server),
            replies: Mutex::new(Replies::Forwarded),
            is_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            connections: Mutex::new(Vec::new()),
            dropped: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            watch,
        });
        let accepting = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.is_over.load(Ordering::SeqCst) {
                    break;
                }
                if !accepting.is_cut.load(Ordering::SeqCst) {
                    accepting.connect(client);
                }
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn replies(&self, replies: Replies) {
        *self.state.replies.lock().unwrap_or_else(PoisonError::into_inner) = replies;
    }

    /// New connections go to this server from now on; those that there are stay where they are.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.state.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// How many bytes of replies clients did not get to see.
    pub fn dropped_bytes(&self) -> u64 {
        self.state.dropped.load(Ordering::SeqCst)
    }

    /// Of the connections that there are no reply comes any more, and nobody is told, as when a machine has lost its power; new ones are
    /// served.
    pub fn abandon(&self) {
        self.state.abandoned.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends all connections, and refuses new ones until it is mended.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::SeqCst);
        self.cut_once();
    }

    /// Ends the connections that there are; new ones are served.
    pub fn cut_once(&self) {
        let mut connections = self.state.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in connections.drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Forwards everything again.
    pub fn mend(&self) {
        self.replies(Replies::Forwarded);
        self.state.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts, so that it sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let address = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(server) = TcpStream::connect(address) else { return };
        // Small messages are what is tested here.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (Ok(to_server), Ok(from_client)) = (server.try_clone(), client.try_clone()) else {
            return;
        };
        let (Ok(held_client), Ok(held_server)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.extend([held_client, held_server]);
        drop(connections);
        let watcher = self.watch.as_ref().map(|watch| Arc::new(Mutex::new(watch())));
        let asking = watcher.clone();
        std::thread::spawn(move || {
            pump(from_client, to_server, |bytes| match &asking {
                Some(watcher) => watcher.lock().unwrap_or_else(PoisonError::into_inner).asked(bytes),
                None => bytes.to_vec(),
            })
        });
        let (state, born) = (self.clone(), self.abandoned.load(Ordering::SeqCst));
        let lives = move |state: &Self| state.abandoned.load(Ordering::SeqCst) == born;
        std::thread::spawn(move || {
            pump(server, client, |bytes| {
                if !lives(&state) || !state.lets_pass(bytes.len()) {
                    return Vec::new();
                }
                match &watcher {
                    Some(watcher) => watcher.lock().unwrap_or_else(PoisonError::into_inner).answered(bytes),
                    None => bytes.to_vec(),
                }
            })
        });
    }

    fn lets_pass(&self, bytes: usize) -> bool {
        let replies = *self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        match replies {
            Replies::Forwarded => true,
            Replies::Dropped => {
                self.dropped.fetch_add(bytes as u64, Ordering::SeqCst);
                false
            }
            Replies::Delayed(by) => {
                std::thread::sleep(by);
                true
            }
        }
    }
}

/// Moves what is let through until one side ends, then ends the other one.
fn pump(mut from: TcpStream, mut to: TcpStream, mut let_through: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut piece = [0; 16 * 1024];
    while let Ok(length) = from.read(&mut piece) {
        if length == 0 || to.write_all(&let_through(&piece[..length])).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
