//! Every problem, once, with its place and the kind of answer that follows from it.

use super::*;
use crate::policy::document::{BudgetDocument, ModelDocument, PlanDocument};
use serde_json::json;

fn faults<T: DeserializeOwned>(value: Value) -> Vec<(String, Fault)> {
    let problems = read::<T>(&value).err().unwrap_or_default();
    problems.into_iter().map(|problem| (problem.pointer, problem.fault)).collect()
}

/// 400 or 422 follows from this.
#[test]
fn a_wrong_shape_is_told_apart_from_an_unacceptable_value() {
    for (field, value, expected) in [
        ("hard", json!("x"), Fault::Value),
        ("hard", json!(-1), Fault::Value),
        ("hard", json!(5.5), Fault::Shape),
        ("hard", json!(true), Fault::Shape),
        ("unit", json!("euro"), Fault::Value),
        ("unit", json!(5), Fault::Shape),
        ("unit", json!(null), Fault::Shape),
        ("id", json!("a b"), Fault::Value),
        ("id", json!(5), Fault::Shape),
        ("throttle_ms", json!(-1), Fault::Value),
        ("throttle_ms", json!(5.5), Fault::Shape),
        ("throttle_ms", json!("5"), Fault::Shape),
        ("alerts", json!([2]), Fault::Value),
        ("alerts", json!(["1"]), Fault::Shape),
        ("per_seat", json!("true"), Fault::Shape),
        ("per_seat", json!(null), Fault::Shape),
        ("other", json!(1), Fault::Shape),
    ] {
        let mut budget = json!({"id": "b", "unit": "tokens", "period": "month"});
        budget[field] = value.clone();
        let found = faults::<BudgetDocument>(budget);
        assert_eq!(found.len(), 1, "{field}: {value}");
        assert!(
            found[0].0.starts_with(&format!("/{field}")) && found[0].1 == expected,
            "{field}: {value}: {found:?}"
        );
    }
}

#[test]
fn every_problem_is_named_once_in_the_places_of_the_original() {
    let found = faults::<PlanDocument>(json!({
        "id": 5,
        "budgets": [7, {"id": "a", "unit": "tokens", "period": "month", "hard": "x"}, "y", {"unit": "usd", "hard": false}],
        "features": {"a/b": {"cache": {"threshold": 7, "bill": []}}, "c d": {}},
        "nmae": "Pro",
    }));
    let expected = [
        ("/id", Fault::Shape),
        ("/budgets/0", Fault::Shape),
        ("/budgets/1/hard", Fault::Value),
        ("/budgets/2", Fault::Shape),
        ("/budgets/3/hard", Fault::Shape),
        ("/budgets/3", Fault::Shape),
        ("/features/a~1b/cache/threshold", Fault::Value),
        ("/features/a~1b/cache/bill", Fault::Shape),
        ("/features/c d", Fault::Value),
        ("/nmae", Fault::Shape),
    ];
    let expected: Vec<(String, Fault)> = expected.into_iter().map(|(pointer, fault)| (pointer.to_owned(), fault)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_struct_is_not_read_from_a_list() {
    assert_eq!(faults::<ModelDocument>(json!(["m", "p", "t"])), [(String::new(), Fault::Shape)]);
}

#[test]
fn the_number_of_problems_is_bounded() {
    let budgets: Vec<Value> = (0..1_000).map(|n| json!({"id": n, "unit": 5})).collect();
    assert_eq!(faults::<PlanDocument>(json!({"id": "p", "budgets": budgets})).len(), PROBLEMS_MAX);
}
