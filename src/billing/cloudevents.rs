//! CloudEvents over HTTP: each batch is one event of CloudEvents 1.0 in JSON (structured mode), for collectors such as those of OpenMeter and
//! Lago. `id` is the batch's identifier and `source` is Weir, so a collector that follows the specification counts a repetition once.
//!
//! Such a collector has no sums to ask for: reconcile says so, and a batch whose fate is unknown is named until a person decides.

use super::{Answer, Outgoing, Provider, SummaryQuery, Terms, Untold};
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Serialize;
use std::time::Duration;

const CALL_SECONDS_MAX: u64 = 30;
const CONNECT_SECONDS_MAX: u64 = 10;
const CALLS_PER_SECOND: u32 = 100;
/// Bytes of a refusal that are kept.
const WORDS_BYTES_MAX: usize = 300;

/// Where events are sent.
pub struct CloudEvents {
    url: String,
    client: Client,
}

#[derive(Serialize)]
struct Data<'a> {
    /// Whole, and a number: collectors sum it.
    value: i64,
    workspace_id: &'a str,
    meter: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<&'a str>,
    /// Of the window of use that was summed.
    from: Timestamp,
    to: Timestamp,
    /// How many uses it is made of.
    entries: i64,
}

/// The envelope, in the order of the specification.
#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'a str,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Data<'a>,
}

impl CloudEvents {
    /// Without a timeout, half a minute.
    pub fn new(url: &str, timeout: Option<Duration>) -> Result<Self, reqwest::Error> {
        let timeout = timeout.unwrap_or(Duration::from_secs(CALL_SECONDS_MAX));
        // A redirect would take what customers used to where nobody sent it.
        let client = Client::builder().redirect(Policy::none()).timeout(timeout);
        let client = client
            .connect_timeout(timeout.min(Duration::from_secs(CONNECT_SECONDS_MAX)))
            .build()?;
        Ok(Self {
            url: url.to_owned(),
            client,
        })
    }
}

impl<'a> Envelope<'a> {
    fn new(batch: &'a Outgoing) -> Self {
        let workspace = batch.workspace.as_str();
        Self {
            specversion: "1.0",
            id: &batch.identifier,
            source: "weir",
            kind: &batch.event_name,
            subject: batch.customer.as_deref().unwrap_or(workspace),
            time: batch.at,
            datacontenttype: "application/json",
            data: Data {
                value: batch.value,
                workspace_id: workspace,
                meter: batch.meter.as_str(),
                customer: batch.customer.as_deref(),
                from: batch.window.start,
                to: batch.window.end,
                entries: batch.members,
            },
        }
    }
}

#[async_trait]
impl Provider for CloudEvents {
    fn name(&self) -> &'static str {
        "cloudevents"
    }

    fn terms(&self) -> Terms {
        Terms {
            sends: true,
            // OpenMeter keeps ids for 32 days, others for as long as they like; the shortest that any of them promises is a day.
            dedupe_seconds: Some(24 * 3_600),
            accepts_negative: false,
            oldest_seconds: None,
            needs_customer: false,
            closes_periods: false,
            takes_back: false,
            calls_per_second: CALLS_PER_SECOND,
        }
    }

    async fn send(&self, batch: &Outgoing) -> Answer {
        let body = match serde_json::to_vec(&Envelope::new(batch)) {
            Ok(body) => body,
            Err(error) => {
                return Answer::Rejected {
                    reason: format!("the event cannot be written: {error}"),
                };
            }
        };
        let request = self
            .client
            .post(&self.url)
            .header("Content-Type", "application/cloudevents+json; charset=utf-8");
        match request.body(body).send().await {
            Ok(mut response) => {
                let status = response.status();
                let asked = response
                    .headers()
                    .get("retry-after")
                    .and_then(|value| value.to_str().ok()?.parse().ok());
                let words = match status.is_success() {
                    true => String::new(),
                    false => beginning(&mut response).await,
                };
                answer(status, asked, &words)
            }
            // Nothing was sent where there was no connection.
            Err(error) if error.is_connect() => Answer::RetryAfter {
                seconds: None,
                is_away: true,
                reason: "the collector cannot be reached".to_owned(),
            },
            Err(error) if error.is_timeout() => unknown("no answer in time"),
            Err(_) => unknown("the connection broke"),
        }
    }

    async fn summary(&self, _: &SummaryQuery) -> Result<Option<i64>, Untold> {
        Ok(None)
    }
}

fn unknown(reason: &str) -> Answer {
    Answer::Unknown { reason: reason.to_owned() }
}

fn answer(status: StatusCode, asked: Option<i64>, words: &str) -> Answer {
    let reason = format!("{} {words}", status.as_u16()).trim_end().to_owned();
    let later = |is_away| Answer::RetryAfter {
        seconds: asked,
        is_away,
        reason: reason.clone(),
    };
    match status.as_u16() {
        200..=299 => Answer::Acknowledged,
        409 => Answer::Duplicate,
        429 => later(false),
        // The collector says itself that it does not work now.
        503 => later(true),
        // No fault of the event: whoever runs the collector has to let Weir in.
        401 | 403 => later(true),
        300..=499 => Answer::Rejected { reason },
        _ => Answer::Unknown { reason },
    }
}

/// The beginning of what was said, on one line.
async fn beginning(response: &mut reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < WORDS_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(WORDS_BYTES_MAX);
    String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_says_whether_it_was_taken() {
        for (status, expected) in [
            (200, "acknowledged"),
            (204, "acknowledged"),
            (409, "duplicate"),
            (400, "rejected"),
            (404, "rejected"),
            (302, "rejected"),
            (401, "away"),
            (429, "busy"),
            (503, "away"),
            (500, "unknown"),
            (504, "unknown"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match answer(status, Some(7), "words") {
                Answer::Acknowledged => "acknowledged",
                Answer::Duplicate => "duplicate",
                Answer::Rejected { reason } => {
                    assert!(reason.ends_with("words"), "{reason}");
                    "rejected"
                }
                Answer::RetryAfter { is_away, seconds, .. } => {
                    assert_eq!(seconds, Some(7));
                    if is_away { "away" } else { "busy" }
                }
                Answer::NoMeter { .. } => "no meter",
                Answer::Unknown { .. } => "unknown",
            };
            assert_eq!(found, expected, "{status}");
        }
    }
}
