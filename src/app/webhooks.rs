//! Webhooks put together: the worker that delivers, and the messenger through which a flow sends a test.

use crate::decision::address::Range;
use crate::decision::time::Timestamp;
use crate::decision::webhook::retry::{Attempt, Disable};
use crate::decision::webhook::{Endpoint, Outgoing};
use crate::flow::Service;
use crate::flow::webhooks::{Messenger, disabled_message};
use crate::webhooks::client::{Client, ClientError, Limits};
use crate::webhooks::dial::{Names, SystemNames};
use crate::webhooks::{Words, Worker};
use async_trait::async_trait;
use std::sync::{Arc, OnceLock};

/// The worker of a service that resolves names by `names`; whoever makes it drives it, or starts it.
pub fn worker(service: &Arc<Service>, names: Arc<dyn Names>, limits: Limits) -> Result<Worker, ClientError> {
    let options = &service.options.webhooks;
    let client = Arc::new(Client::new(names, &options.allowed, limits)?);
    let (ledger, clock) = (service.ledger.clone(), service.clock.clone());
    let (schedule, seal) = (options.schedule.clone(), options.seal.clone());
    Ok(Worker::new(ledger, clock, client, schedule, seal, words(service)))
}

/// The words of a service's policy, as it is when they are said.
pub fn words(service: &Arc<Service>) -> Arc<dyn Words> {
    Arc::new(PolicyWords(service.clone()))
}

struct PolicyWords(Arc<Service>);

#[async_trait]
impl Words for PolicyWords {
    async fn disabled(&self, endpoint: &Endpoint, why: Disable) -> String {
        disabled_message(&self.0, endpoint, why).await
    }
}

/// What sends tests. Its client is made when it is needed first: most processes never do.
pub(super) struct LazyMessenger {
    allowed: Vec<Range>,
    client: OnceLock<Result<Client, ClientError>>,
}

impl LazyMessenger {
    pub(super) fn new(allowed: Vec<Range>) -> Self {
        Self {
            allowed,
            client: OnceLock::new(),
        }
    }
}

#[async_trait]
impl Messenger for LazyMessenger {
    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Attempt {
        let make = || Client::new(Arc::new(SystemNames), &self.allowed, Limits::default());
        match self.client.get_or_init(make) {
            Ok(client) => client.send(outgoing, now).await,
            Err(error) => Attempt {
                at: now,
                duration_ms: 0,
                status: None,
                retry_after_seconds: None,
                answer: String::new(),
                error: Some(error.to_string()),
            },
        }
    }
}
