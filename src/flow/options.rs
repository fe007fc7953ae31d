//! What settings say of the parts that have any: made by `cli` from the settings, by tests by hand, handed down by the composition root.

pub use crate::cache::embedder::EmbeddingSettings;

/// The default is what a service without configuration does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where vectors of prompts come from; `None`: only from callers.
    pub embeddings: Option<EmbeddingSettings>,
}
