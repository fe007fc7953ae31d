//! What callers may send, where the derived document says it too loosely or too strictly.

use super::finish::reference;
use serde_json::{Value, json};

/// Bodies that are an object of another one, with less or more required.
pub fn take(document: &mut Value) {
    let schemas = &mut document["components"]["schemas"];
    for (name, of) in [("PlanBody", "PlanDocument"), ("ModelBody", "ModelDocument")] {
        let mut body = schemas[of].clone();
        if let Some(required) = body["required"].as_array_mut() {
            required.retain(|member| member != "id");
        }
        schemas[name] = body;
    }
    either_input(&mut schemas["AuthorizeRequest"]);
    schemas["CorrectionRequest"]["oneOf"] = json!([
        {"required": ["usage"], "properties": {"usage": {"type": "object"}, "counted": {"type": "null"}}},
        {"required": ["counted"], "properties": {"counted": {"type": "object"}, "usage": {"type": "null"}}},
    ]);
    for name in ["AuthorizeRequest", "UsageRequest", "PortalTokenBody"] {
        require_workspace(&mut schemas[name]);
    }
    let mut patch = schemas["WorkspaceBody"].clone();
    patch["description"] = "Members to change; null sets one back to its default (RFC 7396).".into();
    if let Some(members) = patch["properties"].as_object_mut() {
        members.values_mut().for_each(nullable);
    }
    schemas["WorkspacePatch"] = patch;
    schemas["UsageBatch"] = json!({
        "type": "object", "required": ["entries"], "additionalProperties": false, "description": "Up to a thousand uses, each by itself.",
        "properties": {"entries": {"type": "array", "minItems": 1, "maxItems": 1000, "items": {},
            "description": "Each a `UsageRequest`. What is none is told in its result, and keeps no other from being recorded."}},
    });
    schemas["BatchRequest"] = json!({
        "type": "object", "required": ["requests"], "additionalProperties": false, "description": "Up to a hundred requests, each by itself.",
        "properties": {"requests": {"type": "array", "minItems": 1, "maxItems": 100, "items": {},
            "description": "Each an `AuthorizeRequest`. What is none is told in its result, and keeps no other from being decided."}},
        "example": {"requests": [schemas["AuthorizeRequest"]["example"]]},
    });
    let mut used = schemas["UsageRequest"].clone();
    used["required"] = json!(["feature", "model", "usage"]);
    used["description"] = "A use. Its request id is made of the event's source and id, its workspace is the subject.".into();
    schemas["EventData"] = used;
    let paths = &mut document["paths"];
    // A place is appended to the key, so it may be a little shorter than others.
    paths["/v1/authorize/batch"]["post"]["parameters"] = json!([{"name": "Idempotency-Key", "in": "header", "required": false,
        "description": "Names the requests that name no `request_id`: `KEY/PLACE`, from 0.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 252, "pattern": "^[!-~]+$"}}]);
    let json_body = |schema: Value| json!({"required": true, "content": {"application/json": {"schema": schema}}});
    paths["/v1/admin/plans/{id}"]["put"]["requestBody"] = json_body(reference("PlanBody"));
    paths["/v1/admin/models/{id}"]["put"]["requestBody"] = json_body(reference("ModelBody"));
    let patch = json!({"schema": reference("WorkspacePatch"), "example": {"seats": 12}});
    paths["/v1/admin/workspaces/{id}"]["patch"]["requestBody"] =
        json!({"required": true, "content": {"application/merge-patch+json": patch, "application/json": patch}});
    let one_or_many = json!({"anyOf": [reference("UsageRequest"), reference("UsageBatch")]});
    paths["/v1/usage"]["post"]["requestBody"]["content"]["application/json"]["schema"] = one_or_many;
    paths["/v1/events"]["post"]["requestBody"] = events();
    paths["/v1/admin/ledger/reprice"]["post"]["requestBody"]["required"] = false.into();
}

/// CloudEvents in the two modes that a body alone can say.
fn events() -> Value {
    let used = reference("EventData");
    let event = json!({
        "type": "object", "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"type": "string", "enum": ["1.0"], "description": "The version of CloudEvents."},
            "id": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Unique in its source.", "example": "7"},
            "source": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Where it comes from.", "example": "/nightly"},
            "type": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Any.", "example": "llm.used"},
            "subject": {"type": ["string", "null"], "description": "The workspace, if `data` does not say.", "example": "ws_456"},
            "time": {"type": ["string", "null"], "format": "date-time", "description": "When it happened, if `data` does not say."},
            "data": used,
        },
        "anyOf": [
            {"required": ["subject"], "properties": {"subject": {"type": "string"}}},
            {"properties": {"data": {"required": ["workspace_id"], "properties": {"workspace_id": {"type": "string"}}}}},
        ],
        "example": {"specversion": "1.0", "id": "7", "source": "/nightly", "type": "llm.used", "subject": "ws_456", "data": {
            "feature": "nightly_report", "model": "gpt-4o-mini", "usage": {"input_tokens": 1200, "output_tokens": 300}}},
    });
    json!({"required": true,
        "description": "A CloudEvent, or a batch of up to a thousand. In binary mode the attributes are `ce-` headers, and the body is `data` as `application/json`.",
        "content": {
            "application/cloudevents+json": {"schema": event},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "minItems": 1, "maxItems": 1000, "items": {},
                "description": "Each an event. What is none is told in its result, and keeps no other from being recorded."}},
        },
    })
}

/// Exactly one of the two; null is as good as absent.
fn either_input(schema: &mut Value) {
    schema["oneOf"] = json!([
        {"required": ["input_tokens"], "properties": {"input_tokens": {"type": "integer"}, "input": {"type": "null"}}},
        {"required": ["input"], "properties": {"input": {"type": ["string", "array"]}, "input_tokens": {"type": "null"}}},
    ]);
}

/// Only a credential that is bound to a workspace may leave its name out, which a schema cannot know.
fn require_workspace(schema: &mut Value) {
    schema["properties"]["workspace_id"] = json!({"type": "string",
        "description": "The customer tenant whose money is spent. A credential that is bound to a workspace may leave it out."});
    match schema["required"].as_array_mut() {
        Some(required) => required.push("workspace_id".into()),
        None => schema["required"] = json!(["workspace_id"]),
    }
}

fn nullable(schema: &mut Value) {
    if let Some(kind) = schema.get("type").and_then(Value::as_str).map(str::to_owned) {
        schema["type"] = json!([kind, "null"]);
    } else if schema.get("type").is_none() && schema.get("anyOf").is_none() && schema.get("oneOf").is_none() {
        *schema = json!({"anyOf": [schema.clone(), {"type": "null"}]});
    }
}
