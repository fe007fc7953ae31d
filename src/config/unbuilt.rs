//! What settings name and this build does not have yet. The only place that says so: whoever builds a part takes its row away.

use super::settings::Settings;

/// Settings that are read, and change nothing yet.
pub(super) fn unused(settings: &Settings) -> Vec<String> {
    let rows = [
        (settings.embeddings_url.is_some(), "WEIR_EMBEDDINGS_URL"),
        (settings.stripe_webhook_secret.is_some(), "WEIR_STRIPE_WEBHOOK_SECRET"),
    ];
    rows.iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, what)| format!("{what} has no effect in this build yet"))
        .collect()
}
