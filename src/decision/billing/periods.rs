//! The periods that a workspace's use is invoiced in: those of its customer's subscriptions, which begin at a second of their own, and where
//! there is none, those of the workspace's calendar.
//!
//! Of several subscriptions at one time the one that counts is the one begun last, as it is for the plan (`inbound::effective`).
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

/// From when on nothing is added any more to what a period is invoiced for.
enum Closing {
    /// Some time after its end.
    Late(Timestamp),
    At(Timestamp),
}

impl Periods {
    /// Those that stand for a plan, or all where none does: they are invoiced all the same.
    pub fn new(calendar: Calendar, mut subscriptions: Vec<Subscription>) -> Self {
        subscriptions.retain(|one| !matches!(one.status.as_str(), "incomplete" | "incomplete_expired"));
        let has_plan = |one: &Subscription| one.items.iter().any(|item| item.plan.is_some());
        if subscriptions.iter().any(has_plan) {
            subscriptions.retain(has_plan);
        }
        subscriptions.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Self { calendar, subscriptions }
    }

    /// Without any subscription.
    pub fn of_calendar(calendar: Calendar) -> Self {
        Self::new(calendar, Vec::new())
    }

    /// The period that `at` lies in.
    pub fn at(&self, at: Timestamp) -> Period {
        self.find(at).0
    }

    /// Whether the period that `at` lies in is invoiced, so that nothing told of then comes onto an invoice.
    pub fn is_closed(&self, at: Timestamp, late_after_seconds: i64, now: Timestamp) -> bool {
        match self.find(at).1 {
            Closing::Late(end) => now >= end.plus_seconds(late_after_seconds),
            Closing::At(end) => now >= end,
        }
    }

    fn find(&self, at: Timestamp) -> (Period, Closing) {
        let begun = || self.subscriptions.iter().map(|one| one.started_at);
        let ended = || self.subscriptions.iter().filter_map(Subscription::ended_at);
        let from = begun().chain(ended()).filter(|turn| *turn <= at).max();
        let until = begun().chain(ended()).filter(|turn| at < *turn).min();
        let cut = |period: Period| Period {
            start: from.map_or(period.start, |from| from.max(period.start)),
            end: until.map_or(period.end, |until| until.min(period.end)),
        };
        let is_there = |one: &&Subscription| one.started_at <= at && one.ended_at().is_none_or(|ended_at| at < ended_at);
        if let Some(counts) = self.subscriptions.iter().rfind(is_there) {
            let told = counts.period(at);
            let period = cut(told.period);
            let closing = match told.is_cut && told.period.end == period.end {
                true => Closing::At(period.end),
                false => Closing::Late(period.end),
            };
            return (period, closing);
        }
        let period = self.calendar.period(PeriodKind::Billing, at);
        // Between two subscriptions nobody invoices anything, so it goes to the later one. Before the first one and after the last there is
        // none that it could go to instead.
        let is_between = ended().any(|ended_at| ended_at <= at) && begun().any(|started_at| at < started_at);
        let closing = if is_between { Closing::At(at) } else { Closing::Late(period.end) };
        (cut(period), closing)
    }
}

#[cfg(test)]
#[path = "periods_tests.rs"]
mod tests;
