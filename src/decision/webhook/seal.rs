//! How a signing secret is kept: encrypted, because unlike a password it must be had again to sign with. Whoever gets the database alone,
//! or a copy of it, cannot sign; whoever also has the service's secret key can.
//!
//! AES-256-GCM, bound to the endpoint that the secret is of, so that one cannot be passed off as another's.

use super::sign::{SECRET_BYTES, Secret};
use crate::decision::id::WebhookEndpointId;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Chance that is used once, for one seal.
pub const NONCE_BYTES: usize = NONCE_LEN;
const TAG_BYTES: usize = 16;

/// A secret as it is kept: the nonce, then what is encrypted and its tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// As it was kept; `None`: it has not the form.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() == NONCE_BYTES + SECRET_BYTES + TAG_BYTES).then_some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(sealed)")
    }
}

/// What seals and opens.
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// Made from the service's secret key, for this purpose only.
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of HMAC may have any length");
        mac.update(b"weir webhook secrets v1");
        let key = UnboundKey::new(&AES_256_GCM, &mac.finalize().into_bytes()).expect("HMAC-SHA256 gives a key of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    pub fn seal(&self, of: WebhookEndpointId, secret: &Secret, nonce: [u8; NONCE_BYTES]) -> Sealed {
        let mut bytes = secret.bytes().to_vec();
        let sealed = self
            .0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(of), &mut bytes);
        sealed.expect("32 bytes are less than AES-GCM can seal");
        Sealed([&nonce[..], &bytes].concat())
    }

    /// The secret; `None`: it was sealed with another key, for another endpoint, or was altered.
    pub fn open(&self, of: WebhookEndpointId, sealed: &Sealed) -> Option<Secret> {
        let (nonce, rest) = sealed.0.split_first_chunk::<NONCE_BYTES>()?;
        let mut rest = rest.to_vec();
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(of), &mut rest)
            .ok()?;
        Some(Secret::new(<[u8; SECRET_BYTES]>::try_from(&*opened).ok()?))
    }
}

fn aad(of: WebhookEndpointId) -> Aad<String> {
    Aad::from(of.to_string())
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(number: u128) -> WebhookEndpointId {
        WebhookEndpointId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn a_sealed_secret_is_opened_with_its_key_for_its_endpoint_and_no_other() {
        let (key, secret) = (SealKey::new(&[1; 32]), Secret::new([0xab; SECRET_BYTES]));
        let sealed = key.seal(id(1), &secret, [9; NONCE_BYTES]);
        assert_eq!(key.open(id(1), &sealed), Some(secret.clone()));
        assert_eq!(key.open(id(2), &sealed), None, "of another endpoint");
        assert_eq!(SealKey::new(&[2; 32]).open(id(1), &sealed), None, "with another key");
        let mut altered = sealed.as_bytes().to_vec();
        altered[NONCE_BYTES] ^= 1;
        assert_eq!(key.open(id(1), &Sealed::from_bytes(altered).expect("of the form")), None);
        assert!(!sealed.as_bytes().windows(4).any(|bytes| bytes == [0xab; 4]), "it is not in clear");
        assert_ne!(sealed, key.seal(id(1), &secret, [8; NONCE_BYTES]));
        assert_eq!(Sealed::from_bytes(vec![0; 3]), None);
    }
}
