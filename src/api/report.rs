//! The fields with which a use is reported, shared by settle, usage and events.

use super::json::OpenObject;
use super::problem::Problem;
use crate::decision::amount::{Count, Ratio};
use crate::decision::ask::REQUESTS_MAX;
use crate::decision::entry::Outcome;
use crate::decision::id::{Feature, ModelId, UserId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::pointer;
use crate::decision::price::Mode;
use crate::decision::settlement::Report;
use crate::decision::time::Timestamp;
use crate::decision::usage::{self, UsageFormat};
use crate::decision::value;
use crate::flow::settle::Described;
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

const PROVIDER_REQUEST_ID_CHARS_MAX: usize = 255;
const OUTCOMES_MAX: usize = 32;

/// What a settle reports.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"usage": {"input_tokens": 4521, "output_tokens": 387}, "outcome": "success", "latency_ms": 1842}))]
pub struct SettleRequest {
    /// The model that really ran; absent: the authorized one.
    #[schema(value_type = Option<String>, example = "claude-haiku-4-5-20251001")]
    pub model: Option<ModelId>,
    /// A provider's own usage object, or Weir's.
    #[schema(value_type = Object)]
    pub usage: OpenObject,
    /// Forces how `usage` is read; absent: its shape tells.
    #[schema(value_type = Option<String>, example = "anthropic")]
    pub usage_format: Option<UsageFormat>,
    pub mode: Option<Mode>,
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100000)]
    pub requests: Option<Count>,
    pub outcome: Option<ReportedOutcome>,
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub latency_ms: Option<Count>,
    #[schema(max_length = 255)]
    pub provider_request_id: Option<String>,
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1)]
    pub quality_score: Option<Ratio>,
    /// What the request cost beside tokens; part of the entry's cost.
    #[schema(value_type = Option<String>, example = "0.010000000")]
    pub other_cost_usd: Option<Usd>,
    #[schema(value_type = Option<Object>)]
    pub billable_outcomes: Option<OpenObject>,
    /// False: a stream's checkpoint, `usage` is its running total.
    #[serde(rename = "final")]
    pub is_final: Option<bool>,
    #[schema(value_type = Option<String>)]
    pub workspace_id: Option<WorkspaceId>,
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub occurred_at: Option<Timestamp>,
    /// Kept for requests like the one that was authorized, if it asked the cache, succeeded, and is settled in time. Of at most 256 KiB, compressed.
    #[schema(value_type = Option<Object>)]
    pub cache_store: Option<CacheStore>,
}

/// An answer to keep for equal requests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheStore {
    #[schema(value_type = Object)]
    pub response: OpenObject,
}

/// How a request ended, as callers may report it.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportedOutcome {
    Success,
    Error,
    Cancelled,
}

impl From<ReportedOutcome> for Outcome {
    fn from(outcome: ReportedOutcome) -> Self {
        match outcome {
            ReportedOutcome::Success => Outcome::Success,
            ReportedOutcome::Error => Outcome::Error,
            ReportedOutcome::Cancelled => Outcome::Cancelled,
        }
    }
}

/// The parts of a report, from whichever body they came.
pub struct Parts<'a> {
    pub model: Option<&'a ModelId>,
    pub usage: &'a OpenObject,
    pub usage_format: Option<UsageFormat>,
    pub mode: Option<Mode>,
    pub requests: Option<Count>,
    pub outcome: Option<ReportedOutcome>,
    pub latency_ms: Option<Count>,
    pub provider_request_id: Option<&'a str>,
    pub quality_score: Option<Ratio>,
    pub other_cost_usd: Option<Usd>,
    pub billable_outcomes: Option<&'a OpenObject>,
}

impl SettleRequest {
    pub fn report(&self) -> Result<Report, Problem> {
        Parts {
            model: self.model.as_ref(),
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
        }
        .report()
    }

    pub fn described(&self) -> Described {
        Described {
            workspace: self.workspace_id.clone(),
            user: self.user_id.clone(),
            feature: self.feature.clone(),
            occurred_at: self.occurred_at,
            response: self.cache_store.as_ref().map(|store| store.response.to_string()),
        }
    }
}

impl Parts<'_> {
    pub fn report(&self) -> Result<Report, Problem> {
        let usage = usage::read(self.usage, self.usage_format).map_err(|unreadable| Problem::usage_unreadable(&unreadable))?;
        if let Some(requests) = self.requests
            && !(1..=REQUESTS_MAX).contains(&requests.get())
        {
            return Err(Problem::unacceptable("/requests", format!("must be from 1 to {REQUESTS_MAX}")));
        }
        if self.other_cost_usd.is_some_and(|cost| cost < Usd::ZERO || cost > Usd::ENTRY_MAX) {
            return Err(Problem::unacceptable("/other_cost_usd", "must be from 0 to 1000000"));
        }
        let id = self.provider_request_id;
        if id.is_some_and(|id| id.chars().count() > PROVIDER_REQUEST_ID_CHARS_MAX || id.chars().any(char::is_control)) {
            let detail = format!("must have at most {PROVIDER_REQUEST_ID_CHARS_MAX} printable characters");
            return Err(Problem::unacceptable("/provider_request_id", detail));
        }
        Ok(Report {
            model: self.model.cloned(),
            usage,
            mode: self.mode,
            requests: self.requests.map(Count::get),
            outcome: self.outcome.map(Outcome::from).unwrap_or_default(),
            latency_ms: self.latency_ms.map(Count::get),
            provider_request_id: self.provider_request_id.map(str::to_owned),
            quality_score: self.quality_score,
            other_cost_usd: self.other_cost_usd,
            billable_outcomes: self.outcomes()?,
        })
    }

    fn outcomes(&self) -> Result<BTreeMap<String, i64>, Problem> {
        let Some(given) = self.billable_outcomes else {
            return Ok(BTreeMap::new());
        };
        if given.len() > OUTCOMES_MAX {
            return Err(Problem::unacceptable(
                "/billable_outcomes",
                format!("may have at most {OUTCOMES_MAX} members"),
            ));
        }
        let one = |(name, count): (&String, &serde_json::Value)| {
            let pointer = pointer::member("/billable_outcomes", name);
            Feature::parse(name).map_err(|why| Problem::unacceptable(&pointer, format!("its name {why}")))?;
            let count = Count::deserialize(count).map_err(|error| {
                let text = error.to_string();
                match text.strip_prefix(value::UNACCEPTABLE) {
                    Some(why) => Problem::unacceptable(&pointer, why.to_owned()),
                    None => Problem::malformed(&pointer, text),
                }
            })?;
            Ok((name.clone(), count.get()))
        };
        given.iter().map(one).collect()
    }
}
