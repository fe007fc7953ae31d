//! What a caller asks of the cache, as a part of authorize.

use super::json::{OpenObject, canonical};
use super::problem::Problem;
use crate::decision::cache::key::Prompt;
use crate::flow::cache::{Asked, Vector};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use utoipa::ToSchema;

const EMBEDDING_NUMBERS_MAX: usize = 4_096;
/// The longest name of a model that made an embedding.
const EMBEDDING_MODEL_CHARS_MAX: usize = 255;

/// What tells whether there is an answer already. Prompts are compared as they are, spaces included; `params` by their values. All of it, the
/// workspace, the feature and the model's family must be alike, and for a similar prompt the model of the vectors too.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheAsk {
    /// A text, or chat messages.
    #[schema(value_type = Object, required = true)]
    prompt: Option<PromptIn>,
    /// The system prompt, where it is none of the messages.
    system: Option<String>,
    /// Whatever else changes the answer, such as the temperature.
    #[schema(value_type = Option<Object>)]
    params: Option<OpenObject>,
    /// The caller's own vector of the prompt; absent: that of the endpoint in the settings, where there is one.
    embedding: Option<Vec<f64>>,
    /// What made `embedding`.
    #[schema(max_length = 255)]
    embedding_model: Option<String>,
    /// `user`: the answer is personal, whatever the plan says. Without `user_id` the cache is then off.
    scope: Option<crate::decision::plan::Scope>,
}

/// A prompt to find an answer by.
#[derive(Debug)]
struct PromptIn(Prompt);

impl<'de> Deserialize<'de> for PromptIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PromptVisitor;
        impl<'de> serde::de::Visitor<'de> for PromptVisitor {
            type Value = PromptIn;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or a list of chat messages")
            }
            fn visit_str<E>(self, text: &str) -> Result<PromptIn, E> {
                Ok(PromptIn(Prompt::of_text(text)))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<PromptIn, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = seq.next_element::<OpenObject>()? {
                    messages.push(message.into_inner());
                }
                Ok(PromptIn(Prompt::of_messages(&messages)))
            }
        }
        from.deserialize_any(PromptVisitor)
    }
}

impl CacheAsk {
    pub(super) fn asked(&self) -> Result<Asked, Problem> {
        const EMBEDDING: &str = "/cache/embedding";
        let vector = match &self.embedding {
            None if self.embedding_model.is_some() => {
                let detail = "says what made cache.embedding, which is missing";
                return Err(Problem::unacceptable("/cache/embedding_model", detail));
            }
            None => None,
            Some(numbers) if numbers.is_empty() || numbers.len() > EMBEDDING_NUMBERS_MAX => {
                let detail = format!("must have 1 to {EMBEDDING_NUMBERS_MAX} numbers");
                return Err(Problem::unacceptable(EMBEDDING, detail));
            }
            Some(numbers) => {
                let vector = Vector::of(numbers).ok_or_else(|| Problem::unacceptable(EMBEDDING, "must not be zeros alone"))?;
                Some((vector, self.embedding_model.clone()))
            }
        };
        if self
            .embedding_model
            .as_ref()
            .is_some_and(|model| model.chars().count() > EMBEDDING_MODEL_CHARS_MAX)
        {
            let detail = format!("may have at most {EMBEDDING_MODEL_CHARS_MAX} characters");
            return Err(Problem::unacceptable("/cache/embedding_model", detail));
        }
        let prompt = self
            .prompt
            .as_ref()
            .ok_or_else(|| Problem::malformed("/cache/prompt", "is required"))?;
        Ok(Asked {
            prompt: prompt.0.clone(),
            system: self.system.clone(),
            params: self.params.as_ref().map(|params| (**params).clone()),
            scope: self.scope,
            vector,
        })
    }

    /// All its text, where it is nothing else.
    pub(super) fn text(&self) -> Option<&Arc<str>> {
        self.prompt.as_ref()?.0.text()
    }

    /// Takes all that is asked into the fingerprint of a request.
    pub(super) fn add_to(&self, hash: &mut Sha256) {
        let scalars = (
            self.prompt.as_ref().map(|prompt| prompt.0.digest()),
            &self.system,
            &self.embedding,
            &self.embedding_model,
            self.scope,
        );
        hash.update("cache");
        hash.update(postcard::to_allocvec(&scalars).unwrap_or_default());
        if let Some(params) = &self.params {
            canonical::digest_members(hash, params);
        }
    }
}
