//! Why a ladder has no rung of a step, or none with a model that was considered for it.

use crate::decision::anomaly;
use crate::decision::catalogue::{Catalogue, Model};
use crate::decision::id::ModelId;
use crate::decision::ladder::{Builder, DOWNGRADES_MAX, Ladder, Step, Unusable, Way};
use crate::decision::limits::gates_softly;
use crate::decision::plan::{AtHard, Budget};
use crate::decision::price::Mode;
use serde::Serialize;
use std::sync::Arc;

/// The most that are told of one ladder: a tier may have thousands of models.
pub const SKIPPED_MAX: usize = 32;

/// A rung that is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    pub step: Step,
    /// The model that does not serve; `None`: no model does.
    pub model: Option<ModelId>,
    pub why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No enforced budget that applies says `downgrade`.
    NoBudgetDowngrades,
    /// The feature says `never_downgrade`.
    NeverDowngrade,
    /// The catalogue has no such model.
    ModelUnknown,
    ModelUnpriced,
    ProviderExcluded,
    ModelNotAllowed,
    ContextTooLong,
    CostTooLarge,
    NotCheaper,
    /// It, or its provider, failed at the moment.
    ProviderUnhealthy,
    /// Another model of the tier is the asked one's own downgrade, or cheaper.
    AnotherOfItsTier,
    /// The tier that a budget names has no model that would do.
    NoneOfTier,
    TooManyDowngrades,
    /// The request does not say that it can wait.
    CannotWait,
    /// It is asked for in the provider's batch already.
    AlreadyBatch,
    /// The model's provider has no price for batches.
    NoBatchPrice,
    /// No budget waits at its soft limit, so the first rung is under hard already.
    NoSoftGate,
    /// No enforced budget that applies bills overage.
    NoOverage,
    /// The request permits no shorter answer.
    NoShorterAnswer,
    /// The least answer is as long as the whole one.
    LeastIsWhole,
}

impl From<Unusable> for Why {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::ModelUnpriced => Why::ModelUnpriced,
            Unusable::ProviderExcluded => Why::ProviderExcluded,
            Unusable::ModelNotAllowed => Why::ModelNotAllowed,
            Unusable::ContextTooLong => Why::ContextTooLong,
            Unusable::CostTooLarge => Why::CostTooLarge,
            Unusable::NotCheaper => Why::NotCheaper,
        }
    }
}

/// What `ladder` does not have, by what it was built of.
pub(super) fn skipped(builder: &Builder<'_>, asked: &Way, ladder: &Ladder, catalogue: &Catalogue, avoided: &[ModelId]) -> Vec<Skipped> {
    let mut list = List {
        builder,
        asked,
        ladder,
        catalogue,
        avoided,
        skipped: Vec::new(),
    };
    list.downgrades();
    list.batch();
    let (has_gate, has_overage) = (
        list.enforced().any(|budget| budget.soft.is_some() && gates_softly(budget.at_soft)),
        list.enforced().any(|budget| budget.at_hard == AtHard::Overage),
    );
    if !has_gate {
        list.add(Step::AskedPastSoft, None, Why::NoSoftGate);
    }
    if !has_overage {
        list.add(Step::Overage, None, Why::NoOverage);
    }
    match builder.ask.min_output_tokens {
        None => list.add(Step::Capped, None, Why::NoShorterAnswer),
        Some(least) if least >= builder.wanted_output => list.add(Step::Capped, None, Why::LeastIsWhole),
        Some(_) => {}
    }
    list.skipped.truncate(SKIPPED_MAX);
    list.skipped
}

struct List<'a> {
    builder: &'a Builder<'a>,
    asked: &'a Way,
    ladder: &'a Ladder,
    catalogue: &'a Catalogue,
    /// What failed at that moment.
    avoided: &'a [ModelId],
    skipped: Vec<Skipped>,
}

impl List<'_> {
    /// Doubles are told once: several budgets may name one model.
    fn add(&mut self, step: Step, model: Option<ModelId>, why: Why) {
        let skipped = Skipped { step, model, why };
        if !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }

    fn enforced(&self) -> impl Iterator<Item = &Budget> {
        let named = self.builder.limits.budgets.iter();
        named
            .map(|limited| &self.builder.plan.budgets[limited.budget])
            .filter(|budget| !budget.shadow)
    }

    fn batch(&mut self) {
        let ask = self.builder.ask;
        if ask.mode == Mode::Batch {
            self.add(Step::Batch, None, Why::AlreadyBatch);
        } else if !ask.allow_batch {
            self.add(Step::Batch, None, Why::CannotWait);
        } else if !self.asked.1.has_batch() {
            self.add(Step::Batch, Some(self.asked.0.id.clone()), Why::NoBatchPrice);
        }
    }

    fn downgrades(&mut self) {
        let targets: Vec<Option<String>> = self
            .enforced()
            .filter(|budget| budget.at_soft.downgrade)
            .map(|budget| budget.downgrade_to.clone())
            .collect();
        let rules = self.builder.plan.feature(&self.builder.ask.feature);
        let targets: Vec<Option<String>> = anomaly::downgrade(self.builder.fair_use)
            .map(|to| to.map(str::to_owned))
            .into_iter()
            .chain(targets)
            .collect();
        if targets.is_empty() {
            return self.add(Step::Downgrade, None, Why::NoBudgetDowngrades);
        }
        if rules.is_some_and(|rules| rules.never_downgrade) {
            return self.add(Step::Downgrade, None, Why::NeverDowngrade);
        }
        for target in targets {
            match target {
                None => self.own(|_| true),
                Some(target) => match self.catalogue.get(&target) {
                    Some(model) => self.judge(&model.clone()),
                    None => self.of_tier(&target),
                },
            }
        }
    }

    /// Whether the ladder has a downgrade to this model.
    fn serves(&self, id: &ModelId) -> bool {
        let downgrades = self.ladder.offers.iter().filter(|offer| offer.step == Step::Downgrade);
        downgrades.map(|offer| &offer.model.id).any(|served| served == id)
    }

    fn judge(&mut self, model: &Arc<Model>) {
        if self.serves(&model.id) {
            return;
        }
        let why = match self.builder.cheaper(model, self.asked, self.ladder.rungs[self.ladder.asked].needs) {
            Err(unusable) => unusable.into(),
            Ok(_) if self.ladder.offers.iter().filter(|offer| offer.step == Step::Downgrade).count() >= DOWNGRADES_MAX => {
                Why::TooManyDowngrades
            }
            Ok(_) if self.avoided.contains(&model.id) => Why::ProviderUnhealthy,
            Ok(_) => Why::AnotherOfItsTier,
        };
        self.add(Step::Downgrade, Some(model.id.clone()), why);
    }

    /// The asked model's own downgrades.
    fn own(&mut self, wanted: impl Fn(&Model) -> bool) {
        for id in &self.asked.0.downgrades {
            match self.catalogue.get(id.as_str()).cloned() {
                None => self.add(Step::Downgrade, Some(id.clone()), Why::ModelUnknown),
                Some(model) if wanted(&model) => self.judge(&model),
                Some(_) => {}
            }
        }
    }

    fn of_tier(&mut self, tier: &str) {
        let is_of_tier = |model: &Model| model.tier.as_str() == tier;
        self.own(is_of_tier);
        let others: Vec<Arc<Model>> = self.catalogue.models().iter().filter(|model| is_of_tier(model)).cloned().collect();
        let is_served = others.iter().any(|model| self.serves(&model.id));
        for model in others.iter().take(SKIPPED_MAX) {
            self.judge(model);
        }
        if !is_served && others.iter().all(|model| model.id != self.asked.0.id) {
            self.add(Step::Downgrade, None, Why::NoneOfTier);
        }
    }
}
