//! Refusals are values: why a request is denied before any counter is asked. The questions have a fixed order, told by this enum.

use super::anomaly::Action;
use super::id::{Feature, ModelId, PlanId, WorkspaceId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a request is denied, as callers see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    WorkspaceSuspended,
    NoPlan,
    FeatureDisabled,
    ModelNotAllowed,
    ModelUnpriced,
    ContextTooLong,
    NoBudget,
    /// A rule of fair use pauses requests for a while.
    FairUsePause,
    TooManyOpenReservations,
    ParentExhausted,
    NeverFits,
    HardLimitReached,
    // Not refusals: why an answer is not the plain one.
    SoftLimitReached,
    OverageCharged,
    AnswerCapped,
    Routed,
    FairUseThrottle,
    FairUseDowngrade,
    /// The model that would have served, or its provider, fails at the moment.
    ProviderUnhealthy,
    /// An earlier answer was not good enough.
    Escalated,
}

impl Code {
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::WorkspaceSuspended => "workspace_suspended",
            Code::NoPlan => "no_plan",
            Code::FeatureDisabled => "feature_disabled",
            Code::ModelNotAllowed => "model_not_allowed",
            Code::ModelUnpriced => "model_unpriced",
            Code::ContextTooLong => "context_too_long",
            Code::NoBudget => "no_budget",
            Code::TooManyOpenReservations => "too_many_open_reservations",
            Code::ParentExhausted => "parent_exhausted",
            Code::NeverFits => "never_fits",
            Code::HardLimitReached => "hard_limit_reached",
            Code::SoftLimitReached => "soft_limit_reached",
            Code::OverageCharged => "overage_charged",
            Code::AnswerCapped => "answer_capped",
            Code::Routed => "routed",
            Code::FairUsePause => "fair_use_pause",
            Code::FairUseThrottle => "fair_use_throttle",
            Code::FairUseDowngrade => "fair_use_downgrade",
            Code::ProviderUnhealthy => "provider_unhealthy",
            Code::Escalated => "escalated",
        }
    }
}

/// What stands in the way of a denied request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockedBy {
    Spent,
    Held,
    Rate,
    Policy,
}

/// The first question that was answered with no.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    WorkspaceSuspended(WorkspaceId),
    NoPlan(WorkspaceId),
    FeatureDisabled {
        feature: Feature,
        plan: PlanId,
        known: bool,
    },
    ModelNotAllowed {
        model: ModelId,
        plan: PlanId,
    },
    ModelUnpriced {
        model: ModelId,
    },
    ContextTooLong {
        model: ModelId,
        input_tokens: i64,
        max_input_tokens: i64,
    },
    NoBudget {
        plan: PlanId,
        feature: Feature,
    },
    /// A rule of fair use pauses requests until its end.
    FairUse(Box<Action>),
}

impl Refusal {
    pub fn code(&self) -> Code {
        match self {
            Refusal::WorkspaceSuspended(_) => Code::WorkspaceSuspended,
            Refusal::NoPlan(_) => Code::NoPlan,
            Refusal::FeatureDisabled { .. } => Code::FeatureDisabled,
            Refusal::ModelNotAllowed { .. } => Code::ModelNotAllowed,
            Refusal::ModelUnpriced { .. } => Code::ModelUnpriced,
            Refusal::ContextTooLong { .. } => Code::ContextTooLong,
            Refusal::NoBudget { .. } => Code::NoBudget,
            Refusal::FairUse(_) => Code::FairUsePause,
        }
    }

    /// What stands in the way, and until when where that is known.
    pub fn blocked(&self) -> (BlockedBy, Option<Timestamp>) {
        match self {
            Refusal::FairUse(action) => (BlockedBy::Rate, Some(action.ends_at)),
            _ => (BlockedBy::Policy, None),
        }
    }
}
