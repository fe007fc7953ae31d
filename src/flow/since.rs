//! Since when all nodes name the same counters.

use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::policy::Policy;

/// How long after a change of policy the last node has learnt of it.
pub const POLICY_REACHES_ALL_SECONDS: i64 = 2;

/// When the last node learnt which counters the workspace's plan names.
pub fn named_since(policy: &Policy, workspace: &Workspace) -> Timestamp {
    policy
        .changed_at
        .unwrap_or(Timestamp::MIN)
        .max(workspace.updated_at)
        .plus_seconds(POLICY_REACHES_ALL_SECONDS)
}
