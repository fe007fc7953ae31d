//! A service that runs, asked over HTTP what its counters say.

use super::Failure;
use crate::decision::amount::Unit;
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::WorkspaceId;
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

/// A running service.
pub(super) struct Service {
    client: Client,
    url: Url,
    token: String,
}

/// Nobody answers.
#[derive(Debug, thiserror::Error)]
#[error("no service answers at {0}")]
struct Away(String, #[source] reqwest::Error);

/// The budgets of one workspace, or of one user of it, as the service shows them.
#[derive(Default)]
pub(super) struct Budgets(Vec<Budget>);

#[derive(Deserialize)]
struct Usage {
    budgets: Vec<Budget>,
}

#[derive(Deserialize)]
struct Budget {
    scope: String,
    feature: Option<String>,
    unit: String,
    period: Period,
    spent: Value,
}

#[derive(Deserialize)]
struct Period {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Service {
    pub(super) fn new(url: &str, token: String) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::builder().no_proxy().build()?,
            url: Url::parse(url).map_err(|why| format!("{url} is no address such as http://127.0.0.1:8080: {why}"))?,
            token,
        })
    }

    /// What a path answers; `None`: nothing of that name is known there.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Option<Value>, Failure> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        let asked = self.client.get(url).bearer_auth(&self.token).send().await;
        let answer = asked.map_err(|error| Away(self.url.to_string(), error.without_url()))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let problem: Value = answer.json().await.unwrap_or_default();
                let why = problem["detail"].as_str().unwrap_or("it does not say why");
                Err(format!("the service at {} refuses the credential: {why}", self.url).into())
            }
            _ => Ok(Some(answer.error_for_status()?.json().await?)),
        }
    }

    pub(super) async fn budgets(&self, workspace: &WorkspaceId, whose: &Whose) -> Result<Budgets, Failure> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(["v1", "workspaces", workspace.as_str(), "usage"]);
        }
        if let Whose::User(Some(user)) = whose {
            url.query_pairs_mut().append_pair("user_id", user.as_str());
        }
        let answer = self.client.get(url).bearer_auth(&self.token).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(Budgets::default());
        }
        let usage: Usage = answer.error_for_status()?.json().await?;
        Ok(Budgets(usage.budgets))
    }
}

impl Budgets {
    /// What the budget over `counter` has spent; `None`: no budget counts it now.
    pub(super) fn spent(&self, counter: &Counter) -> Option<i64> {
        let scope = match counter.whose {
            Whose::Workspace => "workspace",
            Whose::User(_) => "user",
        };
        let endless = counter.period.end == Timestamp::MAX;
        let period = |period: &Period| match endless {
            true => period.end.is_none(),
            false => period.start == Some(counter.period.start) && period.end == Some(counter.period.end),
        };
        let found = self.0.iter().find(|budget| {
            budget.scope == scope
                && budget.feature.as_deref() == counter.feature.as_ref().map(|feature| feature.as_str())
                && budget.unit == counter.unit.as_str()
                && period(&budget.period)
        })?;
        match counter.unit {
            Unit::Usd => Usd::parse(found.spent.as_str()?).ok().map(Usd::nanos),
            _ => found.spent.as_i64(),
        }
    }
}
