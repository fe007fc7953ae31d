//! Policy as the ledger keeps it: objects with a kind, an id, a version and a JSON body; and what changes between two sets of them.
//!
//! Invariant: a body is always written from a document that was read, so equal policies have equal bodies whatever their files look like.

use super::document::{BillingDocument, ClassifierDocument, Documents, MessagesDocument, ModelDocument, PlanDocument, RoutingDocument};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The id of the one routing object.
pub const ROUTING_ID: &str = "routing";
/// The id of the one classifier.
pub const CLASSIFIER_ID: &str = "classifier";
/// The id of the one billing object.
pub const BILLING_ID: &str = "billing";
/// The id of the one messages object.
pub const MESSAGES_ID: &str = "messages";
/// The setting that names the plan of workspaces without one.
pub const DEFAULT_PLAN_ID: &str = "default_plan";
/// The setting that holds the price of models that the catalogue does not know.
pub const DEFAULT_PRICE_ID: &str = "default_price";
/// The setting that remembers which plans and models the files named, so that only those vanish with them.
pub const FILES_ID: &str = "files";

/// What a policy object is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Model,
    Plan,
    Routing,
    Billing,
    Messages,
    Settings,
    Classifier,
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::Model,
        Kind::Plan,
        Kind::Routing,
        Kind::Billing,
        Kind::Messages,
        Kind::Settings,
        Kind::Classifier,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Plan => "plan",
            Kind::Routing => "routing",
            Kind::Billing => "billing",
            Kind::Messages => "messages",
            Kind::Settings => "settings",
            Kind::Classifier => "classifier",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Names one policy object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    pub kind: Kind,
    pub id: String,
}

impl ObjectId {
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }

    pub fn plan(id: &str) -> Self {
        Self::new(Kind::Plan, id)
    }

    pub fn model(id: &str) -> Self {
        Self::new(Kind::Model, id)
    }

    pub fn routing() -> Self {
        Self::new(Kind::Routing, ROUTING_ID)
    }

    pub fn classifier() -> Self {
        Self::new(Kind::Classifier, CLASSIFIER_ID)
    }

    pub fn messages() -> Self {
        Self::new(Kind::Messages, MESSAGES_ID)
    }

    pub fn billing() -> Self {
        Self::new(Kind::Billing, BILLING_ID)
    }

    pub fn default_plan() -> Self {
        Self::new(Kind::Settings, DEFAULT_PLAN_ID)
    }

    pub fn default_price() -> Self {
        Self::new(Kind::Settings, DEFAULT_PRICE_ID)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Routing | Kind::Billing | Kind::Messages | Kind::Classifier => f.write_str(self.kind.as_str()),
            Kind::Settings => f.write_str(&self.id),
            kind => write!(f, "{} {}", kind.as_str(), self.id),
        }
    }
}

/// One policy object in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    pub id: ObjectId,
    /// Rises with each change of this object.
    pub version: u32,
    pub body: Value,
}

/// One object that changes; `None` deletes it.
pub type Change = (ObjectId, Option<Value>);

impl Object {
    /// From the columns of the ledger; `None` for a kind that this version of Weir does not know, which a newer one wrote.
    pub fn stored(kind: &str, id: &str, version: u32, body: Value) -> Option<Object> {
        Some(Object {
            id: ObjectId::new(Kind::parse(kind)?, id),
            version,
            body,
        })
    }
}

/// The body of a plan, as it is stored and given back.
pub fn plan_body(plan: &PlanDocument) -> Value {
    body(plan)
}

pub fn model_body(model: &ModelDocument) -> Value {
    body(model)
}

pub fn routing_body(routing: &RoutingDocument) -> Value {
    body(routing)
}

pub fn classifier_body(classifier: &ClassifierDocument) -> Value {
    body(classifier)
}

pub fn messages_body(messages: &MessagesDocument) -> Value {
    body(messages)
}

pub fn billing_body(billing: &BillingDocument) -> Value {
    body(billing)
}

fn body(document: &impl Serialize) -> Value {
    serde_json::to_value(document).expect("documents have text keys and finite numbers only")
}

/// What a set of files says, as objects of version 1.
pub fn of_documents(documents: &Documents) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    let mut add = |id: ObjectId, body: Value| objects.push(Object { id, version: 1, body });
    for (_, model) in &documents.models {
        add(ObjectId::model(model.id.as_str()), model_body(model));
    }
    for (_, plan) in &documents.plans {
        add(ObjectId::plan(plan.id.as_str()), plan_body(plan));
    }
    add(ObjectId::routing(), routing_body(&documents.routing));
    if let Some(classifier) = &documents.classifier {
        add(ObjectId::classifier(), classifier_body(classifier));
    }
    if let Some(messages) = &documents.messages {
        add(ObjectId::messages(), messages_body(messages));
    }
    if let Some(billing) = &documents.billing {
        add(ObjectId::billing(), billing_body(billing));
    }
    if let Some(plan) = &documents.default_plan {
        add(ObjectId::default_plan(), body(plan));
    }
    if let Some(price) = &documents.default_price {
        add(ObjectId::default_price(), body(price));
    }
    let models: BTreeSet<&str> = documents.models.iter().map(|(_, model)| model.id.as_str()).collect();
    let plans: BTreeSet<&str> = documents.plans.iter().map(|(_, plan)| plan.id.as_str()).collect();
    add(ObjectId::new(Kind::Settings, FILES_ID), json!({"models": models, "plans": plans}));
    objects
}

/// What must change for `old` to become `new`, in the order of the ids.
pub fn diff(old: &[Object], new: &[Object]) -> Vec<Change> {
    let by_id = |objects: &[Object]| -> BTreeMap<ObjectId, Value> {
        objects.iter().map(|object| (object.id.clone(), object.body.clone())).collect()
    };
    let (old, mut new) = (by_id(old), by_id(new));
    let mut changes: BTreeMap<ObjectId, Option<Value>> = BTreeMap::new();
    for (id, before) in old {
        match new.remove(&id) {
            Some(after) if after == before => {}
            after => {
                changes.insert(id, after);
            }
        }
    }
    changes.extend(new.into_iter().map(|(id, body)| (id, Some(body))));
    changes.into_iter().collect()
}

/// What applying files changes: as [`diff`], but a plan or a model that came through the API stays, since no file ever named it, and so does
/// a classifier, which is trained and not written.
pub fn apply_files(current: &[Object], files: &[Object]) -> Vec<Change> {
    let remembered = current.iter().find(|object| object.id == ObjectId::new(Kind::Settings, FILES_ID));
    let named = |list: &str, id: &str| {
        let names = remembered.and_then(|object| object.body.get(list)).and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name == id))
    };
    let mut changes = diff(current, files);
    changes.retain(|(object, body)| match (body, object.kind) {
        (Some(_), _) | (None, Kind::Routing | Kind::Billing | Kind::Messages | Kind::Settings) => true,
        (None, Kind::Classifier) => false,
        (None, Kind::Plan) => named("plans", &object.id),
        (None, Kind::Model) => named("models", &object.id),
    });
    changes
}

/// `objects` after `changes`; what changed has the next version. Deleted objects that come back begin at 1 here: the ledger knows better.
pub fn changed(objects: &[Object], changes: &[Change]) -> Vec<Object> {
    let mut after: BTreeMap<ObjectId, Object> = objects.iter().map(|object| (object.id.clone(), object.clone())).collect();
    for (id, body) in changes {
        let version = after.remove(id).map_or(1, |before| before.version + 1);
        if let Some(body) = body {
            let (id, body) = (id.clone(), body.clone());
            after.insert(id.clone(), Object { id, version, body });
        }
    }
    after.into_values().collect()
}

/// A hash of what the objects say. Comments, order of keys and way of writing do not count, so touching a file reverts no change
/// that came through the API.
pub fn hash(objects: &[Object]) -> String {
    let mut lines: Vec<String> = objects
        .iter()
        .map(|object| format!("{} {} {}\n", object.id.kind.as_str(), object.id.id, object.body))
        .collect();
    lines.sort_unstable();
    let mut hash = Sha256::new();
    lines.iter().for_each(|line| hash.update(line));
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, id: &str, body: Value) -> Object {
        Object {
            id: ObjectId::new(kind, id),
            version: 3,
            body,
        }
    }

    fn manifest(plans: &[&str]) -> Object {
        object(Kind::Settings, FILES_ID, json!({"models": [], "plans": plans}))
    }

    #[test]
    fn a_difference_names_what_is_new_changed_and_gone() {
        let old = [
            object(Kind::Plan, "kept", json!(1)),
            object(Kind::Plan, "changed", json!(1)),
            object(Kind::Plan, "gone", json!(1)),
        ];
        let new = [
            object(Kind::Plan, "changed", json!(2)),
            object(Kind::Plan, "new", json!(1)),
            object(Kind::Plan, "kept", json!(1)),
        ];
        let expected = [
            (ObjectId::plan("changed"), Some(json!(2))),
            (ObjectId::plan("gone"), None),
            (ObjectId::plan("new"), Some(json!(1))),
        ];
        assert_eq!(diff(&old, &new), expected);
        assert_eq!(diff(&new, &new), []);
        let after = changed(&old, &expected);
        assert_eq!(diff(&after, &new), []);
        let versions: Vec<(&str, u32)> = after.iter().map(|object| (object.id.id.as_str(), object.version)).collect();
        assert_eq!(versions, [("changed", 4), ("kept", 3), ("new", 1)]);
    }

    #[test]
    fn files_take_away_only_what_files_brought() {
        let current = [
            object(Kind::Plan, "from_file", json!(1)),
            object(Kind::Plan, "from_api", json!(1)),
            manifest(&["from_file", "other"]),
        ];
        let files = [object(Kind::Plan, "other", json!(1)), manifest(&["other"])];
        let expected = [
            (ObjectId::plan("from_file"), None),
            (ObjectId::plan("other"), Some(json!(1))),
            (ObjectId::new(Kind::Settings, FILES_ID), Some(manifest(&["other"]).body)),
        ];
        assert_eq!(apply_files(&current, &files), expected);
    }

    #[test]
    fn the_hash_is_of_what_is_said_and_not_of_its_order() {
        let (a, b) = (object(Kind::Plan, "a", json!(1)), object(Kind::Plan, "b", json!(2)));
        assert_eq!(hash(&[a.clone(), b.clone()]), hash(&[b.clone(), a.clone()]));
        assert_ne!(hash(std::slice::from_ref(&a)), hash(&[a.clone(), b]));
    }
}
