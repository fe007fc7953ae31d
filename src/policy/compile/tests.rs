//! What documents become. What they must not say is in the tables of `files`.

use super::*;
use crate::decision::amount::{Amounts, Ratio};
use crate::decision::id::{Feature, ModelId};
use crate::decision::money::Usd;
use crate::decision::plan::{AtHard, Scope};
use crate::decision::price::{Mode, Price, Rate, Rates};
use crate::decision::pricing::PricingModel;
use crate::decision::route::Target;
use crate::decision::time::Timestamp;
use crate::decision::usage::Pools;
use crate::policy::document::{ModelDocument, PlanDocument, RoutingDocument};
use crate::policy::read::read;
use serde_json::{Value, json};

fn model(fields: Value) -> ModelDocument {
    let mut model = json!({"id": "m", "provider": "p", "tier": "fast"});
    for (name, value) in fields.as_object().expect("fields") {
        model[name] = value.clone();
    }
    read(&model).expect("a model")
}

fn documents(models: Vec<ModelDocument>, plans: Vec<Value>) -> Documents {
    Documents {
        models: models.into_iter().map(|model| (1, model)).collect(),
        plans: plans.iter().map(|plan| (4, read::<PlanDocument>(plan).expect("a plan"))).collect(),
        ..Documents::default()
    }
}

fn price_of(price: Value) -> Arc<Price> {
    let compiled = compile(&documents(vec![model(json!({"prices": [price]}))], vec![])).expect("good");
    compiled.catalogue.get("m").expect("the model").prices[0].clone()
}

fn rates(usd: [&str; 5]) -> Rates {
    let [input, output, cache_read, cache_write, cache_write_1h] = usd.map(|text| Rate::from_nanos(Usd::parse(text).expect(text).nanos()));
    Rates {
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h,
        audio_input: None,
        audio_output: None,
        image_input: None,
    }
}

#[test]
fn a_missing_cache_rate_falls_back_and_inside_of_a_step_to_the_step() {
    for (price, base, above) in [
        (json!({"input": "3", "output": "15"}), ["3", "15", "3", "3", "3"], None),
        (
            json!({"input": "3", "output": "15", "cache_read": "0.3"}),
            ["3", "15", "0.3", "3", "3"],
            None,
        ),
        (
            json!({"input": "3", "output": "15", "cache_write": "3.75"}),
            ["3", "15", "3", "3.75", "3.75"],
            None,
        ),
        (
            json!({"input": "3", "output": "15", "cache_write_1h": "6"}),
            ["3", "15", "3", "3", "6"],
            None,
        ),
        (
            json!({"input": "3", "output": "15", "cache_read": "0", "cache_write": "0"}),
            ["3", "15", "0", "0", "0"],
            None,
        ),
        (
            json!({"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75", "cache_write_1h": "6",
                   "above": {"tokens": 200000, "input": "6", "output": "22.50"}}),
            ["3", "15", "0.3", "3.75", "6"],
            Some(["6", "22.5", "6", "6", "6"]),
        ),
        (
            json!({"input": "3", "output": "15", "above": {"tokens": 200000, "input": "6", "output": "22.50", "cache_write": "7.50"}}),
            ["3", "15", "3", "3", "3"],
            Some(["6", "22.5", "6", "7.5", "7.5"]),
        ),
    ] {
        let compiled = price_of(price.clone());
        assert_eq!(compiled.rates, rates(base), "{price}");
        let expected: Vec<(i64, Rates)> = above.map(|above| (200_000, rates(above))).into_iter().collect();
        assert_eq!(compiled.above, expected, "{price}");
    }
}

#[test]
fn audio_and_images_cost_above_a_step_what_they_cost_below_it() {
    let price = price_of(json!({"input": "1", "output": "2", "audio_input": "32", "image_input": "5",
        "above": {"tokens": 5, "input": "2", "output": "4", "image_input": "9"}}));
    let usd = |text: &str| Some(Rate::from_nanos(Usd::parse(text).expect(text).nanos()));
    let (_, step) = &price.above[0];
    assert_eq!((step.audio_input, step.audio_output, step.image_input), (usd("32"), None, usd("9")));
}

#[test]
fn a_price_version_is_of_what_it_says_and_not_of_how_it_is_written() {
    let version = |price: Value| price_of(price).version.to_string();
    let base = version(json!({"effective_from": "2025-10-15", "input": "1", "output": "5"}));
    // A version is stamped on entries for good: what goes into it must never change.
    assert_eq!(base, "2025-10-15.328212d7");
    for same in [
        json!({"effective_from": "2025-10-15", "input": "1.00", "output": "5.000000000", "request": "0"}),
        json!({"effective_from": "2025-10-15", "input": "1", "output": "5", "cache_read": "1", "cache_write_1h": "1", "above": []}),
    ] {
        assert_eq!(version(same.clone()), base, "{same}");
    }
    for other in [
        json!({"effective_from": "2025-10-16", "input": "1", "output": "5"}),
        json!({"effective_from": "2025-10-15", "input": "5", "output": "1"}),
        json!({"effective_from": "2025-10-15", "input": "1", "output": "5", "request": "1"}),
        json!({"effective_from": "2025-10-15", "input": "1", "output": "5", "batch_discount": 0.5}),
        json!({"effective_from": "2025-10-15", "input": "1", "output": "5", "audio_input": "1"}),
        json!({"effective_from": "2025-10-15", "input": "1", "output": "5", "above": {"tokens": 9, "input": "1", "output": "5"}}),
    ] {
        assert_ne!(version(other.clone()), base, "{other}");
    }
    let timed = version(json!({"effective_from": "2025-10-15T12:00:00Z", "input": "1", "output": "5"}));
    assert!(timed.starts_with("2025-10-15T12:00:00Z."), "{timed}");
}

#[test]
fn prices_and_steps_are_in_order_however_they_are_written() {
    let step = |tokens: i64| json!({"tokens": tokens, "input": "2", "output": "4"});
    let price = |from: &str| json!({"effective_from": from, "input": "1", "output": "2", "above": [step(300), step(100), step(200)]});
    let models = vec![model(
        json!({"prices": [price("2026-01-01"), price("2025-01-01"), price("2027-01-01")]}),
    )];
    let compiled = compile(&documents(models, vec![])).expect("good");
    let model = compiled.catalogue.get("m").expect("the model");
    let years: Vec<String> = model.prices.iter().map(|price| price.effective_from.to_string()).collect();
    assert_eq!(years, ["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
    let steps: Vec<i64> = model.prices[0].above.iter().map(|(tokens, _)| *tokens).collect();
    assert_eq!(steps, [100, 200, 300]);
    let at = |text: &str| {
        model
            .price_at(Timestamp::parse(text).expect(text))
            .map(|price| price.version[..10].to_owned())
    };
    assert_eq!(at("2024-12-31T23:59:59Z"), None);
    assert_eq!(at("2026-06-01T00:00:00Z").as_deref(), Some("2026-01-01"));
}

#[test]
fn names_become_ids() {
    let models = vec![
        model(json!({"id": "a", "aliases": ["first"], "downgrades": ["second"], "fallbacks": ["b"]})),
        model(json!({"id": "b", "aliases": ["second"]})),
    ];
    let budget = |to: &str| json!({"id": to, "unit": "tokens", "period": "day", "downgrade_to": to});
    let mut documents = documents(models, vec![json!({"id": "p", "budgets": [budget("second"), budget("fast")]})]);
    documents.routing = read(&json!({
        "default_model": "provider/second", "rules": [{"name": "r", "when": "true", "model": "first"}],
    }))
    .expect("routing");
    let compiled = compile(&documents).expect("good");
    let a = compiled.catalogue.get("a").expect("the model");
    let b = ModelId::parse("b").expect("an id");
    assert_eq!((&a.downgrades, &a.fallbacks), (&vec![b.clone()], &vec![b.clone()]));
    let plan = compiled.plans.values().next().expect("the plan");
    let targets: Vec<Option<&str>> = plan.budgets.iter().map(|budget| budget.downgrade_to.as_deref()).collect();
    assert_eq!(targets, [Some("b"), Some("fast")]);
    assert_eq!(compiled.routing.default_model, Some(b));
    assert_eq!(compiled.routing.rules[0].target, Target::Model(a.id.clone()));
}

/// The plan of the contract, word by word.
const CONTRACT_PLAN: &str = r#"
id: pro
name: Pro
pricing: {model: tiered_seats, base_usd: "50.00", seat_usd: "0", interval: month,   # flat | usage | seat_plus_usage | tiered_seats | outcome
          overage: {budget_id: monthly_tokens, per: 1000000, usd: "4.00"},          # pro rata, per period, max(0, spent − hard − granted)
          outcomes: {contract_drafted: "2.00"}}                                     # per billable outcome that a settle reports
target_gross_margin: 0.70
upgrade_url: "https://example.com/upgrade?ws={workspace_id}"
allowed_models: ["*"]                # globs over model ids, or tier:NAME
unlimited: false
unknown_features: allow              # allow | deny
require_user: false
budgets:
  - id: monthly_tokens
    scope: workspace                 # workspace (default) | user
    unit: tokens                     # tokens | usd | requests | credits
    period: month                    # minute | hour | day | week | month | year | billing | lifetime
    soft: 4000000
    hard: 5000000                    # none: metered only. usd limits are decimal strings
    per_seat: false                  # workspace scope only
    at_soft: [warn, downgrade]       # default [warn]; of warn, downgrade, throttle, defer
    downgrade_to: fast               # a tier or a model id
    throttle_ms: 1000
    at_hard: deny                    # deny (default) | overage
    overage_hard: 8000000
    alerts: [0.5, 0.8, 1.0]          # default [0.8, 1.0], ≤ 10; shares of hard + granted, by spent
    shadow: false
  - {id: long_context, feature: document_summarization, unit: tokens, period: month, hard: 1000000}   # a feature sub-quota
features:
  legal_review: {never_downgrade: true}
  faq: {cache: {exact: true, semantic: true, threshold: 0.93, ttl_seconds: 86400, max_entries: 10000, scope: workspace, bill: free}}   # free | full | a ratio
  beta_agent: {enabled: false}
max_open_reservations: 1000
min_hold_seconds: 1
on_expiry: release                   # release | charge (record the hold, outcome abandoned)
on_store_unavailable: deny           # deny | allow
"#;

#[test]
fn the_plan_of_the_contract_means_what_it_says() {
    let value = crate::policy::yaml::parse(CONTRACT_PLAN).expect("YAML").to_value();
    let compiled = compile(&documents(vec![model(json!({}))], vec![value])).expect("good");
    let plan = compiled.plans.values().next().expect("the plan");
    assert_eq!((plan.version, plan.name.as_str(), plan.max_open_reservations), (4, "Pro", 1_000));
    assert_eq!(plan.base_usd_per_month, Usd::parse("50").ok());
    assert_eq!(plan.target_gross_margin.map(Ratio::ten_thousandths), Some(7_000));
    let pricing = plan.pricing.as_ref().expect("a price");
    assert_eq!((pricing.model, pricing.outcomes.len()), (PricingModel::TieredSeats, 1));
    assert_eq!(
        pricing.overage.as_ref().and_then(|overage| overage.of(1_500_000)),
        Usd::parse("6").ok()
    );
    let [monthly, long_context] = plan.budgets.as_slice() else {
        panic!("two budgets");
    };
    assert_eq!(
        (monthly.soft, monthly.hard, monthly.overage_hard),
        (Some(4_000_000), Some(5_000_000), Some(8_000_000))
    );
    assert!(monthly.at_soft.warn && monthly.at_soft.downgrade && !monthly.at_soft.throttle && !monthly.at_soft.defer);
    assert_eq!(
        (monthly.scope, monthly.at_hard, monthly.throttle_ms),
        (Scope::Workspace, AtHard::Deny, 1_000)
    );
    let alerts: Vec<i64> = monthly.alerts.iter().map(|share| share.ten_thousandths()).collect();
    assert_eq!(alerts, [5_000, 8_000, 10_000]);
    assert_eq!(long_context.feature.as_ref().map(Feature::as_str), Some("document_summarization"));
    let feature = |name: &str| plan.feature(&Feature::parse(name).expect(name)).expect(name);
    assert!(feature("legal_review").never_downgrade && !feature("beta_agent").enabled);
    let cache = feature("faq").cache.as_ref().expect("cache rules");
    assert!(cache.exact && cache.semantic && cache.bill == Ratio::ZERO);
    assert_eq!(
        (cache.threshold.ten_thousandths(), cache.ttl_seconds, cache.max_entries),
        (9_300, 86_400, 10_000)
    );
}

#[test]
fn a_limit_is_in_the_smallest_part_of_its_unit() {
    let budget = |unit: &str, hard: Value| json!({"id": unit, "unit": unit, "period": "day", "hard": hard});
    let plan = json!({"id": "p", "budgets": [
        budget("tokens", json!(5)), budget("usd", json!("12.50")), budget("requests", json!(0)), budget("credits", json!(7)),
    ]});
    let compiled = compile(&documents(vec![], vec![plan])).expect("good");
    let plan = compiled.plans.values().next().expect("the plan");
    let limits: Vec<Option<i64>> = plan.budgets.iter().map(|budget| budget.hard).collect();
    assert_eq!(limits, [Some(5), Some(12_500_000_000), Some(0), Some(7)]);
}

#[test]
fn credits_and_batches_are_counted_by_what_was_written() {
    let models = vec![model(json!({
        "credits": {"input": 0.5, "output": 2.5}, "token_factor": 1.25,
        "prices": [{"input": "1", "output": "5", "batch_discount": 0.5, "request": "0.01"}],
    }))];
    let compiled = compile(&documents(models, vec![])).expect("good");
    let model = compiled.catalogue.get("m").expect("the model");
    assert_eq!(model.token_factor, 12_500);
    let pools = Pools {
        input_tokens: 10_000,
        output_tokens: 1_001,
        ..Pools::default()
    };
    let amounts = |mode| model.amounts(&model.prices[0], &pools, mode, 1).expect("a cost");
    let expected = |usd: &str| Amounts {
        tokens: 11_001,
        usd: Usd::parse(usd).expect(usd).nanos(),
        requests: 1,
        credits: 8,
    };
    assert_eq!(amounts(Mode::Interactive), expected("0.025005"));
    assert_eq!(amounts(Mode::Batch), expected("0.0175025"));
}

#[test]
fn a_broken_rule_hides_nothing_of_the_others() {
    let mut documents = documents(vec![model(json!({}))], vec![]);
    let routing: RoutingDocument = read(&json!({"rules": [
        {"name": "a", "when": "foo", "tier": "fast"}, {"name": "b", "when": "true", "tier": "slow"}, {"name": "c", "when": "bar", "mode": "batch"},
    ]}))
    .expect("routing");
    documents.routing = routing;
    let problems = compile(&documents).expect_err("three problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/rules/0/when", "/rules/1/tier", "/rules/2/when"]);
    assert!(problems.iter().all(|problem| problem.object == Some(ObjectId::routing())));
}
