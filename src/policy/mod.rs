//! Policy: what operators wrote about models, plans, routing and billing. Reads, checks, versions and compares it, and holds the snapshot that
//! requests use. Never decides: what follows from a policy for a request is in `decision`.
//!
//! The way in is the same for files and for the API: text → `yaml` or JSON → `read` (shape, each value) → `document` → `compile` (what
//! must fit together) → [`Policy`]. Every problem on that way is a value with its place; [`files`] turns places into lines and columns.
//! Architecture invariant: nothing here knows the ledger. What is stored are plain objects, see [`object`].

pub mod cases;
pub mod check;
pub mod compare;
pub mod compile;
pub mod condition;
pub mod document;
pub mod export;
pub mod files;
pub mod object;
pub mod prices;
pub mod problem;
pub mod read;
pub mod schema;
pub mod yaml;

use crate::decision::catalogue::Catalogue;
use crate::decision::classifier::Classifier;
use crate::decision::health;
use crate::decision::id::PlanId;
use crate::decision::message::{Messages, Voice};
use crate::decision::meter::Billing;
use crate::decision::plan::Plan;
use crate::decision::route::Routing;
use crate::decision::time::Timestamp;
use arc_swap::ArcSwap;
use document::Documents;
use object::{Change, DEFAULT_PLAN_ID, DEFAULT_PRICE_ID, Kind, Object, ObjectId};
use problem::{Problem, Problems};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One version of the whole policy. Immutable: a change makes another.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Rises with each change; 0 before the first.
    pub version: i64,
    pub changed_at: Option<Timestamp>,
    pub plans: HashMap<PlanId, Arc<Plan>>,
    /// The plan of workspaces without one.
    pub default_plan: Option<PlanId>,
    pub catalogue: Catalogue,
    pub routing: Routing,
    /// When failing models are left.
    pub health: health::Rules,
    /// How difficult requests are; `None`: none was trained.
    pub classifier: Option<Arc<Classifier>>,
    pub messages: Arc<Messages>,
    pub billing: Billing,
    objects: BTreeMap<ObjectId, Object>,
}

impl Policy {
    /// The policy that `objects` make, or all that is wrong with them.
    pub fn build(objects: Vec<Object>, version: i64, changed_at: Option<Timestamp>) -> Result<Self, Problems> {
        let documents = documents(&objects).map_err(Problems)?;
        let compiled = compile::compile(&documents).map_err(Problems)?;
        Ok(Self {
            version,
            changed_at,
            ..Self::of(objects, compiled)
        })
    }

    fn of(objects: Vec<Object>, compiled: compile::Compiled) -> Self {
        Self {
            version: 1,
            changed_at: None,
            plans: compiled.plans,
            default_plan: compiled.default_plan,
            catalogue: compiled.catalogue,
            routing: compiled.routing,
            health: compiled.health,
            classifier: compiled.classifier,
            messages: compiled.messages,
            billing: compiled.billing,
            objects: objects.into_iter().map(|object| (object.id.clone(), object)).collect(),
        }
    }

    /// What the policy would be after `changes`: the check before they are written.
    pub fn with(&self, changes: &[Change]) -> Result<Self, Problems> {
        let objects: Vec<Object> = self.objects.values().cloned().collect();
        Self::build(object::changed(&objects, changes), self.version + 1, self.changed_at)
    }

    /// The sample policies, compiled in; their test keeps them good.
    pub fn samples() -> Self {
        match files::Files::load(&files::Sources::samples()) {
            Ok(files) => files.policy,
            Err(problems) => panic!("the sample policies are broken:\n{problems}"),
        }
    }

    /// The stored form of an object, as the API gives it back.
    pub fn object(&self, id: &ObjectId) -> Option<&Object> {
        self.objects.get(id)
    }

    /// All objects, by kind and id.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// In whose words something is said: of the languages that a caller accepts, else of the plan, else the default.
    pub fn voice<'a>(&'a self, accepted: Option<&'a str>, plan: Option<&'a Plan>) -> Voice<'a> {
        Voice::new(&self.messages, accepted, plan)
    }

    /// The plan of a workspace that has chosen `plan`, or none; `None` when there is no such plan any more.
    pub fn plan(&self, plan: Option<&PlanId>) -> Option<&Arc<Plan>> {
        self.plans.get(plan.or(self.default_plan.as_ref())?)
    }
}

/// Reads what is stored. A body that names another id than its object has was never written by us.
fn documents(objects: &[Object]) -> Result<Documents, Vec<Problem>> {
    let mut documents = Documents::default();
    let mut problems = Vec::new();
    for object in objects {
        match (object.id.kind, object.id.id.as_str()) {
            (Kind::Model, _) => documents
                .models
                .extend(read(object, &mut problems).map(|model| (object.version, model))),
            (Kind::Plan, _) => documents
                .plans
                .extend(read(object, &mut problems).map(|plan| (object.version, plan))),
            (Kind::Messages, _) => documents.messages = read(object, &mut problems),
            (Kind::Routing, _) => documents.routing = read(object, &mut problems).unwrap_or_default(),
            (Kind::Billing, _) => documents.billing = read(object, &mut problems),
            (Kind::Settings, DEFAULT_PLAN_ID) => documents.default_plan = read(object, &mut problems),
            (Kind::Settings, DEFAULT_PRICE_ID) => documents.default_price = read(object, &mut problems),
            (Kind::Settings, _) => {}
            (Kind::Classifier, _) => documents.classifier = read(object, &mut problems),
        }
        let named = object.body.get("id").and_then(serde_json::Value::as_str);
        if matches!(object.id.kind, Kind::Model | Kind::Plan) && named.is_some_and(|id| id != object.id.id) {
            problems.push(Problem::value("/id", format!("the id must be {}", object.id.id)).of(&object.id));
        }
    }
    if problems.is_empty() { Ok(documents) } else { Err(problems) }
}

fn read<T: DeserializeOwned>(object: &Object, problems: &mut Vec<Problem>) -> Option<T> {
    let read = read::read(&object.body);
    read.map_err(|found| problems.extend(found.into_iter().map(|problem| problem.of(&object.id))))
        .ok()
}

/// The snapshot in force. A request loads it once and keeps to it; a change swaps it for all that follow.
#[derive(Debug)]
pub struct Holder(ArcSwap<Policy>);

impl Holder {
    pub fn new(policy: Policy) -> Self {
        Self(ArcSwap::from_pointee(policy))
    }

    pub fn load(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Puts `policy` in force, unless a newer version already is: pollers may come late.
    pub fn swap(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.0.rcu(|current| {
            if current.version > policy.version {
                current.clone()
            } else {
                policy.clone()
            }
        });
    }
}

#[cfg(test)]
mod tests;
