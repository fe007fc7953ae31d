//! Routing rules: each condition compiled, each target known.

use super::{Found, LABEL_CHARS_MAX, hint, is_label};
use crate::decision::cascade::Escalation;
use crate::decision::catalogue::Catalogue;
use crate::decision::health;
use crate::decision::id::ModelId;
use crate::decision::route::{BY_DEFAULT_MODEL, RouteRule, Routing, Target};
use crate::policy::condition;
use crate::policy::document::{EscalationDocument, HealthDocument, RoutingDocument, RuleDocument};
use crate::policy::object::ObjectId;
use crate::policy::problem::{Part, Problem};
use std::collections::HashSet;

/// The most rules of a policy: with the bound of each, what one request may cost.
pub const RULES_MAX: usize = 64;

pub(super) fn routing(document: &RoutingDocument, catalogue: &Catalogue, found: &mut Found) -> Routing {
    found.about(&ObjectId::routing());
    if document.rules.len() > RULES_MAX {
        found.value("/rules", format!("there are at most {RULES_MAX} routing rules"));
    }
    let mut names: HashSet<&str> = HashSet::new();
    let mut rules: Vec<RouteRule> = Vec::with_capacity(document.rules.len());
    for (n, rule) in document.rules.iter().take(RULES_MAX).enumerate() {
        let place = format!("/rules/{n}");
        if !names.insert(&rule.name) {
            found.value(format!("{place}/name"), format!("there is more than one rule {:?}", rule.name));
        }
        rules.extend(self::rule(rule, &place, catalogue, found));
    }
    let default_model = document.default_model.as_ref();
    Routing {
        rules,
        default_model: default_model.and_then(|name| model(name, "/default_model".to_owned(), catalogue, found)),
    }
}

fn rule(document: &RuleDocument, place: &str, catalogue: &Catalogue, found: &mut Found) -> Option<RouteRule> {
    let name = &document.name;
    if !is_label(name) || name == BY_DEFAULT_MODEL {
        let detail = format!("a rule's name has 1 to {LABEL_CHARS_MAX} characters on one line and is not {BY_DEFAULT_MODEL:?}");
        found.value(format!("{place}/name"), detail);
    }
    let target = target(document, place, catalogue, found);
    let when = condition::compile(&document.when).map_err(|refusal| {
        let mut problem = Problem::value(format!("{place}/when"), refusal.detail);
        problem.part = refusal.character.map_or(Part::Value, Part::Character);
        found.add(problem);
    });
    let escalation = document.escalation.as_ref();
    let escalation = escalation.and_then(|written| escalation_of(written, place, catalogue, found));
    Some(RouteRule {
        name: name.as_str().into(),
        when: when.ok()?,
        target: target?,
        overrides_named: document.overrides_named,
        shadow: document.shadow,
        escalation,
    })
}

fn escalation_of(document: &EscalationDocument, place: &str, catalogue: &Catalogue, found: &mut Found) -> Option<Escalation> {
    Some(Escalation {
        model: model(&document.model, format!("{place}/escalation/model"), catalogue, found)?,
        min_quality_score: document.min_quality_score,
    })
}

pub(super) fn health(document: &HealthDocument) -> health::Rules {
    health::Rules {
        enabled: document.enabled,
        window_seconds: document.window_seconds.get(),
        min_requests: document.min_requests.get(),
        error_share: document.error_share,
        timeout_share: document.timeout_share,
        timeout_ms: document.timeout_ms.get(),
        slow_factor: document.slow_factor.get(),
        slow_share: document.slow_share,
        open_seconds: document.open_seconds.get(),
        probes_per_second: u32::try_from(document.probes_per_second.get()).unwrap_or(1),
        close_after: document.close_after.get(),
    }
}

fn target(document: &RuleDocument, place: &str, catalogue: &Catalogue, found: &mut Found) -> Option<Target> {
    match (&document.model, &document.tier, document.mode, document.throttle_ms) {
        (Some(name), None, None, None) => model(name, format!("{place}/model"), catalogue, found).map(Target::Model),
        (None, Some(tier), None, None) => {
            let tiers = || catalogue.models().iter().map(|model| model.tier.as_str());
            if !tiers().any(|known| known == tier.as_str()) {
                let hint = hint(tier.as_str(), tiers());
                found.unknown(format!("{place}/tier"), format!("no model is of tier {tier}{hint}"));
            }
            Some(Target::Tier(tier.clone()))
        }
        (None, None, Some(mode), None) => Some(Target::Mode(mode)),
        (None, None, None, Some(ms)) => Some(Target::Throttle(u32::try_from(ms.get()).unwrap_or(u32::MAX))),
        _ => {
            found.value(place, "a rule chooses exactly one of model, tier, mode and throttle_ms");
            None
        }
    }
}

/// The id of the model that `name` means.
fn model(name: &ModelId, place: String, catalogue: &Catalogue, found: &mut Found) -> Option<ModelId> {
    let known = catalogue.find(name.as_str());
    if known.is_none() {
        let hint = hint(name.as_str(), catalogue.models().iter().map(|model| model.id.as_str()));
        found.unknown(place, format!("there is no model {name}{hint}"));
    }
    known.map(|model| model.id.clone())
}
