//! Plans: limits in the unit of their budget, in order, within what counters hold exactly; names that mean something.

use super::{Found, LABEL_CHARS_MAX, fair_use, hint, is_label, pricing};
use crate::decision::amount::{LIMIT_COUNT_MAX, Unit};
use crate::decision::catalogue::Catalogue;
use crate::decision::id::PlanId;
use crate::decision::message::language::Language;
use crate::decision::money::{LIMIT_USD_MAX, Usd};
use crate::decision::plan::{ALERTS_MAX, AtHard, BUDGETS_MAX, Budget, CacheRules, FeatureRules, ModelPattern, Plan, Scope, SoftActions};
use crate::decision::pricing::Pricing;
use crate::policy::document::{BudgetDocument, Documents, FeatureDocument, Limit, PlanDocument, SoftAction};
use crate::policy::object::ObjectId;
use crate::policy::problem::Problem;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most plans of a policy.
const PLANS_MAX: usize = 20_000;
/// The most features that a plan may name.
const FEATURES_MAX: usize = 1_000;
/// The most patterns of `allowed_models`.
const PATTERNS_MAX: usize = 256;
const URL_BYTES_MAX: usize = 2_048;

pub(super) fn plans(documents: &Documents, catalogue: &Catalogue, found: &mut Found) -> HashMap<PlanId, Arc<Plan>> {
    let tiers: HashSet<&str> = catalogue.models().iter().map(|model| model.tier.as_str()).collect();
    let targets = Targets { catalogue, tiers };
    let mut plans: HashMap<PlanId, Arc<Plan>> = HashMap::with_capacity(documents.plans.len());
    for (version, document) in &documents.plans {
        found.about(&ObjectId::plan(document.id.as_str()));
        let plan = plan(document, *version, &targets, found);
        if plans.insert(document.id.clone(), Arc::new(plan)).is_some() {
            found.value("/id", format!("there is more than one plan {}", document.id));
        }
    }
    if plans.len() > PLANS_MAX {
        found.value("", format!("a policy has at most {PLANS_MAX} plans"));
    }
    plans
}

/// What a downgrade can name.
pub(super) struct Targets<'a> {
    catalogue: &'a Catalogue,
    tiers: HashSet<&'a str>,
}

impl Targets<'_> {
    /// The tier, or the id of the model whose id or alias it is; `None` when it is neither.
    fn resolve(&self, name: &str) -> Option<String> {
        if self.tiers.contains(name) {
            return Some(name.to_owned());
        }
        let named = |model: &&Arc<_>| {
            let model: &crate::decision::catalogue::Model = model;
            model.id.as_str() == name || model.aliases.iter().any(|alias| alias.as_str() == name)
        };
        self.catalogue.find(name).filter(named).map(|model| model.id.to_string())
    }

    fn hint(&self, wrong: &str) -> String {
        let models = self.catalogue.models().iter().map(|model| model.id.as_str());
        hint(wrong, self.tiers.iter().copied().chain(models))
    }
}

fn plan(document: &PlanDocument, version: u32, targets: &Targets<'_>, found: &mut Found) -> Plan {
    words(document, found);
    let budgets = budgets(document, targets, found);
    let pricing = document.pricing.as_ref().map(|pricing| pricing::pricing(pricing, &budgets, found));
    if document.features.len() > FEATURES_MAX {
        found.value("/features", format!("a plan names at most {FEATURES_MAX} features"));
    }
    Plan {
        id: document.id.clone(),
        version,
        name: document.name.clone().unwrap_or_else(|| document.id.to_string()),
        upgrade_url: document.upgrade_url.clone(),
        locale: document.locale.as_deref().and_then(|tag| locale(tag, found)),
        allowed_models: patterns(&document.allowed_models, found),
        unlimited: document.unlimited,
        unknown_features: document.unknown_features,
        require_user: document.require_user,
        budgets,
        fair_use: fair_use::rules(&document.fair_use, targets, found),
        features: document.features.iter().map(|(id, rules)| (id.clone(), feature(rules))).collect(),
        max_open_reservations: narrow(document.max_open_reservations.get()),
        min_hold_seconds: document.min_hold_seconds.get(),
        on_expiry: document.on_expiry,
        on_store_unavailable: document.on_store_unavailable,
        base_usd_per_month: pricing.as_ref().map(Pricing::base_per_month),
        pricing,
        target_gross_margin: document.target_gross_margin,
    }
}

pub(super) fn narrow(bounded: i64) -> u32 {
    u32::try_from(bounded).expect("the document's bounds are below 2^32")
}

/// What people read: name and link.
fn words(document: &PlanDocument, found: &mut Found) {
    if document.name.as_ref().is_some_and(|name| !is_label(name)) {
        found.value("/name", format!("a name has 1 to {LABEL_CHARS_MAX} characters on one line"));
    }
    let is_link = |url: &str| {
        let web = url.starts_with("https://") || url.starts_with("http://");
        web && url.len() <= URL_BYTES_MAX && !url.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if document.upgrade_url.as_ref().is_some_and(|url| !is_link(url)) {
        found.value("/upgrade_url", "a link begins with https:// or http:// and has no blanks");
    }
}

fn locale(tag: &str, found: &mut Found) -> Option<Language> {
    let language = Language::parse(tag);
    if language.is_none() {
        found.value("/locale", format!("{tag:?} is no language tag such as de or pt-BR"));
    }
    language
}

fn patterns(texts: &[String], found: &mut Found) -> Vec<ModelPattern> {
    if texts.len() > PATTERNS_MAX {
        found.value("/allowed_models", format!("a plan has at most {PATTERNS_MAX} patterns"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/@|+=~-*?".contains(c);
    for (n, text) in texts.iter().enumerate() {
        let name = text.strip_prefix("tier:").unwrap_or(text);
        let wild = text.len() != name.len() && name.contains(['*', '?']);
        if name.is_empty() || text.len() > LABEL_CHARS_MAX || !text.chars().all(allowed) || wild {
            let detail = format!("{text:?} is neither a glob over model ids, such as \"claude-*\", nor a tier, such as \"tier:fast\"");
            found.value(format!("/allowed_models/{n}"), detail);
        }
    }
    texts.iter().map(|text| ModelPattern::parse(text)).collect()
}

fn budgets(document: &PlanDocument, targets: &Targets<'_>, found: &mut Found) -> Vec<Budget> {
    if document.budgets.len() > BUDGETS_MAX {
        found.value("/budgets", format!("a plan has at most {BUDGETS_MAX} budgets"));
    }
    let mut budgets: Vec<Budget> = Vec::with_capacity(document.budgets.len());
    for (n, budget) in document.budgets.iter().enumerate() {
        let place = format!("/budgets/{n}");
        if budgets.iter().any(|other| other.id == budget.id) {
            found.value(format!("{place}/id"), format!("there is more than one budget {}", budget.id));
        }
        budgets.push(self::budget(budget, &place, targets, found));
    }
    budgets
}

fn budget(document: &BudgetDocument, place: &str, targets: &Targets<'_>, found: &mut Found) -> Budget {
    let mut limit =
        |field: &str, given: Option<Limit>| given.and_then(|given| amount(given, document.unit, format!("{place}/{field}"), found));
    let soft = limit("soft", document.soft);
    let hard = limit("hard", document.hard);
    let overage_hard = limit("overage_hard", document.overage_hard);
    order(document, [soft, hard, overage_hard], place, found);
    let mut alerts = document.alerts.clone();
    if alerts.len() > ALERTS_MAX {
        found.value(format!("{place}/alerts"), format!("a budget has at most {ALERTS_MAX} alerts"));
    }
    alerts.sort_unstable();
    alerts.dedup();
    if document.per_seat && document.scope == Scope::User {
        found.value(
            format!("{place}/per_seat"),
            "per_seat is only for budgets of scope workspace: a user budget is for one person as it is",
        );
    }
    Budget {
        id: document.id.clone(),
        scope: document.scope,
        feature: document.feature.clone(),
        unit: document.unit,
        period: document.period,
        soft,
        hard,
        per_seat: document.per_seat,
        at_soft: actions(&document.at_soft),
        downgrade_to: document.downgrade_to.as_ref().map(|name| downgrade(name, place, targets, found)),
        throttle_ms: narrow(document.throttle_ms.get()),
        at_hard: document.at_hard,
        overage_hard,
        alerts,
        shadow: document.shadow,
    }
}

pub(super) fn downgrade(name: &str, place: &str, targets: &Targets<'_>, found: &mut Found) -> String {
    targets.resolve(name).unwrap_or_else(|| {
        let hint = targets.hint(name);
        found.unknown(
            format!("{place}/downgrade_to"),
            format!("{name} is neither a tier nor a model{hint}"),
        );
        name.to_owned()
    })
}

/// soft ≤ hard ≤ overage_hard, and overage only where there is something to go over.
fn order(document: &BudgetDocument, [soft, hard, overage]: [Option<i64>; 3], place: &str, found: &mut Found) {
    let shown = |amount: i64| match document.unit {
        Unit::Usd => Usd::from_nanos(amount).to_string(),
        _ => amount.to_string(),
    };
    let mut rising = |(low, low_name): (Option<i64>, &str), (high, high_name): (Option<i64>, &str)| {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let detail = format!("{low_name} ({}) must not be above {high_name} ({})", shown(low), shown(high));
            found.value(format!("{place}/{low_name}"), detail);
        }
    };
    rising((soft, "soft"), (hard, "hard"));
    rising((hard, "hard"), (overage, "overage_hard"));
    if document.hard.is_none() && document.at_hard == AtHard::Overage {
        found.value(format!("{place}/at_hard"), "overage begins at hard, and this budget has none");
    }
    if document.hard.is_none() && document.overage_hard.is_some() {
        found.value(format!("{place}/overage_hard"), "overage begins at hard, and this budget has none");
    }
}

/// A limit in the smallest part of its unit; `None` when it is written for another unit.
pub(super) fn amount(given: Limit, unit: Unit, place: String, found: &mut Found) -> Option<i64> {
    let name = unit.as_str();
    match (unit, given) {
        (Unit::Usd, Limit::Usd(usd)) => {
            if usd > Usd::LIMIT_MAX {
                found.add(Problem::too_large(place, format!("a limit in usd is at most {LIMIT_USD_MAX}")));
            }
            Some(usd.nanos())
        }
        (Unit::Usd, Limit::Count(count)) => {
            found.add(Problem::shape(
                place,
                format!("a limit in usd is a decimal in quotes: write \"{count}\", not {count}"),
            ));
            None
        }
        (_, Limit::Count(count)) => {
            if count > LIMIT_COUNT_MAX {
                found.add(Problem::too_large(place, format!("a limit in {name} is at most {LIMIT_COUNT_MAX}")));
            }
            Some(count)
        }
        (_, Limit::Usd(_)) => {
            found.add(Problem::shape(place, format!("a limit in {name} is an integer without quotes")));
            None
        }
    }
}

fn actions(actions: &[SoftAction]) -> SoftActions {
    let has = |action: SoftAction| actions.contains(&action);
    SoftActions {
        warn: has(SoftAction::Warn),
        downgrade: has(SoftAction::Downgrade),
        throttle: has(SoftAction::Throttle),
        defer: has(SoftAction::Defer),
    }
}

fn feature(document: &FeatureDocument) -> FeatureRules {
    FeatureRules {
        enabled: document.enabled,
        never_downgrade: document.never_downgrade,
        cache: document.cache.as_ref().map(|cache| CacheRules {
            exact: cache.exact,
            semantic: cache.semantic,
            threshold: cache.threshold,
            ttl_seconds: cache.ttl_seconds.get(),
            max_entries: narrow(cache.max_entries.get()),
            scope: cache.scope,
            bill: cache.bill.share(),
        }),
    }
}
