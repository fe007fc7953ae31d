//! Settle: claim the hold, record, apply. A crash after the claim leaves the hold until the resolver asks the ledger; a crash after the
//! commit leaves the counters one version behind, which the next settle heals. Usage is never lost or doubled.

use super::context::Context;
pub use super::known::Described;
use super::known::{Known, know};
use super::rebuild::{self, Committed};
use super::{DECIDE_AGAIN_MAX, FlowError, Service, cache, cascade, health, run, tell};
use crate::counters::run::Run;
use crate::counters::{Applied, Claim, Progress, Record};
use crate::decision::amount::Amounts;
use crate::decision::counter::Balance;
use crate::decision::entry::{Checkpoint, Entry, Outcome};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::limits::{BudgetView, Limited, Limits};
use crate::decision::plan::Plan;
use crate::decision::settlement::{self, Next, Report};
use crate::decision::standing::{End, Standing};
use crate::decision::usage::Pools;
use crate::ledger::{Post, Posted, Tells};

/// How long the last checkpoint of a stream waits for the next one when its hold is not known any more.
const CHECKPOINT_ALONE_SECONDS: i64 = 600;

/// A recorded settlement.
#[derive(Clone, Debug)]
pub struct Settled {
    pub entry: Entry,
    pub replayed: bool,
    pub late: bool,
    pub beyond_hold: Amounts,
    pub budgets: Vec<BudgetView>,
    /// What became of the answer that came with it, the first time.
    pub kept: Option<cache::Kept>,
}

/// A recorded checkpoint.
#[derive(Clone, Debug)]
pub struct Checked {
    pub pools: Pools,
    /// A hard limit is passed: the stream should end.
    pub stop: bool,
    pub budgets: Vec<BudgetView>,
}

/// Records the final report of a reservation.
pub async fn settle(
    service: &Service,
    id: ReservationId,
    report: &Report,
    described: &Described,
    bound: Option<&WorkspaceId>,
) -> Result<Settled, FlowError> {
    let (known, standing) = know(service, id, report, described, bound).await?;
    let fingerprint = report.fingerprint(&known.subject, &known.policy.catalogue);
    // Priced before the claim, so that a report that cannot be recorded changes nothing.
    let fresh = entry(service, &known, report, None)?;
    let offered = cascade::offer(service, id, &known, &fresh).await?;
    let mut live = known.live;
    if live {
        let named = (&known.subject.workspace, &*known.limits.counters);
        let claimed = rebuild::claim(service, named, id, Claim::Final).await;
        no_parent(id, claimed.as_ref().ok().and_then(Option::as_ref))?;
        live = claimed.is_ok_and(|record| record.is_some_and(|record| record.end.is_none()));
    }
    let mut standing = standing;
    for _ in 0..DECIDE_AGAIN_MAX {
        let (revision, entry) = match settlement::next(standing.as_ref(), fingerprint) {
            Next::Record { revision, .. } => (
                revision,
                Entry {
                    late: !live,
                    ..fresh.clone()
                },
            ),
            Next::RecordLate { revision } => (
                revision,
                Entry {
                    late: true,
                    ..fresh.clone()
                },
            ),
            Next::Correct { revision, entry } => (revision, corrected(service, &entry, &fresh)?),
            Next::Replay(entry) => return replayed(service, id, &known, *entry).await,
            Next::Conflict => {
                let end = run::ended(End::Settled, recorded(standing.as_ref()));
                return lost(service, id, &known, end, FlowError::SettleConflict(id)).await;
            }
            Next::Released { .. } => {
                let end = run::ended(End::Released, recorded(standing.as_ref()));
                return lost(service, id, &known, end, FlowError::ReservationEnded(id, End::Released)).await;
            }
        };
        let post = Post {
            workspace: known.subject.workspace.clone(),
            reservation: id,
            request_id: known.subject.request_id.clone(),
            revision,
            end: Some(End::Settled),
            fingerprint: Some(fingerprint),
            checkpoint: None,
            entries: vec![entry.clone()],
            counters: known.limits.counters.clone(),
            charges: Vec::new(),
            tells: Tells::default(),
            now: entry.recorded_at,
        };
        match tell::post(service, post).await? {
            Posted::Done { rows, purses } => {
                let committed = Committed { rows, purses };
                cascade::count_offered(offered.as_ref(), &entry);
                let mut settled = settled(service, id, &known, report, entry, committed).await;
                settled.kept = Box::pin(cache::keep(service, &known, &settled.entry, described.response.as_deref())).await;
                return Ok(settled);
            }
            Posted::Stands(now) => standing = Some(*now),
        }
    }
    Err(FlowError::Raced {
        what: format!("reservation {id}"),
    })
}

fn recorded(standing: Option<&Standing>) -> Option<&Entry> {
    standing.and_then(|standing| standing.entry.as_ref())
}

/// A call drew from this reservation just before it was to be claimed, so it is the parent of a run by now.
fn no_parent(id: ReservationId, record: Option<&Record>) -> Result<(), FlowError> {
    match record.and_then(|record| record.run) {
        Some(Run::Parent(_)) => Err(FlowError::ReservationIsParent(id)),
        _ => Ok(()),
    }
}

async fn settled(service: &Service, id: ReservationId, known: &Known, report: &Report, entry: Entry, committed: Committed) -> Settled {
    if entry.late {
        metrics::counter!("weir_late_total").increment(1);
    }
    let budgets = apply(service, id, known, run::ended(End::Settled, Some(&entry)), committed).await;
    if report.outcome == Outcome::Success {
        let requests = report.requests.unwrap_or(known.subject.requests);
        service.estimator.learn(
            &entry.workspace_id,
            &entry.feature,
            &entry.model,
            entry.pools.output_tokens,
            requests,
        );
    }
    let began = known.hold.as_ref().map_or(entry.occurred_at, |(record, _)| record.held_at);
    health::note(service, &entry, began);
    service.fair_use.used(known.plan.as_deref(), &entry, service.clock.now());
    look_back(service, known, &entry);
    let beyond_hold = known.hold.as_ref().map_or(Amounts::ZERO, |(_, held)| entry.counted.beyond(*held));
    Settled {
        late: entry.late,
        entry,
        replayed: false,
        beyond_hold,
        budgets,
        kept: None,
    }
}

/// What the hold remembers goes into the decision log, and how far the estimator was off where its figure was used into a metric.
fn look_back(service: &Service, known: &Known, entry: &Entry) {
    let Some((record, _)) = &known.hold else { return };
    let Ok(context) = Context::decode(&record.context, record.reservation) else {
        return;
    };
    service.decisions.ended(&context, record);
    if context.ask.max_output_tokens.is_none() && context.expected_output > 0 && entry.outcome == Outcome::Success {
        metrics::histogram!("weir_estimate_ratio").record(entry.pools.output_tokens as f64 / context.expected_output as f64);
    }
}

async fn replayed(service: &Service, id: ReservationId, known: &Known, entry: Entry) -> Result<Settled, FlowError> {
    let committed = committed_now(service, known).await?;
    let budgets = apply(service, id, known, run::ended(End::Settled, Some(&entry)), committed).await;
    let beyond_hold = known.hold.as_ref().map_or(Amounts::ZERO, |(_, held)| entry.counted.beyond(*held));
    Ok(Settled {
        late: entry.late,
        entry,
        replayed: true,
        beyond_hold,
        budgets,
        kept: None,
    })
}

/// Somebody else ended the reservation: the store is told, so that a claim of ours does not keep its hold, and the caller learns of the end.
async fn lost(service: &Service, id: ReservationId, known: &Known, end: Progress, error: FlowError) -> Result<Settled, FlowError> {
    let committed = committed_now(service, known).await?;
    apply(service, id, known, end, committed).await;
    Err(error)
}

/// The rows that the commit of an earlier call changed, as they are now: a hold is never freed without them, be it one that nobody saw.
pub(super) async fn committed_now(service: &Service, known: &Known) -> Result<Committed, FlowError> {
    let (subject, counters) = (&known.subject, &known.limits.counters);
    match (known.live, known.unseen) {
        (true, _) => rebuild::committed(service, &subject.workspace, counters).await,
        (false, true) => rebuild::committed_of_any(service, &subject.workspace, subject.user.as_ref(), counters).await,
        (false, false) => Ok(Committed::default()),
    }
}

fn corrected(service: &Service, original: &Entry, target: &Entry) -> Result<Entry, FlowError> {
    let target = Entry {
        entry_id: service.entry_id(),
        ..target.clone()
    };
    settlement::correction(original, target).ok_or(FlowError::AmountTooLarge)
}

fn entry(service: &Service, known: &Known, report: &Report, at_least: Option<&Pools>) -> Result<Entry, FlowError> {
    settlement::entry(
        &known.subject,
        report,
        at_least,
        &known.policy.catalogue,
        service.entry_id(),
        service.clock.now(),
    )
    .map_err(|_| FlowError::AmountTooLarge)
}

/// Records how far a stream has come. Its part is spent from now on, and durable; the hold keeps the rest.
pub async fn checkpoint(
    service: &Service,
    id: ReservationId,
    report: &Report,
    described: &Described,
    bound: Option<&WorkspaceId>,
) -> Result<Checked, FlowError> {
    let (known, first) = know(service, id, report, described, bound).await?;
    let now = service.clock.now();
    let expires_at = match &known.hold {
        Some((record, _)) if known.live => record.expires_at,
        Some((record, _)) => return Err(FlowError::ReservationEnded(id, record.end.unwrap_or(End::Expired))),
        None => now.plus_seconds(CHECKPOINT_ALONE_SECONDS),
    };
    let mut standing = first;
    for _ in 0..DECIDE_AGAIN_MAX {
        if let Some(end) = standing.as_ref().and_then(|standing| standing.end) {
            return Err(FlowError::ReservationEnded(id, end));
        }
        let before = standing
            .as_ref()
            .and_then(|standing| standing.checkpoint.as_ref())
            .map(|checkpoint| checkpoint.entry.pools);
        let so_far = Entry {
            outcome: Outcome::Abandoned,
            ..entry(service, &known, report, before.as_ref())?
        };
        let (pools, counted) = (so_far.pools, so_far.counted);
        if known.live {
            let named = (&known.subject.workspace, &*known.limits.counters);
            let claimed = rebuild::claim(service, named, id, Claim::UpTo(counted)).await?;
            no_parent(id, claimed.as_ref())?;
        }
        let post = Post {
            workspace: known.subject.workspace.clone(),
            reservation: id,
            request_id: known.subject.request_id.clone(),
            revision: standing.as_ref().map_or(0, |standing| standing.revision),
            end: None,
            fingerprint: None,
            checkpoint: Some(Checkpoint { entry: so_far, expires_at }),
            entries: Vec::new(),
            counters: known.limits.counters.clone(),
            charges: Vec::new(),
            tells: Tells::default(),
            now,
        };
        match tell::post(service, post).await? {
            Posted::Done { rows, purses } => {
                let committed = Committed { rows, purses };
                let budgets = apply(service, id, &known, Progress::Used(counted), committed).await;
                let passed = |budget: &BudgetView| {
                    let line = budget.hard.map(|hard| hard.saturating_add(budget.granted));
                    !budget.shadow && budget.overage_remaining.is_none() && line.is_some_and(|line| budget.balance.taken() > line)
                };
                return Ok(Checked {
                    pools,
                    stop: budgets.iter().any(passed),
                    budgets,
                });
            }
            Posted::Stands(now) => standing = Some(*now),
        }
    }
    Err(FlowError::Raced {
        what: format!("reservation {id}"),
    })
}

/// Copies a commit into the counters and reads the budgets. A failure is healed by the next settle, so it is told, not returned.
pub(super) async fn apply(
    service: &Service,
    id: ReservationId,
    known: &Known,
    progress: Progress,
    committed: Committed,
) -> Vec<BudgetView> {
    let applied = committed.applied(id, progress);
    let counters = &known.limits.counters;
    let purses = known.plan.as_ref().map(|plan| known.limits.purses(plan)).unwrap_or_default();
    let balances = match service
        .counters
        .apply(&known.subject.workspace, &applied, counters, &purses, service.clock.now())
        .await
    {
        Ok(balances) => balances,
        Err(error) => {
            tracing::warn!(reservation = %id, error = &error as &dyn std::error::Error, "counters are behind the ledger until the next settle");
            metrics::counter!("weir_apply_failed_total").increment(1);
            vec![None; counters.len()]
        }
    };
    known
        .plan
        .as_ref()
        .map(|plan| views(plan, &known.limits, &balances, &applied))
        .unwrap_or_default()
}

/// The budgets as they stand; where the store does not know a counter, as the commit left its row.
fn views(plan: &Plan, limits: &Limits, balances: &[Option<Balance>], applied: &Applied) -> Vec<BudgetView> {
    let from_row = |limited: &Limited| {
        let row = applied.rows.iter().find(|row| row.counter == limits.counters[limited.counter])?;
        let purse = applied.purses.iter().find(|purse| purse.budget == plan.budgets[limited.budget].id);
        Some(Balance {
            spent: row.spent,
            held: 0,
            granted: row.paid.saturating_add(purse.map_or(0, |purse| purse.left)),
        })
    };
    let views = limits.budgets.iter().filter_map(|limited| {
        let counter = &limits.counters[limited.counter];
        let balance = balances[limited.counter].or_else(|| from_row(limited))?;
        Some(BudgetView::new(limited, &plan.budgets[limited.budget], counter, balance))
    });
    views.collect()
}
