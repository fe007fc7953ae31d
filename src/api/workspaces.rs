//! `/v1/admin/workspaces/{id}`: what an operator sets of a workspace.

use super::ask::check_tags;
use super::call::{Answer, Call, answer};
use super::grants::amount_of;
use super::json;
use super::problem::Problem;
use super::top_ups::{self, TopUpBody};
use crate::decision::amount::{LIMIT_COUNT_MAX, Unit};
use crate::decision::id::{BudgetId, PlanId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::period::{AnchorDay, Calendar, Setting, Zone};
use crate::decision::plan::{Budget, Plan};
use crate::decision::time::Timestamp;
use crate::decision::value;
use crate::decision::workspace::{OVERRIDES_MAX, Override, SEATS_MAX, Seats, Status, Suspender, Workspace};
use crate::flow;
use crate::flow::FlowError;
use crate::flow::workspace::Told;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

const STRIPE_CUSTOMER_CHARS_MAX: usize = 255;

/// What an operator sets of a workspace. Absent members keep their default on PUT and their value on PATCH.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceBody {
    /// Null: the default plan.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "pro")]
    plan_id: Option<PlanId>,
    #[serde(default = "one_seat", deserialize_with = "seats")]
    #[schema(minimum = 1, maximum = 1000000, example = 5)]
    seats: i64,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    #[schema(value_type = i64, minimum = 1, maximum = 31)]
    billing_anchor_day: AnchorDay,
    /// An IANA time zone.
    #[serde(default)]
    #[schema(value_type = String, example = "Europe/Berlin")]
    timezone: Zone,
    #[serde(default)]
    stripe_customer_id: Option<String>,
    /// What it pays a month, where no invoice tells.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "49.000000000")]
    revenue_usd: Option<Usd>,
    #[serde(default)]
    #[schema(value_type = Object)]
    overrides: BTreeMap<BudgetId, OverrideBody>,
    /// Grants that are given by themselves when a budget runs low, by budget.
    #[serde(default)]
    #[schema(value_type = Object)]
    top_ups: BTreeMap<BudgetId, TopUpBody>,
    /// Short texts, for routing rules: `workspace.tags`.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"segment": "trial"}))]
    tags: BTreeMap<String, String>,
}

/// Other limits for one budget of this workspace, for a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideBody {
    /// In the budget's unit: a decimal string for usd, an integer otherwise.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    soft: Option<LimitIn>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    hard: Option<LimitIn>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum LimitIn {
    Count(i64),
    Usd(String),
}

impl<'de> Deserialize<'de> for LimitIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => Ok(Self::Usd(text)),
            number => value::integer(number, "a limit", 0, LIMIT_COUNT_MAX)
                .map(Self::Count)
                .map_err(|error| match error.to_string() {
                    text if text.starts_with(value::UNACCEPTABLE) => D::Error::custom(text),
                    _ => D::Error::custom("must be an integer, or in usd a decimal string such as \"12.50\""),
                }),
        }
    }
}

fn one_seat() -> i64 {
    1
}

fn seats<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    value::integer(from, "seats", 1, SEATS_MAX)
}

/// A workspace as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkspaceOut {
    #[schema(value_type = String)]
    workspace_id: WorkspaceId,
    #[serde(flatten)]
    body: WorkspaceBody,
    /// Null where it is active. A payment lifts what a subscription suspended, and nothing else.
    suspended_by: Option<Suspender>,
    version: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn out(workspace: &Workspace, plan: Option<&Plan>) -> WorkspaceOut {
    let unit = |id: &BudgetId| {
        plan.and_then(|plan| plan.budgets.iter().find(|budget| budget.id == *id))
            .map(|budget| budget.unit)
    };
    let overrides = workspace.overrides.iter().map(|(id, change)| {
        let limit = |n: Option<i64>| {
            n.map(|n| match change.unit.or_else(|| unit(id)) {
                Some(Unit::Usd) => LimitIn::Usd(Usd::from_nanos(n).to_string()),
                _ => LimitIn::Count(n),
            })
        };
        (
            id.clone(),
            OverrideBody {
                soft: limit(change.soft),
                hard: limit(change.hard),
                expires_at: change.expires_at,
            },
        )
    });
    let setting = workspace.calendar.setting();
    WorkspaceOut {
        workspace_id: workspace.id.clone(),
        body: WorkspaceBody {
            plan_id: workspace.plan_id.clone(),
            seats: workspace.seats.now(),
            status: workspace.status,
            billing_anchor_day: setting.billing_anchor_day,
            timezone: setting.timezone.clone(),
            stripe_customer_id: workspace.stripe_customer_id.clone(),
            revenue_usd: workspace.revenue_usd,
            overrides: overrides.collect(),
            top_ups: top_ups::out(workspace, plan),
            tags: workspace.tags.clone(),
        },
        suspended_by: workspace.suspended_by,
        version: workspace.version,
        created_at: workspace.created_at,
        updated_at: workspace.updated_at,
    }
}

impl WorkspaceBody {
    /// Makes the workspace what this body says, as of `now`. What takes effect with the next period does so at once where nothing ran yet.
    fn apply(&self, call: &Call, workspace: &mut Workspace, is_new: bool, now: Timestamp) -> Result<(), FlowError> {
        let refuse = |pointer: &str, detail: String| FlowError::Unacceptable {
            pointer: pointer.to_owned(),
            detail,
        };
        let policy = call.service.policy.load();
        let plan = policy.plan(self.plan_id.as_ref());
        if let (Some(id), None) = (&self.plan_id, plan) {
            return Err(refuse("/plan_id", format!("there is no plan {id}; GET /v1/admin/plans lists them")));
        }
        let setting = Setting {
            timezone: self.timezone.clone(),
            billing_anchor_day: self.billing_anchor_day,
        };
        if self
            .stripe_customer_id
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > STRIPE_CUSTOMER_CHARS_MAX || !id.bytes().all(|b| b.is_ascii_graphic()))
        {
            let told = format!("must be 1 to {STRIPE_CUSTOMER_CHARS_MAX} characters of visible ASCII, such as cus_…, or null");
            return Err(refuse("/stripe_customer_id", told));
        }
        if self.revenue_usd.is_some_and(|usd| usd < Usd::ZERO || usd > Usd::LIMIT_MAX) {
            return Err(refuse("/revenue_usd", "must be from 0 to 4000000".to_owned()));
        }
        check_tags(&self.tags).map_err(|(pointer, detail)| refuse(&pointer, detail))?;
        if self.overrides.len() > OVERRIDES_MAX {
            return Err(refuse("/overrides", format!("may have at most {OVERRIDES_MAX}")));
        }
        let plan = plan.map(AsRef::as_ref);
        let before = out(workspace, plan).body.overrides;
        let overrides = self.overrides.iter().map(|(id, change)| {
            // One whose budget the plan has lost since, or counts in another unit, stays as it is: it is in nobody's way until somebody
            // changes it, or the plan.
            let unit = workspace.overrides.get(id).and_then(|known| known.unit);
            let is_its = |budget: &Budget| budget.id == *id && unit.is_none_or(|unit| unit == budget.unit);
            let has_budget = plan.is_some_and(|plan| plan.budgets.iter().any(is_its));
            let stays = !has_budget && workspace.plan_id == self.plan_id && before.get(id) == Some(change);
            let known = workspace.overrides.get(id).filter(|_| stays).cloned();
            Ok((id.clone(), known.map_or_else(|| change.compile(id, plan), Ok)?))
        });
        workspace.overrides = overrides.collect::<Result<_, FlowError>>()?;
        workspace.top_ups = top_ups::compile(&self.top_ups, workspace, self.plan_id.as_ref(), plan)?;
        workspace.plan_id = self.plan_id.clone();
        match self.status {
            Status::Active => workspace.resume(),
            Status::Suspended => workspace.suspend(Suspender::Operator),
        }
        if is_new {
            workspace.seats = Seats::new(self.seats);
            workspace.calendar = Calendar::new(setting);
        } else {
            workspace.seats.change(self.seats, now);
            workspace.calendar.change(setting, now);
        }
        workspace.stripe_customer_id = self.stripe_customer_id.clone();
        workspace.revenue_usd = self.revenue_usd;
        workspace.tags.clone_from(&self.tags);
        Ok(())
    }
}

impl OverrideBody {
    fn compile(&self, id: &BudgetId, plan: Option<&Plan>) -> Result<Override, FlowError> {
        let refuse = |field: &str, detail: String| FlowError::Unacceptable {
            pointer: format!("/overrides/{id}{field}"),
            detail,
        };
        let budget = plan.and_then(|plan| plan.budgets.iter().find(|budget| budget.id == *id));
        let budget = budget.ok_or_else(|| refuse("", format!("the plan has no budget {id}")))?;
        let limit = |field: &str, limit: &Option<LimitIn>| {
            let pointer = format!("/overrides/{id}{field}");
            let limit = limit.as_ref().map(|limit| amount_of(&pointer, limit, budget.unit, 0));
            limit.transpose()
        };
        let change = Override {
            soft: limit("/soft", &self.soft)?,
            hard: limit("/hard", &self.hard)?,
            expires_at: self.expires_at,
            unit: Some(budget.unit),
        };
        let (soft, hard) = (change.soft, change.hard.or(budget.hard));
        if let (Some(soft), Some(hard)) = (soft, hard)
            && soft > hard
        {
            return Err(refuse("/soft", "must not be above the hard limit".to_owned()));
        }
        Ok(change)
    }
}

/// The workspace as an operator sees it, with limits in the units of its plan.
pub(super) fn shown(call: &Call, workspace: &Workspace) -> WorkspaceOut {
    let policy = call.service.policy.load();
    let plan = policy.plan(workspace.plan_id.as_ref());
    out(workspace, plan.map(AsRef::as_ref))
}

/// What of it an operator sets.
pub(super) fn document(call: &Call, workspace: &Workspace) -> Value {
    serde_json::to_value(shown(call, workspace).body).unwrap_or_default()
}

fn reply(call: &Call, workspace: &Workspace, status: StatusCode) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.insert_header(("ETag", format!("\"{}\"", workspace.version)));
    if status == StatusCode::NOT_MODIFIED {
        return response.finish();
    }
    answer(response, &shown(call, workspace))
}

/// Creates or replaces a workspace. A change never moves a counter.
#[utoipa::path(put, path = "/v1/admin/workspaces/{id}", tag = "admin", params(("id" = String, Path)), request_body = WorkspaceBody,
    responses((status = 200, body = WorkspaceOut), (status = 201, body = WorkspaceOut)))]
pub async fn put(call: Call) -> Answer {
    let id = WorkspaceId::parse(&call.path("id")).map_err(|why| Problem::unacceptable("", format!("the workspace id {why}")))?;
    call.may_see(&id)?;
    let body: WorkspaceBody = call.json()?;
    let now = call.service.clock.now();
    let change = |workspace: &mut Workspace, is_new: bool| body.apply(&call, workspace, is_new, now);
    let told = Told {
        by: &call.by()?,
        action: "workspace.put",
        document: &|workspace| document(&call, workspace),
    };
    let (workspace, is_new) = flow::workspace::change(&call.service, &id, &call.expected()?, told, change).await?;
    Ok(reply(&call, &workspace, if is_new { StatusCode::CREATED } else { StatusCode::OK }))
}

/// A workspace as its operator set it.
#[utoipa::path(get, path = "/v1/admin/workspaces/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = WorkspaceOut)))]
pub async fn get(call: Call) -> Answer {
    let id = call.path_workspace()?;
    let workspace = flow::workspace::find(&call.service, &id).await?.ok_or_else(Problem::not_found)?;
    let status = if call.has(workspace.version)? {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    Ok(reply(&call, &workspace, status))
}

/// Changes some members, by JSON Merge Patch (RFC 7396): null takes a member away.
#[utoipa::path(patch, path = "/v1/admin/workspaces/{id}", tag = "admin", params(("id" = String, Path)),
    request_body(content = WorkspaceBody, content_type = "application/merge-patch+json"), responses((status = 200, body = WorkspaceOut)))]
pub async fn patch(call: Call) -> Answer {
    let id = call.path_workspace()?;
    let given: json::OpenObject = call.json()?;
    flow::workspace::find(&call.service, &id).await?.ok_or_else(Problem::not_found)?;
    let now = call.service.clock.now();
    let change = |workspace: &mut Workspace, is_new: bool| {
        let mut patched = document(&call, workspace);
        merge(&mut patched, &given);
        let body: WorkspaceBody = merged(patched)?;
        body.apply(&call, workspace, is_new, now)?;
        // A debt had suspended it; who says so of his own accord makes it his.
        if given.contains_key("status") && workspace.status == Status::Suspended {
            workspace.suspended_by = Some(Suspender::Operator);
        }
        Ok(())
    };
    let told = Told {
        by: &call.by()?,
        action: "workspace.patch",
        document: &|workspace| document(&call, workspace),
    };
    let (workspace, _) = flow::workspace::change(&call.service, &id, &call.expected()?, told, change).await?;
    Ok(reply(&call, &workspace, StatusCode::OK))
}

/// The document after a merge, refused as the flow refuses.
pub(super) fn merged<T: DeserializeOwned>(document: Value) -> Result<T, FlowError> {
    json::from_value(document).map_err(|problem: Problem| {
        let found = problem.errors().first();
        let (pointer, detail) = found.map_or_else(Default::default, |found| (found.pointer.clone(), found.detail.clone()));
        match problem.code() {
            "malformed" => FlowError::Malformed { pointer, detail },
            _ => FlowError::Unacceptable { pointer, detail },
        }
    })
}

/// RFC 7396.
pub(super) fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in patch {
        match change {
            Value::Null => {
                members.shift_remove(name);
            }
            Value::Object(inner) => merge(members.entry(name.clone()).or_insert(Value::Null), inner),
            other => {
                members.insert(name.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patch_follows_rfc_7396() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [1]}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
        ] {
            let mut document = target.clone();
            merge(&mut document, patch.as_object().expect("an object"));
            assert_eq!(document, expected, "{target} with {patch}");
        }
    }
}
