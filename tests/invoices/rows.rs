//! Rows of what other billing systems and price calculators compute, held against ours: each has a price, a use and what it comes to. The file
//! is named by the environment, or the small one of our own is taken. A row that says something that Weir's prices cannot say is counted.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use weir::decision::money::Usd;
use weir::decision::price::{Mode, Price};
use weir::decision::rating::{self, Commitment, Metered, Position, Tier, Tiers};
use weir::decision::time::Timestamp;
use weir::decision::usage::Pools;
use weir::policy::files::{Files, Sources};

const ROWS: &str = "WEIR_RATING_ROWS";

/// Why a row is not one of ours: what it prices has no rate of its own here.
const WITHOUT_A_RATE: [&str; 1] = ["output_image"];

#[test]
fn every_row_is_exact() {
    let text = match std::env::var(ROWS) {
        Ok(path) => std::fs::read_to_string(path).expect("the file of rows"),
        Err(_) => include_str!("../data/rating_cases.jsonl").to_owned(),
    };
    let (mut exact, mut foreign, mut wrong) = (0, Vec::new(), Vec::new());
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect(line);
        let id = row["id"].as_str().expect("an id").to_owned();
        let judged = match row["mode"].as_str().expect("a mode") {
            "graduated" | "volume" | "package" | "unit" => Ok(tiers(&row)),
            _ => of_models(&row),
        };
        match judged {
            Ok(Ok(())) => exact += 1,
            Ok(Err(why)) => wrong.push(format!("{id} {}: {why}", row["name"])),
            Err(why) => foreign.push(format!("{id} {}: {why}", row["name"])),
        }
    }
    println!("{exact} rows exact, {} beyond what prices say here: {foreign:#?}", foreign.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        foreign.iter().all(|row| WITHOUT_A_RATE.iter().any(|word| row.contains(word))),
        "{foreign:#?}"
    );
    assert!(exact > 0);
}

fn dollars(value: &Value) -> Option<Usd> {
    match value {
        Value::Null => None,
        number => Some(Usd::parse(&number.to_string()).expect("whole dollars")),
    }
}

/// A row about the use of a period.
fn tiers(row: &Value) -> Result<(), String> {
    let number = |name: &str| row[name].as_i64().unwrap_or(0);
    let mode = match row["mode"].as_str().expect("a mode") {
        "volume" => rating::Mode::Volume,
        "package" => rating::Mode::Package,
        _ => rating::Mode::Graduated,
    };
    let tier = |tier: &Value| Tier {
        up_to: tier["up_to"].as_i64(),
        flat: dollars(&tier["flat"]).or(dollars(&tier["amount"])),
        unit: dollars(&tier["unit"]),
    };
    let tiers = row["price"]
        .as_array()
        .map_or_else(|| vec![tier(&row["price"])], |list| list.iter().map(tier).collect());
    let price = rating::Price {
        tiers: Tiers {
            mode,
            per: 1,
            tiers,
            package_size: row["price"]["package_size"].as_i64().unwrap_or(1),
        },
        commitment: Commitment {
            minimum: dollars(&row["minimum"]),
            maximum: dollars(&row["maximum"]),
        },
    };
    let metered = Metered {
        before: number("usage_before"),
        quantity: number("usage"),
        position: match row["line_position"].as_str() {
            Some("first") => Position::First,
            Some("mid") => Position::Mid,
            Some("last") => Position::Last,
            _ => Position::Single,
        },
        billed: dollars(&row["already_billed"]).unwrap_or(Usd::ZERO),
    };
    let charges = price.charges(&metered).expect("small");
    let total = rating::sum(&charges).expect("small");
    let lines: Vec<(i64, Usd)> = charges.iter().map(|charge| (charge.quantity, charge.price)).collect();
    if Some(total) != dollars(&row["expect"]["total"]) {
        return Err(format!("comes to {total}, not {}", row["expect"]["total"]));
    }
    if let Some(expected) = row["expect"]["lines"].as_array() {
        let expected: Vec<(i64, Usd)> = expected
            .iter()
            .map(|line| (line[0].as_i64().expect("a quantity"), dollars(&line[1]).expect("a price")))
            .collect();
        if lines != expected {
            return Err(format!("has lines {lines:?}, not {expected:?}"));
        }
    }
    Ok(())
}

/// USD per million tokens as text, of a rate that a row gives for a million or for one.
fn rate(value: &Value, per_token: bool) -> String {
    let text = value.to_string();
    let decimal = rust_decimal::Decimal::from_scientific(&text)
        .or_else(|_| text.parse())
        .expect("a rate");
    let million = if per_token { 1_000_000 } else { 1 };
    (decimal * rust_decimal::Decimal::from(million)).normalize().to_string()
}

/// The names of pools in rows, and in our prices.
const POOLS: [(&str, &str); 3] = [("input", "input"), ("output", "output"), ("cached", "cache_read")];

/// A price as `models.yaml` writes it; the outer error names what it has no word for.
fn price_of(row: &Value) -> Result<Value, String> {
    let name = row["name"].as_str().unwrap_or_default();
    let per_token = row["mode"] == "llm_rates_per_token";
    let given = match &row["price"] {
        // Public list prices, which rows name only once.
        Value::Null if name.starts_with("claude-sonnet-4.5") => json!({"input": 3, "output": 15, "cached": 0.3,
            "input_above_200k": 6, "output_above_200k": 22.5, "cached_above_200k": 0.6}),
        Value::Null if name.starts_with("gpt-5.4") => json!({"input": 2.5, "input_above_272k": 5, "output": 15, "output_above_272k": 22.5,
            "cached": 0.25, "cached_above_272k": 0.5}),
        given => given.clone(),
    };
    let given = given.as_object().expect("a price");
    if let Some(word) = given.keys().find(|key| WITHOUT_A_RATE.contains(&key.as_str())) {
        return Err(word.clone());
    }
    // Rates by pool, each from a threshold on.
    let mut steps: Vec<(&str, i64, String)> = Vec::new();
    for (pool, ours) in POOLS {
        if let Some(list) = given.get(pool).and_then(Value::as_array) {
            for step in list {
                steps.push((ours, step["above"].as_i64().expect("a threshold"), rate(&step["rate"], per_token)));
            }
        } else if let Some(base) = given.get(pool) {
            steps.push((ours, 0, rate(base, per_token)));
        }
        let service = row["service_tier"].as_str().unwrap_or("standard");
        for (key, value) in given {
            let Some(rest) = key.strip_prefix(pool).and_then(|rest| rest.strip_prefix("_above_")) else {
                continue;
            };
            // A service tier has prices of its own, as a model of its own has.
            let (threshold, of_tier) = match rest.split_once('_') {
                Some((threshold, tier)) if tier == service => (threshold, true),
                Some(_) => continue,
                None => (rest, false),
            };
            let thousands: i64 = threshold.trim_end_matches('k').parse().expect(key);
            let at = thousands * 1_000;
            if of_tier {
                steps.retain(|(other, above, _)| (*other, *above) != (ours, at));
            }
            if of_tier || !steps.iter().any(|(other, above, _)| (*other, *above) == (ours, at)) {
                steps.push((ours, at, rate(value, per_token)));
            }
        }
    }
    let thresholds: BTreeSet<i64> = steps.iter().map(|(_, above, _)| *above).collect();
    let rates_at = |above: i64| {
        let mut rates = Map::new();
        for (_, ours) in POOLS {
            let of_pool = steps.iter().filter(|(pool, from, _)| *pool == ours && *from <= above);
            if let Some((_, _, rate)) = of_pool.max_by_key(|(_, from, _)| *from) {
                rates.insert(ours.to_owned(), json!(rate));
            }
        }
        rates.entry("output").or_insert(json!("0"));
        rates.entry("input").or_insert(json!("0"));
        rates
    };
    let mut price = rates_at(0);
    let above: Vec<Value> = thresholds
        .into_iter()
        .filter(|above| *above > 0)
        .map(|above| {
            let mut step = rates_at(above);
            step.insert("tokens".to_owned(), json!(above));
            Value::Object(step)
        })
        .collect();
    price.insert("above".to_owned(), json!(above));
    if let Some(off_peak) = given.get("off_peak") {
        price.insert("off_peak".to_owned(), off_peak_of(off_peak));
    }
    Ok(Value::Object(price))
}

fn off_peak_of(given: &Value) -> Value {
    let mut off_peak = Map::new();
    for (pool, ours) in POOLS {
        if let Some(value) = given.get(pool) {
            off_peak.insert(ours.to_owned(), json!(rate(value, true)));
        }
    }
    let list = |hours: &Value| if hours.is_array() { hours.clone() } else { json!([hours]) };
    let windows = match given.get("windows").and_then(Value::as_array) {
        Some(windows) => windows
            .iter()
            .map(|window| json!({"hours_utc": list(&window["hours_utc"]), "weekdays": window["weekdays"]}))
            .collect(),
        None => vec![json!({"hours_utc": list(&given["hours_utc"])})],
    };
    off_peak.insert("windows".to_owned(), json!(windows));
    Value::Object(off_peak)
}

/// A row about one request of a model.
fn of_models(row: &Value) -> Result<Result<(), String>, String> {
    let price = price_of(row)?;
    let models = json!({"models": [{"id": "m", "provider": "p", "tier": "t", "prices": [price]}]});
    let sources = Sources {
        classifier: None,
        models: models.to_string(),
        plans: "plans: []\n".to_owned(),
        routing: "rules: []\n".to_owned(),
        messages: None,
        billing: None,
    };
    let files = Files::load(&sources).unwrap_or_else(|problems| panic!("{}: {problems}", row["name"]));
    let at = row["at"]
        .as_str()
        .map_or("2026-01-01T12:00:00Z".to_owned(), |at| at.replace('Z', ":00Z"));
    let at = Timestamp::parse(&at).expect("a time");
    let model = files.policy.catalogue.get("m").expect("the model");
    let price = model.price_at(at).expect("a price");
    let number = |name: &str| row["usage"][name].as_i64().unwrap_or(0);
    let cached = number("cached_input");
    let input = Pools {
        // What was cached lies inside of what came in, where both are told.
        input_tokens: (number("input") - cached).max(0),
        cache_read_tokens: cached,
        ..Pools::default()
    };
    let output = number("output");
    let expect = row["expect"].as_object().expect("an expectation");
    for (what, value) in expect {
        let of_input = cost(price, input, 0);
        // The step is chosen by the input, so the answer's cost is what it adds.
        let of_output = cost(price, input, output) - of_input;
        let (found, times) = match what.as_str() {
            "input_usd" | "cost_input" => (of_input, None),
            "output_usd" | "cost_output" => (of_output, None),
            "cost" => (of_input + of_output, None),
            "rate_input" => (of_input, Some(number("input"))),
            "rate_output" => (of_output, Some(output)),
            other => panic!("{other} is no expectation that is known here"),
        };
        let expected = match (value, times) {
            (Value::String(text), _) => Usd::parse(text).expect(text).nanos(),
            // A rate for a token, and so many tokens.
            (number, Some(tokens)) => Usd::parse(&rate(number, true)).expect("usd").nanos() * tokens / 1_000_000,
            (number, None) => Usd::parse(&rate(number, false)).expect("usd").nanos(),
        };
        if found != expected {
            return Ok(Err(format!(
                "{what} is {}, not {}",
                Usd::from_nanos(found),
                Usd::from_nanos(expected)
            )));
        }
    }
    Ok(Ok(()))
}

fn cost(price: &Price, input: Pools, output: i64) -> i64 {
    let pools = Pools {
        output_tokens: output,
        ..input
    };
    price.cost(&pools, Mode::Interactive, 1).expect("small").nanos()
}
