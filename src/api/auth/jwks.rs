//! The public keys of an issuer, fetched from its address (`WEIR_JWT_JWKS_URL`) and kept.
//!
//! - The set is fetched again when it is [`FETCH_EVERY_SECONDS`] old, beside the requests, and when a token names a key that it does not
//!   have; the requests that need that key wait for it, others never do. Whatever happens, there is one fetch at a time, and
//!   [`FETCH_PAUSE_SECONDS`] between two: made-up key names cost an issuer no more than that.
//! - A fetch that fails changes nothing: the keys that are there work for up to [`KEYS_SECONDS_MAX`] after they were fetched last.
//! - One that succeeds replaces the set whole: a key that is not in it any more verifies nothing from then on, tokens that were verified
//!   with it before included.
//! - A fetch follows no redirect, and is bounded in time and size.

use super::jwk;
use super::keys::{Keys, KeysError};
use crate::decision::time::Timestamp;
use arc_swap::ArcSwap;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url, header};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// How old the set may be before it is fetched again.
pub const FETCH_EVERY_SECONDS: i64 = 300;
/// How long after a fetch the next one may begin at the earliest.
pub const FETCH_PAUSE_SECONDS: i64 = 30;
/// How long keys work when the issuer is away.
pub const KEYS_SECONDS_MAX: i64 = 6 * 3600;
const FETCH_SECONDS_MAX: u64 = 5;
const CONNECT_SECONDS_MAX: u64 = 3;
const SET_BYTES_MAX: usize = 256 << 10;
/// How many requests wait for a fetch; more are refused at once.
const WAITING_MAX: usize = 64;

/// Why keys cannot be fetched at all.
#[derive(Debug, thiserror::Error)]
#[error("the keys of WEIR_JWT_JWKS_URL cannot be fetched")]
pub struct JwksError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer's keys could not be fetched")]
    Unreachable(#[source] reqwest::Error),
    #[error("the issuer answered {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("the issuer's keys are longer than {SET_BYTES_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Unreadable(#[from] KeysError),
}

/// A set as it was fetched.
pub(super) struct Set {
    pub keys: Keys,
    /// Another one for another set; 0: there is none.
    pub number: u64,
    digest: [u8; 32],
}

/// The keys of one address.
pub struct Jwks {
    url: Url,
    client: Client,
    set: ArcSwap<Set>,
    none: Arc<Set>,
    /// Microseconds, as the next one.
    fetched_at: AtomicI64,
    tried_at: AtomicI64,
    fetching: Mutex<()>,
    waiting: Semaphore,
}

impl Jwks {
    /// Of an address that was checked: https, or http on this machine.
    pub fn new(url: &str) -> Result<Arc<Self>, JwksError> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(FETCH_SECONDS_MAX))
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            // Fetches are rare, and begun by whichever thread finds one due: a connection would outlive its thread's work.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")));
        let none = Arc::new(Set {
            keys: Keys::none(),
            number: 0,
            digest: [0; 32],
        });
        Ok(Arc::new(Self {
            url: Url::parse(url).map_err(|error| JwksError(error.into()))?,
            client: client.build().map_err(|error| JwksError(error.into()))?,
            set: ArcSwap::new(none.clone()),
            none,
            fetched_at: AtomicI64::new(i64::MIN),
            tried_at: AtomicI64::new(i64::MIN),
            fetching: Mutex::new(()),
            waiting: Semaphore::new(WAITING_MAX),
        }))
    }

    /// The keys that may be used now; none, if they were fetched too long ago or never.
    pub(super) fn current(&self, now: Timestamp) -> Arc<Set> {
        if passed(&self.fetched_at, KEYS_SECONDS_MAX, now) {
            return self.none.clone();
        }
        self.set.load_full()
    }

    /// Has the set fetched if it is old. Nobody waits for it.
    pub(super) fn keep_fresh(self: &Arc<Self>, now: Timestamp) {
        if passed(&self.fetched_at, FETCH_EVERY_SECONDS, now) && passed(&self.tried_at, FETCH_PAUSE_SECONDS, now) {
            drop(tokio::spawn(self.clone().fetch(now)));
        }
    }

    /// Waits until the set is as new as it may be, because a token names a key that it does not have.
    pub async fn renew(self: &Arc<Self>, now: Timestamp) {
        let Ok(_place) = self.waiting.try_acquire() else { return };
        if passed(&self.tried_at, FETCH_PAUSE_SECONDS, now) || self.fetching.try_lock().is_err() {
            // In a task of its own: whoever hangs up ends nobody else's wait.
            let _ = tokio::spawn(self.clone().fetch(now)).await;
        }
    }

    async fn fetch(self: Arc<Self>, now: Timestamp) {
        let _turn = self.fetching.lock().await;
        if !passed(&self.tried_at, FETCH_PAUSE_SECONDS, now) {
            return;
        }
        self.tried_at.store(now.micros(), Ordering::SeqCst);
        let fetched = async { self.take(&self.get().await?) };
        match fetched.await {
            Ok(is_new) => {
                self.fetched_at.store(now.micros(), Ordering::SeqCst);
                metrics::counter!("weir_jwks_fetches_total", "outcome" => "fetched").increment(1);
                tracing::debug!(is_new, "the issuer's keys were fetched");
            }
            Err(error) => {
                metrics::counter!("weir_jwks_fetches_total", "outcome" => "failed").increment(1);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the issuer's keys stay as they are for up to {KEYS_SECONDS_MAX} seconds");
            }
        }
    }

    async fn get(&self) -> Result<Vec<u8>, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable(error.without_url());
        let request = self.client.get(self.url.clone());
        let request = request.header(header::ACCEPT, "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if text.len() + chunk.len() > SET_BYTES_MAX {
                return Err(FetchError::TooLong);
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }

    /// Takes over a set; false: it is the one that is there.
    fn take(&self, text: &[u8]) -> Result<bool, FetchError> {
        let (keys, skipped) = jwk::read(text)?;
        let (digest, before) = (Sha256::digest(text).into(), self.set.load());
        if before.number > 0 && before.digest == digest {
            return Ok(false);
        }
        for why in skipped {
            tracing::info!(why, "a key of the issuer's set is not used");
        }
        if keys.is_empty() {
            tracing::warn!("the issuer's set has no key that verifies tokens");
        }
        let number = before.number + 1;
        self.set.store(Arc::new(Set { keys, number, digest }));
        Ok(true)
    }
}

/// Whether so many seconds lie between that moment and now, be it in the wrong order: a clock that was put back must not stop anything for
/// ever, and a request that began a little earlier than a fetch is none.
fn passed(since: &AtomicI64, seconds: i64, now: Timestamp) -> bool {
    let since = Timestamp::from_micros(since.load(Ordering::SeqCst));
    now >= since.plus_seconds(seconds) || now < since.plus_seconds(-seconds)
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("host", &self.url.host_str())
            .field("keys", &self.set.load().keys)
            .finish_non_exhaustive()
    }
}
