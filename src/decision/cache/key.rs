//! Keys: which requests may share an answer.
//!
//! An [`Identity`] is everything about a request but its prompt: workspace, user where the answers are personal, feature, model family, system
//! prompt, parameters. It is a digest of these parts, each with its length before it, so no two sets of parts make one identity but by a
//! collision of SHA-256. The exact [`Key`] adds the whole prompt; a [`Partition`] of similar prompts adds all of a prompt but the words of its
//! last message, and which model made the vectors. Nothing is ever looked up under less than one of them.
//!
//! Prompts are compared as they were sent: neither spaces nor forms of Unicode are made alike. JSON is compared as values.

use crate::decision::canonical;
use crate::decision::id::{Feature, UserId, WorkspaceId};
use crate::decision::plan::Scope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

const DIGEST_BYTES: usize = 32;

/// A prompt as far as answers are told apart by it.
#[derive(Clone, PartialEq, Debug)]
pub struct Prompt {
    /// Of all that it says.
    digest: [u8; DIGEST_BYTES],
    /// Of what of it must be alike even in similar prompts: everything but the words that are compared.
    shape: [u8; DIGEST_BYTES],
    /// All its text; `None`: it has parts that are no text, such as images.
    text: Option<Arc<str>>,
    /// The words that similar prompts are found by; `None`: there are none by which it could be told what is asked.
    compared: Option<Arc<str>>,
}

impl Prompt {
    pub fn of_text(text: &str) -> Self {
        let words: Arc<str> = text.into();
        Self {
            digest: Parts::of("text").part(text.as_bytes()).digest(),
            shape: Parts::of("text").digest(),
            text: Some(words.clone()),
            compared: Some(words),
        }
    }

    /// Chat messages. Only the last one is compared by its meaning, and only if the user says it: who instructs the model, what was said
    /// before and what tools brought make the same words another question, and a vector of the words may see nothing of it.
    pub fn of_messages(messages: &[Map<String, Value>]) -> Self {
        let (mut whole, mut shape) = (Sha256::new(), Sha256::new());
        let mut texts: Option<Vec<&str>> = Some(Vec::new());
        for message in messages {
            canonical::digest_members(&mut whole, message);
            texts = texts.and_then(|mut texts| {
                texts.extend(texts_of(message.get("content"))?);
                Some(texts)
            });
        }
        let asks = |message: &&Map<String, Value>| message.get("role").and_then(Value::as_str) == Some("user");
        let question = messages.last().filter(asks);
        let before = &messages[..messages.len() - usize::from(question.is_some())];
        before.iter().for_each(|message| canonical::digest_members(&mut shape, message));
        let mut rest = question.cloned().unwrap_or_default();
        rest.shift_remove("content");
        let mut of_question = Sha256::new();
        canonical::digest_members(&mut of_question, &rest);
        let text: Option<Arc<str>> = texts.map(|texts| texts.join("\n").into());
        let compared = match question {
            Some(_) if messages.len() == 1 => text.clone(),
            Some(question) => texts_of(question.get("content")).map(|texts| texts.join("\n").into()),
            None => None,
        };
        Self {
            digest: Parts::of("messages").part(&whole.finalize()).digest(),
            shape: Parts::of("messages").part(&shape.finalize()).part(&of_question.finalize()).digest(),
            text,
            compared,
        }
    }

    /// Of all that it says, for whoever tells requests apart.
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        self.digest
    }

    pub fn text(&self) -> Option<&Arc<str>> {
        self.text.as_ref()
    }

    pub fn compared(&self) -> Option<&Arc<str>> {
        self.compared.as_ref()
    }
}

/// The texts of a message's content; `None`: not all of it is text.
fn texts_of(content: Option<&Value>) -> Option<Vec<&str>> {
    match content {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text]),
        Some(Value::Array(parts)) => parts.iter().map(text_of_part).collect(),
        Some(_) => None,
    }
}

fn text_of_part(part: &Value) -> Option<&str> {
    let part = part.as_object()?;
    let is_text = part
        .get("type")
        .and_then(Value::as_str)
        .is_none_or(|kind| matches!(kind, "text" | "input_text"));
    // A part with more than its text, such as a mark for the provider's own cache, says nothing more to the model.
    part.get("text").and_then(Value::as_str).filter(|_| is_text)
}

/// Everything about a request but its prompt that answers are told apart by.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    pub workspace: &'a WorkspaceId,
    /// Only where answers are personal.
    pub user: Option<&'a UserId>,
    pub scope: Scope,
    pub feature: &'a Feature,
    pub family: &'a str,
    pub system: Option<&'a str>,
    pub params: Option<&'a Map<String, Value>>,
}

/// Who may share answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; DIGEST_BYTES]);

impl Identity {
    pub fn of(told: &Told<'_>) -> Self {
        let mut parts = Parts::of("identity");
        parts.part(told.workspace.as_str().as_bytes());
        match told.scope {
            Scope::Workspace => parts.part(b"workspace"),
            Scope::User => parts.part(b"user"),
        };
        parts.maybe(told.user.map(|user| user.as_str().as_bytes()));
        parts.part(told.feature.as_str().as_bytes()).part(told.family.as_bytes());
        parts.maybe(told.system.map(str::as_bytes));
        // No parameters and an empty object say the same.
        let mut params = Sha256::new();
        canonical::digest_members(&mut params, told.params.unwrap_or(&Map::new()));
        Self(parts.part(&params.finalize()).digest())
    }

    /// Under which the answer to this very prompt is kept.
    pub fn key(&self, prompt: &Prompt) -> Key {
        Key(Parts::of("exact").part(&self.0).part(&prompt.digest).digest())
    }

    /// Among which answers one to a similar prompt is looked for: those of vectors of one model and length.
    pub fn partition(&self, prompt: &Prompt, embedding_model: Option<&str>, dimensions: usize) -> Partition {
        let mut parts = Parts::of("similar");
        parts.part(&self.0).part(&prompt.shape);
        parts.maybe(embedding_model.map(str::as_bytes));
        Partition(parts.part(&(dimensions as u64).to_be_bytes()).digest())
    }
}

macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; DIGEST_BYTES]);

        impl $name {
            pub const fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
                Self(bytes)
            }

            pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )* };
}

digests! {
    /// Under which one answer is kept.
    Key;
    /// Among which similar prompts are looked for.
    Partition;
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key(self.0).fmt(f)
    }
}

/// A digest of parts, each with its length before it, so that no other division of the same bytes makes it.
struct Parts(Sha256);

impl Parts {
    fn of(purpose: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.part(purpose.as_bytes());
        parts
    }

    fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// A part that may be missing, which is not the same as an empty one.
    fn maybe(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        self.0.update([u8::from(bytes.is_some())]);
        self.part(bytes.unwrap_or_default())
    }

    fn digest(&mut self) -> [u8; DIGEST_BYTES] {
        self.0.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prompt(json: &str) -> Prompt {
        let messages: Vec<Map<String, Value>> = serde_json::from_str(json).expect("messages");
        Prompt::of_messages(&messages)
    }

    #[test]
    fn equal_messages_are_one_prompt_however_they_are_written() {
        let one = prompt(r#"[{"role": "user", "content": "hi"}]"#);
        assert_eq!(one, prompt(r#"[{"content":"\u0068i","role":"user"}]"#));
        assert_eq!(one.text().map(|text| &**text), Some("hi"));
        for other in [
            r#"[{"role": "system", "content": "hi"}]"#,
            r#"[{"role": "user", "content": "hi "}]"#,
            r#"[{"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}]"#,
            r#"[{"role": "user", "content": ["hi"]}]"#,
        ] {
            assert_ne!(one.digest(), prompt(other).digest(), "{other}");
        }
        assert_ne!(one.digest(), Prompt::of_text("hi").digest());
    }

    #[test]
    fn what_is_no_text_has_a_text_of_nothing() {
        let image = prompt(
            r#"[{"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "u"}}]}]"#,
        );
        assert_eq!(image.text(), None);
        let parts = prompt(r#"[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]"#);
        assert_eq!(parts.text().map(|text| &**text), Some("a\nb"));
    }

    #[test]
    fn of_a_conversation_only_what_the_user_says_last_is_compared() {
        let talk = |system: &str, before: &str, last: &str| {
            prompt(&format!(
                r#"[{{"role": "system", "content": "{system}"}}, {{"role": "user", "content": "{before}"}},
                    {{"role": "assistant", "content": "yes"}}, {{"role": "user", "content": "{last}"}}]"#
            ))
        };
        let one = talk("be brief", "is it on?", "how do i reset it?");
        assert_eq!(one.compared().map(|text| &**text), Some("how do i reset it?"));
        assert_eq!(one.shape, talk("be brief", "is it on?", "how can i reset it?").shape);
        assert_ne!(one.shape, talk("be long", "is it on?", "how do i reset it?").shape);
        assert_ne!(one.shape, talk("be brief", "is it off?", "how do i reset it?").shape);
        for nobody_asks in [
            r#"[{"role": "system", "content": "be brief"}]"#,
            r#"[{"role": "user", "content": "how?"}, {"role": "tool", "content": "42"}]"#,
            r#"[{"content": "how?"}]"#,
            "[]",
        ] {
            assert_eq!(prompt(nobody_asks).compared(), None, "{nobody_asks}");
        }
        let named = prompt(r#"[{"role": "user", "name": "ann", "content": "how?"}]"#);
        assert_ne!(named.shape, prompt(r#"[{"role": "user", "name": "bob", "content": "how?"}]"#).shape);
    }

    /// Workspace, user, whether answers are personal, feature, family, system, parameters.
    type Drawn = (String, Option<String>, bool, String, String, Option<String>, Map<String, Value>);

    /// Parts from few values, so that two of them are often alike.
    fn drawn() -> impl Strategy<Value = Drawn> {
        let of = |values: &'static [&'static str]| prop::sample::select(values).prop_map(str::to_owned);
        let name = move || of(&["a", "b", "ab", "a/b"]);
        let params = of(&["{}", r#"{"t":1}"#, r#"{"t":0.5}"#, r#"{"t":"1"}"#]);
        let params = params.prop_map(|params| serde_json::from_str(&params).expect("an object"));
        let system = prop::option::of(of(&["", "a", "b", "ab"]));
        let drawn = (name(), prop::option::of(name()), any::<bool>(), name(), name(), system, params);
        // A user is told only where answers are personal.
        drawn.prop_map(|(workspace, user, personal, feature, family, system, params)| {
            (workspace, user.filter(|_| personal), personal, feature, family, system, params)
        })
    }

    /// Two of them, in half of the cases the same one.
    fn pair() -> impl Strategy<Value = (Drawn, Drawn)> {
        prop_oneof![(drawn(), drawn()), drawn().prop_map(|one| (one.clone(), one))]
    }

    fn identity((workspace, user, personal, feature, family, system, params): &Drawn) -> Identity {
        let user = user.as_ref().map(|user| UserId::parse(user).expect("a name"));
        Identity::of(&Told {
            workspace: &WorkspaceId::parse(workspace).expect("a name"),
            user: user.as_ref(),
            scope: if *personal { Scope::User } else { Scope::Workspace },
            feature: &Feature::parse(feature).expect("a name"),
            family,
            system: system.as_deref(),
            params: Some(params),
        })
    }

    /// A conversation from few words, so that two are often alike.
    fn conversation() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let role = prop::sample::select(&["system", "developer", "user", "assistant", "tool"][..]);
        let content = prop::sample::select(&["", "a", "b", "ab"][..]);
        prop::collection::vec((role, content), 0..4)
    }

    proptest! {
        /// Similar prompts share all that was said, and by whom, but the last words of the user.
        #[test]
        fn no_conversation_is_like_another_but_by_its_last_words(one in conversation(), other in conversation()) {
            let read = |talk: &[(&str, &str)]| {
                let message = |(role, content): &(&str, &str)| {
                    serde_json::json!({"role": role, "content": content}).as_object().expect("an object").clone()
                };
                Prompt::of_messages(&talk.iter().map(message).collect::<Vec<_>>())
            };
            let but_last_words = |talk: &[(&'static str, &'static str)]| {
                let mut talk = talk.to_vec();
                if let Some((_, content)) = talk.last_mut().filter(|(role, _)| *role == "user") {
                    *content = "whatever";
                }
                talk
            };
            let (p, q) = (read(&one), read(&other));
            prop_assert_eq!(p.shape == q.shape, but_last_words(&one) == but_last_words(&other));
            prop_assert_eq!(p.digest == q.digest, one == other);
        }

        /// Every pair of two workspaces, users, features, families, systems and parameters: nothing is shared unless all are alike.
        #[test]
        fn nothing_is_shared_across_any_part((one, other) in pair(), p in "[ab]{0,2}", q in "[ab]{0,2}", dims in 1usize..3) {
            let (a, b) = (identity(&one), identity(&other));
            prop_assert_eq!(a == b, one == other);
            let (p, q) = (Prompt::of_text(&p), Prompt::of_text(&q));
            prop_assert_eq!(a.key(&p) == b.key(&q), one == other && p == q);
            // Similar prompts share a partition, whatever they say; those with other vectors do not.
            prop_assert_eq!(a.partition(&p, Some("m"), dims) == b.partition(&q, Some("m"), dims), one == other);
            for (model, length) in [(Some("m"), dims + 1), (Some("n"), dims), (None, dims)] {
                prop_assert_ne!(a.partition(&p, Some("m"), dims), b.partition(&q, model, length));
            }
        }
    }
}
