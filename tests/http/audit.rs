//! The audit log over HTTP: every change of policy and workspaces with who, what, why and from what to what, and nothing that is secret.

use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};

async fn log(app: &TestApp, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/v1/admin/audit-log?{query}")).await.expect(200);
    page["data"].as_array().expect("data").clone()
}

fn plan(hard: i64) -> Value {
    json!({"name": "Pro", "pricing": {"model": "flat", "base_usd": "0"},
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": hard}]})
}

#[tokio::test]
async fn each_change_is_told_with_who_what_why_before_and_after() {
    let app = TestApp::start().await;
    let reason = ("x-weir-reason", "ticket 4711: Größe geändert");
    let id = ("x-request-id", "req-of-the-caller");
    app.send(Method::PUT, "/v1/admin/plans/pro", &[reason, id], plan(100))
        .await
        .expect(201);
    app.pass_seconds(1);
    app.put("/v1/admin/plans/pro", plan(200)).await.expect(200);
    app.pass_seconds(1);
    app.call(Method::DELETE, "/v1/admin/plans/pro", None).await;

    let told = log(&app, "subject_kind=plan&subject_id=pro").await;
    assert_eq!(told.len(), 3, "{told:#?}");
    let [deleted, replaced, created] = &told[..] else { panic!("three") };
    assert_eq!(created["action"], "plan.put");
    assert_eq!(created["actor"], "tests");
    assert_eq!(created["before"], Value::Null);
    assert_eq!(created["after"]["budgets"][0]["hard"], 100);
    assert_eq!(created["reason"], "ticket 4711: Größe geändert");
    assert_eq!(created["request_id"], "req-of-the-caller");
    assert_eq!(created["workspace_id"], Value::Null);
    assert!(created["audit_id"].as_str().is_some_and(|id| id.starts_with("aud_")), "{created}");
    assert_eq!(created["changed_at"], "2025-11-21T10:00:00Z");
    assert_eq!(replaced["before"], created["after"]);
    assert_eq!(replaced["after"]["budgets"][0]["hard"], 200);
    assert_eq!(replaced["reason"], Value::Null);
    assert!(
        replaced["request_id"].as_str().is_some_and(|id| id.starts_with("req_")),
        "{replaced}"
    );
    assert_eq!(
        (&deleted["action"], &deleted["before"], &deleted["after"]),
        (&json!("plan.delete"), &replaced["after"], &Value::Null)
    );

    let routing = app.get("/v1/admin/routing").await.expect(200);
    app.put("/v1/admin/routing", routing.clone()).await.expect(200);
    let told = log(&app, "subject_kind=routing&action=routing.put&actor=tests").await;
    assert_eq!((told.len(), &told[0]["before"], &told[0]["after"]), (1, &routing, &routing));
    let mut small = app.get("/v1/admin/models/small").await.expect(200);
    small["max_output_tokens"] = json!(2048);
    app.put("/v1/admin/models/small", small.clone()).await.expect(200);
    let told = log(&app, "action=model.put&subject_id=small&actor=tests").await;
    assert_eq!((told.len(), &told[0]["after"]), (1, &small));
}

#[tokio::test]
async fn what_files_change_is_told_object_by_object() {
    let app = TestApp::start().await;
    let told = log(&app, "actor=files&limit=500").await;
    let mut subjects: Vec<String> = told
        .iter()
        .map(|record| {
            format!(
                "{}/{}",
                record["subject_kind"].as_str().unwrap_or_default(),
                record["subject_id"].as_str().unwrap_or_default()
            )
        })
        .collect();
    subjects.sort();
    let expected = [
        "model/big",
        "model/future",
        "model/mid",
        "model/other",
        "model/small",
        "model/thirds",
        "plan/empty",
        "plan/open",
        "plan/unlimited",
        "routing/routing",
        "settings/default_plan",
        "settings/files",
    ];
    assert_eq!(subjects, expected);
    assert!(
        told.iter()
            .all(|record| record["before"].is_null() && record["request_id"].is_null()),
        "{told:#?}"
    );
    assert!(
        told[0]["reason"].as_str().is_some_and(|reason| reason.contains("policies")),
        "{}",
        told[0]
    );
    // The same files again change nothing, so nothing is told.
    let app = app.restart().await;
    assert_eq!(log(&app, "actor=files&limit=500").await.len(), expected.len());
}

#[tokio::test]
async fn changes_of_workspaces_are_told_and_those_that_were_refused_are_not() {
    let app = TestApp::start().await;
    app.put("/v1/admin/workspaces/ws", json!({"plan_id": "open", "seats": 2}))
        .await
        .expect(201);
    app.pass_seconds(1);
    app.patch("/v1/admin/workspaces/ws", json!({"status": "suspended"}))
        .await
        .expect(200);
    app.patch("/v1/admin/workspaces/ws", json!({"seats": 0}))
        .await
        .problem(422, "unacceptable");
    app.send(
        Method::PATCH,
        "/v1/admin/workspaces/ws",
        &[("if-match", "\"1\"")],
        json!({"seats": 9}),
    )
    .await
    .problem(412, "precondition_failed");
    app.put("/v1/admin/workspaces/other", json!({})).await.expect(201);
    // Use creates a workspace too; nobody decided that.
    app.authorize("by_use").allowed().await;
    let told = log(&app, "subject_kind=workspace").await;
    let actions: Vec<_> = told
        .iter()
        .map(|record| format!("{} {}", record["action"], record["subject_id"]))
        .collect();
    assert_eq!(actions.len(), 3, "{actions:?}");
    let told = log(&app, "workspace_id=ws").await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["action"], "workspace.patch");
    assert_eq!(
        (&told[0]["before"]["status"], &told[0]["after"]["status"]),
        (&json!("active"), &json!("suspended"))
    );
    assert_eq!((&told[1]["before"], &told[1]["after"]["seats"]), (&Value::Null, &json!(2)));
    assert_eq!(told[1]["workspace_id"], "ws");
}

#[tokio::test]
async fn the_log_is_filtered_and_paged_newest_first() {
    let app = TestApp::start().await;
    for n in 0..7 {
        app.pass_seconds(10);
        app.put("/v1/admin/plans/pro", plan(100 + n)).await.expect_one_of(&[200, 201]);
    }
    let hards = |records: &[Value]| -> Vec<i64> {
        let hard = |record: &Value| record["after"]["budgets"][0]["hard"].as_i64().expect("a limit");
        records.iter().map(hard).collect()
    };
    assert_eq!(hards(&log(&app, "subject_id=pro").await), [106, 105, 104, 103, 102, 101, 100]);
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app
            .get(&format!("/v1/admin/audit-log?subject_id=pro&limit=3{cursor}"))
            .await
            .expect(200);
        paged.extend(page["data"].as_array().expect("data").clone());
        // What comes meanwhile moves nothing.
        app.pass_seconds(10);
        app.put("/v1/admin/plans/pro", plan(200)).await.expect(200);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(hards(&paged), [106, 105, 104, 103, 102, 101, 100]);
    let within = "subject_id=pro&from=2025-11-21T10:00:20Z&to=2025-11-21T10:00:40Z";
    assert_eq!(hards(&log(&app, within).await), [102, 101], "from inclusive, to exclusive");
    assert_eq!(log(&app, "actor=nobody").await, Vec::<Value>::new());
    for (query, status) in [
        ("limit=0", 422),
        ("limit=501", 422),
        ("limit=x", 400),
        ("cursor=nonsense", 422),
        ("colour=red", 400),
        ("actor=a&actor=b", 400),
        ("from=yesterday", 422),
        ("workspace_id=a%20b", 422),
    ] {
        let answer = app.get(&format!("/v1/admin/audit-log?{query}")).await;
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_reason_is_one_line_of_visible_text() {
    let app = TestApp::start().await;
    let put = async |reason: &str| {
        app.send(Method::PUT, "/v1/admin/plans/pro", &[("x-weir-reason", reason)], plan(1))
            .await
    };
    for bad in ["\u{202e}gnitseretni", "a\tb", "a\u{200b}b", "a\u{85}b", &"x".repeat(501)] {
        put(bad).await.problem(422, "unacceptable");
    }
    let twice = [("x-weir-reason", "a"), ("x-weir-reason", "b")];
    app.send(Method::PUT, "/v1/admin/plans/pro", &twice, plan(1))
        .await
        .problem(422, "unacceptable");
    assert_eq!(log(&app, "subject_id=pro").await.len(), 0, "what was refused is not told");
    for (n, good) in ["値上げ", "  because  ", &"x".repeat(500)].into_iter().enumerate() {
        put(good).await.expect_one_of(&[200, 201]);
        app.pass_seconds(1);
        let told = log(&app, "subject_id=pro").await;
        assert_eq!((told.len(), &told[0]["reason"]), (n + 1, &json!(good.trim())));
    }
}

#[tokio::test]
async fn the_log_is_for_operators_of_all_workspaces() {
    let app = TestApp::start().await;
    app.put("/v1/admin/workspaces/ws", json!({})).await.expect(201);
    let path = "/v1/admin/audit-log?workspace_id=ws";
    for (scope, workspace) in [("read", None), ("authorize usage:write", None), ("admin", Some("ws"))] {
        let answer = app.call_as(&app.token(scope, workspace), Method::GET, path, None).await;
        answer.problem(403, "insufficient_scope");
    }
    app.call(Method::DELETE, "/v1/admin/audit-log", None)
        .await
        .problem(405, "method_not_allowed");
    app.call(Method::POST, "/v1/admin/audit-log", Some(json!({})))
        .await
        .problem(405, "method_not_allowed");
}

#[tokio::test]
async fn the_log_outlives_a_restart() {
    let app = TestApp::start().await;
    app.put("/v1/admin/workspaces/ws", json!({"seats": 3})).await.expect(201);
    let before = log(&app, "workspace_id=ws").await;
    assert_eq!(before.len(), 1);
    let app = app.restart().await;
    assert_eq!(log(&app, "workspace_id=ws").await, before);
}
