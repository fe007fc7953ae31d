//! The snapshot: built from what the ledger keeps, checked before it changes, swapped only forward. And the samples that come with Weir.

use super::*;
use crate::decision::id::Feature;
use crate::decision::money::Usd;
use crate::decision::plan::ModelPattern;
use crate::decision::price::Mode;
use crate::decision::pricing::PricingModel;
use crate::decision::usage::Pools;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn plan_id(text: &str) -> PlanId {
    PlanId::parse(text).expect("an id")
}

fn plan(id: &str) -> Value {
    json!({"id": id, "budgets": [{"id": "b", "unit": "tokens", "period": "month", "hard": 5}]})
}

fn problems(result: Result<Policy, Problems>) -> Vec<String> {
    let Problems(problems) = result.expect_err("problems");
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn each_plan_carries_its_own_version() {
    let policy = Policy::default()
        .with(&[(ObjectId::plan("a"), Some(plan("a"))), (ObjectId::plan("b"), Some(plan("b")))])
        .expect("good");
    let policy = policy.with(&[(ObjectId::plan("b"), Some(plan("b")))]).expect("good");
    let version = |id: &str| policy.plans[&plan_id(id)].version;
    assert_eq!((policy.version, version("a"), version("b")), (2, 1, 2));
    assert_eq!(policy.object(&ObjectId::plan("b")).map(|object| object.version), Some(2));
}

#[test]
fn a_change_is_checked_against_everything_that_it_touches() {
    let model = json!({"id": "m", "provider": "p", "tier": "fast", "prices": [{"input": "1", "output": "2"}]});
    let mut pro = plan("pro");
    pro["budgets"][0]["downgrade_to"] = json!("fast");
    let policy = Policy::default()
        .with(&[
            (ObjectId::model("m"), Some(model.clone())),
            (ObjectId::plan("pro"), Some(pro)),
            (ObjectId::default_plan(), Some(json!("pro"))),
            (ObjectId::routing(), Some(json!({"default_model": "m"}))),
        ])
        .expect("good");
    assert_eq!(
        problems(policy.with(&[(ObjectId::model("m"), None)])),
        [
            "plan pro: /budgets/0/downgrade_to: fast is neither a tier nor a model",
            "routing: /default_model: there is no model m"
        ]
    );
    assert_eq!(
        problems(policy.with(&[(ObjectId::plan("pro"), None)])),
        ["default_plan: there is no plan pro"]
    );
    let mut slow = model;
    slow["tier"] = json!("slow");
    assert_eq!(
        problems(policy.with(&[(ObjectId::model("m"), Some(slow))])),
        ["plan pro: /budgets/0/downgrade_to: fast is neither a tier nor a model"]
    );
    assert_eq!(
        problems(policy.with(&[(ObjectId::plan("other"), Some(plan("pro")))])),
        ["plan other: /id: the id must be other"]
    );
    assert_eq!(
        problems(policy.with(&[(ObjectId::plan("x"), Some(json!({"id": "x", "budget": []})))])),
        ["plan x: /budget: unknown field `budget`; did you mean `budgets`?"]
    );
}

#[test]
fn a_workspace_without_a_plan_has_the_default_one() {
    let policy = Policy::samples();
    let id = |chosen: Option<&str>| policy.plan(chosen.map(plan_id).as_ref()).map(|plan| plan.id.as_str());
    assert_eq!(id(None), Some("free"));
    assert_eq!(id(Some("pro")), Some("pro"));
    assert_eq!(id(Some("gone")), None);
    assert_eq!(Policy::default().plan(None), None);
}

#[test]
fn an_older_snapshot_never_replaces_a_newer_one() {
    let at = |version| Policy {
        version,
        ..Policy::default()
    };
    let holder = Holder::new(at(5));
    let kept = holder.load();
    holder.swap(at(7));
    holder.swap(at(6));
    assert_eq!((kept.version, holder.load().version), (5, 7));
}

#[test]
fn kinds_that_a_newer_weir_wrote_are_left_alone() {
    assert_eq!(Object::stored("quota_tree", "x", 1, json!({})), None);
    for kind in Kind::ALL {
        assert_eq!(
            Object::stored(kind.as_str(), "x", 1, json!({})).map(|object| object.id.kind),
            Some(kind)
        );
    }
}

#[test]
fn the_samples_show_what_there_is() {
    let policy = Policy::samples();
    let models = policy.catalogue.models();
    let providers: BTreeSet<&str> = models.iter().map(|model| model.provider.as_str()).collect();
    let tiers: BTreeSet<&str> = models.iter().map(|model| model.tier.as_str()).collect();
    assert!(
        models.len() >= 24 && providers.len() >= 6,
        "{} models of {} providers",
        models.len(),
        providers.len()
    );
    assert!(["frontier", "mid", "fast"].iter().all(|tier| tiers.contains(tier)));
    let kinds: BTreeSet<String> = policy
        .plans
        .values()
        .filter_map(|plan| plan.pricing.as_ref())
        .map(|pricing| format!("{:?}", pricing.model))
        .collect();
    let all = [
        PricingModel::Flat,
        PricingModel::Usage,
        PricingModel::SeatPlusUsage,
        PricingModel::TieredSeats,
        PricingModel::Outcome,
    ];
    assert!(all.iter().all(|kind| kinds.contains(&format!("{kind:?}"))), "{kinds:?}");
    let rules = &policy.routing.rules;
    assert!(rules.len() >= 4 && rules.iter().any(|rule| rule.shadow) && policy.routing.needs_budgets(None));
    assert!(policy.routing.default_model.is_some());
}

/// The contract's first example, priced: 4,521 tokens in, 1,024 out.
#[test]
fn the_samples_price_the_contracts_example() {
    let policy = Policy::samples();
    let at = Timestamp::parse("2025-11-21T09:30:00Z").expect("a time");
    let pools = Pools {
        input_tokens: 4_521,
        output_tokens: 1_024,
        ..Pools::default()
    };
    for (name, usd, from) in [
        ("claude-haiku-4-5", "0.009641", "2025-10-15."),
        ("claude-haiku-4-5-20251001", "0.009641", "2025-10-15."),
        ("anthropic/claude-sonnet-4-5", "0.028923", "2025-09-29."),
    ] {
        let price = policy.catalogue.find(name).and_then(|model| model.price_at(at)).expect(name);
        assert_eq!(price.cost(&pools, Mode::Interactive, 1), Ok(Usd::parse(usd).expect(usd)), "{name}");
        assert!(
            price.version.starts_with(from) && price.version.len() == from.len() + 8,
            "{}",
            price.version
        );
    }
}

/// What a newcomer's first request needs of the default plan; the ladder's own tests do the rest.
#[test]
fn the_free_plan_lets_a_newcomer_in() {
    let policy = Policy::samples();
    let plan = policy.plan(None).expect("a default plan");
    let model = policy.catalogue.find("claude-sonnet-4-5").expect("the model");
    assert!(plan.allows(model) && !plan.require_user);
    let feature = Feature::parse("document_summarization").expect("a feature");
    assert!(plan.feature(&feature).is_none_or(|rules| rules.enabled));
    let price = model.prices.last().expect("a price");
    let pools = Pools {
        input_tokens: 4_521,
        output_tokens: 1_024,
        ..Pools::default()
    };
    let needs = model.amounts(price, &pools, Mode::Interactive, 1).expect("a cost");
    let applying: Vec<_> = plan.budgets.iter().filter(|budget| budget.applies_to(&feature)).collect();
    assert!(!applying.is_empty());
    for budget in applying {
        let softest = budget.soft.or(budget.hard).expect("a limit");
        assert!(
            20 * needs.of(budget.unit) <= softest,
            "{} leaves no room to try things out",
            budget.id
        );
    }
    assert!(!plan.allowed_models.contains(&ModelPattern::parse("tier:frontier")));
}

#[test]
fn a_policy_of_many_plans_and_models_is_built_at_once() {
    let price = json!({"effective_from": "2026-01-01", "input": "3", "output": "15", "cache_read": "0.3", "above": {"tokens": 200000, "input": "6", "output": "22.50"}});
    let model = |n: usize| {
        let next = format!("model-{}", (n + 1) % 5_000);
        json!({"id": format!("model-{n}"), "provider": "p", "tier": format!("t{}", n % 5), "aliases": [format!("alias-{n}")],
               "downgrades": [next], "prices": [price]})
    };
    let budget = |n: usize| {
        json!({"id": format!("b{n}"), "unit": "tokens", "period": "month", "feature": format!("f{n}"), "soft": 100, "hard": 1000,
               "at_soft": ["warn", "downgrade"], "downgrade_to": format!("model-{n}")})
    };
    let plan = |n: usize| json!({"id": format!("plan-{n}"), "budgets": (0..5).map(budget).collect::<Vec<_>>()});
    let models = (0..5_000).map(|n| Object {
        id: ObjectId::model(&format!("model-{n}")),
        version: 1,
        body: model(n),
    });
    let plans = (0..1_000).map(|n| Object {
        id: ObjectId::plan(&format!("plan-{n}")),
        version: 1,
        body: plan(n),
    });
    let objects: Vec<Object> = models.chain(plans).collect();
    let begun = std::time::Instant::now();
    let policy = Policy::build(objects, 1, None).expect("good");
    let took = begun.elapsed();
    assert_eq!((policy.plans.len(), policy.catalogue.models().len()), (1_000, 5_000));
    // Unoptimised builds are ten times slower.
    let bound = std::time::Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 1 });
    assert!(took < bound, "{took:?}");
}
