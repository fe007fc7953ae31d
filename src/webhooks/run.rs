//! The worker of a service: one loop that hands on and claims, a task for each try, one that notes what came of them together, and upkeep.
//! At the end nothing more is claimed, and what runs gets a few seconds; what is not noted by then is sent again under its id.

use super::Worker;
use crate::ledger::slices::{self, Cleared};
use crate::ledger::webhooks::{Claimed, Finished};
use crate::ledger::{Lead, LedgerError};
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
/// How many are given up, or deleted, in one transaction, and for how long a round does either; what is left the next round goes on with.
const PRUNE_ROWS: usize = 2_000;
const PRUNE_SECONDS_MAX: i64 = 10;
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
    let mut is_more = false;
    if work.events {
        let (relayed, more) = worker.relay().await?;
        is_more = more;
        // Some of it may be for either kind of endpoint.
        work.proven |= relayed.deliveries > 0;
        work.unproven |= relayed.deliveries > 0;
    }
    let mut claimed = 0;
    for (is_due, proven) in [(work.proven, true), (work.unproven, false)] {
        if is_due {
            let due = worker.claim(proven).await?;
            claimed += due.len();
            due.into_iter().for_each(|due| run(worker, due, proven, ended));
        }
    }
    Ok(is_more || claimed > 0)
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
    let mut upkeep = Upkeep::default();
    while !*stopped.borrow() {
        if let Err(error) = upkeep.round(&worker).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "the webhook queue is looked after in the next round");
        }
        tokio::select! {
            () = sleep(UPKEEP_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// What a node remembers of its upkeep from round to round.
#[derive(Default)]
struct Upkeep {
    lead: Option<Box<dyn Lead>>,
    rounds: u32,
    /// The time was over before all that is old had gone.
    is_behind: bool,
}

impl Upkeep {
    async fn round(&mut self, worker: &Worker) -> Result<(), LedgerError> {
        let is_due = self.rounds.is_multiple_of(PRUNE_EVERY_ROUNDS) || self.is_behind;
        self.rounds = self.rounds.wrapping_add(1);
        let now = worker.clock.now();
        let state = worker.ledger.queue_state(now).await?;
        let lag = state.due_since.map_or(0, |since| since.seconds_until(now).max(0));
        metrics::gauge!("weir_webhook_queue_depth").set(state.pending as f64);
        metrics::gauge!("weir_webhook_queue_lag_seconds").set(lag as f64);
        let running = super::TRIES_AT_ONCE_MAX - worker.slots.all.available_permits();
        metrics::gauge!("weir_webhook_tries_running").set(running as f64);
        if !is_due {
            return Ok(());
        }
        let is_held = match &mut self.lead {
            Some(lead) => lead.is_held().await,
            None => false,
        };
        if !is_held {
            self.lead = worker.ledger.try_lead(LEAD).await?;
        }
        // Who does not lead is not behind.
        self.is_behind = self.lead.is_some() && !worker.prune().await?.is_all;
        Ok(())
    }
}

impl Worker {
    /// Gives up what has waited too long to be tried, and forgets deliveries that are older than they are kept.
    pub async fn prune(&self) -> Result<Cleared, LedgerError> {
        let (now, ledger) = (|| self.clock.now(), &self.ledger);
        let due_before = now().plus_seconds(self.schedule.patience_seconds().saturating_neg());
        let give_up = |limit| ledger.give_up_deliveries(due_before, limit);
        let given_up = slices::clear(now, PRUNE_SECONDS_MAX, PRUNE_ROWS, give_up).await?;
        metrics::counter!("weir_webhook_deliveries_given_up_total").increment(given_up.rows as u64);
        let before = now().plus_seconds(-KEPT_SECONDS);
        let prune = |limit| ledger.prune_deliveries(before, limit);
        let pruned = slices::clear(now, PRUNE_SECONDS_MAX, PRUNE_ROWS, prune).await?;
        Ok(Cleared {
            rows: given_up.rows + pruned.rows,
            is_all: given_up.is_all && pruned.is_all,
        })
    }
}
