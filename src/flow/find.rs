//! Find: how a reservation stands, from its hold while that is remembered, else from the ledger.

use super::context::Context;
use super::{FlowError, Service, run};
use crate::counters::Record;
use crate::counters::run::Run;
use crate::decision::amount::Amounts;
use crate::decision::entry::Entry;
use crate::decision::id::{Feature, ModelId, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::run::Account;
use crate::decision::standing::{End, Standing};
use crate::decision::time::Timestamp;

/// A reservation as its owner may see it.
#[derive(Clone, Debug)]
pub struct Reservation {
    pub id: ReservationId,
    pub workspace: WorkspaceId,
    pub request_id: RequestId,
    pub user: Option<UserId>,
    pub feature: Option<Feature>,
    pub model: Option<ModelId>,
    /// `None`: still held.
    pub end: Option<End>,
    pub held: Option<Amounts>,
    pub used: Amounts,
    pub authorized_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub entry: Option<Entry>,
    /// Of a parent: how its run stands, or stood when it ended.
    pub run: Option<Account>,
    /// Of a call: whose.
    pub parent: Option<ReservationId>,
    /// The reservation of which it is the second try, and the one that is its second try.
    pub escalated: (Option<ReservationId>, Option<ReservationId>),
}

/// Whether a credential that is bound to `bound` may see `workspace`.
pub fn visible(workspace: &WorkspaceId, bound: Option<&WorkspaceId>) -> bool {
    bound.is_none_or(|bound| bound == workspace)
}

/// What the store and the ledger know of a reservation.
pub(super) struct Seen {
    pub workspace: WorkspaceId,
    pub record: Option<Record>,
    /// What the hold remembers, while it does.
    pub context: Option<Context>,
    pub standing: Option<Standing>,
}

/// Looks a reservation up in both; of another tenant than `bound` it is as unknown as if it never was.
pub(super) async fn look(service: &Service, id: ReservationId, bound: Option<&WorkspaceId>) -> Result<Seen, FlowError> {
    let record = service.counters.find(id, service.clock.now()).await?;
    let standing = service.ledger.standing(id).await?;
    let workspace = record
        .as_ref()
        .map(|record| &record.workspace)
        .or(standing.as_ref().map(|standing| &standing.workspace));
    let workspace = workspace
        .filter(|workspace| visible(workspace, bound))
        .cloned()
        .ok_or(FlowError::ReservationGone(id))?;
    let context = record
        .as_ref()
        .filter(|record| !record.context.is_empty())
        .map(|record| Context::decode(&record.context, id))
        .transpose()?;
    Ok(Seen {
        workspace,
        record,
        context,
        standing,
    })
}

pub async fn find(service: &Service, id: ReservationId, bound: Option<&WorkspaceId>) -> Result<Reservation, FlowError> {
    let Seen {
        workspace,
        record,
        context,
        standing,
    } = look(service, id, bound).await?;
    let reported = standing
        .as_ref()
        .and_then(|standing| standing.checkpoint.as_ref())
        .map(|checkpoint| &checkpoint.entry);
    let entry = standing.as_ref().and_then(|standing| standing.entry.as_ref());
    let told = entry.or(reported);
    let request_id = context
        .as_ref()
        .map(|context| &context.ask.request_id)
        .or(standing.as_ref().map(|standing| &standing.request_id));
    let model = match &context {
        Some(context) => {
            let policy = service.policy_of(context).await?;
            let rung = record.as_ref().map_or(0, |record| record.taken.rung);
            Some(context.ladder(&policy)?.offers[rung].model.id.clone())
        }
        None => told.map(|entry| entry.model.clone()),
    };
    let run = record.as_ref().zip(context.as_ref());
    let run = run
        .filter(|(record, context)| run::is_parent(record, context))
        .map(|(record, context)| run::account(record, context));
    let parent = record.as_ref().and_then(|record| match record.run {
        Some(Run::Child(parent)) => Some(parent),
        _ => None,
    });
    let escalated = service.ledger.escalation_links(id).await?;
    Ok(Reservation {
        id,
        escalated,
        workspace,
        run,
        parent,
        request_id: request_id.cloned().ok_or(FlowError::ReservationGone(id))?,
        user: context
            .as_ref()
            .map_or_else(|| told.and_then(|entry| entry.user_id.clone()), |context| context.ask.user.clone()),
        feature: context
            .as_ref()
            .map(|context| context.ask.feature.clone())
            .or_else(|| told.map(|entry| entry.feature.clone())),
        model,
        end: standing
            .as_ref()
            .and_then(|standing| standing.end)
            .or(record.as_ref().and_then(|record| record.end)),
        held: record.as_ref().map(|record| record.taken.amounts),
        used: told.map_or(run.map_or(Amounts::ZERO, |run| run.used), |entry| entry.counted),
        authorized_at: record.as_ref().map(|record| record.held_at),
        expires_at: record.as_ref().map(|record| record.expires_at),
        entry: entry.cloned(),
    })
}
