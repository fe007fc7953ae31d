//! What operators set, beside policies as such: workspaces in every detail, versions that callers have seen, lists, providers.

use crate::support::TestApp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

fn plan(hard: i64) -> Value {
    json!({"name": "Pro", "pricing": {"model": "flat", "base_usd": "0"},
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": hard}]})
}

// Versions.

#[tokio::test]
async fn a_change_replaces_only_the_version_that_its_caller_saw() {
    let app = TestApp::start().await;
    for (path, body) in [
        ("/v1/admin/plans/p", plan(1)),
        (
            "/v1/admin/models/m",
            json!({"provider": "acme", "tier": "fast", "max_input_tokens": 10, "max_output_tokens": 10,
            "prices": [{"effective_from": "2024-01-01", "input": "1", "output": "1"}]}),
        ),
        ("/v1/admin/workspaces/w", json!({})),
    ] {
        let put = async |header: (&str, &str)| app.send(Method::PUT, path, &[header], body.clone()).await;
        put(("if-match", "*")).await.problem(412, "precondition_failed");
        put(("if-match", "\"1\"")).await.problem(412, "precondition_failed");
        let created = put(("if-none-match", "*")).await;
        let tag = created.header("etag").expect("an etag").to_owned();
        created.expect(201);
        put(("if-none-match", "*")).await.problem(412, "precondition_failed");
        put(("if-none-match", &tag)).await.problem(412, "precondition_failed");
        let replaced = put(("if-match", &tag)).await;
        let next = replaced.header("etag").expect("an etag").to_owned();
        replaced.expect(200);
        assert_ne!(tag, next, "{path}");
        put(("if-match", &tag)).await.problem(412, "precondition_failed");
        put(("if-match", &format!("W/{next}"))).await.problem(412, "precondition_failed");
        put(("if-match", "\"never\"")).await.problem(412, "precondition_failed");
        put(("if-match", "3")).await.problem(422, "unacceptable");
        let replaced = put(("if-match", &format!("{tag}, {next}"))).await;
        let newest = replaced.header("etag").expect("an etag").to_owned();
        replaced.expect(200);
        put(("if-match", "*")).await.expect(200);

        let get = async |header: (&str, &str)| app.call_with(&app.token("admin", None), Method::GET, path, &[header], None).await;
        let read = app.get(path).await;
        let now = read.header("etag").expect("an etag").to_owned();
        let unchanged = get(("if-none-match", &now)).await;
        assert_eq!(
            (unchanged.status, unchanged.header("etag"), unchanged.text.as_str()),
            (StatusCode::NOT_MODIFIED, Some(now.as_str()), "")
        );
        get(("if-none-match", &newest)).await.expect(200);
    }
    let routing = app.get("/v1/admin/routing").await;
    let tag = routing.header("etag").expect("an etag").to_owned();
    let body = routing.json();
    app.send(Method::PUT, "/v1/admin/routing", &[("if-match", &tag)], body.clone())
        .await
        .expect(200);
    app.send(Method::PUT, "/v1/admin/routing", &[("if-match", &tag)], body)
        .await
        .problem(412, "precondition_failed");
}

#[tokio::test]
async fn a_plan_is_deleted_in_the_version_that_its_caller_saw_and_never_while_in_use() {
    let app = TestApp::start().await;
    let delete = async |header: &[(&str, &str)]| {
        app.call_with(&app.token("admin", None), Method::DELETE, "/v1/admin/plans/p", header, None)
            .await
    };
    app.put("/v1/admin/plans/p", plan(1)).await.expect(201);
    app.put("/v1/admin/plans/p", plan(2)).await.expect(200);
    delete(&[("if-match", "\"1\"")]).await.problem(412, "precondition_failed");
    app.put("/v1/admin/workspaces/w", json!({"plan_id": "p"})).await.expect(201);
    delete(&[]).await.problem(409, "plan_in_use");
    app.patch("/v1/admin/workspaces/w", json!({"plan_id": null})).await.expect(200);
    assert_eq!(delete(&[("if-match", "\"2\"")]).await.status, 204);
    delete(&[]).await.problem(404, "not_found");
    app.call(Method::DELETE, "/v1/admin/plans/open", None)
        .await
        .problem(409, "plan_in_use");
}

#[tokio::test]
async fn of_writers_who_saw_the_same_version_one_wins() {
    let app = std::sync::Arc::new(TestApp::start().await);
    app.put("/v1/admin/workspaces/w", json!({})).await.expect(201);
    app.put("/v1/admin/plans/p", plan(1)).await.expect(201);
    for (method, path, body) in [
        (Method::PATCH, "/v1/admin/workspaces/w", json!({"seats": 7})),
        (Method::PUT, "/v1/admin/workspaces/w", json!({"seats": 8})),
        (Method::PUT, "/v1/admin/plans/p", plan(9)),
    ] {
        let tag = app.get(path).await.header("etag").expect("an etag").to_owned();
        let mut racing = JoinSet::new();
        for _ in 0..8 {
            let (app, method, body, tag) = (app.clone(), method.clone(), body.clone(), tag.clone());
            racing.spawn(async move { app.send(method, path, &[("if-match", &tag)], body).await.status.as_u16() });
        }
        let mut statuses = racing.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412], "{method} {path}");
    }
    // Without a condition all of them are taken, one after the other.
    let mut racing = JoinSet::new();
    for n in 0..8 {
        let app = app.clone();
        racing.spawn(async move {
            app.patch("/v1/admin/workspaces/w", json!({"overrides": {}, "revenue_usd": format!("{n}")}))
                .await
                .status
        });
    }
    assert!(racing.join_all().await.iter().all(|status| *status == StatusCode::OK));
}

// Merge patches.

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_takes_away() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let path = "/v1/admin/workspaces/ws";
    let patch = async |body: Value| app.patch(path, body).await.expect(200);
    let until = "2025-12-01T00:00:00Z";
    let whole = patch(
        json!({"seats": 5, "timezone": "Europe/Berlin", "stripe_customer_id": "cus_1", "revenue_usd": "49",
        "overrides": {"tokens": {"soft": 10, "hard": 20, "expires_at": until}}}),
    )
    .await;
    assert_eq!(whole["overrides"]["tokens"], json!({"soft": 10, "hard": 20, "expires_at": until}));
    assert_eq!(patch(json!({})).await["seats"], 5, "what is not named stays");
    let deeper = patch(json!({"overrides": {"tokens": {"hard": 30}}})).await;
    assert_eq!(
        deeper["overrides"]["tokens"],
        json!({"soft": 10, "hard": 30, "expires_at": until}),
        "inside of an override too"
    );
    let deeper = patch(json!({"overrides": {"tokens": {"soft": null, "expires_at": null}}})).await;
    assert_eq!(deeper["overrides"]["tokens"], json!({"soft": null, "hard": 30, "expires_at": null}));
    assert_eq!(patch(json!({"overrides": {"tokens": null}})).await["overrides"], json!({}));
    patch(json!({"overrides": {"tokens": {"hard": 1}}})).await;
    assert_eq!(patch(json!({"overrides": null})).await["overrides"], json!({}));
    let plain = patch(json!({"seats": null, "timezone": null, "stripe_customer_id": null, "revenue_usd": null, "plan_id": null})).await;
    assert_eq!(
        (
            &plain["seats"],
            &plain["timezone"],
            &plain["stripe_customer_id"],
            &plain["revenue_usd"],
            &plain["plan_id"]
        ),
        (&json!(1), &json!("UTC"), &Value::Null, &Value::Null, &Value::Null)
    );
    for (body, status, pointer) in [
        (json!({"colour": "red"}), 400, "/colour"),
        (json!({"overrides": {"nope": {"hard": 1}}}), 422, "/overrides/nope"),
        (json!({"seats": "5"}), 400, "/seats"),
        (json!({"seats": -1}), 422, "/seats"),
        (json!({"plan_id": "nope"}), 422, "/plan_id"),
        (json!({"stripe_customer_id": ""}), 422, "/stripe_customer_id"),
        (json!({"stripe_customer_id": "x".repeat(256)}), 422, "/stripe_customer_id"),
        (json!([1]), 400, ""),
        (json!(null), 400, ""),
    ] {
        let answer = app.patch(path, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    app.patch("/v1/admin/workspaces/unknown", json!({"seats": 2}))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_patch_is_a_merge_patch_by_its_type_or_plain_json() {
    let app = TestApp::start().await;
    app.put("/v1/admin/workspaces/ws", json!({})).await.expect(201);
    for (media, status) in [
        ("application/merge-patch+json", 200),
        ("application/json", 200),
        ("application/json-patch+json", 415),
        ("text/plain", 415),
    ] {
        let request = app
            .client
            .patch(format!("{}/v1/admin/workspaces/ws", app.url))
            .bearer_auth(app.token("admin", None));
        let answer = request
            .header("content-type", media)
            .body("{\"seats\": 2}")
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{media}");
    }
    let put = app
        .client
        .put(format!("{}/v1/admin/workspaces/ws", app.url))
        .bearer_auth(app.token("admin", None));
    let answer = put
        .header("content-type", "application/merge-patch+json")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 415, "a PUT is no patch");
}

// What an override or a suspension does, and for how long.

#[tokio::test]
async fn a_budget_that_counts_something_else_is_not_limited_by_what_was_said_of_the_one_before() {
    let app = TestApp::start().await;
    let plan = |unit: &str, hard: Value| json!({"budgets": [{"id": "b", "unit": unit, "period": "month", "hard": hard}]});
    app.workspace_on("ws", plan("tokens", json!(1_000))).await;
    let path = "/v1/admin/workspaces/ws";
    let said = json!({"overrides": {"b": {"hard": 5_000}}, "top_ups": {"b": {"below": 4_000, "amount": 7}}});
    let said = app.patch(path, said).await.expect(200);
    assert_eq!(app.budget("ws", "b").await["hard"], 5_000);
    let name = said["plan_id"].as_str().expect("a plan").to_owned();
    // 5,000 tokens were 0.000005 USD, and a dollar a billion tokens.
    app.put(&format!("/v1/admin/plans/{name}"), plan("usd", json!("100")))
        .await
        .expect(200);
    assert_eq!(app.budget("ws", "b").await["hard"], "100.000000000");
    let reservation = app.authorize("ws").tokens(10, 10).reserved().await;
    app.settle(&reservation, 10, 10).await.expect(200);
    assert_eq!(app.budget("ws", "b").await["granted"], "0.000000000", "nor is it topped up");
    let other = app.patch(path, json!({"seats": 2})).await.expect(200);
    assert_eq!(
        (&other["overrides"], &other["top_ups"]),
        (&said["overrides"], &said["top_ups"]),
        "what was said is in nobody's way"
    );
    app.patch(path, json!({"overrides": {"b": {"hard": 6_000}}}))
        .await
        .problem(400, "malformed");
    let mended = app
        .patch(path, json!({"overrides": {"b": {"hard": "7", "soft": null}}}))
        .await
        .expect(200);
    assert_eq!(mended["overrides"]["b"]["hard"], "7.000000000");
    assert_eq!(app.budget("ws", "b").await["hard"], "7.000000000");
}

#[tokio::test]
async fn an_override_holds_until_it_expires() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    app.authorize("ws").tokens(100, 50).denied().await;
    // Ten minutes, the last moment not included.
    let raised = json!({"overrides": {"tokens": {"hard": 1_000, "expires_at": "2025-11-21T10:10:00Z"}}});
    app.patch("/v1/admin/workspaces/ws", raised).await.expect(200);
    let held = app.authorize("ws").tokens(100, 50).allowed().await;
    assert_eq!(held["budgets"][0]["hard"], 1_000);
    app.set_clock("2025-11-21T10:09:59.999999Z");
    app.authorize("ws").tokens(100, 50).allowed().await;
    app.set_clock("2025-11-21T10:10:00Z");
    let denied = app.authorize("ws").tokens(100, 50).denied().await;
    assert_eq!(denied["reasons"][0]["budget_id"], "tokens");
    assert_eq!(
        app.budget("ws", "tokens").await["hard"],
        100,
        "what it was before, and no word of the operator's is needed"
    );
    let stays = app.get("/v1/admin/workspaces/ws").await.expect(200);
    assert_eq!(stays["overrides"]["tokens"]["hard"], 1_000, "what was set is still told");
    // One that lowers, too.
    app.workspace_with_tokens("tight", 1_000).await;
    let lowered = json!({"overrides": {"tokens": {"hard": 10, "expires_at": "2025-11-21T11:00:00Z"}}});
    app.patch("/v1/admin/workspaces/tight", lowered).await.expect(200);
    app.authorize("tight").denied().await;
    app.set_clock("2025-11-21T11:00:00Z");
    app.authorize("tight").allowed().await;
}

#[tokio::test]
async fn a_suspended_workspace_is_denied_until_it_is_resumed() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 10_000).await;
    let open = app.authorize("ws").reserved().await;
    app.patch("/v1/admin/workspaces/ws", json!({"status": "suspended"}))
        .await
        .expect(200);
    let denied = app.authorize("ws").denied().await;
    assert_eq!(
        (&denied["code"], &denied["reasons"][0]["code"]),
        (&json!("workspace_suspended"), &json!("workspace_suspended"))
    );
    let mapped = app.post(
        "/v1/authorize?http_status=map",
        json!({"workspace_id": "ws", "feature": "chat", "model": "big", "input_tokens": 1}),
    );
    assert_eq!(mapped.await.status, 403);
    app.settle(&open, 100, 20).await.expect(200);
    assert_eq!(app.spent("ws", "tokens").await, 120, "what happened is recorded all the same");
    app.patch("/v1/admin/workspaces/ws", json!({"status": "active"})).await.expect(200);
    app.authorize("ws").allowed().await;
    app.patch("/v1/admin/workspaces/ws", json!({"status": "asleep"}))
        .await
        .problem(422, "unacceptable");
}

// Lists.

async fn pages(app: &TestApp, path: &str, field: &str, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    let and = if path.contains('?') { '&' } else { '?' };
    for _ in 0..100 {
        let page = app.get(&format!("{path}{and}limit={limit}{cursor}")).await.expect(200);
        let data = page["data"].as_array().expect("data").clone();
        assert!(data.len() <= limit, "{path}");
        found.extend(data.iter().map(|one| one[field].as_str().expect(field).to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
    panic!("the pages of {path} do not end");
}

#[tokio::test]
async fn plans_and_models_are_listed_by_id_in_pages() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.put(&format!("/v1/admin/plans/p{n}"), plan(1)).await.expect(201);
    }
    for limit in [1, 2, 3, 500] {
        let plans = pages(&app, "/v1/admin/plans", "id", limit).await;
        assert_eq!(plans, ["empty", "open", "p0", "p1", "p2", "p3", "p4", "unlimited"], "{limit}");
        assert_eq!(
            pages(&app, "/v1/admin/models", "id", limit).await,
            ["big", "future", "mid", "other", "small", "thirds"]
        );
    }
    for path in ["plans", "models", "workspaces"] {
        for (query, status) in [
            ("limit=0", 422),
            ("limit=501", 422),
            ("limit=-1", 422),
            ("limit=99999999999999999999", 422),
            ("limit=+1", 400),
            ("limit=", 400),
            ("cursor=%21", 422),
            ("colour=red", 400),
        ] {
            let answer = app.get(&format!("/v1/admin/{path}?{query}")).await;
            assert_eq!(answer.status.as_u16(), status, "{path}?{query}: {}", answer.text);
            let name = query.split('=').next().unwrap_or_default();
            assert!(answer.text.contains(name), "it is said which parameter: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn workspaces_are_listed_newest_first() {
    let app = TestApp::start().await;
    app.put("/v1/admin/plans/p", plan(1_000)).await.expect(201);
    for n in 0..6 {
        let body =
            json!({"plan_id": if n % 2 == 0 { json!("p") } else { Value::Null }, "status": if n == 4 { "suspended" } else { "active" }});
        app.put(&format!("/v1/admin/workspaces/w{n}"), body).await.expect(201);
        // Two of each moment, so that pages end inside of one.
        app.pass_seconds(n % 2);
    }
    app.pass_seconds(1);
    app.authorize("by_use").allowed().await;
    let all = ["by_use", "w5", "w4", "w3", "w2", "w1", "w0"];
    for limit in [1, 2, 3, 500] {
        assert_eq!(pages(&app, "/v1/admin/workspaces", "workspace_id", limit).await, all, "{limit}");
    }
    for (query, expected) in [
        ("plan_id=p", vec!["w4", "w2", "w0"]),
        ("status=suspended", vec!["w4"]),
        ("plan_id=p&status=active", vec!["w2", "w0"]),
        ("from=2025-11-21T10:00:01Z&to=2025-11-21T10:00:02Z", vec!["w3", "w2"]),
    ] {
        assert_eq!(
            pages(&app, &format!("/v1/admin/workspaces?{query}"), "workspace_id", 500).await,
            expected,
            "{query}"
        );
    }
    let one = app.get("/v1/admin/workspaces/w4").await.expect(200);
    let listed = app.get("/v1/admin/workspaces?status=suspended").await.expect(200);
    assert_eq!(listed["data"][0], one, "as it is shown alone");
    let bound = app.token("admin", Some("w1"));
    let own = app.call_as(&bound, Method::GET, "/v1/admin/workspaces", None).await.expect(200);
    let own: BTreeSet<&str> = own["data"]
        .as_array()
        .expect("data")
        .iter()
        .filter_map(|one| one["workspace_id"].as_str())
        .collect();
    assert_eq!(own, BTreeSet::from(["w1"]));
    app.call_as(&app.token("read", None), Method::GET, "/v1/admin/workspaces", None)
        .await
        .problem(403, "insufficient_scope");
}

// Providers.

#[tokio::test]
async fn a_drained_provider_is_avoided_as_if_every_caller_had_excluded_it() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100_000).await;
    let before = app.get("/v1/admin/providers/acme").await.expect(200);
    let health = json!({"state": "closed", "requests": 0, "error_rate": 0, "since": null, "models": []});
    let shown = json!({"provider": "acme", "state": "auto", "models": 5, "changed_at": null, "health": health});
    assert_eq!(before, shown, "nothing is known of it yet");
    let open = app.authorize("ws").model("big").id("before").allowed().await;
    let excluded = app
        .authorize("ws")
        .model("big")
        .with("exclude_providers", json!(["acme"]))
        .allowed()
        .await;
    let refused = app
        .authorize("ws")
        .model("small")
        .with("exclude_providers", json!(["acme"]))
        .denied()
        .await;

    let drained = app.put("/v1/admin/providers/acme", json!({"state": "drained"})).await.expect(200);
    assert_eq!(
        (&drained["state"], &drained["models"], &drained["changed_at"]),
        (&json!("drained"), &json!(5), &json!("2025-11-21T10:00:00Z"))
    );
    let elsewhere = app.authorize("ws").model("big").allowed().await;
    assert_eq!(
        (&elsewhere["model"], &elsewhere["provider"]),
        (&json!("other"), &json!("zenith")),
        "the model's fallback serves"
    );
    assert_eq!(
        (&elsewhere["model"], &elsewhere["actions"]),
        (&excluded["model"], &excluded["actions"])
    );
    let denied = app.authorize("ws").model("small").denied().await;
    assert_eq!(denied["code"], refused["code"], "a model without a fallback is refused alike");
    let again = app.authorize("ws").model("big").id("before").allowed().await;
    assert_eq!(again, open, "what was answered before is answered alike");
    app.settle(open["reservation_id"].as_str().expect("an id"), 100, 10)
        .await
        .expect(200);

    let app = app.restart().await;
    assert_eq!(
        app.authorize("ws").id("after-the-restart-0").model("big").allowed().await["model"],
        "other",
        "it is remembered"
    );
    app.put("/v1/admin/providers/acme", json!({"state": "auto"})).await.expect(200);
    assert_eq!(
        app.authorize("ws").id("after-the-restart-1").model("big").allowed().await["model"],
        "big"
    );
    let told = app.get("/v1/admin/audit-log?action=provider.put").await.expect(200);
    let told: Vec<_> = told["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|one| (one["before"].clone(), one["after"].clone()))
        .collect();
    let (auto, drained) = (json!({"state": "auto"}), json!({"state": "drained"}));
    assert_eq!(BTreeSet::from_iter(told.iter().map(|one| format!("{one:?}"))).len(), 2);
    assert!(
        told.contains(&(drained.clone(), auto.clone())) && told.contains(&(auto, drained)),
        "{told:?}"
    );
}

#[tokio::test]
async fn providers_are_those_that_models_name_or_that_somebody_set() {
    let app = TestApp::start().await;
    app.get("/v1/admin/providers/nobody").await.problem(404, "not_found");
    let early = app.put("/v1/admin/providers/nobody", json!({"state": "drained"})).await.expect(201);
    assert_eq!(early["models"], 0, "a name that no model has is told by this");
    let all = app.get("/v1/admin/providers").await.expect(200);
    let names: Vec<_> = all["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|one| one["provider"].clone())
        .collect();
    assert_eq!(names, ["acme", "nobody", "zenith"]);
    for (body, status) in [
        (json!({"state": "closed"}), 422),
        (json!({}), 400),
        (json!({"state": "auto", "why": "x"}), 400),
        (json!({"state": null}), 400),
    ] {
        let answer = app.put("/v1/admin/providers/acme", body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
    }
    app.call_as(&app.token("admin", Some("ws")), Method::GET, "/v1/admin/providers", None)
        .await
        .problem(403, "insufficient_scope");
}
