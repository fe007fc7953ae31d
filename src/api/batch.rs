//! `POST /v1/authorize/batch`: up to a hundred requests at once, each decided by itself and answered in order.

use super::ask::{AuthorizeRequest, request};
use super::authorize::{DecisionOut, cache_out, decision_out};
use super::call::{Answer, Call, ok};
use super::json;
use super::problem::{Problem, ProblemBody};
use crate::decision::id::RequestId;
use crate::flow;
use crate::flow::authorize::{Decision, Request};
use crate::flow::batch::REQUESTS_MAX;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The requests; each is what `POST /v1/authorize` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    #[schema(value_type = Vec<Object>)]
    requests: Vec<Value>,
}

/// What became of each request, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer<'a> {
    results: Vec<BatchResult<'a>>,
}

/// One decision, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult<'a> {
    /// 200 for a decision, be it a denial; else that of the problem.
    #[schema(example = 200)]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody>,
}

/// Decides up to 100 requests, each by itself: one that is refused or wrong leaves the others alone. Among requests of one workspace the
/// first comes first. `request_id` makes each repeatable; without one, and with an `Idempotency-Key`, it is `KEY/PLACE`, from 0.
#[utoipa::path(post, path = "/v1/authorize/batch", tag = "hot path",
    request_body = BatchRequest, responses((status = 200, description = "`results` in order.", body = BatchAnswer)))]
pub async fn batch(call: Call) -> Answer {
    let BatchRequest { requests } = call.json()?;
    if requests.is_empty() || requests.len() > REQUESTS_MAX {
        return Err(Problem::unacceptable(
            "/requests",
            format!("must have 1 to {REQUESTS_MAX} requests"),
        ));
    }
    let header = call.idempotency_key()?;
    let read = requests
        .into_iter()
        .enumerate()
        .map(|(place, item)| read(&call, header.as_ref(), place, item));
    let items: Vec<Result<Item, Problem>> = join_all(read).await;
    let (mut asked, mut caches, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item {
            Ok(item) => {
                asked.push(item.request);
                caches.push(item.caches);
                problems.push(None);
            }
            Err(problem) => problems.push(Some(problem)),
        }
    }
    let names: Vec<_> = asked
        .iter()
        .map(|request| (request.ask.request_id.clone(), request.ask.model.clone()))
        .collect();
    let decided = flow::batch::authorize_all(&call.service, asked).await;
    let decided: Vec<Result<Decision, Problem>> = decided.into_iter().map(|decided| decided.map_err(Problem::from)).collect();
    let mut answers = decided.iter().zip(&names).zip(caches);
    let results = problems.iter().filter_map(|problem| match problem {
        Some(problem) => Some(failed(&call, problem)),
        None => answers.next().map(|((decided, (request_id, requested)), caches)| match decided {
            Ok(decision) => BatchResult {
                status: 200,
                decision: Some(decision_out(decision, request_id, requested, cache_out(caches, decision))),
                error: None,
            },
            Err(problem) => failed(&call, problem),
        }),
    });
    ok(&BatchAnswer {
        results: results.collect(),
    })
}

struct Item {
    request: Request,
    caches: bool,
}

async fn read(call: &Call, header: Option<&RequestId>, place: usize, item: Value) -> Result<Item, Problem> {
    let body: AuthorizeRequest = json::from_value(item)?;
    let caches = body.cache.is_some();
    let key = |named: Option<RequestId>| match (named, header) {
        (Some(named), _) => Ok(named),
        (None, Some(header)) => {
            RequestId::parse(&format!("{header}/{place}")).map_err(|why| Problem::unacceptable_header("Idempotency-Key", why))
        }
        (None, None) => call.request_key(None),
    };
    let request = request(call, body, key, false).await?;
    Ok(Item { request, caches })
}

fn failed<'a>(call: &Call, problem: &Problem) -> BatchResult<'a> {
    BatchResult {
        status: problem.status().as_u16(),
        decision: None,
        error: Some(problem.body(&call.request)),
    }
}
