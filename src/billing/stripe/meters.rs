//! Which meters an account has, remembered for a while: every event needs its meter's keys, and every summary its id.

use crate::decision::time::Timestamp;
use stripe::{Client, RequestStrategy, StripeError, StripeRequest};
use stripe_billing::billing_meter::ListBillingMeter;
use stripe_billing::{BillingMeter, BillingMeterResourceAggregationSettingsFormula, BillingMeterStatus};
use tokio::sync::Mutex;

/// How long the list is good.
const KNOWN_SECONDS: i64 = 300;
/// How soon it is read again for a name that is not in it.
const MISSING_SECONDS: i64 = 15;
/// Pages of 100: more meters than any account has.
const PAGES_MAX: usize = 20;

/// One meter of the account.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub id: String,
    pub event_name: String,
    pub customer_key: String,
    pub value_key: String,
    /// Whether values are added up: anything else would bill something else.
    pub sums: bool,
}

#[derive(Default)]
pub(super) struct Meters {
    read: Mutex<Option<(Timestamp, Vec<Known>)>>,
}

impl Meters {
    pub async fn find(&self, client: &Client, event_name: &str, now: Timestamp) -> Result<Option<Known>, StripeError> {
        let mut read = self.read.lock().await;
        let found = |known: &[Known]| known.iter().find(|meter| meter.event_name == event_name).cloned();
        if let Some((at, known)) = &*read {
            let age = at.seconds_until(now).abs();
            let meter = found(known);
            if age < MISSING_SECONDS || (age < KNOWN_SECONDS && meter.is_some()) {
                return Ok(meter);
            }
        }
        let known = list(client).await?;
        let meter = found(&known);
        *read = Some((now, known));
        Ok(meter)
    }

    /// Reads the list in any case.
    pub async fn refresh(&self, client: &Client, now: Timestamp) -> Result<(), StripeError> {
        let mut read = self.read.lock().await;
        *read = Some((now, list(client).await?));
        Ok(())
    }
}

async fn list(client: &Client) -> Result<Vec<Known>, StripeError> {
    let mut known: Vec<Known> = Vec::new();
    for _ in 0..PAGES_MAX {
        let mut request = ListBillingMeter::new().status(BillingMeterStatus::Active).limit(100);
        if let Some(last) = known.last() {
            request = request.starting_after(last.id.clone());
        }
        let request = request.customize().request_strategy(RequestStrategy::Once);
        let page = request.send(client).await?;
        known.extend(page.data.into_iter().map(described));
        if !page.has_more {
            break;
        }
    }
    Ok(known)
}

fn described(meter: BillingMeter) -> Known {
    Known {
        id: meter.id.to_string(),
        event_name: meter.event_name,
        customer_key: meter.customer_mapping.event_payload_key,
        value_key: meter.value_settings.event_payload_key,
        // One that takes the last event of an hour or a day for all of it does not.
        sums: meter.event_time_window.is_none()
            && matches!(
                meter.default_aggregation.formula,
                BillingMeterResourceAggregationSettingsFormula::Sum
            ),
    }
}
