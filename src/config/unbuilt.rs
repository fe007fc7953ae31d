//! What settings name and this build does not have yet. The only place that says so: whoever builds a part takes its row away.

use super::settings::Settings;
use super::value::BillingProvider;

/// Settings that promise what cannot be kept: starting regardless would be a lie about money or access.
pub(super) fn refused(settings: &Settings) -> Vec<String> {
    let rows = [(
        settings.billing_provider != BillingProvider::None,
        "WEIR_BILLING_PROVIDER",
        "leave it at none; the ledger keeps what is to be billed",
    )];
    let told = |(_, what, instead): &(bool, &str, &str)| format!("{what} is not part of this build yet; {instead}");
    rows.iter().filter(|(is_set, ..)| *is_set).map(told).collect()
}

/// Settings that are read, and change nothing yet.
pub(super) fn unused(settings: &Settings) -> Vec<String> {
    let rows = [(settings.embeddings_url.is_some(), "WEIR_EMBEDDINGS_URL")];
    rows.iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, what)| format!("{what} has no effect in this build yet"))
        .collect()
}
