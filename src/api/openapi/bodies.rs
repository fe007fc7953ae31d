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
        // Null takes one away.
        members["tags"]["additionalProperties"]["type"] = json!(["string", "null"]);
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
    paths["/webhooks/stripe"]["post"]["requestBody"] = stripe_event();
    for path in [
        "/v1/admin/ledger/reprice",
        "/v1/admin/billing/reconcile",
        "/v1/admin/billing/batches/{id}/resend",
    ] {
        paths[path]["post"]["requestBody"]["required"] = false.into();
    }
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

/// What every event of Stripe's has, and what those that mean something here are about.
fn stripe_event() -> Value {
    const CHANGED: [&str; 5] = ["created", "updated", "paused", "resumed", "deleted"];
    let name = |description: &str, example: &str| json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$", "description": description, "example": example});
    let about = |kinds: Vec<String>, required: Value, members: Value| {
        let object = json!({"type": "object", "required": required, "properties": members});
        let data = json!({"type": "object", "required": ["object"], "properties": {"object": object}});
        json!({"required": ["data"], "properties": {"type": {"type": "string", "enum": kinds}, "data": data}})
    };
    let mut customer = name("Whose it is; null: nobody's, and it is passed over.", "cus_Nff");
    customer["type"] = json!(["string", "null"]);
    let subscriptions = about(
        CHANGED.iter().map(|change| format!("customer.subscription.{change}")).collect(),
        json!(["id", "customer", "status"]),
        json!({"id": name("Of the subscription.", "sub_1Mow"), "customer": customer.clone(), "status": name("How it stands.", "active")}),
    );
    let papers = about(
        ["invoice.paid", "credit_note.created", "credit_note.voided"]
            .map(str::to_owned)
            .to_vec(),
        json!(["id", "customer", "currency", "total"]),
        json!({"id": name("Of the invoice or credit note.", "in_1Mtx"), "customer": customer,
            "currency": {"type": "string", "pattern": "^[A-Za-z]{3}$"},
            "total": {"type": "integer", "minimum": -i64::MAX, "maximum": i64::MAX}}),
    );
    let others = json!({"properties": {"type": {"type": "string", "not": {
        "pattern": "^(customer[.]subscription[.](created|updated|paused|resumed|deleted)|invoice[.]paid|credit_note[.](created|voided))$"}}}});
    let moment = json!({"description": "When: in seconds since 1970, in events of the newer kind as RFC 3339.",
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 253_370_678_400_i64}, {"type": "string", "format": "date-time"}]});
    let event = json!({
        "type": "object", "required": ["id", "type", "created"],
        "properties": {
            "id": name("Of the event. One that was taken is not taken again.", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
            "type": name("What happened. What means nothing here is passed over.", "customer.created"),
            "created": moment,
            "data": {"description": "What it happened to, as Stripe's `object`."},
        },
        "anyOf": [subscriptions, papers, others],
        "example": {"id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "type": "customer.subscription.updated", "created": 1_764_000_000, "data": {"object": {
            "id": "sub_1MowQVLkdIwHu7ixeRlqHVzs", "customer": "cus_NffrFeUfNV2Hib", "status": "active",
            "items": {"data": [{"price": {"id": "price_1MowQULkdIwHu7ixraBm864M"}, "quantity": 5}]}}}},
    });
    json!({"required": true, "description": "An event, byte by byte as Stripe signed it.", "content": {"application/json": {"schema": event}}})
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
