//! Whether an endpoint is asked at all: one that fails [`FAILURES_MAX`] times in a row is left alone for [`OPEN_FOR`], then one request tries it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FAILURES_MAX: u32 = 5;
const OPEN_FOR: Duration = Duration::from_secs(5);

/// Whether the endpoint is asked.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// In a row.
    failures: u32,
    failed_at: Option<Instant>,
    /// When somebody was sent to see whether it is back. That one may never have asked, so this is over after a while.
    tried_at: Option<Instant>,
}

impl Breaker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admits(&self) -> bool {
        let mut state = self.state();
        if state.failures < FAILURES_MAX {
            return true;
        }
        let is_over = |since: Option<Instant>| since.is_none_or(|since| since.elapsed() >= OPEN_FOR);
        let may_try = is_over(state.failed_at) && is_over(state.tried_at);
        if may_try {
            state.tried_at = Some(Instant::now());
        }
        may_try
    }

    pub(super) fn note(&self, is_good: bool) {
        let mut state = self.state();
        *state = match is_good {
            true => State::default(),
            false => State {
                failures: state.failures.saturating_add(1),
                failed_at: Some(Instant::now()),
                tried_at: None,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_fails_is_left_alone_and_tried_by_one() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.admits());
            breaker.note(false);
        }
        assert!(!breaker.admits());
        let long_ago = Instant::now().checked_sub(OPEN_FOR).expect("the machine is up longer than that");
        breaker.state().failed_at = Some(long_ago);
        assert!(breaker.admits(), "one tries");
        assert!(!breaker.admits(), "and no other");
        breaker.note(true);
        assert!(breaker.admits() && breaker.admits());
    }
}
