//! The committed schemas are those of the types, and the sample files are good by them.

use super::*;
use crate::decision::id::ModelId;
use crate::decision::money::Usd;
use crate::policy::document::{NAME_PATTERN, USD_PATTERN};
use crate::policy::files::Sources;
use crate::policy::yaml;

/// Set to write the schemas anew.
const UPDATE: &str = "WEIR_UPDATE";

#[test]
fn the_committed_schemas_are_current() {
    for (name, schema) in schemas().into_iter().chain([cases_schema()]) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name);
        let text = format!("{schema:#}\n");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&path, &text).expect(name);
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "policies/{name} is not what the types say; write it with {UPDATE}=1 cargo test"
        );
    }
}

#[test]
fn the_sample_files_are_good_by_their_schemas() {
    let sources = Sources::samples();
    let billing = sources.billing.as_ref().expect("a sample");
    for ((name, schema), text) in schemas().iter().zip([&sources.models, &sources.plans, &sources.routing, billing]) {
        let value = yaml::parse(text).expect(name).to_value();
        assert_eq!(wrong(&value, schema, schema, ""), None, "{name}");
    }
}

#[test]
fn the_schemas_refuse_what_reading_refuses() {
    let [(_, models), (_, plans), (_, routing), (_, billing)] = schemas();
    for (schema, text, place) in [
        (
            &models,
            r#"{"models": [{"id": "m", "provider": "p", "tier": "t", "prices": [{"input": 3, "output": "1"}]}]}"#,
            "/models/0/prices/0/input",
        ),
        (&models, r#"{"models": [{"id": "m", "provider": "p"}]}"#, "/models/0"),
        (
            &plans,
            r#"{"plans": [{"id": "p", "budgets": [{"id": "b", "unit": "tokens", "period": "month", "budget": 5}]}]}"#,
            "/plans/0/budgets/0/budget",
        ),
        (
            &plans,
            r#"{"plans": [{"id": "p", "budgets": [{"id": "b", "unit": "tokens", "period": "month", "hard": -1}]}]}"#,
            "/plans/0/budgets/0/hard",
        ),
        (&plans, r#"{"plans": [{"id": "a b"}]}"#, "/plans/0/id"),
        (
            &routing,
            r#"{"rules": [{"name": "r", "when": "true", "mode": "bulk"}]}"#,
            "/rules/0/mode",
        ),
        (
            &billing,
            r#"{"meters": [{"id": "m", "event_name": "e", "unit": "tokens", "scale": 0.001}]}"#,
            "/meters/0/scale",
        ),
    ] {
        let value: Value = serde_json::from_str(text).expect(text);
        assert_eq!(wrong(&value, schema, schema, "").as_deref(), Some(place), "{text}");
    }
}

/// The pointer to the first place that is not as `schema` wants it. Knows the part of JSON Schema that our types make, and nothing else.
fn wrong(value: &Value, schema: &Value, root: &Value, place: &str) -> Option<String> {
    let here = |good: bool| (!good).then(|| place.to_owned());
    let Value::Object(rules) = schema else {
        return here(schema == &Value::Bool(true));
    };
    rules.iter().find_map(|(rule, wanted)| match rule.as_str() {
        "$schema" | "title" | "description" | "default" | "format" | "$defs" => None,
        "$ref" => {
            let target = wanted
                .as_str()
                .and_then(|reference| root.pointer(reference.trim_start_matches('#')));
            wrong(value, target.expect("a reference into this schema"), root, place)
        }
        "type" => here(is_of_type(value, wanted)),
        "enum" => here(wanted.as_array().expect("a list").contains(value)),
        "const" => here(wanted == value),
        "minimum" => here(value.as_f64() >= wanted.as_f64()),
        "maximum" => here(value.as_f64() <= wanted.as_f64()),
        "pattern" => here(fits(value.as_str().unwrap_or_default(), wanted.as_str().expect("a pattern"))),
        "oneOf" | "anyOf" => {
            let good = wanted
                .as_array()
                .expect("a list")
                .iter()
                .any(|one| wrong(value, one, root, place).is_none());
            here(good)
        }
        "required" => here(
            wanted
                .as_array()
                .expect("a list")
                .iter()
                .all(|name| value.get(name.as_str().unwrap_or_default()).is_some()),
        ),
        "items" => value
            .as_array()?
            .iter()
            .enumerate()
            .find_map(|(n, item)| wrong(item, wanted, root, &format!("{place}/{n}"))),
        "properties" => value
            .as_object()?
            .iter()
            .find_map(|(name, member)| wrong(member, wanted.get(name)?, root, &format!("{place}/{name}"))),
        "additionalProperties" => {
            let known = rules.get("properties").and_then(Value::as_object);
            let others = value
                .as_object()?
                .iter()
                .filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name)));
            others
                .into_iter()
                .find_map(|(name, member)| wrong(member, wanted, root, &format!("{place}/{name}")))
        }
        other => panic!("this test does not know the rule {other} at {place}"),
    })
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("this test does not know the type {other}"),
    };
    match wanted {
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        name => is(name.as_str().expect("a type")),
    }
}

/// The two patterns of our schemas, judged by the types that they describe.
fn fits(text: &str, pattern: &str) -> bool {
    match pattern {
        NAME_PATTERN => ModelId::parse(text).is_ok(),
        USD_PATTERN => Usd::parse(text).is_ok_and(|usd| usd >= Usd::ZERO),
        other => panic!("this test does not know the pattern {other}"),
    }
}
