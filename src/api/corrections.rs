//! `POST /v1/admin/ledger/corrections` and `POST /v1/admin/ledger/reprice`: entries are never changed, what they say is corrected by others.

use super::by::check_reason;
use super::call::{Answer, Call, answer, ok};
use super::json::OpenObject;
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use super::wire::EntryOut;
use crate::decision::amount::Count;
use crate::decision::correction::Counted;
use crate::decision::id::{EntryId, ModelId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::decision::usage::{self, UsageFormat};
use crate::flow;
use crate::flow::correct::Target;
use crate::flow::reprice::UnpricedQuery;
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an entry should have said.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"entry_id": "ent_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f", "usage": {"input_tokens": 4521, "output_tokens": 300},
    "reason": "the provider counted the stream twice"}))]
pub struct CorrectionRequest {
    /// Of a use; its corrections so far are part of what it says.
    entry_id: String,
    /// New totals of what was used: a provider's own usage object, or Weir's. It is priced as the entry was. Either this or `counted`.
    #[schema(value_type = Option<Object>)]
    usage: Option<OpenObject>,
    /// Forces how `usage` is read; absent: its shape tells.
    #[schema(value_type = Option<String>)]
    usage_format: Option<UsageFormat>,
    /// New totals of what counts against budgets; what was used and cost stays. Either this or `usage`.
    counted: Option<CountedIn>,
    /// Goes into the audit log.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Totals; absent ones stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CountedIn {
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 68719476736i64)]
    tokens: Option<Count>,
    #[schema(value_type = Option<String>, example = "0.006456000")]
    usd: Option<Usd>,
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 68719476736i64)]
    requests: Option<Count>,
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 68719476736i64)]
    credits: Option<Count>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectionAnswer<'a> {
    /// Signed differences, at the time of the entry that it corrects.
    entry: EntryOut<'a>,
    /// The entry says so already; this is the correction that made it, and nothing was written.
    replayed: bool,
}

/// Corrects what an entry says, by an entry of signed differences. Counters follow.
#[utoipa::path(post, path = "/v1/admin/ledger/corrections", tag = "admin",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same request under the same key is answered alike for a day.")),
    request_body = CorrectionRequest,
    responses((status = 201, body = CorrectionAnswer), (status = 200, description = "It says so already.", body = CorrectionAnswer)))]
pub async fn correct(call: Call) -> Answer {
    let request: CorrectionRequest = call.json()?;
    let reason = request.reason.trim();
    if reason.is_empty() {
        return Err(Problem::unacceptable("/reason", "must say why"));
    }
    check_reason(reason).map_err(|why| Problem::unacceptable("/reason", why))?;
    let target = request.target()?;
    // What is no id of ours is unknown, too.
    let id = EntryId::parse(&request.entry_id).map_err(|_| Problem::not_found())?;
    let (service, by) = (call.service.clone(), call.by_reason(reason));
    let corrected = durably(async move { flow::correct::correct(&service, id, &target, &by).await }).await?;
    let response = match corrected.replayed {
        true => HttpResponse::Ok(),
        false => HttpResponse::Created(),
    };
    let body = CorrectionAnswer {
        entry: (&corrected.entry).into(),
        replayed: corrected.replayed,
    };
    Ok(answer(response, &body))
}

impl CorrectionRequest {
    fn target(&self) -> Result<Target, Problem> {
        match (&self.usage, &self.counted) {
            (Some(object), None) => {
                let usage = usage::read(object, self.usage_format).map_err(|unreadable| Problem::usage_unreadable(&unreadable))?;
                Ok(Target::Usage(usage))
            }
            (None, Some(counted)) => counted.read().map(Target::Counted),
            (None, None) => Err(Problem::malformed("/usage", "one of usage and counted is required")),
            (Some(_), Some(_)) => Err(Problem::malformed("/counted", "give either usage or counted, not both")),
        }
    }
}

impl CountedIn {
    fn read(&self) -> Result<Counted, Problem> {
        if self.usd.is_some_and(|usd| usd > Usd::ENTRY_MAX) {
            return Err(Problem::amount_too_large_at("/counted/usd", "is at most 1000000 in usd"));
        }
        if self.usd.is_some_and(|usd| usd < Usd::ZERO) {
            return Err(Problem::unacceptable("/counted/usd", "must be from 0 to 1000000"));
        }
        let counted = Counted {
            tokens: self.tokens.map(Count::get),
            usd: self.usd,
            requests: self.requests.map(Count::get),
            credits: self.credits.map(Count::get),
        };
        if counted == Counted::default() {
            return Err(Problem::unacceptable(
                "/counted",
                "must name at least one of tokens, usd, requests and credits",
            ));
        }
        Ok(counted)
    }
}

/// Which uses without a price to look at; absent: all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "model": "brand-new-model"}))]
pub struct RepriceRequest {
    /// When they occurred; inclusive.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Exclusive.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// As it was recorded.
    #[schema(value_type = Option<String>)]
    model: Option<ModelId>,
    /// `next_cursor` of the call before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RepriceAnswer {
    /// Uses that have a price now.
    repriced: u64,
    /// Uses that still have none: no price was in force when they occurred.
    unpriced: u64,
    /// What those that were repriced cost together.
    #[schema(value_type = String, example = "12.500000000")]
    cost_usd: Usd,
    /// Null: all were looked at. Otherwise call again with it as `cursor`.
    next_cursor: Option<String>,
}

/// Gives uses that were recorded without a price the one that was in force then, each by a correction. Repeating it changes nothing.
#[utoipa::path(post, path = "/v1/admin/ledger/reprice", tag = "admin", request_body = RepriceRequest,
    responses((status = 200, body = RepriceAnswer)))]
pub async fn reprice(call: Call) -> Answer {
    let request: RepriceRequest = match call.body.is_empty() {
        true => RepriceRequest::default(),
        false => call.json()?,
    };
    let query = UnpricedQuery {
        workspace: request.workspace_id,
        model: request.model,
        from: request.from,
        to: request.to,
        after: page::place(request.cursor.as_deref(), read_place)?,
        limit: 0,
    };
    let (service, by) = (call.service.clone(), call.by()?);
    let done = durably(async move { flow::reprice::reprice(&service, &query, &by).await }).await?;
    ok(&RepriceAnswer {
        repriced: done.repriced,
        unpriced: done.unpriced,
        cost_usd: done.cost_usd(),
        next_cursor: done.next.map(|(at, id)| page::cursor(&format!("{}|{id}", at.micros()))),
    })
}

fn read_place(text: &str) -> Option<(Timestamp, EntryId)> {
    let (micros, id) = text.split_once('|')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), EntryId::parse(id).ok()?))
}
