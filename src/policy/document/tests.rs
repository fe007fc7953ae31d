//! What is written is what was read; what is not written has the default that the contract names.

use super::*;
use crate::decision::amount::{LIMIT_COUNT_MAX, Ratio, Unit};
use crate::decision::id::{BudgetId, Feature, MeterId, ModelId, OutcomeName, PriceId, Provider, Tier};
use crate::decision::meter::FACTOR_BILLIONTHS;
use crate::decision::money::Usd;
use crate::decision::period::PeriodKind;
use crate::decision::plan::{AtHard, OnExpiry, OnStoreUnavailable, Scope, UnknownFeatures};
use crate::decision::price::Mode;
use crate::decision::pricing::{Interval, PricingModel};
use crate::decision::rating;
use crate::policy::read::read;
use crate::policy::yaml;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Through JSON text and through YAML text.
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(document: &T) {
    let value = serde_json::to_value(document).expect("a document");
    let json: Value = serde_json::from_str(&value.to_string()).expect("what was written");
    assert_eq!(&read::<T>(&json).expect("what was written"), document);
    let text = serde_saphyr::to_string(&value).expect("a document");
    let yaml = yaml::parse(&text).expect("what was written").to_value();
    assert_eq!(&read::<T>(&yaml).expect("what was written"), document, "{text}");
}

fn id<T: Debug>(parse: fn(&str) -> Result<T, String>) -> impl Strategy<Value = T> {
    "[A-Za-z0-9_:/@|+=~-][A-Za-z0-9._:/@|+=~-]{0,12}".prop_map(move |text| parse(&text).expect("a name"))
}

fn dollars() -> impl Strategy<Value = Dollars> {
    (0..=4_000_000_000_000_000i64).prop_map(|nanos| Dollars::new(Usd::from_nanos(nanos)).expect("not below zero"))
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        (0..=LIMIT_COUNT_MAX).prop_map(Limit::Count),
        dollars().prop_map(|usd| Limit::Usd(usd.get()))
    ]
}

fn ratio() -> impl Strategy<Value = Ratio> {
    (0..=10_000u16).prop_map(|n| Ratio::from_ten_thousandths(n).expect("a share"))
}

fn fraction() -> impl Strategy<Value = Fraction> {
    (0..=Fraction::WHOLE_MAX * Ratio::DENOMINATOR).prop_map(|n| {
        let text = format!("{}.{:04}", n / Ratio::DENOMINATOR, n % Ratio::DENOMINATOR);
        serde_json::from_str(&text).expect("a fraction")
    })
}

fn whole<const MIN: i64, const MAX: i64>() -> impl Strategy<Value = Whole<MIN, MAX>> {
    (MIN..=MAX).prop_map(|n| Whole::new(n).expect("in bounds"))
}

fn effective_from() -> impl Strategy<Value = EffectiveFrom> {
    select(vec![
        "1970-01-01",
        "2025-09-29",
        "2026-02-28T13:45:00Z",
        "2026-02-28T13:45:00.000001+02:00",
    ])
    .prop_map(|text| EffectiveFrom::parse(text).expect("a date"))
}

fn text() -> impl Strategy<Value = String> {
    select(vec![
        "x",
        "yes",
        "no",
        "null",
        "~",
        "1",
        "1.5",
        "- a",
        "a: b",
        "#",
        "'\"",
        "ü",
        " lead",
        "tail ",
        "a\nb",
        "2025-09-29",
        "*",
        "&a",
        "!b",
        "{",
        "0x1",
    ])
    .prop_map(str::to_owned)
}

prop_compose! {
    fn budget()(
        (id, scope, feature, unit, period) in (
            id(BudgetId::parse), select(vec![Scope::Workspace, Scope::User]), option::of(id(Feature::parse)),
            select(Unit::ALL.to_vec()), select(PeriodKind::ALL.to_vec()),
        ),
        (soft, hard, overage_hard) in (option::of(limit()), option::of(limit()), option::of(limit())),
        at_soft in vec(select(vec![SoftAction::Warn, SoftAction::Downgrade, SoftAction::Throttle, SoftAction::Defer]), 0..4),
        at_hard in select(vec![AtHard::Deny, AtHard::Overage]),
        (downgrade_to, throttle_ms, alerts) in (option::of(text()), whole(), vec(ratio(), 0..4)),
        (per_seat, shadow) in any::<(bool, bool)>(),
    ) -> BudgetDocument {
        BudgetDocument { id, scope, feature, unit, period, soft, hard, per_seat, at_soft, downgrade_to, throttle_ms, at_hard, overage_hard, alerts, shadow }
    }
}

prop_compose! {
    fn feature()(
        (enabled, never_downgrade, cached, exact, semantic) in any::<(bool, bool, bool, bool, bool)>(),
        (threshold, bill) in (ratio(), ratio()),
        (ttl_seconds, max_entries) in (whole(), whole()),
        scope in select(vec![Scope::Workspace, Scope::User]),
    ) -> FeatureDocument {
        let bill = serde_json::from_value(serde_json::to_value(bill).expect("a share")).expect("a bill");
        let cache = CacheDocument { exact, semantic, threshold, ttl_seconds, max_entries, scope, bill };
        FeatureDocument { enabled, never_downgrade, cache: cached.then_some(cache) }
    }
}

prop_compose! {
    fn pricing()(
        model in select(vec![
            PricingModel::Flat, PricingModel::Usage, PricingModel::SeatPlusUsage, PricingModel::TieredSeats, PricingModel::Outcome,
        ]),
        (base_usd, seat_usd) in (dollars(), dollars()),
        interval in select(vec![Interval::Month, Interval::Year]),
        overage in option::of((id(BudgetId::parse), limit(), dollars())),
        outcomes in btree_map(id(OutcomeName::parse), dollars(), 0..3),
        seats in option::of((select(MODES.to_vec()), vec(tier(), 0..3), option::of(whole()))),
        (included_seats, usage) in (whole(), vec(usage_price(), 0..3)),
        (credit_usd, minimum_usd, maximum_usd) in (option::of(dollars()), option::of(dollars()), option::of(dollars())),
    ) -> PricingDocument {
        let overage = overage.map(|(budget_id, per, usd)| OverageDocument { budget_id, per, usd });
        let seat_tiers = seats.map(|(mode, tiers, package_size)| SeatTiersDocument { mode, tiers, package_size });
        PricingDocument {
            model, base_usd, seat_usd, interval, overage, outcomes, seat_tiers, included_seats, usage, credit_usd, minimum_usd, maximum_usd,
        }
    }
}

const MODES: [rating::Mode; 3] = [rating::Mode::Graduated, rating::Mode::Volume, rating::Mode::Package];

prop_compose! {
    fn tier()((up_to, flat_usd, unit_usd) in (option::of(limit()), option::of(dollars()), option::of(dollars()))) -> TierDocument {
        TierDocument { up_to, flat_usd, unit_usd }
    }
}

prop_compose! {
    fn usage_price()(
        (id, budget_id, unit) in (id(BudgetId::parse), option::of(id(BudgetId::parse)), option::of(select(Unit::ALL.to_vec()))),
        (feature, mode, tiers) in (option::of(id(Feature::parse)), select(MODES.to_vec()), vec(tier(), 0..3)),
        (per, package_size, included) in (option::of(limit()), option::of(limit()), option::of(limit())),
        (included_per_seat, minimum_usd, maximum_usd) in (any::<bool>(), option::of(dollars()), option::of(dollars())),
    ) -> UsagePriceDocument {
        UsagePriceDocument {
            id, budget_id, unit, feature, mode, per, tiers, package_size, included, included_per_seat, minimum_usd, maximum_usd,
        }
    }
}

prop_compose! {
    fn plan()(
        (id, name, pricing) in (id(PlanId::parse), option::of(text()), option::of(pricing())),
        (target_gross_margin, upgrade_url, allowed_models) in (option::of(ratio()), option::of(text()), vec(text(), 0..4)),
        (unlimited, require_user) in any::<(bool, bool)>(),
        (unknown_features, on_expiry, on_store_unavailable) in (
            select(vec![UnknownFeatures::Allow, UnknownFeatures::Deny]), select(vec![OnExpiry::Release, OnExpiry::Charge]),
            select(vec![OnStoreUnavailable::Deny, OnStoreUnavailable::Allow]),
        ),
        (budgets, features) in (vec(budget(), 0..4), btree_map(id(Feature::parse), feature(), 0..3)),
        (max_open_reservations, min_hold_seconds) in (whole(), whole()),
    ) -> PlanDocument {
        PlanDocument {
            locale: None,
            fair_use: Vec::new(),
            id, name, pricing, target_gross_margin, upgrade_url, allowed_models, unlimited, unknown_features, require_user, budgets,
            features, max_open_reservations, min_hold_seconds, on_expiry, on_store_unavailable,
        }
    }
}

prop_compose! {
    fn step()(
        tokens in whole(),
        (input, output) in (dollars(), dollars()),
        (cache_read, cache_write, cache_write_1h) in (option::of(dollars()), option::of(dollars()), option::of(dollars())),
        (audio_input, audio_output, image_input) in (option::of(dollars()), option::of(dollars()), option::of(dollars())),
    ) -> StepDocument {
        StepDocument { tokens, input, output, cache_read, cache_write, cache_write_1h, audio_input, audio_output, image_input }
    }
}

prop_compose! {
    fn price()(
        effective_from in effective_from(),
        (input, output, request, batch_discount) in (dollars(), dollars(), dollars(), ratio()),
        (cache_read, cache_write, cache_write_1h) in (option::of(dollars()), option::of(dollars()), option::of(dollars())),
        (audio_input, audio_output, image_input) in (option::of(dollars()), option::of(dollars()), option::of(dollars())),
        above in vec(step(), 0..3),
        off_peak in option::of((vec((vec(text(), 0..3), vec(whole(), 0..3)), 0..3), option::of(dollars()), option::of(dollars()))),
    ) -> PriceDocument {
        let window = |(hours_utc, weekdays)| WindowDocument { hours_utc, weekdays };
        let off_peak = off_peak.map(|(windows, input, cache_read)| OffPeakDocument {
            windows: windows.into_iter().map(window).collect(), input, output: None, cache_read, cache_write: None, cache_write_1h: input,
        });
        PriceDocument {
            effective_from, input, output, cache_read, cache_write, cache_write_1h, audio_input, audio_output, image_input, request,
            batch_discount, above: Steps(above), off_peak, source: None,
        }
    }
}

prop_compose! {
    fn model()(
        (id, provider, tier, family) in (id(ModelId::parse), id(Provider::parse), id(Tier::parse), option::of(text())),
        (aliases, downgrades, fallbacks) in (vec(id(ModelId::parse), 0..3), vec(id(ModelId::parse), 0..3), vec(id(ModelId::parse), 0..3)),
        (max_input_tokens, max_output_tokens) in (whole(), whole()),
        (token_factor, credits) in (fraction(), option::of((fraction(), fraction()))),
        prices in vec(price(), 0..3),
    ) -> ModelDocument {
        let credits = credits.map(|(input, output)| CreditsDocument { input, output });
        ModelDocument {
            id, provider, tier, family, aliases, max_input_tokens, max_output_tokens, downgrades, fallbacks, token_factor, prices, credits,
        }
    }
}

prop_compose! {
    fn rule()(
        (name, when) in (text(), text()),
        (model, tier, mode) in (option::of(id(ModelId::parse)), option::of(id(Tier::parse)), option::of(select(vec![Mode::Interactive, Mode::Batch]))),
        (overrides_named, shadow) in any::<(bool, bool)>(),
        (throttle_ms, escalation) in (option::of(0i64..600_000), option::of((id(ModelId::parse), 0u16..=10_000))),
    ) -> RuleDocument {
        let escalation = escalation.map(|(model, least)| EscalationDocument {
            model, min_quality_score: Ratio::from_ten_thousandths(least).expect("a share"),
        });
        let throttle_ms = throttle_ms.and_then(Whole::new);
        RuleDocument { name, when, model, tier, mode, throttle_ms, escalation, overrides_named, shadow }
    }
}

fn factor() -> impl Strategy<Value = Factor> {
    (0..=Factor::WHOLE_MAX * FACTOR_BILLIONTHS).prop_map(|n| Factor::of_billionths(n).expect("in bounds"))
}

prop_compose! {
    fn meter()(
        (id, event_name, unit) in (id(MeterId::parse), text(), select(Unit::ALL.to_vec())),
        (feature, model, tier) in (option::of(id(Feature::parse)), option::of(id(ModelId::parse)), option::of(id(Tier::parse))),
        (scale, markup) in (factor(), factor()),
    ) -> MeterDocument {
        MeterDocument { id, event_name, unit, only: MeterFilterDocument { feature, model, tier }, scale, markup }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_is_read_back_as_it_was_written(plan in plan()) {
        survives(&plan);
    }

    #[test]
    fn a_model_is_read_back_as_it_was_written(model in model()) {
        survives(&model);
    }

    #[test]
    fn routing_is_read_back_as_it_was_written(
        rules in vec(rule(), 0..3), default_model in option::of(id(ModelId::parse)), has_health in any::<bool>(),
    ) {
        let health = has_health.then(|| read(&json!({"open_seconds": 7, "error_share": 0.25})).expect("rules of health"));
        survives(&RoutingDocument { rules, default_model, health });
    }

    #[test]
    fn billing_is_read_back_as_it_was_written(meters in vec(meter(), 0..3), plans_by_price in btree_map(id(PriceId::parse), id(PlanId::parse), 0..3)) {
        survives(&BillingDocument { meters, plans_by_price });
    }

    #[test]
    fn a_fraction_is_the_decimal_that_was_written(n in 0..=Fraction::WHOLE_MAX * Ratio::DENOMINATOR) {
        let text = format!("{}.{:04}", n / Ratio::DENOMINATOR, n % Ratio::DENOMINATOR);
        let fraction: Fraction = serde_json::from_str(&text).expect("a fraction");
        prop_assert_eq!(fraction.ten_thousandths(), n);
    }
}

#[test]
fn the_least_plan_has_the_defaults_of_the_contract() {
    let text = json!({"id": "p", "budgets": [{"id": "b", "unit": "tokens", "period": "month"}], "features": {"faq": {"cache": {}}}});
    let plan: PlanDocument = read(&text).expect("a plan");
    let written = serde_json::to_value(&plan).expect("a document");
    assert_eq!(
        written,
        json!({
            "id": "p", "name": null, "pricing": null, "target_gross_margin": null, "upgrade_url": null, "locale": null,
            "allowed_models": ["*"],
            "unlimited": false, "unknown_features": "allow", "require_user": false,
            "budgets": [{
                "id": "b", "scope": "workspace", "feature": null, "unit": "tokens", "period": "month", "soft": null, "hard": null,
                "per_seat": false, "at_soft": ["warn"], "downgrade_to": null, "throttle_ms": 1000, "at_hard": "deny",
                "overage_hard": null, "alerts": [0.8, 1], "shadow": false,
            }],
            "fair_use": [],
            "features": {"faq": {"enabled": true, "never_downgrade": false, "cache": {
                "exact": true, "semantic": false, "threshold": 0.93, "ttl_seconds": 86400, "max_entries": 10000, "scope": "workspace",
                "bill": "free",
            }}},
            "max_open_reservations": 1000, "min_hold_seconds": 1, "on_expiry": "release", "on_store_unavailable": "deny",
        })
    );
    assert_eq!(read::<PlanDocument>(&written).expect("what was written"), plan);
}

#[test]
fn the_least_model_has_no_limits_of_its_own_and_no_price() {
    let model: ModelDocument = read(&json!({"id": "m", "provider": "p", "tier": "t"})).expect("a model");
    assert_eq!((model.max_input_tokens.get(), model.max_output_tokens.get()), (1 << 36, 1 << 36));
    assert_eq!((model.token_factor, model.prices, model.family), (Fraction::ONE, vec![], None));
}

#[test]
fn a_single_step_may_stand_without_its_list() {
    let price = |above: Value| read::<PriceDocument>(&json!({"input": "1", "output": "2", "above": above}));
    let step = json!({"tokens": 5, "input": "2", "output": "4"});
    assert_eq!(price(step.clone()), price(json!([step])));
    assert_eq!(price(Value::Null), price(json!([])));
    let problems = price(json!([step, {"tokens": 6, "input": "2"}])).expect_err("no output");
    assert_eq!(problems[0].pointer, "/above/1");
}

#[test]
fn a_limit_is_an_integer_or_a_quoted_decimal() {
    for (json, expected) in [
        (json!(0), Some(Limit::Count(0))),
        (json!(LIMIT_COUNT_MAX), Some(Limit::Count(LIMIT_COUNT_MAX))),
        (json!("12.50"), Some(Limit::Usd(Usd::from_nanos(12_500_000_000)))),
        (json!("12"), Some(Limit::Usd(Usd::from_nanos(12_000_000_000)))),
        (json!(12.5), None),
        (json!(-1), None),
        (json!("-1"), None),
        (json!("1e3"), None),
        (json!(true), None),
        (json!(null), None),
    ] {
        assert_eq!(read::<Limit>(&json).ok(), expected, "{json}");
    }
}
