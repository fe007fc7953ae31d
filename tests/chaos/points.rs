//! Named points of the flows, as they are seen from outside: a script that a node sends to Redis, the call that writes posts to PostgreSQL,
//! and the answers to both. A trap kills the node with SIGKILL at one of them: before the store has heard of it, or after the store has
//! answered and before the node has heard that.

use super::node::Node;
use super::support::proxy::{Watch, Watcher};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a node asks a store to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Hold,
    Claim,
    Apply,
    Begin,
    Finish,
    Post,
}

/// The scripts by words that stand in no other one.
const SCRIPTS: [(Act, &str); 5] = [
    (Act::Hold, "-- Nearly every hold:"),
    (Act::Claim, "-- Claims a live hold for a report"),
    (Act::Apply, "-- Copies what a commit changed:"),
    (Act::Begin, "-- Begins the rebuild of one group,"),
    (Act::Finish, "-- Ends a rebuild with what was read"),
];
/// In the statement that writes posts.
const POSTS: &str = "post_batch_watched";
/// An answer of Redis behind the one that is waited for.
const MARK: &str = "what was asked before this is answered";
/// With what a client of PostgreSQL asks for TLS first, where the protocol's number would be.
const TLS_REQUEST: u32 = 80_877_103;

/// When the node dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// On its way.
    Sent,
    /// Done, and nobody knows.
    Answered,
}

struct Armed {
    act: Act,
    when: When,
    /// Stands in what is sent.
    about: String,
}

/// Waits for one node to come to a point.
#[derive(Default)]
pub struct Trap {
    node: OnceLock<Arc<Node>>,
    armed: Mutex<Option<Armed>>,
    has_sprung: AtomicBool,
    /// Scripts by their hashes, known from when they were sent whole.
    scripts: Mutex<HashMap<String, Act>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trap {
    pub fn for_node(&self, node: Arc<Node>) {
        assert!(self.node.set(node).is_ok(), "a trap is for one node");
    }

    pub fn arm(&self, act: Act, when: When, about: &str) {
        self.has_sprung.store(false, Ordering::SeqCst);
        *lock(&self.armed) = Some(Armed {
            act,
            when,
            about: about.to_owned(),
        });
    }

    pub fn has_sprung(&self) -> bool {
        self.has_sprung.load(Ordering::SeqCst)
    }

    /// Whether each script was seen.
    pub fn knows_all(&self) -> bool {
        let known = lock(&self.scripts);
        SCRIPTS.iter().all(|(act, _)| known.values().any(|other| other == act))
    }

    fn catches(&self, act: Act, message: &[u8]) -> Option<When> {
        let mut armed = lock(&self.armed);
        let caught = armed.take_if(|armed| armed.act == act && contains(message, armed.about.as_bytes()))?;
        Some(caught.when)
    }

    fn spring(&self) {
        self.node.get().expect("a node").kill();
        self.has_sprung.store(true, Ordering::SeqCst);
    }

    fn script(&self, command: &[&[u8]]) -> Option<Act> {
        let [name, what, ..] = command else { return None };
        let text = String::from_utf8_lossy(what);
        match *name {
            b"EVALSHA" => lock(&self.scripts).get(&*text).copied(),
            b"EVAL" => {
                let (act, _) = SCRIPTS.iter().find(|(_, words)| text.contains(words))?;
                let hash = ::redis::Script::new(&text).get_hash().to_owned();
                lock(&self.scripts).insert(hash, *act);
                Some(*act)
            }
            _ => None,
        }
    }
}

/// Watches a node's connections to Redis.
pub fn before_redis(trap: &Arc<Trap>) -> Watch {
    let trap = trap.clone();
    Box::new(move || {
        Box::new(ToRedis {
            trap: trap.clone(),
            asked: Vec::new(),
            heard: Vec::new(),
            is_caught: false,
        })
    })
}

/// Watches a node's connections to PostgreSQL.
pub fn before_postgres(trap: &Arc<Trap>) -> Watch {
    let trap = trap.clone();
    Box::new(move || {
        Box::new(ToPostgres {
            trap: trap.clone(),
            asked: Vec::new(),
            heard: Vec::new(),
            has_begun: false,
            statements: HashMap::new(),
            is_caught: false,
            is_over: false,
        })
    })
}

struct ToRedis {
    trap: Arc<Trap>,
    /// What is not a whole command yet.
    asked: Vec<u8>,
    heard: Vec<u8>,
    /// The command has gone to the server, and nothing comes back any more.
    is_caught: bool,
}

impl Watcher for ToRedis {
    fn asked(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut on = Vec::new();
        if self.is_caught {
            return on;
        }
        self.asked.extend_from_slice(bytes);
        while let Some((length, command)) = command(&self.asked) {
            let act = self.trap.script(&command);
            let message: Vec<u8> = self.asked.drain(..length).collect();
            match act.and_then(|act| self.trap.catches(act, &message)) {
                None => on.extend(message),
                Some(When::Sent) => {
                    self.is_caught = true;
                    self.trap.spring();
                    return on;
                }
                Some(When::Answered) => {
                    self.is_caught = true;
                    on.extend(message);
                    on.extend(format!("*2\r\n$4\r\nECHO\r\n${}\r\n{MARK}\r\n", MARK.len()).into_bytes());
                    return on;
                }
            }
        }
        on
    }

    fn answered(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.is_caught {
            return bytes.to_vec();
        }
        self.heard.extend_from_slice(bytes);
        if contains(&self.heard, MARK.as_bytes()) {
            self.heard.clear();
            self.trap.spring();
        }
        Vec::new()
    }
}

struct ToPostgres {
    trap: Arc<Trap>,
    /// What is not a whole message yet, of both sides.
    asked: Vec<u8>,
    heard: Vec<u8>,
    has_begun: bool,
    /// What each prepared statement says.
    statements: HashMap<Vec<u8>, Vec<u8>>,
    /// The call has gone to the server, and what comes back waits for whether it has committed.
    is_caught: bool,
    /// Nothing goes to the server any more.
    is_over: bool,
}

impl ToPostgres {
    /// Learns what a message prepares, or says that it calls what writes posts.
    fn posts(&mut self, message: &[u8]) -> bool {
        let mut texts = message[5..].split(|byte| *byte == 0);
        let (Some(first), Some(second)) = (texts.next(), texts.next()) else {
            return false;
        };
        match message[0] {
            b'P' => {
                self.statements.insert(first.to_vec(), second.to_vec());
                false
            }
            b'B' => self
                .statements
                .get(second)
                .is_some_and(|statement| contains(statement, POSTS.as_bytes())),
            _ => false,
        }
    }
}

impl Watcher for ToPostgres {
    fn asked(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut on = Vec::new();
        self.asked.extend_from_slice(bytes);
        while !self.is_over {
            // The first message has no letter before its length, nor has the question for TLS before that.
            let letter = usize::from(self.has_begun);
            let Some(length) = number(&self.asked, letter).map(|length| letter + length as usize) else {
                break;
            };
            if self.asked.len() < length {
                break;
            }
            let message: Vec<u8> = self.asked.drain(..length).collect();
            if !self.has_begun {
                self.has_begun = number(&message, 4) != Some(TLS_REQUEST);
            } else if self.posts(&message)
                && let Some(when) = self.trap.catches(Act::Post, &message)
            {
                if when == When::Sent {
                    self.is_over = true;
                    self.trap.spring();
                    return on;
                }
                self.is_caught = true;
            }
            on.extend(message);
        }
        on
    }

    fn answered(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.is_caught {
            return bytes.to_vec();
        }
        self.heard.extend_from_slice(bytes);
        let mut whole = 0;
        while let Some(length) = number(&self.heard[whole..], 1) {
            let message = &self.heard[whole..];
            if message.len() <= length as usize {
                break;
            }
            // Ready for the next one: idle after a commit, or within a transaction.
            if message[0] == b'Z' && message[5] == b'I' {
                self.heard.clear();
                self.trap.spring();
                return Vec::new();
            }
            whole += 1 + length as usize;
            if self.heard[whole - 1 - length as usize] == b'Z' {
                return self.heard.drain(..whole).collect();
            }
        }
        Vec::new()
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|some| some == what)
}

/// Four bytes as PostgreSQL writes a number.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().expect("four bytes")))
}

/// The first command of what a client of Redis sends, and how long it is; `None`: it is not whole yet.
fn command(bytes: &[u8]) -> Option<(usize, Vec<&[u8]>)> {
    let mut at = 0;
    let count = header(bytes, &mut at, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = header(bytes, &mut at, b'$')?;
        words.push(bytes.get(at..at + length)?);
        at += length + 2;
    }
    (at <= bytes.len()).then_some((at, words))
}

fn header(bytes: &[u8], at: &mut usize, letter: u8) -> Option<usize> {
    let line = bytes.get(*at..)?;
    let length = line.iter().position(|byte| *byte == b'\n')?;
    assert_eq!(line[0], letter, "clients of Redis send arrays of texts");
    let text = std::str::from_utf8(&line[1..length - 1]).expect("a number");
    *at += length + 1;
    Some(text.parse().expect("a number"))
}
