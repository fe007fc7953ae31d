//! The table of genai-prices: a list of providers with their models, priced in USD per million tokens, some by date.

use super::decimal::Decimal;
use super::json::Json;
use super::litellm::count;
use super::rates::{Pool, Said};
use super::{Flaw, LeftOut, Quote, Reason, Refused, Selection};
use crate::decision::id::{ModelId, Provider};
use crate::policy::document::{EffectiveFrom, PriceDocument};
use std::collections::{BTreeMap, BTreeSet};

/// USD per million tokens to nano-dollars.
const SHIFT: i32 = 9;
/// USD per thousand requests to nano-dollars per request.
const SHIFT_OF_REQUEST: i32 = 6;

const POOLS: [(&str, Pool); 12] = [
    ("input_mtok", Pool::Input),
    ("output_mtok", Pool::Output),
    ("cache_read_mtok", Pool::CacheRead),
    ("cache_write_mtok", Pool::CacheWrite),
    ("cache_write_5m_mtok", Pool::CacheWrite),
    ("cache_write_1h_mtok", Pool::CacheWrite1h),
    ("input_audio_mtok", Pool::AudioInput),
    ("output_audio_mtok", Pool::AudioOutput),
    ("input_image_mtok", Pool::ImageInput),
    ("output_reasoning_mtok", Pool::Reasoning),
    ("cache_audio_read_mtok", Pool::CachedAudio),
    ("cache_image_read_mtok", Pool::CachedImage),
];
const PER_REQUEST: &str = "requests_kcount";
const WEB_SEARCHES: &str = "web_searches_kcount";

/// Names of two providers for one model are told apart by the provider before them, here as everywhere.
pub(super) fn read(table: &Json, selection: &Selection) -> Result<(Vec<Quote>, Vec<Refused>), String> {
    let Json::List(providers) = table else {
        return Err("a table of genai-prices is a list of providers".to_owned());
    };
    let mut offers: Vec<(&str, &str, &Json)> = Vec::new();
    for provider in providers {
        let (Some(id), Some(Json::List(models))) = (provider.text_at("id"), provider.get("models")) else {
            return Err("a provider of this table has no id or no models".to_owned());
        };
        for model in models {
            offers.push((id, model.text_at("id").unwrap_or_default(), model));
        }
    }
    let mut offered: BTreeMap<&str, usize> = BTreeMap::new();
    offers.iter().for_each(|(_, name, _)| *offered.entry(name).or_default() += 1);
    // A reseller's own name may be what another provider's model is called with its provider before it.
    let with_provider: BTreeSet<String> = offers.iter().map(|(provider, name, _)| format!("{provider}/{name}")).collect();
    let (mut quotes, mut refused) = (Vec::new(), Vec::new());
    for (provider, name, model) in offers.into_iter().filter(|(provider, name, _)| selection.takes(name, provider)) {
        let is_shared = offered.get(name).is_some_and(|count| *count > 1) || with_provider.contains(name);
        match quote(provider, name, model, is_shared, selection.allow_zero) {
            Ok(quote) => quotes.push(quote),
            Err((reason, detail)) => refused.push(Refused {
                reason,
                model: format!("{provider}/{name}"),
                detail,
            }),
        }
    }
    Ok((quotes, refused))
}

fn quote(provider: &str, name: &str, model: &Json, is_shared: bool, allow_zero: bool) -> Result<Quote, Flaw> {
    let name = if is_shared { format!("{provider}/{name}") } else { name.to_owned() };
    let id = ModelId::parse(&name).map_err(|why| (Reason::Name, why))?;
    let provider = Provider::parse(provider).map_err(|why| (Reason::Name, format!("its provider: {why}")))?;
    let mut left_out = Vec::new();
    let mut prices = Vec::new();
    let dated: Vec<(Option<EffectiveFrom>, &Json)> = match model.get("prices") {
        Some(prices @ Json::Map(_)) => vec![(None, prices)],
        Some(Json::List(rows)) => rows.iter().map(conditional).collect::<Result<_, _>>()?,
        _ => return Err((Reason::Malformed, "it has no prices".to_owned())),
    };
    for (from, fields) in dated {
        let (price, left) = price(fields, allow_zero)?;
        left_out.extend(left.into_iter().filter(|left| !left_out.contains(left)).collect::<Vec<_>>());
        prices.push((from, price));
    }
    prices.sort_by(|(a, _): &(Option<EffectiveFrom>, PriceDocument), (b, _)| a.cmp(b));
    Ok(Quote {
        id,
        provider,
        max_input_tokens: model.text_at("context_window").and_then(count),
        max_output_tokens: None,
        prices,
        left_out,
    })
}

/// One of several prices, and since when.
fn conditional(row: &Json) -> Result<(Option<EffectiveFrom>, &Json), Flaw> {
    let prices = row
        .get("prices")
        .ok_or_else(|| (Reason::Malformed, "a dated price without prices".to_owned()))?;
    match row.get("constraint") {
        None | Some(Json::Null) => Ok((None, prices)),
        Some(constraint) => match constraint.text_at("start_date") {
            Some(date) => Ok((Some(EffectiveFrom::parse(date).map_err(|why| (Reason::Malformed, why))?), prices)),
            None if constraint.get("start_time").is_some() => Err((Reason::TimeOfDay, "start_time".to_owned())),
            None => Err((Reason::Unknown, "constraint".to_owned())),
        },
    }
}

fn price(fields: &Json, allow_zero: bool) -> Result<(PriceDocument, Vec<LeftOut>), Flaw> {
    let Json::Map(fields) = fields else {
        return Err((Reason::Malformed, "its prices are no object".to_owned()));
    };
    let mut said = Said::default();
    for (field, value) in fields {
        take(&mut said, field, value)?;
    }
    said.price(allow_zero)
}

fn take(said: &mut Said, field: &str, value: &Json) -> Result<(), Flaw> {
    if field == WEB_SEARCHES {
        said.leave_out(LeftOut::ToolFees);
        return Ok(());
    }
    if field == PER_REQUEST {
        return said.request(number(field, Some(value))?, SHIFT_OF_REQUEST, field);
    }
    let pool = POOLS.iter().find(|(name, _)| *name == field).map(|(_, pool)| *pool);
    let base = match value {
        Json::Null => return Ok(()),
        Json::Map(_) => number(field, value.get("base"))?,
        value => number(field, Some(value))?,
    };
    let Some(pool) = pool else {
        return match (base.is_zero(), field.ends_with("_mtok")) {
            (true, _) => Ok(()),
            (false, true) => Err((Reason::PoolApart, field.to_owned())),
            (false, false) => Err((Reason::OtherUnit, field.to_owned())),
        };
    };
    said.rate(0, pool, base, SHIFT, field)?;
    if let Some(tiers) = value.get("tiers") {
        let Json::List(tiers) = tiers else {
            return Err((Reason::Tiers, field.to_owned()));
        };
        for tier in tiers {
            let start = tier
                .text_at("start")
                .and_then(count)
                .ok_or_else(|| (Reason::Tiers, field.to_owned()))?;
            said.rate(start, pool, number(field, tier.get("price"))?, SHIFT, field)?;
        }
    }
    Ok(())
}

fn number(field: &str, value: Option<&Json>) -> Result<Decimal, Flaw> {
    let number = value.and_then(Json::text).and_then(Decimal::parse);
    number.ok_or_else(|| (Reason::Malformed, format!("{field} is no number")))
}
