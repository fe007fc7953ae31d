//! `GET /v1/reports/unit-economics`: what the features cost and how many of their requests the cache answered, summed up from the ledger.

use super::call::{Answer, Call, ok};
use super::problem::Problem;
use crate::decision::amount::Ratio;
use crate::decision::id::{Feature, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::read::CacheUse;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

const DAY_SECONDS: i64 = 24 * 3600;
/// The days before `to` where `from` is not said.
const DAYS_UNSAID: i64 = 30;
/// The longest time that is summed up at once.
const DAYS_MAX: i64 = 366;

/// By what the rows are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    #[default]
    Feature,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EconomicsQuery {
    /// Inclusive; 30 days before `to` by default.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Exclusive; at most 366 days after `from`; a day from now by default, since uses may be told of that are about to be.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    #[serde(default)]
    #[param(inline, value_type = Option<GroupBy>)]
    group_by: GroupBy,
    /// Only this workspace; that of the credential, where it is bound to one.
    #[param(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
}

/// A row for each feature, most hits first.
#[derive(Debug, Serialize, ToSchema)]
pub struct EconomicsReport {
    #[schema(value_type = String)]
    from: Timestamp,
    #[schema(value_type = String)]
    to: Timestamp,
    group_by: GroupBy,
    data: Vec<FeatureEconomics>,
}

/// What a feature came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeatureEconomics {
    #[schema(value_type = String)]
    feature: Feature,
    /// Those that a model served, and those that the cache answered.
    requests: i64,
    cache_hits: i64,
    #[schema(value_type = Option<f64>)]
    cache_hit_rate: Option<Ratio>,
    #[schema(value_type = String)]
    cost_usd: Usd,
    #[schema(value_type = String)]
    cache_avoided_usd: Usd,
}

impl From<CacheUse> for FeatureEconomics {
    fn from(used: CacheUse) -> Self {
        Self {
            requests: used.requests.saturating_add(used.hits),
            cache_hits: used.hits,
            cache_hit_rate: hit_rate(&used),
            feature: used.feature,
            cost_usd: used.cost,
            cache_avoided_usd: used.avoided,
        }
    }
}

/// The part of all requests that were hits, rounded down to a ten-thousandth. `None`: there were none.
fn hit_rate(used: &CacheUse) -> Option<Ratio> {
    let all = i128::from(used.requests) + i128::from(used.hits);
    let share = (i128::from(used.hits) * i128::from(Ratio::DENOMINATOR)).checked_div(all)?;
    Ratio::from_ten_thousandths(u16::try_from(share).ok()?)
}

/// What the features cost and how many of their requests the cache answered.
#[utoipa::path(get, path = "/v1/reports/unit-economics", tag = "reading", params(EconomicsQuery),
    responses((status = 200, body = EconomicsReport)))]
pub async fn unit_economics(call: Call) -> Answer {
    let query: EconomicsQuery = call.query()?;
    let workspace = match (query.workspace_id, &call.identity.workspace) {
        (None, None) => None,
        (named, _) => Some(call.workspace(named)?),
    };
    let to = query.to.unwrap_or_else(|| call.service.clock.now().plus_seconds(DAY_SECONDS));
    let from = query.from.unwrap_or_else(|| to.plus_seconds(-DAYS_UNSAID * DAY_SECONDS));
    if from >= to || from.plus_seconds(DAYS_MAX * DAY_SECONDS) < to {
        let why = format!("the query string: from must be before to, and at most {DAYS_MAX} days");
        return Err(Problem::unacceptable("", why));
    }
    let features = flow::read::features(&call.service, workspace.as_ref(), from, to).await?;
    ok(&EconomicsReport {
        from,
        to,
        group_by: query.group_by,
        data: features.into_iter().map(FeatureEconomics::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_rate_is_the_part_of_all_requests_rounded_down() {
        for (requests, hits, expected) in [
            (0, 0, None),
            (3, 0, Some(0)),
            (2, 1, Some(3_333)),
            (1, 2, Some(6_666)),
            (0, 7, Some(10_000)),
            (i64::MAX, i64::MAX, Some(5_000)),
            // Corrected below none.
            (-3, 2, None),
        ] {
            let used = CacheUse {
                feature: Feature::parse("faq").expect("a name"),
                requests,
                hits,
                cost: Usd::from_nanos(0),
                avoided: Usd::from_nanos(0),
            };
            assert_eq!(hit_rate(&used).map(Ratio::ten_thousandths), expected, "{requests} {hits}");
        }
    }
}
