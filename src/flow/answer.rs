//! Answer: what a request under an `Idempotency-Key` was answered with is kept for a day beside the ledger, so that whoever repeats it is
//! told the same, after a restart and by another process too.
//!
//! A crash between the work and its answer leaves no answer: the request then runs again, and its request ids say what was recorded.

use super::{FlowError, Service};
pub use crate::ledger::KeptAnswer;

/// How long an answer is told again.
pub const KEPT_SECONDS: i64 = 24 * 3600;

/// The answer that was kept under `key`, if that is not too long ago.
pub async fn recall(service: &Service, key: u128) -> Result<Option<KeptAnswer>, FlowError> {
    let since = service.clock.now().plus_seconds(-KEPT_SECONDS);
    Ok(service.ledger.answer_once(key, None, since).await?)
}

/// Keeps an answer. Where that fails the answer is given all the same: what it tells is done, and is not done again.
pub async fn keep(service: &Service, key: u128, answer: KeptAnswer) {
    let since = service.clock.now().plus_seconds(-KEPT_SECONDS);
    if let Err(error) = service.ledger.answer_once(key, Some(answer), since).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an answer could not be kept under its Idempotency-Key"
        );
    }
}
