//! What settings say of the parts that have any: made by `cli` from the settings, by tests by hand, handed down by the composition root.

use super::billing::BillingOptions;
use crate::decision::address::Range;
use crate::decision::webhook::retry::Schedule;
use crate::decision::webhook::seal::SealKey;
use std::sync::Arc;

/// The default is what a service without configuration does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub billing: BillingOptions,
    pub webhooks: WebhookOptions,
}

#[derive(Clone, Debug, Default)]
pub struct WebhookOptions {
    /// Addresses that may be reached although they are private.
    pub allowed: Vec<Range>,
    pub schedule: Schedule,
    /// What seals the secrets of endpoints; without it there can be none.
    pub seal: Option<Arc<SealKey>>,
}
