//! What a caller asks of authorize: the body, read strictly and made an [`Ask`].

use super::ask_cache::CacheAsk;
use super::call::Call;
use super::json::{OpenObject, canonical};
use super::problem::Problem;
use crate::decision::amount::Count;
use crate::decision::ask::{AUTO, Ask, CALLS_MAX, HOLD_SECONDS_MAX, REQUESTS_MAX};
use crate::decision::detour::{MAX_DELAY_SECONDS_MAX, can_be_batched};
use crate::decision::id::{Feature, ModelId, Provider, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::pointer;
use crate::decision::price::Mode;
use crate::decision::tokens::{self, Input, Message};
use crate::flow::authorize::Request;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

const ATTRIBUTES_MAX: usize = 32;
/// The longest text of an attribute.
const ATTRIBUTE_CHARS_MAX: usize = 1_024;
const TAGS_MAX: usize = 16;
const TAG_CHARS_MAX: usize = 128;
const EXCLUDED_MAX: usize = 32;
/// A text beyond this is counted on a thread that may take its time.
const COUNT_INLINE_BYTES_MAX: usize = 4 << 10;

/// What the caller asks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"workspace_id": "ws_456", "user_id": "usr_123", "feature": "document_summarization", "model": "claude-sonnet-4-5",
    "request_id": "7f3c1d2e", "input_tokens": 4521, "max_output_tokens": 1024}))]
pub struct AuthorizeRequest {
    /// May be absent where the credential is bound to a workspace.
    #[schema(value_type = Option<String>, example = "ws_456", max_length = 128)]
    workspace_id: Option<WorkspaceId>,
    #[schema(value_type = Option<String>, example = "usr_123", max_length = 128)]
    user_id: Option<UserId>,
    #[schema(value_type = String, example = "document_summarization", max_length = 128)]
    feature: Feature,
    /// A model's id or alias, or `auto`: the routing rules choose.
    #[schema(value_type = String, example = "claude-sonnet-4-5", max_length = 128)]
    model: ModelId,
    /// One attempt; also the idempotency key when the header is absent.
    #[schema(value_type = Option<String>, max_length = 255)]
    request_id: Option<RequestId>,
    /// Exactly one of `input_tokens` and `input`.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 68719476736i64, example = 4521)]
    input_tokens: Option<Count>,
    /// A text or chat messages, to be counted here.
    #[schema(value_type = Option<Object>)]
    input: Option<InputIn>,
    /// Absent: what answers of this workspace, feature and model are usually at most.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 68719476736i64, example = 1024)]
    max_output_tokens: Option<Count>,
    /// Permits an answer that is cut to what fits, down to this length.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 68719476736i64)]
    min_output_tokens: Option<Count>,
    mode: Option<Mode>,
    /// The request can wait for the provider's batch.
    allow_batch: Option<bool>,
    /// One hold for a provider batch of so many requests; the amounts are totals.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100000)]
    requests: Option<Count>,
    /// Flat scalars for routing rules.
    #[schema(value_type = Option<Object>)]
    attributes: Option<OpenObject>,
    /// Short strings for reports.
    #[schema(value_type = Option<Object>)]
    tags: Option<OpenObject>,
    /// How long the hold lives: 600 by default, 90,000 for a batch.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 604800)]
    hold_seconds: Option<Count>,
    /// Draws this call's need from the hold of a run's parent, an earlier reservation of the workspace: no budget is asked again.
    #[schema(value_type = Option<String>)]
    parent_reservation_id: Option<ReservationId>,
    /// Opens a run: the reservation is the parent of at most so many calls, which name it.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1000000, example = 20)]
    max_calls: Option<Count>,
    /// How long the answer may take. From a day on the request can wait for the provider's batch, and without `mode` it is one where the
    /// model has a price for that.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604800, example = 86400)]
    max_delay_seconds: Option<Count>,
    /// The second try of this reservation of the workspace, which was settled with a `quality_score` below what its authorize had offered;
    /// the model that was offered then is asked. Once for each reservation.
    #[schema(value_type = Option<String>)]
    escalate_from: Option<ReservationId>,
    #[schema(value_type = Option<Vec<String>>)]
    exclude_providers: Option<Vec<Provider>>,
    #[schema(value_type = Option<Object>)]
    pub(super) cache: Option<CacheAsk>,
}

/// A text or chat messages, and a digest of all that they say: counting takes less of them.
#[derive(Debug)]
struct InputIn {
    input: Input,
    digest: [u8; 32],
}

impl<'de> Deserialize<'de> for InputIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InputVisitor;
        impl<'de> serde::de::Visitor<'de> for InputVisitor {
            type Value = InputIn;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or a list of chat messages")
            }
            fn visit_str<E>(self, text: &str) -> Result<InputIn, E> {
                Ok(InputIn {
                    input: Input::Text(text.to_owned()),
                    digest: Sha256::digest(text).into(),
                })
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<InputIn, A::Error> {
                let mut messages = Vec::new();
                let mut hash = Sha256::new();
                while let Some(message) = seq.next_element::<OpenObject>()? {
                    canonical::digest_members(&mut hash, &message);
                    messages.push(self::message(&message));
                }
                Ok(InputIn {
                    input: Input::Messages(messages),
                    digest: hash.finalize().into(),
                })
            }
        }
        from.deserialize_any(InputVisitor)
    }
}

/// The texts of one chat message in the shapes of the common providers: every string counts but the type tags; other parts are counted.
fn message(object: &Map<String, Value>) -> Message {
    let mut message = Message::default();
    for (key, value) in object {
        match value {
            Value::String(text) if key != "type" => message.texts.push(text.clone()),
            Value::Array(parts) => parts.iter().for_each(|part| add_part(&mut message, part)),
            Value::Object(_) => add_part(&mut message, value),
            _ => {}
        }
    }
    message
}

fn add_part(message: &mut Message, part: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let found = match part {
        Value::String(text) => Some(text.clone()),
        Value::Object(part) => part.get("text").and_then(text).or_else(|| match part.get("content") {
            Some(content) => text(content).or_else(|| Some(content.to_string())),
            None if part.contains_key("function") || part.contains_key("input") => serde_json::to_string(part).ok(),
            None => None,
        }),
        other => Some(other.to_string()),
    };
    match found {
        Some(text) => message.texts.push(text),
        None => message.other_parts += 1,
    }
}

/// What a body asks; `key` makes the request's id of the one that the body names.
pub(super) async fn request(
    call: &Call,
    body: AuthorizeRequest,
    key: impl FnOnce(Option<RequestId>) -> Result<RequestId, Problem>,
    dry_run: bool,
) -> Result<Request, Problem> {
    let workspace = call.workspace(body.workspace_id.clone())?;
    let request_id = key(body.request_id.clone())?;
    let requests = body.requests.map_or(1, Count::get);
    within("/requests", requests, 1, REQUESTS_MAX)?;
    if let Some(seconds) = body.hold_seconds {
        within("/hold_seconds", seconds.get(), 1, HOLD_SECONDS_MAX)?;
    }
    let (most, least) = (body.max_output_tokens, body.min_output_tokens);
    if let (Some(most), Some(least)) = (most, least)
        && least > most
    {
        return Err(Problem::unacceptable("/min_output_tokens", "must not be above max_output_tokens"));
    }
    if let Some(seconds) = body.max_delay_seconds {
        within("/max_delay_seconds", seconds.get(), 0, MAX_DELAY_SECONDS_MAX)?;
    }
    let is_named = body.request_id.is_some() || call.idempotency_key()?.is_some();
    let cache = body.cache.as_ref().map(CacheAsk::asked).transpose()?;
    let excluded = body.exclude_providers.clone().unwrap_or_default();
    if excluded.len() > EXCLUDED_MAX {
        return Err(Problem::unacceptable(
            "/exclude_providers",
            format!("may name at most {EXCLUDED_MAX}"),
        ));
    }
    if let Some(calls) = body.max_calls {
        within("/max_calls", calls.get(), 1, CALLS_MAX)?;
        if body.parent_reservation_id.is_some() {
            return Err(Problem::unacceptable(
                "/max_calls",
                "opens a run, and a call of one cannot; leave it out, or parent_reservation_id",
            ));
        }
    }
    let attributes = attributes(body.attributes.as_ref())?;
    let tags = tags(body.tags.as_ref())?;
    let fingerprint = fingerprint(&body, &workspace);
    let (parent, max_calls) = (body.parent_reservation_id, body.max_calls.map(Count::get));
    let (input_tokens, estimated) = input_tokens(call, &body).await?;
    let max_delay_seconds = body.max_delay_seconds.map(Count::get);
    let can_wait = max_delay_seconds.is_some_and(can_be_batched);
    let allow_batch = body.allow_batch.unwrap_or(false) || can_wait;
    let defers = can_wait && body.mode.is_none();
    let escalate_from = body.escalate_from;
    let text = text(call, &body);
    let ask = Ask {
        workspace,
        user: body.user_id,
        feature: body.feature,
        model: body.model,
        request_id,
        input_tokens,
        input_tokens_estimated: estimated,
        max_output_tokens: most.map(Count::get),
        min_output_tokens: least.map(Count::get),
        mode: body.mode.unwrap_or_default(),
        allow_batch,
        requests,
        hold_seconds: body.hold_seconds.map(Count::get),
        exclude_providers: excluded,
        tags,
    };
    Ok(Request {
        ask: Arc::new(ask),
        attributes,
        fingerprint,
        is_named,
        parent,
        max_calls,
        dry_run,
        text,
        may_defer: allow_batch,
        defers,
        max_delay_seconds,
        escalate_from,
        accept_language: call.accept_language(),
        cache: cache.map(Box::new),
    })
}

/// What the caller's words are, where a routing rule judges by them; otherwise nobody looks.
fn text(call: &Call, body: &AuthorizeRequest) -> Option<Arc<str>> {
    let policy = call.service.policy.load();
    let asked = Some(&body.model).filter(|model| model.as_str() != AUTO);
    if !policy.routing.reads_text(asked) {
        return None;
    }
    match &body.input {
        Some(given) => Some(given.input.text().into()),
        None => body.cache.as_ref()?.text().cloned(),
    }
}

fn within(pointer: &str, n: i64, min: i64, max: i64) -> Result<(), Problem> {
    if (min..=max).contains(&n) {
        Ok(())
    } else {
        Err(Problem::unacceptable(pointer, format!("must be from {min} to {max}")))
    }
}

async fn input_tokens(call: &Call, body: &AuthorizeRequest) -> Result<(i64, bool), Problem> {
    match (&body.input_tokens, &body.input) {
        (Some(tokens), None) => Ok((tokens.get(), false)),
        (None, Some(InputIn { input, .. })) => {
            let model = if body.model.as_str() == AUTO {
                None
            } else {
                call.service.policy.load().catalogue.find(body.model.as_str()).cloned()
            };
            if call.body.len() <= COUNT_INLINE_BYTES_MAX {
                return Ok((tokens::count(input, model.as_deref()), true));
            }
            let input = input.clone();
            let counted = actix_web::web::block(move || tokens::count(&input, model.as_deref())).await;
            Ok((counted.map_err(|_| Problem::overloaded())?, true))
        }
        (None, None) => Err(Problem::malformed("/input_tokens", "one of input_tokens and input is required")),
        (Some(_), Some(_)) => Err(Problem::malformed("/input", "give either input_tokens or input, not both")),
    }
}

fn attributes(given: Option<&OpenObject>) -> Result<Map<String, Value>, Problem> {
    let Some(given) = given else { return Ok(Map::new()) };
    if given.len() > ATTRIBUTES_MAX {
        return Err(Problem::unacceptable(
            "/attributes",
            format!("may have at most {ATTRIBUTES_MAX} members"),
        ));
    }
    for (name, value) in given.iter() {
        if value.is_object() || value.is_array() {
            return Err(Problem::unacceptable(
                pointer::member("/attributes", name),
                "must be a string, a number, a boolean or null",
            ));
        }
        // Rules search in them, so their length is a part of what a rule may cost.
        if value.as_str().is_some_and(|text| text.chars().count() > ATTRIBUTE_CHARS_MAX) {
            return Err(Problem::unacceptable(
                pointer::member("/attributes", name),
                format!("may have at most {ATTRIBUTE_CHARS_MAX} characters"),
            ));
        }
    }
    Ok((**given).clone())
}

/// Tags are short strings; shared with settle-less usage.
pub(super) fn tags(given: Option<&OpenObject>) -> Result<BTreeMap<String, String>, Problem> {
    let Some(given) = given else { return Ok(BTreeMap::new()) };
    if given.len() > TAGS_MAX {
        return Err(Problem::unacceptable("/tags", format!("may have at most {TAGS_MAX} members")));
    }
    let tag = |(name, value): (&String, &Value)| match value.as_str() {
        Some(text) if is_short(text) && is_short(name) && !name.is_empty() => Ok((name.clone(), text.to_owned())),
        Some(_) => Err(Problem::unacceptable(
            pointer::member("/tags", name),
            format!("names and values have at most {TAG_CHARS_MAX} printable characters"),
        )),
        None => Err(Problem::malformed(pointer::member("/tags", name), "must be a string")),
    };
    given.iter().map(tag).collect()
}

/// The same bounds for tags that are texts already; what is wrong, with its place.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    if tags.len() > TAGS_MAX {
        return Err(("/tags".to_owned(), format!("may have at most {TAGS_MAX} members")));
    }
    match tags
        .iter()
        .find(|(name, value)| name.is_empty() || !is_short(name) || !is_short(value))
    {
        Some((name, _)) => Err((
            pointer::member("/tags", name),
            format!("names and values have at most {TAG_CHARS_MAX} printable characters"),
        )),
        None => Ok(()),
    }
}

fn is_short(text: &str) -> bool {
    text.chars().count() <= TAG_CHARS_MAX && !text.chars().any(char::is_control)
}

/// Two requests with the same parsed values have the same fingerprint, however their members were ordered.
fn fingerprint(body: &AuthorizeRequest, workspace: &WorkspaceId) -> u128 {
    let scalars = (
        (workspace, &body.user_id, &body.feature, &body.model),
        (
            body.input_tokens.map(Count::get),
            body.input.as_ref().map(|input| input.digest),
            body.max_output_tokens.map(Count::get),
            body.min_output_tokens.map(Count::get),
        ),
        (
            body.mode,
            body.allow_batch,
            body.requests.map(Count::get),
            body.hold_seconds.map(Count::get),
        ),
        &body.exclude_providers,
    );
    // Plain data into memory cannot fail.
    let bytes = postcard::to_extend(&scalars, Vec::with_capacity(256)).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(bytes);
    for (name, object) in [("attributes", &body.attributes), ("tags", &body.tags)] {
        if let Some(object) = object {
            hash.update(name);
            canonical::digest_members(&mut hash, object);
        }
    }
    if let Some(cache) = &body.cache {
        cache.add_to(&mut hash);
    }
    if body.parent_reservation_id.is_some() || body.max_calls.is_some() {
        let run = (&body.parent_reservation_id, body.max_calls.map(Count::get));
        hash.update("run");
        hash.update(postcard::to_allocvec(&run).unwrap_or_default());
    }
    for (name, value) in [
        ("max_delay_seconds", body.max_delay_seconds.map(|seconds| seconds.get().to_string())),
        ("escalate_from", body.escalate_from.map(|id| id.to_string())),
    ] {
        if let Some(value) = value {
            hash.update(name);
            hash.update(value);
        }
    }
    let mut first = [0u8; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(first)
}
