//! The committed OpenAPI document is the one that the code makes. `WEIR_UPDATE=1 cargo test --test openapi` writes it anew.

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use support::TestApp;
use weir::api::stripe_signature::sign;
use weir::clock::Clock;
use weir::flow::fair_use::evaluate::Evaluator;
use weir::flow::fair_use::gather;
use weir::flow::{Options, SigningSecrets};

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let made = weir::api::openapi::text();
    if std::env::var_os("WEIR_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(&path, made).expect("the document is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "openapi/openapi.json is not current: run WEIR_UPDATE=1 cargo test --test openapi"
    );
}

#[test]
fn every_route_is_documented_and_every_path_exists() {
    let document: serde_json::Value = serde_json::from_str(weir::api::openapi::text()).expect("JSON");
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let pages = ["/", "/docs", "/docs/{page:.*}"];
    let routes: BTreeSet<String> = weir::api::routes::routes()
        .iter()
        .filter(|route| !pages.contains(&route.path))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(documented, routes);
    assert_eq!(document["servers"][0]["url"], "/", "the page works on whatever port it is served");
    let problem = document["components"]["schemas"]["ProblemBody"]["description"].as_str();
    assert!(
        problem.is_some_and(|text| text.contains("reservation_unknown")),
        "the codes are told: {problem:?}"
    );
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let place = format!("{method} {path}");
            assert!(
                operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
                "{place} has no summary"
            );
            assert!(
                operation["tags"][0].as_str().is_some_and(|tag| tags.contains(tag)),
                "{place} has no declared tag"
            );
            let refused = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert!(refused.is_object(), "{place} does not say how it refuses");
        }
    }
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
}

/// Of two types of one name the document would keep one, for both.
#[test]
fn no_two_types_share_a_name() {
    let mut names = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                for name in documented_types(&text) {
                    assert!(
                        names.insert(name.clone()),
                        "{path:?}: there is another {name}; say #[schema(as = …)]"
                    );
                }
            }
        }
    }
    assert!(names.len() > 60, "only {} types were found", names.len());
}

/// The names of the types in a source file that derive a schema.
fn documented_types(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text
        .split("#[derive(")
        .skip(1)
        .filter(|part| part.split(")]").next().is_some_and(|of| of.contains("ToSchema")))
    {
        let declared = part
            .lines()
            .find(|line| line.contains("struct ") || line.contains("enum "))
            .unwrap_or_default();
        let before = part.split(declared).next().unwrap_or_default();
        let renamed = before.split("schema(as = ").nth(1);
        let name = renamed
            .or_else(|| declared.split("struct ").nth(1))
            .or_else(|| declared.split("enum ").nth(1));
        let name = name.unwrap_or_default().split(|c: char| !c.is_alphanumeric()).next();
        found.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    found
}

fn document() -> Value {
    serde_json::from_str(weir::api::openapi::text()).expect("JSON")
}

/// Calls `look` with each schema of the document, and where it stands.
fn each_schema(place: &str, schema: &Value, look: &mut dyn FnMut(&str, &Value)) {
    look(place, schema);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        each_schema(&format!("{place}.{name}"), member, look);
    }
    for list in ["anyOf", "oneOf"] {
        for (n, one) in schema[list].as_array().into_iter().flatten().enumerate() {
            each_schema(&format!("{place}|{n}"), one, look);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            each_schema(&format!("{place}[]"), &schema[inner], look);
        }
    }
}

#[test]
fn each_field_has_a_meaning_a_type_and_bounds() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let (mut fields, mut lacking) = (0, Vec::new());
    let has_type = |schema: &Value| ["type", "$ref", "anyOf", "oneOf"].iter().any(|key| !schema[*key].is_null());
    for (name, schema) in schemas {
        each_schema(name, schema, &mut |place, schema| {
            for (field, member) in schema["properties"].as_object().into_iter().flatten() {
                fields += 1;
                let refers = member["$ref"].as_str().and_then(|name| schemas.get(name.rsplit('/').next()?));
                let said = |of: &Value| of["description"].as_str().is_some_and(|text| !text.is_empty());
                // The alternatives of an object repeat its members to tell them apart; the object itself says what they are.
                let is_alternative = place.contains('|');
                if !is_alternative && !said(member) && !refers.is_some_and(said) {
                    lacking.push(format!("{place}.{field} does not say what it means"));
                }
                if !has_type(member) && member.as_object().is_some_and(|keys| !keys.contains_key("enum")) {
                    lacking.push(format!("{place}.{field} has no type"));
                }
            }
            let is =
                |kind: &str| schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind));
            let is_number = is("integer") || is("number");
            if is_number && schema["enum"].is_null() && schema["maximum"].is_null() && !place.contains('|') && !place.ends_with("[]") {
                lacking.push(format!("{place} is a number without a maximum"));
            }
        });
    }
    assert!(lacking.is_empty(), "{} of {fields} fields: {lacking:#?}", lacking.len());
    assert!(fields > 200, "only {fields} fields were looked at");
}

#[test]
fn each_operation_has_a_name_of_its_own_says_who_may_call_it_and_lists_the_problems() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let place = format!("{method} {path}");
            let name = operation["operationId"].as_str().unwrap_or_default();
            assert!(
                !name.is_empty() && names.insert(name.to_owned()),
                "{place}: {name:?} is not a name of its own"
            );
            let is_open = operation["security"]
                .as_array()
                .is_some_and(|all| all.iter().all(|one| one == &json!({})));
            let about = operation["description"].as_str().unwrap_or_default();
            assert!(is_open || about.contains("Scope: `"), "{place} does not say which scope it needs");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                assert!(
                    response["description"].as_str().is_some_and(|text| !text.is_empty()),
                    "{place}: {status} is not described"
                );
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(
                    described && !parameter["schema"]["type"].is_null() || parameter["schema"]["$ref"].is_string(),
                    "{place}: {parameter}"
                );
            }
        }
    }
    let codes = document["components"]["schemas"]["ProblemBody"]["properties"]["code"]["enum"]
        .as_array()
        .map(Vec::len);
    assert!(codes > Some(20), "the codes are listed");
}

/// The example of a body: its own, or that of its schema, or what the examples of its required members make.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        return example(
            document,
            &document["components"]["schemas"][name.rsplit('/').next().unwrap_or_default()],
        );
    }
    if !schema["example"].is_null() {
        return schema["example"].clone();
    }
    for list in ["anyOf", "oneOf"] {
        if let Some(first) = schema[list].as_array().and_then(|all| all.first())
            && schema["properties"].is_null()
        {
            return example(document, first);
        }
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let members = required
        .iter()
        .filter_map(Value::as_str)
        .map(|name| (name.to_owned(), example(document, &schema["properties"][name])));
    Value::Object(members.collect())
}

/// The path with something that is there in each of its places.
async fn path_of_the_example(app: &TestApp, method: &str, path: &str) -> String {
    let id = match path {
        _ if path.contains("/reservations/") => {
            let ask = json!({"workspace_id": "ws_456", "feature": "chat", "model": "gpt-4o-mini", "input_tokens": 10});
            let answer = app.post("/v1/authorize", ask).await.expect(200);
            let id = answer["reservation_id"].as_str().unwrap_or_else(|| panic!("not allowed: {answer}"));
            id.to_owned()
        }
        _ if path.contains("/decisions/") => {
            let ask = json!({"workspace_id": "ws_456", "feature": "chat", "model": "gpt-4o-mini", "input_tokens": 10});
            let answer = app.post("/v1/authorize", ask).await.expect(200);
            answer["decision_id"].as_str().expect("a decision").to_owned()
        }
        _ if path.contains("/workspaces/") => "ws_456".to_owned(),
        // Nobody is on it, so it may go.
        _ if path.contains("/plans/") && method == "delete" => {
            app.put("/v1/admin/plans/spare", json!({"unlimited": true})).await.expect(201);
            "spare".to_owned()
        }
        _ if path.contains("/plans/") => "pro".to_owned(),
        _ if path.contains("/api-keys/") => {
            let made = app.post("/v1/admin/api-keys", json!({"scopes": ["read"]})).await.expect(201);
            made["key_id"].as_str().expect("an id").to_owned()
        }
        _ if path.contains("/billing/batches/{id}") => batch_of_the_example(app, method).await,
        _ if path.contains("/fair-use/actions/{id}") => action_of_the_example(app).await,
        _ if path.contains("/webhook-") => webhook_of_the_example(app, path).await,
        // What it is about stands in its query.
        "/v1/cache" => return "/v1/cache?workspace_id=ws_456".to_owned(),
        _ if path.contains("/models/") => "example-model".to_owned(),
        _ if path.contains("/providers/") => "anthropic".to_owned(),
        _ => String::new(),
    };
    let path = path.replace("{id}", &id);
    if !path.contains("{grant}") {
        return path;
    }
    let given = app.post(
        "/v1/admin/workspaces/ws_456/grants",
        json!({"budget_id": "monthly_tokens", "amount": 5, "paid": {"amount": 5, "currency": "usd"}}),
    );
    path.replace("{grant}", given.await.expect(201)["grant_id"].as_str().expect("an id"))
}

/// A batch of the meter that the example of `billing.yaml` has.
async fn batch_of_the_example(app: &TestApp, of: &str) -> String {
    let used = json!({"workspace_id": "ws_456", "feature": "chat", "model": "gpt-4o-mini", "request_id": format!("batch-to-{of}"),
        "usage": {"input_tokens": 10, "output_tokens": 10}});
    app.post("/v1/usage", used).await.expect(200);
    app.call(Method::POST, "/v1/admin/billing/flush", None).await.expect(200);
    let batches = app.get("/v1/admin/billing/batches").await.expect(200);
    batches["data"][0]["batch_id"].as_str().expect("a batch").to_owned()
}

/// What a rule of fair use did to somebody.
async fn action_of_the_example(app: &TestApp) -> String {
    let rule = json!({"name": "burst", "over_minutes": 15, "min_amount": 1_000, "act": "throttle"});
    app.workspace_on("hasty", json!({"unlimited": true, "fair_use": [rule]})).await;
    let used = json!({"workspace_id": "hasty", "feature": "chat", "model": "gpt-4o-mini", "request_id": "in-haste",
        "usage": {"input_tokens": 5_000, "output_tokens": 0}});
    app.post("/v1/usage", used).await.expect(200);
    gather::flush(&app.service).await.expect("usage is written");
    assert_eq!(Evaluator::default().round(&app.service).await.expect("a round"), 1);
    let actions = app.get("/v1/admin/fair-use/actions").await.expect(200);
    actions["data"][0]["fair_use_id"].as_str().expect("an action").to_owned()
}

/// An endpoint where nobody listens, or a delivery to it.
async fn webhook_of_the_example(app: &TestApp, path: &str) -> String {
    if !path.contains("{id}") {
        return String::new();
    }
    let made = json!({"url": "http://127.0.0.1:9/", "workspace_id": "ws_456"});
    let endpoint = app.post("/v1/admin/webhook-endpoints", made).await.expect(201);
    let endpoint = endpoint["endpoint_id"].as_str().expect("an id").to_owned();
    if path.contains("/webhook-endpoints/") {
        return endpoint;
    }
    let tested = app
        .post(&format!("/v1/admin/webhook-endpoints/{endpoint}/test"), json!({}))
        .await
        .expect(200);
    tested["delivery_id"].as_str().expect("an id").to_owned()
}

/// The id of an entry that is there.
async fn something_recorded(app: &TestApp) -> Value {
    let used = json!({"workspace_id": "ws_456", "feature": "chat", "model": "gpt-4o-mini", "request_id": "to-be-corrected",
        "usage": {"input_tokens": 10, "output_tokens": 10}});
    app.post("/v1/usage", used).await.expect(200)["entry"]["entry_id"].clone()
}

/// The id of an answer that is kept.
async fn something_kept(app: &TestApp) -> Value {
    app.workspace_on("keeps", json!({"unlimited": true, "features": {"faq": {"cache": {}}}}))
        .await;
    let asked = app
        .authorize("keeps")
        .feature("faq")
        .model("gpt-4o-mini")
        .with("cache", json!({"prompt": "What is a quota?"}));
    let path = format!("/v1/reservations/{}/settle", asked.reserved().await);
    let body = json!({"usage": {"input_tokens": 10, "output_tokens": 10}, "cache_store": {"response": {"text": "A ceiling."}}});
    app.post(&path, body).await.expect(200)["cache_store"]["cache_entry_id"].clone()
}

#[tokio::test]
async fn the_examples_of_the_document_work() {
    const STRIPE_SECRET: &str = "whsec_of_the_examples";
    let options = Options {
        stripe_webhook_secrets: SigningSecrets::parse(STRIPE_SECRET),
        ..support::options()
    };
    let app = TestApp::start_on_samples(options).await;
    let document = document();
    let token = app.token("admin", None);
    let mut tried = Vec::new();
    let paths = document["paths"].as_object().expect("paths");
    // What creates comes before what reads, and what deletes comes last.
    for method in ["put", "patch", "post", "get", "delete"] {
        for (path, methods) in paths {
            let Some(operation) = methods.get(method) else { continue };
            let path = path_of_the_example(&app, method, path).await;
            let mut request = app
                .client
                .request(method.to_uppercase().parse().expect("a method"), format!("{}{path}", app.url))
                // A stream of events would not end; as JSON it is a list.
                .header("accept", "application/json")
                .bearer_auth(&token);
            let media = operation["requestBody"]["content"].as_object().and_then(|all| all.iter().next());
            let mut sent = None;
            if let Some((media, content)) = media {
                let own = &content["example"];
                let mut body = if own.is_null() {
                    example(&document, &content["schema"])
                } else {
                    own.clone()
                };
                if path.ends_with("/corrections") {
                    body["entry_id"] = something_recorded(&app).await;
                }
                if path.ends_with("/cache/feedback") {
                    body["cache_entry_id"] = something_kept(&app).await;
                }
                if path == "/webhooks/stripe" {
                    let now = app.clock.now().micros() / 1_000_000;
                    let signed = sign(STRIPE_SECRET.as_bytes(), now, body.to_string().as_bytes());
                    request = request.header("stripe-signature", format!("t={now},v1={signed}"));
                }
                request = request.header("content-type", media).body(body.to_string());
                sent = Some(body);
            }
            let response = request.send().await.expect("an answer");
            let (status, text) = (response.status(), response.text().await.unwrap_or_default());
            assert!(status.is_success(), "{method} {path} with {sent:?} is answered {status}: {text}");
            tried.push(path);
        }
    }
    let operations: usize = paths.values().map(|methods| methods.as_object().map_or(0, |all| all.len())).sum();
    assert_eq!(tried.len(), operations, "{tried:?}");
}
