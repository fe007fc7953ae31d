//! Counters by name: whose use, of which feature, in which unit and period. What they hold is the counter store's affair.

use super::amount::Unit;
use super::id::{Feature, UserId};
use super::period::{Period, PeriodKind};
use serde::{Deserialize, Serialize};

/// Whose use a counter sums up. Requests without a user count as one shared user.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Whose {
    Workspace,
    User(Option<UserId>),
}

impl Whose {
    /// The column's text: `*` for everybody, empty for the shared user. Neither is a name that a caller may choose.
    pub fn column(&self) -> &str {
        match self {
            Whose::Workspace => "*",
            Whose::User(None) => "",
            Whose::User(Some(user)) => user.as_str(),
        }
    }
}

/// One counter of a workspace: the sum of what ledger entries of these dimensions count in this period.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Counter {
    pub whose: Whose,
    /// `None`: every feature.
    pub feature: Option<Feature>,
    pub unit: Unit,
    pub kind: PeriodKind,
    pub period: Period,
}

impl Counter {
    /// The column's text: `*` for every feature, which is no name that a caller may choose.
    pub fn feature_column(&self) -> &str {
        self.feature.as_ref().map_or("*", Feature::as_str)
    }
}

/// What a counter says at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Balance {
    pub spent: i64,
    pub held: i64,
    /// By how much grants raise the limit of a budget over it: what they paid here, and what they have left for it. Only where a purse is named.
    pub granted: i64,
}

impl Balance {
    /// Spent and held together; saturating, which can only make a limit stricter.
    pub fn taken(self) -> i64 {
        self.spent.saturating_add(self.held)
    }
}
