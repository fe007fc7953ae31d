//! Hostile and broken input over HTTP: each gets its problem document, and nothing is held or written.

use crate::support::{Reply, TestApp, stores};
use reqwest::Method;
use serde_json::json;
use std::io::{Read, Write};

async fn raw(app: &TestApp, path: &str, content_type: Option<&str>, body: impl Into<reqwest::Body>) -> Reply {
    let mut request = app
        .client
        .post(format!("{}{path}", app.url))
        .bearer_auth(app.token("admin", None))
        .body(body);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    Reply::read(request.send().await.expect("an answer")).await
}

async fn json_body(app: &TestApp, body: &str) -> Reply {
    raw(app, "/v1/authorize", Some("application/json"), body.to_owned()).await
}

fn with(member: &str) -> String {
    format!(r#"{{"workspace_id": "ws", "feature": "f", "model": "big", {member}}}"#)
}

#[tokio::test]
async fn bodies_of_the_wrong_shape_are_400_and_unacceptable_values_422() {
    let app = TestApp::start().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, status, pointer) in [
        (with(r#""input_tokens": 5"#), 200, ""),
        (with(r#""input_tokens": 68719476736, "max_output_tokens": 0"#), 200, ""),
        (String::new(), 400, ""),
        ("{".to_owned(), 400, ""),
        ("[]".to_owned(), 400, ""),
        ("NaN".to_owned(), 400, ""),
        (with(r#""input_tokens": 5"#) + "x", 400, ""),
        (with(r#""input_tokens": "5""#), 400, "/input_tokens"),
        (with(r#""input_tokens": 5.5"#), 400, "/input_tokens"),
        (with(r#""input_tokens": 5.0"#), 200, ""),
        (with(r#""input_tokens": -0"#), 400, "/input_tokens"),
        (with(r#""input_tokens": NaN"#), 400, ""),
        (with(r#""input_tokens": 1e400"#), 400, ""),
        (with(r#""input_tokens": true"#), 400, "/input_tokens"),
        (with(r#""input_tokens": -1"#), 422, "/input_tokens"),
        (with(r#""input_tokens": 68719476737"#), 422, "/input_tokens"),
        (with(r#""input_tokens": 1099511627776"#), 422, "/input_tokens"),
        (with(r#""input_tokens": 99999999999999999999999"#), 422, "/input_tokens"),
        (with(r#""input_tokens": 5, "budget": 7"#), 400, "/budget"),
        (with(r#""input_tokens": 5, "spent": 0"#), 400, "/spent"),
        (with(r#""input_tokens": 5, "role": "admin""#), 400, "/role"),
        (with(r#""input_tokens": 5, "input_tokens": 6"#), 400, ""),
        (with(r#""input_tokens": 5, "attributes": {"a": 1, "a": 2}"#), 400, ""),
        (with(r#""input_tokens": 5, "attributes": {"a": {"b": 1}}"#), 422, "/attributes/a"),
        (with(r#""input_tokens": 5, "tags": {"a": 1}"#), 400, "/tags/a"),
        (with(r#""input_tokens": 5, "requests": 0"#), 422, "/requests"),
        (with(r#""input_tokens": 5, "requests": 100001"#), 422, "/requests"),
        (with(r#""input_tokens": 5, "hold_seconds": 604801"#), 422, "/hold_seconds"),
        (with(r#""input_tokens": 5, "mode": "fast""#), 422, "/mode"),
        (with(r#""input_tokens": 5, "user_id": "a b""#), 422, "/user_id"),
        (with(r#""input_tokens": 5, "user_id": "..""#), 422, "/user_id"),
        (with("\"input_tokens\": 5, \"user_id\": \"a\\u0000b\""), 422, "/user_id"),
        (with(r#""input_tokens": 5, "request_id": "with space""#), 422, "/request_id"),
        (
            with(r#""input_tokens": 5, "max_output_tokens": 1, "min_output_tokens": 2"#),
            422,
            "/min_output_tokens",
        ),
        (
            with(&format!(r#""input_tokens": 5, "cache": {{"params": {{"x": {deep}}}}}"#)),
            400,
            "",
        ),
        (deep.clone(), 400, ""),
    ] {
        let shown: String = body.chars().take(120).collect();
        let answer = json_body(&app, &body).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text);
        if status != 200 {
            let problem = answer.json();
            assert!(problem["instance"].as_str().is_some_and(|id| !id.is_empty()), "{problem}");
            if !pointer.is_empty() {
                assert_eq!(problem["errors"][0]["pointer"], pointer, "{shown}: {problem}");
            }
        }
    }
    let invalid = [
        &b"{\"workspace_id\": \"\xff\xfe\"}"[..],
        b"\xef\xbb\xbf{}",
        b"{\"workspace_id\": \"a\0\"}",
    ];
    for bytes in invalid {
        assert_eq!(
            raw(&app, "/v1/authorize", Some("application/json"), bytes.to_vec()).await.status,
            400,
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn media_types_and_sizes_are_told_apart() {
    let app = TestApp::start().await;
    let good = with(r#""input_tokens": 5"#);
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
    ] {
        raw(&app, "/v1/authorize", content_type, good.clone())
            .await
            .problem(415, "unsupported_media_type");
    }
    raw(&app, "/v1/authorize", Some("application/json; charset=utf-8"), good.clone())
        .await
        .expect(200);
    let long = |bytes: usize| with(&format!(r#""input_tokens": 5, "user_id": "{}""#, "a".repeat(bytes)));
    json_body(&app, &long(2 << 20)).await.problem(413, "body_too_large");
    json_body(&app, &long(9 << 20)).await.problem(413, "body_too_large");
    let used = |pad: usize| {
        format!(
            r#"{{"workspace_id": "ws", "feature": "f", "model": "big", "request_id": "r", "usage": {{"input_tokens": 1, "pad": "{}"}}}}"#,
            "a".repeat(pad)
        )
    };
    let json = Some("application/json");
    raw(&app, "/v1/usage", json, used(2 << 20)).await.problem(413, "body_too_large");
    raw(&app, "/v1/usage", json, format!(r#"{{"entries": [{}]}}"#, used(2 << 20)))
        .await
        .expect(200);
    let text = "word ".repeat(600_000);
    let counted = json_body(&app, &with(&format!(r#""input": "{text}""#))).await.expect(200);
    assert_eq!(counted["code"], "context_too_long", "three megabytes of text are counted");
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read() {
    let app = TestApp::start().await;
    let address = app.url.trim_start_matches("http://").to_owned();
    let token = app.token("authorize", None);
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("a timeout");
        let head = format!(
            "POST /v1/authorize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the head is sent");
        let mut answer = [0u8; 64];
        let read = stream.read(&mut answer).expect("an answer without the body");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    })
    .await
    .expect("a client");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn smuggled_and_doubled_headers_are_refused() {
    let app = TestApp::start().await;
    let address = app.url.trim_start_matches("http://").to_owned();
    let token = app.token("authorize", None);
    let body = with(r#""input_tokens": 5"#);
    for (headers, statuses) in [
        (
            format!(
                "Authorization: Bearer {token}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked",
                body.len()
            ),
            &["400"][..],
        ),
        (
            format!(
                "Authorization: Bearer {token}\r\nContent-Length: {}\r\nContent-Length: 5",
                body.len()
            ),
            &["400"],
        ),
        (
            format!(
                "Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}",
                body.len()
            ),
            &["400", "401"],
        ),
    ] {
        let request = format!("POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}");
        let address = address.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).expect("a connection");
            stream
                .set_read_timeout(Some(std::time::Duration::from_secs(10)))
                .expect("a timeout");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = [0u8; 64];
            let read = stream.read(&mut answer).expect("an answer");
            String::from_utf8_lossy(&answer[..read]).into_owned()
        })
        .await
        .expect("a client");
        assert!(
            statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}"))),
            "{headers}: {answer}"
        );
    }
}

#[tokio::test]
async fn credentials_open_what_their_scopes_say() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    app.workspace_with_tokens("other", 1_000).await;
    let ask = json!({"workspace_id": "ws", "feature": "f", "model": "big", "input_tokens": 1});
    let none = Reply::read(
        app.client
            .post(format!("{}/v1/authorize", app.url))
            .json(&ask)
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!(none.header("www-authenticate").map(|value| value.starts_with("Bearer")), Some(true));
    none.problem(401, "unauthorized");
    app.call_as("nonsense", Method::POST, "/v1/authorize", Some(ask.clone()))
        .await
        .problem(401, "unauthorized");
    app.call_as(&app.token("read", None), Method::POST, "/v1/authorize", Some(ask.clone()))
        .await
        .problem(403, "insufficient_scope");
    app.call_as(&app.token("authorize", None), Method::GET, "/v1/workspaces/ws/usage", None)
        .await
        .problem(403, "insufficient_scope");
    let bound = app.token("authorize,read,admin".replace(',', " ").as_str(), Some("ws"));
    let foreign = app
        .call_as(&bound, Method::GET, "/v1/workspaces/other/usage", None)
        .await
        .problem(404, "not_found");
    let unknown = app
        .call_as(&bound, Method::GET, "/v1/workspaces/nobody/usage", None)
        .await
        .problem(404, "not_found");
    assert_eq!((&foreign["title"], &foreign["detail"]), (&unknown["title"], &unknown["detail"]));
    let mut body = ask.clone();
    body["workspace_id"] = json!("other");
    app.call_as(&bound, Method::POST, "/v1/authorize", Some(body))
        .await
        .problem(404, "not_found");
    app.call_as(&bound, Method::GET, "/v1/admin/models", None)
        .await
        .problem(403, "insufficient_scope");
    let own = app
        .call_as(
            &bound,
            Method::POST,
            "/v1/authorize",
            Some(json!({"feature": "f", "model": "big", "input_tokens": 1, "max_output_tokens": 1})),
        )
        .await
        .expect(200);
    assert_eq!(own["decision"], "allow", "a bound credential need not name its workspace");
    let old = app.token("authorize", None);
    app.pass_seconds(3_600 + 61);
    app.call_as(&old, Method::POST, "/v1/authorize", Some(ask))
        .await
        .problem(401, "unauthorized");
}

#[tokio::test]
async fn another_tenants_reservation_is_as_unknown_as_none() {
    let app = TestApp::start().await;
    let reservation = app.authorize("ws").reserved().await;
    let foreign = app.token("authorize", Some("other"));
    let nobody = weir::decision::id::ReservationId::derive(
        &weir::decision::id::WorkspaceId::parse("ws").expect("a name"),
        &weir::decision::id::RequestId::parse("never").expect("an id"),
    );
    for (method, verb, body) in [
        (Method::POST, "/settle", Some(json!({"usage": {"input_tokens": 1}}))),
        (Method::POST, "/release", None),
        (Method::POST, "/extend", Some(json!({"hold_seconds": 60}))),
        (Method::GET, "", None),
    ] {
        let ask = async |id: &str| {
            app.call_as(&foreign, method.clone(), &format!("/v1/reservations/{id}{verb}"), body.clone())
                .await
        };
        let (theirs, none) = (ask(&reservation).await, ask(&nobody.to_string()).await);
        assert_eq!(
            (theirs.status.as_u16(), none.status.as_u16()),
            (404, 404),
            "{verb}: {} {}",
            theirs.text,
            none.text
        );
        let without_ids = |reply: &Reply, id: &str| {
            let mut body = reply.json();
            body["instance"] = json!(null);
            body.to_string().replace(id, "ID")
        };
        assert_eq!(
            without_ids(&theirs, &reservation),
            without_ids(&none, &nobody.to_string()),
            "{verb}"
        );
    }
    assert_eq!(
        app.get(&format!("/v1/reservations/{reservation}")).await.expect(200)["state"],
        "held"
    );
    app.settle("rsv_nonsense", 1, 1).await.problem(404, "not_found");
}

#[tokio::test]
async fn other_methods_and_paths_say_what_there_is() {
    let app = TestApp::start().await;
    let wrong = app.get("/v1/authorize").await;
    assert_eq!(wrong.header("allow"), Some("POST"));
    wrong.problem(405, "method_not_allowed");
    let head = app.call(Method::HEAD, "/healthz", None).await;
    assert_eq!(
        (head.status.as_u16(), head.text.as_str(), head.header("content-length")),
        (200, "", Some("15"))
    );
    assert_eq!(app.call(Method::DELETE, "/healthz", None).await.header("allow"), Some("GET, HEAD"));
    assert_eq!(app.call(Method::HEAD, "/v1/authorize", None).await.status.as_u16(), 405);
    app.get("/v1/nothing").await.problem(404, "not_found");
    app.get("/v1/workspaces/ws%2Fx/usage").await.problem(404, "not_found");
    assert_eq!(app.get("/healthz").await.expect(200)["status"], "ok");
    let ready = app.get("/readyz").await.expect(200);
    assert_eq!(ready["status"], "ok");
    let clock = &ready["clock"];
    assert_eq!(clock["ahead_max_ms"], 2_000);
    if !stores::is_production() {
        assert_eq!(
            (&clock["status"], &clock["counters_ahead_ms"], &clock["ledger_ahead_ms"]),
            (&json!("ok"), &json!(null), &json!(null)),
            "there is no other clock than this machine's"
        );
    }
    let named = app
        .client
        .get(format!("{}/healthz", app.url))
        .header("x-request-id", "mine-1")
        .send()
        .await
        .expect("an answer");
    assert_eq!(named.headers()["x-request-id"], "mine-1");
    let bad = app
        .client
        .get(format!("{}/healthz", app.url))
        .header("x-request-id", "not valid")
        .send()
        .await
        .expect("an answer");
    assert!(bad.headers()["x-request-id"].to_str().expect("text").starts_with("req_"));
}

#[tokio::test]
async fn every_character_of_an_id_can_stand_in_a_path() {
    let app = TestApp::start().await;
    let plan = json!({"name": "P", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": []});
    for (encoded, id) in [("a%2Fb", "a/b"), ("a%2Bb", "a+b"), ("a+b~c%7Cd", "a+b~c|d"), ("%61%3A%40", "a:@")] {
        let put = app
            .put(&format!("/v1/admin/workspaces/{encoded}"), json!({}))
            .await
            .expect_one_of(&[200, 201]);
        assert_eq!(put["workspace_id"], id);
        app.authorize(id).allowed().await;
        app.get(&format!("/v1/workspaces/{encoded}/usage")).await.expect(200);
        app.get(&format!("/v1/workspaces/{encoded}/ledger")).await.expect(200);
        app.put(&format!("/v1/admin/plans/{encoded}"), plan.clone())
            .await
            .expect_one_of(&[200, 201]);
        assert_eq!(app.get(&format!("/v1/admin/plans/{encoded}")).await.expect(200)["id"], id);
    }
    // Decoded once: this is the id "a%2Fb", which has a character that no id has.
    for encoded in ["a%252Fb", "a%2", "a%FFb", "%00"] {
        app.put(&format!("/v1/admin/workspaces/{encoded}"), json!({}))
            .await
            .problem(422, "unacceptable");
    }
}

#[tokio::test]
async fn usage_that_says_nothing_or_nonsense_is_unreadable_and_changes_nothing() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let reservation = app.authorize("ws").reserved().await;
    let settle = format!("/v1/reservations/{reservation}/settle");
    for usage in [
        json!({}),
        json!({"hello": 1}),
        json!({"input_tokens": -1}),
        json!({"input_tokens": "5"}),
        json!({"prompt_tokens": 5.5, "completion_tokens": 1}),
        json!({"input_tokens": 68_719_476_737i64}),
    ] {
        let answer = app.post(&settle, json!({"usage": usage})).await;
        assert_eq!(answer.status, 422, "{usage}: {}", answer.text);
        assert_eq!(answer.json()["code"], "usage_unreadable", "{usage}");
    }
    app.post(&settle, json!({"usage": null})).await.problem(400, "malformed");
    app.post(&settle, json!({})).await.problem(400, "malformed");
    app.post(&settle, json!({"usage": {"input_tokens": 1}, "quality_score": 1.5}))
        .await
        .problem(422, "unacceptable");
    app.post(&settle, json!({"usage": {"input_tokens": 1}, "other_cost_usd": "1.0000000001"}))
        .await
        .problem(422, "unacceptable");
    // 2^36 tokens in every pool cost millions.
    let huge = json!({"usage": {"input_tokens": 68_719_476_736i64, "output_tokens": 68_719_476_736i64}});
    app.post(&settle, huge).await.problem(422, "amount_too_large");
    let found = app.get(&format!("/v1/reservations/{reservation}")).await.expect(200);
    assert_eq!(found["state"], "held", "none of these touched the hold");
    assert_eq!(
        (
            app.held("ws", "tokens").await,
            app.spent("ws", "tokens").await,
            app.ledger("ws").await.len()
        ),
        (150, 0, 0)
    );
    app.pass_seconds(601);
    assert_eq!(app.held("ws", "tokens").await, 0, "and it still expires by itself");
}

#[tokio::test]
async fn bad_overrides_are_refused_and_stale_ones_are_in_nobodys_way() {
    let app = TestApp::start().await;
    let plan = |budgets: serde_json::Value| json!({"name": "P", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": budgets});
    let tokens = json!({"id": "tokens", "unit": "tokens", "period": "month", "hard": 100});
    let money = json!({"id": "money", "unit": "usd", "period": "month", "hard": "1"});
    app.put("/v1/admin/plans/p", plan(json!([tokens, money]))).await.expect(201);
    app.put("/v1/admin/workspaces/ws", json!({"plan_id": "p"})).await.expect(201);
    let patch = async |body: serde_json::Value| app.call(Method::PATCH, "/v1/admin/workspaces/ws", Some(body)).await;
    for (budget, change, status) in [
        ("tokens", json!({"hard": 5.5}), 400),
        ("tokens", json!({"hard": "5"}), 400),
        ("tokens", json!({"hard": true}), 400),
        ("tokens", json!({"hard": [5]}), 400),
        ("money", json!({"hard": 5}), 400),
        ("money", json!({"hard": "five"}), 422),
        ("money", json!({"hard": "4000000.01"}), 422),
        ("tokens", json!({"hard": -1}), 422),
        ("tokens", json!({"soft": 101}), 422),
        ("nothing", json!({"hard": 5}), 422),
    ] {
        let answer = patch(json!({"overrides": {budget: change}})).await;
        assert_eq!(answer.status, status, "{budget} {change}: {}", answer.text);
        assert!(!answer.text.contains("untagged"), "{}", answer.text);
    }
    patch(json!({"overrides": {"money": {"hard": "7"}}})).await.expect(200);
    // The plan loses the budget; the workspace can be suspended all the same, and gets its override back with the budget.
    app.put("/v1/admin/plans/p", plan(json!([tokens]))).await.expect(200);
    assert_eq!(patch(json!({"status": "suspended"})).await.expect(200)["status"], "suspended");
    patch(json!({"overrides": {"money": {"hard": "8"}}}))
        .await
        .problem(422, "unacceptable");
    patch(json!({"plan_id": "empty"})).await.problem(422, "unacceptable");
    app.put("/v1/admin/plans/p", plan(json!([tokens, money]))).await.expect(200);
    assert_eq!(app.budget("ws", "money").await["hard"], "7.000000000");
}

#[tokio::test]
async fn bad_policy_objects_are_refused_by_name_and_change_nothing() {
    let app = TestApp::start().await;
    let put = async |path: &str, body: serde_json::Value| app.put(path, body).await;
    let budget = |member: serde_json::Value| {
        let mut budget = json!({"id": "b", "unit": "tokens", "period": "month", "hard": 100});
        for (name, value) in member.as_object().expect("an object") {
            budget[name] = value.clone();
        }
        json!({"name": "P", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": [budget]})
    };
    for (body, status) in [
        (budget(json!({"budget": 5})), 400),
        (budget(json!({"soft": 101})), 422),
        (budget(json!({"hard": -1})), 422),
        (budget(json!({"hard": "12.50"})), 400),
        (budget(json!({"unit": "usd", "hard": "4000000.01"})), 422),
        (budget(json!({"scope": "user", "per_seat": true})), 422),
        (budget(json!({"period": "fortnight"})), 422),
        (
            budget(json!({"downgrade_to": "no-such-tier", "at_soft": ["downgrade"], "soft": 1})),
            422,
        ),
        (budget(json!({"alerts": [0.5, 1.5]})), 422),
    ] {
        let answer = put("/v1/admin/plans/p", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    for (member, status) in [
        (
            json!({"prices": [{"effective_from": "2025-01-01", "input": "-1", "output": "1"}]}),
            422,
        ),
        (json!({"prices": [{"effective_from": "2025-01-01", "input": "1"}]}), 400),
        (
            json!({"prices": [{"effective_from": "2025-01-01", "input": 1, "output": "1"}]}),
            400,
        ),
        (
            json!({"prices": [{"effective_from": "2025-01-01", "input": "NaN", "output": "1"}]}),
            422,
        ),
        (json!({"id": "another"}), 422),
    ] {
        let mut model = app.get("/v1/admin/models/small").await.expect(200);
        for (name, value) in member.as_object().expect("an object") {
            model[name] = value.clone();
        }
        let answer = put("/v1/admin/models/small", model).await;
        assert_eq!(answer.status, status, "{member}: {}", answer.text);
    }
    let rule = |when: &str| json!({"rules": [{"name": "r", "when": when, "model": "big"}], "default_model": "big"});
    for when in ["request.", "1 +", &"(".repeat(100), &"!".repeat(2_000)] {
        assert_eq!(put("/v1/admin/routing", rule(when)).await.status, 422, "{when:.20}");
    }
    app.get("/v1/admin/plans/p").await.problem(404, "not_found");
    let default = app
        .call(Method::DELETE, "/v1/admin/plans/open", None)
        .await
        .problem(409, "plan_in_use");
    assert!(default["detail"].as_str().expect("a detail").contains("default_plan"), "{default}");
    app.put("/v1/admin/workspaces/w", json!({"plan_id": "nope"}))
        .await
        .problem(422, "unacceptable");
    app.put("/v1/admin/workspaces/w", json!({"timezone": "Mars/Olympus"}))
        .await
        .problem(422, "unacceptable");
    app.put("/v1/admin/workspaces/w", json!({"billing_anchor_day": 32}))
        .await
        .problem(422, "unacceptable");
    app.get("/v1/workspaces/w/usage").await.problem(404, "not_found");
}
