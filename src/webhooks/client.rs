//! One try: a POST to whoever may be dialled, and what came back, within bounds of time and size. What an answer says beyond its status is
//! for people.
//!
//! No redirect is followed, no proxy of the environment is used, no cookie is kept, and no connection outlives its try.

use super::dial::{Dial, Doors, Names, Refused};
use crate::decision::address::Range;
use crate::decision::time::Timestamp;
use crate::decision::webhook::Outgoing;
use crate::decision::webhook::retry::Attempt;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client as Http, Response, Url};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::Host;

/// How long a try may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// In all.
    pub whole: Duration,
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(15),
            connect: Duration::from_secs(10),
        }
    }
}

/// How much of an answer is read before the connection is dropped, and how long for: its status has said all that counts.
const ANSWER_BYTES_MAX: usize = 16 * 1_024;
const ANSWER_READ: Duration = Duration::from_secs(1);
/// How much of an answer is kept.
pub const ANSWER_CHARS_KEPT: usize = 1_024;
const ERROR_CHARS_KEPT: usize = 256;

/// What makes tries.
pub struct Client {
    secure: Http,
    /// For what an operator has opened.
    open: Http,
    /// For endpoints that are not led there.
    public: Http,
    doors: Doors,
    limits: Limits,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the client that sends webhooks could not be made")]
pub struct ClientError(#[source] reqwest::Error);

impl Client {
    pub fn new(names: Arc<dyn Names>, allowed: &[Range], limits: Limits) -> Result<Self, ClientError> {
        let doors = Doors {
            allowed: allowed.into(),
            is_tls: true,
        };
        let make = |doors: Doors| {
            let builder = Http::builder()
                .https_only(doors.is_tls)
                .dns_resolver(Arc::new(Dial {
                    names: names.clone(),
                    doors,
                }))
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .timeout(limits.whole)
                .connect_timeout(limits.connect)
                .pool_max_idle_per_host(0)
                .user_agent(concat!("Weir-Webhooks/", env!("CARGO_PKG_VERSION")));
            builder.build().map_err(ClientError)
        };
        Ok(Self {
            public: make(doors.closed())?,
            secure: make(doors.clone())?,
            open: make(Doors {
                is_tls: false,
                ..doors.clone()
            })?,
            doors,
            limits,
        })
    }

    /// A try that begins at `now`.
    pub async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Attempt {
        let began = Instant::now();
        let sent = self.try_once(outgoing, began).await;
        let duration_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (status, retry_after_seconds, answer, error) = match sent {
            Ok(answered) => {
                let error = (!(200..300).contains(&answered.status)).then(|| words_of(answered.status));
                (Some(answered.status), answered.retry_after_seconds, answered.body, error)
            }
            Err(why) => (None, None, String::new(), Some(clean(&why, ERROR_CHARS_KEPT))),
        };
        Attempt {
            at: now,
            duration_ms,
            status,
            retry_after_seconds,
            answer,
            error,
        }
    }

    async fn try_once(&self, outgoing: &Outgoing, began: Instant) -> Result<Answered, String> {
        let url = Url::parse(&outgoing.url).map_err(|error| format!("its URL cannot be read: {error}"))?;
        let is_tls = url.scheme() == "https";
        // An address that is written out is not resolved, so the resolver does not see it.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            _ => None,
        };
        if let Some(ip) = literal {
            let doors = if outgoing.reaches_opened {
                self.doors.clone()
            } else {
                self.doors.closed()
            };
            let doors = Doors { is_tls, ..doors };
            doors.check(ip).map_err(|why| why.to_string())?;
        }
        let http = match (outgoing.reaches_opened, is_tls) {
            (false, _) => &self.public,
            (true, true) => &self.secure,
            (true, false) => &self.open,
        };
        let request = http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &outgoing.id)
            .header("webhook-timestamp", outgoing.unix_seconds)
            .header("webhook-signature", &outgoing.signatures)
            .body(outgoing.body.clone());
        let response = request.send().await.map_err(|error| told(&error, self.limits))?;
        let (status, retry_after_seconds) = (response.status().as_u16(), retry_after(response.headers()));
        let deadline = (began + self.limits.whole).min(Instant::now() + ANSWER_READ);
        Ok(Answered {
            status,
            retry_after_seconds,
            body: beginning(response, deadline).await,
        })
    }
}

struct Answered {
    status: u16,
    retry_after_seconds: Option<i64>,
    body: String,
}

/// The first characters of an answer. More than a bounded part of it is not read, and what comes too slowly neither.
async fn beginning(mut response: Response, deadline: Instant) -> String {
    let (mut read, mut kept) = (0, Vec::with_capacity(ANSWER_CHARS_KEPT));
    while read < ANSWER_BYTES_MAX {
        let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await else {
            break;
        };
        read += chunk.len();
        let room = ANSWER_CHARS_KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    clean(&String::from_utf8_lossy(&kept), ANSWER_CHARS_KEPT)
}

/// Text that can be kept and shown: nothing in it moves a cursor or hides.
fn clean(text: &str, chars_max: usize) -> String {
    let seen = |c: char| {
        if c.is_control() && c != '\n' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(chars_max).map(seen).collect()
}

/// Both forms of the header (RFC 9110, 10.2.3); a date is taken from now by the answer's own `Date`, so that clocks need not agree.
fn retry_after(headers: &HeaderMap) -> Option<i64> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok())
    };
    let given = text(RETRY_AFTER)?.trim();
    if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(given.parse().unwrap_or(i64::MAX));
    }
    let moment = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|moment| moment.timestamp().as_second());
    let (then, sent) = (moment(given)?, moment(text(reqwest::header::DATE)?)?);
    Some(then.saturating_sub(sent))
}

fn words_of(status: u16) -> String {
    match status {
        300..400 => format!("it answered {status}, and redirects are not followed"),
        _ => format!("it answered {status}"),
    }
}

/// Why there is no answer, without the URL, whose query may be secret.
fn told(error: &reqwest::Error, limits: Limits) -> String {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<Refused>()) {
        return refused.to_string();
    }
    if error.is_timeout() {
        return match error.is_connect() {
            true => format!("it could not be connected to within {} s", limits.connect.as_secs_f32()),
            false => format!("there was no answer within {} s", limits.whole.as_secs_f32()),
        };
    }
    let last = causes(error).last().map(ToString::to_string).unwrap_or_default();
    match error.is_connect() {
        true => format!("it could not be connected to: {last}"),
        false => format!("the answer could not be read: {last}"),
    }
}

/// An error and all that lies under it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::DATE;

    #[test]
    fn a_try_takes_fifteen_seconds_at_most() {
        assert_eq!(Limits::default().whole, Duration::from_secs(15));
        assert!(Limits::default().connect < Limits::default().whole);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (given, date, seconds) in [
            ("120", None, Some(120)),
            (" 0 ", None, Some(0)),
            ("99999999999999999999", None, Some(i64::MAX)),
            ("-5", None, None),
            ("soon", None, None),
            ("", None, None),
            ("Fri, 21 Nov 2025 10:02:00 GMT", Some("Fri, 21 Nov 2025 10:00:00 GMT"), Some(120)),
            ("Fri, 21 Nov 2025 10:02:00 GMT", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, given.parse().expect("a value"));
            if let Some(date) = date {
                headers.insert(DATE, date.parse().expect("a value"));
            }
            assert_eq!(retry_after(&headers), seconds, "{given:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_kept_can_be_shown() {
        assert_eq!(clean("a\0b\u{1b}[2Jc\nd\r", 99), "a\u{fffd}b\u{fffd}[2Jc\nd\u{fffd}");
        assert_eq!(clean(&"\u{e4}".repeat(5_000), ANSWER_CHARS_KEPT).chars().count(), ANSWER_CHARS_KEPT);
    }
}
