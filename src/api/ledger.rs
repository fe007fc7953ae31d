//! `GET /v1/workspaces/{id}/ledger`: recorded uses, newest first, as JSON or CSV.

use super::call::{Answer, Call, ok};
use super::page;
use super::problem::Problem;
use super::wire::EntryOut;
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, Feature, ModelId, UserId};
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::read::EntryQuery;
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LedgerQuery {
    /// Inclusive.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Exclusive.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    #[param(value_type = Option<String>)]
    feature: Option<Feature>,
    #[param(value_type = Option<String>)]
    user_id: Option<UserId>,
    #[param(value_type = Option<String>)]
    model: Option<ModelId>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerPage<'a> {
    data: Vec<EntryOut<'a>>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// What a workspace used, newest first.
#[utoipa::path(get, path = "/v1/workspaces/{id}/ledger", tag = "reading", params(("id" = String, Path), LedgerQuery),
    responses((status = 200, description = "JSON; with `Accept: text/csv` the same columns as CSV.", body = LedgerPage)))]
pub async fn ledger(call: Call) -> Answer {
    let workspace = call.path_workspace()?;
    let query: LedgerQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let after = page::place(query.cursor.as_deref(), read_place)?;
    let wanted = EntryQuery {
        workspace,
        from: query.from,
        to: query.to,
        feature: query.feature,
        user: query.user_id,
        model: query.model,
        after,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut entries = flow::read::entries(&call.service, &wanted).await?;
    let next_cursor = page::cut(&mut entries, limit, |last| {
        format!("{}|{}", last.occurred_at.micros(), last.entry_id)
    });
    if call.accepts_csv() {
        return csv(&entries, next_cursor);
    }
    ok(&LedgerPage {
        data: entries.iter().map(EntryOut::from).collect(),
        next_cursor,
    })
}

fn read_place(text: &str) -> Option<(Timestamp, EntryId)> {
    let (micros, id) = text.split_once('|')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), EntryId::parse(id).ok()?))
}

/// The columns of the CSV form, in the entry's order.
const COLUMNS: [&str; 33] = [
    "entry_id",
    "kind",
    "corrects",
    "request_id",
    "reservation_id",
    "workspace_id",
    "user_id",
    "feature",
    "model",
    "requested_model",
    "tier",
    "provider",
    "mode",
    "requests",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_hit",
    "latency_ms",
    "outcome",
    "priced",
    "late",
    "cost_usd",
    "list_cost_usd",
    "counted",
    "price_version",
    "plan_id",
    "plan_version",
    "occurred_at",
    "recorded_at",
];

fn csv(entries: &[Entry], next_cursor: Option<String>) -> Answer {
    let written = || -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(COLUMNS.iter().chain(&["tags"]))?;
        for entry in entries {
            let object = serde_json::to_value(EntryOut::from(entry))?;
            writer.write_record(COLUMNS.iter().chain(&["tags"]).map(|column| cell(object.get(column))))?;
        }
        Ok(writer.into_inner()?)
    };
    let bytes = written().map_err(|error| {
        tracing::error!(error = &*error, "a page of the ledger could not be written as CSV");
        Problem::internal()
    })?;
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = next_cursor {
        response.insert_header(("X-Next-Cursor", cursor));
    }
    Ok(response.content_type("text/csv; charset=utf-8; header=present").body(bytes))
}

/// A cell's text. One that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, "CSV Injection").
fn cell(value: Option<&serde_json::Value>) -> String {
    let text = match value {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => return other.to_string(),
    };
    if text.starts_with(['=', '+', '@', '\t', '\r']) || (text.starts_with('-') && text.parse::<rust_decimal::Decimal>().is_err()) {
        return format!("'{text}");
    }
    text
}
