//! How often an endpoint is tried out: whoever may send tests should not make this service flood somebody. Counted on each node by itself, in
//! memory that is bounded.

use crate::decision::id::WebhookEndpointId;
use crate::decision::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many tests of one endpoint a node sends in one stretch of time, and how long that is.
pub const TESTS_MAX: u32 = 6;
pub const STRETCH_SECONDS: i64 = 60;
/// How many endpoints are counted at once; beyond it no others are tried out until some are quiet.
const ENDPOINTS_COUNTED_MAX: usize = 10_000;

/// When the stretch that runs began, and the tests since.
#[derive(Default)]
pub(super) struct Trials(Mutex<HashMap<WebhookEndpointId, (Timestamp, u32)>>);

impl Trials {
    /// Counts a test; `Err`: there were too many, and in so many seconds it may go on.
    pub(super) fn count(&self, of: WebhookEndpointId, now: Timestamp) -> Result<(), u32> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() >= ENDPOINTS_COUNTED_MAX && !counted.contains_key(&of) {
            counted.retain(|_, (since, _)| now < since.plus_seconds(STRETCH_SECONDS));
            if counted.len() >= ENDPOINTS_COUNTED_MAX {
                return Err(u32::try_from(STRETCH_SECONDS).unwrap_or(u32::MAX));
            }
        }
        let (since, tests) = counted.entry(of).or_insert((now, 0));
        if now >= since.plus_seconds(STRETCH_SECONDS) {
            (*since, *tests) = (now, 0);
        }
        if *tests >= TESTS_MAX {
            let left = now.seconds_until(since.plus_seconds(STRETCH_SECONDS));
            return Err(u32::try_from(left.clamp(1, STRETCH_SECONDS)).unwrap_or(u32::MAX));
        }
        *tests += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn endpoint(number: u128) -> WebhookEndpointId {
        WebhookEndpointId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn an_endpoint_is_tried_out_so_often_and_others_besides() {
        let trials = Trials::default();
        for second in 0..i64::from(TESTS_MAX) {
            assert_eq!(trials.count(endpoint(1), at(second)), Ok(()));
        }
        assert_eq!(trials.count(endpoint(1), at(20)), Err(40));
        assert_eq!(trials.count(endpoint(1), at(59)), Err(1));
        assert_eq!(trials.count(endpoint(2), at(20)), Ok(()));
        assert_eq!(trials.count(endpoint(1), at(60)), Ok(()), "another minute");
    }

    #[test]
    fn no_more_endpoints_are_counted_than_there_is_room_for() {
        let trials = Trials::default();
        for number in 0..ENDPOINTS_COUNTED_MAX as u128 {
            assert_eq!(trials.count(endpoint(number), at(0)), Ok(()));
        }
        assert_eq!(trials.count(endpoint(999_999), at(59)), Err(60));
        assert_eq!(trials.count(endpoint(0), at(59)), Ok(()), "one that is counted already");
        assert_eq!(trials.count(endpoint(999_999), at(60)), Ok(()), "the others are quiet");
    }
}
