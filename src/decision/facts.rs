//! Facts: what a decision was made of, and what it was. Enough to explain it again at any time, and small enough to keep many.

use super::amount::Unit;
use super::anomaly::Action;
use super::ask::Ask;
use super::counter::Balance;
use super::detour::Detour;
use super::id::{CacheEntryId, ModelId, PlanId, ReservationId};
use super::limits::Limits;
use super::refusal::Refusal;
use super::run::Account;
use super::rung::Taken;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The inputs of one authorize, as far as it came, and its outcome. Policies are told by their version: each that was ever in force is kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// With the mode that routing chose.
    pub ask: Arc<Ask>,
    pub decided_at: Timestamp,
    pub policy_version: i64,
    /// Of the workspace's description; 0: not known any more.
    pub workspace_version: u32,
    /// `None`: it has none.
    pub plan: Option<PlanId>,
    /// The model that was asked for or routed to; `None`: refused before that was clear.
    pub chosen: Option<ModelId>,
    /// The routing rule that chose, or the default model's.
    pub routed: Option<String>,
    /// Shadow rules that would have matched.
    pub shadow_routes: Vec<String>,
    /// The budgets that apply, seats, overrides and grants in.
    pub limits: Arc<Limits>,
    /// The estimator's figure, where the ask names no length.
    pub expected_output: i64,
    /// The balances that the store decided by, in the order of the limits' counters; empty where no counter was asked.
    pub before: Vec<Balance>,
    /// Of a call of a run.
    pub run: Option<RunFacts>,
    pub outcome: Outcome,
    /// What rules of fair use were doing to it.
    pub fair_use: Vec<Arc<Action>>,
    /// Mostly none, so it is kept beside the rest.
    #[serde(skip)]
    pub detour: Option<Box<Detour>>,
}

/// What a call drew from. It is priced and counted at the time of its run's authorize, which is then `decided_at`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunFacts {
    pub parent: ReservationId,
    pub asked_at: Timestamp,
    /// How the parent stood just before, and in which units it is a ceiling; `None`: not known any more.
    pub stood: Option<(Account, Vec<Unit>)>,
}

impl Facts {
    /// When it was asked for.
    pub fn asked_at(&self) -> Timestamp {
        self.run.as_ref().map_or(self.decided_at, |run| run.asked_at)
    }
}

/// What became of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// This rung was taken; of a dry run, would have been.
    Held(Taken),
    /// No rung fits.
    Short,
    TooManyOpen,
    /// The parent of its run has not enough left.
    ParentExhausted,
    /// A question before the counters was answered with no.
    Refused(Refusal),
    /// Allowed without counters, because they were away and the plan says so.
    Degraded,
    /// Answered from the cache by this entry, after the questions up to the model.
    Cached(CacheEntryId),
}

impl Outcome {
    pub fn is_denial(&self) -> bool {
        matches!(
            self,
            Outcome::Short | Outcome::TooManyOpen | Outcome::ParentExhausted | Outcome::Refused(_)
        )
    }
}
