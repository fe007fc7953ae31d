//! An API key as the ledger keeps it: what it may do, until when, and the hash by which its secret is known again. The secret itself is
//! shown to its owner once and kept nowhere.

use super::id::{KeyId, WorkspaceId};
use super::scope::{Scope, ScopeSet};
use super::time::Timestamp;
use std::fmt;

/// The longest name of a key.
pub const KEY_NAME_CHARS_MAX: usize = 128;
/// The longest time for which a replaced secret goes on to work.
pub const OVERLAP_SECONDS_MAX: i64 = 30 * 24 * 3600;
/// Bytes of a secret's hash.
pub const HASH_BYTES: usize = 24;

/// The keyed hash of a secret: it makes no key, and no secret can be found from it. It is shown to nobody all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; HASH_BYTES]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    /// For people.
    pub name: Option<String>,
    pub scopes: ScopeSet,
    /// The one workspace that it sees; `None`: all.
    pub workspace: Option<WorkspaceId>,
    pub hash: SecretHash,
    /// The secret that was replaced last.
    pub replaced: Option<Replaced>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// To the minute or so, and never of the last moments.
    pub last_used_at: Option<Timestamp>,
    /// Rises with each change.
    pub version: u32,
}

/// A secret that was replaced, and works for a while beside the new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replaced {
    pub hash: SecretHash,
    /// Exclusive.
    pub until: Timestamp,
}

impl ApiKey {
    pub fn works_at(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// The hash that a secret may have besides the newest one.
    pub fn replaced_at(&self, now: Timestamp) -> Option<&SecretHash> {
        self.replaced
            .as_ref()
            .filter(|replaced| now < replaced.until)
            .map(|replaced| &replaced.hash)
    }

    /// What it may do. Without a workspace, `portal` would show everybody's usage.
    pub fn effective_scopes(&self) -> ScopeSet {
        match self.workspace {
            Some(_) => self.scopes,
            None => self.scopes.without(Scope::Portal),
        }
    }

    /// The key with a new secret; the one that it has now works until `until`, and the one before that no longer.
    pub fn rotated(&self, hash: SecretHash, until: Timestamp) -> Self {
        Self {
            hash,
            replaced: Some(Replaced { hash: self.hash, until }),
            version: self.version + 1,
            ..self.clone()
        }
    }

    pub fn revoked(&self, now: Timestamp) -> Self {
        Self {
            revoked_at: Some(now),
            version: self.version + 1,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn key() -> ApiKey {
        ApiKey {
            id: KeyId::from_uuid(Uuid::from_u128(1)),
            name: None,
            scopes: ScopeSet::of(Scope::Read).with(Scope::Portal),
            workspace: None,
            hash: SecretHash([1; HASH_BYTES]),
            replaced: None,
            created_by: "svc".to_owned(),
            created_at: NOW,
            expires_at: Some(NOW.plus_seconds(10)),
            revoked_at: None,
            last_used_at: None,
            version: 1,
        }
    }

    #[test]
    fn a_key_ends_at_its_expiry_or_when_it_is_revoked() {
        assert!(key().works_at(NOW.plus_seconds(9)));
        assert!(!key().works_at(NOW.plus_seconds(10)), "the expiry is exclusive");
        assert!(!key().revoked(NOW).works_at(NOW));
        let without_end = ApiKey { expires_at: None, ..key() };
        assert!(without_end.works_at(Timestamp::MAX));
    }

    #[test]
    fn of_replaced_secrets_the_last_one_works_until_its_time_is_over() {
        let once = key().rotated(SecretHash([2; HASH_BYTES]), NOW.plus_seconds(5));
        assert_eq!((once.hash, once.version), (SecretHash([2; HASH_BYTES]), 2));
        assert_eq!(once.replaced_at(NOW.plus_seconds(4)), Some(&SecretHash([1; HASH_BYTES])));
        assert_eq!(once.replaced_at(NOW.plus_seconds(5)), None);
        let twice = once.rotated(SecretHash([3; HASH_BYTES]), NOW.plus_seconds(5));
        assert_eq!(twice.replaced_at(NOW), Some(&SecretHash([2; HASH_BYTES])));
    }

    #[test]
    fn the_portal_is_of_one_workspace() {
        assert!(!key().effective_scopes().contains(Scope::Portal));
        let bound = ApiKey {
            workspace: WorkspaceId::parse("ws").ok(),
            ..key()
        };
        assert!(bound.effective_scopes().contains(Scope::Portal));
    }
}
