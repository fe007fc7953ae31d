//! What a workspace bought: budgets, feature rules and what happens at a limit. Read and checked by `policy`, compiled by `ladder`.

use super::amount::{Ratio, Unit};
use super::anomaly::Rule;
use super::catalogue::Model;
use super::id::{BudgetId, Feature, PlanId};
use super::message::language::Language;
use super::money::Usd;
use super::period::PeriodKind;
use super::pricing::Pricing;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The most budgets of one plan: what one authorize may have to check.
pub const BUDGETS_MAX: usize = 32;
/// The most alerts of one budget.
pub const ALERTS_MAX: usize = 10;

/// A plan as requests see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub id: PlanId,
    /// Rises with each change of the plan; stamped on decisions and entries.
    pub version: u32,
    pub name: String,
    pub upgrade_url: Option<String>,
    /// In which language its workspaces are told things, unless a caller accepts another.
    pub locale: Option<Language>,
    pub allowed_models: Vec<ModelPattern>,
    /// No budget is needed to be allowed.
    pub unlimited: bool,
    pub unknown_features: UnknownFeatures,
    pub require_user: bool,
    pub budgets: Vec<Budget>,
    pub fair_use: Vec<Rule>,
    pub features: HashMap<Feature, FeatureRules>,
    pub max_open_reservations: u32,
    pub min_hold_seconds: i64,
    pub on_expiry: OnExpiry,
    pub on_store_unavailable: OnStoreUnavailable,
    pub pricing: Option<Pricing>,
    /// [`Pricing::base_per_month`], where there is a price.
    pub base_usd_per_month: Option<Usd>,
    /// What part of the price shall be left when the models are paid.
    pub target_gross_margin: Option<Ratio>,
}

/// A ceiling on a counter.
#[derive(Clone, PartialEq, Debug)]
pub struct Budget {
    pub id: BudgetId,
    pub scope: Scope,
    pub feature: Option<Feature>,
    pub unit: Unit,
    pub period: PeriodKind,
    pub soft: Option<i64>,
    pub hard: Option<i64>,
    pub per_seat: bool,
    pub at_soft: SoftActions,
    /// A tier or a model id; absent: the model's own `downgrades`, in order.
    pub downgrade_to: Option<String>,
    pub throttle_ms: u32,
    pub at_hard: AtHard,
    pub overage_hard: Option<i64>,
    pub alerts: Vec<Ratio>,
    /// Counts and reports, never denies.
    pub shadow: bool,
}

impl Budget {
    /// Whether a request of `feature` counts towards this budget.
    pub fn applies_to(&self, feature: &Feature) -> bool {
        self.feature.as_ref().is_none_or(|own| own == feature)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    #[default]
    Workspace,
    User,
}

/// What a budget does from its soft limit on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SoftActions {
    pub warn: bool,
    pub downgrade: bool,
    pub throttle: bool,
    pub defer: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtHard {
    #[default]
    Deny,
    Overage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFeatures {
    #[default]
    Allow,
    Deny,
}

/// What becomes of a hold that nobody settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    #[default]
    Release,
    /// The hold itself is recorded, with outcome `abandoned`.
    Charge,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreUnavailable {
    #[default]
    Deny,
    Allow,
}

/// What a plan says of one feature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureRules {
    pub enabled: bool,
    pub never_downgrade: bool,
    /// Absent: answers of this feature are never cached.
    pub cache: Option<CacheRules>,
}

/// How answers of a feature may be kept and given again, always within one workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheRules {
    pub exact: bool,
    pub semantic: bool,
    /// The least similarity of a semantic hit.
    pub threshold: Ratio,
    pub ttl_seconds: i64,
    /// The most entries of one workspace and feature.
    pub max_entries: u32,
    pub scope: Scope,
    /// What part of the avoided use a hit counts for.
    pub bill: Ratio,
}

/// Which models a plan allows: a glob over ids, or every model of a tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModelPattern {
    Glob(String),
    Tier(String),
}

impl ModelPattern {
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("tier:") {
            Some(tier) => ModelPattern::Tier(tier.to_owned()),
            None => ModelPattern::Glob(text.to_owned()),
        }
    }

    pub fn matches(&self, model: &Model) -> bool {
        match self {
            ModelPattern::Glob(glob) => glob_matches(glob, model.id.as_str()),
            ModelPattern::Tier(tier) => model.tier.as_str() == tier,
        }
    }
}

impl Plan {
    pub fn allows(&self, model: &Model) -> bool {
        self.allowed_models.iter().any(|pattern| pattern.matches(model))
    }

    /// The rules of a feature; `None` where the plan does not name it.
    pub fn feature(&self, feature: &Feature) -> Option<&FeatureRules> {
        self.features.get(feature)
    }
}

/// `*` stands for any run of characters, `?` for one; linear in time, whatever the pattern.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g, t));
                g += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    g = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("*", "anything", true),
            ("claude-*", "claude-haiku-4-5", true),
            ("claude-*", "gpt-4o", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-2", false),
            ("gpt-?o", "gpt-4o", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("", "a", false),
            ("gpt-4o", "gpt-4o", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }
}
