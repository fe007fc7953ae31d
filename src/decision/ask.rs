//! What a caller asks before an LLM call, checked and complete.

use super::id::{Feature, ModelId, Provider, RequestId, UserId, WorkspaceId};
use super::price::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The model name by which a caller lets the routing rules choose.
pub const AUTO: &str = "auto";
/// How long an interactive hold lives unless the caller says otherwise.
pub const HOLD_SECONDS: i64 = 600;
/// How long a hold for a provider's batch lives: its day, and an hour to report.
pub const HOLD_SECONDS_BATCH: i64 = 90_000;
/// The longest that a hold may live, extensions included.
pub const HOLD_SECONDS_MAX: i64 = 7 * 24 * 3600;
/// The most requests that one hold may stand for.
pub const REQUESTS_MAX: i64 = 100_000;

/// The most calls that a run may be limited to.
pub const CALLS_MAX: i64 = 1_000_000;

/// May this workspace spend, on which model, how much?
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ask {
    pub workspace: WorkspaceId,
    pub user: Option<UserId>,
    pub feature: Feature,
    /// As the caller named it: an id, an alias, or [`AUTO`].
    pub model: ModelId,
    pub request_id: RequestId,
    pub input_tokens: i64,
    /// Weir counted the input itself.
    pub input_tokens_estimated: bool,
    /// `None`: the estimator's figure.
    pub max_output_tokens: Option<i64>,
    /// Permits a capped answer, down to this length.
    pub min_output_tokens: Option<i64>,
    pub mode: Mode,
    /// The caller can wait for a batch.
    pub allow_batch: bool,
    /// For how many requests this is one hold; the amounts are their totals.
    pub requests: i64,
    pub hold_seconds: Option<i64>,
    pub exclude_providers: Vec<Provider>,
    pub tags: BTreeMap<String, String>,
}

impl Ask {
    /// How long a hold lives that is served in `mode`.
    pub fn hold_seconds(&self, mode: Mode) -> i64 {
        self.hold_seconds.unwrap_or(match mode {
            Mode::Interactive => HOLD_SECONDS,
            Mode::Batch => HOLD_SECONDS_BATCH,
        })
    }
}
