//! Billing: tells a provider what was recorded, in batches. The ledger has the batches and says who sends which one; here they are sent,
//! and what the provider answers is brought back. Never decides what a batch is worth or when it is told again: that is
//! [`crate::decision::billing`]. Only the composition root and commands know this folder.
//!
//! A provider is one [`Provider`]: it says what it promises ([`Terms`]), and does one call at a time. It is never called inside of a
//! transaction.

pub mod cloudevents;
pub mod desk;
mod gate;
pub mod none;
pub mod reconcile;
pub mod stripe;

pub use crate::decision::billing::Terms;
pub use crate::decision::billing::credit::{Credit, CreditAnswer};
pub use crate::decision::billing::delivery::Answer;
use crate::decision::id::{MeterId, WorkspaceId};
pub use crate::decision::inbound::Fetched;
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// What one call tells. A second call about the same batch has the same identifier; its time may be another one, when the books of the
/// period were closed in between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Of at most 100 characters; the provider recognises it.
    pub identifier: String,
    pub workspace: WorkspaceId,
    /// The workspace's customer at the provider; there is one where the provider needs it.
    pub customer: Option<String>,
    pub meter: MeterId,
    pub event_name: String,
    /// Whole; negative only where the provider takes that.
    pub value: i64,
    /// When it was used, or now where the books of then are closed.
    pub at: Timestamp,
    pub window: Period,
    /// How many entries it is made of.
    pub members: i64,
}

/// Which of the provider's own totals to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SummaryQuery {
    pub workspace: WorkspaceId,
    pub customer: Option<String>,
    pub event_name: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Why the provider did not tell.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Untold {
    #[error("the provider has no such customer")]
    CustomerUnknown,
    #[error("the provider has no such meter")]
    MeterUnknown,
    /// It may later.
    #[error("the provider does not tell: {0}")]
    NoAnswer(String),
}

/// Whoever is told what to bill.
#[async_trait]
pub trait Provider: Send + Sync {
    /// As `WEIR_BILLING_PROVIDER` has it.
    fn name(&self) -> &'static str;

    fn terms(&self) -> Terms;

    /// One call about one batch. Never tries again by itself, and gives up by itself in well under a minute: then nothing is known.
    async fn send(&self, batch: &Outgoing) -> Answer;

    /// What the provider has for one customer, meter and stretch of time; `None`: it keeps no totals.
    async fn summary(&self, query: &SummaryQuery) -> Result<Option<i64>, Untold>;

    /// What is wrong with the account for these event names; empty: nothing.
    async fn check(&self, _event_names: &[String]) -> Result<Vec<String>, Untold> {
        Ok(Vec::new())
    }

    /// The event name of a meter, by the provider's id of it; `None`: it has no such meter.
    async fn event_name(&self, _meter: &str) -> Result<Option<String>, Untold> {
        Ok(None)
    }

    /// An event that the provider told of without its data. One try.
    async fn event(&self, _id: &str) -> Fetched {
        Fetched::Missing("the provider keeps no events".to_owned())
    }

    /// Whether it keeps credits. If not, grants that were paid for wait, and nobody is told of them.
    fn keeps_credits(&self) -> bool {
        false
    }

    /// Looks for a credit of a customer by the grant's id, and says what it calls it.
    async fn find_credit(&self, _credit: &Credit) -> CreditAnswer {
        CreditAnswer::Refused("the provider keeps no credits".to_owned())
    }

    /// Gives a credit unless it is there: looks first.
    async fn give_credit(&self, _credit: &Credit) -> CreditAnswer {
        CreditAnswer::Refused("the provider keeps no credits".to_owned())
    }

    /// Takes a credit back, by the provider's id; one that is void is [`CreditAnswer::Gone`].
    async fn void_credit(&self, _id: &str) -> CreditAnswer {
        CreditAnswer::Refused("the provider keeps no credits".to_owned())
    }
}
