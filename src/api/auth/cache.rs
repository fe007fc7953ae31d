//! Credentials that were verified not long ago, so that a hot caller costs a look-up instead of a signature or a hash.
//!
//! Bounded: each shard has a young and an old generation, and when the young one is full it becomes the old one. What is in use moves
//! over with its next look-up, what is not goes. Only tokens with a good signature get in, so no stranger can push others out.

use super::Identity;
use crate::decision::time::Timestamp;
use foldhash::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many tokens are remembered at most, of all shards and both generations.
pub(super) const TOKENS_MAX: usize = 8_192;
/// Longer tokens are verified each time, so that the cache takes at most 16 MiB.
const TOKEN_BYTES_MAX: usize = 2_048;
const SHARDS: usize = 16;
const GENERATION_TOKENS_MAX: usize = TOKENS_MAX / SHARDS / 2;

/// A verified token's identity, and from when until when it is valid (leeway included).
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Verified {
    pub identity: Identity,
    pub from: Timestamp,
    pub until: Timestamp,
    /// The issuer's keys by which it was verified, by number: with other keys it is verified anew. 0: there are none.
    pub set: u64,
}

impl Verified {
    pub(super) fn holds(&self, now: Timestamp, set: u64) -> bool {
        self.from <= now && now < self.until && self.set == set
    }
}

type Generation<T> = HashMap<Box<str>, T>;

struct Shard<T> {
    young: Generation<T>,
    old: Generation<T>,
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
        }
    }
}

/// What is known of each credential.
pub(super) struct Cache<T = Verified> {
    shards: [Mutex<Shard<T>>; SHARDS],
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            shards: Default::default(),
        }
    }
}

impl Cache {
    pub(super) fn find(&self, token: &str, now: Timestamp, set: u64) -> Option<Identity> {
        self.locked(token, |shard| {
            if let Some(verified) = shard.young.get(token) {
                return verified.holds(now, set).then(|| verified.identity.clone());
            }
            let (token, verified) = shard.old.remove_entry(token)?;
            let identity = verified.holds(now, set).then(|| verified.identity.clone());
            if identity.is_some() {
                shard.insert(token, verified);
            }
            identity
        })
    }

    pub(super) fn keep(&self, token: &str, verified: Verified, now: Timestamp) {
        if token.len() <= TOKEN_BYTES_MAX && verified.holds(now, verified.set) {
            self.locked(token, |shard| shard.insert(token.into(), verified));
        }
    }
}

impl<T: Copy> Cache<T> {
    /// What never changes is known for as long as it is in use.
    pub(super) fn find_or(&self, token: &str, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let found = self.locked(token, |shard| {
            if let Some(known) = shard.young.get(token) {
                return Some(*known);
            }
            let (token, known) = shard.old.remove_entry(token)?;
            shard.insert(token, known);
            Some(known)
        });
        if found.is_some() {
            return found;
        }
        let known = read()?;
        self.locked(token, |shard| shard.insert(token.into(), known));
        Some(known)
    }
}

impl<T> Cache<T> {
    fn locked<R>(&self, token: &str, with: impl FnOnce(&mut Shard<T>) -> R) -> R {
        // The end of a token is of its signature, which spreads as well as any hash.
        let end = token
            .bytes()
            .rev()
            .take(8)
            .fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let shard = &self.shards[end % SHARDS];
        with(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Shard<T> {
    fn insert(&mut self, token: Box<str>, verified: T) {
        if self.young.len() >= GENERATION_TOKENS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);

    fn verified(subject: &str) -> Verified {
        let identity = Identity {
            subject: subject.to_owned(),
            ..Identity::anonymous()
        };
        Verified {
            identity,
            from: NOW,
            until: NOW.plus_seconds(10),
            set: 1,
        }
    }

    fn count(cache: &Cache) -> usize {
        cache
            .shards
            .iter()
            .map(|shard| shard.lock().map_or(0, |shard| shard.young.len() + shard.old.len()))
            .sum()
    }

    #[test]
    fn a_hit_ends_with_the_validity_of_the_token() {
        let cache = Cache::<Verified>::default();
        cache.keep("t", verified("s"), NOW);
        let found = |seconds: i64| cache.find("t", NOW.plus_seconds(seconds), 1).map(|identity| identity.subject);
        assert_eq!(found(0).as_deref(), Some("s"));
        assert_eq!(found(9).as_deref(), Some("s"));
        assert_eq!(found(10), None);
        assert_eq!(found(-1), None);
        assert_eq!(cache.find("other", NOW, 1), None);
        assert_eq!(cache.find("t", NOW, 2), None, "the keys have changed since");
    }

    #[test]
    fn it_never_grows_beyond_its_bound_and_what_is_in_use_stays() {
        let cache = Cache::<Verified>::default();
        cache.keep("in use", verified("hot"), NOW);
        for n in 0..4 * TOKENS_MAX {
            cache.keep(&format!("token {n:08}"), verified("s"), NOW);
            assert!(n % 64 != 0 || cache.find("in use", NOW, 1).is_some(), "lost after {n} others");
        }
        assert!(count(&cache) <= TOKENS_MAX, "{}", count(&cache));
        assert!(count(&cache) >= TOKENS_MAX / 4, "{}", count(&cache));
    }

    #[test]
    fn what_never_changes_is_read_once_and_what_is_refused_is_not_kept() {
        let cache = Cache::<u32>::default();
        assert_eq!(cache.find_or("a", || None), None);
        assert_eq!(cache.find_or("a", || Some(7)), Some(7));
        for n in 0..TOKENS_MAX {
            assert_eq!(cache.find_or("a", || panic!("it is known")), Some(7));
            cache.find_or(&format!("other {n}"), || Some(1));
        }
    }

    #[test]
    fn long_and_invalid_tokens_are_not_kept() {
        let cache = Cache::<Verified>::default();
        cache.keep(&"x".repeat(TOKEN_BYTES_MAX + 1), verified("s"), NOW);
        cache.keep("t", verified("s"), NOW.plus_seconds(10));
        assert_eq!(count(&cache), 0);
    }
}
