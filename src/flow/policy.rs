//! Policy: changes are written to the ledger as a new version, then the snapshot is swapped whole. Requests that run keep the one they
//! have. A crash between both leaves the ledger ahead, which [`follow`] notices within its poll.

pub use super::audit::By;
use super::audit::{self, Subject};
use super::expected::Expected;
use super::{DECIDE_AGAIN_MAX, FlowError, Service};
use crate::clock::Clock;
use crate::ledger::{Ledger, LedgerError, PolicyChange, PolicyState};
use crate::policy::Policy;
use crate::policy::files::Files;
use crate::policy::object::{self, Change, Object, ObjectId};
use crate::policy::problem::{Fault, Problem, Problems};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many versions that were in force are kept in memory, for holds that were made under them.
const RECENT_MAX: usize = 64;

/// Versions of the policy that holds may still refer to.
#[derive(Default)]
pub struct Recent(Mutex<BTreeMap<i64, Arc<Policy>>>);

impl Recent {
    fn get(&self, version: i64) -> Option<Arc<Policy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned()
    }

    fn keep(&self, policy: Arc<Policy>) {
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        versions.insert(policy.version, policy);
        if versions.len() > RECENT_MAX {
            versions.pop_first();
        }
    }
}

/// The policy of a version: the one in force, one that was not long ago, or as the ledger tells it.
pub async fn at(service: &Service, version: i64) -> Result<Arc<Policy>, FlowError> {
    let current = service.policy.load();
    if current.version == version {
        return Ok(current);
    }
    if let Some(policy) = service.recent.get(version) {
        return Ok(policy);
    }
    let gone = || LedgerError::Corrupt {
        what: format!("policy version {version}, under which a hold was made"),
    };
    let policy = Arc::new(build(service.ledger.policy_at(version).await?.ok_or_else(gone)?)?);
    service.recent.keep(policy.clone());
    Ok(policy)
}

/// Takes over what another process, or another call, has written. True: there was something new.
pub async fn follow(service: &Service) -> Result<bool, FlowError> {
    let before = service.policy.load();
    if service.ledger.policy_version().await? == before.version {
        return Ok(false);
    }
    let policy = build(service.ledger.policy().await?)?;
    service.recent.keep(before);
    service.policy.swap(policy);
    Ok(true)
}

/// Writes one object as a new version, after checking that the whole policy holds together with it; `expected` refuses other versions
/// than the caller saw.
pub async fn change(service: &Service, change: Change, by: &By, expected: &Expected) -> Result<Arc<Policy>, FlowError> {
    for _ in 0..DECIDE_AGAIN_MAX {
        let current = build(service.ledger.policy().await?)?;
        let found = current.object(&change.0).map_or(0, |object| object.version);
        if !expected.accepts(found) {
            return Err(FlowError::Raced {
                what: change.0.to_string(),
            });
        }
        let changes = [change.clone()];
        current.with(&changes).map_err(|problems| refused(problems, &change.0))?;
        let before = |id: &ObjectId| current.object(id).map(|object| object.body.clone());
        let write = written(current.version, &changes, before, by, &*service.clock);
        if service.ledger.change_policy(write).await?.is_some() {
            follow(service).await?;
            return Ok(service.policy.load());
        }
    }
    Err(FlowError::Raced {
        what: "the policy".to_owned(),
    })
}

/// Deletes a plan, unless a workspace is on it.
pub async fn delete_plan(service: &Service, id: &str, by: &By, expected: &Expected) -> Result<(), FlowError> {
    let plan = ObjectId::plan(id);
    let policy = service.policy.load();
    if policy.object(&plan).is_none() {
        return Err(FlowError::NotFound);
    }
    if policy.default_plan.as_ref().is_some_and(|default| default.as_str() == id) {
        return Err(FlowError::PlanIsDefault(id.to_owned()));
    }
    if let Some(workspace) = service.ledger.workspace_on_plan(id).await? {
        return Err(FlowError::PlanInUse {
            plan: id.to_owned(),
            workspace,
        });
    }
    change(service, (plan, None), by, expected).await.map(drop)
}

/// The policy that the ledger has; `None`: nobody wrote one yet.
pub async fn in_force(ledger: &dyn Ledger) -> Result<Option<Policy>, FlowError> {
    let state = ledger.policy().await?;
    (state.version > 0).then(|| build(state)).transpose()
}

/// Applies policy files if they are not the ones that were applied last, and returns the policy in force: unchanged files never revert
/// what was changed since.
pub async fn apply_files(ledger: &dyn Ledger, files: &Files, by: &By, clock: &dyn Clock) -> Result<Policy, FlowError> {
    let (hash, wanted) = (files.hash(), files.objects());
    for _ in 0..DECIDE_AGAIN_MAX {
        let state = ledger.policy().await?;
        if state.files_hash.as_deref() == Some(hash.as_str()) {
            return build(state);
        }
        let present = objects_of(&state);
        let changes = object::apply_files(&present, &wanted);
        let first = changes.first().map(|(id, _)| id.clone());
        Policy::build(object::changed(&present, &changes), state.version, state.changed_at)
            .map_err(|problems| refused(problems, first.as_ref().unwrap_or(&ObjectId::routing())))?;
        let bodies: BTreeMap<&ObjectId, &serde_json::Value> = present.iter().map(|object| (&object.id, &object.body)).collect();
        let before = |id: &ObjectId| bodies.get(id).map(|body| (*body).clone());
        let write = PolicyChange {
            files_hash: Some(hash.clone()),
            ..written(state.version, &changes, before, by, clock)
        };
        if ledger.change_policy(write).await?.is_some() {
            return build(ledger.policy().await?);
        }
    }
    Err(FlowError::Raced {
        what: "the policy".to_owned(),
    })
}

/// A change of policy as the ledger takes it, each object with its record; `before` tells what an object says until then.
fn written(
    expected_version: i64,
    changes: &[Change],
    before: impl Fn(&ObjectId) -> Option<serde_json::Value>,
    by: &By,
    clock: &dyn Clock,
) -> PolicyChange {
    let column = |(id, body): &Change| (id.kind.as_str().to_owned(), id.id.clone(), body.clone());
    let record = |(id, body): &Change| {
        let kind = id.kind.as_str();
        let verb = if body.is_some() { "put" } else { "delete" };
        let subject = Subject::shared(kind, id.id.as_str());
        audit::record(clock, by, format!("{kind}.{verb}"), subject, before(id), body.clone())
    };
    PolicyChange {
        expected_version,
        objects: changes.iter().map(column).collect(),
        by: by.clone(),
        audited: changes.iter().map(record).collect(),
        files_hash: None,
        now: clock.now(),
    }
}

/// The first problem as an answer: one of the object that changes by its pointer, one of another object by its name.
fn refused(problems: Problems, changed: &ObjectId) -> FlowError {
    let told = |problem: Problem| {
        let own = problem.object.as_ref().is_none_or(|object| object == changed);
        let detail = if own { problem.detail.clone() } else { problem.to_string() };
        let pointer = if own { problem.pointer } else { String::new() };
        match problem.fault {
            Fault::Shape => FlowError::Malformed { pointer, detail },
            Fault::Value | Fault::Unknown => FlowError::Unacceptable { pointer, detail },
            Fault::TooLarge => FlowError::LimitTooLarge { pointer, detail },
        }
    };
    let none = || FlowError::Unacceptable {
        pointer: String::new(),
        detail: "the policy does not hold together".to_owned(),
    };
    problems.0.into_iter().next().map_or_else(none, told)
}

fn objects_of(state: &PolicyState) -> Vec<Object> {
    let present = state
        .objects
        .iter()
        .filter_map(|object| Object::stored(&object.kind, &object.id, object.version, object.body.clone()?));
    present.collect()
}

fn build(state: PolicyState) -> Result<Policy, FlowError> {
    let objects = objects_of(&state);
    let unreadable = |problems: Problems| LedgerError::Corrupt {
        what: format!("policy version {}: {problems}", state.version),
    };
    Ok(Policy::build(objects, state.version, state.changed_at).map_err(unreadable)?)
}
