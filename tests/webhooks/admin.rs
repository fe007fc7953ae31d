//! Endpoints and deliveries over HTTP: what may be registered, who sees it, and that a secret is in one answer only.

use super::receiver::{Manner, answers};
use super::*;
use weir::flow::Options;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_shown_once_and_stands_nowhere_else() {
    let app = TestApp::start().await;
    let body =
        json!({"url": "https://example.com/hook", "workspace_id": "ws_a", "events": ["budget.*", "plan.changed"], "description": "ours"});
    let key = [("Idempotency-Key", "k1")];
    let admin = app.token("admin", None);
    let made = app.call_with(&admin, Method::POST, ENDPOINTS, &key, Some(body.clone())).await;
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.expect(201);
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    let again = app.call_with(&admin, Method::POST, ENDPOINTS, &key, Some(body)).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let again = again.expect(201);
    assert_eq!((&again["endpoint_id"], &again["secret"]), (&made["endpoint_id"], &Value::Null));
    let rotated = app.post(&path(&made, "/rotate"), json!({})).await.expect(200);
    let newer = rotated["secret"].as_str().expect("a secret").to_owned();
    app.patch_endpoint(&made, json!({"description": null, "events": ["*"]}))
        .await
        .expect(200);
    for place in [
        path(&made, ""),
        ENDPOINTS.to_owned(),
        "/v1/admin/audit-log".to_owned(),
        DELIVERIES.to_owned(),
    ] {
        let shown = app.get(&place).await;
        assert!(
            !shown.text.contains(&secret[6..]) && !shown.text.contains(&newer[6..]),
            "{place}: {}",
            shown.text
        );
        assert!(!shown.text.contains("whsec_"), "{place}");
        shown.expect(200);
    }
    let now = app.endpoint_now(&made).await;
    assert_eq!(
        (&now["events"], &now["description"], &now["enabled"]),
        (&json!(["*"]), &Value::Null, &json!(true))
    );
    let stored = app
        .service
        .ledger
        .webhook_endpoint(weir_id(&made))
        .await
        .expect("the ledger answers");
    assert!(!format!("{stored:?}").contains(&secret[6..]));
    let records = app.get("/v1/admin/audit-log?subject_kind=webhook_endpoint").await.expect(200);
    let actions = records["data"].as_array().expect("data").iter();
    let actions: HashSet<&str> = actions.map(|record| record["action"].as_str().expect("an action")).collect();
    let expected = ["webhook_endpoint.create", "webhook_endpoint.rotate", "webhook_endpoint.patch"];
    assert_eq!(actions, HashSet::from(expected));
    let without = app.call(Method::DELETE, &path(&made, ""), None).await;
    assert_eq!(without.status.as_u16(), 204);
    app.get(&path(&made, "")).await.problem(404, "not_found");
    app.patch_endpoint(&made, json!({})).await.problem(404, "not_found");
}

fn weir_id(endpoint: &Value) -> weir::decision::id::WebhookEndpointId {
    weir::decision::id::WebhookEndpointId::parse(endpoint["endpoint_id"].as_str().expect("an id")).expect("an id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_an_endpoint_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let good = || json!({"url": "https://example.com/hook"});
    for (member, value, status, pointer) in [
        ("url", json!("http://example.com:0/"), 422, "/url"),
        ("url", json!("http://10.0.0.1/"), 422, "/url"),
        ("url", json!("https://10.0.0.1/"), 422, "/url"),
        ("url", json!("https://[::ffff:169.254.169.254]/"), 422, "/url"),
        ("url", json!("https://0xa9fea9fe/"), 422, "/url"),
        ("url", json!("https://user:pw@example.com/"), 422, "/url"),
        ("url", json!("https://example.com/#here"), 422, "/url"),
        ("url", json!("example.com"), 422, "/url"),
        ("url", json!(5), 400, "/url"),
        ("events", json!([]), 422, "/events"),
        ("events", json!(["budget.exausted"]), 422, "/events"),
        ("events", json!("*"), 400, "/events"),
        ("description", json!("a\u{202e}b"), 422, "/description"),
        ("enabled", json!(1), 400, "/enabled"),
        ("secret", json!("whsec_x"), 400, "/secret"),
        ("workspace_id", json!("a b"), 422, "/workspace_id"),
    ] {
        let mut body = good();
        body[member] = value;
        let reply = app.post(ENDPOINTS, body).await;
        assert_eq!(reply.status.as_u16(), status, "{member}: {}", reply.text);
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{}", reply.text);
    }
    let made = app.post(ENDPOINTS, good()).await.expect(201);
    for (body, status, pointer) in [
        (json!({"url": "https://127.0.0.2/"}), 422, "/url"),
        (json!({"url": null}), 400, "/url"),
        (json!({"workspace_id": "ws_a"}), 422, "/workspace_id"),
        (json!({"events": ["x"]}), 422, "/events"),
    ] {
        let reply = app.patch_endpoint(&made, body).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{}", reply.text);
    }
    for (body, status) in [
        (json!({"from": "2025-11-21T00:00:00Z", "to": "2025-11-21T00:00:00Z"}), 422),
        (json!({"from": "2025-10-01T00:00:00Z", "to": "2025-11-21T00:00:00Z"}), 422),
        (json!({"from": "2025-11-21T00:00:00Z"}), 400),
    ] {
        assert_eq!(app.post(&path(&made, "/replay"), body).await.status.as_u16(), status);
    }
    for number in 1..32 {
        app.post(ENDPOINTS, json!({"url": format!("https://example.com/{number}")}))
            .await
            .expect(201);
    }
    app.post(ENDPOINTS, good()).await.problem(422, "unacceptable");
    let page = app.get(&format!("{ENDPOINTS}?limit=30")).await.expect(200);
    let rest = app
        .get(&format!(
            "{ENDPOINTS}?limit=30&cursor={}",
            page["next_cursor"].as_str().expect("more")
        ))
        .await
        .expect(200);
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(2));
    let unsealed = TestApp::start_with(Options::default()).await;
    let told = unsealed.post(ENDPOINTS, good()).await;
    assert!(told.text.contains("WEIR_SECRET_KEY"), "{}", told.text);
    told.problem(422, "unacceptable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_credential_has_its_own_workspaces_endpoints() {
    let (app, receiver) = (TestApp::start().await, Receiver::start().await);
    let bound = app.token("admin", Some("ws_a"));
    let as_bound = |method: Method, path: String, body: Option<Value>| {
        let (app, bound) = (&app, bound.clone());
        async move { app.call_as(&bound, method, &path, body).await }
    };
    let mine = app.endpoint(&receiver.url("/mine"), Some("ws_a")).await;
    let others = [
        app.endpoint(&receiver.url("/b"), Some("ws_b")).await,
        app.endpoint(&receiver.url("/all"), None).await,
    ];
    for workspace in ["ws_a", "ws_b"] {
        app.happen(workspace).await;
    }
    worker_of(&app).deliver_due().await.expect("the ledger answers");
    assert_eq!(
        (receiver.seen("/mine").len(), receiver.seen("/b").len(), receiver.seen("/all").len()),
        (1, 1, 2)
    );
    let listed = as_bound(Method::GET, ENDPOINTS.to_owned(), None).await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    let listed = as_bound(Method::GET, DELIVERIES.to_owned(), None).await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    let foreign = json!({"url": "https://example.com/", "workspace_id": "ws_b"});
    as_bound(Method::POST, ENDPOINTS.to_owned(), Some(foreign))
        .await
        .problem(404, "not_found");
    as_bound(Method::GET, format!("{ENDPOINTS}?workspace_id=ws_b"), None)
        .await
        .problem(404, "not_found");
    for other in &others {
        let replay = json!({"from": "2025-11-21T00:00:00Z", "to": "2025-11-22T00:00:00Z"});
        for (method, verb, body) in [
            (Method::GET, "", None),
            (Method::PATCH, "", Some(json!({}))),
            (Method::DELETE, "", None),
            (Method::POST, "/rotate", Some(json!({}))),
            (Method::POST, "/test", None),
            (Method::POST, "/replay", Some(replay)),
        ] {
            as_bound(method, path(other, verb), body).await.problem(404, "not_found");
        }
        let delivery = app.deliveries(other).await.remove(0);
        let again = format!("{DELIVERIES}/{}/redeliver", delivery["delivery_id"].as_str().expect("an id"));
        let one = again.trim_end_matches("/redeliver").to_owned();
        app.get(&one).await.expect(200);
        for (method, path) in [(Method::POST, again), (Method::GET, one)] {
            as_bound(method, path, None).await.problem(404, "not_found");
        }
    }
    as_bound(Method::POST, path(&mine, "/test"), None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_sent_now_and_a_delivery_again() {
    let (app, receiver) = (TestApp::start().await, Receiver::start().await);
    let endpoint = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    receiver.on("/hook", Manner::Answers(500, "", "no database".to_owned()));
    let tested = app.post(&path(&endpoint, "/test"), json!({})).await.expect(200);
    assert_eq!((&tested["status"], &tested["type"]), (&json!("failed"), &json!("webhook.test")));
    assert_eq!(tested["last_try"]["response_body"], "no database");
    assert_eq!(tested["last_try"]["response_status"], 500);
    receiver.on("/hook", answers(200));
    app.patch_endpoint(&endpoint, json!({"enabled": false})).await.expect(200);
    let tested = app.post(&path(&endpoint, "/test"), json!({})).await.expect(200);
    assert_eq!(tested["status"], "delivered", "one that is not enabled can be tried out");
    assert!(receiver.seen("/hook").iter().all(|seen| is_signed(seen, &endpoint["secret"])));
    assert_eq!(app.deliveries(&endpoint).await.len(), 2);

    let again = format!("{DELIVERIES}/{}/redeliver", tested["delivery_id"].as_str().expect("an id"));
    app.post(&again, json!({})).await.problem(422, "unacceptable");
    app.patch_endpoint(&endpoint, json!({"enabled": true})).await.expect(200);
    let pending = app.post(&again, json!({})).await.expect(202);
    assert_eq!((&pending["status"], &pending["tries"]), (&json!("pending"), &json!(0)));
    worker_of(&app).deliver_due().await.expect("the ledger answers");
    let seen = receiver.seen("/hook");
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[2].body, seen[1].body);
    let one = app.get(again.trim_end_matches("/redeliver")).await.expect(200);
    assert_eq!((&one["status"], &one["tries"]), (&json!("delivered"), &json!(1)));
    let attempts: Vec<_> = one["attempts"].as_array().expect("attempts").iter().collect();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["number"], &attempt["response_status"]))
        .collect();
    assert_eq!(told, [(&json!(1), &json!(200)), (&json!(2), &json!(200))]);
    assert_eq!(attempts[1]["at"], one["last_try"]["at"]);
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt["duration_ms"].is_i64() && attempt["response_body"].is_string())
    );
    let pending = app.get(&format!("{DELIVERIES}?status=delivered")).await.expect(200);
    assert_eq!(pending["data"].as_array().map(Vec::len), Some(1), "the other one failed");
    let nothing = format!("{DELIVERIES}/whd_00000000000000000000000000000000/redeliver");
    app.post(&nothing, json!({})).await.problem(404, "not_found");
}

/// Tests are sent at once, so whoever sends many is told to wait; what happens is delivered all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_tried_out_six_times_a_minute() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let endpoint = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    let other = app.endpoint(&receiver.url("/other"), Some("ws_a")).await;
    for _ in 0..6 {
        app.post(&path(&endpoint, "/test"), json!({})).await.expect(200);
        app.pass_seconds(5);
    }
    let refused = app.post(&path(&endpoint, "/test"), json!({})).await;
    assert_eq!(refused.header("retry-after"), Some("30"));
    refused.problem(429, "too_many_requests");
    assert_eq!(receiver.seen("/hook").len(), 6);
    assert_eq!(app.deliveries(&endpoint).await.len(), 6);
    app.post(&path(&other, "/test"), json!({})).await.expect(200);
    app.happen("ws_a").await;
    worker_of(&app).deliver_due().await.expect("the ledger answers");
    assert_eq!(receiver.seen("/hook").len(), 7);
    app.pass_seconds(30);
    app.post(&path(&endpoint, "/test"), json!({})).await.expect(200);
}

/// What an operator opened of a network of his own is not there for tenants: who is bound to a workspace makes no endpoint there, moves none
/// there, and a name of his that leads there is not dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_opened_is_not_opened_to_bound_credentials() {
    let (app, receiver) = (TestApp::start().await, Receiver::start().await);
    let bound = app.token("admin", Some("ws_a"));
    let as_bound = |method: Method, path: String, body: Value| {
        let (app, bound) = (&app, bound.clone());
        async move { app.call_as(&bound, method, &path, Some(body)).await }
    };
    let inside = receiver.url("/inside");
    for url in [&inside, "https://127.0.0.1/"] {
        let refused = as_bound(Method::POST, ENDPOINTS.to_owned(), json!({"url": url})).await;
        assert_eq!(refused.json()["errors"][0]["pointer"], "/url", "{}", refused.text);
        refused.problem(422, "unacceptable");
    }
    let named = json!({"url": "https://inside.example/hook"});
    let named = as_bound(Method::POST, ENDPOINTS.to_owned(), named).await.expect(201);
    as_bound(Method::PATCH, path(&named, ""), json!({"url": inside}))
        .await
        .problem(422, "unacceptable");
    let given = app.endpoint(&inside, Some("ws_a")).await;
    as_bound(Method::PATCH, path(&given, ""), json!({"description": "ours"}))
        .await
        .expect(200);
    let names = super::misbehaviour::leads_to("127.0.0.1");
    app.happen("ws_a").await;
    worker_with(&app, names.clone()).deliver_due().await.expect("the ledger answers");
    assert_eq!(receiver.seen("/inside").len(), 1, "an operator made that one");
    let last = app.deliveries(&named).await[0]["last_try"].clone();
    assert_eq!((&last["response_status"], &last["response_body"]), (&Value::Null, &json!("")));
    assert!(
        last["error"].as_str().is_some_and(|error| error.contains("its host leads to")),
        "{last}"
    );
    // Moved by whoever is bound, it is closed for good.
    as_bound(Method::PATCH, path(&given, ""), json!({"url": "https://inside.example/moved"}))
        .await
        .expect(200);
    app.pass_seconds(1);
    app.happen("ws_a").await;
    worker_with(&app, names).deliver_due().await.expect("the ledger answers");
    let last = app.deliveries(&given).await[0]["last_try"].clone();
    assert!(
        last["error"].as_str().is_some_and(|error| error.contains("its host leads to")),
        "{last}"
    );
    assert_eq!(receiver.seen("/inside").len(), 1);
}
