//! Webhooks on their way out: hands events on, claims what is due, tries it, and notes what came of it. The queue is a table of the ledger;
//! nothing that must not be lost is kept here.
//!
//! A crash before a try costs nothing; between a try and its note, the same event is sent once more under the same id. Order is not promised.
//!
//! A receiver that hangs holds few of the tries that run at once: an endpoint whose last try did not succeed, or only slowly, or that had none
//! yet, gets one at a time, and all of those together half of what there is. Others get a few each. So slow ones keep nobody waiting. Events
//! are handed on by the page, with claims in between, so that a flood of them keeps nothing waiting that is due.

use crate::clock::Clock;
use crate::decision::event::{Audience, Event, EventType};
use crate::decision::id::{AuditId, EventId};
use crate::decision::message::Voice;
use crate::decision::notice;
use crate::decision::webhook::retry::{self, Attempt, Disable, Next, Schedule};
use crate::decision::webhook::seal::SealKey;
use crate::decision::webhook::{Endpoint, Outgoing, disabled_data};
use crate::ledger::audit::{Audited, By, Subject};
use crate::ledger::webhooks::{Claimed, Claiming, Disabling, Finished, How, Noted, Relayed};
use crate::ledger::{Ledger, LedgerError};
use async_trait::async_trait;
use client::Client;
use futures_util::future::join_all;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub mod client;
pub mod dial;
mod run;

pub use run::{Closer, Running, start};

/// How many tries run at once, on one node.
pub const TRIES_AT_ONCE_MAX: usize = 512;
/// How many of them for endpoints whose last try did not soon succeed, or that had none.
pub const UNPROVEN_AT_ONCE_MAX: usize = 256;
/// How many tries run at once for one endpoint, over all nodes; of the others one does.
pub const TRIES_PER_ENDPOINT_MAX: usize = 4;
/// How many endpoints one claim takes from.
const CLAIM_ENDPOINTS_MAX: usize = 128;
/// How long a claim is good for: well beyond the longest try.
const CLAIM_SECONDS: i64 = 60;
/// How many events are handed on in one transaction, and before what is due is claimed again.
const RELAY_EVENTS_MAX: usize = 200;

/// Who is named in the audit log for what happens here.
const ACTOR: &str = "webhooks";

/// In whose words people are told that an endpoint is disabled.
#[async_trait]
pub trait Words: Send + Sync {
    async fn disabled(&self, endpoint: &Endpoint, why: Disable) -> String;
}

/// What hands on and delivers.
pub struct Worker {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    client: Arc<Client>,
    schedule: Schedule,
    seal: Option<Arc<SealKey>>,
    words: Arc<dyn Words>,
    slots: Slots,
}

/// What may run at once on this node.
struct Slots {
    all: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
}

impl Worker {
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        client: Arc<Client>,
        schedule: Schedule,
        seal: Option<Arc<SealKey>>,
        words: Arc<dyn Words>,
    ) -> Self {
        let slots = Slots {
            all: Arc::new(Semaphore::new(TRIES_AT_ONCE_MAX)),
            unproven: Arc::new(Semaphore::new(UNPROVEN_AT_ONCE_MAX)),
        };
        Self {
            ledger,
            clock,
            client,
            schedule,
            seal,
            words,
            slots,
        }
    }

    /// Hands on a page of the events that wait. True: more may wait.
    async fn relay(&self) -> Result<(Relayed, bool), LedgerError> {
        let now = self.clock.now();
        let relayed = self.ledger.relay_events(RELAY_EVENTS_MAX, now, self.schedule.first(now)).await?;
        metrics::counter!("weir_events_relayed_total").increment(relayed.events as u64);
        Ok((relayed, relayed.events >= RELAY_EVENTS_MAX))
    }

    /// Hands on what waits and tries all that is due, until nothing is. Returns how many tries there were. For whoever drives it by hand; a
    /// service runs [`start`].
    pub async fn deliver_due(&self) -> Result<usize, LedgerError> {
        let mut tries = 0;
        loop {
            let (_, is_more) = self.relay().await?;
            let mut claimed = self.claim(true).await?;
            claimed.extend(self.claim(false).await?);
            if claimed.is_empty() && !is_more {
                return Ok(tries);
            }
            tries += claimed.len();
            let finished = join_all(claimed.iter().map(|claimed| self.attempt(claimed))).await;
            self.note(finished).await?;
        }
    }

    /// Claims as much as there is room for, of endpoints whose last try soon succeeded or of the others.
    async fn claim(&self, proven: bool) -> Result<Vec<Claimed>, LedgerError> {
        let free = self.slots.all.available_permits();
        let (per_endpoint, free) = match proven {
            true => (TRIES_PER_ENDPOINT_MAX, free),
            false => (1, free.min(self.slots.unproven.available_permits())),
        };
        let endpoints = (free / per_endpoint).min(CLAIM_ENDPOINTS_MAX);
        if endpoints == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let claiming = Claiming {
            now,
            until: now.plus_seconds(CLAIM_SECONDS),
            proven,
            per_endpoint,
            endpoints,
            claim: self.clock.uuid().simple().to_string(),
        };
        self.ledger.claim_deliveries(claiming).await
    }

    /// Makes the try that was claimed.
    async fn attempt(&self, claimed: &Claimed) -> Finished {
        let finished = |how, disabling| Finished {
            delivery: claimed.delivery,
            endpoint: claimed.endpoint_id,
            claim: claimed.claim.clone(),
            how,
            disabling,
        };
        let endpoint = match &claimed.endpoint {
            None => return finished(How::Cancelled("endpoint_deleted"), None),
            Some(endpoint) if !endpoint.enabled => return finished(How::Cancelled("endpoint_disabled"), None),
            Some(endpoint) => endpoint,
        };
        let attempt = self.send(endpoint, claimed).await;
        let next = self.schedule.next(&attempt, claimed.tries.saturating_add(1), self.chance());
        let since = claimed.failing_since.unwrap_or(attempt.at);
        let disabling = match retry::disables(&attempt, since) {
            Some(why) => Some(self.disabling(endpoint, why, &attempt).await),
            None => None,
        };
        finished(How::Tried { attempt, next }, disabling)
    }

    async fn send(&self, endpoint: &Endpoint, claimed: &Claimed) -> Attempt {
        let now = self.clock.now();
        let secrets = self.seal.as_ref().and_then(|seal| endpoint.secrets(seal, now));
        let Some(secrets) = secrets else {
            return unsigned(now);
        };
        let outgoing = Outgoing::new(endpoint, claimed.event, &claimed.body, &secrets, now);
        let mut attempt = self.client.send(&outgoing, now).await;
        // What follows is counted from its end.
        attempt.at = self.clock.now();
        attempt
    }

    fn chance(&self) -> u32 {
        let mut bytes = [0; 4];
        self.clock.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    /// What is written if the endpoint ends with this try: its record, and the event that tells of it.
    async fn disabling(&self, endpoint: &Endpoint, why: Disable, attempt: &Attempt) -> Disabling {
        let at = attempt.at;
        let data = disabled_data(endpoint, why, at, &self.words.disabled(endpoint, why).await);
        let reason = notice::endpoint_disabled(Voice::english(), &endpoint.host(), why);
        let mut event = Event::new(
            EventId::from_uuid(self.clock.uuid()),
            endpoint.workspace.clone(),
            EventType::WebhookEndpointDisabled,
            format!("webhook_endpoint.disabled {} {}", endpoint.id, at.micros()),
            at,
            data,
        );
        let id = endpoint.id.to_string();
        let subject = match &endpoint.workspace {
            Some(workspace) => Subject::of(workspace, "webhook_endpoint", id),
            None => {
                event.audience = Audience::Operator;
                Subject::shared("webhook_endpoint", id)
            }
        };
        let before = endpoint.document();
        let mut after = before.clone();
        after["enabled"] = json!(false);
        after["disabled_reason"] = json!(why.as_str());
        let audited = Audited {
            id: AuditId::from_uuid(self.clock.uuid()),
            changed_at: at,
            by: By {
                actor: ACTOR.to_owned(),
                reason,
                request_id: None,
            },
            action: "webhook_endpoint.disable".to_owned(),
            subject,
            before: Some(before),
            after: Some(after),
        };
        Disabling { why, event, audited }
    }

    /// Writes what tries came to.
    async fn note(&self, finished: Vec<Finished>) -> Result<(), LedgerError> {
        let outcomes: Vec<&'static str> = finished.iter().map(|finished| outcome(&finished.how)).collect();
        let noted = self.ledger.finish_deliveries(finished).await?;
        for (noted, outcome) in noted.iter().zip(outcomes) {
            let outcome = if *noted == Noted::Lost { "lost" } else { outcome };
            metrics::counter!("weir_webhook_tries_total", "outcome" => outcome).increment(1);
            if *noted == Noted::Disabled {
                metrics::counter!("weir_webhook_endpoints_disabled_total").increment(1);
            }
        }
        Ok(())
    }
}

/// A try that was not made, because there is nothing to sign with.
fn unsigned(now: crate::decision::time::Timestamp) -> Attempt {
    Attempt {
        at: now,
        duration_ms: 0,
        status: None,
        retry_after_seconds: None,
        answer: String::new(),
        error: Some("its secret cannot be opened with the WEIR_SECRET_KEY of this service; rotate it".to_owned()),
    }
}

fn outcome(how: &How) -> &'static str {
    match how {
        How::Cancelled(_) => "cancelled",
        How::Tried { next, .. } => match next {
            Next::Delivered => "delivered",
            Next::Again(_) => "retried",
            Next::Failed => "failed",
        },
    }
}
