//! `POST /v1/events`: the same as `/v1/usage` as CloudEvents 1.0, in structured, batch and binary mode. `subject` is the workspace,
//! `data` a usage entry, and the request id comes from source and id.

use super::call::{Answer, Call, percent_decoded};
use super::json::{self, OpenObject};
use super::problem::Problem;
use super::usage::{ENTRIES_MAX, UsageRequest, batch, one};
use crate::decision::id::{RequestId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::flow::record::Use;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const SPEC_VERSION: &str = "1.0";
/// The spec allows any length; beyond this nothing identifies better.
const ATTRIBUTE_CHARS_MAX: usize = 1_024;

/// The attributes of an event that matter here.
struct Event {
    id: String,
    source: String,
    subject: Option<String>,
    time: Option<String>,
    data: Value,
}

/// Records usage that comes as CloudEvents.
#[utoipa::path(post, path = "/v1/events", tag = "hot path",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same request under the same key is answered alike for a day.")),
    request_body(content = Object, description = "A CloudEvent (structured or binary mode) or a batch of up to 1,000."),
    responses((status = 200, description = "As `/v1/usage` answers.", body = super::usage::RecordAnswer)))]
pub async fn events(call: Call) -> Answer {
    let header = call
        .request
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        STRUCTURED => {
            call.single()?;
            let object: OpenObject = json::read_body(&call.body)?;
            one(&call, structured(object.into_inner())?.into_use(&call)?).await
        }
        BATCH => {
            let events: Vec<Value> = json::read_body(&call.body)?;
            if events.is_empty() || events.len() > ENTRIES_MAX {
                return Err(Problem::unacceptable("", format!("a batch has 1 to {ENTRIES_MAX} events")));
            }
            let read = |event| structured(json::from_value::<OpenObject>(event)?.into_inner())?.into_use(&call);
            let uses = events.into_iter().map(read);
            batch(&call, uses.collect()).await
        }
        _ if call.request.headers().contains_key("ce-specversion") => {
            call.single()?;
            let data: OpenObject = call.json()?;
            one(&call, binary(&call, data.into_inner())?.into_use(&call)?).await
        }
        _ => Err(Problem::unsupported_media(&[
            STRUCTURED,
            BATCH,
            "application/json with ce- headers",
        ])),
    }
}

fn structured(mut object: Map<String, Value>) -> Result<Event, Problem> {
    if object.contains_key("data_base64") {
        return Err(Problem::unacceptable("/data_base64", "usage is JSON: send it as data"));
    }
    let data = object.remove("data").unwrap_or(Value::Null);
    let mut text = |name: &str| match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::malformed(format!("/{name}"), "must be a string")),
    };
    let version = text("specversion")?;
    let (id, source, kind) = (text("id")?, text("source")?, text("type")?);
    let (subject, time) = (text("subject")?, text("time")?);
    Event::new(version, id, source, kind, subject, time, data)
}

fn binary(call: &Call, data: Map<String, Value>) -> Result<Event, Problem> {
    let header = |name: &str| match call.request.headers().get(format!("ce-{name}")) {
        None => Ok(None),
        // The HTTP binding of CloudEvents 1.0.2 (3.1.3.2) percent-encodes what headers cannot carry.
        Some(value) => match value.to_str().ok().and_then(percent_decoded) {
            Some(text) => Ok(Some(text)),
            None => Err(Problem::unacceptable_header(
                &format!("ce-{name}"),
                "must be ASCII, other characters percent-encoded as UTF-8",
            )),
        },
    };
    let version = header("specversion")?;
    let (id, source, kind) = (header("id")?, header("source")?, header("type")?);
    Event::new(version, id, source, kind, header("subject")?, header("time")?, Value::Object(data))
}

impl Event {
    fn new(
        version: Option<String>,
        id: Option<String>,
        source: Option<String>,
        kind: Option<String>,
        subject: Option<String>,
        time: Option<String>,
        data: Value,
    ) -> Result<Self, Problem> {
        match version.as_deref() {
            Some(SPEC_VERSION) => {}
            Some(_) => return Err(Problem::unacceptable("/specversion", "only CloudEvents 1.0 is read")),
            None => return Err(Problem::malformed("/specversion", "a CloudEvent names its specversion")),
        }
        let required = |name: &str, value: Option<String>| match value {
            Some(text) if !text.is_empty() && text.chars().count() <= ATTRIBUTE_CHARS_MAX => Ok(text),
            Some(_) => Err(Problem::unacceptable(
                format!("/{name}"),
                format!("must have 1 to {ATTRIBUTE_CHARS_MAX} characters"),
            )),
            None => Err(Problem::malformed(format!("/{name}"), format!("a CloudEvent has a {name}"))),
        };
        required("type", kind)?;
        Ok(Self {
            id: required("id", id)?,
            source: required("source", source)?,
            subject,
            time,
            data,
        })
    }

    fn into_use(self, call: &Call) -> Result<Use, Problem> {
        let Value::Object(mut data) = self.data else {
            return Err(Problem::malformed("/data", "must be a usage entry as a JSON object"));
        };
        let request_id = request_id(&self.source, &self.id);
        if let Some(named) = data.get("request_id").and_then(Value::as_str)
            && named != request_id.as_str()
        {
            return Err(Problem::unacceptable(
                "/data/request_id",
                "an event's request id is made of its source and id; leave this out",
            ));
        }
        data.insert("request_id".to_owned(), Value::String(request_id.to_string()));
        if let Some(subject) = &self.subject {
            let named = data.get("workspace_id").and_then(Value::as_str);
            if named.is_some_and(|named| named != subject) {
                return Err(Problem::unacceptable("/data/workspace_id", "differs from the event's subject"));
            }
            WorkspaceId::parse(subject).map_err(|why| Problem::unacceptable("/subject", why))?;
            data.insert("workspace_id".to_owned(), Value::String(subject.clone()));
        }
        if let Some(time) = &self.time
            && !data.contains_key("occurred_at")
        {
            Timestamp::parse(time).map_err(|why| Problem::unacceptable("/time", why))?;
            data.insert("occurred_at".to_owned(), Value::String(time.clone()));
        }
        json::from_value::<UsageRequest>(Value::Object(data))
            .map_err(|problem| problem.under("/data"))?
            .into_use(call)
    }
}

/// `source` and `id` together identify an event; hashed, because both may be longer than a request id and of any characters.
fn request_id(source: &str, id: &str) -> RequestId {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_be_bytes());
    hash.update(source);
    hash.update(id);
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    RequestId::parse(&format!("ce_{hex}")).unwrap_or_else(|_| unreachable!("a prefix and hex digits are visible ASCII"))
}
