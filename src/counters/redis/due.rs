//! What waits for the ledger, of all workspaces. The indexes are a ring that is gone around a page at a time, and each of them is one too: a
//! round goes on where the last one came to, so its work is bounded, and nothing waits for ever behind what cannot be ended.

use super::call::{Call, CallError};
use super::keys::TAGS;
use super::script;
use super::{RedisCounters, reservation};
use crate::counters::Record;
use crate::decision::time::Timestamp;
use futures_util::future::join_all;
use std::sync::{MutexGuard, PoisonError};

/// How many reservations one script looks at: a few milliseconds, in which the server answers nobody else.
const PAGE: usize = 128;
/// How many indexes of a cluster are asked at a time.
const TOGETHER: usize = 8;
/// How many members of an index are drawn in a round, to find holds that expired in idle workspaces: of a server few of each index, of a
/// cluster many of those that are asked first.
const DRAWN_OF_EACH: i64 = 2;
const DRAWN_OF_FIRST: i64 = 32;

/// Where the rounds came to.
#[derive(Clone)]
pub(super) struct Ring {
    /// The index with which the next one begins.
    tag: usize,
    /// Of each index that has more than a page: the last member that was looked at.
    behind: Vec<Option<Vec<u8>>>,
}

impl Ring {
    /// Each node begins elsewhere, so that several share the work.
    pub(super) fn new() -> Self {
        Self {
            tag: rand::random_range(0..TAGS),
            behind: vec![None; TAGS],
        }
    }

    fn tag(&self, steps: usize) -> usize {
        (self.tag + steps) % TAGS
    }
}

/// What one script saw.
struct Look {
    due: Vec<(Timestamp, Record)>,
    /// How many indexes it looked through, and where it stopped in the next one.
    through: usize,
    stopped: Option<Vec<u8>>,
}

impl RedisCounters {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks into each index once, until there are enough. A node of a cluster that is away does not hide what the others have.
    pub(super) async fn try_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CallError> {
        let mut ring = self.ring().clone();
        let (mut due, mut seen, mut failed) = (Vec::new(), 0, None);
        while seen < TAGS && due.len() < limit {
            let (calls, each) = match self.link.is_cluster() {
                true => (TOGETHER.min(TAGS - seen), 1),
                false => (1, TAGS - seen),
            };
            let page = (limit - due.len()).min(PAGE);
            let drawn = match (self.link.is_cluster(), seen) {
                (false, _) => DRAWN_OF_EACH,
                (true, 0) => DRAWN_OF_FIRST,
                (true, _) => 0,
            };
            let looks = (0..calls).map(|step| self.look(&ring, (step, each), (page, drawn), now));
            let mut step = 0;
            for look in join_all(looks).await {
                let look = match look {
                    Ok(look) => look,
                    Err(error) if self.link.is_cluster() => {
                        failed = Some(error);
                        step += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                for _ in 0..look.through {
                    let tag = ring.tag(step);
                    ring.behind[tag] = None;
                    step += 1;
                }
                if look.stopped.is_some() {
                    let tag = ring.tag(step);
                    ring.behind[tag] = look.stopped;
                    step += 1;
                }
                due.extend(look.due);
            }
            let step = step.max(1);
            seen += step;
            ring.tag = ring.tag(step);
        }
        if seen == TAGS {
            // Whole rounds begin elsewhere too.
            ring.tag = ring.tag(TOGETHER);
        }
        *self.ring() = ring;
        match failed {
            Some(error) if due.is_empty() => return Err(error),
            Some(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "some of what waits for the ledger was not seen"
            ),
            None => {}
        }
        due.sort_by_key(|(since, record)| (*since, record.reservation));
        // What is too much, of several nodes together, comes again.
        due.truncate(limit);
        Ok(due.into_iter().map(|(_, record)| record).collect())
    }

    /// Looks into `count` indexes, of which the first is `step` further than where the ring begins.
    async fn look(
        &self,
        ring: &Ring,
        (step, count): (usize, usize),
        (page, drawn): (usize, i64),
        now: Timestamp,
    ) -> Result<Look, CallError> {
        let mut call = Call::new(&script::DUE, (ring.tag(step) as u32) << 16, now);
        call.keys = (step..step + count).map(|step| self.keys.index(ring.tag(step))).collect();
        call.pack.int(page as i64).int(drawn).list(|list| {
            for step in step..step + count {
                match &ring.behind[ring.tag(step)] {
                    Some(member) => list.text(member),
                    None => list.no(),
                };
            }
        });
        let (_, mut reply) = self.send(&call).await?;
        let mut list = reply.list()?;
        let mut due = Vec::new();
        while list.len() >= 3 {
            let since = list.moment()?;
            let id = reservation(&list.text()?)?;
            due.push((since, list.record(id)?));
        }
        let through = reply.int()?;
        Ok(Look {
            due,
            through: usize::try_from(through).unwrap_or(count).min(count),
            stopped: reply.bytes_if_any()?,
        })
    }
}
