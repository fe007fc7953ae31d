//! Keeping an answer: after its settle has committed, under what its hold remembers. Losing it costs one call of a model, so whatever fails here
//! is told and never an error.

use super::super::Service;
use super::super::context::Context;
use super::super::known::Known;
use super::{Similar, Ticket, family, lead};
use crate::cache::answer::Answer;
use crate::cache::exact::Put;
use crate::cache::index::Item;
use crate::cache::vector::Vector;
use crate::decision::cache::bill::Made;
use crate::decision::cache::veto::Signature;
use crate::decision::cache::whole;
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
/// found it off, of a model of another family than was asked for, of one that Weir or the model's limit cut off, of one that was judged not good enough, and what is
/// larger than an answer may be.
/// Where no answer is kept for the very same request, whoever waits for it is told not to. `None`: there was nothing to keep.
pub(in crate::flow) async fn keep(service: &Service, known: &Known, entry: &Entry, response: Option<&str>) -> Option<Kept> {
    let places = match response {
        Some(response) => try_keep(service, known, entry, response).await,
        None => None,
    };
    let feature = known.plan.as_ref().and_then(|plan| plan.feature(&entry.feature));
    if places.is_none_or(|places| !places.exactly) && feature.is_some_and(|feature| feature.cache.is_some()) {
        lead::unless_kept(service, known).await;
    }
    response?;
    let cache_entry = places.map(|places| places.id);
    let outcome = if cache_entry.is_some() { "kept" } else { "not_kept" };
    metrics::counter!("weir_cache_stored_total", "outcome" => outcome).increment(1);
    Some(Kept { cache_entry })
}

/// An answer that is kept.
#[derive(Clone, Copy)]
struct Places {
    id: CacheEntryId,
    /// For the very same request too.
    exactly: bool,
}

async fn try_keep(service: &Service, known: &Known, entry: &Entry, response: &str) -> Option<Places> {
    if entry.late || entry.outcome != Outcome::Success {
        return None;
    }
    let (record, _) = known.hold.as_ref()?;
    let context = Context::decode(&record.context, record.reservation).ok()?;
    if is_cut_off(&context, record.taken.output, entry) || is_bad(&context, entry) {
        return None;
    }
    let ticket = context.cache.as_deref()?;
    let rules = known.plan.as_ref()?.feature(&entry.feature)?.cache.as_ref()?;
    if family(&known.policy, &entry.model) != family(&known.policy, &context.chosen) {
        return None;
    }
    // Read only where everything else allows it, and before it is packed.
    if serde_json::from_str(response).is_ok_and(|response| whole::is_cut_off(&response)) {
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
            cost: entry.cost_usd,
        },
        cut_at: context.ask.max_output_tokens.filter(|most| entry.pools.output_tokens == *most),
        response: response.to_owned(),
    };
    let bytes = answer.encode()?;
    let exactly = ticket.is_exact && keep_exactly(service, entry, ticket, rules, (&answer, &bytes)).await;
    let similarly = match &ticket.similar {
        Some(similar) => keep_similar(service, entry, similar, rules, (&answer, bytes)).await,
        None => false,
    };
    (exactly || similarly).then_some(Places { id: answer.id, exactly })
}

/// Whether a budget had room for less than was wanted, and the answer ended there. Where it ended at the caller's own limit it is kept, for
/// requests of that limit. One of more tokens than were authorized was not cut off there: its caller took no notice of the limit.
fn is_cut_off(context: &Context, authorized_output: i64, entry: &Entry) -> bool {
    let wanted = context.ask.max_output_tokens.unwrap_or(context.expected_output);
    authorized_output < wanted && entry.pools.output_tokens == authorized_output
}

/// Whether it was judged, and a better model may be asked because of it.
fn is_bad(context: &Context, entry: &Entry) -> bool {
    let escalation = context.detour.as_ref().and_then(|detour| detour.escalation_after(&entry.model));
    escalation.is_some_and(|escalation| escalation.is_due(entry.quality_score))
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
