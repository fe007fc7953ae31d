//! Every route of the table, with every kind of credential: none, made up, expired, revoked, of each scope, bound and not bound, and at
//! another tenant's things. Made from the table, so a new route is in it by itself; one that names a workspace in a way that is not known
//! here fails until it says how.

use crate::support::{Reply, SECRET, TestApp};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir::api::auth::{Claims, Scope, ScopeSet, mint};
use weir::api::routes::{Route, routes};
use weir::clock::Clock;
use weir::decision::id::WorkspaceId;

const OWN: &str = "ws_own";
const FOREIGN: &str = "ws_foreign";
/// A name that nothing has.
const NOTHING: &str = "nothing";
const NO_RESERVATION: &str = "rsv_00000000000080008000000000000000";
const NO_ENDPOINT: &str = "whe_00000000000070008000000000000000";
const NO_DELIVERY: &str = "whd_00000000000070008000000000000000";
const NO_DECISION: &str = "dec_01931f0c7a5b7c3e8f2a1b0c9d8e7f6a";

/// Routes that name a workspace in their query.
const IN_QUERY: [&str; 2] = ["/v1/cache", "/v1/reports/unit-economics"];
const WEBHOOKS: &str = "/v1/admin/webhook-endpoints";

/// How a route names the workspace that it is about.
enum Names {
    /// In its path, which is this one for that workspace.
    Path(fn(&World, &str) -> String),
    /// In its body.
    Body,
    /// In the items of its body, each of which is answered by itself.
    Items,
    /// Nowhere: it lists what the credential sees.
    Listed,
    /// It belongs to all of them, and takes no bound credential.
    None,
}

struct World {
    app: TestApp,
    /// Of each workspace.
    reservations: BTreeMap<&'static str, String>,
    decisions: BTreeMap<&'static str, String>,
    endpoints: BTreeMap<&'static str, String>,
    deliveries: BTreeMap<&'static str, String>,
    keys: BTreeMap<(Word, bool), String>,
    expired_key: String,
    revoked_key: String,
}

/// A scope by its word, which sorts.
type Word = &'static str;

/// What is a stream or a list is asked for as a list, which has an end.
const LIST: [(&str, &str); 1] = [("accept", "application/json")];

impl World {
    async fn new() -> Self {
        let app = TestApp::start().await;
        let (mut reservations, mut decisions) = (BTreeMap::new(), BTreeMap::new());
        let (mut endpoints, mut deliveries) = (BTreeMap::new(), BTreeMap::new());
        for workspace in [OWN, FOREIGN] {
            app.workspace_with_tokens(workspace, 1_000_000).await;
            let allowed = app.authorize(workspace).allowed().await;
            let id = |name: &str| allowed[name].as_str().expect("an id").to_owned();
            reservations.insert(workspace, id("reservation_id"));
            decisions.insert(workspace, id("decision_id"));
            // Nobody listens there.
            let made = json!({"url": "http://127.0.0.1:9/", "workspace_id": workspace});
            let made = app.post(WEBHOOKS, made).await.expect(201);
            let endpoint = made["endpoint_id"].as_str().expect("an id").to_owned();
            let tested = app.post(&format!("{WEBHOOKS}/{endpoint}/test"), json!({})).await.expect(200);
            deliveries.insert(workspace, tested["delivery_id"].as_str().expect("an id").to_owned());
            endpoints.insert(workspace, endpoint);
        }
        let mut keys = BTreeMap::new();
        for scope in Scope::ALL {
            for is_bound in [false, true] {
                if is_bound || scope != Scope::Portal {
                    let body = json!({"scopes": [scope.as_str()], "workspace_id": is_bound.then_some(OWN)});
                    keys.insert(
                        (scope.as_str(), is_bound),
                        secret(&app, body).await["secret"].as_str().expect("a secret").to_owned(),
                    );
                }
            }
        }
        let expired = secret(&app, json!({"scopes": ["admin"], "expires_at": "2025-11-21T10:00:01Z"})).await;
        let revoked = secret(&app, json!({"scopes": ["admin"]})).await;
        let path = format!("/v1/admin/api-keys/{}", revoked["key_id"].as_str().expect("an id"));
        assert_eq!(app.call(Method::DELETE, &path, None).await.status.as_u16(), 204);
        app.pass_seconds(2);
        let text = |made: &Value| made["secret"].as_str().expect("a secret").to_owned();
        Self {
            reservations,
            decisions,
            endpoints,
            deliveries,
            keys,
            expired_key: text(&expired),
            revoked_key: text(&revoked),
            app,
        }
    }

    /// Every credential that bears this scope and no other, with what it is called.
    fn credentials(&self, scope: Scope, is_bound: bool) -> Vec<(String, String)> {
        let workspace = is_bound.then_some(OWN);
        let mut all = vec![(
            format!("JWT {} {workspace:?}", scope.as_str()),
            self.app.token(scope.as_str(), workspace),
        )];
        if let Some(key) = self.keys.get(&(scope.as_str(), is_bound)) {
            all.push((format!("API key {} {workspace:?}", scope.as_str()), key.clone()));
        }
        all
    }

    async fn send(&self, route: &Route, path: &str, credential: Option<&str>, body: Option<Value>) -> Reply {
        let method = Method::from_bytes(route.method.as_str().as_bytes()).expect("a method");
        let is_event = body.as_ref().is_some_and(|body| body.get("specversion").is_some());
        if let Some(credential) = credential.filter(|_| !is_event) {
            return self.app.call_with(credential, method, path, &LIST, body).await;
        }
        let mut request = self
            .app
            .client
            .request(method, format!("{}{path}", self.app.url))
            .header(LIST[0].0, LIST[0].1);
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        if let Some(body) = body {
            let kind = if is_event {
                "application/cloudevents+json"
            } else {
                "application/json"
            };
            request = request.header("content-type", kind).body(body.to_string());
        }
        Reply::read(request.send().await.expect("an answer")).await
    }

    /// What an operator sees of the foreign workspace.
    async fn foreign(&self) -> [Value; 3] {
        let mut usage = self.app.get(&format!("/v1/workspaces/{FOREIGN}/usage")).await.expect(200);
        for budget in usage["budgets"].as_array_mut().expect("budgets") {
            budget["forecast_exhausted_at"] = Value::Null;
        }
        [
            usage,
            self.app.get(&format!("/v1/workspaces/{FOREIGN}/ledger")).await.expect(200),
            self.app.get(&format!("/v1/admin/workspaces/{FOREIGN}")).await.expect(200),
        ]
    }
}

async fn secret(app: &TestApp, body: Value) -> Value {
    app.post("/v1/admin/api-keys", body).await.expect(201)
}

fn names(route: &Route) -> Names {
    // No bound credential gets so far that it could see anything.
    if route.path.ends_with("/grants/{grant}/resend") {
        return Names::None;
    }
    if route.path.contains("/workspaces/{id}") {
        return Names::Path(|_, workspace| workspace.to_owned());
    }
    if route.path.contains("/reservations/{id}") {
        return Names::Path(|world, workspace| {
            world
                .reservations
                .get(workspace)
                .cloned()
                .unwrap_or_else(|| NO_RESERVATION.to_owned())
        });
    }
    // In its query.
    if IN_QUERY.contains(&route.path) {
        return Names::Path(|_, workspace| workspace.to_owned());
    }
    if route.path.contains("/decisions/{id}") {
        return Names::Path(|world, workspace| world.decisions.get(workspace).cloned().unwrap_or_else(|| NO_DECISION.to_owned()));
    }
    if route.path.contains("/webhook-endpoints/{id}") {
        return Names::Path(|world, workspace| world.endpoints.get(workspace).cloned().unwrap_or_else(|| NO_ENDPOINT.to_owned()));
    }
    if route.path.contains("/webhook-deliveries/{id}") {
        return Names::Path(|world, workspace| world.deliveries.get(workspace).cloned().unwrap_or_else(|| NO_DELIVERY.to_owned()));
    }
    if !route.access.takes_bound() {
        return Names::None;
    }
    match (route.method.as_str(), route.path) {
        ("POST", "/v1/authorize/batch") => Names::Items,
        ("GET", "/v1/admin/workspaces" | WEBHOOKS | "/v1/admin/webhook-deliveries") => Names::Listed,
        _ => Names::Body,
    }
}

/// A body that this route takes, about that workspace. Where the path names the workspace, whatever it takes.
fn body(route: &Route, workspace: &str) -> Option<Value> {
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    Some(match (route.method.as_str(), route.path) {
        ("GET" | "DELETE", _) => return None,
        ("POST", "/v1/authorize") => json!({"workspace_id": workspace, "feature": "f", "model": "big", "input_tokens": 1}),
        ("POST", "/v1/authorize/batch") => {
            json!({"requests": [{"workspace_id": workspace, "feature": "f", "model": "big", "input_tokens": 1}]})
        }
        ("POST", "/v1/usage") => json!({"workspace_id": workspace, "feature": "f", "model": "big", "request_id": "m1", "usage": usage}),
        ("POST", "/v1/events") => json!({"specversion": "1.0", "id": "m2", "source": "/matrix", "type": "use", "subject": workspace,
            "data": {"feature": "f", "model": "big", "usage": usage}}),
        ("POST", "/v1/cache/feedback") => json!({"cache_entry_id": "cch_01931f0c7a5b7c3e8f2a1b0c9d8e7f6a", "correct": true}),
        ("POST", "/v1/reservations/{id}/settle") => json!({"usage": usage}),
        ("POST", "/v1/reservations/{id}/extend") => json!({"hold_seconds": 60}),
        ("POST", "/v1/admin/portal-tokens") => json!({"workspace_id": workspace}),
        ("POST", WEBHOOKS) => json!({"url": "https://example.com/hook", "workspace_id": workspace}),
        ("PUT" | "PATCH" | "POST", path) if path.contains("{id}") => json!({}),
        (method, path) => panic!("say in tests/matrix.rs how {method} {path} names a workspace"),
    })
}

/// The path with its parts filled in; `id` stands for the first one.
fn filled(route: &Route, id: &str) -> String {
    let mut path = String::new();
    let mut next = Some(id);
    let mut rest = route.path;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, after) = after.split_once('}').expect("a part of a path ends");
        path.push_str(before);
        path.push_str(next.take().unwrap_or(NOTHING));
        rest = after;
    }
    path += rest;
    match IN_QUERY.contains(&route.path) {
        true => format!("{path}?workspace_id={id}"),
        false => path,
    }
}

fn guarded() -> Vec<Route> {
    let guarded: Vec<Route> = routes().into_iter().filter(|route| !route.access.is_open()).collect();
    assert!(guarded.len() >= 25, "only {} routes: the table is not the whole one", guarded.len());
    guarded
}

/// Nothing of the workspaces is named, so nothing is done.
fn harmless(route: &Route) -> (String, Option<Value>) {
    let id = match names(route) {
        Names::Path(_) if route.path.contains("reservations") => NO_RESERVATION,
        Names::Path(_) => OWN,
        _ => NOTHING,
    };
    let body = (!matches!(route.method.as_str(), "GET" | "DELETE")).then(|| json!({}));
    (filled(route, id), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_valid_credential_every_route_answers_401() {
    let world = World::new().await;
    let expired = Claims {
        issued_at: world.app.clock.now().plus_seconds(-7_200),
        ..claims_of(&world)
    };
    let expired = mint(SECRET.as_bytes(), &expired);
    let forged = mint(b"another secret, which nobody here has", &claims_of(&world));
    let admin = &world.keys[&("admin", false)];
    let wrong_secret = format!("{}{}", &admin[..admin.len() - 43], "A".repeat(43));
    let refused = [
        ("nothing of ours", "x"),
        ("no token", "x.y.z"),
        ("a forged token", &forged),
        ("an expired token", &expired),
        ("no key", "weir_sk_x"),
        ("a key with another secret", &wrong_secret),
        ("an expired key", &world.expired_key),
        ("a revoked key", &world.revoked_key),
        ("no portal token", "weir_pt_x.y.z"),
    ];
    for route in guarded() {
        let place = format!("{} {}", route.method, route.path);
        let (path, body) = harmless(&route);
        let none = world.send(&route, &path, None, body.clone()).await;
        assert_eq!(none.header("www-authenticate"), Some("Bearer"), "{place}");
        none.problem(401, "unauthorized");
        for (name, credential) in refused {
            let reply = world.send(&route, &path, Some(credential), body.clone()).await;
            let challenge = reply.header("www-authenticate").unwrap_or_default();
            assert!(
                challenge.starts_with("Bearer error=\"invalid_token\""),
                "{place}, {name}: {challenge}"
            );
            reply.problem(401, "unauthorized");
        }
    }
}

fn claims_of(world: &World) -> Claims<'static> {
    Claims {
        issuer: "weir",
        audience: "weir",
        subject: "tests",
        scopes: ScopeSet::of(Scope::Admin),
        workspace: None,
        issued_at: world.app.clock.now(),
        ttl_seconds: 3_600,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_takes_the_scopes_of_the_table_and_no_other() {
    let world = World::new().await;
    let (mut admitted, mut refused) = (0, 0);
    for route in guarded() {
        let wanted = route.access.scopes();
        let (path, body) = harmless(&route);
        for scope in Scope::ALL {
            for is_bound in [false, true] {
                // Without a workspace a portal would show everybody's usage.
                let has_scope = wanted.contains(scope) && (scope != Scope::Portal || is_bound) || scope == Scope::Admin;
                let may = has_scope && (route.access.takes_bound() || !is_bound);
                for (name, credential) in world.credentials(scope, is_bound) {
                    let place = format!("{} {} with {name}", route.method, route.path);
                    let reply = world.send(&route, &path, Some(&credential), body.clone()).await;
                    let status = reply.status.as_u16();
                    if may {
                        assert!(![401, 403, 405].contains(&status) && status < 500, "{place}: {}", reply.text);
                        admitted += 1;
                        continue;
                    }
                    let challenge = reply.header("www-authenticate").unwrap_or_default().to_owned();
                    assert_eq!(status, 403, "{place}: {}", reply.text);
                    reply.problem(403, "insufficient_scope");
                    let expected = match has_scope {
                        true => "Bearer error=\"insufficient_scope\"".to_owned(),
                        false => format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", wanted.joined(" ")),
                    };
                    assert_eq!(challenge, expected, "{place}");
                    refused += 1;
                }
            }
        }
    }
    assert!(admitted > 100 && refused > 200, "{admitted} admitted, {refused} refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_things_look_like_nothing_on_every_route() {
    let world = World::new().await;
    let before = world.foreign().await;
    let mut asked = 0;
    for route in guarded() {
        let name_of = match names(&route) {
            Names::None => continue,
            Names::Path(name_of) => name_of,
            Names::Body | Names::Items | Names::Listed => |_: &World, _: &str| NOTHING.to_owned(),
        };
        for scope in route.access.scopes().iter().chain([Scope::Admin]) {
            for (name, credential) in world.credentials(scope, true) {
                let place = format!("{} {} with {name}", route.method, route.path);
                let mut seen = Vec::new();
                for workspace in [FOREIGN, "ws_unheard_of"] {
                    let id = name_of(&world, workspace);
                    let reply = world
                        .send(&route, &filled(&route, &id), Some(&credential), body(&route, workspace))
                        .await;
                    let kind = reply.header("content-type").map(str::to_owned);
                    let mut problem = match names(&route) {
                        Names::Listed => {
                            assert!(!reply.text.contains(workspace), "{place}: {}", reply.text);
                            reply.expect(200);
                            continue;
                        }
                        Names::Items => {
                            let mut answer = reply.json();
                            let item = answer["results"][0].take();
                            assert_eq!(item["status"], 404, "{place}, {workspace}: {item}");
                            item["error"].clone()
                        }
                        _ => {
                            assert_eq!(reply.status.as_u16(), 404, "{place}, {workspace}: {}", reply.text);
                            reply.json()
                        }
                    };
                    problem["instance"] = Value::Null;
                    seen.push((problem.to_string().replace(&id, "…"), kind));
                }
                if matches!(names(&route), Names::Listed) {
                    continue;
                }
                assert_eq!(seen[0], seen[1], "{place}: what is foreign and what is unknown differ");
                asked += 1;
            }
        }
    }
    assert!(asked > 40, "only {asked} were asked");
    assert_eq!(world.foreign().await, before, "nothing of it was changed");
    let held = &world.reservations[FOREIGN];
    assert_eq!(
        world.app.get(&format!("/v1/reservations/{held}")).await.expect(200)["state"],
        "held"
    );
    let nobody = WorkspaceId::parse("ws_unheard_of").expect("a name");
    let created = weir::flow::workspace::find(&world.app.service, &nobody)
        .await
        .expect("the ledger answers");
    assert!(created.is_none(), "asking creates nothing");
}

#[tokio::test]
async fn open_routes_are_few_and_ask_for_no_credential() {
    let app = TestApp::start().await;
    // What a billing provider tells is signed by it: `billing_in` holds who is heard.
    let is_open = |route: &Route| route.access.is_open() && route.path != "/webhooks/stripe";
    let open: Vec<Route> = routes().into_iter().filter(is_open).collect();
    let paths: Vec<&str> = open.iter().map(|route| route.path).collect();
    assert_eq!(
        paths,
        ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{page:.*}", "/"],
        "a route that is open to everybody is in this list on purpose"
    );
    for route in open {
        let path = filled(&route, "index.html");
        let reply = app
            .client
            .get(format!("{}{path}", app.url))
            .header("authorization", "Bearer x")
            .send()
            .await
            .expect("an answer");
        assert!(
            reply.status().is_success() || reply.status().is_redirection(),
            "{path}: {}",
            reply.status()
        );
    }
    for route in guarded() {
        assert!(route.path.starts_with("/v1/"), "{}", route.path);
    }
}
