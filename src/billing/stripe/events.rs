//! Events of Stripe's second kind, which it pushes without their data: `GET /v2/core/events/{id}`. The client library knows only the first
//! version of the API, so this is asked directly. One call is one try, and nothing happens by it.

use super::StripeSettings;
use crate::decision::inbound::{Fetched, ID_CHARS_MAX};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// The first version that has these events. What is in them is looked up by name, so a later one would say no more.
const VERSION: &str = "2024-09-30.acacia";
/// The most that an event may be; a report has a handful of samples of each code.
const BODY_BYTES_MAX: usize = 256 * 1024;
const CONNECT_SECONDS_MAX: u64 = 10;
/// How long a key that is refused is left alone.
const REFUSED_KEY_SECONDS: i64 = 60;

pub(super) struct Events {
    client: Client,
    url: String,
    authorization: reqwest::header::HeaderValue,
}

impl Events {
    /// `None`: the key or the address cannot be used.
    pub fn new(settings: &StripeSettings) -> Option<Self> {
        let timeout = settings.timeout;
        let client = Client::builder().redirect(Policy::none()).timeout(timeout);
        let client = client.connect_timeout(timeout.min(Duration::from_secs(CONNECT_SECONDS_MAX)));
        let bearer = format!("Bearer {}", settings.secret_key.expose().as_str());
        let mut authorization = reqwest::header::HeaderValue::from_str(&bearer).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            client: client.build().ok()?,
            url: format!("{}/v2/core/events", settings.api_base.trim_end_matches('/')),
            authorization,
        })
    }

    pub async fn fetch(&self, id: &str) -> Fetched {
        // It becomes a part of a path.
        let is_id = !id.is_empty() && id.len() <= ID_CHARS_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_id {
            return Fetched::Missing("it is no id of an event".to_owned());
        }
        let request = self
            .client
            .get(format!("{}/{id}", self.url))
            .header("Authorization", self.authorization.clone())
            .header("Stripe-Version", VERSION);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return not_now(if error.is_timeout() { "no answer in time" } else { "no answer" }),
        };
        let status = response.status();
        if status != StatusCode::OK {
            let seconds = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok());
            return refused(status, seconds);
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_BYTES_MAX => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Fetched::Missing(format!("its answer is longer than {BODY_BYTES_MAX} bytes")),
                Ok(None) => break,
                Err(_) => return not_now("the connection broke"),
            }
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(event) if event["id"] == id => Fetched::Found(event),
            Ok(_) => not_now("the answer is another event"),
            Err(_) => not_now("the answer cannot be read"),
        }
    }
}

fn not_now(reason: &str) -> Fetched {
    Fetched::NotNow {
        seconds: None,
        reason: reason.to_owned(),
    }
}

fn refused(status: StatusCode, seconds: Option<i64>) -> Fetched {
    let reason = format!("the answer was {}", status.as_u16());
    match status.as_u16() {
        // The key is wrong or may not do this, which somebody mends.
        401 | 403 => Fetched::NotNow {
            seconds: Some(REFUSED_KEY_SECONDS),
            reason,
        },
        409 | 424 | 429 => Fetched::NotNow { seconds, reason },
        400..=499 => Fetched::Missing(reason),
        _ => Fetched::NotNow { seconds, reason },
    }
}
