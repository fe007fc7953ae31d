//! `Idempotency-Key` on POSTs that create: the first answer is told again for a day, another request under the key is refused, and a key
//! whose first request still runs is told so. Authorize needs none of this, because its reservation remembers.
//!
//! A key belongs to who sends it (subject and workspace) and to the path. Answers are kept by the flow; this process only knows which
//! requests run in it. A request with a key runs to its end and has its answer kept even if its caller hangs up: that is whom keys are for.

use super::call::{Answer, Call};
use super::json::canonical;
use super::problem::{Problem, ProblemCode};
use super::routes::Handler;
use crate::decision::id::RequestId;
use crate::decision::time::Timestamp;
use crate::flow::answer::{self, KeptAnswer};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web::Data};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The keys whose first request runs, each with the fingerprint of that request.
#[derive(Default)]
pub struct Running(Mutex<HashMap<u128, u128>>);

/// Beside an answer with a secret in it: what is kept of it, and told again. A secret is shown once, and kept nowhere.
pub struct KeptAs(pub String);

/// A request that runs. Its key is free again with this value, be it that the request was answered or that it broke off.
struct Turn {
    running: Data<Running>,
    key: u128,
}

impl Running {
    fn keys(&self) -> MutexGuard<'_, HashMap<u128, u128>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn take(running: &Data<Running>, key: u128, fingerprint: u128) -> Result<Self, Problem> {
        match running.keys().entry(key) {
            Entry::Vacant(free) => {
                free.insert(fingerprint);
            }
            Entry::Occupied(taken) if *taken.get() != fingerprint => return Err(mismatch()),
            Entry::Occupied(_) => {
                return Err(Problem::of(
                    ProblemCode::IdempotencyInFlight,
                    "the first request with this Idempotency-Key still runs; ask again shortly",
                ));
            }
        }
        Ok(Self {
            running: running.clone(),
            key,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.keys().remove(&self.key);
    }
}

fn mismatch() -> Problem {
    Problem::of(
        ProblemCode::IdempotencyMismatch,
        "this Idempotency-Key was used for another request; take a new one",
    )
}

/// Runs `call` once for its key: the first time it is handled, after that its first answer is told again.
pub async fn once(call: Call, path: &str, key: &RequestId, running: &Data<Running>, handle: Handler) -> Answer {
    let (key, fingerprint) = (digest_of_key(&call, path, key), fingerprint(&call));
    let turn = Turn::take(running, key, fingerprint)?;
    // In a task of its own, which goes on when the caller hangs up: whoever then asks again is told what was done.
    let done = actix_web::rt::spawn(async move {
        let answer = first_or_again(call, key, fingerprint, handle).await;
        drop(turn);
        answer
    });
    done.await.unwrap_or_else(|error| Err(Problem::internal().because(error)))
}

async fn first_or_again(call: Call, key: u128, fingerprint: u128, handle: Handler) -> Answer {
    let (service, request) = (call.service.clone(), call.request.clone());
    match answer::recall(&service, key).await? {
        Some(kept) if kept.fingerprint == fingerprint => return again(kept),
        Some(_) => return Err(mismatch()),
        None => {}
    }
    let response = handle(call).await.unwrap_or_else(|problem| problem.response(&request));
    let kept_as = response.extensions().get::<KeptAs>().map(|KeptAs(text)| text.clone());
    let (response, text) = text_of(response)?;
    // A failure of the service is to be tried again, not to be told again.
    if !response.status().is_server_error() {
        let kept = KeptAnswer {
            fingerprint,
            status: response.status().as_u16(),
            content_type: content_type(&response),
            body: kept_as.unwrap_or(text),
            at: service.clock.now(),
        };
        answer::keep(&service, key, kept).await;
    }
    Ok(response)
}

/// Names for what a call makes under its `Idempotency-Key`, another one each day, as the key is only good for one: they tell another node, or
/// this one after a crash, that the thing is there already. The first is that of today, the second that of yesterday: a day is over in the
/// middle of what is tried again. `None`: the call has no key.
pub fn names_of_made(call: &Call, now: Timestamp) -> Result<Option<[RequestId; 2]>, Problem> {
    let Some(key) = call.idempotency_key()? else { return Ok(None) };
    let day = now.micros().div_euclid(answer::KEPT_SECONDS * 1_000_000);
    let digest = digest_of_key(call, call.request.path(), &key);
    let name = |day: i64| RequestId::parse(&format!("idempotency:{digest:032x}:{day}"));
    let names = name(day).and_then(|today| Ok([today, name(day - 1)?]));
    names.map(Some).map_err(|why| Problem::internal().because(why))
}

fn again(kept: KeptAnswer) -> Answer {
    let status = StatusCode::from_u16(kept.status).map_err(|error| Problem::internal().because(error))?;
    let mut response = HttpResponse::build(status);
    response.content_type(kept.content_type);
    Ok(response.insert_header(("Idempotency-Replayed", "true")).body(kept.body))
}

/// The response, and its body as text. Bodies of this API are JSON that is written before it is sent.
fn text_of(response: HttpResponse) -> Result<(HttpResponse, String), Problem> {
    let (head, body) = response.into_parts();
    let bytes = body
        .try_into_bytes()
        .map_err(|_| Problem::internal().because("an answer under an Idempotency-Key is a stream"))?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|error| Problem::internal().because(error))?;
    Ok((head.set_body(BoxBody::new(bytes)), text))
}

fn content_type(response: &HttpResponse) -> String {
    let header = response.headers().get("content-type");
    header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// A key, of whom, and for what. The workspace is part of it: two customers may bear credentials of one subject.
fn digest_of_key(call: &Call, path: &str, key: &RequestId) -> u128 {
    let workspace = call.identity.workspace.as_ref().map(|workspace| workspace.as_str());
    let mut hash = Sha256::new();
    for part in [Some(&*call.identity.subject), workspace, Some(path), Some(key.as_str())] {
        hash.update([u8::from(part.is_some())]);
        let part = part.unwrap_or_default();
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    first_half(hash)
}

/// Bodies are compared as parsed values; what is no JSON is compared byte by byte, and refused by its handler. The attributes of a
/// CloudEvent in binary mode are headers, and as much of the request as its body.
fn fingerprint(call: &Call) -> u128 {
    let mut hash = Sha256::new();
    let mut attributes: Vec<_> = call
        .request
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("ce-"))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    attributes.sort_unstable();
    for (name, value) in attributes {
        for part in [name.as_bytes(), value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    match serde_json::from_slice::<Value>(&call.body) {
        Ok(value) => canonical::digest(&mut hash, &value),
        Err(_) => hash.update(&call.body),
    }
    first_half(hash)
}

fn first_half(hash: Sha256) -> u128 {
    let mut half = [0u8; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_turn_at_a_time_and_another_request_is_told_apart() {
        let running = Data::new(Running::default());
        let code = |turn: Result<Turn, Problem>| turn.err().map(|problem| problem.code().to_owned());
        let turn = Turn::take(&running, 1, 7);
        assert!(turn.is_ok());
        assert_eq!(code(Turn::take(&running, 1, 7)).as_deref(), Some("idempotency_in_flight"));
        assert_eq!(code(Turn::take(&running, 1, 8)).as_deref(), Some("idempotency_mismatch"));
        assert!(Turn::take(&running, 2, 8).is_ok(), "another key has a turn of its own");
        drop(turn);
        assert!(Turn::take(&running, 1, 8).is_ok(), "whoever hung up blocks nobody");
    }
}
