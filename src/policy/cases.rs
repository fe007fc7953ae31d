//! Golden cases of a policy: example requests, and what shall be decided. The files are `policies/tests/*.yaml`; `weir policy test` runs them.
//!
//! `workspace` and `request` are the bodies that the API takes, which checks them; everything else here refuses unknown fields. Nothing that
//! `expect` does not name is compared. Never runs anything: see `cli/policy/golden.rs`.

use super::document::Limit;
use super::files::{self, FileProblem};
use super::read;
use super::yaml::{self, Place};
use crate::decision::id::BudgetId;
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The most cases of a file.
pub const CASES_MAX: usize = 1_000;

/// A file of cases.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `cases`")]
pub struct CasesFile {
    pub cases: Vec<Case>,
}

/// One request of one workspace at one moment, and what shall come of it.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a case as a mapping")]
pub struct Case {
    /// A sentence that says what shall be so.
    pub name: String,
    /// When it is asked, as RFC 3339.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// As `PUT /v1/admin/workspaces/{id}` takes it: plan_id, seats, status, overrides and so on.
    #[serde(default)]
    pub workspace: Map<String, Value>,
    /// What is spent already, by budget. Budgets over the same use have the same.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Limit>")]
    pub spent: BTreeMap<BudgetId, Limit>,
    /// What other requests hold, by budget, for another ten minutes.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Limit>")]
    pub held: BTreeMap<BudgetId, Limit>,
    /// As `POST /v1/authorize` takes it, without `workspace_id`.
    pub request: Map<String, Value>,
    pub expect: Expect,
}

/// What of the answer is compared.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "what is expected as a mapping")]
pub struct Expect {
    /// The HTTP status; absent: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// allow, deny or cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Of a denial, or of a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<String>,
    /// All of them, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// The codes of all reasons, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<String>>,
    /// The codes of all reasons of shadow budgets, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_reasons: Option<Vec<String>>,
    /// Of the first reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_id: Option<String>,
    /// Of the first reason: spent, held, rate or policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// Of the first reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// tokens, usd, requests, credits: those that are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Map<String, Value>>,
    /// By budget id; of each what is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budgets: Option<BTreeMap<String, Map<String, Value>>>,
}

/// A value that is not what was expected.
#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    pub field: String,
    pub expected: Value,
    pub got: Value,
}

/// Reads a file; the cases come with the places at which they begin.
pub fn load(path: &Path) -> Result<Vec<(Place, Case)>, Vec<FileProblem>> {
    let text = files::read_file(path).map_err(|detail| vec![problem(path, Place::START, detail)])?;
    parse(&text).map_err(|found| found.into_iter().map(|(place, detail)| problem(path, place, detail)).collect())
}

fn problem(path: &Path, place: Place, detail: String) -> FileProblem {
    FileProblem {
        file: path.display().to_string(),
        place,
        detail,
    }
}

/// What is wrong with a file, each thing with its place.
type Wrong = Vec<(Place, String)>;

fn parse(text: &str) -> Result<Vec<(Place, Case)>, Wrong> {
    let node = yaml::parse(text).map_err(|unreadable| vec![(unreadable.place, unreadable.detail)])?;
    let told = |pointer: &str, detail: String| {
        let (value, key) = node.find(pointer);
        (key.unwrap_or(value), detail)
    };
    let file: CasesFile = read::read(&node.to_value()).map_err(|problems| {
        let found = problems.into_iter().map(|problem| told(&problem.pointer, problem.detail));
        found.collect::<Vec<_>>()
    })?;
    let mut found = Vec::new();
    if file.cases.len() > CASES_MAX {
        found.push(told("/cases", format!("a file has at most {CASES_MAX} cases")));
    }
    let mut names = BTreeSet::new();
    for (n, case) in file.cases.iter().enumerate() {
        if !names.insert(case.name.as_str()) {
            found.push(told(&format!("/cases/{n}/name"), format!("there are two cases {:?}", case.name)));
        }
        if case.expect == Expect::default() {
            found.push(told(
                &format!("/cases/{n}/expect"),
                "a case that expects nothing says nothing".to_owned(),
            ));
        }
        if case.request.contains_key("workspace_id") {
            found.push(told(
                &format!("/cases/{n}/request/workspace_id"),
                "a case has a workspace of its own".to_owned(),
            ));
        }
    }
    if !found.is_empty() {
        return Err(found);
    }
    let placed = |(n, case)| (node.find(&format!("/cases/{n}")).0, case);
    Ok(file.cases.into_iter().enumerate().map(placed).collect())
}

impl Expect {
    /// What of an answer is not as expected, in the order of the fields.
    pub fn differences(&self, status: u16, answer: &Value) -> Vec<Difference> {
        let expected = serde_json::to_value(self).unwrap_or_default();
        let mut found = Vec::new();
        let wanted = self.status.unwrap_or(200);
        if wanted != status {
            tell(&mut found, "status".to_owned(), &json!(wanted), &json!(status));
        }
        for (field, value) in expected.as_object().into_iter().flatten() {
            match field.as_str() {
                "status" => {}
                "held" | "budgets" => members(&mut found, field, value, &part(field, answer)),
                _ => tell(&mut found, field.clone(), value, &part(field, answer)),
            }
        }
        found
    }
}

/// The part of an answer that a field of [`Expect`] is compared with.
fn part(field: &str, answer: &Value) -> Value {
    let codes = |list: &Value| -> Value { list.as_array().into_iter().flatten().map(|reason| reason["code"].clone()).collect() };
    match field {
        "reasons" | "shadow_reasons" => codes(&answer[field]),
        "budget_id" | "blocked_by" | "retry_after_seconds" => answer["reasons"][0][field].clone(),
        "budgets" => {
            let budgets = answer["budgets"].as_array().into_iter().flatten();
            let named = budgets.filter_map(|budget| Some((budget["budget_id"].as_str()?.to_owned(), budget.clone())));
            Value::Object(named.collect())
        }
        _ => answer[field].clone(),
    }
}

fn members(found: &mut Vec<Difference>, field: &str, expected: &Value, got: &Value) {
    for (name, expected) in expected.as_object().into_iter().flatten() {
        let field = format!("{field}.{name}");
        match (expected, &got[name]) {
            (Value::Object(_), got @ Value::Object(_)) => members(found, &field, expected, got),
            (expected, got) => tell(found, field, expected, got),
        }
    }
}

fn tell(found: &mut Vec<Difference>, field: String, expected: &Value, got: &Value) {
    if !are_equal(expected, got) {
        found.push(Difference {
            field,
            expected: expected.clone(),
            got: got.clone(),
        });
    }
}

/// Amounts of money are equal however many zeros they end with.
fn are_equal(a: &Value, b: &Value) -> bool {
    let usd = |value: &Value| value.as_str().and_then(|text| Usd::parse(text).ok());
    a == b || matches!((usd(a), usd(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str =
        "cases:\n  - name: it is so\n    at: \"2025-11-21T10:00:00Z\"\n    request: {feature: faq}\n    expect: {decision: allow}\n";

    #[test]
    fn a_file_is_read_with_the_places_of_its_cases() {
        let cases = parse(CASE).expect("good");
        assert_eq!((cases[0].0.line, cases[0].1.name.as_str()), (2, "it is so"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_place() {
        for (text, expected) in [
            ("cases: {", "1:"),
            ("case: []", "1:1: unknown field `case`; did you mean `cases`?"),
            (
                &CASE.replace("decision: allow", "decison: allow"),
                "5:14: unknown field `decison`; did you mean `decision`?",
            ),
            (
                &CASE.replace("decision: allow", ""),
                "5:5: a case that expects nothing says nothing",
            ),
            (
                &CASE.replace("feature: faq", "workspace_id: x"),
                "4:15: a case has a workspace of its own",
            ),
            (&CASE.replace("2025-11-21T", "2025-21-11T"), "3:5: "),
            (
                &CASE.replace("    request:", "    spend: {tokens: 5}\n    request:"),
                "4:5: unknown field `spend`; did you mean `spent`?",
            ),
            (&format!("{CASE}{}", &CASE[7..]), "6:5: there are two cases \"it is so\""),
        ] {
            let found = parse(text).expect_err(text);
            let told: Vec<String> = found
                .iter()
                .map(|(place, detail)| format!("{}:{}: {detail}", place.line, place.column))
                .collect();
            assert!(told.iter().any(|told| told.starts_with(expected)), "{expected}: {told:?}");
        }
    }

    #[test]
    fn only_what_is_expected_is_compared() {
        let answer = json!({"decision": "deny", "code": "x", "reasons": [{"code": "x", "budget_id": "b", "blocked_by": "held"}, {"code": "y"}],
            "held": {"tokens": 5, "usd": "0.500000000"}, "budgets": [{"budget_id": "b", "spent": 3, "state": "ok"}]});
        let differences = |expect: Value| -> Vec<String> {
            let expect: Expect = serde_json::from_value(expect).expect("an expectation");
            let told = |difference: Difference| format!("{} {} {}", difference.field, difference.expected, difference.got);
            expect.differences(200, &answer).into_iter().map(told).collect()
        };
        let good = json!({"decision": "deny", "reasons": ["x", "y"], "budget_id": "b", "blocked_by": "held", "held": {"usd": "0.5"},
            "budgets": {"b": {"spent": 3}}});
        assert_eq!(differences(good), Vec::<String>::new());
        let bad = json!({"status": 422, "decision": "allow", "reasons": ["x"], "held": {"tokens": 6}, "budgets": {"b": {"spent": 4}, "c": {"spent": 0}}});
        let told = [
            "status 422 200",
            "decision \"allow\" \"deny\"",
            "reasons [\"x\"] [\"x\",\"y\"]",
            "held.tokens 6 5",
            "budgets.b.spent 4 3",
            "budgets.c {\"spent\":0} null",
        ];
        assert_eq!(differences(bad), told);
    }
}
