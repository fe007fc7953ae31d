//! From a report of usage to a ledger entry, and what a report may still do, given how its reservation stands.

use super::amount::{Amounts, Ratio};
use super::catalogue::{Catalogue, Model};
use super::entry::{Entry, Kind, Outcome};
use super::id::{EntryId, Feature, ModelId, PlanId, RequestId, ReservationId, UserId, WorkspaceId};
use super::money::Usd;
use super::price::{CostTooLarge, Mode, Price};
use super::standing::{End, Standing};
use super::time::Timestamp;
use super::usage::{Pools, Usage};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What really was used, as a caller reports it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The model that ran; `None`: the authorized one.
    pub model: Option<ModelId>,
    pub usage: Usage,
    pub mode: Option<Mode>,
    pub requests: Option<i64>,
    pub outcome: Outcome,
    pub latency_ms: Option<i64>,
    pub provider_request_id: Option<String>,
    pub quality_score: Option<Ratio>,
    /// What the request cost beside tokens, such as a search fee; part of the entry's cost.
    pub other_cost_usd: Option<Usd>,
    pub billable_outcomes: BTreeMap<String, i64>,
}

/// What a report is about: everything of an entry that the report itself does not say.
#[derive(Clone, PartialEq, Debug)]
pub struct Subject {
    pub workspace: WorkspaceId,
    pub user: Option<UserId>,
    pub feature: Feature,
    pub request_id: RequestId,
    pub reservation: Option<ReservationId>,
    /// As it was asked for.
    pub requested_model: ModelId,
    /// As it was authorized, or reported.
    pub model: ModelId,
    pub mode: Mode,
    pub requests: i64,
    /// Counts in usd budgets where no price is known.
    pub held: Amounts,
    pub occurred_at: Timestamp,
    pub plan: Option<(PlanId, u32)>,
    pub tags: BTreeMap<String, String>,
    pub late: bool,
}

impl Report {
    /// Tells reports apart: the same normalised usage, model, mode and outcome give the same.
    pub fn fingerprint(&self, subject: &Subject, catalogue: &Catalogue) -> u128 {
        let name = self.model.as_ref().unwrap_or(&subject.model);
        let model = catalogue.find(name.as_str()).map_or(name.as_str(), |model| model.id.as_str());
        let mut hash = Sha256::new();
        hash.update(self.usage.canonical());
        hash.update(model);
        hash.update([0]);
        hash.update(self.mode.unwrap_or(subject.mode).as_str());
        hash.update([self.outcome as u8]);
        let digest = hash.finalize();
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        u128::from_be_bytes(bytes)
    }
}

/// The entry for `report`, priced as of the subject's time; for a checkpoint `at_least` are the pools of those before it.
pub fn entry(
    subject: &Subject,
    report: &Report,
    at_least: Option<&Pools>,
    catalogue: &Catalogue,
    id: EntryId,
    now: Timestamp,
) -> Result<Entry, CostTooLarge> {
    let name = report.model.as_ref().unwrap_or(&subject.model);
    let ran = catalogue.find(name.as_str()).cloned();
    let price = match &ran {
        Some(model) => model.price_at(subject.occurred_at).cloned(),
        None => catalogue.default_price.clone(),
    };
    let named = price.as_ref().map(|price| price.named()).unwrap_or_default();
    let pools = at_least.map_or(report.usage.pools(named), |least| report.usage.pools(named).max(least));
    let mode = report.mode.unwrap_or(subject.mode);
    let requests = report.requests.unwrap_or(subject.requests);
    let extra = report.other_cost_usd.unwrap_or(Usd::ZERO);
    let cost = price
        .as_ref()
        .map(|price| with_extra(price.cost(&pools, mode, requests)?, extra))
        .transpose()?;
    let list = list_cost(subject, ran.as_deref(), &pools, requests, catalogue)?
        .map(|list| with_extra(list, extra))
        .transpose()?;
    let credits = ran.as_ref().and_then(|model| model.credits).map_or(0, |credits| credits.of(&pools));
    let counted = Amounts {
        tokens: pools.total(),
        usd: cost.map_or(subject.held.usd, Usd::nanos),
        requests: if failed_without_use(report.outcome, &pools) { 0 } else { requests },
        credits,
    };
    Ok(Entry {
        entry_id: id,
        kind: Kind::Usage,
        corrects: None,
        request_id: subject.request_id.clone(),
        reservation_id: subject.reservation,
        workspace_id: subject.workspace.clone(),
        user_id: subject.user.clone(),
        feature: subject.feature.clone(),
        model: ran.as_ref().map_or_else(|| name.clone(), |model| model.id.clone()),
        requested_model: subject.requested_model.clone(),
        tier: ran.as_ref().map(|model| model.tier.clone()),
        provider: ran.as_ref().map(|model| model.provider.clone()),
        mode,
        requests: counted.requests,
        pools,
        cache_hit: false,
        latency_ms: report.latency_ms,
        outcome: report.outcome,
        priced: cost.is_some(),
        late: subject.late,
        cost_usd: cost,
        list_cost_usd: list,
        counted,
        price_version: price.map(|price| price.version.clone()),
        plan_id: subject.plan.as_ref().map(|(id, _)| id.clone()),
        plan_version: subject.plan.as_ref().map(|(_, version)| *version),
        occurred_at: subject.occurred_at,
        recorded_at: now,
        tags: subject.tags.clone(),
        provider_request_id: report.provider_request_id.clone(),
        quality_score: report.quality_score,
        other_cost_usd: report.other_cost_usd,
        billable_outcomes: report.billable_outcomes.clone(),
    })
}

fn failed_without_use(outcome: Outcome, pools: &Pools) -> bool {
    matches!(outcome, Outcome::Error | Outcome::Cancelled) && pools.total() == 0
}

fn with_extra(cost: Usd, extra: Usd) -> Result<Usd, CostTooLarge> {
    cost.checked_add(extra).filter(|sum| *sum <= Usd::ENTRY_MAX).ok_or(CostTooLarge)
}

/// What the requested model would have cost without batch or cache. Where it is not in the catalogue (`auto`), the model that ran.
pub(super) fn list_cost(
    subject: &Subject,
    ran: Option<&Model>,
    pools: &Pools,
    requests: i64,
    catalogue: &Catalogue,
) -> Result<Option<Usd>, CostTooLarge> {
    let requested = catalogue.find(subject.requested_model.as_str()).map(Arc::as_ref).or(ran);
    let price: Option<&Arc<Price>> = match requested {
        Some(model) => model.price_at(subject.occurred_at),
        None => catalogue.default_price.as_ref(),
    };
    price
        .map(|price| price.cost(&pools.uncached(), Mode::Interactive, requests))
        .transpose()
}

/// What a final report may do, given how its reservation stands in the ledger.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// Nothing ended it yet: record. A final report counts as it says, whatever checkpoints said before it: it is the provider's own
    /// word, and tokens that had moved between pools meanwhile count once again.
    Record {
        revision: i64,
        is_stream: bool,
    },
    /// It expired without a use on record: record, late.
    RecordLate {
        revision: i64,
    },
    /// It expired and what was known is recorded: post the difference to that entry.
    Correct {
        revision: i64,
        entry: Box<Entry>,
    },
    /// The same report was recorded before.
    Replay(Box<Entry>),
    Conflict,
    /// It was released; direct usage under its request id may since have been recorded, by the same report or by another.
    Released {
        revision: i64,
        entry: Option<Box<Entry>>,
        alike: bool,
    },
}

/// The one rule of ends: none → settled; expired → settled late; settled again only alike; released for ever.
pub fn next(standing: Option<&Standing>, fingerprint: u128) -> Next {
    let Some(standing) = standing else {
        return Next::Record {
            revision: 0,
            is_stream: false,
        };
    };
    let revision = standing.revision;
    match (standing.end, &standing.entry) {
        (None, _) => Next::Record {
            revision,
            is_stream: standing.checkpoint.is_some(),
        },
        (Some(End::Settled), Some(entry)) if standing.fingerprint == Some(fingerprint) => Next::Replay(Box::new(entry.clone())),
        // The id was asked for twice at once: one was given a kept answer, and the other one a hold, whose call was made all the same.
        (Some(End::Settled), Some(entry)) if entry.kind == Kind::CacheHit => Next::Correct {
            revision,
            entry: Box::new(entry.clone()),
        },
        (Some(End::Settled), _) => Next::Conflict,
        (Some(End::Released), entry) => Next::Released {
            revision,
            entry: entry.clone().map(Box::new),
            alike: standing.fingerprint == Some(fingerprint),
        },
        (Some(End::Expired), None) => Next::RecordLate { revision },
        (Some(End::Expired), Some(entry)) => Next::Correct {
            revision,
            entry: Box::new(entry.clone()),
        },
    }
}

/// The entry of signed differences that makes `original` into `target`, at the original's time.
pub fn correction(original: &Entry, target: Entry) -> Option<Entry> {
    let usd = |a: Option<Usd>, b: Option<Usd>| match (a, b) {
        (Some(a), Some(b)) => a.checked_sub(b).map(Some),
        (a, None) => Some(a),
        (None, Some(_)) => Some(None),
    };
    Some(Entry {
        kind: Kind::Correction,
        corrects: Some(original.entry_id),
        pools: target.pools.checked_sub(&original.pools)?,
        requests: target.requests.checked_sub(original.requests)?,
        cost_usd: usd(target.cost_usd, original.cost_usd)?,
        list_cost_usd: usd(target.list_cost_usd, original.list_cost_usd)?,
        counted: target.counted.checked_sub(original.counted)?,
        occurred_at: original.occurred_at,
        late: true,
        ..target
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(end: Option<End>, fingerprint: Option<u128>) -> Standing {
        Standing {
            workspace: WorkspaceId::parse("ws").expect("a name"),
            request_id: RequestId::parse("r").expect("a name"),
            revision: 3,
            end,
            entry: None,
            fingerprint,
            checkpoint: None,
        }
    }

    #[test]
    fn one_end_each() {
        assert_eq!(
            next(None, 1),
            Next::Record {
                revision: 0,
                is_stream: false
            }
        );
        for (end, expected) in [
            (
                None,
                Next::Record {
                    revision: 3,
                    is_stream: false,
                },
            ),
            (Some(End::Settled), Next::Conflict),
            (
                Some(End::Released),
                Next::Released {
                    revision: 3,
                    entry: None,
                    alike: false,
                },
            ),
            (Some(End::Expired), Next::RecordLate { revision: 3 }),
        ] {
            assert_eq!(next(Some(&standing(end, Some(2))), 1), expected, "{end:?}");
        }
    }
}
