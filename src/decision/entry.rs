//! Ledger entries: one recorded use each, append-only. What an entry counts is fixed when it is written.
//!
//! Invariant: a counter's spent is the sum of `counted` over the entries (and open checkpoints) of its dimensions and period.

use super::amount::{Amounts, Ratio};
use super::counter::{Counter, Whose};
use super::id::{EntryId, Feature, ModelId, PlanId, Provider, RequestId, ReservationId, Tier, UserId, WorkspaceId};
use super::money::Usd;
use super::price::Mode;
use super::time::Timestamp;
use super::usage::Pools;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Usage,
    CacheHit,
    /// Signed differences to the entry that it corrects, at that entry's time.
    Correction,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Success,
    Error,
    Cancelled,
    /// Nobody settled; written by Weir when a hold with a checkpoint, or one that the plan charges, runs out.
    Abandoned,
}

/// One recorded use.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub entry_id: EntryId,
    pub kind: Kind,
    pub corrects: Option<EntryId>,
    pub request_id: RequestId,
    pub reservation_id: Option<ReservationId>,
    pub workspace_id: WorkspaceId,
    pub user_id: Option<UserId>,
    pub feature: Feature,
    /// The model that ran, by its catalogue id, or as reported where the catalogue does not know it.
    pub model: ModelId,
    pub requested_model: ModelId,
    pub tier: Option<Tier>,
    pub provider: Option<Provider>,
    pub mode: Mode,
    pub requests: i64,
    pub pools: Pools,
    pub cache_hit: bool,
    pub latency_ms: Option<i64>,
    pub outcome: Outcome,
    pub priced: bool,
    pub late: bool,
    /// `None` where no price was known: never zero by default.
    pub cost_usd: Option<Usd>,
    /// What the requested model would have cost without batch or cache.
    pub list_cost_usd: Option<Usd>,
    pub counted: Amounts,
    pub price_version: Option<Arc<str>>,
    pub plan_id: Option<PlanId>,
    pub plan_version: Option<u32>,
    /// The moment that decides the period: for a reservation that of its authorize.
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    pub tags: BTreeMap<String, String>,
    pub provider_request_id: Option<String>,
    pub quality_score: Option<Ratio>,
    pub other_cost_usd: Option<Usd>,
    pub billable_outcomes: BTreeMap<String, i64>,
}

impl Entry {
    /// Whether this entry is part of what `counter` sums up.
    pub fn falls_into(&self, counter: &Counter) -> bool {
        let whose = match &counter.whose {
            Whose::Workspace => true,
            Whose::User(user) => *user == self.user_id,
        };
        let feature = counter.feature.as_ref().is_none_or(|feature| *feature == self.feature);
        whose && feature && counter.period.contains(self.occurred_at)
    }
}

/// Usage reported while a request still runs: becomes the entry if nobody settles. Its part is spent already.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The entry as it would be written now, outcome `abandoned`.
    pub entry: Entry,
    /// When the hold runs out and this becomes final.
    pub expires_at: Timestamp,
}
