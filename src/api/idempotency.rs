//! `Idempotency-Key` on POSTs that create: the first answer is told again for a day, another body under the key is refused, and a key whose
//! first request still runs is told so. Authorize needs none of this, because its reservation remembers.
//!
//! Answers are kept in this process. After a restart a repeated request runs again, and is told by its request ids what was recorded.

use super::json::canonical;
use super::problem::{Problem, ProblemCode};
use crate::decision::time::Timestamp;
use actix_web::HttpResponse;
use actix_web::body::MessageBody;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

const KEPT_SECONDS: i64 = 24 * 3600;
/// How many answers are kept, and how large all of them may be; beyond it the oldest are forgotten.
const ANSWERS_MAX: usize = 50_000;
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Who used which key on which path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pub subject: String,
    pub path: String,
    pub key: String,
}

enum State {
    Running(Fingerprint),
    Answered(Fingerprint, Kept),
}

type Fingerprint = [u8; 32];

/// An answer as it was given.
#[derive(Clone)]
struct Kept {
    status: StatusCode,
    content_type: Option<String>,
    body: Bytes,
}

#[derive(Default)]
struct Known {
    states: HashMap<Key, State>,
    /// Answered keys in the order of their answers.
    order: VecDeque<(Timestamp, Key)>,
    bytes: usize,
}

/// The answers of the last day.
#[derive(Default)]
pub struct Answers(Mutex<Known>);

/// What a key means for a request.
pub enum Seen {
    /// The first of its key: run it, and hand its answer to [`Answers::answered`].
    First,
    /// The answer to the same request.
    Again(HttpResponse),
}

impl Answers {
    /// Takes the key for a body, or says what the key was taken for.
    pub fn begin(&self, key: &Key, body: &[u8], now: Timestamp) -> Result<Seen, Problem> {
        let fingerprint = fingerprint(body);
        let mut known = self.known();
        known.forget(now);
        match known.states.get(key) {
            None => {
                known.states.insert(key.clone(), State::Running(fingerprint));
                Ok(Seen::First)
            }
            Some(State::Running(other) | State::Answered(other, _)) if *other != fingerprint => Err(Problem::of(
                ProblemCode::IdempotencyMismatch,
                "this Idempotency-Key was used for another body; take a new one",
            )),
            Some(State::Running(_)) => Err(Problem::of(
                ProblemCode::IdempotencyInFlight,
                "the first request with this Idempotency-Key still runs; ask again shortly",
            )),
            Some(State::Answered(_, kept)) => Ok(Seen::Again(kept.again())),
        }
    }

    /// Keeps the answer of a request that has begun. Failures of the service are not kept: they are to be tried again.
    pub fn answered(&self, key: Key, response: HttpResponse, now: Timestamp) -> HttpResponse {
        let (head, body) = response.into_parts();
        let status = head.status();
        let Ok(body) = body.try_into_bytes() else {
            self.known().states.remove(&key);
            return HttpResponse::InternalServerError().finish();
        };
        let response = head.set_body(actix_web::body::BoxBody::new(body.clone()));
        let mut known = self.known();
        let Some(State::Running(fingerprint)) = known.states.remove(&key) else {
            return response;
        };
        if !status.is_server_error() {
            let content_type = response
                .headers()
                .get("content-type")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            known.bytes += body.len();
            known.states.insert(
                key.clone(),
                State::Answered(
                    fingerprint,
                    Kept {
                        status,
                        content_type,
                        body,
                    },
                ),
            );
            known.order.push_back((now, key));
        }
        response
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Timestamp) {
        let old = |at: Timestamp| at.plus_seconds(KEPT_SECONDS) <= now;
        while self.order.front().is_some_and(|(at, _)| old(*at)) || self.order.len() >= ANSWERS_MAX || self.bytes > ANSWER_BYTES_MAX {
            let Some((_, key)) = self.order.pop_front() else { return };
            if let Some(State::Answered(_, kept)) = self.states.remove(&key) {
                self.bytes -= kept.body.len();
            }
        }
    }
}

impl Kept {
    fn again(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(content_type) = &self.content_type {
            response.content_type(content_type.as_str());
        }
        response.insert_header(("Idempotency-Replayed", "true")).body(self.body.clone())
    }
}

/// Bodies are compared as parsed values; what is no JSON is compared byte by byte, and refused by its handler.
fn fingerprint(body: &[u8]) -> Fingerprint {
    let mut hash = Sha256::new();
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => canonical::digest(&mut hash, &value),
        Err(_) => hash.update(body),
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str) -> Key {
        Key {
            subject: "s".to_owned(),
            path: "/p".to_owned(),
            key: key.to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(0).plus_seconds(seconds)
    }

    #[test]
    fn a_key_is_first_then_in_flight_then_answered_alike() {
        let answers = Answers::default();
        let body = br#"{"a": 1, "b": [2, "x"]}"#;
        assert!(matches!(answers.begin(&key("k"), body, at(0)), Ok(Seen::First)));
        let code = |result: Result<Seen, Problem>| result.err().map(|problem| problem.code().to_owned());
        assert_eq!(
            code(answers.begin(&key("k"), body, at(0))).as_deref(),
            Some("idempotency_in_flight")
        );
        assert_eq!(
            code(answers.begin(&key("k"), b"{}", at(0))).as_deref(),
            Some("idempotency_mismatch")
        );
        answers.answered(key("k"), HttpResponse::Ok().body("done"), at(0));
        let Ok(Seen::Again(again)) = answers.begin(&key("k"), br#"{"b":[2,"x"],"a":1}"#, at(1)) else {
            panic!("not told again")
        };
        assert_eq!(
            again.headers().get("idempotency-replayed").map(|value| value.as_bytes()),
            Some(&b"true"[..])
        );
        assert_eq!(
            code(answers.begin(&key("k"), b"{}", at(1))).as_deref(),
            Some("idempotency_mismatch")
        );
        assert!(
            matches!(answers.begin(&key("k"), b"{}", at(KEPT_SECONDS)), Ok(Seen::First)),
            "after a day the key is free"
        );
    }

    #[test]
    fn a_failure_of_the_service_may_be_tried_again() {
        let answers = Answers::default();
        assert!(matches!(answers.begin(&key("k"), b"{}", at(0)), Ok(Seen::First)));
        answers.answered(key("k"), HttpResponse::ServiceUnavailable().finish(), at(0));
        assert!(matches!(answers.begin(&key("k"), b"{}", at(0)), Ok(Seen::First)));
    }
}
