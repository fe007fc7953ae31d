//! What is known of a reservation that usage is reported for: from its hold, else from the ledger, else from what the caller resends.

use super::context::Context;
use super::record::check_time;
use super::{FlowError, Service, workspace};
use crate::counters::Record;
use crate::decision::amount::Amounts;
use crate::decision::entry::Entry;
use crate::decision::id::{Feature, ModelId, RequestId, ReservationId, UserId, WorkspaceId, slot};
use crate::decision::limits::Limits;
use crate::decision::plan::Plan;
use crate::decision::price::Mode;
use crate::decision::settlement::{Report, Subject};
use crate::decision::standing::{End, Standing};
use crate::decision::time::Timestamp;
use crate::policy::Policy;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a caller resends so that usage can be recorded even if its reservation is lost.
#[derive(Clone, Debug, Default)]
pub struct Described {
    pub workspace: Option<WorkspaceId>,
    pub user: Option<UserId>,
    pub feature: Option<Feature>,
    pub occurred_at: Option<Timestamp>,
    /// The answer, as the JSON text of an object, to be kept for requests like this one.
    pub response: Option<String>,
}

/// What is known of a reservation that usage is reported for.
pub(super) struct Known {
    pub subject: Subject,
    pub policy: Arc<Policy>,
    pub plan: Option<Arc<Plan>>,
    pub limits: Arc<Limits>,
    /// What its hold took; `None`: no hold is known.
    pub hold: Option<(Record, Amounts)>,
    pub live: bool,
    /// The counters did not answer, so a hold may be there all the same.
    pub unseen: bool,
}

/// Everything that is known of a reservation: from its hold, else from the ledger, else from what the caller resends.
pub(super) async fn know(
    service: &Service,
    id: ReservationId,
    report: &Report,
    described: &Described,
    bound: Option<&WorkspaceId>,
) -> Result<(Known, Option<Standing>), FlowError> {
    let now = service.clock.now();
    // With the counters away, what the ledger and the caller know is enough to record the use.
    let (record, unseen) = match service.counters.find(id, now).await {
        Ok(record) => (record, false),
        Err(error) if described.workspace.is_some() => {
            tracing::warn!(reservation = %id, error = &error as &dyn std::error::Error, "settling without the counters");
            (None, true)
        }
        Err(error) => return Err(error.into()),
    };
    // Of another workspace than the caller's own, or than the one that it names.
    let foreign = |workspace: &WorkspaceId| {
        let named = described.workspace.as_ref();
        [bound, named].into_iter().flatten().any(|expected| expected != workspace)
    };
    if record.as_ref().is_some_and(|record| foreign(&record.workspace)) {
        return Err(FlowError::ReservationUnknown(id));
    }
    if let Some(record) = record.filter(|record| !record.context.is_empty()) {
        let touched = record.claimed.is_some() || record.end.is_some();
        let known = from_hold(service, id, record).await?;
        let standing = if touched { service.ledger.standing(id).await? } else { None };
        return Ok((known, standing));
    }
    let standing = service.ledger.standing(id).await?;
    if standing.as_ref().is_some_and(|standing| foreign(&standing.workspace)) {
        return Err(FlowError::ReservationUnknown(id));
    }
    let known = match standing.as_ref().and_then(recorded) {
        Some(entry) => from_entry(service, id, entry).await?,
        None => from_description(service, id, report, described, standing.as_ref(), bound).await?,
    };
    Ok((Known { unseen, ..known }, standing))
}

fn recorded(standing: &Standing) -> Option<&Entry> {
    standing
        .entry
        .as_ref()
        .or_else(|| standing.checkpoint.as_ref().map(|checkpoint| &checkpoint.entry))
}

async fn from_hold(service: &Service, id: ReservationId, record: Record) -> Result<Known, FlowError> {
    let context = Context::decode(&record.context, id)?;
    if super::run::is_parent(&record, &context) {
        return Err(FlowError::ReservationIsParent(id));
    }
    let policy = service.policy_of(&context).await?;
    let ladder = context.ladder(&policy)?;
    let (live, held) = (record.end.is_none(), record.taken.amounts);
    let subject = context.subject(id, &ladder, record.taken.rung, held, !live);
    Ok(Known {
        subject,
        policy,
        plan: Some(ladder.plan.clone()),
        limits: context.limits,
        hold: Some((record, held)),
        live,
        unseen: false,
    })
}

async fn from_entry(service: &Service, id: ReservationId, entry: &Entry) -> Result<Known, FlowError> {
    let subject = Subject {
        workspace: entry.workspace_id.clone(),
        user: entry.user_id.clone(),
        feature: entry.feature.clone(),
        request_id: entry.request_id.clone(),
        reservation: Some(id),
        requested_model: entry.requested_model.clone(),
        model: entry.model.clone(),
        mode: entry.mode,
        requests: entry.requests.max(1),
        held: Amounts::ZERO,
        occurred_at: entry.occurred_at,
        plan: entry.plan_id.clone().zip(entry.plan_version),
        tags: entry.tags.clone(),
        late: true,
    };
    without_hold(service, subject).await
}

async fn from_description(
    service: &Service,
    id: ReservationId,
    report: &Report,
    described: &Described,
    standing: Option<&Standing>,
    bound: Option<&WorkspaceId>,
) -> Result<Known, FlowError> {
    let unknown = || FlowError::ReservationUnknown(id);
    let workspace = described
        .workspace
        .as_ref()
        .or(bound)
        .or(standing.map(|standing| &standing.workspace))
        .ok_or_else(unknown)?;
    // The id names the slot of its workspace: a description of another one is not of this reservation.
    if slot(workspace) != id.slot() || bound.is_some_and(|bound| bound != workspace) {
        return Err(unknown());
    }
    let request_id = match standing {
        Some(standing) => standing.request_id.clone(),
        None => RequestId::parse(&id.to_string()).map_err(|_| unknown())?,
    };
    let released = standing.is_some_and(|standing| standing.end == Some(End::Released));
    let model = match &report.model {
        Some(model) => model.clone(),
        // A released reservation is refused whatever ran, so nothing needs to be known of it.
        None if released => ModelId::parse("unknown").map_err(|_| unknown())?,
        None => return Err(unknown()),
    };
    let feature = match &described.feature {
        Some(feature) => feature.clone(),
        None if released => Feature::parse("unknown").map_err(|_| unknown())?,
        None => return Err(unknown()),
    };
    let now = service.clock.now();
    let occurred_at = described.occurred_at.unwrap_or(now);
    // The hold would have told the time; the caller's word for it has the same window as use without a hold.
    check_time(occurred_at, now)?;
    let subject = Subject {
        workspace: workspace.clone(),
        user: described.user.clone(),
        feature,
        request_id,
        reservation: Some(id),
        requested_model: model.clone(),
        model,
        mode: Mode::Interactive,
        requests: 1,
        held: Amounts::ZERO,
        occurred_at,
        plan: None,
        tags: BTreeMap::new(),
        late: true,
    };
    without_hold(service, subject).await
}

/// What the current policy says of a use whose hold is not known.
pub(super) async fn without_hold(service: &Service, mut subject: Subject) -> Result<Known, FlowError> {
    let policy = service.policy.load();
    let workspace = workspace::find_or_create(service, &subject.workspace).await?;
    let plan = policy.plan(workspace.plan_id.as_ref()).cloned();
    let limits = match &plan {
        Some(plan) => Limits::of_request(plan, &workspace, &subject.feature, subject.user.as_ref(), subject.occurred_at),
        None => Limits::default(),
    };
    if subject.plan.is_none() {
        subject.plan = plan.as_ref().map(|plan| (plan.id.clone(), plan.version));
    }
    Ok(Known {
        subject,
        policy,
        plan,
        limits: Arc::new(limits),
        hold: None,
        live: false,
        unseen: false,
    })
}
