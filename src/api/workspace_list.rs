//! `GET /v1/admin/workspaces`: all workspaces, newest first. A credential of one workspace sees a list of that one.

use super::call::{Answer, Call, ok};
use super::page;
use super::workspaces::{WorkspaceOut, shown};
use crate::decision::id::{PlanId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::decision::workspace::{Status, Workspace};
use crate::flow;
use crate::flow::workspace::WorkspaceQuery;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkspacesQuery {
    /// Those that have chosen this plan by name.
    #[param(value_type = Option<String>)]
    plan_id: Option<PlanId>,
    #[param(inline)]
    status: Option<Status>,
    /// Created at or after.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// Created before.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of workspaces, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkspacePage {
    data: Vec<WorkspaceOut>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// All workspaces, newest first.
#[utoipa::path(get, path = "/v1/admin/workspaces", tag = "admin", params(WorkspacesQuery), responses((status = 200, body = WorkspacePage)))]
pub async fn list(call: Call) -> Answer {
    let query: WorkspacesQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let wanted = WorkspaceQuery {
        plan: query.plan_id,
        status: query.status,
        from: query.from,
        to: query.to,
        after: page::place(query.cursor.as_deref(), read_place)?,
        limit: limit + 1,
    };
    let mut workspaces = match &call.identity.workspace {
        Some(own) => own_only(&call, own, &wanted).await?,
        None => flow::workspace::list(&call.service, &wanted).await?,
    };
    let next_cursor = page::cut(&mut workspaces, limit, |last| format!("{}|{}", last.created_at.micros(), last.id));
    ok(&WorkspacePage {
        data: workspaces.iter().map(|workspace| shown(&call, workspace)).collect(),
        next_cursor,
    })
}

/// The one that a bound credential sees, if it is asked for.
async fn own_only(call: &Call, own: &WorkspaceId, wanted: &WorkspaceQuery) -> Result<Vec<Workspace>, flow::FlowError> {
    let found = flow::workspace::find(&call.service, own).await?;
    let is_wanted = |workspace: &Workspace| {
        wanted.plan.as_ref().is_none_or(|plan| workspace.plan_id.as_ref() == Some(plan))
            && wanted.status.is_none_or(|status| workspace.status == status)
            && wanted.from.is_none_or(|from| workspace.created_at >= from)
            && wanted.to.is_none_or(|to| workspace.created_at < to)
            && wanted
                .after
                .as_ref()
                .is_none_or(|(at, id)| (workspace.created_at, &workspace.id) < (*at, id))
    };
    Ok(found.map(|found| Workspace::clone(&found)).filter(is_wanted).into_iter().collect())
}

fn read_place(text: &str) -> Option<(Timestamp, WorkspaceId)> {
    let (micros, id) = text.split_once('|')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), WorkspaceId::parse(id).ok()?))
}
