//! LiteLLM's table: models by name, with prices in USD per token under one field for each pool, step and way of serving.

use super::decimal::Decimal;
use super::json::Json;
use super::rates::{Pool, Said};
use super::{Flaw, LeftOut, Quote, Reason, Refused, Selection};
use crate::decision::amount::COUNT_MAX;
use crate::decision::id::{ModelId, Provider};

/// USD per token to nano-dollars per million tokens.
const SHIFT: i32 = 15;
/// USD to nano-dollars.
const SHIFT_OF_REQUEST: i32 = 9;

/// What can be asked for words; everything else is priced by other things too.
const MODES: [&str; 3] = ["chat", "completion", "responses"];
/// An example of the table's own, not a model.
const EXAMPLE: &str = "sample_spec";

/// The ends of fields that are about a queue which is faster or slower than the ordinary one.
const SERVICE_TIERS: [&str; 5] = ["_priority", "_flex", "_ultrafast", "_balanced", "_decisions"];
const BATCH: &str = "_batches";

/// The fields of rates.
const POOLS: [(&str, Pool); 13] = [
    ("input_cost_per_token", Pool::Input),
    ("output_cost_per_token", Pool::Output),
    ("cache_read_input_token_cost", Pool::CacheRead),
    ("input_cost_per_token_cache_hit", Pool::CacheRead),
    ("cache_creation_input_token_cost", Pool::CacheWrite),
    ("cache_creation_input_token_cost_above_1hr", Pool::CacheWrite1h),
    ("input_cost_per_audio_token", Pool::AudioInput),
    ("output_cost_per_audio_token", Pool::AudioOutput),
    ("input_cost_per_image_token", Pool::ImageInput),
    ("output_cost_per_reasoning_token", Pool::Reasoning),
    ("cache_read_input_token_cost_per_audio_token", Pool::CachedAudio),
    ("cache_read_input_audio_token_cost", Pool::CachedAudio),
    ("cache_read_input_image_token_cost", Pool::CachedImage),
];
const PER_REQUEST: &str = "input_cost_per_request";

/// The beginnings of fields that price what is used beside the model, which callers report as `other_cost_usd`.
const TOOLS: [&str; 7] = [
    "search_context_cost",
    "google_maps",
    "code_interpreter_cost",
    "file_search_cost",
    "vector_store_cost",
    "computer_use",
    "web_search_cost",
];
/// The same prices once more in a provider's own unit.
const OTHER_CURRENCIES: [&str; 2] = ["input_dbu_cost_per_token", "output_dbu_cost_per_token"];

pub(super) fn read(table: &Json, selection: &Selection) -> Result<(Vec<Quote>, Vec<Refused>), String> {
    let Json::Map(models) = table else {
        return Err("a table of litellm is models by name".to_owned());
    };
    let (mut quotes, mut refused) = (Vec::new(), Vec::new());
    for (name, model) in models.iter().filter(|(name, _)| name != EXAMPLE) {
        if !selection.takes(name, model.text_at("litellm_provider").unwrap_or_default()) {
            continue;
        }
        match quote(name, model, selection.allow_zero) {
            Ok(quote) => quotes.push(quote),
            Err((reason, detail)) => refused.push(Refused {
                reason,
                model: name.clone(),
                detail,
            }),
        }
    }
    Ok((quotes, refused))
}

fn quote(name: &str, model: &Json, allow_zero: bool) -> Result<Quote, Flaw> {
    let Json::Map(fields) = model else {
        return Err((Reason::Malformed, "it is no object".to_owned()));
    };
    let mode = model.text_at("mode").unwrap_or("none");
    if !MODES.contains(&mode) {
        return Err((Reason::Mode, mode.to_owned()));
    }
    let id = ModelId::parse(name).map_err(|why| (Reason::Name, why))?;
    let provider = model.text_at("litellm_provider").unwrap_or_default();
    let provider = Provider::parse(provider).map_err(|why| (Reason::Name, format!("its provider: {why}")))?;
    let mut said = Said::default();
    for (field, value) in fields {
        take(&mut said, field, value)?;
    }
    let tokens = |fields: [&str; 2]| fields.iter().find_map(|field| count(model.text_at(field)?));
    let (price, left_out) = said.price(allow_zero)?;
    Ok(Quote {
        id,
        provider,
        max_input_tokens: tokens(["max_input_tokens", "max_tokens"]),
        max_output_tokens: tokens(["max_output_tokens", "max_tokens"]),
        prices: vec![(None, price)],
        left_out,
    })
}

pub(super) fn count(text: &str) -> Option<i64> {
    let count = Decimal::parse(text)?.times_ten_to(0).ok()?;
    (1..=COUNT_MAX).contains(&count).then_some(count)
}

fn take(said: &mut Said, field: &str, value: &Json) -> Result<(), Flaw> {
    let is_about_money = ["cost", "pricing", "price"].iter().any(|word| field.contains(word));
    if field.contains("uplift") {
        said.leave_out(LeftOut::Regions);
        return Ok(());
    }
    if !is_about_money || OTHER_CURRENCIES.contains(&field) || *value == Json::Null {
        return Ok(());
    }
    if TOOLS.iter().any(|tool| field.starts_with(tool)) {
        said.leave_out(LeftOut::ToolFees);
        return Ok(());
    }
    let Some(number) = value.text() else {
        return Err(match field {
            "tiered_pricing" => (Reason::Tiers, field.to_owned()),
            "off_peak_pricing" => (Reason::TimeOfDay, field.to_owned()),
            _ => (Reason::Unknown, field.to_owned()),
        });
    };
    let number = Decimal::parse(number).ok_or_else(|| (Reason::Malformed, format!("{field} is no number")))?;
    rate(said, field, number)
}

fn rate(said: &mut Said, field: &str, number: Decimal) -> Result<(), Flaw> {
    if SERVICE_TIERS.iter().any(|tier| field.ends_with(tier)) {
        said.leave_out(LeftOut::ServiceTiers);
        return Ok(());
    }
    let (plain, is_batch) = match field.strip_suffix(BATCH) {
        Some(plain) => (plain, true),
        None => (field, false),
    };
    let (plain, above) = step_of(plain);
    if let Some((_, pool)) = POOLS.iter().find(|(name, _)| *name == plain) {
        return match is_batch {
            true => said.batch_rate(above, *pool, number, SHIFT, field),
            false => said.rate(above, *pool, number, SHIFT, field),
        };
    }
    if plain == PER_REQUEST && above == 0 && !is_batch {
        return said.request(number, SHIFT_OF_REQUEST, field);
    }
    // What costs nothing needs no unit.
    match number.is_zero() {
        true => Ok(()),
        false if plain.contains("_per_") => Err((Reason::OtherUnit, field.to_owned())),
        false => Err((Reason::Unknown, field.to_owned())),
    }
}

/// The field without its step, and the tokens that the step begins above; 0: it has none.
fn step_of(field: &str) -> (&str, i64) {
    let parts = field.strip_suffix("k_tokens").and_then(|rest| rest.rsplit_once("_above_"));
    match parts.and_then(|(plain, thousands)| Some((plain, thousands.parse::<u32>().ok()?))) {
        Some((plain, thousands)) => (plain, i64::from(thousands) * 1_000),
        None => (field, 0),
    }
}
