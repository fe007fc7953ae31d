//! What `weir policy check` says: every error of a set of files, and what is allowed yet doubtful, by line and column.

use super::Policy;
use super::document::{BudgetDocument, PlanDocument, SoftAction};
use super::files::{FileProblem, FileProblems, Files, MODELS_FILE, PLANS_FILE, Sources};
use super::object::ObjectId;
use super::problem::Problem;
use crate::decision::amount::Unit;
use crate::decision::catalogue::Model;
use crate::decision::money::Usd;
use crate::decision::plan::AtHard;
use crate::decision::price::{Price, Rate};
use crate::decision::time::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A price that nobody has touched for longer than this should be looked up again.
const PRICE_SECONDS_FRESH: i64 = 366 * 86_400;
/// How much of a line is shown with a problem.
const LINE_CHARS_SHOWN: usize = 160;
/// How many names a warning lists before it counts.
const NAMES_SHOWN: usize = 4;

/// The outcome of a check.
#[derive(Debug)]
pub struct Report {
    pub errors: Vec<FileProblem>,
    pub warnings: Vec<FileProblem>,
    /// What the files hold; `None` when they have errors.
    pub summary: Option<Summary>,
    sources: Option<Sources>,
}

/// What a good set of files holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    pub models: usize,
    pub providers: usize,
    pub plans: usize,
    pub budgets: usize,
    pub rules: usize,
    pub meters: usize,
    pub hash: String,
}

/// Checks the files of a directory; `now` is when prices are looked at.
pub fn check(directory: &Path, now: Timestamp) -> Report {
    match Sources::read(directory) {
        Ok(sources) => check_sources(&sources, now),
        Err(FileProblems(errors)) => Report {
            errors,
            warnings: Vec::new(),
            summary: None,
            sources: None,
        },
    }
}

/// Checks files that were read already.
pub fn check_sources(sources: &Sources, now: Timestamp) -> Report {
    let (errors, warnings, summary) = match Files::load(sources) {
        Ok(files) => (Vec::new(), warnings(&files, now), Some(summary(&files))),
        Err(FileProblems(errors)) => (errors, Vec::new(), None),
    };
    Report {
        errors,
        warnings,
        summary,
        sources: Some(sources.clone()),
    }
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.errors.is_empty()
    }

    /// The line that a problem stands on, with a mark under its column.
    fn show(&self, f: &mut fmt::Formatter<'_>, problem: &FileProblem, word: &str) -> fmt::Result {
        let (line, column) = (problem.place.line, problem.place.column);
        writeln!(f, "{}:{line}:{column}: {word}: {}", problem.file, problem.detail)?;
        let text = self.sources.as_ref().map(|sources| sources.text(&problem.file));
        let index = usize::try_from(line - 1).unwrap_or(usize::MAX);
        match text.and_then(|text| text.lines().nth(index)) {
            Some(text) => {
                // Of a long line only what stands around the mark.
                let at = usize::try_from(column - 1).unwrap_or(0);
                let from = at.saturating_sub(LINE_CHARS_SHOWN / 2);
                let from = if text.chars().count() > LINE_CHARS_SHOWN { from } else { 0 };
                let text: String = text.chars().skip(from).take(LINE_CHARS_SHOWN).collect();
                let indent: String = text.chars().take(at - from).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                writeln!(f, "{line:>5} | {text}\n      | {indent}^")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errors.iter().try_for_each(|error| self.show(f, error, "error"))?;
        self.warnings.iter().try_for_each(|warning| self.show(f, warning, "warning"))?;
        match &self.summary {
            Some(summary) => write!(f, "{summary}; {}", count(self.warnings.len(), "warning")),
            None => write!(f, "{}", count(self.errors.len(), "error")),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            format!("{} of {}", count(self.models, "model"), count(self.providers, "provider")),
            format!("{} with {}", count(self.plans, "plan"), count(self.budgets, "budget")),
            count(self.rules, "routing rule"),
            count(self.meters, "meter"),
        ];
        write!(f, "good: {}", parts.join(", "))
    }
}

fn count(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

fn summary(files: &Files) -> Summary {
    let Policy {
        plans,
        catalogue,
        routing,
        billing,
        ..
    } = &files.policy;
    let providers: BTreeSet<&str> = catalogue.models().iter().map(|model| model.provider.as_str()).collect();
    Summary {
        models: catalogue.models().len(),
        providers: providers.len(),
        plans: plans.len(),
        budgets: plans.values().map(|plan| plan.budgets.len()).sum(),
        rules: routing.rules.len(),
        meters: billing.meters.len(),
        hash: files.hash(),
    }
}

fn warnings(files: &Files, now: Timestamp) -> Vec<FileProblem> {
    let mut doubts: Vec<Problem> = Vec::new();
    for model in files.policy.catalogue.models() {
        doubts.extend(
            of_model(model, &files.policy, now)
                .into_iter()
                .map(|doubt| doubt.of(&ObjectId::model(model.id.as_str()))),
        );
    }
    for (_, plan) in &files.documents.plans {
        doubts.extend(
            of_plan(plan, &files.policy)
                .into_iter()
                .map(|doubt| doubt.of(&ObjectId::plan(plan.id.as_str()))),
        );
    }
    let mut warnings: Vec<FileProblem> = doubts.iter().map(|doubt| files.trace(doubt)).collect();
    warnings.sort_by(|a, b| (rank(&a.file), a).cmp(&(rank(&b.file), b)));
    warnings
}

fn rank(file: &str) -> usize {
    [MODELS_FILE, PLANS_FILE].iter().position(|name| *name == file).unwrap_or(2)
}

fn of_model(model: &Arc<Model>, policy: &Policy, now: Timestamp) -> Vec<Problem> {
    let mut doubts = Vec::new();
    if !policy.plans.values().any(|plan| plan.allows(model)) {
        doubts.push(Problem::value("/id", format!("no plan allows model {}", model.id)));
    }
    let Some(price) = model.price_at(now) else {
        doubts.push(Problem::value(
            "/prices",
            format!("model {} has no price in force: requests for it are refused", model.id),
        ));
        return doubts;
    };
    if price.effective_from.plus_seconds(PRICE_SECONDS_FRESH) < now && price.effective_from > Timestamp::from_micros(0) {
        let detail = format!("the price of {} holds for more than a year: look it up again", model.id);
        doubts.push(Problem::value("/prices", detail));
    }
    if is_free(price) {
        doubts.push(Problem::value(
            "/prices",
            format!("model {} costs nothing: no budget in usd will notice it", model.id),
        ));
    }
    for (n, id) in model.downgrades.iter().enumerate() {
        let other = policy.catalogue.get(id.as_str()).and_then(|other| other.price_at(now));
        if other.is_some_and(|other| !is_cheaper(other, price)) {
            let detail = format!("{id} is never cheaper than {}, so it is never downgraded to", model.id);
            doubts.push(Problem::value(format!("/downgrades/{n}"), detail));
        }
    }
    for (n, id) in model.fallbacks.iter().enumerate() {
        let other = policy.catalogue.get(id.as_str());
        if other.is_some_and(|other| other.provider == model.provider) {
            let detail = format!(
                "{id} is of provider {} too, so it falls out together with {}",
                model.provider, model.id
            );
            doubts.push(Problem::value(format!("/fallbacks/{n}"), detail));
        }
    }
    doubts
}

fn is_free(price: &Price) -> bool {
    let rates = &price.rates;
    rates.input == Rate::default() && rates.output == Rate::default() && price.request == Usd::ZERO
}

/// Whether some request costs less at `price` than at `other`, long contexts apart.
fn is_cheaper(price: &Price, other: &Price) -> bool {
    price.rates.input < other.rates.input || price.rates.output < other.rates.output || price.request < other.request
}

fn of_plan(plan: &PlanDocument, policy: &Policy) -> Vec<Problem> {
    let mut doubts = Vec::new();
    if plan.budgets.iter().all(|budget| budget.shadow) && !plan.unlimited {
        let detail = "this plan has no budget that counts and is not unlimited: every request is refused";
        doubts.push(Problem::value("", detail));
    }
    let Some(compiled) = policy.plans.get(&plan.id) else {
        return doubts;
    };
    let models = policy.catalogue.models();
    for (n, pattern) in compiled.allowed_models.iter().enumerate() {
        if !models.iter().any(|model| pattern.matches(model)) {
            let detail = format!("{:?} matches no model of the catalogue", plan.allowed_models[n]);
            doubts.push(Problem::value(format!("/allowed_models/{n}"), detail));
        }
    }
    for (n, budget) in plan.budgets.iter().enumerate() {
        let place = format!("/budgets/{n}");
        doubts.extend(of_budget(budget, &place));
        if budget.unit == Unit::Credits {
            let free = models.iter().filter(|model| compiled.allows(model) && model.credits.is_none());
            let free: Vec<&str> = free.map(|model| model.id.as_str()).collect();
            if !free.is_empty() {
                let detail = format!("models without credits count for nothing here: {}", listed(&free));
                doubts.push(Problem::value(format!("{place}/unit"), detail));
            }
        }
    }
    doubts
}

fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn of_budget(budget: &BudgetDocument, place: &str) -> Vec<Problem> {
    let mut doubts = Vec::new();
    let mut doubt = |field: &str, detail: &str| doubts.push(Problem::value(format!("{place}/{field}"), detail));
    if budget.soft.is_some() && budget.at_soft.is_empty() {
        doubt("soft", "soft has no effect: at_soft is empty");
    }
    if budget.soft.is_none() && budget.at_soft.iter().any(|action| *action != SoftAction::Warn) {
        doubt("at_soft", "at_soft has no effect: the budget has no soft limit");
    }
    if budget.soft.is_some() && budget.soft == budget.hard {
        doubt("soft", "soft is hard: there is nothing between them");
    }
    if budget.downgrade_to.is_some() && !budget.at_soft.contains(&SoftAction::Downgrade) {
        doubt("downgrade_to", "downgrade_to has no effect: at_soft does not downgrade");
    }
    if budget.overage_hard.is_some() && budget.at_hard == AtHard::Deny {
        doubt("overage_hard", "overage_hard has no effect: at_hard is deny");
    }
    doubts
}

#[cfg(test)]
mod tests;
