//! What an operator is told about a bad file: file, line, column and what would be right. The tables are the specification.

use super::*;
use crate::policy::object::ROUTING_ID;

mod fair_use;
mod messages;
mod tables;

const MODELS: &str = "\
models:
  - id: big
    provider: acme
    tier: frontier
    aliases: [large]
    downgrades: [small]
    prices: [{input: \"3\", output: \"15\"}]
  - {id: small, provider: acme, tier: fast, prices: [{input: \"1\", output: \"5\"}]}
";
const PLANS: &str = "\
default_plan: pro
plans:
  - id: pro
    budgets:
      - {id: monthly, unit: tokens, period: month, soft: 8, hard: 10}
";
const ROUTING: &str = "rules: []\n";

fn sources(models: &str, plans: &str, routing: &str) -> Sources {
    Sources {
        classifier: None,
        models: models.to_owned(),
        plans: plans.to_owned(),
        routing: routing.to_owned(),
        messages: None,
        billing: None,
    }
}

fn told(sources: &Sources) -> Vec<String> {
    match Files::load(sources) {
        Ok(_) => Vec::new(),
        Err(FileProblems(problems)) => problems.iter().map(FileProblem::to_string).collect(),
    }
}

#[track_caller]
fn says(sources: &Sources, expected: &[&str]) {
    assert_eq!(told(sources), expected);
}

/// Reads a file in which § stands where the one problem must be told.
#[track_caller]
fn says_at_mark(file: &str, text: &str, expected: &str) {
    let (before, after) = text.split_once('§').expect("a mark");
    let (line, column) = (
        before.split('\n').count(),
        before.chars().rev().take_while(|c| *c != '\n').count() + 1,
    );
    let text = format!("{before}{after}");
    let sources = match file {
        MODELS_FILE => sources(&text, "plans: []\n", ROUTING),
        PLANS_FILE => sources(MODELS, &text, ROUTING),
        MESSAGES_FILE => Sources {
            messages: Some(text),
            ..sources(MODELS, PLANS, ROUTING)
        },
        BILLING_FILE => Sources {
            billing: Some(text),
            ..sources(MODELS, PLANS, ROUTING)
        },
        _ => sources(MODELS, PLANS, &text),
    };
    says(&sources, &[&format!("{file}:{line}:{column}: {expected}")]);
}

#[test]
fn the_ground_of_these_tests_is_good() {
    says(&sources(MODELS, PLANS, ROUTING), &[]);
    says(&Sources::samples(), &[]);
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let models = MODELS.replace("[small]", "[smal]").replace("tier: fast", "teir: fast");
    let plans = "\
plans:
  - id: one
    budgets:
      - {id: a, unit: tokens, period: month, hard: x, soft: 1.5}
      - {unit: tokens, period: month}
      - {id: c, unit: tokens, perriod: month, hard: 5}
      - {id: d, unit: euro, period: month, alert: []}
  - 7
  - id: two
    budgets: [{id: a, unit: usd, period: month, soft: \"2\", hard: \"1\"}]
  - id: three
    budgets: [{id: a, unit: usd, period: month, downgrade_to: fast}]
";
    let routing = "rules:\n  - {name: a, mode: batch}\n  - {name: b, when: foo, mode: batch}\n";
    says(
        &sources(&models, plans, routing),
        &[
            "models.yaml:8:33: unknown field `teir`; did you mean `tier`?",
            "plans.yaml:4:52: \"x\" is not a decimal number such as \"12.50\"",
            "plans.yaml:4:61: a limit is an integer; if usd is meant, a decimal in quotes: \"1.5\"",
            "plans.yaml:5:9: the field `id` is missing",
            "plans.yaml:6:31: unknown field `perriod`; did you mean `period`?",
            "plans.yaml:7:23: \"euro\" is none of `tokens`, `usd`, `requests`, `credits`",
            "plans.yaml:7:44: unknown field `alert`; did you mean `alerts`?",
            "plans.yaml:8:5: expected a plan as a mapping, found integer `7`",
            "plans.yaml:10:55: soft (2.000000000) must not be above hard (1.000000000)",
            "routing.yaml:2:5: the field `when` is missing",
            "routing.yaml:3:21: unknown name `foo`",
        ],
    );
}

#[test]
fn what_a_broken_file_might_still_name_is_not_called_missing() {
    let broken = MODELS.replace("tier: fast", "tier: 5");
    let plans = PLANS.replace("hard: 10", "hard: 10, downgrade_to: fast");
    says(
        &sources(&broken, &plans, ROUTING),
        &["models.yaml:8:39: expected a tier as a string, found integer `5`"],
    );
}

#[test]
fn a_problem_inside_of_an_anchor_is_told_where_the_anchor_stands() {
    let plans = "\
plans:
  - id: one
    budgets: &common
      - {id: a, unit: tokens, period: month, hard: -1}
  - id: two
    budgets: *common
";
    let line = "plans.yaml:4:52: a limit must be from 0 to 4000000000000000";
    says(&sources(MODELS, plans, ROUTING), &[line, line]);
}

#[test]
fn files_that_cannot_be_read_are_told_each() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join(MODELS_FILE), b"models: [\xff]").expect("written");
    std::fs::write(directory.path().join(PLANS_FILE), vec![b'#'; FILE_BYTES_MAX + 1]).expect("written");
    let FileProblems(problems) = Sources::read(directory.path()).expect_err("routing.yaml is missing");
    let lines: Vec<String> = problems.iter().map(FileProblem::to_string).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "models.yaml:1:1: the file is not UTF-8");
    assert!(lines[1].starts_with("routing.yaml:1:1: the file cannot be read: "), "{lines:?}");
    let long = sources(MODELS, &"#".repeat(FILE_BYTES_MAX + 1), ROUTING);
    says(&long, &["plans.yaml:1:1: a policy file has at most 16777216 bytes"]);
}

#[test]
fn the_hash_changes_with_what_is_said_and_not_with_how() {
    let load = |models: &str, plans: &str| Files::load(&sources(models, plans, ROUTING)).expect("good files").hash();
    let hash = load(MODELS, PLANS);
    assert_eq!(
        load(&format!("# a comment\n{MODELS}"), &PLANS.replace("hard: 10", "hard: 0xA")),
        hash
    );
    assert_ne!(load(MODELS, &PLANS.replace("hard: 10", "hard: 11")), hash);
    assert_ne!(load(&MODELS.replace("\"15\"", "\"16\""), PLANS), hash);
}

#[test]
fn what_files_say_goes_through_the_ledger_unchanged() {
    let files = Files::load(&Sources::samples()).expect("the samples");
    let objects = files.objects();
    let stored = objects.iter().map(|object| {
        let text = object.body.to_string();
        let body = serde_json::from_str(&text).expect("what was written");
        Object::stored(object.id.kind.as_str(), &object.id.id, object.version, body).expect("a known kind")
    });
    let policy = Policy::build(stored.collect(), 7, None).expect("the samples");
    assert_eq!(object::diff(&objects, &policy.objects().cloned().collect::<Vec<_>>()), []);
    assert_eq!(policy.plans, files.policy.plans);
    assert_eq!(policy.catalogue.models(), files.policy.catalogue.models());
    assert_eq!(policy.version, 7);
    assert!(
        objects
            .iter()
            .any(|object| object.id.kind == Kind::Routing && object.id.id == ROUTING_ID)
    );
}
