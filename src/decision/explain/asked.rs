//! The questions in their order, each with its answer: the first no is the refusal, and none after it was asked.

use super::{Explanation, words};
use crate::decision::facts::Outcome;
use crate::decision::ladder::Way;
use crate::decision::plan::Plan;
use crate::decision::refusal::Code;

/// All questions, by the code of their no.
const ORDER: [Code; 12] = [
    Code::WorkspaceSuspended,
    Code::NoPlan,
    Code::FeatureDisabled,
    Code::ModelNotAllowed,
    Code::ModelUnpriced,
    Code::ContextTooLong,
    Code::NoBudget,
    Code::FairUsePause,
    Code::TooManyOpenReservations,
    Code::ParentExhausted,
    Code::NeverFits,
    Code::HardLimitReached,
];

/// How a question was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Passed,
    Refused,
    NotAsked,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// What the denial would be called.
    pub code: Code,
    pub answer: Answer,
    pub detail: String,
}

/// `way` is the model that was found to serve, with its price.
pub(super) fn questions(explanation: &Explanation, plan: Option<&Plan>, way: Option<&Way>) -> Vec<Question> {
    let told = Told { explanation, plan, way };
    // What comes behind these is not asked where the cache has an answer.
    let answered_at = match explanation.facts.outcome {
        Outcome::Cached(_) => ORDER.iter().position(|other| *other == Code::ModelNotAllowed),
        _ => None,
    };
    let refused_at = explanation.code.and_then(|code| ORDER.iter().position(|other| *other == code));
    let mut questions: Vec<Question> = Vec::with_capacity(ORDER.len());
    for (place, code) in ORDER.into_iter().enumerate() {
        let (answer, detail) = match refused_at {
            _ if answered_at.is_some_and(|answered| place > answered) => (Answer::NotAsked, words::ANSWERED.to_owned()),
            Some(refused) if place > refused => (Answer::NotAsked, told.not_asked()),
            Some(refused) if place == refused => (Answer::Refused, told.refused()),
            _ => told.passed(code),
        };
        questions.push(Question { code, answer, detail });
    }
    questions
}

struct Told<'a> {
    explanation: &'a Explanation,
    plan: Option<&'a Plan>,
    way: Option<&'a Way>,
}

impl Told<'_> {
    fn not_asked(&self) -> String {
        "An earlier question was answered with no.".to_owned()
    }

    fn refused(&self) -> String {
        let first = self.explanation.reasons.first();
        first.map(|reason| reason.message.clone()).unwrap_or_default()
    }

    /// The answer to a question that did not refuse.
    fn passed(&self, code: Code) -> (Answer, String) {
        let facts = &self.explanation.facts;
        let (ask, plan) = (&facts.ask, self.plan.map_or("", |plan| plan.id.as_str()));
        let counted = !facts.before.is_empty() || facts.limits.counters.is_empty();
        let passed = |detail: String| (Answer::Passed, detail);
        match code {
            Code::WorkspaceSuspended => passed(format!("Workspace {} is active.", ask.workspace)),
            Code::NoPlan => passed(format!(
                "It is on plan {plan}, version {}.",
                self.explanation.plan_version.unwrap_or(0)
            )),
            Code::FeatureDisabled => passed(match self.plan.and_then(|plan| plan.feature(&ask.feature)) {
                Some(_) => format!("Plan {plan} has rules for feature {} and enables it.", ask.feature),
                None => format!(
                    "Plan {plan} does not name feature {}, and allows what it does not name.",
                    ask.feature
                ),
            }),
            Code::ModelNotAllowed => passed(self.model(plan)),
            Code::ModelUnpriced => passed(match self.way {
                Some((model, price)) => format!("Price {} of {} is in force.", price.version, model.id),
                None => "It is priced.".to_owned(),
            }),
            Code::ContextTooLong => passed(match self.way {
                Some((model, _)) => format!(
                    "The input has {} tokens; {} reads {}.",
                    ask.input_tokens, model.id, model.max_input_tokens
                ),
                None => format!("The input has {} tokens.", ask.input_tokens),
            }),
            Code::NoBudget => passed(self.budgets(plan)),
            Code::FairUsePause => passed(match facts.fair_use.len() {
                0 => "No rule of fair use acts on it.".to_owned(),
                1 => "A rule of fair use acts on it, and does not pause it.".to_owned(),
                n => format!("{n} rules of fair use act on it, and none pauses it."),
            }),
            Code::TooManyOpenReservations if facts.outcome == Outcome::Degraded => (Answer::NotAsked, words::COUNTERS_AWAY.to_owned()),
            Code::TooManyOpenReservations => passed(format!(
                "Fewer than {} reservations are open.",
                self.plan.map_or(0, |plan| plan.max_open_reservations)
            )),
            Code::ParentExhausted => self.parent(),
            _ if facts.run.is_some() => (
                Answer::NotAsked,
                "A call of a run draws from its parent's hold, which the budgets count already.".to_owned(),
            ),
            _ if facts.outcome == Outcome::Degraded || !counted => (Answer::NotAsked, words::COUNTERS_AWAY.to_owned()),
            Code::NeverFits => passed("No budget rules out every way of serving it.".to_owned()),
            _ => passed(self.fits()),
        }
    }

    fn model(&self, plan: &str) -> String {
        let chosen = self.explanation.facts.chosen.as_ref().map_or("", |model| model.as_str());
        match self.way {
            Some((model, _)) if model.id.as_str() == chosen => format!("Plan {plan} allows {chosen} of tier {}.", model.tier),
            Some((model, _)) => format!("Plan {plan} allows {chosen}; {} serves, as its alias or fallback.", model.id),
            None => format!("Plan {plan} allows {chosen}."),
        }
    }

    fn budgets(&self, plan: &str) -> String {
        let limits = &self.explanation.facts.limits;
        let shadow = |place: usize| self.plan.is_some_and(|plan| plan.budgets[place].shadow);
        let enforced = limits.budgets.iter().filter(|limited| !shadow(limited.budget)).count();
        match enforced {
            0 => format!("Plan {plan} is unlimited."),
            1 => "One budget applies.".to_owned(),
            n => format!("{n} budgets apply."),
        }
    }

    fn parent(&self) -> (Answer, String) {
        let facts = &self.explanation.facts;
        let Some(run) = &facts.run else {
            return (Answer::NotAsked, "The request belongs to no run.".to_owned());
        };
        if facts.outcome == Outcome::Degraded {
            return (Answer::NotAsked, words::COUNTERS_AWAY.to_owned());
        }
        let Some((account, units)) = &run.stood else {
            return (Answer::Passed, format!("Run {} had enough left.", run.parent));
        };
        let left = units
            .iter()
            .map(|unit| words::left_of(*unit, account.left().of(*unit), account.taken.of(*unit)));
        let left = left.collect::<Vec<_>>().join(", ");
        (Answer::Passed, format!("Run {} had left {left}.", run.parent))
    }

    fn fits(&self) -> String {
        let rungs = &self.explanation.rungs;
        match rungs.iter().position(|rung| rung.taken) {
            Some(place) => format!("Rung {} of {} fits.", place + 1, rungs.len()),
            None => "No budget stands in the way.".to_owned(),
        }
    }
}
