//! `entry`: one recorded use.

use super::{Unreadable, json, narrow, parse, parse_some, read_json, read_word, unreadable, word};
use crate::decision::amount::{Amounts, Ratio};
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, Feature, ModelId, PlanId, Provider, RequestId, ReservationId, Tier, UserId, WorkspaceId};
use crate::decision::money::Usd;
use crate::decision::time::Timestamp;
use crate::decision::usage::Pools;

record! {
    /// One recorded use.
    struct EntryRecord of "entry" {
        entry_id: String,
        kind: String,
        corrects: Option<String>,
        request_id: String,
        reservation_id: Option<String>,
        workspace_id: String,
        user_id: String,
        feature: String,
        model: String,
        requested_model: String,
        tier: Option<String>,
        provider: Option<String>,
        mode: String,
        requests: i64,
        input_tokens: i64,
        cache_read_tokens: i64,
        cache_write_tokens: i64,
        cache_write_1h_tokens: i64,
        output_tokens: i64,
        reasoning_tokens: i64,
        audio_input_tokens: i64,
        audio_output_tokens: i64,
        image_input_tokens: i64,
        cache_hit: bool,
        latency_ms: Option<i64>,
        outcome: String,
        priced: bool,
        late: bool,
        cost_usd: Option<i64>,
        list_cost_usd: Option<i64>,
        counted_tokens: i64,
        counted_usd: i64,
        counted_requests: i64,
        counted_credits: i64,
        price_version: Option<String>,
        plan_id: Option<String>,
        plan_version: Option<i64>,
        occurred_at: i64,
        recorded_at: i64,
        tags: String,
        provider_request_id: Option<String>,
        quality_score: Option<i64>,
        other_cost_usd: Option<i64>,
        billable_outcomes: String,
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        Self {
            entry_id: entry.entry_id.to_string(),
            kind: word(&entry.kind),
            corrects: entry.corrects.map(|id| id.to_string()),
            request_id: entry.request_id.to_string(),
            reservation_id: entry.reservation_id.map(|id| id.to_string()),
            workspace_id: entry.workspace_id.to_string(),
            user_id: user_column(entry).to_owned(),
            feature: entry.feature.to_string(),
            model: entry.model.to_string(),
            requested_model: entry.requested_model.to_string(),
            tier: entry.tier.as_ref().map(Tier::to_string),
            provider: entry.provider.as_ref().map(Provider::to_string),
            mode: word(&entry.mode),
            requests: entry.requests,
            input_tokens: entry.pools.input_tokens,
            cache_read_tokens: entry.pools.cache_read_tokens,
            cache_write_tokens: entry.pools.cache_write_tokens,
            cache_write_1h_tokens: entry.pools.cache_write_1h_tokens,
            output_tokens: entry.pools.output_tokens,
            reasoning_tokens: entry.pools.reasoning_tokens,
            audio_input_tokens: entry.pools.audio_input_tokens,
            audio_output_tokens: entry.pools.audio_output_tokens,
            image_input_tokens: entry.pools.image_input_tokens,
            cache_hit: entry.cache_hit,
            latency_ms: entry.latency_ms,
            outcome: word(&entry.outcome),
            priced: entry.priced,
            late: entry.late,
            cost_usd: entry.cost_usd.map(Usd::nanos),
            list_cost_usd: entry.list_cost_usd.map(Usd::nanos),
            counted_tokens: entry.counted.tokens,
            counted_usd: entry.counted.usd,
            counted_requests: entry.counted.requests,
            counted_credits: entry.counted.credits,
            price_version: entry.price_version.as_deref().map(str::to_owned),
            plan_id: entry.plan_id.as_ref().map(PlanId::to_string),
            plan_version: entry.plan_version.map(i64::from),
            occurred_at: entry.occurred_at.micros(),
            recorded_at: entry.recorded_at.micros(),
            tags: json(&entry.tags),
            provider_request_id: entry.provider_request_id.clone(),
            quality_score: entry.quality_score.map(Ratio::ten_thousandths),
            other_cost_usd: entry.other_cost_usd.map(Usd::nanos),
            billable_outcomes: json(&entry.billable_outcomes),
        }
    }
}

impl TryFrom<EntryRecord> for Entry {
    type Error = Unreadable;

    fn try_from(row: EntryRecord) -> Result<Self, Unreadable> {
        Ok(Self {
            entry_id: parse("entry_id", &row.entry_id, EntryId::parse)?,
            kind: read_word("kind", &row.kind)?,
            corrects: parse_some("corrects", row.corrects.as_deref(), EntryId::parse)?,
            request_id: parse("request_id", &row.request_id, RequestId::parse)?,
            reservation_id: parse_some("reservation_id", row.reservation_id.as_deref(), ReservationId::parse)?,
            workspace_id: parse("workspace_id", &row.workspace_id, WorkspaceId::parse)?,
            user_id: parse_some("user_id", Some(row.user_id.as_str()).filter(|user| !user.is_empty()), UserId::parse)?,
            feature: parse("feature", &row.feature, Feature::parse)?,
            model: parse("model", &row.model, ModelId::parse)?,
            requested_model: parse("requested_model", &row.requested_model, ModelId::parse)?,
            tier: parse_some("tier", row.tier.as_deref(), Tier::parse)?,
            provider: parse_some("provider", row.provider.as_deref(), Provider::parse)?,
            mode: read_word("mode", &row.mode)?,
            requests: row.requests,
            pools: Pools {
                input_tokens: row.input_tokens,
                cache_read_tokens: row.cache_read_tokens,
                cache_write_tokens: row.cache_write_tokens,
                cache_write_1h_tokens: row.cache_write_1h_tokens,
                output_tokens: row.output_tokens,
                reasoning_tokens: row.reasoning_tokens,
                audio_input_tokens: row.audio_input_tokens,
                audio_output_tokens: row.audio_output_tokens,
                image_input_tokens: row.image_input_tokens,
            },
            cache_hit: row.cache_hit,
            latency_ms: row.latency_ms,
            outcome: read_word("outcome", &row.outcome)?,
            priced: row.priced,
            late: row.late,
            cost_usd: row.cost_usd.map(Usd::from_nanos),
            list_cost_usd: row.list_cost_usd.map(Usd::from_nanos),
            counted: Amounts {
                tokens: row.counted_tokens,
                usd: row.counted_usd,
                requests: row.counted_requests,
                credits: row.counted_credits,
            },
            price_version: row.price_version.map(Into::into),
            plan_id: parse_some("plan_id", row.plan_id.as_deref(), PlanId::parse)?,
            plan_version: row.plan_version.map(|version| narrow("plan_version", version)).transpose()?,
            occurred_at: Timestamp::from_micros(row.occurred_at),
            recorded_at: Timestamp::from_micros(row.recorded_at),
            tags: read_json("tags", &row.tags)?,
            provider_request_id: row.provider_request_id,
            quality_score: row.quality_score.map(ratio).transpose()?,
            other_cost_usd: row.other_cost_usd.map(Usd::from_nanos),
            billable_outcomes: read_json("billable_outcomes", &row.billable_outcomes)?,
        })
    }
}

/// Empty for the shared user, which is no name that a caller may choose.
pub(in crate::ledger) fn user_column(entry: &Entry) -> &str {
    entry.user_id.as_ref().map_or("", UserId::as_str)
}

fn ratio(value: i64) -> Result<Ratio, Unreadable> {
    let ratio = u16::try_from(value).ok().and_then(Ratio::from_ten_thousandths);
    ratio.ok_or_else(|| unreadable("quality_score", value, "is not from 0 to 10000"))
}
