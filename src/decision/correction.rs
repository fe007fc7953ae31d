//! Corrections: what a use says in all, the entry and its corrections together, and the entry of signed differences that makes it say
//! something else. History is not priced anew: what a correction costs follows from the price that the use was recorded with.

use super::amount::Amounts;
use super::catalogue::{Catalogue, CreditRates};
use super::entry::{Entry, Kind};
use super::id::EntryId;
use super::money::Usd;
use super::price::{CostTooLarge, Price};
use super::time::Timestamp;
use super::usage::{Pools, Usage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry and its corrections add up to.
#[derive(Clone, PartialEq, Debug)]
pub struct Said {
    pub pools: Pools,
    pub counted: Amounts,
    /// `None`: nothing of it has a price.
    pub cost_usd: Option<Usd>,
    pub list_cost_usd: Option<Usd>,
}

/// New totals of what counts; absent ones stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    pub tokens: Option<i64>,
    pub usd: Option<Usd>,
    pub requests: Option<i64>,
    pub credits: Option<i64>,
}

/// A price with what else the model's document says of counting.
#[derive(Clone, Debug)]
pub struct Priced {
    pub price: Arc<Price>,
    pub credits: Option<CreditRates>,
}

impl Priced {
    /// The price of this version, of the model that `name` means or of the models that the catalogue does not know.
    pub fn of_version(catalogue: &Catalogue, name: &str, version: &str) -> Option<Self> {
        let of_model = catalogue.find(name).and_then(|model| {
            let price = model.prices.iter().find_map(|price| price.of_version(version))?;
            Some(Self {
                price: price.clone(),
                credits: model.credits,
            })
        });
        let default = catalogue.default_price.as_ref().filter(|price| &*price.version == version);
        of_model.or_else(|| {
            default.map(|price| Self {
                price: price.clone(),
                credits: None,
            })
        })
    }

    /// The price that was in force at `at`.
    pub fn in_force(catalogue: &Catalogue, name: &str, at: Timestamp) -> Option<Self> {
        match catalogue.find(name) {
            Some(model) => model.price_at(at).map(|price| Self {
                price: price.clone(),
                credits: model.credits,
            }),
            None => catalogue.default_price.as_ref().map(|price| Self {
                price: price.clone(),
                credits: None,
            }),
        }
    }
}

/// Which of an entry and its corrections, oldest first, was priced last: its model and its price are those of the use.
pub fn priced_by<'a>(original: &'a Entry, corrections: &'a [Entry]) -> &'a Entry {
    corrections.iter().rev().find(|entry| entry.priced).unwrap_or(original)
}

impl Said {
    /// `None`: a sum leaves 64 bits.
    pub fn of(original: &Entry, corrections: &[Entry]) -> Option<Self> {
        let add = |sum: Option<Usd>, more: Option<Usd>| match (sum, more) {
            (Some(sum), Some(more)) => sum.checked_add(more).map(Some),
            (sum, more) => Some(sum.or(more)),
        };
        let first = Self {
            pools: original.pools,
            counted: original.counted,
            cost_usd: original.cost_usd,
            list_cost_usd: original.list_cost_usd,
        };
        corrections.iter().try_fold(first, |said, entry| {
            Some(Self {
                pools: said.pools.checked_add(&entry.pools)?,
                counted: said.counted.checked_add(entry.counted)?,
                cost_usd: add(said.cost_usd, entry.cost_usd)?,
                list_cost_usd: add(said.list_cost_usd, entry.list_cost_usd)?,
            })
        })
    }

    /// The same use with other tokens, at the price that it has; `list` is what the requested model cost by then.
    pub fn with_usage(&self, usage: &Usage, of: &Entry, priced: Option<&Priced>, list: Option<&Price>) -> Result<Self, CostTooLarge> {
        let named = priced.map(|priced| priced.price.named()).unwrap_or_default();
        let mut after = Self {
            pools: usage.pools(named),
            ..self.clone()
        };
        after.counted.tokens = after.pools.total();
        if let Some(priced) = priced {
            after.price(of, priced)?;
        }
        if let (Some(list), Some(so_far)) = (list, self.list_cost_usd) {
            let cost = |pools: &Pools| list.cost(&pools.uncached(), super::price::Mode::Interactive, self.counted.requests);
            let moved = cost(&after.pools)?.checked_sub(cost(&self.pools)?);
            after.list_cost_usd = Some(moved.and_then(|moved| so_far.checked_add(moved)).ok_or(CostTooLarge)?);
        }
        Ok(after)
    }

    /// The same use, which had no price, at one.
    pub fn with_price(&self, of: &Entry, priced: &Priced, list: Option<&Price>) -> Result<Self, CostTooLarge> {
        let mut after = self.clone();
        after.price(of, priced)?;
        let interactive = super::price::Mode::Interactive;
        let list = list.map(|list| list.cost(&self.pools.uncached(), interactive, self.counted.requests));
        after.list_cost_usd = self.list_cost_usd.or(list.transpose()?);
        Ok(after)
    }

    fn price(&mut self, of: &Entry, priced: &Priced) -> Result<(), CostTooLarge> {
        let tokens = priced.price.cost(&self.pools, of.mode, self.counted.requests)?;
        let cost = tokens.checked_add(of.other_cost_usd.unwrap_or(Usd::ZERO));
        let cost = cost.filter(|cost| *cost <= Usd::ENTRY_MAX).ok_or(CostTooLarge)?;
        self.cost_usd = Some(cost);
        self.counted.usd = cost.nanos();
        self.counted.credits = priced.credits.map_or(0, |credits| credits.of(&self.pools));
        Ok(())
    }

    /// The same use with other amounts that count against budgets; what it used and cost stays.
    pub fn with_counted(&self, counted: &Counted) -> Self {
        let mut after = self.clone();
        after.counted = Amounts {
            tokens: counted.tokens.unwrap_or(self.counted.tokens),
            usd: counted.usd.map_or(self.counted.usd, Usd::nanos),
            requests: counted.requests.unwrap_or(self.counted.requests),
            credits: counted.credits.unwrap_or(self.counted.credits),
        };
        after
    }
}

/// The entry of signed differences that leads from `before` to `after`, at the original's time. `of` is the entry that has the use's price,
/// or would have it: its model and version are told. `None`: a difference leaves 64 bits.
pub fn difference(original: &Entry, of: &Entry, before: &Said, after: &Said, id: EntryId, now: Timestamp) -> Option<Entry> {
    let usd = |after: Option<Usd>, before: Option<Usd>| match (after, before) {
        (Some(after), Some(before)) => after.checked_sub(before).map(Some),
        (after, _) => Some(after),
    };
    let counted = after.counted.checked_sub(before.counted)?;
    Some(Entry {
        entry_id: id,
        kind: Kind::Correction,
        corrects: Some(original.entry_id),
        pools: after.pools.checked_sub(&before.pools)?,
        requests: counted.requests,
        counted,
        cost_usd: usd(after.cost_usd, before.cost_usd)?,
        list_cost_usd: usd(after.list_cost_usd, before.list_cost_usd)?,
        priced: after.cost_usd.is_some(),
        price_version: of.price_version.clone(),
        tier: of.tier.clone(),
        provider: of.provider.clone(),
        // What was measured of the use is told by its own entry, once.
        latency_ms: None,
        quality_score: None,
        other_cost_usd: None,
        billable_outcomes: BTreeMap::new(),
        recorded_at: now,
        ..original.clone()
    })
}
