//! The questions before the budgets, in their fixed order: suspended, plan, feature, model, price, context, budget. The first that is
//! answered with no is the refusal; each is a function, so that a flow can do between them what it must.

use super::ask::Ask;
use super::catalogue::{Catalogue, Model};
use super::id::{ModelId, PlanId, WorkspaceId};
use super::limits::Limits;
use super::plan::{Plan, UnknownFeatures};
use super::price::Price;
use super::refusal::Refusal;
use super::time::Timestamp;
use super::workspace::{Status, Workspace};
use std::sync::Arc;

/// The questions about the workspace: is it active, and on which plan?
pub fn plan_of<'a>(
    workspace: &Workspace,
    default: Option<&PlanId>,
    find: impl FnOnce(&PlanId) -> Option<&'a Arc<Plan>>,
) -> Result<&'a Arc<Plan>, Refusal> {
    if workspace.status == Status::Suspended {
        return Err(Refusal::WorkspaceSuspended(workspace.id.clone()));
    }
    let no_plan = |id: &WorkspaceId| Refusal::NoPlan(id.clone());
    let id = workspace.plan_id.as_ref().or(default).ok_or_else(|| no_plan(&workspace.id))?;
    find(id).ok_or_else(|| no_plan(&workspace.id))
}

/// The question about the feature.
pub fn feature_allowed(ask: &Ask, plan: &Plan) -> Result<(), Refusal> {
    let refused = |known| {
        Err(Refusal::FeatureDisabled {
            feature: ask.feature.clone(),
            plan: plan.id.clone(),
            known,
        })
    };
    match plan.feature(&ask.feature) {
        Some(rules) if !rules.enabled => refused(true),
        None if plan.unknown_features == UnknownFeatures::Deny => refused(false),
        _ => Ok(()),
    }
}

/// The questions about the model: allowed, priced, long enough. `wanted` is what was asked for, or what the routing rules chose.
pub fn model_for(
    ask: &Ask,
    wanted: &ModelId,
    plan: &Plan,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Result<(Arc<Model>, Arc<Price>), Refusal> {
    let not_allowed = || Refusal::ModelNotAllowed {
        model: wanted.clone(),
        plan: plan.id.clone(),
    };
    let unpriced = || Refusal::ModelUnpriced { model: wanted.clone() };
    let (model, price) = match catalogue.find(wanted.as_str()) {
        Some(model) => (model.clone(), model.price_at(now).cloned()),
        None => (Arc::new(Model::unlisted(wanted.clone())), catalogue.default_price.clone()),
    };
    if !plan.allows(&model) {
        return Err(not_allowed());
    }
    if ask.exclude_providers.contains(&model.provider) {
        return fallback(ask, &model, plan, catalogue, now, |_| true).ok_or_else(not_allowed);
    }
    let price = price.ok_or_else(unpriced)?;
    if !reads(&model, ask.input_tokens, ask.requests) {
        let (input_tokens, max_input_tokens) = (ask.input_tokens, model.max_input_tokens);
        return Err(Refusal::ContextTooLong {
            model: wanted.clone(),
            input_tokens,
            max_input_tokens,
        });
    }
    Ok((model, price))
}

/// The first usable fallback of a model whose provider the caller excludes, or that fails at the moment, that is `good`.
pub fn fallback(
    ask: &Ask,
    model: &Model,
    plan: &Plan,
    catalogue: &Catalogue,
    now: Timestamp,
    good: impl Fn(&Model) -> bool,
) -> Option<(Arc<Model>, Arc<Price>)> {
    model.fallbacks.iter().find_map(|id| {
        let other = catalogue.get(id.as_str())?;
        let price = other.price_at(now)?;
        let usable = plan.allows(other)
            && !ask.exclude_providers.contains(&other.provider)
            && reads(other, other.tokens_of(ask.input_tokens, model), ask.requests)
            && good(other);
        usable.then(|| (other.clone(), price.clone()))
    })
}

/// Whether a model's context holds the input; totals of several requests are judged by their average.
pub(super) fn reads(model: &Model, input_tokens: i64, requests: i64) -> bool {
    i128::from(input_tokens) <= i128::from(model.max_input_tokens) * i128::from(requests.max(1))
}

/// The question about budgets: something must limit a plan that is not unlimited.
pub fn budgets_exist(ask: &Ask, plan: &Plan, limits: &Limits) -> Result<(), Refusal> {
    let enforced = limits.budgets.iter().any(|limited| !plan.budgets[limited.budget].shadow);
    if enforced || plan.unlimited {
        Ok(())
    } else {
        Err(Refusal::NoBudget {
            plan: plan.id.clone(),
            feature: ask.feature.clone(),
        })
    }
}
