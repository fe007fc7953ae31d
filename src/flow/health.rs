//! Health: which models fail at the moment, as this node and the others have seen it. What settles report acts at once on the node that
//! took it; once a second nodes tell each other what they counted ([`super::exchange`]). Nothing of it is durable.
//!
//! Requests look at a snapshot that is empty while all is well. Nobody is denied because of it: where nothing healthy could serve, the
//! model that was asked for goes on.

use super::Service;
use crate::decision::ask::Ask;
use crate::decision::catalogue::Model;
use crate::decision::entry::{Entry, Kind, Outcome};
use crate::decision::health::{Book, Change, Sample, Told, Troubles, whose};
pub use crate::decision::health::{BreakerState, Counts, OpenedBy, Standing};
use crate::decision::id::{ModelId, Provider};
use crate::decision::ladder::{Ladder, Way};
use crate::decision::plan::Plan;
use crate::decision::price::Mode;
use crate::decision::questions;
use crate::decision::time::Timestamp;
use crate::policy::Policy;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What this node knows.
#[derive(Default)]
pub struct Health {
    book: Mutex<Book>,
    troubles: ArcSwap<Troubles>,
}

impl Health {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests may only go there to see whether it works again.
    pub(super) fn is_probed(&self, model: &Model, now: Timestamp) -> bool {
        let troubles = self.troubles.load();
        troubles
            .models
            .iter()
            .any(|trouble| trouble.model == model.id && now >= trouble.until)
    }

    /// Whether this request is one of the few that find out.
    pub(super) fn probes(&self, model: &Model, policy: &Policy, now: Timestamp) -> bool {
        self.is_probed(model, now) && self.book().probe(&model.id, &policy.health, now)
    }

    /// Whether a model should not be chosen anew; one that is only probed should not either.
    pub(super) fn is_bad(&self, model: &Model) -> bool {
        let troubles = self.troubles.load();
        troubles.models.iter().any(|trouble| trouble.model == model.id) || troubles.providers.contains(&model.provider)
    }

    /// Whether a request that would go to this model has to go elsewhere. Of a half-open one some are let through, as probes.
    fn is_left(&self, model: &Model, policy: &Policy, now: Timestamp, may_probe: bool) -> bool {
        let troubles = self.troubles.load();
        match troubles.models.iter().find(|trouble| trouble.model == model.id) {
            Some(trouble) if now < trouble.until || !may_probe => true,
            Some(_) => !self.book().probe(&model.id, &policy.health, now),
            None => troubles.providers.contains(&model.provider),
        }
    }

    fn publish(&self, book: &Book, policy: &Policy, now: Timestamp) {
        let troubles = book.troubles(&policy.health, now);
        if **self.troubles.load() != troubles {
            metrics::gauge!("weir_models_unhealthy").set(troubles.models.len() as f64);
            self.troubles.store(Arc::new(troubles));
        }
    }
}

/// Where a request is on its way, when it is known which model would serve.
pub(super) struct At<'a> {
    pub(super) ask: &'a Ask,
    pub(super) chosen: &'a ModelId,
    pub(super) plan: &'a Plan,
    pub(super) policy: &'a Policy,
    /// A call of a run is priced at the time of its run.
    pub(super) priced_at: Timestamp,
    pub(super) now: Timestamp,
    /// A dry run takes no probe from others.
    pub(super) may_probe: bool,
    /// It is a probe already, by how its model was chosen.
    pub(super) is_probe: bool,
    /// A model that may not serve, since its answer was not good enough.
    pub(super) but: Option<&'a ModelId>,
}

/// What serves instead of a model that fails; `None`: it is well, or nothing healthy could serve in its stead.
pub(super) fn around(service: &Service, at: &At<'_>, asked: &Way) -> Option<Way> {
    if at.is_probe || service.health.troubles.load().models.is_empty() || !service.health.is_left(&asked.0, at.policy, at.now, at.may_probe)
    {
        return None;
    }
    let good = |model: &Model| model.id != asked.0.id && at.but != Some(&model.id) && !service.health.is_bad(model);
    let of = |model: &Model| questions::fallback(at.ask, model, at.plan, &at.policy.catalogue, at.priced_at, good);
    // What was asked for may be served by a fallback already, whose own are those of last resort.
    let first = at.policy.catalogue.find(at.chosen.as_str());
    let instead = first.and_then(|model| of(model)).or_else(|| of(&asked.0));
    let outcome = if instead.is_some() { "moved" } else { "stayed" };
    metrics::counter!("weir_provider_unhealthy_requests_total", "outcome" => outcome).increment(1);
    instead
}

/// The downgrades of a ladder that fail at the moment. Of one that may work again some are let through; whether their requests come to it,
/// only the store knows.
pub(super) fn avoided(service: &Service, ladder: &Ladder, policy: &Policy, (now, may_probe): (Timestamp, bool)) -> Vec<ModelId> {
    let health = &service.health;
    if health.troubles.load().models.is_empty() {
        return Vec::new();
    }
    let mut models: Vec<&Model> = Vec::new();
    for offer in ladder.offers.iter().filter(|offer| offer.downgraded) {
        if models.iter().all(|model| model.id != offer.model.id) {
            models.push(&offer.model);
        }
    }
    let is_avoided = |model: &&Model| health.is_bad(model) && !(may_probe && health.probes(model, policy, now));
    models.into_iter().filter(is_avoided).map(|model| model.id.clone()).collect()
}

/// Closes the breakers of a provider of which an operator says that it works, on this node at once.
pub(super) fn close(service: &Service, provider: &Provider) {
    let (policy, now) = (service.policy.load(), service.clock.now());
    let changes = {
        let mut book = service.health.book();
        let changes = book.close(provider, &policy.health, now);
        service.health.publish(&book, &policy, now);
        changes
    };
    changes.iter().for_each(tell);
}

/// Takes in how a settled request ended that began then; the use of a run's call occurred when its run did. Who cancelled a request says
/// nothing of who would have answered it.
pub(super) fn note(service: &Service, entry: &Entry, began: Timestamp) {
    let failed = match entry.outcome {
        Outcome::Success => false,
        Outcome::Error => true,
        Outcome::Cancelled | Outcome::Abandoned => return,
    };
    let policy = service.policy.load();
    if entry.kind != Kind::Usage || !policy.health.enabled {
        return;
    }
    let Some(model) = policy.catalogue.get(entry.model.as_str()) else {
        return;
    };
    let now = service.clock.now();
    let sample = Sample {
        failed,
        // How long a batch took, or many requests together, is comparable with nothing.
        latency_ms: entry.latency_ms.filter(|_| entry.mode == Mode::Interactive && entry.requests <= 1),
        output_tokens: entry.pools.output_tokens,
        whose: whose(&entry.workspace_id),
        began,
    };
    let mut book = service.health.book();
    if let Some(change) = book.record(&model.id, &model.provider, sample, &policy.health, now) {
        service.health.publish(&book, &policy, now);
        tell(&change);
    }
}

fn tell(change: &Change) {
    let (model, provider) = (change.model.as_str(), change.provider.as_str());
    let turn = if change.opened { "opened" } else { "closed" };
    metrics::counter!("weir_provider_breaker_total", "provider" => provider.to_owned(), "turn" => turn).increment(1);
    let (errors, requests) = (change.counts.errors, change.counts.requests());
    match change.opened {
        true => tracing::warn!(
            model,
            provider,
            why = ?change.why,
            errors,
            requests,
            "a model fails, so its fallbacks serve until probes succeed"
        ),
        false => tracing::warn!(model, provider, "a model works again, and serves again"),
    }
}

/// What the other nodes should know.
pub(super) fn told(service: &Service, now: Timestamp) -> Vec<Told> {
    service.health.book().told(&service.policy.load().health, now)
}

/// Takes over what the other nodes told.
pub(super) fn hear(service: &Service, heard: &[Vec<Told>], now: Timestamp) {
    let policy = service.policy.load();
    let changes = {
        let mut book = service.health.book();
        let changes = book.hear(heard, &policy.health, now);
        service.health.publish(&book, &policy, now);
        changes
    };
    changes.iter().for_each(tell);
}

/// How all models stand of which anything is known, by name.
pub fn standings(service: &Service) -> Vec<Standing> {
    let policy = service.policy.load();
    service.health.book().standings(&policy.health, service.clock.now())
}
