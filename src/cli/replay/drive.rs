//! The caller's side of a replay: authorize, settle, and keep the books that the service is then held to.

use super::spread::Drawn;
use super::summary::Summary;
use super::trace::Traced;
use crate::decision::money::Usd;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A service and a credential for it.
pub struct Target {
    client: Client,
    url: String,
    token: String,
    /// Tells the workspaces and request ids of this run from others.
    run: String,
    /// What was settled, by workspace: tokens, nano-dollars.
    books: Mutex<HashMap<usize, (i64, i64)>>,
}

impl Target {
    pub fn new(url: &str, token: String, run: String) -> Result<Self, String> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            token,
            run,
            books: Mutex::default(),
        })
    }

    fn workspace(&self, number: usize) -> String {
        format!("replay-{}-{number}", self.run)
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), String> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| format!("{path}: {error}"))?;
        let status = response.status();
        let body = response
            .json()
            .await
            .map_err(|error| format!("{path}: {status}, and a body that is no JSON: {error}"))?;
        Ok((status, body))
    }

    /// Puts the workspaces on plans, the heaviest user on the largest. With a credential that may not, they stay on the default plan.
    pub async fn prepare(&self, workspaces: usize, plans: &[&str]) -> Result<(), String> {
        for number in 0..workspaces {
            let plan = plans[(number * plans.len() / workspaces).min(plans.len() - 1)];
            let path = format!("/v1/admin/workspaces/{}", self.workspace(number));
            let (status, body) = self
                .call(reqwest::Method::PUT, &path, Some(&json!({"plan_id": plan, "seats": 10})))
                .await?;
            match status {
                StatusCode::OK | StatusCode::CREATED => {}
                StatusCode::FORBIDDEN => {
                    eprintln!("the credential may not set plans: all workspaces stay on the default plan");
                    return Ok(());
                }
                StatusCode::UNPROCESSABLE_ENTITY => eprintln!(
                    "plan {plan} is not known here: {} stays on the default plan",
                    self.workspace(number)
                ),
                status => return Err(format!("{path}: {status}: {body}")),
            }
        }
        Ok(())
    }

    /// One request: asked, and settled if allowed.
    pub async fn one(&self, number: usize, request: &Traced, who: &Drawn, summary: &mut Summary) {
        summary.requests += 1;
        let ask = json!({
            "workspace_id": self.workspace(who.workspace), "user_id": format!("user-{}", who.user), "feature": who.feature, "model": who.model,
            "request_id": format!("{}/{number}", self.run), "input_tokens": request.input_tokens,
        });
        let began = Instant::now();
        let (status, decision) = match self.call(reqwest::Method::POST, "/v1/authorize", Some(&ask)).await {
            Ok(answer) => answer,
            Err(error) => return summary.fail(error),
        };
        summary.authorize.push(began.elapsed());
        if status != StatusCode::OK {
            return summary.fail(format!("authorize {number}: {status}: {decision}"));
        }
        if decision["decision"] != "allow" {
            let code = decision["code"].as_str().unwrap_or("?");
            return summary.count(format!("deny {code}"));
        }
        summary.count("allow");
        let actions = decision["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
        actions
            .iter()
            .filter_map(Value::as_str)
            .for_each(|action| summary.count(format!("  {action}")));
        // A provider stops at the length that was allowed.
        let allowed = decision["max_output_tokens"].as_i64().unwrap_or(0);
        summary.estimates.push((allowed, request.output_tokens));
        let usage = json!({"input_tokens": request.input_tokens, "output_tokens": request.output_tokens});
        let id = decision["reservation_id"].as_str().unwrap_or_default();
        let downgraded = actions.iter().any(|action| action == "downgrade");
        self.settle(
            id,
            &json!({"usage": usage, "outcome": "success"}),
            who.workspace,
            downgraded,
            summary,
        )
        .await;
    }

    async fn settle(&self, id: &str, report: &Value, workspace: usize, downgraded: bool, summary: &mut Summary) {
        let began = Instant::now();
        let (status, settled) = match self
            .call(reqwest::Method::POST, &format!("/v1/reservations/{id}/settle"), Some(report))
            .await
        {
            Ok(answer) => answer,
            Err(error) => return summary.fail(error),
        };
        summary.settle.push(began.elapsed());
        let entry = &settled["entry"];
        let usd = |name: &str| entry[name].as_str().and_then(|text| Usd::parse(text).ok()).map(Usd::nanos);
        let (Some(tokens), Some(cost)) = (entry["counted"]["tokens"].as_i64(), usd("cost_usd")) else {
            return summary.fail(format!("settle {id}: {status}: {settled}"));
        };
        summary.settled += 1;
        summary.tokens += tokens;
        summary.cost += cost;
        summary.late += u64::from(settled["late"] == true);
        if downgraded {
            summary.saved_by_downgrade += usd("list_cost_usd").unwrap_or(cost) - cost;
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let book = books.entry(workspace).or_default();
        book.0 += tokens;
        book.1 += cost;
    }

    /// Holds the counters of every workspace to what its settlements sum up to: each budget over all features for a month or longer.
    pub async fn check(&self, summary: &mut Summary) {
        let books = std::mem::take(&mut *self.books.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, (tokens, cost)) in books {
            let workspace = self.workspace(number);
            let usage = match self
                .call(reqwest::Method::GET, &format!("/v1/workspaces/{workspace}/usage"), None)
                .await
            {
                Ok((StatusCode::OK, usage)) => usage,
                Ok((status, body)) => {
                    summary.fail(format!("usage of {workspace}: {status}: {body}"));
                    continue;
                }
                Err(error) => {
                    summary.fail(error);
                    continue;
                }
            };
            let differences = differences(&usage, tokens, cost);
            match differences.is_empty() {
                true => summary.agree += 1,
                false => summary.disagree.push(format!("{workspace}: {}", differences.join(", "))),
            }
        }
    }
}

/// The budgets of a usage answer that ought to have counted everything, and have not.
fn differences(usage: &Value, tokens: i64, cost: i64) -> Vec<String> {
    let budgets = usage["budgets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let covers_all = |budget: &&Value| {
        let long = budget["period"]["start"]
            .as_str()
            .is_none_or(|start| start.contains("-01T00:00:00"));
        budget["feature"].is_null() && budget["scope"] == "workspace" && long
    };
    let difference = |budget: &Value| {
        let (spent, expected) = match budget["unit"].as_str()? {
            "tokens" => (budget["spent"].as_i64()?, tokens),
            "usd" => (Usd::parse(budget["spent"].as_str()?).ok()?.nanos(), cost),
            _ => return None,
        };
        (spent != expected).then(|| format!("{} has {spent}, settled were {expected}", budget["budget_id"]))
    };
    budgets.iter().filter(covers_all).filter_map(difference).collect()
}
