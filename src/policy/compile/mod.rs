//! From documents to what requests use, with every check that needs more than one value. Pure: the same documents, the same outcome.
//!
//! A check never stops at the first problem. What is built besides is only used when there was none.

mod billing;
mod classifier;
mod fair_use;
pub mod messages;
mod model;
mod plan;
mod pricing;
mod routing;

pub use billing::METERS_MAX;
pub use classifier::document as classifier_document;
pub use routing::RULES_MAX;

use super::document::Documents;
use super::object::ObjectId;
use super::problem::{PROBLEMS_MAX, Problem};
use crate::decision::catalogue::Catalogue;
use crate::decision::classifier::Classifier;
use crate::decision::health;
use crate::decision::id::PlanId;
use crate::decision::message::Messages;
use crate::decision::meter::Billing;
use crate::decision::nearest::nearest;
use crate::decision::plan::Plan;
use crate::decision::route::Routing;
use std::collections::HashMap;
use std::sync::Arc;

/// What requests use of a policy.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub plans: HashMap<PlanId, Arc<Plan>>,
    pub default_plan: Option<PlanId>,
    pub catalogue: Catalogue,
    pub routing: Routing,
    pub health: health::Rules,
    pub classifier: Option<Arc<Classifier>>,
    pub messages: Arc<Messages>,
    pub billing: Billing,
}

/// Compiles all documents, or names everything that does not fit.
pub fn compile(documents: &Documents) -> Result<Compiled, Vec<Problem>> {
    let mut found = Found::default();
    let catalogue = model::catalogue(documents, &mut found);
    let plans = plan::plans(documents, &catalogue, &mut found);
    let routing = routing::routing(&documents.routing, &catalogue, &mut found);
    let health = documents.routing.health.as_ref().map(routing::health).unwrap_or_default();
    let classifier = documents.classifier.as_ref();
    let classifier = classifier.and_then(|document| classifier::classifier(document, &mut found));
    let messages = messages::messages(documents, &plans, &mut found);
    let billing = match &documents.billing {
        Some(billing) => billing::billing(billing, &catalogue, &plans, &mut found),
        None => Billing::default(),
    };
    if let Some(plan) = &documents.default_plan
        && !plans.contains_key(plan)
    {
        found.about(&ObjectId::default_plan());
        found.unknown(
            "",
            format!("there is no plan {plan}{}", hint(plan.as_str(), plans.keys().map(PlanId::as_str))),
        );
    }
    found.into_result(Compiled {
        plans,
        default_plan: documents.default_plan.clone(),
        catalogue,
        routing,
        health,
        classifier,
        messages,
        billing,
    })
}

/// The problems so far, and the object that is being looked at.
#[derive(Default)]
struct Found {
    object: Option<ObjectId>,
    problems: Vec<Problem>,
}

impl Found {
    fn about(&mut self, object: &ObjectId) {
        self.object = Some(object.clone());
    }

    fn add(&mut self, mut problem: Problem) {
        problem.object.clone_from(&self.object);
        self.problems.push(problem);
    }

    fn value(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.add(Problem::value(pointer, detail));
    }

    fn unknown(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.add(Problem::unknown(pointer, detail));
    }

    fn into_result<T>(mut self, built: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(built);
        }
        self.problems.truncate(PROBLEMS_MAX);
        Err(self.problems)
    }
}

/// The longest name for people.
const LABEL_CHARS_MAX: usize = 128;

/// Whether people can read `text` on one line.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LABEL_CHARS_MAX && !text.chars().any(char::is_control)
}

/// What else was meant, as the end of a sentence.
fn hint<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known)
        .map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
