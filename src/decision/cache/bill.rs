//! What an answer that was given again counts for: its entry costs nothing, says what it avoided, and counts by the feature's `bill`.

use crate::decision::amount::{Amounts, Ratio};
use crate::decision::catalogue::Catalogue;
use crate::decision::entry::{Entry, Kind, Outcome};
use crate::decision::id::{EntryId, ModelId};
use crate::decision::money::{Usd, half_even};
use crate::decision::price::{CostTooLarge, Mode};
use crate::decision::settlement::{Subject, list_cost};
use crate::decision::time::Timestamp;
use crate::decision::usage::Pools;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the kept answer took when it was made: what giving it again avoids.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Made {
    /// Which model made it.
    pub model: ModelId,
    pub pools: Pools,
    /// What its entry cost; `None`: that has no price, or the answer was kept before this was.
    pub cost: Option<Usd>,
}

/// The entry of kind `cache_hit`. It has no tokens, as none were used, and no cost; `list_cost_usd` is what the requested model would have
/// cost by the provider's own count of the kept answer. `share` of what making the answer took is counted: its tokens, what it cost and its credits, or,
/// where its cost is not known, that list cost. Each unit is rounded once,
/// half to even; but requests, of which there is one, half up: from a half on a hit counts as a request, below it as none.
pub fn entry(
    subject: &Subject,
    made: &Made,
    share: Ratio,
    catalogue: &Catalogue,
    id: EntryId,
    now: Timestamp,
) -> Result<Entry, CostTooLarge> {
    let ran = catalogue.find(made.model.as_str()).map(Arc::as_ref);
    let list = list_cost(subject, ran, &made.pools, 1, catalogue)?;
    let requested = catalogue.find(subject.requested_model.as_str()).map(Arc::as_ref).or(ran);
    let price = requested.and_then(|model| model.price_at(now)).or(catalogue.default_price.as_ref());
    let avoided = Amounts {
        tokens: made.pools.total(),
        usd: made.cost.or(list).map_or(0, Usd::nanos),
        requests: 1,
        credits: ran
            .or(requested)
            .and_then(|model| model.credits)
            .map_or(0, |credits| credits.of(&made.pools)),
    };
    Ok(Entry {
        entry_id: id,
        kind: Kind::CacheHit,
        corrects: None,
        request_id: subject.request_id.clone(),
        reservation_id: subject.reservation,
        workspace_id: subject.workspace.clone(),
        user_id: subject.user.clone(),
        feature: subject.feature.clone(),
        model: made.model.clone(),
        requested_model: subject.requested_model.clone(),
        tier: ran.map(|model| model.tier.clone()),
        provider: ran.map(|model| model.provider.clone()),
        mode: Mode::Interactive,
        requests: 1,
        pools: Pools::default(),
        cache_hit: true,
        latency_ms: None,
        outcome: Outcome::Success,
        priced: true,
        late: false,
        cost_usd: Some(Usd::ZERO),
        list_cost_usd: list,
        counted: part(avoided, share),
        price_version: price.map(|price| price.version.clone()),
        plan_id: subject.plan.as_ref().map(|(id, _)| id.clone()),
        plan_version: subject.plan.as_ref().map(|(_, version)| *version),
        occurred_at: subject.occurred_at,
        recorded_at: now,
        tags: subject.tags.clone(),
        provider_request_id: None,
        quality_score: None,
        other_cost_usd: None,
        billable_outcomes: BTreeMap::new(),
    })
}

fn part(whole: Amounts, share: Ratio) -> Amounts {
    // A share is at most one, so what it makes of 64 bits fits into 64 bits.
    let of = |amount: i64| {
        let part = half_even(
            i128::from(amount) * i128::from(share.ten_thousandths()),
            i128::from(Ratio::DENOMINATOR),
        );
        i64::try_from(part).unwrap_or(amount)
    };
    // Half of one request cannot be told by an even number of them: it would never count.
    let requests = i128::from(whole.requests) * i128::from(share.ten_thousandths());
    let requests = (2 * requests + i128::from(Ratio::DENOMINATOR)).div_euclid(2 * i128::from(Ratio::DENOMINATOR));
    Amounts {
        tokens: of(whole.tokens),
        usd: of(whole.usd),
        requests: i64::try_from(requests).unwrap_or(whole.requests),
        credits: of(whole.credits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_once_in_each_unit() {
        let whole = Amounts {
            tokens: 155,
            usd: 1_000_000_001,
            requests: 1,
            credits: 25,
        };
        for (share, expected) in [
            (0, [0, 0, 0, 0]),
            (10_000, [155, 1_000_000_001, 1, 25]),
            (5_000, [78, 500_000_000, 1, 12]),
            (4_999, [77, 499_900_000, 0, 12]),
            (1_000, [16, 100_000_000, 0, 2]),
        ] {
            let share = Ratio::from_ten_thousandths(share).expect("a share");
            let part = part(whole, share);
            assert_eq!([part.tokens, part.usd, part.requests, part.credits], expected, "{share:?}");
        }
    }
}
