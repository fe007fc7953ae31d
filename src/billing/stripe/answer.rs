//! What Stripe's errors mean for a call: whether it was taken, was not, or nobody knows. Whoever cannot be told from "it may have been
//! taken" is unknown: only what is certain may be sent again under another identifier.

use crate::decision::billing::delivery::Answer;
use stripe::{ApiErrors, ApiErrorsCode, ApiErrorsType, StripeError};

/// Characters of Stripe's words that are kept.
const WORDS_CHARS_MAX: usize = 300;

/// What a failed call says of a meter event.
pub(super) fn answer(error: &StripeError) -> Answer {
    match error {
        StripeError::Stripe(error, status) => refused(error, *status),
        // Nothing was sent: there was no connection to send it on.
        StripeError::ClientError(text) if text.starts_with("client error (Connect)") => Answer::RetryAfter {
            seconds: None,
            is_away: true,
            reason: "Stripe cannot be reached".to_owned(),
        },
        StripeError::Timeout => unknown("no answer in time"),
        StripeError::ClientError(_) => unknown("the connection broke"),
        // Also an answer whose words cannot be read, such as a proxy's page.
        StripeError::JSONDeserialize(_) => unknown("the answer cannot be read"),
        StripeError::ConfigError(text) => Answer::RetryAfter {
            seconds: None,
            is_away: true,
            reason: format!("the request cannot be made: {text}"),
        },
    }
}

fn unknown(reason: &str) -> Answer {
    Answer::Unknown { reason: reason.to_owned() }
}

fn refused(error: &ApiErrors, status: u16) -> Answer {
    let reason = words(error, status);
    let busy = |seconds, is_away| Answer::RetryAfter {
        seconds,
        is_away,
        reason: reason.clone(),
    };
    match status {
        _ if is_duplicate(error) => Answer::Duplicate,
        // The key is wrong or may not do this: no fault of the batch, and it waits until somebody mends it.
        401 | 403 => busy(Some(60), true),
        // Another call about the same customer and meter is running, or there are too many; this one was not begun.
        429 => busy(None, false),
        // A call under the same key is running. What becomes of it, its own answer would tell.
        409 => unknown(&reason),
        400..=499 => Answer::Rejected { reason },
        _ => unknown(&reason),
    }
}

/// Stripe has the event already, which is what was wanted. It documents a code, and sends words without one.
fn is_duplicate(error: &ApiErrors) -> bool {
    let is_code = error.code.as_ref().is_some_and(|code| code.as_str() == "duplicate_meter_event");
    let says_so = || {
        error
            .message
            .as_deref()
            .is_some_and(|message| message.contains("event already exists with identifier"))
    };
    is_code || (error.type_ == ApiErrorsType::InvalidRequestError && says_so())
}

/// Whether what was asked about does not exist there.
pub(super) fn is_missing(error: &StripeError) -> bool {
    matches!(error, StripeError::Stripe(error, 400 | 404) if error.code == Some(ApiErrorsCode::ResourceMissing))
}

/// Stripe's own words, without what it was sent.
fn words(error: &ApiErrors, status: u16) -> String {
    let code = error.code.as_ref().map_or(error.type_.as_str(), |code| code.as_str());
    let message = error.message.as_deref().unwrap_or("no words");
    let message: String = message.chars().take(WORDS_CHARS_MAX).collect();
    format!("{status} {code}: {message}")
}

/// The same for people, for what is no meter event.
pub(super) fn told(error: &StripeError) -> String {
    match answer(error) {
        Answer::Rejected { reason } | Answer::Unknown { reason } | Answer::NoMeter { reason } | Answer::RetryAfter { reason, .. } => reason,
        Answer::Acknowledged | Answer::Duplicate => "it is there already".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripe(status: u16, kind: &str, code: Option<&str>, message: &str) -> StripeError {
        let error = ApiErrors {
            advice_code: None,
            charge: None,
            code: code.map(|code| code.parse().expect("a code")),
            decline_code: None,
            doc_url: None,
            message: Some(message.to_owned()),
            network_advice_code: None,
            network_decline_code: None,
            param: None,
            payment_intent: None,
            payment_method: None,
            payment_method_type: None,
            request_log_url: None,
            setup_intent: None,
            source: None,
            type_: kind.parse().expect("a type"),
        };
        StripeError::Stripe(Box::new(error), status)
    }

    #[test]
    fn each_error_says_whether_it_was_taken() {
        let invalid = "invalid_request_error";
        let rows = [
            (
                stripe(400, invalid, None, "An event already exists with identifier bat_1."),
                "duplicate",
            ),
            (stripe(400, invalid, Some("duplicate_meter_event"), "It is there."), "duplicate"),
            // The words alone, of another kind of error, prove nothing.
            (stripe(500, "api_error", None, "event already exists with identifier"), "unknown"),
            (stripe(400, invalid, Some("timestamp_too_far_in_past"), "Too old."), "rejected"),
            (stripe(400, "idempotency_error", None, "Another request had this key."), "rejected"),
            (stripe(404, invalid, Some("resource_missing"), "No such meter."), "rejected"),
            (
                stripe(409, "idempotency_error", Some("idempotency_key_in_use"), "In progress."),
                "unknown",
            ),
            (stripe(429, invalid, Some("lock_timeout"), "Locked."), "busy"),
            (stripe(429, invalid, Some("rate_limit"), "Too many."), "busy"),
            (stripe(401, invalid, None, "Invalid API Key provided."), "away"),
            (stripe(403, invalid, None, "Not permitted."), "away"),
            (stripe(500, "api_error", None, "Sorry."), "unknown"),
            (stripe(503, "api_error", None, "Sorry."), "unknown"),
            (StripeError::Timeout, "unknown"),
            (StripeError::ClientError("client error (Connect)".to_owned()), "away"),
            (StripeError::ClientError("client error (SendRequest)".to_owned()), "unknown"),
            (
                StripeError::ClientError("connection closed before message completed".to_owned()),
                "unknown",
            ),
            (
                StripeError::JSONDeserialize("error deserializing Stripe error".to_owned()),
                "unknown",
            ),
        ];
        for (error, expected) in rows {
            let found = match answer(&error) {
                Answer::Acknowledged => "acknowledged",
                Answer::Duplicate => "duplicate",
                Answer::Rejected { .. } => "rejected",
                Answer::RetryAfter { is_away: true, .. } => "away",
                Answer::RetryAfter { .. } => "busy",
                Answer::NoMeter { .. } => "no meter",
                Answer::Unknown { .. } => "unknown",
            };
            assert_eq!(found, expected, "{error}");
        }
        assert_eq!(
            told(&stripe(400, invalid, Some("timestamp_too_far_in_past"), "Too old.")),
            "400 timestamp_too_far_in_past: Too old."
        );
        assert!(is_missing(&stripe(400, invalid, Some("resource_missing"), "No such customer.")));
        assert!(!is_missing(&stripe(400, invalid, None, "No such customer.")));
    }
}
