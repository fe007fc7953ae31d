//! `/v1/admin/workspaces/{id}/grants`: extra allowance that an operator gives to a budget of a workspace, lists and voids.

use super::call::{Answer, Call, answer, ok};
use super::grant_billing::{BillingOut, PaidBody, PaidOut, grant_out};
use super::idempotency::names_of_made;
use super::page;
use super::problem::Problem;
use super::wire::Amount;
use super::workspaces::LimitIn;
use crate::decision::amount::{LIMIT_COUNT_MAX, Unit};
use crate::decision::grant::{Grant, Interval, PRIORITY_DEFAULT, Recurrence, Source, State};
use crate::decision::id::{BudgetId, GrantId, RequestId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::decision::value;
use crate::flow;
use crate::flow::FlowError;
use crate::flow::grant::{EarlierKey, Standing};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// The most grants of one page.
pub(super) const GRANTS_PAGE_MAX: usize = 500;

/// A grant to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": "invoice-7781", "budget_id": "monthly_tokens", "amount": 500000, "priority": 10,
    "expires_at": "2030-01-01T00:00:00Z", "paid": {"amount": 5000, "currency": "usd"}}))]
pub struct GrantBody {
    /// Yours: the same grant under the same key is given once in its workspace. Absent: one is made of the `Idempotency-Key`, if there is one.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 255)]
    key: Option<RequestId>,
    /// Absent: the plan's only workspace budget of `unit` that has a limit and no feature.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    budget_id: Option<BudgetId>,
    #[serde(default)]
    unit: Option<Unit>,
    /// In the budget's unit, above zero: a decimal string for usd, an integer otherwise.
    #[schema(value_type = Object)]
    amount: LimitIn,
    /// Lower pays first.
    #[serde(default = "usual_priority", deserialize_with = "priority")]
    #[schema(value_type = i64, minimum = 0, maximum = 255, default = 100)]
    priority: u8,
    /// Inclusive; absent: now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    effective_at: Option<Timestamp>,
    /// Exclusive; absent: never.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When the balance becomes `amount` anew: `day`, `week`, `month` or `year`, or `{"interval": …, "anchor": …}`; the anchor is
    /// `effective_at` unless it is named.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    recurrence: Option<RecurrenceIn>,
    /// At each end of the budget's period the balance becomes `min(rollover_max, max(rollover_min, balance))`; without both all of it stays.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    rollover_min: Option<LimitIn>,
    /// Not below `rollover_min`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    rollover_max: Option<LimitIn>,
    /// What the customer paid for it; not with a credential that is bound to a workspace. Such a grant neither recurs nor bounds rollover: one payment is one credit. Absent: it is given.
    #[serde(default)]
    paid: Option<PaidBody>,
}

#[derive(Debug, Clone, Copy)]
struct RecurrenceIn {
    interval: Interval,
    anchor: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for RecurrenceIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            interval: String,
            #[serde(default)]
            anchor: Option<Timestamp>,
        }
        let whole = match Value::deserialize(from)? {
            Value::String(interval) => Whole { interval, anchor: None },
            object @ Value::Object(_) => serde_json::from_value(object).map_err(D::Error::custom)?,
            _ => {
                return Err(D::Error::custom(
                    "must be \"month\", or an object such as {\"interval\": \"month\"}",
                ));
            }
        };
        let interval = match whole.interval.as_str() {
            "day" => Interval::Day,
            "week" => Interval::Week,
            "month" => Interval::Month,
            "year" => Interval::Year,
            _ => return Err(value::unacceptable("an interval must be day, week, month or year")),
        };
        Ok(Self {
            interval,
            anchor: whole.anchor,
        })
    }
}

fn usual_priority() -> u8 {
    PRIORITY_DEFAULT
}

pub(super) fn priority<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    value::integer(from, "a priority", 0, 255).map(|priority| priority as u8)
}

/// More than any limit in usd may be.
pub(super) fn too_large(pointer: &str) -> FlowError {
    FlowError::LimitTooLarge {
        pointer: pointer.to_owned(),
        detail: "is at most 4000000 in usd".to_owned(),
    }
}

/// An amount in a unit, from `least` on.
pub(super) fn amount_of(pointer: &str, limit: &LimitIn, unit: Unit, least: i64) -> Result<i64, FlowError> {
    let refuse = |detail: String| FlowError::Unacceptable {
        pointer: pointer.to_owned(),
        detail,
    };
    let misshapen = |detail: &str| FlowError::Malformed {
        pointer: pointer.to_owned(),
        detail: detail.to_owned(),
    };
    match (limit, unit) {
        (LimitIn::Usd(text), Unit::Usd) => match Usd::parse(text) {
            Ok(usd) if usd.nanos() >= least && usd <= Usd::LIMIT_MAX => Ok(usd.nanos()),
            Ok(usd) if usd > Usd::LIMIT_MAX => Err(too_large(pointer)),
            Ok(_) => Err(refuse(format!(
                "must be {} to 4000000",
                if least == 0 { "from 0" } else { "above 0, up" }
            ))),
            Err(_) if Usd::is_beyond(text) => Err(too_large(pointer)),
            Err(why) => Err(refuse(why)),
        },
        (LimitIn::Count(count), unit) if unit != Unit::Usd => match count {
            count if (least..=LIMIT_COUNT_MAX).contains(count) => Ok(*count),
            _ => Err(refuse(format!("must be from {least} to {LIMIT_COUNT_MAX}"))),
        },
        (_, Unit::Usd) => Err(misshapen("an amount in usd is a decimal string such as \"12.50\"")),
        (_, _) => Err(misshapen("must be an integer, not a string")),
    }
}

/// A grant as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantOut {
    /// The id that Weir made.
    #[schema(value_type = String, example = "grt_0198c1f04a7b7c3e9f2d5a6b7c8d9e0f")]
    grant_id: GrantId,
    /// What its giver calls it.
    key: Option<String>,
    #[schema(value_type = String, example = "monthly_tokens")]
    budget_id: BudgetId,
    unit: Unit,
    amount: Amount,
    /// What it has left to pay now; 0 unless it is active.
    balance: Amount,
    state: State,
    /// Lower pays first.
    priority: u8,
    /// Inclusive.
    #[schema(value_type = String, format = DateTime)]
    effective_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When the balance becomes `amount` anew; null: never.
    recurrence: Option<Recurrence>,
    /// The least that each end of the budget's period leaves.
    rollover_min: Option<Amount>,
    /// The most that it leaves.
    rollover_max: Option<Amount>,
    source: Source,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Since when it is void; null: it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    voided_at: Option<Timestamp>,
    /// When its balance or state changes by itself: it begins, recurs, rolls over or expires. Null: never again.
    #[schema(value_type = Option<String>, format = DateTime)]
    changes_at: Option<Timestamp>,
    /// What the customer paid for it. Absent: it was given, or this is not the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paid: Option<PaidOut>,
    /// How the credit stands that the billing provider is given for what was paid. Absent with `paid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) billing: Option<BillingOut>,
}

impl GrantOut {
    pub(super) fn new(standing: &Standing, now: Timestamp) -> Self {
        let grant = &standing.grant;
        let amount = |amount: i64| Amount(grant.unit, amount);
        Self {
            grant_id: grant.id,
            key: grant.key.clone(),
            budget_id: grant.budget.clone(),
            unit: grant.unit,
            amount: amount(grant.amount),
            balance: amount(standing.left),
            state: grant.state(standing.left, now),
            priority: grant.priority,
            effective_at: grant.effective_at,
            expires_at: grant.expires_at,
            recurrence: grant.recurrence,
            rollover_min: grant.rollover_min.map(amount),
            rollover_max: grant.rollover_max.map(amount),
            source: grant.source,
            created_at: grant.created_at,
            voided_at: grant.voided_at,
            changes_at: standing.changes_at,
            paid: None,
            billing: None,
        }
    }
}

impl GrantBody {
    fn compile(&self, call: &Call, plan: Option<&crate::decision::plan::Plan>, now: Timestamp) -> Result<Grant, FlowError> {
        let refuse = |pointer: &str, detail: &str| FlowError::Unacceptable {
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
        };
        let plan = plan.ok_or_else(|| refuse("/budget_id", "the workspace has no plan, and so no budget"))?;
        let budget = flow::grant::budget_for(plan, self.budget_id.as_ref(), self.unit)?;
        let amount = |pointer: &str, amount: &LimitIn, least| amount_of(pointer, amount, budget.unit, least);
        let bound = |pointer: &str, bound: &Option<LimitIn>| bound.as_ref().map(|bound| amount(pointer, bound, 0)).transpose();
        let effective_at = self.effective_at.unwrap_or(now);
        if self.expires_at.is_some_and(|expires_at| expires_at <= effective_at.max(now)) {
            return Err(refuse("/expires_at", "must be later than effective_at and than now"));
        }
        let (rollover_min, rollover_max) = (
            bound("/rollover_min", &self.rollover_min)?,
            bound("/rollover_max", &self.rollover_max)?,
        );
        if rollover_min.zip(rollover_max).is_some_and(|(min, max)| min > max) {
            return Err(refuse("/rollover_min", "must not be above rollover_max"));
        }
        let recurrence = self.recurrence.map(|recurrence| Recurrence {
            interval: recurrence.interval,
            anchor: recurrence.anchor.unwrap_or(effective_at),
        });
        let paid = self.paid.as_ref().map(PaidBody::compile).transpose()?;
        if paid.is_some() && (recurrence.is_some() || rollover_min.is_some() || rollover_max.is_some()) {
            return Err(refuse(
                "/paid",
                "a grant that was paid for neither recurs nor bounds rollover: one payment is one credit",
            ));
        }
        Ok(Grant {
            id: GrantId::from_uuid(call.service.clock.uuid()),
            key: self.key.as_ref().map(RequestId::to_string),
            budget: budget.id.clone(),
            unit: budget.unit,
            amount: amount("/amount", &self.amount, 1)?,
            priority: self.priority,
            effective_at,
            expires_at: self.expires_at,
            recurrence,
            rollover_min,
            rollover_max,
            source: Source::Manual,
            paid,
            created_at: now,
            voided_at: None,
        })
    }
}

/// Gives a grant. The limit of its budget is higher at once on this node, and within two seconds on the others.
#[utoipa::path(post, path = "/v1/admin/workspaces/{id}/grants", tag = "admin", params(("id" = String, Path)), request_body = GrantBody,
    responses((status = 201, body = GrantOut), (status = 200, description = "It was given before, under the same key.", body = GrantOut)))]
pub async fn give(call: Call) -> Answer {
    let id = call.path_workspace()?;
    let mut body: GrantBody = call.json()?;
    let now = call.service.clock.now();
    // What a provider is told belongs to all workspaces.
    if body.paid.is_some() && call.identity.workspace.is_some() {
        return Err(Problem::bound_credential());
    }
    let mut earlier = None;
    if body.key.is_none()
        && let Some([today, yesterday]) = names_of_made(&call, now)?
    {
        body.key = Some(today);
        earlier = Some(EarlierKey {
            key: yesterday.to_string(),
            since: now.plus_seconds(-flow::answer::KEPT_SECONDS),
        });
    }
    let workspace = flow::workspace::find(&call.service, &id).await?.ok_or_else(Problem::not_found)?;
    let policy = call.service.policy.load();
    let plan = policy.plan(workspace.plan_id.as_ref()).map(AsRef::as_ref);
    let grant = body.compile(&call, plan, now)?;
    let (standing, is_new) = flow::grant::give(&call.service, &call.by()?, &id, (grant, earlier)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let crediting = flow::credit::of(&call.service, &id, vec![standing]).await?;
    let given = crediting.first().ok_or_else(Problem::not_found)?;
    Ok(answer(HttpResponse::build(status), &grant_out(given, now)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantsQuery {
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of grants, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantsPage {
    data: Vec<GrantOut>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// The grants of a workspace, those that have ended too, newest first.
#[utoipa::path(get, path = "/v1/admin/workspaces/{id}/grants", tag = "admin", params(("id" = String, Path), GrantsQuery),
    responses((status = 200, body = GrantsPage)))]
pub async fn list(call: Call) -> Answer {
    let id = call.path_workspace()?;
    let query: GrantsQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    // One more than asked for tells whether there is another page.
    let mut grants = flow::grant::list(&call.service, &id, after, limit + 1).await?;
    let more = grants.len() > limit;
    grants.truncate(limit);
    let now = call.service.clock.now();
    let next_cursor = grants.last().filter(|_| more).map(|last| cursor(&last.grant));
    let crediting = flow::credit::of(&call.service, &id, grants).await?;
    ok(&GrantsPage {
        next_cursor,
        data: crediting.iter().map(|one| grant_out(one, now)).collect(),
    })
}

fn cursor(grant: &Grant) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}|{}", grant.created_at.micros(), grant.id))
}

fn read_cursor(text: &str) -> Result<(Timestamp, GrantId), Problem> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (micros, id) = std::str::from_utf8(&bytes).ok()?.split_once('|')?;
        Some((Timestamp::from_micros(micros.parse().ok()?), GrantId::parse(id).ok()?))
    };
    read().ok_or_else(|| Problem::unacceptable("/cursor", "is not a next_cursor of this list; start again without it"))
}

/// Voids a grant, and its credit at the billing provider if it was paid for. What it paid stays paid, and what was authorized before is still paid by it; the rest of its balance is gone.
#[utoipa::path(delete, path = "/v1/admin/workspaces/{id}/grants/{grant}", tag = "admin",
    params(("id" = String, Path), ("grant" = String, Path)), responses((status = 204, description = "It is void, or had ended before.")))]
pub async fn void(call: Call) -> Answer {
    let id = call.path_workspace()?;
    call.no_body_or_empty_object()?;
    let grant = GrantId::parse(&call.path("grant")).map_err(|_| Problem::not_found())?;
    flow::workspace::find(&call.service, &id).await?.ok_or_else(Problem::not_found)?;
    // What a provider is told belongs to all workspaces.
    if call.identity.workspace.is_some() && flow::grant::find(&call.service, &id, grant).await?.grant.paid.is_some() {
        return Err(Problem::bound_credential());
    }
    flow::grant::void(&call.service, &call.by()?, &id, grant).await?;
    Ok(HttpResponse::NoContent().finish())
}
