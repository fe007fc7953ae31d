//! Strict JSON bodies: what is read is exactly what was sent, or the caller learns where it is wrong. Answers are written by [`write()`].
//!
//! The happy path is one look at the bytes ([`scan`]: nesting, doubled names) and plain serde_json. A body that fails there, or that has
//! arrays, is read once more from a value ([`strict`]), which is stricter and knows places. Invariants: nothing that is returned came from
//! a body with a doubled name, at any depth, nor was an object ever taken from an array.

mod media;
mod scan;
mod strict;
mod trouble;
mod write;

use super::problem::Problem;
pub use crate::decision::canonical;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, http::header};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::ops::Deref;
use std::task::Poll;
use std::time::Duration;
pub use write::write;

/// The longest body that most paths take.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest body of batches, and of authorize with `input`.
pub const LARGE_BODY_BYTES_MAX: usize = 8 << 20;
/// The longest event of a billing provider: Stripe's are below a quarter of it.
pub const EVENT_BYTES_MAX: usize = 256 << 10;
/// How long a body may take to arrive.
pub const BODY_SECONDS_MAX: u64 = 30;
/// How deep objects and arrays may nest.
pub const DEPTH_MAX: usize = scan::DEPTH_MAX;

/// A JSON object whose members Weir does not know beforehand. Bodies are scanned before they are read, so none of its keys was doubled.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct OpenObject(Map<String, Value>);

/// By hand, because serde_json's own map takes null for an empty one.
impl<'de> Deserialize<'de> for OpenObject {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = OpenObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<OpenObject, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(members)).map(OpenObject)
            }
        }
        from.deserialize_map(Members)
    }
}

impl OpenObject {
    pub fn into_inner(self) -> Map<String, Value> {
        self.0
    }
}

impl fmt::Display for OpenObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl Deref for OpenObject {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<Map<String, Value>> for OpenObject {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

/// Reads the body of `request`, whose type must be JSON; on PATCH also JSON Merge Patch.
pub fn read<T: DeserializeOwned>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    if !body.is_empty() {
        media::check(request.method(), request.headers())?;
    }
    read_body(body)
}

/// Reads a body whose type was checked already.
pub fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::malformed(
            "",
            format!("it is not UTF-8: byte {} is not part of a character", error.valid_up_to()),
        )
    })?;
    let seen = scan::scan(text)?;
    if !seen.arrays
        && let Ok(body) = serde_json::from_str(text)
    {
        return Ok(body);
    }
    let value = serde_json::from_str(text).map_err(|error| trouble::not_json(text, &error))?;
    from_value(value)
}

/// Reads a part of a body that was read as a value before. Places are told from that part: see [`Problem::under`].
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    T::deserialize(strict::Strict(&value)).map_err(Problem::from)
}

/// Takes in a body of at most `bytes_max`. A longer one is refused as soon as that is known, without reading on.
pub async fn read_payload(request: &HttpRequest, payload: Payload, bytes_max: usize) -> Result<Bytes, Problem> {
    take_in(request, payload, bytes_max, Duration::from_secs(BODY_SECONDS_MAX)).await
}

async fn take_in(request: &HttpRequest, payload: Payload, bytes_max: usize, within: Duration) -> Result<Bytes, Problem> {
    media::check_encoding(request.headers())?;
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(Problem::too_large(bytes_max));
    }
    let mut arriving = std::pin::pin!(payload.to_bytes_limited(bytes_max));
    // Most bodies came with their head; only one that did not costs a timer.
    let arrived = match futures_util::poll!(&mut arriving) {
        Poll::Ready(body) => Ok(body),
        Poll::Pending => tokio::time::timeout(within, arriving).await,
    };
    match arrived {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(error))) => Err(Problem::malformed("", "the body broke off before its end").because(error.to_string())),
        Ok(Err(_too_long)) => Err(Problem::too_large(bytes_max)),
        Err(_elapsed) => Err(Problem::request_timeout(BODY_SECONDS_MAX)),
    }
}

#[cfg(test)]
mod tests;
