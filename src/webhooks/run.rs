//! The worker of a service: one loop that hands on and claims, a task for each try, one that notes what came of them together, and upkeep.
//! At the end nothing more is claimed, and what runs gets a few seconds; what is not noted by then is sent again under its id.

use super::Worker;
use crate::ledger::Lead;
use crate::ledger::LedgerError;
use crate::ledger::webhooks::{Claimed, Finished};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often it is looked whether something is due, if nothing makes it sooner.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After a failure of the ledger.
const PAUSE: Duration = Duration::from_secs(1);
/// How many outcomes are noted in one transaction.
const NOTE_MAX: usize = 128;
/// How often noting is tried before the claims are left to run out.
const NOTE_TRIES_MAX: u32 = 3;
/// How long running tries are waited for at the end.
const STOP_WITHIN: Duration = Duration::from_secs(5);
const UPKEEP_EVERY: Duration = Duration::from_secs(15);
/// In which of its rounds upkeep also prunes: ten minutes apart.
const PRUNE_EVERY_ROUNDS: u32 = 40;
/// How long deliveries are kept.
const KEPT_SECONDS: i64 = 30 * 24 * 3_600;
const PRUNE_ROWS: usize = 2_000;
const PRUNE_SLICES_MAX: usize = 50;
/// The name under which nodes agree on who prunes.
const LEAD: &str = "webhooks";

/// A worker that runs until it is stopped.
pub struct Running {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Says that a worker should end, for whoever does not wait for it.
#[derive(Clone, Debug)]
pub struct Closer(watch::Sender<bool>);

impl Closer {
    /// Nothing more is claimed from now on.
    pub fn close(&self) {
        self.0.send_replace(true);
    }
}

impl Running {
    pub fn closer(&self) -> Closer {
        Closer(self.stop.clone())
    }

    /// Ends it. What runs is waited for, for a while.
    pub async fn stop(self) {
        self.closer().close();
        for task in self.tasks {
            let abort = task.abort_handle();
            if timeout(STOP_WITHIN, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// Starts a worker.
pub fn start(worker: Arc<Worker>) -> Running {
    let (stop, stopped) = watch::channel(false);
    let (ended, outcomes) = mpsc::channel(super::TRIES_AT_ONCE_MAX);
    let noted = Arc::new(Notify::new());
    let tasks = vec![
        tokio::spawn(deliver(worker.clone(), ended, noted.clone(), stopped.clone())),
        tokio::spawn(note(worker.clone(), outcomes, noted)),
        tokio::spawn(keep_up(worker, stopped)),
    ];
    Running { stop, tasks }
}

async fn deliver(worker: Arc<Worker>, ended: mpsc::Sender<Finished>, noted: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
    let mut failed = false;
    while !*stopped.borrow() {
        let pause = match round(&worker, &ended).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => LOOK_EVERY,
            Err(error) => {
                if !failed {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "webhooks wait until the ledger answers again");
                }
                failed = true;
                PAUSE
            }
        };
        failed &= pause == PAUSE;
        tokio::select! {
            () = sleep(pause) => {}
            () = noted.notified() => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Hands on and claims what there is. True: there may be more.
async fn round(worker: &Arc<Worker>, ended: &mpsc::Sender<Finished>) -> Result<bool, LedgerError> {
    let mut work = worker.ledger.webhook_work(worker.clock.now()).await?;
    if work.events && worker.relay().await? > 0 {
        // Some of it may be for either kind of endpoint.
        (work.proven, work.unproven) = (true, true);
    }
    let mut claimed = 0;
    for (is_due, proven) in [(work.proven, true), (work.unproven, false)] {
        if is_due {
            let due = worker.claim(proven).await?;
            claimed += due.len();
            due.into_iter().for_each(|due| run(worker, due, proven, ended));
        }
    }
    Ok(claimed > 0)
}

/// Makes a try in a task of its own, which holds its place among those that run at once.
fn run(worker: &Arc<Worker>, claimed: Claimed, proven: bool, ended: &mpsc::Sender<Finished>) {
    let slots = &worker.slots;
    // Nobody else takes any, and no more was claimed than there were.
    let all = slots.all.clone().try_acquire_owned().ok();
    let unproven = (!proven).then(|| slots.unproven.clone().try_acquire_owned().ok()).flatten();
    let (worker, ended) = (worker.clone(), ended.clone());
    let places: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>) = (all, unproven);
    tokio::spawn(async move {
        let finished = worker.attempt(&claimed).await;
        // If nobody notes it any more it is sent again.
        ended.send(finished).await.ok();
        drop(places);
    });
}

/// Notes what tries came to, those together that ended together.
async fn note(worker: Arc<Worker>, mut outcomes: mpsc::Receiver<Finished>, noted: Arc<Notify>) {
    let mut batch = Vec::new();
    while outcomes.recv_many(&mut batch, NOTE_MAX).await > 0 {
        for attempt in 1..=NOTE_TRIES_MAX {
            match worker.note(batch.clone()).await {
                Ok(()) => break,
                Err(error) if attempt == NOTE_TRIES_MAX => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        count = batch.len(),
                        "it could not be noted what webhooks came to; they are sent again"
                    );
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
        batch.clear();
        noted.notify_one();
    }
}

/// Says how the queue stands, and forgets what is old.
async fn keep_up(worker: Arc<Worker>, mut stopped: watch::Receiver<bool>) {
    let (mut lead, mut rounds) = (None, 0u32);
    while !*stopped.borrow() {
        if let Err(error) = upkeep(&worker, &mut lead, rounds).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "the webhook queue is looked after in the next round");
        }
        rounds = rounds.wrapping_add(1);
        tokio::select! {
            () = sleep(UPKEEP_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn upkeep(worker: &Worker, lead: &mut Option<Box<dyn Lead>>, rounds: u32) -> Result<(), LedgerError> {
    let now = worker.clock.now();
    let state = worker.ledger.queue_state(now).await?;
    let lag = state.due_since.map_or(0, |since| since.seconds_until(now).max(0));
    metrics::gauge!("weir_webhook_queue_depth").set(state.pending as f64);
    metrics::gauge!("weir_webhook_queue_lag_seconds").set(lag as f64);
    let running = super::TRIES_AT_ONCE_MAX - worker.slots.all.available_permits();
    metrics::gauge!("weir_webhook_tries_running").set(running as f64);
    if !rounds.is_multiple_of(PRUNE_EVERY_ROUNDS) {
        return Ok(());
    }
    let is_held = match lead {
        Some(lead) => lead.is_held().await,
        None => false,
    };
    if !is_held {
        *lead = worker.ledger.try_lead(LEAD).await?;
    }
    if lead.is_some() {
        worker.prune().await?;
    }
    Ok(())
}

impl Worker {
    /// Forgets deliveries that are older than they are kept. Returns how many.
    pub async fn prune(&self) -> Result<usize, LedgerError> {
        let before = self.clock.now().plus_seconds(-KEPT_SECONDS);
        let mut deleted = 0;
        for _ in 0..PRUNE_SLICES_MAX {
            let slice = self.ledger.prune_deliveries(before, PRUNE_ROWS).await?;
            deleted += slice;
            if slice < PRUNE_ROWS {
                break;
            }
        }
        Ok(deleted)
    }
}
