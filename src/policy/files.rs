//! The files of `policies/`: read, checked as a whole, and every problem told by file, line and column, as a compiler would.
//!
//! Never writes. What the files say becomes objects for the ledger in `object`, which knows what a change of them takes away.

use super::Policy;
use super::document::{
    BillingDocument, ClassifierDocument, Documents, LocaleDocument, MessagesDocument, MeterDocument, ModelDocument, ModelsFile,
    PlanDocument, PlansFile, RoutingDocument, RuleDocument,
};
use super::object::{self, Kind, Object, ObjectId};
use super::problem::{Fault, Part, Problem};
use super::yaml::{self, FILE_BYTES_MAX, Node, Place};
use super::{compile, read};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

pub const MODELS_FILE: &str = "models.yaml";
pub const PLANS_FILE: &str = "plans.yaml";
pub const ROUTING_FILE: &str = "routing.yaml";
/// Made by `weir router train` and `weir policy export`; it may be missing.
pub const CLASSIFIER_FILE: &str = "classifier.json";
/// May be missing: Weir brings its own along.
pub const MESSAGES_FILE: &str = "messages.yaml";
/// May be absent: then nothing is said about billing.
pub const BILLING_FILE: &str = "billing.yaml";

/// The text of a policy's files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sources {
    pub models: String,
    pub plans: String,
    pub routing: String,
    pub classifier: Option<String>,
    pub messages: Option<String>,
    pub billing: Option<String>,
}

/// Something wrong, or doubtful, in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileProblem {
    pub file: String,
    pub place: Place,
    pub detail: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.place.line, self.place.column, self.detail)
    }
}

/// All that is wrong with a set of files, as an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileProblems(pub Vec<FileProblem>);

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(FileProblem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for FileProblems {}

impl Sources {
    /// Reads the files of a directory; all but those for billing and for messages must be there.
    pub fn read(directory: &Path) -> Result<Self, FileProblems> {
        let mut problems = Vec::new();
        let mut text = |name: &str| {
            read_file(&directory.join(name)).unwrap_or_else(|detail| {
                let (file, place) = (name.to_owned(), Place::START);
                problems.push(FileProblem { file, place, detail });
                String::new()
            })
        };
        let has_billing = directory.join(BILLING_FILE).exists();
        let sources = Self {
            models: text(MODELS_FILE),
            plans: text(PLANS_FILE),
            routing: text(ROUTING_FILE),
            classifier: directory.join(CLASSIFIER_FILE).is_file().then(|| text(CLASSIFIER_FILE)),
            messages: directory.join(MESSAGES_FILE).exists().then(|| text(MESSAGES_FILE)),
            billing: has_billing.then(|| text(BILLING_FILE)),
        };
        if problems.is_empty() {
            Ok(sources)
        } else {
            Err(FileProblems(problems))
        }
    }

    /// The sample policies, compiled in.
    pub fn samples() -> Self {
        Self {
            models: include_str!("../../policies/models.yaml").to_owned(),
            plans: include_str!("../../policies/plans.yaml").to_owned(),
            routing: include_str!("../../policies/routing.yaml").to_owned(),
            classifier: None,
            messages: Some(include_str!("../../policies/messages.yaml").to_owned()),
            billing: Some(include_str!("../../policies/billing.yaml").to_owned()),
        }
    }

    pub(super) fn text(&self, file: &str) -> &str {
        match file {
            MODELS_FILE => &self.models,
            PLANS_FILE => &self.plans,
            CLASSIFIER_FILE => self.classifier.as_deref().unwrap_or_default(),
            MESSAGES_FILE => self.messages.as_deref().unwrap_or_default(),
            BILLING_FILE => self.billing.as_deref().unwrap_or_default(),
            _ => &self.routing,
        }
    }
}

/// Reads at most one byte more than a file may have, whatever it pretends to be.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let cannot = |cause: std::io::Error| format!("the file cannot be read: {cause}");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
}

/// Files that were read and found good, with what is needed to trace a place in them.
#[derive(Debug)]
pub struct Files {
    pub documents: Documents,
    pub policy: Policy,
    places: Places,
}

impl Files {
    /// Reads and checks a set of files.
    pub fn load(sources: &Sources) -> Result<Self, FileProblems> {
        let models = Parsed::<ModelsFile, ModelDocument>::new(sources, MODELS_FILE, "models");
        let plans = Parsed::<PlansFile, PlanDocument>::new(sources, PLANS_FILE, "plans");
        let routing = Parsed::<RoutingDocument, RuleDocument>::new(sources, ROUTING_FILE, "rules");
        let billing = match sources.billing {
            Some(_) => Parsed::<BillingDocument, MeterDocument>::new(sources, BILLING_FILE, "meters"),
            None => Parsed::empty(),
        };
        let messages = match sources.messages {
            Some(_) => Parsed::<MessagesDocument, LocaleDocument>::new(sources, MESSAGES_FILE, "locales"),
            None => Parsed::empty(),
        };
        let mut problems = [
            models.problems.as_slice(),
            &plans.problems,
            &routing.problems,
            &billing.problems,
            &messages.problems,
        ]
        .concat();
        let (models_are_whole, plans_are_whole) = (models.problems.is_empty(), plans.problems.is_empty());
        let classifier = classifier(sources).map_err(|found| problems.extend(found)).unwrap_or_default();
        let (documents, places) = gather(sources, models, plans, routing, (billing, messages));
        let documents = Documents { classifier, ..documents };
        let lacking = documents.messages.iter().flat_map(compile::messages::missing);
        problems.extend(lacking.map(|problem| places.trace(&problem)));
        // All that has the right shape is checked, even beside something that has not. Only what it refers to may not be known then.
        let is_certain = |problem: &&Problem| match (&problem.fault, &problem.object) {
            (Fault::Unknown, Some(object)) if [ObjectId::default_plan(), ObjectId::messages()].contains(object) => plans_are_whole,
            (Fault::Unknown, Some(object)) if *object == ObjectId::billing() => plans_are_whole && models_are_whole,
            (Fault::Unknown, _) => models_are_whole,
            _ => true,
        };
        let compiled = compile::compile(&documents)
            .map_err(|found| problems.extend(found.iter().filter(is_certain).map(|problem| places.trace(problem))));
        match compiled {
            Ok(compiled) if problems.is_empty() => {
                let policy = Policy::of(object::of_documents(&documents), compiled);
                Ok(Self { documents, policy, places })
            }
            _ => {
                problems.sort();
                Err(FileProblems(problems))
            }
        }
    }

    /// What the files say, for the ledger.
    pub fn objects(&self) -> Vec<Object> {
        self.policy.objects().cloned().collect()
    }

    /// Tells files apart by what they say.
    pub fn hash(&self) -> String {
        object::hash(&self.objects())
    }

    /// Where a problem of an object stands in its file.
    pub fn trace(&self, problem: &Problem) -> FileProblem {
        self.places.trace(problem)
    }
}

/// The classifier, if there is one. A program wrote it, so its lines tell nobody anything.
fn classifier(sources: &Sources) -> Result<Option<ClassifierDocument>, Vec<FileProblem>> {
    let Some(text) = &sources.classifier else { return Ok(None) };
    let told = |detail: String| FileProblem {
        file: CLASSIFIER_FILE.to_owned(),
        place: Place::START,
        detail,
    };
    let value: Value = serde_json::from_str(text).map_err(|error| vec![told(format!("not JSON: {error}"))])?;
    let found = |problems: Vec<Problem>| problems.iter().map(|problem| told(problem.to_string())).collect::<Vec<_>>();
    read::read(&value).map(Some).map_err(found)
}

/// One file: what it says beside its list, and each item of the list by itself, so that one bad item hides nothing of the others.
struct Parsed<Root, Item> {
    node: Option<Node>,
    root: Root,
    /// With their places in the list.
    items: Vec<(usize, Item)>,
    problems: Vec<FileProblem>,
}

impl<Root: DeserializeOwned + Default, Item: DeserializeOwned> Parsed<Root, Item> {
    fn empty() -> Self {
        Self {
            node: None,
            root: Root::default(),
            items: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn new(sources: &Sources, file: &str, list: &str) -> Self {
        let text = sources.text(file);
        let mut parsed = Self::empty();
        let mut tell = |place: Place, detail: String| {
            let file = file.to_owned();
            parsed.problems.push(FileProblem { file, place, detail });
        };
        match yaml::parse(text) {
            Err(unreadable) => tell(unreadable.place, unreadable.detail),
            Ok(node) => {
                let mut value = node.to_value();
                let items = value
                    .get_mut(list)
                    .and_then(Value::as_array_mut)
                    .map(std::mem::take)
                    .unwrap_or_default();
                let mut keep = |prefix: &str, found: Vec<Problem>| {
                    for problem in found {
                        let pointer = format!("{prefix}{}", problem.pointer);
                        tell(place(&node, &pointer, problem.part, text), problem.detail);
                    }
                };
                parsed.root = read::read(&value).map_err(|found| keep("", found)).unwrap_or_default();
                for (n, item) in items.iter().enumerate() {
                    let item = read::read(item).map_err(|found| keep(&format!("/{list}/{n}"), found));
                    parsed.items.extend(item.ok().map(|item| (n, item)));
                }
                parsed.node = Some(node);
            }
        }
        parsed
    }
}

/// Puts the good items of all files together, and remembers where each of them stands.
fn gather(
    sources: &Sources,
    models: Parsed<ModelsFile, ModelDocument>,
    plans: Parsed<PlansFile, PlanDocument>,
    routing: Parsed<RoutingDocument, RuleDocument>,
    (billing, messages): (Parsed<BillingDocument, MeterDocument>, Parsed<MessagesDocument, LocaleDocument>),
) -> (Documents, Places) {
    let mut objects = HashMap::from([
        (ObjectId::routing(), (ROUTING_FILE, String::new())),
        (ObjectId::billing(), (BILLING_FILE, String::new())),
        (ObjectId::messages(), (MESSAGES_FILE, String::new())),
        (ObjectId::default_plan(), (PLANS_FILE, "/default_plan".to_owned())),
        (ObjectId::default_price(), (MODELS_FILE, "/default_price".to_owned())),
        (ObjectId::classifier(), (CLASSIFIER_FILE, String::new())),
    ]);
    for (n, model) in &models.items {
        objects.insert(ObjectId::model(model.id.as_str()), (MODELS_FILE, format!("/models/{n}")));
    }
    for (n, plan) in &plans.items {
        objects.insert(ObjectId::plan(plan.id.as_str()), (PLANS_FILE, format!("/plans/{n}")));
    }
    let nodes = [
        (MODELS_FILE, models.node),
        (PLANS_FILE, plans.node),
        (ROUTING_FILE, routing.node),
        (BILLING_FILE, billing.node),
        (MESSAGES_FILE, messages.node),
    ];
    let places = Places {
        sources: sources.clone(),
        nodes: nodes.into_iter().filter_map(|(file, node)| Some((file, node?))).collect(),
        objects,
        rules: routing.items.iter().map(|(n, _)| *n).collect(),
        meters: billing.items.iter().map(|(n, _)| *n).collect(),
        locales: messages.items.iter().map(|(n, _)| *n).collect(),
    };
    let documents = Documents {
        models: models.items.into_iter().map(|(_, model)| (1, model)).collect(),
        default_price: models.root.default_price,
        plans: plans.items.into_iter().map(|(_, plan)| (1, plan)).collect(),
        default_plan: plans.root.default_plan,
        routing: RoutingDocument {
            rules: routing.items.into_iter().map(|(_, rule)| rule).collect(),
            ..routing.root
        },
        classifier: None,
        billing: sources.billing.is_some().then(|| BillingDocument {
            meters: billing.items.into_iter().map(|(_, meter)| meter).collect(),
            ..billing.root
        }),
        messages: sources.messages.is_some().then(|| MessagesDocument {
            locales: messages.items.into_iter().map(|(_, locale)| locale).collect(),
            ..messages.root
        }),
    };
    (documents, places)
}

/// Traces objects back to the files.
#[derive(Debug)]
struct Places {
    sources: Sources,
    nodes: HashMap<&'static str, Node>,
    /// Where each object begins; of two with one id, the later.
    objects: HashMap<ObjectId, (&'static str, String)>,
    /// Where each rule stands in its list: rules of a wrong shape are left out before they are compiled.
    rules: Vec<usize>,
    /// The same of languages.
    locales: Vec<usize>,
    /// The same of meters.
    meters: Vec<usize>,
}

impl Places {
    fn trace(&self, problem: &Problem) -> FileProblem {
        let object = problem.object.as_ref();
        let known = object.and_then(|object| self.objects.get(object));
        let fallback = match object.map(|object| object.kind) {
            Some(Kind::Plan) => PLANS_FILE,
            Some(Kind::Routing) => ROUTING_FILE,
            Some(Kind::Messages) => MESSAGES_FILE,
            Some(Kind::Billing) => BILLING_FILE,
            _ => MODELS_FILE,
        };
        let (file, prefix) = known.map_or((fallback, ""), |(file, prefix)| (*file, prefix.as_str()));
        let pointer = match file {
            ROUTING_FILE => in_list(&problem.pointer, "/rules/", &self.rules),
            BILLING_FILE => in_list(&problem.pointer, "/meters/", &self.meters),
            MESSAGES_FILE => in_list(&problem.pointer, "/locales/", &self.locales),
            _ => format!("{prefix}{}", problem.pointer),
        };
        FileProblem {
            file: file.to_owned(),
            place: self
                .nodes
                .get(file)
                .map_or(Place::START, |node| place(node, &pointer, problem.part, self.sources.text(file))),
            detail: problem.detail.clone(),
        }
    }
}

/// The pointer into the file of a pointer into what was compiled of it.
fn in_list(pointer: &str, list: &str, originals: &[usize]) -> String {
    let (number, rest) = match pointer.strip_prefix(list) {
        Some(item) => item.split_once('/').unwrap_or((item, "")),
        None => return pointer.to_owned(),
    };
    let original = number.parse().ok().and_then(|n: usize| originals.get(n));
    let number = original.map_or(number.to_owned(), usize::to_string);
    format!("{list}{number}/{rest}").trim_end_matches('/').to_owned()
}

fn place(node: &Node, pointer: &str, part: Part, text: &str) -> Place {
    let (value, key) = node.find(pointer);
    match part {
        Part::Value => value,
        Part::Key => key.unwrap_or(value),
        Part::Character(n) => character(value, n, node.text_at(pointer), text),
    }
}

/// The place of the `n`th character of a scalar, where the file shows the scalar up to there as it is; else the scalar's own.
fn character(scalar: Place, n: usize, value: Option<&str>, text: &str) -> Place {
    let index = |number: u64| usize::try_from(number - 1).unwrap_or(usize::MAX);
    let line = text.lines().nth(index(scalar.line)).unwrap_or_default();
    let rest: Vec<char> = line.chars().skip(index(scalar.column)).collect();
    let quote = usize::from(rest.first().is_some_and(|c| matches!(c, '"' | '\'')));
    let shown = |value: &str| value.chars().take(n).enumerate().all(|(at, c)| rest.get(at + quote) == Some(&c));
    match value {
        Some(value) if shown(value) => Place {
            column: scalar.column + u64::try_from(n + quote).unwrap_or(0),
            ..scalar
        },
        _ => scalar,
    }
}

#[cfg(test)]
mod tests;
