//! Record: usage that was not authorized first. Request ids are unique over authorize and usage, because both lead to the same
//! reservation id; a crash anywhere is repeated safely with the same request id.

use super::known::{Known, without_hold};
use super::rebuild::Committed;
use super::settle;
use super::{DECIDE_AGAIN_MAX, FlowError, Service, run, tell};
use crate::decision::amount::Amounts;
use crate::decision::entry::{Entry, Outcome};
use crate::decision::id::{Feature, ModelId, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::limits::BudgetView;
use crate::decision::price::Mode;
use crate::decision::settlement::{self, Next, Report, Subject};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use crate::ledger::{Post, Posted, Tells};
use std::collections::BTreeMap;

/// How long ago usage may have happened.
pub const USAGE_AGE_DAYS_MAX: i64 = 35;
/// How far ahead of our clock usage may claim to have happened.
pub const USAGE_AHEAD_SECONDS_MAX: i64 = 5 * 60;

/// A use as its caller describes it.
#[derive(Clone, Debug)]
pub struct Use {
    pub workspace: WorkspaceId,
    pub user: Option<UserId>,
    pub feature: Feature,
    pub model: ModelId,
    pub request_id: RequestId,
    pub occurred_at: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
    pub report: Report,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub entry: Entry,
    /// The same use was recorded before; this is its entry.
    pub duplicate: bool,
    pub budgets: Vec<BudgetView>,
}

/// Records one use, once.
pub async fn record(service: &Service, usage: &Use) -> Result<Recorded, FlowError> {
    let now = service.clock.now();
    let occurred_at = usage.occurred_at.unwrap_or(now);
    check_time(occurred_at, now)?;
    let id = ReservationId::derive(&usage.workspace, &usage.request_id);
    // Without the counters a held request id is not noticed here; its settle then finds this entry in the ledger.
    let found = service.counters.find(id, now).await;
    let unseen = found.is_err();
    let record = found.unwrap_or_default();
    if record.as_ref().is_some_and(|record| record.end.is_none()) {
        return Err(FlowError::RequestIdHeld(id));
    }
    let known = Known {
        unseen,
        ..without_hold(service, subject(usage, occurred_at)).await?
    };
    let fingerprint = usage.report.fingerprint(&known.subject, &known.policy.catalogue);
    let fresh = settlement::entry(
        &known.subject,
        &usage.report,
        None,
        &known.policy.catalogue,
        service.entry_id(),
        now,
    )
    .map_err(|_| FlowError::AmountTooLarge)?;
    let linked = |late: bool| Entry {
        reservation_id: Some(id),
        late,
        ..fresh.clone()
    };
    let expired = record.as_ref().is_some_and(|record| record.end.is_some());
    let mut standing = if expired { service.ledger.standing(id).await? } else { None };
    for _ in 0..DECIDE_AGAIN_MAX {
        let (revision, end, entry) = match settlement::next(standing.as_ref(), fingerprint) {
            Next::Record { is_stream: true, .. } => return Err(FlowError::RequestIdHeld(id)),
            Next::Record { revision, .. } => (revision, End::Settled, if expired { linked(true) } else { fresh.clone() }),
            Next::RecordLate { revision } => (revision, End::Settled, linked(true)),
            Next::Released { revision, entry: None, .. } => (revision, End::Released, linked(true)),
            Next::Correct { revision, entry } => {
                let target = linked(true);
                (
                    revision,
                    End::Settled,
                    settlement::correction(&entry, target).ok_or(FlowError::AmountTooLarge)?,
                )
            }
            Next::Replay(entry)
            | Next::Released {
                entry: Some(entry),
                alike: true,
                ..
            } => {
                let committed = settle::committed_now(service, &known).await?;
                return Ok(done(service, id, &known, *entry, true, committed, End::Settled).await);
            }
            Next::Conflict | Next::Released { .. } => return Err(FlowError::UsageConflict),
        };
        let post = Post {
            workspace: usage.workspace.clone(),
            reservation: id,
            request_id: usage.request_id.clone(),
            revision,
            end: Some(end),
            fingerprint: Some(fingerprint),
            checkpoint: None,
            entries: vec![entry.clone()],
            counters: known.limits.counters.clone(),
            charges: Vec::new(),
            tells: Tells::default(),
            now,
        };
        match tell::post(service, post).await? {
            Posted::Done { rows, purses } => {
                learn(service, usage, &entry);
                service.fair_use.used(known.plan.as_deref(), &entry, now);
                return Ok(done(service, id, &known, entry, false, Committed { rows, purses }, end).await);
            }
            Posted::Stands(now) => standing = Some(*now),
        }
    }
    Err(FlowError::Raced {
        what: format!("request id {}", usage.request_id),
    })
}

async fn done(
    service: &Service,
    id: ReservationId,
    known: &Known,
    entry: Entry,
    duplicate: bool,
    committed: Committed,
    end: End,
) -> Recorded {
    let budgets = settle::apply(service, id, known, run::ended(end, Some(&entry)), committed).await;
    Recorded { entry, duplicate, budgets }
}

fn learn(service: &Service, usage: &Use, entry: &Entry) {
    if usage.report.outcome == Outcome::Success {
        service.estimator.learn(
            &entry.workspace_id,
            &entry.feature,
            &entry.model,
            entry.pools.output_tokens,
            entry.requests,
        );
    }
}

/// Refuses a time outside of the window in which use may be reported.
pub(super) fn check_time(occurred_at: Timestamp, now: Timestamp) -> Result<(), FlowError> {
    let refuse = |detail: String| {
        Err(FlowError::Unacceptable {
            pointer: "/occurred_at".to_owned(),
            detail,
        })
    };
    if occurred_at < now.plus_seconds(-USAGE_AGE_DAYS_MAX * 24 * 3600) {
        return refuse(format!(
            "usage older than {USAGE_AGE_DAYS_MAX} days is not taken any more: billing providers refuse it"
        ));
    }
    if occurred_at > now.plus_seconds(USAGE_AHEAD_SECONDS_MAX) {
        return refuse(format!(
            "this is more than {USAGE_AHEAD_SECONDS_MAX} seconds ahead; check the clock of the caller"
        ));
    }
    Ok(())
}

fn subject(usage: &Use, occurred_at: Timestamp) -> Subject {
    Subject {
        workspace: usage.workspace.clone(),
        user: usage.user.clone(),
        feature: usage.feature.clone(),
        request_id: usage.request_id.clone(),
        reservation: None,
        requested_model: usage.model.clone(),
        model: usage.model.clone(),
        mode: Mode::Interactive,
        requests: 1,
        held: Amounts::ZERO,
        occurred_at,
        plan: None,
        tags: usage.tags.clone(),
        late: false,
    }
}
