//! `/v1/workspaces/{id}/invoice-preview`: what a workspace's period comes to by its plan's price, as far as it is known now.

use super::call::{Answer, Call, ok};
use super::wire::Amount;
use crate::decision::amount::Unit;
use crate::decision::grant::Source;
use crate::decision::id::{BudgetId, Feature, GrantId, PlanId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::period::Period;
use crate::decision::rating::{ChargeKind, Line, LineKind};
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::invoice::{GrantPaid, Preview, Which};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// Which billing period; absent: `current`.
    #[param(inline)]
    period: Option<PeriodName>,
    /// A moment of the billing period; not together with `period`.
    #[param(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PeriodName {
    Current,
    Previous,
}

/// What a billing period comes to so far.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoicePreview<'a> {
    #[schema(value_type = String)]
    workspace_id: &'a WorkspaceId,
    /// The billing period.
    period: Period,
    /// When this was worked out.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// Always false: use of the period may still be recorded or corrected.
    is_final: bool,
    /// Always usd.
    #[schema(example = "usd")]
    currency: &'static str,
    /// The plan that prices the period: of one that runs the workspace's own, of an ended one that under which it was used last.
    #[schema(value_type = Option<String>)]
    plan_id: Option<&'a PlanId>,
    plan_version: Option<u32>,
    /// Under which versions of which plans the period's use was recorded. Several: the plan changed in it, and the one above prices all.
    plan_versions: Vec<VersionOut<'a>>,
    /// The most that there were in the period.
    seats: i64,
    /// Base, seats, use, overage, outcomes; then what is taken off, and what is missing to the least.
    lines: Vec<LineOut<'a>>,
    /// The sum of the lines' `amount_usd`.
    #[schema(value_type = String, example = "162.330000000")]
    total_usd: Usd,
    /// The same before it was rounded to cents.
    #[schema(value_type = String, example = "162.331016000")]
    exact_total_usd: Usd,
    /// What each grant paid of the period's use: that is on no line.
    grants: Vec<GrantOut<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoicePlanVersion)]
pub struct VersionOut<'a> {
    #[schema(value_type = String)]
    plan_id: &'a PlanId,
    plan_version: u32,
    /// How many entries.
    entries: i64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoiceLine)]
pub struct LineOut<'a> {
    /// What the line is for.
    kind: LineKind,
    /// For people.
    description: String,
    #[schema(value_type = Option<String>)]
    budget_id: Option<&'a BudgetId>,
    #[schema(value_type = Option<String>)]
    feature: Option<&'a Feature>,
    /// What `quantity` counts; null: seats, outcomes, packages, or one fee.
    unit: Option<Unit>,
    /// Of overage: the budget's period.
    period: Option<Period>,
    /// The tier, from 1.
    #[schema(minimum = 1, maximum = 64, example = 1)]
    tier: Option<usize>,
    /// How the amount came to be.
    charge: ChargeKind,
    /// In `unit`: a decimal string for usd, an integer otherwise.
    quantity: Amount,
    /// The price of `per` of it.
    #[schema(value_type = String, example = "4.000000000")]
    price_usd: Usd,
    /// In `unit`, as `quantity`.
    per: Amount,
    /// In whole cents; below zero for what is taken off.
    #[schema(value_type = String, example = "1.000000000")]
    amount_usd: Usd,
    /// Before it was rounded to cents. Lines are rounded down, and the cents that are missing to the rounded sum go to those that lost most.
    #[schema(value_type = String, example = "1.000004000")]
    exact_usd: Usd,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoiceGrant)]
pub struct GrantOut<'a> {
    /// The grant.
    #[schema(value_type = String)]
    grant_id: GrantId,
    /// What its giver calls it.
    key: Option<&'a str>,
    #[schema(value_type = String)]
    budget_id: &'a BudgetId,
    unit: Unit,
    /// Who gave it.
    source: Source,
    /// How much of the budget's use it paid.
    paid: Amount,
}

/// What a billing period comes to by the plan's price: lines that add up to the total, and what grants paid. Nothing is pro rata.
#[utoipa::path(get, path = "/v1/workspaces/{id}/invoice-preview", tag = "reading", params(("id" = String, Path), PreviewQuery),
    responses((status = 200, body = InvoicePreview)))]
pub async fn preview(call: Call) -> Answer {
    let workspace = call.path_workspace()?;
    let query: PreviewQuery = call.query()?;
    let which = match (query.period, query.at) {
        (Some(_), Some(_)) => {
            let detail = "the query string: send period or at, not both";
            return Err(super::problem::Problem::unacceptable("", detail));
        }
        (Some(PeriodName::Previous), None) => Which::Previous,
        (Some(PeriodName::Current) | None, None) => Which::Current,
        (None, Some(at)) => Which::At(at),
    };
    let preview = flow::invoice::preview(&call.service, &workspace, which).await?;
    ok(&out(&preview))
}

fn out(preview: &Preview) -> InvoicePreview<'_> {
    let versions = preview.versions.iter();
    InvoicePreview {
        workspace_id: &preview.workspace,
        period: preview.period,
        as_of: preview.as_of,
        is_final: false,
        currency: "usd",
        plan_id: preview.plan.as_ref().map(|plan| &plan.id),
        plan_version: preview.plan.as_ref().map(|plan| plan.version),
        plan_versions: versions
            .map(|(plan_id, plan_version, entries)| VersionOut {
                plan_id,
                plan_version: *plan_version,
                entries: *entries,
            })
            .collect(),
        seats: preview.seats,
        lines: preview.invoice.lines.iter().map(|line| line_out(preview, line)).collect(),
        total_usd: preview.invoice.total,
        exact_total_usd: preview.invoice.exact,
        grants: preview.grants.iter().map(grant_out).collect(),
    }
}

fn line_out<'a>(preview: &'a Preview, line: &'a Line) -> LineOut<'a> {
    let charge = &line.charge;
    // Overage knows its budget, and the budget its unit.
    let budgets = preview.plan.as_ref().map(|plan| plan.budgets.as_slice()).unwrap_or_default();
    let budget = budgets.iter().find(|budget| Some(&budget.id) == line.budget.as_ref());
    let unit = line
        .unit
        .or(budget.map(|budget| budget.unit))
        .filter(|_| charge.kind == ChargeKind::Unit);
    let counted = unit.unwrap_or(Unit::Requests);
    LineOut {
        kind: line.kind,
        description: description(preview, line),
        budget_id: line.budget.as_ref(),
        feature: line.feature.as_ref().or(budget.and_then(|budget| budget.feature.as_ref())),
        unit,
        period: line.period,
        tier: charge.tier.map(|tier| tier + 1),
        charge: charge.kind,
        quantity: Amount(counted, charge.quantity),
        price_usd: charge.price,
        per: Amount(counted, charge.per),
        amount_usd: line.cents,
        exact_usd: charge.amount,
    }
}

/// What a line is for, in a few words.
fn description(preview: &Preview, line: &Line) -> String {
    let plan = preview.plan.as_ref().map_or("no plan", |plan| plan.name.as_str());
    let subject = line.subject.as_deref().unwrap_or_default();
    let yearly = preview.plan.as_ref().and_then(|plan| plan.pricing.as_ref());
    let share = match yearly.map(|pricing| pricing.interval) {
        Some(crate::decision::pricing::Interval::Year) => ", a twelfth of the year",
        _ => "",
    };
    let part = match line.charge.kind {
        ChargeKind::Unit => "",
        ChargeKind::Flat => ", tier fee",
        ChargeKind::Package => ", packages",
        ChargeKind::Minimum => ", least spend",
        ChargeKind::Maximum => ", most spend",
    };
    match line.kind {
        LineKind::Base => format!("{plan}{share}"),
        LineKind::Seats => format!("{plan}: seats{share}"),
        LineKind::Usage => format!("{subject}{part}"),
        LineKind::Overage => format!("{subject}: beyond the limit"),
        LineKind::Outcome => subject.to_owned(),
        LineKind::Maximum => "beyond the most that a period comes to".to_owned(),
        LineKind::Credit => "credit of the plan".to_owned(),
        LineKind::Minimum => "up to the least that a period comes to".to_owned(),
    }
}

fn grant_out(grant: &GrantPaid) -> GrantOut<'_> {
    GrantOut {
        grant_id: grant.grant,
        key: grant.key.as_deref(),
        budget_id: &grant.budget,
        unit: grant.unit,
        source: grant.source,
        paid: Amount(grant.unit, grant.paid),
    }
}
