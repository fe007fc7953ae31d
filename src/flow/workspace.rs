//! Workspaces as requests see them: held in memory, read from the ledger on first sight, replaced whole by a change, be it another node's.

use super::audit::{self, By, Subject};
use super::expected::Expected;
use super::{DECIDE_AGAIN_MAX, FlowError, Service, inbound, renew};
use crate::decision::counter::Whose;
use crate::decision::event::{Event, EventType, PlanData, SuspendedData};
use crate::decision::id::{EventId, WorkspaceId};
use crate::decision::workspace::{Status, Workspace};
use crate::decision::{level, notice};
pub use crate::ledger::directory::WorkspaceQuery;
use foldhash::HashMap;
use serde_json::Value;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How many workspaces are kept in memory; beyond it, those are forgotten that the ledger can tell again.
const KNOWN_MAX: usize = 200_000;
const SHARDS: usize = 16;
/// How many changes of workspaces are followed at a time.
const FOLLOW_PAGE: usize = 500;

/// The workspaces that this process has seen.
#[derive(Default)]
pub struct Workspaces {
    shards: [RwLock<HashMap<WorkspaceId, Arc<Workspace>>>; SHARDS],
    /// The number of the last change that was looked at. It moves before what is known is renewed, so that whoever read an older state
    /// in the meantime sees it move, and reads again.
    followed: AtomicI64,
}

impl Workspaces {
    fn shard(&self, id: &WorkspaceId) -> &RwLock<HashMap<WorkspaceId, Arc<Workspace>>> {
        let mixed = id
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        &self.shards[(mixed >> 8) as usize % SHARDS]
    }

    fn get(&self, id: &WorkspaceId) -> Option<Arc<Workspace>> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Replaces what is known of a workspace, if anything is and it is older. What is not known is read when it is asked for.
    fn renew(&self, workspace: Workspace) {
        let mut known = self.shard(&workspace.id).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(&workspace.id).filter(|known| known.version < workspace.version) {
            *known = Arc::new(workspace);
        }
    }

    /// Keeps the newer of what is known and `workspace`.
    fn keep(&self, workspace: Workspace) -> Arc<Workspace> {
        let mut known = self.shard(&workspace.id).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = known.get(&workspace.id).filter(|known| known.version >= workspace.version) {
            return newer.clone();
        }
        if known.len() >= KNOWN_MAX / SHARDS {
            known.clear();
        }
        let workspace = Arc::new(workspace);
        known.insert(workspace.id.clone(), workspace.clone());
        workspace
    }
}

/// The workspace; `None` before its first authorize, usage or PUT.
pub async fn find(service: &Service, id: &WorkspaceId) -> Result<Option<Arc<Workspace>>, FlowError> {
    if let Some(known) = service.workspaces.get(id) {
        return Ok(Some(known));
    }
    loop {
        let followed = service.workspaces.followed.load(Ordering::SeqCst);
        let Some(stored) = service.ledger.workspace(id).await? else {
            return Ok(None);
        };
        let kept = service.workspaces.keep(stored);
        if service.workspaces.followed.load(Ordering::SeqCst) == followed {
            return Ok(Some(kept));
        }
    }
}

/// From here on changes are followed. To be called before any workspace is known.
pub async fn follow_from_now(service: &Service) -> Result<(), FlowError> {
    let newest = service.ledger.workspace_change().await?;
    service.workspaces.followed.store(newest, Ordering::SeqCst);
    Ok(())
}

/// Takes over what other nodes have changed of the workspaces that are known here. Returns how many changes there were to look at.
pub async fn follow(service: &Service) -> Result<usize, FlowError> {
    let mut seen = 0;
    loop {
        let after = service.workspaces.followed.load(Ordering::SeqCst);
        let changes = service.ledger.workspaces_changed(after, FOLLOW_PAGE).await?;
        seen += changes.len();
        let Some((last, _)) = changes.last() else { return Ok(seen) };
        service.workspaces.followed.store(*last, Ordering::SeqCst);
        let is_last_page = changes.len() < FOLLOW_PAGE;
        for (_, workspace) in changes {
            service.workspaces.renew(workspace);
        }
        if is_last_page {
            return Ok(seen);
        }
    }
}

/// The workspace, which comes into being by being asked for.
pub async fn find_or_create(service: &Service, id: &WorkspaceId) -> Result<Arc<Workspace>, FlowError> {
    if let Some(known) = find(service, id).await? {
        return Ok(known);
    }
    service.ledger.rows(id, &Whose::Workspace, &[], service.clock.now()).await?;
    find(service, id).await?.ok_or(FlowError::NotFound)
}

/// The workspace as it is stored, which from now on is what is known of it.
pub(super) async fn refresh(service: &Service, id: &WorkspaceId) -> Result<Arc<Workspace>, FlowError> {
    let stored = service.ledger.workspace(id).await?.ok_or(FlowError::NotFound)?;
    Ok(service.workspaces.keep(stored))
}

/// Workspaces, newest first.
pub async fn list(service: &Service, query: &WorkspaceQuery) -> Result<Vec<Workspace>, FlowError> {
    Ok(service.ledger.workspaces(query).await?)
}

/// How a change of a workspace is told in the audit log.
pub struct Told<'a> {
    pub by: &'a By,
    pub action: &'static str,
    /// The workspace as callers see it.
    pub document: &'a dyn Fn(&Workspace) -> Value,
}

/// Changes a workspace, or creates it, and returns it with whether it is new. `change` is told the same, sees the workspace as it is, and
/// may be called again when somebody else was faster; `expected` refuses other versions than its caller saw.
pub async fn change(
    service: &Service,
    id: &WorkspaceId,
    expected: &Expected,
    told: Told<'_>,
    change: impl Fn(&mut Workspace, bool) -> Result<(), FlowError>,
) -> Result<(Arc<Workspace>, bool), FlowError> {
    let raced = || FlowError::Raced {
        what: format!("workspace {id}"),
    };
    for _ in 0..DECIDE_AGAIN_MAX {
        let now = service.clock.now();
        let stored = service.ledger.workspace(id).await?;
        let (version, is_new) = stored.as_ref().map_or((0, true), |stored| (stored.version, false));
        if !expected.accepts(version) {
            return Err(raced());
        }
        let before = stored.as_ref().map(told.document);
        let was = stored.clone();
        let mut next = stored.unwrap_or_else(|| Workspace::unknown(id.clone(), now));
        change(&mut next, is_new)?;
        let customer = next.stripe_customer_id.clone();
        if let Some(customer) = customer.filter(|_| was.as_ref().is_none_or(|was| was.stripe_customer_id != next.stripe_customer_id)) {
            inbound::take_over(service, &customer, &mut next, now).await?;
        }
        next.version = version + 1;
        next.updated_at = now;
        let subject = Subject::of(id, "workspace", id.as_str());
        let audited = audit::record(&*service.clock, told.by, told.action, subject, before, Some((told.document)(&next)));
        let events = told_of(service, was.as_ref(), &next);
        if service.ledger.put_workspace_and_tell(&next, version, audited, events).await? {
            let kept = service.workspaces.keep(next);
            if !is_new {
                renew::raised(service, id).await;
            }
            return Ok((kept, is_new));
        }
        // It may be the plan that has gone.
        super::policy::follow(service).await?;
    }
    Err(raced())
}

/// What happens with a change of a workspace; `was` is `None` where it is new.
pub(super) fn told_of(service: &Service, was: Option<&Workspace>, next: &Workspace) -> Vec<Event> {
    let policy = service.policy.load();
    let plan_of = |workspace: &Workspace| policy.plan(workspace.plan_id.as_ref()).cloned();
    let (before, after) = (was.and_then(plan_of), plan_of(next));
    let event = |kind, what: &str, data: Result<Value, serde_json::Error>| {
        let id = EventId::from_uuid(service.clock.uuid());
        let once = format!("{what} {}", next.version);
        Event::new(id, Some(next.id.clone()), kind, once, next.updated_at, data.unwrap_or_default())
    };
    let bought = |message| level::bought(&next.id, None, after.as_deref(), message);
    let voice = policy.voice(None, after.as_deref());
    let (from, to) = (before.as_ref().map(|plan| &plan.id), after.as_ref().map(|plan| &plan.id));
    let mut events = Vec::new();
    if was.is_some() && from != to {
        let data = PlanData {
            bought: bought(notice::plan_changed(voice, &next.id, from, to)),
            previous_plan_id: from.cloned(),
        };
        events.push(event(EventType::PlanChanged, "plan", serde_json::to_value(data)));
    }
    let was_active = was.is_none_or(|was| was.status == Status::Active);
    if was_active && next.status == Status::Suspended {
        let data = SuspendedData {
            bought: bought(notice::suspended(voice, &next.id)),
        };
        events.push(event(EventType::WorkspaceSuspended, "suspended", serde_json::to_value(data)));
    }
    events
}
