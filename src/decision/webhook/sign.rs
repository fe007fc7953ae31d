//! Signatures of Standard Webhooks, symmetric: `v1,` and HMAC-SHA256 over id, time and body. And the secrets that make them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Begins every secret, so that people and programs that look for leaked secrets know one.
pub const SECRET_PREFIX: &str = "whsec_";
/// How many bytes of chance a secret has; the specification asks for 24 to 64.
pub const SECRET_BYTES: usize = 32;
/// The characters of a secret as it is shown.
pub const SECRET_CHARS: usize = SECRET_PREFIX.len() + SECRET_BYTES.div_ceil(3) * 4;

/// What signs. Shown once, to whoever made it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub const fn new(chance: [u8; SECRET_BYTES]) -> Self {
        Self(chance)
    }

    /// As its owner gets it.
    pub fn shown(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(self.0))
    }

    pub(super) const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The header `webhook-signature`: a signature by each of these secrets, so that whoever knows one of them can verify it.
pub fn signatures(secrets: &[Secret], id: &str, unix_seconds: i64, body: &str) -> String {
    let signed: Vec<String> = secrets
        .iter()
        .map(|secret| signature(secret.bytes(), id, unix_seconds, body))
        .collect();
    signed.join(" ")
}

/// One signature, by a secret of any length.
pub fn signature(secret: &[u8], id: &str, unix_seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of HMAC may have any length");
    for part in [id, ".", &unix_seconds.to_string(), ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_what_the_specification_says() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_official_library_verifies_each_signature() {
        let (old, new) = (Secret::new([1; SECRET_BYTES]), Secret::new([2; SECRET_BYTES]));
        let body = "{\"n\":\"na\u{ef}ve \u{914d}\u{989d}\"}";
        // The library has no clock to give, so it is asked about a moment near its own.
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()).expect("seconds");
        let header = signatures(&[new.clone(), old.clone()], "evt_1", now, body);
        assert_eq!(header.split(' ').count(), 2);
        for (secret, is_good) in [(&old, true), (&new, true), (&Secret::new([3; SECRET_BYTES]), false)] {
            let library = standardwebhooks::Webhook::new(&secret.shown()).expect("a secret");
            let headers: reqwest::header::HeaderMap = [
                ("webhook-id", "evt_1".to_owned()),
                ("webhook-timestamp", now.to_string()),
                ("webhook-signature", header.clone()),
            ]
            .into_iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect();
            assert_eq!(library.verify(body.as_bytes(), &headers).is_ok(), is_good);
            let other = "{}";
            assert!(library.verify(other.as_bytes(), &headers).is_err(), "another body is not signed");
        }
    }

    #[test]
    fn a_secret_is_shown_once_and_never_by_accident() {
        let secret = Secret::new([0xab; SECRET_BYTES]);
        assert_eq!(secret.shown().len(), SECRET_CHARS);
        assert!(!format!("{secret:?}").contains("ab"), "{secret:?}");
    }
}
