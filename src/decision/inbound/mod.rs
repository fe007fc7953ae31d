//! What Stripe tells: subscriptions, paid invoices, usage that it refused. What of it follows for a workspace is pure; who it is from is
//! checked before anything here is asked.
//!
//! Invariants: an event says what it says whatever version of Stripe's API its account is on ([`read`]), and a subscription is what its
//! newest event says, in whatever order they come ([`Subscription::is_older_than`]). A report of refused usage is worked on until it is done
//! or given up ([`report`]).

mod apply;
mod cycle;
mod read;
mod report;
#[cfg(test)]
mod tests;

pub use apply::{apply, effective};
pub use cycle::{COUNT_MAX, Cycle, Every, Interval, PERIODS_MAX, Told};
pub use read::{Unreadable, read};
pub use report::{Checked, Fetched, Findings, Progress, REPORT_SECONDS_MAX, Report, ReportState};

use super::id::{PlanId, PriceId};
use super::money::Usd;
use super::period::Period;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most characters of an id of Stripe's; it says 255.
pub const ID_CHARS_MAX: usize = 255;

/// One event.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub id: String,
    /// Such as `customer.subscription.updated`.
    pub kind: String,
    /// By Stripe's clock, to the second.
    pub created: Timestamp,
    pub about: About,
}

/// What an event is about.
#[derive(Clone, PartialEq, Debug)]
pub enum About {
    Subscription(Subscription),
    /// Of one customer.
    Revenue {
        customer: String,
        parts: Vec<Revenue>,
    },
    MeterErrors(Report),
    /// A kind that means nothing here.
    Nothing,
}

/// A subscription as one event of it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    pub id: String,
    pub customer: String,
    /// Stripe's word for it.
    pub status: String,
    /// In Stripe's order.
    pub items: Vec<Item>,
    /// The day of the month on which its periods begin, where the event says a day.
    pub anchor_day: Option<u8>,
    /// A moment at which a period begins.
    pub anchor_at: Option<Timestamp>,
    /// Its periods, as far as they were told.
    pub cycle: Cycle,
    pub started_at: Timestamp,
    /// When the event came to be, and what it is among those of one second.
    pub told_at: Timestamp,
    pub rank: i64,
}

/// One price of a subscription.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    pub price: String,
    /// Absent where use is metered.
    pub quantity: Option<i64>,
    /// The plan that the price stood for when Stripe last told of it: what stands in the policy may have changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
}

impl Subscription {
    /// Whether what is told here was overtaken by `other`. Stripe's clock is exact to the second, and does not promise the order of events: of
    /// one second a deletion is the last and a creation the first, and of equals the later one to arrive holds.
    pub fn is_older_than(&self, other: &Subscription) -> bool {
        (self.told_at, self.rank) < (other.told_at, other.rank)
    }

    /// Whether it gives anything. A word that Stripe may come to say and that we do not know is no reason to take a plan away.
    pub fn is_live(&self) -> bool {
        !matches!(self.status.as_str(), "canceled" | "incomplete" | "incomplete_expired")
    }

    /// Whether its workspace is suspended by it: Stripe has given up collecting (`unpaid`), or the trial ended without a way to pay
    /// (`paused`). While Stripe still tries (`past_due`) its customer goes on working.
    pub fn suspends(&self) -> bool {
        matches!(self.status.as_str(), "unpaid" | "paused")
    }

    /// The plan that it is for and how many of it: its first item whose price stands for a plan, or did.
    pub fn plan<'a>(&'a self, plans: &'a BTreeMap<PriceId, PlanId>) -> Option<(&'a PlanId, Option<i64>)> {
        self.items.iter().find_map(|item| {
            let plan = plans.get(item.price.as_str()).or(item.plan.as_ref());
            Some((plan?, item.quantity))
        })
    }

    /// The plan that its workspaces have by it.
    pub fn plan_given<'a>(&'a self, plans: &'a BTreeMap<PriceId, PlanId>) -> Option<&'a PlanId> {
        self.items
            .iter()
            .find_map(|item| item.plan.as_ref().or_else(|| plans.get(item.price.as_str())))
    }

    /// Writes down which plans its prices stand for, and keeps what was written of those that stand for none any more. A plan that is gone is
    /// nobody's. Of its periods it keeps what was told before.
    pub fn remember(&mut self, plans: &BTreeMap<PriceId, PlanId>, before: Option<&Subscription>, is_there: impl Fn(&PlanId) -> bool) {
        for item in &mut self.items {
            let known = before.and_then(|before| before.items.iter().find(|known| known.price == item.price));
            let kept = known.and_then(|known| known.plan.as_ref());
            let plan = plans.get(item.price.as_str()).or(kept).or(item.plan.as_ref());
            item.plan = plan.filter(|plan| is_there(plan)).cloned();
        }
        if let Some(before) = before {
            self.follow(before);
        }
    }
}

/// A part of what a customer paid, or was paid back, for a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revenue {
    /// Made of the ids of document and line: the same part told twice is one.
    pub source: String,
    /// The id of the invoice or credit note.
    pub document: String,
    /// In the currency's smallest unit, without taxes; negative where it is given back.
    pub amount: i64,
    /// ISO 4217, lower case.
    pub currency: String,
    pub period: Period,
    pub paid_at: Timestamp,
}

impl Revenue {
    /// Where it is in usd.
    pub fn usd(&self) -> Option<Usd> {
        let cents = (self.currency == "usd").then_some(self.amount)?;
        cents.checked_mul(super::rating::NANOS_PER_CENT).map(Usd::from_nanos)
    }
}

/// Usage that Stripe took, and could not count after all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterError {
    /// Of the meter at Stripe; none: it knows no meter of that name.
    pub meter: Option<String>,
    /// Of the meter event, which is that of its batch; none: Stripe named no example.
    pub identifier: Option<String>,
    pub code: String,
    pub message: String,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// It said what was known already.
    Unchanged,
    /// A newer one of its subscription was there before.
    Stale,
    /// No workspace has its customer.
    Unmatched,
    /// No price of it stands for a plan.
    Unmapped,
    /// It means nothing here.
    Ignored,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Applied,
        Outcome::Unchanged,
        Outcome::Stale,
        Outcome::Unmatched,
        Outcome::Unmapped,
        Outcome::Ignored,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Stale => "stale",
            Outcome::Unmatched => "unmatched",
            Outcome::Unmapped => "unmapped",
            Outcome::Ignored => "ignored",
        }
    }

    pub fn parse(text: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Whether the event had no effect for a reason that an operator can take away, and is taken once more when Stripe sends it again.
    pub const fn may_come_again(self) -> bool {
        matches!(self, Outcome::Unmatched | Outcome::Unmapped)
    }
}
