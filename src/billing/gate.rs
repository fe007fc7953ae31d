//! How many calls a provider may be sent now: as many as its account takes, and none while it is down.
//!
//! By the clock alone: nothing here waits. Whoever is told none comes again later.

use crate::decision::billing::delivery::Answer;
use crate::decision::time::Timestamp;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SECOND_MICROS: i64 = 1_000_000;
/// After so many calls in a row that nobody answered, the provider is taken to be down.
const SILENCES_MAX: u32 = 5;
/// How long nobody is sent after that; each probe that fails doubles it.
const PAUSE_SECONDS_MIN: i64 = 5;
const PAUSE_SECONDS_MAX: i64 = 120;

/// The way to one provider.
pub(super) struct Gate {
    calls_per_second: i64,
    state: Mutex<State>,
}

struct State {
    /// What one call costs is [`SECOND_MICROS`]; a second fills it with what a second's calls cost.
    credit: i64,
    filled_at: Timestamp,
    /// Calls in a row without an answer.
    silences: u32,
    /// While the provider is down: how long it is left alone, and until when.
    closed: Option<(i64, Timestamp)>,
}

impl Gate {
    pub(super) fn new(calls_per_second: u32, now: Timestamp) -> Self {
        let calls_per_second = i64::from(calls_per_second.max(1));
        Self {
            calls_per_second,
            state: Mutex::new(State {
                credit: calls_per_second * SECOND_MICROS,
                filled_at: now,
                silences: 0,
                closed: None,
            }),
        }
    }

    /// How many calls may be made now, at most `wanted`. While the provider is down, one now and then.
    pub(super) fn open(&self, wanted: usize, now: Timestamp) -> usize {
        let mut state = self.state();
        match state.closed {
            Some((_, until)) if now < until => return 0,
            // Whoever probes has the door to itself for a while.
            Some((pause, _)) => {
                state.closed = Some((pause, now.plus_seconds(pause)));
                return wanted.min(1);
            }
            None => {}
        }
        let passed = now.micros().saturating_sub(state.filled_at.micros()).clamp(0, SECOND_MICROS);
        state.credit = (state.credit + passed * self.calls_per_second).min(self.calls_per_second * SECOND_MICROS);
        state.filled_at = now;
        let affordable = usize::try_from(state.credit / SECOND_MICROS).unwrap_or(0);
        wanted.min(affordable)
    }

    /// Whoever was let in has nothing to send: another may probe in its place.
    pub(super) fn pass_on(&self, now: Timestamp) {
        let mut state = self.state();
        if let Some((pause, _)) = state.closed {
            state.closed = Some((pause, now));
        }
    }

    /// One call was made.
    pub(super) fn spend(&self) {
        self.state().credit -= SECOND_MICROS;
    }

    /// What the provider said to a call.
    pub(super) fn note(&self, answer: &Answer, now: Timestamp) {
        let mut state = self.state();
        let was_silent = match answer {
            Answer::Unknown { .. } => true,
            Answer::RetryAfter { is_away, .. } => *is_away,
            Answer::Acknowledged | Answer::Duplicate | Answer::Rejected { .. } => false,
            // Nobody was asked: whoever comes next may probe.
            Answer::NoMeter { .. } => {
                state.closed = state.closed.map(|(pause, _)| (pause, now));
                return;
            }
        };
        if !was_silent {
            if state.closed.is_some() {
                tracing::info!("the billing provider answers again");
            }
            (state.silences, state.closed) = (0, None);
            return;
        }
        state.silences = state.silences.saturating_add(1);
        let pause = match state.closed {
            // Calls that were under way when it was closed tell nothing new.
            Some((pause, until)) if now < until && state.silences < SILENCES_MAX * 2 => pause,
            Some((pause, _)) => (pause * 2).min(PAUSE_SECONDS_MAX),
            None if state.silences < SILENCES_MAX => return,
            None => {
                tracing::warn!("the billing provider does not answer: batches wait, and it is tried now and then");
                PAUSE_SECONDS_MIN
            }
        };
        state.closed = Some((pause, now.plus_seconds(pause)));
    }

    /// Whether the provider is taken to be down.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    fn silence() -> Answer {
        Answer::Unknown { reason: String::new() }
    }

    #[test]
    fn a_missing_meter_says_nothing_about_the_provider() {
        let no_meter = || Answer::NoMeter { reason: String::new() };
        let gate = Gate::new(100, at(0));
        (0..SILENCES_MAX * 2).for_each(|_| gate.note(&no_meter(), at(0)));
        assert!(!gate.is_closed());
        (0..SILENCES_MAX).for_each(|_| gate.note(&silence(), at(0)));
        assert_eq!(gate.open(9, at(5_000)), 1);
        gate.note(&no_meter(), at(5_000));
        assert!(gate.is_closed());
        assert_eq!(gate.open(9, at(5_000)), 1, "another probes in its place");
    }

    #[test]
    fn calls_are_as_many_as_a_second_allows() {
        let gate = Gate::new(4, at(0));
        assert_eq!(gate.open(10, at(0)), 4);
        (0..4).for_each(|_| gate.spend());
        assert_eq!(gate.open(10, at(0)), 0);
        assert_eq!(gate.open(10, at(249)), 0);
        assert_eq!(gate.open(10, at(250)), 1);
        assert_eq!(gate.open(10, at(60_000)), 4, "what was not used is not saved up");
    }

    #[test]
    fn a_provider_that_is_down_is_tried_now_and_then_until_it_answers() {
        let gate = Gate::new(100, at(0));
        for _ in 0..SILENCES_MAX {
            assert!(gate.open(9, at(0)) > 0);
            gate.note(&silence(), at(0));
        }
        assert!(gate.is_closed());
        assert_eq!(gate.open(9, at(4_999)), 0);
        assert_eq!(gate.open(9, at(5_000)), 1, "one asks whether it is back");
        assert_eq!(gate.open(9, at(5_001)), 0, "and nobody else meanwhile");
        gate.note(&silence(), at(10_001));
        assert_eq!(gate.open(9, at(20_000)), 0, "twice as long as before");
        assert_eq!(gate.open(9, at(20_002)), 1);
        gate.note(&Answer::Duplicate, at(20_003));
        assert!(!gate.is_closed());
        assert_eq!(gate.open(9, at(20_003)), 9);
    }

    #[test]
    fn who_has_nothing_to_send_leaves_the_probe_to_another() {
        let gate = Gate::new(100, at(0));
        (0..SILENCES_MAX).for_each(|_| gate.note(&silence(), at(0)));
        assert_eq!(gate.open(9, at(5_000)), 1);
        gate.pass_on(at(5_000));
        assert!(gate.is_closed());
        assert_eq!(gate.open(9, at(5_000)), 1);
        assert_eq!(gate.open(9, at(5_000)), 0);
    }

    #[test]
    fn one_answer_among_silences_keeps_it_open() {
        let gate = Gate::new(100, at(0));
        for _ in 0..10 {
            (1..SILENCES_MAX).for_each(|_| gate.note(&silence(), at(0)));
            gate.note(&Answer::Rejected { reason: String::new() }, at(0));
        }
        assert!(!gate.is_closed());
    }
}
