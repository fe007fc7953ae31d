//! What a hold remembers for the flow: enough to tell its answer again and to price its settlement, in as few bytes as possible.
//!
//! The answer itself is not kept. It is a pure function of the ask, the policy version, the limits and the balances at the hold, so it is
//! computed again; only what cannot be computed again is stored.

use super::{FlowError, Service};
use crate::decision::amount::Amounts;
use crate::decision::ask::Ask;
use crate::decision::id::{DecisionId, ModelId, ReservationId};
use crate::decision::ladder::Ladder;
use crate::decision::limits::Limits;
use crate::decision::settlement::Subject;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first byte of each stored context; another layout gets another number.
const LAYOUT: u8 = 1;
/// Added to it where a context of a run follows, which begins with its [`RunNote`].
const OF_RUN: u8 = 0x80;
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
    /// What it is in a run; most requests are of none, so it is stored beside the rest.
    #[serde(skip)]
    pub run: Option<RunNote>,
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
        match &self.run {
            None => bytes.push(LAYOUT),
            Some(run) => {
                bytes.push(LAYOUT | OF_RUN);
                bytes = postcard::to_extend(run, bytes).unwrap_or_default();
            }
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
            Some((&layout, rest)) if layout == LAYOUT | OF_RUN => {
                let (run, rest) = postcard::take_from_bytes(rest).map_err(|_| unreadable())?;
                let context: Self = postcard::from_bytes(rest).map_err(|_| unreadable())?;
                Ok(Self { run: Some(run), ..context })
            }
            _ => Err(unreadable()),
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
        let ladder = Ladder::build(
            &self.ask,
            asked,
            plan.clone(),
            &policy.catalogue,
            limits,
            self.expected_output,
            self.authorized_at,
        );
        let ladder = ladder.map_err(|_| gone())?;
        Ok(super::run::ladder(ladder, self.run.as_ref(), self.authorized_at))
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

impl Service {
    /// The policy under which a context was made.
    pub async fn policy_of(&self, context: &Context) -> Result<Arc<Policy>, FlowError> {
        super::policy::at(self, context.policy_version).await
    }
}
