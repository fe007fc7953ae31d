//! The cache on the hot path: is there an answer already? Asked after the questions up to `model_not_allowed`, before anything is held; exact
//! answers first, then similar ones.
//!
//! Whatever fails here is a miss, and the decision goes on. An answer is given only once its entry is in the ledger ([`hit`]); a miss leaves a
//! [`Ticket`] in the hold, so that the settle knows under what to keep its answer ([`keep`]). A request without `cache` never comes here.
//!
//! A call of a run asks the cache too, and a hit takes nothing from its parent. A request that opens a run, one for several requests, and a dry
//! run do not: `off`. So is a feature whose plan says nothing of a cache, and, where answers are personal, a request that names no person.

mod hit;
mod keep;
mod lead;
mod patience;
mod upkeep;

pub use hit::{Given, HitKind};
pub use keep::Kept;
pub(super) use keep::keep;
pub(super) use lead::{give_up, unless_held};
pub use upkeep::{feedback, follow, prune, purge};

use super::authorize::{Decision, Request};
use super::prepare::Ready;
use super::{FlowError, Service};
use crate::cache::answer::Answer;
use crate::cache::index::{Found, Wanted};
pub use crate::cache::vector::Vector;
use crate::decision::amount::Ratio;
use crate::decision::ask::Ask;
use crate::decision::cache::key::{Identity, Key, Partition, Prompt, Told};
use crate::decision::cache::veto::Signature;
use crate::decision::id::{DecisionId, ModelId, ReservationId};
use crate::decision::limits::Limits;
use crate::decision::plan::{CacheRules, Plan, Scope};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use crate::decision::verdict::RouteNote;
use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// How many numbers are multiplied where the request is; more are a matter for another thread.
const INLINE_NUMBERS_MAX: usize = 1 << 22;

/// What a caller asks of the cache.
#[derive(Clone, Debug)]
pub struct Asked {
    pub prompt: Prompt,
    pub system: Option<String>,
    pub params: Option<Map<String, Value>>,
    /// `user`: the answers are personal, whatever the plan says.
    pub scope: Option<Scope>,
    /// The caller's own vector of the prompt, and what made it.
    pub vector: Option<(Vector, Option<String>)>,
}

/// What became of a look that found nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The plan keeps no answers for such a request.
    Off,
    /// The cache could not be asked.
    Error,
    /// `leads`: nobody else is about to bring this very answer; who does not lead may wait for it.
    Miss { leads: bool },
}

/// What a hold remembers, so that its settle knows under what to keep the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ticket {
    key: Key,
    is_exact: bool,
    leads: bool,
    /// Where there is a vector.
    similar: Option<Similar>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Similar {
    partition: Partition,
    vector: Vec<u8>,
    signature: Vec<u8>,
}

impl Ticket {
    /// What the request was told when the ticket was made.
    pub(super) fn status(&self) -> Status {
        Status::Miss { leads: self.leads }
    }
}

/// What the questions have told of a request by the time that the cache is asked.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) policy: &'a Arc<Policy>,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) limits: &'a Arc<Limits>,
    /// As routed.
    pub(super) ask: &'a Arc<Ask>,
    pub(super) chosen: &'a ModelId,
    pub(super) note: &'a RouteNote,
    pub(super) workspace_version: u32,
    pub(super) decision: DecisionId,
    pub(super) now: Timestamp,
}

/// What a look came to.
pub(super) enum Looked {
    Hit(Box<Decision>),
    Not(Status, Option<Box<Ticket>>),
}

/// A request whose id has ended settled may have had a hit, which is told again.
pub(super) async fn told(service: &Service, request: &Request, decided: Result<Decision, FlowError>) -> Result<Decision, FlowError> {
    match decided {
        Err(FlowError::ReservationEnded(id, End::Settled)) if request.cache.is_some() => {
            Box::pin(hit::tell_again(service, request, id)).await
        }
        decided => decided,
    }
}

/// Asks for a request that is about to be held: the answer, if there is one, or a ticket in its context.
pub(super) async fn instead(service: &Service, request: &Request, ready: &mut Ready) -> Result<Option<Decision>, FlowError> {
    let looked = look(service, request, ready.seen()).await?;
    Ok(match looked {
        Looked::Hit(decision) => Some(*decision),
        Looked::Not(status, ticket) => {
            ready.cache = Some(status);
            ready.compiled.context.cache = ticket;
            None
        }
    })
}

/// Is there an answer already?
pub(super) async fn look(service: &Service, request: &Request, seen: Seen<'_>) -> Result<Looked, FlowError> {
    let Some((asked, rules)) = asked(request, &seen) else {
        return Ok(Looked::Not(Status::Off, None));
    };
    let looked = look_on(service, request, asked, rules, seen).await?;
    let outcome = match &looked {
        // It was counted when it was given first.
        Looked::Hit(decision) if decision.replayed => "replayed",
        Looked::Hit(decision) => hit::kind(decision),
        Looked::Not(Status::Error, _) => "error",
        Looked::Not(..) => "miss",
    };
    // Only features for which a plan turns the cache on get here, so their number is the operator's affair.
    let feature = request.ask.feature.to_string();
    metrics::counter!("weir_cache_requests_total", "feature" => feature, "outcome" => outcome).increment(1);
    Ok(looked)
}

/// The rules for this request, where there are any.
fn asked<'a>(request: &'a Request, seen: &Seen<'a>) -> Option<(&'a Asked, &'a CacheRules)> {
    let asked = request.cache.as_deref()?;
    let rules = seen.plan.feature(&request.ask.feature)?.cache.as_ref()?;
    let is_one = request.ask.requests == 1 && request.max_calls.is_none() && !request.dry_run;
    let has_owner = scope(asked, rules) == Scope::Workspace || request.ask.user.is_some();
    (is_one && has_owner && (rules.exact || rules.semantic)).then_some((asked, rules))
}

/// The narrower of what the plan and the caller say.
fn scope(asked: &Asked, rules: &CacheRules) -> Scope {
    match (rules.scope, asked.scope) {
        (Scope::User, _) | (_, Some(Scope::User)) => Scope::User,
        _ => Scope::Workspace,
    }
}

/// Which models may answer for each other. One that the catalogue does not list stands for itself.
fn family(policy: &Policy, model: &ModelId) -> String {
    match policy.catalogue.find(model.as_str()) {
        Some(listed) => listed.family.clone(),
        None => format!("model {model}"),
    }
}

async fn look_on(service: &Service, request: &Request, asked: &Asked, rules: &CacheRules, seen: Seen<'_>) -> Result<Looked, FlowError> {
    let ask = &request.ask;
    let scope = scope(asked, rules);
    let identity = Identity::of(&Told {
        workspace: &ask.workspace,
        user: ask.user.as_ref().filter(|_| scope == Scope::User),
        scope,
        feature: &ask.feature,
        family: &family(seen.policy, seen.chosen),
        system: asked.system.as_deref(),
        params: asked.params.as_ref(),
    });
    if request.escalate_from.is_some() {
        return Ok(after_a_bad_one(service, asked, rules, &identity).await);
    }
    let key = identity.key(&asked.prompt);
    let reservation = ReservationId::derive(&ask.workspace, &ask.request_id);
    let first = match service.cache.exact.look(&ask.workspace, reservation, &key, seen.now).await {
        Ok(first) => first,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "kept answers were not asked");
            return Ok(Looked::Not(Status::Error, None));
        }
    };
    // Decided before: whatever it was, it is told again, and by whoever knows it.
    if first.is_decided == Some(true) {
        return Ok(Looked::Not(Status::Error, None));
    }
    let giving = hit::Giving {
        request,
        seen,
        reservation,
        share: rules.bill,
        is_undecided: first.is_decided == Some(false),
    };
    let kept = first.answer.as_deref().filter(|_| rules.exact).and_then(Answer::decode);
    let most = ask.max_output_tokens;
    if let Some(answer) = kept.filter(|answer| answer.is_good_at(seen.now) && answer.is_enough(most)) {
        return Ok(match hit::give(service, &giving, answer, HitKind::Exact, Ratio::ONE).await? {
            Some(decision) => Looked::Hit(Box::new(decision)),
            None => Looked::Not(Status::Error, None),
        });
    }
    let leads = first.leads || (first.answer.is_some() && lead::take(service, ask, &key, seen.now).await);
    let ticket = Ticket {
        key,
        is_exact: rules.exact,
        leads,
        similar: None,
    };
    let looked = look_similar(service, &giving, asked, rules, &identity, ticket).await;
    if leads {
        lead::unless_missed(service, ask, &key, seen.now, &looked).await;
    }
    looked
}

/// Is there an answer to a similar prompt?
async fn look_similar(
    service: &Service,
    giving: &hit::Giving<'_>,
    asked: &Asked,
    rules: &CacheRules,
    identity: &Identity,
    mut ticket: Ticket,
) -> Result<Looked, FlowError> {
    if let Some(wanted) = similar_wanted(service, asked, rules, identity).await {
        match similar(service, giving, rules, &wanted).await? {
            Similarly::Given(decision) => return Ok(Looked::Hit(decision)),
            Similarly::Failed => return Ok(Looked::Not(Status::Error, None)),
            Similarly::Nothing => ticket.similar = Some(wanted.remembered()),
        }
    }
    Ok(Looked::Not(ticket.status(), Some(Box::new(ticket))))
}

/// A second try looks at nothing, since what is kept may be the very answer that was not good enough; its own is kept instead.
async fn after_a_bad_one(service: &Service, asked: &Asked, rules: &CacheRules, identity: &Identity) -> Looked {
    let similar = similar_wanted(service, asked, rules, identity).await;
    let ticket = Ticket {
        key: identity.key(&asked.prompt),
        is_exact: rules.exact,
        leads: true,
        similar: similar.map(|wanted| wanted.remembered()),
    };
    Looked::Not(ticket.status(), Some(Box::new(ticket)))
}

/// By what an answer to a similar prompt is found.
struct SimilarWanted {
    partition: Partition,
    vector: Vector,
    signature: Signature,
}

impl SimilarWanted {
    fn remembered(&self) -> Similar {
        Similar {
            partition: self.partition,
            vector: self.vector.to_bytes(),
            // Plain data into memory cannot fail; nothing would be read back as a text that was not read whole.
            signature: postcard::to_allocvec(&self.signature).unwrap_or_default(),
        }
    }
}

/// `None`: the plan keeps none for similar prompts, or there is nothing to find them by.
async fn similar_wanted(service: &Service, asked: &Asked, rules: &CacheRules, identity: &Identity) -> Option<SimilarWanted> {
    let text = asked.prompt.compared().filter(|_| rules.semantic)?;
    let (vector, model) = vector(service, asked, text).await?;
    Some(SimilarWanted {
        partition: identity.partition(&asked.prompt, model.as_deref(), vector.numbers().len()),
        vector,
        signature: Signature::of(text),
    })
}

/// The vector of the prompt and the model that made it: the caller's, or the endpoint's.
async fn vector(service: &Service, asked: &Asked, text: &Arc<str>) -> Option<(Vector, Option<String>)> {
    if let Some((vector, model)) = &asked.vector {
        return Some((vector.clone(), model.clone()));
    }
    let embedder = service.cache.embedder.as_ref()?;
    let vector = embedder.embed(text).await.ok()?;
    Some((vector, Some(embedder.model().to_owned())))
}

enum Similarly {
    Given(Box<Decision>),
    Nothing,
    /// The ledger, where the answers are, could not be asked.
    Failed,
}

async fn similar(service: &Service, giving: &hit::Giving<'_>, rules: &CacheRules, similar: &SimilarWanted) -> Result<Similarly, FlowError> {
    let ask = &giving.request.ask;
    let wanted = Wanted {
        workspace: &ask.workspace,
        feature: &ask.feature,
        partition: &similar.partition,
        vector: &similar.vector,
        signature: &similar.signature,
        threshold: rules.threshold,
    };
    let found = nearest(service, wanted, giving.seen.now).await;
    for (veto, times) in &found.vetoed {
        metrics::counter!("weir_cache_vetoes_total", "veto" => veto.as_str()).increment(u64::from(*times));
    }
    for (id, similarity) in found.candidates {
        let Some(row) = patience::within(service.ledger.cached(id)).await else {
            return Ok(Similarly::Failed);
        };
        // It is gone, by expiry, feedback or a purge of another node, and this one has not heard of it yet.
        let answer = row
            .filter(|row| row.partition == similar.partition)
            .and_then(|row| Answer::decode(&row.answer));
        let Some(answer) = answer.filter(|answer| answer.id == id && answer.is_good_at(giving.seen.now)) else {
            service.cache.index.forget(id);
            continue;
        };
        if !answer.is_enough(ask.max_output_tokens) {
            continue;
        }
        service.cache.index.used(id, giving.seen.now);
        return Ok(match hit::give(service, giving, answer, HitKind::Semantic, similarity).await? {
            Some(decision) => Similarly::Given(Box::new(decision)),
            None => Similarly::Failed,
        });
    }
    Ok(Similarly::Nothing)
}

/// Scans where the request is, or on a thread that may take its time.
async fn nearest(service: &Service, wanted: Wanted<'_>, now: Timestamp) -> Found {
    if service.cache.index.work(&wanted) <= INLINE_NUMBERS_MAX {
        return service.cache.index.nearest(&wanted, now);
    }
    let index = service.cache.index.clone();
    let (workspace, feature, partition) = (wanted.workspace.clone(), wanted.feature.clone(), *wanted.partition);
    let (vector, signature, threshold) = (wanted.vector.clone(), wanted.signature.clone(), wanted.threshold);
    let scan = move || {
        let wanted = Wanted {
            workspace: &workspace,
            feature: &feature,
            partition: &partition,
            vector: &vector,
            signature: &signature,
            threshold,
        };
        index.nearest(&wanted, now)
    };
    tokio::task::spawn_blocking(scan).await.unwrap_or_default()
}
