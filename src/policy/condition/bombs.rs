//! Conditions that are made to cost as much as they may, against the largest requests that the API lets in.

use super::compile;
use crate::decision::ask::Ask;
use crate::decision::id::{Feature, ModelId, PlanId, RequestId, WorkspaceId};
use crate::decision::price::Mode;
use crate::decision::route::{LlmTier, RouteFacts, RouteRule, Routed, Routing, Target};
use crate::decision::time::Timestamp;
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// As many attributes as may be, as long as they may be.
fn attributes() -> Map<String, Value> {
    (0..32).map(|n| (format!("a{n}"), Value::from("a".repeat(1_024)))).collect()
}

fn route(text: &str) -> Routed {
    let condition = compile(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
    let rule = RouteRule {
        name: "bomb".into(),
        when: condition,
        target: Target::Mode(Mode::Batch),
        overrides_named: false,
        shadow: false,
        escalation: None,
    };
    let routing = Routing {
        rules: vec![rule],
        default_model: None,
    };
    let ask = Ask {
        workspace: WorkspaceId::parse("ws").expect("an id"),
        user: None,
        feature: Feature::parse("faq").expect("an id"),
        model: ModelId::parse("auto").expect("an id"),
        request_id: RequestId::parse("r").expect("an id"),
        input_tokens: 1,
        input_tokens_estimated: false,
        max_output_tokens: None,
        min_output_tokens: None,
        mode: Mode::Interactive,
        allow_batch: false,
        requests: 1,
        hold_seconds: None,
        exclude_providers: Vec::new(),
        tags: (0..16).map(|n| (format!("{n}").repeat(64), "t".repeat(128))).collect(),
    };
    let plan = PlanId::parse("pro").expect("an id");
    let facts = RouteFacts {
        ask: &ask,
        attributes: &attributes(),
        seats: 1,
        tags: &ask.tags,
        plan: &plan,
        may_defer: true,
        max_delay_seconds: None,
        weak_suffices: Some(0.5),
        llm: LlmTier::Unknown,
        budgets: &[],
        now: Timestamp::from_micros(0),
    };
    routing.route(&facts, None)
}

#[test]
fn the_costliest_conditions_on_the_largest_requests_end_soon() {
    let all = |part: &str, times: usize, with: &str| vec![part; times].join(with);
    let bombs = [
        // Patterns that take exponential time where a matcher goes back.
        all("request.attributes.a0.matches('((a*)*)*b$')", 14, " || "),
        all("request.attributes.a0.matches('^(a|aa|a?)+b$')", 14, " || "),
        all("request.attributes.a0.matches('(.*)(.*)(.*)(.*)(.*)(.*)x')", 14, " || "),
        // Texts that grow.
        format!("({}).contains('b')", all("request.attributes.a0", 24, " + ")),
        format!(
            "request.attributes.exists(k, ({}).contains('b'))",
            all("request.attributes[k]", 24, " + ")
        ),
        format!(
            "[{}].exists(x, (x + x + x + x + x + x).contains('b'))",
            all("request.attributes.a1", 30, ", ")
        ),
        // Lists and maps that are made anew in each round.
        format!(
            "request.attributes.exists(k, [{}].size() == 0)",
            all("request.attributes", 30, ", ")
        ),
        format!(
            "request.attributes.exists(k, {{{}}} == request.tags)",
            (0..20).map(|n| format!("{n}: request.attributes")).collect::<Vec<_>>().join(", ")
        ),
        "request.attributes.map(k, request.attributes[k]) == request.attributes.map(k, request.attributes[k] + 'x')".to_owned(),
        "request.attributes.all(k, request.attributes == request.attributes) && request.tags.all(k, request.tags != request.attributes)"
            .to_owned(),
    ];
    for bomb in bombs {
        let begun = Instant::now();
        let routed = route(&bomb);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} for {bomb}");
        assert!(routed.rule.is_none() || routed.mode.is_some());
    }
}

#[test]
fn work_that_multiplies_is_refused_before_it_is_done() {
    for bomb in [
        "request.attributes.exists(k, request.attributes[k].matches('(a|aa)+b'))".to_owned()
            + &" || request.feature.matches('a+b')".repeat(20),
        "request.attributes.all(a, request.attributes.all(b, a != b))".to_owned(),
        "request.attributes.map(a, a + a).map(b, b + b).size() > 0".to_owned(),
        format!(
            "request.attributes.exists(k, {})",
            vec!["request.attributes[k].size() > 1"; 60].join(" && ")
        ),
    ] {
        assert!(compile(&bomb).is_err(), "{bomb}");
    }
}
