//! Stripe: meter events under identifiers that it takes once, what it has summed up, and credit grants.
//!
//! One call is one try. The identifier is what makes a repetition harmless; the idempotency key is another one for each try, because Stripe
//! replays what it once answered under a key, a fault of its own too; credits, which have no identifier, keep theirs until an answer came.
//! What a failed call says is decided in [`answer`], and nowhere else.
//!
//! Never logs, shows or returns the secret key.

mod answer;
mod credits;
mod events;
mod meters;

use super::{Answer, Credit, CreditAnswer, Fetched, Outgoing, Provider, SummaryQuery, Terms, Untold};
use crate::clock::Clock;
use crate::config::Secret;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use events::Events;
use meters::{Known, Meters};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError, StripeRequest};
use stripe_billing::billing_meter::RetrieveBillingMeter;
use stripe_billing::billing_meter_event::CreateBillingMeterEvent;
use stripe_billing::billing_meter_event_summary::ListIdBillingMeterEventSummary;

/// How long one call may take in all. Stripe says that its own limit is below that.
const CALL_SECONDS_MAX: u64 = 30;
/// How often a read is tried.
const READS_MAX: u32 = 3;
/// Stripe takes a thousand meter events a second from a live account, and other calls count too.
const CALLS_PER_SECOND: u32 = 200;
/// The most that a sum may be for a number of JSON to hold it exactly.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What an account is reached by.
#[derive(Clone, Debug)]
pub struct StripeSettings {
    pub secret_key: Secret<String>,
    /// Such as `https://api.stripe.com`.
    pub api_base: String,
    pub timeout: Duration,
}

impl StripeSettings {
    pub fn new(secret_key: Secret<String>, api_base: &str) -> Self {
        Self {
            secret_key,
            api_base: api_base.to_owned(),
            timeout: Duration::from_secs(CALL_SECONDS_MAX),
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("WEIR_STRIPE_SECRET_KEY or WEIR_STRIPE_API_BASE cannot be used: {0}")]
pub struct Unusable(String);

/// One account of Stripe.
pub struct Stripe {
    client: Client,
    meters: Meters,
    events: Events,
    clock: Arc<dyn Clock>,
}

impl Stripe {
    pub fn new(settings: &StripeSettings, clock: Arc<dyn Clock>) -> Result<Self, Unusable> {
        // The client joins paths to the end of it.
        let base = format!("{}/", settings.api_base.trim_end_matches('/'));
        let client = ClientBuilder::new(settings.secret_key.expose().as_str())
            .url(base)
            .timeout(settings.timeout);
        let client = client.app_info("weir", Some(env!("CARGO_PKG_VERSION").to_owned()), None).build();
        Ok(Self {
            client: client.map_err(|error| Unusable(answer::told(&error)))?,
            meters: Meters::default(),
            events: Events::new(settings).ok_or_else(|| Unusable("it is no key".to_owned()))?,
            clock,
        })
    }

    async fn meter(&self, event_name: &str) -> Result<Option<Known>, StripeError> {
        self.meters.find(&self.client, event_name, self.clock.now()).await
    }

    fn once(&self, identifier: &str) -> RequestStrategy {
        let key = format!("{identifier}.{}", self.clock.uuid().simple());
        IdempotencyKey::new(key).map_or(RequestStrategy::Once, RequestStrategy::Idempotent)
    }
}

#[async_trait]
impl Provider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn terms(&self) -> Terms {
        Terms {
            sends: true,
            dedupe_seconds: Some(24 * 3_600),
            // A sum below zero is invoiced as nothing, and what was owed back would be lost: it is set off against later use, or taken back
            // from what was told before.
            accepts_negative: false,
            oldest_seconds: Some(35 * 86_400),
            needs_customer: true,
            closes_periods: true,
            takes_back: true,
            calls_per_second: CALLS_PER_SECOND,
        }
    }

    async fn send(&self, batch: &Outgoing) -> Answer {
        let meter = match self.meter(&batch.event_name).await {
            Ok(meter) => meter,
            Err(error) => return not_sent(&error),
        };
        let waits_for = |what: &str| Answer::NoMeter {
            reason: format!("the account has no {what} of the event name {}: make one", batch.event_name),
        };
        let Some(meter) = meter else {
            return waits_for("active meter");
        };
        if !meter.sums {
            return waits_for("meter that sums");
        }
        let Some(customer) = &batch.customer else {
            return Answer::Rejected {
                reason: "the workspace has no customer".to_owned(),
            };
        };
        let payload = HashMap::from([(meter.customer_key, customer.clone()), (meter.value_key, batch.value.to_string())]);
        let request = CreateBillingMeterEvent::new(batch.event_name.as_str(), payload)
            .identifier(batch.identifier.as_str())
            .timestamp(seconds(batch.at));
        match request
            .customize()
            .request_strategy(self.once(&batch.identifier))
            .send(&self.client)
            .await
        {
            Ok(_) => Answer::Acknowledged,
            Err(error) => answer::answer(&error),
        }
    }

    /// From and to in whole minutes.
    async fn summary(&self, query: &SummaryQuery) -> Result<Option<i64>, Untold> {
        let no_answer = |error: &StripeError| Untold::NoAnswer(answer::told(error));
        let meter = self.meter(&query.event_name).await.map_err(|error| no_answer(&error))?;
        let meter = meter.ok_or(Untold::MeterUnknown)?;
        let customer = query.customer.as_deref().ok_or(Untold::CustomerUnknown)?;
        let request = ListIdBillingMeterEventSummary::new(meter.id, customer, seconds(query.to), seconds(query.from)).limit(100);
        let request = request.customize().request_strategy(RequestStrategy::ExponentialBackoff(READS_MAX));
        let summaries = match request.send(&self.client).await {
            Ok(summaries) => summaries,
            Err(error) if answer::is_missing(&error) => return Err(Untold::CustomerUnknown),
            Err(error) => return Err(no_answer(&error)),
        };
        // Without a grouping there is one; a second page would be a sum that is not all of it.
        let unreadable = || Untold::NoAnswer("its sum is not a whole number below 2^53".to_owned());
        if summaries.has_more {
            return Err(unreadable());
        }
        let mut total = 0i64;
        for summary in &summaries.data {
            let value = whole(summary.aggregated_value).ok_or_else(unreadable)?;
            total = total.checked_add(value).ok_or_else(unreadable)?;
        }
        Ok(Some(total))
    }

    async fn check(&self, event_names: &[String]) -> Result<Vec<String>, Untold> {
        let no_answer = |error: StripeError| Untold::NoAnswer(answer::told(&error));
        // Where no meters are named, the key is tried all the same.
        self.meters.refresh(&self.client, self.clock.now()).await.map_err(no_answer)?;
        let mut wrong = Vec::new();
        for name in event_names {
            match self.meter(name).await.map_err(no_answer)? {
                None => wrong.push(format!("there is no active meter of the event name {name}")),
                Some(meter) if !meter.sums => wrong.push(format!("the meter of the event name {name} does not sum")),
                Some(_) => {}
            }
        }
        Ok(wrong)
    }

    async fn event_name(&self, meter: &str) -> Result<Option<String>, Untold> {
        let request = RetrieveBillingMeter::new(meter).customize();
        match request.request_strategy(RequestStrategy::Once).send(&self.client).await {
            Ok(meter) => Ok(Some(meter.event_name)),
            Err(error) if answer::is_missing(&error) => Ok(None),
            Err(error) => Err(Untold::NoAnswer(answer::told(&error))),
        }
    }

    async fn event(&self, id: &str) -> Fetched {
        self.events.fetch(id).await
    }

    fn keeps_credits(&self) -> bool {
        true
    }

    async fn find_credit(&self, credit: &Credit) -> CreditAnswer {
        match self.find(credit).await {
            Ok(Some(id)) => CreditAnswer::Given(id),
            Ok(None) => CreditAnswer::Gone,
            Err(why) => why,
        }
    }

    async fn give_credit(&self, credit: &Credit) -> CreditAnswer {
        self.give(credit).await
    }

    async fn void_credit(&self, id: &str) -> CreditAnswer {
        self.void(id).await
    }
}

/// What happened while the meters were looked up: the event itself was not sent.
fn not_sent(error: &StripeError) -> Answer {
    match answer::answer(error) {
        Answer::RetryAfter { seconds, is_away, reason } => Answer::RetryAfter { seconds, is_away, reason },
        _ => Answer::RetryAfter {
            seconds: None,
            is_away: true,
            reason: format!("Stripe did not say which meters there are: {}", answer::told(error)),
        },
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < EXACT_MAX).then_some(value as i64)
}
