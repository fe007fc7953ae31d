//! Warnings, and the report as people read it.

use super::*;

const PLANS: &str = "plans:\n  - {id: p, budgets: [{id: b, unit: tokens, period: month, hard: 5}]}\n";

fn report(models: &str, plans: &str) -> Report {
    let sources = Sources {
        classifier: None,
        models: models.to_owned(),
        plans: plans.to_owned(),
        routing: "rules: []\n".to_owned(),
        messages: None,
        billing: None,
    };
    check_sources(&sources, Timestamp::parse("2026-11-24T00:00:00Z").expect("a time"))
}

/// Checks files in which § stands where a warning must be told; `expected` are the warnings in the order of the marks.
#[track_caller]
fn warns(models: &str, plans: &str, expected: &[&str]) {
    let places = [marks(MODELS_FILE, models), marks(PLANS_FILE, plans)].concat();
    let expected: Vec<String> = places.into_iter().zip(expected).map(|(place, detail)| place + detail).collect();
    let report = report(&models.replace('§', ""), &plans.replace('§', ""));
    assert!(report.is_good(), "{report}");
    let warned: Vec<String> = report.warnings.iter().map(FileProblem::to_string).collect();
    assert_eq!(warned, expected);
}

fn marks(file: &str, text: &str) -> Vec<String> {
    let mut places = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let marked = text.chars().enumerate().filter(|(_, c)| *c == '§');
        for (earlier, (column, _)) in marked.enumerate() {
            places.push(format!("{file}:{}:{}: ", line + 1, column + 1 - earlier));
        }
    }
    places
}

#[test]
fn a_price_that_may_not_be_meant_is_warned_of() {
    let nothing_in_force = "model m has no price in force: requests for it are refused";
    for (prices, expected) in [
        ("[{effective_from: \"2026-01-01\", input: \"1\", output: \"1\"}]", ""),
        ("[{input: \"1\", output: \"1\"}]", ""),
        ("§[]", nothing_in_force),
        ("§[{effective_from: \"2027-01-01\", input: \"1\", output: \"1\"}]", nothing_in_force),
        (
            "§[{effective_from: \"2025-01-01\", input: \"1\", output: \"1\"}]",
            "the price of m holds for more than a year: look it up again",
        ),
        (
            "§[{input: \"0\", output: \"0\"}]",
            "model m costs nothing: no budget in usd will notice it",
        ),
    ] {
        warns(
            &format!("models:\n  - {{id: m, provider: p, tier: fast, prices: {prices}}}\n"),
            PLANS,
            &[expected],
        );
    }
}

#[test]
fn stand_ins_that_never_stand_in_are_warned_of() {
    let models = "\
models:
  - {id: a, provider: p, tier: t, downgrades: [§b, c], fallbacks: [§b, d], prices: [{input: \"1\", output: \"1\"}]}
  - {id: b, provider: p, tier: t, prices: [{input: \"1\", output: \"1\"}]}
  - {id: c, provider: p, tier: t, prices: [{input: \"2\", output: \"0.50\"}]}
  - {id: d, provider: q, tier: t, prices: [{input: \"1\", output: \"1\"}]}
";
    let expected = [
        "b is never cheaper than a, so it is never downgraded to",
        "b is of provider p too, so it falls out together with a",
    ];
    warns(models, PLANS, &expected);
}

#[test]
fn plans_that_do_not_do_what_they_say_are_warned_of() {
    let models = "models:\n  - {id: m, provider: p, tier: fast, prices: [{input: \"1\", output: \"1\"}]}\n";
    for (budget, expected) in [
        ("hard: 5", ""),
        ("soft: §3, hard: 5, at_soft: []", "soft has no effect: at_soft is empty"),
        (
            "hard: 5, at_soft: §[throttle]",
            "at_soft has no effect: the budget has no soft limit",
        ),
        ("soft: §5, hard: 5", "soft is hard: there is nothing between them"),
        (
            "soft: 3, downgrade_to: §fast",
            "downgrade_to has no effect: at_soft does not downgrade",
        ),
        ("hard: 3, overage_hard: §5", "overage_hard has no effect: at_hard is deny"),
    ] {
        warns(
            models,
            &format!("plans:\n  - id: p\n    budgets: [{{id: b, unit: tokens, period: month, {budget}}}]\n"),
            &[expected],
        );
    }
    for (plans, expected) in [
        (
            "plans: [§{id: p}]\n",
            "this plan has no budget that counts and is not unlimited: every request is refused",
        ),
        (
            "plans: [{id: p, unlimited: true, allowed_models: [\"*\", §\"gpt-*\"]}]\n",
            "\"gpt-*\" matches no model of the catalogue",
        ),
        (
            "plans: [{id: p, budgets: [{id: b, unit: §credits, period: day}]}]\n",
            "models without credits count for nothing here: m",
        ),
    ] {
        warns(models, plans, &[expected]);
    }
    warns(&models.replace("id: m", "id: §m"), "plans: []\n", &["no plan allows model m"]);
}

#[test]
fn the_samples_have_no_doubts_but_the_age_of_two_prices() {
    let report = check_sources(&Sources::samples(), Timestamp::parse("2026-11-24T00:00:00Z").expect("a time"));
    assert!(report.is_good());
    assert!(
        report.warnings.iter().all(|warning| warning.detail.contains("more than a year")),
        "{report}"
    );
    assert_eq!(report.warnings.len(), 2, "{report}");
}

#[test]
fn a_report_reads_like_a_compilers() {
    let models = "models:\n  - {id: m, provider: p, tier: fast, prices: []}\n";
    let good = report(models, PLANS).to_string();
    assert_eq!(
        good,
        "\
models.yaml:2:46: warning: model m has no price in force: requests for it are refused
    2 |   - {id: m, provider: p, tier: fast, prices: []}
      |                                              ^
good: 1 model of 1 provider, 1 plan with 1 budget, 0 routing rules, 0 meters; 1 warning"
    );
    let bad = report(models, &PLANS.replace("hard: 5", "hard: -5")).to_string();
    assert_eq!(
        bad,
        "\
plans.yaml:2:66: error: a limit must be from 0 to 4000000000000000
    2 |   - {id: p, budgets: [{id: b, unit: tokens, period: month, hard: -5}]}
      |                                                                  ^
1 error"
    );
    let missing = check(Path::new("/nowhere"), Timestamp::MIN);
    assert!(!missing.is_good());
    assert!(missing.to_string().ends_with("3 errors"), "{missing}");
}
