//! Keeping an answer: after its settle has committed, under what its hold remembers. Losing it costs one call of a model, so whatever fails here
//! is told and never an error.

use super::super::Service;
use super::super::context::Context;
use super::super::known::Known;
use super::{Similar, Ticket, family};
use crate::cache::answer::Answer;
use crate::cache::exact::Put;
use crate::cache::index::Item;
use crate::cache::vector::Vector;
use crate::decision::cache::bill::Made;
use crate::decision::cache::veto::Signature;
use crate::decision::entry::{Entry, Outcome};
use crate::decision::id::CacheEntryId;
use crate::decision::plan::CacheRules;
use crate::ledger::cached::{CachedAnswer, Going};

/// What became of an answer that a settle brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// `None`: it is not kept.
    pub cache_entry: Option<CacheEntryId>,
}

/// Keeps the response of a settled request. Not kept are those of a failure, of a hold that had ended, of a request that did not ask the cache or
/// found it off, of a model of another family than was asked for, and what is larger than an answer may be.
pub(in crate::flow) async fn keep(service: &Service, known: &Known, entry: &Entry, response: &str) -> Kept {
    let cache_entry = try_keep(service, known, entry, response).await;
    let outcome = if cache_entry.is_some() { "kept" } else { "not_kept" };
    metrics::counter!("weir_cache_stored_total", "outcome" => outcome).increment(1);
    Kept { cache_entry }
}

async fn try_keep(service: &Service, known: &Known, entry: &Entry, response: &str) -> Option<CacheEntryId> {
    if entry.late || entry.outcome != Outcome::Success {
        return None;
    }
    let (record, _) = known.hold.as_ref()?;
    let context = Context::decode(&record.context, record.reservation).ok()?;
    let ticket = context.cache.as_deref()?;
    let rules = known.plan.as_ref()?.feature(&entry.feature)?.cache.as_ref()?;
    if family(&known.policy, &entry.model) != family(&known.policy, &context.chosen) {
        return None;
    }
    let now = service.clock.now();
    let answer = Answer {
        id: CacheEntryId::of(&entry.workspace_id, service.clock.uuid()),
        stored_at: now,
        expires_at: now.plus_seconds(rules.ttl_seconds),
        made: Made {
            model: entry.model.clone(),
            pools: entry.pools,
        },
        response: response.to_owned(),
    };
    let bytes = answer.encode()?;
    let exactly = ticket.is_exact && keep_exactly(service, entry, ticket, rules, (&answer, &bytes)).await;
    let similarly = match &ticket.similar {
        Some(similar) => keep_similar(service, entry, similar, rules, (&answer, bytes)).await,
        None => false,
    };
    (exactly || similarly).then_some(answer.id)
}

async fn keep_exactly(service: &Service, entry: &Entry, ticket: &Ticket, rules: &CacheRules, (answer, bytes): (&Answer, &[u8])) -> bool {
    let put = Put {
        workspace: &entry.workspace_id,
        feature: &entry.feature,
        key: ticket.key,
        id: answer.id,
        answer: bytes,
        expires_at: answer.expires_at,
        entries_max: rules.max_entries,
    };
    match service.cache.exact.put(&put, answer.stored_at).await {
        Ok(is_kept) => is_kept,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "an answer was not kept");
            false
        }
    }
}

async fn keep_similar(
    service: &Service,
    entry: &Entry,
    similar: &Similar,
    rules: &CacheRules,
    (answer, bytes): (&Answer, Vec<u8>),
) -> bool {
    let Some(vector) = Vector::from_bytes(&similar.vector) else {
        return false;
    };
    let row = CachedAnswer {
        id: answer.id,
        workspace: entry.workspace_id.clone(),
        feature: entry.feature.clone(),
        partition: similar.partition,
        vector: similar.vector.clone(),
        signature: similar.signature.clone(),
        answer: bytes,
        stored_at: answer.stored_at,
        expires_at: answer.expires_at,
    };
    // The ledger first: what only this node knew would be given by no other, and not be there after a restart.
    if let Err(error) = service.ledger.put_cached(&row).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "an answer was not kept for similar prompts"
        );
        return false;
    }
    let item = Item {
        workspace: row.workspace,
        feature: row.feature,
        partition: row.partition,
        id: row.id,
        vector,
        signature: signature(&similar.signature),
        stored_at: row.stored_at,
        expires_at: row.expires_at,
    };
    let pushed_out = service.cache.index.insert(item, rules.max_entries as usize);
    if !pushed_out.is_empty() {
        let going = Going::These(pushed_out);
        if let Err(error) = service.ledger.drop_cached(&going, answer.stored_at).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "answers beyond the plan's number stay until they expire"
            );
        }
    }
    true
}

/// A signature as it was stored. One of another version says nothing of its text, so it vetoes everything.
pub(super) fn signature(bytes: &[u8]) -> Signature {
    postcard::from_bytes(bytes).unwrap_or_default()
}
