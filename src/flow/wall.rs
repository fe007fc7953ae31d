//! Walls: a customer whose requests are refused is told that its budget is at its limit, although its use never came to the very figure:
//! what is left is too little for what it does, or the limit was lowered below what was used already.
//!
//! Authorize only notes that a budget stood in the way; whether it does is asked of the ledger in the background, and told as the level that
//! use would have reached, once in a period under the same name. A crash loses what was noted in the last quarter of a second, and the next
//! denial notes it again.

use super::prepare::Ready;
use super::{FlowError, Service, rebuild};
use crate::decision::counter::Balance;
use crate::decision::id::WorkspaceId;
use crate::decision::level::{self, Watch};
use crate::decision::refusal::BlockedBy;
use crate::decision::verdict;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many wait to be told; what is beyond them is noted by a later denial.
const WAITING_MAX: usize = 1_024;
/// How many are remembered as told; beyond it, they are forgotten, and the ledger knows that they happened.
const KNOWN_MAX: usize = 100_000;

/// What this node knows of budgets that stood in the way.
#[derive(Default)]
pub struct Walls {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Noted or told: its workspace and what it is told under.
    known: HashSet<(WorkspaceId, String)>,
    waiting: Vec<Wall>,
}

/// A budget that stood in the way of a request.
struct Wall {
    workspace: WorkspaceId,
    /// Its limits are raised by what was granted.
    watch: Watch,
    need: i64,
    line: i64,
}

impl Wall {
    fn key(&self) -> (WorkspaceId, String) {
        let once = level::once_at_limit(self.watch.budget(), &self.watch.counter, self.line);
        (self.workspace.clone(), once)
    }
}

impl Walls {
    fn add(&self, wall: Wall) {
        let key = wall.key();
        let mut seen = self.seen();
        if seen.waiting.len() >= WAITING_MAX || seen.known.contains(&key) {
            return;
        }
        if seen.known.len() >= KNOWN_MAX {
            seen.known.clear();
        }
        seen.known.insert(key);
        seen.waiting.push(wall);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes which budgets stand in the way of a request that found these balances.
pub(super) fn note(service: &Service, ready: &Ready, balances: &[Balance]) {
    let ladder = &ready.compiled.ladder;
    for short in verdict::shortages(ladder, balances) {
        let limited = ladder.limits.budgets[short.limited];
        let balance = balances[limited.counter];
        if short.by != BlockedBy::Spent || !level::is_wall(short.need, short.ceiling, balance.spent) {
            continue;
        }
        service.walls.add(Wall {
            workspace: ready.compiled.context.ask.workspace.clone(),
            watch: Watch {
                plan: ladder.plan.clone(),
                messages: ready.messages().clone(),
                limited: limited.raised(balance),
                counter: ladder.limits.counters[limited.counter].clone(),
                floor: short.ceiling,
                known: None,
                seed: service.clock.uuid(),
            },
            need: short.need,
            line: short.ceiling,
        });
    }
}

/// Tells of those that were noted, and says how many events are new. What could not be told is forgotten: the next denial notes it again.
pub async fn tell(service: &Service) -> Result<usize, FlowError> {
    let noted = std::mem::take(&mut service.walls.seen().waiting);
    let (mut told, mut failed) = (0, None);
    for wall in noted {
        match tell_one(service, &wall).await {
            Ok(Some(count)) => told += count,
            Ok(None) => _ = service.walls.seen().known.remove(&wall.key()),
            Err(error) => {
                service.walls.seen().known.remove(&wall.key());
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(told), Err)
}

/// `None`: by the ledger it does not stand there, or not yet.
async fn tell_one(service: &Service, wall: &Wall) -> Result<Option<usize>, FlowError> {
    let counter = &wall.watch.counter;
    let rows = rebuild::committed(service, &wall.workspace, std::slice::from_ref(counter))
        .await?
        .rows;
    let spent = rows.iter().find(|row| row.counter == *counter).map_or(0, |row| row.spent);
    if spent.saturating_add(wall.need) <= wall.line || !level::is_wall(wall.need, wall.line, spent) {
        return Ok(None);
    }
    let event = level::wall(&wall.watch, &wall.workspace, (wall.line, wall.need), spent, service.clock.now());
    Ok(Some(service.ledger.append_events(vec![event]).await?.len()))
}
