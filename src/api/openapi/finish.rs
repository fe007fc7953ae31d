//! What is said once for all operations, and what the derived document cannot say: problems, headers, scopes, other answers of one
//! operation, strict bodies. Works on the document as JSON.

use super::{bodies, shapes, words};
use crate::api::problem::{CONTENT_TYPE, ProblemCode, codes_as_markdown};
use crate::api::routes::routes;
use crate::policy::document::{BillingDocument, ModelDocument, PlanDocument, RoutingDocument};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Integers of 64 bits that every reader of JSON takes exactly (RFC 8259, 6).
const EXACT_MAX: i64 = 9_007_199_254_740_991;

/// What is posted here is answered with one of several bodies.
const SEVERAL_ANSWERS: [(&str, &[&str]); 4] = [
    ("/v1/authorize", &["AllowAnswer", "DenyAnswer", "CachedAnswer"]),
    ("/v1/reservations/{id}/settle", &["SettleAnswer", "CheckpointAnswer"]),
    ("/v1/usage", &["RecordAnswer", "UsageBatchAnswer"]),
    ("/v1/events", &["RecordAnswer", "UsageBatchAnswer"]),
];

/// Whose `Idempotency-Key` is the request id that its reservation is made from, rather than the name of a kept answer.
const KEYED: [&str; 2] = ["/v1/authorize", "/v1/authorize/batch"];

pub fn finish(document: &mut Value) {
    take_policies(document);
    shapes::take(&mut document["components"]["schemas"]);
    each_schema(document, flatten);
    bodies::take(document);
    for (path, names) in SEVERAL_ANSWERS {
        let references: Vec<Value> = names.iter().map(|name| reference(name)).collect();
        let answer = json!({"anyOf": references});
        document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"] = answer;
    }
    mapped_denials(document);
    operations(document);
    links(document);
    problems(document);
    each_schema(document, bounds);
    each_schema(document, fields);
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas of plans, models and routing are those that are committed beside the policy files: they know every pattern and bound.
fn take_policies(document: &mut Value) {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    generator.subschema_for::<PlanDocument>();
    generator.subschema_for::<ModelDocument>();
    generator.subschema_for::<RoutingDocument>();
    generator.subschema_for::<BillingDocument>();
    let schemas = &mut document["components"]["schemas"];
    for (name, mut schema) in generator.take_definitions(true) {
        // An editor wants the default of a member; a caller who leaves it out gets it.
        strip_null_defaults(&mut schema);
        schemas[name] = schema;
    }
}

fn strip_null_defaults(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            members.values_mut().for_each(strip_null_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_null_defaults),
        _ => {}
    }
}

/// Of each operation: its name, who may call it, its parameters and headers.
fn operations(document: &mut Value) {
    let routes = routes();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, methods) in paths {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            operation["operationId"] = operation_id(method, path).into();
            let route = routes
                .iter()
                .find(|route| route.path == path && route.method.as_str().eq_ignore_ascii_case(method));
            if let Some(route) = route.as_ref().filter(|route| !route.access.is_open()) {
                let scopes = route.access.scopes_joined();
                let bound = if route.access.takes_bound() {
                    ""
                } else {
                    " A credential that is bound to a workspace is refused."
                };
                let said = operation["description"]
                    .as_str()
                    .map(|text| format!("{text}\n\n"))
                    .unwrap_or_default();
                operation["description"] = format!("{said}Scope: `{scopes}`.{bound}").into();
            }
            let takes_key = route.is_some_and(|route| route.creates() || KEYED.contains(&route.path));
            parameters(path, takes_key, operation);
            headers(operation);
        }
    }
}

/// The verb and the nouns, such as `put_admin_plan`; stable, because it follows from the path.
fn operation_id(method: &str, path: &str) -> String {
    let nouns: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != "v1").collect();
    let named: Vec<String> = nouns
        .iter()
        .enumerate()
        .filter(|(_, part)| !part.starts_with('{'))
        .map(|(at, part)| {
            let one = nouns.get(at + 1).is_some_and(|next| next.starts_with('{'));
            let word = part.replace(['-', '.'], "_");
            if one {
                word.strip_suffix('s').map_or(word.clone(), str::to_owned)
            } else {
                word
            }
        })
        .collect();
    format!("{method}_{}", named.join("_"))
}

fn parameters(path: &str, takes_key: bool, operation: &mut Value) {
    let mut list = operation["parameters"].as_array().cloned().unwrap_or_default();
    for parameter in &mut list {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        let in_path = path.contains(&format!("{{{name}}}"));
        // In a path or a query there is no null: what is absent is absent.
        if let Some(kind) = parameter["schema"]["type"].as_array().and_then(|kinds| kinds.first()).cloned() {
            parameter["schema"]["type"] = kind;
        }
        if let Some(schema) = parameter["schema"]["oneOf"].as_array().and_then(|several| several.first()).cloned() {
            parameter["schema"] = schema;
        }
        let word = if name == "id" { path_id(path) } else { &name };
        words::describe(word, &mut parameter["schema"]);
        // A filter that is longer than anything finds nothing, which is no error.
        if let Some(schema) = parameter["schema"].as_object_mut().filter(|_| !in_path) {
            schema.remove("minLength");
            schema.remove("maxLength");
        }
        if parameter["description"].is_null() {
            parameter["description"] = parameter["schema"]["description"].clone();
        }
    }
    if takes_key {
        list.retain(|parameter| parameter["name"] != "Idempotency-Key");
        list.push(json!({"name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same request under the same key is answered alike for a day.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}}));
    }
    if !list.is_empty() {
        operation["parameters"] = list.into();
    }
}

/// Which word the `id` of a path is.
fn path_id(path: &str) -> &'static str {
    match path {
        _ if path.contains("/reservations/{id}") => "reservation_id",
        _ if path.contains("/decisions/{id}") => "decision_id",
        _ if path.contains("/workspaces/{id}") => "workspace_id",
        _ if path.contains("/models/{id}") => "model",
        _ if path.contains("/plans/{id}") => "plan_id",
        _ if path.contains("/providers/{id}") => "provider",
        _ if path.contains("/api-keys/{id}") => "key_id",
        _ => "id",
    }
}

fn headers(operation: &mut Value) {
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    for (status, response) in responses {
        let Some(response) = response.as_object_mut() else { continue };
        let said = response
            .get("description")
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty());
        if !said {
            let text = match status.as_str() {
                "200" => "Done.",
                "201" => "Created.",
                "202" => "Begun.",
                "204" => "Done; there is nothing to tell.",
                _ => "As the status says.",
            };
            response.insert("description".to_owned(), text.into());
        }
        let header = json!({"required": true, "description": "The caller's, if it was valid; finds the request in the logs.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255}});
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        headers["X-Request-Id"] = header;
    }
}

/// With `?http_status=map` a denial has a status of its own, and the body of a denial.
fn mapped_denials(document: &mut Value) {
    let responses = &mut document["paths"]["/v1/authorize"]["post"]["responses"];
    for (status, what) in [
        ("402", "hard_limit_reached, never_fits, no_plan, no_budget, parent_exhausted"),
        (
            "403",
            "workspace_suspended, feature_disabled, model_not_allowed; without the parameter: insufficient_scope",
        ),
        (
            "422",
            "model_unpriced, context_too_long; without the parameter: unacceptable values",
        ),
        ("429", "hard_limit_reached of a rate, too_many_open_reservations"),
    ] {
        responses[status] = json!({
            "description": format!("With `?http_status=map` a denial: {what}."),
            "content": {"application/json": {"schema": reference("DenyAnswer")}, (CONTENT_TYPE): {"schema": reference("ProblemBody")}},
        });
    }
}

/// What an answer of authorize is for.
fn links(document: &mut Value) {
    let id = json!({"id": "$response.body#/reservation_id"});
    let link = |operation: &str, what: &str| json!({"operationId": operation, "parameters": id, "description": what});
    document["paths"]["/v1/authorize"]["post"]["responses"]["200"]["links"] = json!({
        "settle": link("post_reservation_settle", "After the call: what it really used."),
        "release": link("post_reservation_release", "The call did not happen."),
        "extend": link("post_reservation_extend", "The call takes longer."),
        "look": link("get_reservation", "How the reservation stands."),
    });
}

/// Every operation may be refused, and all refusals have one shape.
fn problems(document: &mut Value) {
    let codes: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    let body = &mut document["components"]["schemas"]["ProblemBody"];
    body["description"] = format!("A problem document (RFC 9457).\n\n{}", codes_as_markdown()).into();
    body["properties"]["code"]["enum"] = json!(codes);
    body["properties"]["type"]["enum"] = json!(["about:blank"]);
    body["properties"]["status"]["minimum"] = 400.into();
    body["properties"]["status"]["maximum"] = 599.into();
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let problem = json!({
        "description": "A refusal: `code` says which, `errors` where.",
        "headers": {
            "X-Request-Id": {"description": "The caller's, if it was valid; finds the request in the logs.", "schema": {"type": "string"}},
            "Retry-After": text("Seconds, with 429 and 503."),
            "WWW-Authenticate": text("With 401, and with 403 for a scope that is missing (RFC 6750)."),
            "Allow": text("With 405: the methods of this path."),
        },
        "content": {(CONTENT_TYPE): {"schema": reference("ProblemBody")}},
    });
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for methods in paths.values_mut() {
        for operation in methods.as_object_mut().into_iter().flat_map(Object::values_mut) {
            operation["responses"]["default"] = problem.clone();
        }
    }
}

/// Calls `change` with every named schema, all named schemas beside it.
fn each_schema(document: &mut Value, change: fn(&mut Value, &Object)) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
        return;
    };
    let all = schemas.clone();
    schemas.values_mut().for_each(|schema| change(schema, &all));
}

/// An object that takes in the members of another one is written out: what refuses unknown members cannot be one part of several.
fn flatten(schema: &mut Value, all: &Object) {
    let Some(parts) = schema.get("allOf").and_then(Value::as_array).cloned() else {
        return;
    };
    let (mut properties, mut required) = (Object::new(), Vec::new());
    for part in &parts {
        let named = part["$ref"]
            .as_str()
            .and_then(|name| all.get(name.rsplit('/').next().unwrap_or_default()));
        let part = named.unwrap_or(part);
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
    }
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("allOf");
    object.insert("type".to_owned(), "object".into());
    object.insert("properties".to_owned(), properties.into());
    object.insert("required".to_owned(), required.into());
}

/// Numbers have bounds: those of their format, which JSON Schema does not know, where nothing says less.
fn bounds(schema: &mut Value, _: &Object) {
    fn walk(schema: &mut Value) {
        match schema {
            Value::Object(object) => {
                object.values_mut().for_each(walk);
                let format = object.get("format").and_then(Value::as_str);
                let (least, most) = match format {
                    Some("int64") => (None, Some(EXACT_MAX)),
                    Some("int32" | "uint32") => (Some(0), Some(i64::from(u32::MAX))),
                    Some("double") => (None, None),
                    _ => return,
                };
                object.remove("format");
                for (key, bound) in [("minimum", least), ("maximum", most)] {
                    if let Some(bound) = bound {
                        object.entry(key).or_insert_with(|| bound.into());
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(schema);
}

/// Each member gets what its word says.
fn fields(schema: &mut Value, _: &Object) {
    fn walk(schema: &mut Value) {
        match schema {
            Value::Object(object) => {
                if let Some(Value::Object(properties)) = object.get_mut("properties") {
                    properties.iter_mut().for_each(|(name, member)| words::describe(name, member));
                }
                object.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(schema);
}
