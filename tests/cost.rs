//! The pricing function against tables: our own, and others' where an environment variable names their file.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir::decision::price::{Mode, Price};
use weir::decision::usage::Pools;
use weir::policy::compile::compile;
use weir::policy::document::{Documents, ModelDocument};

/// The price that a policy file with these rates makes.
fn compiled(rates: &Value) -> Price {
    let mut price = rates.clone();
    price["effective_from"] = "2025-01-01".into();
    let model = json!({"id": "m", "provider": "p", "tier": "t", "max_input_tokens": 1, "max_output_tokens": 1, "prices": [price]});
    let model: ModelDocument = serde_json::from_value(model).unwrap_or_else(|error| panic!("{rates}: {error}"));
    let documents = Documents {
        models: vec![(1, model)],
        ..Documents::default()
    };
    let compiled = compile(&documents).unwrap_or_else(|problems| panic!("{rates}: {problems:?}"));
    Price::clone(&compiled.catalogue.models()[0].prices[0])
}

fn count(usage: &Value, name: &str) -> i64 {
    usage.get(name).and_then(Value::as_i64).unwrap_or(0)
}

#[test]
fn every_row_of_our_table_is_exact() {
    let table = include_str!("data/cost_cases.jsonl");
    let mut rows = 0;
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).expect("a row of JSON");
        let usage = &row["usage"];
        let pools = Pools {
            input_tokens: count(usage, "input"),
            cache_read_tokens: count(usage, "read"),
            cache_write_tokens: count(usage, "write"),
            cache_write_1h_tokens: count(usage, "write_1h"),
            output_tokens: count(usage, "output"),
            ..Pools::default()
        };
        let mode = if row["mode"] == "batch" { Mode::Batch } else { Mode::Interactive };
        let requests = row["requests"].as_i64().expect("a number");
        let cost = compiled(&row["price"])
            .cost(&pools, mode, requests)
            .expect("a cost that an entry may have");
        assert_eq!(cost.to_string(), row["cost_usd"].as_str().expect("a text"), "{}", row["why"]);
        rows += 1;
    }
    assert!(rows >= 30, "only {rows} rows were read");
}

/// `WEIR_COST_ROWS=FILE cargo test --test cost`: rows with `usage` (input including what was cached and written), either
/// `rates_usd_per_mtok` of their own or `model` of the sample policies, and `expected_cost_usd`.
#[test]
fn rows_of_others_are_exact() {
    let Ok(file) = std::env::var("WEIR_COST_ROWS") else { return };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (mut right, mut wrong) = (0, BTreeMap::<String, String>::new());
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("a row of JSON");
        if row["agree"] != true {
            continue;
        }
        let expected: rust_decimal::Decimal = row["expected_cost_usd"].as_str().expect("a cost").parse().expect("a decimal");
        let cost = rates_of(&row).cost(&pools_of(&row["usage"]), Mode::Interactive, 1).expect("a cost");
        let cost: rust_decimal::Decimal = cost.to_string().parse().expect("a decimal");
        if cost == expected.round_dp_with_strategy(9, rust_decimal::RoundingStrategy::MidpointNearestEven) {
            right += 1;
        } else {
            wrong.insert(
                row["id"].to_string(),
                format!("{} {}: {cost}, expected {expected}", row["model"], row["case"]),
            );
        }
    }
    println!("{right} rows exact, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn pools_of(usage: &Value) -> Pools {
    let (read, write) = (count(usage, "cached_input"), count(usage, "cache_write"));
    let hour = count(usage, "cache_write_1h");
    Pools {
        input_tokens: count(usage, "input") - read - write,
        cache_read_tokens: read,
        cache_write_tokens: write - hour,
        cache_write_1h_tokens: hour,
        output_tokens: count(usage, "output"),
        ..Pools::default()
    }
}

fn rates_of(row: &Value) -> Price {
    let rates = &row["rates_usd_per_mtok"];
    let Some(rates) = rates.as_object() else {
        let policy = weir::policy::Policy::samples();
        let name = row["model"].as_str().expect("a model");
        let model = policy
            .catalogue
            .find(name)
            .unwrap_or_else(|| panic!("{name} is not among the sample models"));
        return Price::clone(model.prices.last().expect("a price"));
    };
    let names = [
        ("input_mtok", "input"),
        ("output_mtok", "output"),
        ("cache_read_mtok", "cache_read"),
        ("cache_write_mtok", "cache_write"),
        ("cache_write_1h_mtok", "cache_write_1h"),
    ];
    let mut base = serde_json::Map::new();
    let mut above = serde_json::Map::new();
    for (theirs, ours) in names {
        match rates.get(theirs) {
            Some(Value::String(rate)) => {
                base.insert(ours.to_owned(), rate.clone().into());
            }
            Some(tiered) => {
                base.insert(ours.to_owned(), tiered["base"].clone());
                above.insert(ours.to_owned(), tiered["tiers"][0]["price"].clone());
                above.insert("tokens".to_owned(), tiered["tiers"][0]["start"].clone());
            }
            None => {}
        }
    }
    // Models that answer nothing have no output rate there; ours want it said.
    base.entry("output").or_insert_with(|| "0".into());
    if !above.is_empty() {
        for (_, ours) in names {
            if let (Some(rate), false) = (base.get(ours), above.contains_key(ours)) {
                above.insert(ours.to_owned(), rate.clone());
            }
        }
        base.insert("above".to_owned(), above.into());
    }
    compiled(&Value::Object(base))
}
