//! A hit: the answer is given once its entry is in the ledger, so it is counted and audited like any use.
//!
//! Budgets are not asked: an answer that is there costs nobody anything, so an exhausted budget is no reason to withhold it. Where the feature
//! bills hits, what they count is added all the same, even past a limit.
//!
//! Order: what a named request is told is noted first, under its id, then posted. A crash in between leaves a note, and whoever asks again
//! posts what it says; after the post the same request is told the same. The answer itself is not copied: when it is gone, the request that
//! had it is `already_settled`.

use super::super::authorize::{Decision, Request, Verdict};
use super::super::known::{Known, without_hold};
use super::super::rebuild::{self, Committed};
use super::super::{FlowError, Service, answer, settle, tell};
use super::{Seen, patience};
use crate::cache::answer::Answer;
use crate::counters::Progress;
use crate::decision::amount::{Amounts, Ratio};
use crate::decision::cache::bill;
use crate::decision::entry::{Entry, Kind};
use crate::decision::facts::{Facts, Outcome};
use crate::decision::id::{CacheEntryId, DecisionId, EntryId, ReservationId, WorkspaceId};
use crate::decision::limits::BudgetView;
use crate::decision::plan::Plan;
use crate::decision::price::Mode;
use crate::decision::settlement::Subject;
use crate::decision::standing::{End, Standing};
use crate::ledger::{KeptAnswer, LedgerError, Post, Posted, Tells};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HitKind {
    /// The very same request.
    Exact,
    /// A similar prompt.
    Semantic,
}

/// An answer that was given.
#[derive(Clone, Debug)]
pub struct Given {
    pub kind: HitKind,
    pub similarity: Ratio,
    pub cache_entry: CacheEntryId,
    pub age_seconds: i64,
    /// The caller's own JSON object, as text.
    pub response: String,
    pub entry: Entry,
    pub budgets: Vec<BudgetView>,
    pub plan: Option<Arc<Plan>>,
}

/// What is known where an answer is given.
pub(super) struct Giving<'a> {
    pub(super) request: &'a Request,
    pub(super) seen: Seen<'a>,
    pub(super) reservation: ReservationId,
    /// What part of the avoided use counts.
    pub(super) share: Ratio,
    /// The counters have said that they do not know the request.
    pub(super) is_undecided: bool,
}

/// What a request was told, but for the answer itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Note {
    decision: DecisionId,
    entry: EntryId,
    cache_entry: CacheEntryId,
    kind: HitKind,
    similarity: u16,
    age_seconds: i64,
}

/// Notes of hits lie among kept answers, under keys that no `Idempotency-Key` makes but by chance in 128 bits.
fn key_of(reservation: ReservationId) -> u128 {
    !u128::from_be_bytes(reservation.as_bytes())
}

/// How a decision's hit is counted.
pub(super) fn kind(decision: &Decision) -> &'static str {
    match &decision.verdict {
        Verdict::Cached(given) if given.kind == HitKind::Semantic => "semantic",
        _ => "exact",
    }
}

/// Gives an answer; `None`: it cannot be recorded now, or the request was decided before, so the decision goes on without it.
pub(super) async fn give(
    service: &Service,
    giving: &Giving<'_>,
    answer: Answer,
    kind: HitKind,
    similarity: Ratio,
) -> Result<Option<Decision>, FlowError> {
    if !giving.is_undecided && service.counters.find(giving.reservation, giving.seen.now).await?.is_some() {
        return Ok(None);
    }
    let note = Note {
        decision: giving.seen.decision,
        entry: service.entry_id(),
        cache_entry: answer.id,
        kind,
        similarity: similarity.ten_thousandths() as u16,
        age_seconds: answer.stored_at.seconds_until(giving.seen.now),
    };
    let Some(note) = noted(service, giving, note).await? else {
        return Ok(None);
    };
    let answer = match answer.id == note.cache_entry {
        true => answer,
        // Told before, from another answer.
        false => match answer_of(service, note.cache_entry).await? {
            Some((_, answer)) => answer,
            None if service.ledger.standing(giving.reservation).await?.is_some() => {
                return Err(FlowError::ReservationEnded(giving.reservation, End::Settled));
            }
            None => return Ok(None),
        },
    };
    record(service, giving, note, answer).await.map(Some)
}

/// What the request is told: what it was told first, if it was. `None`: the ledger cannot be asked, and nothing was written.
async fn noted(service: &Service, giving: &Giving<'_>, note: Note) -> Result<Option<Note>, FlowError> {
    if !giving.request.is_named {
        // Nobody can repeat it. That the ledger answers is found out before anything is posted: whether a post that failed is there is unknown.
        let answers = patience::within(service.ledger.standing(giving.reservation)).await.is_some();
        return Ok(answers.then_some(note));
    }
    let kept = KeptAnswer {
        fingerprint: giving.request.fingerprint,
        status: 200,
        content_type: "application/json".to_owned(),
        // Plain data into memory cannot fail.
        body: serde_json::to_string(&note).unwrap_or_default(),
        at: giving.seen.now,
    };
    let since = giving.seen.now.plus_seconds(-answer::KEPT_SECONDS);
    // A note that is written too late is found by whoever asks again under this id, if that has no hold by then.
    let noting = service.ledger.answer_once(key_of(giving.reservation), Some(kept), since);
    let Some(first) = patience::within(noting).await else {
        return Ok(None);
    };
    let first = first.map(|first| read(giving.reservation, giving.request, &first)).transpose()?;
    Ok(Some(first.unwrap_or(note)))
}

fn read(reservation: ReservationId, request: &Request, kept: &KeptAnswer) -> Result<Note, FlowError> {
    if kept.fingerprint != request.fingerprint {
        return Err(FlowError::IdempotencyMismatch);
    }
    serde_json::from_str(&kept.body).map_err(|_| {
        FlowError::Ledger(LedgerError::Corrupt {
            what: format!("what {reservation} was told"),
        })
    })
}

/// Writes the entry, once, and tells the counters.
async fn record(service: &Service, giving: &Giving<'_>, note: Note, answer: Answer) -> Result<Decision, FlowError> {
    let (seen, request, id) = (&giving.seen, giving.request, giving.reservation);
    let known = Known {
        subject: subject(seen, &answer),
        policy: seen.policy.clone(),
        plan: Some(seen.plan.clone()),
        limits: seen.limits.clone(),
        hold: None,
        live: false,
        unseen: false,
    };
    let entry = bill::entry(
        &known.subject,
        &answer.made,
        giving.share,
        &seen.policy.catalogue,
        note.entry,
        seen.now,
    );
    let entry = entry.map_err(|_| FlowError::AmountTooLarge)?;
    let post = Post {
        workspace: request.ask.workspace.clone(),
        reservation: id,
        request_id: request.ask.request_id.clone(),
        revision: 0,
        end: Some(End::Settled),
        fingerprint: Some(request.fingerprint),
        checkpoint: None,
        entries: vec![entry.clone()],
        counters: known.limits.counters.clone(),
        charges: Vec::new(),
        tells: Tells::default(),
        now: seen.now,
    };
    match tell::post(service, post).await? {
        Posted::Done { rows, purses } => {
            let budgets = settle::apply(service, id, &known, Progress::Ended(End::Settled), Committed { rows, purses }).await;
            service.decisions.cached(note.decision, facts(seen, note.cache_entry));
            Ok(decision(note, answer, entry, budgets, known.plan, false))
        }
        Posted::Stands(standing) => {
            let entry = told(id, &standing, request)?.clone();
            let committed = rebuild::committed(service, &request.ask.workspace, &known.limits.counters).await?;
            let budgets = settle::apply(service, id, &known, Progress::Ended(End::Settled), committed).await;
            Ok(decision(note, answer, entry, budgets, known.plan, true))
        }
    }
}

/// What is kept of the decision for whoever asks why.
fn facts(seen: &Seen<'_>, answer: CacheEntryId) -> Facts {
    Facts {
        ask: seen.ask.clone(),
        decided_at: seen.now,
        policy_version: seen.policy.version,
        workspace_version: seen.workspace_version,
        plan: Some(seen.plan.id.clone()),
        chosen: Some(seen.chosen.clone()),
        routed: seen.note.routed.clone(),
        shadow_routes: seen.note.shadows.clone(),
        limits: seen.limits.clone(),
        expected_output: 0,
        before: Vec::new(),
        run: None,
        outcome: Outcome::Cached(answer),
        fair_use: Vec::new(),
        detour: None,
    }
}

/// The entry of the hit that this request had; anything else that its id stands for has ended it.
fn told<'a>(id: ReservationId, standing: &'a Standing, request: &Request) -> Result<&'a Entry, FlowError> {
    match &standing.entry {
        Some(entry) if entry.kind == Kind::CacheHit && standing.fingerprint == Some(request.fingerprint) => Ok(entry),
        Some(entry) if entry.kind == Kind::CacheHit => Err(FlowError::IdempotencyMismatch),
        _ => Err(FlowError::ReservationEnded(id, standing.end.unwrap_or(End::Settled))),
    }
}

fn decision(note: Note, answer: Answer, entry: Entry, budgets: Vec<BudgetView>, plan: Option<Arc<Plan>>, replayed: bool) -> Decision {
    let given = Given {
        kind: note.kind,
        similarity: Ratio::from_ten_thousandths(note.similarity).unwrap_or(Ratio::ONE),
        cache_entry: note.cache_entry,
        age_seconds: note.age_seconds,
        response: answer.response,
        entry,
        budgets,
        plan,
    };
    Decision {
        decision: note.decision,
        verdict: Verdict::Cached(Box::new(given)),
        replayed,
        explain: None,
        cache: None,
    }
}

fn subject(seen: &Seen<'_>, answer: &Answer) -> Subject {
    let ask = seen.ask;
    Subject {
        workspace: ask.workspace.clone(),
        user: ask.user.clone(),
        feature: ask.feature.clone(),
        request_id: ask.request_id.clone(),
        reservation: None,
        requested_model: ask.model.clone(),
        model: answer.made.model.clone(),
        mode: Mode::Interactive,
        requests: 1,
        held: Amounts::ZERO,
        occurred_at: seen.now,
        plan: Some((seen.plan.id.clone(), seen.plan.version)),
        tags: ask.tags.clone(),
        late: false,
    }
}

/// An answer by its id, wherever it is kept, and whose it is.
pub(super) async fn answer_of(service: &Service, id: CacheEntryId) -> Result<Option<(WorkspaceId, Answer)>, FlowError> {
    let now = service.clock.now();
    let good = |bytes: &[u8]| Answer::decode(bytes).filter(|answer| answer.id == id && answer.is_good_at(now));
    // Where exact answers are away, the ledger may have it.
    if let Ok(Some((workspace, Some(bytes)))) = service.cache.exact.find(id, now).await
        && let Some(answer) = good(&bytes)
    {
        return Ok(Some((workspace, answer)));
    }
    let row = service.ledger.cached(id).await?;
    Ok(row.and_then(|row| Some((row.workspace, good(&row.answer)?))))
}

/// A request whose id has ended settled: if that was a hit, and it is the same request, it is told the same again.
pub(super) async fn tell_again(service: &Service, request: &Request, id: ReservationId) -> Result<Decision, FlowError> {
    let ended = || FlowError::ReservationEnded(id, End::Settled);
    let standing = service.ledger.standing(id).await?.ok_or_else(ended)?;
    let entry = told(id, &standing, request)?.clone();
    let kept = answer::recall(service, key_of(id)).await?.ok_or_else(ended)?;
    let note = read(id, request, &kept)?;
    let (_, answer) = answer_of(service, note.cache_entry).await?.ok_or_else(ended)?;
    let subject = Subject {
        workspace: entry.workspace_id.clone(),
        user: entry.user_id.clone(),
        feature: entry.feature.clone(),
        request_id: entry.request_id.clone(),
        reservation: None,
        requested_model: entry.requested_model.clone(),
        model: entry.model.clone(),
        mode: entry.mode,
        requests: 1,
        held: Amounts::ZERO,
        occurred_at: entry.occurred_at,
        plan: entry.plan_id.clone().zip(entry.plan_version),
        tags: entry.tags.clone(),
        late: false,
    };
    let known = without_hold(service, subject).await?;
    let committed = rebuild::committed(service, &entry.workspace_id, &known.limits.counters).await?;
    let budgets = settle::apply(service, id, &known, Progress::Ended(End::Settled), committed).await;
    Ok(decision(note, answer, entry, budgets, known.plan.clone(), true))
}
