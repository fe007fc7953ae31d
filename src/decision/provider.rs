//! Providers as an operator sees them: whether requests may go there.

use super::ask::Ask;
use super::id::Provider;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderState {
    /// Requests may go there.
    #[default]
    Auto,
    /// New requests are served elsewhere or not at all, as if their callers had excluded it. What is held there may end in peace.
    Drained,
}

/// What an operator said of a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderSetting {
    pub provider: Provider,
    pub state: ProviderState,
    pub changed_at: Timestamp,
}

/// The ask with these providers excluded too.
pub fn avoiding(ask: &Arc<Ask>, drained: &[Provider]) -> Arc<Ask> {
    let more: Vec<&Provider> = drained.iter().filter(|one| !ask.exclude_providers.contains(one)).collect();
    if more.is_empty() {
        return ask.clone();
    }
    let mut ask = Ask::clone(ask);
    ask.exclude_providers.extend(more.into_iter().cloned());
    Arc::new(ask)
}
