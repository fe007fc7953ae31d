//! `decision`: what was decided, for the decision log.

use crate::ledger::decisions::{LoggedDecision, verdict};

record! {
    /// A row of the decision log as it is written.
    struct DecisionRecord of "decision" {
        decision_id: String,
        reservation_id: Option<String>,
        workspace_id: String,
        decided_at: i64,
        verdict: String,
        facts: Vec<u8>,
    }
}

impl From<&LoggedDecision> for DecisionRecord {
    fn from(logged: &LoggedDecision) -> Self {
        Self {
            decision_id: logged.decision.to_string(),
            reservation_id: logged.reservation.map(|id| id.to_string()),
            workspace_id: logged.workspace.to_string(),
            decided_at: logged.decided_at.micros(),
            verdict: verdict(logged.is_denial).to_owned(),
            facts: logged.facts.clone(),
        }
    }
}
