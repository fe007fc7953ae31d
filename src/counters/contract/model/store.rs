//! The store of a model at one moment. Where nothing is lost it is the one in memory, as it runs in production. What is lost, comes back old
//! or keeps not to a rule is the naive one: the random histories of `agreement.rs` hold it to those in memory and in Redis, operation by
//! operation.

use super::super::naive::{Naive, Rules, State};
use crate::counters::Counters;
use crate::counters::memory::MemoryCounters;
use futures_util::FutureExt;

#[derive(Clone, Debug)]
pub(in super::super) enum Store {
    Memory(MemoryCounters),
    Naive(State),
}

impl Store {
    /// An empty one.
    pub(in super::super) fn new(rules: Rules, is_lost: bool) -> Self {
        if is_lost || rules != Rules::ALL {
            Store::Naive(State::under(rules))
        } else {
            Store::Memory(MemoryCounters::small())
        }
    }

    /// Asks a store that never waits.
    pub(in super::super) fn ask<T>(&mut self, question: impl AsyncFnOnce(&dyn Counters) -> T) -> T {
        match self {
            Store::Memory(memory) => question(memory).now_or_never().expect("it never waits"),
            Store::Naive(state) => {
                let naive = Naive::of(std::mem::take(state));
                let answer = question(&naive).now_or_never().expect("it never waits");
                *state = naive.state();
                answer
            }
        }
    }

    /// A copy of it is asked: whoever asks brings a store up to date.
    pub(in super::super) fn look<T>(&self, question: impl AsyncFnOnce(&dyn Counters) -> T) -> T {
        self.clone().ask(question)
    }

    fn state(&self) -> &State {
        match self {
            Store::Naive(state) => state,
            Store::Memory(_) => panic!("a store in memory is lost with its process, and all that the model is about"),
        }
    }

    /// Another process follows, which knows what an earlier one knew.
    pub(in super::super) fn next_process(&self, knowing: &Store) -> Store {
        Store::Naive(self.state().next_process(knowing.state()))
    }

    /// The same process, whose groups of counters are gone, while the reservations are still there.
    pub(in super::super) fn without_groups(&self) -> Store {
        Store::Naive(self.state().without_groups())
    }
}
