//! `/v1/admin/fair-use/actions`: what rules of fair use do about whom, and the end of it before its time.

use super::call::{Answer, Call, ok};
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use crate::decision::anomaly::AnomalyData;
use crate::decision::id::{FairUseId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::fair_use::ActionQuery;
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FairUseQuery {
    /// Only actions on this workspace and its users.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of actions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct FairUsePage {
    data: Vec<AnomalyData>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// The last action of each rule on whom it is about, newest first; those before it are in the audit log.
#[utoipa::path(get, path = "/v1/admin/fair-use/actions", tag = "admin", params(FairUseQuery), responses((status = 200, body = FairUsePage)))]
pub async fn list(call: Call) -> Answer {
    let query: FairUseQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let wanted = ActionQuery {
        workspace: query.workspace_id,
        active_at: None,
        after: page::place(query.cursor.as_deref(), read_place)?,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut actions = flow::fair_use::list(&call.service, &wanted).await?;
    let next_cursor = page::cut(&mut actions, limit, |(last, _)| format!("{}|{}", last.started_at.micros(), last.id));
    ok(&FairUsePage {
        data: actions.into_iter().map(|(_, data)| data).collect(),
        next_cursor,
    })
}

fn read_place(text: &str) -> Option<(Timestamp, FairUseId)> {
    let (micros, id) = text.split_once('|')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), FairUseId::parse(id).ok()?))
}

/// Ends an action, on every node within two seconds. Its rule stays quiet about the same workspace or user until the action would have ended.
#[utoipa::path(delete, path = "/v1/admin/fair-use/actions/{id}", tag = "admin", params(("id" = String, Path)),
    responses((status = 204, description = "It has ended, or had before.")))]
pub async fn end(call: Call) -> Answer {
    call.no_body_or_empty_object()?;
    let id = FairUseId::parse(&call.path("id")).map_err(|_| Problem::not_found())?;
    let (service, by) = (call.service.clone(), call.by()?);
    durably(async move { flow::fair_use::end(&service, id, &by).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
