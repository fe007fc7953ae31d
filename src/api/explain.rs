//! `GET /v1/decisions/{id}/explain` and `GET /v1/reservations/{id}/explain`: why a decision was what it was. The same object stands in the
//! answer to a dry run.

use super::call::{Answer, Call, ok};
use super::wire::{Amount, AmountsOut, BudgetOut, PeriodOut, ReasonOut, budgets, reasons};
use crate::decision::amount::Unit;
use crate::decision::explain::{self, Because, CapLine, Ceiling, ExplainedRung, Explanation, Overage, Question, Skipped, Why};
use crate::decision::facts::Outcome;
use crate::decision::id::{CacheEntryId, DecisionId, ReservationId};
use crate::decision::ladder::Step;
use crate::decision::price::Mode;
use crate::decision::refusal::Code;
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::explain::Explained;
use serde::Serialize;
use utoipa::ToSchema;

/// A decision taken apart: the questions in their order, the rungs in theirs, and the versions of everything that decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainOut<'a> {
    #[schema(value_type = String)]
    decision_id: DecisionId,
    /// Null for denials, dry runs and what was answered from the cache.
    #[schema(value_type = Option<String>)]
    reservation_id: Option<ReservationId>,
    workspace_id: &'a str,
    user_id: Option<&'a str>,
    feature: &'a str,
    request_id: &'a str,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    decided_at: Timestamp,
    /// allow, deny or cached.
    decision: &'static str,
    /// Of what was answered from the cache: the answer.
    #[schema(value_type = Option<String>, example = "cch_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")]
    cache_entry_id: Option<CacheEntryId>,
    /// Allowed without the counters, because they were away.
    degraded: bool,
    /// The question that was answered with no; null: none was.
    code: Option<Code>,
    plan_id: Option<&'a str>,
    plan_version: Option<u32>,
    policy_version: i64,
    /// Of the workspace's description; null where it is not known any more.
    workspace_version: Option<u32>,
    /// Of the rung that was taken, or of the first.
    price_version: Option<&'a str>,
    /// How the model was chosen.
    routing: RoutingOut<'a>,
    /// The figures that the needs were computed from.
    estimates: EstimatesOut,
    /// Every question in its order, with its answer.
    questions: Vec<QuestionOut<'a>>,
    /// In the order in which they are tried.
    rungs: Vec<RungOut<'a>>,
    /// Rungs that this request's ladder does not have, and why.
    skipped: Vec<SkippedOut<'a>>,
    /// Budgets that bill what goes beyond their hard limit.
    overage: Vec<OverageOut<'a>>,
    /// The budgets that apply, just before the request.
    budgets: Vec<BudgetOut<'a>>,
    /// What the caller was told.
    reasons: Vec<ReasonOut<'a>>,
    shadow_reasons: Vec<ReasonOut<'a>>,
}

/// How the model was chosen.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoutingOut<'a> {
    /// As the caller named it; `auto` lets the rules choose.
    requested_model: &'a str,
    /// What was asked of the ladder; null: refused before that was clear.
    model: Option<&'a str>,
    /// The rule that matched and changed the request, or `default_model`.
    rule: Option<&'a str>,
    /// Shadow rules that would have matched.
    shadow_rules: &'a [String],
}

/// The figures that the needs were computed from.
#[derive(Debug, Serialize, ToSchema)]
pub struct EstimatesOut {
    input_tokens: i64,
    /// Weir counted the input itself.
    input_tokens_estimated: bool,
    max_output_tokens: i64,
    /// The request names no length: this is what answers of this workspace, feature and model are usually at most.
    max_output_tokens_estimated: bool,
    requests: i64,
}

/// One question.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuestionOut<'a> {
    /// What the denial would be called.
    question: Code,
    /// Passed, refused, or not asked because an earlier one was refused.
    answer: explain::Answer,
    /// The answer for people.
    detail: &'a str,
}

/// One way to serve the request.
#[derive(Debug, Serialize, ToSchema)]
pub struct RungOut<'a> {
    step: Step,
    model: &'a str,
    tier: &'a str,
    provider: &'a str,
    mode: Mode,
    price_version: &'a str,
    needs: AmountsOut,
    max_output_tokens: i64,
    /// Present where a shorter answer is acceptable.
    min_output_tokens: Option<i64>,
    /// Each enforced budget.
    ceilings: Vec<CeilingOut<'a>>,
    /// How a shorter answer was looked for; null: none is acceptable.
    cap: Option<CapOut<'a>>,
    /// By itself; a later one than the taken may fit too.
    fits: bool,
    taken: bool,
    /// What would be held; null: it does not fit.
    holds: Option<AmountsOut>,
    /// What became of it, for people.
    detail: String,
}

/// One budget before one rung.
#[derive(Debug, Serialize, ToSchema)]
pub struct CeilingOut<'a> {
    budget_id: &'a str,
    /// What the budget counts.
    unit: Unit,
    feature: Option<&'a str>,
    #[schema(example = "month")]
    period: &'static str,
    /// From when to when it counts.
    window: PeriodOut,
    /// What the whole answer needs.
    need: Amount,
    /// Spent and held must be below this before the request.
    open_below: Option<Amount>,
    /// Spent, held and need together must not pass this.
    ceiling: Option<Amount>,
    spent: Amount,
    held: Amount,
    granted: Amount,
    /// What is left below the ceiling; negative where more is taken already.
    room: Option<Amount>,
    /// The whole answer fits here.
    fits: bool,
    /// Why the whole answer does not fit; null: it does.
    because: Option<Because>,
    /// The same for people.
    detail: Option<String>,
}

/// How long an answer fits: for each budget the largest n of `(base + per_output × n) / denominator ≤ room`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapOut<'a> {
    min_output_tokens: i64,
    /// Null: not even an empty answer fits.
    longest: Option<i64>,
    /// Each budget that bounds it.
    lines: Vec<CapLineOut<'a>>,
}

/// One budget of a cap.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapLineOut<'a> {
    budget_id: &'a str,
    unit: Unit,
    /// In the unit's smallest part, as are the others: nano-dollars for usd.
    base: i64,
    /// For each output token more.
    per_output: i64,
    /// What both are divided by.
    denominator: i64,
    /// What is left below the ceiling.
    room: i64,
    /// The longest answer that this budget has room for; null: not even an empty one.
    longest: Option<i64>,
}

/// A rung that is not there.
#[derive(Debug, Serialize, ToSchema)]
pub struct SkippedOut<'a> {
    step: Step,
    /// The model that was considered; null: none was.
    model: Option<&'a str>,
    /// Why it is not there.
    because: Why,
}

/// How far a budget is beyond a limit that is billed.
#[derive(Debug, Serialize, ToSchema)]
pub struct OverageOut<'a> {
    budget_id: &'a str,
    unit: Unit,
    /// The limit beyond which it is billed, grants in.
    hard: Option<Amount>,
    /// Nothing passes this one, grants in.
    overage_hard: Option<Amount>,
    /// Spent and held beyond the hard limit, this request included.
    beyond: Amount,
}

impl<'a> ExplainOut<'a> {
    pub(super) fn new(decision_id: DecisionId, reservation_id: Option<ReservationId>, explanation: &'a Explanation) -> Self {
        let (facts, ask) = (&explanation.facts, &explanation.facts.ask);
        let offered = explanation.rungs.iter().find(|rung| rung.taken).or(explanation.rungs.first());
        Self {
            decision_id,
            reservation_id,
            workspace_id: ask.workspace.as_str(),
            user_id: ask.user.as_ref().map(|user| user.as_str()),
            feature: ask.feature.as_str(),
            request_id: ask.request_id.as_str(),
            decided_at: facts.decided_at,
            decision: match facts.outcome {
                Outcome::Cached(_) => "cached",
                _ if facts.outcome.is_denial() => "deny",
                _ => "allow",
            },
            cache_entry_id: match facts.outcome {
                Outcome::Cached(id) => Some(id),
                _ => None,
            },
            degraded: facts.outcome == Outcome::Degraded,
            code: explanation.code,
            plan_id: facts.plan.as_ref().map(|plan| plan.as_str()),
            plan_version: explanation.plan_version,
            policy_version: facts.policy_version,
            workspace_version: Some(facts.workspace_version).filter(|version| *version > 0),
            price_version: offered.map(|rung| &*rung.offer.price.version),
            routing: RoutingOut {
                requested_model: ask.model.as_str(),
                model: facts.chosen.as_ref().map(|model| model.as_str()),
                rule: facts.routed.as_deref(),
                shadow_rules: &facts.shadow_routes,
            },
            estimates: EstimatesOut {
                input_tokens: ask.input_tokens,
                input_tokens_estimated: ask.input_tokens_estimated,
                max_output_tokens: explanation.wanted_output,
                max_output_tokens_estimated: ask.max_output_tokens.is_none(),
                requests: ask.requests,
            },
            questions: explanation.questions.iter().map(QuestionOut::from).collect(),
            rungs: explanation.rungs.iter().map(RungOut::from).collect(),
            skipped: explanation.skipped.iter().map(SkippedOut::from).collect(),
            overage: explanation.overage.iter().map(OverageOut::from).collect(),
            budgets: budgets(&explanation.budgets),
            reasons: reasons(&explanation.reasons),
            shadow_reasons: reasons(&explanation.shadow_reasons),
        }
    }
}

impl<'a> From<&'a Explained> for ExplainOut<'a> {
    fn from(explained: &'a Explained) -> Self {
        Self::new(explained.decision, explained.reservation, &explained.explanation)
    }
}

impl<'a> From<&'a Question> for QuestionOut<'a> {
    fn from(question: &'a Question) -> Self {
        Self {
            question: question.code,
            answer: question.answer,
            detail: &question.detail,
        }
    }
}

impl<'a> From<&'a ExplainedRung> for RungOut<'a> {
    fn from(rung: &'a ExplainedRung) -> Self {
        let (offer, model) = (&rung.offer, &rung.offer.model);
        Self {
            step: rung.step,
            model: model.id.as_str(),
            tier: model.tier.as_str(),
            provider: model.provider.as_str(),
            mode: offer.mode,
            price_version: &offer.price.version,
            needs: rung.needs.into(),
            max_output_tokens: rung.output,
            min_output_tokens: rung.cap.as_ref().map(|cap| cap.least),
            ceilings: rung.ceilings.iter().map(CeilingOut::from).collect(),
            cap: rung.cap.as_ref().map(|cap| CapOut {
                min_output_tokens: cap.least,
                longest: Some(cap.longest).filter(|longest| *longest >= 0),
                lines: cap.lines.iter().map(CapLineOut::from).collect(),
            }),
            fits: rung.fits.is_some(),
            taken: rung.taken,
            holds: rung.fits.map(|(_, amounts)| amounts.into()),
            detail: rung.sentence(),
        }
    }
}

impl<'a> From<&'a Ceiling> for CeilingOut<'a> {
    fn from(ceiling: &'a Ceiling) -> Self {
        let counter = &ceiling.counter;
        let amount = |n: i64| Amount(counter.unit, n);
        Self {
            budget_id: ceiling.budget.as_str(),
            unit: counter.unit,
            feature: counter.feature.as_ref().map(|feature| feature.as_str()),
            period: counter.kind.as_str(),
            window: counter.period.into(),
            need: amount(ceiling.need),
            open_below: ceiling.open_below.map(amount),
            ceiling: ceiling.ceiling.map(amount),
            spent: amount(ceiling.spent),
            held: amount(ceiling.held),
            granted: amount(ceiling.granted),
            room: ceiling.room.map(amount),
            fits: ceiling.because.is_none(),
            because: ceiling.because,
            detail: ceiling.sentence(),
        }
    }
}

impl<'a> From<&'a CapLine> for CapLineOut<'a> {
    fn from(cap: &'a CapLine) -> Self {
        Self {
            budget_id: cap.budget.as_str(),
            unit: cap.unit,
            base: cap.line.base,
            per_output: cap.line.per_output,
            denominator: cap.line.denominator,
            room: cap.room,
            longest: Some(cap.longest).filter(|longest| *longest >= 0),
        }
    }
}

impl<'a> From<&'a Skipped> for SkippedOut<'a> {
    fn from(skipped: &'a Skipped) -> Self {
        Self {
            step: skipped.step,
            model: skipped.model.as_ref().map(|model| model.as_str()),
            because: skipped.why,
        }
    }
}

impl<'a> From<&'a Overage> for OverageOut<'a> {
    fn from(overage: &'a Overage) -> Self {
        let amount = |n: i64| Amount(overage.unit, n);
        Self {
            budget_id: overage.budget.as_str(),
            unit: overage.unit,
            hard: overage.hard.map(amount),
            overage_hard: overage.overage_hard.map(amount),
            beyond: amount(overage.beyond),
        }
    }
}

/// Why a decision was what it was, from the facts that it was made of. Denials are kept for 90 days, allows for 7, both within a bounded
/// number; of a busy service's allows some may be known by their reservation only.
#[utoipa::path(get, path = "/v1/decisions/{id}/explain", tag = "hot path", params(("id" = String, Path, example = "dec_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f")),
    responses((status = 200, body = ExplainOut)))]
pub async fn decision(call: Call) -> Answer {
    let id = call.path_decision()?;
    let explained = flow::explain::decision(&call.service, id, call.identity.workspace.as_ref()).await?;
    ok(&ExplainOut::from(&explained))
}

/// Why a reservation was allowed, and on this rung. Kept for 7 days.
#[utoipa::path(get, path = "/v1/reservations/{id}/explain", tag = "hot path", params(("id" = String, Path)),
    responses((status = 200, body = ExplainOut)))]
pub async fn reservation(call: Call) -> Answer {
    let id = call.path_reservation()?;
    let explained = flow::explain::reservation(&call.service, id, call.identity.workspace.as_ref()).await?;
    ok(&ExplainOut::from(&explained))
}
