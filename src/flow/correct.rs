//! Correct: an entry of signed differences, at the original's time, beside the record of who made it. History stays as it was written.
//!
//! What an entry says is read before it is decided what to correct, and its corrections are counted: one that was made in between makes
//! the ledger refuse, and it is decided anew. A crash after the commit leaves the counters behind, which the next settle or sweep heals.

use super::audit::{self, By, Subject};
use super::{DECIDE_AGAIN_MAX, FlowError, Service, policy, tell};
use crate::counters::{Applied, SumRow};
use crate::decision::correction::{Counted, Priced, Said, difference, priced_by};
use crate::decision::entry::{Entry, Kind};
use crate::decision::id::{EntryId, ReservationId, WorkspaceId};
use crate::decision::usage::Usage;
use crate::ledger::correction::Correction;
use crate::ledger::{Post, Posted, Tells};
use crate::policy::object::ObjectId;
use serde_json::{Value, json};

/// What an entry is to say, corrections included.
#[derive(Clone, Debug)]
pub enum Target {
    /// What was used; it is priced as the entry was.
    Usage(Usage),
    /// What counts against budgets; what was used and cost stays.
    Counted(Counted),
}

/// A correction that was made.
#[derive(Clone, Debug)]
pub struct Corrected {
    pub entry: Entry,
    /// The entry says so already; this is the correction that made it.
    pub replayed: bool,
}

pub async fn correct(service: &Service, id: EntryId, target: &Target, by: &By) -> Result<Corrected, FlowError> {
    let original = service.ledger.entry(id).await?.ok_or(FlowError::NotFound)?;
    check(&original, target)?;
    let chain = ReservationId::of_corrections(&original.workspace_id, id);
    for _ in 0..DECIDE_AGAIN_MAX {
        // In this order: a correction that comes after the standing was read has another revision.
        let standing = service.ledger.standing(chain).await?;
        let mut corrections = service.ledger.corrections(&[id]).await?;
        let before = Said::of(&original, &corrections).ok_or(FlowError::AmountTooLarge)?;
        let of = priced_by(&original, &corrections);
        let after = match target {
            Target::Usage(usage) => said(service, &before, usage, &original, of).await?,
            Target::Counted(counted) => before.with_counted(counted),
        };
        if after == before {
            let entry = corrections.pop().ok_or_else(nothing_to_correct)?;
            return Ok(Corrected { entry, replayed: true });
        }
        let (entry_id, now) = (service.entry_id(), service.clock.now());
        let entry = difference(&original, of, &before, &after, entry_id, now).ok_or(FlowError::AmountTooLarge)?;
        let revision = standing.map_or(0, |standing| standing.revision);
        let correction = written(service, (chain, revision), entry.clone(), (&before, &after), by, "entry.correct");
        if let Some(Posted::Done { rows, .. }) = service.ledger.correct(vec![watched(service, correction).await?]).await?.pop() {
            apply(service, &original.workspace_id, rows).await;
            return Ok(Corrected { entry, replayed: false });
        }
    }
    Err(FlowError::Raced {
        what: format!("the corrections of {id}"),
    })
}

fn check(original: &Entry, target: &Target) -> Result<(), FlowError> {
    let refuse = |pointer: &str, detail: String| {
        Err(FlowError::Unacceptable {
            pointer: pointer.to_owned(),
            detail,
        })
    };
    match (original.kind, original.corrects, target) {
        (Kind::Correction, Some(corrected), _) => {
            let detail = format!("this is a correction itself; correct {corrected}: totals are of that use, its corrections included");
            refuse("/entry_id", detail)
        }
        (Kind::CacheHit, _, Target::Usage(_)) => refuse(
            "/usage",
            "a cached answer used no tokens; correct what it counted instead".to_owned(),
        ),
        _ => Ok(()),
    }
}

fn nothing_to_correct() -> FlowError {
    FlowError::Unacceptable {
        pointer: String::new(),
        detail: "the entry says that already: there is nothing to correct".to_owned(),
    }
}

/// What the use says with other tokens, at the price that it was recorded with.
async fn said(service: &Service, before: &Said, usage: &Usage, original: &Entry, of: &Entry) -> Result<Said, FlowError> {
    let priced = price_of(service, of).await?;
    let catalogue = &service.policy.load().catalogue;
    let list = Priced::in_force(catalogue, original.requested_model.as_str(), original.occurred_at);
    let after = before.with_usage(usage, original, priced.as_ref(), list.as_ref().map(|list| &*list.price));
    after.map_err(|_| FlowError::AmountTooLarge)
}

/// The price that an entry names, from the policy in force or one that was; `None`: it has none.
async fn price_of(service: &Service, entry: &Entry) -> Result<Option<Priced>, FlowError> {
    let Some(version) = entry.price_version.as_deref().filter(|_| entry.priced) else {
        return Ok(None);
    };
    let policy = service.policy.load();
    let name = entry.model.as_str();
    if let Some(priced) = Priced::of_version(&policy.catalogue, name, version) {
        return Ok(Some(priced));
    }
    let model = policy.catalogue.find(name).map_or(name, |model| model.id.as_str());
    for object in [ObjectId::model(model), ObjectId::default_price()] {
        for changed in service.ledger.policy_versions_of(object.kind.as_str(), &object.id).await? {
            let then = policy::at(service, changed).await?;
            if let Some(priced) = Priced::of_version(&then.catalogue, name, version) {
                return Ok(Some(priced));
            }
        }
    }
    Err(FlowError::Unacceptable {
        pointer: "/usage".to_owned(),
        detail: format!("the price {version} of {model} is not known any more; correct what it counted instead"),
    })
}

/// A correction as the ledger takes it, with its record.
pub(super) fn written(
    service: &Service,
    (chain, revision): (ReservationId, i64),
    entry: Entry,
    (before, after): (&Said, &Said),
    by: &By,
    action: &str,
) -> Correction {
    let corrected = entry.corrects.unwrap_or(entry.entry_id);
    let subject = Subject::of(&entry.workspace_id, "entry", corrected.to_string());
    let mut told = document(after);
    told["correction"] = json!(entry.entry_id);
    Correction {
        audited: audit::record(&*service.clock, by, action, subject, Some(document(before)), Some(told)),
        post: Post {
            workspace: entry.workspace_id.clone(),
            reservation: chain,
            request_id: entry.request_id.clone(),
            revision,
            end: None,
            fingerprint: None,
            checkpoint: None,
            counters: Vec::new(),
            charges: Vec::new(),
            tells: Tells::default(),
            now: entry.recorded_at,
            entries: vec![entry],
        },
    }
}

/// The correction with the budgets that it falls under: it may raise what was used.
pub(super) async fn watched(service: &Service, correction: Correction) -> Result<Correction, FlowError> {
    Ok(Correction {
        post: tell::watched(service, correction.post).await?,
        ..correction
    })
}

/// What a use says, by the words of an entry.
fn document(said: &Said) -> Value {
    let mut document = json!(said.pools);
    document["cost_usd"] = json!(said.cost_usd);
    document["list_cost_usd"] = json!(said.list_cost_usd);
    let counted = &said.counted;
    document["counted"] = json!({"tokens": counted.tokens, "usd": counted.usd(), "requests": counted.requests, "credits": counted.credits});
    document
}

/// Copies the sums into the counters. A failure is healed, so it is told, not returned.
pub(super) async fn apply(service: &Service, workspace: &WorkspaceId, rows: Vec<SumRow>) {
    let applied = Applied {
        rows,
        ..Applied::default()
    };
    if let Err(error) = service.counters.apply(workspace, &applied, &[], &[], service.clock.now()).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(%workspace, error, "counters are behind a correction until the next settle or sweep");
        metrics::counter!("weir_apply_failed_total").increment(1);
    }
}
