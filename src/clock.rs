//! Now and chance. The only place that reads the system's clock or its random source; everything else is given a [`Clock`].
//!
//! Invariant: ids made here (UUIDv7) sort by the moment at which they were made, to the microsecond or so.

use crate::decision::time::Timestamp;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng, TryRng};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Where now and chance come from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with random ones, good enough for ids.
    fn fill(&self, bytes: &mut [u8]);

    /// A UUIDv7 of now.
    fn uuid(&self) -> Uuid {
        let mut random = [0u8; 10];
        self.fill(&mut random);
        uuid_v7(self.now(), random)
    }
}

/// Microseconds of one millisecond, the unit of a UUIDv7's first 48 bits.
const MILLI_MICROS: i64 = 1_000;

/// The 12 bits after the milliseconds tell the fraction (RFC 9562, 6.2, method 3), so ids of one millisecond sort too.
fn uuid_v7(now: Timestamp, mut random: [u8; 10]) -> Uuid {
    let micros = now.micros().max(0);
    let fraction = (micros % MILLI_MICROS) * (1 << 12) / MILLI_MICROS;
    random[..2].copy_from_slice(&(fraction as u16).to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis((micros / MILLI_MICROS) as u64, &random).into_uuid()
}

/// The clock and the random source of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is a broken one; zero keeps every comparison sane until somebody sets it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// The machine has no randomness to give; nothing secret can be made.
#[derive(Debug, thiserror::Error)]
#[error("the system's random source does not answer, so no key can be made")]
pub struct NoRandomness(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Random bytes for a key, straight from the operating system.
pub fn secret_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0u8; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| NoRandomness(Box::new(error)))?;
    Ok(bytes)
}

/// A clock that stands still until it is moved, and whose chance is the same in every run. For tests.
pub struct MovableClock {
    state: Mutex<(Timestamp, StdRng)>,
}

impl MovableClock {
    pub fn at(now: Timestamp) -> Self {
        Self {
            state: Mutex::new((now, StdRng::seed_from_u64(now.micros() as u64))),
        }
    }

    pub fn set(&self, now: Timestamp) {
        self.locked(|state| state.0 = now);
    }

    pub fn advance_seconds(&self, seconds: i64) {
        self.locked(|state| state.0 = state.0.plus_seconds(seconds));
    }

    pub fn advance_micros(&self, micros: i64) {
        self.locked(|state| state.0 = state.0.plus_micros(micros));
    }

    fn locked<T>(&self, with: impl FnOnce(&mut (Timestamp, StdRng)) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Timestamp {
        self.locked(|state| state.0)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.locked(|state| state.1.fill_bytes(bytes));
    }
}

impl fmt::Debug for MovableClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MovableClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_moment_they_were_made_even_within_a_millisecond() {
        let clock = MovableClock::at(Timestamp::from_micros(1_767_225_600_000_000));
        let mut last = clock.uuid();
        for _ in 0..2_500 {
            clock.advance_micros(1);
            let next = clock.uuid();
            assert!(last < next, "{last} came before {next}");
            assert_eq!((next.get_version_num(), next.get_variant()), (7, uuid::Variant::RFC4122));
            last = next;
        }
    }

    #[test]
    fn ids_of_one_moment_differ() {
        let clock = MovableClock::at(Timestamp::from_micros(1));
        let ids: std::collections::HashSet<Uuid> = (0..1_000).map(|_| clock.uuid()).collect();
        assert_eq!(ids.len(), 1_000);
    }

    #[test]
    fn a_moved_clock_stays_where_it_was_put() {
        let clock = MovableClock::at(Timestamp::from_micros(5));
        clock.advance_seconds(2);
        assert_eq!(clock.now(), Timestamp::from_micros(2_000_005));
        clock.set(Timestamp::from_micros(1));
        assert_eq!(clock.now(), Timestamp::from_micros(1));
    }

    #[test]
    fn the_system_clock_is_in_this_century_and_its_ids_bear_it() {
        let now = SystemClock.now();
        assert!(now > Timestamp::from_micros(1_700_000_000_000_000), "{now}");
        let (seconds, _) = SystemClock.uuid().get_timestamp().expect("a UUIDv7 has a time").to_unix();
        assert!((seconds as i64 - now.micros() / 1_000_000).abs() <= 2);
    }
}
