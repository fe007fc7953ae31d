//! The price of a plan: budgets that it has, tiers that rise and end, amounts in the unit of what they are about.

use super::plan::amount;
use super::{Found, hint};
use crate::decision::amount::Unit;
use crate::decision::id::BudgetId;
use crate::decision::money::{LIMIT_USD_MAX, NANOS_PER_USD, Usd};
use crate::decision::plan::Budget;
use crate::decision::pointer;
use crate::decision::pricing::{OveragePrice, Pricing, UsagePrice};
use crate::decision::rating::{Commitment, Mode, Price, TIERS_MAX, Tier, Tiers};
use crate::policy::document::{Dollars, Limit, PricingDocument, SeatTiersDocument, TierDocument, UsagePriceDocument};
use crate::policy::problem::Problem;
use std::collections::HashSet;

/// The most billable outcomes of a plan.
const OUTCOMES_MAX: usize = 256;
/// The most prices of use of a plan.
const USAGE_PRICES_MAX: usize = 32;

pub(super) fn pricing(document: &PricingDocument, budgets: &[Budget], found: &mut Found) -> Pricing {
    let base = money(document.base_usd, "/pricing/base_usd".to_owned(), found);
    let seat = money(document.seat_usd, "/pricing/seat_usd".to_owned(), found);
    let outcomes = document
        .outcomes
        .iter()
        .map(|(name, usd)| {
            let place = pointer::member("/pricing/outcomes", name.as_str());
            (name.clone(), money(*usd, place, found))
        })
        .collect();
    if document.outcomes.len() > OUTCOMES_MAX {
        found.value("/pricing/outcomes", format!("a plan has at most {OUTCOMES_MAX} billable outcomes"));
    }
    if document.seat_tiers.is_some() && seat > Usd::ZERO {
        found.value("/pricing/seat_tiers", "seats have either tiers or one price: leave seat_usd out");
    }
    let credit = document.credit_usd.unwrap_or_default();
    Pricing {
        model: document.model,
        base,
        seat,
        interval: document.interval,
        overage: overage(document, budgets, found),
        outcomes,
        seat_tiers: document.seat_tiers.as_ref().map(|tiers| seat_tiers(tiers, found)),
        included_seats: document.included_seats.get(),
        usage: usage(&document.usage, budgets, found),
        commitment: commitment([document.minimum_usd, document.maximum_usd], "/pricing", found),
        credit: money(credit, "/pricing/credit_usd".to_owned(), found),
    }
}

fn money(usd: Dollars, place: String, found: &mut Found) -> Usd {
    if usd.get() > Usd::LIMIT_MAX {
        found.add(Problem::too_large(place, format!("a price is at most {LIMIT_USD_MAX} usd")));
    }
    usd.get()
}

/// The budget of this plan that a price names.
fn budget<'a>(id: &BudgetId, budgets: &'a [Budget], place: String, found: &mut Found) -> Option<&'a Budget> {
    let known = budgets.iter().find(|budget| budget.id == *id);
    if known.is_none() {
        let hint = hint(id.as_str(), budgets.iter().map(|budget| budget.id.as_str()));
        found.value(place, format!("this plan has no budget {id}{hint}"));
    }
    known
}

fn overage(document: &PricingDocument, budgets: &[Budget], found: &mut Found) -> Option<OveragePrice> {
    let overage = document.overage.as_ref()?;
    let budget = budget(&overage.budget_id, budgets, "/pricing/overage/budget_id".to_owned(), found)?;
    let per = amount(overage.per, budget.unit, "/pricing/overage/per".to_owned(), found)?;
    if per == 0 {
        found.value("/pricing/overage/per", "overage is priced per an amount above zero");
    }
    Some(OveragePrice {
        budget_id: budget.id.clone(),
        per,
        usd: money(overage.usd, "/pricing/overage/usd".to_owned(), found),
    })
}

fn commitment([minimum, maximum]: [Option<Dollars>; 2], place: &str, found: &mut Found) -> Commitment {
    let mut read = |usd: Option<Dollars>, field: &str| usd.map(|usd| money(usd, format!("{place}/{field}"), found));
    let (minimum, maximum) = (read(minimum, "minimum_usd"), read(maximum, "maximum_usd"));
    if let (Some(least), Some(most)) = (minimum, maximum)
        && least > most
    {
        let detail = format!("minimum_usd ({least}) must not be above maximum_usd ({most})");
        found.value(format!("{place}/minimum_usd"), detail);
    }
    Commitment { minimum, maximum }
}

fn usage(documents: &[UsagePriceDocument], budgets: &[Budget], found: &mut Found) -> Vec<UsagePrice> {
    if documents.len() > USAGE_PRICES_MAX {
        found.value("/pricing/usage", format!("a plan has at most {USAGE_PRICES_MAX} prices of use"));
    }
    let mut ids = HashSet::new();
    let mut prices = Vec::with_capacity(documents.len());
    for (n, document) in documents.iter().take(USAGE_PRICES_MAX).enumerate() {
        let place = format!("/pricing/usage/{n}");
        if !ids.insert(&document.id) {
            found.value(format!("{place}/id"), format!("there is more than one price {}", document.id));
        }
        prices.extend(usage_price(document, &place, budgets, found));
    }
    prices
}

fn usage_price(document: &UsagePriceDocument, place: &str, budgets: &[Budget], found: &mut Found) -> Option<UsagePrice> {
    let (unit, feature, budget) = match (&document.budget_id, document.unit) {
        (Some(_), None) if document.feature.is_some() => {
            found.value(format!("{place}/feature"), "the budget says of which feature it is");
            return None;
        }
        (Some(id), None) => {
            let budget = budget(id, budgets, format!("{place}/budget_id"), found)?;
            (budget.unit, budget.feature.clone(), Some(budget.id.clone()))
        }
        (None, Some(unit)) => (unit, document.feature.clone(), None),
        _ => {
            found.value(place, "a price of use is for exactly one of budget_id and unit");
            return None;
        }
    };
    let one = if unit == Unit::Usd { NANOS_PER_USD } else { 1 };
    let above_zero = |given: Option<Limit>, field: &str, default: i64, found: &mut Found| {
        let place = format!("{place}/{field}");
        let Some(given) = given else { return default };
        match amount(given, unit, place.clone(), found) {
            Some(0) => found.value(place, format!("{field} is above zero")),
            Some(amount) => return amount,
            None => {}
        }
        default
    };
    let per = above_zero(document.per, "per", one, found);
    let package_size = above_zero(document.package_size, "package_size", one, found);
    let included = document
        .included
        .and_then(|given| amount(given, unit, format!("{place}/included"), found));
    if (document.mode == Mode::Package) != document.package_size.is_some() {
        found.value(
            format!("{place}/mode"),
            "package_size belongs to mode package, and mode package needs it",
        );
    }
    let read = |given: Limit, place: String, found: &mut Found| amount(given, unit, place, found);
    Some(UsagePrice {
        id: document.id.to_string(),
        unit,
        feature,
        budget,
        included: included.unwrap_or(0),
        included_per_seat: document.included_per_seat,
        price: Price {
            tiers: Tiers {
                mode: document.mode,
                per,
                tiers: tiers(document.mode, &document.tiers, place, &read, found),
                package_size,
            },
            commitment: commitment([document.minimum_usd, document.maximum_usd], place, found),
        },
    })
}

fn seat_tiers(document: &SeatTiersDocument, found: &mut Found) -> Tiers {
    let place = "/pricing/seat_tiers";
    if (document.mode == Mode::Package) != document.package_size.is_some() {
        found.value(
            format!("{place}/mode"),
            "package_size belongs to mode package, and mode package needs it",
        );
    }
    let read = |given: Limit, place: String, found: &mut Found| amount(given, Unit::Requests, place, found);
    Tiers {
        mode: document.mode,
        per: 1,
        tiers: tiers(document.mode, &document.tiers, place, &read, found),
        package_size: document.package_size.map_or(1, |size| size.get()),
    }
}

type ReadAmount<'a> = dyn Fn(Limit, String, &mut Found) -> Option<i64> + 'a;

/// Tiers that rise from above zero and never end, so that every use has a price.
fn tiers(mode: Mode, documents: &[TierDocument], place: &str, read: &ReadAmount<'_>, found: &mut Found) -> Vec<Tier> {
    let place = format!("{place}/tiers");
    if documents.is_empty() || documents.len() > TIERS_MAX {
        found.value(&place, format!("a price has 1 to {TIERS_MAX} tiers"));
    }
    if mode == Mode::Package && (documents.len() != 1 || documents[0].unit_usd.is_some() || documents[0].flat_usd.is_none()) {
        found.value(&place, "a package has one tier, whose flat_usd is the price of a package");
    }
    let mut last = 0;
    let mut tiers = Vec::with_capacity(documents.len());
    for (n, document) in documents.iter().take(TIERS_MAX).enumerate() {
        let place = format!("{place}/{n}");
        let is_last = n + 1 == documents.len();
        let up_to = document.up_to.and_then(|given| read(given, format!("{place}/up_to"), found));
        if document.up_to.is_some() == is_last {
            found.value(&place, "the last tier has no up_to, and every other one has");
        }
        if up_to.is_some_and(|up_to| up_to <= last) {
            found.value(format!("{place}/up_to"), "tiers rise: up_to is above that of the tier before");
        }
        last = up_to.unwrap_or(last);
        if document.flat_usd.is_none() && document.unit_usd.is_none() {
            found.value(&place, "a tier has flat_usd, unit_usd, or both");
        }
        tiers.push(Tier {
            up_to,
            flat: document.flat_usd.map(|usd| money(usd, format!("{place}/flat_usd"), found)),
            unit: document.unit_usd.map(|usd| money(usd, format!("{place}/unit_usd"), found)),
        });
    }
    tiers
}
