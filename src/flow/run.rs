//! Runs: a call of an agent takes its need from the hold of its run's parent, so that many calls have one ceiling. The questions about
//! workspace, plan, feature and model are asked for the call itself; no budget is, since the parent's hold is counted against them already.
//!
//! A call is charged to the period in which its run was authorized, at that time's prices, because that is where the parent holds. A crash
//! costs what it costs for any hold: nothing before the step of the store, a hold that expires by itself after it.

use super::authorize::{Asked, Compiled, Decision, ExplainedRung, Explanation, Request, Verdict, degraded, permit};
use super::context::{Context, RunNote};
use super::rebuild::{self, Patience};
use super::replay::{replay, told_before};
use super::{FlowError, Service};
use crate::counters::run::{ChildOutcome, ChildRequest, Lending, Run, Unfit};
use crate::counters::{CountersError, Progress, Record};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::entry::{Entry, Kind};
use crate::decision::id::{DecisionId, ReservationId, WorkspaceId};
use crate::decision::ladder::{Ladder, Offer};
use crate::decision::limits::{Limited, Limits};
use crate::decision::plan::OnStoreUnavailable;
use crate::decision::run::{self, Account};
use crate::decision::rung::Rung;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use crate::decision::verdict::{self, Denied};
use std::sync::Arc;

/// A parent as a call finds it.
pub(super) struct Opened {
    pub(super) id: ReservationId,
    pub(super) record: Record,
    pub(super) context: Context,
}

/// How the end of a reservation is told to the counters: with what was recorded, so that a call gives the rest back to its parent. What a
/// correction differs from an earlier entry is not what was used in all.
pub(super) fn ended(end: End, entry: Option<&Entry>) -> Progress {
    let recorded = entry.filter(|entry| entry.kind == Kind::Usage).map(|entry| entry.counted);
    Progress::ended(end, recorded)
}

/// Whether a hold is the parent of a run: calls draw from it, or it was opened to have calls. It has no entry of its own.
pub(super) fn is_parent(record: &Record, context: &Context) -> bool {
    matches!(record.run, Some(Run::Parent(_))) || matches!(context.run, Some(RunNote::Opens { .. }))
}

/// What the hold of this request will remember of runs.
pub(super) fn note(request: &Request, parent: Option<&Opened>, now: Timestamp) -> Option<RunNote> {
    match parent {
        Some(parent) => Some(RunNote::Draws {
            parent: parent.id,
            asked_at: now,
            until: parent.record.expires_at,
        }),
        None => request.max_calls.map(|max_calls| RunNote::Opens { max_calls }),
    }
}

/// The ladder of a request that counts at this moment: that of a call lives from when it was asked for, and no longer than its parent.
pub(super) fn ladder(mut ladder: Ladder, note: Option<&RunNote>, counted_at: Timestamp) -> Ladder {
    if let Some(RunNote::Draws { asked_at, until, .. }) = note {
        let waited = asked_at.micros() - counted_at.micros();
        for rung in &mut ladder.rungs {
            rung.expires_at = rung.expires_at.plus_micros(waited).min(*until);
        }
    }
    ladder
}

/// The counters of a call: those of its parent, on which it holds, and those of its own budgets, which its use falls into as well.
pub(super) fn limits(parent: &Opened, own: &Limits) -> Arc<Limits> {
    let mut counters = parent.context.limits.counters.clone();
    let budgets = own.budgets.iter().map(|limited| {
        let counter = &own.counters[limited.counter];
        let place = counters.iter().position(|other| other == counter).unwrap_or_else(|| {
            counters.push(counter.clone());
            counters.len() - 1
        });
        Limited {
            counter: place,
            ..*limited
        }
    });
    let budgets = budgets.collect();
    Arc::new(Limits { counters, budgets })
}

/// How a parent stands.
pub(super) fn account(record: &Record, context: &Context) -> Account {
    let lending = match record.run {
        Some(Run::Parent(lending)) => lending,
        _ => Lending::default(),
    };
    Account {
        parent: record.reservation,
        taken: record.taken.amounts,
        used: if record.run.is_some() { record.used } else { Amounts::ZERO },
        lent: lending.lent,
        calls: lending.calls,
        live_calls: lending.children,
        calls_max: match context.run {
            Some(RunNote::Opens { max_calls }) => Some(max_calls),
            _ => None,
        },
    }
}

/// Decides a call of a run.
pub(super) async fn authorize(
    service: &Service,
    request: &Request,
    parent: ReservationId,
    asked: &Asked<'_>,
) -> Result<Decision, FlowError> {
    let mut patience = Patience::default();
    loop {
        let opened = match open(service, &request.ask.workspace, parent, asked.now).await {
            Ok(opened) => opened,
            Err(FlowError::Counters(error)) => return without_counters(service, request, asked, error).await,
            Err(error) => {
                let before = told_before(service, request).await?;
                return before.ok_or(error);
            }
        };
        match draw(service, request, &opened, asked).await? {
            Some(decision) => return Ok(decision),
            // Rebuilt meanwhile, or held anew under the same id.
            None => patience.spend(&request.ask.workspace)?,
        }
    }
}

/// Finds the parent that a call names. Of another workspace it is as unknown as if it never was.
async fn open(service: &Service, workspace: &WorkspaceId, id: ReservationId, now: Timestamp) -> Result<Opened, FlowError> {
    let record = service.counters.find(id, now).await?;
    let record = record
        .filter(|record| record.workspace == *workspace)
        .ok_or(FlowError::ParentUnknown(id))?;
    match (record.end, record.run) {
        (Some(end), _) => Err(FlowError::ParentEnded(id, end)),
        (None, Some(Run::Child(_))) => Err(unfit(id, Unfit::Child)),
        (None, _) => {
            let context = Context::decode(&record.context, id)?;
            Ok(Opened { id, record, context })
        }
    }
}

fn unfit(id: ReservationId, why: Unfit) -> FlowError {
    FlowError::ParentUnfit(
        id,
        match why {
            Unfit::Child => "is a call of a run itself, and runs have one level",
            Unfit::Reported => "is a call of its own, since usage was reported for it",
        },
    )
}

/// One attempt; `None`: look at the parent again.
async fn draw(service: &Service, request: &Request, opened: &Opened, asked: &Asked<'_>) -> Result<Option<Decision>, FlowError> {
    let ask = &request.ask;
    let compiled = match compile(service, request, asked, Some(opened)).await? {
        Ok(compiled) => compiled,
        Err(denied) => {
            let before = told_before(service, request).await?;
            return Ok(Some(before.unwrap_or_else(|| deny(asked.decision, denied))));
        }
    };
    if request.dry_run {
        return Ok(Some(dry_run(&compiled, opened, asked)));
    }
    let account = account(&opened.record, &opened.context);
    let wanted = ChildRequest {
        workspace: ask.workspace.clone(),
        reservation: compiled.reservation,
        fingerprint: request.fingerprint,
        parent: opened.id,
        parent_held_at: opened.record.held_at,
        calls_max: account.calls_max,
        rungs: compiled.ladder.rungs.clone(),
        open_max: asked.plan.max_open_reservations,
        charge_on_expiry: compiled.context.charge_on_expiry,
        context: compiled.context.encode(),
        now: asked.now,
    };
    let outcome = match service.counters.hold_child(&wanted).await {
        Ok(outcome) => outcome,
        Err(error) => return without_counters(service, request, asked, error).await.map(Some),
    };
    let (id, denied) = (compiled.reservation, |denied| Ok(Some(deny(asked.decision, denied))));
    match outcome {
        ChildOutcome::Held(record) => Ok(Some(allow(&compiled, Some(id), &record))),
        ChildOutcome::Replayed(record) => replay(service, id, &record).await.map(Some),
        ChildOutcome::Mismatch => Err(FlowError::IdempotencyMismatch),
        ChildOutcome::Ended(end) => Err(FlowError::ReservationEnded(id, end)),
        ChildOutcome::NoParent => Ok(None),
        ChildOutcome::ParentEnded(end) => Err(FlowError::ParentEnded(opened.id, end)),
        ChildOutcome::Unfit(why) => Err(unfit(opened.id, why)),
        ChildOutcome::TooManyOpen => denied(verdict::too_many_open(&compiled.context.ask, &compiled.ladder, &[])),
        ChildOutcome::Exhausted(parent) => denied(exhausted(&compiled, &self::account(&parent, &opened.context), opened)),
        ChildOutcome::Unready(groups) => {
            rebuild::rebuild(service, &ask.workspace, &groups, &compiled.context.limits.counters).await?;
            Ok(None)
        }
    }
}

/// The questions and the rungs of a call, or its refusal.
async fn compile(
    service: &Service,
    request: &Request,
    asked: &Asked<'_>,
    opened: Option<&Opened>,
) -> Result<Result<Compiled, Denied>, FlowError> {
    let compiled = super::authorize::compile(service, request, asked, opened).await?;
    Ok(compiled.map_err(|refusal| verdict::refused(&request.ask, &refusal, asked.plan.upgrade_url.as_deref())))
}

/// The counters are away, so nothing is known of the run: the plan says what then happens, as for any request.
async fn without_counters(service: &Service, request: &Request, asked: &Asked<'_>, error: CountersError) -> Result<Decision, FlowError> {
    if asked.plan.on_store_unavailable != OnStoreUnavailable::Allow || request.dry_run {
        return Err(error.into());
    }
    match compile(service, request, asked, None).await? {
        Ok(compiled) => Ok(degraded(&request.ask, &compiled, &error)),
        Err(denied) => Ok(deny(asked.decision, denied)),
    }
}

fn units(opened: &Opened) -> Vec<Unit> {
    run::units(opened.context.limits.counters.iter().map(|counter| counter.unit))
}

fn exhausted(compiled: &Compiled, account: &Account, opened: &Opened) -> Denied {
    run::exhausted(&compiled.context.ask, &compiled.ladder, &units(opened), account)
}

fn deny(decision: DecisionId, denied: Denied) -> Decision {
    Decision {
        decision,
        verdict: Verdict::Denied(Box::new(denied)),
        replayed: false,
        explain: None,
    }
}

fn allow(compiled: &Compiled, id: Option<ReservationId>, record: &Record) -> Decision {
    let permit = permit(&compiled.context.ask, &compiled.ladder, id, record.taken, &[], &compiled.note);
    Decision {
        decision: compiled.context.decision,
        verdict: Verdict::Allowed(Box::new(permit)),
        replayed: false,
        explain: None,
    }
}

/// What would be decided now. The rungs have no ceilings but the parent's rest.
fn dry_run(compiled: &Compiled, opened: &Opened, asked: &Asked<'_>) -> Decision {
    let account = account(&opened.record, &opened.context);
    let units = units(opened);
    let admits = account.calls_max.is_none_or(|most| account.calls < most);
    let fit = |rungs: &[Rung]| run::first_fit(rungs, &units, account.left()).filter(|_| admits);
    let taken = fit(&compiled.ladder.rungs);
    let decision = match taken {
        Some(taken) => {
            let record = Record {
                taken,
                ..opened.record.clone()
            };
            allow(compiled, None, &record)
        }
        None => deny(asked.decision, exhausted(compiled, &account, opened)),
    };
    let explained = |(place, (offer, rung)): (usize, (&Offer, &Rung))| ExplainedRung {
        offer: offer.clone(),
        rung: rung.clone(),
        counters: Vec::new(),
        fits: fit(std::slice::from_ref(rung)).is_some(),
        taken: taken.is_some_and(|taken| taken.rung == place),
    };
    let rungs = compiled.ladder.offers.iter().zip(&compiled.ladder.rungs).enumerate();
    let explain = Explanation {
        rungs: rungs.map(explained).collect(),
        plan_version: compiled.ladder.plan.version,
        policy_version: compiled.context.policy_version,
    };
    Decision {
        explain: Some(explain),
        ..decision
    }
}
