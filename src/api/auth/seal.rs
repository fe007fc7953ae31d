//! What marks a credential as made here: API keys, of which only a keyed hash is kept, and portal tokens.
//!
//! An API key is `weir_sk_`, the digits of its id, `_`, and 32 bytes in base64url: 24 of chance and a mark of 8. One keyed hash over id and
//! chance gives the mark and, in its other 24 bytes, what the ledger keeps. So a key that was made up fails by its mark alone, by the same
//! work whether or not its id exists, and without any store being asked; and what the ledger keeps makes no key, and finds none.

use super::keys::{Keys, KeysError};
use super::token::{Claims, Refused, Rules, mint};
use super::{Identity, Scope, ScopeSet};
use crate::clock::{NoRandomness, secret_bytes};
use crate::decision::api_key::{ApiKey, HASH_BYTES, SecretHash};
use crate::decision::id::{KeyId, WorkspaceId};
use crate::decision::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

use super::cache::Verified;

/// Begins every API key, so that people and programs that look for leaked secrets know one.
pub const KEY_PREFIX: &str = "weir_sk_";
/// Begins every portal token.
pub const PORTAL_PREFIX: &str = "weir_pt_";
/// The digits of an id.
const DIGITS: usize = 32;
const CHANCE_BYTES: usize = 24;
const MARK_BYTES: usize = 8;
/// Who a portal token is of. Tokens of the configured issuer are another matter, and signed with another key.
const PORTAL_ISSUER: &str = "weir-portal";

/// The keys that are made from the secret, one for each purpose.
pub struct Seal {
    keys: Hmac<Sha256>,
    portal_key: [u8; 32],
    portal: Rules,
}

impl Seal {
    /// Of a secret of at least 32 bytes. Portal tokens are for `audience`, as all others.
    pub fn new(secret: &[u8], audience: &str) -> Result<Self, KeysError> {
        if secret.len() < super::SECRET_BYTES_MIN {
            return Err(KeysError::ShortSecret(secret.len()));
        }
        let portal_key = derived(secret, "weir portal tokens v1");
        Ok(Self {
            keys: keyed(&derived(secret, "weir api keys v1")),
            portal: Rules {
                keys: Keys::none().with_secret(&portal_key)?,
                issuer: PORTAL_ISSUER.to_owned(),
                audience: audience.to_owned(),
            },
            portal_key,
        })
    }

    /// A secret for this key, and what is to be kept of it.
    pub fn make_key(&self, id: KeyId) -> Result<(String, SecretHash), NoRandomness> {
        let chance: [u8; CHANCE_BYTES] = secret_bytes()?;
        let (mark, hash) = self.digest(id, &chance);
        let packed = URL_SAFE_NO_PAD.encode([&chance[..], &mark[..]].concat());
        Ok((format!("{KEY_PREFIX}{}_{packed}", id.digits()), hash))
    }

    /// The id that a key names, and what its secret hashes to; `None`: it is not one that was made here.
    pub(super) fn read_key(&self, text: &str) -> Option<(KeyId, SecretHash)> {
        let (digits, packed) = text.strip_prefix(KEY_PREFIX)?.split_at_checked(DIGITS)?;
        let id = KeyId::from_digits(digits)?;
        let mut bytes = [0; CHANCE_BYTES + MARK_BYTES];
        // Exactly so many bytes: more do not fit, and fewer are refused here.
        let length = URL_SAFE_NO_PAD.decode_slice(packed.strip_prefix('_')?, &mut bytes).ok()?;
        if length != bytes.len() {
            return None;
        }
        let (chance, given) = bytes.split_at(CHANCE_BYTES);
        let (mark, hash) = self.digest(id, chance);
        bool::from(mark.ct_eq(given)).then_some((id, hash))
    }

    fn digest(&self, id: KeyId, chance: &[u8]) -> ([u8; MARK_BYTES], SecretHash) {
        #[cfg(test)]
        counted::DIGESTS.with(|count| count.set(count.get() + 1));
        let mut mac = self.keys.clone();
        mac.update(&id.as_bytes());
        mac.update(chance);
        let whole = mac.finalize().into_bytes();
        let (mut mark, mut hash) = ([0; MARK_BYTES], [0; HASH_BYTES]);
        mark.copy_from_slice(&whole[..MARK_BYTES]);
        hash.copy_from_slice(&whole[MARK_BYTES..]);
        (mark, SecretHash(hash))
    }

    /// A token that shows this workspace's usage to its customer.
    pub fn portal_token(&self, workspace: &WorkspaceId, issued_at: Timestamp, ttl_seconds: u32) -> String {
        let claims = Claims {
            issuer: PORTAL_ISSUER,
            audience: &self.portal.audience,
            subject: "portal",
            scopes: ScopeSet::of(Scope::Portal),
            workspace: Some(workspace),
            issued_at,
            ttl_seconds,
        };
        format!("{PORTAL_PREFIX}{}", mint(&self.portal_key, &claims))
    }

    /// Whom a portal token is of. It opens a portal and nothing else, whatever it says.
    pub(super) fn read_portal(&self, token: &str, now: Timestamp) -> Result<Verified, Refused> {
        let token = token.strip_prefix(PORTAL_PREFIX).ok_or(Refused::Form("it is no portal token"))?;
        let mut verified = self.portal.verify(&Keys::none(), token, now)?;
        let scopes = &mut verified.identity.scopes;
        *scopes = match scopes.contains(Scope::Portal) {
            true => ScopeSet::of(Scope::Portal),
            false => ScopeSet::EMPTY,
        };
        Ok(verified)
    }
}

/// Whoever bears this key with a secret of this hash; `None`: it is another secret, or the key does not work any more. Compares both
/// secrets that a key may have, whichever it is.
pub(super) fn identity(key: &ApiKey, hash: &SecretHash, now: Timestamp) -> Option<Identity> {
    let newest = key.hash.0.ct_eq(&hash.0);
    let replaced = key.replaced_at(now).unwrap_or(&key.hash).0.ct_eq(&hash.0);
    (bool::from(newest | replaced) && key.works_at(now)).then(|| Identity {
        subject: key.id.to_string(),
        scopes: key.effective_scopes(),
        workspace: key.workspace.clone(),
    })
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of HMAC may have any length")
}

fn derived(secret: &[u8], purpose: &str) -> [u8; 32] {
    let mut mac = keyed(secret);
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::auth::TOKEN_BYTES_MAX;
    use uuid::Uuid;

    const SECRET: &[u8] = b"a secret of 32 bytes and no less";
    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn seal() -> Seal {
        Seal::new(SECRET, "weir").expect("long enough")
    }

    fn id(number: u128) -> KeyId {
        KeyId::from_uuid(Uuid::from_u128(number))
    }

    fn key(hash: SecretHash) -> ApiKey {
        ApiKey {
            id: id(7),
            name: None,
            scopes: ScopeSet::of(Scope::Read),
            workspace: None,
            hash,
            replaced: None,
            created_by: "svc".to_owned(),
            created_at: NOW,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            version: 1,
        }
    }

    /// The same text with another character at this place from its end.
    fn changed(text: &str, from_end: usize) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let at = bytes.len() - 1 - from_end;
        bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    }

    #[test]
    fn a_key_is_known_by_its_hash_and_by_nothing_else() {
        let (text, hash) = seal().make_key(id(7)).expect("chance");
        assert!(text.starts_with("weir_sk_00000000000000000000000000000007_"), "{text}");
        assert_eq!(text.len(), KEY_PREFIX.len() + DIGITS + 1 + 43);
        assert_eq!(seal().read_key(&text), Some((id(7), hash)));
        let (other, other_hash) = seal().make_key(id(7)).expect("chance");
        assert!(other != text && other_hash != hash, "of one id there are many secrets");
        let elsewhere = Seal::new(b"another secret of 32 bytes or so", "weir").expect("long enough");
        assert_eq!(elsewhere.read_key(&text), None);

        assert_eq!(
            identity(&key(hash), &hash, NOW).map(|identity| identity.subject),
            Some(id(7).to_string())
        );
        assert_eq!(identity(&key(hash), &other_hash, NOW), None);
        let rotated = key(hash).rotated(other_hash, NOW.plus_seconds(10));
        for (given, second, good) in [
            (hash, 9, true),
            (hash, 10, false),
            (other_hash, 9, true),
            (other_hash, 10, true),
            (SecretHash([0; HASH_BYTES]), 9, false),
        ] {
            assert_eq!(identity(&rotated, &given, NOW.plus_seconds(second)).is_some(), good, "{second}");
        }
        assert_eq!(identity(&key(hash).revoked(NOW), &hash, NOW), None);
    }

    #[test]
    fn a_made_up_id_and_a_wrong_secret_are_the_same_work() {
        let (text, _) = seal().make_key(id(7)).expect("chance");
        let work = |text: &str| {
            let before = counted::DIGESTS.with(std::cell::Cell::get);
            let found = seal().read_key(text).is_some();
            (found, counted::DIGESTS.with(std::cell::Cell::get) - before)
        };
        assert_eq!(work(&text), (true, 1));
        let of_nobody = text.replacen("0007_", "0008_", 1);
        for refused in [&of_nobody, &changed(&text, 20), &changed(&text, 1)] {
            assert_eq!(work(refused), (false, 1), "{refused}");
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_key_is_none() {
        let (text, _) = seal().make_key(id(0xabc)).expect("chance");
        for broken in [
            String::new(),
            KEY_PREFIX.to_owned(),
            text[..text.len() - 1].to_owned(),
            format!("{text}A"),
            format!("{text}="),
            format!("{text}\n"),
            text.replacen("abc", "ABC", 1),
            text.replacen("weir_sk_0", "weir_sk_+", 1),
            text.replacen("weir_sk_", "WEIR_SK_", 1),
            text.replacen("weir_sk_", "weir_sk_\u{e4}", 1),
            format!("{KEY_PREFIX}{}", "_".repeat(TOKEN_BYTES_MAX)),
        ] {
            assert_eq!(seal().read_key(&broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_portal_token_opens_a_portal_and_nothing_else() {
        let workspace = WorkspaceId::parse("ws_a").expect("a name");
        let token = seal().portal_token(&workspace, NOW, 60);
        let verified = seal().read_portal(&token, NOW).expect("our own");
        assert_eq!(verified.identity.scopes.joined(" "), "portal");
        assert_eq!(verified.identity.workspace, Some(workspace.clone()));
        assert!(seal().read_portal(&token, NOW.plus_seconds(60 + 60)).is_err(), "it has ended");
        assert!(seal().read_portal(&token[PORTAL_PREFIX.len()..], NOW).is_err());
        assert!(seal().read_portal(&changed(&token, 10), NOW).is_err());
        assert!(
            Seal::new(SECRET, "elsewhere")
                .expect("long enough")
                .read_portal(&token, NOW)
                .is_err()
        );
        // Even if somebody signed more with that key.
        let more = Claims {
            issuer: PORTAL_ISSUER,
            audience: "weir",
            subject: "portal",
            scopes: ScopeSet::of(Scope::Admin),
            workspace: Some(&workspace),
            issued_at: NOW,
            ttl_seconds: 60,
        };
        let token = format!("{PORTAL_PREFIX}{}", mint(&seal().portal_key, &more));
        assert!(seal().read_portal(&token, NOW).expect("well signed").identity.scopes.is_empty());
    }

    #[test]
    fn the_keys_of_both_purposes_differ_from_the_secret_and_from_each_other() {
        let (a, b) = (derived(SECRET, "weir api keys v1"), derived(SECRET, "weir portal tokens v1"));
        assert!(a != b && a[..] != *SECRET && b[..] != *SECRET);
        assert_eq!(Seal::new(&[0; 31], "weir").expect_err("short"), KeysError::ShortSecret(31));
        let shown = format!("{:?} {:?}", seal(), key(SecretHash([0xab; HASH_BYTES])));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
    }
}

#[cfg(test)]
pub(super) mod counted {
    thread_local! {
        /// How many keys were hashed by this thread.
        pub static DIGESTS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
}
