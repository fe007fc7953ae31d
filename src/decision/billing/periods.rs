//! The periods that a workspace's use is invoiced in: those of its customer's subscriptions, which begin at a second of their own, and where
//! there is none, those of the workspace's calendar.
//!
//! Of several subscriptions at one time all count: one of seats by the year beside one of use by the month says nothing of when use is invoiced,
//! and which of them bills a meter is not known.
//!
//! Invariant: the periods tile time, so that each use lies in one, and no window in two.

use crate::decision::inbound::Subscription;
use crate::decision::period::{Calendar, Period, PeriodKind};
use crate::decision::time::Timestamp;

/// Whose periods, by what is known of them now.
#[derive(Clone, Debug, Default)]
pub struct Periods {
    calendar: Calendar,
    /// Those that began, in the order in which they did.
    subscriptions: Vec<Subscription>,
}

impl Periods {
    pub fn new(calendar: Calendar, mut subscriptions: Vec<Subscription>) -> Self {
        subscriptions.retain(|one| !matches!(one.status.as_str(), "incomplete" | "incomplete_expired"));
        subscriptions.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Self { calendar, subscriptions }
    }

    /// Without any subscription.
    pub fn of_calendar(calendar: Calendar) -> Self {
        Self::new(calendar, Vec::new())
    }

    /// The period that `at` lies in: no subscription's begins or ends within it.
    pub fn at(&self, at: Timestamp) -> Period {
        let begun = self.subscriptions.iter().map(|one| one.started_at);
        let turns: Vec<Timestamp> = begun.chain(self.ended()).collect();
        let of_calendar = || self.calendar.period(PeriodKind::Billing, at);
        let told = self.there(at).map(|one| one.period(at).period).reduce(|a, b| Period {
            start: a.start.max(b.start),
            end: a.end.min(b.end),
        });
        let period = told.unwrap_or_else(of_calendar);
        let (from, until) = (
            turns.iter().copied().filter(|turn| *turn <= at).max(),
            turns.iter().copied().filter(|turn| at < *turn).min(),
        );
        Period {
            start: from.map_or(period.start, |from| from.max(period.start)),
            end: until.map_or(period.end, |until| until.min(period.end)),
        }
    }

    /// Whether a period that `at` lies in is invoiced, so that what is told of then may come onto no invoice. Which of several subscriptions
    /// bills a meter is not known, so the first to close counts: what is told of a later time than it need be is on a later invoice.
    pub fn is_closed(&self, at: Timestamp, late_after_seconds: i64, now: Timestamp) -> bool {
        let mut there = self.there(at).peekable();
        if there.peek().is_some() {
            return there.any(|one| {
                let told = one.period(at);
                let end = one.ended_at().map_or(told.period.end, |ended_at| ended_at.min(told.period.end));
                // What is cut is invoiced when it is.
                let grace = if told.is_cut && end == told.period.end {
                    late_after_seconds.min(0)
                } else {
                    late_after_seconds
                };
                now >= end.plus_seconds(grace)
            });
        }
        // Between two subscriptions nobody invoices anything, so it goes to the later one. Before the first one and after the last there is
        // none that it could go to instead.
        let is_before_one = self.subscriptions.iter().any(|one| at < one.started_at);
        let is_between = self.ended().any(|ended_at| ended_at <= at) && is_before_one;
        is_between || now >= self.calendar.period(PeriodKind::Billing, at).end.plus_seconds(late_after_seconds)
    }

    /// The subscriptions that were there.
    fn there(&self, at: Timestamp) -> impl Iterator<Item = &Subscription> {
        let is_there = move |one: &&Subscription| one.started_at <= at && one.ended_at().is_none_or(|ended_at| at < ended_at);
        self.subscriptions.iter().filter(is_there)
    }

    fn ended(&self) -> impl Iterator<Item = Timestamp> {
        self.subscriptions.iter().filter_map(Subscription::ended_at)
    }
}

#[cfg(test)]
#[path = "periods_tests.rs"]
mod tests;
