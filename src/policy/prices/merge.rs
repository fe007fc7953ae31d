//! A table beside the catalogue: which models are new, whose price changes, which are gone. Pure, and nothing of it is silent.
//!
//! A price that is known is never edited: the new one is added beside it and holds from its day on. What an operator wrote of a model (tier,
//! downgrades, aliases, limits) stays as it is, and so does what the table is silent about of its price: audio, images, batch, the fee of a
//! request.

use super::{Format, LeftOut, Quote, Reason, Refused, Table};
use crate::decision::amount::{COUNT_MAX, Ratio};
use crate::decision::id::{ModelId, Tier};
use crate::decision::money::{NANOS_PER_USD, Usd};
use crate::decision::time::Timestamp;
use crate::policy::compare::{self, FieldChange};
use crate::policy::document::{Dollars, EffectiveFrom, Fraction, ModelDocument, PriceDocument, SourceDocument, Whole};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Up to this many USD per million output tokens a new model is `fast`, where nobody names its tier.
pub const FAST_OUTPUT_USD_MAX: i64 = 5;
/// Below this many it is `mid`, and from here on `frontier`.
pub const FRONTIER_OUTPUT_USD_MIN: i64 = 20;

/// How new models get their tier.
#[derive(Clone, PartialEq, Debug)]
pub enum TierRule {
    Named(Tier),
    /// By the price of output, see [`FAST_OUTPUT_USD_MAX`].
    ByPrice,
}

/// How a table is taken over.
#[derive(Clone, Debug)]
pub struct Terms {
    /// From when prices hold that the table has no date for.
    pub effective_from: EffectiveFrom,
    /// `None`: new models are not taken, and are named in [`Merge::without_tier`].
    pub tier: Option<TierRule>,
    pub source: SourceDocument,
}

/// A price that a known model gets.
#[derive(Clone, PartialEq, Debug)]
pub struct PriceChange {
    pub model: ModelId,
    /// The place of the model among those that were given.
    pub place: usize,
    pub new: PriceDocument,
    /// What it changes of the price in force by then; against no price at all, everything.
    pub fields: Vec<FieldChange>,
}

/// What taking a table over does.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Merge {
    pub added: Vec<ModelDocument>,
    pub changed: Vec<PriceChange>,
    pub unchanged: usize,
    /// Models whose price came from such a table, and which this one does not have.
    pub missing: Vec<ModelId>,
    /// New models that nobody gave a tier.
    pub without_tier: Vec<ModelId>,
    pub refused: Vec<Refused>,
    /// How many of the models that are taken, or are there already, have something left out.
    pub left_out: BTreeMap<LeftOut, usize>,
}

impl Merge {
    /// The catalogue as it is afterwards.
    pub fn applied(&self, models: &[ModelDocument]) -> Vec<ModelDocument> {
        let mut models = models.to_vec();
        for change in &self.changed {
            models[change.place].prices.push(change.new.clone());
        }
        models.extend(self.added.iter().cloned());
        models
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty()
    }
}

/// Holds `table` against `models`.
pub fn merge(models: &[ModelDocument], table: &Table, terms: &Terms) -> Merge {
    let mut merge = Merge {
        refused: table.refused.clone(),
        ..Merge::default()
    };
    let names = Names::of(models);
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for quote in &table.quotes {
        if !told.insert(quote.id.as_str()) {
            refuse(&mut merge, quote, Reason::Twice, &quote.provider);
            continue;
        }
        match names.find(quote) {
            Known::Model(place) => {
                seen.insert(place);
                take_prices(&mut merge, &models[place], place, quote, terms);
            }
            Known::Alias(other) => {
                seen.insert(other);
                refuse(&mut merge, quote, Reason::Alias, &models[other].id);
                continue;
            }
            Known::Not => add(&mut merge, quote, terms),
        }
        for left_out in &quote.left_out {
            *merge.left_out.entry(*left_out).or_default() += 1;
        }
    }
    // A model that is refused is there all the same.
    let refused: BTreeSet<&str> = table.refused.iter().map(|refused| refused.model.as_str()).collect();
    let is_missing = |(place, model): &(usize, &ModelDocument)| {
        let is_wanted = table.selection.takes(model.id.as_str(), model.provider.as_str());
        is_wanted && came_from(model, table.format) && !seen.contains(place) && !refused.contains(model.id.as_str())
    };
    merge.missing = models
        .iter()
        .enumerate()
        .filter(is_missing)
        .map(|(_, model)| model.id.clone())
        .collect();
    merge.refused.sort();
    merge
}

fn came_from(model: &ModelDocument, format: Format) -> bool {
    let newest = model.prices.iter().max_by_key(|price| price.effective_from.at());
    newest
        .and_then(|price| price.source.as_ref())
        .is_some_and(|source| source.name == format.as_str())
}

/// What a quote is to the catalogue.
enum Known {
    Model(usize),
    Alias(usize),
    Not,
}

struct Names<'a> {
    ids: HashMap<&'a str, usize>,
    aliases: HashMap<&'a str, usize>,
    models: &'a [ModelDocument],
}

impl<'a> Names<'a> {
    fn of(models: &'a [ModelDocument]) -> Self {
        let ids = models.iter().enumerate().map(|(place, model)| (model.id.as_str(), place)).collect();
        let aliases = models
            .iter()
            .enumerate()
            .flat_map(|(place, model)| model.aliases.iter().map(move |alias| (alias.as_str(), place)));
        Self {
            ids,
            aliases: aliases.collect(),
            models,
        }
    }

    fn find(&self, quote: &Quote) -> Known {
        let name = quote.id.as_str();
        if let Some(place) = self.ids.get(name) {
            return Known::Model(*place);
        }
        // A name that two providers of the table share comes with its provider; the catalogue may have that provider's model without.
        let plain = name.strip_prefix(quote.provider.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let own = plain
            .and_then(|plain| self.ids.get(plain))
            .filter(|place| self.models[**place].provider == quote.provider);
        match (own, self.aliases.get(name)) {
            (Some(place), _) => Known::Model(*place),
            (None, Some(place)) => Known::Alias(*place),
            (None, None) => Known::Not,
        }
    }
}

fn refuse(merge: &mut Merge, quote: &Quote, reason: Reason, detail: impl ToString) {
    merge.refused.push(Refused {
        reason,
        model: quote.id.to_string(),
        detail: detail.to_string(),
    });
}

/// The price that holds at the start, and those that begin later, each with its day. What held before is history, and no request is
/// priced by it again.
fn wanted(quote: &Quote, start: &EffectiveFrom) -> Vec<(Option<EffectiveFrom>, PriceDocument)> {
    let is_now = |from: &Option<EffectiveFrom>| from.as_ref().is_none_or(|from| from.at() <= start.at());
    let current = quote.prices.iter().rfind(|(from, _)| is_now(from)).cloned();
    let later = quote.prices.iter().filter(|(from, _)| !is_now(from)).cloned();
    current.into_iter().chain(later).collect()
}

fn take_prices(merge: &mut Merge, model: &ModelDocument, place: usize, quote: &Quote, terms: &Terms) {
    let mut prices = model.prices.clone();
    let mut changed = false;
    for (from, price) in wanted(quote, &terms.effective_from) {
        // The past stays as it was.
        let from = from
            .filter(|from| from.at() > terms.effective_from.at())
            .unwrap_or_else(|| terms.effective_from.clone());
        let before = in_force(&prices, from.at());
        let new = dated(completed(price, before), from, terms);
        let fields = compare::fields(&shown(before), &shown(Some(&new)));
        if fields.is_empty() {
            continue;
        }
        if prices.iter().any(|price| price.effective_from.at() == new.effective_from.at()) {
            refuse(merge, quote, Reason::SameDay, new.effective_from.as_str());
            return;
        }
        prices.push(new.clone());
        merge.changed.push(PriceChange {
            model: model.id.clone(),
            place,
            new,
            fields,
        });
        changed = true;
    }
    merge.unchanged += usize::from(!changed);
}

fn add(merge: &mut Merge, quote: &Quote, terms: &Terms) {
    let prices: Vec<PriceDocument> = wanted(quote, &terms.effective_from)
        .into_iter()
        .map(|(from, price)| dated(price, from.unwrap_or_else(|| terms.effective_from.clone()), terms))
        .collect();
    let tier = match &terms.tier {
        Some(TierRule::Named(tier)) => Some(tier.clone()),
        Some(TierRule::ByPrice) => prices.first().and_then(|price| Tier::parse(tier_of(price)).ok()),
        None => None,
    };
    let Some(tier) = tier else {
        merge.without_tier.push(quote.id.clone());
        return;
    };
    let limit = |tokens: Option<i64>| tokens.and_then(Whole::<1, COUNT_MAX>::new).or_else(|| Whole::new(COUNT_MAX));
    let (Some(max_input_tokens), Some(max_output_tokens)) = (limit(quote.max_input_tokens), limit(quote.max_output_tokens)) else {
        return;
    };
    merge.added.push(ModelDocument {
        id: quote.id.clone(),
        provider: quote.provider.clone(),
        tier,
        family: None,
        aliases: Vec::new(),
        max_input_tokens,
        max_output_tokens,
        downgrades: Vec::new(),
        fallbacks: Vec::new(),
        token_factor: Fraction::ONE,
        prices,
        credits: None,
    });
}

/// A rule of thumb for who names none: what an answer costs says what class a model was sold as.
fn tier_of(price: &PriceDocument) -> &'static str {
    let output = price.output.get().nanos();
    match output {
        _ if output <= FAST_OUTPUT_USD_MAX * NANOS_PER_USD => "fast",
        _ if output < FRONTIER_OUTPUT_USD_MIN * NANOS_PER_USD => "mid",
        _ => "frontier",
    }
}

fn in_force(prices: &[PriceDocument], at: Timestamp) -> Option<&PriceDocument> {
    let begun = prices.iter().filter(|price| price.effective_from.at() <= at);
    begun.max_by_key(|price| price.effective_from.at())
}

fn dated(price: PriceDocument, from: EffectiveFrom, terms: &Terms) -> PriceDocument {
    PriceDocument {
        effective_from: from,
        source: Some(terms.source.clone()),
        ..price
    }
}

/// With what the table is silent about taken from the price before.
fn completed(mut price: PriceDocument, before: Option<&PriceDocument>) -> PriceDocument {
    let Some(before) = before else { return price };
    price.audio_input = price.audio_input.or(before.audio_input);
    price.audio_output = price.audio_output.or(before.audio_output);
    price.image_input = price.image_input.or(before.image_input);
    price.off_peak = price.off_peak.or_else(|| before.off_peak.clone());
    if price.batch_discount == Ratio::ZERO {
        price.batch_discount = before.batch_discount;
    }
    if price.request.get() == Usd::ZERO {
        price.request = before.request;
    }
    price
}

/// What a price costs, every fallback taken, so that two ways to write one price are equal.
fn shown(price: Option<&PriceDocument>) -> serde_json::Value {
    let Some(price) = price else { return serde_json::json!({}) };
    let mut price = price.clone();
    let or = |rate: Option<Dollars>, other: Dollars| Some(rate.unwrap_or(other));
    price.cache_read = or(price.cache_read, price.input);
    price.cache_write = or(price.cache_write, price.input);
    price.cache_write_1h = price.cache_write_1h.or(price.cache_write);
    for step in &mut price.above.0 {
        step.cache_read = or(step.cache_read, step.input);
        step.cache_write = or(step.cache_write, step.input);
        step.cache_write_1h = step.cache_write_1h.or(step.cache_write);
        step.audio_input = step.audio_input.or(price.audio_input);
        step.audio_output = step.audio_output.or(price.audio_output);
        step.image_input = step.image_input.or(price.image_input);
    }
    price.above.0.sort_by_key(|step| step.tokens);
    price.effective_from = EffectiveFrom::always();
    price.source = None;
    serde_json::to_value(price).unwrap_or_default()
}
