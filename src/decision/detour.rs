//! Detours: what routing did to a request beside choosing its model. Most requests have none, so a hold remembers them beside the rest.

use super::ask::Ask;
use super::cascade::Escalation;
use super::id::{ModelId, ReservationId};
use super::ladder::Offer;
use super::message;
use super::price::Mode;
use super::refusal::Code;
use super::verdict::{Action, Said};
use serde::{Deserialize, Serialize};

/// What is told of the way that a request took.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Detour {
    /// A rule asks the caller to wait so long.
    pub delay_ms: u32,
    /// A rule made a batch of it.
    pub deferred: bool,
    /// What may be tried after an answer that is not good enough.
    pub escalation: Option<Escalation>,
    /// It is the second try of this reservation, on the model that was offered then.
    pub escalated_from: Option<ReservationId>,
    /// The model that would have served, if it or its provider did not fail.
    pub unhealthy: Option<ModelId>,
    /// Downgrades that fail at the moment, or whose answer was not good enough the first time, and so are no rungs.
    pub avoided: Vec<ModelId>,
}

impl Detour {
    /// What the answer of `model` may be followed by: never by itself.
    pub fn escalation_after(&self, model: &ModelId) -> Option<&Escalation> {
        self.escalation.as_ref().filter(|escalation| escalation.model != *model)
    }

    /// Itself, if there is anything to tell.
    pub fn some(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    pub(super) fn tell(&self, said: &mut Said<'_>, offer: &Offer) {
        if self.unhealthy.is_some() {
            let text = message::provider_unhealthy(said.voice, &offer.model.id);
            said.act(Action::Route, Code::ProviderUnhealthy, None, text);
        }
        if self.escalated_from.is_some() {
            let text = message::escalated(said.voice, &offer.model.id);
            said.act(Action::Route, Code::Escalated, None, text);
        }
        if self.delay_ms > 0 {
            said.add(Action::Throttle);
            said.delay_ms = said.delay_ms.max(self.delay_ms);
        }
        if self.deferred && offer.mode == Mode::Batch {
            said.add(Action::Defer);
        }
    }
}

/// Whether a request that can wait so long can wait for a provider's batch: those promise a day.
pub const fn can_be_batched(max_delay_seconds: i64) -> bool {
    max_delay_seconds >= BATCH_SECONDS
}

/// How long providers take for a batch at most (OpenAI, Anthropic and Google promise 24 hours).
pub const BATCH_SECONDS: i64 = 24 * 3600;
/// The longest that a request may say it can wait.
pub const MAX_DELAY_SECONDS_MAX: i64 = super::ask::HOLD_SECONDS_MAX;

/// The ask in this mode.
pub fn in_mode(ask: &std::sync::Arc<Ask>, mode: Mode) -> std::sync::Arc<Ask> {
    if ask.mode == mode {
        return ask.clone();
    }
    std::sync::Arc::new(Ask { mode, ..Ask::clone(ask) })
}
