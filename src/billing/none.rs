//! No provider: batches are sealed and can be looked at, and nobody is told.

use super::{Answer, Outgoing, Provider, SummaryQuery, Terms, Untold};
use async_trait::async_trait;

/// What a service without configuration does.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProvider;

/// What it answers to whoever calls it although it says that it sends nothing.
fn nobody() -> Answer {
    Answer::Rejected {
        reason: "there is no billing provider".to_owned(),
    }
}

#[async_trait]
impl Provider for NoProvider {
    fn name(&self) -> &'static str {
        "none"
    }

    fn terms(&self) -> Terms {
        Terms::NONE
    }

    async fn send(&self, _: &Outgoing) -> Answer {
        nobody()
    }

    async fn summary(&self, _: &SummaryQuery) -> Result<Option<i64>, Untold> {
        Ok(None)
    }
}
