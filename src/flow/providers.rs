//! Providers: what an operator said of them, followed by every node. From a drained one new requests are kept away; holds and settles of
//! what runs there are left alone.

use super::audit::{self, By, Subject};
use super::{FlowError, Service, health};
use crate::decision::ask::Ask;
use crate::decision::id::Provider;
use crate::decision::provider::avoiding;
pub use crate::decision::provider::{ProviderSetting, ProviderState};
use arc_swap::ArcSwap;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Providers that are drained, as this node knows them; mostly none.
#[derive(Default)]
pub struct Drained(ArcSwap<Vec<Provider>>);

impl Drained {
    /// The ask with every drained provider excluded, as if its caller had.
    pub fn avoid(&self, ask: Arc<Ask>) -> Arc<Ask> {
        let drained = self.0.load();
        if drained.is_empty() {
            return ask;
        }
        avoiding(&ask, &drained)
    }
}

/// A provider as an operator sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub setting: ProviderSetting,
    /// How many models of the catalogue it serves.
    pub models: usize,
    /// Whether anybody ever set it.
    pub is_set: bool,
    /// How those of its models stand of which anything is known.
    pub health: Vec<health::Standing>,
}

/// Takes over what other nodes have set.
pub async fn follow(service: &Service) -> Result<(), FlowError> {
    let settings = service.ledger.providers().await?;
    let drained = settings.into_iter().filter(|setting| setting.state == ProviderState::Drained);
    let drained: Vec<Provider> = drained.map(|setting| setting.provider).collect();
    if **service.drained.0.load() != drained {
        tracing::info!(?drained, "drained providers changed");
        service.drained.0.store(Arc::new(drained));
    }
    Ok(())
}

/// All providers that serve a model or were ever set, by name.
pub async fn list(service: &Service) -> Result<Vec<Shown>, FlowError> {
    let policy = service.policy.load();
    let mut models: BTreeMap<Provider, usize> = BTreeMap::new();
    for model in policy.catalogue.models() {
        *models.entry(model.provider.clone()).or_default() += 1;
    }
    let mut shown: BTreeMap<Provider, Shown> = BTreeMap::new();
    for setting in service.ledger.providers().await? {
        let one = Shown {
            models: models.get(&setting.provider).copied().unwrap_or_default(),
            is_set: true,
            health: Vec::new(),
            setting,
        };
        shown.insert(one.setting.provider.clone(), one);
    }
    for (provider, count) in models {
        shown.entry(provider.clone()).or_insert_with(|| Shown {
            setting: ProviderSetting {
                provider,
                state: ProviderState::Auto,
                changed_at: policy.changed_at.unwrap_or(service.clock.now()),
            },
            models: count,
            is_set: false,
            health: Vec::new(),
        });
    }
    for standing in health::standings(service) {
        if let Some(shown) = shown.get_mut(&standing.provider) {
            shown.health.push(standing);
        }
    }
    Ok(shown.into_values().collect())
}

/// The provider; `None`: no model names it, and nobody set it.
pub async fn find(service: &Service, provider: &Provider) -> Result<Option<Shown>, FlowError> {
    let all = list(service).await?;
    Ok(all.into_iter().find(|shown| shown.setting.provider == *provider))
}

/// Sets a provider, and returns it with whether it was known. This node keeps to it at once, the others within their poll. `auto` says as well
/// that it works: its breakers close, and open again if it does not.
pub async fn put(service: &Service, provider: &Provider, state: ProviderState, by: &By) -> Result<(Shown, bool), FlowError> {
    let before = find(service, provider).await?;
    let told = |state: ProviderState| json!({"state": state});
    let record = audit::record(
        &*service.clock,
        by,
        "provider.put",
        Subject::shared("provider", provider.as_str()),
        before.as_ref().map(|shown| told(shown.setting.state)),
        Some(told(state)),
    );
    let setting = ProviderSetting {
        provider: provider.clone(),
        state,
        changed_at: service.clock.now(),
    };
    service.ledger.put_provider(&setting, record).await?;
    follow(service).await?;
    if state == ProviderState::Auto {
        health::close(service, provider);
    }
    let shown = Shown {
        setting,
        models: before.as_ref().map_or(0, |shown| shown.models),
        is_set: true,
        health: health::standings(service)
            .into_iter()
            .filter(|standing| standing.provider == *provider)
            .collect(),
    };
    Ok((shown, before.is_some()))
}
