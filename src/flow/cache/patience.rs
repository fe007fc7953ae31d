//! How long a decision waits for the ledger before an answer is given: a slow one makes a miss, as one that is away does. Once something is being
//! posted it is waited for, since whether a post that was given up is there is unknown.

use crate::ledger::LedgerError;
use std::time::Duration;

/// Longer than a database that is well takes, and shorter than what a model would take to answer.
const LEDGER_WITHIN: Duration = Duration::from_millis(250);

/// What the ledger says in time; `None`: it was late, or failed.
pub(super) async fn within<T>(asking: impl Future<Output = Result<T, LedgerError>>) -> Option<T> {
    match tokio::time::timeout(LEDGER_WITHIN, asking).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the ledger was not asked before an answer was given"
            );
            None
        }
        Err(_) => {
            metrics::counter!("weir_cache_ledger_late_total").increment(1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_longer_than_a_decision_waits_is_no_answer() {
        assert_eq!(within(async { Ok(7) }).await, Some(7));
        let begun = tokio::time::Instant::now();
        assert_eq!(within(std::future::pending::<Result<(), _>>()).await, None);
        assert!(begun.elapsed() >= LEDGER_WITHIN);
        let failed = async { Err::<(), _>(LedgerError::Corrupt { what: "a row".to_owned() }) };
        assert_eq!(within(failed).await, None);
    }
}
