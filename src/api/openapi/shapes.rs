//! Members whose shape the derived document cannot say: open objects with bounds, values of one of several types, words of a few.

use super::words;
use serde_json::{Value, json};

/// `Schema.member` and what it is.
fn shapes() -> Vec<(&'static str, &'static str, Value)> {
    let name = || words::kind("name");
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let or_null = |schema: Value| json!({"anyOf": [schema, {"type": "null"}]});
    let instead = |limit: &str| {
        json!({"anyOf": [reference("Limit"), {"type": "null"}],
        "description": format!("Instead of the plan's {limit} limit; null: the plan's.")})
    };
    let count = || json!({"type": "integer", "minimum": 0, "maximum": 68_719_476_736_i64});
    let short = json!({"type": "string", "minLength": 1, "maxLength": 128});
    let prompt = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {"type": "null"}],
        "description": "A text, or chat messages in the shape of the common providers."});
    let attributes = json!({"type": ["object", "null"], "maxProperties": 32, "description": "Flat scalars for routing rules.",
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]}, "example": {"complexity": 0.3}});
    let tags = json!({"type": ["object", "null"], "maxProperties": 16, "propertyNames": short,
        "additionalProperties": {"type": "string", "maxLength": 128}, "description": "Short strings for reports.", "example": {"team": "search"}});
    let own_tags = json!({"type": "object", "maxProperties": 16, "propertyNames": short, "additionalProperties": {"type": "string", "maxLength": 128},
        "description": "Short texts, for routing rules: `workspace.tags`.", "example": {"segment": "trial"}});
    let outcomes = json!({"type": ["object", "null"], "maxProperties": 32, "propertyNames": name(), "additionalProperties": count(),
        "description": "Results that the plan bills for, each with its number.", "example": {"contract_drafted": 1}});
    let asked = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
        "description": "A text, or chat messages in the shape of the common providers."});
    let cache = json!({"type": ["object", "null"], "additionalProperties": false, "required": ["prompt"], "description": "What the cache would need to find an answer.",
    "properties": {
        "prompt": asked, "system": {"type": ["string", "null"], "description": "The system prompt."},
        "params": {"type": ["object", "null"], "description": "Whatever else decides the answer, such as temperature."},
        "embedding": {"type": ["array", "null"], "maxItems": 4096, "items": {"type": "number"}, "description": "The prompt's vector, if the caller has it."},
        "embedding_model": {"type": ["string", "null"], "maxLength": 255, "description": "The model that made the vector."},
        "scope": or_null(reference("Scope")),
    }});
    let store = json!({"type": ["object", "null"], "additionalProperties": false, "required": ["response"], "description": "An answer to keep for equal requests.",
        "properties": {"response": {"type": "object", "description": "What a later hit is answered with.", "example": {"text": "…"}}}});
    let every = json!({"type": "string", "enum": ["day", "week", "month", "year"], "description": "How often."});
    let anchor = json!({"type": ["string", "null"], "format": "date-time", "description": "A recurrence, from which the others are counted in UTC."});
    let recurrence = json!({"description": "When the balance becomes `amount` anew; without an anchor it is counted from `effective_at`.",
        "anyOf": [every, {"type": "object", "required": ["interval"], "additionalProperties": false,
            "properties": {"interval": every, "anchor": anchor}}, {"type": "null"}]});
    let anything = |what: &str| json!({"type": ["object", "array", "string", "boolean", "null"], "description": what});
    let words = |all: &[&str]| json!({"type": "string", "enum": all});
    vec![
        ("AuthorizeRequest", "input", prompt.clone()),
        ("AuthorizeRequest", "cache", cache),
        ("AuthorizeRequest", "attributes", attributes),
        ("AuthorizeRequest", "tags", tags.clone()),
        (
            "AuthorizeRequest",
            "exclude_providers",
            json!({"type": ["array", "null"], "maxItems": 32, "items": name()}),
        ),
        ("UsageRequest", "tags", tags),
        ("UsageRequest", "billable_outcomes", outcomes.clone()),
        ("UsageRequest", "usage_format", or_null(reference("UsageFormat"))),
        ("SettleRequest", "billable_outcomes", outcomes),
        ("SettleRequest", "usage_format", or_null(reference("UsageFormat"))),
        ("SettleRequest", "cache_store", store),
        ("UsageResult", "error", or_null(reference("ProblemBody"))),
        ("BatchResult", "error", or_null(reference("ProblemBody"))),
        ("ExplainOut", "decision", words(&["allow", "deny", "cached"])),
        (
            "WorkspaceBody",
            "overrides",
            json!({"type": "object", "maxProperties": 64, "propertyNames": name(),
            "additionalProperties": reference("OverrideBody"), "description": "Other limits for single budgets of this workspace."}),
        ),
        (
            "WorkspaceBody",
            "top_ups",
            json!({"type": "object", "propertyNames": name(),
            "additionalProperties": reference("TopUpBody"), "description": "Grants that are given by themselves when a budget runs low, by budget."}),
        ),
        ("WorkspaceBody", "tags", own_tags),
        ("TopUpBody", "below", reference("Limit")),
        ("TopUpBody", "amount", reference("Limit")),
        ("OverrideBody", "soft", instead("soft")),
        ("OverrideBody", "hard", instead("hard")),
        (
            "AuditOut",
            "before",
            anything("What it was until then, as the API shows it; null: it was not there."),
        ),
        ("AuditOut", "after", anything("What it is since then; null: it is gone.")),
        ("GrantBody", "recurrence", recurrence),
        ("GrantBody", "amount", reference("Limit")),
        ("GrantBody", "rollover_min", or_null(reference("Limit"))),
        ("GrantBody", "rollover_max", or_null(reference("Limit"))),
        ("CeilingOut", "period", reference("PeriodKind")),
        ("AllowAnswer", "decision", words(&["allow"])),
        ("DenyAnswer", "decision", words(&["deny"])),
        ("DenyAnswer", "model", json!({"type": "null", "description": "None serves it."})),
        ("CacheOut", "status", words(&["hit", "miss", "off", "error"])),
        ("Health", "status", words(&["ok"])),
        ("Readiness", "status", words(&["ok", "unavailable"])),
        ("ClockReading", "status", words(&["ok", "apart"])),
        (
            "Readiness",
            "counters",
            json!({"type": "string", "enum": ["ok", "unavailable"], "description": "The counter store."}),
        ),
        (
            "Readiness",
            "ledger",
            json!({"type": "string", "enum": ["ok", "unavailable"], "description": "The ledger."}),
        ),
        ("ReleaseAnswer", "state", words(&["released"])),
        ("ReservationOut", "state", words(&["held", "settled", "released", "expired"])),
    ]
}

/// Bodies to begin with. Tests send them.
fn examples() -> [(&'static str, Value); 5] {
    [
        (
            "PlanDocument",
            json!({"name": "Pro", "pricing": {"model": "flat", "base_usd": "50.00"}, "budgets": [
            {"id": "monthly_tokens", "unit": "tokens", "period": "month", "soft": 4_000_000, "hard": 5_000_000, "at_soft": ["warn", "downgrade"]},
            {"id": "monthly_usd", "unit": "usd", "period": "month", "hard": "60.00"}]}),
        ),
        (
            "ModelDocument",
            json!({"provider": "openai", "tier": "fast", "max_input_tokens": 128_000, "max_output_tokens": 16_384,
            "prices": [{"effective_from": "2025-09-29", "input": "0.15", "output": "0.60", "cache_read": "0.075", "batch_discount": 0.5}]}),
        ),
        (
            "RoutingDocument",
            json!({"default_model": "gpt-4o-mini", "rules": [
            {"name": "simple-is-fast", "when": "has(request.attributes.complexity) && request.attributes.complexity < 0.35", "tier": "fast"}]}),
        ),
        (
            "BillingDocument",
            json!({"meters": [{"id": "tokens", "event_name": "weir_tokens", "unit": "tokens"}], "plans_by_price": {}}),
        ),
        (
            "WorkspaceBody",
            json!({"plan_id": "pro", "seats": 5, "timezone": "Europe/Berlin",
            "overrides": {"monthly_tokens": {"hard": 6_000_000, "expires_at": "2027-01-01T00:00:00Z"}}}),
        ),
    ]
}

/// Puts them into the document.
pub fn take(schemas: &mut Value) {
    for (schema, body) in examples() {
        schemas[schema]["example"] = body;
    }
    for (schema, member, shape) in shapes() {
        if let Some(members) = schemas[schema]["properties"].as_object_mut() {
            members.insert(member.to_owned(), shape);
        }
    }
}
