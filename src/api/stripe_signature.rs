//! Who signed a body: Stripe's scheme of `Stripe-Signature`, `t=…,v1=…`.
//!
//! A signature is HMAC-SHA256, in lower-case hexadecimal, over the time, a point and the body as it came. Any of several `v1` may fit, by
//! any of several secrets: so both can be rolled. Every pair is compared, each in constant time, so how long it takes tells nothing. Other
//! schemes than `v1` are passed over, or they could be used to get around it. A time that is too old is a replay, and one that is too far
//! ahead could be replayed for as long.

use crate::flow::SigningSecrets;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// How far the time of a signature may be from ours, before or after.
pub const TOLERANCE_SECONDS: i64 = 300;
/// The longest header that is looked at.
const HEADER_BYTES_MAX: usize = 4_096;
/// The most signatures of one header that are compared.
const SIGNATURES_MAX: usize = 16;

/// Why a body is not taken for Stripe's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The header is missing, or it is no time with signatures.
    Unreadable,
    /// None of its signatures is one of this body by one of our secrets.
    Unsigned,
    /// It is signed, and too old or too far ahead.
    Untimely,
}

impl Refused {
    pub const fn why(self) -> &'static str {
        match self {
            Refused::Unreadable => "Stripe-Signature must be t=SECONDS,v1=SIGNATURE",
            Refused::Unsigned => "no signature in Stripe-Signature is one of this body by our secret",
            Refused::Untimely => "the time in Stripe-Signature is more than 300 seconds from now",
        }
    }
}

/// Whether `header` signs `body`, `now` being seconds since 1970.
pub fn check(header: Option<&str>, body: &[u8], secrets: &SigningSecrets, now: i64) -> Result<(), Refused> {
    let header = header
        .filter(|header| header.len() <= HEADER_BYTES_MAX)
        .ok_or(Refused::Unreadable)?;
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.split_once('=') {
            Some(("t", seconds)) if time.is_none() => time = Some(seconds),
            Some(("v1", signature)) if signatures.len() < SIGNATURES_MAX => signatures.push(signature),
            _ => {}
        }
    }
    let time: i64 = time.and_then(|time| time.parse().ok()).ok_or(Refused::Unreadable)?;
    if signatures.is_empty() {
        return Err(Refused::Unreadable);
    }
    let mut is_signed = Choice::from(0);
    for secret in secrets.each() {
        let expected = sign(secret, time, body);
        for signature in &signatures {
            is_signed |= expected.as_bytes().ct_eq(signature.as_bytes());
        }
    }
    if !bool::from(is_signed) {
        return Err(Refused::Unsigned);
    }
    if time.abs_diff(now) > TOLERANCE_SECONDS.unsigned_abs() {
        return Err(Refused::Untimely);
    }
    Ok(())
}

/// The signature of a body at a time.
pub fn sign(secret: &[u8], time: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
    mac.update(time.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id": "evt_1", "object": "event"}"#;
    const NOW: i64 = 1_764_000_000;

    fn secrets() -> SigningSecrets {
        SigningSecrets::parse("whsec_new, whsec_old").expect("two secrets")
    }

    #[track_caller]
    fn is(header: &str, expected: Result<(), Refused>) {
        assert_eq!(check(Some(header), BODY, &secrets(), NOW), expected, "{header}");
    }

    #[test]
    fn a_signature_by_any_of_our_secrets_is_taken_and_nothing_else() {
        let new = sign(b"whsec_new", NOW, BODY);
        let old = sign(b"whsec_old", NOW, BODY);
        let foreign = sign(b"whsec_foreign", NOW, BODY);
        for (header, expected) in [
            (format!("t={NOW},v1={new}"), Ok(())),
            (format!("t={NOW},v1={old}"), Ok(())),
            (format!("v1={foreign},v1={old},t={NOW},v0=x"), Ok(())),
            (format!("t={NOW},t=5,v1={new}"), Ok(())),
            (format!("t=5,t={NOW},v1={new}"), Err(Refused::Unsigned)),
            (format!("t={NOW},v1={foreign}"), Err(Refused::Unsigned)),
            (format!("t={NOW},v0={new}"), Err(Refused::Unreadable)),
            (format!("t={NOW}, v1={new}"), Err(Refused::Unreadable)),
            (format!("t={NOW},v1={}", new.to_uppercase()), Err(Refused::Unsigned)),
            (format!("t={NOW},v1={}", &new[..63]), Err(Refused::Unsigned)),
            (format!("t={NOW},v1="), Err(Refused::Unsigned)),
            (format!("t={NOW}"), Err(Refused::Unreadable)),
            (format!("v1={new}"), Err(Refused::Unreadable)),
            (format!("t=soon,v1={new}"), Err(Refused::Unreadable)),
            (String::new(), Err(Refused::Unreadable)),
            (
                format!("t={NOW},v1={new},{}", "x".repeat(HEADER_BYTES_MAX)),
                Err(Refused::Unreadable),
            ),
        ] {
            is(&header, expected);
        }
        assert_eq!(check(None, BODY, &secrets(), NOW), Err(Refused::Unreadable));
        let header = format!("t={NOW},v1={new}");
        assert_eq!(check(Some(&header), b"{}", &secrets(), NOW), Err(Refused::Unsigned));
    }

    #[test]
    fn a_time_is_taken_until_five_minutes_before_and_after() {
        for (offset, expected) in [
            (0, Ok(())),
            (-300, Ok(())),
            (300, Ok(())),
            (-301, Err(Refused::Untimely)),
            (301, Err(Refused::Untimely)),
            (i64::MIN / 2, Err(Refused::Untimely)),
        ] {
            let time = NOW + offset;
            is(&format!("t={time},v1={}", sign(b"whsec_new", time, BODY)), expected);
        }
    }

    #[test]
    fn the_scheme_is_the_documented_one() {
        // Worked out with another implementation: printf '1764000000.{"id": "evt_1", "object": "event"}' | openssl dgst -sha256 -hmac whsec_new
        assert_eq!(sign(b"whsec_new", NOW, BODY), OPENSSL);
    }

    const OPENSSL: &str = "a7d39b360eb478559278d2a58ea978afb05823201a77682f4f2f75114cb8d84e";
}
