//! For values that belong to a workspace and are no counters, such as kept answers: the same connections, and keys in the workspace's slot.
//! Knows nothing of what they are. Losing them costs nothing but work.

use super::RedisCounters;
use super::keys::{Keys, tag_of};
use super::link::Link;
use crate::counters::CountersError;
use crate::decision::id::ReservationId;
use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::fmt::Arguments;
use std::sync::Arc;

const ACT: &str = "reach what lies beside the counters";

/// A script of somebody else, as it is sent.
pub struct OwnScript {
    code: &'static str,
    hash: String,
}

impl OwnScript {
    pub fn new(code: &'static str) -> Self {
        let hash = ::redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }
}

/// The way to what lies beside the counters.
pub struct Beside {
    link: Arc<Link>,
    keys: Keys,
}

impl RedisCounters {
    pub(super) fn open_beside(&self) -> Beside {
        Beside {
            link: self.link.clone(),
            keys: self.keys.clone(),
        }
    }
}

impl Beside {
    /// A key in the slot of a workspace.
    pub fn key(&self, slot: u32, rest: Arguments<'_>) -> String {
        self.keys.below(tag_of(slot), rest)
    }

    /// The key of a reservation's record, for scripts that ask whether there is one.
    pub fn reservation(&self, id: ReservationId) -> String {
        self.keys.reservation(id)
    }

    /// A command of keys and arguments, which may be sent twice.
    pub async fn command(&self, name: &str, keys: &[String], args: &[&[u8]]) -> Result<Value, CountersError> {
        let mut command = ::redis::cmd(name);
        command.arg(keys).arg(args);
        self.send(&command).await.map_err(failed)
    }

    /// A script over keys of one slot, which may run twice. It is loaded where it is missing.
    pub async fn run(&self, script: &OwnScript, keys: &[String], args: &[&[u8]]) -> Result<Value, CountersError> {
        let command = |name: &str, what: &str| {
            let mut command = ::redis::cmd(name);
            command.arg(what).arg(keys.len()).arg(keys).arg(args);
            command
        };
        match self.send(&command("EVALSHA", &script.hash)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(&command("EVAL", script.code)).await.map_err(failed)
            }
            answer => answer.map_err(failed),
        }
    }

    /// Once more on another connection, where one broke off.
    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        match self.link.send_after_moves(command).await {
            Err(error) if error.is_connection_dropped() => self.link.send_after_moves(command).await,
            answer => answer,
        }
    }
}

fn failed(error: RedisError) -> CountersError {
    CountersError {
        act: ACT,
        cause: error.into(),
    }
}
