//! `Idempotency-Key` where it matters most: a caller that hung up, and nodes that do not know of each other's requests.

use crate::support::{Reply, TestApp, stores};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const GRANTS: &str = "/v1/admin/workspaces/ws/grants";
const KEYS: &str = "/v1/admin/api-keys";

/// Sends a request and hangs up `micros` later, whatever comes back.
async fn send_and_hang_up(app: &TestApp, path: &str, key: &str, body: &Value, micros: u64) {
    let address = app.url.strip_prefix("http://").expect("an address");
    let mut connection = TcpStream::connect(address).await.expect("the service listens");
    let (body, token) = (body.to_string(), app.token("admin", None));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // As a process that is ended: the connection is reset.
    connection.set_zero_linger().expect("a socket");
    connection.write_all(request.as_bytes()).await.expect("it is sent");
    // The runtime's own timer is no finer than a millisecond, and in that time all may be done.
    std::thread::sleep(Duration::from_micros(micros));
    drop(connection);
}

/// The request again, until the first one does not run any more.
async fn again(app: &TestApp, path: &str, key: &str, body: &Value) -> Reply {
    loop {
        // This node, also where there are others.
        let request = app.client.post(format!("{}{path}", app.url)).bearer_auth(app.token("admin", None));
        let sent = request.header("Idempotency-Key", key).json(body).send().await;
        let reply = Reply::read(sent.expect("an answer")).await;
        if reply.status.as_u16() != 409 {
            return reply;
        }
        assert!(reply.text.contains("idempotency_in_flight"), "{}", reply.text);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn all(app: &TestApp, path: &str) -> Vec<Value> {
    let page = app.get(&format!("{path}?limit=500")).await.expect(200);
    page["data"].as_array().expect("a list").clone()
}

/// A grant was given and the answer was lost on its way into the table of answers; whoever tries again does so on the next day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_ends_makes_no_other_grant_of_a_key() {
    let app = TestApp::start_at("2025-11-10T12:00:00Z").await;
    app.workspace_with_tokens("ws", 1_000).await;
    let grant = json!({"amount": 5, "unit": "tokens", "paid": {"amount": 500, "currency": "usd"}});
    let first = again(&app, GRANTS, "k", &grant).await.expect(201);
    let name = first["key"].as_str().expect("it has a key").to_owned();
    let (digest, day) = name.rsplit_once(':').expect("a name of a day");
    let day: i64 = day.parse().expect("a day");
    // Three days on, ten seconds before midnight, as the call would give it.
    app.pass_seconds(3 * 86_400 + 12 * 3_600 - 10);
    let mut unheard = grant.clone();
    unheard["key"] = json!(format!("{digest}:{}", day + 3));
    let given = app.post(GRANTS, unheard).await.expect(201);
    app.pass_seconds(20);
    let retried = again(&app, GRANTS, "k", &grant).await.expect(200);
    assert_eq!(retried["grant_id"], given["grant_id"]);
    let mut other = grant.clone();
    other["amount"] = json!(6);
    again(&app, GRANTS, "k", &other).await.problem(422, "idempotency_mismatch");
    // The key is good for a day, and then for another grant.
    app.pass_seconds(86_400 + 1);
    let later = again(&app, GRANTS, "k", &grant).await.expect(201);
    assert_ne!(later["grant_id"], given["grant_id"]);
    assert_eq!(all(&app, GRANTS).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_did_not_wait_for_is_done_once() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    for n in 0..24 {
        let (key, hung_up_after) = (format!("k{n}"), n % 12 * 300);
        let grant = json!({"amount": 1 + n, "unit": "tokens"});
        send_and_hang_up(&app, GRANTS, &key, &grant, hung_up_after).await;
        again(&app, GRANTS, &key, &grant).await.expect(201);
        let made = json!({"scopes": ["read"], "name": key});
        send_and_hang_up(&app, KEYS, &key, &made, hung_up_after).await;
        again(&app, KEYS, &key, &made).await.expect(201);
    }
    assert_eq!(all(&app, GRANTS).await.len(), 24, "each grant is given once");
    assert_eq!(all(&app, KEYS).await.len(), 24, "each API key is made once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_asked_at_once_give_one_grant() {
    if !stores::can_be_production() {
        return;
    }
    let nodes = TestApp::nodes(2).await;
    nodes[0].workspace_with_tokens("ws", 1_000).await;
    nodes[1].follow().await;
    let body = json!({"amount": 7, "unit": "tokens"});
    for n in 0..10 {
        let key = format!("k{n}");
        let (one, two) = tokio::join!(again(&nodes[0], GRANTS, &key, &body), again(&nodes[1], GRANTS, &key, &body));
        let (one, two) = (one.expect_one_of(&[200, 201]), two.expect_one_of(&[200, 201]));
        assert_eq!(one["grant_id"], two["grant_id"], "{one} and {two}");
    }
    assert_eq!(all(&nodes[0], GRANTS).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_good_for_another_grant_when_its_day_is_over() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let body = json!({"amount": 7, "unit": "tokens"});
    let first = again(&app, GRANTS, "monthly", &body).await.expect(201);
    app.pass_seconds(24 * 3600 + 1);
    let second = again(&app, GRANTS, "monthly", &body).await.expect(201);
    assert_ne!(first["grant_id"], second["grant_id"]);
}
