//! One mistake in each row; § stands where it must be told.

use super::*;
use crate::decision::id::ModelId;

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    for (text, expected) in [
        ("plans:\n  - id: §[a\n", "unclosed bracket '['"),
        ("plans:\n	§- id: a\n", "tabs disallowed within this context (block indentation)"),
        ("plans: []\n§plans: []\n", "`plans` is here twice"),
        ("plans: []\n§---\nplans: []\n", "a policy file is one document; take the `---` away"),
        ("plans: [§*nobody]\n", "alias references unknown anchor"),
        ("plans: !custom §[]\n", "unsupported tag `!custom`"),
        ("plans: §\"open\n", "unclosed quote"),
        (
            "plans: []\ndefault_plan: §.nan\n",
            "non-finite float `.nan` rejected by the configured policy",
        ),
    ] {
        says_at_mark(PLANS_FILE, text, expected);
    }
}

#[test]
fn a_wrong_shape_is_told_with_its_place() {
    for (text, expected) in [
        ("§", "expected a mapping with `plans` and `default_plan`, found null"),
        ("§default_plan: null\n", "the field `plans` is missing"),
        ("plans: §5\n", "expected a list, found integer `5`"),
        ("plans: [§5]\n", "expected a plan as a mapping, found integer `5`"),
        ("plans: [§[pro]]\n", "expected a plan as a mapping, found a list"),
        ("plans: []\n§plan: []\n", "unknown field `plan`; did you mean `plans`?"),
        ("plans: [§{name: Pro}]\n", "the field `id` is missing"),
        ("plans: [{id: §5}]\n", "expected a plan id as a string, found integer `5`"),
        ("plans: [{id: §a b}]\n", "a plan id: may only have letters, digits and ._:/@|+=~-"),
        ("plans: [{id: p, unlimited: §yes}]\n", "expected a boolean, found string \"yes\""),
    ] {
        says_at_mark(PLANS_FILE, text, expected);
    }
}

#[test]
fn what_a_budget_cannot_be_is_told_with_its_place() {
    for (text, expected) in [
        (
            "unit: tokens, period: month, §budget: 5",
            "unknown field `budget`; did you mean `hard`?",
        ),
        (
            "unit: tokens, period: month, §hrad: 5",
            "unknown field `hrad`; did you mean `hard`?",
        ),
        (
            "unit: tokens, period: §monthly",
            "\"monthly\" is none of `minute`, `hour`, `day`, `week`, `month`, `year`, `billing`, `lifetime`; did you mean `month`?",
        ),
        (
            "unit: §token, period: day",
            "\"token\" is none of `tokens`, `usd`, `requests`, `credits`; did you mean `tokens`?",
        ),
        (
            "unit: tokens, period: month, soft: §11, hard: 10",
            "soft (11) must not be above hard (10)",
        ),
        (
            "unit: tokens, period: month, hard: §10, overage_hard: 9",
            "hard (10) must not be above overage_hard (9)",
        ),
        (
            "unit: usd, period: month, soft: §\"2\", hard: \"1.50\"",
            "soft (2.000000000) must not be above hard (1.500000000)",
        ),
        (
            "unit: tokens, period: month, hard: §-1",
            "a limit must be from 0 to 4000000000000000",
        ),
        (
            "unit: tokens, period: month, hard: §5.5",
            "a limit is an integer; if usd is meant, a decimal in quotes: \"5.5\"",
        ),
        (
            "unit: tokens, period: month, hard: §\"5\"",
            "a limit in tokens is an integer without quotes",
        ),
        (
            "unit: tokens, period: month, hard: §4000000000000001",
            "a limit in tokens is at most 4000000000000000",
        ),
        (
            "unit: tokens, period: month, hard: §99999999999999999999999",
            "a limit in tokens is at most 4000000000000000",
        ),
        (
            "unit: tokens, period: month, hard: §[]",
            "expected a limit: an integer, or a quoted decimal for usd, found a list",
        ),
        (
            "unit: usd, period: month, hard: §5",
            "a limit in usd is a decimal in quotes: write \"5\", not 5",
        ),
        ("unit: usd, period: month, hard: §\"-5\"", "\"-5\" is below zero"),
        (
            "unit: usd, period: month, hard: §\"5,00\"",
            "\"5,00\" is not a decimal number such as \"12.50\"",
        ),
        (
            "unit: usd, period: month, hard: §\"0.0000000001\"",
            "\"0.0000000001\" has more than nine decimals",
        ),
        (
            "unit: usd, period: month, hard: §\"4000000.01\"",
            "a limit in usd is at most 4000000",
        ),
        (
            "unit: tokens, period: month, at_hard: §overage",
            "overage begins at hard, and this budget has none",
        ),
        (
            "unit: tokens, period: month, overage_hard: §5",
            "overage begins at hard, and this budget has none",
        ),
        (
            "unit: tokens, period: month, hard: 1, at_hard: §block",
            "\"block\" is none of `deny`, `overage`",
        ),
        (
            "unit: tokens, period: month, at_soft: [warn, §block]",
            "\"block\" is none of `warn`, `downgrade`, `throttle`, `defer`",
        ),
        (
            "unit: tokens, period: month, scope: user, per_seat: §true",
            "per_seat is only for budgets of scope workspace: a user budget is for one person as it is",
        ),
        (
            "unit: tokens, period: month, throttle_ms: §600001",
            "a whole number must be from 0 to 600000",
        ),
        (
            "unit: tokens, period: month, throttle_ms: §1.5",
            "expected a whole number as an integer, found floating point `1.5`",
        ),
        (
            "unit: tokens, period: month, alerts: [0.5, §1.5]",
            "1.5 is not a share from 0 to 1 with at most four decimals",
        ),
        (
            "unit: tokens, period: month, alerts: §[0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1]",
            "a budget has at most 10 alerts",
        ),
        (
            "unit: tokens, period: month, downgrade_to: §fats",
            "fats is neither a tier nor a model; did you mean fast?",
        ),
        (
            "unit: tokens, period: month, downgrade_to: §none-such",
            "none-such is neither a tier nor a model",
        ),
        (
            "unit: tokens, period: month, feature: §a b",
            "a feature: may only have letters, digits and ._:/@|+=~-",
        ),
    ] {
        says_at_mark(
            PLANS_FILE,
            &format!("plans:\n  - id: p\n    budgets:\n      - {{id: b, {text}}}\n"),
            expected,
        );
    }
}

#[test]
fn what_a_plan_cannot_be_is_told_with_its_place() {
    for (text, expected) in [
        (
            "allowed_models: [§\"a b\"]",
            "\"a b\" is neither a glob over model ids, such as \"claude-*\", nor a tier, such as \"tier:fast\"",
        ),
        (
            "allowed_models: [§\"tier:*\"]",
            "\"tier:*\" is neither a glob over model ids, such as \"claude-*\", nor a tier, such as \"tier:fast\"",
        ),
        ("allowed_models: §\"*\"", "expected a list, found string \"*\""),
        ("name: §\"\"", "a name has 1 to 128 characters on one line"),
        (
            "upgrade_url: §\"javascript:alert(1)\"",
            "a link begins with https:// or http:// and has no blanks",
        ),
        ("max_open_reservations: §0", "a whole number must be from 1 to 1000000"),
        ("min_hold_seconds: §604801", "a whole number must be from 1 to 604800"),
        (
            "target_gross_margin: §70",
            "70 is not a share from 0 to 1 with at most four decimals",
        ),
        ("on_expiry: §keep", "\"keep\" is none of `release`, `charge`"),
        ("pricing: §{base_usd: \"5\"}", "the field `model` is missing"),
        (
            "pricing: {model: §seats}",
            "\"seats\" is none of `flat`, `usage`, `seat_plus_usage`, `tiered_seats`, `outcome`",
        ),
        (
            "pricing: {model: flat, base_usd: §12.50}",
            "an amount in usd is a decimal in quotes: write \"12.5\", not 12.5",
        ),
        (
            "pricing: {model: usage, overage: {budget_id: §c, per: 1, usd: \"1\"}}",
            "this plan has no budget c",
        ),
        (
            "pricing: {model: usage, overage: {budget_id: b, per: §0, usd: \"1\"}}",
            "overage is priced per an amount above zero",
        ),
        (
            "pricing: {model: usage, overage: {budget_id: b, per: §\"1\", usd: \"1\"}}",
            "a limit in tokens is an integer without quotes",
        ),
        ("features: {§a b: {}}", "a feature: may only have letters, digits and ._:/@|+=~-"),
        (
            "features: {faq: {§enable: true}}",
            "unknown field `enable`; did you mean `enabled`?",
        ),
        (
            "features: {faq: {cache: {§ttl: 5}}}",
            "unknown field `ttl`; did you mean `ttl_seconds`?",
        ),
        (
            "features: {faq: {cache: {bill: §cheap}}}",
            "\"cheap\" is neither free, full nor a share from 0 to 1",
        ),
        (
            "features: {a/b: {cache: {threshold: §2}}}",
            "2 is not a share from 0 to 1 with at most four decimals",
        ),
    ] {
        let budgets = "[{id: b, unit: tokens, period: month, hard: 5}]";
        says_at_mark(
            PLANS_FILE,
            &format!("plans:\n  - id: p\n    {text}\n    budgets: {budgets}\n"),
            expected,
        );
    }
    for (text, expected) in [
        ("plans: [{id: p}, {id: §p}]\n", "there is more than one plan p"),
        (
            "default_plan: §por\nplans: [{id: pro}]\n",
            "there is no plan por; did you mean pro?",
        ),
        (
            "plans: [{id: p, budgets: [§{id: b, period: month}]}]\n",
            "the field `unit` is missing",
        ),
        (
            "plans: [{id: p, budgets: [§{id: b, unit: tokens}]}]\n",
            "the field `period` is missing",
        ),
        (
            "plans: [{id: p, budgets: [{id: b, unit: usd, period: day}, {id: §b, unit: tokens, period: day}]}]\n",
            "there is more than one budget b",
        ),
    ] {
        says_at_mark(PLANS_FILE, text, expected);
    }
    let many: String = (0..33)
        .map(|n| format!("      - {{id: b{n}, unit: tokens, period: day}}\n"))
        .collect();
    let many = format!("plans:\n  - id: p\n    budgets:\n{many}");
    says(&sources(MODELS, &many, ROUTING), &["plans.yaml:4:7: a plan has at most 32 budgets"]);
}

#[test]
fn what_a_model_cannot_be_is_told_with_its_place() {
    for (text, expected) in [
        ("prices: [§{output: \"1\"}]", "the field `input` is missing"),
        ("prices: [§{input: \"1\"}]", "the field `output` is missing"),
        (
            "prices: [{input: §3, output: \"1\"}]",
            "an amount in usd is a decimal in quotes: write \"3\", not 3",
        ),
        ("prices: [{input: §\"-3\", output: \"1\"}]", "\"-3\" is below zero"),
        (
            "prices: [{input: §\"NaN\", output: \"1\"}]",
            "\"NaN\" is not a decimal number such as \"12.50\"",
        ),
        (
            "prices: [{input: §\"1e3\", output: \"1\"}]",
            "\"1e3\" is not a decimal number such as \"12.50\"",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", off_peak: {windows: §[]}}]",
            "off-peak rates have 1 to 16 windows",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", off_peak: {windows: [{hours_utc: [§\"8-9\"]}]}}]",
            "\"8-9\" is not a window such as \"16:30-00:30\"",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", off_peak: {windows: [{hours_utc: [\"08:00-09:00\"], weekdays: [§8]}]}}]",
            "a whole number must be from 1 to 7",
        ),
        ("prices: [{input: §\"1000001\", output: \"1\"}]", "a price is at most 1000000 usd"),
        (
            "prices: [{input: \"1\", output: \"1\", batch_discount: §1.1}]",
            "1.1 is not a share from 0 to 1 with at most four decimals",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", effective_from: §\"soon\"}]",
            "a date: \"soon\" is not a date such as \"2025-09-29\"",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", effective_from: §2025-13-01}]",
            "a date: \"2025-13-01\" is not a date such as \"2025-09-29\"",
        ),
        (
            "prices: [{input: \"1\", output: \"1\"}, §{input: \"2\", output: \"1\"}]",
            "there are two prices from 1970-01-01 on",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", above: §{tokens: 5, input: \"2\"}}]",
            "the field `output` is missing",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", above: {tokens: §0, input: \"2\", output: \"2\"}}]",
            "a whole number must be from 1 to 68719476736",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", above: [{tokens: 5, input: \"2\", output: \"2\"}, {tokens: §5, input: \"2\", output: \"2\"}]}]",
            "there are two steps above 5 tokens",
        ),
        (
            "prices: [{input: \"1\", output: \"1\", §cached: \"1\"}]",
            "unknown field `cached`; known here: `effective_from`, `input`, `output`, `cache_read`, `cache_write`, `cache_write_1h`, `audio_input`, `audio_output`, `image_input`, `request`, `batch_discount`, `above`, `off_peak`, `source`",
        ),
        ("family: §\"\"", "a family has 1 to 128 characters on one line"),
        ("downgrades: [§m]", "model m cannot stand in for itself"),
        ("downgrades: [§n]", "there is no model n"),
        ("fallbacks: [§other]", "there is no model other"),
        ("aliases: [§m]", "the alias m already means model m"),
        ("token_factor: §0.05", "a token factor is from 0.1 to 10"),
        (
            "token_factor: §1.00001",
            "1.00001 is not a number from 0 to 1000000 with at most four decimals",
        ),
        ("max_input_tokens: §0", "a whole number must be from 1 to 68719476736"),
        ("credits: §{input: 1}", "the field `output` is missing"),
        (
            "credits: {input: §\"1\", output: 1}",
            "expected a number with at most four decimals, found string \"1\"",
        ),
    ] {
        says_at_mark(
            MODELS_FILE,
            &format!("models:\n  - {{id: m, provider: p, tier: t, {text}}}\n"),
            expected,
        );
    }
    for (text, expected) in [
        (
            "models: [{id: m, provider: p, tier: t}, {id: §m, provider: p, tier: t}]\n",
            "there is more than one model m",
        ),
        (
            "models: []\ndefault_price: {input: \"1\", output: §\"2000000\"}\n",
            "a price is at most 1000000 usd",
        ),
    ] {
        says_at_mark(MODELS_FILE, text, expected);
    }
}

#[test]
fn what_a_rule_cannot_be_is_told_with_its_place() {
    for (text, expected) in [
        (
            "§{name: r, when: \"true\"}",
            "a rule chooses exactly one of model, tier, mode and throttle_ms",
        ),
        (
            "§{name: r, when: \"true\", model: big, tier: fast}",
            "a rule chooses exactly one of model, tier, mode and throttle_ms",
        ),
        ("{name: r, when: \"true\", model: §bgi}", "there is no model bgi; did you mean big?"),
        (
            "{name: r, when: \"true\", tier: §fats}",
            "no model is of tier fats; did you mean fast?",
        ),
        (
            "{name: r, when: \"true\", mode: §bulk}",
            "\"bulk\" is none of `interactive`, `batch`",
        ),
        ("{name: r, §if: \"true\", mode: batch}", "unknown field `if`; did you mean `when`?"),
        (
            "{name: §default_model, when: \"true\", mode: batch}",
            "a rule's name has 1 to 128 characters on one line and is not \"default_model\"",
        ),
        (
            "{name: r, when: \"request§.featur == 1\", mode: batch}",
            "request has no field `featur`; did you mean `feature`?",
        ),
        (
            "{name: r, when: 'true && request§.x', mode: batch}",
            "request has no field `x`; it has feature, model, input_tokens, max_output_tokens, mode, user_id, requests, attributes, tags, allow_batch, max_delay_seconds, weak_suffices, complexity, llm_tier",
        ),
        (
            "{name: r, when: true ||§, mode: batch}",
            "not a CEL expression: mismatched input '<EOF>'",
        ),
        ("{name: r, when: §true, mode: batch}", "expected a string, found boolean `true`"),
    ] {
        says_at_mark(ROUTING_FILE, &format!("rules:\n  - {text}\n"), expected);
    }
    for (text, expected) in [
        (
            "rules:\n  - name: r\n    mode: batch\n    when: >-\n      §true &&\n      foo\n",
            "unknown name `foo`",
        ),
        (
            "rules:\n  - name: r\n    mode: batch\n    when: >-\n      true && §foo ||\n      true\n",
            "unknown name `foo`",
        ),
        (
            "rules: [{name: r, when: \"true\", mode: batch}, {name: §r, when: \"true\", mode: batch}]\n",
            "there is more than one rule \"r\"",
        ),
        ("default_model: §smal\n", "there is no model smal; did you mean small?"),
    ] {
        says_at_mark(ROUTING_FILE, text, expected);
    }
}

#[test]
fn what_is_wrong_with_billing_is_told_where_it_stands() {
    for (text, expected) in [
        (
            "{id: m, event_name: e, §units: tokens}",
            "unknown field `units`; did you mean `unit`?",
        ),
        (
            "{id: m, event_name: e, unit: §euro}",
            "\"euro\" is none of `tokens`, `usd`, `requests`, `credits`",
        ),
        (
            "{id: m, event_name: §\"a b\", unit: tokens}",
            "the name of an event has 1 to 100 characters without blanks",
        ),
        (
            "{id: m, event_name: e, unit: tokens, scale: §0.001}",
            "a factor is an integer or a decimal in quotes: \"0.001\"",
        ),
        ("{id: m, event_name: e, unit: tokens, scale: §0}", "a scale is above zero"),
        (
            "{id: m, event_name: e, unit: tokens, markup: §-1}",
            "a factor must be from 0 to 1000000000",
        ),
        (
            "{id: m, event_name: e, unit: tokens, markup: §\"-0.5\"}",
            "a factor must be from 0 to 1000000000",
        ),
        (
            "{id: m, event_name: e, unit: usd, scale: \"1.000000001\", markup: §\"1.000000001\"}",
            "markup and scale together have more digits than can be carried exactly",
        ),
        (
            "{id: m, event_name: e, unit: tokens, where: {model: §smal}}",
            "there is no model smal; did you mean small?",
        ),
        (
            "{id: m, event_name: e, unit: tokens, where: {tier: §fats}}",
            "no model is of tier fats; did you mean fast?",
        ),
        (
            "{id: m, event_name: e, unit: tokens, where: {§user: u}}",
            "unknown field `user`; known here: `feature`, `model`, `tier`",
        ),
        (
            "{id: m, event_name: e, unit: tokens}\n  - {id: §m, event_name: f, unit: usd}",
            "there is more than one meter m",
        ),
        (
            "{id: m, event_name: e, unit: tokens}\n  - {id: n, event_name: §e, unit: usd}",
            "another meter is called \"e\" already: the provider's total could not be told apart",
        ),
    ] {
        says_at_mark(BILLING_FILE, &format!("meters:\n  - {text}\n"), expected);
    }
    for (text, expected) in [
        ("plans_by_price:\n  price_1: §proo\n", "there is no plan proo; did you mean pro?"),
        ("plans_by_price: §[pro]\n", "expected a map, found a list"),
        ("§prices: {}\n", "unknown field `prices`; known here: `meters`, `plans_by_price`"),
    ] {
        says_at_mark(BILLING_FILE, text, expected);
    }
}

#[test]
fn an_alias_in_a_meter_is_the_model_that_it_names() {
    let billing = "meters: [{id: m, event_name: e, unit: tokens, where: {model: large}}]\nplans_by_price: {price_1: pro}\n";
    let mut sources = sources(MODELS, PLANS, ROUTING);
    let hash = Files::load(&sources).expect("good files").hash();
    sources.billing = Some(billing.to_owned());
    let files = Files::load(&sources).expect("good files");
    let meter = &files.policy.billing.meters[0];
    assert_eq!(meter.only.model.as_ref().map(ModelId::as_str), Some("big"));
    assert_eq!(files.policy.billing.plans_by_price.len(), 1);
    assert_ne!(files.hash(), hash, "a file of billing says more than none");
}

#[test]
fn what_a_price_of_use_cannot_be_is_told_with_its_place() {
    let one = "tiers: [{unit_usd: \"1\"}]";
    let usage = |text: &str| format!("usage: [{{id: u, {text}}}]");
    let priced = |text: &str| format!("usage: [{{id: u, unit: tokens, {text}}}]");
    for (text, expected) in [
        (usage("unit: tokens"), "the field `tiers` is missing"),
        (
            usage(&format!("unit: §euro, {one}")),
            "\"euro\" is none of `tokens`, `usd`, `requests`, `credits`",
        ),
        (usage(&format!("budget_id: §c, {one}")), "this plan has no budget c"),
        (
            usage(&format!("budget_id: b, feature: §f, {one}")),
            "the budget says of which feature it is",
        ),
        (priced("tiers: §[]"), "a price has 1 to 64 tiers"),
        (priced("tiers: [§{}]"), "a tier has flat_usd, unit_usd, or both"),
        (
            priced("tiers: [§{up_to: 5, unit_usd: \"1\"}]"),
            "the last tier has no up_to, and every other one has",
        ),
        (
            priced("tiers: [{up_to: 5, unit_usd: \"1\"}, {up_to: §5, unit_usd: \"1\"}, {unit_usd: \"1\"}]"),
            "tiers rise: up_to is above that of the tier before",
        ),
        (
            priced("tiers: [{up_to: §\"5\", unit_usd: \"1\"}, {unit_usd: \"1\"}]"),
            "a limit in tokens is an integer without quotes",
        ),
        (priced(&format!("per: §0, {one}")), "per is above zero"),
        (
            priced("tiers: [{unit_usd: §1}]"),
            "an amount in usd is a decimal in quotes: write \"1\", not 1",
        ),
        (priced("tiers: [{unit_usd: §\"4000001\"}]"), "a price is at most 4000000 usd"),
        (
            priced(&format!("minimum_usd: §\"2\", maximum_usd: \"1\", {one}")),
            "minimum_usd (2.000000000) must not be above maximum_usd (1.000000000)",
        ),
        (
            priced("mode: package, package_size: 5, tiers: §[{unit_usd: \"1\"}]"),
            "a package has one tier, whose flat_usd is the price of a package",
        ),
        (
            priced("mode: §package, tiers: [{flat_usd: \"1\"}]"),
            "package_size belongs to mode package, and mode package needs it",
        ),
        (
            "seat_usd: \"5\", seat_tiers: §{tiers: [{unit_usd: \"1\"}]}".to_owned(),
            "seats have either tiers or one price: leave seat_usd out",
        ),
        (
            "seat_tiers: {tiers: [§{up_to: 5, unit_usd: \"1\"}]}".to_owned(),
            "the last tier has no up_to, and every other one has",
        ),
        (
            "minimum_usd: §\"2\", maximum_usd: \"1\"".to_owned(),
            "minimum_usd (2.000000000) must not be above maximum_usd (1.000000000)",
        ),
    ] {
        let text = match text.strip_suffix("unit: tokens}]") {
            Some(_) => text.replace("{id", "§{id"),
            None => text,
        };
        let budgets = "[{id: b, unit: tokens, period: month, hard: 5}]";
        let text = format!("plans:\n  - id: p\n    pricing: {{model: usage, {text}}}\n    budgets: {budgets}\n");
        says_at_mark(PLANS_FILE, &text, expected);
    }
}
