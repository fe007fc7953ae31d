//! `GET /v1/workspaces/{id}/usage`: the budgets of a workspace, what was granted, what was used lately, and where more can be had. What a
//! customer's own page shows, without costs, and what an operator reads.

use super::call::{Answer, Call, ok};
use super::grants::{GRANTS_PAGE_MAX, GrantOut};
use super::wire::BudgetOut;
use crate::decision::amount::Unit;
use crate::decision::id::UserId;
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::usage::{DayUse, Forecast};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// Shows this user's budgets beside those of the workspace.
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UsageAnswer<'a> {
    plan_id: Option<&'a str>,
    plan_version: Option<u32>,
    /// Where more can be had.
    upgrade_url: Option<&'a str>,
    budgets: Vec<ForecastOut<'a>>,
    /// The newest 500, those that have ended too.
    grants: Vec<GrantOut>,
    /// What was used in the last 30 days of the workspace's time zone, by day and feature, newest day first.
    recent: Vec<DayUseOut<'a>>,
}

/// What was used of one feature on one day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DayUseOut<'a> {
    /// The date in the workspace's time zone.
    #[schema(format = Date, example = "2025-11-21")]
    date: &'a str,
    feature: &'a str,
    requests: i64,
    tokens: i64,
    credits: i64,
    /// Only for who may see costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    cost_usd: Option<Usd>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ForecastOut<'a> {
    #[serde(flatten)]
    budget: BudgetOut<'a>,
    /// When the budget is used up if its period goes on as it began; null: not in this period, or too early to tell.
    #[schema(value_type = Option<String>, format = DateTime)]
    forecast_exhausted_at: Option<Timestamp>,
}

/// The budgets of a workspace as they stand.
#[utoipa::path(get, path = "/v1/workspaces/{id}/usage", tag = "reading", params(("id" = String, Path), UsageQuery),
    responses((status = 200, body = UsageAnswer)))]
pub async fn usage(call: Call) -> Answer {
    let workspace = call.path_workspace()?;
    let query: UsageQuery = call.query()?;
    let forecasts = flow::usage::usage(&call.service, &workspace, query.user_id.as_ref()).await?;
    let without_costs = call.identity.sees_no_costs();
    let shown = forecasts
        .iter()
        .filter(|forecast| !without_costs || forecast.budget.unit != Unit::Usd);
    let budgets = shown.map(forecast_out).collect();
    let grants = flow::grant::list(&call.service, &workspace, None, GRANTS_PAGE_MAX).await?;
    let now = call.service.clock.now();
    let shown = grants.iter().filter(|standing| !without_costs || standing.grant.unit != Unit::Usd);
    let grants = shown.map(|standing| GrantOut::new(standing, now)).collect();
    let bought = flow::usage::bought(&call.service, &workspace).await?;
    let recent = flow::usage::recent(&call.service, &workspace).await?;
    ok(&UsageAnswer {
        plan_id: bought.plan.as_ref().map(|plan| plan.id.as_str()),
        plan_version: bought.plan.as_ref().map(|plan| plan.version),
        upgrade_url: bought.upgrade_url.as_deref(),
        budgets,
        grants,
        recent: recent.iter().map(|day| day_use_out(day, without_costs)).collect(),
    })
}

fn day_use_out(day: &DayUse, without_costs: bool) -> DayUseOut<'_> {
    DayUseOut {
        date: &day.date,
        feature: day.used.feature.as_str(),
        requests: day.used.requests,
        tokens: day.used.tokens,
        credits: day.used.credits,
        cost_usd: (!without_costs).then_some(day.used.cost),
    }
}

pub(super) fn forecast_out(forecast: &Forecast) -> ForecastOut<'_> {
    ForecastOut {
        budget: (&forecast.budget).into(),
        forecast_exhausted_at: forecast.exhausted_at,
    }
}
