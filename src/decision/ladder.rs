//! The ladder: every way to serve a request, best first, as rungs that a store can take without knowing of plans.
//!
//! A request that has passed the questions of [`super::questions`] compiles to rungs:
//!
//! 1. the asked model, whole answer; budgets that would downgrade or defer still under soft, the others under hard
//! 2. each downgrade, whole answer, under hard
//! 3. the asked model in the provider's batch, where the caller can wait
//! 4. the asked model under hard, where (1) waited at a soft limit: a soft limit alone never denies
//! 5. the asked model, then downgrades, up to the overage limit where a budget bills overage
//! 6. the asked model, then downgrades, capped to what fits
//!
//! While fair use downgrades, (2) comes before (1): the asked model serves only where nothing cheaper does.
//!
//! Invariant: the same ask, plan, catalogue and limits give the same ladder, so an answer can be told again without being stored.

use super::amount::Amounts;
use super::anomaly::{self, Action};
use super::ask::Ask;
use super::catalogue::{Catalogue, Model};
use super::id::ModelId;
use super::limits::{Limited, Limits, gates_softly};
use super::plan::{AtHard, Budget, Plan};
use super::price::{COST_DENOMINATOR, CostTooLarge, Mode, Price};
use super::questions::reads;
use super::refusal::Refusal;
use super::rung::{Cap, Limit, Line, Rung};
use super::time::Timestamp;
use super::usage::Pools;
use std::sync::Arc;

/// The most models that one ladder tries beside the asked one.
pub const DOWNGRADES_MAX: usize = 8;

/// Which part of the ladder a rung belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Asked,
    Downgrade,
    Batch,
    AskedPastSoft,
    Overage,
    Capped,
}

impl Step {
    /// What `limited`, a limit of `budget`, asks of a rung of this step: spent and held below the first before the request, and at most the
    /// second with it.
    pub(super) fn lines(self, limited: &Limited, budget: &Budget) -> (Option<i64>, Option<i64>) {
        match self {
            Step::Asked if gates_softly(budget.at_soft) => (limited.soft_line(), limited.hard_line()),
            Step::Asked | Step::Downgrade | Step::Batch | Step::AskedPastSoft => (None, limited.hard_line()),
            Step::Overage | Step::Capped => (None, limited.overage_line(budget)),
        }
    }
}

/// Why a model does not serve instead of the asked one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    ModelUnpriced,
    ProviderExcluded,
    ModelNotAllowed,
    ContextTooLong,
    CostTooLarge,
    NotCheaper,
}

/// What the caller gets when its rung is taken.
#[derive(Clone, Debug)]
pub struct Offer {
    pub step: Step,
    pub model: Arc<Model>,
    pub price: Arc<Price>,
    pub mode: Mode,
    pub input_tokens: i64,
    /// Another model than the one that was asked for or routed to.
    pub downgraded: bool,
}

/// All ways to serve one request. `offers` and `rungs` go together.
#[derive(Clone, Debug)]
pub struct Ladder {
    pub plan: Arc<Plan>,
    pub limits: Arc<Limits>,
    pub offers: Vec<Offer>,
    pub rungs: Vec<Rung>,
    /// The place of the asked model's whole answer: the first, unless fair use tries others before it.
    pub asked: usize,
    /// What rules of fair use do to this request; none of it changes a limit.
    pub fair_use: Vec<Arc<Action>>,
}

/// Under which circumstances a ladder is built.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// How long an answer is thought to be, where the ask names no length.
    pub expected_output: i64,
    pub fair_use: &'a [Arc<Action>],
    pub now: Timestamp,
}

/// Why there is no ladder: a refusal for the caller's customer, or an amount that no entry may have.
#[derive(Clone, PartialEq, Debug)]
pub enum NoLadder {
    Refused(Refusal),
    TooLarge,
}

impl From<Refusal> for NoLadder {
    fn from(refusal: Refusal) -> Self {
        NoLadder::Refused(refusal)
    }
}

impl From<CostTooLarge> for NoLadder {
    fn from(_: CostTooLarge) -> Self {
        NoLadder::TooLarge
    }
}

impl Ladder {
    /// Compiles the rungs for an asked model that has passed its questions, where no rule of fair use acts.
    pub fn build(
        ask: &Ask,
        asked: (Arc<Model>, Arc<Price>),
        plan: Arc<Plan>,
        catalogue: &Catalogue,
        limits: Arc<Limits>,
        expected_output: i64,
        now: Timestamp,
    ) -> Result<Self, NoLadder> {
        let terms = Terms {
            expected_output,
            fair_use: &[],
            now,
        };
        Self::under(ask, asked, plan, catalogue, limits, terms)
    }

    /// Compiles the rungs for an asked model that has passed its questions.
    pub fn under(
        ask: &Ask,
        asked: (Arc<Model>, Arc<Price>),
        plan: Arc<Plan>,
        catalogue: &Catalogue,
        limits: Arc<Limits>,
        terms: Terms<'_>,
    ) -> Result<Self, NoLadder> {
        let builder = Builder {
            ask,
            plan: &plan,
            limits: &limits,
            wanted_output: ask.max_output_tokens.unwrap_or(terms.expected_output),
            fair_use: terms.fair_use,
            now: terms.now,
        };
        let (mut offers, mut rungs) = builder.rungs(asked, catalogue)?;
        let mut asked = 0;
        if anomaly::downgrade(terms.fair_use).is_some() {
            asked = offers[1..].iter().take_while(|offer| offer.step == Step::Downgrade).count();
            offers[..=asked].rotate_left(1);
            rungs[..=asked].rotate_left(1);
        }
        Ok(Ladder {
            plan,
            limits,
            offers,
            rungs,
            asked,
            fair_use: terms.fair_use.to_vec(),
        })
    }

    /// Itself without the rungs of these models; those of the asked one stay, so that something always serves.
    pub fn without(mut self, models: &[ModelId]) -> Self {
        if models.is_empty() {
            return self;
        }
        let asked = self.offers[self.asked].model.id.clone();
        let stays = |offer: &Offer| offer.model.id == asked || !models.contains(&offer.model.id);
        let stays: Vec<bool> = self.offers.iter().map(stays).collect();
        self.asked = stays[..self.asked].iter().filter(|stays| **stays).count();
        let (mut offers, mut rungs) = (stays.iter(), stays.iter());
        self.offers.retain(|_| offers.next().is_some_and(|stays| *stays));
        self.rungs.retain(|_| rungs.next().is_some_and(|stays| *stays));
        self
    }

    /// Whether it would rather serve with this model than not at all.
    pub fn downgrades_to(&self, model: &ModelId) -> bool {
        self.offers.iter().any(|offer| offer.downgraded && offer.model.id == *model)
    }

    /// The budget whose limits these are.
    pub fn budget(&self, limited: &Limited) -> &Budget {
        &self.plan.budgets[limited.budget]
    }
}

/// What a ladder is built of.
pub(super) struct Builder<'a> {
    pub(super) ask: &'a Ask,
    pub(super) plan: &'a Plan,
    pub(super) limits: &'a Limits,
    pub(super) wanted_output: i64,
    pub(super) fair_use: &'a [Arc<Action>],
    pub(super) now: Timestamp,
}

/// A model that can serve, and its price.
pub type Way = (Arc<Model>, Arc<Price>);

impl Builder<'_> {
    fn rungs(&self, asked: Way, catalogue: &Catalogue) -> Result<(Vec<Offer>, Vec<Rung>), NoLadder> {
        let mut ladder = (Vec::with_capacity(4), Vec::with_capacity(4));
        let enforced = || {
            self.limits
                .budgets
                .iter()
                .map(|limited| &self.plan.budgets[limited.budget])
                .filter(|budget| !budget.shadow)
        };
        let mode = self.ask.mode;
        let gated = enforced().any(|budget| budget.soft.is_some() && gates_softly(budget.at_soft));

        self.add(&mut ladder, Step::Asked, &asked, &asked, mode)?;
        let needs = ladder.1[0].needs;
        let downgrades = self.downgrades(&asked, needs, catalogue);
        for way in &downgrades {
            self.add(&mut ladder, Step::Downgrade, way, &asked, mode)?;
        }
        if self.ask.allow_batch && mode == Mode::Interactive && asked.1.has_batch() {
            self.add(&mut ladder, Step::Batch, &asked, &asked, Mode::Batch)?;
        }
        if gated {
            self.add(&mut ladder, Step::AskedPastSoft, &asked, &asked, mode)?;
        }
        let all_ways = || std::iter::once(&asked).chain(&downgrades);
        if enforced().any(|budget| budget.at_hard == AtHard::Overage) {
            for way in all_ways() {
                self.add(&mut ladder, Step::Overage, way, &asked, mode)?;
            }
        }
        if self.ask.min_output_tokens.is_some_and(|least| least < self.wanted_output) {
            for way in all_ways() {
                self.add(&mut ladder, Step::Capped, way, &asked, mode)?;
            }
        }
        Ok(ladder)
    }

    fn add(
        &self,
        (offers, rungs): &mut (Vec<Offer>, Vec<Rung>),
        step: Step,
        (model, price): &Way,
        asked: &Way,
        mode: Mode,
    ) -> Result<(), NoLadder> {
        let input_tokens = model.tokens_of(self.ask.input_tokens, &asked.0);
        let output = self.output(model);
        let (needs, pools) = self.needs(model, price, mode, input_tokens, output)?;
        let cap = match (step, self.ask.min_output_tokens) {
            (Step::Capped, Some(least)) => Some(self.cap(model, price, mode, pools, least.min(output), output)),
            _ => None,
        };
        let hold = self.ask.hold_seconds(mode).max(self.plan.min_hold_seconds);
        rungs.push(Rung {
            needs,
            output,
            cap,
            limits: self.ceilings(step),
            expires_at: self.now.plus_seconds(hold),
        });
        let downgraded = model.id != asked.0.id;
        offers.push(Offer {
            step,
            model: model.clone(),
            price: price.clone(),
            mode,
            input_tokens,
            downgraded,
        });
        Ok(())
    }

    /// The answer's length on `model`: never more than it can give for these requests.
    fn output(&self, model: &Model) -> i64 {
        self.wanted_output
            .min(model.max_output_tokens.saturating_mul(self.ask.requests.max(1)))
    }

    fn needs(&self, model: &Model, price: &Price, mode: Mode, input: i64, output: i64) -> Result<(Amounts, Pools), NoLadder> {
        let pools = Pools {
            input_tokens: input,
            output_tokens: output,
            ..Pools::default()
        };
        Ok((model.amounts(price, &pools, mode, self.ask.requests)?, pools))
    }

    /// The need as a line in the answer's length, for stores that cap it.
    fn cap(&self, model: &Model, price: &Price, mode: Mode, whole: Pools, least: i64, output: i64) -> Cap {
        let empty = Pools { output_tokens: 0, ..whole };
        let cost = price.cost_line(&empty, mode, self.ask.requests);
        let credits = model.credits.map_or((0, 0, 1), |credits| credits.line(&empty));
        Cap {
            least,
            tokens: Line::new(i128::from(empty.total()), 1, 1, output, false),
            usd: Line::new(cost.base, cost.per_output, COST_DENOMINATOR, output, false),
            credits: Line::new(credits.0, credits.1, credits.2, output, true),
        }
    }

    /// One limit for each counter, and one for those budgets over it that grants raise: the strictest of each. Shadow budgets count and never limit.
    fn ceilings(&self, step: Step) -> Vec<Limit> {
        let mut limits: Vec<Limit> = Vec::with_capacity(self.limits.counters.len());
        for limited in &self.limits.budgets {
            let budget = &self.plan.budgets[limited.budget];
            if budget.shadow {
                continue;
            }
            let (open_below, line) = step.lines(limited, budget);
            let same = |limit: &&mut Limit| limit.counter == limited.counter && limit.granted == limited.has_grants;
            match limits.iter_mut().find(same) {
                Some(limit) => {
                    limit.open_below = lower(limit.open_below, open_below);
                    limit.ceiling = lower(limit.ceiling, line);
                }
                None => limits.push(Limit {
                    counter: limited.counter,
                    open_below,
                    ceiling: line,
                    granted: limited.has_grants,
                }),
            }
        }
        limits
    }

    /// Which models may serve instead, in the order in which fair use and the budgets name them. None unless one of them says `downgrade`.
    fn downgrades(&self, asked: &Way, needs: Amounts, catalogue: &Catalogue) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        if self.plan.feature(&self.ask.feature).is_some_and(|rules| rules.never_downgrade) {
            return ways;
        }
        let naming = self.limits.budgets.iter().map(|limited| &self.plan.budgets[limited.budget]);
        let naming = naming.filter(|budget| !budget.shadow && budget.at_soft.downgrade);
        let fair_use = anomaly::downgrade(self.fair_use).into_iter();
        for target in fair_use.chain(naming.map(|budget| budget.downgrade_to.as_deref())) {
            for way in self.targets(target, asked, needs, catalogue) {
                if ways.len() < DOWNGRADES_MAX && !ways.iter().any(|(model, _)| model.id == way.0.id) {
                    ways.push(way);
                }
            }
        }
        ways
    }

    fn targets(&self, target: Option<&str>, asked: &Way, needs: Amounts, catalogue: &Catalogue) -> Vec<Way> {
        let usable = |model: &Arc<Model>| self.cheaper(model, asked, needs).ok();
        let named = |id: &ModelId| catalogue.get(id.as_str());
        let Some(target) = target else {
            return asked
                .0
                .downgrades
                .iter()
                .filter_map(named)
                .filter_map(usable)
                .map(|(way, _)| way)
                .collect();
        };
        if let Some(model) = catalogue.get(target) {
            return usable(model).map(|(way, _)| way).into_iter().collect();
        }
        let own = asked
            .0
            .downgrades
            .iter()
            .filter_map(named)
            .filter(|model| model.tier.as_str() == target)
            .find_map(usable);
        let cheapest = || {
            let of_tier = catalogue
                .models()
                .iter()
                .filter(|model| model.tier.as_str() == target)
                .filter_map(usable);
            of_tier.min_by(|(a, cost_a), (b, cost_b)| cost_a.cmp(cost_b).then_with(|| a.0.id.cmp(&b.0.id)))
        };
        own.or_else(cheapest).map(|(way, _)| way).into_iter().collect()
    }

    /// `model` as a way to serve, with its cost: only if it is allowed, priced, long enough and cheaper for this request.
    pub(super) fn cheaper(&self, model: &Arc<Model>, asked: &Way, needs: Amounts) -> Result<(Way, i64), Unusable> {
        let input = model.tokens_of(self.ask.input_tokens, &asked.0);
        let price = model.price_at(self.now).ok_or(Unusable::ModelUnpriced)?;
        if self.ask.exclude_providers.contains(&model.provider) {
            return Err(Unusable::ProviderExcluded);
        }
        if !self.plan.allows(model) {
            return Err(Unusable::ModelNotAllowed);
        }
        if !reads(model, input, self.ask.requests) {
            return Err(Unusable::ContextTooLong);
        }
        let needed = self.needs(model, price, self.ask.mode, input, self.output(model));
        let (amounts, _) = needed.map_err(|_| Unusable::CostTooLarge)?;
        if amounts.usd >= needs.usd {
            return Err(Unusable::NotCheaper);
        }
        Ok(((model.clone(), price.clone()), amounts.usd))
    }
}

fn lower(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The cheapest allowed model of `tier` for this request that is `good`, for routing rules that name a tier.
pub fn cheapest_of_tier(
    ask: &Ask,
    tier: &str,
    plan: &Plan,
    catalogue: &Catalogue,
    (output, now): (i64, Timestamp),
    good: impl Fn(&Model) -> bool,
) -> Option<ModelId> {
    let candidates = catalogue
        .models()
        .iter()
        .filter(|model| model.tier.as_str() == tier && plan.allows(model) && good(model));
    let priced = candidates.filter_map(|model| {
        let price = model.price_at(now)?;
        let usable = !ask.exclude_providers.contains(&model.provider) && reads(model, ask.input_tokens, ask.requests);
        let pools = Pools {
            input_tokens: ask.input_tokens,
            output_tokens: output,
            ..Pools::default()
        };
        let cost = price.cost(&pools, ask.mode, ask.requests).ok()?;
        usable.then(|| (cost, model.id.clone()))
    });
    priced.min().map(|(_, id)| id)
}
