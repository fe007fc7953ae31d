//! Models and prices: each rate with its fallback taken, each name known once, each price stamped with its version.

use super::{Found, LABEL_CHARS_MAX, hint, is_label};
use crate::decision::catalogue::{Catalogue, CreditRates, Model};
use crate::decision::id::ModelId;
use crate::decision::money::{NANOS_PER_USD, Usd};
use crate::decision::off_peak::{OffPeak, Window};
use crate::decision::price::{Price, RATE_USD_MAX, Rate, Rates, STEPS_MAX};
use crate::policy::document::{Documents, Dollars, ModelDocument, OffPeakDocument, PriceDocument, StepDocument};
use crate::policy::object::{ObjectId, hex};
use crate::policy::problem::Problem;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// The most models of a catalogue.
const MODELS_MAX: usize = 20_000;
/// The most aliases, downgrades or fallbacks of a model.
const NAMES_MAX: usize = 64;
/// The most prices of a model over time.
const PRICES_MAX: usize = 256;
/// The longest name or address of a price's source.
const SOURCE_CHARS_MAX: usize = 512;
/// The least that a model may make of a text that others make one token of, in ten-thousandths.
const TOKEN_FACTOR_MIN: i64 = 1_000;
/// The most that it may make of it.
const TOKEN_FACTOR_MAX: i64 = 100_000;
/// The most windows of off-peak rates, and the most stretches of one.
const WINDOWS_MAX: usize = 16;
/// How many bytes of the hash of a price its version shows.
const VERSION_HASH_BYTES: usize = 4;

/// Which model each id and alias means.
type Names<'a> = HashMap<&'a str, &'a ModelId>;

pub(super) fn catalogue(documents: &Documents, found: &mut Found) -> Catalogue {
    let names = names(documents, found);
    let mut models: Vec<Arc<Model>> = documents
        .models
        .iter()
        .map(|(_, document)| Arc::new(model(document, &names, found)))
        .collect();
    // By id, so that files and the ledger, which know different orders, make equal catalogues.
    models.sort_by(|a, b| a.id.cmp(&b.id));
    if models.len() > MODELS_MAX {
        found.value("", format!("a catalogue has at most {MODELS_MAX} models"));
    }
    found.about(&ObjectId::default_price());
    let default_price = documents
        .default_price
        .as_ref()
        .map(|document| Arc::new(price(document, "", found)));
    Catalogue::new(models, default_price)
}

/// Ids first, so that an alias that takes another model's id is the one that is refused.
fn names<'a>(documents: &'a Documents, found: &mut Found) -> Names<'a> {
    let mut names: Names<'a> = HashMap::new();
    for (_, model) in &documents.models {
        if names.insert(model.id.as_str(), &model.id).is_some() {
            found.about(&ObjectId::model(model.id.as_str()));
            found.value("/id", format!("there is more than one model {}", model.id));
        }
    }
    for (_, model) in &documents.models {
        found.about(&ObjectId::model(model.id.as_str()));
        for (n, alias) in model.aliases.iter().enumerate() {
            match names.entry(alias.as_str()) {
                Entry::Vacant(free) => {
                    free.insert(&model.id);
                }
                Entry::Occupied(taken) => {
                    let detail = format!("the alias {alias} already means model {}", taken.get());
                    found.value(format!("/aliases/{n}"), detail);
                }
            }
        }
    }
    names
}

fn model(document: &ModelDocument, names: &Names<'_>, found: &mut Found) -> Model {
    found.about(&ObjectId::model(document.id.as_str()));
    if document.aliases.len() > NAMES_MAX {
        found.value("/aliases", format!("a model has at most {NAMES_MAX} aliases"));
    }
    if document.family.as_ref().is_some_and(|family| !is_label(family)) {
        found.value("/family", format!("a family has 1 to {LABEL_CHARS_MAX} characters on one line"));
    }
    let factor = document.token_factor.ten_thousandths();
    if !(TOKEN_FACTOR_MIN..=TOKEN_FACTOR_MAX).contains(&factor) {
        found.value("/token_factor", "a token factor is from 0.1 to 10");
    }
    Model {
        id: document.id.clone(),
        provider: document.provider.clone(),
        tier: document.tier.clone(),
        family: document.family.clone().unwrap_or_else(|| document.id.to_string()),
        aliases: document.aliases.clone(),
        max_input_tokens: document.max_input_tokens.get(),
        max_output_tokens: document.max_output_tokens.get(),
        downgrades: others(&document.downgrades, "downgrades", document, names, found),
        fallbacks: others(&document.fallbacks, "fallbacks", document, names, found),
        token_factor: factor,
        prices: prices(&document.prices, found),
        credits: document.credits.as_ref().map(|credits| CreditRates {
            input: credits.input.ten_thousandths(),
            output: credits.output.ten_thousandths(),
        }),
    }
}

/// The models that a list names, by their ids even where it uses aliases.
fn others(list: &[ModelId], field: &str, own: &ModelDocument, names: &Names<'_>, found: &mut Found) -> Vec<ModelId> {
    if list.len() > NAMES_MAX {
        found.value(format!("/{field}"), format!("a model has at most {NAMES_MAX} {field}"));
    }
    let mut ids: Vec<ModelId> = Vec::with_capacity(list.len());
    for (n, name) in list.iter().enumerate() {
        let place = format!("/{field}/{n}");
        match names.get(name.as_str()) {
            None => {
                let hint = hint(name.as_str(), names.keys().copied());
                found.unknown(place, format!("there is no model {name}{hint}"));
            }
            Some(id) if **id == own.id => found.value(place, format!("model {} cannot stand in for itself", own.id)),
            Some(id) if ids.contains(id) => found.value(place, format!("model {id} is in this list twice")),
            Some(id) => ids.push((*id).clone()),
        }
    }
    ids
}

fn prices(documents: &[PriceDocument], found: &mut Found) -> Vec<Arc<Price>> {
    if documents.len() > PRICES_MAX {
        found.value("/prices", format!("a model has at most {PRICES_MAX} prices"));
    }
    let mut prices: Vec<Arc<Price>> = Vec::with_capacity(documents.len());
    for (n, document) in documents.iter().enumerate() {
        let place = format!("/prices/{n}");
        let next = price(document, &place, found);
        if prices.iter().any(|price| price.effective_from == next.effective_from) {
            let from = document.effective_from.as_str();
            found.value(format!("{place}/effective_from"), format!("there are two prices from {from} on"));
        }
        prices.push(Arc::new(next));
    }
    prices.sort_by_key(|price| price.effective_from);
    prices
}

fn price(document: &PriceDocument, place: &str, found: &mut Found) -> Price {
    if let Some(source) = &document.source {
        for (field, text) in [("name", &source.name), ("origin", &source.origin), ("sha256", &source.sha256)] {
            if text.is_empty() || text.len() > SOURCE_CHARS_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                found.value(
                    format!("{place}/source/{field}"),
                    format!("a source has 1 to {SOURCE_CHARS_MAX} visible ASCII characters here"),
                );
            }
        }
    }
    let rates = base_rates(document, place, found);
    let above = steps(document, &rates, place, found);
    let request = bounded(document.request, &format!("{place}/request"), found);
    let mut price = Price {
        effective_from: document.effective_from.at(),
        rates,
        above,
        request,
        batch_discount: document.batch_discount,
        off_peak: None,
        version: "".into(),
    };
    price.version = version(document.effective_from.as_str(), &price).into();
    price.off_peak = document.off_peak.as_ref().map(|off_peak| {
        if place.is_empty() {
            found.value("/off_peak", "the price of models that are not listed holds at all hours");
        }
        self::off_peak(off_peak, document, &price, &format!("{place}/off_peak"), found)
    });
    price
}

fn off_peak(document: &OffPeakDocument, usual: &PriceDocument, base: &Price, place: &str, found: &mut Found) -> OffPeak {
    let windows = windows(document, place, found);
    let mut rate = |field: &str, usd: Dollars| rate(usd, format!("{place}/{field}"), found);
    let input = document.input.map_or(base.rates.input, |usd| rate("input", usd));
    let mut or = |field: &str, own: Option<Dollars>, usual: Option<Dollars>, otherwise: Rate| {
        own.or(usual).map_or(otherwise, |usd| rate(field, usd))
    };
    // A cache rate that is nowhere named is the input rate of these hours.
    let cache_write = or("cache_write", document.cache_write, usual.cache_write, input);
    let mut price = Price {
        rates: Rates {
            input,
            output: or("output", document.output, Some(usual.output), base.rates.output),
            cache_read: or("cache_read", document.cache_read, usual.cache_read, input),
            cache_write,
            cache_write_1h: or("cache_write_1h", document.cache_write_1h, usual.cache_write_1h, cache_write),
            ..base.rates.clone()
        },
        above: Vec::new(),
        ..base.clone()
    };
    price.version = version(usual.effective_from.as_str(), &price).into();
    OffPeak {
        windows,
        price: Arc::new(price),
    }
}

fn windows(document: &OffPeakDocument, place: &str, found: &mut Found) -> Vec<Window> {
    let mut windows = Vec::new();
    if document.windows.is_empty() || document.windows.len() > WINDOWS_MAX {
        found.value(
            format!("{place}/windows"),
            format!("off-peak rates have 1 to {WINDOWS_MAX} windows"),
        );
    }
    for (n, window) in document.windows.iter().take(WINDOWS_MAX).enumerate() {
        let place = format!("{place}/windows/{n}");
        if window.hours_utc.is_empty() || window.hours_utc.len() > WINDOWS_MAX {
            found.value(
                format!("{place}/hours_utc"),
                format!("a window has 1 to {WINDOWS_MAX} stretches of hours"),
            );
        }
        if window.weekdays.is_empty() {
            found.value(
                format!("{place}/weekdays"),
                "a window has a day: 1, Monday, to 7; leave it out for all",
            );
        }
        let is_on = |day: i64| window.weekdays.iter().any(|on| on.get() == day);
        let weekdays = std::array::from_fn(|day| i64::try_from(day).is_ok_and(|day| is_on(day + 1)));
        for (m, hours) in window.hours_utc.iter().take(WINDOWS_MAX).enumerate() {
            match Window::parse(hours, weekdays) {
                Ok(window) => windows.push(window),
                Err(why) => found.value(format!("{place}/hours_utc/{m}"), why),
            }
        }
    }
    windows
}

fn base_rates(document: &PriceDocument, place: &str, found: &mut Found) -> Rates {
    let mut rate = |field: &str, usd: Dollars| rate(usd, format!("{place}/{field}"), found);
    let input = rate("input", document.input);
    let cache_write = document.cache_write.map_or(input, |usd| rate("cache_write", usd));
    Rates {
        input,
        output: rate("output", document.output),
        cache_read: document.cache_read.map_or(input, |usd| rate("cache_read", usd)),
        cache_write,
        cache_write_1h: document.cache_write_1h.map_or(cache_write, |usd| rate("cache_write_1h", usd)),
        audio_input: document.audio_input.map(|usd| rate("audio_input", usd)),
        audio_output: document.audio_output.map(|usd| rate("audio_output", usd)),
        image_input: document.image_input.map(|usd| rate("image_input", usd)),
    }
}

fn steps(document: &PriceDocument, base: &Rates, place: &str, found: &mut Found) -> Vec<(i64, Rates)> {
    let documents = &document.above.0;
    if documents.len() > STEPS_MAX {
        found.value(
            format!("{place}/above"),
            format!("a price has at most {STEPS_MAX} long-context steps"),
        );
    }
    let mut steps: Vec<(i64, Rates)> = Vec::with_capacity(documents.len());
    for (n, step) in documents.iter().enumerate() {
        let place = format!("{place}/above/{n}");
        let tokens = step.tokens.get();
        if steps.iter().any(|(other, _)| *other == tokens) {
            found.value(format!("{place}/tokens"), format!("there are two steps above {tokens} tokens"));
        }
        steps.push((tokens, step_rates(step, base, &place, found)));
    }
    steps.sort_by_key(|(tokens, _)| *tokens);
    steps
}

/// The rates of a step. Its cache rates fall back within the step; audio and images that it does not name cost what they cost below it.
fn step_rates(step: &StepDocument, base: &Rates, place: &str, found: &mut Found) -> Rates {
    let mut rate = |field: &str, usd: Dollars| rate(usd, format!("{place}/{field}"), found);
    let input = rate("input", step.input);
    let cache_write = step.cache_write.map_or(input, |usd| rate("cache_write", usd));
    Rates {
        input,
        output: rate("output", step.output),
        cache_read: step.cache_read.map_or(input, |usd| rate("cache_read", usd)),
        cache_write,
        cache_write_1h: step.cache_write_1h.map_or(cache_write, |usd| rate("cache_write_1h", usd)),
        audio_input: step.audio_input.map(|usd| rate("audio_input", usd)).or(base.audio_input),
        audio_output: step.audio_output.map(|usd| rate("audio_output", usd)).or(base.audio_output),
        image_input: step.image_input.map(|usd| rate("image_input", usd)).or(base.image_input),
    }
}

fn rate(usd: Dollars, place: String, found: &mut Found) -> Rate {
    Rate::from_nanos(bounded(usd, &place, found).nanos())
}

fn bounded(usd: Dollars, place: &str, found: &mut Found) -> Usd {
    if usd.get().nanos() > RATE_USD_MAX * NANOS_PER_USD {
        found.add(Problem::too_large(place, format!("a price is at most {RATE_USD_MAX} usd")));
    }
    usd.get()
}

/// `<effective_from>.<8 hex of its content>`. The content is the compiled price, so that "3", "3.00" and a fallback written out are one.
fn version(effective_from: &str, price: &Price) -> String {
    let mut content = format!(
        "request={} batch_discount={}",
        price.request.nanos(),
        price.batch_discount.ten_thousandths()
    );
    let base = std::iter::once((0, &price.rates));
    for (tokens, rates) in base.chain(price.above.iter().map(|(tokens, rates)| (*tokens, rates))) {
        content.push_str(&content_of(tokens, rates));
    }
    let digest = Sha256::digest(content);
    format!("{effective_from}.{}", hex(&digest[..VERSION_HASH_BYTES]))
}

fn content_of(above: i64, rates: &Rates) -> String {
    let named = |name: &str, rate: Option<Rate>| rate.map(|rate| format!(" {name}={}", rate.nanos())).unwrap_or_default();
    [
        format!("\nabove={above}"),
        named("input", Some(rates.input)),
        named("output", Some(rates.output)),
        named("cache_read", Some(rates.cache_read)),
        named("cache_write", Some(rates.cache_write)),
        named("cache_write_1h", Some(rates.cache_write_1h)),
        named("audio_input", rates.audio_input),
        named("audio_output", rates.audio_output),
        named("image_input", rates.image_input),
    ]
    .concat()
}
