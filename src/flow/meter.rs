//! Meters: what those see who watch a workspace live. One task for each workspace that is watched looks once a second, whoever wrote; any number
//! of watchers share what it saw. A watcher that is slow sees the newest state when it comes back, and the events in between by their
//! numbers: nothing piles up for it. Reads only.

use super::usage::{self, Forecast};
use super::{FlowError, Service};
use crate::decision::event::Event;
use crate::decision::id::{EventId, WorkspaceId};
use crate::ledger::events::EventQuery;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often a workspace that is watched is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most watchers of one workspace, and of one node.
pub const WATCHERS_PER_WORKSPACE_MAX: usize = 20;
pub const WATCHERS_MAX: usize = 500;
/// The most events that are told again to who comes back, the newest ones.
pub const REPLAY_EVENTS_MAX: i64 = 1_000;
/// How many events are read in one step.
pub const PAGE_EVENTS: usize = 100;

/// How a workspace stands.
#[derive(Clone, Debug)]
pub struct Beat {
    /// Of its newest event.
    pub number: i64,
    pub budgets: Arc<Vec<Forecast>>,
}

impl Beat {
    /// Whether something is to be told that `other` did not tell. A forecast moves with the clock alone.
    fn differs(&self, other: &Beat) -> bool {
        let views = |beat: &'_ Beat| beat.budgets.iter().map(|forecast| forecast.budget.clone()).collect::<Vec<_>>();
        self.number != other.number || views(self) != views(other)
    }
}

/// The workspaces that are watched on this node.
#[derive(Default)]
pub struct Meters {
    open: Mutex<HashMap<WorkspaceId, watch::Sender<Beat>>>,
    watchers: AtomicUsize,
}

impl Meters {
    fn open(&self) -> MutexGuard<'_, HashMap<WorkspaceId, watch::Sender<Beat>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why somebody may not watch.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("workspace {0} has {WATCHERS_PER_WORKSPACE_MAX} watchers, as many as it may")]
    TooManyOfWorkspace(WorkspaceId),
    #[error("this node has {WATCHERS_MAX} watchers, as many as it may")]
    TooMany,
    #[error(transparent)]
    Flow(#[from] FlowError),
}

/// A place among those who watch, given up when it is dropped.
pub struct Watching {
    pub beats: watch::Receiver<Beat>,
    service: Arc<Service>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let before = self.service.meters.watchers.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("weir_event_streams").set(before.saturating_sub(1) as f64);
    }
}

/// Watches a workspace from now on.
pub async fn watch(service: &Arc<Service>, workspace: &WorkspaceId) -> Result<Watching, WatchError> {
    let first = look(service, workspace).await?;
    let mut open = service.meters.open();
    if service.meters.watchers.load(Ordering::Relaxed) >= WATCHERS_MAX {
        return Err(WatchError::TooMany);
    }
    let known = open.get(workspace);
    if known.is_some_and(|meter| meter.receiver_count() >= WATCHERS_PER_WORKSPACE_MAX) {
        return Err(WatchError::TooManyOfWorkspace(workspace.clone()));
    }
    let beats = match known {
        Some(meter) => {
            // What was seen just now is news to the others too.
            meter.send_if_modified(|before| {
                let is_newer = first.number >= before.number && first.differs(before);
                if is_newer {
                    *before = first;
                }
                is_newer
            });
            meter.subscribe()
        }
        None => {
            let (meter, beats) = watch::channel(first);
            open.insert(workspace.clone(), meter.clone());
            tokio::spawn(run(service.clone(), workspace.clone(), meter));
            beats
        }
    };
    let watchers = service.meters.watchers.fetch_add(1, Ordering::Relaxed) + 1;
    metrics::gauge!("weir_event_streams").set(watchers as f64);
    Ok(Watching {
        beats,
        service: service.clone(),
    })
}

/// Looks for as long as somebody watches.
async fn run(service: Arc<Service>, workspace: WorkspaceId, meter: watch::Sender<Beat>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        {
            let mut open = service.meters.open();
            if meter.receiver_count() == 0 {
                open.remove(&workspace);
                return;
            }
        }
        match look(&service, &workspace).await {
            Ok(now) => {
                meter.send_if_modified(|before| {
                    let differs = now.differs(before);
                    if differs {
                        *before = now;
                    }
                    differs
                });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(%workspace, error, "those who watch see it as it was");
            }
        }
    }
}

async fn look(service: &Service, workspace: &WorkspaceId) -> Result<Beat, FlowError> {
    let newest = service.ledger.newest_events(std::slice::from_ref(workspace)).await?;
    let (_, number) = newest.first().ok_or(FlowError::NotFound)?;
    Ok(Beat {
        number: *number,
        budgets: Arc::new(usage::usage(service, workspace, None).await?),
    })
}

/// After which number who has seen `seen` goes on, where the newest event has number `newest`.
pub async fn resume(service: &Service, workspace: &WorkspaceId, seen: Option<EventId>, newest: i64) -> Result<i64, FlowError> {
    let number = match seen {
        Some(seen) => service.ledger.event_number(workspace, seen).await?,
        None => None,
    };
    // Of an event that is not kept any more nobody knows what came after it: as much is told again as may be.
    Ok(number.unwrap_or(0).max(newest - REPLAY_EVENTS_MAX))
}

/// The next events of a workspace after a number, each with its own.
pub async fn next(service: &Service, workspace: &WorkspaceId, number: i64) -> Result<Vec<(i64, Event)>, FlowError> {
    Ok(service.ledger.events_after(workspace, number, PAGE_EVENTS).await?)
}

/// Events as a list.
pub async fn list(service: &Service, query: &EventQuery) -> Result<Vec<Event>, FlowError> {
    Ok(service.ledger.events(query).await?)
}
