//! Billing: meters that can be told apart, and plans that are there.

use super::{Found, hint};
use crate::decision::catalogue::Catalogue;
use crate::decision::id::{ModelId, PlanId, Tier};
use crate::decision::meter::{Billing, Factor, Meter, MeterFilter};
use crate::decision::plan::Plan;
use crate::decision::pointer;
use crate::policy::document::{BillingDocument, MeterDocument, MeterFilterDocument};
use crate::policy::object::ObjectId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most meters of a policy: each entry is looked at by each of them.
pub const METERS_MAX: usize = 64;
/// The most prices that stand for plans.
const PRICES_MAX: usize = 20_000;
/// The longest name of an event that Stripe takes.
const EVENT_NAME_CHARS_MAX: usize = 100;

pub(super) fn billing(document: &BillingDocument, catalogue: &Catalogue, plans: &HashMap<PlanId, Arc<Plan>>, found: &mut Found) -> Billing {
    found.about(&ObjectId::billing());
    if document.meters.len() > METERS_MAX {
        found.value("/meters", format!("there are at most {METERS_MAX} meters"));
    }
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    let mut meters = Vec::with_capacity(document.meters.len());
    for (n, meter) in document.meters.iter().take(METERS_MAX).enumerate() {
        let place = format!("/meters/{n}");
        if !ids.insert(&meter.id) {
            found.value(format!("{place}/id"), format!("there is more than one meter {}", meter.id));
        }
        if !names.insert(&meter.event_name) {
            let detail = format!(
                "another meter is called {:?} already: the provider's total could not be told apart",
                meter.event_name
            );
            found.value(format!("{place}/event_name"), detail);
        }
        meters.extend(self::meter(meter, &place, catalogue, found));
    }
    if document.plans_by_price.len() > PRICES_MAX {
        found.value("/plans_by_price", format!("there are at most {PRICES_MAX} prices"));
    }
    for (price, plan) in &document.plans_by_price {
        if !plans.contains_key(plan) {
            let hint = hint(plan.as_str(), plans.keys().map(PlanId::as_str));
            found.unknown(
                pointer::member("/plans_by_price", price.as_str()),
                format!("there is no plan {plan}{hint}"),
            );
        }
    }
    Billing {
        meters,
        plans_by_price: document.plans_by_price.clone(),
    }
}

fn meter(document: &MeterDocument, place: &str, catalogue: &Catalogue, found: &mut Found) -> Option<Meter> {
    let name = &document.event_name;
    if name.is_empty() || name.chars().count() > EVENT_NAME_CHARS_MAX || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let detail = format!("the name of an event has 1 to {EVENT_NAME_CHARS_MAX} characters without blanks");
        found.value(format!("{place}/event_name"), detail);
    }
    if document.scale.billionths() == 0 {
        found.value(format!("{place}/scale"), "a scale is above zero");
    }
    let factor = Factor::new(document.markup.billionths(), document.scale.billionths(), document.unit);
    if factor.is_none() {
        found.value(
            format!("{place}/markup"),
            "markup and scale together have more digits than can be carried exactly",
        );
    }
    Some(Meter {
        id: document.id.clone(),
        event_name: name.clone(),
        unit: document.unit,
        only: filter(&document.only, &format!("{place}/where"), catalogue, found),
        factor: factor?,
    })
}

fn filter(document: &MeterFilterDocument, place: &str, catalogue: &Catalogue, found: &mut Found) -> MeterFilter {
    let model = document.model.as_ref().map(|name| {
        let known = catalogue.find(name.as_str());
        if known.is_none() {
            let hint = hint(name.as_str(), catalogue.models().iter().map(|model| model.id.as_str()));
            found.unknown(format!("{place}/model"), format!("there is no model {name}{hint}"));
        }
        known.map_or_else(|| ModelId::clone(name), |model| model.id.clone())
    });
    if let Some(tier) = &document.tier {
        let tiers = || catalogue.models().iter().map(|model| model.tier.as_str());
        if *tier != Tier::unknown() && !tiers().any(|known| known == tier.as_str()) {
            let hint = hint(tier.as_str(), tiers());
            found.unknown(format!("{place}/tier"), format!("no model is of tier {tier}{hint}"));
        }
    }
    MeterFilter {
        feature: document.feature.clone(),
        model,
        tier: document.tier.clone(),
    }
}
