//! What follows from a try: delivered, tried again at a later moment, or given up; and when an endpoint is no longer tried at all.

use crate::decision::time::Timestamp;

/// Seconds before each try, where nobody says otherwise: three days and a bit in all.
pub const SCHEDULE_DEFAULT: [i64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// An endpoint that has only failed for so long is disabled.
pub const FAILING_SECONDS_MAX: i64 = 5 * 24 * 3_600;
/// The longest time that a receiver may ask for with `Retry-After`.
pub const RETRY_AFTER_SECONDS_MAX: i64 = 24 * 3_600;
/// By how much of itself a delay is lengthened at most, so that what failed together is not tried together again.
const JITTER_PER_MILLE: i128 = 100;

/// A success that took longer proves nothing about how many tries an endpoint can have at once.
pub const SOON_MILLIS_MAX: i64 = 2_000;

const GONE: u16 = 410;
/// Statuses with which `Retry-After` is heard.
const ASK_LATER: [u16; 2] = [429, 503];

/// What a receiver answered, or why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    pub duration_ms: i64,
    /// `None`: there was no answer.
    pub status: Option<u16>,
    /// What `Retry-After` asks for, as seconds from then.
    pub retry_after_seconds: Option<i64>,
    /// The first bytes of the answer's body as text.
    pub answer: String,
    /// Why it did not succeed, in words.
    pub error: Option<String>,
}

impl Attempt {
    /// Only what was taken over is a success; a redirect is a failure, as it is not followed.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status)) && self.error.is_none()
    }

    /// Whether the endpoint may have more than one try at once from now on: it took this one over, and soon.
    pub fn is_proof(&self) -> bool {
        self.is_success() && self.duration_ms <= SOON_MILLIS_MAX
    }
}

/// What becomes of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Delivered,
    /// At this moment.
    Again(Timestamp),
    /// No try is left.
    Failed,
}

/// What becomes of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disable {
    /// It answered 410.
    Gone,
    /// It has only failed for too long.
    OnlyFailures,
}

impl Disable {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::OnlyFailures => "only_failures",
        }
    }
}

/// Seconds before each try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule(pub Vec<i64>);

impl Default for Schedule {
    fn default() -> Self {
        Self(SCHEDULE_DEFAULT.to_vec())
    }
}

impl Schedule {
    /// When the first try is due of what happens at `now`.
    pub fn first(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(self.0.first().copied().unwrap_or(0))
    }

    /// How long a delivery that is due waits to be tried before it is given up: as long as all its tries take, and not less than an endpoint may
    /// fail. Beyond it news is history, and what waits behind it comes too late as well.
    pub fn patience_seconds(&self) -> i64 {
        let whole = self.0.iter().fold(0_i64, |sum, delay| sum.saturating_add(*delay));
        whole.max(FAILING_SECONDS_MAX)
    }

    /// What follows from the try that was number `tries` of its delivery. `chance` lengthens the delay.
    pub fn next(&self, attempt: &Attempt, tries: u32, chance: u32) -> Next {
        next(attempt, tries, &self.0, chance)
    }
}

fn next(attempt: &Attempt, tries: u32, schedule: &[i64], chance: u32) -> Next {
    if attempt.is_success() {
        return Next::Delivered;
    }
    let planned = usize::try_from(tries).ok().and_then(|place| schedule.get(place));
    let Some(planned) = planned else { return Next::Failed };
    let asked = attempt.status.filter(|status| ASK_LATER.contains(status));
    let asked = asked
        .and(attempt.retry_after_seconds)
        .unwrap_or(0)
        .clamp(0, RETRY_AFTER_SECONDS_MAX);
    let micros = (*planned).max(asked).saturating_mul(1_000_000);
    let longest = i128::from(micros) * JITTER_PER_MILLE / 1_000;
    let jitter = i64::try_from(longest * i128::from(chance) / i128::from(u32::MAX)).unwrap_or(0);
    Next::Again(attempt.at.plus_micros(micros.saturating_add(jitter)))
}

/// Whether a try that did not succeed ends the endpoint. `failing_since` is when it failed first after its last success, this try included.
pub fn disables(attempt: &Attempt, failing_since: Timestamp) -> Option<Disable> {
    if attempt.is_success() {
        return None;
    }
    if attempt.status == Some(GONE) {
        return Some(Disable::Gone);
    }
    (attempt.at >= failing_since.plus_seconds(FAILING_SECONDS_MAX)).then_some(Disable::OnlyFailures)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn answered(status: Option<u16>, retry_after_seconds: Option<i64>) -> Attempt {
        Attempt {
            at: NOW,
            duration_ms: 5,
            status,
            retry_after_seconds,
            answer: String::new(),
            error: None,
        }
    }

    #[test]
    fn only_an_answer_of_200_to_299_is_a_success() {
        for (status, is_success) in [
            (Some(200), true),
            (Some(204), true),
            (Some(299), true),
            (Some(300), false),
            (Some(302), false),
            (Some(199), false),
            (Some(404), false),
            (Some(500), false),
            (None, false),
        ] {
            assert_eq!(answered(status, None).is_success(), is_success, "{status:?}");
        }
        let broken = Attempt {
            error: Some("it ended early".to_owned()),
            ..answered(Some(200), None)
        };
        assert!(!broken.is_success());
    }

    #[test]
    fn each_try_follows_after_its_delay_with_a_tenth_of_jitter_at_most() {
        for (tries, delay) in (1..).zip(&SCHEDULE_DEFAULT[1..]) {
            for chance in [0, u32::MAX / 2, u32::MAX] {
                let Next::Again(at) = next(&answered(Some(500), None), tries, &SCHEDULE_DEFAULT, chance) else {
                    panic!("try {tries} is not the last");
                };
                assert!(at >= NOW.plus_seconds(*delay), "never sooner than the schedule");
                assert!(at <= NOW.plus_micros(*delay * 1_100_000), "try {tries}: {at:?}");
            }
        }
        assert_eq!(next(&answered(None, None), 10, &SCHEDULE_DEFAULT, 0), Next::Failed);
        assert_eq!(next(&answered(Some(200), None), 10, &SCHEDULE_DEFAULT, 0), Next::Delivered);
        assert_eq!(next(&answered(Some(500), None), 1, &[0], 0), Next::Failed);
        let spread = next(&answered(Some(500), None), 1, &SCHEDULE_DEFAULT, u32::MAX);
        assert_ne!(
            spread,
            next(&answered(Some(500), None), 1, &SCHEDULE_DEFAULT, 0),
            "what failed together is spread"
        );
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_and_not_for_less_or_for_ever() {
        for (status, asked, delay) in [
            (429, Some(60), 60),
            (503, Some(60), 60),
            (503, Some(1), 5),
            (503, Some(-9), 5),
            (503, Some(i64::MAX), RETRY_AFTER_SECONDS_MAX),
            (500, Some(60), 5),
            (302, Some(60), 5),
            (429, None, 5),
        ] {
            let again = next(&answered(Some(status), asked), 1, &SCHEDULE_DEFAULT, 0);
            assert_eq!(again, Next::Again(NOW.plus_seconds(delay)), "{status} {asked:?}");
        }
        assert_eq!(next(&answered(Some(429), Some(60)), 10, &SCHEDULE_DEFAULT, 0), Next::Failed);
    }

    #[test]
    fn only_a_success_that_came_soon_proves_an_endpoint() {
        for (status, duration_ms, is_proof) in [(200, SOON_MILLIS_MAX, true), (200, SOON_MILLIS_MAX + 1, false), (500, 1, false)] {
            let attempt = Attempt {
                duration_ms,
                ..answered(Some(status), None)
            };
            assert_eq!(attempt.is_proof(), is_proof, "{status} after {duration_ms} ms");
        }
    }

    #[test]
    fn what_is_due_waits_as_long_as_its_tries_take_and_not_less_than_an_endpoint_may_fail() {
        assert_eq!(Schedule::default().patience_seconds(), FAILING_SECONDS_MAX);
        assert_eq!(Schedule(vec![0, 700_000, 1]).patience_seconds(), 700_001);
        assert_eq!(Schedule(vec![i64::MAX, i64::MAX]).patience_seconds(), i64::MAX);
    }

    #[test]
    fn an_endpoint_ends_at_410_or_after_five_days_of_failures() {
        let five_days = NOW.plus_seconds(-FAILING_SECONDS_MAX);
        for (status, since, ends) in [
            (Some(410), NOW, Some(Disable::Gone)),
            (Some(500), five_days.plus_seconds(1), None),
            (Some(500), five_days, Some(Disable::OnlyFailures)),
            (None, five_days, Some(Disable::OnlyFailures)),
            (Some(200), five_days, None),
        ] {
            assert_eq!(disables(&answered(status, None), since), ends, "{status:?}");
        }
    }
}
