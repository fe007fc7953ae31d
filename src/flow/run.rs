//! Runs: a call of an agent takes its need from the hold of its run's parent, so that many calls have one ceiling. The questions about
//! workspace, plan, feature and model are asked for the call itself; no budget is, since the parent's hold is counted against them already.
//!
//! A call is charged to the period in which its run was authorized, at that time's prices, because that is where the parent holds. A crash
//! costs what it costs for any hold: nothing before the step of the store, a hold that expires by itself after it.

use super::authorize::{Decision, Request, Verdict, degraded, denial, permit};
use super::context::{Context, RunNote};
use super::prepare::{Compiled, Course};
use super::rebuild::{self, Patience};
use super::replay::{replay, told_before};
use super::{FlowError, Service, cache, explain};
use crate::counters::run::{ChildOutcome, ChildRequest, Lending, Run, Unfit};
use crate::counters::{Progress, Record};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::entry::{Entry, Kind};
use crate::decision::facts::{Facts, Outcome};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::ladder::Ladder;
use crate::decision::limits::{Limited, Limits};
use crate::decision::message::Voice;
use crate::decision::plan::{OnStoreUnavailable, Plan};
use crate::decision::refusal::Refusal;
use crate::decision::run::{self, Account};
use crate::decision::rung::Taken;
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
pub(super) async fn authorize(mut course: Course<'_>, parent: ReservationId) -> Result<Decision, FlowError> {
    let (service, request) = (course.service, course.request);
    let mut patience = Patience::default();
    loop {
        let opened = match open(service, &request.ask.workspace, parent, course.now).await {
            Ok(opened) => opened,
            Err(error @ FlowError::Counters(_)) => return without_counters(course, error).await,
            Err(error) => {
                let before = told_before(service, request).await?;
                return before.ok_or(error);
            }
        };
        match draw(&mut course, &opened).await? {
            Drawn::Decided(decision) => return Ok(decision.after(course.cache)),
            Drawn::Refused(refusal) => return course.refused(refusal).await,
            Drawn::Away(error) => return without_counters(course, error).await,
            // Rebuilt meanwhile, or held anew under the same id.
            Drawn::Again { is_ready } => {
                if let Err(error) = patience.spend(&request.ask.workspace, is_ready).await {
                    return without_counters(course, error).await;
                }
            }
        }
    }
}

/// What became of one attempt.
enum Drawn {
    Decided(Box<Decision>),
    Refused(Refusal),
    /// The counters could not be asked, or are lost and could not be rebuilt.
    Away(FlowError),
    /// Look at the parent again.
    Again {
        is_ready: bool,
    },
}

impl Drawn {
    fn decided(decision: Decision) -> Self {
        Self::Decided(Box::new(decision))
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

/// One attempt.
async fn draw(course: &mut Course<'_>, opened: &Opened) -> Result<Drawn, FlowError> {
    let (service, request) = (course.service, course.request);
    let mut compiled = match course.compile_call(Some(opened)).await? {
        Ok(compiled) => compiled,
        Err(refusal) => return Ok(Drawn::Refused(refusal)),
    };
    let policy = course.policy();
    if request.dry_run {
        let voice = policy.voice(request.accept_language.as_deref(), Some(&compiled.ladder.plan));
        return dry_run(service, request, voice, &compiled, opened).await.map(Drawn::decided);
    }
    if request.cache.is_some() {
        let seen = compiled.seen(&course.policy, course.now);
        match Box::pin(cache::look(service, request, seen)).await? {
            cache::Looked::Hit(given) => return Ok(Drawn::Decided(given)),
            cache::Looked::Not(status, ticket) => {
                course.cache = Some(status);
                compiled.context.cache = ticket;
            }
        }
    }
    let drawn = draw_from(course, opened, &compiled).await;
    if course.cache.is_some() {
        let decided = match &drawn {
            Ok(Drawn::Decided(decision)) => Some(Ok(&**decision)),
            Err(error) => Some(Err(error)),
            // The next attempt looks again.
            Ok(_) => None,
        };
        match decided {
            Some(decided) => cache::unless_held(service, &compiled.context, course.now, decided).await,
            None => cache::give_up(service, &request.ask.workspace, compiled.context.cache.as_deref(), course.now).await,
        }
    }
    drawn
}

/// Takes from the parent what the call needs.
async fn draw_from(course: &Course<'_>, opened: &Opened, compiled: &Compiled) -> Result<Drawn, FlowError> {
    let (service, request) = (course.service, course.request);
    let policy = course.policy();
    let accepted = request.accept_language.as_deref();
    let voice = policy.voice(accepted, Some(&compiled.ladder.plan));
    let account = account(&opened.record, &opened.context);
    let wanted = ChildRequest {
        workspace: request.ask.workspace.clone(),
        reservation: compiled.reservation,
        fingerprint: request.fingerprint,
        parent: opened.id,
        parent_held_at: opened.record.held_at,
        calls_max: account.calls_max,
        rungs: compiled.ladder.rungs.clone(),
        open_max: compiled.ladder.plan.max_open_reservations,
        charge_on_expiry: compiled.context.charge_on_expiry,
        tell_on_expiry: service.telling.wants_expired(&request.ask.workspace),
        context: compiled.context.encode(),
        now: course.now,
    };
    let outcome = match service.counters.hold_child(&wanted).await {
        Ok(outcome) => outcome,
        Err(error) => return Ok(Drawn::Away(error.into())),
    };
    let (id, decision) = (compiled.reservation, compiled.context.decision);
    let denied = |denied: Denied, account: Account, outcome: Outcome| {
        service.decisions.deny(decision, facts(compiled, opened, account, outcome));
        Ok(Drawn::decided(denial(decision, denied)))
    };
    match outcome {
        ChildOutcome::Held(record) => {
            if compiled.context.logged {
                let held = facts(compiled, opened, account, Outcome::Held(record.taken));
                service.decisions.allow(decision, id, held);
            }
            Ok(Drawn::decided(allow(voice, compiled, Some(id), record.taken)))
        }
        ChildOutcome::Replayed(record) => replay(service, id, &record, accepted).await.map(Drawn::decided),
        ChildOutcome::Mismatch => Err(FlowError::IdempotencyMismatch),
        ChildOutcome::Ended(end) => Err(FlowError::ReservationEnded(id, end)),
        ChildOutcome::NoParent => Ok(Drawn::Again { is_ready: true }),
        ChildOutcome::ParentEnded(end) => Err(FlowError::ParentEnded(opened.id, end)),
        ChildOutcome::Unfit(why) => Err(unfit(opened.id, why)),
        ChildOutcome::TooManyOpen => {
            let told = verdict::too_many_open(voice, &compiled.context.ask, &compiled.ladder, &[]);
            denied(told, account, Outcome::TooManyOpen)
        }
        ChildOutcome::Exhausted(parent) => {
            let account = self::account(&parent, &opened.context);
            denied(exhausted(voice, compiled, &account, opened), account, Outcome::ParentExhausted)
        }
        ChildOutcome::Unready(groups) => {
            let counters = &compiled.context.limits.counters;
            match rebuild::rebuild(service, &request.ask.workspace, &groups, counters).await {
                Ok(is_ready) => Ok(Drawn::Again { is_ready }),
                Err(error) if error.leaves_counters_unknown() => Ok(Drawn::Away(error)),
                Err(error) => Err(error),
            }
        }
    }
}

/// The counters are away, so nothing is known of the run: the plan says what then happens, as for any request.
async fn without_counters(mut course: Course<'_>, error: FlowError) -> Result<Decision, FlowError> {
    let allows = |plan: &Plan| plan.on_store_unavailable == OnStoreUnavailable::Allow;
    if course.request.dry_run || !course.plan().is_some_and(allows) {
        return Err(error);
    }
    match course.compile_call(None).await? {
        Ok(compiled) => {
            let policy = course.policy();
            let voice = policy.voice(course.request.accept_language.as_deref(), course.plan());
            Ok(degraded(course.service, voice, &compiled, &error))
        }
        Err(refusal) => course.refused(refusal).await,
    }
}

/// What the decision was made of, the parent as it stood included.
fn facts(compiled: &Compiled, opened: &Opened, account: Account, outcome: Outcome) -> Facts {
    let mut facts = compiled.context.facts(Vec::new(), outcome);
    if let Some(run) = &mut facts.run {
        run.stood = Some((account, units(opened)));
    }
    facts
}

fn units(opened: &Opened) -> Vec<Unit> {
    run::units(opened.context.limits.counters.iter().map(|counter| counter.unit))
}

fn exhausted(voice: Voice<'_>, compiled: &Compiled, account: &Account, opened: &Opened) -> Denied {
    run::exhausted(voice, &compiled.context.ask, &compiled.ladder, &units(opened), account)
}

fn allow(voice: Voice<'_>, compiled: &Compiled, id: Option<ReservationId>, taken: Taken) -> Decision {
    let permit = permit(voice, &compiled.context.ask, &compiled.ladder, id, taken, &[], &compiled.note);
    Decision {
        decision: compiled.context.decision,
        verdict: Verdict::Allowed(Box::new(permit)),
        replayed: false,
        explain: None,
        cache: None,
    }
}

/// What would be decided now. The rungs have no ceilings but the parent's rest.
async fn dry_run(
    service: &Service,
    request: &Request,
    voice: Voice<'_>,
    compiled: &Compiled,
    opened: &Opened,
) -> Result<Decision, FlowError> {
    let account = account(&opened.record, &opened.context);
    let taken = run::first_fit(&compiled.ladder.rungs, &units(opened), account.left()).filter(|_| account.admits());
    let mut decision = match taken {
        Some(taken) => allow(voice, compiled, None, taken),
        None => denial(compiled.context.decision, exhausted(voice, compiled, &account, opened)),
    };
    let outcome = taken.map_or(Outcome::ParentExhausted, Outcome::Held);
    let facts = facts(compiled, opened, account, outcome);
    decision.explain = Some(Box::new(
        explain::explain(service, facts, request.accept_language.as_deref()).await?,
    ));
    Ok(decision)
}
