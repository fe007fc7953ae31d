//! `POST /v1/usage`: usage that was not authorized first, one by one or up to a thousand at once.

use super::ask::tags;
use super::call::{Answer, Call, ok};
use super::json::{self, OpenObject};
use super::problem::{Problem, ProblemBody};
use super::report::{Parts, ReportedOutcome};
use super::reservations::durably;
use super::wire::{BudgetOut, EntryOut, budgets};
use crate::decision::amount::{Count, Ratio};
use crate::decision::id::{Feature, ModelId, RequestId, UserId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::price::Mode;
use crate::decision::time::Timestamp;
use crate::decision::usage::UsageFormat;
use crate::flow;
use crate::flow::record::{Recorded, Use};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The most entries of one call.
pub const ENTRIES_MAX: usize = 1_000;

/// One use.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"workspace_id": "ws_456", "feature": "nightly_report", "model": "gpt-4o-mini", "request_id": "job-7/3",
    "usage": {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}}))]
pub struct UsageRequest {
    /// May be absent where the credential is bound to a workspace.
    #[schema(value_type = Option<String>)]
    pub workspace_id: Option<WorkspaceId>,
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    #[schema(value_type = String)]
    pub feature: Feature,
    #[schema(value_type = String)]
    pub model: ModelId,
    /// Unique in its workspace: the same use under the same id is recorded once.
    #[schema(value_type = String, max_length = 255)]
    pub request_id: RequestId,
    #[schema(value_type = Object)]
    pub usage: OpenObject,
    #[schema(value_type = Option<String>)]
    pub usage_format: Option<UsageFormat>,
    pub mode: Option<Mode>,
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100000)]
    pub requests: Option<Count>,
    pub outcome: Option<ReportedOutcome>,
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub latency_ms: Option<Count>,
    pub provider_request_id: Option<String>,
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1)]
    pub quality_score: Option<Ratio>,
    #[schema(value_type = Option<String>)]
    pub other_cost_usd: Option<Usd>,
    #[schema(value_type = Option<Object>)]
    pub billable_outcomes: Option<OpenObject>,
    #[schema(value_type = Option<Object>)]
    pub tags: Option<OpenObject>,
    /// At most 35 days ago and 5 minutes ahead; absent: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub occurred_at: Option<Timestamp>,
}

impl UsageRequest {
    pub(super) fn into_use(self, call: &Call) -> Result<Use, Problem> {
        let parts = Parts {
            model: Some(&self.model),
            usage: &self.usage,
            usage_format: self.usage_format,
            mode: self.mode,
            requests: self.requests,
            outcome: self.outcome,
            latency_ms: self.latency_ms,
            provider_request_id: self.provider_request_id.as_deref(),
            quality_score: self.quality_score,
            other_cost_usd: self.other_cost_usd,
            billable_outcomes: self.billable_outcomes.as_ref(),
        };
        let report = parts.report()?;
        Ok(Use {
            workspace: call.workspace(self.workspace_id)?,
            user: self.user_id,
            feature: self.feature,
            model: self.model,
            request_id: self.request_id,
            occurred_at: self.occurred_at,
            tags: tags(self.tags.as_ref())?,
            report,
        })
    }
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    Recorded,
    Duplicate,
    Conflict,
    Error,
}

impl From<&Recorded> for RecordStatus {
    fn from(recorded: &Recorded) -> Self {
        if recorded.duplicate {
            RecordStatus::Duplicate
        } else {
            RecordStatus::Recorded
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RecordAnswer<'a> {
    status: RecordStatus,
    entry: EntryOut<'a>,
    budgets: Vec<BudgetOut<'a>>,
}

/// What became of each entry, in order. Good ones are kept when others fail.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageBatchAnswer<'a> {
    results: Vec<UsageResult<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UsageResult<'a> {
    status: RecordStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<ProblemBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    entries: Vec<Value>,
}

/// Records usage that happened without an authorize.
#[utoipa::path(post, path = "/v1/usage", tag = "hot path",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same request under the same key is answered alike for a day.")),
    request_body = UsageRequest,
    responses((status = 200, description = "`status` is recorded or duplicate; for `entries`, `results` in order.", body = RecordAnswer)))]
pub async fn usage(call: Call) -> Answer {
    let body: OpenObject = call.json()?;
    if body.contains_key("entries") {
        let batch: Batch = json::from_value(Value::Object(body.into_inner()))?;
        return many(&call, batch.entries).await;
    }
    call.single()?;
    let usage = json::from_value::<UsageRequest>(Value::Object(body.into_inner()))?.into_use(&call)?;
    one(&call, usage).await
}

pub(super) async fn one(call: &Call, usage: Use) -> Answer {
    let service = call.service.clone();
    let recorded = durably(async move { flow::record::record(&service, &usage).await }).await?;
    ok(&RecordAnswer {
        status: (&recorded).into(),
        entry: (&recorded.entry).into(),
        budgets: budgets(&recorded.budgets),
    })
}

async fn many(call: &Call, entries: Vec<Value>) -> Answer {
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return Err(Problem::unacceptable("/entries", format!("must have 1 to {ENTRIES_MAX} entries")));
    }
    let parsed = entries
        .into_iter()
        .map(|entry| json::from_value::<UsageRequest>(entry)?.into_use(call));
    batch(call, parsed.collect()).await
}

/// Records several uses at once; they share commits.
pub(super) async fn batch(call: &Call, uses: Vec<Result<Use, Problem>>) -> Answer {
    let service = call.service.clone();
    // Polled in order, so of two entries with one request id the first is the one that is recorded.
    let work = async move {
        let one = |usage: Result<Use, Problem>| async {
            match usage {
                Ok(usage) => flow::record::record(&service, &usage).await.map_err(Problem::from),
                Err(problem) => Err(problem),
            }
        };
        Ok(join_all(uses.into_iter().map(one)).await)
    };
    let done: Vec<Result<Recorded, Problem>> = durably(work).await?;
    let result = |result: &'_ Result<Recorded, Problem>| -> (RecordStatus, Option<ProblemBody>) {
        match result {
            Ok(recorded) => (recorded.into(), None),
            Err(problem) if problem.code() == "usage_conflict" => (RecordStatus::Conflict, Some(problem.body(&call.request))),
            Err(problem) => (RecordStatus::Error, Some(problem.body(&call.request))),
        }
    };
    let results = done.iter().map(|recorded| {
        let (status, error) = result(recorded);
        UsageResult {
            status,
            entry: recorded.as_ref().ok().map(|recorded| (&recorded.entry).into()),
            error,
        }
    });
    ok(&UsageBatchAnswer {
        results: results.collect(),
    })
}
