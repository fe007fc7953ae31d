//! Who calls: API keys and portal tokens over their whole lives, the keys of issuers, and credentials that must be refused.

use crate::support;
use crate::support::issuer::{Answering, Issuer, Signer, b64};
use crate::support::stores::{self, Stores};
use crate::support::{Reply, SECRET, TestApp, verifier};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weir::api::auth::{FETCH_EVERY_SECONDS, FETCH_PAUSE_SECONDS, Jwks, KEYS_SECONDS_MAX, Keys, Seal, Verifier};
use weir::decision::id::KeyId;
use weir::flow::audit::AuditQuery;

/// A key of these scopes, with its id and its secret.
async fn key(app: &TestApp, body: Value) -> (String, String) {
    let made = app.post("/v1/admin/api-keys", body).await.expect(201);
    let text = |name: &str| made[name].as_str().expect(name).to_owned();
    (text("key_id"), text("secret"))
}

async fn get(app: &TestApp, credential: &str, path: &str) -> Reply {
    app.call_as(credential, Method::GET, path, None).await
}

#[track_caller]
fn refused(reply: &Reply) {
    assert_eq!(reply.status.as_u16(), 401, "{}", reply.text);
    let challenge = reply.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
    assert_eq!(reply.json()["detail"], "The credential is not valid.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_shown_once_and_does_what_its_scopes_say() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let body = json!({"scopes": ["read", "usage:write", "read"], "name": "backend", "expires_at": null, "workspace_id": null});
    let made = app.post("/v1/admin/api-keys", body).await;
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.expect(201);
    let (id, secret) = (made["key_id"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    assert!(id.starts_with("key_") && secret.starts_with("weir_sk_"), "{made}");
    assert_eq!(made["scopes"], json!(["usage:write", "read"]));
    assert_eq!((&made["created_by"], &made["last_used_at"]), (&json!("tests"), &Value::Null));

    get(&app, secret, "/v1/workspaces/ws/usage").await.expect(200);
    let use_one = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "r1", "usage": {"input_tokens": 5, "output_tokens": 5}});
    app.call_as(secret, Method::POST, "/v1/usage", Some(use_one)).await.expect(200);
    let denied = app.call_as(secret, Method::POST, "/v1/authorize", Some(json!({}))).await;
    let challenge = denied.header("www-authenticate").expect("a challenge").to_owned();
    denied.problem(403, "insufficient_scope");
    assert_eq!(challenge, "Bearer error=\"insufficient_scope\", scope=\"authorize\"");
    get(&app, secret, "/v1/admin/api-keys").await.problem(403, "insufficient_scope");

    for shown in [
        app.get(&format!("/v1/admin/api-keys/{id}")).await,
        app.get("/v1/admin/api-keys").await,
    ] {
        assert!(shown.text.contains(id) && !shown.text.contains("weir_sk_"), "{}", shown.text);
    }
    let query = AuditQuery {
        subject_kind: Some("api_key".to_owned()),
        limit: 10,
        ..AuditQuery::default()
    };
    let records = weir::flow::audit::list(&app.service, &query).await.expect("the ledger answers");
    assert_eq!(
        (records.len(), records[0].action.as_str(), records[0].by.actor.as_str()),
        (1, "api_key.create", "tests")
    );
    assert_eq!(records[0].after.as_ref().expect("a document")["name"], "backend");
    assert!(!format!("{records:?}").contains(&secret[KEY_HEAD..]), "{records:?}");
}

/// How much of a key is no secret.
const KEY_HEAD: usize = "weir_sk_".len() + 32 + 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_made_up_is_refused_by_its_form_alone() {
    let app = TestApp::alone().await;
    let (_, secret) = key(&app, json!({"scopes": ["admin"]})).await;
    get(&app, &secret, "/v1/admin/plans").await.expect(200);
    let reads = app.service.api_keys.reads();
    assert_eq!(reads, 1, "it was read from the ledger once");
    let elsewhere = Seal::new(b"another secret of 32 bytes or so", "weir").expect("long enough");
    for number in 0..50_u128 {
        let id = KeyId::from_uuid(uuid::Uuid::from_u128(number));
        let (made_up, _) = elsewhere.make_key(id).expect("chance");
        refused(&get(&app, &made_up, "/v1/admin/plans").await);
        let of_the_key = format!("{}{}", &secret[..KEY_HEAD], &made_up[KEY_HEAD..]);
        refused(&get(&app, &of_the_key, "/v1/admin/plans").await);
    }
    for broken in [
        &secret[..secret.len() - 1],
        &secret[..KEY_HEAD],
        "weir_sk_",
        "weir_sk_x",
        "weir_pt_",
        "weir_pt_x.y.z",
    ] {
        refused(&get(&app, broken, "/v1/admin/plans").await);
    }
    assert_eq!(app.service.api_keys.reads(), reads, "no stranger makes the ledger be asked");
    // One that bears our mark and is in no ledger, as after a restore, is asked for once.
    let ours = Seal::new(SECRET.as_bytes(), "weir").expect("long enough");
    let (lost, _) = ours.make_key(KeyId::from_uuid(uuid::Uuid::from_u128(7))).expect("chance");
    for answer in join_all((0..20).map(|_| get(&app, &lost, "/v1/admin/plans"))).await {
        refused(&answer);
    }
    let asked = app.service.api_keys.reads() - reads;
    assert!((1..=4).contains(&asked), "asked {asked} times");
    get(&app, &secret, "/v1/admin/plans").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_with_overlap_expires_and_is_revoked() {
    let app = TestApp::start().await;
    let (id, first) = key(&app, json!({"scopes": ["admin"], "expires_at": "2025-11-21T20:00:00Z"})).await;
    let works = async |secret: &str| get(&app, secret, "/v1/admin/plans").await.status.as_u16() == 200;
    assert!(works(&first).await);
    let rotate = format!("/v1/admin/api-keys/{id}/rotate");
    let rotated = app.post(&rotate, json!({"overlap_seconds": 60})).await.expect(200);
    let second = rotated["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(rotated["replaced_secret_expires_at"], "2025-11-21T10:01:00Z");
    app.follow_all().await;
    assert!(works(&first).await && works(&second).await);
    app.pass_seconds(60);
    assert!(!works(&first).await && works(&second).await);
    // Without overlap the one before ends at once; and with another rotation so does one that still overlapped.
    let third = app.post(&rotate, json!({"overlap_seconds": 3_600})).await.expect(200)["secret"]
        .as_str()
        .expect("a secret")
        .to_owned();
    let fourth = app.post(&rotate, json!({"overlap_seconds": 0})).await.expect(200)["secret"]
        .as_str()
        .expect("a secret")
        .to_owned();
    app.follow_all().await;
    assert!(!works(&second).await && !works(&third).await && works(&fourth).await);

    let shown = app.get(&format!("/v1/admin/api-keys/{id}")).await.expect(200);
    assert_eq!(shown["replaced_secret_expires_at"], Value::Null);
    app.set_clock("2025-11-21T19:59:59Z");
    assert!(works(&fourth).await);
    app.set_clock("2025-11-21T20:00:00Z");
    refused(&get(&app, &fourth, "/v1/admin/plans").await);

    let (id, secret) = key(&app, json!({"scopes": ["admin"]})).await;
    assert!(works(&secret).await);
    let path = format!("/v1/admin/api-keys/{id}");
    assert_eq!(app.call(Method::DELETE, &path, None).await.status.as_u16(), 204);
    refused(&get(&app, &secret, "/v1/admin/plans").await);
    for gone in [
        app.call(Method::DELETE, &path, None).await,
        app.get(&path).await,
        app.post(&format!("{path}/rotate"), json!({})).await,
        app.get("/v1/admin/api-keys/key_0").await,
    ] {
        gone.problem(404, "not_found");
    }
    assert!(!app.get("/v1/admin/api-keys").await.text.contains(&id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_key_is_refused_with_its_place() {
    let app = TestApp::start().await;
    for (body, status, place) in [
        (json!({}), 400, "scopes"),
        (json!({"scopes": "read"}), 400, "scopes"),
        (json!({"scopes": []}), 422, "at least one"),
        (json!({"scopes": ["reed"]}), 422, "did you mean read?"),
        (json!({"scopes": ["portal"]}), 422, "/workspace_id"),
        (json!({"scopes": ["read"], "workspace_id": "a b"}), 422, "/workspace_id"),
        (
            json!({"scopes": ["read"], "expires_at": "2025-11-21T10:00:00Z"}),
            422,
            "/expires_at",
        ),
        (json!({"scopes": ["read"], "expires_at": "soon"}), 422, "/expires_at"),
        (json!({"scopes": ["read"], "name": ""}), 422, "/name"),
        (json!({"scopes": ["read"], "name": "a\nb"}), 422, "/name"),
        (json!({"scopes": ["read"], "name": "x".repeat(129)}), 422, "/name"),
        (json!({"scopes": ["read"], "secret": "weir_sk_mine"}), 400, "secret"),
    ] {
        let reply = app.post("/v1/admin/api-keys", body.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
        assert!(reply.text.contains(place), "{body}: {}", reply.text);
    }
    let (id, _) = key(&app, json!({"scopes": ["read"]})).await;
    for (body, status) in [
        (json!({"overlap_seconds": -1}), 422),
        (json!({"overlap_seconds": 2_592_001}), 422),
        (json!({"overlap_seconds": "1"}), 400),
        (json!({"overlap": 1}), 400),
    ] {
        let reply = app.post(&format!("/v1/admin/api-keys/{id}/rotate"), body.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_for_ever_has_no_end_and_a_name_that_can_be_seen() {
    let app = TestApp::start().await;
    let refused = async |body: Value| app.post("/v1/admin/api-keys", body).await.problem(422, "unacceptable");
    let told = refused(json!({"scopes": ["read"], "expires_at": "9999-12-31T23:59:59Z"})).await;
    assert!(told.to_string().contains("leave it out"), "{told}");
    let told = refused(json!({"scopes": ["read"], "expires_at": "someday"})).await;
    assert!(told.to_string().contains("is not a time"), "{told}");
    refused(json!({"scopes": ["read"], "name": "a\u{202e}b"})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_told_the_same_without_the_secret() {
    let app = TestApp::start().await;
    let send = async |path: &str, body: Value| {
        let request = app.client.post(format!("{}{path}", app.url)).bearer_auth(app.token("admin", None));
        let sent = request.header("Idempotency-Key", "k1").json(&body).send().await.expect("an answer");
        Reply::read(sent).await
    };
    let body = json!({"scopes": ["read"]});
    let first = send("/v1/admin/api-keys", body.clone()).await.expect(201);
    let again = send("/v1/admin/api-keys", body).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert!(!again.text.contains("weir_sk_"), "{}", again.text);
    let mut without_secret = first.clone();
    without_secret.as_object_mut().expect("an object").shift_remove("secret");
    assert_eq!(again.expect(201), without_secret);
    send("/v1/admin/api-keys", json!({"scopes": ["admin"]}))
        .await
        .problem(422, "idempotency_mismatch");
    // The same key at another path is another request.
    let rotate = format!("/v1/admin/api-keys/{}/rotate", first["key_id"].as_str().expect("an id"));
    let (other, _) = key(&app, json!({"scopes": ["read"]})).await;
    let one = send(&rotate, json!({})).await.expect(200);
    let two = send(&format!("/v1/admin/api-keys/{other}/rotate"), json!({})).await.expect(200);
    assert!(one["secret"] != two["secret"] && two["key_id"] == json!(other), "{two}");
    assert!(
        !send(&rotate, json!({})).await.text.contains("weir_sk_"),
        "a rotation is not done twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_listed_in_pages_newest_first() {
    let app = TestApp::start().await;
    let mut made = Vec::new();
    for n in 0..5 {
        app.pass_seconds(1);
        let workspace = if n % 2 == 0 { json!("ws_a") } else { Value::Null };
        made.push(key(&app, json!({"scopes": ["read"], "workspace_id": workspace})).await.0);
    }
    made.reverse();
    let mut listed = Vec::new();
    let mut path = "/v1/admin/api-keys?limit=2".to_owned();
    loop {
        let page = app.get(&path).await.expect(200);
        let ids = page["data"]
            .as_array()
            .expect("data")
            .iter()
            .map(|key| key["key_id"].as_str().expect("an id").to_owned());
        listed.extend(ids);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/admin/api-keys?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, made);
    let of_one = app.get("/v1/admin/api-keys?workspace_id=ws_a").await.expect(200);
    assert_eq!(of_one["data"].as_array().expect("data").len(), 3);
    for query in ["limit=0", "limit=501", "cursor=x", "workspace_id=a%20b", "more=1"] {
        let reply = app.get(&format!("/v1/admin/api-keys?{query}")).await;
        assert!([400, 422].contains(&reply.status.as_u16()), "{query}: {}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_key_was_used_last_is_known_to_the_minute() {
    let app = TestApp::alone().await;
    let (id, secret) = key(&app, json!({"scopes": ["read"]})).await;
    let path = format!("/v1/admin/api-keys/{id}");
    let shown = async || app.get(&path).await.expect(200)["last_used_at"].clone();
    let write = async || weir::flow::api_keys::write_uses(&app.service).await.expect("written");
    assert_eq!((write().await, shown().await), (0, Value::Null));
    // A refused scope is a use of the key too: whoever looks for unused keys must see it.
    get(&app, &secret, "/v1/admin/plans").await.problem(403, "insufficient_scope");
    assert_eq!((write().await, shown().await), (1, json!("2025-11-21T10:00:00Z")));
    app.pass_seconds(59);
    get(&app, &secret, "/v1/workspaces/x/usage").await.problem(404, "not_found");
    assert_eq!(write().await, 0, "a minute has not passed");
    app.pass_seconds(1);
    get(&app, &secret, "/v1/workspaces/x/usage").await.problem(404, "not_found");
    assert_eq!((write().await, shown().await), (1, json!("2025-11-21T10:01:00Z")));
    let wrong = format!("{}{}", &secret[..KEY_HEAD], "A".repeat(43));
    app.pass_seconds(600);
    refused(&get(&app, &wrong, "/v1/workspaces/x/usage").await);
    assert_eq!(write().await, 0, "a refused credential is no use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_there_are_no_keys_and_it_is_said_why() {
    let app = TestApp::alone().await;
    app.workspace_with_tokens("ws", 10).await;
    let (_, secret) = key(&app, json!({"scopes": ["read"]})).await;
    let keys = Keys::none().with_secret(SECRET.as_bytes()).expect("long enough");
    let bare = app.verified_by(Verifier::new(keys, "weir", "weir"));
    for (path, body) in [
        ("/v1/admin/api-keys", json!({"scopes": ["read"]})),
        ("/v1/admin/portal-tokens", json!({"workspace_id": "ws"})),
    ] {
        let problem = bare.post(path, body).await.problem(422, "unacceptable");
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains("WEIR_SECRET_KEY")),
            "{problem}"
        );
    }
    refused(&get(&bare, &secret, "/v1/workspaces/ws/usage").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_shows_its_customers_usage_and_no_cost() {
    let app = TestApp::start().await;
    let budgets = json!({"budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000},
        {"id": "spend", "unit": "usd", "period": "month", "hard": "5"}]});
    app.workspace_on("ws_a", budgets.clone()).await;
    app.workspace_on("ws_b", budgets).await;
    let made = app
        .post("/v1/admin/portal-tokens", json!({"workspace_id": "ws_a", "ttl_seconds": 900}))
        .await
        .expect(201);
    assert_eq!(
        (&made["workspace_id"], &made["expires_at"]),
        (&json!("ws_a"), &json!("2025-11-21T10:15:00Z"))
    );
    let token = made["token"].as_str().expect("a token");
    assert!(token.starts_with("weir_pt_"));
    let shown = get(&app, token, "/v1/workspaces/ws_a/usage").await;
    assert!(!shown.text.contains("usd") && !shown.text.contains("cost"), "{}", shown.text);
    let shown = shown.expect(200);
    let ids: Vec<_> = shown["budgets"]
        .as_array()
        .expect("budgets")
        .iter()
        .map(|budget| budget["budget_id"].clone())
        .collect();
    assert_eq!(ids, ["tokens"], "what is spent in usd is a cost");
    // Its maker sees both.
    assert_eq!(
        app.get("/v1/workspaces/ws_a/usage").await.expect(200)["budgets"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let foreign = get(&app, token, "/v1/workspaces/ws_b/usage").await.problem(404, "not_found");
    let unknown = get(&app, token, "/v1/workspaces/ws_none/usage").await.problem(404, "not_found");
    assert_eq!(foreign["detail"], unknown["detail"]);
    for path in [
        "/v1/workspaces/ws_a/ledger",
        "/v1/admin/workspaces/ws_a",
        "/v1/admin/api-keys",
        "/v1/admin/plans",
    ] {
        get(&app, token, path).await.problem(403, "insufficient_scope");
    }
    app.pass_seconds(900 + 60);
    let expired = get(&app, token, "/v1/workspaces/ws_a/usage").await;
    assert!(
        expired
            .header("www-authenticate")
            .is_some_and(|challenge| challenge.contains("expired"))
    );

    for (body, status) in [
        (json!({}), 400),
        (json!({"workspace_id": "ws_none"}), 404),
        (json!({"workspace_id": "ws_a", "ttl_seconds": 0}), 422),
        (json!({"workspace_id": "ws_a", "ttl_seconds": 86_401}), 422),
        (json!({"workspace_id": "ws_a", "scopes": ["admin"]}), 400),
    ] {
        assert_eq!(
            app.post("/v1/admin/portal-tokens", body.clone()).await.status.as_u16(),
            status,
            "{body}"
        );
    }
    // A customer's own administrator may open a portal of that customer, and of no other.
    let bound = app.token("admin", Some("ws_a"));
    let portal = async |body| app.call_as(&bound, Method::POST, "/v1/admin/portal-tokens", Some(body)).await;
    assert_eq!(portal(json!({})).await.expect(201)["workspace_id"], "ws_a");
    portal(json!({"workspace_id": "ws_b"})).await.problem(404, "not_found");
    // A bearer of portal alone, by whichever credential.
    let (_, secret) = key(&app, json!({"scopes": ["portal"], "workspace_id": "ws_a"})).await;
    let shown = get(&app, &secret, "/v1/workspaces/ws_a/usage").await;
    assert!(shown.status.as_u16() == 200 && !shown.text.contains("usd"), "{}", shown.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_on_one_node_ends_on_all_within_two_seconds() {
    if !stores::can_be_production() {
        return;
    }
    let nodes = TestApp::nodes(3).await;
    for node in &nodes {
        weir::app::background(&node.service, Duration::from_secs(1));
    }
    let (id, secret) = key(&nodes[0], json!({"scopes": ["admin"]})).await;
    for node in &nodes {
        get(node, &secret, "/v1/admin/plans").await.expect(200);
    }
    let revoked = nodes[1].call(Method::DELETE, &format!("/v1/admin/api-keys/{id}"), None).await;
    assert_eq!(revoked.status.as_u16(), 204);
    let began = Instant::now();
    for node in &nodes {
        while get(node, &secret, "/v1/admin/plans").await.status.as_u16() == 200 {
            assert!(began.elapsed() < Duration::from_secs(2), "a revoked key still works");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    println!("revoked on three nodes after {:?}", began.elapsed());
    for node in &nodes {
        // Twice where a change was followed in between: what was read then may be older than the change.
        assert!((1..=2).contains(&node.service.api_keys.reads()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_key_works_while_the_ledger_is_away_and_another_one_is_told_to_come_again() {
    if !stores::can_be_production() {
        return;
    }
    let server = support::postgres::Postgres::start().expect("a PostgreSQL");
    let node = TestApp::on(Stores::empty_production_in(&server).await).await;
    let (_, known) = key(&node, json!({"scopes": ["admin"]})).await;
    let (_, unknown) = key(&node, json!({"scopes": ["admin"]})).await;
    get(&node, &known, "/v1/admin/plans").await.expect(200);
    server.stop_immediately();
    get(&node, &known, "/v1/admin/plans").await.expect(200);
    let request = node.client.get(format!("{}/v1/admin/plans", node.url)).bearer_auth(&unknown);
    let away = Reply::read(request.send().await.expect("an answer")).await;
    assert!(away.header("retry-after").is_some());
    away.problem(503, "store_unavailable");
    server.start_again();
    get(&node, &unknown, "/v1/admin/plans").await.expect(200);
}

/// A service that takes tokens of this issuer.
async fn trusting(issuer: &Issuer) -> TestApp {
    let app = TestApp::alone().await;
    let node = app.verified_by(verifier().with_jwks(Jwks::new(&issuer.url).expect("a client")));
    node.workspace_with_tokens("ws", 1_000).await;
    node
}

fn claims(app: &TestApp) -> Value {
    use weir::clock::Clock;
    let now = app.clock.now().micros() / 1_000_000;
    json!({"iss": "weir", "aud": "weir", "sub": "svc-1", "exp": now + 30 * 24 * 3_600, "scope": "read"})
}

const USAGE: &str = "/v1/workspaces/ws/usage";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_of_an_issuer_come_and_go() {
    let signers = [Signer::rsa("r1"), Signer::p256("e1"), Signer::p384("e2"), Signer::ed25519("d1")];
    let issuer = Issuer::start(Answering::Keys(signers.iter().map(Signer::jwk).collect())).await;
    let app = trusting(&issuer).await;
    let claims = claims(&app);
    for signer in &signers {
        get(&app, &signer.token(&claims), USAGE).await.expect(200);
    }
    assert_eq!(issuer.asked(), 1, "for all of them");
    // A new key works once somebody uses it and a fetch is allowed again; the old ones go on meanwhile.
    let next = Signer::p256("e3");
    issuer.answers(Answering::Keys(vec![signers[1].jwk(), next.jwk()]));
    refused(&get(&app, &next.token(&claims), USAGE).await);
    assert_eq!(issuer.asked(), 1, "it was asked a moment ago");
    get(&app, &signers[0].token(&claims), USAGE).await.expect(200);
    app.pass_seconds(FETCH_PAUSE_SECONDS);
    let token = next.token(&claims);
    for answer in join_all((0..20).map(|_| get(&app, &token, USAGE))).await {
        answer.expect(200);
    }
    assert_eq!(issuer.asked(), 2, "one fetch for all who wait");
    // What the set has lost verifies nothing any more, tokens that were verified before included.
    refused(&get(&app, &signers[0].token(&claims), USAGE).await);
    get(&app, &signers[1].token(&claims), USAGE).await.expect(200);
    // A set is fetched again when it is old, without a new name and beside the requests.
    issuer.answers(Answering::Keys(vec![]));
    app.pass_seconds(FETCH_EVERY_SECONDS);
    let began = Instant::now();
    while get(&app, &token, USAGE).await.status.as_u16() == 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "an empty set is a set");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(issuer.asked(), 3);
    // The service's own tokens have nothing to do with it.
    get(&app, &app.token("read", None), USAGE).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_issuer_that_misbehaves_costs_nobody_a_key_that_is_known() {
    let signer = Signer::p256("e1");
    let good = Answering::Keys(vec![signer.jwk()]);
    let issuer = Issuer::start(good.clone()).await;
    let elsewhere = Issuer::start(good.clone()).await;
    let app = trusting(&issuer).await;
    let (token, unknown) = (signer.token(&claims(&app)), Signer::p256("e9").token(&claims(&app)));
    get(&app, &token, USAGE).await.expect(200);
    let redirect = |status| Answering::With(status, format!("Location: {}\r\n", elsewhere.url), String::new());
    for (name, answering) in [
        ("hanging", Answering::Hanging),
        ("endless", Answering::Endless),
        ("dripping", Answering::Dripping),
        ("redirect", redirect(302)),
        ("permanent redirect", redirect(308)),
        ("failing", Answering::With(500, String::new(), json!({"keys": []}).to_string())),
        ("page", Answering::With(200, String::new(), "<html>sign in</html>".to_owned())),
        ("other JSON", Answering::With(200, String::new(), "{}".to_owned())),
    ] {
        issuer.answers(answering);
        app.pass_seconds(FETCH_PAUSE_SECONDS);
        let before = issuer.asked();
        let began = Instant::now();
        let waits = get(&app, &unknown, USAGE);
        let others = async {
            let began = Instant::now();
            for _ in 0..20 {
                get(&app, &token, USAGE).await.expect(200);
            }
            began.elapsed()
        };
        let (waited, others) = tokio::join!(waits, others);
        refused(&waited);
        assert!(began.elapsed() < Duration::from_secs(12), "{name}: a fetch has an end");
        assert!(others < Duration::from_secs(4), "{name}: others waited {others:?}");
        refused(&get(&app, &unknown, USAGE).await);
        assert_eq!(issuer.asked(), before + 1, "{name}: one fetch in an interval");
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
    // Keys work for a while without their issuer, and not for ever. Who cannot be told from a stranger then is told to come again.
    app.pass_seconds(KEYS_SECONDS_MAX - 10 * FETCH_PAUSE_SECONDS);
    get(&app, &token, USAGE).await.expect(200);
    app.pass_seconds(KEYS_SECONDS_MAX);
    let away = get_once(&app, &token).await;
    assert_eq!(away.header("retry-after"), Some("1"));
    away.problem(503, "keys_unavailable");
    refused(&get(&app, "x.y.z", USAGE).await);
    get(&app, &app.token("read", None), USAGE).await.expect(200);
    issuer.answers(good);
    app.pass_seconds(FETCH_PAUSE_SECONDS);
    get(&app, &token, USAGE).await.expect(200);
}

async fn get_once(app: &TestApp, token: &str) -> Reply {
    let request = app.client.get(format!("{}{USAGE}", app.url)).bearer_auth(token);
    Reply::read(request.send().await.expect("an answer")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn made_up_key_names_cost_an_issuer_one_fetch_in_an_interval() {
    let signer = Signer::ed25519("d1");
    let issuer = Issuer::start(Answering::Keys(vec![signer.jwk()])).await;
    let app = trusting(&issuer).await;
    get(&app, &signer.token(&claims(&app)), USAGE).await.expect(200);
    let stranger = Signer::ed25519("d1");
    for round in 1..=2 {
        app.pass_seconds(FETCH_PAUSE_SECONDS);
        let tokens: Vec<String> = (0..100)
            .map(|n| stranger.token_of(&json!({"alg": "EdDSA", "kid": format!("made-up-{round}-{n}")}), &claims(&app)))
            .collect();
        for answer in join_all(tokens.iter().map(|token| get(&app, token, USAGE))).await {
            refused(&answer);
        }
        assert_eq!(issuer.asked(), 1 + round);
    }
    // A name that is known, or an algorithm of no public key, is no reason to ask.
    app.pass_seconds(FETCH_PAUSE_SECONDS);
    for header in [
        json!({"alg": "EdDSA", "kid": "d1"}),
        json!({"alg": "HS256", "kid": "x"}),
        json!({"alg": "none", "kid": "x"}),
    ] {
        refused(&get(&app, &stranger.token_of(&header, &claims(&app)), USAGE).await);
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 3);
}

/// Tokens of every kind of attack, made here; only the first few are good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tokens_are_taken_or_refused_by_the_key_that_they_are_of() {
    let (rsa, ec, ed, stranger) = (Signer::rsa("r1"), Signer::p256("e1"), Signer::ed25519("d1"), Signer::rsa("r1"));
    let issuer = Issuer::start(Answering::Keys(vec![rsa.jwk(), ec.jwk(), ed.jwk()])).await;
    let app = trusting(&issuer).await;
    let claims = claims(&app);
    let but = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().expect("an object").shift_remove(name);
        claims
    };
    let now = claims["exp"].as_i64().expect("seconds") - 30 * 24 * 3_600;
    let good = rsa.token(&claims);
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (head, payload) = signed.split_once('.').expect("three parts");
    let headed = |signer: &Signer, header: Value| signer.token_of(&header, &claims);
    let hmac_by = |key: &[u8], header: Value| {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        format!("{signed}.{}", b64(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    let modulus = rsa.jwk()["n"].as_str().expect("a modulus").to_owned();
    let cases: Vec<(&str, String, bool)> = vec![
        ("RS256", good.clone(), true),
        ("ES256", ec.token(&claims), true),
        ("EdDSA", ed.token(&claims), true),
        ("exp with a fraction", rsa.token(&but("exp", json!(now as f64 + 10.5))), true),
        ("aud with ours among others", rsa.token(&but("aud", json!(["x", "weir"]))), true),
        ("at+jwt", headed(&rsa, json!({"alg": "RS256", "kid": "r1", "typ": "at+jwt"})), true),
        ("none, no signature", format!("{}.{payload}.", b64(r#"{"alg":"none"}"#)), false),
        ("NONE", format!("{}.{payload}.", b64(r#"{"alg":"NONE"}"#)), false),
        (
            "none, signature kept",
            format!("{}.{payload}.{signature}", b64(r#"{"alg":"none","kid":"r1"}"#)),
            false,
        ),
        ("no signature", signed.to_owned(), false),
        ("empty signature", format!("{signed}."), false),
        (
            "HMAC by the public key",
            hmac_by(modulus.as_bytes(), json!({"alg": "HS256", "kid": "r1"})),
            false,
        ),
        (
            "HMAC by the public key as JWK",
            hmac_by(rsa.jwk().to_string().as_bytes(), json!({"alg": "HS256"})),
            false,
        ),
        ("HMAC by nothing", hmac_by(b"", json!({"alg": "HS256"})), false),
        ("a stranger's key of the same name", stranger.token(&claims), false),
        (
            "its own jwk",
            headed(&stranger, json!({"alg": "RS256", "jwk": stranger.jwk()})),
            false,
        ),
        (
            "its own jwk, our name",
            headed(&stranger, json!({"alg": "RS256", "kid": "r1", "jwk": stranger.jwk()})),
            false,
        ),
        (
            "its own jku",
            headed(&stranger, json!({"alg": "RS256", "kid": "r1", "jku": issuer.url})),
            false,
        ),
        (
            "its own x5u",
            headed(&stranger, json!({"alg": "RS256", "kid": "r1", "x5u": issuer.url})),
            false,
        ),
        (
            "its own x5c",
            headed(&stranger, json!({"alg": "RS256", "kid": "r1", "x5c": ["MIIB"]})),
            false,
        ),
        (
            "a path as name",
            headed(&stranger, json!({"alg": "RS256", "kid": "../../dev/null"})),
            false,
        ),
        (
            "SQL as name",
            headed(&stranger, json!({"alg": "RS256", "kid": "x' UNION SELECT 'a'-- "})),
            false,
        ),
        ("a number as name", headed(&rsa, json!({"alg": "RS256", "kid": 1})), false),
        ("no name", headed(&rsa, json!({"alg": "RS256"})), false),
        ("another key's name", headed(&rsa, json!({"alg": "RS256", "kid": "e1"})), false),
        ("another key's algorithm", headed(&rsa, json!({"alg": "ES256", "kid": "r1"})), false),
        (
            "another algorithm of RSA",
            headed(&rsa, json!({"alg": "PS256", "kid": "r1"})),
            false,
        ),
        (
            "two algorithms",
            format!("{}.{payload}.{signature}", b64(r#"{"alg":"none","alg":"RS256","kid":"r1"}"#)),
            false,
        ),
        (
            "critical extension",
            headed(&rsa, json!({"alg": "RS256", "kid": "r1", "crit": ["exp"], "exp": 1})),
            false,
        ),
        (
            "payload changed",
            format!("{head}.{}.{signature}", b64(but("scope", json!("admin")).to_string())),
            false,
        ),
        ("signature of DER", der_signed(&ec, &claims), false),
        ("expired", rsa.token(&but("exp", json!(now - 3_600))), false),
        ("exp as text", rsa.token(&but("exp", json!((now + 600).to_string()))), false),
        ("exp below zero", rsa.token(&but("exp", json!(-1))), false),
        ("without exp", rsa.token(&without("exp")), false),
        ("without iss", rsa.token(&without("iss")), false),
        ("without aud", rsa.token(&without("aud")), false),
        ("without sub", rsa.token(&without("sub")), false),
        ("not yet", rsa.token(&but("nbf", json!(now + 3_600))), false),
        ("another issuer", rsa.token(&but("iss", json!("https://evil.example"))), false),
        ("another audience", rsa.token(&but("aud", json!("other"))), false),
        ("workspace null", rsa.token(&but("workspace_id", Value::Null)), false),
        ("header no JSON", format!("{}.{payload}.{signature}", b64("x")), false),
        (
            "the other alphabet",
            good.replace('-', "+").replace('_', "/"),
            !good.contains(['-', '_']),
        ),
        ("padded", format!("{good}="), false),
        ("a megabyte", format!("{head}.{}.{signature}", "A".repeat(60_000)), false),
    ];
    for (name, token, good) in cases {
        let status = get_once(&app, &token).await.status.as_u16();
        match good {
            true => assert_eq!(status, 200, "{name}"),
            // Headers of a megabyte are refused before anybody looks for a credential.
            false => assert!(
                status == 401 || (token.len() > 50_000 && [400, 431].contains(&status)),
                "{name}: {status}"
            ),
        }
    }
    assert_eq!(issuer.asked(), 1, "an address in a token is never asked");
}

/// A signature as OpenSSL writes it: two integers in ASN.1 instead of r and s side by side.
fn der_signed(ec: &Signer, claims: &Value) -> String {
    let token = ec.token(claims);
    let (signed, _) = token.rsplit_once('.').expect("three parts");
    let fixed = ec.sign(signed.as_bytes());
    let integer = |part: &[u8]| [&[2, 33, 0][..], part].concat();
    let (r, s) = fixed.split_at(32);
    let both = [integer(r), integer(s)].concat();
    format!("{signed}.{}", b64([&[0x30, both.len() as u8][..], &both].concat()))
}
