//! Explain: every question that a decision asked, every rung with what it needed and had, the one that was taken and why each other was not.
//!
//! A pure function of the facts that the decision was made of: the balances are those by which the store decided, never read again. So an
//! explanation can be made long after, and says what was, not what is.

use super::amount::{Amounts, Unit};
use super::catalogue::Catalogue;
use super::counter::Counter;
use super::facts::{Facts, Outcome};
use super::id::BudgetId;
use super::ladder::{Builder, Ladder, NoLadder, Offer, Step, Terms, Way};
use super::limits::{BudgetView, Limited};
use super::message::Voice;
use super::plan::{AtHard, Plan};
use super::refusal::Code;
use super::rung::{Cap, Line, Rung, fit};
use super::verdict::{self, Reason, RouteNote};
use super::{questions, run};
use std::sync::Arc;

mod asked;
mod skipped;
#[cfg(test)]
mod tests;
mod words;

pub use asked::{Answer, Question};
pub use skipped::{Skipped, Why};

/// A decision taken apart.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub facts: Facts,
    /// Why it is a denial; `None`: it is none.
    pub code: Option<Code>,
    /// `None`: the workspace has no plan.
    pub plan_version: Option<u32>,
    /// In the order in which they are asked.
    pub questions: Vec<Question>,
    /// How long an answer was asked for, or is usual.
    pub wanted_output: i64,
    /// The budgets that apply as they stood just before.
    pub budgets: Vec<BudgetView>,
    /// In the order in which a store tries them.
    pub rungs: Vec<ExplainedRung>,
    /// Rungs that this ladder does not have.
    pub skipped: Vec<Skipped>,
    /// What is beyond the hard limits that bill it, this request included.
    pub overage: Vec<Overage>,
    /// What the caller was told.
    pub reasons: Vec<Reason>,
    pub shadow_reasons: Vec<Reason>,
}

/// One rung, judged by itself.
#[derive(Clone, Debug)]
pub struct ExplainedRung {
    pub step: Step,
    pub offer: Offer,
    pub needs: Amounts,
    /// The longest answer that it pays for.
    pub output: i64,
    pub ceilings: Vec<Ceiling>,
    pub cap: Option<ExplainedCap>,
    /// The answer's length and amounts if it fits; a later one than the taken may fit too, and is not needed.
    pub fits: Option<(i64, Amounts)>,
    pub taken: bool,
}

/// One budget before one rung.
#[derive(Clone, PartialEq, Debug)]
pub struct Ceiling {
    pub budget: BudgetId,
    pub counter: Counter,
    /// What the whole answer needs in the budget's unit.
    pub need: i64,
    /// Spent and held must be below this before the request.
    pub open_below: Option<i64>,
    /// Spent, held and need together must not pass this.
    pub ceiling: Option<i64>,
    pub spent: i64,
    pub held: i64,
    pub granted: i64,
    /// What is left below the ceiling.
    pub room: Option<i64>,
    /// Why the whole answer does not fit here; `None`: it does.
    pub because: Option<Because>,
}

/// Why a budget closes a rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// At or past its soft limit before the request, so that another way is tried first.
    SoftLimitReached,
    /// The need alone is more than the ceiling.
    NeverFits,
    /// It would fit if nothing were held.
    Held,
    /// It would not fit even if nothing were held.
    Spent,
}

/// How a shorter answer was looked for.
#[derive(Clone, PartialEq, Debug)]
pub struct ExplainedCap {
    pub least: i64,
    /// The longest answer that every budget has room for; negative where even an empty one does not fit.
    pub longest: i64,
    /// What each budget that limits it allows: `(base + per_output × n) / denominator ≤ room`.
    pub lines: Vec<CapLine>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CapLine {
    pub budget: BudgetId,
    pub unit: Unit,
    pub line: Line,
    pub room: i64,
    pub longest: i64,
}

/// How far a budget is beyond a hard limit that its plan bills for.
#[derive(Clone, PartialEq, Debug)]
pub struct Overage {
    pub budget: BudgetId,
    pub unit: Unit,
    pub hard: Option<i64>,
    pub overage_hard: Option<i64>,
    pub beyond: i64,
}

/// Takes a decision apart. `plan`, `catalogue` and `voice` are of the policy version that the facts name; `None`: there was no such plan.
pub fn explain(facts: Facts, plan: Option<&Arc<Plan>>, catalogue: &Catalogue, voice: Voice<'_>) -> Result<Explanation, NoLadder> {
    let way = match (plan, &facts.chosen) {
        (Some(plan), Some(chosen)) => questions::model_for(&facts.ask, chosen, plan, catalogue, facts.decided_at).ok(),
        _ => None,
    };
    // What was refused or answered before the counters has no ladder to tell of.
    let ladder = match (&facts.outcome, plan, &way) {
        (Outcome::Refused(_) | Outcome::Cached(_), ..) | (_, None, _) | (_, _, None) => None,
        (_, Some(plan), Some(way)) => {
            let terms = Terms {
                expected_output: facts.expected_output,
                fair_use: &facts.fair_use,
                now: facts.decided_at,
            };
            let limits = facts.limits.clone();
            let ladder = Ladder::under(&facts.ask, way.clone(), plan.clone(), catalogue, limits, terms)?;
            Some(match &facts.detour {
                Some(detour) => ladder.without(&detour.avoided),
                None => ladder,
            })
        }
    };
    let mut explanation = Explanation {
        code: None,
        plan_version: plan.map(|plan| plan.version),
        questions: Vec::new(),
        wanted_output: facts.ask.max_output_tokens.unwrap_or(facts.expected_output),
        budgets: Vec::new(),
        rungs: Vec::new(),
        skipped: Vec::new(),
        overage: Vec::new(),
        reasons: Vec::new(),
        shadow_reasons: Vec::new(),
        facts,
    };
    if let (Some(ladder), Some(way), Some(plan)) = (&ladder, &way, plan) {
        explanation.skipped = skipped(&explanation.facts, plan, way, ladder, catalogue);
        explanation.climb(ladder);
    }
    explanation.tell(ladder.as_ref(), voice);
    explanation.questions = asked::questions(&explanation, plan.map(|plan| &**plan), way.as_ref());
    Ok(explanation)
}

fn skipped(facts: &Facts, plan: &Plan, way: &Way, ladder: &Ladder, catalogue: &Catalogue) -> Vec<Skipped> {
    let builder = Builder {
        ask: &facts.ask,
        plan,
        limits: &facts.limits,
        wanted_output: facts.ask.max_output_tokens.unwrap_or(facts.expected_output),
        fair_use: &facts.fair_use,
        now: facts.decided_at,
    };
    let avoided = facts.detour.as_ref().map_or(&[][..], |detour| &detour.avoided);
    skipped::skipped(&builder, way, ladder, catalogue, avoided)
}

impl Explanation {
    /// Judges each rung by the balances that decided.
    fn climb(&mut self, ladder: &Ladder) {
        if self.facts.outcome == Outcome::Degraded || self.facts.before.len() != ladder.limits.counters.len() {
            self.rungs = self.unjudged(ladder);
            return;
        }
        let (units, before) = (ladder.limits.units(), &self.facts.before);
        let taken = match &self.facts.outcome {
            Outcome::Held(taken) => Some(taken.rung),
            _ => None,
        };
        let view = |limited: &Limited| {
            let counter = &ladder.limits.counters[limited.counter];
            BudgetView::new(limited, ladder.budget(limited), counter, before[limited.counter])
        };
        self.budgets = ladder.limits.budgets.iter().map(view).collect();
        let judge = |(place, (offer, rung)): (usize, (&Offer, &Rung))| {
            let ceilings = self.ceilings(ladder, offer.step, rung);
            ExplainedRung {
                step: offer.step,
                offer: offer.clone(),
                needs: rung.needs,
                output: rung.output,
                cap: rung.cap.as_ref().map(|cap| shortened(cap, rung, &ceilings)),
                ceilings,
                fits: match &self.facts.run {
                    None => fit(rung, &units, before),
                    Some(run) => run.stood.as_ref().and_then(|(account, units)| of_parent(rung, account, units)),
                },
                taken: taken == Some(place),
            }
        };
        self.rungs = ladder.offers.iter().zip(&ladder.rungs).enumerate().map(judge).collect();
        self.overage = self.overages(ladder);
    }

    /// Without balances a rung is what it would have needed, and the first is what a degraded answer takes.
    fn unjudged(&self, ladder: &Ladder) -> Vec<ExplainedRung> {
        let degraded = self.facts.outcome == Outcome::Degraded;
        let rung = |(place, (offer, rung)): (usize, (&Offer, &Rung))| ExplainedRung {
            step: offer.step,
            offer: offer.clone(),
            needs: rung.needs,
            output: rung.output,
            ceilings: Vec::new(),
            cap: None,
            fits: None,
            taken: degraded && place == 0,
        };
        ladder.offers.iter().zip(&ladder.rungs).enumerate().map(rung).collect()
    }

    /// Each enforced budget before a rung. A store compares counters, for which the strictest of these counts.
    fn ceilings(&self, ladder: &Ladder, step: Step, rung: &Rung) -> Vec<Ceiling> {
        let enforced = ladder.limits.budgets.iter().filter(|limited| !ladder.budget(limited).shadow);
        let ceiling = enforced.map(|limited| {
            let budget = ladder.budget(limited);
            let (balance, need) = (self.facts.before[limited.counter], rung.needs.of(budget.unit));
            let limited = &limited.raised(balance);
            let (open_below, ceiling) = step.lines(limited, budget);
            let room = ceiling.map(|ceiling| ceiling.saturating_sub(balance.taken()));
            let because = match (open_below, ceiling, room) {
                (Some(below), ..) if balance.taken() >= below => Some(Because::SoftLimitReached),
                (_, Some(ceiling), Some(room)) if need > room => Some(if need > ceiling {
                    Because::NeverFits
                } else if balance.spent.saturating_add(need) <= ceiling {
                    Because::Held
                } else {
                    Because::Spent
                }),
                _ => None,
            };
            Ceiling {
                budget: budget.id.clone(),
                counter: ladder.limits.counters[limited.counter].clone(),
                need,
                open_below,
                ceiling,
                spent: balance.spent,
                held: balance.held,
                granted: limited.granted,
                room,
                because,
            }
        });
        ceiling.collect()
    }

    fn overages(&self, ladder: &Ladder) -> Vec<Overage> {
        let added = match &self.facts.outcome {
            Outcome::Held(taken) => taken.amounts,
            _ => Amounts::ZERO,
        };
        let billed = ladder.limits.budgets.iter().filter_map(|limited| {
            let budget = ladder.budget(limited);
            if budget.at_hard != AtHard::Overage || budget.shadow {
                return None;
            }
            let balance = self.facts.before[limited.counter];
            let limited = &limited.raised(balance);
            let taken = balance.taken().saturating_add(added.of(budget.unit));
            Some(Overage {
                budget: budget.id.clone(),
                unit: budget.unit,
                hard: limited.hard_line(),
                overage_hard: limited.overage_line(budget),
                beyond: limited.hard_line().map_or(0, |line| taken.saturating_sub(line).max(0)),
            })
        });
        billed.collect()
    }

    /// What the caller was told, in the words of the answer.
    fn tell(&mut self, ladder: Option<&Ladder>, voice: Voice<'_>) {
        let facts = &self.facts;
        match (&facts.outcome, ladder) {
            (Outcome::Refused(refusal), _) => {
                let denied = verdict::refused(voice, &facts.ask, refusal, None, facts.decided_at);
                (self.code, self.reasons) = (Some(denied.code), denied.reasons);
            }
            (Outcome::Held(taken), Some(ladder)) => {
                let note = RouteNote {
                    routed: facts.routed.clone(),
                    shadows: facts.shadow_routes.clone(),
                    detour: facts.detour.clone(),
                };
                let allowed = verdict::allowed(voice, &facts.ask, ladder, *taken, &facts.before, &note);
                (self.reasons, self.shadow_reasons) = (allowed.reasons, allowed.shadow_reasons);
            }
            (Outcome::Short, Some(ladder)) => {
                let short = verdict::shortages(ladder, &facts.before);
                let free_at = vec![None; short.len()];
                let denied = verdict::denied(voice, &facts.ask, ladder, &facts.before, &short, &free_at, facts.decided_at);
                (self.code, self.reasons) = (Some(denied.code), denied.reasons);
            }
            (Outcome::ParentExhausted, Some(ladder)) => {
                if let Some((account, units)) = facts.run.as_ref().and_then(|run| run.stood.as_ref()) {
                    let denied = run::exhausted(voice, &facts.ask, ladder, units, account);
                    (self.code, self.reasons) = (Some(denied.code), denied.reasons);
                }
            }
            (Outcome::TooManyOpen, Some(ladder)) => {
                let denied = verdict::too_many_open(voice, &facts.ask, ladder, &facts.before);
                (self.code, self.reasons) = (Some(denied.code), denied.reasons);
            }
            _ => {}
        }
    }
}

/// What a parent that stood like this pays for of a rung.
fn of_parent(rung: &Rung, account: &run::Account, units: &[Unit]) -> Option<(i64, Amounts)> {
    let taken = run::first_fit(std::slice::from_ref(rung), units, account.left()).filter(|_| account.admits())?;
    Some((taken.output, taken.amounts))
}

/// The cap's arithmetic, budget by budget.
fn shortened(cap: &Cap, rung: &Rung, ceilings: &[Ceiling]) -> ExplainedCap {
    let lines = ceilings.iter().filter_map(|ceiling| {
        let (line, room) = (*cap.line(ceiling.counter.unit)?, ceiling.room?);
        Some(CapLine {
            budget: ceiling.budget.clone(),
            unit: ceiling.counter.unit,
            line,
            room,
            longest: line.longest(room).min(rung.output),
        })
    });
    let lines: Vec<CapLine> = lines.collect();
    ExplainedCap {
        least: cap.least,
        longest: lines.iter().map(|line| line.longest).fold(rung.output, i64::min),
        lines,
    }
}

impl ExplainedRung {
    /// What a person reads of it.
    pub fn sentence(&self) -> String {
        let model = &self.offer.model.id;
        match (self.taken, self.fits) {
            (true, Some((output, _))) if output < self.output => format!("Taken, with at most {output} output tokens."),
            (true, _) => "Taken: the first that fits.".to_owned(),
            (false, Some(_)) => format!("{model} would fit too, but an earlier rung is taken."),
            (false, None) => match self
                .ceilings
                .iter()
                .find_map(|ceiling| Some((&ceiling.budget, ceiling.sentence()?)))
            {
                Some((budget, why)) => format!("Closed by {budget}: {why}"),
                None => "No counter was asked about it.".to_owned(),
            },
        }
    }
}

impl Ceiling {
    /// What a person reads of it.
    pub fn sentence(&self) -> Option<String> {
        self.because.map(|because| words::closed(self, because))
    }
}
