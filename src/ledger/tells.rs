//! What a post tells besides: events that happen with it, and budgets whose levels its use may reach.

use crate::counters::SumRow;
use crate::decision::counter::Counter;
use crate::decision::entry::Entry;
use crate::decision::event::Event;
use crate::decision::level::Watch;
use crate::ledger::Post;

/// What a post tells besides.
#[derive(Clone, Debug, Default)]
pub struct Tells {
    /// They happen if the post is written.
    pub events: Vec<Event>,
    /// Their counters are among those that the post names.
    pub watches: Vec<Watch>,
}

impl Post {
    /// Whether something may have to be told with it. What is not foreseen is found out by who writes it.
    pub(super) fn may_tell(&self) -> bool {
        !self.tells.events.is_empty() || self.tells.watches.iter().any(|watch| watch.may_reach(self.counted(&watch.counter)))
    }

    /// What its use adds to a counter. A checkpoint that it replaces is not known here.
    pub(super) fn brings(&self, counter: &Counter) -> i64 {
        self.counted(counter).of(counter.unit)
    }

    fn counted(&self, counter: &Counter) -> crate::decision::amount::Amounts {
        let open = self.checkpoint.as_ref().map(|checkpoint| &checkpoint.entry);
        let entries = self.entries.iter().chain(open).filter(|entry| Entry::falls_into(entry, counter));
        entries.fold(Default::default(), |sum: crate::decision::amount::Amounts, entry| {
            sum.plus(entry.counted)
        })
    }

    /// Below which sum of this counter nothing is to be told of it.
    pub(super) fn floor(&self, counter: &Counter) -> Option<i64> {
        let watches = self.tells.watches.iter().filter(|watch| watch.counter == *counter);
        watches.map(|watch| watch.floor).min()
    }
}

/// A post that is written.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) post: &'a Post,
    /// As its transaction leaves them, or as they were once this post was counted.
    pub(super) rows: &'a [SumRow],
}
