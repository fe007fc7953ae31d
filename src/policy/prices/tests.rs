//! Small tables of our own making in both formats: what is taken, exactly; what is refused, by name; what an edit leaves as it was.

use super::merge::{Merge, Terms, TierRule, merge};
use super::*;
use crate::decision::id::Tier;
use crate::policy::document::{ModelDocument, ModelsFile, SourceDocument};
use crate::policy::yaml;
use serde_json::{Value, json};

fn table(text: &Value) -> Table {
    read(&text.to_string(), None, &Selection::default()).expect("a table")
}

/// One model of LiteLLM's table, with what makes it one.
fn litellm(fields: Value) -> Table {
    let mut model = json!({"litellm_provider": "acme", "mode": "chat"});
    model
        .as_object_mut()
        .expect("an object")
        .extend(fields.as_object().expect("an object").clone());
    table(&json!({"sample_spec": {"mode": "one of"}, "m": model}))
}

fn genai(prices: Value) -> Table {
    table(&json!([{"id": "acme", "models": [{"id": "m", "context_window": 1000, "prices": prices}]}]))
}

/// The prices of the one model, without what they do not say.
fn taken(table: &Table) -> Vec<Value> {
    assert_eq!(table.refused, [], "it is taken");
    table.quotes[0].prices.iter().map(|(_, price)| said(price)).collect()
}

fn said(price: &PriceDocument) -> Value {
    let mut value = serde_json::to_value(price).expect("JSON");
    let members = value.as_object_mut().expect("an object");
    members.retain(|name, value| !value.is_null() && name != "source" && *value != json!([]) && *value != json!(0));
    members.retain(|name, value| !(name == "request" && *value == json!("0.000000000")) && name != "effective_from");
    value
}

fn refusal(table: &Table) -> (Reason, &str) {
    assert_eq!(table.quotes, [], "it is refused");
    (table.refused[0].reason, &table.refused[0].detail)
}

fn usd(text: &str) -> String {
    crate::decision::money::Usd::parse(text).expect(text).to_string()
}

#[test]
fn rates_per_token_become_rates_per_million_exactly() {
    // As text, because a number of ours would be rounded before anybody reads it.
    let text = r#"{"m": {"litellm_provider": "acme", "mode": "chat", "max_tokens": 4096, "max_input_tokens": 200000.0,
        "input_cost_per_token": 1e-7, "output_cost_per_token": 0.00000075, "cache_read_input_token_cost": 2.5E-08,
        "cache_creation_input_token_cost": 1.25e-07, "cache_creation_input_token_cost_above_1hr": 2e-07,
        "input_cost_per_audio_token": 3.5e-06, "input_cost_per_request": 0.005, "supports_vision": true,
        "input_cost_per_token_above_200k_tokens": 2e-7, "cache_read_input_token_cost_above_200k_tokens": 5e-08}}"#;
    let table = read(text, None, &Selection::default()).expect("a table");
    let expected = json!({"input": usd("0.1"), "output": usd("0.75"), "cache_read": usd("0.025"), "cache_write": usd("0.125"),
        "cache_write_1h": usd("0.2"), "audio_input": usd("3.5"), "request": usd("0.005"),
        "above": [{"tokens": 200000, "input": usd("0.2"), "output": usd("0.75"), "cache_read": usd("0.05"), "cache_write": usd("0.125"),
            "cache_write_1h": usd("0.2"), "audio_input": usd("3.5"), "audio_output": null, "image_input": null}]});
    assert_eq!(taken(&table), [expected]);
    let quote = &table.quotes[0];
    assert_eq!((quote.max_input_tokens, quote.max_output_tokens), (Some(200_000), Some(4_096)));
}

#[test]
fn a_batch_price_is_one_discount_or_is_left_out() {
    let of = |fields: Value| {
        let mut all = json!({"input_cost_per_token": "2e-06", "output_cost_per_token": "8e-06"});
        all.as_object_mut()
            .expect("an object")
            .extend(fields.as_object().expect("an object").clone());
        let table = litellm(all);
        (taken(&table)[0]["batch_discount"].clone(), table.quotes[0].left_out.clone())
    };
    let (batch_in, batch_out) = ("input_cost_per_token_batches", "output_cost_per_token_batches");
    assert_eq!(of(json!({})), (Value::Null, vec![]));
    assert_eq!(of(json!({batch_in: "1e-06", batch_out: "4e-06"})), (json!(0.5), vec![]));
    assert_eq!(of(json!({batch_in: "1.5e-06", batch_out: "6e-06"})), (json!(0.25), vec![]));
    for uneven in [
        json!({batch_in: "1e-06", batch_out: "5e-06"}),
        json!({batch_in: "1e-06"}),
        json!({batch_in: "1e-06", batch_out: "4e-06", "cache_read_input_token_cost": "1e-06"}),
        json!({batch_in: "1e-06", batch_out: "4e-06", "cache_read_input_token_cost": "1e-06", "cache_read_input_token_cost_batches": "1e-06"}),
        json!({batch_in: "3e-06", batch_out: "12e-06"}),
        json!({batch_in: "1.0000000000000001e-06", batch_out: "4e-06"}),
    ] {
        assert_eq!(of(uneven.clone()), (Value::Null, vec![LeftOut::Batch]), "{uneven}");
    }
}

#[test]
fn what_is_not_about_the_tokens_is_left_out_by_name() {
    let table = litellm(
        json!({"input_cost_per_token": "1e-06", "output_cost_per_token": "1e-06", "input_cost_per_token_priority": "2e-06",
        "search_context_cost_per_query": {"search_context_size_low": "0.01"}, "cache_creation_input_token_cost": 0,
        "regional_processing_uplift_multiplier_eu": "1.1", "output_cost_per_image": 0, "input_dbu_cost_per_token": "1e-5"}),
    );
    assert_eq!(taken(&table), [json!({"input": usd("1"), "output": usd("1")})]);
    let mut left_out = table.quotes[0].left_out.clone();
    left_out.sort();
    assert_eq!(
        left_out,
        [LeftOut::ToolFees, LeftOut::ServiceTiers, LeftOut::ZeroCache, LeftOut::Regions]
    );
}

#[test]
fn what_cannot_be_represented_is_refused_by_name() {
    let both = |field: &str, value: Value| json!({"input_cost_per_token": "1e-06", "output_cost_per_token": "2e-06", field: value});
    for (fields, reason, detail) in [
        (both("mode", json!("embedding")), Reason::Mode, "embedding"),
        (json!({"input_cost_per_token": "1e-06"}), Reason::NoTokenPrice, ""),
        (json!({}), Reason::NoTokenPrice, ""),
        (
            both("output_cost_per_image", json!("0.04")),
            Reason::OtherUnit,
            "output_cost_per_image",
        ),
        (
            both("input_cost_per_second", json!("1e-5")),
            Reason::OtherUnit,
            "input_cost_per_second",
        ),
        (both("tiered_pricing", json!([])), Reason::Tiers, "tiered_pricing"),
        (both("off_peak_pricing", json!({})), Reason::TimeOfDay, "off_peak_pricing"),
        (
            both("output_cost_per_reasoning_token", json!("3e-06")),
            Reason::PoolApart,
            "Reasoning",
        ),
        (
            both("cache_read_input_audio_token_cost", json!("3e-06")),
            Reason::PoolApart,
            "CachedAudio",
        ),
        (
            both("input_cost_per_token_above_100k_tokens", json!("-1e-6")),
            Reason::Negative,
            "input_cost_per_token_above_100k_tokens",
        ),
        (
            both("cache_read_input_token_cost", json!("1.0000000000000001e-07")),
            Reason::Inexact,
            "cache_read_input_token_cost",
        ),
        (
            both("cache_read_input_token_cost", json!("5")),
            Reason::TooLarge,
            "cache_read_input_token_cost",
        ),
        (both("cost_of_thinking", json!("5")), Reason::Unknown, "cost_of_thinking"),
        (
            both("input_cost_per_audio_token", json!("cheap")),
            Reason::Malformed,
            "input_cost_per_audio_token is no number",
        ),
        (both("input_cost_per_token_cache_hit", json!("1e-7")), Reason::Zero, ""),
    ] {
        if reason == Reason::Zero {
            let free = json!({"input_cost_per_token": 0, "output_cost_per_token": "2e-06"});
            assert_eq!(refusal(&litellm(free)), (Reason::Zero, "Input"));
            continue;
        }
        assert_eq!(refusal(&litellm(fields.clone())), (reason, detail), "{fields}");
    }
    // The same said twice is said once, and two rates for one thing are none.
    let twice = |rate: &str| {
        litellm(json!({"input_cost_per_token": "1e-06", "output_cost_per_token": "2e-06",
        "cache_read_input_token_cost": "1e-07", "input_cost_per_token_cache_hit": rate}))
    };
    assert_eq!(taken(&twice("1e-7")).len(), 1);
    assert_eq!(refusal(&twice("2e-7")).0, Reason::Malformed);
    let named = table(&json!({"a*b": {"litellm_provider": "acme", "mode": "chat"}}));
    assert_eq!(refusal(&named).0, Reason::Name);
}

#[test]
fn zero_is_taken_only_where_it_is_asked_for() {
    let text = json!({"m": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0,
        "cache_read_input_token_cost": 0}});
    let selection = Selection {
        allow_zero: true,
        ..Selection::default()
    };
    let zero = read(&text.to_string(), None, &selection).expect("a table");
    assert_eq!(
        taken(&zero),
        [json!({"input": usd("0"), "output": usd("0"), "cache_read": usd("0")})]
    );
    assert_eq!(refusal(&table(&text)).0, Reason::Zero);
}

#[test]
fn genai_prices_are_read_with_their_tiers_and_dates() {
    let tiered = json!({"input_mtok": {"base": "1.25", "tiers": [{"start": 200000, "price": "2.5"}]}, "output_mtok": "10",
        "cache_read_mtok": {"base": "0.125", "tiers": [{"start": 200000, "price": "0.25"}]}, "requests_kcount": "5", "web_searches_kcount": 10});
    let table = genai(tiered);
    let expected = json!({"input": usd("1.25"), "output": usd("10"), "cache_read": usd("0.125"), "request": usd("0.005"),
        "above": [{"tokens": 200000, "input": usd("2.5"), "output": usd("10"), "cache_read": usd("0.25"), "cache_write": null,
            "cache_write_1h": null, "audio_input": null, "audio_output": null, "image_input": null}]});
    assert_eq!(taken(&table), [expected]);
    assert_eq!(table.quotes[0].left_out, [LeftOut::ToolFees]);
    let rates = |input: &str| json!({"input_mtok": input, "output_mtok": "1"});
    let dated = genai(json!([{"constraint": {"start_date": "2026-03-01"}, "prices": rates("2")}, {"prices": rates("1")}]));
    let from: Vec<Option<&str>> = dated.quotes[0]
        .prices
        .iter()
        .map(|(from, _)| from.as_ref().map(EffectiveFrom::as_str))
        .collect();
    assert_eq!(from, [None, Some("2026-03-01")]);
    assert_eq!(taken(&dated)[1]["input"], json!(usd("2")));
    for (prices, reason) in [
        (
            json!([{"constraint": {"start_time": "00:30:00Z", "end_time": "16:30:00Z"}, "prices": rates("1")}]),
            Reason::TimeOfDay,
        ),
        (json!({"input_mtok": "1"}), Reason::NoTokenPrice),
        (
            json!({"input_mtok": "1", "output_mtok": "1", "output_image_mtok": "5"}),
            Reason::PoolApart,
        ),
        (
            json!({"input_mtok": "1", "output_mtok": "1", "images_kcount": "5"}),
            Reason::OtherUnit,
        ),
        (json!({"input_mtok": "0.0000000001", "output_mtok": "1"}), Reason::Inexact),
    ] {
        assert_eq!(refusal(&genai(prices.clone())).0, reason, "{prices}");
    }
}

#[test]
fn the_shape_tells_whose_table_it_is_and_models_are_chosen_by_name_and_provider() {
    let rates = json!({"input_mtok": "1", "output_mtok": "1"});
    let two = json!([{"id": "a", "models": [{"id": "shared", "prices": rates}, {"id": "own", "prices": rates}]},
        {"id": "b", "models": [{"id": "shared", "prices": rates}]}]);
    let chosen = |models: &[&str], provider: Option<&str>| -> Vec<String> {
        let selection = Selection {
            models: models.iter().map(ToString::to_string).collect(),
            provider: provider.map(str::to_owned),
            allow_zero: false,
        };
        let table = read(&two.to_string(), None, &selection).expect("a table");
        assert_eq!(table.format, Format::GenaiPrices);
        table.quotes.iter().map(|quote| quote.id.to_string()).collect()
    };
    assert_eq!(chosen(&[], None), ["a/shared", "own", "b/shared"]);
    assert_eq!(chosen(&["o*"], None), ["own"]);
    assert_eq!(chosen(&[], Some("b")), ["b/shared"], "a name does not depend on what was chosen");
    let resold = json!([{"id": "a", "models": [{"id": "shared", "prices": rates}]}, {"id": "b", "models": [{"id": "shared", "prices": rates},
        {"id": "a/shared", "prices": rates}]}]);
    let names: Vec<String> = table(&resold).quotes.iter().map(|quote| quote.id.to_string()).collect();
    assert_eq!(names, ["a/shared", "b/shared", "b/a/shared"]);
    assert!(read("5", None, &Selection::default()).is_err());
    assert!(read("[]", Some(Format::LiteLlm), &Selection::default()).is_err());
}

const FILE: &str = r#"# Ours.
default_price: null

models:
  # The big one.
  - id: big   # by hand
    provider: acme
    tier: frontier
    aliases: [large]
    downgrades: [small]
    prices:
      # since ever
      - {effective_from: "2025-01-01", input: "3", output: "15", batch_discount: 0.5}
  - {id: small, provider: acme, tier: fast, prices: [{effective_from: "2025-01-01", input: "1", output: "5"}]}
"#;

fn documents(text: &str) -> Vec<ModelDocument> {
    let file: ModelsFile = crate::policy::read::read(&yaml::parse(text).expect("YAML").to_value()).expect("models");
    file.models
}

fn merged(text: &str, table: &Table, from: &str) -> Merge {
    let terms = Terms {
        effective_from: EffectiveFrom::parse(from).expect(from),
        tier: Some(TierRule::ByPrice),
        source: SourceDocument {
            name: table.format.as_str().to_owned(),
            origin: "table.json".to_owned(),
            sha256: table.sha256.clone(),
            imported_on: EffectiveFrom::parse("2026-11-24").expect("a date"),
        },
    };
    merge(&documents(text), table, &terms)
}

fn of_models(models: &[(&str, &str, &str)]) -> Table {
    let model = |(id, input, output): &(&str, &str, &str)| {
        let fields = json!({"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": input, "output_cost_per_token": output});
        ((*id).to_owned(), fields)
    };
    table(&Value::Object(models.iter().map(model).collect()))
}

#[test]
fn a_change_is_a_new_price_beside_the_old_one_and_the_rest_of_the_file_stays() {
    let table = of_models(&[
        ("big", "4e-6", "15e-6"),
        ("small", "1e-6", "5e-6"),
        ("large", "9e-6", "9e-6"),
        ("new", "2e-6", "2e-5"),
    ]);
    let merge = merged(FILE, &table, "2026-12-01");
    let [change] = merge.changed.as_slice() else {
        panic!("{:?}", merge.changed)
    };
    let fields: Vec<&str> = change.fields.iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(
        fields,
        ["/input", "/cache_read", "/cache_write", "/cache_write_1h"],
        "what falls back to input changes with it"
    );
    assert_eq!(
        (change.model.as_str(), change.new.batch_discount),
        ("big", crate::decision::amount::Ratio::from_ten_thousandths(5_000).expect("half"))
    );
    assert_eq!(
        (merge.unchanged, merge.added.len(), merge.added[0].tier.as_str()),
        (1, 1, "frontier")
    );
    assert_eq!((merge.refused[0].reason, merge.refused[0].model.as_str()), (Reason::Alias, "large"));
    let edited = edit::edited(FILE, &documents(FILE), &merge).expect("edited");
    let mut rest = edited.lines();
    let is_kept = FILE.lines().all(|line| rest.any(|other| other == line));
    assert!(is_kept, "every line of before is there, in its order:\n{edited}");
    let inserted = edited.lines().count() - FILE.lines().count();
    assert_eq!(inserted, 6, "one price, and a model of five lines:\n{edited}");
    let source = &documents(&edited)[0]
        .prices
        .iter()
        .find_map(|price| price.source.clone())
        .expect("a source");
    assert_eq!((source.name.as_str(), source.sha256.as_str()), ("litellm", table.sha256.as_str()));
    // Once more, there is nothing to do; later, a table without the model says so.
    let again = merged(&edited, &table, "2026-12-01");
    assert_eq!((again.is_empty(), again.unchanged), (true, 3), "{again:?}");
    let missing = merged(&edited, &of_models(&[("big", "4e-6", "15e-6")]), "2026-12-02").missing;
    assert_eq!(missing.iter().map(ModelId::as_str).collect::<Vec<_>>(), ["new"]);
    let same_day = merged(&edited, &of_models(&[("big", "5e-6", "15e-6")]), "2026-12-01");
    assert_eq!((same_day.changed.len(), same_day.refused[0].reason), (0, Reason::SameDay));
}

#[test]
fn flow_lists_lists_in_the_middle_and_files_without_an_end_of_line_are_edited_too() {
    let table = of_models(&[("small", "2e-6", "5e-6"), ("new", "1e-6", "1e-6")]);
    for file in [
        FILE.to_owned(),
        FILE.trim_end().to_owned(),
        FILE.replace("default_price: null\n", "") + "default_price: null\n",
        "{models: [{id: small, provider: acme, tier: fast, prices: [{input: \"1\", output: \"5\"}]}]}".to_owned(),
    ] {
        let merge = merged(&file, &table, "2026-12-01");
        assert_eq!((merge.changed.len(), merge.added.len()), (1, 1));
        match edit::edited(&file, &documents(&file), &merge) {
            Ok(edited) => assert_eq!(documents(&edited).len(), documents(&file).len() + 1),
            Err(why) => assert!(file.starts_with('{') && why.contains("by hand"), "{why}"),
        }
    }
}

#[test]
fn dated_prices_begin_on_their_day_and_never_before_the_import() {
    let rates = |input: &str| json!({"input_mtok": input, "output_mtok": "15"});
    let table = table(&json!([{"id": "acme", "models": [{"id": "big", "prices": [{"prices": rates("1")},
        {"constraint": {"start_date": "2026-03-01"}, "prices": rates("2")}, {"constraint": {"start_date": "2027-01-01"}, "prices": rates("4")}]}]}]));
    let merge = merged(FILE, &table, "2026-11-24");
    let told: Vec<(&str, String)> = merge
        .changed
        .iter()
        .map(|change| (change.new.effective_from.as_str(), change.new.input.get().to_string()))
        .collect();
    assert_eq!(told, [("2026-11-24", usd("2")), ("2027-01-01", usd("4"))]);
    // For a model that is new the day of the table is the day.
    let merge = merged("models:\n  - {id: x, provider: p, tier: t}\n", &table, "2026-11-24");
    let from: Vec<&str> = merge.added[0].prices.iter().map(|price| price.effective_from.as_str()).collect();
    assert_eq!(from, ["2026-03-01", "2027-01-01"]);
    let tier = merge.added[0].tier.clone();
    assert_eq!(tier, Tier::parse("mid").expect("a tier"));
}
