//! `POST /v1/admin/billing/reconcile`: the ledger, its batches and the provider's sums, side by side.

use super::call::{Answer, Call, ok};
use super::reservations::durably;
use crate::decision::billing::report::Report;
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::flow;
use crate::flow::reconcile::Wanted;
use serde::Deserialize;
use utoipa::ToSchema;

/// What to reconcile. The body may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"workspace_id": "ws_456"}))]
pub struct ReconcileBody {
    /// Inclusive; three days before `to` by default, at most 70.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Exclusive; now by default.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Only this workspace. Where others share its customer, what they were told of is part of the provider's sum.
    #[schema(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// Only the meter of this id.
    #[schema(value_type = Option<String>)]
    meter: Option<MeterId>,
}

/// Compares what was recorded, what batches say and what the provider has summed up, names each difference, and mends what needs no guess:
/// a batch of unknown fate is acknowledged or sent once more where the provider's sum of its minute has one reading. Runs by itself each hour.
#[utoipa::path(post, path = "/v1/admin/billing/reconcile", tag = "admin", request_body = ReconcileBody,
    responses((status = 200, body = Report)))]
pub async fn reconcile(call: Call) -> Answer {
    let body: ReconcileBody = match call.body.is_empty() {
        true => ReconcileBody::default(),
        false => call.json()?,
    };
    let wanted = Wanted {
        from: body.from,
        to: body.to,
        workspace: body.workspace_id,
        meter: body.meter,
    };
    let (service, by) = (call.service.clone(), call.by()?);
    let report = durably(async move { flow::reconcile::reconcile(&service, wanted, &by).await }).await?;
    ok(&report)
}
