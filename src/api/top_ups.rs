//! `top_ups` of a workspace: grants that are given by themselves when a budget runs low.

use super::grants::{amount_of, priority};
use super::workspaces::LimitIn;
use crate::decision::amount::Unit;
use crate::decision::grant::{PRIORITY_DEFAULT, TopUp};
use crate::decision::id::{BudgetId, PlanId};
use crate::decision::money::Usd;
use crate::decision::plan::{Plan, Scope};
use crate::decision::value;
use crate::decision::workspace::{OVERRIDES_MAX, Workspace};
use crate::flow::FlowError;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The most top-ups of one period.
const PER_PERIOD_MAX: i64 = 1_000;
/// The longest that one lasts: ten years.
const EXPIRES_AFTER_SECONDS_MAX: i64 = 10 * 366 * 86_400;

/// Gives a grant of `amount` with the use that leaves less than `below` of limit and grants together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopUpBody {
    /// In the budget's unit, as `amount`.
    #[schema(value_type = Object)]
    below: LimitIn,
    #[schema(value_type = Object)]
    amount: LimitIn,
    /// In one period of the budget.
    #[serde(default = "once", deserialize_with = "max_per_period")]
    #[schema(value_type = i64, minimum = 1, maximum = 1000, default = 1)]
    max_per_period: u32,
    #[serde(default = "usual_priority", deserialize_with = "priority")]
    #[schema(value_type = i64, minimum = 0, maximum = 255, default = 100)]
    priority: u8,
    /// Absent: each lasts until it is used.
    #[serde(default, deserialize_with = "expires_after_seconds")]
    #[schema(value_type = Option<i64>, minimum = 60, maximum = 316224000)]
    expires_after_seconds: Option<i64>,
}

fn once() -> u32 {
    1
}

fn usual_priority() -> u8 {
    PRIORITY_DEFAULT
}

fn max_per_period<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    value::integer(from, "max_per_period", 1, PER_PERIOD_MAX).map(|max| max as u32)
}

fn expires_after_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let given = Option::<serde_json::Value>::deserialize(from)?;
    let read = |number| value::integer(number, "expires_after_seconds", 60, EXPIRES_AFTER_SECONDS_MAX);
    given.map(read).transpose().map_err(serde::de::Error::custom)
}

/// What a workspace has, in the units of its plan.
pub(super) fn out(workspace: &Workspace, plan: Option<&Plan>) -> BTreeMap<BudgetId, TopUpBody> {
    let body = |(id, top_up): (&BudgetId, &TopUp)| {
        let budget = plan.and_then(|plan| plan.budgets.iter().find(|budget| budget.id == *id));
        let amount = |amount: i64| match top_up.unit.or(budget.map(|budget| budget.unit)) {
            Some(Unit::Usd) => LimitIn::Usd(Usd::from_nanos(amount).to_string()),
            _ => LimitIn::Count(amount),
        };
        let body = TopUpBody {
            below: amount(top_up.below),
            amount: amount(top_up.amount),
            max_per_period: top_up.per_period_max,
            priority: top_up.priority,
            expires_after_seconds: top_up.expires_after_seconds,
        };
        (id.clone(), body)
    };
    workspace.top_ups.iter().map(body).collect()
}

/// What is asked for, checked against the plan. One whose budget the plan has lost since, or counts in another unit, stays as it is.
pub(super) fn compile(
    bodies: &BTreeMap<BudgetId, TopUpBody>,
    workspace: &Workspace,
    plan_id: Option<&PlanId>,
    plan: Option<&Plan>,
) -> Result<BTreeMap<BudgetId, TopUp>, FlowError> {
    let refuse = |pointer: String, detail: String| FlowError::Unacceptable { pointer, detail };
    if bodies.len() > OVERRIDES_MAX {
        return Err(refuse("/top_ups".to_owned(), format!("may have at most {OVERRIDES_MAX}")));
    }
    let before = out(workspace, plan);
    let one = |(id, body): (&BudgetId, &TopUpBody)| {
        let budget = plan.and_then(|plan| plan.budgets.iter().find(|budget| budget.id == *id));
        let known = workspace.top_ups.get(id);
        let is_its = |known: &TopUp| budget.is_some_and(|budget| known.unit.is_none_or(|unit| unit == budget.unit));
        if let Some(known) = known.filter(|known| !is_its(known))
            && workspace.plan_id.as_ref() == plan_id
            && before.get(id) == Some(body)
        {
            return Ok((id.clone(), *known));
        }
        let at = |field: &str| format!("/top_ups/{id}{field}");
        let budget = budget.ok_or_else(|| refuse(at(""), format!("the plan has no budget {id}")))?;
        if budget.scope != Scope::Workspace || budget.hard.is_none() {
            return Err(refuse(
                at(""),
                format!("budget {id} is of each user, or has no limit: only a workspace's own budgets are topped up"),
            ));
        }
        let top_up = TopUp {
            below: amount_of(&at("/below"), &body.below, budget.unit, 1)?,
            amount: amount_of(&at("/amount"), &body.amount, budget.unit, 1)?,
            per_period_max: body.max_per_period,
            priority: body.priority,
            expires_after_seconds: body.expires_after_seconds,
            unit: Some(budget.unit),
        };
        Ok((id.clone(), top_up))
    };
    bodies.iter().map(one).collect()
}
