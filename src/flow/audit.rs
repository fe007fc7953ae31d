//! The audit log: the record of a change, made here and written by the ledger in the change's own transaction; and reading it.

use super::{FlowError, Service};
use crate::clock::Clock;
use crate::decision::id::AuditId;
pub use crate::ledger::audit::{AuditQuery, Audited, By, Subject};
use serde_json::Value;

/// The record of a change of `subject` from `before` to `after`; `None`: it is not there.
pub fn record(
    clock: &dyn Clock,
    by: &By,
    action: impl Into<String>,
    subject: Subject,
    before: Option<Value>,
    after: Option<Value>,
) -> Audited {
    Audited {
        id: AuditId::from_uuid(clock.uuid()),
        changed_at: clock.now(),
        by: by.clone(),
        action: action.into(),
        subject,
        before,
        after,
    }
}

/// Records, newest first.
pub async fn list(service: &Service, query: &AuditQuery) -> Result<Vec<Audited>, FlowError> {
    Ok(service.ledger.audit_log(query).await?)
}
