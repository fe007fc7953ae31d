//! Tiers that were answered lately, by the hash of what was asked. Bounded in number and age.

use crate::decision::time::Timestamp;
use std::collections::HashMap;

/// How many are kept; beyond it the older half goes.
const KEPT_MAX: usize = 20_000;
/// How long one is good.
const KEPT_SECONDS: i64 = 3_600;

#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<[u8; 32], (String, Timestamp)>);

impl Kept {
    pub(super) fn get(&self, key: &[u8; 32], now: Timestamp) -> Option<String> {
        let (tier, at) = self.0.get(key)?;
        (now < at.plus_seconds(KEPT_SECONDS)).then(|| tier.clone())
    }

    pub(super) fn put(&mut self, key: [u8; 32], tier: String, now: Timestamp) {
        if self.0.len() >= KEPT_MAX {
            let mut moments: Vec<Timestamp> = self.0.values().map(|(_, at)| *at).collect();
            moments.sort_unstable();
            let middle = moments[moments.len() / 2];
            self.0.retain(|_, (_, at)| *at > middle);
        }
        self.0.insert(key, (tier, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(0).plus_seconds(seconds)
    }

    fn key(n: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    #[test]
    fn the_older_ones_go_when_there_are_too_many_and_all_when_they_are_old() {
        let mut kept = Kept::default();
        for n in 0..=KEPT_MAX {
            kept.put(key(n), "fast".to_owned(), at(n as i64 / 20));
        }
        assert!(kept.0.len() <= KEPT_MAX && kept.get(&key(0), at(1_000)).is_none());
        assert_eq!(kept.get(&key(KEPT_MAX), at(1_000)).as_deref(), Some("fast"));
        assert_eq!(kept.get(&key(KEPT_MAX), at(1_000 + KEPT_SECONDS)), None);
    }
}
