//! `/v1/admin/billing`: what a provider was told and will be, in batches; sealing and sending ahead of time, and sending again.

use super::call::{Answer, Call, ok};
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use super::wire::Amount;
use crate::decision::amount::Unit;
use crate::decision::billing::delivery::ReasonCode;
use crate::decision::billing::{Batch, State};
use crate::decision::id::{BatchId, MeterId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::billing::BatchQuery;
use serde::{Deserialize, Serialize};

use utoipa::{IntoParams, ToSchema};

/// Use of one workspace, meter and window, as the billing provider is told of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub struct BatchOut<'a> {
    /// The same for the same use, whichever node made the batch.
    #[schema(value_type = String, example = "bat_6f1c2b3a4d5e8f708192a3b4c5d6e7f8")]
    batch_id: BatchId,
    workspace_id: &'a str,
    /// The id of the meter in `billing.yaml`.
    #[schema(example = "tokens")]
    meter: &'a str,
    /// What the provider calls the meter.
    #[schema(example = "weir_tokens")]
    event_name: &'a str,
    /// What the provider knows the batch by.
    identifier: String,
    /// Whether it grows, waits, is under way, or where it ended.
    state: State,
    /// When its members were used: from `window_start` to before `window_end`.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// Where the window ends, or the billing period within it.
    #[schema(value_type = String, format = DateTime)]
    window_end: Timestamp,
    /// Counts the batches of one window, from 1: what is recorded after the first was sealed makes another one.
    #[schema(minimum = 1)]
    sequence: i64,
    /// How many ledger entries it is made of; none where it adjusts another batch.
    #[schema(minimum = 0)]
    members: i64,
    /// The batch of which something is taken back that was owed and met no later use; or, where `value` is above zero, the one that was in
    /// vain. Null: this batch is of use.
    #[schema(value_type = Option<String>)]
    adjusts: Option<BatchId>,
    /// What the meter counts.
    unit: Unit,
    /// What its members counted in the meter's unit: an integer, for usd a decimal string.
    counted: Amount,
    /// What the provider is told: `counted` × markup × scale and what was carried, whole; below zero: what is taken back. Null while it is open.
    value: Option<i64>,
    /// What is carried to the next batch of this workspace and meter: the fraction, or what is owed back. Null while it is open.
    #[schema(example = "0.25")]
    carry: Option<String>,
    /// The workspace's customer at the provider, as of the last try.
    customer: Option<&'a str>,
    /// How often the provider was called; while it is away only the first ten times count.
    #[schema(minimum = 0)]
    tries: i64,
    /// When it is tried next, or again. Null where it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_try_at: Option<Timestamp>,
    /// Why it is where it is; null where nothing needs to be said.
    reason: Option<ReasonCode>,
    /// The same for people.
    reason_detail: Option<&'a str>,
    /// The time that the provider was told at the last try: of the last use, or of the try where the period of use is invoiced already.
    #[schema(value_type = Option<String>, format = DateTime)]
    told_at: Option<Timestamp>,
    /// The first try that may have been taken although no answer said so. The batch is sent again only for hours after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    unsure_since: Option<Timestamp>,
    /// When its first member was collected.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// When its value was fixed; null while it is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    sealed_at: Option<Timestamp>,
    /// When the provider said that it has it; null: it has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
}

/// Batches, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchPage<'a> {
    data: Vec<BatchOut<'a>>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BatchesQuery {
    /// Only of this workspace.
    #[param(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// Only of this meter.
    #[param(value_type = Option<String>)]
    meter: Option<MeterId>,
    /// Absent: all but open ones.
    state: Option<State>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<String>,
}

/// What a flush did.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlushAnswer {
    /// Ledger entries that became members of a batch.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    collected: usize,
    /// Batches that were sealed.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    sealed: usize,
    /// Batches that the provider acknowledged by now; what is left is sent in the background.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    acknowledged: usize,
}

/// How to send again. The body may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"force": false}))]
pub struct ResendBody {
    /// Send a batch of state `unknown` although the provider may have it: if it does and has forgotten the identifier, it bills it twice.
    /// Or one of state `acknowledged`, where you know that the provider took it and never counted it: it is told under another identifier.
    #[serde(default)]
    #[schema(default = false)]
    force: bool,
}

fn out(batch: &Batch) -> BatchOut<'_> {
    let (delivery, sealed) = (&batch.delivery, batch.sealed.as_ref());
    BatchOut {
        batch_id: batch.id,
        workspace_id: batch.workspace.as_str(),
        meter: batch.meter.as_str(),
        event_name: &batch.event_name,
        identifier: batch.identifier(),
        state: delivery.state,
        window_start: batch.window.start,
        window_end: batch.window.end,
        sequence: batch.sequence,
        members: batch.members,
        adjusts: batch.adjusts,
        unit: batch.unit,
        counted: Amount(batch.unit, batch.counted),
        value: sealed.map(|sealed| sealed.value),
        carry: sealed.map(|sealed| sealed.carry.to_string()),
        customer: delivery.customer.as_deref(),
        tries: delivery.tries,
        next_try_at: delivery.next_try_at,
        reason: delivery.reason.as_ref().map(|reason| reason.code),
        reason_detail: delivery.reason.as_ref().map(|reason| reason.detail.as_str()),
        told_at: delivery.told_at,
        unsure_since: delivery.unsure_since,
        opened_at: batch.opened_at,
        sealed_at: sealed.map(|sealed| sealed.at),
        acknowledged_at: delivery.acknowledged_at,
    }
}

/// What a billing provider was told and will be, newest first.
#[utoipa::path(get, path = "/v1/admin/billing/batches", tag = "admin", params(BatchesQuery), responses((status = 200, body = BatchPage)))]
pub async fn list(call: Call) -> Answer {
    let asked: BatchesQuery = call.query()?;
    let limit = page::limit(asked.limit)?;
    let query = BatchQuery {
        workspace: asked.workspace_id,
        meter: asked.meter,
        state: asked.state,
        after: page::place(asked.cursor.as_deref(), place)?,
        limit: limit + 1,
    };
    let mut batches = flow::billing::list(&call.service, &query).await?;
    let next_cursor = page::cut(&mut batches, limit, |last| format!("{} {}", last.opened_at.micros(), last.id));
    ok(&BatchPage {
        data: batches.iter().map(out).collect(),
        next_cursor,
    })
}

fn place(text: &str) -> Option<(Timestamp, BatchId)> {
    let (at, id) = text.split_once(' ')?;
    Some((Timestamp::from_micros(at.parse().ok()?), BatchId::parse(id).ok()?))
}

fn id_of(call: &Call) -> Result<BatchId, Problem> {
    BatchId::parse(&call.path("id")).map_err(|_| Problem::not_found())
}

/// One batch.
#[utoipa::path(get, path = "/v1/admin/billing/batches/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 200, body = BatchOut)))]
pub async fn get(call: Call) -> Answer {
    let batch = flow::billing::find(&call.service, id_of(&call)?).await?;
    ok(&out(&batch))
}

/// Has a batch sent again that was rejected or could not be told, or sooner one that waits; forced, one that is `unknown` or `acknowledged`,
/// too. It is sent in the background. Say why in `X-Weir-Reason`: it stands in the audit log.
#[utoipa::path(post, path = "/v1/admin/billing/batches/{id}/resend", tag = "admin", params(("id" = String, Path)), request_body = ResendBody,
    responses((status = 200, body = BatchOut)))]
pub async fn resend(call: Call) -> Answer {
    let id = id_of(&call)?;
    let body: ResendBody = match call.body.is_empty() {
        true => ResendBody::default(),
        false => call.json()?,
    };
    let (service, by) = (call.service.clone(), call.by()?);
    let batch = durably(async move { flow::billing::resend(&service, id, body.force, &by).await }).await?;
    ok(&out(&batch))
}

/// Seals what is open now, the window that is not over too, and sends what can be sent now.
#[utoipa::path(post, path = "/v1/admin/billing/flush", tag = "admin", responses((status = 200, body = FlushAnswer)))]
pub async fn flush(call: Call) -> Answer {
    call.no_body_or_empty_object()?;
    let (service, by) = (call.service.clone(), call.by()?);
    let done = durably(async move { flow::billing::flush(&service, &by).await }).await?;
    ok(&FlushAnswer {
        collected: done.collected,
        sealed: done.sealed,
        acknowledged: done.acknowledged,
    })
}
