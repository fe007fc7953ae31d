//! What a hold remembers for the flow: enough to tell its answer again and to price its settlement, in as few bytes as possible.
//!
//! The answer itself is not kept. It is a pure function of the ask, the policy version, the limits and the balances at the hold, so it is
//! computed again; only what cannot be computed again is stored.

use super::cache::Ticket;
use super::{FlowError, Service};
use crate::decision::amount::Amounts;
use crate::decision::anomaly::Action;
use crate::decision::ask::Ask;
use crate::decision::counter::Balance;
use crate::decision::detour::Detour;
use crate::decision::facts::{Facts, Outcome, RunFacts};
use crate::decision::id::{DecisionId, ModelId, ReservationId};
use crate::decision::ladder::{Ladder, Terms};
use crate::decision::limits::Limits;
use crate::decision::settlement::Subject;
use crate::decision::time::Timestamp;
use crate::decision::verdict::RouteNote;
use crate::ledger::LedgerError;
use crate::policy::Policy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first byte of each stored context; another layout gets another number.
const LAYOUT: u8 = 2;
/// Added to it where a context of a run follows, which begins with its [`RunNote`].
const OF_RUN: u8 = 0x80;
/// Added where rules of fair use act on it, which follow after the run.
const UNDER_FAIR_USE: u8 = 0x40;
/// Added to it where a [`Ticket`] of the cache follows, behind what else there is.
const OF_CACHE: u8 = 0x20;
/// Added to it where the [`Detour`] of its way follows, behind these.
const WITH_DETOUR: u8 = 0x10;
/// The layout before: without the workspace's version, and none of its decisions was logged when it was made.
const LAYOUT_BEFORE: u8 = 1;
/// What that layout lacks at its end: version 0, and not logged.
const LACKED_BEFORE: [u8; 2] = [0, 0];
/// What most contexts fit into, so that they are written without moving.
const BYTES_USUALLY_MAX: usize = 1_024;

/// The inputs of an authorize that its answer was made of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Context {
    pub ask: Arc<Ask>,
    pub decision: DecisionId,
    pub authorized_at: Timestamp,
    pub policy_version: i64,
    pub plan: crate::decision::id::PlanId,
    /// The model that was asked for or routed to, before any downgrade.
    pub chosen: ModelId,
    pub routed: Option<String>,
    pub shadow_routes: Vec<String>,
    pub limits: Arc<Limits>,
    pub expected_output: i64,
    pub charge_on_expiry: bool,
    /// Of the workspace's description; 0: not known any more.
    pub workspace_version: u32,
    /// The decision log has the decision already; otherwise its end puts it there.
    pub logged: bool,
    /// What it is in a run; most requests are of none, so it is stored beside the rest.
    #[serde(skip)]
    pub run: Option<RunNote>,
    /// What rules of fair use do to it; stored beside the rest, since seldom any does.
    #[serde(skip)]
    pub fair_use: Vec<Arc<Action>>,
    /// Under what its settle keeps the answer; likewise stored beside the rest.
    #[serde(skip)]
    pub cache: Option<Box<Ticket>>,
    /// What routing did beside choosing its model; mostly nothing, so it is stored beside the rest as well.
    #[serde(skip)]
    pub detour: Option<Box<Detour>>,
}

/// What a hold remembers of its run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RunNote {
    /// It was opened to be the parent of so many calls at most.
    Opens { max_calls: i64 },
    /// It is a call, asked for at this moment, of a parent that lived until then. `authorized_at` of the context is that of the run.
    Draws {
        parent: ReservationId,
        asked_at: Timestamp,
        until: Timestamp,
    },
}

impl Context {
    pub fn encode(&self) -> Arc<[u8]> {
        let mut bytes = Vec::with_capacity(BYTES_USUALLY_MAX);
        let of_run = if self.run.is_some() { OF_RUN } else { 0 };
        let under_fair_use = if self.fair_use.is_empty() { 0 } else { UNDER_FAIR_USE };
        let of_cache = if self.cache.is_some() { OF_CACHE } else { 0 };
        let with_detour = if self.detour.is_some() { WITH_DETOUR } else { 0 };
        bytes.push(LAYOUT | of_run | under_fair_use | of_cache | with_detour);
        if let Some(run) = &self.run {
            bytes = postcard::to_extend(run, bytes).unwrap_or_default();
        }
        if !self.fair_use.is_empty() {
            bytes = postcard::to_extend(&self.fair_use, bytes).unwrap_or_default();
        }
        if let Some(ticket) = &self.cache {
            bytes = postcard::to_extend(ticket, bytes).unwrap_or_default();
        }
        if let Some(detour) = &self.detour {
            bytes = postcard::to_extend(detour, bytes).unwrap_or_default();
        }
        // Writing plain data into memory cannot fail; an empty context would be read back as unreadable, not as something else.
        postcard::to_extend(self, bytes).unwrap_or_default().into()
    }

    pub fn decode(bytes: &[u8], reservation: ReservationId) -> Result<Self, FlowError> {
        let unreadable = || {
            FlowError::Ledger(LedgerError::Corrupt {
                what: format!("the context of {reservation}"),
            })
        };
        match bytes.split_first() {
            Some((&LAYOUT, rest)) => postcard::from_bytes(rest).map_err(|_| unreadable()),
            Some((&layout, rest)) if layout & !(OF_RUN | UNDER_FAIR_USE | OF_CACHE | WITH_DETOUR) == LAYOUT => {
                let read = || {
                    let (run, rest) = part(layout & OF_RUN != 0, rest)?;
                    let (fair_use, rest) = part(layout & UNDER_FAIR_USE != 0, rest)?;
                    let (cache, rest) = part(layout & OF_CACHE != 0, rest)?;
                    let (detour, rest) = part(layout & WITH_DETOUR != 0, rest)?;
                    let context: Self = postcard::from_bytes(rest)?;
                    let fair_use = fair_use.unwrap_or_default();
                    Ok(Self {
                        run,
                        fair_use,
                        cache,
                        detour,
                        ..context
                    })
                };
                read().map_err(|_: postcard::Error| unreadable())
            }
            Some((&LAYOUT_BEFORE, rest)) => postcard::from_bytes(&[rest, &LACKED_BEFORE].concat()).map_err(|_| unreadable()),
            _ => Err(unreadable()),
        }
    }

    /// Whether a stored context has a detour, without reading it.
    pub fn has_detour(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|layout| layout & WITH_DETOUR != 0)
    }

    /// What its answer says of its way.
    pub fn note(&self) -> RouteNote {
        RouteNote {
            routed: self.routed.clone(),
            shadows: self.shadow_routes.clone(),
            detour: self.detour.clone(),
        }
    }

    /// The ladder as it was at the authorize.
    pub fn ladder(&self, policy: &Policy) -> Result<Ladder, FlowError> {
        let gone = || {
            FlowError::Ledger(LedgerError::Corrupt {
                what: format!("the policy of {}", self.decision),
            })
        };
        let plan = policy.plans.get(&self.plan).ok_or_else(gone)?;
        let asked = crate::decision::questions::model_for(&self.ask, &self.chosen, plan, &policy.catalogue, self.authorized_at)
            .map_err(|_| gone())?;
        // No budget is asked about a call of a run.
        let limits = match self.run {
            Some(RunNote::Draws { .. }) => Arc::default(),
            _ => self.limits.clone(),
        };
        let terms = Terms {
            expected_output: self.expected_output,
            fair_use: &self.fair_use,
            now: self.authorized_at,
        };
        let ladder = Ladder::under(&self.ask, asked, plan.clone(), &policy.catalogue, limits, terms);
        let mut ladder = ladder.map_err(|_| gone())?;
        if let Some(detour) = &self.detour {
            ladder = ladder.without(&detour.avoided);
        }
        Ok(super::run::ladder(ladder, self.run.as_ref(), self.authorized_at))
    }

    /// What the decision was made of and what it was; `before` are the balances that the store decided by.
    pub fn facts(&self, before: Vec<Balance>, outcome: Outcome) -> Facts {
        Facts {
            ask: self.ask.clone(),
            decided_at: self.authorized_at,
            policy_version: self.policy_version,
            workspace_version: self.workspace_version,
            plan: Some(self.plan.clone()),
            chosen: Some(self.chosen.clone()),
            routed: self.routed.clone(),
            shadow_routes: self.shadow_routes.clone(),
            limits: match self.run {
                Some(RunNote::Draws { .. }) => Arc::default(),
                _ => self.limits.clone(),
            },
            expected_output: self.expected_output,
            before,
            run: self.draws(),
            outcome,
            detour: self.detour.clone(),
            fair_use: self.fair_use.clone(),
        }
    }

    /// Of a call of a run, from which parent it drew; how that stood is known only at the moment of the call.
    fn draws(&self) -> Option<RunFacts> {
        match self.run {
            Some(RunNote::Draws { parent, asked_at, .. }) => Some(RunFacts {
                parent,
                asked_at,
                stood: None,
            }),
            _ => None,
        }
    }

    /// What a settlement of this hold is about.
    pub fn subject(&self, reservation: ReservationId, ladder: &Ladder, rung: usize, held: Amounts, late: bool) -> Subject {
        let offer = &ladder.offers[rung];
        Subject {
            workspace: self.ask.workspace.clone(),
            user: self.ask.user.clone(),
            feature: self.ask.feature.clone(),
            request_id: self.ask.request_id.clone(),
            reservation: Some(reservation),
            requested_model: self.ask.model.clone(),
            model: offer.model.id.clone(),
            mode: offer.mode,
            requests: self.ask.requests,
            held,
            occurred_at: self.authorized_at,
            plan: Some((ladder.plan.id.clone(), ladder.plan.version)),
            tags: self.ask.tags.clone(),
            late,
        }
    }
}

/// A part that may stand before the rest.
fn part<T: DeserializeOwned>(is_there: bool, bytes: &[u8]) -> postcard::Result<(Option<T>, &[u8])> {
    if !is_there {
        return Ok((None, bytes));
    }
    let (part, rest) = postcard::take_from_bytes(bytes)?;
    Ok((Some(part), rest))
}

impl Service {
    /// The policy under which a context was made.
    pub async fn policy_of(&self, context: &Context) -> Result<Arc<Policy>, FlowError> {
        super::policy::at(self, context.policy_version).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::id::{Feature, PlanId, RequestId, WorkspaceId};
    use crate::decision::price::Mode;

    fn plain() -> Context {
        let ask = Ask {
            workspace: WorkspaceId::parse("ws").expect("a name"),
            user: None,
            feature: Feature::parse("chat").expect("a name"),
            model: ModelId::parse("big").expect("a name"),
            request_id: RequestId::parse("r").expect("a name"),
            input_tokens: 100,
            input_tokens_estimated: false,
            max_output_tokens: None,
            min_output_tokens: None,
            mode: Mode::Interactive,
            allow_batch: false,
            requests: 1,
            hold_seconds: None,
            exclude_providers: Vec::new(),
            tags: Default::default(),
        };
        Context {
            ask: Arc::new(ask),
            decision: DecisionId::from_uuid(uuid::Uuid::from_u128(7)),
            authorized_at: Timestamp::from_micros(1_795_262_400_000_000),
            policy_version: 3,
            plan: PlanId::parse("pro").expect("a name"),
            chosen: ModelId::parse("big").expect("a name"),
            routed: None,
            shadow_routes: Vec::new(),
            limits: Arc::default(),
            expected_output: 50,
            charge_on_expiry: true,
            workspace_version: 0,
            logged: false,
            run: None,
            fair_use: Vec::new(),
            cache: None,
            detour: None,
        }
    }

    #[test]
    fn a_context_of_the_layout_before_is_still_read() {
        let context = plain();
        let now = context.encode();
        let id = ReservationId::derive(&context.ask.workspace, &context.ask.request_id);
        assert_eq!(Context::decode(&now, id).ok().as_ref(), Some(&context));
        let mut before = now.to_vec();
        before[0] = LAYOUT_BEFORE;
        before.truncate(now.len() - LACKED_BEFORE.len());
        assert_eq!(Context::decode(&before, id).ok(), Some(context));
        assert!(Context::decode(&[9, 1, 2], id).is_err(), "another layout is unreadable");
    }

    #[test]
    fn a_run_and_a_detour_are_kept_beside_the_rest() {
        let id = ReservationId::derive(&WorkspaceId::parse("ws").expect("a name"), &RequestId::parse("r").expect("a name"));
        let detour = Detour {
            delay_ms: 250,
            unhealthy: Some(ModelId::parse("big").expect("a name")),
            ..Detour::default()
        };
        for run in [None, Some(RunNote::Opens { max_calls: 3 })] {
            for detour in [None, detour.clone().some()] {
                let context = Context { run, detour, ..plain() };
                let bytes = context.encode();
                assert_eq!(Context::has_detour(&bytes), context.detour.is_some());
                assert_eq!(Context::decode(&bytes, id).ok(), Some(context));
            }
        }
    }
}
