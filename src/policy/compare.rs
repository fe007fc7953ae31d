//! What a change of policy means, for whoever must say yes to it: each object with its fields, old beside new, and for how many workspaces.
//!
//! Pure: how many workspaces are on which plan is told. Items of a list that have a name (`id`, `name`, `effective_from`) are compared by
//! it and not by their place, so that a budget that goes does not make all later ones look changed; a change of their order is told apart.

use super::Policy;
use super::object::{Change, DEFAULT_PLAN_ID, FILES_ID, Kind, ObjectId};
use crate::decision::pointer;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The members by which items of a list are told apart, where each item has one of its own.
const NAMES: [&str; 3] = ["id", "name", "effective_from"];
/// How long a value is shown to people; JSON has it whole.
const VALUE_CHARS_SHOWN: usize = 120;

/// How many workspaces are on which plan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlanCounts {
    pub by_plan: BTreeMap<String, u64>,
    /// Those that have chosen none, and so are on the default plan if there is one.
    pub without: u64,
}

impl PlanCounts {
    pub fn all(&self) -> u64 {
        self.by_plan.values().sum::<u64>() + self.without
    }

    /// Those that have chosen `plan`.
    pub fn on(&self, plan: &str) -> u64 {
        self.by_plan.get(plan).copied().unwrap_or(0)
    }
}

/// What becomes of one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Becomes {
    Added,
    Changed,
    Removed,
}

/// One value that changes; `None`: it is not there.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FieldChange {
    /// RFC 6901, into the new object; into the old one for what is gone.
    pub pointer: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ObjectChange {
    pub kind: &'static str,
    pub id: String,
    pub change: Becomes,
    /// How many workspaces it is in force for, before or after.
    pub workspaces: u64,
    /// Of a changed object.
    pub fields: Vec<FieldChange>,
}

/// All that a change of policy changes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// The policy that it was compared with.
    pub version: i64,
    /// All there are.
    pub workspaces: u64,
    pub objects: Vec<ObjectChange>,
}

/// Compares `before` with what `changes` make of it, which is `after`.
pub fn compare(before: &Policy, after: &Policy, changes: &[Change], counts: &PlanCounts) -> Comparison {
    // What the files named is how Weir keeps house, not what an operator decides.
    let told = changes.iter().filter(|(id, _)| *id != ObjectId::new(Kind::Settings, FILES_ID));
    let object = |(id, new): &Change| {
        let old = before.object(id).map(|object| &object.body);
        let (change, fields) = match (old, new) {
            (Some(old), Some(new)) => (Becomes::Changed, fields(old, new)),
            (None, _) => (Becomes::Added, Vec::new()),
            (Some(_), None) => (Becomes::Removed, Vec::new()),
        };
        ObjectChange {
            kind: id.kind.as_str(),
            id: id.id.clone(),
            change,
            workspaces: concerned(id, before, after, counts),
            fields,
        }
    };
    Comparison {
        version: before.version,
        workspaces: counts.all(),
        objects: told.map(object).collect(),
    }
}

/// For how many workspaces an object is in force, before or after.
fn concerned(id: &ObjectId, before: &Policy, after: &Policy, counts: &PlanCounts) -> u64 {
    match (id.kind, id.id.as_str()) {
        (Kind::Plan, plan) => {
            let is_default = |policy: &Policy| policy.default_plan.as_ref().is_some_and(|default| default.as_str() == plan);
            let by_default = if is_default(before) || is_default(after) {
                counts.without
            } else {
                0
            };
            counts.on(plan) + by_default
        }
        (Kind::Settings, DEFAULT_PLAN_ID) => counts.without,
        _ => counts.all(),
    }
}

/// Every value in which `new` differs from `old`, in the order of `new`.
pub fn fields(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    walk(old, new, String::new(), &mut found);
    found
}

fn walk(old: &Value, new: &Value, place: String, found: &mut Vec<FieldChange>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(was), Value::Object(is)) => {
            for (name, value) in is {
                let place = below(&place, name);
                match was.get(name) {
                    Some(old) => walk(old, value, place, found),
                    None => tell(None, Some(value), place, found),
                }
            }
            for (name, value) in was.iter().filter(|(name, _)| !is.contains_key(*name)) {
                tell(Some(value), None, below(&place, name), found);
            }
        }
        (Value::Array(was), Value::Array(is)) => match (named(was), named(is)) {
            (Some(was), Some(is)) => by_name(&was, &is, &place, found),
            _ => tell(Some(old), Some(new), place, found),
        },
        _ => tell(Some(old), Some(new), place, found),
    }
}

/// Nothing and null say the same.
fn tell(old: Option<&Value>, new: Option<&Value>, pointer: String, found: &mut Vec<FieldChange>) {
    let said = |value: Option<&Value>| value.filter(|value| !value.is_null()).cloned();
    let (old, new) = (said(old), said(new));
    if old != new {
        found.push(FieldChange { pointer, old, new });
    }
}

fn below(place: &str, name: &str) -> String {
    let mut pointer = place.to_owned();
    pointer::push(&mut pointer, name);
    pointer
}

/// The items of a list with their names, if each has one of its own.
fn named(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let by = |member: &&str| {
        let names: Option<Vec<(&str, &Value)>> = list.iter().map(|item| Some((item.get(*member)?.as_str()?, item))).collect();
        names.filter(|names| names.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len() == list.len())
    };
    NAMES.iter().find_map(by)
}

fn by_name(was: &[(&str, &Value)], is: &[(&str, &Value)], place: &str, found: &mut Vec<FieldChange>) {
    for (n, (name, value)) in is.iter().enumerate() {
        let place = below(place, &n.to_string());
        match was.iter().find(|(other, _)| other == name) {
            Some((_, old)) => walk(old, value, place, found),
            None => tell(None, Some(value), place, found),
        }
    }
    for (n, (name, value)) in was.iter().enumerate() {
        if !is.iter().any(|(other, _)| other == name) {
            tell(Some(value), None, below(place, &n.to_string()), found);
        }
    }
    let order = |list: &[(&str, &Value)], other: &[(&str, &Value)]| -> Vec<Value> {
        let common = list.iter().filter(|(name, _)| other.iter().any(|(known, _)| known == name));
        common.map(|(name, _)| Value::from(*name)).collect()
    };
    let (before, after) = (order(was, is), order(is, was));
    if before != after {
        tell(Some(&Value::Array(before)), Some(&Value::Array(after)), place.to_owned(), found);
    }
}

impl Comparison {
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// In a few words, such as `changed plan pro, added model m`.
    pub fn summary(&self) -> String {
        let words = |object: &ObjectChange| format!("{} {}", object.change.word(), object.title());
        let words: Vec<String> = self.objects.iter().map(words).collect();
        if words.is_empty() {
            "nothing changes".to_owned()
        } else {
            words.join(", ")
        }
    }
}

impl Becomes {
    const fn word(self) -> &'static str {
        match self {
            Becomes::Added => "added",
            Becomes::Changed => "changed",
            Becomes::Removed => "removed",
        }
    }

    const fn sign(self) -> char {
        match self {
            Becomes::Added => '+',
            Becomes::Changed => '~',
            Becomes::Removed => '-',
        }
    }
}

impl ObjectChange {
    fn title(&self) -> String {
        Kind::parse(self.kind).map_or_else(|| self.id.clone(), |kind| ObjectId::new(kind, &*self.id).to_string())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "nothing changes; policy version {} says the same", self.version);
        }
        for object in &self.objects {
            writeln!(f, "{} {} ({})", object.change.sign(), object.title(), workspaces(object.workspaces))?;
            for field in &object.fields {
                writeln!(
                    f,
                    "    {}: {} → {}",
                    field.pointer,
                    shown(field.old.as_ref()),
                    shown(field.new.as_ref())
                )?;
            }
        }
        write!(
            f,
            "{} of policy version {}; there are {}",
            counted(self.objects.len() as u64, "object"),
            self.version,
            workspaces(self.workspaces)
        )
    }
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `3 workspaces`.
pub fn workspaces(count: u64) -> String {
    counted(count, "workspace")
}

fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(old: Value, new: Value, expected: &[&str]) {
        let told = |change: &FieldChange| format!("{} {} {}", change.pointer, shown(change.old.as_ref()), shown(change.new.as_ref()));
        let found: Vec<String> = fields(&old, &new).iter().map(told).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_value_that_differs_is_named_by_its_pointer() {
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(
            json!({"a": 1, "b": {"c/d": 2}}),
            json!({"a": 5, "b": {"c/d": 3}}),
            &["/a 1 5", "/b/c~1d 2 3"],
        );
        check(json!({"a": 1}), json!({"b": 1}), &["/b nothing 1", "/a 1 nothing"]);
        check(json!({"a": null}), json!({}), &[]);
        check(json!({"a": [1, 2]}), json!({"a": [2, 1]}), &["/a [1,2] [2,1]"]);
    }

    #[test]
    fn items_with_names_are_compared_by_name_and_not_by_place() {
        let budgets = |names: &[(&str, i64)]| {
            let list: Vec<Value> = names.iter().map(|(id, hard)| json!({"id": id, "hard": hard})).collect();
            json!({"budgets": list})
        };
        check(
            budgets(&[("a", 1), ("b", 2), ("c", 3)]),
            budgets(&[("b", 2), ("c", 4)]),
            &["/budgets/1/hard 3 4", "/budgets/0 {\"id\":\"a\",\"hard\":1} nothing"],
        );
        check(
            budgets(&[("a", 1), ("b", 2)]),
            budgets(&[("b", 2), ("a", 1)]),
            &["/budgets [\"a\",\"b\"] [\"b\",\"a\"]"],
        );
        // Names that are there twice tell nothing apart.
        check(
            budgets(&[("a", 1), ("a", 2)]),
            budgets(&[("a", 1)]),
            &["/budgets [{\"id\":\"a\",\"hard\":1},{\"id\":\"a\",\"hard\":2}] [{\"id\":\"a\",\"hard\":1}]"],
        );
    }

    #[test]
    fn workspaces_without_a_plan_count_for_the_default_plan() {
        let policy = |default: Option<&str>| {
            let mut changes: Vec<Change> = ["free", "pro"].map(|id| (ObjectId::plan(id), Some(json!({"id": id})))).to_vec();
            changes.extend(default.map(|plan| (ObjectId::default_plan(), Some(json!(plan)))));
            Policy::default().with(&changes).expect("good")
        };
        let counts = PlanCounts {
            by_plan: BTreeMap::from([("free".to_owned(), 2), ("pro".to_owned(), 3)]),
            without: 10,
        };
        for (id, before, after, expected) in [
            (ObjectId::plan("free"), None, None, 2),
            (ObjectId::plan("free"), Some("free"), Some("free"), 12),
            (ObjectId::plan("free"), Some("free"), Some("pro"), 12),
            (ObjectId::plan("pro"), Some("free"), Some("free"), 3),
            (ObjectId::plan("pro"), Some("free"), Some("pro"), 13),
            (ObjectId::plan("new"), None, None, 0),
            (ObjectId::default_plan(), Some("free"), Some("pro"), 10),
            (ObjectId::model("m"), None, None, 15),
            (ObjectId::routing(), None, None, 15),
        ] {
            let told = concerned(&id, &policy(before), &policy(after), &counts);
            assert_eq!(told, expected, "{id} {before:?} {after:?}");
        }
    }
}
