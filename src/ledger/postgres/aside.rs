//! Writes that go by themselves: those of a workspace whose lock somebody keeps, or whose statement takes long, such as the birth of a sum
//! over a million entries. A task of their own has them written in their order, on a connection that is in no hurry; the writers go on with
//! the others, and what comes for such a workspace meanwhile goes after it. A few are under way at once, and all that wait are bounded.

use super::batch;
use super::fault::Fault;
use super::server::{Pace, Server};
use super::writer::{BATCH_WRITES_MAX, Job, Line, QUEUE_WRITES_MAX};
use crate::decision::id::WorkspaceId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// How many workspaces are written by themselves at once, each over a connection.
const AT_ONCE: u32 = 4;

pub(super) struct Aside {
    server: Arc<Server>,
    waiting: Mutex<Waiting>,
    /// Connections that nobody uses at the moment.
    lines: Mutex<Vec<Line>>,
    turns: Semaphore,
}

#[derive(Default)]
struct Waiting {
    /// Of each workspace that a task is at.
    lanes: HashMap<WorkspaceId, Vec<Job>>,
    count: usize,
}

impl Waiting {
    /// Puts a write behind the others of its workspace, where there is room.
    fn push(&mut self, job: Job) {
        if self.count >= QUEUE_WRITES_MAX {
            job.fail(&Fault::Full);
        } else {
            self.count += 1;
            self.lanes.entry(job.workspace().clone()).or_default().push(job);
        }
    }
}

impl Aside {
    pub(super) fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            server,
            waiting: Mutex::default(),
            lines: Mutex::default(),
            turns: Semaphore::new(AT_ONCE as usize),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those whose workspace is written by itself already, and returns the others.
    pub(super) fn join(&self, jobs: Vec<Job>) -> Vec<Job> {
        let mut waiting = self.waiting();
        if waiting.lanes.is_empty() {
            return jobs;
        }
        let (theirs, others): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| waiting.lanes.contains_key(job.workspace()));
        theirs.into_iter().for_each(|job| waiting.push(job));
        others
    }

    /// Has writes of one workspace written by themselves.
    pub(super) fn take(self: &Arc<Self>, jobs: Vec<Job>) {
        let Some(workspace) = jobs.first().map(|job| job.workspace().clone()) else {
            return;
        };
        let mut waiting = self.waiting();
        if let Entry::Vacant(lane) = waiting.lanes.entry(workspace.clone()) {
            lane.insert(Vec::new());
            tokio::spawn(self.clone().write_all(workspace));
        }
        jobs.into_iter().for_each(|job| waiting.push(job));
    }

    async fn write_all(self: Arc<Self>, workspace: WorkspaceId) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let rested = self.lines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut line = rested.unwrap_or_else(|| Line::closed(&self.server, Pace::Patient));
        while let Some(jobs) = self.next(&workspace) {
            line = batch::write_apart(line, jobs).await;
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// What waits of a workspace; `None`: nothing does, and the next that comes is the writers' again.
    fn next(&self, workspace: &WorkspaceId) -> Option<Vec<Job>> {
        let mut waiting = self.waiting();
        let lane = waiting.lanes.get_mut(workspace)?;
        let rest = lane.split_off(lane.len().min(BATCH_WRITES_MAX));
        let jobs = std::mem::replace(lane, rest);
        if jobs.is_empty() {
            waiting.lanes.remove(workspace);
            return None;
        }
        waiting.count -= jobs.len();
        Some(jobs)
    }

    /// Waits for all that was taken before.
    pub(super) async fn finish(&self) {
        while !self.waiting().lanes.is_empty() {
            // Whoever waits for a turn has it before all of them are free at once.
            drop(self.turns.acquire_many(AT_ONCE).await);
            tokio::task::yield_now().await;
        }
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        for line in lines {
            line.close().await;
        }
    }
}
