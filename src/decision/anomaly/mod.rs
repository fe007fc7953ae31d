//! Fair use: when use is so unlike what is usual that a rule of the plan acts on it, and what it then does for a while.
//!
//! A rule watches what one workspace or one user used within a window, against what is usual for that hour of the week ([`baseline`]) or
//! against a fixed amount, or how fast one user calls one feature. What it does always has an end. Invariant: no action moves a limit: a
//! budget is what its plan says, and an action only delays, answers with another model, or says no for a time, and is named in the answer.

use super::amount::Unit;
use super::ask::Ask;
use super::counter::Whose;
use super::event::{Audience, Event, EventType};
use super::id::{EventId, FairUseId, Feature, PlanId, WorkspaceId};
use super::message::{self, Voice};
use super::plan::{Plan, Scope};
use super::refusal::Code;
use super::time::Timestamp;
use baseline::Usual;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub mod baseline;
mod data;

pub use data::AnomalyData;

/// The most rules of one plan.
pub const RULES_MAX: usize = 16;
/// The longest window.
pub const OVER_MINUTES_MAX: i64 = 240;
/// How many spreads above the usual something must be besides: where use is uneven anyway, a multiple of it says little.
const SPREADS_MIN: i128 = 4;

/// When something is unlike what is usual, and what then happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub name: Box<str>,
    pub watch: Watch,
    pub act: Act,
    pub for_seconds: i64,
    /// Only says what it would have done.
    pub shadow: bool,
}

/// What a rule looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Watch {
    /// What was used within a window.
    Use {
        unit: Unit,
        scope: Scope,
        over_minutes: i64,
        /// How many times what is usual; `None`: the least amount alone decides.
        ratio: Option<i64>,
        min_amount: i64,
    },
    /// How often one user called one feature.
    Loop { calls: i64, seconds: i64 },
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Act {
    /// Only tells.
    Event,
    Throttle {
        delay_ms: u32,
    },
    /// To a tier or a model; `None`: as the model's own `downgrades` say.
    Downgrade {
        to: Option<String>,
    },
    Pause,
}

impl Act {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Act::Event => "event",
            Act::Throttle { .. } => "throttle",
            Act::Downgrade { .. } => "downgrade",
            Act::Pause => "pause",
        }
    }
}

/// What a rule saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Observed {
    pub unit: Unit,
    pub amount: i64,
    /// What is usual in such a window at that hour; `None`: the rule compares with nothing.
    pub typical: Option<i64>,
    pub window_seconds: i64,
}

/// What a rule does to a workspace, or to one user or feature of it, until it ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Action {
    pub id: FairUseId,
    pub workspace: WorkspaceId,
    pub whose: Whose,
    /// `None`: every feature.
    pub feature: Option<Feature>,
    pub rule: String,
    pub plan: PlanId,
    pub act: Act,
    pub shadow: bool,
    pub observed: Observed,
    pub started_at: Timestamp,
    pub ends_at: Timestamp,
    /// An administrator ended it before its time.
    pub ended_at: Option<Timestamp>,
}

/// Whether so much is what a rule is about.
pub fn is_excess(ratio: Option<i64>, min_amount: i64, observed: i64, usual: Usual) -> bool {
    if observed < min_amount {
        return false;
    }
    let Some(ratio) = ratio else { return true };
    let (observed, typical) = (i128::from(observed), i128::from(usual.typical));
    observed >= typical * i128::from(ratio) && observed >= typical + SPREADS_MIN * i128::from(usual.spread)
}

impl Action {
    /// Whether it is about this request at this moment.
    pub fn applies(&self, ask: &Ask, now: Timestamp) -> bool {
        let is_theirs = match &self.whose {
            Whose::Workspace => true,
            Whose::User(user) => *user == ask.user,
        };
        is_theirs && self.is_active(now) && self.feature.as_ref().is_none_or(|feature| *feature == ask.feature)
    }

    /// Whether the rule that began it is one of this plan's.
    pub fn has_rule_in(&self, plan: &Plan) -> bool {
        plan.fair_use.iter().any(|rule| *rule.name == *self.rule)
    }

    pub fn is_active(&self, now: Timestamp) -> bool {
        self.ended_at.is_none() && now < self.ends_at
    }

    /// What an answer that it changes calls it; `None`: it changes none.
    pub fn code(&self) -> Option<Code> {
        match self.act {
            Act::Event => None,
            Act::Throttle { .. } => Some(Code::FairUseThrottle),
            Act::Downgrade { .. } => Some(Code::FairUseDowngrade),
            Act::Pause => Some(Code::FairUsePause),
        }
    }

    pub fn message(&self, voice: Voice<'_>) -> String {
        message::fair_use(voice, self)
    }

    /// What is told of it, once.
    pub fn event(&self, id: EventId, plan: Option<&Plan>, voice: Voice<'_>, now: Timestamp) -> Event {
        let data = serde_json::to_value(AnomalyData::new(self, plan, voice)).unwrap_or_default();
        let once = format!("anomaly {}", self.id);
        let mut event = Event::new(id, Some(self.workspace.clone()), EventType::UsageAnomalyDetected, once, now, data);
        // What is only tried out is not told to customers, and neither is what anything costs.
        event.audience = match self.shadow {
            true => Audience::Operator,
            false => Audience::of_unit(self.observed.unit),
        };
        event
    }
}

/// What pauses a request that these apply to.
pub fn pause(actions: &[Arc<Action>]) -> Option<&Arc<Action>> {
    let enforced = actions.iter().filter(|action| !action.shadow && action.act == Act::Pause);
    enforced.max_by_key(|action| action.ends_at)
}

/// To what these downgrade requests; the outer `None`: they do not.
pub fn downgrade(actions: &[Arc<Action>]) -> Option<Option<&str>> {
    let enforced = actions.iter().filter(|action| !action.shadow);
    enforced
        .filter_map(|action| match &action.act {
            Act::Downgrade { to } => Some(to.as_deref()),
            _ => None,
        })
        .next()
}

#[cfg(test)]
mod tests;
