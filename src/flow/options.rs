//! What settings say of the parts that have any: made by `cli` from the settings, by tests by hand, handed down by the composition root.

use super::billing::BillingOptions;
pub use crate::cache::embedder::EmbeddingSettings;
use crate::decision::address::Range;
use crate::decision::webhook::retry::Schedule;
use crate::decision::webhook::seal::SealKey;
use crate::router::RouterSettings;
use std::fmt;
use std::sync::Arc;

/// The default is what a service without configuration does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The language model that rules may ask; `None`: there is none.
    pub router: Option<RouterSettings>,
    /// Where vectors of prompts come from; `None`: only from callers.
    pub embeddings: Option<EmbeddingSettings>,
    pub billing: BillingOptions,
    /// What Stripe signs its events with; `None`: its events are not taken.
    pub stripe_webhook_secrets: Option<SigningSecrets>,
    pub webhooks: WebhookOptions,
}

/// Secrets that another party signs with: one, or while it is rolled the new and the old one.
#[derive(Clone)]
pub struct SigningSecrets(Arc<[String]>);

impl SigningSecrets {
    /// From a list with commas, blanks around them passed over; `None`: there is nothing in it.
    pub fn parse(text: &str) -> Option<Self> {
        let each = text.split(',').map(str::trim).filter(|secret| !secret.is_empty());
        let secrets: Vec<String> = each.map(str::to_owned).collect();
        (!secrets.is_empty()).then(|| Self(secrets.into()))
    }

    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|secret| secret.as_bytes())
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Clone, Debug, Default)]
pub struct WebhookOptions {
    /// Addresses that may be reached although they are private.
    pub allowed: Vec<Range>,
    pub schedule: Schedule,
    /// What seals the secrets of endpoints; without it there can be none.
    pub seal: Option<Arc<SealKey>>,
}
